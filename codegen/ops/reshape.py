"""The same numbers in another shape."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.base import Shape, ShapeError, ViewOp, size


@dataclass(frozen=True)
class Reshape(ViewOp):
    """Key: `shape`, with as many numbers as the input has."""

    kind: ClassVar[str] = "reshape"
    shape: Shape

    def output_shape(self, x: Shape) -> Shape:
        if min(self.shape, default=0) < 1 or size(self.shape) != size(x):
            raise ShapeError(
                f"shape = {list(self.shape)} does not hold the {size(x)} numbers of its input {x}"
            )
        return self.shape
