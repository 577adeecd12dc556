"""Nesterov's momentum: v <- momentum * v - rate * dC/dw, w <- w + momentum * v - rate * dC/dw.

Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013, with
the gradient at the point that w stands for, as the field's libraries have it.
"""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Floats, Ints, Q, Rate, narrow, saturate
from codegen.ops.base import Slots
from codegen.ops.velocity import BIAS_HEADROOM, Velocity


@dataclass(frozen=True)
class Nesterov(Velocity):
    """Key: `momentum`."""

    kind: ClassVar[str] = "nesterov"
    # Beyond the rounding of the weight (1): the look ahead is rounded by half a unit of the
    # velocity, and the folded error is off by half of one; 2**-5 of a unit of the weight at most.
    weight_allowance: ClassVar[float] = 1.0 + 2.0**-5
    bias_allowance: ClassVar[float] = 0.5 + 2.0**-BIAS_HEADROOM

    def step(self, g: Floats, slots: Slots, rate: float) -> Floats:
        change: Floats = slots[0] * self.kept - rate * g
        return change

    def update_int(
        self, w: Ints, delta: Ints, slots: Slots, draws: Ints | None, bits: int
    ) -> tuple[Ints, Slots]:
        v = self.velocity(delta, slots[0], draws)
        ahead = (v * self.momentum_q + (delta >> 1) + (1 << 14)) >> 15
        return saturate(w + self.rounded(ahead, draws, bits), bits), (v,)

    def update_bias_int(self, b: Ints, g: Q, slots: Slots, rate: Rate) -> tuple[Ints, Slots]:
        change = self.bias_change(g, rate)
        v = self.bias_velocity(change, slots[0])
        return saturate(b + narrow(self.decayed(v) + change, BIAS_HEADROOM, 32), 32), (v,)
