"""Graph -> TrainingGraph: the chain rule, from the loss back to the first parameter that learns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from codegen.graph import Graph, Node, Sink, Step, Tensor, TrainingGraph, Use, add_tensor
from codegen.ops.add import Add
from codegen.ops.base import LayerOp, Shape


def differentiate(graph: Graph) -> TrainingGraph:
    """Forward steps, the loss, errors and gradients of every node; freeze drops what is idle."""
    chain = _Chain(graph)
    steps = [_forward_step(node, graph) for node in graph.nodes]
    if graph.answer is not None:
        steps.append(replace(_forward_step(graph.answer, graph), phase="inference"))
    steps.append(chain.loss())
    for node in reversed(graph.nodes):
        steps += chain.backward(node)
    training = TrainingGraph(graph, chain.tensors, tuple(steps))
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


def _forward_step(node: Node, graph: Graph) -> Step:
    known = {**_inputs(node), **node.parameters, **_seed(node)}
    reads = {name: known[name] for name in node.op.reads("forward") if name in known}
    shapes = {key: graph.tensors[name].shape for key, name in reads.items()}
    shapes |= {key: use.shape for key, use in node.inputs.items()}
    shapes["out"] = graph.tensors[node.output].shape
    return Step(node.name, "forward", node.op, "forward", reads, node.output, shapes)


def _inputs(node: Node) -> dict[str, str]:
    return {key: use.tensor for key, use in node.inputs.items()}


def _seed(node: Node) -> dict[str, str]:
    return {} if node.seed is None else {"seed": node.seed}


@dataclass
class _Chain:
    """The walk back: `parts` has, for each tensor, the errors that its readers pass to it."""

    graph: Graph
    tensors: dict[str, Tensor] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors.update(self.graph.tensors)

    def loss(self) -> Step:
        scores = self.graph.tensors[self.graph.scores]
        name = self._new_error(scores.name, _error(scores.name), scores.shape)
        reads = {"x": scores.name, "t": "target"}
        shapes = {"x": scores.shape, "out": scores.shape}
        return Step("loss", "loss", self.graph.loss, "loss", reads, name, shapes)

    def backward(self, node: Node) -> list[Step]:
        """The sum of its readers' errors, its gradients, and what it passes on."""
        steps, error = self._summed(node.output)
        known = {"dy": error}
        late = [key for key in node.parameters if self._reads_passed(node, key)]
        steps += [self._gradient(node, key, known) for key in node.parameters if key not in late]
        for key, use in node.inputs.items():
            if self.tensors[use.tensor].role == "input":
                continue
            if isinstance(node.op, LayerOp) and node.op.passes_errors:
                self.parts.setdefault(use.tensor, []).append(error)
            else:
                steps.append(self._passed(node, key, use, known))
                known[f"d{key}"] = steps[-1].output
        return steps + [self._gradient(node, key, known) for key in late]

    def _reads_passed(self, node: Node, key: str) -> bool:
        """Whether a gradient needs the error that the node passes on."""
        return any(f"d{name}" in node.op.reads(f"grad_{key}") for name in node.inputs)

    def _summed(self, tensor: str) -> tuple[list[Step], str]:
        """Where a value is used more than once, the errors of its readers are added."""
        first, *others = self.parts[tensor]
        shape, steps = self.tensors[tensor].shape, []
        for i, other in enumerate(others, 1):
            name = _error(tensor) if i == len(others) else f"{_error(tensor)}_{i}"
            add_tensor(self.tensors, Tensor(name, shape, "error"))
            reads, shapes = {"x1": first, "x2": other}, dict.fromkeys(("x1", "x2", "out"), shape)
            steps.append(Step(name, "backward", Add(), "forward", reads, name, shapes))
            first = name
        return steps, first

    def _passed(self, node: Node, key: str, use: Use, errors: Mapping[str, str]) -> Step:
        name = _error(use.tensor)
        if self._readers(use.tensor) > 1:
            name += f"_by_{node.name}" if len(node.inputs) == 1 else f"_by_{node.name}_{key}"
        self._new_error(use.tensor, name, self.tensors[use.tensor].shape)
        kernel = f"grad_{key}"
        reads, shapes = self._operands(node, kernel, errors)
        return Step(name, "backward", node.op, kernel, reads, name, {**shapes, "out": use.shape})

    def _readers(self, tensor: str) -> int:
        return sum(u.tensor == tensor for node in self.graph.nodes for u in node.inputs.values())

    def _new_error(self, tensor: str, name: str, shape: Shape) -> str:
        add_tensor(self.tensors, Tensor(name, shape, "error"))
        self.parts.setdefault(tensor, []).append(name)
        return name

    def _gradient(self, node: Node, key: str, errors: Mapping[str, str]) -> Step:
        """Into a buffer that fuse_updates may take away again."""
        parameter = node.parameters[key]
        kernel, name = f"grad_{key}", _error(parameter)
        shape = self.tensors[parameter].shape
        add_tensor(self.tensors, Tensor(name, shape, "gradient", owner=parameter))
        reads, shapes = self._operands(node, kernel, errors)
        shapes = {**shapes, "out": shape}
        sink = Sink("store", parameter)
        return Step(name, "gradient", node.op, kernel, reads, name, shapes, sink=sink)

    def _operands(
        self, node: Node, kernel: str, errors: Mapping[str, str]
    ) -> tuple[dict[str, str], Mapping[str, Shape]]:
        known = {**_inputs(node), "y": node.output, **errors, **node.parameters, **_seed(node)}
        reads = {name: known[name] for name in node.op.reads(kernel) if name in known}
        shapes = {key: self.tensors[name].shape for key, name in reads.items()}
        shapes |= {key: use.shape for key, use in node.inputs.items() if key in reads}
        # The error may come under another shape, through a view.
        if "dy" in reads:
            shape = self.tensors[node.output].shape
            shapes["dy"] = node.op.error_shape(shape) if isinstance(node.op, LayerOp) else shape
        return reads, shapes
