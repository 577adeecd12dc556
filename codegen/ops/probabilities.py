"""What softmax and its loss share: powers of the scores, and each as a share of their sum."""

import math
from collections.abc import Sequence

from codegen.fixedpoint import Ints, Q, integers
from codegen.ops.exponential import EXP2_ERROR, exp2, to_exponent

FRACTION = 30  # of a probability


def exponents(x: Q) -> list[int]:
    """How far each score is below the largest one, as exponents of 2."""
    return [to_exponent(int(distance), x.f) for distance in x.q.max() - x.q]


def power_fraction(outputs: int) -> int:
    """Fraction bits of a power such that a sum of `outputs` powers fits 32 bits."""
    return min(28, 31 - outputs.bit_length())


def powers(exponents: Sequence[int]) -> list[int]:
    fraction = power_fraction(len(exponents))
    return [exp2(t, fraction) for t in exponents]


def shares(powers: Sequence[int]) -> Ints:
    """Each as a share of all, with 30 fraction bits."""
    reciprocal = (1 << 62) // sum(powers)
    return integers([(v * reciprocal + (1 << 31)) >> 32 for v in powers])


def share_error(outputs: int) -> float:
    """Largest error of a share: that of the powers, their roundings, and that of the quotient."""
    roundings = math.ldexp(outputs + 1, -power_fraction(outputs) - 1)
    return 2 * EXP2_ERROR + roundings + 2 * 2.0**-FRACTION
