"""The hidden state, which is the last row of each step's state: of every step, or of the last."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Array, Floats, Q
from codegen.ops.base import LayerOp, Products, Shape, Shapes


@dataclass(frozen=True)
class Hidden(LayerOp):
    """Key: `sequence`. The generator places it, users do not."""

    kind: ClassVar[str] = "hidden"
    passes_errors: ClassVar[bool] = True  # a cell knows that they are of its hidden states
    sequence: bool = False

    def output_shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        return (x[0], x[-1]) if self.sequence else x[-1:]

    def output_fraction(self, bits: int) -> int:
        return bits - 1

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return Products(1, ("x",))

    def forward(self, x: Floats) -> Floats:
        return self._rows(x)

    def forward_int(self, x: Q) -> Q:
        return Q(self._rows(x.q), x.f)

    def _rows(self, x: Array) -> Array:
        rows = x.reshape(len(x), -1, x.shape[-1])[:, -1]
        return rows if self.sequence else rows[-1]
