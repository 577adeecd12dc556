"""C = max(0, 1 + largest other score - score of the label), as Crammer and Singer have it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codegen.fixedpoint import LOSS_FRACTION, Floats, Ints, Q, integers, narrow, rescale
from codegen.ops.base import LabelLoss


@dataclass(frozen=True)
class Hinge(LabelLoss):
    """Target: the label, 0 .. outputs - 1. No keys."""

    kind: ClassVar[str] = "hinge"
    reaches_all: ClassVar[bool] = False

    def error_fraction(self, f: int) -> int:
        return 0

    def error_bits(self, f: int) -> int:
        return 1

    def loss(self, x: Floats, t: Any) -> tuple[float, Floats]:
        other = _largest_other(x, int(t))
        margin = 1 + x[other] - x[int(t)]
        error = np.zeros(x.size)
        if margin > 0:
            error[other], error[int(t)] = 1.0, -1.0
        return max(0.0, float(margin)), error

    def loss_int(self, x: Q, t: Any) -> tuple[int, Q]:
        other = _largest_other(x.q, int(t))
        margin = int(rescale(1, -x.f)) + int(x.q[other]) - int(x.q[int(t)])
        error = integers(np.zeros(x.q.size))
        if margin > 0:
            error[other], error[int(t)] = 1, -1
        return max(0, int(narrow(margin, x.f - LOSS_FRACTION, 32))), Q(error, 0)


def _largest_other(x: Floats | Ints, label: int) -> int:
    """The first largest score but the label's."""
    order = [i for i in range(x.size) if i != label]
    return max(order, key=lambda i: (x[i], -i))
