"""A learning rate that rises from nearly 0 in a straight line, then stays."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.base import ScheduleOp, ShapeError


@dataclass(frozen=True)
class WarmUp(ScheduleOp):
    """Key: `samples` until the rate is reached."""

    kind: ClassVar[str] = "warm_up"
    samples: int

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ShapeError(f"samples = {self.samples}: at least 1 is needed")

    def factor(self, step: int) -> float:
        return min(1.0, (step + 1) / self.samples)

    def factor_int(self, step: int) -> int:
        return self.ONE if step >= self.samples else self.ONE * (step + 1) // self.samples
