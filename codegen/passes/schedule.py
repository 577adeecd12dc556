"""TrainingGraph -> the same steps in an order that frees memory early and keeps updates safe."""

from dataclasses import replace

from codegen.graph import Step, TrainingGraph

_FIRST = {"forward": 0, "loss": 0, "gradient": 1, "backward": 2, "batch": 3}


def schedule(training: TrainingGraph) -> TrainingGraph:
    """Each gradient as soon as it may run; an update waits for every reader of the old value."""
    waiting = list(training.steps)
    order: list[Step] = []
    while waiting:
        ready = [step for step in waiting if not _blocked(step, waiting)]
        chosen = min(ready, key=lambda step: (_FIRST[step.phase], waiting.index(step)))
        waiting.remove(chosen)
        order.append(chosen)
    scheduled = replace(training, steps=tuple(order))
    check(scheduled)
    return scheduled


def check(training: TrainingGraph) -> None:
    """Nothing that is still needed is overwritten."""
    for i, step in enumerate(training.steps):
        if step.sink is not None and step.sink.kind == "update":
            later = training.steps[i + 1 :]
            assert all(step.output not in other.inputs for other in later), step.name


def _blocked(step: Step, waiting: list[Step]) -> bool:
    """Its inputs are not written yet, or another step still reads what it overwrites."""
    others = [other for other in waiting if other is not step]
    if any(other.output in step.inputs and not _updates(other) for other in others):
        return True
    return _updates(step) and any(step.output in other.inputs for other in others)


def _updates(step: Step) -> bool:
    return step.sink is not None and step.sink.kind == "update"
