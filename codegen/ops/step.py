"""A learning rate that is multiplied by the same factor again and again."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.base import ScheduleOp, ShapeError

_MOST = 64  # multiplications; what is left of the rate then is less than one unit, or very slow


@dataclass(frozen=True)
class Step(ScheduleOp):
    """Keys: every `samples` samples the rate is multiplied `by` a factor, at most 64 times."""

    kind: ClassVar[str] = "step"
    samples: int
    by: float = 0.1

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ShapeError(f"samples = {self.samples}: at least 1 is needed")
        if not 0 <= self.by <= 1:
            raise ShapeError(f"by = {self.by}: it must be from 0 to 1")

    @property
    def by_q(self) -> int:
        """The factor with 16 fraction bits, in both systems."""
        return round(self.by * self.ONE)

    @property
    def most(self) -> int:
        return _MOST

    def factor(self, step: int) -> float:
        return float((self.by_q / self.ONE) ** min(step // self.samples, _MOST))

    def factor_int(self, step: int) -> int:
        factor = self.ONE
        for _ in range(min(step // self.samples, _MOST)):
            factor = (factor * self.by_q + self.ONE // 2) >> 16
        return factor
