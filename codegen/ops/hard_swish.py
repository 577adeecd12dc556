"""y = x * min(max(x / 6 + 1 / 2, 0), 1)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q, integers, narrow, rescale
from codegen.ops import gate
from codegen.ops.base import LayerOp, Products, Shape, Shapes, size


@dataclass(frozen=True)
class HardSwish(LayerOp):
    """No keys. Backward needs x: y takes some values twice."""

    kind: ClassVar[str] = "hard_swish"
    third: ClassVar[int] = 2 * gate.SIXTH_Q

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def products(self, kernel: str, shapes: Shapes) -> Products:
        """The gate is at most 1; the slope is between -1/2 and 3/2."""
        factor, more = ("x", 0) if kernel == "forward" else ("dy", 1)
        return Products(1, (factor,), gate.FRACTION + more)

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return 2 * size(shapes["out"])

    def allowance(self, kernel: str, operands: Mapping[str, Q], shapes: Shapes) -> float:
        """The error of the gate, or of its slope, times what it meets."""
        factor = operands["x" if kernel == "forward" else "dy"]
        return gate.GATE_ERROR * float(np.max(np.abs(factor.value)))

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        return dict.fromkeys(self.reads(kernel), 0)

    def forward(self, x: Floats) -> Floats:
        return x * gate.gate(x)

    def forward_int(self, x: Q) -> Q:
        return Q(x.q * gate.gate_int(x.q, x.f), x.f + gate.FRACTION)

    def grad_x(self, dy: Floats, x: Floats) -> Floats:
        inside = 2 * gate.SIXTH * x + 0.5
        return dy * np.where(x <= -gate.CORNER, 0.0, np.where(x >= gate.CORNER, 1.0, inside))

    def grad_x_int(self, dy: Q, x: Q) -> Q:
        one, corner = 1 << gate.FRACTION, gate.CORNER << gate.FRACTION
        v = narrow(x.q, x.f - gate.FRACTION, 32)
        inside = rescale(v * self.third, gate.SIXTH_FRACTION) + one // 2
        slope = np.where(v <= -corner, 0, np.where(v >= corner, one, inside))
        return Q(integers(dy.q * slope), dy.f + gate.FRACTION)
