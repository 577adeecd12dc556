"""What momentum and Nesterov share: a velocity v <- momentum * v - rate * dC/dw."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import BIAS_FRACTION, Floats, Ints, Q, Rate, integers, narrow, saturate
from codegen.ops.base import ChangeOptimizer, ShapeError, Slots

_FRACTION = 15  # of the momentum
BIAS_HEADROOM = 4


@dataclass(frozen=True)
class Velocity(ChangeOptimizer):
    """Key: `momentum`, 0 < momentum < 1; kept as a multiple of 2**-15 in both systems."""

    slots: ClassVar[tuple[str, ...]] = ("v",)
    bias_headroom: ClassVar[int] = BIAS_HEADROOM
    # A weight's velocity is rounded by less than a unit and a multiple of 2**-15; what the folded
    # error is off by (half a unit) comes to that. A bias has two roundings of half a unit.
    slot_allowance: ClassVar[tuple[float, ...]] = (1.5 + 2.0**-15,)
    momentum: float = 0.9

    def __post_init__(self) -> None:
        if not 0 < self.momentum < 1:
            raise ShapeError(f"momentum = {self.momentum}; it must be above 0 and below 1")

    @property
    def momentum_q(self) -> int:
        """The momentum with 15 fraction bits."""
        return min(round(self.momentum * (1 << _FRACTION)), (1 << _FRACTION) - 1)

    @property
    def kept(self) -> float:
        """The momentum as both systems have it."""
        return float(self.momentum_q / 2**_FRACTION)

    def headroom(self, weight_bits: int) -> int:
        """A velocity holds the largest useful change of a weight: 2**-5 of its range."""
        return 21 - weight_bits

    def track(self, g: Floats, slots: Slots, rate: float) -> Slots:
        (v,) = slots
        return (v * self.kept - rate * g,)

    def velocity(self, delta: Ints, v: Ints, draws: Ints | None) -> Ints:
        """Of a weight: the 15 low bits of a draw round it."""
        low = integers(1 << 14) if draws is None else draws & 0x7FFF
        return saturate((v * self.momentum_q + (delta >> 1) + low) >> _FRACTION, 16)

    def bias_velocity(self, change: Ints, v: Ints) -> Ints:
        return saturate(self.decayed(v) + change, 32)

    def decayed(self, v: Ints) -> Ints:
        """momentum * v, rounded to nearest."""
        return integers((v * self.momentum_q + (1 << 14)) >> _FRACTION)

    def bias_change(self, g: Q, rate: Rate) -> Ints:
        """-rate * gradient, with the fraction bits of a bias velocity."""
        shift = g.f + rate.s - BIAS_FRACTION - BIAS_HEADROOM
        return narrow(integers(g.q) * -rate.m, shift, 32)

    def rounded(self, change: Ints, draws: Ints | None, bits: int) -> Ints:
        """A change of a weight without its headroom: the high bits of a draw round it."""
        h = self.headroom(bits)
        high = integers(1 << (h - 1)) if draws is None else draws >> (32 - h)
        return integers((change + high) >> h)
