"""What convolutions share: y[r, c, o] = b[o] + sum over a window and a group of channels of w * x.

Weights are stored [out][kernel rows][kernel columns][in of its group]; a signal has one row.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Array, Floats, Q, accumulated, dot, integers
from codegen.ops.base import (
    COLUMNS,
    FEW_REGISTERS,
    FEW_ROWS,
    ROWS,
    Choice,
    Core,
    Extent,
    LayerOp,
    Padding,
    Parameter,
    Products,
    Shape,
    ShapeError,
    Shapes,
    size,
    sums_at_once,
)
from codegen.ops.channels import over_positions
from codegen.ops.window import (
    ONE,
    Axis,
    Contract,
    axes,
    check_rank,
    first_reads,
    lag,
    patches,
    scatter,
)


@dataclass(frozen=True)
class Geometry:
    """All sizes of one convolution."""

    rows: Axis
    columns: Axis
    channels: int
    filters: int
    groups: int

    @property
    def group_channels(self) -> int:
        return self.channels // self.groups

    @property
    def group_filters(self) -> int:
        return self.filters // self.groups

    @property
    def taps(self) -> int:
        """Weights of one filter."""
        return self.rows.kernel * self.columns.kernel * self.group_channels

    @property
    def positions(self) -> int:
        return self.rows.outputs * self.columns.outputs

    @property
    def is_pointwise(self) -> bool:
        """What a filter reads at a position are the channels of one input position."""
        padded = self.rows.is_padded or self.columns.is_padded
        return self.rows.kernel == self.columns.kernel == 1 and not padded

    @property
    def is_dense_in_columns(self) -> bool:
        """What one kernel row reads lies in one piece."""
        return self.groups == 1 and self.columns.dilation == 1

    @property
    def inputs(self) -> int:
        """Elements of the input."""
        return self.rows.size * self.columns.size * self.channels

    @property
    def pitch(self) -> int:
        """Elements from one filter's errors to the next one's, an even number."""
        return self.positions + self.positions % 2

    @property
    def has_pieces(self) -> bool:
        """Filters see all channels, and what fxp_piece counts has 16 bits."""
        return self.groups == 1 and max(self.positions, self.taps) < 1 << 15

    @property
    def windows(self) -> tuple[int, ...]:
        """As fxp_windows of the runtime."""
        outputs = self.rows.outputs, self.columns.outputs
        row_step = self.rows.stride * self.columns.size * self.channels
        column_step = self.columns.stride * self.channels
        in_order = (self.columns.outputs - 1) * column_step < row_step  # row after row
        may_be_listed = (
            self.channels % 4 == 0 and in_order and self.rows.outputs * row_step <= 1 << 15
        )
        steps = row_step, column_step
        return len(self.pieces), *outputs, *steps, self.filters, self.taps, int(may_be_listed)

    @property
    def pieces(self) -> list[tuple[int, ...]]:
        """Taps that lie in one piece and meet the same outputs, as fxp_piece of the runtime."""
        rows, columns = self.rows.meetings(), self.columns.meetings()
        runs: list[list[int]] = []  # neighbouring columns of a filter
        for j, meeting in enumerate(columns):
            if j > 0 and self.columns.dilation == 1 and columns[j - 1] == meeting:
                runs[-1].append(j)
            else:
                runs.append([j])
        found: list[tuple[int, ...]] = []
        for run in runs:
            for i in range(self.rows.kernel):
                row = i * self.rows.dilation - self.rows.before
                column = run[0] * self.columns.dilation - self.columns.before
                place = (row * self.columns.size + column) * self.channels
                tap = (i * self.columns.kernel + run[0]) * self.channels
                found.append((place, tap, len(run) * self.channels, *rows[i], *columns[run[0]]))
        return found

    @property
    def turns_errors(self) -> bool:
        """Gradients of weights may come from copies in which a filter's errors at all positions
        are neighbours: these are not larger than errors and input.
        """
        copies = (ROWS + 1) * self.pitch + 2 * ROWS * self.taps
        return self.has_pieces and copies <= self.inputs + self.positions * self.filters

    @property
    def turns_weights(self) -> bool:
        """Backward may work on a copy of the weights in which those that an input meets are
        neighbours: it is not larger than the input.
        """
        return self.is_undilated and self.filters * self.taps <= self.inputs

    def gains_by_turned_errors(self, core: Core) -> bool:
        """Rows are faster with two lanes; with many where channels do not fill them; with one where
        registers are too few for many sums, or where columns would sum more in vain than is copied,
        at two products an element.
        """
        if core.lanes > 1:
            return core.lanes == 2 or self.channels < core.lanes
        if core.registers <= FEW_REGISTERS:
            return self.filters >= FEW_ROWS
        in_vain = self.filters * (self.taps // self.channels) * (-self.channels % COLUMNS)
        copied = self.taps * -(-self.filters // ROWS) + self.filters
        return in_vain > 2 * copied

    def gains_by_turned_weights(self, core: Core) -> bool:
        """The same; with one lane where few filters leave a call little to sum, and where windows
        skip no inputs.
        """
        strides = [(axis.stride, axis.kernel) for axis in (self.rows, self.columns)]
        if core.lanes > 1:
            return all(stride <= kernel for stride, kernel in strides)
        if core.registers <= FEW_REGISTERS:
            return True
        return self.filters <= 2 * ROWS and all(stride == 1 for stride, _ in strides)

    @property
    def is_undilated(self) -> bool:
        return self.groups == self.rows.dilation == self.columns.dilation == 1


@dataclass(frozen=True)
class Convolution(LayerOp):
    """The kernels; a subclass has the keys and says what its geometry is."""

    ranks: ClassVar[tuple[int, ...]]  # how many axes its input may have

    def _geometry(self, x: Shape) -> Geometry:
        raise NotImplementedError

    def _has_bias(self) -> bool:
        raise NotImplementedError

    def geometry(self, shapes: Shapes) -> Geometry:
        """For a kernel with these operands; grad_x writes what has the shape of x."""
        return self._of(shapes.get("x", shapes["out"]))

    def _of(self, x: Shape) -> Geometry:
        check_rank(self.kind, x, self.ranks)
        g = self._geometry(x)
        if g.filters < 1:
            raise ShapeError(f"{self.kind} has {g.filters} filters: at least 1 is needed")
        if g.groups < 1 or g.channels % g.groups or g.filters % g.groups:
            raise ShapeError(
                f"groups = {g.groups} divides not both, {g.channels} channels and {g.filters} "
                "filters; choose a common divisor"
            )
        return g

    def output_shape(self, *inputs: Shape) -> Shape:
        (x,) = inputs
        g = self._of(x)
        grid = (g.rows.outputs, g.columns.outputs)
        return (*grid[3 - len(x) :], g.filters)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        (x,) = inputs
        g = self._of(x)
        shape = (g.filters, g.rows.kernel, g.columns.kernel, g.group_channels)
        fans = {"fan_in": g.taps, "fan_out": g.taps // g.group_channels * g.group_filters}
        weight, bias = Parameter(shape, "weight", **fans), Parameter((g.filters,), "bias", **fans)
        return {"w": weight, "b": bias} if self._has_bias() else {"w": weight}

    def products(self, kernel: str, shapes: Shapes) -> Products:
        if kernel == "grad_b":
            return Products(size(shapes["dy"]) // size(shapes["out"]), ("dy",))
        g = self.geometry(shapes)
        readers = g.rows.most_readers * g.columns.most_readers
        return {
            "forward": Products(g.taps, ("w", "x")),
            "grad_x": Products(readers * g.group_filters, ("w", "dy")),
            "grad_w": Products(g.positions, ("dy", "x")),
        }[kernel]

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        if kernel == "grad_b":
            return 0
        g = self.geometry(shapes)
        return g.positions * g.filters * g.taps

    def choices(self, kernel: str, shapes: Shapes) -> Mapping[str, tuple[Choice, ...]]:
        """Backward walks down columns or along rows of copies, first those if they are faster and
        small, or memory has room for them anyway.
        """
        knobs = dict(super().choices(kernel, shapes))
        if kernel == "grad_b":
            return knobs
        g = self.geometry(shapes)
        if kernel == "forward" and g.is_dense_in_columns and self._has_bias():
            knobs["sums"] = sums_at_once(g.filters)
        if kernel == "grad_x" and g.is_undilated:
            gains = g.gains_by_turned_weights(self.core)
            knobs["walk"] = _walks((g.turns_weights or self.has_room) and gains)
        if kernel == "grad_w" and g.has_pieces:
            gains = g.gains_by_turned_errors(self.core)
            knobs["walk"] = _walks((g.turns_errors or self.has_room) and gains)
        return knobs

    def walks_rows(self, kernel: str, shapes: Shapes) -> bool:
        """Whether backward works on copies."""
        knobs = self.choices(kernel, shapes)
        return "walk" in knobs and self.chosen(kernel, shapes, "walk") == "rows"

    def scratch_size(self, kernel: str, shapes: Shapes) -> int:
        """In one piece: what a filter reads at a position, the errors of a filter, or the weights
        that an input meets, and their errors.
        """
        if kernel == "grad_b":
            return 0
        g = self.geometry(shapes)
        if kernel == "forward":
            return g.taps if g.is_dense_in_columns and not g.is_pointwise else 0
        if kernel == "grad_w" and self.walks_rows(kernel, shapes):
            return (ROWS + 1) * g.pitch
        if kernel == "grad_w":
            return g.positions if g.groups == 1 else 0
        readers = g.rows.most_readers * g.columns.most_readers
        return (g.taps + readers) * g.filters if self.walks_rows(kernel, shapes) else 0

    def scratch_like(self, kernel: str, shapes: Shapes) -> tuple[str, ...]:
        """What meets wider weights is widened once, not for every filter."""
        if kernel == "grad_w" and not self.walks_rows(kernel, shapes):
            return ("dy",)
        return {"forward": ("x", "w"), "grad_w": ("dy", "w"), "grad_x": ("w", "dy")}.get(kernel, ())

    def tile_size(self, kernel: str, shapes: Shapes) -> int:
        """The gradients of some filters, which are computed together."""
        tiled = kernel == "grad_w" and self.walks_rows(kernel, shapes)
        return ROWS * self.geometry(shapes).taps if tiled else 0

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        if kernel not in ("forward", "grad_x"):
            return {}
        g = self.geometry(shapes)
        if kernel == "forward":
            group = np.arange(g.filters) // g.group_filters
            starts = g.rows.first_inputs(), g.columns.first_inputs()
            first = first_reads(*starts, g.columns.size, group * g.group_channels, g.channels)
            return {"x": lag(first)}
        group = np.arange(g.channels) // g.group_channels
        starts = g.rows.first_outputs(), g.columns.first_outputs()
        first = first_reads(*starts, g.columns.outputs, group * g.group_filters, g.filters)
        return {"dy": lag(first)}

    # kernels: floats and integers differ in how they contract

    def forward(self, x: Floats, w: Floats, b: Floats | None = None) -> Floats:
        y = self._forward(x, w, _contract)
        return y if b is None else y + b

    def forward_int(self, x: Q, w: Q, b: Q | None = None, shift: int | None = None) -> Q:
        return accumulated(Q(self._forward(x.q, w.q, dot), w.f + x.f), b, shift)

    def grad_x(self, dy: Floats, w: Floats, *, shape: Shape) -> Floats:
        return self._grad_x(dy, w, shape, _contract)

    def grad_x_int(self, dy: Q, w: Q, shift: int | None = None, *, shape: Shape) -> Q:
        return accumulated(Q(self._grad_x(dy.q, w.q, shape, dot), w.f + dy.f), shift=shift)

    def grad_w(self, dy: Floats, x: Floats) -> Floats:
        return self._grad_w(dy, x, _contract)

    def grad_w_int(self, dy: Q, x: Q) -> Q:
        return Q(self._grad_w(dy.q, x.q, dot), dy.f + x.f)

    def grad_b(self, dy: Floats) -> Floats:
        return over_positions(dy)

    def grad_b_int(self, dy: Q) -> Q:
        return Q(integers(over_positions(dy.q)), dy.f)

    def _forward(self, x: Array, w: Array, contract: Contract) -> Array:
        g = self._of(x.shape)
        y = contract(_windows(x, g), _by_group(w, g))  # (groups, positions, filters of a group)
        return y.transpose(1, 0, 2).reshape(self.output_shape(x.shape))

    def _grad_x(self, dy: Array, w: Array, shape: Shape, contract: Contract) -> Array:
        g = self._of(shape)
        error = dy.reshape(g.positions, g.groups, g.group_filters).transpose(1, 0, 2)
        parts = contract(error, _by_group(w, g).transpose(0, 2, 1))  # (groups, positions, taps)
        grid = (g.rows.outputs, g.columns.outputs, g.rows.kernel, g.columns.kernel)
        parts = parts.reshape(g.groups, *grid, g.group_channels).transpose(1, 2, 3, 4, 0, 5)
        return scatter(parts.reshape(*grid, g.channels), g.rows, g.columns).reshape(shape)

    def _grad_w(self, dy: Array, x: Array, contract: Contract) -> Array:
        g = self._of(x.shape)
        error = dy.reshape(g.positions, g.groups, g.group_filters).transpose(1, 2, 0)
        dw = contract(error, _windows(x, g).transpose(0, 2, 1))  # (groups, filters, taps)
        return dw.reshape(g.filters, g.rows.kernel, g.columns.kernel, g.group_channels)


@dataclass(frozen=True)
class FilterConvolution(Convolution):
    """Each filter sees all channels of its group."""

    filters: int
    kernel: Extent
    stride: Extent = 1
    padding: Padding = "valid"
    dilation: Extent = 1
    groups: int = 1
    bias: bool = True

    def _geometry(self, x: Shape) -> Geometry:
        grid = axes(x[:-1], self.kernel, self.stride, self.padding, self.dilation)
        rows = grid[0] if len(x) == 3 else ONE
        return Geometry(rows, grid[-1], x[-1], self.filters, self.groups)

    def with_bias(self) -> LayerOp:
        return replace(self, bias=True)

    def split(self, channels: int) -> tuple[LayerOp, LayerOp]:
        if self.groups > 1:
            raise ShapeError("update_channels needs groups = 1; remove one of them")
        return replace(self, filters=channels), replace(self, filters=self.filters - channels)

    def _has_bias(self) -> bool:
        return self.bias


def _walks(by_rows: bool) -> tuple[Choice, ...]:
    return ("rows", "columns") if by_rows else ("columns", "rows")


def _contract(a: Floats, b: Floats) -> Floats:
    product: Floats = a @ np.swapaxes(b, -1, -2)
    return product


def _windows(x: Array, g: Geometry) -> Array:
    """(groups, positions, taps of a filter)"""
    grid = patches(x.reshape(g.rows.size, g.columns.size, g.channels), g.rows, g.columns)
    split = grid.reshape(g.positions, -1, g.groups, g.group_channels)
    return split.transpose(2, 0, 1, 3).reshape(g.groups, g.positions, g.taps)


def _by_group(w: Array, g: Geometry) -> Array:
    """(groups, filters of a group, taps of a filter)"""
    return w.reshape(g.groups, g.group_filters, g.taps)
