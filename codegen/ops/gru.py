"""A gated recurrent unit over a fixed number of steps, as in cuDNN, PyTorch and Keras.

z = sigmoid(Wz x + bz + Uz h'), r = sigmoid(Wr x + br + Ur h'), where h' is h[t-1], h[-1] = 0;
n = tanh(Wn x + bn + r * (Un h' + c)); h = (1 - z) * n + z * h'. (Keras: reset_after = true. Of the
two biases that the others have for z and r only the sum matters.)
"""

from dataclasses import dataclass
from typing import ClassVar

from codegen.ops.base import LayerOp
from codegen.ops.gru_cell import GruCell
from codegen.ops.recurrence import RecurrentLayer


@dataclass(frozen=True)
class Gru(RecurrentLayer):
    """Keys: `units`, `sequence` (h of every step; else of the last one)."""

    kind: ClassVar[str] = "gru"
    gates: ClassVar[int] = 3

    def cell(self) -> LayerOp:
        return GruCell(self.sequence)
