"""y = min(max(x, 0), 6)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q, rescale
from codegen.ops.base import ElementwiseOp

_TOP = 6


@dataclass(frozen=True)
class Relu6(ElementwiseOp):
    """No keys."""

    kind: ClassVar[str] = "relu6"
    keeps_positive: ClassVar[bool] = True
    knows_fraction: ClassVar[bool] = True

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        """6 is no multiple of the unit where that is more than 2."""
        return math.ldexp(0.5, -f) if kernel == "forward" and f < -1 else 0.0

    def forward(self, x: Floats) -> Floats:
        return np.clip(x, 0.0, _TOP)

    def forward_int(self, x: Q, bits: int) -> Q:
        return Q(np.clip(x.q, 0, rescale(_TOP, -x.f)), x.f)

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        return np.where((y > 0) & (y < _TOP), dy, 0.0)

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        return Q(np.where((y.q > 0) & (y.q < rescale(_TOP, -y.f)), dy.q, 0), dy.f)
