"""What an op is: its shape rule, its parameters, and kernels in two number systems side by side.

An op is a frozen dataclass; its fields are the keys of the network file. A kernel is a method
pair: `forward` in floats and, under it, `forward_int` in integers. The names of its parameters say
what it reads: `x` the input (`x1` and `x2` where there are two), `y` the output, `dy` the error of
the output, `w` and `b` parameters, `t` the target. Argument order, C signature, live ranges and
memory plan follow. A kernel that must know the shape of what it writes has a keyword `shape`.
`seed` is a 32-bit number of the layer and the sample, the same in forward and backward.
`dx` is the error of the input, for a gradient that needs what `grad_x` wrote.

A recurrent kernel, which reads what it wrote, is a generator: it yields (place, numbers) and is
sent the numbers as they were stored there; the place None is scratch, in which 32 bits survive from
one step to the next. Its integer twin yields accumulators, all of one exponent where they are
stored in the result, and the largest error of each; its keyword `out_f` is the result's exponent.

Families:
- LayerOp      accumulates: an integer kernel returns exact accumulators; one with a keyword `shift`
               can round its sums to 32 bits.
- ChainOp      stands for several LayerOps, each of which reads the one before it.
- FoldOp       scales and shifts channels with given numbers; the layer before it takes them up.
- AnswerOp     is the last layer, which inference runs and training does not.
- ViewOp       gives the same numbers another shape; it has no kernels and costs nothing.
- ElementwiseOp maps an accumulator to an accumulator, just before a value is stored.
- LossOp       turns scores and target into a loss and the error of the scores.
- OptimizerOp  turns a gradient into a change of a parameter.
- ScheduleOp   says by which factor the learning rate is multiplied, and when.
"""

import inspect
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Self

from codegen.fixedpoint import Floats, Ints, Q, Rate

Shape = tuple[int, ...]
Choice = int | str
ROWS = 8  # how many sums are computed together, if nothing else is chosen: FXP_ROWS, or FXP_SUMS
COLUMNS = 4  # how many of neighbouring columns are, at the least: FXP_COLUMNS
FEW_ROWS = ROWS // 2  # the same where they cost the stack its depth: FXP_FEW_ROWS
FEW_REGISTERS = 8
UNROLLS = (1, 2, 4)  # how many rounds of an innermost loop the compiler writes out
Extent = int | tuple[int, ...]  # one number for every axis, or one for each
Numbers = tuple[float, ...]
Padding = str | int | tuple[int, ...]  # "same", "valid", or numbers


class ShapeError(ValueError):
    """An op cannot follow its input; the text says why and what would fit."""


@dataclass(frozen=True)
class Parameter:
    """A tensor that the op owns and training changes."""

    shape: Shape
    role: Literal["weight", "bias"]
    fan_in: int
    fan_out: int
    initial: float | None = None  # where it is not drawn at random, nor 0 as a bias is


@dataclass(frozen=True)
class Products:
    """One accumulator of a kernel: `terms` products of one element of each tensor in `factors`.

    A factor "out" is what the kernel wrote. `more` bounds a constant factor: it is at most 2**more.
    """

    terms: int
    factors: tuple[str, ...]
    more: int = 0


def sums_at_once(rows: int, most: int = ROWS) -> tuple[int, ...]:
    """How many of so many rows with biases may be summed by one call of the runtime; `most` of them
    if nobody chooses.
    """
    return most, *(count for count in (ROWS, 2 * ROWS, 4 * ROWS) if most < count < 2 * rows)


def size(shape: Shape) -> int:
    """Number of elements."""
    n = 1
    for extent in shape:
        n *= extent
    return n


@dataclass(frozen=True)
class Core:
    """What decides which C is fast on a core, see Board; that of a Cortex-M4 where nothing is known
    of it.
    """

    lanes: int = 2
    registers: int = 13


@dataclass(frozen=True)
class Op:
    """What all ops share."""

    kind: ClassVar[str]

    def reads(self, kernel: str) -> tuple[str, ...]:
        """Names of the tensors that a kernel reads, in the order of its arguments."""
        parameters = inspect.signature(getattr(self, kernel)).parameters.values()
        return tuple(p.name for p in parameters if p.kind is not p.KEYWORD_ONLY)

    def exponents(self, kernel: str) -> tuple[str, ...]:
        """Of these the kernel must know how many fraction bits they have."""
        return self.reads(kernel)

    def call(self, kernel: str, operands: Mapping[str, Any], **options: Any) -> Any:
        """Run the kernel on its operands; the integer twin of `forward` is `forward_int`.

        Options: `shape` of the result, `shift` of its sums and exponent `out_f` of the result, for
        the kernels that ask.
        """
        asked = inspect.signature(getattr(self, kernel)).parameters
        names = self.reads(kernel.removesuffix("_int"))
        arguments = {name: operands[name] for name in names if name in operands}
        arguments |= {name: value for name, value in options.items() if name in asked}
        return getattr(self, kernel)(**arguments)

    # How the C of a kernel is written, which changes no result: a choice by knob, see `choices`.
    form: ClassVar[Mapping[str, Choice]] = {}
    # What decides the defaults: the core, and whether memory has room for more scratch anyway.
    core: ClassVar[Core] = Core()
    has_room: ClassVar[bool] = False

    def choices(self, kernel: str, shapes: "Shapes") -> Mapping[str, tuple[Choice, ...]]:
        """The knobs of a kernel, and for each what may be chosen, the default first."""
        return {"function": ("apart", "inlined"), "unroll": UNROLLS}

    def chosen(self, kernel: str, shapes: "Shapes", knob: str) -> Choice:
        return self.form.get(knob, self.choices(kernel, shapes)[knob][0])

    def in_form(self, form: Mapping[str, Choice]) -> Self:
        """The same op, whose C is written in another form."""
        return self._with("form", form)

    def on_core(self, core: Core) -> Self:
        """The same op, whose defaults are what is fast on such a core."""
        return self._with("core", core)

    def with_room(self) -> Self:
        """The same op, whose defaults may take more scratch to be fast."""
        return self._with("has_room", True)

    def _with(self, attribute: str, value: object) -> Self:
        """Attributes of the C are no fields: ops that differ in them alone are equal."""
        other = replace(self)
        vars(other).update({**vars(self), attribute: value})
        return other

    def scratch_size(self, kernel: str, shapes: "Shapes") -> int:
        """Elements that a kernel needs while it runs: as wide as the widest of the operands that
        `scratch_like` names, or where it names none words of 32 bits, which the C has as bytes.
        """
        return 0

    def scratch_like(self, kernel: str, shapes: "Shapes") -> tuple[str, ...]:
        """Operands; "w" is also the parameter that a gradient belongs to."""
        return ()

    def tile_size(self, kernel: str, shapes: "Shapes") -> int:
        """Numbers of 32 bits that it needs besides."""
        return 0

    def list_size(self, kernel: str, shapes: "Shapes") -> int:
        """The same for a list of errors dy, of which those that are 0 then cost nothing; it has one
        where memory has room for it anyway.
        """
        return 0

    def __str__(self) -> str:
        return self.kind


Recurrence = Generator[tuple[Any, ...], Any, None]


def unroll(kernel: Recurrence, keep: Callable[..., Any]) -> None:
    """Run a recurrent kernel: what it yields goes to `keep`, and what that returns back to it."""
    try:
        numbers = next(kernel)
        while True:
            numbers = kernel.send(keep(*numbers))
    except StopIteration:
        return


@dataclass(frozen=True)
class ViewOp(Op):
    """The same numbers in the same order under another shape."""

    def output_shape(self, x: Shape) -> Shape:
        raise NotImplementedError


@dataclass(frozen=True)
class FoldOp(Op):
    """A factor and an addend for each channel, which the layer before it takes up if it can."""

    @property
    def channels(self) -> int:
        raise NotImplementedError

    @property
    def stays_apart(self) -> bool:
        """It is to be a layer of its own."""
        raise NotImplementedError

    def scale(self) -> Numbers:
        raise NotImplementedError

    def shift(self) -> Numbers:
        raise NotImplementedError

    def alone(self) -> "LayerOp":
        """The layer that it is where nothing takes it up; its weights start at scale."""
        raise NotImplementedError


Shapes = Mapping[str, Shape]  # of a kernel's operands by argument, and of its result as "out"


@dataclass(frozen=True)
class LayerOp(Op):
    """Accumulates. Kernels: `forward`, and `grad_<name>` for each input and each parameter.

    A kernel writes its results in the order of their index; each is read once, rounded, stored.
    """

    inputs: ClassVar[tuple[str, ...]] = ("x",)
    # Each input's error is the output's, number for number: grad_<input> is never run.
    passes_errors: ClassVar[bool] = False
    training_only: ClassVar[bool] = False  # inference takes its input for its output
    # Kernels whose gradient is an outer product of a row's error and x, and is never formed.
    outer: ClassVar[tuple[str, ...]] = ()

    def output_shape(self, *inputs: Shape) -> Shape:
        raise NotImplementedError

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """The op's own tensors by the name that its kernels give them."""
        return {}

    def with_bias(self) -> "LayerOp | None":
        """The same with a bias, where weights and bias can take up a FoldOp."""
        return None

    def split(self, channels: int) -> tuple["LayerOp", "LayerOp"]:
        """Two ops: one computes the first `channels` output channels, one the others."""
        raise ShapeError(f"{self.kind} cannot learn some channels only; remove update_channels")

    def products(self, kernel: str, shapes: Shapes) -> Products:
        """The accumulator of a kernel, from which its bound is proved."""
        raise NotImplementedError

    def may_be_short(self, kernel: str) -> bool:
        """Whether its accumulators can have 32 bits."""
        return "shift" in inspect.signature(getattr(self, f"{kernel}_int")).parameters

    def takes_numbers(self, kernel: str) -> bool:
        """Whether it adds or copies numbers, without a product or a bias; its C has accumulators of
        32 bits where they fit, on every core.
        """
        return False

    def multiplies(self, kernel: str, shapes: Shapes) -> int:
        """Multiplications in one run of a kernel."""
        return 0

    def accumulator_bits(self, kernel: str, total: int, with_bias: int) -> int:
        """Bits that bound all numbers of a kernel, whose sum has `total`, `with_bias` the bias."""
        return with_bias

    def stored_bits(self, kernel: str) -> int | None:
        """Bits of what a kernel stores, where that is no sum of products and a bias."""
        return None

    def output_fraction(self, bits: int) -> int | None:
        """Fraction bits of the stored output, where they are fixed by the function's range."""
        return None

    def error_shape(self, y: Shape) -> Shape:
        """Shape under which the error of an output of shape y comes."""
        return y

    def tables(self, kernel: str) -> dict[str, tuple[int, ...]]:
        """Constant tables that the C of a kernel reads, by name."""
        return {}

    def allowance(self, kernel: str, operands: Mapping[str, Q], shapes: Shapes) -> float:
        """Largest error of an accumulator, where it is not exact."""
        return 0.0

    def is_recurrent(self, kernel: str) -> bool:
        """Whether it reads what it wrote."""
        return inspect.isgeneratorfunction(getattr(self, kernel))

    def goes_back(self, kernel: str) -> bool:
        """Whether the last elements are written first."""
        return False

    def anchor(self, kernel: str) -> str | None:
        """The operand to whose exponent that of an error is relative; none: to the accumulator."""
        return None

    def lag(self, kernel: str, shapes: Shapes) -> dict[str, int]:
        """By operand: how many elements before it the output must begin to lie over it.

        Element k of the output may be written when every operand element below k + 1 - lag has
        been read for the last time. An operand that is not named must not be overwritten. The
        output of a kernel that goes back begins at most so many elements before the operand.
        """
        return {}

    def reads_first(self, kernel: str) -> tuple[str, ...]:
        """Operands that its C has read for the last time when it begins to write."""
        return ()


@dataclass(frozen=True)
class ChainOp(LayerOp):
    """Several ops in a row, by the suffix of their name; the last one has none."""

    def links(self, *inputs: Shape) -> dict[str, LayerOp]:
        raise NotImplementedError

    def _walk(self, *inputs: Shape) -> list[tuple[LayerOp, tuple[Shape, ...]]]:
        steps = []
        for op in self.links(*inputs).values():
            steps.append((op, inputs))
            inputs = (op.output_shape(*inputs),)
        return steps

    def output_shape(self, *inputs: Shape) -> Shape:
        op, last = self._walk(*inputs)[-1]
        return op.output_shape(*last)

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Those of all, whose names differ."""
        return {k: p for op, x in self._walk(*inputs) for k, p in op.parameters(*x).items()}


@dataclass(frozen=True)
class AnswerOp(LayerOp):
    """The last layer, kernel `forward`: it makes what the caller of predict sees out of the scores.

    Training does not run it: the loss is that of the scores.
    """

    loss: ClassVar[str]  # the kind of loss whose scores it takes

    def scores(self, answers: Floats) -> Floats:
        """Scores, up to a constant, of which it makes these answers."""
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

    # By kernel: the runtime's fxp_settle_<name>, which stores neighbouring sums with the op in it.
    settles: ClassVar[Mapping[str, str]] = {}
    knows_fraction: ClassVar[bool] = False  # backward uses how many fraction bits y has

    def forward(self, x: Floats) -> Floats:
        raise NotImplementedError

    def forward_int(self, x: Q, bits: int) -> Q:
        raise NotImplementedError

    def grad_x(self, dy: Floats, y: Floats) -> Floats:
        raise NotImplementedError

    def grad_x_int(self, dy: Q, y: Q, bits: int) -> Q:
        raise NotImplementedError

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
        """Constant tables that the C of a kernel reads, by name."""
        return {}

    def short(self) -> "ElementwiseOp":
        """What stands in for it where accumulators should have 32 bits."""
        return self


@dataclass(frozen=True)
class LossOp(Op):
    """Kernel `loss(x, t)` in floats, `loss_int(x, t)` in integers: both -> (value, error of x)."""

    target_is_label: ClassVar[bool]
    score_name: ClassVar[str]  # what `score` is called in results
    # Fraction bits of the 16-bit scores that the caller sees, unless the last layer fixes them;
    # with `scores_adapt` the loss reads them in a format that follows their range instead.
    score_fraction: ClassVar[int]
    scores_adapt: ClassVar[bool] = False
    reaches_all: ClassVar[bool] = True  # every score may have an error at the same time
    may_be_short: ClassVar[bool] = False  # its C can have errors of 32 bits
    uses_scratch: ClassVar[bool] = False  # one 32-bit word per score while it runs

    @property
    def forms_errors(self) -> bool:
        """Its C forms all errors at once, in its scratch."""
        return False

    def scratch_size(self, kernel: str, shapes: Shapes) -> int:
        return size(shapes["x"]) if self.uses_scratch else 0

    def accepts(self, outputs: int) -> None:
        """ShapeError where the loss cannot do with that many outputs."""

    def score(self, scores: Floats, targets: Any) -> float:
        """How good scores (samples, outputs) are, at most 1."""
        raise NotImplementedError

    def loss(self, x: Floats, t: Any) -> tuple[float, Floats]:
        """The loss and its gradient with respect to the scores x."""
        raise NotImplementedError

    def loss_int(self, x: Q, t: Any) -> tuple[int, Q]:
        """Integer twin: the loss with LOSS_FRACTION fraction bits, the exact errors."""
        raise NotImplementedError

    def error_fraction(self, f: int) -> int:
        """Fraction bits of the exact errors, when the scores have f."""
        raise NotImplementedError

    def error_bits(self, f: int) -> int:
        """Bits that bound every exact error, when the scores have f fraction bits."""
        raise NotImplementedError

    def allowance(self, outputs: int) -> float:
        """Largest absolute error of `loss_int`'s errors, before they are rounded for storage."""
        return 0.0

    def tables(self) -> dict[str, tuple[int, ...]]:
        """Constant tables that the C reads, by name."""
        return {}


@dataclass(frozen=True)
class LabelLoss(LossOp):
    """The target is the label, 0 .. outputs - 1; the largest score should be its."""

    target_is_label: ClassVar[bool] = True
    score_fraction: ClassVar[int] = 8
    scores_adapt: ClassVar[bool] = True
    score_name: ClassVar[str] = "accuracy"

    def accepts(self, outputs: int) -> None:
        if outputs < 2:
            raise ShapeError(
                f"{self.kind} needs at least 2 outputs, this layer has {outputs}; one output goes "
                "with squared_error"
            )

    def score(self, scores: Floats, targets: Any) -> float:
        return float((scores.argmax(axis=1) == targets).mean())


# Limits of the exponent of slots that have one of their own.
MIN_SLOT_FRACTION = -16
MAX_SLOT_FRACTION = 60
Slots = tuple[Any, ...]  # of one parameter, in the order of the optimizer's `slots`


@dataclass(frozen=True)
class OptimizerOp(Op):
    """Turns a gradient into a change of the parameter, with the help of slots: one number each for
    every element of the parameter, 0 at first.

    In floats: `track(g, slots, rate)` gives the new slots, `step(g, slots, rate)` the change that
    follows from them. In integers both are one kernel, for a row at a time.
    """

    slots: ClassVar[tuple[str, ...]] = ()
    # The integers see the gradient itself, and slots have an exponent of their own that follows
    # them. Otherwise they see changes: the gradient with the rate folded in.
    forms_gradient: ClassVar[bool] = False
    # The size of the gradient does not matter: a sum over a batch is as good as its mean.
    normalises: ClassVar[bool] = False
    skips_zero: ClassVar[bool] = False  # a row whose changes are all 0 is not touched
    takes_rows: ClassVar[bool] = False  # its C has macros for all rows, and all biases
    takes_row: ClassVar[bool] = False  # it has one for a row whose rate is folded
    words: ClassVar[int] = 1  # random words that a row draws
    always_spreads: ClassVar[bool] = False  # elements of a row never share their random words
    # Beyond so many units of the slots a gradient is clipped.
    largest_gradient: ClassVar[float] = float("inf")
    # By how many units the integer slots may differ from the float ones.
    slot_allowance: ClassVar[tuple[float, ...]] = ()

    def slot_bits(self, role: str) -> int:
        """Bits of each slot, for a parameter of that role."""
        return 16

    def spreads(self, bits: int) -> bool:
        """Each element has random words of its own; 8-bit weights of a row may not share them."""
        return self.always_spreads or bits == 8

    def slot_fraction(self, f: int, bits: int) -> int:
        """Fraction bits of the slots where they go with a parameter of `bits` bits that has f."""
        return f

    def as_stored(self, slots_f: int, batch: int) -> "OptimizerOp":
        """With constants as the integers have them, where the slots have that many fraction bits
        and the gradient is a sum over the batch.
        """
        return self

    def allowance(self, role: str, f: int, rate: float) -> float:
        """Largest error of a parameter that has f fraction bits, in its units, given the slots."""
        raise NotImplementedError

    def factor(self, update: int) -> float:
        """By which the rate is multiplied in update number `update`, from 0."""
        return 1.0

    def factor_int(self, update: int) -> int:
        """Integer twin, with 16 fraction bits."""
        return 1 << 16

    def track(self, g: Floats, slots: Slots, rate: float) -> Slots:
        return slots

    def step(self, g: Floats, slots: Slots, rate: float) -> Floats:
        raise NotImplementedError

    def update(self, w: Floats, g: Floats, slots: Slots, rate: float) -> tuple[Floats, Slots]:
        """The parameter and its slots after one step of training."""
        slots = self.track(g, slots, rate)
        return w + self.step(g, slots, rate), slots


@dataclass(frozen=True)
class ChangeOptimizer(OptimizerOp):
    """Works on changes: minus rate times gradient, so that slots have the exponent of the weight.

    The change `delta` of a weight comes with 16 fraction bits more than the weight and its
    `headroom`. `draws` are random words, one for a row of 16-bit weights, one for each 8-bit
    weight, none with nearest rounding.
    """

    # Largest error of a new weight in units in the last place: the folded error is off by less than
    # one unit and meets |x| <= 2**15 of 2**16, so by half a unit; the dither by less than one.
    weight_allowance: ClassVar[float] = 1.5
    bias_allowance: ClassVar[float] = 0.5
    # A row of an outer product needs 16 random bits: the lower half of the draw that rounded its
    # rate, of which the upper bits mattered.
    shares_draw: ClassVar[bool] = False
    bias_headroom: ClassVar[int] = 0  # fraction bits of a bias slot beyond those of the bias

    def slot_bits(self, role: str) -> int:
        return 32 if role == "bias" else 16

    def slot_fraction(self, f: int, bits: int) -> int:
        return f + (self.bias_headroom if bits == 32 else self.headroom(bits))

    def allowance(self, role: str, f: int, rate: float) -> float:
        return self.bias_allowance if role == "bias" else self.weight_allowance

    def headroom(self, weight_bits: int) -> int:
        """Fraction bits of a change beyond those of the weight."""
        return 0

    def update_int(
        self, w: Ints, delta: Ints, slots: Slots, draws: Ints | None, bits: int
    ) -> tuple[Ints, Slots]:
        """Integer twin for the row `w` of weights of `bits` bits."""
        raise NotImplementedError

    def update_bias_int(self, b: Ints, g: Q, slots: Slots, rate: Rate) -> tuple[Ints, Slots]:
        """Integer twin for biases: int32 with BIAS_FRACTION fraction bits, rounded to nearest."""
        raise NotImplementedError


@dataclass(frozen=True)
class Place:
    """Of a row that is updated: its bits and fraction bits, the fraction bits of its slots, and
    over how many samples its gradient is summed.
    """

    bits: int
    f: int
    slots_f: int
    batch: int = 1


@dataclass(frozen=True)
class GradientOptimizer(OptimizerOp):
    """Works on the gradient; its 16-bit slots have an exponent that follows their values.

    All that is stored is rounded stochastically, each element with words of its own; biases are
    rows of one element.
    """

    forms_gradient: ClassVar[bool] = True
    normalises: ClassVar[bool] = True
    always_spreads: ClassVar[bool] = True

    def update_int(
        self, w: Ints, g: Q, slots: Slots, draws: Slots, rate: Rate, place: Place
    ) -> tuple[Ints, Slots]:
        """Integer twin for a row; g is a sum over the batch."""
        raise NotImplementedError


@dataclass(frozen=True)
class ScheduleOp(Op):
    """The factor of the learning rate after `step` samples: a float, or with 16 fraction bits."""

    ONE: ClassVar[int] = 1 << 16

    def tables(self) -> dict[str, tuple[int, ...]]:
        """Constant tables that the C reads, by name."""
        return {}

    def factor(self, step: int) -> float:
        raise NotImplementedError

    def factor_int(self, step: int) -> int:
        raise NotImplementedError
