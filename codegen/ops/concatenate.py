"""The channels of x1, then those of x2, at every position."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Ints, Q, common_fraction, integers, rescale
from codegen.ops.alignment import aligned_products, alignment_error
from codegen.ops.base import LayerOp, Products, Shape, ShapeError, Shapes, size
from codegen.ops.window import NEVER, lag


@dataclass(frozen=True)
class Concatenate(LayerOp):
    """No keys."""

    kind: ClassVar[str] = "concatenate"
    inputs: ClassVar[tuple[str, ...]] = ("x1", "x2")

    def output_shape(self, *inputs: Shape) -> Shape:
        a, b = inputs
        if a[:-1] != b[:-1]:
            raise ShapeError(
                f"concatenate needs inputs that differ in channels only, these are {a} and {b}; "
                "pad or pool one of them"
            )
        return (*a[:-1], a[-1] + b[-1])

    def takes_numbers(self, kernel: str) -> bool:
        return kernel != "forward"

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return aligned_products(1) if kernel == "forward" else Products(1, ("dy",))

    def allowance(self, kernel: str, operands: Mapping[str, Q], shapes: Shapes) -> float:
        if kernel != "forward":
            return 0.0
        return alignment_error(operands["x1"].f, operands["x2"].f)

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        if kernel == "forward":
            first, second = (_index(shapes[key]) for key in ("x1", "x2"))
            return {
                "x1": lag(np.concatenate([first, np.full_like(second, NEVER)], axis=-1)),
                "x2": lag(np.concatenate([np.full_like(first, NEVER), second], axis=-1)),
            }
        index = _index(shapes["dy"])
        part = index[:, : shapes["out"][-1]]
        return {"dy": lag(part if kernel == "grad_x1" else index[:, -shapes["out"][-1] :])}

    def forward(self, x1: Floats, x2: Floats) -> Floats:
        return np.concatenate([x1, x2], axis=-1)

    def forward_int(self, x1: Q, x2: Q) -> Q:
        f = common_fraction(x1.f, x2.f)
        parts = [rescale(x.q, x.f - f) for x in (x1, x2)]
        return Q(integers(np.concatenate(parts, axis=-1)), f)

    def grad_x1(self, dy: Floats, *, shape: Shape) -> Floats:
        return dy[..., : shape[-1]]

    def grad_x1_int(self, dy: Q, *, shape: Shape) -> Q:
        return Q(dy.q[..., : shape[-1]], dy.f)

    def grad_x2(self, dy: Floats, *, shape: Shape) -> Floats:
        return dy[..., -shape[-1] :]

    def grad_x2_int(self, dy: Q, *, shape: Shape) -> Q:
        return Q(dy.q[..., -shape[-1] :], dy.f)


def _index(shape: Shape) -> Ints:
    """Index of each element, (positions, channels)."""
    return np.arange(size(shape), dtype=np.int64).reshape(-1, shape[-1])
