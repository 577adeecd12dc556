"""Spec -> Graph: names every tensor, checks every shape, resolves views."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from codegen.errors import UserError
from codegen.graph import PARAMETER_ROLES, Graph, Node, Tensor, Use
from codegen.ops.base import ElementwiseOp, LayerOp, ShapeError, ViewOp
from codegen.spec import INPUT_NAME, Layer, Spec

INPUT = "x"
TARGET = "target"


def build_graph(spec: Spec) -> Graph:
    """The network with all its shapes; an op that cannot follow its input is the user's mistake."""
    building = _Building(spec)
    for number, (layer, sources) in enumerate(zip(spec.layers, spec.sources, strict=True), 1):
        try:
            building.add(layer, sources)
        except ShapeError as error:
            raise UserError(f"{spec.source}: layer {number} ({layer.name}): {error}") from None
    scores = _name_scores(spec, building)
    graph = Graph(
        spec.name, tuple(building.nodes), building.tensors, scores, spec.loss, spec.optimizer
    )
    check(graph)
    return graph


def check(graph: Graph) -> None:
    """Every tensor is written before it is read, and once; a view has as many elements."""
    written = {INPUT}
    for node in graph.nodes:
        for use in node.inputs.values():
            assert use.tensor in written, node
            assert Tensor("", use.shape, "input").size == graph.tensors[use.tensor].size, node
        assert node.output not in written, node
        written.add(node.output)


@dataclass
class _Building:
    """The nodes so far, and under which name which of their outputs can be read."""

    spec: Spec
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.tensors[INPUT] = Tensor(INPUT, self.spec.input, "input")
        self.uses[INPUT_NAME] = Use(INPUT, self.spec.input)

    def add(self, layer: Layer, sources: tuple[str, ...]) -> None:
        uses = [self.uses[source] for source in sources]
        if isinstance(layer.op, ViewOp):
            self.uses[layer.name] = replace(uses[0], shape=layer.op.output_shape(uses[0].shape))
            return
        # An op of two inputs takes more of them two at a time, from the left.
        arguments = layer.op.inputs if isinstance(layer.op, LayerOp) else ("x",)
        use = uses[0]
        for i in range(len(arguments) - 1, len(uses)):
            last = i == len(uses) - 1
            name = layer.name if last else f"{layer.name}_{i}"
            inputs = (use, uses[i]) if len(arguments) > 1 else (use,)
            use = self._add(layer, name, dict(zip(arguments, inputs, strict=True)))
        self.uses[layer.name] = use

    def _add(self, layer: Layer, name: str, inputs: Mapping[str, Use]) -> Use:
        op, shapes = layer.op, [use.shape for use in inputs.values()]
        assert isinstance(op, LayerOp | ElementwiseOp)
        output = op.output_shape(*shapes) if isinstance(op, LayerOp) else shapes[0]
        parameters = {}
        for key, p in (op.parameters(*shapes) if isinstance(op, LayerOp) else {}).items():
            parameters[key] = f"{name}_{key}"
            self.tensors[parameters[key]] = Tensor(
                parameters[key], p.shape, p.role, p.fan_in, p.fan_out, layer.frozen
            )
        self.tensors[name] = Tensor(name, output, "activation", pinned=layer.format)
        self.nodes.append(Node(name, op, inputs, name, parameters))
        return Use(name, output)


def _name_scores(spec: Spec, building: _Building) -> str:
    """The last activation is what the caller sees: 16 bits in a fixed format."""
    tensors, last = building.tensors, building.uses[spec.layers[-1].name]
    place = f"{spec.source}: layer {len(spec.layers)} ({spec.layers[-1].name})"
    if len(last.shape) != 1:
        raise UserError(f"{place}: the network ends in {last.shape}; it must end in a vector")
    if spec.loss.target_is_label and last.shape[0] < 2:
        raise UserError(
            f"{place}: {spec.loss.kind} needs at least 2 outputs, this layer has {last.shape[0]}; "
            "one output goes with squared_error"
        )
    if not any(t.role in PARAMETER_ROLES and not t.frozen for t in tensors.values()):
        raise UserError(
            f"{spec.source}: nothing learns; one layer must have parameters and frozen = false"
        )
    tensors[last.tensor] = replace(tensors[last.tensor], role="scores")
    target = (1,) if spec.loss.target_is_label else last.shape
    tensors[TARGET] = Tensor(TARGET, target, "target")
    return last.tensor
