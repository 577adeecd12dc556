"""y = x / (1 + |x|), by one division."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q, integers
from codegen.ops import curves
from codegen.ops.base import ElementwiseOp

_FRACTION = 24  # of the quotient
_DIVISOR_BITS = 39  # the dividend, no longer than that, gets 24 bits more
_LARGEST = 2**40  # |v| beyond which a coarse number counts as no larger


@dataclass(frozen=True)
class Softsign(ElementwiseOp):
    """No keys."""

    kind: ClassVar[str] = "softsign"

    def output_fraction(self, bits: int) -> int:
        return bits - 1

    def grown_bits(self, kernel: str, bits: int) -> int:
        return _FRACTION if kernel == "forward" else curves.derivative_bits(bits)

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        """The quotient is rounded; before that its two parts are cut to 39 bits."""
        if kernel == "forward":
            return 2.0 ** -(_FRACTION + 1) + 2.0 ** (2 - _DIVISOR_BITS)
        return curves.derivative_error(f, bits, 1.0)

    def shift(self, bits: int) -> int:
        """How far an accumulator of `bits` bits is shifted before it meets the derivative."""
        return curves.derivative_shift(bits)

    def forward(self, x: Floats) -> Floats:
        y: Floats = x / (1 + np.abs(x))
        return y

    def forward_int(self, x: Q, bits: int) -> Q:
        return Q(softsign_int(x.q, x.f), _FRACTION)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        dx: Floats = dy * (1 - np.abs(y)) ** 2
        return dx

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        rest = (1 << y.f) - np.abs(y.q)
        return curves.times_derivative(dy, rest * rest, 2 * y.f, bits)


def softsign_int(v: Ints, f: int) -> Ints:
    """x / (1 + |x|) of x = v * 2**-f with 24 fraction bits; twin of fxp_softsign."""
    quotients = [_quotient(abs(int(each)), f) * (-1 if each < 0 else 1) for each in v.flat]
    return integers(quotients).reshape(v.shape)


def _quotient(size: int, f: int) -> int:
    if f < 0:
        size, f = min(size, _LARGEST) << -f, 0
    whole = size + (1 << f)
    shift = max(0, whole.bit_length() - _DIVISOR_BITS)
    divisor = whole >> shift
    return ((size >> shift << _FRACTION) + divisor // 2) // divisor
