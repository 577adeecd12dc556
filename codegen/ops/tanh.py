"""y = tanh(x), from a table with linear interpolation."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q
from codegen.ops import curves
from codegen.ops.base import ElementwiseOp


@dataclass(frozen=True)
class Tanh(ElementwiseOp):
    """No keys."""

    kind: ClassVar[str] = "tanh"
    is_short: ClassVar[bool] = False

    def output_fraction(self, bits: int) -> int:
        return bits - 1

    def grown_bits(self, kernel: str, bits: int) -> int:
        return curves.FRACTION if kernel == "forward" else curves.derivative_bits(bits)

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        return curves.TANH_ERROR if kernel == "forward" else curves.derivative_error(f, bits, 1.0)

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        return {"tanh_table": curves.TANH_TABLE} if kernel == "forward" else {}

    def shift(self, bits: int) -> int:
        """How far an accumulator of `bits` bits is shifted before it meets the derivative."""
        return curves.derivative_shift(bits)

    def forward(self, x: Floats) -> Floats:
        return np.tanh(x)

    def forward_int(self, x: Q, bits: int) -> Q:
        return Q(curves.tanh_int(x.q, x.f), curves.FRACTION)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        return dy * (1 - y * y)

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        return curves.times_derivative(dy, (1 << 2 * y.f) - y.q * y.q, 2 * y.f, bits)

    def short(self) -> ElementwiseOp:
        return ShortTanh()


@dataclass(frozen=True)
class ShortTanh(curves.ShortSlope, Tanh):
    """Derivatives, which are at most 1, have 30 fraction bits."""

    slope_fraction: ClassVar[int] = curves.SLOPE_BITS
    largest_slope: ClassVar[float] = 1.0

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        slope = ((1 << 2 * y.f) - y.q * y.q) << (self.slope_fraction - 2 * y.f)
        return curves.times_slope(dy, slope, self.slope_fraction, bits)
