"""y = max(x, 0)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q
from codegen.ops.base import ElementwiseOp


@dataclass(frozen=True)
class Relu(ElementwiseOp):
    """No keys."""

    kind: ClassVar[str] = "relu"
    keeps_positive: ClassVar[bool] = True
    settles: ClassVar[Mapping[str, str]] = {"forward": "positive", "grad_x": "masked"}

    def forward(self, x: Floats) -> Floats:
        return np.maximum(x, 0.0)

    def forward_int(self, x: Q, bits: int) -> Q:
        return Q(np.maximum(x.q, 0), x.f)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        return np.where(y > 0, dy, 0.0)

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        return Q(np.where(y.q > 0, dy.q, 0), dy.f)
