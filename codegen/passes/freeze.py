"""TrainingGraph -> TrainingGraph in which frozen parameters cost nothing but inference."""

from dataclasses import replace

from codegen.graph import Step, TrainingGraph


def freeze(training: TrainingGraph) -> TrainingGraph:
    """Drops gradients of frozen parameters, then every backward step whose output nobody reads.

    The input gradient of the first layer that learns goes with them, and so does every error of a
    frozen prefix. Tensors that no step mentions any more do not exist.
    """
    kept: list[Step] = []
    wanted: set[str] = set()
    for step in reversed(training.steps):
        if _is_needed(step, training, wanted):
            kept.append(step)
            wanted.update(step.inputs)
    steps = tuple(reversed(kept))
    mentioned = wanted | {step.output for step in steps}
    tensors = {name: t for name, t in training.tensors.items() if name in mentioned}
    return replace(training, tensors=tensors, steps=steps)


def _is_needed(step: Step, training: TrainingGraph, wanted: set[str]) -> bool:
    if step.sink is not None:
        return not training.tensors[step.sink.parameter].frozen
    return step.phase in ("forward", "inference") or step.output in wanted
