"""Ops: finite differences vouch for the float kernels, the float kernels for the integer ones.

Link 2 compares on the numbers that the integers stand for; saturation, which comes with storing,
is no part of a kernel.
"""

import inspect
import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np
import pytest

from codegen import paths
from codegen.fixedpoint import (
    BIAS_FRACTION,
    LOSS_FRACTION,
    Floats,
    Ints,
    Outer,
    Q,
    Random,
    Rate,
    fold,
    integers,
    narrow,
    sample_seed,
    saturate,
    step24,
)
from codegen.ops import LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from codegen.ops.absolute_error import AbsoluteError
from codegen.ops.adam import Adam
from codegen.ops.add import Add
from codegen.ops.average_pool import AveragePool
from codegen.ops.base import (
    ChainOp,
    ChangeOptimizer,
    ElementwiseOp,
    FoldOp,
    LayerOp,
    LossOp,
    Op,
    OptimizerOp,
    Place,
    ScheduleOp,
    Shape,
    ShapeError,
    Slots,
    ViewOp,
    size,
)
from codegen.ops.batch_norm import BatchNorm
from codegen.ops.binary_cross_entropy import SOFTPLUS_ERROR, BinaryCrossEntropy
from codegen.ops.concatenate import Concatenate
from codegen.ops.constant import Constant
from codegen.ops.conv1d import Conv1d
from codegen.ops.conv2d import Conv2d
from codegen.ops.cosine import COSINE_ERROR, Cosine
from codegen.ops.curves import TANH_TABLE
from codegen.ops.dense import Dense
from codegen.ops.depthwise_conv2d import DepthwiseConv2d
from codegen.ops.dropout import Dropout
from codegen.ops.elu import Elu
from codegen.ops.exponential import EXP2_ERROR, EXP2_TABLE, LOG2_ERROR, exp2, log2
from codegen.ops.flatten import Flatten
from codegen.ops.global_average_pool import GlobalAveragePool
from codegen.ops.gru import Gru
from codegen.ops.hard_sigmoid import HardSigmoid
from codegen.ops.hard_swish import HardSwish
from codegen.ops.hinge import Hinge
from codegen.ops.huber import Huber
from codegen.ops.identity import Identity
from codegen.ops.leaky_relu import LeakyRelu
from codegen.ops.max_pool import MaxPool
from codegen.ops.moments import Moments, mean, quotient, root_mean_square
from codegen.ops.momentum import Momentum
from codegen.ops.multiply import Multiply
from codegen.ops.nesterov import Nesterov
from codegen.ops.pad import Pad
from codegen.ops.prelu import Prelu
from codegen.ops.relu import Relu
from codegen.ops.relu6 import Relu6
from codegen.ops.reshape import Reshape
from codegen.ops.rmsprop import Rmsprop
from codegen.ops.scale_shift import ScaleShift
from codegen.ops.sgd import Sgd
from codegen.ops.sigmoid import Sigmoid
from codegen.ops.simple_rnn import SimpleRnn
from codegen.ops.softmax import Softmax
from codegen.ops.softmax_cross_entropy import (
    LOSS_ERROR,
    SoftmaxCrossEntropy,
)
from codegen.ops.softsign import Softsign
from codegen.ops.squared_error import SquaredError
from codegen.ops.step import Step
from codegen.ops.tanh import Tanh
from codegen.ops.warm_up import WarmUp


class Case(NamedTuple):
    """An op and the shapes of its inputs; `shapes` and `reads` are those of its kernels."""

    op: LayerOp
    inputs: tuple[Shape, ...]

    @property
    def kernels(self) -> list[str]:
        backward = (*self.op.inputs, *self.op.parameters(*self.inputs))
        gradients = [f"grad_{key}" for key in backward]
        if self.op.passes_errors:
            gradients = []
        return ["forward", *gradients]

    @property
    def tensors(self) -> dict[str, Shape]:
        """Every tensor that a kernel may read or write."""
        known = dict(zip(self.op.inputs, self.inputs, strict=True))
        known |= {key: p.shape for key, p in self.op.parameters(*self.inputs).items()}
        return known | {"dy": self.op.output_shape(*self.inputs)}

    def shapes(self, kernel: str) -> dict[str, Shape]:
        """Of the operands of a kernel and of what it writes."""
        known = self.tensors
        out = known["dy"] if kernel == "forward" else known[kernel.removeprefix("grad_")]
        return {**{k: known[k] for k in self.op.reads(kernel) if k in known}, "out": out}

    def __str__(self) -> str:
        return f"{name_of(self.op)}-{self.inputs}"


def case(op: LayerOp, *inputs: Shape) -> Case:
    return Case(op, inputs)


def name_of(op: object) -> str:
    return f"{op}-{'-'.join(str(getattr(op, f.name)) for f in fields(op))}"  # type: ignore[arg-type]


# At least one example of each op; `test_every_op_has_an_example` keeps the lists complete.
LAYER_EXAMPLES = [
    case(Dense(5), (7,)),
    case(Dense(1, bias=False), (7,)),
    case(Identity(), (7,)),
    case(Conv2d(4, 3, padding="same"), (4, 5, 2)),
    case(Conv2d(3, (2, 3), stride=(2, 1), padding=(1, 0, 2, 1), bias=False), (5, 4, 1)),
    case(Conv2d(4, 2, stride=3, dilation=2, groups=2, padding=1), (6, 7, 4)),
    case(Conv2d(2, 1), (3, 2, 3)),
    case(Conv1d(3, 3, stride=2, padding="same", dilation=2), (9, 2)),
    case(Conv1d(2, 2, padding=(1, 0), groups=2, bias=False), (5, 4)),
    case(DepthwiseConv2d(3, padding="same"), (5, 4, 3)),
    case(DepthwiseConv2d((2, 1), multiplier=2, stride=2, bias=False), (5, 6, 2)),
    case(MaxPool(2), (4, 6, 2)),
    case(MaxPool((2, 3), stride=(1, 2), padding=(1, 0, 1, 2)), (4, 6, 2)),
    case(MaxPool(3, stride=2, padding="same"), (7, 3)),
    case(AveragePool((2, 3)), (4, 6, 2)),
    case(AveragePool(3, stride=2, padding="same"), (5, 6, 2)),
    case(AveragePool(3, stride=1, padding=1), (6, 2)),
    case(GlobalAveragePool(), (3, 5, 2)),
    case(GlobalAveragePool(), (7, 3)),
    case(Pad((1, 0, 2, 1)), (2, 3, 2)),
    case(Pad(1), (4, 3)),
    case(Multiply(), (3, 2), (3, 2)),
    case(Multiply(), (2, 3, 4), (4,)),
    case(Multiply(), (2, 3, 4), (1, 1, 4)),
    case(ScaleShift(), (3, 2, 4)),
    case(ScaleShift(), (4,)),
    case(Add(), (3, 2), (3, 2)),
    case(HardSwish(), (5, 4)),
    case(Prelu(), (3, 2, 4)),
    case(Prelu(), (5,)),
    case(Concatenate(), (3, 2), (3, 4)),
    case(Dropout(), (3, 4)),
    case(Dropout(0.1), (7,)),
    case(Dropout(0.99999), (40,)),
]
SCHEDULE_EXAMPLES = [
    *(Constant(), WarmUp(7), WarmUp(1), Cosine(100), Cosine(33)),
    *(Step(10), Step(1, by=0.99), Step(3, by=0.0)),
]
FOLD_EXAMPLES = [BatchNorm((0.5, 0.0), (1.0, 4.0))]
CHAIN_EXAMPLES = [Gru(3), SimpleRnn(3)]  # what they stand for: test_recurrence.py
ANSWER_EXAMPLES = [Softmax()]
VIEW_EXAMPLES = [Flatten(), Reshape((2, 3))]
ELEMENTWISE = [
    *(Relu(), Relu6(), LeakyRelu(), LeakyRelu(0.0), LeakyRelu(0.9999)),
    *(Sigmoid(), Tanh(), Sigmoid().short(), Tanh().short(), Softsign(), HardSigmoid()),
    *(Elu(), Elu(0.0), Elu(1.6733), Elu(2.0)),
]
LOSS_EXAMPLES = [
    *(SoftmaxCrossEntropy(), SoftmaxCrossEntropy(label_smoothing=0.1)),
    *(SquaredError(), BinaryCrossEntropy(), Huber(), Huber(0.01), AbsoluteError(), Hinge()),
]
CHANGE_OPTIMIZERS: list[ChangeOptimizer] = [
    *(Sgd(), Momentum(0.9), Momentum(0.5), Momentum(0.99999)),
    *(Nesterov(), Nesterov(0.5), Nesterov(0.99999)),
]
GRADIENT_OPTIMIZERS: list[Moments] = [
    *(Rmsprop(), Rmsprop(1e-3, beta2=0.99), Adam(), Adam(0.25, beta1=0.5, beta2=0.9)),
]
OPTIMIZER_EXAMPLES: list[OptimizerOp] = [*CHANGE_OPTIMIZERS, *GRADIENT_OPTIMIZERS]
STEP = 1e-6
# A central difference of step h is off by h^2 / 6 * f''' and by rounding 2^-53 / h, relative to
# numbers near 1: 2e-10 at worst; sums of some tens of terms stay far below this.
DIFFERENCE_ERROR = 1e-7
FLOAT_ERROR = 1e-9  # of the float kernels themselves, in units in the last place


def random_of(*key: object) -> np.random.RandomState:
    """A stream of its own for each test case."""
    return np.random.RandomState(sum(map(ord, "".join(map(str, key)))))


def label_or_target(loss: LossOp, outputs: int, random: np.random.RandomState) -> Any:
    if loss.target_is_label:
        return int(random.randint(outputs))
    return random.uniform(-1, 1, outputs)


def test_every_op_has_an_example() -> None:
    layers = [example.op for example in LAYER_EXAMPLES]
    others = (*ELEMENTWISE, *VIEW_EXAMPLES, *FOLD_EXAMPLES, *CHAIN_EXAMPLES, *ANSWER_EXAMPLES)
    assert {op.kind for op in (*layers, *others)} - {"identity"} == set(LAYERS)
    assert {op.kind for op in LOSS_EXAMPLES} == set(LOSSES)
    assert {op.kind for op in OPTIMIZER_EXAMPLES} == set(OPTIMIZERS)
    assert {op.kind for op in SCHEDULE_EXAMPLES} == set(SCHEDULES)


# ---------------------------------------------------------------- link 1: finite differences


def slope(function: Any, at: Floats, way: Floats) -> float:
    """The derivative of a scalar function in a direction, by a central difference."""
    return float(function(at + STEP * way) - function(at - STEP * way)) / (2 * STEP)


@pytest.mark.parametrize("case", LAYER_EXAMPLES, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_gradients_of_layers_are_the_slopes_of_forward(case: Case, seed: int) -> None:
    """For each operand of `forward`: the slope of sum(dy * y) in a random direction."""
    op, random = case.op, random_of(case, seed)
    operands: dict[str, Floats] = {
        key: random.standard_normal(shape)
        for key, shape in case.shapes("forward").items()
        if key != "out"
    }
    dy = random.standard_normal(case.tensors["dy"])
    for key, value in operands.items():
        way = random.standard_normal(value.shape)

        def error(v: Floats, key: str = key) -> float:
            return float(np.sum(dy * op.call("forward", {**operands, key: v})))

        gradient = dy
        if f"grad_{key}" in case.kernels:
            gradient = op.call(f"grad_{key}", {**operands, "dy": dy}, shape=value.shape)
        assert gradient.shape == value.shape, key
        want = slope(error, value, way)
        assert float(np.sum(gradient * way)) == pytest.approx(want, abs=DIFFERENCE_ERROR), key


@pytest.mark.parametrize("op", ELEMENTWISE, ids=name_of)
def test_gradients_of_elementwise_ops_are_the_slopes_of_forward(op: ElementwiseOp) -> None:
    """Taken from the output; away from 0, where some ops have a corner."""
    x = np.array([-9.0, -2.9, -1.0, -0.3, -0.01, 0.01, 0.2, 1.0, 2.5, 8.0])
    dy = random_of(op).standard_normal(x.size)
    want = dy * (op.forward(x + STEP) - op.forward(x - STEP)) / (2 * STEP)
    assert op.grad_x(dy, op.forward(x)) == pytest.approx(want, abs=DIFFERENCE_ERROR)


OUTPUTS = [
    (op, n) for op in LOSS_EXAMPLES for n in (1, 2, 3, 10, 50) if n > 1 or not op.target_is_label
]


@pytest.mark.parametrize(("op", "outputs"), OUTPUTS, ids=str)
def test_errors_of_losses_are_the_slopes_of_the_loss(op: LossOp, outputs: int) -> None:
    random = random_of(op, outputs)
    x, t = random.standard_normal(outputs), label_or_target(op, outputs, random)
    way = random.standard_normal(outputs)
    want = slope(lambda v: op.loss(v, t)[0], x, way)
    assert float(np.sum(op.loss(x, t)[1] * way)) == pytest.approx(want, abs=DIFFERENCE_ERROR)


def test_losses_have_their_textbook_values() -> None:
    p = np.array([0.2, 0.5, 0.3])
    value, error = SoftmaxCrossEntropy().loss(np.log(p) + 12.0, 1)
    assert value == pytest.approx(math.log(2))
    assert error == pytest.approx([0.2, -0.5, 0.3])
    value, error = SquaredError().loss(np.array([0.5, -1.0]), np.array([0.25, 1.0]))
    assert value == pytest.approx(0.25**2 + 4)
    assert error == pytest.approx([0.5, -4.0])

    value, error = Huber(0.5).loss(np.array([0.25, -2.0]), np.array([0.0, 0.0]))
    assert value == pytest.approx(0.25**2 / 2 + 0.5 * (2.0 - 0.25))
    assert error == pytest.approx([0.25, -0.5])
    value, error = AbsoluteError().loss(np.array([0.25, -2.0]), np.array([0.5, 0.0]))
    assert (value, error.tolist()) == (2.25, [-1.0, -1.0])
    value, error = Hinge().loss(np.array([0.5, 1.0, 0.25]), 0)
    assert (value, error.tolist()) == (1.5, [-1.0, 1.0, 0.0])
    value, error = BinaryCrossEntropy().loss(np.array([math.log(3)]), np.array([1.0]))
    assert value == pytest.approx(-math.log(0.75))
    assert error == pytest.approx([-0.25])
    smooth = SoftmaxCrossEntropy((1.0, 2.0, 1.0), 0.375)
    value, error = smooth.loss(np.log(p), 1)
    wanted = np.array([0.125, 0.75, 0.125])
    assert value == pytest.approx(-2 * float(wanted @ np.log(p)))
    assert error == pytest.approx(2 * (p - wanted))


@pytest.mark.parametrize("op", LOSS_EXAMPLES, ids=name_of)
@pytest.mark.parametrize("f", [3, 8, 13])
def test_losses_in_integers_are_their_float_twins(op: LossOp, f: int) -> None:
    """Errors within the op's allowance; the value within that of its tables, and its own units."""
    random = random_of(op, f)
    for _ in range(20):
        x = Q(random.randint(-(2**15), 2**15, 6).astype(np.int64), f)
        t: Any = int(random.randint(6))
        as_float = t
        if not op.target_is_label:
            t = random.randint(0, 2**15, 6).astype(np.int64)
            as_float = Q(t, 15).value
        value, error = op.loss_int(x, t)
        want, exact = op.loss(x.value, as_float)
        own = 1e-9 * (1 + float(np.max(np.abs(exact))))
        assert np.max(np.abs(error.value - exact)) <= op.allowance(6) + own
        allowed = {"binary_cross_entropy": 6 * SOFTPLUS_ERROR + 6 * 2.0**-21}
        if want < 2047:
            most = allowed.get(op.kind, LOSS_ERROR + 2.0**-20)
            assert abs(value / 2**LOSS_FRACTION - want) <= most + 2.0**-20 + 1e-6 * want


def test_softmax_of_large_scores_does_not_overflow() -> None:
    value, error = SoftmaxCrossEntropy().loss(np.array([1e4, -1e4]), 1)
    assert value == pytest.approx(2e4)
    assert error == pytest.approx([1.0, -1.0])


def test_sgd_in_floats_is_its_formula() -> None:
    w, g = np.array([1.0, -2.0]), np.array([4.0, 0.5])
    after, slots = Sgd().update(w, g, (), 0.25)
    assert after.tolist() == [0.0, -2.125]
    assert slots == ()


def test_momentum_in_floats_is_its_formula() -> None:
    w, g, v = np.array([1.0, -2.0]), np.array([4.0, 0.5]), np.array([8.0, -2.0])
    after, (velocity,) = Momentum(0.75).update(w, g, (v,), 0.25)
    assert velocity.tolist() == [5.0, -1.625]
    assert after.tolist() == [6.0, -3.625]


def test_nesterov_in_floats_is_its_formula() -> None:
    w, g, v = np.array([1.0, -2.0]), np.array([4.0, 0.5]), np.array([8.0, -2.0])
    after, (velocity,) = Nesterov(0.75).update(w, g, (v,), 0.25)
    assert velocity.tolist() == [5.0, -1.625]
    assert after.tolist() == [1 + 0.75 * 5 - 1, -2 - 0.75 * 1.625 - 0.125]


def test_rmsprop_in_floats_is_its_formula() -> None:
    after, (root,) = Rmsprop(0.5, beta2=0.75).update(
        np.array([1.0]), np.array([8.0]), (np.array([4.0]),), 0.25
    )
    assert root == pytest.approx([math.sqrt(0.75 * 16 + 0.25 * 64)])
    assert after == pytest.approx([1 - 0.25 * 8 / (root[0] + 0.5)])


def test_adam_in_floats_is_its_formula() -> None:
    """Against the paper's algorithm 1, whose epsilon is 0 here but for 2**-60."""
    op, w = Adam(2.0**-60, beta1=0.75, beta2=0.875), np.array([1.0, -2.0])
    slots: Slots = (np.zeros(2), np.zeros(2))
    want, m, v = w, np.zeros(2), np.zeros(2)
    for t, g in enumerate(np.array([[4.0, 0.5], [1.0, -3.0], [-2.0, 0.25]]), 1):
        w, slots = op.update(w, g, slots, 0.25 * op.factor(t - 1))
        m, v = 0.75 * m + 0.25 * g, 0.875 * v + 0.125 * g**2
        want = want - 0.25 * (m / (1 - 0.75**t)) / np.sqrt(v / (1 - 0.875**t))
        assert w == pytest.approx(want)


@pytest.mark.parametrize("momentum", [0.1, 0.5, 0.9, 0.999, 0.999999])
def test_momentum_is_kept_with_15_fraction_bits_below_1(momentum: float) -> None:
    kept = Momentum(momentum).momentum_q
    assert kept < 2**15
    assert abs(kept / 2**15 - momentum) <= 2.0**-15


@pytest.mark.parametrize("op", SCHEDULE_EXAMPLES, ids=name_of)
def test_a_schedule_in_integers_is_its_float_twin(op: ScheduleOp) -> None:
    """16 fraction bits: a cosine has its table's error, a power one rounding a step, a line one."""
    steps = [*range(40), 99, 100, 101, 199, 200, 10**6, 2**32 - 1]
    allowed = {"cosine": COSINE_ERROR, "step": 64 * 0.5 * 2**-16, "warm_up": 2**-16}
    for step in steps:
        error = abs(op.factor_int(step) / op.ONE - op.factor(step))
        assert error <= allowed.get(op.kind, 0.0), step
        assert 0 <= op.factor_int(step) <= op.ONE


def test_schedules_have_their_textbook_values() -> None:
    assert [Step(10, by=0.5).factor(i) for i in (0, 9, 10, 20)] == [1, 1, 0.5, 0.25]
    assert [WarmUp(4).factor(i) for i in (0, 1, 3, 9)] == [0.25, 0.5, 1, 1]
    assert [Cosine(8).factor(i) for i in (0, 4, 8, 99)] == pytest.approx([1, 0.5, 0, 0])
    assert Constant().factor(7) == 1


@pytest.mark.parametrize("make", [lambda: Step(0), lambda: WarmUp(0), lambda: Cosine(-1)])
def test_a_schedule_needs_samples(make: Any) -> None:
    with pytest.raises(ShapeError, match="at least 1 is needed"):
        make()


# ---------------------------------------------------------------- link 2: layers


def tensors(shape: tuple[int, ...], bits: int, seed: int) -> Iterator[Ints]:
    """Random over the full range, small, and the extremes in every mixture."""
    random = np.random.RandomState(seed)
    rail = 2 ** (bits - 1)
    yield random.randint(-rail, rail, shape)
    yield random.randint(-3, 4, shape)
    yield np.full(shape, -rail)
    yield np.full(shape, rail - 1)
    yield random.choice([-rail, rail - 1], shape)
    yield random.choice([-rail, -1, 0, 1, rail - 1], shape)


def both(case: Case, kernel: str, operands: dict[str, Q], **options: Any) -> tuple[Q, Floats]:
    """The accumulator, and what the float twin makes of the same numbers."""
    options["shape"] = case.shapes(kernel)["out"]
    got = case.op.call(f"{kernel}_int", operands, **options)
    got = got.product if isinstance(got, Outer) else got
    values = {key: q.value for key, q in operands.items()}
    return got, case.op.call(kernel, values, shape=options["shape"])


def layer_operands(
    case: Case, kernel: str, bits: tuple[int, int], f: tuple[int, int], seed: int
) -> Iterator[dict[str, Q]]:
    """The kernel's operands: weights with bits[0] and f[0], x and dy with bits[1] and f[1]."""
    shapes = case.shapes(kernel)
    del shapes["out"]
    width = {"w": (bits[0], f[0]), "b": (32, BIAS_FRACTION), "x2": (bits[1], f[0])}
    streams = {
        key: tensors(shape, width.get(key, (bits[1], 0))[0], seed + i)
        for i, (key, shape) in enumerate(shapes.items())
    }
    for values in zip(*streams.values(), strict=True):
        yield {
            key: Q(integers(v), width.get(key, (bits[1], f[1]))[1])
            for key, v in zip(streams, values, strict=True)
        }


WIDTHS = [(16, 16), (16, 8), (8, 8)]
# The last three: biases lose most of their bits, all of them, gain as many as they can.
EXPONENTS = [(14, 15), (15, 11), (3, 2), (-8, -8), (22, 23)]


@pytest.mark.parametrize("case", LAYER_EXAMPLES, ids=str)
@pytest.mark.parametrize("bits", WIDTHS, ids=str)
@pytest.mark.parametrize("f", EXPONENTS, ids=str)
def test_layers_accumulate_exactly(case: Case, bits: tuple[int, int], f: tuple[int, int]) -> None:
    """But for what the op allows itself; a bias that loses bits costs half a unit of the sum."""
    for kernel in case.kernels:
        for operands in layer_operands(case, kernel, bits, f, seed=1):
            got, want = both(case, kernel, operands)
            assert got.q.shape == want.shape == case.shapes(kernel)["out"]
            bias_is_rounded = "b" in operands and got.f < BIAS_FRACTION
            error = np.abs(got.q - np.ldexp(want, got.f))
            # Float64 has 53 bits; a bias of 31 bits with 45 fraction bits takes 54.
            own = 1e-6 if bias_is_rounded else np.ldexp(np.max(np.abs(want)), got.f - 51)
            own += np.ldexp(case.op.allowance(kernel, operands, case.shapes(kernel)), got.f)
            assert np.max(error) <= (0.5 if bias_is_rounded else 0.0) + own, kernel


@pytest.mark.parametrize("case", LAYER_EXAMPLES, ids=str)
@pytest.mark.parametrize("bits", WIDTHS, ids=str)
def test_accumulators_stay_within_their_bound(case: Case, bits: tuple[int, int]) -> None:
    """|sum of products| <= 2**(bits of a product) * terms, at the extremes too."""
    for kernel in case.kernels:
        products = case.op.products(kernel, case.shapes(kernel))
        for operands in layer_operands(case, kernel, bits, (14, 14), seed=3):
            operands.pop("b", None)
            got, _ = both(case, kernel, operands)
            width = {"w": bits[0] - 1}
            product = sum(width.get(key, bits[1] - 1) for key in products.factors) + products.more
            assert np.max(np.abs(got.q)) <= products.terms << product, kernel


@pytest.mark.parametrize("case", LAYER_EXAMPLES, ids=str)
@pytest.mark.parametrize("bits", WIDTHS, ids=str)
@pytest.mark.parametrize("shift", [0, 1, 7, 12])
def test_sums_of_32_bits_are_rounded_once(case: Case, bits: tuple[int, int], shift: int) -> None:
    """The sum is off by half a unit, a bias by another half; what does not fit saturates."""
    for kernel in filter(case.op.may_be_short, case.kernels):
        for operands in layer_operands(case, kernel, bits, (14, 13), seed=2):
            got, want = both(case, kernel, operands, shift=shift)
            want = np.clip(np.ldexp(want, got.f), -(2.0**31), 2.0**31 - 1)
            bias = 0.5 if "b" in operands and got.f < BIAS_FRACTION else 0.0
            assert got.f == both(case, kernel, operands)[0].f - shift
            assert np.max(np.abs(got.q - want)) <= (0.5 if shift else 0.0) + bias


def first_that_matters(case: Case, kernel: str, operands: dict[str, Q], key: str) -> Floats:
    """For each output element the first element of an operand that changes it, or infinity."""
    before, _ = both(case, kernel, operands)
    first = np.full(before.q.size, np.inf)
    for index in reversed(range(operands[key].q.size)):
        for change in (1 << 20, -(1 << 20)):
            changed = operands[key].q.copy()
            changed.flat[index] += change
            after, _ = both(case, kernel, {**operands, key: Q(changed, operands[key].f)})
            first[(after.q != before.q).reshape(-1)] = index
    return first


@pytest.mark.parametrize("case", LAYER_EXAMPLES, ids=str)
def test_an_output_may_lie_over_an_operand_as_far_as_the_op_says(case: Case) -> None:
    """Which operand elements an output element reads is seen by changing each in turn.

    A largest number hides that others are read; among some draws each is the largest once.
    """
    for kernel in case.kernels:
        shapes = case.shapes(kernel)
        for key, lag in case.op.lag(kernel, shapes).items():
            first = np.full(size(shapes["out"]), np.inf)
            for seed in range(8):
                operands = next(layer_operands(case, kernel, (16, 16), (14, 14), seed))
                first = np.minimum(first, first_that_matters(case, kernel, operands, key))
            # When element k is written, what later elements read must lie at k + 1 - lag or above.
            needed = [k + 1 - min(first[k + 1 :]) for k in range(first.size - 1)]
            if key in case.op.reads_first(kernel):
                needed = []
            assert lag == max(0, *needed, 0), (kernel, key)


def test_an_identity_is_not_shifted() -> None:
    x = Q(integers([-32768, 3, 32767]), 15)
    assert not Identity().may_be_short("forward")
    assert Identity().call("forward_int", {"x": x}, shift=5) == x


@pytest.mark.parametrize("x", [(2, 3), (4, 4, 1)])
def test_dense_refuses_what_is_no_vector(x: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="needs a vector"):
        Dense(3).output_shape(x)


@pytest.mark.parametrize("slope_", [-0.1, 1.0, math.nan])
def test_leaky_relu_refuses_a_slope_that_is_none(slope_: float) -> None:
    with pytest.raises(ShapeError, match="at least 0 and below 1"):
        LeakyRelu(slope_)


@pytest.mark.parametrize("alpha", [-0.1, 2.1, math.nan])
def test_elu_refuses_an_alpha_that_is_none(alpha: float) -> None:
    with pytest.raises(ShapeError) as caught:
        Elu(alpha)
    assert str(caught.value) == f"alpha = {alpha}: it must be at least 0 and at most 2"


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(rate: float) -> None:
    """Within five standard deviations, for the numbers of a layer and for one number over layers."""
    op, n = Dropout(rate), 40_000
    many = op.keeps(sample_seed(3, 0), (n,))
    one = np.array([op.keeps(sample_seed(steps, 1), (3,))[2] for steps in range(n // 20)])
    for kept in (many, one):
        assert abs(kept.mean() - (1 - rate)) < 5 * math.sqrt(rate * (1 - rate) / kept.size)
    assert op.scale_q / 2**12 * (1 - rate) == pytest.approx(1, abs=2.0**-12)


def test_masks_of_neighbours_are_independent() -> None:
    """Of elements, samples and layers: agreement is that of coins, within five deviations."""
    op, n = Dropout(0.5), 4000
    mask = op.keeps(sample_seed(7, 0), (n + 1,))
    for other in (
        *(mask[1:], op.keeps(sample_seed(8, 0), (n,)), op.keeps(sample_seed(7, 1), (n,))),
        *(op.keeps(sample_seed(6, 1), (n,)), op.keeps(sample_seed(7 + 2**16, 0), (n,))),
    ):
        assert abs(np.mean(mask[:n] == other) - 0.5) < 5 * math.sqrt(0.25 / n)


# ---------------------------------------------------------------- link 2: elementwise ops


def accumulators(bits: int, seed: int) -> Ints:
    """Accumulators of at most 2**bits: of all lengths, both bounds, what is next to them."""
    random = np.random.RandomState(seed)
    bound = 2**bits
    lengths = random.randint(0, bits + 1, 300)
    values = [int(random.randint(0, 2**62)) >> (62 - int(n)) for n in lengths]
    values += [0, 1, 2, 3, bound // 2, bound - 1, bound]
    return integers([sign * v for v in values for sign in (1, -1)])


ACCUMULATOR_BITS = [7, 15, 20, 30, 32, 33, 36, 40, 47, 48, 55, 60]
FRACTIONS = [-16, 0, 8, 15, 16, 22, 30, 45]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=name_of)
@pytest.mark.parametrize("bits", ACCUMULATOR_BITS)
def test_elementwise_forward_is_within_its_allowance(op: ElementwiseOp, bits: int) -> None:
    for f in FRACTIONS:
        x = Q(accumulators(bits, bits), f)
        got = op.forward_int(x, bits)
        allowed = op.allowance("forward", f, bits)
        want = op.forward(x.value)
        assert np.all(np.abs(got.value - want) <= allowed + np.abs(want) * 2.0**-50), f
        assert np.max(np.abs(got.q)) <= 2 ** op.grown_bits("forward", bits), f
        assert op.grown_bits("forward", bits) <= 62, f


def outputs_of(op: ElementwiseOp, width: int, count: int) -> Q:
    """Stored outputs over the op's whole range, its ends included."""
    f = op.output_fraction(width)
    low, high = -(2 ** (width - 1)), 2 ** (width - 1) - 1
    if isinstance(op, Sigmoid):
        low = 0
    values = np.random.RandomState(count).randint(low, high + 1, count)
    values[:6] = low, high, 0, 1, max(low, -1), high - 1
    return Q(integers(values), 9 if f is None else f)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=name_of)
@pytest.mark.parametrize("bits", ACCUMULATOR_BITS)
@pytest.mark.parametrize("width", [8, 16])
def test_elementwise_backward_is_within_its_allowance(
    op: ElementwiseOp, bits: int, width: int
) -> None:
    for f in FRACTIONS:
        values = accumulators(bits, bits)
        y = outputs_of(op, width, values.size)
        for order in (slice(None), slice(None, None, -1)):
            dy = Q(values[order], f)
            got = op.grad_x_int(dy, y, bits)
            allowed = op.allowance("grad_x", f, bits)
            want = op.grad_x(dy.value, y.value)
            assert np.all(np.abs(got.value - want) <= allowed + np.abs(want) * 2.0**-50), f
            assert np.max(np.abs(got.q)) <= 2 ** op.grown_bits("grad_x", bits), f
            assert op.grown_bits("grad_x", bits) <= 62, f


@pytest.mark.parametrize("op", [Sigmoid(), Tanh()], ids=name_of)
def test_curves_use_most_of_their_allowance(op: ElementwiseOp) -> None:
    """A derived bound that nothing comes near would hide mistakes."""
    x = Q(np.arange(-(2**20), 2**20, 7), 17)
    worst = np.max(np.abs(op.forward_int(x, 21).value - op.forward(x.value)))
    assert 0.5 < worst / op.allowance("forward", 17, 21) <= 1


def test_elu_uses_much_of_its_allowance() -> None:
    """Most of it is the remainder of the cubic, which is largest just before a table's entry."""
    x = Q(-np.arange(2**20), 19)
    worst = np.max(np.abs(Elu().forward_int(x, 21).value - Elu().forward(x.value)))
    assert 0.5 < worst / Elu().allowance("forward", 19, 21) <= 1


def test_elu_keeps_what_is_positive_and_never_falls() -> None:
    """However coarse or fine the accumulator is, up to the bits that it has."""
    for f, bits in ((-8, 30), (20, 30), (45, 50), (45, 61)):
        x = Q(accumulators(bits, seed=1), f)
        y = Elu().forward_int(Q(np.sort(x.q), f), bits)
        assert np.all(np.diff(y.q) >= 0)
        assert np.array_equal(y.q > 0, np.sort(x.q) > 0)
    x = Q(integers(-np.arange(2**18)), 16)
    assert np.all(np.diff(Elu().forward_int(x, 18).q) <= 0)


def test_backward_of_elu_stays_within_its_slopes() -> None:
    """Stored outputs may be rounded below -alpha, where the slope is 0."""
    op, dy = Elu(0.75), Q(integers([8, 8, 8, 8, 8]), 3)
    y = Q(integers([1, 0, -2, -3, -4]), 2)
    assert op.grad_x_int(dy, y, 10).value.tolist() == [1.0, 0.75, 0.25, 0.0, 0.0]
    assert op.grad_x(dy.value, y.value).tolist() == [1.0, 0.75, 0.25, 0.0, 0.0]


@pytest.mark.parametrize("op", [Sigmoid(), Tanh()], ids=name_of)
def test_curves_never_fall(op: ElementwiseOp) -> None:
    """And the stored output keeps to the range that its format has."""
    y = op.forward_int(Q(np.arange(-(2**19), 2**19), 16), 20)
    assert np.all(np.diff(y.q) >= 0)
    assert np.max(np.abs(y.value)) <= 1


def test_backward_of_a_leaky_relu_follows_the_sign_of_forward() -> None:
    """For slopes above 0 the output has the sign of the input; zero counts as not positive."""
    op = LeakyRelu(0.25)
    dy = Q(integers([8, 8, 8]), 3)
    assert op.grad_x_int(dy, Q(integers([5, 0, -5]), 9), 10).value.tolist() == [1.0, 0.25, 0.25]
    assert op.grad_x(dy.value, np.array([5.0, 0.0, -5.0])).tolist() == [1.0, 0.25, 0.25]


# ---------------------------------------------------------------- link 2: losses


def scores(outputs: int, seed: int) -> Iterator[Ints]:
    """Scores of 16 bits: random of several sizes, all equal, one alone, all at the rails."""
    random = np.random.RandomState(seed)
    for length in (3, 8, 11, 15):
        yield integers(random.randint(-(2**length), 2**length, outputs))
    for value in (-32768, 0, 32767):
        yield integers(np.full(outputs, value))
    alone = np.full(outputs, -32768)
    alone[random.randint(outputs)] = 32767
    yield integers(alone)
    yield integers(random.choice([-32768, 32767], outputs))
    yield integers(np.arange(outputs) - outputs // 2)


def softmax_loss_allowance(op: SoftmaxCrossEntropy, outputs: int, loss: float) -> float:
    """In nats: log2; cutting to 18 bits before ln 2 and to LOSS_FRACTION after it; the relative
    error of the sum of exponentials, which `allowance` bounds as it bounds a single one; and the
    constants log2(e), ln 2: half of 2**-30 and 2**-32 of them.
    """
    table = (LOG2_ERROR + 2.0**-26) * math.log(2)
    cuts = math.log(2) * 2.0**-18 + 2.0**-LOSS_FRACTION
    return table + cuts + op.allowance(outputs) + loss * 2.0**-30


@pytest.mark.parametrize("outputs", [2, 3, 4, 5, 10, 31, 32, 100, 1000])
@pytest.mark.parametrize("f", [-8, 0, 4, 8, 12, 15, 23])
def test_softmax_is_within_its_allowance(outputs: int, f: int) -> None:
    op = SoftmaxCrossEntropy()
    for i, q in enumerate(scores(outputs, outputs)):
        for label in {0, outputs - 1, int(q.argmax()), int(q.argmin())}:
            x = Q(q, f)
            loss, error = op.loss_int(x, integers(label))
            want, want_error = op.loss(x.value, label)
            assert error.f == op.error_fraction(f)
            worst = np.max(np.abs(error.value - want_error))
            assert worst <= op.allowance(outputs) + 2.0**-50, (i, label)
            assert np.max(np.abs(error.q)) <= 2 ** op.error_bits(f)
            ceiling = (2**31 - 1) / 2**LOSS_FRACTION
            got = loss / 2**LOSS_FRACTION
            allowed = softmax_loss_allowance(op, outputs, min(want, ceiling))
            assert abs(got - min(want, ceiling)) <= allowed, (i, label)
            assert 0 <= loss < 2**31


@pytest.mark.parametrize("outputs", [2, 3, 10, 32, 1000])
@pytest.mark.parametrize("f", [-8, 0, 8, 15, 23])
def test_probabilities_are_within_their_allowance(outputs: int, f: int) -> None:
    op, shapes = Softmax(), {"x": (outputs,), "out": (outputs,)}
    for q in scores(outputs, outputs):
        got, want = op.forward_int(Q(q, f)), op.forward(Q(q, f).value)
        allowed = op.allowance("forward", {"x": Q(q, f)}, shapes)
        assert np.max(np.abs(got.value - want)) <= allowed
        assert want.sum() == pytest.approx(1)
        assert np.all((got.q >= 0) & (got.q <= 1 << op.products("forward", shapes).more))
        assert np.all(np.diff(got.q[np.argsort(q)]) >= 0)


def test_scores_can_be_told_from_probabilities() -> None:
    """But for a constant, and for what is below half a unit."""
    x = np.array([0.5, -2.0, 1.0, -30.0])
    back = Softmax().scores(Softmax().forward(x))
    assert back[:3] - back[0] == pytest.approx(x[:3] - x[0])
    assert back[3] == pytest.approx(math.log(2.0**-16))


@pytest.mark.parametrize("outputs", [2, 3, 10, 255, 256, 1000])
def test_the_sum_of_exponentials_fits_32_bits(outputs: int) -> None:
    """All scores equal is the largest sum; the errors of p then sum to 0 but for rounding."""
    op = SoftmaxCrossEntropy()
    assert outputs * exp2(0, op.fraction(outputs)) < 2**32
    _, error = op.loss_int(Q(integers(np.full(outputs, -7)), 8), integers(0))
    assert abs(int(error.q.sum())) <= outputs


def test_exp2_and_log2_are_inverse_within_their_tables() -> None:
    for t in range(0, 20 << 26, (1 << 26) // 37):
        assert exp2(t, 28) / 2**28 == pytest.approx(
            2 ** (-t / 2**26), abs=0.5 * 2.0**-28 + EXP2_ERROR
        )
    assert exp2(1 << 60, 28) == 0
    ends = [power + i for power in EXP2_TABLE for i in (-1, 0, 1)]
    for v in (
        1 << 28,
        (1 << 28) + 1,
        3 << 28,
        (1 << 32) - 1,
        *range(1 << 28, 1 << 32, 9 << 17),
        *ends,
    ):
        assert abs(log2(v, 28) / 2**26 - math.log2(v / 2**28)) <= LOG2_ERROR


@pytest.mark.parametrize("outputs", [1, 2, 3, 100, 1000])
@pytest.mark.parametrize("f", range(16))
def test_the_squared_error_is_exact(outputs: int, f: int) -> None:
    """The error has no allowance; the loss is rounded once, and saturates at 2048."""
    op = SquaredError()
    assert op.allowance(outputs) == 0
    random = np.random.RandomState(f)
    for i, q in enumerate(scores(outputs, outputs)):
        for t in (random.randint(-32768, 32768, outputs), random.choice([-32768, 32767], outputs)):
            x = Q(q, f)
            loss, error = op.loss_int(x, integers(t))
            want, want_error = op.loss(x.value, np.ldexp(t, -15))
            assert error.f == op.error_fraction(f)
            assert np.array_equal(error.value, want_error), i
            assert np.max(np.abs(error.q)) <= 2 ** op.error_bits(f)
            want = min(want, (2**31 - 1) / 2**LOSS_FRACTION)
            assert abs(loss / 2**LOSS_FRACTION - want) <= 2.0 ** (-LOSS_FRACTION - 1), i
            assert 0 <= loss < 2**31


# ---------------------------------------------------------------- link 2: optimizers


def rail_of(bits: int) -> int:
    return 1 << (bits - 1)


def changes(bits: int, seed: int) -> tuple[Ints, Ints, Ints]:
    """Weights and velocities over their whole range, and changes with 16 fraction bits more."""
    random = np.random.RandomState(seed)
    n = 4000
    w = random.randint(-rail_of(bits), rail_of(bits), n)
    v = random.randint(-(2**15), 2**15, n)
    delta = random.randint(-(2**30), 2**30, n) >> random.randint(0, 31, n)
    for i, values in enumerate(((-rail_of(bits), rail_of(bits) - 1), (-(2**15), 2**15 - 1))):
        (w, v)[i][: n // 10] = random.choice(values, n // 10)
    delta[: n // 20] = random.choice([-(2**30), 2**30 - 1, 0, -1, 1], n // 20)
    return integers(w), integers(v), integers(delta)


def moved(op: ChangeOptimizer, w: Ints, delta: Any, slots: Slots, bits: int) -> Floats:
    """What the float twin makes of given slots, in units of the weight: for a rate of 1 `delta` is
    minus the gradient.
    """
    unit = 2.0 ** -op.headroom(bits)
    change = op.step(-np.asarray(delta) * unit / 2**16, tuple(v * unit for v in slots), 1.0)
    return np.clip(w + change, -rail_of(bits), rail_of(bits) - 1)


def tracked(op: ChangeOptimizer, delta: Any, slots: Slots) -> Slots:
    """The float twin's slots, in their units, cut to the 16 bits that the integers have."""
    after = op.track(-np.asarray(delta) / 2**16, tuple(v.astype(float) for v in slots), 1.0)
    return tuple(np.clip(v, -(2**15), 2**15 - 1) for v in after)


@pytest.mark.parametrize("op", CHANGE_OPTIMIZERS, ids=name_of)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("stochastic", [True, False])
def test_a_weight_moves_as_its_float_twin_does(
    op: ChangeOptimizer, bits: int, stochastic: bool
) -> None:
    """Slots are rounded by less than a unit (nearest: 0.5) and 2**-16 of one below; so is the
    weight, and what moves it may be rounded to half a unit of the slots before.
    """
    w, v, delta = changes(bits, seed=3)
    draws = integers(np.random.RandomState(4).randint(0, 2**32, w.size, dtype=np.int64))
    before = (v,) * len(op.slots)
    after, slots = op.update_int(w, delta, before, draws if stochastic else None, bits)
    rounding = 1.0 if stochastic else 0.5
    ahead = (0.5 + 2.0**-15) * 2.0 ** -op.headroom(bits) if op.slots else 0.0
    error = np.abs(after - moved(op, w, delta, slots, bits))
    assert np.max(error) <= rounding + ahead + FLOAT_ERROR
    assert np.array_equal(after, saturate(after, bits))
    for got, want in zip(slots, tracked(op, delta, before), strict=True):
        assert np.max(np.abs(got - want)) <= rounding + 2.0**-16 + FLOAT_ERROR
        assert np.array_equal(got, saturate(got, 16))


@pytest.mark.parametrize("op", CHANGE_OPTIMIZERS, ids=name_of)
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("stochastic", [True, False])
def test_an_update_is_within_the_weight_allowance(
    op: ChangeOptimizer, bits: int, stochastic: bool
) -> None:
    """Errors times inputs, with the rate folded in. The folded error is off by less than a unit
    and meets |x| <= 2**15 with 16 fraction bits more: half a unit of what the optimizer moves.
    """
    random, source = np.random.RandomState(5), Random(0x6D637567)
    rate, worst = Rate(200, 9), 0.0
    for k in (-3, 0, 1, 4, 9, 16, 24):
        for error in (*random.randint(-200, 200, 20), 127, -128, 1, -1, 32767, -32768):
            n = fold(int(error), rate, k, source)
            exact = math.ldexp(-int(error) * rate.m, -k)
            if not -(2**15) < exact < 2**15 - 1:
                continue  # the gradient is clipped
            x = np.concatenate([random.randint(-32768, 32768, 60), [-32768, 32767, 0]])
            w, v = integers(random.randint(-100, 100, x.size)), integers(np.zeros(x.size))
            draws = integers(random.randint(0, 2**32, x.size, dtype=np.int64))
            before = (v,) * len(op.slots)
            after, slots = op.update_int(
                w, integers(n * x), before, draws if stochastic else None, bits
            )
            want = moved(op, w, exact * x, slots, bits)
            worst = max(worst, float(np.max(np.abs(after - want))))
            aims = zip(tracked(op, exact * x, before), op.slot_allowance, slots, strict=True)
            for aim, allowed, got in aims:
                assert np.max(np.abs(got - aim)) <= allowed
    assert worst <= op.weight_allowance
    assert worst > 0.75 * (1.0 if stochastic else 0.5)


@pytest.mark.parametrize("bits", [8, 16])
def test_a_stochastic_update_is_unbiased(bits: int) -> None:
    """All 2**16 dithers of one change: the mean is the change, exactly, as in Hermite's identity."""
    dithers = integers(np.arange(2**16)) << 16
    for delta in (1, -1, 12345, -98765, 2**17 + 3):
        w = integers(np.zeros(2**16))
        after, _ = Sgd().update_int(w, w + delta, (), dithers, bits)
        assert int(after.sum()) == delta


@pytest.mark.parametrize("op", CHANGE_OPTIMIZERS, ids=name_of)
def test_a_bias_moves_as_its_float_twin_does_within_the_bias_allowance(op: ChangeOptimizer) -> None:
    random = np.random.RandomState(6)
    n, scale = 1000, 2.0**op.bias_headroom
    unit = 2.0**-BIAS_FRACTION
    for f in (-8, 0, 5, 13, 20, 30, 45):
        for rate in (Rate(128, 0), Rate(200, 9), Rate(255, 20), Rate(0, 0)):
            b = integers(random.randint(-(2**31), 2**31, n))
            before = (integers(random.randint(-(2**20), 2**20, n)),) * len(op.slots)
            g = Q(integers(random.randint(-(2**15), 2**15, n)), f)
            b[:2], g.q[:4] = (-(2**31), 2**31 - 1), (-(2**15), 2**15 - 1, 0, 1)
            after, slots = op.update_bias_int(b, g, before, rate)
            floats = [tuple(v * unit / scale for v in values) for values in (before, slots)]
            change = op.step(g.value, floats[1], rate.value) / unit
            aims = [v / unit * scale for v in op.track(g.value, floats[0], rate.value)]
            want = b + change
            fits = (np.abs(want) < 2**31 - 2) & (np.abs(change) * scale < 2**31 - 2)
            for aim in aims:
                fits &= np.abs(aim) < 2**31 - 2
            assert np.any(fits), (f, rate)
            assert np.max(np.abs(after - want)[fits]) <= op.bias_allowance + 1e-6, (f, rate)
            assert np.array_equal(after, saturate(after, 32))
            for got, aim in zip(slots, aims, strict=True):  # both addends are rounded to nearest
                assert np.max(np.abs(got - aim)[fits]) <= 1 + 1e-6, (f, rate)
            if rate.m == 0 and not op.slots:
                assert np.array_equal(after, b)


def test_biases_saturate_in_both_directions() -> None:
    g = Q(integers([2**15 - 1, -(2**15)]), -8)
    rails = integers([-(2**31), 2**31 - 1])
    for op in CHANGE_OPTIMIZERS:
        slots = (integers([0, 0]),) * len(op.slots)
        after, _ = op.update_bias_int(rails, g, slots, Rate(255, 0))
        assert after.tolist() == rails.tolist()


# ---------------------------------------------------------------- link 2: running means


def slots_and_gradients(seed: int) -> tuple[Ints, Ints, Ints]:
    """Means over their whole range, roots of mean squares, gradients with 4 fraction bits more."""
    random, n = np.random.RandomState(seed), 4000
    m = random.randint(-(2**15), 2**15, n) >> random.randint(0, 16, n)
    root = random.randint(0, 2**15, n) >> random.randint(0, 16, n)
    g = random.randint(-(2**21), 2**21, n) >> random.randint(0, 22, n)
    m[:4], root[:4], g[:4] = (-(2**15), 2**15 - 1, 0, 0), (0, 2**15 - 1, 0, 1), (-(2**21), 0, 0, 1)
    return integers(m), integers(root), integers(g)


@pytest.mark.parametrize("beta", [0, 1, 16384, 29491, 32767])
def test_a_mean_is_rounded_to_a_neighbour_without_bias(beta: int) -> None:
    m, _, g = slots_and_gradients(seed=1)
    exact = np.clip((m * beta + g / 16 * (2**15 - beta)) / 2**15, -(2**15), 2**15 - 1)
    total = np.zeros(m.size)
    dithers = np.arange(0, 2**15, 2**7)
    for dither in dithers:
        got = mean(m, g, beta, integers(dither))
        assert np.max(np.abs(got - exact)) <= 1 + 2.0**-16
        total += got
    # A step of the dithers, and the gradient's last bits.
    assert np.max(np.abs(total / dithers.size - exact)) <= 2.0**-8 + 2.0**-16


@pytest.mark.parametrize("beta", [0, 1, 943718, 1047527, 2**20 - 1])
def test_a_root_mean_square_is_rounded_to_a_neighbour_along_the_chord(beta: int) -> None:
    _, root, g = slots_and_gradients(seed=2)
    square = (root.astype(float) ** 2 * beta + (g / 16) ** 2 * (2**20 - beta)) / 2**20
    square = np.minimum(square, (2.0**15 - 1) ** 2)
    exact = np.sqrt(square)
    below = np.floor(exact)
    chord = below + (square - below**2) / (2 * below + 1)
    total = np.zeros(root.size)
    dithers = np.arange(0, 2**16, 2**8)
    for dither in dithers:
        got = root_mean_square(root, g, beta, integers(dither))
        assert np.max(np.abs(got - exact)) <= 1
        total += got
    assert np.max(np.abs(total / dithers.size - chord)) <= 2.0**-8 + 2.0**-15
    assert np.all(exact - chord <= 0.25 / np.maximum(2 * below, 1) + 1e-9)


def test_a_quotient_is_rounded_to_nearest_in_both_signs() -> None:
    random = np.random.RandomState(3)
    numerator = integers(random.randint(-(2**30), 2**30, 4000) >> random.randint(0, 31, 4000))
    denominator = integers(random.randint(1, 2**16, 4000))
    got = quotient(numerator, denominator)
    assert np.max(np.abs(got - numerator / denominator)) <= 0.5
    assert np.array_equal(quotient(-numerator, denominator), -got)


@pytest.mark.parametrize("op", GRADIENT_OPTIMIZERS, ids=name_of)
@pytest.mark.parametrize("bits", [8, 16, 32])
@pytest.mark.parametrize("batch", [1, 8])
def test_an_update_by_running_means_is_within_its_allowances(
    op: Moments, bits: int, batch: int
) -> None:
    random = np.random.RandomState(4)
    m, root, g = slots_and_gradients(seed=5)
    before = {("m", "root"): (m, root), ("root",): (root,)}[op.slots]
    worst = 0.0
    for f, slots_f, rate in (
        (10, 12, Rate(131, 17)),
        (15, 30, Rate(255, 20)),
        (22, -3, Rate(0, 0)),
    ):
        f = BIAS_FRACTION if bits == 32 else f
        rail = rail_of(bits)
        w = integers(random.randint(-rail, rail, m.size))
        draws = tuple(integers(random.randint(0, 2**32, m.size)) for _ in range(op.words))
        place = Place(bits, f, slots_f, batch)
        gradient = Q(g << 4, slots_f + 8)  # what the optimizer takes up is g
        after, slots = op.update_int(w, gradient, before, draws, rate, place)
        stored = op.as_stored(slots_f, batch)
        floats = [tuple(np.ldexp(v, -slots_f) for v in values) for values in (before, slots)]
        for got, aim, allowed in zip(
            slots,
            stored.track(gradient.value, floats[0], rate.value),
            op.slot_allowance,
            strict=True,
        ):
            aim = np.clip(np.ldexp(aim, slots_f), -(2**15), 2**15 - 1)
            assert np.max(np.abs(got - aim)) <= allowed
        change = np.ldexp(stored.step(gradient.value, floats[1], rate.value), f)
        fits = (np.abs(change) < 2**15) & (np.abs(w + change) < rail - 2)
        role = "bias" if bits == 32 else "weight"
        error = np.max(np.abs(after - w - change)[fits])
        assert error <= op.allowance(role, f, rate.value) + FLOAT_ERROR
        worst = max(worst, error)
        assert np.array_equal(after, saturate(after, bits))
    assert worst > 0.45


def test_the_correction_of_adam_is_that_of_its_float_twin() -> None:
    """The root of the second bias has 16 fraction bits, and so has the factor."""
    for op in (Adam(), Adam(beta1=0.0), Adam(beta1=0.99, beta2=0.99), Adam(beta1=0.5, beta2=0.0)):
        lack1 = 1 - op.beta1_q / 2**15
        for update in (*range(50), 10**3, 10**4, 10**6, 2**32 - 1):
            allowed = 2.0**-16 / lack1 + 2.0**-16 + 2.0**-20
            assert op.factor_int(update) / 2**16 == pytest.approx(op.factor(update), abs=allowed)
    assert Adam().factor_int(2**32 - 1) == 2**16 - 1


def test_epsilon_is_a_whole_number_of_units_and_at_least_one() -> None:
    assert Adam().epsilon_int(14, 1) == 1
    assert Adam(epsilon=2.0**-10).epsilon_int(14, 1) == 16
    assert Adam(epsilon=2.0**-10).epsilon_int(14, 4) == 64
    assert Adam(epsilon=1.0).epsilon_int(60, 1) == 2**14 - 1


def test_a_summed_gradient_becomes_a_change_within_the_weight_allowance() -> None:
    """Batches: the step is off by half a unit and meets m < 2**8 with 16 fraction bits: 2**-9."""
    random = np.random.RandomState(7)
    for k in (-6, 0, 3, 8, 15):
        g = integers(random.randint(-(2**15), 2**15, 500))
        exact = np.ldexp(-g.astype(float), -k)
        inside = np.abs(exact) < 2**23 - 1
        w, rate = integers(np.zeros(500)), Rate(255, 12)
        after, _ = Sgd().update_int(w, step24(g, k) * rate.m, (), None, 16)
        want = np.clip(exact * rate.m / 2**16, -(2**15), 2**15 - 1)
        assert np.max(np.abs(after - want)[inside]) <= 0.5 + 0.5 * 255 / 2**16 + FLOAT_ERROR


# ---------------------------------------------------------------- what an op promises to the C


BUILT_OF_OTHERS = (ViewOp, FoldOp, ChainOp)
WITH_KERNELS = [kind for kind, op in LAYERS.items() if not issubclass(op, BUILT_OF_OTHERS)]


@pytest.mark.parametrize("kind", [*WITH_KERNELS, *LOSSES, *OPTIMIZERS, *SCHEDULES, "identity"])
def test_every_op_has_a_template_of_its_name(kind: str) -> None:
    assert (paths.TEMPLATES / "ops" / f"{kind}.c.j2").is_file()


KERNELS: list[tuple[Op, list[str]]] = [(example.op, example.kernels) for example in LAYER_EXAMPLES]
KERNELS += [(op, ["forward", "grad_x"]) for op in ELEMENTWISE]
KERNELS += [(op, ["forward"]) for op in ANSWER_EXAMPLES]


@pytest.mark.parametrize(("op", "kernels"), KERNELS, ids=str)
def test_every_kernel_has_a_macro_of_its_name(op: Op, kernels: list[str]) -> None:
    template = (paths.TEMPLATES / "ops" / f"{op.kind}.c.j2").read_text(encoding="utf-8")
    for kernel in kernels:
        assert f"macro {kernel}(" in template
        assert f"macro {kernel}_fraction(" in template


@pytest.mark.parametrize(
    ("op", "kernels"), [*KERNELS, *((loss, ["loss"]) for loss in LOSS_EXAMPLES)], ids=str
)
def test_every_kernel_has_an_integer_twin_that_reads_the_same(op: Op, kernels: list[str]) -> None:
    for kernel in kernels:
        twin = list(inspect.signature(getattr(op, f"{kernel}_int")).parameters)
        options = ("shift", "bits", "shape")
        assert [n for n in twin if n not in options] == list(op.reads(kernel))


def test_tables_fit_their_c_types() -> None:
    for op in ELEMENTWISE:
        for kernel in ("forward", "grad_x"):
            for name, table in op.tables(kernel).items():
                assert all(type(v) is int and 0 <= v < 2**32 for v in table), name
    for loss in LOSS_EXAMPLES:
        for name, table in loss.tables().items():
            assert all(type(v) is int and 0 <= v < 2**32 for v in table), name


def test_tables_rise_or_fall_without_a_break() -> None:
    """Monotonic tables make monotonic functions; the C subtracts neighbours without a sign."""
    assert all(np.diff(TANH_TABLE) >= 0)
    assert len(TANH_TABLE) == 257
    assert TANH_TABLE[0] == 0
    assert all(np.diff(SoftmaxCrossEntropy().tables()["exp2_table"]) < 0)


def test_stored_scores_of_a_curve_fit_their_format() -> None:
    """The largest output of a curve saturates to the largest number of the format."""
    for op in (Sigmoid(), Tanh()):
        for bits in (8, 16):
            y = op.forward_int(Q(integers([2**40]), 0), 41)
            f = op.output_fraction(bits)
            assert f is not None
            assert int(narrow(y.q, y.f - f, bits)[0]) == 2 ** (bits - 1) - 1


@pytest.mark.parametrize(
    ("targets", "scores", "score"),
    [
        ([0.0, 1.0], [0.0, 0.5], 0.5),
        ([0.5, 0.5], [0.0, 0.5], 0.0),  # as few samples have it: there is no variance to explain
        ([0.5, 0.5], [0.5, 0.5], 1.0),
    ],
)
def test_r2_is_a_number_where_targets_do_not_vary(
    targets: list[float], scores: list[float], score: float
) -> None:
    column = np.array(targets)[:, None]
    assert SquaredError().score(np.array(scores)[:, None], column) == score


@pytest.mark.parametrize("steps", [32_767, 32_770])
def test_gradients_from_copies_count_no_more_than_16_bits(steps: int) -> None:
    """As the table has them that the C reads; longer signals have the other way only."""
    op = Conv1d(filters=16, kernel=3)
    shapes = {"dy": (steps - 2, 16), "x": (steps, 1), "out": (16, 3, 1)}
    fits = steps - 2 < 1 << 15
    assert op.walks_rows("grad_w", shapes) == ("walk" in op.choices("grad_w", shapes)) == fits
    numbers = [number for piece in op.geometry(shapes).pieces for number in piece[1:]]
    assert (max(numbers) < 1 << 15) == fits
