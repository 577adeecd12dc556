"""The same steps in two number systems: NumPy floats, and the integers that the C computes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from codegen.fixedpoint import (
    BIAS_FRACTION,
    MAX_FRACTION,
    MAX_RELATIVE_FRACTION,
    MIN_FRACTION,
    NO_IDEAL,
    ONE_16,
    Floats,
    Ints,
    Norm,
    Outer,
    Q,
    Random,
    Range,
    Rate,
    bit_length,
    clip_factor,
    decayed,
    dither_of_fold,
    encode_norm,
    encode_number,
    fold,
    integers,
    magnitude,
    narrow,
    norm_of,
    norm_of_outer,
    quantize,
    rescale,
    sample_seed,
    saturate,
    spread,
    squares_shift,
    step24,
    sum_shift,
    weight_fraction,
)
from codegen.graph import PARAMETER_ROLES, Graph, QuantizedGraph, Step, Tensor, TrainingGraph
from codegen.ops.base import (
    MAX_SLOT_FRACTION,
    MIN_SLOT_FRACTION,
    LayerOp,
    LossOp,
    OptimizerOp,
    Place,
    Recurrence,
    Shape,
    Slots,
    unroll,
)

CARE_EVERY = 16  # samples: weights decay and are kept off their rail, slots are fitted
MIN_EXACT_SHIFT = -8
SCRATCH_BITS = 32
SEED = 0x6D637567  # "mcug"
Values = dict[str, Any]


def step_operands(step: Step, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a step reads, by kernel argument, in the shapes that its kernel sees."""
    return {
        key: values[name].reshape(step.shapes[key]) if key in step.shapes else values[name]
        for key, name in step.reads.items()
    }


# ---------------------------------------------------------------- floats


def run_step_float(step: Step, values: Mapping[str, Any]) -> Any:
    """What a step writes; for the loss the pair (value, error)."""
    result = step.op.call(step.kernel, step_operands(step, values), shape=step.shapes["out"])
    if is_recurrent(step):
        return unrolled_float(result, step.shapes["out"])
    value, result = result if isinstance(step.op, LossOp) else (None, result)
    for finish in step.finishes:
        result = finish_float(finish, result, values)
    return result if value is None else (value, result)


def is_recurrent(step: Step) -> bool:
    """Whether its kernel reads what it wrote."""
    return isinstance(step.op, LayerOp) and step.op.is_recurrent(step.kernel)


def unrolled_float(kernel: Recurrence, shape: Shape) -> Floats:
    """What a recurrent kernel writes."""
    out = np.zeros(shape)

    def keep(place: Any, numbers: Floats) -> Floats:
        if place is not None:
            out[place] = numbers
        return numbers

    unroll(kernel, keep)
    return out


def finish_float(finish: Any, result: Floats, values: Mapping[str, Any]) -> Any:
    if finish.kernel == "forward":
        return finish.op.forward(result)
    return finish.op.grad_x(result, values[finish.y].reshape(result.shape))


def seeds(training: TrainingGraph, steps: int) -> Values:
    """Those of all layers that ask for one, for the sample that comes after so many."""
    tensors = [tensor for tensor in training.tensors.values() if tensor.role == "seed"]
    return {tensor.name: sample_seed(steps, tensor.number) for tensor in tensors}


def run_float(
    training: TrainingGraph,
    parameters: Mapping[str, Floats],
    x: Floats,
    target: Any,
    steps: int = 0,
) -> tuple[float, Values]:
    """Loss and every value of forward and backward, for a graph whose gradients are stored.

    `steps` is the number of samples before this one.
    """
    values: Values = {"x": x, "target": target, **parameters, **seeds(training, steps)}
    loss = 0.0
    for step in training.learning:
        if step.phase == "loss":
            loss, values[step.output] = run_step_float(step, values)
        else:
            values[step.output] = run_step_float(step, values)
    return loss, values


def loss_float(
    training: TrainingGraph,
    parameters: Mapping[str, Floats],
    x: Floats,
    target: Any,
    steps: int = 0,
) -> float:
    """The loss alone: forward, and nothing of backward."""
    values: Values = {"x": x, "target": target, **parameters, **seeds(training, steps)}
    loss = 0.0
    for step in training.phase("forward", "loss"):
        values[step.output] = run_step_float(step, values)
        if step.phase == "loss":
            loss = values[step.output][0]
    return loss


def scores_float(training: TrainingGraph, parameters: Mapping[str, Floats], x: Floats) -> Floats:
    """What predict shows."""
    values: Values = {"x": x, **parameters}
    for step in training.inference:
        values[step.output] = run_step_float(step, values)
    scores: Floats = values[training.graph.shown]
    return scores


@dataclass
class FloatLearner:
    """Training in floats: beside it the integers learn. Parameters are changed."""

    training: TrainingGraph  # gradients stored
    parameters: dict[str, Floats]
    rate: float
    batch: int = 1
    sums: dict[str, Floats] = field(default_factory=dict)
    slots: dict[str, Slots] = field(default_factory=dict)
    count: int = 0
    steps: int = 0

    def train(self, x: Floats, target: Any) -> float:
        """One sample; the parameters change when a batch is full. Returns the loss."""
        loss, values = run_float(self.training, self.parameters, x, target, self.steps)
        for step in self.training.phase("gradient"):
            assert step.sink is not None
            name = step.sink.parameter
            self.sums[name] = self.sums.get(name, 0.0) + values[step.output]
        self.count += 1
        if self.count == self.batch:
            self._update()
        rate, self.steps = self._step_rate, self.steps + 1
        if self.steps % CARE_EVERY == 0:
            self._decay(rate / self.batch)
        return loss

    @property
    def _step_rate(self) -> float:
        graph = self.training.graph
        factor = graph.optimizer.factor(self.steps // self.batch)
        return self.rate * graph.schedule.factor(self.steps) * factor

    def _decay(self, rate: float) -> None:
        """What the samples since the last time take off the weights."""
        for tensor in self.training.trained:
            if tensor.role == "weight":
                decay = CARE_EVERY * self.training.graph.weight_decay * rate * tensor.rate_factor
                self.parameters[tensor.name] = self.parameters[tensor.name] * (1 - min(decay, 1))

    def _update(self) -> None:
        graph, rate = self.training.graph, self._step_rate
        for name, total in self.sums.items():
            slots = self.slots.get(name, (np.zeros_like(total),) * len(graph.optimizer.slots))
            factor = self.training.tensors[name].rate_factor
            gradient = clipped(total / self.batch, graph.clip_norm)
            self.parameters[name], self.slots[name] = graph.optimizer.update(
                self.parameters[name], gradient, slots, rate * factor
            )
        self.sums, self.count = {}, 0


def clipped(gradient: Floats, most: float) -> Floats:
    """The gradient, or where it is longer than `most` (unless that is 0) one of that length."""
    length = float(np.linalg.norm(gradient))
    return gradient * (most / length) if 0 < most < length else gradient


# ---------------------------------------------------------------- integers


@dataclass
class State:
    """All that training changes, and the frozen parameters: integers, exponents, ranges.

    `f` has the exponent of each parameter, and of the slots of one where they have their own.
    """

    values: dict[str, Ints]
    f: dict[str, int]
    slots: dict[str, Ints]
    ranges: dict[str, Range]
    rate: Rate
    random: Random
    steps: int = 0
    batch_count: int = 0
    sums: dict[str, Ints] = field(default_factory=dict)

    def q(self, name: str) -> Q:
        return Q(self.values[name], self.f[name])

    def floats(self) -> dict[str, Floats]:
        """Every parameter as the numbers that its integers stand for."""
        return {name: self.q(name).value for name in self.values}


def initial_state(
    quantized: QuantizedGraph, parameters: Mapping[str, Floats], rate: Rate, seed: int = SEED
) -> State:
    """Parameters as integers; ranges as high as they go, for `calibrate` to lower them."""
    values: dict[str, Ints] = {}
    fractions: dict[str, int] = {}
    for name, numbers in parameters.items():
        bits = quantized.formats[name].bits
        tensor = quantized.training.tensors[name]
        headroom = 0 if tensor.frozen else 1
        is_bias = tensor.role == "bias"
        fractions[name] = BIAS_FRACTION if is_bias else weight_fraction(numbers, bits, headroom)
        values[name] = quantize(numbers, fractions[name], bits)
    optimizer, slots = quantized.training.graph.optimizer, {}
    for tensor in quantized.training.trained:
        for slot in optimizer.slots:
            slots[slot_name(tensor.name, slot)] = np.zeros(tensor.shape, dtype=np.int64)
        if optimizer.forms_gradient:
            fractions[slot_name(tensor.name)] = MAX_SLOT_FRACTION
    ranges = initial_ranges(quantized, [n for n, f in quantized.formats.items() if f.adapts])
    return State(values, fractions, slots, ranges, rate, Random(seed))


def slot_name(parameter: str, slot: str = "slots") -> str:
    """The name of a slot of a parameter, and of the exponent that its slots share."""
    return f"{parameter}_{slot}"


def initial_ranges(quantized: QuantizedGraph, names: Iterable[str]) -> dict[str, Range]:
    """Exponents as high as they go, to be lowered by what the values need."""
    highest = {"adaptive": MAX_FRACTION, "relative": MAX_RELATIVE_FRACTION}
    return {name: Range(highest[quantized.formats[name].policy]) for name in names}


@dataclass(frozen=True)
class Stored:
    """A stored tensor, and the exponent that would have been ideal for its accumulator."""

    q: Q
    ideal: int
    saturated: bool
    loss: int = 0


def run_step_int(quantized: QuantizedGraph, step: Step, values: Values, state: State) -> Stored:
    """Accumulate, finish, round once: the integer twin of one C function that writes a tensor."""
    if is_recurrent(step):
        return unrolled_int(quantized, step, values, state)[0]
    return store(quantized, step, finished(quantized, step, values), state)


@dataclass(frozen=True)
class Piece:
    """What a recurrent kernel stored at once, its accumulators, and the largest error of each."""

    acc: Q
    stored: Q
    bits: int
    error: Floats | float


def unrolled_int(
    quantized: QuantizedGraph, step: Step, values: Mapping[str, Any], state: State
) -> tuple[Stored, list[Piece]]:
    """The integer twin of a recurrent kernel, and the pieces in which it wrote."""
    bits, operands = quantized.formats[step.output].bits, step_operands(step, values)
    base = _base(step, operands)
    f = _stored_fraction(quantized, step, base, state)
    out = np.zeros(step.shapes["out"], np.int64)
    pieces: list[Piece] = []
    ideal = NO_IDEAL

    def keep(place: Any, acc: Q, error: Floats | float) -> Q:
        nonlocal ideal
        if place is None:
            stored, width = Q(saturate(acc.q, SCRATCH_BITS), acc.f), SCRATCH_BITS
        else:
            stored, width = Q(narrow(acc.q, acc.f - f, bits), f), bits
            out[place] = stored.q
            ideal = min(ideal, _ideal(acc, bits, base))
        pieces.append(Piece(acc, stored, width, error))
        return stored

    unroll(step.op.call(f"{step.kernel}_int", operands, shape=out.shape, out_f=f), keep)
    return _described(quantized, step, Q(out, f), ideal, state), pieces


def _base(step: Step, operands: Mapping[str, Q]) -> int:
    """The exponent to which that of an error is relative, for a step that names it."""
    anchor = step.op.anchor(step.kernel) if isinstance(step.op, LayerOp) else None
    return 0 if anchor is None else operands[anchor].f


def _stored_fraction(quantized: QuantizedGraph, step: Step, base: int, state: State) -> int:
    """Fraction bits of what a step writes now, which are not chosen for each sample."""
    tensor_format, follower = quantized.formats[step.output], state.ranges.get(step.output)
    if follower is None:
        return tensor_format.f
    return follower.f + (base if tensor_format.policy == "relative" else 0)


def _ideal(acc: Q, bits: int, base: int) -> int:
    """The largest exponent with which the accumulators fit, relative to `base`."""
    length = bit_length(acc.q)
    return bits - 1 - length + acc.f - base if length else NO_IDEAL


def _described(
    quantized: QuantizedGraph, step: Step, q: Q, ideal: int, state: State, loss: int = 0
) -> Stored:
    follower = state.ranges.get(step.output)
    limit = q.f if follower is None else follower.f
    saturated = quantized.formats[step.output].policy != "exact" and ideal < limit
    return Stored(q, ideal, saturated, loss)


@dataclass(frozen=True)
class Finished:
    """An accumulator just before it is rounded; positive values of a sticky one stay positive."""

    acc: Q
    sticky: bool
    loss: int


def finished(quantized: QuantizedGraph, step: Step, values: Values) -> Finished:
    """Accumulate, and all elementwise kernels."""
    loss = 0
    if isinstance(step.op, LossOp):
        loss, acc = step.op.call("loss_int", step_operands(step, values))
    else:
        acc = accumulate(quantized, step, values)
    bits, sticky = quantized.accumulators[step.name].raw_bits, False
    for finish in step.finishes:
        acc, bits, sticky = _finish(finish, acc, bits, values)
    return Finished(acc, sticky, loss)


def accumulate(quantized: QuantizedGraph, step: Step, values: Mapping[str, Any]) -> Any:
    """The accumulators of a step of a LayerOp, or an outer product that is never formed."""
    operands, shift = step_operands(step, values), shift_of_sum(quantized, step, values)
    return step.op.call(f"{step.kernel}_int", operands, shape=step.shapes["out"], shift=shift)


def shift_of_sum(quantized: QuantizedGraph, step: Step, values: Mapping[str, Any]) -> int | None:
    """By how much the sums of a step of a LayerOp are shifted; None where they stay exact."""
    accumulator = quantized.accumulators[step.name]
    if not accumulator.is_short:
        return None
    assert isinstance(step.op, LayerOp)
    factors = step.op.products(step.kernel, step.shapes).factors
    f = sum(values[step.reads[key]].f for key in factors)
    return sum_shift(f, accumulator.shift, accumulator.has_bias)


def gradient_of(quantized: QuantizedGraph, step: Step, values: Mapping[str, Any]) -> Q | Outer:
    """The gradient that a step gives to its sink: 31 bits, rounded where the sum had more."""
    gradient = accumulate(quantized, step, values)
    if isinstance(gradient, Outer):
        return gradient
    narrowing = quantized.accumulators[step.name].narrowing
    return Q(rescale(gradient.q, narrowing), gradient.f - narrowing)


def formed(gradient: Q | Outer) -> Q:
    return gradient.product if isinstance(gradient, Outer) else gradient


def _finish(finish: Any, acc: Q, bits: int, values: Values) -> tuple[Q, int, bool]:
    if finish.kernel == "forward":
        acc = finish.op.forward_int(acc, bits)
    else:
        acc = finish.op.grad_x_int(acc, values[finish.y].reshape(acc.q.shape), bits)
    sticky = finish.kernel == "forward" and finish.op.keeps_positive
    return acc, finish.op.grown_bits(finish.kernel, bits), sticky


def store(quantized: QuantizedGraph, step: Step, value: Finished, state: State) -> Stored:
    """Round once, in the format that the tensor has now."""
    acc, tensor_format = value.acc, quantized.formats[step.output]
    if tensor_format.policy == "exact":
        f = acc.f - max(MIN_EXACT_SHIFT, bit_length(acc.q) - (tensor_format.bits - 1))
    else:
        f = _stored_fraction(quantized, step, acc.f, state)
    q = narrow(acc.q, acc.f - f, tensor_format.bits)
    if value.sticky:
        q = np.where((acc.q > 0) & (q == 0), 1, q)
    base = acc.f if tensor_format.policy == "relative" else 0
    ideal = _ideal(acc, tensor_format.bits, base)
    return _described(quantized, step, Q(q, f), ideal, state, value.loss)


@dataclass
class IntegerLearner:
    """The bit-exact twin of the generated C. Its state is changed by `train`."""

    quantized: QuantizedGraph
    state: State
    saturations: dict[str, int] = field(default_factory=dict)
    skipped: int = 0  # rows of weights that an update left alone

    def scores(self, x: Ints) -> Ints:
        """What predict shows (16 bits) of an input of integers; the state does not change."""
        return self.shown(self.inference(x))

    def shown(self, values: Values) -> Ints:
        """The same of what `inference` computed."""
        scores = values[self.quantized.training.graph.shown]
        return narrow(scores.q, scores.f - self.quantized.score_fraction, 16)

    def inference(self, x: Ints) -> Values:
        """Every value that predict computes; the state does not change."""
        values = self._start(x, 0)
        for step in self.quantized.training.inference:
            values[step.output] = run_step_int(self.quantized, step, values, self.state).q
        return values

    def gradients(self, x: Ints, target: Any) -> tuple[int, Values, dict[str, Stored]]:
        """Loss, every value, and how each was stored, for a graph whose gradients are stored."""
        return self._run(x, target)

    def train(self, x: Ints, target: Any) -> int:
        """One sample; returns the loss with LOSS_FRACTION fraction bits."""
        state = self.state
        if state.batch_count == 0:
            state.sums = {}
        loss, _, stored = self._run(x, target)
        state.batch_count += 1
        if state.batch_count == self.quantized.numbers.batch:
            state.batch_count = 0
            self._batch_updates()
        rate = self.rate
        for name, s in stored.items():
            self.saturations[name] = self.saturations.get(name, 0) + s.saturated
            self._adapt(name, s.ideal)
        state.steps = (state.steps + 1) & 0xFFFFFFFF
        if state.steps % CARE_EVERY == 0:
            self._decay(rate)
            self._renormalise()
            self._refit_slots()
        return loss

    def calibrate(self, samples: Sequence[tuple[Ints, Any]]) -> None:
        """Lowers every range to what the samples need; nothing else changes.

        Each is lowered before its tensor is stored, so that what follows sees values that fit.
        """
        for x, target in samples:
            self._run(x, target, calibrate=True)
        for range_ in self.state.ranges.values():
            range_.best, range_.count = NO_IDEAL, 0

    def _calibrate_slots(self, name: str, gradient: Q) -> None:
        """Slots whose exponent is their own begin with one that fits the gradients."""
        if self._optimizer.forms_gradient:
            f = self.state.f[slot_name(name)]
            ideal = max(MIN_SLOT_FRACTION, sum_ideal(gradient))
            self.state.f[slot_name(name)] = min(f, ideal)

    # one sample

    def _start(self, x: Ints, target: Any) -> Values:
        fx = self.quantized.formats["x"].f
        parameters = {name: self.state.q(name) for name in self.state.values}
        drawn = seeds(self.quantized.training, self.state.steps)
        return {"x": Q(integers(x), fx), "target": target, **parameters, **drawn}

    def _run(
        self, x: Ints, target: Any, calibrate: bool = False
    ) -> tuple[int, Values, dict[str, Stored]]:
        values, stored, loss = self._start(x, target), {}, 0
        for step in self.quantized.training.learning:
            if step.phase == "batch":
                continue
            if step.sink is not None:
                self._sink(step, values, calibrate)
                continue
            write = self._writer(step, values)
            if calibrate:
                self._adapt(step.output, write().ideal)
            stored[step.output] = write()
            values[step.output] = stored[step.output].q
            loss = stored[step.output].loss if step.phase == "loss" else loss
        return loss, values, stored

    def _writer(self, step: Step, values: Values) -> Callable[[], Stored]:
        """Stores what the step computes, as often as it is asked, in the format of then."""
        if is_recurrent(step):
            return partial(run_step_int, self.quantized, step, values, self.state)
        value = finished(self.quantized, step, values)
        return partial(store, self.quantized, step, value, self.state)

    def _sink(self, step: Step, values: Values, calibrate: bool) -> None:
        assert step.sink is not None
        gradient = gradient_of(self.quantized, step, values)
        if step.sink.kind == "norm":
            values[step.output] = self._clip(step, gradient)
            return
        if calibrate:
            self._calibrate_slots(step.sink.parameter, formed(gradient))
        if calibrate and step.sink.kind == "update":
            return
        if step.sink.kind == "store":
            values[step.output] = formed(gradient)
        elif calibrate:
            self._adapt(step.output, sum_ideal(formed(gradient)))
        elif step.sink.kind == "accumulate":
            self._accumulate(step, formed(gradient))
        else:
            self.update(step.sink.parameter, gradient, clip_of(step, values))

    # gradients

    def _accumulate(self, step: Step, gradient: Q) -> None:
        bits = self.quantized.formats[step.output].bits
        f = self._sum_fraction(step.output)
        before = self.state.sums.get(step.output, np.zeros_like(gradient.q))
        self.state.sums[step.output] = saturate(
            before + narrow(gradient.q, gradient.f - f, bits), bits
        )

    def _sum_fraction(self, name: str) -> int:
        range_ = self.state.ranges.get(name)
        return self.quantized.formats[name].f if range_ is None else range_.f

    def _batch_updates(self) -> None:
        values: Values = {}
        for step in self.quantized.training.phase("batch"):
            name = step.reads["g"]
            total = Q(self.state.sums[name], self._sum_fraction(name))
            if step.sink is not None and step.sink.kind == "norm":
                values[step.output] = self._clip(step, total)
                continue
            self.update(step.output, total, clip_of(step, values))
            if name in self.state.ranges:
                self._adapt(name, sum_ideal(total))

    def _clip(self, step: Step, gradient: Q | Outer) -> int:
        """By what a gradient is multiplied so that it is not too long, with 16 fraction bits."""
        if isinstance(gradient, Outer):
            norm = norm_of_outer(gradient)
        else:
            norm = norm_of(gradient, norm_shift(self.quantized, step))
        return clip_factor(norm, longest(self.quantized))

    def update(self, name: str, gradient: Q | Outer, clip: int = ONE_16) -> None:
        """One update of a parameter by its gradient times `clip`."""
        rate = self._rate_of(name)
        if self._optimizer.forms_gradient:
            g = formed(gradient)
            self._update_formed(name, g if clip == ONE_16 else Q(g.q * clip, g.f + 16), rate)
            return
        rate = rate.scaled(clip)
        if self.quantized.training.tensors[name].role == "weight":
            self._update_rows(name, gradient, rate)
            return
        assert isinstance(gradient, Q)
        state, slots = self.state, self._slots(name)
        state.values[name], slots = self._optimizer.update_bias_int(
            state.values[name], gradient, slots, rate
        )
        state.slots |= slots_of(name, self._optimizer, slots)

    def _slots(self, name: str) -> Slots:
        """Copies, in the optimizer's order."""
        return tuple(
            self.state.slots[slot_name(name, slot)].copy() for slot in self._optimizer.slots
        )

    def _update_formed(self, name: str, gradient: Q, rate: Rate) -> None:
        """Row by row; a bias is a row of its own."""
        state, optimizer = self.state, self._optimizer
        bits = self.quantized.formats[name].bits
        place = Place(bits, state.f[name], state.f[slot_name(name)], self.quantized.numbers.batch)
        shape = state.values[name].shape
        long = (len(state.values[name]), -1)
        rows, slots = state.values[name].reshape(long).copy(), self._slots(name)
        parts = [slot.reshape(long) for slot in slots]
        g = gradient.q.reshape(long)
        for row in range(len(rows)):
            words = [integers(state.random.draw()) for _ in range(optimizer.words)]
            draws = tuple(spread(word, rows[row].shape) for word in words)
            before = tuple(part[row] for part in parts)
            rows[row], after = optimizer.update_int(
                rows[row], Q(g[row], gradient.f), before, draws, rate, place
            )
            for part, new in zip(parts, after, strict=True):
                part[row] = new
        state.values[name] = rows.reshape(shape)
        state.slots |= slots_of(name, optimizer, slots)

    def _update_rows(self, name: str, gradient: Q | Outer, rate: Rate) -> None:
        """Row by row, so that each row has its own draw (NUMERICS 7)."""
        state, bits = self.state, self.quantized.formats[name].bits
        target = state.f[name] + self._optimizer.headroom(bits)
        rows = state.values[name].copy()
        slots = self._slots(name)
        k = self._fraction(gradient) + rate.s - target - 16
        for row in range(len(rows)):
            delta = self._delta(gradient, row, rate, k)
            if delta is None:
                self.skipped += 1
                continue
            draws = self._draws(gradient, delta, bits, k)
            before = tuple(slot[row] for slot in slots)
            rows[row], after = self._optimizer.update_int(rows[row], delta, before, draws, bits)
            for slot, new in zip(slots, after, strict=True):
                slot[row] = new
        state.values[name] = rows
        state.slots |= slots_of(name, self._optimizer, slots)

    def _draws(self, gradient: Q | Outer, delta: Ints, bits: int, k: int) -> Ints | None:
        """One draw a row, or one for each element; none with nearest rounding."""
        if self.quantized.numbers.rounding == "nearest":
            return None
        random, optimizer = self.state.random, self._optimizer
        if optimizer.spreads(bits):
            return spread(integers(random.draw()), delta.shape)
        if isinstance(gradient, Outer) and optimizer.shares_draw:
            return integers(dither_of_fold(k, random) << 16)
        return integers(random.draw())

    def _fraction(self, gradient: Q | Outer) -> int:
        """Fraction bits; 8-bit values are columns of an outer product as x << 8."""
        if isinstance(gradient, Q):
            return gradient.f
        return gradient.rows.f + gradient.columns.f + self._widen

    @property
    def _widen(self) -> int:
        return 16 - self.quantized.numbers.activation_bits

    def _delta(self, gradient: Q | Outer, row: int, rate: Rate, k: int) -> Ints | None:
        """Changes of a row, k bits less than the gradient times m; None where it is skipped."""
        if isinstance(gradient, Q):
            return step24(gradient.q[row], k) * rate.m
        n = fold(int(gradient.rows.q[row]), rate, k, self.state.random)
        if n == 0 and self._optimizer.skips_zero:
            return None
        return n * (gradient.columns.q << self._widen)

    # ranges

    def _adapt(self, name: str, ideal: int) -> None:
        if self.quantized.formats[name].policy == "relative":
            self.state.ranges[name].adapt_errors(ideal)
        elif name in self.state.ranges:
            self.state.ranges[name].adapt_values(ideal)

    def _decay(self, rate: Rate) -> None:
        """Weights lose what the last samples take off them, rounded stochastically."""
        state, training = self.state, self.quantized.training
        decay = weight_decay(training.graph, self.quantized.numbers.batch)
        for tensor in training.trained if decay.m else ():
            if tensor.role == "weight":
                own = layer_rate(rate, tensor)
                share = encode_number(own.m * decay.m, own.s + decay.s)
                state.values[tensor.name] = decayed(state.values[tensor.name], share, state.random)

    def _renormalise(self) -> None:
        """Weights that near their rail are halved, and slots that go with them (NUMERICS 8)."""
        state = self.state
        for tensor in self.quantized.training.trained:
            bits = self.quantized.formats[tensor.name].bits
            rail = (1 << (bits - 1)) - (1 << (bits - 7))
            largest = int(magnitude(state.values[tensor.name]).max())
            if tensor.role != "weight" or largest < rail or state.f[tensor.name] <= MIN_FRACTION:
                continue
            state.f[tensor.name] -= 1
            state.values[tensor.name] = rescale(state.values[tensor.name], 1)
            if not self._optimizer.forms_gradient:
                for slot in self._optimizer.slots:
                    name = slot_name(tensor.name, slot)
                    state.slots[name] = rescale(state.slots[name], 1)

    def _refit_slots(self) -> None:
        """Slots with an exponent of their own get a bit more or less where they need one."""
        state, optimizer = self.state, self._optimizer
        for tensor in self.quantized.training.trained if optimizer.forms_gradient else ():
            names = [slot_name(tensor.name, slot) for slot in optimizer.slots]
            peak = max(int(magnitude(state.slots[name]).max()) for name in names)
            f = state.f[slot_name(tensor.name)]
            more = int(0 < peak < 2**12 and f < MAX_SLOT_FRACTION)
            more -= int(peak >= 2**14 and f > MIN_SLOT_FRACTION)
            state.f[slot_name(tensor.name)] += more
            for name in names:
                state.slots[name] = rescale(state.slots[name], -more)

    @property
    def rate(self) -> Rate:
        """The learning rate as schedule and optimizer have it now."""
        graph, steps = self.quantized.training.graph, self.state.steps
        rate = self.state.rate.scaled(graph.schedule.factor_int(steps))
        return rate.scaled(graph.optimizer.factor_int(steps // self.quantized.numbers.batch))

    def _rate_of(self, name: str) -> Rate:
        return layer_rate(self.rate, self.quantized.training.tensors[name])

    @property
    def _optimizer(self) -> Any:
        return self.quantized.training.graph.optimizer


def slots_of(name: str, optimizer: OptimizerOp, slots: Slots) -> dict[str, Ints]:
    """By the names that they have in the state."""
    names = [slot_name(name, slot) for slot in optimizer.slots]
    return dict(zip(names, slots, strict=True))


def clip_of(step: Step, values: Values) -> int:
    """What the step reads, with 16 fraction bits; 1 where nothing is clipped."""
    return int(values[step.reads["clip"]]) if "clip" in step.reads else ONE_16


def longest(quantized: QuantizedGraph) -> Norm:
    """Norm beyond which the sum of gradients over a batch is clipped."""
    return encode_norm(quantized.training.graph.clip_norm * quantized.numbers.batch)


def norm_shift(quantized: QuantizedGraph, step: Step) -> int:
    """Bits that each element of a gradient loses before it is squared for the norm."""
    if step.phase == "batch":
        name = step.reads["g"]
        bits = quantized.formats[name].bits - 1
    else:
        bits = quantized.accumulators[step.name].gradient_bits
    assert step.sink is not None
    return squares_shift(bits, quantized.training.tensors[step.sink.parameter].size)


def layer_rate(rate: Rate, tensor: Tensor) -> Rate:
    """The rate for a parameter, whose factor has 16 fraction bits."""
    return rate.scaled(rate_factor(tensor))


def rate_factor(tensor: Tensor) -> int:
    """By what the rate is multiplied for a parameter, with 16 fraction bits."""
    return round(tensor.rate_factor * (1 << 16))


def weight_decay(graph: Graph, batch: int) -> Rate:
    """What CARE_EVERY samples take off a weight, for a rate of 1 as the C has it."""
    shared = batch if graph.optimizer.normalises else 1
    return encode_number(round(CARE_EVERY * graph.weight_decay / shared * 2**48), 48)


def sum_ideal(gradient: Q) -> int:
    """The exponent that a sum of gradients should have: one bit of its 16 is headroom."""
    length = bit_length(gradient.q)
    return 14 - length + gradient.f if length else NO_IDEAL


def initial_parameters(
    tensors: Iterable[Tensor], seed: int, given: Mapping[str, Floats] | None = None
) -> dict[str, Floats]:
    """Those that are given, by name; for the rest Glorot's uniform weights, and biases of 0.

    A tensor that is part of another is cut out of it, so that the split changes no value. What is
    given under the name of a whole is as it was before a FoldOp was taken up.
    """
    random = np.random.RandomState(seed)  # whose stream is the same in every NumPy
    wholes: dict[str, Floats] = {}
    parameters: dict[str, Floats] = {}
    for tensor in tensors:
        if tensor.role not in PARAMETER_ROLES:
            continue
        name, shape = tensor.whole
        if name not in wholes:
            wholes[name] = _initial(tensor, shape, random)
        whole = wholes[name] if given is None else given.get(name, wholes[name])
        parameters[tensor.name] = _folded(tensor, np.asarray(whole, np.float64))[tensor.rows]
    return parameters


def _folded(tensor: Tensor, values: Floats) -> Floats:
    """Rows times scale; biases also plus shift."""
    scale, shift = _fold(tensor, values)
    return values * scale + shift


def unfolded(tensor: Tensor, values: Floats) -> Floats:
    """The inverse; a row that the scale makes 0 stays 0."""
    scale, shift = _fold(tensor, values)
    return np.where(scale == 0, 0.0, (values - shift) / np.where(scale == 0, 1.0, scale))


def _fold(tensor: Tensor, values: Floats) -> tuple[Floats, Floats]:
    if tensor.fold is None:
        return np.ones(1), np.zeros(1)
    scale = np.reshape(tensor.fold.scale(), (-1,) + (1,) * (values.ndim - 1))
    return scale, np.array(tensor.fold.shift()) if tensor.role == "bias" else np.zeros(1)


def _initial(tensor: Tensor, shape: Shape, random: np.random.RandomState) -> Floats:
    if tensor.initial is not None:
        return np.full(shape, tensor.initial)
    if tensor.role == "bias":
        return np.zeros(shape)
    limit = np.sqrt(6 / (tensor.fan_in + tensor.fan_out))
    return random.uniform(-limit, limit, shape)
