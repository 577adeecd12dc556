"""Is the generated C, looped on this machine, at least 20 times as fast as PyTorch?

In: tests/networks/digits.toml (64-32-10, ReLU, softmax cross-entropy, plain SGD, batch 1) and the
1 797 digits of scikit-learn. No arguments; run it on an idle machine, it takes under a minute.

Measured side by side, each learner from the same weights, over the same samples in the same order:
the C as `mcugrad generate` writes it, compiled by the host's compiler and handed whole epochs; and
PyTorch, eager with autograd, one thread, batch 1, float32, in two ways of which the faster counts.
PyTorch's samples are tensors before the clock starts, and its loss is never read back.

Out: a table of training steps per second, medians of repetitions that take turns, with the accuracy
on the training samples as evidence that everybody learnt; and the ratio. Exit status 0 if the ratio
is at least 20, 1 if not, 2 if a package is missing.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from codegen.fixedpoint import Floats, Ints
from codegen.pipeline import quantize_samples
from codegen.spec import Spec, load_spec
from host_sim.device import Device

try:
    import torch
    from sklearn.datasets import load_digits
    from torch.nn import functional
except ImportError as error:
    print(f"needs {error.name}; pip install -e '.[dev]'", file=sys.stderr)
    sys.exit(2)

NETWORK = Path(__file__).resolve().parents[1] / "networks" / "digits.toml"
WANTED = 20
REPETITIONS = 7
EPOCHS = 5  # in one repetition


@dataclass(frozen=True)
class Learner:
    """Something that can be trained: only `run` is timed."""

    name: str
    restart: Callable[[], None]  # back to the starting weights
    run: Callable[[list[Ints]], None]  # one training step for each index, epoch by epoch
    predict: Callable[[], Ints]  # the answers to the training samples


def c_learner(spec: Spec, x: Floats, labels: Ints) -> tuple[Learner, Mapping[str, Floats]]:
    """Generated C, and its starting weights: those of the others."""
    samples = quantize_samples(spec, x, labels)
    device = Device(spec, samples=samples, counters=False)  # the C that `mcugrad generate` writes

    def run(epochs: list[Ints]) -> None:
        for order in epochs:
            device.train_samples(samples, order)

    def predict() -> Ints:
        return device.predict_of(samples.x)

    return Learner(f"mcugrad, C in {spec.mode}", device.init, run, predict), device.state().floats()


class Torch:
    """The same network in PyTorch, and two ways to train it."""

    def __init__(self, spec: Spec, x: Floats, labels: Ints, weights: Mapping[str, Floats]):
        names = ("dense1_w", "dense1_b", "dense2_w", "dense2_b")
        self.start = [torch.tensor(weights[name], dtype=torch.float32) for name in names]
        self.rate = spec.learning_rate
        self.x = torch.tensor(x, dtype=torch.float32)
        self.samples = list(zip(self.x.split(1), torch.tensor(labels).split(1), strict=True))
        self.model = torch.nn.Sequential(
            torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)
        )

    def learners(self) -> list[Learner]:
        return [
            Learner("PyTorch, Module and SGD", self.restart, self.usual, self.predict),
            Learner("PyTorch, bare autograd", self.restart, self.bare, self.predict),
        ]

    def restart(self) -> None:
        with torch.no_grad():
            for parameter, value in zip(self.model.parameters(), self.start, strict=True):
                parameter.copy_(value)
                parameter.grad = None

    def usual(self, epochs: list[Ints]) -> None:
        """As tutorials write it."""
        model, loss = self.model, torch.nn.CrossEntropyLoss()
        optimizer = torch.optim.SGD(model.parameters(), lr=self.rate, foreach=False, fused=False)
        for order in epochs:
            for i in order.tolist():
                x, label = self.samples[i]
                optimizer.zero_grad()
                loss(model(x), label).backward()
                optimizer.step()

    def bare(self, epochs: list[Ints]) -> None:
        """Functions in place of modules, the update by hand in place of the optimizer."""
        parameters = list(self.model.parameters())
        w1, b1, w2, b2 = parameters
        linear, loss, rate = functional.linear, functional.cross_entropy, self.rate
        for order in epochs:
            for i in order.tolist():
                x, label = self.samples[i]
                scores = linear(torch.relu(linear(x, w1, b1)), w2, b2)
                gradients = torch.autograd.grad(loss(scores, label), parameters)
                with torch.no_grad():
                    for parameter, gradient in zip(parameters, gradients, strict=True):
                        parameter.sub_(gradient, alpha=rate)

    def predict(self) -> Ints:
        with torch.no_grad():
            answers: Ints = self.model(self.x).argmax(1).numpy()
        return answers


def steps_per_second(learner: Learner, epochs: list[Ints]) -> float:
    learner.restart()
    start = time.perf_counter()
    learner.run(epochs)
    return sum(map(len, epochs)) / (time.perf_counter() - start)


def main() -> int:
    torch.set_num_threads(1)
    spec = load_spec(NETWORK)
    digits = load_digits()
    x, labels = digits.data / spec.input_max, digits.target
    random = np.random.RandomState(0)
    epochs = [random.permutation(len(x)) for _ in range(EPOCHS)]

    ours, weights = c_learner(spec, x, labels)
    learners = [ours, *Torch(spec, x, labels, weights).learners()]
    for learner in learners:
        steps_per_second(learner, epochs[:1])  # warms up
    speeds: dict[str, list[float]] = {learner.name: [] for learner in learners}
    accuracies: dict[str, float] = {}
    for _ in range(REPETITIONS):
        for learner in learners:
            speeds[learner.name].append(steps_per_second(learner, epochs))
            accuracies[learner.name] = float(np.mean(learner.predict() == labels))

    medians = {name: median(values) for name, values in speeds.items()}
    ours_median = medians.pop(ours.name)
    ratio = ours_median / max(medians.values())
    table = Table(title=f"{spec.name}, batch 1: training steps per second")
    table.add_column("learner")
    for column in ("median", "slowest", "fastest", "accuracy"):
        table.add_column(column, justify="right")
    for name, values in speeds.items():
        numbers = (median(values), min(values), max(values))
        table.add_row(name, *(f"{n:,.0f}" for n in numbers), f"{accuracies[name]:.1%}")
    console = Console()
    console.print(table)
    console.print(
        f"{REPETITIONS} repetitions of {EPOCHS * len(x)} steps; "
        f"PyTorch {torch.__version__} on one thread\n"
        f"mcugrad: {ratio:.1f} times the faster PyTorch; wanted: at least {WANTED}",
        highlight=False,
    )
    return 0 if ratio >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())
