"""C = sum of e^2 / 2 where |e| <= delta, of delta (|e| - delta / 2) elsewhere, with e = o - t."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q
from codegen.ops.base import ShapeError
from codegen.ops.residual_losses import TARGET_FRACTION, ResidualLoss, difference, value_of


@dataclass(frozen=True)
class Huber(ResidualLoss):
    """Key: `delta`, in units of target_max; kept as a multiple of 2**-15 in both systems."""

    kind: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        if not 2.0**-15 <= self.delta <= 8:
            raise ShapeError(f"delta = {self.delta}: it must be from 2**-15 to 8")

    @property
    def delta_q(self) -> int:
        return round(self.delta * (1 << TARGET_FRACTION))

    def error_fraction(self, f: int) -> int:
        return TARGET_FRACTION

    def error_bits(self, f: int) -> int:
        return TARGET_FRACTION + 3

    def loss(self, x: Floats, t: Floats) -> tuple[float, Floats]:
        delta = self.delta_q / 2**TARGET_FRACTION
        error = np.clip(x - t, -delta, delta)
        return float(np.sum(np.abs(error) * (2 * np.abs(x - t) - np.abs(error)) / 2)), error

    def loss_int(self, x: Q, t: Ints) -> tuple[int, Q]:
        """Twice the loss is |clipped| * (2 |e| - |clipped|)."""
        size = np.abs(difference(x, t))
        clipped = np.minimum(size, self.delta_q)
        total = int((clipped * (2 * size - clipped)).sum())
        error = np.sign(difference(x, t)) * clipped
        return value_of(total, 2 * TARGET_FRACTION + 1), Q(error, TARGET_FRACTION)
