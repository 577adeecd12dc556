"""Powers of 2 from one table and a cubic, and what they are for: exp(-x) for x >= 0."""

import math

from codegen.fixedpoint import rescale

T = 26  # fraction bits of an exponent of 2
_INDEX = 5  # bits of an exponent that the table resolves; a polynomial does the rest
EXP2_TABLE = tuple(round(2 ** (31 - i / 32)) for i in range(32))
LOG2_E = round(math.log2(math.e) * 2**30)
LN_2 = round(math.log(2) * 2**32)

# Relative error of exp2: the cubic's remainder, the rounding of the exponent, and truncations.
EXP2_ERROR = (math.log(2) / 32) ** 4 / 24 + math.log(2) * 2.0 ** (-T - 1) + 6 * 2.0**-32


def exp2(t: int, fraction: int) -> int:
    """2 ** -(t / 2**26) with `fraction` fraction bits, for t >= 0; twin of fxp_exp2."""
    rest = t & ((1 << (T - _INDEX)) - 1)
    z = (rest * LN_2) >> T  # 32 fraction bits from here on
    z2 = (z * z) >> 32
    z3 = (z2 * z) >> 32
    power = (1 << 32) - z + (z2 >> 1) - ((z3 * 43691) >> 18)
    product = EXP2_TABLE[(t >> (T - _INDEX)) & 31] * power  # at most 2**63
    shift = 63 - fraction + (t >> T)
    return 0 if shift > 63 else int((product + (1 << (shift - 1))) >> shift)


# Of log2: the remainder of the cubic, truncations to 2**-30, and that of the result.
LOG2_ERROR = ((2 ** (1 / 32) - 1) ** 4 / 4 + 6 * 2.0**-30) * math.log2(math.e) + 2.0**-T


def log2(v: int, fraction: int) -> int:
    """log2(v / 2**fraction) with 26 fraction bits, for 2**fraction <= v < 2**32; twin of fxp_log2.

    The power of 2 in the table that brings v nearest above a power of two gives 5 bits; what is
    left is 1 + z, where a cubic is log(1 + z).
    """
    exponent = v.bit_length() - 1
    mantissa = v << (31 - exponent)
    index = (mantissa >> (31 - _INDEX)) & 31  # log2(1 + x) is x at least
    while index < 31 and (mantissa * EXP2_TABLE[index + 1]) >> 62:
        index += 1
    z = ((mantissa * EXP2_TABLE[index]) >> 32) - (1 << 30)  # 30 fraction bits from here on
    z2 = (z * z) >> 31  # z^2 / 2
    z3 = (((z2 * z) >> 30) * 43691) >> 16  # z^3 / 3
    rest = ((z - z2 + z3) * LOG2_E) >> (60 - T)
    return ((exponent - fraction) << T) + (index << (T - _INDEX)) + rest


def to_exponent(distance: int, f: int) -> int:
    """x = distance * 2**-f as the t of exp2 for which that is exp(-x); twin of fxp_exponent."""
    return int(rescale(distance * LOG2_E, f + 30 - T))
