"""SGD with momentum: v <- momentum * v - rate * dC/dw, w <- w + v."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import BIAS_FRACTION, Floats, Ints, Q, Rate, integers, narrow, saturate
from codegen.ops.base import OptimizerOp

_FRACTION = 15  # of the momentum
_BIAS_HEADROOM = 4


@dataclass(frozen=True)
class Momentum(OptimizerOp):
    """Key: `momentum`, 0 < momentum < 1; kept as a multiple of 2**-15 in both systems."""

    kind: ClassVar[str] = "momentum"
    has_velocity: ClassVar[bool] = True
    # The velocity has two roundings of half a unit, each 2**-4 of a unit of the bias.
    bias_allowance: ClassVar[float] = 0.5 + 2.0**-_BIAS_HEADROOM
    bias_headroom: ClassVar[int] = _BIAS_HEADROOM
    momentum: float

    @property
    def momentum_q(self) -> int:
        """The momentum with 15 fraction bits."""
        return min(round(self.momentum * (1 << _FRACTION)), (1 << _FRACTION) - 1)

    def headroom(self, weight_bits: int) -> int:
        """A velocity holds the largest useful change of a weight: 2**-5 of its range."""
        return 21 - weight_bits

    def update(self, w: Floats, g: Floats, v: Floats, rate: float) -> tuple[Floats, Floats]:
        v = v * (self.momentum_q / 2**_FRACTION) - rate * g
        return w + v, v

    def update_int(
        self, w: Ints, delta: Ints, v: Ints, draws: Ints | None, bits: int
    ) -> tuple[Ints, Ints]:
        """Both roundings use bits of one draw: 15 low ones for the velocity, high ones for w."""
        h = self.headroom(bits)
        low, high = integers(1 << 14), integers(1 << (h - 1))
        if draws is not None:
            low, high = draws & 0x7FFF, draws >> (32 - h)
        v = saturate((v * self.momentum_q + (delta >> 1) + low) >> _FRACTION, 16)
        return saturate(w + ((v + high) >> h), bits), v

    def update_bias_int(self, b: Ints, g: Q, v: Ints, rate: Rate) -> tuple[Ints, Ints]:
        change = narrow(integers(g.q) * -rate.m, g.f + rate.s - BIAS_FRACTION - _BIAS_HEADROOM, 32)
        v = saturate(((v * self.momentum_q + (1 << 14)) >> _FRACTION) + change, 32)
        return saturate(b + narrow(v, _BIAS_HEADROOM, 32), 32), v
