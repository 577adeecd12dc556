"""y = x1 * x2, number by number; x2 may have one number a channel (squeeze and excitation)."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Array, Floats, Q, accumulated, integers
from codegen.ops.base import LayerOp, Products, Shape, ShapeError, Shapes, size
from codegen.ops.channels import over_positions


@dataclass(frozen=True)
class Multiply(LayerOp):
    """No keys."""

    kind: ClassVar[str] = "multiply"
    inputs: ClassVar[tuple[str, ...]] = ("x1", "x2")

    def output_shape(self, *inputs: Shape) -> Shape:
        a, b = inputs
        channels = a[-1:]
        if b not in (a, channels, (1,) * (len(a) - 1) + channels):
            raise ShapeError(
                f"multiply needs inputs of one shape, or a second one of {a[-1]} numbers, one for "
                f"each channel of the first; these are {a} and {b}"
            )
        return a

    def products(self, kernel: str, shapes: Shapes) -> Products:
        keys = self.reads(kernel)
        return Products(size(shapes[keys[0]]) // size(shapes["out"]), keys)

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return size(shapes[self.reads(kernel)[0]])

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        """A number for each channel is read to the end."""
        keys = self.reads(kernel)
        return {key: 0 for key in keys if size(shapes[key]) >= size(shapes["out"])}

    def forward(self, x1: Floats, x2: Floats) -> Floats:
        return x1 * x2

    def forward_int(self, x1: Q, x2: Q, shift: int | None = None) -> Q:
        return accumulated(Q(x1.q * x2.q, x1.f + x2.f), shift=shift)

    def grad_x1(self, dy: Floats, x2: Floats) -> Floats:
        return dy * x2

    def grad_x1_int(self, dy: Q, x2: Q, shift: int | None = None) -> Q:
        return self.forward_int(dy, x2, shift)

    def grad_x2(self, dy: Floats, x1: Floats, *, shape: Shape) -> Floats:
        return _gathered(dy * x1, shape)

    def grad_x2_int(self, dy: Q, x1: Q, shift: int | None = None, *, shape: Shape) -> Q:
        sums = integers(_gathered(dy.q * x1.q, shape))
        return accumulated(Q(sums, dy.f + x1.f), shift=shift)


def _gathered(parts: Array, shape: Shape) -> Array:
    """What x2 is given by every position that reads it."""
    return parts if parts.shape == shape else over_positions(parts).reshape(shape)
