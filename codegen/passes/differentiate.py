"""Graph -> TrainingGraph: the chain rule, from the loss back to the first parameter that learns."""

from codegen.graph import Graph, Node, Sink, Step, Tensor, TrainingGraph


def differentiate(graph: Graph) -> TrainingGraph:
    """Forward steps, the loss, errors and gradients of every node; freeze drops what is idle."""
    tensors = dict(graph.tensors)
    forward = [_forward_step(node) for node in graph.nodes]
    scores = tensors[graph.scores]
    tensors[_error(scores.name)] = Tensor(_error(scores.name), scores.shape, "error")
    operands = {"x": scores.name, "t": "target"}
    loss = Step("loss", "loss", graph.loss, "loss", operands, _error(scores.name))
    backward: list[Step] = []
    for node in reversed(graph.nodes):
        backward += _gradients(node, tensors)
        if tensors[node.input].role != "input":
            backward.append(_backward_step(node, tensors))
    training = TrainingGraph(graph, tensors, (*forward, loss, *backward))
    check(training)
    return training


def check(training: TrainingGraph) -> None:
    """Every input is written before it is read, and gradients have the shape of their parameter."""
    ready = {
        t.name
        for t in training.tensors.values()
        if t.role not in ("activation", "scores", "error", "gradient")
    }
    for step in training.steps:
        missing = [name for name in step.inputs if name not in ready]
        assert not missing, (step.name, missing)
        ready.add(step.output)
    for tensor in training.tensors.values():
        if tensor.owner is not None:
            assert tensor.shape == training.tensors[tensor.owner].shape, tensor


def _error(name: str) -> str:
    return f"d_{name}"


def _operands(node: Node, kernel: str) -> dict[str, str]:
    known = {"x": node.input, "y": node.output, "dy": _error(node.output), **node.parameters}
    return {name: known[name] for name in node.op.reads(kernel) if name in known}


def _forward_step(node: Node) -> Step:
    return Step(node.name, "forward", node.op, "forward", _operands(node, "forward"), node.output)


def _backward_step(node: Node, tensors: dict[str, Tensor]) -> Step:
    name = _error(node.input)
    tensors[name] = Tensor(name, tensors[node.input].shape, "error")
    return Step(name, "backward", node.op, "grad_x", _operands(node, "grad_x"), name)


def _gradients(node: Node, tensors: dict[str, Tensor]) -> list[Step]:
    """One step per parameter, into a buffer that fuse_updates may take away again."""
    steps = []
    for key, parameter in node.parameters.items():
        kernel, name = f"grad_{key}", _error(parameter)
        shape = tensors[parameter].shape
        tensors[name] = Tensor(name, shape, "gradient", owner=parameter)
        steps.append(
            Step(
                name,
                "gradient",
                node.op,
                kernel,
                _operands(node, kernel),
                name,
                sink=Sink("store", parameter),
            )
        )
    return steps
