"""C = sum |o - t| with gradient sign(o - t)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q
from codegen.ops.residual_losses import TARGET_FRACTION, ResidualLoss, difference, value_of


@dataclass(frozen=True)
class AbsoluteError(ResidualLoss):
    """No keys."""

    kind: ClassVar[str] = "absolute_error"

    def error_fraction(self, f: int) -> int:
        return 0

    def error_bits(self, f: int) -> int:
        return 1

    def loss(self, x: Floats, t: Floats) -> tuple[float, Floats]:
        return float(np.sum(np.abs(x - t))), np.sign(x - t)

    def loss_int(self, x: Q, t: Ints) -> tuple[int, Q]:
        error = difference(x, t)
        return value_of(int(np.abs(error).sum()), TARGET_FRACTION), Q(np.sign(error), 0)
