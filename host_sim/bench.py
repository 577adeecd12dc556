"""Spec -> what one training step and one prediction cost on emulated cores."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import lcm
from typing import Any

import numpy as np

from codegen.board import Board, all_boards
from codegen.emit import Options, emit, emit_harness
from codegen.errors import UserError
from codegen.fixedpoint import Floats, learning_rate
from codegen.graph import PARAMETER_ROLES, Plan, Tensor
from codegen.interpret import CARE_EVERY, IntegerLearner, State
from codegen.layout import pack
from codegen.pipeline import Samples, make_plan, make_state, quantize_samples, synthetic_samples
from codegen.report import multiplies
from codegen.spec import Spec
from host_sim.device import Build
from host_sim.emulator import Core, EmulatedProgram

TYPICAL_STEPS = 100
# What is tried for the worst case, in this order of preference: the learning rate and greater ones,
# seeds, and steps done before it, as a schedule may begin or end at 0.
_TRIES = tuple(product((1, 16, 256), range(4), (0, 1 << 7, 1 << 10, 1 << 13)))
_SLOWEST = 2.0**-8  # a learning rate that is 0 leaves no row to update


@dataclass(frozen=True)
class CoreCost:
    """Instructions of a step or a prediction on one core; bytes of stack and of code.

    `stack_bytes` is the deepest stack that was seen, `stack_bound_bytes` the deepest there can be.

    `train` is a worst case: no row of weights is skipped. Steps differ, because every 16th looks
    for weights that near their rail, and the last of a batch updates: `train` is their mean.
    """

    train: int
    train_typical: int
    predict: int
    train_per_mac: float
    functions: Mapping[str, int]  # of `train`
    stack_bytes: int
    stack_bound_bytes: int
    code_bytes: int


@dataclass(frozen=True)
class BenchResult:
    """What `mcugrad bench` found; `as_json` has the keys that scripts rely on."""

    network: str
    mode: str
    cores: Mapping[str, CoreCost]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    spec: Spec,
    cores: Sequence[Core],
    *,
    samples: Samples | None = None,
    seed: int = 0,
    progress: Callable[[int], None] = lambda done: None,
) -> BenchResult:
    """The costs on each core of the C that a board with that core gets.

    `samples` are the typical ones; without them they are random.
    """
    costs = {}
    for i, core in enumerate(cores):
        costs[core.name] = core_cost(spec, core, samples, seed)
        progress(i + 1)
    return BenchResult(spec.name, spec.mode, costs)


def core_cost(
    spec: Spec,
    core: Core,
    samples: Samples | None = None,
    seed: int = 0,
    steps: int = TYPICAL_STEPS,
) -> CoreCost:
    """The costs on one core; what is typical is the mean of so many steps."""
    board = board_with(core)
    plan = make_plan(spec, board)
    worst = worst_case(spec, plan)
    typical = samples or synthetic_samples(spec, plan, steps, seed)
    start = make_state(spec, plan, samples, seed)
    build = Build(spec, plan, start, Options(), core)
    usual = _typical_steps(build, typical, seed, steps)
    functions = _worst_steps(build, worst)
    stack = _program(build).stack_bytes
    train = functions.total()
    return CoreCost(
        train=round(train / worst.period),
        train_typical=round(usual / steps),
        predict=_prediction(build, worst),
        train_per_mac=round(train / worst.period / multiplies(plan)["total"], 3),
        functions={name: round(n / worst.period) for name, n in functions.most_common()},
        stack_bytes=stack,
        stack_bound_bytes=_program(build).stack_bound(f"{spec.name}_train"),
        code_bytes=core.code_bytes(emit(spec, plan, start, Options()), spec.name),
    )


def stack_bounds(spec: Spec, plan: Plan, state: State, core: Core) -> dict[str, int]:
    """Bytes of stack that a call of train or of predict takes at the most."""
    elf = core.link(emit(spec, plan, state, Options()) | emit_harness(spec, plan, state, Options()))
    return {name: core.stack_bound(elf, f"{spec.name}_{name}") for name in ("train", "predict")}


def board_with(core: Core) -> Board | None:
    """The first board that has this core: it decides how the C accumulates."""
    return next((board for board in all_boards() if board.built_core == core.name), None)


# ---------------------------------------------------------------- the steps that are counted


def _typical_steps(build: Build, samples: Samples, seed: int, steps: int) -> int:
    """Instructions of the first steps of training from the starting parameters."""
    order = np.random.RandomState(seed).permutation(len(samples))
    build.init()
    _program(build).reset()
    for i in range(steps):
        _train(build, samples, order[i % len(samples)])
    return _program(build).instructions().total()


def _worst_steps(build: Build, worst: "WorstCase") -> Counter[str]:
    """Instructions of all steps of the worst case, by function."""
    _program(build).reset()
    for state in worst.states():
        build.params[:] = np.frombuffer(pack(build.plan, state), np.uint8)
        _train(build, worst.samples, 0)
    return _program(build).instructions()


def steps_cost(build: Build, worst: "WorstCase") -> int:
    """Instructions of all steps of a worst case together."""
    return _worst_steps(build, worst).total()


def _program(build: Build) -> EmulatedProgram:
    assert isinstance(build.program, EmulatedProgram)
    return build.program


def _train(build: Build, samples: Samples, index: int) -> None:
    graph = build.plan.training.graph
    target = np.array(samples.target[index], np.int16)
    answer = int(target) if graph.loss.target_is_label else target
    x = build.inputs(samples.x[index : index + 1])
    build.program.call(f"{graph.name}_train", build.params, build.work, x, answer)


def _prediction(build: Build, worst: "WorstCase") -> int:
    _program(build).reset()
    x = build.inputs(worst.samples.x[:1])
    name = build.plan.training.graph.name
    build.program.call(f"{name}_predict", build.params, build.work, x)
    return _program(build).instructions().total()


# ---------------------------------------------------------------- the worst case


@dataclass(frozen=True)
class WorstCase:
    """A sample and parameters with which every row of every weight is updated."""

    plan: Plan
    state: State
    samples: Samples

    @property
    def period(self) -> int:
        """Steps until the kinds of steps repeat."""
        return lcm(CARE_EVERY, self.plan.quantized.numbers.batch)

    def states(self) -> Iterator[State]:
        """The same parameters before each step of a period."""
        for i in range(self.period):
            state = deepcopy(self.state)
            state.steps += i
            state.batch_count = i % self.plan.quantized.numbers.batch
            yield state

    def skipped(self) -> int:
        """Rows that are skipped in a period, by the integers that the C equals."""
        count = 0
        for state in self.states():
            learner = IntegerLearner(self.plan.quantized, state)
            learner.train(self.samples.x[0], self.samples.target[0])
            count += learner.skipped
        return count


def worst_case(spec: Spec, plan: Plan) -> WorstCase:
    """One sample and parameters that keep every error away from 0, always the same.

    Weights, inputs and errors of one sign cannot cancel: the weights are positive, as large as
    keeps each layer's output as large as its input, and only one score is wanted larger. A loss
    that leaves some scores without an error has a worst case with rows that are skipped.
    """
    for faster, seed, steps in _TRIES:
        random = np.random.RandomState(seed)
        samples = _positive_sample(spec, plan, random)
        state = make_state(spec, plan, samples, seed, _positive_weights(plan, random))
        rate = min(255.0, faster * max(spec.learning_rate, _SLOWEST))
        case = WorstCase(
            plan, replace(state, steps=steps, rate=learning_rate(rate, spec.rate_batch)), samples
        )
        if case.skipped() == 0 or not spec.loss.reaches_all:
            return case
    raise UserError(
        f"{spec.source}: no training step was found that updates every row of weights; "
        "take fewer layers"
    )


def _positive_sample(spec: Spec, plan: Plan, random: np.random.RandomState) -> Samples:
    x = random.uniform(0.25, 0.5, (1, *spec.input))
    if spec.loss.target_is_label:
        return quantize_samples(spec, x, np.zeros(1, np.int64))
    return quantize_samples(spec, x, np.full((1, plan.training.graph.outputs), -0.75))


def _positive_weights(plan: Plan, random: np.random.RandomState) -> dict[str, Floats]:
    """By the names of whole tensors; biases stay 0."""
    wholes: dict[str, Tensor] = {}
    for tensor in plan.training.tensors.values():
        if tensor.role in PARAMETER_ROLES and tensor.role != "bias":
            wholes.setdefault(tensor.whole[0], tensor)
    weights = {
        name: random.uniform(0.75, 1.25, tensor.whole[1]) / tensor.fan_in
        for name, tensor in wholes.items()
    }
    last = weights[[*weights][-1]]
    if len(last) == plan.training.graph.outputs:
        last[1:] /= 4  # the errors of a softmax sum to 0: here only the first of them weighs
    return weights
