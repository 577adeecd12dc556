"""What an op is: its shape rule, its parameters, and kernels in two number systems side by side.

An op is a frozen dataclass; its fields are the keys of the network file. A kernel is a method
pair: `forward` in floats and, under it, `forward_int` in integers. The names of its parameters say
what it reads: `x` the input, `y` the output, `dy` the error of the output, `dx` of the input, `w`
and `b` parameters, `t` the target. Argument order, C signature, live ranges and memory plan follow.

Families:
- LayerOp      accumulates: an integer kernel returns exact accumulators (or pre-shifted ones).
- ElementwiseOp maps an accumulator to an accumulator, just before a value is stored.
- LossOp       turns scores and target into a loss and the error of the scores.
- OptimizerOp  turns a gradient into a change of a parameter.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from codegen.fixedpoint import Floats, Ints, Q, Rate

Shape = tuple[int, ...]


class ShapeError(ValueError):
    """An op cannot follow its input; the text says why and what would fit."""


@dataclass(frozen=True)
class Parameter:
    """A tensor that the op owns and training changes."""

    shape: Shape
    role: Literal["weight", "bias"]
    fan_in: int
    fan_out: int


@dataclass(frozen=True)
class Products:
    """One accumulator of a kernel: `terms` products of the tensors `a` and `b`."""

    terms: int
    a: str
    b: str


def size(shape: Shape) -> int:
    """Number of elements."""
    n = 1
    for extent in shape:
        n *= extent
    return n


@dataclass(frozen=True)
class Op:
    """What all ops share."""

    kind: ClassVar[str]

    def reads(self, kernel: str) -> tuple[str, ...]:
        """Names of the tensors that a kernel reads, in the order of its arguments."""
        parameters = inspect.signature(getattr(self, kernel)).parameters
        return tuple(parameters)

    def call(self, kernel: str, operands: Mapping[str, Any], **options: Any) -> Any:
        """Run the kernel on its operands; the integer twin of `forward` is `forward_int`."""
        names = self.reads(kernel.removesuffix("_int"))
        arguments = {name: operands[name] for name in names if name in operands}
        return getattr(self, kernel)(**arguments, **options)

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True)
class LayerOp(Op):
    """Accumulates. Kernels: `forward`, `grad_x`, and `grad_<parameter>` for each parameter."""

    def output_shape(self, x: Shape) -> Shape:
        raise NotImplementedError

    def parameters(self, x: Shape) -> dict[str, Parameter]:
        """The op's own tensors by the name that its kernels give them."""
        return {}

    def products(self, kernel: str, x: Shape) -> Products:
        """The accumulator of a kernel, from which its bound is proved."""
        raise NotImplementedError

    def multiplies(self, kernel: str, x: Shape) -> int:
        """Multiplications in one run of a kernel."""
        raise NotImplementedError


@dataclass(frozen=True)
class ElementwiseOp(Op):
    """Maps accumulators to accumulators, so that a value is rounded once, after the last of them.

    Kernels: `forward(x)` and `grad_x(dy, y)`; the derivative is taken from the stored output. The
    integer kernels also know `bits`, a bound of the accumulator that comes in.
    """

    keeps_positive: ClassVar[bool] = (
        False  # a positive value may not round to 0 (the mask is y > 0)
    )

    def output_fraction(self, bits: int) -> int | None:
        """Fraction bits of the stored output, where they are fixed by the function's range."""
        return None

    def grown_bits(self, kernel: str, bits: int) -> int:
        """Bits of the accumulator after the kernel, when it had `bits` before."""
        return bits

    def allowance(self, kernel: str, f: int, bits: int) -> float:
        """Largest error of the integer kernel itself, for an accumulator with f fraction bits."""
        return 0.0

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        """Constant tables (int16) that the C of a kernel reads, by name."""
        return {}


@dataclass(frozen=True)
class LossOp(Op):
    """Kernel `loss(x, t)` in floats, `loss_int(x, t)` in integers: both -> (value, error of x)."""

    target_is_label: ClassVar[bool]
    # Fraction bits of the 16-bit scores that the caller sees, unless the last layer fixes them;
    # with `scores_adapt` the loss reads them in a format that follows their range instead.
    score_fraction: ClassVar[int]
    scores_adapt: ClassVar[bool] = False
    uses_scratch: ClassVar[bool] = False  # one 32-bit word per score while it runs

    def loss(self, x: Floats, t: Any) -> tuple[float, Floats]:
        """The loss and its gradient with respect to the scores x."""
        raise NotImplementedError

    def loss_int(self, x: Q, t: Any) -> tuple[int, Q]:
        """Integer twin: the loss with LOSS_FRACTION fraction bits, the exact errors."""
        raise NotImplementedError

    def error_fraction(self, f: int) -> int:
        """Fraction bits of the exact errors, when the scores have f."""
        raise NotImplementedError

    def error_bits(self) -> int:
        """Bits that bound every exact error."""
        raise NotImplementedError

    def allowance(self, outputs: int) -> float:
        """Largest absolute error of `loss_int`'s errors, before they are rounded for storage."""
        return 0.0

    def tables(self) -> dict[str, tuple[int, ...]]:
        """Constant tables (uint32) that the C reads, by name."""
        return {}


@dataclass(frozen=True)
class OptimizerOp(Op):
    """Turns a gradient into a change of the parameter.

    Kernels: `update(w, g, v)` in floats returns the new w and v. In integers the change `delta` of
    a weight comes with 16 fraction bits more than the weight and its `headroom`. `draws` are random
    words, one for a row of 16-bit weights, one for each 8-bit weight, none with nearest rounding.
    """

    has_velocity: ClassVar[bool] = False
    # Largest error of a new weight in units in the last place: the folded error is off by less than
    # one unit and meets |x| <= 2**15 of 2**16, so by half a unit; the dither by less than one.
    weight_allowance: ClassVar[float] = 1.5
    bias_allowance: ClassVar[float] = 0.5
    bias_headroom: ClassVar[int] = 0  # fraction bits of a bias velocity beyond those of the bias
    skips_zero: ClassVar[bool] = False  # a row whose changes are all 0 is not touched

    def headroom(self, weight_bits: int) -> int:
        """Fraction bits of a change beyond those of the weight."""
        return 0

    def update(self, w: Floats, g: Floats, v: Floats, rate: float) -> tuple[Floats, Floats]:
        raise NotImplementedError

    def update_int(
        self, w: Ints, delta: Ints, v: Ints, draws: Ints | None, bits: int
    ) -> tuple[Ints, Ints]:
        """Integer twin for the row `w` of weights of `bits` bits."""
        raise NotImplementedError

    def update_bias_int(self, b: Ints, g: Q, v: Ints, rate: Rate) -> tuple[Ints, Ints]:
        """Integer twin for biases: int32 with BIAS_FRACTION fraction bits, rounded to nearest."""
        raise NotImplementedError
