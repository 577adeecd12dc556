"""TrainingGraph -> the same steps in an order that frees memory early and keeps updates safe."""

import heapq
from dataclasses import replace

from codegen.graph import Step, TrainingGraph

_FIRST = {"forward": 0, "inference": 0, "loss": 0, "gradient": 1, "backward": 2, "batch": 3}


def schedule(training: TrainingGraph) -> TrainingGraph:
    """Each gradient as soon as it may run; an update waits for every reader of the old value."""
    steps = training.steps
    waits = _waits(steps)
    ready = [(_FIRST[step.phase], i) for i, step in enumerate(steps) if not waits[i]]
    heapq.heapify(ready)
    order: list[Step] = []
    while ready:
        _, done = heapq.heappop(ready)
        order.append(steps[done])
        for i, waiting in enumerate(waits):
            if done in waiting:
                waiting.remove(done)
                if not waiting:
                    heapq.heappush(ready, (_FIRST[steps[i].phase], i))
    assert len(order) == len(steps), "the steps wait for each other"
    scheduled = replace(training, steps=tuple(order))
    check(scheduled)
    return scheduled


def check(training: TrainingGraph) -> None:
    """Nothing that is still needed is overwritten."""
    for i, step in enumerate(training.steps):
        if step.sink is not None and step.sink.kind == "update":
            later = training.steps[i + 1 :]
            assert all(step.output not in other.inputs for other in later), step.name


def _waits(steps: tuple[Step, ...]) -> list[set[int]]:
    """For each step those before it: who writes its inputs, who reads what it overwrites."""
    writers = {step.output: i for i, step in enumerate(steps) if not _updates(step)}
    readers: dict[str, set[int]] = {}
    for i, step in enumerate(steps):
        for name in step.inputs:
            readers.setdefault(name, set()).add(i)
    waits = []
    for i, step in enumerate(steps):
        before = {writers[name] for name in step.inputs if name in writers}
        if _updates(step):
            before |= readers.get(step.output, set())
        waits.append(before - {i})
    return waits


def _updates(step: Step) -> bool:
    return step.sink is not None and step.sink.kind == "update"
