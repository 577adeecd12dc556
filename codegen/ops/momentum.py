"""SGD with momentum: v <- momentum * v - rate * dC/dw, w <- w + v."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Floats, Ints, Q, Rate, narrow, saturate
from codegen.ops.base import Slots
from codegen.ops.velocity import BIAS_HEADROOM, Velocity


@dataclass(frozen=True)
class Momentum(Velocity):
    """Key: `momentum`."""

    kind: ClassVar[str] = "momentum"
    takes_row: ClassVar[bool] = True
    # The stored velocity is what moves: it loses its headroom, stochastically or to nearest.
    weight_allowance: ClassVar[float] = 1.0

    def step(self, g: Floats, slots: Slots, rate: float) -> Floats:
        change: Floats = slots[0]
        return change

    def update_int(
        self, w: Ints, delta: Ints, slots: Slots, draws: Ints | None, bits: int
    ) -> tuple[Ints, Slots]:
        v = self.velocity(delta, slots[0], draws)
        return saturate(w + self.rounded(v, draws, bits), bits), (v,)

    def update_bias_int(self, b: Ints, g: Q, slots: Slots, rate: Rate) -> tuple[Ints, Slots]:
        v = self.bias_velocity(self.bias_change(g, rate), slots[0])
        return saturate(b + narrow(v, BIAS_HEADROOM, 32), 32), (v,)
