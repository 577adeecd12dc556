"""The nouns that flow through the passes; all frozen, all plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from codegen.fixedpoint import BIAS_FRACTION, Format
from codegen.ops.base import (
    Core,
    ElementwiseOp,
    FoldOp,
    LayerOp,
    LossOp,
    Op,
    OptimizerOp,
    ScheduleOp,
    Shape,
    size,
)


@dataclass(frozen=True)
class Part:
    """Some rows of a parameter that is split in two: those that learn, and those that do not."""

    whole: str  # the parameter's name in files of weights
    shape: Shape
    start: int
    stop: int


Role = Literal[
    "input",
    "target",
    "activation",
    "scores",
    "error",
    "weight",
    "bias",
    "gradient",
    "factor",
    "seed",
]
PARAMETER_ROLES = ("weight", "bias")


@dataclass(frozen=True)
class Tensor:
    """A value of the network. `owner` names the parameter that a gradient belongs to.

    `pinned` is the format that the network file asks for.
    """

    name: str
    shape: Shape
    role: Role
    fan_in: int = 0
    fan_out: int = 0
    frozen: bool = False
    owner: str | None = None
    pinned: Format | None = None
    part: Part | None = None
    initial: float | None = None
    rate_factor: float = 1.0  # by which the learning rate is multiplied for it
    number: int = 0  # of a seed: no two layers have the same
    fold: FoldOp | None = None  # by which the starting values are scaled and shifted

    @property
    def whole(self) -> tuple[str, Shape]:
        """Name and shape of the parameter that this one is cut out of, or its own."""
        return (self.part.whole, self.part.shape) if self.part else (self.name, self.shape)

    @property
    def rows(self) -> slice:
        """Which rows of the whole it has."""
        return slice(self.part.start, self.part.stop) if self.part else slice(None)

    @property
    def size(self) -> int:
        return size(self.shape)


class NameTakenError(Exception):
    """A layer has the name that the generator needs for a tensor of its own."""


class TooManyBitsError(Exception):
    """The accumulator of the step that is named may need more bits than there are."""


def add_tensor(tensors: dict[str, Tensor], tensor: Tensor) -> None:
    """Every name once: what a layer is called must not be what the generator calls something."""
    if tensor.name in tensors:
        raise NameTakenError(tensor.name)
    tensors[tensor.name] = tensor


@dataclass(frozen=True)
class Use:
    """A tensor, and the shape under which it is read; views differ from it in nothing else."""

    tensor: str
    shape: Shape


@dataclass(frozen=True)
class Node:
    """One layer: op, its inputs and parameters by kernel argument, and the tensor it writes.

    `owner` is the layer in whose name parameters are known; several nodes may have one. `seed` is
    that of an op which asks for one.
    """

    name: str
    op: LayerOp | ElementwiseOp
    inputs: Mapping[str, Use]
    output: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    owner: str = ""
    seed: str | None = None


@dataclass(frozen=True)
class Graph:
    """The network as the user wrote it, every shape known. It ends in the tensor `scores`."""

    name: str
    nodes: tuple[Node, ...]
    tensors: Mapping[str, Tensor]
    scores: str
    loss: LossOp
    optimizer: OptimizerOp
    schedule: ScheduleOp
    weight_decay: float = 0.0
    clip_norm: float = 0.0  # 0: gradients keep their length
    answer: Node | None = None  # what makes of the scores that which the caller of predict sees

    @property
    def shown(self) -> str:
        """The tensor that the caller of predict sees."""
        return self.scores if self.answer is None else self.answer.output

    @property
    def outputs(self) -> int:
        return self.tensors[self.scores].size


@dataclass(frozen=True)
class Finish:
    """An elementwise kernel on an accumulator before it is rounded; `y` is what it reads."""

    op: ElementwiseOp
    kernel: str
    y: str | None = None


@dataclass(frozen=True)
class Sink:
    """Where a parameter's gradient goes: stored, accumulated over a batch, or updating at once.

    Where gradients are clipped, it is also asked for its norm before it updates: by which factor
    it is shortened is the step's output.
    """

    kind: Literal["store", "accumulate", "norm", "update"]
    parameter: str


@dataclass(frozen=True)
class Step:
    """One C function: a kernel, the tensor behind each of its arguments, and what it writes.

    `shapes` are those that the kernel sees, by argument; that of its result is "out".
    """

    name: str
    phase: Literal["forward", "inference", "loss", "backward", "gradient", "batch"]
    op: Op
    kernel: str
    reads: Mapping[str, str]
    output: str
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    finishes: tuple[Finish, ...] = ()
    sink: Sink | None = None
    twin: str = ""  # the step of training that this one of phase "inference" stands for

    @property
    def inputs(self) -> tuple[str, ...]:
        """Every tensor that is read, finishes included."""
        return (*self.reads.values(), *(f.y for f in self.finishes if f.y is not None))

    @property
    def is_for_training(self) -> bool:
        """Inference leaves it out."""
        return isinstance(self.op, LayerOp) and self.op.training_only


@dataclass(frozen=True)
class TrainingGraph:
    """The steps in the order in which they run; training leaves out those of phase "inference"."""

    graph: Graph
    tensors: Mapping[str, Tensor]
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        return next(step for step in self.steps if step.name == name)

    def phase(self, *phases: str) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.phase in phases)

    @property
    def learning(self) -> tuple[Step, ...]:
        """What training runs."""
        return tuple(step for step in self.steps if step.phase != "inference")

    @property
    def inference(self) -> tuple[Step, ...]:
        """What predict runs: twins instead of the steps that write the same."""
        twins = {step.output for step in self.phase("inference")}
        return tuple(
            step
            for step in self.phase("forward", "inference")
            if step.phase == "inference" or not (step.is_for_training or step.output in twins)
        )

    @property
    def sums(self) -> tuple[str, ...]:
        """Gradients that are summed over a batch."""
        return tuple(
            step.output
            for step in self.steps
            if step.sink is not None and step.sink.kind == "accumulate"
        )

    @property
    def trained(self) -> tuple[Tensor, ...]:
        """Parameters that learn, in the order of the network."""
        return tuple(t for t in self.tensors.values() if t.role in PARAMETER_ROLES and not t.frozen)


Policy = Literal["fixed", "parameter", "adaptive", "relative", "exact"]


@dataclass(frozen=True)
class TensorFormat:
    """How a tensor is stored.

    fixed      `f` fraction bits for ever
    parameter  the exponent is state of its own and follows the weights' range
    adaptive   the exponent is state and follows the values (NUMERICS 3)
    relative   the exponent is state, relative to the accumulator's (NUMERICS 6)
    exact      the exponent is chosen anew for each sample
    """

    bits: int
    policy: Policy
    f: int = 0

    @property
    def adapts(self) -> bool:
        """The exponent is a range that training follows."""
        return self.policy in ("adaptive", "relative")

    @property
    def is_dynamic(self) -> bool:
        """The exponent of a value is known only at run time."""
        return self.policy in ("adaptive", "relative", "exact")


BIAS_FORMAT = TensorFormat(32, "fixed", BIAS_FRACTION)
SEED_FORMAT = TensorFormat(32, "fixed")
FACTOR_FORMAT = TensorFormat(32, "fixed", 16)


@dataclass(frozen=True)
class Accumulator:
    """The sum inside a step: its C type, and bounds that are proved.

    |sum| <= 2**sum_bits; with the bias 2**raw_bits; just before it is rounded 2**bits. A gradient
    is shifted by `narrowing` once it is summed, so that it fits 31 bits. Where `is_short`, the sum
    is shifted by `shift` at least, so that with the bias it has 32 bits.
    """

    sum_bits: int
    raw_bits: int
    bits: int
    terms: int
    type: Literal["int32_t", "int64_t"]
    has_bias: bool = False
    is_short: bool = False
    shift: int = 0
    narrowing: int = 0

    @property
    def gradient_bits(self) -> int:
        """Of a gradient: |g| <= 2**gradient_bits once it is shifted."""
        return self.sum_bits - self.narrowing


@dataclass(frozen=True)
class Numbers:
    """Widths of a mode."""

    mode: str
    weight_bits: int
    activation_bits: int
    error_bits: int
    rounding: str
    batch: int
    accumulate: Literal["wide", "short"]  # see Board
    core: Core


@dataclass(frozen=True)
class QuantizedGraph:
    """A training graph with a format for each tensor and an accumulator for each step."""

    training: TrainingGraph
    numbers: Numbers
    formats: Mapping[str, TensorFormat]
    accumulators: Mapping[str, Accumulator]

    @property
    def score_fraction(self) -> int:
        """Fraction bits of the scores that the caller sees."""
        own = self.formats[self.training.graph.shown]
        return own.f if own.policy == "fixed" else self.training.graph.loss.score_fraction


@dataclass(frozen=True)
class Plan:
    """Where each short-lived tensor lies in the arena, in bytes."""

    quantized: QuantizedGraph
    offsets: Mapping[str, int]
    arena: int
    arena_lower_bound: int

    @property
    def training(self) -> TrainingGraph:
        return self.quantized.training
