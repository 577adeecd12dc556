"""y = x where x > 0, w * x elsewhere, with a slope w for each channel that is learnt."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import (
    MAX_WEIGHT_FRACTION,
    MIN_FRACTION,
    Floats,
    Ints,
    Q,
    integers,
)
from codegen.ops.base import LayerOp, Parameter, Products, Shape, Shapes, size

_MORE = max(MAX_WEIGHT_FRACTION, 15 - MIN_FRACTION)  # bits of 1, and of a widened slope


@dataclass(frozen=True)
class Prelu(LayerOp):
    """No keys. Slopes start at 1/4."""

    kind: ClassVar[str] = "prelu"

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        return {"w": Parameter((inputs[0][-1], 1), "weight", 1, 1, initial=0.25)}

    def exponents(self, kernel: str) -> tuple[str, ...]:
        """Backward only asks where x is positive."""
        return ("dy", "w") if kernel == "grad_x" else self.reads(kernel)

    def products(self, kernel: str, shapes: Shapes) -> Products:
        if kernel == "grad_w":
            return Products(size(shapes["x"]) // shapes["out"][0], ("dy", "x"))
        return Products(1, ("x" if kernel == "forward" else "dy",), _MORE)

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return size(shapes["x"])

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        return {"forward": {"x": 0}, "grad_x": {"dy": 0, "x": 0}}.get(kernel, {})

    def forward(self, x: Floats, w: Floats) -> Floats:
        return np.where(x > 0, x, x * w[:, 0])

    def forward_int(self, x: Q, w: Q) -> Q:
        return Q(x.q * _slope(x, w), x.f + _fraction(w))

    def grad_x(self, dy: Floats, x: Floats, w: Floats) -> Floats:
        return np.where(x > 0, dy, dy * w[:, 0])

    def grad_x_int(self, dy: Q, x: Q, w: Q) -> Q:
        return Q(dy.q * _slope(x, w), dy.f + _fraction(w))

    def grad_w(self, dy: Floats, x: Floats) -> Floats:
        total: Floats = (dy * np.minimum(x, 0)).reshape(-1, x.shape[-1]).sum(axis=0)[:, None]
        return total

    def grad_w_int(self, dy: Q, x: Q) -> Q:
        products = (dy.q * np.minimum(x.q, 0)).reshape(-1, x.q.shape[-1])
        return Q(integers(products.sum(axis=0))[:, None], dy.f + x.f)


def _fraction(w: Q) -> int:
    """Fraction bits of a slope, such that 1 has an integer."""
    return max(0, w.f)


def _slope(x: Q, w: Q) -> Ints:
    """What each number of x is multiplied by."""
    f = _fraction(w)
    return integers(np.where(x.q > 0, 1 << f, w.q[:, 0] << (f - w.f)))
