"""TrainingGraph -> TrainingGraph whose elementwise steps run inside the step before them."""

from dataclasses import replace

from codegen.graph import Finish, Step, Tensor, TrainingGraph
from codegen.ops.base import ElementwiseOp, LayerOp
from codegen.ops.identity import Identity


def fuse_elementwise(training: TrainingGraph) -> TrainingGraph:
    """An elementwise kernel works on the accumulator: what goes into it is never stored.

    Where others read that too, or no step of this network writes it, the accumulator is a copy;
    so it is where the step before already reads an output for a derivative, or reads what it wrote,
    or is there for training only.
    """
    tensors = dict(training.tensors)
    readers = [name for step in training.steps for name in step.inputs]
    steps: list[Step] = []
    for step in training.steps:
        if not isinstance(step.op, ElementwiseOp):
            steps.append(step)
            continue
        source = step.reads["x" if step.kernel == "forward" else "dy"]
        place = next((i for i, s in enumerate(steps) if s.output == source), None)
        if place is None or readers.count(source) > 1 or _is_taken(steps[place], step):
            steps.append(_on_a_copy(step, source))
        else:
            steps[place] = _absorb(steps[place], step, tensors)
    fused = replace(training, tensors=tensors, steps=tuple(steps))
    check(fused)
    return fused


def check(training: TrainingGraph) -> None:
    """No elementwise step is left, and every tensor that is read exists."""
    for step in training.steps:
        assert not isinstance(step.op, ElementwiseOp), step
        assert all(name in training.tensors for name in step.inputs), step


def _is_taken(producer: Step, step: Step) -> bool:
    op = producer.op
    if isinstance(op, LayerOp) and op.is_recurrent(producer.kernel):
        return True  # it goes on with what it stores
    if producer.phase == "forward" and producer.is_for_training:
        return True  # inference does without it
    return "y" in step.reads and any(finish.y is not None for finish in producer.finishes)


def _finish(step: Step) -> Finish:
    assert isinstance(step.op, ElementwiseOp)
    return Finish(step.op, step.kernel, step.reads.get("y"))


def _absorb(producer: Step, step: Step, tensors: dict[str, Tensor]) -> Step:
    inner, outer = tensors.pop(producer.output), tensors[step.output]
    tensors[step.output] = replace(outer, pinned=outer.pinned or inner.pinned)
    name = producer.name if producer.phase == "loss" else step.name
    finishes = (*producer.finishes, _finish(step))
    return replace(producer, name=name, output=step.output, finishes=finishes)


def _on_a_copy(step: Step, source: str) -> Step:
    shapes = dict.fromkeys(("x", "out"), step.shapes["out"])
    return Step(
        step.name,
        step.phase,
        Identity(),
        "forward",
        {"x": source},
        step.output,
        shapes,
        (_finish(step),),
    )
