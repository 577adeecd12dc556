"""Fully connected: y = W x + b, with W stored [out][in]."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Outer, Q, accumulated, dot
from codegen.ops.base import (
    FEW_ROWS,
    Choice,
    LayerOp,
    Parameter,
    Products,
    Shape,
    ShapeError,
    Shapes,
    size,
    sums_at_once,
)


@dataclass(frozen=True)
class Dense(LayerOp):
    """Keys: `units` (outputs), `bias`."""

    kind: ClassVar[str] = "dense"
    outer: ClassVar[tuple[str, ...]] = ("grad_w",)
    units: int
    bias: bool = True

    def output_shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        if len(x) != 1:
            raise ShapeError(f"dense needs a vector, its input is {x}; put a flatten before it")
        if self.units < 1:
            raise ShapeError(f"units = {self.units}: at least 1 is needed")
        return (self.units,)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        (x,) = inputs
        weight = Parameter((self.units, size(x)), "weight", fan_in=size(x), fan_out=self.units)
        bias = Parameter((self.units,), "bias", fan_in=size(x), fan_out=self.units)
        return {"w": weight, "b": bias} if self.bias else {"w": weight}

    def with_bias(self) -> LayerOp:
        return replace(self, bias=True)

    def split(self, channels: int) -> tuple[LayerOp, LayerOp]:
        return replace(self, units=channels), replace(self, units=self.units - channels)

    def choices(self, kernel: str, shapes: Shapes) -> Mapping[str, tuple[Choice, ...]]:
        knobs = super().choices(kernel, shapes)
        takes_rows = kernel == "forward" and self.bias
        return {**knobs, "sums": sums_at_once(self.units, FEW_ROWS)} if takes_rows else knobs

    def products(self, kernel: str, shapes: Shapes) -> Products:
        return {
            "forward": lambda: Products(size(shapes["x"]), ("w", "x")),
            "grad_x": lambda: Products(self.units, ("w", "dy")),
            "grad_w": lambda: Products(1, ("dy", "x")),
            "grad_b": lambda: Products(1, ("dy",)),
        }[kernel]()

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return 0 if kernel == "grad_b" else self.units * size(shapes.get("x", shapes["out"]))

    def list_size(self, kernel: str, shapes: Shapes) -> int:
        """An even number."""
        return self.units + self.units % 2 if kernel == "grad_x" else 0

    def forward(self, x: Floats, w: Floats, b: Floats | None = None) -> Floats:
        y: Floats = w @ x
        return y if b is None else y + b

    def forward_int(self, x: Q, w: Q, b: Q | None = None, shift: int | None = None) -> Q:
        return accumulated(Q(dot(x.q[None], w.q)[0], w.f + x.f), b, shift)

    def grad_x(self, dy: Floats, w: Floats) -> Floats:
        dx: Floats = w.T @ dy
        return dx

    def grad_x_int(self, dy: Q, w: Q, shift: int | None = None) -> Q:
        return accumulated(Q(dot(dy.q[None], w.q.T)[0], w.f + dy.f), shift=shift)

    def grad_w(self, dy: Floats, x: Floats) -> Floats:
        return np.multiply.outer(dy, x)

    def grad_w_int(self, dy: Q, x: Q) -> Outer:
        return Outer(dy, x)

    def grad_b(self, dy: Floats) -> Floats:
        return dy

    def grad_b_int(self, dy: Q) -> Q:
        return dy
