"""The mean of each window, channel by channel; padding does not count."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.averaging import Averaging
from codegen.ops.pool import WindowedPool


@dataclass(frozen=True)
class AveragePool(WindowedPool, Averaging):
    """Keys: `kernel`, `stride` (the kernel, if not given), `padding`."""

    kind: ClassVar[str] = "average_pool"
