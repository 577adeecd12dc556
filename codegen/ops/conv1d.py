"""One-dimensional convolution of (steps, channels)."""

from dataclasses import dataclass, replace
from typing import ClassVar

from codegen.ops.base import Extent, LayerOp, Padding, Shape, ShapeError
from codegen.ops.convolution import Convolution, Geometry
from codegen.ops.window import ONE, axes


@dataclass(frozen=True)
class Conv1d(Convolution):
    """Keys: `filters`, `kernel`, `stride`, `padding`, `dilation`, `groups`, `bias`."""

    kind: ClassVar[str] = "conv1d"
    ranks: ClassVar[tuple[int, ...]] = (2,)
    filters: int
    kernel: Extent
    stride: Extent = 1
    padding: Padding = "valid"
    dilation: Extent = 1
    groups: int = 1
    bias: bool = True

    def _geometry(self, x: Shape) -> Geometry:
        (steps,) = axes(x[:1], self.kernel, self.stride, self.padding, self.dilation)
        return Geometry(ONE, steps, x[1], self.filters, self.groups)

    def with_bias(self) -> LayerOp:
        return replace(self, bias=True)

    def split(self, channels: int) -> tuple[LayerOp, LayerOp]:
        if self.groups > 1:
            raise ShapeError("update_channels needs groups = 1; remove one of them")
        return replace(self, filters=channels), replace(self, filters=self.filters - channels)

    def _has_bias(self) -> bool:
        return self.bias
