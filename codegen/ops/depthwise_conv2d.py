"""Two-dimensional convolution of each channel by itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from codegen.ops.base import ROWS, Choice, Extent, LayerOp, Padding, Shape, Shapes
from codegen.ops.convolution import Convolution, Geometry
from codegen.ops.window import axes


@dataclass(frozen=True)
class DepthwiseConv2d(Convolution):
    """Keys: `kernel`, `multiplier` (filters a channel), `stride`, `padding`, `dilation`, `bias`."""

    kind: ClassVar[str] = "depthwise_conv2d"
    ranks: ClassVar[tuple[int, ...]] = (3,)
    kernel: Extent
    multiplier: int = 1
    stride: Extent = 1
    padding: Padding = "valid"
    dilation: Extent = 1
    bias: bool = True

    def _geometry(self, x: Shape) -> Geometry:
        grid = axes(x[:2], self.kernel, self.stride, self.padding, self.dilation)
        return Geometry(grid[0], grid[1], x[2], x[2] * self.multiplier, x[2])

    def choices(self, kernel: str, shapes: Shapes) -> Mapping[str, tuple[Choice, ...]]:
        """Sums are taken channel by channel from a copy of the weights in which those of a tap are
        neighbours, if it is not larger than the input; or one after the other, which only cores of
        two lanes are slower at in forward.
        """
        knobs = dict(super().choices(kernel, shapes))
        if self._can_turn(kernel, shapes):
            g = self.geometry(shapes)
            gains = kernel == "grad_x" or self.core.lanes == 2
            is_small = g.channels * g.taps <= g.inputs
            turns = gains and (is_small or self.has_room)
            knobs["walk"] = ("channels", "taps") if turns else ("taps", "channels")
        return knobs

    def _can_turn(self, kernel: str, shapes: Shapes) -> bool:
        if kernel not in ("forward", "grad_x") or not self._has_pairs(shapes):
            return False
        g = self.geometry(shapes)
        return kernel == "forward" or g.rows.dilation == g.columns.dilation == 1

    def _has_pairs(self, shapes: Shapes) -> bool:
        """One filter to each of several channels."""
        g = self.geometry(shapes)
        return g.groups == g.filters > 1 and g.group_channels == 1

    def walks_channels(self, kernel: str, shapes: Shapes) -> bool:
        """Whether neighbouring channels are summed at once."""
        if kernel == "grad_w":
            return self._has_pairs(shapes)
        turns = self._can_turn(kernel, shapes)
        return turns and self.chosen(kernel, shapes, "walk") == "channels"

    def scratch_size(self, kernel: str, shapes: Shapes) -> int:
        if kernel in ("forward", "grad_x") and self.walks_channels(kernel, shapes):
            g = self.geometry(shapes)
            return g.channels * g.taps
        return super().scratch_size(kernel, shapes)

    def tile_size(self, kernel: str, shapes: Shapes) -> int:
        if kernel == "grad_w" and self.walks_channels(kernel, shapes):
            return ROWS * self.geometry(shapes).taps
        return super().tile_size(kernel, shapes)

    def with_bias(self) -> LayerOp:
        return replace(self, bias=True)

    def _has_bias(self) -> bool:
        return self.bias
