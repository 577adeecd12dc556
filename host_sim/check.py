"""Spec -> evidence: finite differences, kernels in units in the last place, C against integers."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np

from codegen.fixedpoint import BIAS_FRACTION, LOSS_FRACTION, Floats, Ints, Outer, Q
from codegen.graph import QuantizedGraph, Step
from codegen.interpret import (
    IntegerLearner,
    Piece,
    State,
    Stored,
    accumulate,
    formed,
    gradient_of,
    is_recurrent,
    layer_rate,
    loss_float,
    run_float,
    run_step_float,
    run_step_int,
    shift_of_sum,
    slot_name,
    step_operands,
    unrolled_int,
)
from codegen.layout import pack
from codegen.ops.base import LayerOp, LossOp, Slots, unroll
from codegen.pipeline import Samples, make_plan, sample_floats, synthetic_samples
from codegen.spec import Spec
from host_sim.compiler import Platform
from host_sim.device import Device

# Below this error of the scores the relative error of a gradient has no meaning (NUMERICS.md).
MEANINGFUL_ERROR = 2.0**-6
# Steps of the finite differences; a long one may cross the corner of a ReLU, a short one rounds.
_STEPS = (1e-6, 1e-5, 1e-7, 1e-6, 1e-7)
_AGREES = 1e-7  # error at which no other step is tried
_ASIDE = 3e-2  # how far from the parameters they are taken
_LARGE, _DRAWN = 300_000, 12  # numbers in all tensors, above which few parameters are drawn
_SHORTEST = 1e-3  # gradients shorter than this are not told from rounding by finite differences
_FLOAT_ERROR = 1e-6  # units: the float twin's own rounding


@dataclass(frozen=True)
class KernelCheck:
    """One step against its float twin; the element that comes nearest to what is allowed."""

    step: str
    worst_lsb: float
    allowed_lsb: float

    @property
    def ok(self) -> bool:
        return self.worst_lsb <= self.allowed_lsb


@dataclass(frozen=True)
class TensorCheck:
    """A parameter's fixed-point gradient against the float gradient, over the samples."""

    name: str
    relative_error_mean: float
    relative_error_worst: float
    cosine_mean: float
    cosine_worst: float
    saturated: int


@dataclass(frozen=True)
class CheckResult:
    """What `mcugrad check` found; `as_json` has the keys that scripts rely on."""

    network: str
    mode: str
    samples: int
    c_equals_integers: bool
    finite_difference_error: float
    kernels: tuple[KernelCheck, ...]
    tensors: tuple[TensorCheck, ...]

    @property
    def ok(self) -> bool:
        return self.c_equals_integers and all(kernel.ok for kernel in self.kernels)

    def as_json(self) -> dict[str, Any]:
        result = asdict(self)
        return {**result, "kernels": list(result["kernels"]), "tensors": list(result["tensors"])}


def check(
    spec: Spec,
    *,
    samples: Samples | None = None,
    count: int = 32,
    seed: int = 0,
    device: Device | None = None,
    compiler: Platform | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> CheckResult:
    """All links of the chain on `count` samples (random ones where none are given).

    `device` brings parameters that it has learnt; else they are the starting ones of `seed`.
    """
    if samples is None:
        samples = synthetic_samples(spec, make_plan(spec), count, seed)
    device = device or Device(spec, seed=seed, samples=samples, compiler=compiler)
    count = min(count, len(samples))
    state = device.state()
    gradient = make_plan(spec, gradient=True).quantized
    tally = _Tally(gradient, state, device)
    for index in range(count):
        tally.add(samples, index)
        progress(index + 1)
    equal = tally.equal and _training_is_equal(device, state, samples, count)
    return CheckResult(
        network=spec.name,
        mode=spec.mode,
        samples=count,
        c_equals_integers=equal,
        finite_difference_error=finite_difference_error(gradient, state, samples, seed),
        kernels=tally.kernels(),
        tensors=tally.tensors(),
    )


# ---------------------------------------------------------------- link 1: finite differences


def finite_difference_error(
    quantized: QuantizedGraph, state: State, samples: Samples, seed: int = 0, count: int = 3
) -> float:
    """Largest error of a directional derivative, relative to the length of its gradient.

    Near the given parameters, not at them: where a bias is exactly 0, so may be what a ReLU gets. A
    wrong gradient agrees in no direction and at no step, a right one at the best of them. Of a
    large network some parameters are drawn, for one sample.
    """
    random = np.random.RandomState(seed)
    tensors = quantized.training.trained
    if sum(t.size for t in quantized.training.tensors.values()) > _LARGE:
        drawn = random.permutation(len(tensors))[:_DRAWN]
        tensors, count = tuple(tensors[i] for i in drawn), 1
    parameters = {
        name: value + _ASIDE * random.standard_normal(value.shape)
        for name, value in state.floats().items()
    }
    worst = 0.0
    for index in range(min(count, len(samples))):
        sample = sample_floats(quantized, samples, index)
        _, values = run_float(quantized.training, parameters, *sample, state.steps)
        known = {"x": sample[0], "target": sample[1], "steps": state.steps}
        loss = partial(loss_float, quantized.training, **known)
        for tensor in tensors:
            gradient = values[f"d_{tensor.name}"]
            length = max(float(np.linalg.norm(gradient)), _SHORTEST)
            error = np.inf
            for step in _STEPS:
                way = random.standard_normal(tensor.shape)
                way /= np.linalg.norm(way)
                slope = _slope(loss, parameters, tensor.name, step * way)
                error = min(error, abs(slope / step - float(np.sum(gradient * way))) / length)
                if error < _AGREES:
                    break
            worst = max(worst, error)
    return worst


def _slope(
    loss: Callable[..., float], parameters: Mapping[str, Floats], name: str, step: Floats
) -> float:
    """How much the loss of parameters rises along a step, by a central difference."""
    ends = [
        loss(parameters={**parameters, name: parameters[name] + sign * step}) for sign in (1, -1)
    ]
    return (ends[0] - ends[1]) / 2


# ---------------------------------------------------------------- link 2: kernels, in units


def kernel_check(
    quantized: QuantizedGraph, step: Step, values: Mapping[str, Any], state: State
) -> KernelCheck:
    """One run of a step on integers, against its float twin on the same numbers.

    Elements that saturate, or that are kept positive, are set apart: the first are counted, the
    second are exact by definition.
    """
    if is_recurrent(step):
        return _recurrent_check(quantized, step, values, state)
    stored = run_step_int(quantized, step, dict(values), state)
    exact = run_step_float(step, _floats(quantized, values))
    if isinstance(step.op, LossOp):
        exact = exact[1]
    f = stored.q.f
    want = np.ldexp(exact, f)
    limit = 2.0 ** (quantized.formats[step.output].bits - 1)
    kept = (stored.q.q == 1) & (want > 0) & (want < 0.5)
    compared = (want > -limit) & (want < limit - 1) & ~kept
    if isinstance(step.op, LossOp):
        compared = np.ones_like(compared)  # whose exponent is chosen so that nothing saturates
        want = np.minimum(want, limit - 1)
    worst = float(np.max(np.abs(stored.q.q - want), where=compared, initial=0.0))
    return KernelCheck(step.name, worst, allowed_lsb(quantized, step, values, f))


def _recurrent_check(
    quantized: QuantizedGraph, step: Step, values: Mapping[str, Any], state: State
) -> KernelCheck:
    """Piece by piece: the float twin goes on with what the integers stored."""
    _, pieces = unrolled_int(quantized, step, values, state)
    following = iter(pieces)
    nearest = KernelCheck(step.name, 0.0, 0.5 + _FLOAT_ERROR)

    def keep(place: Any, numbers: Floats) -> Floats:
        nonlocal nearest
        piece = next(following)
        nearest = max(nearest, _compare(step.name, piece, numbers), key=_share)
        return piece.stored.value

    floats = step_operands(step, _floats(quantized, values))
    unroll(step.op.call(step.kernel, floats, shape=step.shapes["out"]), keep)
    return nearest


def _compare(name: str, piece: Piece, exact: Floats) -> KernelCheck:
    """Elements that saturate are set apart."""
    want, limit = np.ldexp(exact, piece.stored.f), 2.0 ** (piece.bits - 1)
    allowed = 0.5 + np.ldexp(piece.error, piece.stored.f) + _FLOAT_ERROR
    allowed = np.broadcast_to(allowed, want.shape)
    compared = (want > -limit) & (want < limit - 1)
    error = np.where(compared, np.abs(piece.stored.q - want), 0.0)
    worst = int(np.argmax(error / allowed))
    return KernelCheck(name, float(error.flat[worst]), float(allowed.flat[worst]))


def _share(check: KernelCheck) -> float:
    return check.worst_lsb / check.allowed_lsb


def allowed_lsb(quantized: QuantizedGraph, step: Step, values: Mapping[str, Any], f: int) -> float:
    """Half a unit for the one rounding, and what the derivations in the ops add to it."""
    accumulator = quantized.accumulators[step.name]
    if isinstance(step.op, LossOp):
        fraction = step.op.error_fraction(values[step.reads["x"]].f)
        error = step.op.allowance(quantized.training.tensors[step.output].size)
    else:
        assert isinstance(step.op, LayerOp)
        fraction = accumulate(quantized, step, values).f
        # Sum and bias are rounded where they must lose bits.
        roundings = int(accumulator.has_bias and fraction < BIAS_FRACTION)
        roundings += int((shift_of_sum(quantized, step, values) or 0) > 0)
        error = float(np.ldexp(roundings / 2, -fraction))
        error += step.op.allowance(step.kernel, step_operands(step, values), step.shapes)
    bits = accumulator.raw_bits
    for finish in step.finishes:
        error += finish.op.allowance(finish.kernel, fraction, bits)
        bits = finish.op.grown_bits(finish.kernel, bits)
    return 0.5 + float(np.ldexp(error, f)) + _FLOAT_ERROR


def update_check(
    quantized: QuantizedGraph, step: Step, values: Mapping[str, Any], state: State
) -> KernelCheck:
    """One update on integers against the float optimizer, for the gradient that `step` forms.

    The slots are compared first; then the parameter, as the slots that the integers have move it.
    Elements whose change is clipped or whose rail is near are set apart. What comes nearest to its
    allowance is told, in shares of that of the parameter.
    """
    assert step.sink is not None
    name, optimizer = step.sink.parameter, quantized.training.graph.optimizer
    gradient = gradient_of(quantized, step, values)
    learner = IntegerLearner(quantized, deepcopy(state))
    learner.update(name, gradient)
    before, exact = state.q(name), formed(gradient).value
    rate = layer_rate(learner.rate, quantized.training.tensors[name]).value
    slots_f = slots_fraction(quantized, state, name)
    tracked = optimizer.track(exact, _slots(quantized, state, name), rate)
    stored = _slots(quantized, learner.state, name)
    stepping = optimizer.as_stored(slots_f, quantized.numbers.batch)
    want = before.value + stepping.step(exact, stored, rate)
    role, bits = quantized.training.tensors[name].role, quantized.formats[name].bits
    free = _unclipped(quantized, state, rate, name, gradient)
    allowed = optimizer.allowance(role, before.f, rate) + _FLOAT_ERROR
    shares = [_worst(learner.state.q(name).value, want, before.f, bits, free) / allowed]
    bits = optimizer.slot_bits(role)
    for got, aim, most in zip(stored, tracked, optimizer.slot_allowance, strict=True):
        shares.append(_worst(got, aim, slots_f, bits, free) / (most + _FLOAT_ERROR))
    return KernelCheck(f"update_{name}", max(shares) * allowed, allowed)


def _worst(got: Floats, want: Floats, f: int, bits: int, free: Any) -> float:
    """Largest difference in units where nothing saturates."""
    got, want = np.ldexp(got, f), np.ldexp(want, f)
    limit = 2.0 ** (bits - 1)
    compared = free & (want > 1 - limit) & (want < limit - 2)
    return float(np.max(np.abs(got - want), where=compared, initial=0.0))


def _slots(quantized: QuantizedGraph, state: State, name: str) -> Slots:
    """The numbers that they stand for."""
    f = slots_fraction(quantized, state, name)
    names = [slot_name(name, slot) for slot in quantized.training.graph.optimizer.slots]
    return tuple(Q(state.slots[name], f).value for name in names)


def slots_fraction(quantized: QuantizedGraph, state: State, name: str) -> int:
    """Fraction bits of the slots of a parameter: their own, or those that go with it."""
    own = state.f.get(slot_name(name))
    bits = quantized.formats[name].bits
    optimizer = quantized.training.graph.optimizer
    return optimizer.slot_fraction(state.f[name], bits) if own is None else own


def _unclipped(
    quantized: QuantizedGraph, state: State, rate: float, name: str, gradient: Q | Outer
) -> Any:
    """Where the gradient, or the rate times the error, fits the bits that an update has for it."""
    optimizer = quantized.training.graph.optimizer
    f = slots_fraction(quantized, state, name)
    exact = formed(gradient).value
    if optimizer.forms_gradient:
        return np.abs(np.ldexp(exact, f)) < optimizer.largest_gradient
    if quantized.training.tensors[name].role == "bias":
        return np.abs(np.ldexp(exact * rate, f)) < 2.0**31
    if isinstance(gradient, Q):
        return np.abs(np.ldexp(exact * rate, f + 16)) < 2.0**30
    x_f = gradient.columns.f + 16 - quantized.numbers.activation_bits
    n = np.ldexp(gradient.rows.value * rate, f + 16 - x_f)
    return (np.abs(n) < 2.0**15 - 1)[:, None]


# ---------------------------------------------------------------- link 3, and whole gradients


class _Tally:
    """Runs samples through C, integers and floats, and keeps the worst of each comparison."""

    def __init__(self, quantized: QuantizedGraph, state: State, device: Device):
        self.quantized, self.state, self.device = quantized, state, device
        self.parameters = state.floats()
        self.equal = True
        self._kernels: dict[str, KernelCheck] = {}
        self._errors: dict[str, list[tuple[float, float]]] = {
            tensor.name: [] for tensor in quantized.training.trained
        }
        self._saturated = dict.fromkeys(self._errors, 0)

    def add(self, samples: Samples, index: int) -> None:
        learner = IntegerLearner(self.quantized, self.state)
        loss, values, stored = learner.gradients(samples.x[index], samples.target[index])
        self._compare_c(samples, index, loss, values)
        for step in self.quantized.training.learning:
            if step.sink is None:
                self._keep(kernel_check(self.quantized, step, values, self.state))
            else:
                self._keep(update_check(self.quantized, step, values, self.state))
        self._compare_inference(learner, samples.x[index])
        self._compare_gradients(samples, index, values, stored)

    def kernels(self) -> tuple[KernelCheck, ...]:
        return tuple(self._kernels.values())

    def tensors(self) -> tuple[TensorCheck, ...]:
        return tuple(
            TensorCheck(name, *_mean_and_worst(errors), self._saturated[name])
            for name, errors in self._errors.items()
        )

    def _keep(self, new: KernelCheck) -> None:
        old = self._kernels.get(new.step)
        if old is None or _share(new) > _share(old):
            self._kernels[new.step] = new

    def _compare_c(
        self, samples: Samples, index: int, loss: int, values: Mapping[str, Any]
    ) -> None:
        self.equal &= self.device.gradient_of(samples, index) == loss
        for step in self.quantized.training.learning:
            read, want = self.device.read_q(step.output), values[step.output]
            self.equal &= read.f == want.f and np.array_equal(read.q.flat, want.q.flat)

    def _compare_inference(self, learner: IntegerLearner, x: Ints) -> None:
        """Steps that training does not run, and what predict shows where there are any."""
        own = self.quantized.training.phase("inference")
        if not own:
            return
        values = learner.inference(x)
        for step in own:
            self._keep(kernel_check(self.quantized, step, values, self.state))
        shown = Q(learner.shown(values), self.quantized.score_fraction).value
        self.equal &= np.array_equal(self.device.scores_of(x[None])[0], shown)

    def _compare_gradients(
        self,
        samples: Samples,
        index: int,
        values: Mapping[str, Any],
        stored: Mapping[str, Stored],
    ) -> None:
        x, target = sample_floats(self.quantized, samples, index)
        training, steps = self.quantized.training, self.state.steps
        _, exact = run_float(training, self.parameters, x, target, steps)
        loss = self.quantized.training.phase("loss")[0]
        meaningful = float(np.max(np.abs(exact[loss.output]))) > MEANINGFUL_ERROR
        for step in self.quantized.training.phase("gradient"):
            assert step.sink is not None
            name = step.sink.parameter
            errors = [stored[step.reads[key]] for key in ("dy", "dx") if key in step.reads]
            if any(error.saturated for error in errors):
                self._saturated[name] += 1
            if meaningful:
                self._errors[name].append(_distance(values[step.output].value, exact[step.output]))


def _distance(got: Floats, want: Floats) -> tuple[float, float]:
    """Relative L2 error and cosine; a gradient that is 0 in both agrees."""
    length, other = float(np.linalg.norm(want)), float(np.linalg.norm(got))
    if length == 0 or other == 0:
        return (0.0, 1.0) if length == other else (1.0, 0.0)
    error = float(np.linalg.norm(got - want)) / length
    return error, float(np.sum(got * want)) / (length * other)


def _mean_and_worst(errors: list[tuple[float, float]]) -> tuple[float, float, float, float]:
    """No sample with a meaningful error: nothing to complain about."""
    if not errors:
        return 0.0, 0.0, 1.0, 1.0
    relative, cosine = np.array(errors).T
    means = float(relative.mean()), float(relative.max())
    return (*means, float(cosine.mean()), float(cosine.min()))


def _training_is_equal(device: Device, state: State, samples: Samples, count: int) -> bool:
    """The C's parameters after `count` steps are the integers' bytes; then they are put back."""
    learner = IntegerLearner(device.plan.quantized, deepcopy(state))
    loss = sum(learner.train(samples.x[i], samples.target[i]) for i in range(count))
    memory = device.parameter_bytes
    same_loss = device.train_samples(samples, range(count)) == loss / float(1 << LOSS_FRACTION)
    equal = same_loss and device.parameter_bytes == pack(device.plan, learner.state)
    device.parameter_bytes = memory
    return equal


def _floats(quantized: QuantizedGraph, values: Mapping[str, Any]) -> dict[str, Any]:
    """Integers as the numbers that they stand for; a target is a label or has a format too."""
    floats = {name: v.value if isinstance(v, Q) else v for name, v in values.items()}
    if not quantized.training.graph.loss.target_is_label:
        floats["target"] = Q(values["target"], quantized.formats["target"].f).value
    return floats
