"""What recurrent ops share: arguments of their curves, and errors that go back through time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codegen.fixedpoint import MIN_FRACTION, Array, Floats, Ints, Q, dot, integers, narrow, rescale
from codegen.ops.base import ChainOp, LayerOp, Shape, ShapeError
from codegen.ops.conv1d import Conv1d
from codegen.ops.hidden import Hidden

ARGUMENT_FRACTION = 22  # of what goes into a curve
ERROR_ROOM = 8  # fraction bits of an error on its way back, beyond those of dy
CARRIED_BITS = 32
ANY_ERROR = 2.0**100  # of what saturated, which is set apart


@dataclass(frozen=True)
class RecurrentLayer(ChainOp):
    """W x for all steps at once, the recurrence itself, and the hidden state that is wanted."""

    gates: ClassVar[int]
    units: int
    sequence: bool = False

    def cell(self) -> LayerOp:
        raise NotImplementedError

    def links(self, *inputs: Shape) -> dict[str, LayerOp]:
        (x,) = inputs
        if len(x) != 2:
            raise ShapeError(
                f"{self.kind} needs (steps, channels), its input is {x}; put a reshape before it"
            )
        if self.units < 1:
            raise ShapeError(f"units = {self.units}: at least 1 is needed")
        first, cell = {"_input": Conv1d(self.gates * self.units, 1)}, self.cell()
        hidden = Hidden(self.sequence)
        state = cell.output_shape((x[0], self.gates * self.units))
        if hidden.output_shape(state) == state:
            return {**first, "": cell}
        return {**first, "_state": cell, "": hidden}

    def output_fraction(self, bits: int) -> int:
        return bits - 1


@dataclass(frozen=True)
class Cell(LayerOp):
    """One recurrence; `sequence`: errors come for every step, else for the last one only."""

    argument_fraction: ClassVar[int] = ARGUMENT_FRACTION
    error_room: ClassVar[int] = ERROR_ROOM
    sequence: bool = False

    def output_fraction(self, bits: int) -> int:
        return bits - 1

    def goes_back(self, kernel: str) -> bool:
        return kernel == "grad_x"

    def anchor(self, kernel: str) -> str | None:
        return "dy" if kernel == "grad_x" else None

    def error_shape(self, y: Shape) -> Shape:
        return (y[0], y[-1]) if self.sequence else y[-1:]


def error_at(dy: Array, t: int, steps: int) -> Array:
    """The error that comes from outside at step t."""
    if dy.ndim == 1:
        return dy if t == steps - 1 else np.zeros_like(dy)
    row: Array = dy[t]
    return row


def backwards(steps: int) -> Iterator[int]:
    return reversed(range(steps))


def argument(*parts: Q) -> Ints:
    """The sum of what goes into a curve, each part rounded to ARGUMENT_FRACTION."""
    return integers(sum(rescale(part.q, part.f - ARGUMENT_FRACTION) for part in parts))


def argument_error(*fractions: int) -> float:
    """What the parts lose by that."""
    return sum(half(ARGUMENT_FRACTION) for f in fractions if f > ARGUMENT_FRACTION)


def argument_room(total: int) -> int:
    """Bits of an argument: a sum of `total` bits, widened as far as it may have to be, and x."""
    return (
        max(total + ARGUMENT_FRACTION - MIN_FRACTION - 7, 16 + ARGUMENT_FRACTION - MIN_FRACTION) + 1
    )


def carried(total: Q, f: int) -> tuple[Ints, Floats]:
    """A sum of errors as 32 bits with f fraction bits, and by how much each is off at most.

    What saturates may be off by anything.
    """
    q = narrow(total.q, total.f - f, CARRIED_BITS)
    limit = 1 << (CARRIED_BITS - 1)
    is_out = (q == -limit) | (q == limit - 1)
    return q, np.where(is_out, ANY_ERROR, half(f) if total.f > f else 0.0)


def products(a: Q, matrix: Q) -> Q:
    """matrix @ a"""
    return Q(dot(a.q[None], matrix.q)[0], a.f + matrix.f)


def half(f: int) -> float:
    """Of a unit."""
    return math.ldexp(0.5, -f)
