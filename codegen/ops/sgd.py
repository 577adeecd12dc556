"""Plain stochastic gradient descent: w <- w - rate * dC/dw."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import BIAS_FRACTION, Floats, Ints, Q, Rate, integers, narrow, saturate
from codegen.ops.base import ChangeOptimizer, Slots


@dataclass(frozen=True)
class Sgd(ChangeOptimizer):
    """No keys of its own."""

    kind: ClassVar[str] = "sgd"
    skips_zero: ClassVar[bool] = True
    takes_rows: ClassVar[bool] = True
    shares_draw: ClassVar[bool] = True

    def step(self, g: Floats, slots: Slots, rate: float) -> Floats:
        return -rate * g

    def update_int(
        self, w: Ints, delta: Ints, slots: Slots, draws: Ints | None, bits: int
    ) -> tuple[Ints, Slots]:
        r = integers(0x8000) if draws is None else draws >> 16
        return saturate(w + ((delta + r) >> 16), bits), slots

    def update_bias_int(self, b: Ints, g: Q, slots: Slots, rate: Rate) -> tuple[Ints, Slots]:
        change = narrow(integers(g.q) * -rate.m, g.f + rate.s - BIAS_FRACTION, 32)
        return saturate(b + change, 32), slots
