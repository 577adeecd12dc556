"""The largest number of each window, channel by channel; padding is never the largest."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Array, Floats, Q, integers
from codegen.ops.base import Products, Shapes, size
from codegen.ops.pool import WindowedPool
from codegen.ops.window import patches, scatter

_LOWEST = -(1 << 40)  # below every number


@dataclass(frozen=True)
class MaxPool(WindowedPool):
    """Keys: `kernel`, `stride` (the kernel, if not given), `padding`."""

    kind: ClassVar[str] = "max_pool"

    def takes_numbers(self, kernel: str) -> bool:
        return True

    def products(self, kernel: str, shapes: Shapes) -> Products:
        if kernel == "forward":
            return Products(1, ("x",))
        return Products(self.geometry(shapes).most_readers, ("dy",))

    def exponents(self, kernel: str) -> tuple[str, ...]:
        return ("x",) if kernel == "forward" else ("dy",)

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        g = self.geometry(shapes)
        return {"x": g.lag_forward()} if kernel == "forward" else {"dy": g.lag_backward(), "x": 0}

    def reads_first(self, kernel: str) -> tuple[str, ...]:
        return ("x",) if kernel == "grad_x" else ()

    def scratch_size(self, kernel: str, shapes: Shapes) -> int:
        """The place of the first largest number of each window, in bytes of its words."""
        return -(-size(shapes["dy"]) * self.place_bytes(shapes) // 4) if kernel == "grad_x" else 0

    def place_bytes(self, shapes: Shapes) -> int:
        g = self.geometry(shapes)
        return 1 if g.rows.kernel * g.columns.kernel <= 256 else 2

    def forward(self, x: Floats) -> Floats:
        y: Floats = self._windows(x).max(axis=2)
        return y.reshape(self.output_shape(x.shape))

    def forward_int(self, x: Q) -> Q:
        y = integers(self._windows(x.q).max(axis=2))
        return Q(y.reshape(self.output_shape(x.q.shape)), x.f)

    def grad_x(self, dy: Floats, x: Floats) -> Floats:
        return self._to_the_first_largest(dy, x)

    def grad_x_int(self, dy: Q, x: Q) -> Q:
        return Q(self._to_the_first_largest(dy.q, x.q), dy.f)

    def _windows(self, x: Array) -> Array:
        """(out rows, out columns, places in a window, channels)"""
        g = self.geometry({"x": x.shape, "out": x.shape})
        grid = patches(x.reshape(g.grid), g.rows, g.columns, _LOWEST)
        return grid.reshape(*grid.shape[:2], -1, g.channels)

    def _to_the_first_largest(self, dy: Array, x: Array) -> Array:
        g = self.geometry({"x": x.shape, "out": x.shape})
        windows = self._windows(x)
        parts = np.zeros_like(windows, dtype=dy.dtype)
        largest = windows.argmax(axis=2)[:, :, None]
        np.put_along_axis(parts, largest, dy.reshape(windows[:, :, :1].shape), axis=2)
        taps = (g.rows.outputs, g.columns.outputs, g.rows.kernel, g.columns.kernel, g.channels)
        return scatter(parts.reshape(taps), g.rows, g.columns).reshape(x.shape)
