"""NET.tune.toml, beside NET.toml: the forms of C that were the fastest on a core.

    [cortex-m4]
    mode = "int16"
    network = "65c0e218a710aed2"  # the network file, as in the banner of the C
    before = 17924  # instructions of a training step, as `mcugrad bench` counts them
    after = 17634

    [cortex-m4.steps.relu1]  # as in the C: step_relu1
    sums = 16
    before = 17924
    after = 17720

The C of another mode has other costs: what was chosen for one counts for it alone.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegen.errors import UserError
from codegen.graph import QuantizedGraph, Step
from codegen.ops.base import Choice
from codegen.passes.choose_forms import Forms
from codegen.spec import Spec

_COUNTS = ("before", "after")
_HEAD = """# Which forms of the C `mcugrad tune` found the fastest on a core; all compute the same.
# Without this file the defaults hold. Numbers are instructions of a training step.
"""


@dataclass(frozen=True)
class Tuned:
    """One choice for a step, and the instructions of a training step before and after it."""

    step: str
    knob: str
    choice: Choice
    before: int
    after: int


@dataclass(frozen=True)
class Tuning:
    """All choices for one core, in the order in which they were made; instructions and bytes before
    and after: RAM for training, and the deepest that the stack can be.
    """

    core: str
    mode: str
    network: str
    before: int
    after: int
    ram_before: int
    ram_after: int
    stack_before: int
    stack_after: int
    choices: tuple[Tuned, ...]

    @property
    def forms(self) -> Forms:
        forms: dict[str, dict[str, Choice]] = {}
        for tuned in self.choices:
            forms.setdefault(tuned.step, {})[tuned.knob] = tuned.choice
        return forms


def tuning_path(spec: Spec) -> Path:
    """Where the choices for a network are."""
    return Path(spec.source).with_suffix(".tune.toml")


def read_forms(spec: Spec, quantized: QuantizedGraph, core: str) -> Forms:
    """The choices for a core, none where there are none; UserError where they do not fit."""
    path = tuning_path(spec)
    facts = _table(_read(path).get(core, {}), f"{path}: {core}")
    if facts.get("mode", spec.mode) != spec.mode:
        return {}
    steps = {step.name: step for step in quantized.training.steps if not step.twin}
    forms = {}
    for name, table in _table(facts.get("steps", {}), f"{path}: {core}.steps").items():
        place = f"{path}: {core}.steps.{name}"
        if name not in steps:
            raise _stale(f"{place}: {spec.source} has no such step", spec, core)
        forms[name] = _form(steps[name], _table(table, place), place, spec, core)
    return forms


def _form(
    step: Step, table: Mapping[str, Any], place: str, spec: Spec, core: str
) -> Mapping[str, Choice]:
    choices = step.op.choices(step.kernel, step.shapes)
    form = {knob: choice for knob, choice in table.items() if knob not in _COUNTS}
    for knob, choice in form.items():
        if choice not in choices.get(knob, ()):
            words = f"{knob} = {json.dumps(choice)}"
            raise _stale(f"{place}: {words} is no choice of this step", spec, core)
    return form


def _stale(what: str, spec: Spec, core: str) -> UserError:
    way = f"mcugrad tune {spec.source} --core {core} writes it anew, without it the defaults hold"
    return UserError(f"{what}; {way}")


def _table(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{place}: must be a table, not {json.dumps(value)}; delete it")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; remove it, and the defaults hold") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}; delete it, and the defaults hold") from None


def read_others(spec: Spec, core: str) -> dict[str, Mapping[str, Any]]:
    """What the file says of other cores; UserError where it cannot stay in it."""
    path = tuning_path(spec)
    return {
        other: _table(facts, f"{path}: {other}")
        for other, facts in _read(path).items()
        if other != core
    }


def tuning_text(tuning: Tuning, others: Mapping[str, Mapping[str, Any]]) -> str:
    """The new text of the file; what it says of other cores stays."""
    steps: dict[str, dict[str, Any]] = {}
    for tuned in tuning.choices:
        step = steps.setdefault(tuned.step, {"before": tuned.before})
        step |= {tuned.knob: tuned.choice, "after": tuned.after}
    own = {
        **{"mode": tuning.mode, "network": tuning.network},
        **{"before": tuning.before, "after": tuning.after, "steps": steps},
    }
    text = _HEAD
    for core, facts in sorted({**others, tuning.core: own}.items()):
        text += "\n" + _lines([core], facts)
    return text


def _lines(path: list[str], table: Mapping[str, Any]) -> str:
    """A table of TOML, then those within it."""
    plain = {key: value for key, value in table.items() if not isinstance(value, dict)}
    inner = {key: value for key, value in table.items() if isinstance(value, dict)}
    text = ""
    if plain or not inner:
        text = f"[{'.'.join(map(_key, path))}]\n"
        text += "".join(f"{_key(key)} = {json.dumps(value)}\n" for key, value in plain.items())
    parts = [text, *(_lines([*path, key], value) for key, value in inner.items())]
    return "\n".join(part for part in parts if part)


def _key(word: str) -> str:
    return word if re.fullmatch(r"[A-Za-z0-9_-]+", word) else json.dumps(word)
