"""C = sum of -t ln p - (1 - t) ln(1 - p), p = sigmoid(score): the sigmoid is part of the loss."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codegen.fixedpoint import LOSS_FRACTION, Floats, Ints, Q, narrow, table_lookup
from codegen.ops import curves
from codegen.ops.base import LossOp

_STEP_BITS = 10  # two entries are 2**-5 apart, of an argument with 15 fraction bits
SOFTPLUS_TABLE = tuple(round(math.log1p(math.exp(-i / 32)) * 2**16) for i in range(257))
# Per output: interpolation (h^2 / 8 * 1 / 4), the entry, the result, the argument, and the tail.
SOFTPLUS_ERROR = 2**-10 / 8 / 4 + 1.5 * 2**-16 + 2**-17 + math.log1p(math.exp(-8))


@dataclass(frozen=True)
class BinaryCrossEntropy(LossOp):
    """Target: a number from 0 to 1 for each output. Scores are logits: p > 1/2 where one is > 0."""

    kind: ClassVar[str] = "binary_cross_entropy"
    target_is_label: ClassVar[bool] = False
    score_fraction: ClassVar[int] = 8
    scores_adapt: ClassVar[bool] = True
    score_name: ClassVar[str] = "accuracy"

    def score(self, scores: Floats, targets: Any) -> float:
        return float(np.mean((scores > 0) == (targets > 0.5)))

    def error_fraction(self, f: int) -> int:
        return curves.FRACTION + 1

    def error_bits(self, f: int) -> int:
        return curves.FRACTION + 2

    def allowance(self, outputs: int) -> float:
        return curves.TANH_ERROR / 2

    def tables(self) -> dict[str, tuple[int, ...]]:
        return {"tanh_table": curves.TANH_TABLE, "softplus_table": SOFTPLUS_TABLE}

    def loss(self, x: Floats, t: Floats) -> tuple[float, Floats]:
        value = np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))) - t * x
        return float(np.sum(value)), 0.5 + 0.5 * np.tanh(0.5 * x) - t

    def loss_int(self, x: Q, t: Ints) -> tuple[int, Q]:
        """The loss of an output: max(x, 0) - t x exactly, and softplus(-|x|) from a table."""
        p = (1 << curves.FRACTION) + curves.tanh_int(x.q, x.f + 1)
        argument = np.minimum(narrow(np.abs(x.q), x.f - 15, 24), (256 << _STEP_BITS) - 1)
        soft = table_lookup(SOFTPLUS_TABLE, argument, _STEP_BITS) << (LOSS_FRACTION - 16)
        linear = np.maximum(x.q, 0) * (1 << 15) - t * x.q
        total = int((soft + narrow(linear, x.f + 15 - LOSS_FRACTION, 40)).sum())
        return max(0, min(total, 2**31 - 1)), Q(p - (t << 1), curves.FRACTION + 1)
