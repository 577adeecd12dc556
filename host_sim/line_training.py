"""A device at the other end of a line, spec and data -> its learning curve and parameters."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from codegen.data import Data
from codegen.fixedpoint import Floats
from codegen.pipeline import quantize_samples
from codegen.spec import Spec
from host_sim.device import Device
from host_sim.link import Link
from host_sim.training import Measures, measure


@dataclass(frozen=True)
class LineEpoch:
    """One point of the learning curve; epoch 0 is before any training, without training loss."""

    number: int
    measures: Measures


@dataclass(frozen=True)
class LineResult:
    """What `mcugrad link` found; `as_json` has the keys that scripts rely on."""

    spec: Spec
    port: str
    curve: tuple[LineEpoch, ...]  # empty without data
    trained: int  # steps since the device was started
    memory: bytes = field(repr=False)  # its parameters
    seed: int = 0
    start: Mapping[str, Floats] | None = field(default=None, repr=False)  # weights, where given

    @property
    def parameters_crc32(self) -> str:
        return f"{zlib.crc32(self.memory):08x}"

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The curve as named numbers."""
        named = [(epoch.number, asdict(epoch.measures)) for epoch in self.curve]
        name = self.spec.loss.score_name
        return [{"epoch": n, name: values.pop("score"), **values} for n, values in named]

    def as_json(self) -> dict[str, Any]:
        return {
            "network": self.spec.name,
            "mode": self.spec.mode,
            "port": self.port,
            "curve": self.rows,
            "trained": self.trained,
            "parameters_crc32": self.parameters_crc32,
        }

    def write_csv(self, path: Path) -> None:
        """A line for each epoch, under the names of the columns."""
        lines = [
            ",".join(map(str, row)) for row in (self.rows[0], *(r.values() for r in self.rows))
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def save(self, path: Path) -> None:
        """The parameters as an .npz, as `mcugrad train --save` writes it."""
        device = Device(self.spec, seed=self.seed, parameters=self.start)
        device.parameter_bytes = self.memory
        device.save(path)


def train_over_line(
    link: Link,
    spec: Spec,
    data: Data,
    *,
    epochs: int,
    seed: int = 0,
    sent: Callable[[], None] = lambda: None,
    progress: Callable[[LineEpoch], None] = lambda epoch: None,
) -> tuple[LineEpoch, ...]:
    """Streams the samples in the order of `mcugrad train`; the device evaluates after each epoch.

    `sent` is called after each sample and `progress` after each epoch.
    """
    samples = quantize_samples(spec, data.x, data.y)
    random = np.random.RandomState(seed)
    curve = []
    for number in range(epochs + 1):
        loss = 0.0
        for index in random.permutation(len(samples)) if number else ():
            loss += link.train(samples.x[index], samples.target[index])
            sent()
        curve.append(LineEpoch(number, _evaluated(link, spec, data, loss / len(samples), sent)))
        progress(curve[-1])
    return tuple(curve)


def _evaluated(
    link: Link, spec: Spec, data: Data, train_loss: float, sent: Callable[[], None]
) -> Measures:
    scores = []
    for x in quantize_samples(spec, data.x_test, data.y_test).x:
        scores.append(link.scores(x))
        sent()
    return measure(spec, data, np.array(scores), train_loss)
