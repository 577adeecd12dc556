"""The mean of each channel, as a vector."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.averaging import Averaging
from codegen.ops.base import Shape, Shapes
from codegen.ops.pool import Pool, pool_geometry


@dataclass(frozen=True)
class GlobalAveragePool(Averaging):
    """No keys."""

    kind: ClassVar[str] = "global_average_pool"

    def geometry(self, shapes: Shapes) -> Pool:
        x = shapes.get("x", shapes["out"])
        return pool_geometry(self.kind, x, x[:-1] or 1, (), "valid")

    def output_shape(self, *inputs: Shape) -> Shape:
        return (self.geometry({"out": inputs[0]}).channels,)
