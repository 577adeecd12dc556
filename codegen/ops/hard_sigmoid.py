"""y = min(max(x / 6 + 1 / 2, 0), 1)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q, integers
from codegen.ops import curves, gate
from codegen.ops.base import ElementwiseOp


@dataclass(frozen=True)
class HardSigmoid(ElementwiseOp):
    """No keys. The output has a bit for 1 itself: backward tells 1 from what is below it."""

    kind: ClassVar[str] = "hard_sigmoid"
    keeps_positive: ClassVar[bool] = True
    sixth: ClassVar[int] = gate.SIXTH_Q

    def output_fraction(self, bits: int) -> int:
        return bits - 2

    def grown_bits(self, kernel: str, bits: int) -> int:
        return gate.FRACTION if kernel == "forward" else curves.derivative_bits(bits)

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        if kernel == "forward":
            return gate.GATE_ERROR
        return curves.derivative_error(f, bits, gate.SIXTH)

    def shift(self, bits: int) -> int:
        """How far an accumulator of `bits` bits is shifted before it meets the derivative."""
        return curves.derivative_shift(bits)

    def forward(self, x: Floats) -> Floats:
        return gate.gate(x)

    def forward_int(self, x: Q, bits: int) -> Q:
        return Q(gate.gate_int(x.q, x.f), gate.FRACTION)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        return np.where((y > 0) & (y < 1), dy * gate.SIXTH, 0.0)

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        inside = (y.q > 0) & (y.q < 1 << y.f)
        slope = integers(np.where(inside, gate.SIXTH_Q, 0))
        return curves.times_derivative(dy, slope, gate.SIXTH_FRACTION, bits)
