"""Plain stochastic gradient descent: w <- w - rate * dC/dw."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import BIAS_FRACTION, Floats, Ints, Q, Rate, integers, narrow, saturate
from codegen.ops.base import OptimizerOp


@dataclass(frozen=True)
class Sgd(OptimizerOp):
    """No keys of its own."""

    kind: ClassVar[str] = "sgd"
    skips_zero: ClassVar[bool] = True

    def update(self, w: Floats, g: Floats, v: Floats, rate: float) -> tuple[Floats, Floats]:
        return w - rate * g, v

    def update_int(
        self, w: Ints, delta: Ints, v: Ints, draws: Ints | None, bits: int
    ) -> tuple[Ints, Ints]:
        r = integers(0x8000) if draws is None else draws >> 16
        return saturate(w + ((delta + r) >> 16), bits), v

    def update_bias_int(self, b: Ints, g: Q, v: Ints, rate: Rate) -> tuple[Ints, Ints]:
        change = narrow(integers(g.q) * -rate.m, g.f + rate.s - BIAS_FRACTION, 32)
        return saturate(b + change, 32), v
