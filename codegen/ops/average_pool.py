"""The mean of each window, channel by channel; padding does not count."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.averaging import Averaging
from codegen.ops.base import Extent, Padding, Shape, Shapes
from codegen.ops.pool import Pool, pool_geometry


@dataclass(frozen=True)
class AveragePool(Averaging):
    """Keys: `kernel`, `stride` (the kernel, if not given), `padding`."""

    kind: ClassVar[str] = "average_pool"
    kernel: Extent
    stride: Extent = ()
    padding: Padding = "valid"

    def geometry(self, shapes: Shapes) -> Pool:
        x = shapes.get("x", shapes["out"])
        return pool_geometry(self.kind, x, self.kernel, self.stride, self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        return self.geometry({"out": inputs[0]}).output_shape(inputs[0])
