"""A learning rate that falls to 0 along half a cosine: rate * (1 + cos(pi * t / T)) / 2."""

import math
from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.base import ScheduleOp, ShapeError

_STEP_BITS = 10  # of a phase with 16 bits: entries are 1/64 apart
COSINE_TABLE = tuple(round((1 + math.cos(math.pi * i / 64)) * 2**15) for i in range(65))
# Interpolation costs h^2 / 8 * pi^2 / 2; the phase, an entry and the result are rounded.
COSINE_ERROR = 2**-12 / 8 * math.pi**2 / 2 + math.pi / 2 * 2**-16 + 2 * 2**-16


@dataclass(frozen=True)
class Cosine(ScheduleOp):
    """Key: `samples` until the rate is 0."""

    kind: ClassVar[str] = "cosine"
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ShapeError(f"samples = {self.samples}: at least 1 is needed")

    def tables(self) -> dict[str, tuple[int, ...]]:
        return {"cosine_table": COSINE_TABLE}

    def factor(self, step: int) -> float:
        return (1 + math.cos(math.pi * min(step / self.samples, 1))) / 2

    def factor_int(self, step: int) -> int:
        if step >= self.samples:
            return 0
        phase = (step << 16) // self.samples
        index, rest = phase >> _STEP_BITS, phase & ((1 << _STEP_BITS) - 1)
        fall = COSINE_TABLE[index] - COSINE_TABLE[index + 1]
        return COSINE_TABLE[index] - ((fall * rest + (1 << (_STEP_BITS - 1))) >> _STEP_BITS)
