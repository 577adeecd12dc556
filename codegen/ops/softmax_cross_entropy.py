"""Softmax and cross-entropy in one: C = -ln p[label], with gradient p - onehot(label)."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from codegen.fixedpoint import LOSS_FRACTION, Floats, Q
from codegen.ops.base import LabelLoss, Numbers, ShapeError
from codegen.ops.exponential import EXP2_TABLE, LN_2, LOG2_ERROR, T, log2
from codegen.ops.probabilities import (
    FRACTION,
    exponents,
    power_fraction,
    powers,
    share_error,
    shares,
)

_W = 12  # fraction bits of a class weight
_S = 16  # fraction bits of the share that smoothing takes

# In nats: the error of log2, its cut to 18 fraction bits, and that of the loss to its own.
LOSS_ERROR = (LOG2_ERROR + 2.0**-18) * math.log(2) + 2.0**-LOSS_FRACTION


@dataclass(frozen=True)
class SoftmaxCrossEntropy(LabelLoss):
    """Keys: `class_weights` (1 each), `label_smoothing` (0), a share that goes to all labels.

    Weights are kept as multiples of 2**-12 and the share as one of 2**-16, in both systems.
    """

    kind: ClassVar[str] = "softmax_cross_entropy"
    uses_scratch: ClassVar[bool] = True
    may_be_short: ClassVar[bool] = True

    ln_2: ClassVar[int] = LN_2
    class_weights: Numbers = ()
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not all(0 <= w <= 16 for w in self.class_weights):
            raise ShapeError(f"class_weights = {list(self.class_weights)}: each must be 0 to 16")
        if not 0 <= self.label_smoothing < 1:
            raise ShapeError(
                f"label_smoothing = {self.label_smoothing}: it must be at least 0 and below 1"
            )

    def accepts(self, outputs: int) -> None:
        super().accepts(outputs)
        if self.class_weights and len(self.class_weights) != outputs:
            raise ShapeError(
                f"there are {len(self.class_weights)} class_weights for {outputs} outputs"
            )

    @property
    def forms_errors(self) -> bool:
        return not self.class_weights and not self.smoothing_q

    @property
    def weights_q(self) -> tuple[int, ...]:
        """Class weights with 12 fraction bits."""
        return tuple(round(w * (1 << _W)) for w in self.class_weights)

    @property
    def smoothing_q(self) -> int:
        """The share with 16 fraction bits."""
        return min(round(self.label_smoothing * (1 << _S)), (1 << _S) - 1)

    def off_target(self, outputs: int) -> int:
        """What a label that is not the sample's is to have, with 30 fraction bits."""
        return ((self.smoothing_q << (FRACTION - _S)) + outputs // 2) // outputs

    def on_target(self, outputs: int) -> int:
        return (1 << FRACTION) - (self.smoothing_q << (FRACTION - _S)) + self.off_target(outputs)

    def fraction(self, outputs: int) -> int:
        """Fraction bits of a power."""
        return power_fraction(outputs)

    def error_fraction(self, f: int) -> int:
        return FRACTION + _W if self.class_weights else FRACTION

    def error_bits(self, f: int) -> int:
        return FRACTION + 1 + (_W + 4 if self.class_weights else 0)

    def allowance(self, outputs: int) -> float:
        return max(self.class_weights, default=1.0) * share_error(outputs)

    def tables(self) -> dict[str, tuple[int, ...]]:
        tables = {"exp2_table": EXP2_TABLE}
        return tables | ({"class_weights": self.weights_q} if self.class_weights else {})

    def loss(self, x: Floats, t: Any) -> tuple[float, Floats]:
        shifted = x - x.max()
        surprise = np.log(np.exp(shifted).sum()) - shifted
        share = self.smoothing_q / (1 << _S)
        wanted = np.full(x.size, share / x.size)
        wanted[int(t)] += 1 - share
        weight = self.weights_q[int(t)] / (1 << _W) if self.class_weights else 1.0
        return weight * float(np.sum(wanted * surprise)), weight * (np.exp(-surprise) - wanted)

    def loss_int(self, x: Q, t: Any) -> tuple[int, Q]:
        distances = exponents(x)
        each = powers(distances)
        error = shares(each)
        error -= self.off_target(x.q.size)
        error[int(t)] -= self.on_target(x.q.size) - self.off_target(x.q.size)
        own = distances[int(t)]
        if self.smoothing_q:
            mean = sum(distances) // len(distances)
            own += ((mean - own) * self.smoothing_q) >> _S
        bits = min(own + log2(sum(each), power_fraction(x.q.size)), (1 << 40) - 1)
        value = ((bits >> 8) * LN_2) >> (24 + T - LOSS_FRACTION)
        if self.class_weights:
            value = (value * self.weights_q[int(t)]) >> _W
            error = error * self.weights_q[int(t)]
        return min(value, 2**31 - 1), Q(error, self.error_fraction(x.f))
