"""The whole generator: Spec -> Graph -> TrainingGraph -> QuantizedGraph -> Plan -> C."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from codegen.board import Board, Policy
from codegen.data import Data, load_data
from codegen.emit import Options, declared, emit
from codegen.errors import UserError
from codegen.fixedpoint import Floats, Ints, Q, learning_rate, quantize
from codegen.graph import (
    PARAMETER_ROLES,
    NameTakenError,
    Numbers,
    Plan,
    QuantizedGraph,
    TooManyBitsError,
    TrainingGraph,
)
from codegen.interpret import IntegerLearner, State, initial_parameters, initial_state
from codegen.layout import parameter_fields, struct_bytes, work_bytes
from codegen.ops.base import Core
from codegen.passes.build_graph import build_graph
from codegen.passes.choose_forms import Forms, choose_forms
from codegen.passes.differentiate import differentiate
from codegen.passes.freeze import freeze
from codegen.passes.fuse_elementwise import fuse_elementwise
from codegen.passes.fuse_updates import fuse_updates
from codegen.passes.leave_out import leave_out
from codegen.passes.plan_memory import plan_memory
from codegen.passes.quantize import quantize as quantize_graph
from codegen.passes.schedule import schedule
from codegen.report import multiplies
from codegen.spec import Spec
from codegen.tuning import read_forms

CALIBRATION_SAMPLES = 64
CALIBRATION_MACS = 2**27  # multiplications that calibration may take; 2 samples in any case
_WIDTHS = {"int16": (16, 16, 16), "int8": (16, 8, 8), "int8_compact": (8, 8, 8)}


def make_plan(
    spec: Spec,
    board: Board | None = None,
    gradient: bool = False,
    accumulate: Policy = "wide",
    forms: Forms | None = None,
) -> Plan:
    """All passes. `gradient`: gradients are stored and every tensor keeps its bytes.

    `accumulate` says how where there is no board that says it. `forms` of the C are those that
    `mcugrad tune` chose for the core of the board, if they are not given.
    """
    policy = accumulate if board is None else board.accumulate
    training = fuse_elementwise(freeze(_differentiated(spec)))
    if not gradient:
        training = _fused(spec, training)
    core = Core() if board is None else Core(board.lanes, board.registers)
    quantized = _quantized(spec, leave_out(schedule(training)), policy, core)
    _check_names(spec, quantized.training)
    if forms is None and board is not None and not gradient:
        forms = read_forms(spec, quantized, board.built_core)
    plan = plan_memory(choose_forms(quantized, forms or {}), keep=gradient)
    if board is not None:
        _check_address_space(spec, plan, board)
    return plan


def _differentiated(spec: Spec) -> TrainingGraph:
    try:
        return differentiate(build_graph(spec))
    except NameTakenError as taken:
        raise _taken(spec, str(taken)) from None


def _fused(spec: Spec, training: TrainingGraph) -> TrainingGraph:
    try:
        return fuse_updates(training, spec.batch)
    except NameTakenError as taken:
        raise _taken(spec, str(taken)) from None


def _quantized(
    spec: Spec, training: TrainingGraph, accumulate: Policy, core: Core
) -> QuantizedGraph:
    try:
        return quantize_graph(training, _numbers(spec, accumulate, core))
    except TooManyBitsError as step:
        number, layer = _layer_of(spec, str(step))
        narrower = "" if spec.mode != "int16" else " or mode = 'int8'"
        raise UserError(
            f"{spec.source}: layer {number} ({layer}): its sums may need more than 62 bits; take a "
            f"smaller layer{narrower}"
        ) from None


def _check_names(spec: Spec, training: TrainingGraph) -> None:
    twice = [name for name, count in Counter(declared(training)).items() if count > 1]
    if twice:
        raise _taken(spec, min(twice))


def _layer_of(spec: Spec, name: str) -> tuple[int, str]:
    """Of the layers that `name` may come from, number and name of the one it says most of."""
    _, number, layer = max(
        (len(layer.name), number, layer.name)
        for number, layer in enumerate(spec.layers, 1)
        if layer.name in name
    )
    return number, layer


def _taken(spec: Spec, name: str) -> UserError:
    number, layer = _layer_of(spec, name)
    return UserError(
        f"{spec.source}: layer {number} ({layer}): name = '{layer}'; the C code would have two "
        f"things called '{name}'; choose another"
    )


def _numbers(spec: Spec, accumulate: Policy, core: Core) -> Numbers:
    weights, activations, errors = _WIDTHS[spec.mode]
    return Numbers(
        mode=spec.mode,
        weight_bits=weights,
        activation_bits=activations,
        error_bits=errors,
        rounding=spec.rounding,
        batch=spec.batch,
        accumulate=accumulate,
        core=core,
    )


def _check_address_space(spec: Spec, plan: Plan, board: Board) -> None:
    limit = 2 ** (board.address_bits - 1) - 1
    parts = {"parameters": struct_bytes(parameter_fields(plan)), "work area": work_bytes(plan)}
    for tensor in plan.training.tensors.values():
        if tensor.role in PARAMETER_ROLES and tensor.frozen:
            bits = plan.quantized.formats[tensor.name].bits
            parts[f"constant {tensor.name}"] = tensor.size * bits // 8
    for what, size in parts.items():
        if size > limit:
            raise UserError(
                f"{spec.source}: the {what} of {spec.name} would be {size} bytes long, but an "
                f"object on {board.name} has at most {limit} ({board.address_bits}-bit sizes); "
                "take fewer units or another board"
            )


@dataclass(frozen=True)
class Samples:
    """Inputs and targets as the network's integers."""

    x: Ints  # (samples, inputs)
    target: Ints  # labels (samples,), or targets (samples, outputs) with 15 fraction bits

    def __len__(self) -> int:
        return len(self.x)

    def first(self, count: int) -> list[tuple[Ints, Any]]:
        """The first samples, at most `count`, as pairs of input and target."""
        return list(zip(self.x[:count], self.target[:count], strict=True))


def load_spec_data(spec: Spec, path: Path, seed: int = 0) -> Data:
    """A data file for this network; where it has no test samples, `seed` picks a fifth."""
    return load_data(
        path,
        shape=spec.input,
        outputs=build_graph(spec).outputs,
        labels=spec.loss.target_is_label,
        input_max=spec.input_max,
        target_max=spec.target_max,
        seed=seed,
    )


def quantize_samples(spec: Spec, x: Floats, y: Any) -> Samples:
    """x is already divided by input_max, y by target_max; both saturate."""
    bits = _WIDTHS[spec.mode][1]
    target = np.asarray(y)
    if not spec.loss.target_is_label:
        target = quantize(target, 15, 16)
    return Samples(quantize(x, bits - 1, bits), target.astype(np.int64))


def sample_floats(quantized: QuantizedGraph, samples: Samples, index: int) -> tuple[Floats, Any]:
    """A sample's integers as the numbers that they stand for."""
    x = Q(samples.x[index], quantized.formats["x"].f).value
    target = samples.target[index]
    if quantized.training.graph.loss.target_is_label:
        return x, int(target)
    return x, Q(target, quantized.formats["target"].f).value


def synthetic_samples(spec: Spec, plan: Plan, count: int, seed: int) -> Samples:
    """Random samples over the whole range, for formats and checks when there are no data."""
    random = np.random.RandomState(seed)
    x = random.uniform(-1, 1, (count, *spec.input))
    outputs = plan.training.graph.outputs
    if spec.loss.target_is_label:
        return quantize_samples(spec, x, random.randint(0, outputs, count))
    return quantize_samples(spec, x, random.uniform(-0.8, 0.8, (count, outputs)))


def make_state(
    spec: Spec,
    plan: Plan,
    samples: Samples | None = None,
    seed: int = 0,
    parameters: Mapping[str, Floats] | None = None,
) -> State:
    """Starting parameters, and formats that fit what the samples (or random ones) bring about."""
    parameters = initial_parameters(plan.training.tensors.values(), seed, parameters)
    rate = learning_rate(spec.learning_rate, spec.rate_batch)
    state = initial_state(plan.quantized, parameters, rate)
    affordable = CALIBRATION_MACS // multiplies(plan)["total"]
    count = max(2, min(CALIBRATION_SAMPLES, affordable))
    if samples is None:
        samples = synthetic_samples(spec, plan, count, seed)
    IntegerLearner(plan.quantized, state).calibrate(samples.first(count))
    return state


def generate(
    spec: Spec,
    *,
    board: Board | None = None,
    samples: Samples | None = None,
    seed: int = 0,
    parameters: Mapping[str, Floats] | None = None,
    options: Options | None = None,
) -> dict[str, str]:
    """The C files by name: the same arguments give the same bytes."""
    options = options or Options()
    plan = make_plan(spec, board, options.gradient)
    state = make_state(spec, plan, samples, seed, parameters)
    return emit(spec, plan, state, replace(options, board=board.name if board else None))
