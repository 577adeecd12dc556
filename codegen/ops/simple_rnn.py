"""h[t] = tanh(W x[t] + b + U h[t-1]) over a fixed number of steps, h[-1] = 0."""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.base import LayerOp
from codegen.ops.recurrence import RecurrentLayer
from codegen.ops.simple_rnn_cell import SimpleRnnCell


@dataclass(frozen=True)
class SimpleRnn(RecurrentLayer):
    """Keys: `units`, `sequence` (h of every step; else of the last one)."""

    kind: ClassVar[str] = "simple_rnn"
    gates: ClassVar[int] = 1

    def cell(self) -> LayerOp:
        return SimpleRnnCell(self.sequence)
