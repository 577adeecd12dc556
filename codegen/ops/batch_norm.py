"""Batch normalisation with given statistics: one factor and one addend for each channel.

y = gamma * (x - mean) / sqrt(variance + epsilon) + beta. Where the layer before it may take that
into its weights, nothing of it is left in the C; elsewhere it is a scale_shift that starts there.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import BIAS_LIMIT
from codegen.ops.base import FoldOp, LayerOp, Numbers, ShapeError
from codegen.ops.scale_shift import ScaleShift


@dataclass(frozen=True)
class BatchNorm(FoldOp):
    """Keys: `mean`, `variance`, `gamma` (1), `beta` (0), `epsilon`, `learn` (keep it apart)."""

    kind: ClassVar[str] = "batch_norm"
    mean: Numbers
    variance: Numbers
    gamma: Numbers = ()
    beta: Numbers = ()
    epsilon: float = 1e-3
    learn: bool = False

    def __post_init__(self) -> None:
        lengths = {len(v) for v in (self.mean, self.variance, self.gamma, self.beta) if v}
        if len(lengths) != 1 or not self.mean or not self.variance:
            raise ShapeError("mean, variance, gamma and beta need one number for each channel")
        if not all(math.isfinite(v) for v in (*self.mean, *self.gamma, *self.beta)):
            raise ShapeError("mean, gamma and beta must be finite")
        if not all(0 <= v < math.inf for v in self.variance) or not 0 < self.epsilon < math.inf:
            raise ShapeError("variance must not be negative, and epsilon must be positive")
        for channel, pair in enumerate(zip(self.scale(), self.shift(), strict=True)):
            if max(map(abs, pair)) >= BIAS_LIMIT:
                raise ShapeError(
                    f"channel {channel} has the factor {pair[0]:g} and the addend {pair[1]:g}; "
                    f"both must be below {BIAS_LIMIT}: divide what comes in, as input_max does"
                )

    @property
    def channels(self) -> int:
        return len(self.mean)

    @property
    def stays_apart(self) -> bool:
        return self.learn

    def scale(self) -> Numbers:
        gamma = self.gamma or (1.0,) * self.channels
        pairs = zip(gamma, self.variance, strict=True)
        return tuple(g / math.sqrt(v + self.epsilon) for g, v in pairs)

    def shift(self) -> Numbers:
        beta = self.beta or (0.0,) * self.channels
        parts = zip(beta, self.mean, self.scale(), strict=True)
        return tuple(b - m * s for b, m, s in parts)

    def alone(self) -> LayerOp:
        return ScaleShift()
