"""Scores -> probabilities, exp(x) over the sum of all: what inference gives, and no loss sees."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import Floats, Q
from codegen.ops import probabilities
from codegen.ops.base import AnswerOp, Products, Shape, Shapes, size
from codegen.ops.exponential import EXP2_TABLE


@dataclass(frozen=True)
class Softmax(AnswerOp):
    """No keys."""

    kind: ClassVar[str] = "softmax"
    loss: ClassVar[str] = "softmax_cross_entropy"

    def output_shape(self, *inputs: Shape) -> Shape:
        return inputs[0]

    def output_fraction(self, bits: int) -> int:
        return bits - 1

    def products(self, kernel: str, shapes: Shapes) -> Products:
        """A share of 1."""
        return Products(1, (), probabilities.FRACTION)

    def scratch_size(self, kernel: str, shapes: Shapes) -> int:
        return size(shapes["x"])

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        return {"exp2_table": EXP2_TABLE}

    def allowance(self, kernel: str, operands: Mapping[str, Q], shapes: Shapes) -> float:
        return probabilities.share_error(size(shapes["x"]))

    def fraction(self, outputs: int) -> int:
        """Fraction bits of a power."""
        return probabilities.power_fraction(outputs)

    def scores(self, answers: Floats) -> Floats:
        """Logarithms; a probability of 0 counts as half a unit of the 15 bits."""
        logarithms: Floats = np.log(np.maximum(answers, 2.0**-16))
        return logarithms

    def forward(self, x: Floats) -> Floats:
        powers = np.exp(x - x.max())
        shares: Floats = powers / powers.sum()
        return shares

    def forward_int(self, x: Q) -> Q:
        powers = probabilities.powers(probabilities.exponents(x))
        return Q(probabilities.shares(powers), probabilities.FRACTION)
