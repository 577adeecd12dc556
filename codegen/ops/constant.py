"""A learning rate that stays as it is."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.base import ScheduleOp


@dataclass(frozen=True)
class Constant(ScheduleOp):
    """No keys."""

    kind: ClassVar[str] = "constant"

    def factor(self, step: int) -> float:
        return 1.0

    def factor_int(self, step: int) -> int:
        return self.ONE
