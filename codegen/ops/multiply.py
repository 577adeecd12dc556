"""y = x1 * x2, number by number."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Floats, Q
from codegen.ops.alignment import same_shape
from codegen.ops.base import LayerOp, Products, Shape, Shapes, size


@dataclass(frozen=True)
class Multiply(LayerOp):
    """No keys."""

    kind: ClassVar[str] = "multiply"
    inputs: ClassVar[tuple[str, ...]] = ("x1", "x2")

    def output_shape(self, *inputs: Shape) -> Shape:
        return same_shape(self.kind, *inputs)

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return Products(1, self.reads(kernel))

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return size(shapes["out"])

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        return dict.fromkeys(self.reads(kernel), 0)

    def forward(self, x1: Floats, x2: Floats) -> Floats:
        return x1 * x2

    def forward_int(self, x1: Q, x2: Q, shift: int = 0) -> Q:
        return Q((x1.q * x2.q) >> shift, x1.f + x2.f - shift)

    def grad_x1(self, dy: Floats, x2: Floats) -> Floats:
        return dy * x2

    def grad_x1_int(self, dy: Q, x2: Q, shift: int = 0) -> Q:
        return self.forward_int(dy, x2, shift)

    def grad_x2(self, dy: Floats, x1: Floats) -> Floats:
        return dy * x1

    def grad_x2_int(self, dy: Q, x1: Q, shift: int = 0) -> Q:
        return self.forward_int(dy, x1, shift)
