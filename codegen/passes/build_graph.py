"""Spec -> Graph: names every tensor and checks every shape."""

from dataclasses import replace

from codegen.errors import UserError
from codegen.graph import PARAMETER_ROLES, Graph, Node, Tensor
from codegen.ops.base import ElementwiseOp, LayerOp, Shape, ShapeError
from codegen.ops.identity import Identity
from codegen.spec import Layer, Spec

INPUT = "x"
TARGET = "target"


def build_graph(spec: Spec) -> Graph:
    """The network with all its shapes; an op that cannot follow its input is the user's mistake."""
    tensors = {INPUT: Tensor(INPUT, spec.input, "input")}
    nodes: list[Node] = []
    for number, layer in enumerate(spec.layers, 1):
        try:
            nodes += _add_layer(layer, tensors, nodes)
        except ShapeError as error:
            raise UserError(f"{spec.source}: layer {number} ({layer.name}): {error}") from None
    _name_scores(spec, nodes, tensors)
    graph = Graph(spec.name, tuple(nodes), tensors, spec.loss, spec.optimizer)
    check(graph)
    return graph


def check(graph: Graph) -> None:
    """Every tensor is written before it is read, and once."""
    written = {INPUT}
    for node in graph.nodes:
        assert node.input in written, node
        assert node.output not in written, node
        written.add(node.output)


def _add_layer(layer: Layer, tensors: dict[str, Tensor], before: list[Node]) -> list[Node]:
    """One node; or two, where an elementwise op has no accumulator to work on."""
    source = before[-1].output if before else INPUT
    if not isinstance(layer.op, ElementwiseOp):
        return [_add_node(layer, layer.op, layer.name, source, tensors)]
    if before and isinstance(before[-1].op, LayerOp):
        return [_add_node(layer, layer.op, layer.name, source, tensors)]
    copy = _add_node(layer, Identity(), f"{layer.name}_in", source, tensors)
    return [copy, _add_node(layer, layer.op, layer.name, copy.output, tensors)]


def _add_node(
    layer: Layer, op: LayerOp | ElementwiseOp, name: str, source: str, tensors: dict[str, Tensor]
) -> Node:
    shape = tensors[source].shape
    output: Shape = op.output_shape(shape) if isinstance(op, LayerOp) else shape
    parameters = {}
    for key, p in (op.parameters(shape) if isinstance(op, LayerOp) else {}).items():
        parameters[key] = f"{name}_{key}"
        tensors[parameters[key]] = Tensor(
            parameters[key], p.shape, p.role, p.fan_in, p.fan_out, layer.frozen
        )
    tensors[name] = Tensor(name, output, "activation", pinned=layer.format)
    return Node(name, op, source, name, parameters)


def _name_scores(spec: Spec, nodes: list[Node], tensors: dict[str, Tensor]) -> None:
    """The last activation is what the caller sees: 16 bits in a fixed format."""
    last = tensors[nodes[-1].output]
    place = f"{spec.source}: layer {len(spec.layers)} ({last.name})"
    if len(last.shape) != 1:
        raise UserError(f"{place}: the network ends in {last.shape}; it must end in a vector")
    if spec.loss.target_is_label and last.size < 2:
        raise UserError(
            f"{place}: {spec.loss.kind} needs at least 2 outputs, this layer has {last.size}; "
            "one output goes with squared_error"
        )
    if not any(t.role in PARAMETER_ROLES and not t.frozen for t in tensors.values()):
        raise UserError(
            f"{spec.source}: nothing learns; one layer must have parameters and frozen = false"
        )
    tensors[last.name] = replace(last, role="scores")
    target = (1,) if spec.loss.target_is_label else last.shape
    tensors[TARGET] = Tensor(TARGET, target, "target")
