"""Spec, samples, bytes of RAM -> which layers, channels and biases should learn."""

import heapq
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np

from codegen.errors import UserError
from codegen.fixedpoint import Floats
from codegen.graph import Graph
from codegen.interpret import initial_parameters, run_float
from codegen.layout import training_bytes
from codegen.ops.base import LayerOp, ShapeError
from codegen.passes.build_graph import build_graph
from codegen.pipeline import Samples, make_plan, sample_floats
from codegen.report import multiplies
from codegen.spec import Layer, Spec, parse_spec

SHARES = (0.25, 0.5)  # of a layer's output channels, between its bias and all of it
MEASURED = 64  # samples, at most, on which gradients are measured
MEASURED_MACS = 2**28


@dataclass(frozen=True)
class Level:
    """What of a layer learns. To first order the loss falls by learning rate * `gain`."""

    update: str
    share: float
    gain: float

    def __str__(self) -> str:
        if self.share < 1:
            return f"{self.share:.0%} of the channels"
        return {"all": "all", "bias": "bias"}[self.update]


@dataclass(frozen=True)
class Proposal:
    """The layers that learn and what it takes; `gain` of `most` is what all layers would bring."""

    spec: Spec
    levels: Mapping[str, Level]
    ram_bytes: int
    gain: float
    most: float

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts rely on."""
        return {
            "network": self.spec.name,
            "ram_bytes": self.ram_bytes,
            "loss_decrease_share": self.gain / self.most,
            "layers": [
                {"name": name, "update": level.update, "update_channels": level.share}
                for name, level in self.levels.items()
            ],
        }


def propose(
    spec: Spec,
    samples: Samples,
    ram_bytes: int,
    parameters: Mapping[str, Floats] | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Proposal:
    """Greedy: again and again the step that brings most first-order loss decrease per byte.

    The gain of a parameter is the mean over the samples of the squared length of its gradient at
    the starting weights (`parameters`, as files have them): to first order the loss falls by
    learning rate times that. Only layers that learn in `spec` are considered. UserError where not
    even the cheapest fits.
    """
    graph = build_graph(spec)
    ladders = _ladders(spec, graph, _gradients(spec, samples, parameters))
    owners = frozenset(node.owner for node in graph.nodes if node.parameters)
    chosen: dict[str, int] = {}
    known: dict[str, int] = {}
    ties = count()
    # Parameters are the least that a step can cost; what it truly costs is known when it is tried.
    queue = [(-np.inf, next(ties), name) for name in ladders]
    heapq.heapify(queue)
    used = 0
    while queue:
        expected, _, name = heapq.heappop(queue)
        trial = {**chosen, name: chosen.get(name, -1) + 1}
        known[name] = total = ram(_with(spec, owners, ladders, trial))
        if total > ram_bytes:
            continue
        before = ladders[name][chosen[name]].gain if name in chosen else 0.0
        worth = (ladders[name][trial[name]].gain - before) / max(1, total - used)
        if queue and -worth > queue[0][0] and -worth > expected:
            heapq.heappush(queue, (-worth, next(ties), name))
            continue
        chosen, used = trial, total
        progress(name)
        if trial[name] + 1 < len(ladders[name]):
            heapq.heappush(queue, (-np.inf, next(ties), name))
    if not chosen:
        least = min(known, key=lambda name: known[name])
        raise UserError(
            f"{spec.source}: does not fit in {ram_bytes:,} bytes of RAM whatever learns; with only "
            f"{least} ({ladders[least][0]}) learning it takes {known[least]:,}; give that much, or "
            "shrink the network"
        )
    levels = {name: ladders[name][level] for name, level in chosen.items()}
    gain = sum(level.gain for level in levels.values())
    most = sum(ladder[-1].gain for ladder in ladders.values())
    return Proposal(_with(spec, owners, ladders, chosen), levels, used, gain, most)


def ram(spec: Spec) -> int:
    """Bytes of RAM for training: both structs."""
    return training_bytes(make_plan(spec))


def _gradients(
    spec: Spec, samples: Samples, given: Mapping[str, Floats] | None
) -> dict[str, Floats]:
    """Mean over the samples of each gradient's squares, by parameter."""
    plan = make_plan(spec, gradient=True)
    parameters = initial_parameters(plan.training.tensors.values(), 0, given)
    number = max(1, min(MEASURED, MEASURED_MACS // multiplies(plan)["total"], len(samples)))
    squares: dict[str, Floats] = {}
    for index in range(number):
        x, target = sample_floats(plan.quantized, samples, index)
        _, values = run_float(plan.training, parameters, x, target)
        for step in plan.training.phase("gradient"):
            assert step.sink is not None
            name = step.sink.parameter
            squares[name] = squares.get(name, 0.0) + values[step.output] ** 2 / number
    return squares


def _ladders(spec: Spec, graph: Graph, squares: Mapping[str, Floats]) -> dict[str, list[Level]]:
    """The levels of each layer that has parameters which learn, the cheapest first."""
    parameters: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        parameters[node.owner] = (*parameters.get(node.owner, ()), *node.parameters.values())
    ladders = {}
    for layer in spec.layers:
        own = [n for n in parameters.get(layer.name, ()) if not graph.tensors[n].frozen]
        if own:
            biases = [squares[n] for n in own if graph.tensors[n].role == "bias"]
            weights = [squares[n] for n in own if graph.tensors[n].role == "weight"]
            ladders[layer.name] = _ladder(layer, weights, biases)
    return ladders


def _ladder(layer: Layer, weights: list[Floats], biases: list[Floats]) -> list[Level]:
    levels = [Level("bias", 1.0, _total(biases))] if biases else []
    if not weights:
        return levels
    channels = len(weights[0])
    for share in SHARES if _splits(layer, channels) else ():
        first = round(share * channels)
        levels.append(Level("all", share, _total([v[:first] for v in weights + biases])))
    return [*levels, Level("all", 1.0, _total(weights + biases))]


def _total(squares: list[Floats]) -> float:
    return sum(float(v.sum()) for v in squares)


def _splits(layer: Layer, channels: int) -> bool:
    assert isinstance(layer.op, LayerOp)
    if channels < 1 / min(SHARES):
        return False
    try:
        layer.op.split(1)
    except ShapeError:
        return False
    return True


def _with(
    spec: Spec,
    owners: frozenset[str],
    ladders: Mapping[str, list[Level]],
    chosen: Mapping[str, int],
) -> Spec:
    """The network in which these levels learn and nothing else; `owners` have parameters."""
    layers = []
    for layer in spec.layers:
        if layer.name in chosen:
            level = ladders[layer.name][chosen[layer.name]]
            layer = replace(layer, update=level.update, update_channels=level.share)
        elif layer.name in owners and not layer.frozen:
            layer = replace(layer, update="none", update_channels=1.0)
        layers.append(layer)
    return replace(spec, layers=tuple(layers), frozen_until="")


_LEARNING_KEYS = re.compile(r"\s*(frozen|update|update_channels|frozen_until)\s*=")


def rewrite(text: str, spec: Spec) -> str:
    """The network file with what learns in `spec`; everything else stays as it was written."""
    lines, layers = [], iter(spec.layers)
    for line in text.splitlines():
        if _LEARNING_KEYS.match(line):
            continue
        lines.append(line)
        if line.split("#")[0].replace(" ", "").strip() == "[[layer]]":
            layer = next(layers)
            lines += [f'update = "{layer.update}"'] if layer.update != "all" else []
            if layer.update_channels < 1:
                lines.append(f"update_channels = {layer.update_channels}")
            lines += ["frozen = true"] if layer.frozen else []
    written = "\n".join(lines) + "\n"
    again = parse_spec(written, spec.source)
    if again.layers != spec.layers:
        raise UserError(
            f"{spec.source}: the layers are written in a way that cannot be changed by line; write "
            "each as [[layer]] with one key a line"
        )
    return written
