"""TrainingGraph -> TrainingGraph that also knows how inference does without some of its steps."""

from dataclasses import replace

from codegen.graph import Step, TrainingGraph


def leave_out(training: TrainingGraph) -> TrainingGraph:
    """A step that reads what a step for training only wrote has a twin, which inference runs.

    The twin reads what went into that step. For the same kind of numbers its C is the same.
    """
    instead: dict[str, str] = {}  # by what inference does not have
    steps: list[Step] = []
    for step in training.steps:
        steps.append(step)
        if step.phase != "forward":
            continue
        reads = {key: instead.get(name, name) for key, name in step.reads.items()}
        if step.is_for_training:
            instead[step.output] = reads["x"]
        elif reads != step.reads:
            name = f"{step.name}_inference"
            twin = replace(step, name=name, phase="inference", reads=reads, twin=step.name)
            steps.append(twin)
    return replace(training, steps=tuple(steps))
