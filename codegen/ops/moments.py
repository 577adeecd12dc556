"""Running means of gradients and of their squares in 16 bits: what Adam and RMSprop share.

A gradient comes with GRADIENT_ROOM fraction bits more than the slots and GRADIENT_BITS bits. The
twins of these functions are in firmware/runtime/fxp.h.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Ints, Q, Rate, encode_number, integers, narrow, rescale
from codegen.ops.base import (
    MAX_SLOT_FRACTION,
    MIN_SLOT_FRACTION,
    GradientOptimizer,
    Place,
    ShapeError,
)

GRADIENT_ROOM = 4
GRADIENT_BITS = 22
MEAN_FRACTION = 15  # of beta1
SQUARE_FRACTION = 20  # of beta2
# A slot is the value below or above, and the gradient in it is rounded to 2**-GRADIENT_ROOM.
SLOT_ALLOWANCE = 1 + 2.0**-5 + 2.0**-15
_LARGEST = 2**15 - 1


def kept(beta: float, fraction: int) -> int:
    """A factor below 1 with that many fraction bits."""
    return min(round(beta * (1 << fraction)), (1 << fraction) - 1)


def mean(m: Ints, g: Ints, beta: int, dither: Ints) -> Ints:
    """beta * m + (1 - beta) * g, rounded by 15 random bits."""
    fresh = rescale(g * ((1 << MEAN_FRACTION) - beta), GRADIENT_ROOM)
    return integers(np.clip((m * beta + fresh + dither) >> MEAN_FRACTION, -(2**15), _LARGEST))


def root_mean_square(root: Ints, g: Ints, beta: int, dither: Ints) -> Ints:
    """sqrt(beta * root**2 + (1 - beta) * g**2), rounded by 16 random bits along the chord between
    the squares of its neighbours, which lies below the curve: by 1/4 at 0, 1/(8 root) above.
    """
    fresh = g * g * ((1 << SQUARE_FRACTION) - beta)
    square = ((root * root * beta) << 2 * GRADIENT_ROOM) + fresh  # 28 fraction bits, below 2**63
    square = np.minimum(square, _LARGEST**2 << 28)
    below = integers(np.floor(np.sqrt((square >> 28).astype(np.float64))))
    rest = square - (below * below << 28)
    return integers(below + (dither * (2 * below + 1) < rest >> 12))


def quotient(numerator: Ints, denominator: Ints) -> Ints:
    """Rounded to nearest, away from 0 where it is in the middle."""
    size = (np.abs(numerator) + (denominator >> 1)) // denominator
    return integers(np.sign(numerator) * size)


@dataclass(frozen=True)
class Moments(GradientOptimizer):
    """w <- w - rate * numerator / (root + epsilon), where root is that of the mean square.

    Key: `epsilon`. The integers have it as a whole number of units of the slots, at least 1.
    """

    epsilon: float = 1e-8

    largest_gradient: ClassVar[float] = 2.0 ** (GRADIENT_BITS - 1 - GRADIENT_ROOM)
    # Fraction bits of the quotient; it is rounded to nearest.
    quotient_fraction: ClassVar[int]

    def __post_init__(self) -> None:
        if not 2.0**-MAX_SLOT_FRACTION <= self.epsilon <= 2.0**-MIN_SLOT_FRACTION:
            raise ShapeError(
                f"epsilon = {self.epsilon}; it must be from 2**-{MAX_SLOT_FRACTION} to "
                f"2**{-MIN_SLOT_FRACTION}"
            )

    def check_beta(self, name: str, beta: float) -> None:
        if not 0 <= beta < 1:
            raise ShapeError(f"{name} = {beta}; it must be at least 0 and below 1")

    def numerator_error(self) -> float:
        """Of the numerator, in units of the slots; the denominator is at least 1."""
        return 0.0

    def allowance(self, role: str, f: int, rate: float) -> float:
        """The dither, the change to 16 fraction bits, and the quotient times the rate."""
        rounding = 0.5 if role == "bias" else 1.0 + 2.0**-17
        error = self.numerator_error() + 2.0 ** (-self.quotient_fraction - 1)
        return rounding + math.ldexp(error * rate, f)

    def gradient_int(self, g: Q, slots_f: int) -> Ints:
        """The gradient as the slots take it up."""
        return narrow(g.q, g.f - slots_f - GRADIENT_ROOM, GRADIENT_BITS)

    def epsilon_of(self, batch: int) -> Rate:
        """Epsilon for a sum of gradients, with 8 significant bits."""
        return encode_number(round(math.ldexp(self.epsilon * batch, 80)), 80)

    def epsilon_int(self, slots_f: int, batch: int) -> int:
        epsilon = self.epsilon_of(batch)
        return max(1, int(narrow(epsilon.m, epsilon.s - slots_f, 15)))

    def as_stored(self, slots_f: int, batch: int) -> "Moments":
        """With epsilon as the integers have it."""
        return replace(self, epsilon=math.ldexp(self.epsilon_int(slots_f, batch), -slots_f))

    def moved(self, w: Ints, ratio: Ints, dither: Ints, rate: Rate, place: Place) -> Ints:
        """w - rate * ratio."""
        shift = self.quotient_fraction + rate.s - place.f
        if place.bits == 32:
            change = narrow(-ratio * rate.m, shift, 32)
        else:
            change = (narrow(-ratio * rate.m, shift - 16, 32) + dither) >> 16
        rail = 1 << (place.bits - 1)
        return integers(np.clip(w + change, -rail, rail - 1))
