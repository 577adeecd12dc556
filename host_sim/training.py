"""Spec and data -> two learning curves: the compiled C, and floats beside it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from codegen.data import Data
from codegen.fixedpoint import Floats
from codegen.interpret import FloatLearner, initial_parameters, scores_float
from codegen.ops.base import AnswerOp
from codegen.pipeline import Samples, make_plan, quantize_samples
from codegen.report import make_report
from codegen.spec import Spec
from host_sim.compiler import Platform
from host_sim.device import Device


@dataclass(frozen=True)
class Measures:
    """On the test data: accuracy or R2 (`score`) and mean loss; and the last epoch's mean loss."""

    score: float
    loss: float
    train_loss: float


@dataclass(frozen=True)
class Epoch:
    """One point of the learning curves."""

    number: int
    fixed: Measures
    float_: Measures


@dataclass(frozen=True)
class TrainingResult:
    """What `mcugrad train` found; `as_json` has the keys that scripts rely on."""

    network: str
    mode: str
    epochs: int
    steps: int
    score_name: str
    curve: tuple[Epoch, ...]
    ram_bytes: int
    saturations: dict[str, int]
    parameters_crc32: str
    steps_per_second: float
    device: Device = field(repr=False)

    @property
    def fixed(self) -> Measures:
        return self.curve[-1].fixed

    @property
    def float_(self) -> Measures:
        return self.curve[-1].float_

    def as_json(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "mode": self.mode,
            "epochs": self.epochs,
            "steps": self.steps,
            "fixed": self._named(self.fixed),
            "float": self._named(self.float_),
            "ram_bytes": self.ram_bytes,
            "saturations": self.saturations,
            "parameters_crc32": self.parameters_crc32,
        }

    def _named(self, measures: Measures) -> dict[str, float]:
        values = asdict(measures)
        return {self.score_name: values.pop("score"), **values}


def train(
    spec: Spec,
    data: Data,
    *,
    epochs: int = 10,
    seed: int = 0,
    parameters: Mapping[str, Floats] | None = None,
    platform: Platform | None = None,
    progress: Callable[[Epoch], None] = lambda epoch: None,
) -> TrainingResult:
    """Trains the C and the floats with the same weights, order and rate; evaluates every epoch.

    `seed` decides the order, and the starting weights that `parameters` does not give. `platform`
    runs the C, where it is not this machine: an emulated core. `progress` is called after each
    epoch.
    """
    samples = quantize_samples(spec, data.x, data.y)
    device = Device(spec, seed=seed, samples=samples, parameters=parameters, compiler=platform)
    twin = _float_twin(spec, seed, parameters)
    random = np.random.RandomState(seed)
    curve, seconds = [], 0.0
    for number in range(1, epochs + 1):
        order = random.permutation(len(samples))
        start = time.perf_counter()
        fixed_loss = device.train_samples(samples, order) / len(samples)
        seconds += time.perf_counter() - start
        float_loss = float(np.mean([twin.train(*_sample(data, i)) for i in order]))
        fixed = measure(spec, data, _fixed_scores(spec, device, data), fixed_loss)
        curve.append(Epoch(number, fixed, measure(spec, data, _scores(twin, data), float_loss)))
        progress(curve[-1])
    return TrainingResult(
        network=spec.name,
        mode=spec.mode,
        epochs=epochs,
        steps=epochs * len(samples),
        score_name=spec.loss.score_name,
        curve=tuple(curve),
        ram_bytes=make_report(device.plan, device.state()).total,
        saturations=device.saturations(),
        parameters_crc32=device.crc32(),
        steps_per_second=epochs * len(samples) / max(seconds, 1e-9),
        device=device,
    )


def _float_twin(spec: Spec, seed: int, given: Mapping[str, Floats] | None) -> FloatLearner:
    plan = make_plan(spec, gradient=True)
    parameters = initial_parameters(plan.training.tensors.values(), seed, given)
    return FloatLearner(plan.training, parameters, spec.learning_rate, spec.batch)


def _sample(data: Data, index: int) -> tuple[Floats, Any]:
    """Floats see what a sensor with the full scale of input_max would give."""
    return np.clip(data.x[index], -1, 1), data.y[index]


def _fixed_scores(spec: Spec, device: Device, data: Data) -> Floats:
    samples: Samples = quantize_samples(spec, data.x_test, data.y_test)
    return device.scores_of(samples.x)


def _scores(twin: FloatLearner, data: Data) -> Floats:
    inputs = np.clip(data.x_test, -1, 1)
    return np.array([scores_float(twin.training, twin.parameters, x) for x in inputs])


def measure(spec: Spec, data: Data, scores: Floats, train_loss: float) -> Measures:
    """What predictions for the test samples, (samples, outputs), are worth."""
    last = spec.layers[-1].op
    scores = last.scores(scores) if isinstance(last, AnswerOp) else scores
    losses = [spec.loss.loss(s, t)[0] for s, t in zip(scores, data.y_test, strict=True)]
    score = spec.loss.score(scores, data.y_test)
    return Measures(score, float(np.mean(losses)), train_loss)
