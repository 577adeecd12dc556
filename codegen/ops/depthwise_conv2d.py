"""Two-dimensional convolution of each channel by itself."""

from dataclasses import dataclass, replace
from typing import ClassVar

from codegen.ops.base import Extent, LayerOp, Padding, Shape
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

    def with_bias(self) -> LayerOp:
        return replace(self, bias=True)

    def _has_bias(self) -> bool:
        return self.bias
