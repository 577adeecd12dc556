"""One-dimensional convolution of (steps, channels)."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.convolution import FilterConvolution


@dataclass(frozen=True)
class Conv1d(FilterConvolution):
    """Keys: `filters`, `kernel`, `stride`, `padding`, `dilation`, `groups`, `bias`."""

    kind: ClassVar[str] = "conv1d"
    ranks: ClassVar[tuple[int, ...]] = (2,)
