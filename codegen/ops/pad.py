"""Zeros around (steps, channels) or (rows, columns, channels)."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Array, Floats, Ints, Q, integers
from codegen.ops.base import LayerOp, Padding, Products, Shape, Shapes, size
from codegen.ops.window import NEVER, check_rank, explicit_sides, lag


@dataclass(frozen=True)
class Pad(LayerOp):
    """Key: `padding`, a number for every side or one for each."""

    kind: ClassVar[str] = "pad"
    padding: Padding

    def sides(self, x: Shape) -> list[tuple[int, int]]:
        """(before, after) of rows and columns; the rows of a signal have no padding."""
        check_rank(self.kind, x)
        sides = explicit_sides(self.padding, len(x) - 1)
        return sides if len(x) == 3 else [(0, 0), *sides]

    def output_shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        sides = self.sides(x)[3 - len(x) :]
        return (*(n + sum(side) for n, side in zip(x[:-1], sides, strict=True)), x[-1])

    def takes_numbers(self, kernel: str) -> bool:
        return True

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return Products(1, ("x" if kernel == "forward" else "dy",))

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        if kernel == "forward":
            return {"x": lag(self._padded(_index(shapes["x"]), NEVER))}
        return {"dy": lag(self._cut(_index(shapes["dy"]), shapes["out"]))}

    def forward(self, x: Floats) -> Floats:
        return self._padded(x)

    def forward_int(self, x: Q) -> Q:
        return Q(self._padded(x.q), x.f)

    def grad_x(self, dy: Floats, *, shape: Shape) -> Floats:
        return self._cut(dy, shape)

    def grad_x_int(self, dy: Q, *, shape: Shape) -> Q:
        return Q(self._cut(dy.q, shape), dy.f)

    def _padded(self, x: Array, fill: int = 0) -> Array:
        sides = [*self.sides(x.shape)[3 - x.ndim :], (0, 0)]
        return np.pad(x, sides, constant_values=fill)

    def _cut(self, dy: Array, shape: Shape) -> Array:
        sides = self.sides(shape)[3 - len(shape) :]
        part: Array = dy[
            tuple(slice(s[0], s[0] + n) for s, n in zip(sides, shape[:-1], strict=True))
        ]
        return part


def _index(shape: Shape) -> Ints:
    """Index of each element."""
    return integers(np.arange(size(shape))).reshape(shape)
