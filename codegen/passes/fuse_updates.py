"""TrainingGraph -> TrainingGraph in which gradients update their parameter instead of a buffer."""

from dataclasses import replace

from codegen.graph import Sink, Step, TrainingGraph


def fuse_updates(training: TrainingGraph, batch: int) -> TrainingGraph:
    """Batch 1: a gradient's step is the update, no gradient exists. Else: sum, then update."""
    if batch == 1:
        steps = tuple(_update_at_once(step) for step in training.steps)
        tensors = {n: t for n, t in training.tensors.items() if t.role != "gradient"}
        return replace(training, tensors=tensors, steps=steps)
    steps = tuple(_accumulate(step) for step in training.steps)
    updates = tuple(_update(s, training) for s in training.steps if s.sink is not None)
    return replace(training, steps=steps + updates)


def _update_at_once(step: Step) -> Step:
    if step.sink is None:
        return step
    parameter = step.sink.parameter
    name = f"update_{parameter}"
    return replace(step, name=name, output=parameter, sink=Sink("update", parameter))


def _accumulate(step: Step) -> Step:
    if step.sink is None:
        return step
    return replace(step, sink=replace(step.sink, kind="accumulate"))


def _update(step: Step, training: TrainingGraph) -> Step:
    assert step.sink is not None
    parameter = step.sink.parameter
    return Step(
        name=f"update_{parameter}",
        phase="batch",
        op=training.graph.optimizer,
        kernel="update",
        reads={"g": step.output},
        output=parameter,
        sink=Sink("update", parameter),
    )
