"""C = sum (o - t)^2 with gradient 2 (o - t), as in the textbook lesson."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import LOSS_FRACTION, Floats, Ints, Q, rescale
from codegen.ops.base import LossOp

TARGET_FRACTION = 15


@dataclass(frozen=True)
class SquaredError(LossOp):
    """Target: one number per output, divided by target_max, 15 fraction bits."""

    kind: ClassVar[str] = "squared_error"
    target_is_label: ClassVar[bool] = False
    score_fraction: ClassVar[int] = 13

    def error_fraction(self, f: int) -> int:
        return TARGET_FRACTION - 1

    def error_bits(self) -> int:
        return 15 + TARGET_FRACTION + 1

    def loss(self, x: Floats, t: Floats) -> tuple[float, Floats]:
        return float(np.sum((x - t) ** 2)), 2 * (x - t)

    def loss_int(self, x: Q, t: Ints) -> tuple[int, Q]:
        """The factor 2 is a fraction bit less; |o - t| < 2**31 for f >= 0."""
        difference = (x.q << (TARGET_FRACTION - x.f)) - t
        total = sum(int(d) * int(d) for d in difference.flat)
        value = int(rescale(min(total, 2**62), 2 * TARGET_FRACTION - LOSS_FRACTION))
        return min(value, 2**31 - 1), Q(difference, TARGET_FRACTION - 1)
