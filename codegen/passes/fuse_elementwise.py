"""TrainingGraph -> TrainingGraph whose elementwise steps run inside the step before them."""

from dataclasses import replace

from codegen.graph import Finish, Step, Tensor, TrainingGraph
from codegen.ops.base import ElementwiseOp


def fuse_elementwise(training: TrainingGraph) -> TrainingGraph:
    """An elementwise kernel works on the accumulator: what goes into it is never stored."""
    tensors = dict(training.tensors)
    steps: list[Step] = []
    for step in training.steps:
        if not isinstance(step.op, ElementwiseOp):
            steps.append(step)
            continue
        source = step.reads["x" if step.kernel == "forward" else "dy"]
        place = next(i for i, s in enumerate(steps) if s.output == source)
        steps[place] = _absorb(steps[place], step, tensors)
    fused = replace(training, tensors=tensors, steps=tuple(steps))
    check(fused)
    return fused


def check(training: TrainingGraph) -> None:
    """No elementwise step is left, and every tensor that is read exists."""
    for step in training.steps:
        assert not isinstance(step.op, ElementwiseOp), step
        assert all(name in training.tensors for name in step.inputs), step


def _absorb(producer: Step, step: Step, tensors: dict[str, Tensor]) -> Step:
    assert isinstance(step.op, ElementwiseOp)
    inner, outer = tensors.pop(producer.output), tensors[step.output]
    tensors[step.output] = replace(outer, pinned=outer.pinned or inner.pinned)
    finish = Finish(step.op, step.kernel, step.reads.get("y"))
    name = producer.name if producer.phase == "loss" else step.name
    return replace(producer, name=name, output=step.output, finishes=(*producer.finishes, finish))
