"""y = gamma * x + beta, channel by channel: what is left of a batch normalisation that learns."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.fixedpoint import Floats, Q, accumulated, integers
from codegen.ops.base import LayerOp, Parameter, Products, Shape, Shapes, size
from codegen.ops.channels import over_positions


@dataclass(frozen=True)
class ScaleShift(LayerOp):
    """No keys. gamma starts at 1, beta at 0."""

    kind: ClassVar[str] = "scale_shift"

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        channels = inputs[0][-1]
        return {
            "w": Parameter((channels, 1), "weight", 1, 1, initial=1.0),
            "b": Parameter((channels,), "bias", 1, 1),
        }

    def products(self, kernel: str, shapes: Shapes) -> Products:
        channels = shapes["out"][0]
        return {
            "forward": lambda: Products(1, ("w", "x")),
            "grad_x": lambda: Products(1, ("w", "dy")),
            "grad_w": lambda: Products(size(shapes["x"]) // channels, ("dy", "x")),
            "grad_b": lambda: Products(size(shapes["dy"]) // channels, ("dy",)),
        }[kernel]()

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return 0 if kernel == "grad_b" else size(shapes.get("x", shapes["out"]))

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        return {"forward": {"x": 0}, "grad_x": {"dy": 0}}.get(kernel, {})

    def forward(self, x: Floats, w: Floats, b: Floats | None = None) -> Floats:
        y: Floats = x * w[:, 0]
        return y if b is None else y + b

    def forward_int(self, x: Q, w: Q, b: Q | None = None, shift: int | None = None) -> Q:
        return accumulated(Q(x.q * w.q[:, 0], x.f + w.f), b, shift)

    def grad_x(self, dy: Floats, w: Floats) -> Floats:
        return dy * w[:, 0]

    def grad_x_int(self, dy: Q, w: Q, shift: int | None = None) -> Q:
        return accumulated(Q(dy.q * w.q[:, 0], dy.f + w.f), shift=shift)

    def grad_w(self, dy: Floats, x: Floats) -> Floats:
        return over_positions(dy * x)[:, None]

    def grad_w_int(self, dy: Q, x: Q) -> Q:
        return Q(integers(over_positions(dy.q * x.q))[:, None], dy.f + x.f)

    def grad_b(self, dy: Floats) -> Floats:
        return over_positions(dy)

    def grad_b_int(self, dy: Q) -> Q:
        return Q(integers(over_positions(dy.q)), dy.f)
