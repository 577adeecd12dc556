"""Networks and cores -> what a training step costs, beside what it costs with other libraries."""

import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from codegen.layout import training_bytes
from codegen.pipeline import make_plan
from codegen.report import multiplies
from codegen.spec import Spec
from host_sim.bench import board_with, core_cost
from host_sim.emulator import Core


@dataclass(frozen=True)
class Row:
    """Instructions of a step and a prediction, bytes of code, stack and RAM; None: not known.

    The stack is the deepest that it can be; RAM is that for training, with the stack.
    """

    name: str
    core: str
    train: int | None
    train_per_mac: float | None
    predict: int | None
    code_bytes: int | None
    stack_bytes: int | None
    ram_bytes: int | None


@dataclass(frozen=True)
class Comparison:
    """One network: ours on each core, then others that did the same work."""

    network: str
    macs: int
    rows: tuple[Row, ...]

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts rely on."""
        return asdict(self)


def compare(
    specs: Sequence[Spec], cores: Sequence[Core], progress: Callable[[], None] = lambda: None
) -> list[Comparison]:
    """`progress` is called after each network on each core."""
    result = []
    for spec in specs:
        ours, macs = [], multiplies(make_plan(spec))["total"]
        for core in cores:
            ours.append(_ours(spec, core))
            progress()
        names = {core.name for core in cores}
        others = [row for row in peers(macs) if row.core in names]
        result.append(Comparison(spec.name, macs, (*ours, *others)))
    return result


def _ours(spec: Spec, core: Core) -> Row:
    cost = core_cost(spec, core, steps=1)  # nothing of it is typical
    stack = cost.stack_bound_bytes
    ram = training_bytes(make_plan(spec, board_with(core))) + stack
    costs = (cost.train, cost.train_per_mac, cost.predict, cost.code_bytes, stack, ram)
    return Row(f"mcugrad, {spec.mode}", core.name, *costs)


def peers(macs: int) -> list[Row]:
    """What is known of others for a step of so many multiplications; see peers.toml."""
    facts = tomllib.loads(Path(__file__).with_name("peers.toml").read_text(encoding="utf-8"))
    works = list(facts["works"].values())
    if macs not in works:
        return []
    i = works.index(macs)
    rows = []
    for peer in facts["peer"]:
        train, predict, ram = (peer[key][i] or None for key in ("train", "predict", "ram"))
        if train or predict:
            per_mac = round(train / macs, 2) if train else None
            rows.append(Row(peer["name"], peer["core"], train, per_mac, predict, None, None, ram))
    return rows
