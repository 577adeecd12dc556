"""y = x: an accumulator for an elementwise op that cannot use one of a layer."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Floats, Q
from codegen.ops.base import LayerOp, Products, Shape, Shapes


@dataclass(frozen=True)
class Identity(LayerOp):
    """No keys; the generator places it, users do not."""

    kind: ClassVar[str] = "identity"
    passes_errors: ClassVar[bool] = True

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def takes_numbers(self, kernel: str) -> bool:
        return True

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return Products(1, ("x",))

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        return {"x": 0}

    def forward(self, x: Floats) -> Floats:
        return x

    def forward_int(self, x: Q) -> Q:
        return x
