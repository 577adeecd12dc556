"""y = x where x > 0, slope * x elsewhere."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from codegen.fixedpoint import Floats, Q, rescale
from codegen.ops.base import ElementwiseOp, ShapeError

_FRACTION = 15  # of the slope
_ROOM = 62 - _FRACTION  # bits of an accumulator that may be multiplied by a slope


@dataclass(frozen=True)
class LeakyRelu(ElementwiseOp):
    """Key: `slope` below zero, 0 <= slope < 1; kept as a multiple of 2**-15 in both systems."""

    kind: ClassVar[str] = "leaky_relu"
    keeps_positive: ClassVar[bool] = True
    slope: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.slope < 1:
            raise ShapeError(f"slope = {self.slope}: it must be at least 0 and below 1")

    @property
    def slope_q(self) -> int:
        """The slope with 15 fraction bits."""
        return min(round(self.slope * (1 << _FRACTION)), (1 << _FRACTION) - 1)

    def grown_bits(self, kernel: str, bits: int) -> int:
        return min(bits, _ROOM) + _FRACTION

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        return float(np.ldexp(0.5, bits - _ROOM - f)) if bits > _ROOM else 0.0

    def forward(self, x: Floats) -> Floats:
        return np.where(x > 0, x, x * np.ldexp(self.slope_q, -_FRACTION))

    def forward_int(self, x: Q, bits: int) -> Q:
        return self._times_slope(x, x.q > 0, bits)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        return np.where(y > 0, dy, dy * np.ldexp(self.slope_q, -_FRACTION))

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        return self._times_slope(dy, y.q > 0, bits)

    def shift(self, bits: int) -> int:
        """How far an accumulator of `bits` bits is shifted before it meets the slope."""
        return max(0, bits - _ROOM)

    def _times_slope(self, v: Q, positive: NDArray[np.bool_], bits: int) -> Q:
        shift = self.shift(bits)
        factor = np.where(positive, 1 << _FRACTION, self.slope_q)
        return Q(rescale(v.q, shift) * factor, v.f - shift + _FRACTION)
