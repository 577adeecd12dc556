"""C = sum (o - t)^2 with gradient 2 (o - t), as in the textbook lesson."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q
from codegen.ops.residual_losses import TARGET_FRACTION, ResidualLoss, difference, value_of


@dataclass(frozen=True)
class SquaredError(ResidualLoss):
    """No keys."""

    kind: ClassVar[str] = "squared_error"

    def error_fraction(self, f: int) -> int:
        return TARGET_FRACTION - 1

    def error_bits(self, f: int) -> int:
        return self.difference_bits(f)

    def loss(self, x: Floats, t: Floats) -> tuple[float, Floats]:
        return float(np.sum((x - t) ** 2)), 2 * (x - t)

    def loss_int(self, x: Q, t: Ints) -> tuple[int, Q]:
        """The factor 2 is a fraction bit less."""
        error = difference(x, t)
        total = sum(int(d) * int(d) for d in error.flat)
        return value_of(total, 2 * TARGET_FRACTION), Q(error, TARGET_FRACTION - 1)
