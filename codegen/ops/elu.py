"""y = x where x > 0, alpha * (exp(x) - 1) elsewhere."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q, integers, narrow, rescale
from codegen.ops.base import ElementwiseOp, ShapeError
from codegen.ops.exponential import EXP2_ERROR, EXP2_TABLE, T, exp2, to_exponent

_ALPHA = 15  # fraction bits of alpha
_POWER = 30  # of an exponential
_FINEST = _ALPHA + _POWER  # of the result
_BITS = 61  # of the result at most
_SLOPE = 24  # of a slope, which is at most 2
_ROOM = 61 - _SLOPE  # bits of an accumulator that may be multiplied by a slope

# Largest error of exp(x): that of the power, the rounding of x to 26 bits, and of the power to 30.
_EXP_ERROR: float = EXP2_ERROR + 2.0 ** (-T - 1) + 2.0 ** (-_POWER - 1)


@dataclass(frozen=True)
class Elu(ElementwiseOp):
    """Key: `alpha`, 0 <= alpha <= 2; kept as a multiple of 2**-15 in both systems."""

    kind: ClassVar[str] = "elu"
    keeps_positive: ClassVar[bool] = True
    knows_fraction: ClassVar[bool] = True
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 2:
            raise ShapeError(f"alpha = {self.alpha}: it must be at least 0 and at most 2")

    @property
    def alpha_q(self) -> int:
        """alpha with 15 fraction bits."""
        return round(self.alpha * (1 << _ALPHA))

    @property
    def _alpha(self) -> float:
        return math.ldexp(self.alpha_q, -_ALPHA)

    def more(self, bits: int) -> int:
        """Fraction bits that an accumulator of `bits` bits may gain."""
        return _BITS - bits

    def grown_bits(self, kernel: str, bits: int) -> int:
        return _BITS if kernel == "forward" else min(bits, _ROOM) + _SLOPE + 1

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        if kernel == "forward":
            return self._alpha * _EXP_ERROR + math.ldexp(0.5, -self._fraction(f, bits))
        return math.ldexp(0.5, bits - _ROOM - f) * max(1.0, self._alpha) if bits > _ROOM else 0.0

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        return {"exp2_table": EXP2_TABLE} if kernel == "forward" else {}

    def shift(self, bits: int) -> int:
        """How far an accumulator of `bits` bits is shifted before it meets the slope."""
        return max(0, bits - _ROOM)

    def _fraction(self, f: int, bits: int) -> int:
        """Fraction bits of the result: as many as it has room for."""
        return min(_FINEST, f + self.more(bits))

    def forward(self, x: Floats) -> Floats:
        return np.where(x > 0, x, self._alpha * np.expm1(np.minimum(x, 0)))

    def forward_int(self, x: Q, bits: int) -> Q:
        f = self._fraction(x.f, bits)
        below = self.alpha_q * (exp_int(x.q, x.f) - (1 << _POWER))
        return Q(np.where(x.q > 0, rescale(x.q, x.f - f), rescale(below, _FINEST - f)), f)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        return dy * np.where(y > 0, 1.0, np.clip(self._alpha + y, 0.0, self._alpha))

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        alpha = self.alpha_q << (_SLOPE - _ALPHA)
        below = np.clip(alpha + narrow(y.q, y.f - _SLOPE, 32), 0, alpha)
        slope = np.where(y.q > 0, 1 << _SLOPE, below)
        shift = self.shift(bits)
        return Q(rescale(dy.q, shift) * slope, dy.f - shift + _SLOPE)


def exp_int(v: Ints, f: int) -> Ints:
    """exp(x) of x = v * 2**-f with 30 fraction bits where x <= 0; 1 elsewhere."""
    distances = -np.minimum(narrow(v, f - T, 32), 0)
    powers = [exp2(to_exponent(int(d), T), _POWER) for d in distances.flat]
    return integers(powers).reshape(v.shape)
