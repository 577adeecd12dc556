"""Windows that slide over one or two axes: what convolutions and pools share."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codegen.fixedpoint import Array, Ints, integers
from codegen.ops.base import Extent, Padding, Shape, ShapeError

NEVER = np.iinfo(np.int64).max  # index of the first read of an element that reads nothing


@dataclass(frozen=True)
class Axis:
    """One axis: output position o reads the inputs o * stride - before + i * dilation."""

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def reach(self) -> int:
        """Inputs from the first to the last that one position reads."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def outputs(self) -> int:
        return (self.size + self.before + self.after - self.reach) // self.stride + 1

    @property
    def is_padded(self) -> bool:
        return self.before > 0 or self.after > 0

    @property
    def most_readers(self) -> int:
        """Most output positions that read one input."""
        steps = [i * self.dilation % self.stride for i in range(self.kernel)]
        return max(steps.count(step) for step in steps)

    def meetings(self) -> list[tuple[int, int]]:
        """For each position of the kernel the outputs a <= o < b that read inside with it."""
        first = np.arange(self.kernel) * self.dilation - self.before
        reads = first[:, None] + np.arange(self.outputs) * self.stride
        inside = [np.flatnonzero((row >= 0) & (row < self.size)) for row in reads]
        return [(int(o[0]), int(o[-1]) + 1) if o.size else (0, 0) for o in inside]

    def first_inputs(self) -> Ints:
        """For each output position the first input that it reads, (outputs,)."""
        start = np.arange(self.outputs) * self.stride - self.before
        skipped = np.maximum(0, -(start // self.dilation))
        return integers(start + skipped * self.dilation)

    def first_outputs(self) -> Ints:
        """For each input the first output position that reads it, or NEVER; (size,)."""
        first = np.full(self.size, NEVER)
        for o in reversed(range(self.outputs)):
            reads = o * self.stride - self.before + np.arange(self.kernel) * self.dilation
            first[reads[(reads >= 0) & (reads < self.size)]] = o
        return first


ONE = Axis(1, 1)  # the rows of a signal

_AXES = {2: "(steps, channels)", 3: "(rows, columns, channels)"}  # by rank


def check_rank(kind: str, x: Shape, ranks: tuple[int, ...] = (2, 3)) -> None:
    """ShapeError where the input has not as many axes as the op has windows for."""
    if len(x) not in ranks:
        wanted = " or ".join(_AXES[rank] for rank in ranks)
        raise ShapeError(f"{kind} needs {wanted}, its input is {x}; put a reshape before it")


def axes(
    shape: Shape, kernel: Extent, stride: Extent, padding: Padding, dilation: Extent = 1
) -> tuple[Axis, ...]:
    """The axes of an input of `shape` (without channels), as the keys of an op describe them."""
    n = len(shape)
    kernels, strides = _each("kernel", kernel, n), _each("stride", stride, n)
    dilations = _each("dilation", dilation, n)
    sides = _sides(padding, n)
    result = []
    for i, extent in enumerate(shape):
        axis = Axis(extent, kernels[i], strides[i], dilations[i])
        before, after = sides[i] if sides else _same(axis) if padding == "same" else (0, 0)
        result.append(Axis(extent, kernels[i], strides[i], dilations[i], before, after))
    _check(result)
    return tuple(result)


def _each(key: str, value: Extent, count: int) -> tuple[int, ...]:
    values = (value,) * count if isinstance(value, int) else tuple(value)
    if len(values) != count or min(values) < 1:
        numbers = "a number" if count == 1 else f"a number or {count} numbers"
        raise ShapeError(f"{key} = {_shown(value)}: it must be {numbers} of at least 1")
    return values


def _sides(padding: Padding, count: int) -> list[tuple[int, int]]:
    """Explicit padding as (before, after) of each axis; none for "same" and "valid"."""
    if padding in ("same", "valid"):
        return []
    return explicit_sides(padding, count, "'same', 'valid', ")


def explicit_sides(padding: Padding, count: int, also: str = "") -> list[tuple[int, int]]:
    """Padding in numbers as (before, after) of each axis; `also` says what else it may be."""
    values = (padding,) if isinstance(padding, int) else padding
    if isinstance(values, str) or len(values) not in {1, count, 2 * count} or min(values) < 0:
        lengths = "2 numbers (before, after)" if count == 1 else "4 (top, bottom, left, right)"
        raise ShapeError(
            f"padding = {_shown(padding)}: it must be {also}a number for every side, or {lengths}, "
            "none of them below 0"
        )
    if len(values) == 2 * count:
        return [(values[2 * i], values[2 * i + 1]) for i in range(count)]
    return [(values[i % len(values)],) * 2 for i in range(count)]


def _same(axis: Axis) -> tuple[int, int]:
    """As many outputs as strides fit into the input; an odd one of padding goes after."""
    outputs = -(-axis.size // axis.stride)
    total = max(0, (outputs - 1) * axis.stride + axis.reach - axis.size)
    return total // 2, total - total // 2


def _check(result: list[Axis]) -> None:
    sizes = " x ".join(str(a.size + a.before + a.after) for a in result)
    reaches = " x ".join(str(a.reach) for a in result)
    if any(a.reach > a.size + a.before + a.after for a in result):
        dilated = " (dilated)" if any(a.dilation > 1 for a in result) else ""
        raise ShapeError(f"a {reaches} kernel{dilated} does not fit in {sizes}; take a smaller one")
    if any(a.before >= a.reach or a.after >= a.reach for a in result):
        raise ShapeError(f"the padding is not smaller than the {reaches} kernel; pad less")


def _shown(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else repr(value)


def padded(x: Array, rows: Axis, columns: Axis, fill: int = 0) -> Array:
    """(rows, columns, channels) with `fill` around."""
    sides = ((rows.before, rows.after), (columns.before, columns.after), (0, 0))
    return np.pad(x, sides, constant_values=fill)


def patches(x: Array, rows: Axis, columns: Axis, fill: int = 0) -> Array:
    """What each output position reads: (out rows, out columns, kernel rows, columns, channels)."""
    p = np.ascontiguousarray(padded(x, rows, columns, fill))
    a, b, c = p.strides
    return np.lib.stride_tricks.as_strided(
        p,
        (rows.outputs, columns.outputs, rows.kernel, columns.kernel, x.shape[-1]),
        (a * rows.stride, b * columns.stride, a * rows.dilation, b * columns.dilation, c),
        writeable=False,
    )


def scatter(parts: Array, rows: Axis, columns: Axis) -> Array:
    """The transpose of `patches`: what each input is given by all positions that read it."""
    channels = parts.shape[-1]
    shape = (rows.size + rows.before + rows.after, columns.size + columns.before + columns.after)
    total = np.zeros((*shape, channels), parts.dtype)
    for i in range(rows.kernel):
        for j in range(columns.kernel):
            total[_reach(rows, i), _reach(columns, j)] += parts[:, :, i, j]
    row_end, column_end = rows.before + rows.size, columns.before + columns.size
    return total[rows.before : row_end, columns.before : column_end]


def _reach(axis: Axis, tap: int) -> slice:
    first = tap * axis.dilation
    return slice(first, first + (axis.outputs - 1) * axis.stride + 1, axis.stride)


def lag(first_reads: Ints) -> int:
    """How many elements before its operand an output must begin to be written over it.

    `first_reads`: for each output element, in order, the least operand index that it reads.
    """
    flat = first_reads.reshape(-1)
    later = np.minimum.accumulate(flat[::-1])[::-1][1:]  # after an element is written
    needed = np.arange(1, flat.size)[later != NEVER] - later[later != NEVER]
    return int(max(0, needed.max(initial=0)))


def first_reads(rows: Ints, columns: Ints, width: int, channels: Ints, step: int) -> Ints:
    """Least index that each element of (rows, columns, channels) reads of an operand.

    rows, columns: its first row and column for each one of ours, or never; `width` columns of
    `step` channels; `channels`: the first channel for each one of ours.
    """
    never = (rows[:, None] == NEVER) | (columns[None, :] == NEVER)
    pixel = np.where(rows == NEVER, 0, rows)[:, None] * width + np.where(never, 0, columns)
    return integers(np.where(never[:, :, None], NEVER, pixel[:, :, None] * step + channels))


Contract = Callable[[Array, Array], Array]  # (g, p, n), (g, m, n) -> (g, p, m)
