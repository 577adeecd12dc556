"""What pools share: windows over one or two axes, channel by channel."""

from dataclasses import dataclass

import numpy as np

from codegen.ops.base import Extent, LayerOp, Padding, Shape, Shapes
from codegen.ops.window import ONE, Axis, axes, check_rank, first_reads, lag


@dataclass(frozen=True)
class Pool:
    """All sizes of one pool."""

    rows: Axis
    columns: Axis
    channels: int

    @property
    def grid(self) -> Shape:
        """The input as (rows, columns, channels)."""
        return (self.rows.size, self.columns.size, self.channels)

    @property
    def most_readers(self) -> int:
        return self.rows.most_readers * self.columns.most_readers

    @property
    def is_padded(self) -> bool:
        return self.rows.is_padded or self.columns.is_padded

    def output_shape(self, x: Shape) -> Shape:
        grid = (self.rows.outputs, self.columns.outputs)
        return (*grid[3 - len(x) :], self.channels)

    def lag_forward(self) -> int:
        starts = self.rows.first_inputs(), self.columns.first_inputs()
        channels = np.arange(self.channels)
        return lag(first_reads(*starts, self.columns.size, channels, self.channels))

    def lag_backward(self) -> int:
        starts = self.rows.first_outputs(), self.columns.first_outputs()
        channels = np.arange(self.channels)
        return lag(first_reads(*starts, self.columns.outputs, channels, self.channels))


def pool_geometry(kind: str, x: Shape, kernel: Extent, stride: Extent, padding: Padding) -> Pool:
    """For an input (steps, channels) or (rows, columns, channels); stride () is the kernel."""
    check_rank(kind, x)
    grid = axes(x[:-1], kernel, kernel if stride == () else stride, padding)
    return Pool(grid[0] if len(x) == 3 else ONE, grid[-1], x[-1])


@dataclass(frozen=True)
class WindowedPool(LayerOp):
    """The keys of pools whose windows the user describes."""

    kernel: Extent
    stride: Extent = ()
    padding: Padding = "valid"

    def geometry(self, shapes: Shapes) -> Pool:
        """For a kernel with these operands; grad_x writes what has the shape of x."""
        x = shapes.get("x", shapes["out"])
        return pool_geometry(self.kind, x, self.kernel, self.stride, self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.geometry({"out": inputs[0]}).output_shape(inputs[0])
