"""y = 1 / (1 + exp(-x)) = 1/2 + tanh(x / 2) / 2, from the table of tanh."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q
from codegen.ops import curves
from codegen.ops.base import ElementwiseOp


@dataclass(frozen=True)
class Sigmoid(ElementwiseOp):
    """No keys."""

    kind: ClassVar[str] = "sigmoid"
    is_short: ClassVar[bool] = False

    def output_fraction(self, bits: int) -> int:
        return bits - 1

    def grown_bits(self, kernel: str, bits: int) -> int:
        return curves.FRACTION + 1 if kernel == "forward" else curves.derivative_bits(bits)

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        if kernel == "forward":
            return curves.TANH_ERROR / 2
        return curves.derivative_error(f, bits, 0.25)

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        return {"tanh_table": curves.TANH_TABLE} if kernel == "forward" else {}

    def shift(self, bits: int) -> int:
        """How far an accumulator of `bits` bits is shifted before it meets the derivative."""
        return curves.derivative_shift(bits)

    def forward(self, x: Floats) -> Floats:
        return 0.5 + 0.5 * np.tanh(0.5 * x)

    def forward_int(self, x: Q, bits: int) -> Q:
        half = 1 << curves.FRACTION
        return Q(half + curves.tanh_int(x.q, x.f + 1), curves.FRACTION + 1)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        return dy * y * (1 - y)

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        return curves.times_derivative(dy, y.q * ((1 << y.f) - y.q), 2 * y.f, bits)

    def short(self) -> ElementwiseOp:
        return ShortSigmoid()


@dataclass(frozen=True)
class ShortSigmoid(curves.ShortSlope, Sigmoid):
    """Derivatives, which are at most 1/4, have 32 fraction bits."""

    slope_fraction: ClassVar[int] = curves.SLOPE_BITS + 2
    largest_slope: ClassVar[float] = 0.25

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        slope = (y.q * ((1 << y.f) - y.q)) << (self.slope_fraction - 2 * y.f)
        return curves.times_slope(dy, slope, self.slope_fraction, bits)
