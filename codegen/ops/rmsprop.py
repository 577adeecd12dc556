"""RMSprop: root <- sqrt(beta2 * root^2 + (1 - beta2) * g^2), w <- w - rate * g / (root + epsilon).

Tieleman and Hinton, "Lecture 6.5", 2012.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q, Rate
from codegen.ops.base import Place, Slots
from codegen.ops.moments import (
    GRADIENT_BITS,
    GRADIENT_ROOM,
    SLOT_ALLOWANCE,
    SQUARE_FRACTION,
    Moments,
    kept,
    quotient,
    root_mean_square,
)

_SHIFT = 31 - GRADIENT_BITS  # of the gradient, before it is divided


@dataclass(frozen=True)
class Rmsprop(Moments):
    """Keys: `beta2`, kept as a multiple of 2**-20 in both systems, and `epsilon`."""

    kind: ClassVar[str] = "rmsprop"
    slots: ClassVar[tuple[str, ...]] = ("root",)
    slot_allowance: ClassVar[tuple[float, ...]] = (SLOT_ALLOWANCE,)
    words: ClassVar[int] = 1  # its high half rounds the root, its low half the weight
    quotient_fraction: ClassVar[int] = _SHIFT + GRADIENT_ROOM
    beta2: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_beta("beta2", self.beta2)

    @property
    def beta2_q(self) -> int:
        """beta2 with 20 fraction bits."""
        return kept(self.beta2, SQUARE_FRACTION)

    def numerator_error(self) -> float:
        """The gradient is rounded to nearest."""
        return 2.0 ** (-GRADIENT_ROOM - 1)

    def track(self, g: Floats, slots: Slots, rate: float) -> Slots:
        beta = math.ldexp(self.beta2_q, -SQUARE_FRACTION)
        return (np.sqrt(beta * slots[0] ** 2 + (1 - beta) * g**2),)

    def step(self, g: Floats, slots: Slots, rate: float) -> Floats:
        change: Floats = -rate * g / (slots[0] + self.epsilon)
        return change

    def update_int(
        self, w: Ints, g: Q, slots: Slots, draws: Slots, rate: Rate, place: Place
    ) -> tuple[Ints, Slots]:
        taken = self.gradient_int(g, place.slots_f)
        root = root_mean_square(slots[0], taken, self.beta2_q, draws[0] >> 16)
        epsilon = self.epsilon_int(place.slots_f, place.batch)
        ratio = quotient(taken << _SHIFT, root + epsilon)
        return self.moved(w, ratio, draws[0] & 0xFFFF, rate, place), (root,)
