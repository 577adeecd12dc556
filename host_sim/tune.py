"""Spec and core -> the forms of C that are the fastest there, step by step, measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from codegen.emit import Options, emit
from codegen.graph import Plan, Step
from codegen.layout import training_bytes
from codegen.ops.base import Choice
from codegen.passes.choose_forms import Forms
from codegen.pipeline import make_plan, make_state
from codegen.spec import Spec
from codegen.tuning import Tuned, Tuning
from host_sim.bench import board_with, steps_cost, worst_case
from host_sim.device import Build
from host_sim.emulator import Core, EmulatedProgram

_WORTH = 1000  # a choice saves at least such a part of a step


@dataclass(frozen=True)
class _Cost:
    """Instructions of all steps of a period; bytes."""

    instructions: int
    ram: int
    stack: int

    def fits(self, room: int) -> bool:
        return self.ram + self.stack <= room

    def saves(self, other: "_Cost") -> bool:
        """Enough to be worth a line."""
        return (other.instructions - self.instructions) * _WORTH > other.instructions


class _Meter:
    """What the training steps of `mcugrad bench` cost; measured once for each C."""

    def __init__(self, spec: Spec, core: Core):
        self._spec, self._core, self._board = spec, core, board_with(core)
        self.plan = self._planned({})
        self._worst = worst_case(spec, self.plan)
        self._state = make_state(spec, self.plan)
        self._known: dict[str, _Cost] = {}

    def _planned(self, forms: Forms) -> Plan:
        return make_plan(self._spec, self._board, forms=forms)

    def cost(self, forms: Forms) -> _Cost:
        plan = self._planned(forms)
        text = emit(self._spec, plan, self._state, Options())[f"{self._spec.name}.c"]
        if text not in self._known:
            build = Build(self._spec, plan, self._state, Options(), self._core)
            assert isinstance(build.program, EmulatedProgram)
            stack = build.program.stack_bound(f"{self._spec.name}_train")
            instructions = steps_cost(build, self._worst)
            self._known[text] = _Cost(instructions, training_bytes(plan), stack)
        return self._known[text]

    def mean(self, cost: _Cost) -> int:
        """Instructions of one step."""
        return round(cost.instructions / self._worst.period)


def tune(
    spec: Spec,
    core: Core,
    *,
    ram: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Tuning:
    """One choice after the other is kept if a training step takes fewer instructions with it.

    They may take as much RAM as the defaults, stack included, or `ram` bytes where that is more.
    `progress` is told how many choices were tried, of how many.
    """
    meter = _Meter(spec, core)
    start = best = meter.cost({})
    room = max(ram, start.ram + start.stack)
    forms: dict[str, dict[str, Choice]] = {}
    kept: dict[tuple[str, str], Tuned] = {}
    candidates = [*_candidates(meter.plan)]
    for i, (step, knob, choice) in enumerate(candidates, 1):
        trial = {**forms, step.name: {**forms.get(step.name, {}), knob: choice}}
        cost = meter.cost(trial)
        if cost.fits(room) and cost.saves(best):
            earlier = kept.get((step.name, knob))
            before = earlier.before if earlier else meter.mean(best)
            kept[step.name, knob] = Tuned(step.name, knob, choice, before, meter.mean(cost))
            best, forms = cost, trial
        progress(i, len(candidates))
    return Tuning(
        core=core.name,
        mode=spec.mode,
        network=spec.digest[:16],
        before=meter.mean(start),
        after=meter.mean(best),
        ram_before=start.ram,
        ram_after=best.ram,
        stack_before=start.stack,
        stack_after=best.stack,
        choices=tuple(kept.values()),
    )


def _candidates(plan: Plan) -> Iterator[tuple[Step, str, Choice]]:
    """What else there is than the defaults: knobs of few steps first, then steps in their order."""
    steps = [step for step in plan.training.steps if not step.twin]
    knobs = [knob for step in steps for knob in step.op.choices(step.kernel, step.shapes)]
    for knob in sorted(set(knobs), key=lambda knob: (knobs.count(knob), knob)):
        for step in steps:
            choices = step.op.choices(step.kernel, step.shapes).get(knob, ())
            yield from ((step, knob, choice) for choice in choices[1:])
