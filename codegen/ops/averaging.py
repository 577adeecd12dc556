"""What pools that average share: sums of a window times 2**30 / n, n its inputs inside."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from codegen.fixedpoint import Array, Floats, Ints, Q, integers
from codegen.ops.base import LayerOp, Products, Shape, Shapes, size
from codegen.ops.pool import Pool
from codegen.ops.window import patches, scatter

FRACTION = 30  # of the share that an input has in its window


@dataclass(frozen=True)
class Averaging(LayerOp):
    """The kernels; a subclass has the keys and says what its geometry is."""

    def geometry(self, shapes: Shapes) -> Pool:
        raise NotImplementedError

    def sum_type(self, window: int) -> str:
        """The C type of the sum of a window of numbers of 16 bits."""
        return "int32_t" if window <= 1 << 16 else "int64_t"

    def share(self, count: int) -> int:
        """1 / count with 30 fraction bits, rounded."""
        return ((1 << FRACTION) + count // 2) // count

    def products(self, kernel: str, shapes: Shapes) -> Products:
        """A window's sum is at most n times its largest number, and n * share about 2**30."""
        if kernel == "forward":
            return Products(1, ("x",), more=FRACTION + 1)
        return Products(self.geometry(shapes).most_readers, ("dy",), more=FRACTION)

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        return size(shapes["out"])

    def allowance(self, kernel: str, operands: Mapping[str, Q], shapes: Shapes) -> float:
        """A share is off by half a unit, times all numbers that meet it."""
        g = self.geometry(shapes)
        key, terms = ("x", g.rows.kernel * g.columns.kernel)
        if kernel == "grad_x":
            key, terms = "dy", g.most_readers
        operand = operands[key]
        largest = int(np.abs(operand.q).max(initial=0))
        return math.ldexp(0.5 * terms * largest, -operand.f - FRACTION)

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        g = self.geometry(shapes)
        return {"x": g.lag_forward()} if kernel == "forward" else {"dy": g.lag_backward()}

    def forward(self, x: Floats) -> Floats:
        g = self.geometry({"x": x.shape, "out": x.shape})
        y: Floats = self._sums(x) / _counts(g)
        return y.reshape(self.output_shape(x.shape))

    def forward_int(self, x: Q) -> Q:
        g = self.geometry({"x": x.q.shape, "out": x.q.shape})
        acc = self._sums(x.q) * self._shares(g)
        return Q(integers(acc).reshape(self.output_shape(x.q.shape)), x.f + FRACTION)

    def grad_x(self, dy: Floats, *, shape: Shape) -> Floats:
        g = self.geometry({"out": shape})
        return _spread(dy.reshape(g.rows.outputs, g.columns.outputs, -1) / _counts(g), g, shape)

    def grad_x_int(self, dy: Q, *, shape: Shape) -> Q:
        g = self.geometry({"out": shape})
        parts = dy.q.reshape(g.rows.outputs, g.columns.outputs, -1) * self._shares(g)
        return Q(_spread(parts, g, shape), dy.f + FRACTION)

    def _sums(self, x: Array) -> Array:
        g = self.geometry({"x": x.shape, "out": x.shape})
        total: Array = patches(x.reshape(g.grid), g.rows, g.columns).sum(axis=(2, 3))
        return total

    def _shares(self, g: Pool) -> Ints:
        counts = _counts(g)
        return integers([self.share(int(n)) for n in counts.flat]).reshape(counts.shape)


def _counts(g: Pool) -> Ints:
    """Inputs inside each window, (out rows, out columns, 1)."""
    ones = np.ones((g.rows.size, g.columns.size, 1), np.int64)
    return integers(patches(ones, g.rows, g.columns).sum(axis=(2, 3)))


def _spread(parts: Array, g: Pool, shape: Shape) -> Array:
    """Each window's number to all its inputs."""
    taps = np.broadcast_to(
        parts[:, :, None, None],
        (*parts.shape[:2], g.rows.kernel, g.columns.kernel, g.channels),
    )
    return scatter(taps, g.rows, g.columns).reshape(shape)
