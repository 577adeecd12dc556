"""y = x1 + x2: a residual connection, and the chain rule where a value is used twice."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Floats, Q, common_fraction, rescale
from codegen.ops.alignment import aligned_products, alignment_error, same_shape
from codegen.ops.base import LayerOp, Products, Shape, Shapes


@dataclass(frozen=True)
class Add(LayerOp):
    """No keys."""

    kind: ClassVar[str] = "add"
    inputs: ClassVar[tuple[str, ...]] = ("x1", "x2")
    passes_errors: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return same_shape(self.kind, *inputs)

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return aligned_products(2)

    def allowance(self, kernel: str, operands: Mapping[str, Q], shapes: Shapes) -> float:
        return alignment_error(operands["x1"].f, operands["x2"].f)

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        return {"x1": 0, "x2": 0}

    def forward(self, x1: Floats, x2: Floats) -> Floats:
        return x1 + x2

    def forward_int(self, x1: Q, x2: Q) -> Q:
        f = common_fraction(x1.f, x2.f)
        return Q(rescale(x1.q, x1.f - f) + rescale(x2.q, x2.f - f), f)
