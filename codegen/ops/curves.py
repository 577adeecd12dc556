"""What sigmoid and tanh share: one table, and a derivative with 30 fraction bits."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Ints, Q, integers, narrow, rescale, table_lookup
from codegen.ops.base import ElementwiseOp

FRACTION = 15  # of the argument and of the result
DERIVATIVE_FRACTION = 30
DERIVATIVE_ROOM = 32  # bits of an accumulator that may be multiplied by a derivative
_STEP_BITS = 10  # two entries are 2**-5 apart
_ENTRIES = 257  # over [0, 8]
TANH_TABLE = tuple(round(math.tanh(i / 32) * 2**FRACTION) for i in range(_ENTRIES))

# Largest error of tanh_int: interpolation (h^2 / 8 * max |tanh''|, which is 4 / sqrt(27)), the
# rounding of an entry, of the interpolation and of the argument, and 1 - tanh(8) beyond the table.
TANH_ERROR: float = 2**-10 / 8 * 4 / math.sqrt(27) + 1.5 * 2**-FRACTION + (1 - math.tanh(8))


def tanh_int(v: Ints, f: int) -> Ints:
    """tanh(v * 2**-f) with 15 fraction bits, v being wider than 16 bits."""
    argument = np.clip(narrow(v, f - FRACTION, 24), -(1 << 18), 1 << 18)
    last = (_ENTRIES - 1) << _STEP_BITS
    size = np.minimum(np.abs(argument), last - 1)
    return np.sign(argument) * table_lookup(TANH_TABLE, size, _STEP_BITS)


def derivative_shift(bits: int) -> int:
    """How far an accumulator of `bits` bits is shifted before it meets a derivative."""
    return max(0, bits - DERIVATIVE_ROOM)


def times_derivative(dy: Q, derivative: Ints, f: int, bits: int) -> Q:
    """dy times a derivative with f fraction bits, 0 <= derivative <= 1."""
    shift = derivative_shift(bits)
    scaled = integers(derivative) << (DERIVATIVE_FRACTION - f)
    return Q(rescale(dy.q, shift) * scaled, dy.f - shift + DERIVATIVE_FRACTION)


SHORT_ROOM = 30  # bits of an accumulator whose product with a slope is cut to 32
SHORT_BITS = 28  # and of the product
SLOPE_BITS = 30  # of a slope then, which is at most 2**30


def short_shift(bits: int) -> int:
    """How far an accumulator of `bits` bits is shifted then; to the left, which is negative, by
    whole bytes only: cores of 8 bits have no other shifts of one step.
    """
    return max(0, bits - SHORT_ROOM) - max(0, SHORT_ROOM - bits) // 8 * 8


def times_slope(dy: Q, slope: Ints, f: int, bits: int) -> Q:
    """dy times a slope with f fraction bits: the upper word of a product of 64 bits, rounded."""
    shift = short_shift(bits)
    return Q(rescale(rescale(dy.q, shift) * integers(slope), 32), dy.f - shift + f - 32)


def slope_error(slope_f: int, f: int, bits: int, largest: float) -> float:
    """Of a slope with slope_f fraction bits times an accumulator with f: both roundings."""
    shift = short_shift(bits)
    lost = math.ldexp(0.5, shift - f) * largest if shift > 0 else 0.0
    return lost + math.ldexp(0.5, 32 + shift - f - slope_f)


@dataclass(frozen=True)
class ShortSlope(ElementwiseOp):
    """What the short form of a curve, its other base, has in another way: the derivative."""

    is_short: ClassVar[bool] = True
    slope_fraction: ClassVar[int]
    largest_slope: ClassVar[float]

    def grown_bits(self, kernel: str, bits: int) -> int:
        return SHORT_BITS if kernel == "grad_x" else super().grown_bits(kernel, bits)

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        if kernel == "forward":
            return super().allowance(kernel, f, bits)
        return slope_error(self.slope_fraction, f, bits, self.largest_slope)

    def shift(self, bits: int) -> int:
        return short_shift(bits)


def derivative_error(f: int, bits: int, largest: float) -> float:
    """What the shift of the accumulator (f fraction bits) costs for derivatives <= `largest`."""
    shift = derivative_shift(bits)
    return math.ldexp(0.5, shift - f) * largest if shift else 0.0


def derivative_bits(bits: int) -> int:
    return min(bits, DERIVATIVE_ROOM) + DERIVATIVE_FRACTION
