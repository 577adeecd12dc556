"""Two-dimensional convolution of (rows, columns, channels)."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.convolution import FilterConvolution


@dataclass(frozen=True)
class Conv2d(FilterConvolution):
    """Keys: `filters`, `kernel`, `stride`, `padding`, `dilation`, `groups`, `bias`."""

    kind: ClassVar[str] = "conv2d"
    ranks: ClassVar[tuple[int, ...]] = (3,)
