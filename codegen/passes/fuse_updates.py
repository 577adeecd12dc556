"""TrainingGraph -> TrainingGraph in which gradients update their parameter instead of a buffer."""

from dataclasses import replace

from codegen.graph import Sink, Step, Tensor, TrainingGraph, add_tensor


def fuse_updates(training: TrainingGraph, batch: int) -> TrainingGraph:
    """Batch 1: a gradient's step is the update, no gradient exists. Else: sum, then update.

    Where gradients are clipped, a step before each update finds by which factor.
    """
    sinks = [step for step in training.steps if step.sink is not None]
    tensors = dict(training.tensors)
    if batch == 1:
        updates = {step.name: [_update_at_once(step)] for step in sinks}
        tensors = {name: t for name, t in tensors.items() if t.role != "gradient"}
    else:
        updates = {step.name: [_update(step, training)] for step in sinks}
    if training.graph.clip_norm:
        for steps in updates.values():
            steps[:] = _clipped(steps[0])
            add_tensor(tensors, Tensor(steps[0].output, (1,), "factor"))
    if batch == 1:
        fused = [new for step in training.steps for new in updates.get(step.name, [step])]
    else:
        fused = [_accumulate(step) for step in training.steps]
        fused += [new for steps in updates.values() for new in steps]
    return replace(training, tensors=tensors, steps=tuple(fused))


def _update_at_once(step: Step) -> Step:
    assert step.sink is not None
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


def _clipped(update: Step) -> list[Step]:
    """The step that finds the factor, and the update that reads it."""
    parameter = update.output
    norm = replace(
        update,
        name=f"norm_{parameter}",
        output=f"clip_{parameter}",
        sink=Sink("norm", parameter),
    )
    return [norm, replace(update, reads={**update.reads, "clip": norm.output})]
