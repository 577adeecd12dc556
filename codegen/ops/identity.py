"""y = x: an accumulator for an elementwise op that follows no layer of its own."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Floats, Q
from codegen.ops.base import LayerOp, Products, Shape


@dataclass(frozen=True)
class Identity(LayerOp):
    """No keys; the generator places it, users do not."""

    kind: ClassVar[str] = "identity"

    def output_shape(self, x: Shape) -> Shape:
        return x

    def products(self, kernel: str, x: Shape) -> Products:
        return Products(0, *(("x", "x") if kernel == "forward" else ("dy", "dy")))

    def multiplies(self, kernel: str, x: Shape) -> int:
        return 0

    def forward(self, x: Floats) -> Floats:
        return x

    def forward_int(self, x: Q, shift: int = 0) -> Q:
        return x

    def grad_x(self, dy: Floats) -> Floats:
        return dy

    def grad_x_int(self, dy: Q, shift: int = 0) -> Q:
        return dy
