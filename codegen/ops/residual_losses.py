"""What losses of o - t share: the exact difference with 15 fraction bits."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codegen.fixedpoint import LOSS_FRACTION, Floats, Ints, Q, rescale
from codegen.ops.base import LossOp

TARGET_FRACTION = 15
MOST = 2**62  # at which a sum of losses stays
VALUE_LIMIT = 2**31 - 1


@dataclass(frozen=True)
class ResidualLoss(LossOp):
    """Target: one number per output, divided by target_max, 15 fraction bits."""

    target_is_label: ClassVar[bool] = False
    score_fraction: ClassVar[int] = 13
    score_name: ClassVar[str] = "r2"
    may_be_short: ClassVar[bool] = True

    @staticmethod
    def difference_bits(f: int) -> int:
        """Bits that bound |o - t|, when the scores have f fraction bits."""
        return 15 + TARGET_FRACTION - f + 1

    def score(self, scores: Floats, targets: Any) -> float:
        """The share of the targets' variance that the scores explain; of none all or nothing."""
        spread = float(np.sum((targets - targets.mean(axis=0)) ** 2))
        rest = float(np.sum((scores - targets) ** 2))
        return 1 - rest / spread if spread > 0 else float(rest == 0)


def difference(x: Q, t: Ints) -> Ints:
    """o - t with 15 fraction bits; |o - t| < 2**31 for scores with up to 15."""
    return (x.q << (TARGET_FRACTION - x.f)) - t


def value_of(total: int, fraction: int) -> int:
    """A sum of losses with `fraction` fraction bits as the loss that the C returns."""
    return min(int(rescale(min(total, MOST), fraction - LOSS_FRACTION)), VALUE_LIMIT)
