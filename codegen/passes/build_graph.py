"""Spec -> Graph: names every tensor, checks every shape, resolves views."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from codegen.errors import UserError
from codegen.graph import PARAMETER_ROLES, Graph, Node, Part, Tensor, Use, add_tensor
from codegen.ops.base import (
    AnswerOp,
    ChainOp,
    ElementwiseOp,
    FoldOp,
    LayerOp,
    Shape,
    ShapeError,
    ViewOp,
    size,
)
from codegen.ops.concatenate import Concatenate
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
        spec.name,
        tuple(building.nodes),
        building.tensors,
        scores,
        spec.loss,
        spec.optimizer,
        spec.schedule,
        spec.weight_decay,
        spec.clip_norm,
        building.answer,
    )
    check(graph)
    return graph


def check(graph: Graph) -> None:
    """Every tensor is written before it is read, and once; a view has as many elements."""
    written = {INPUT}
    for node in graph.nodes:
        for use in node.inputs.values():
            assert use.tensor in written, node
            assert size(use.shape) == graph.tensors[use.tensor].size, node
        assert node.output not in written, node
        written.add(node.output)


@dataclass
class _Building:
    """The nodes so far, and under which name which of their outputs can be read."""

    spec: Spec
    nodes: list[Node] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)
    folds: dict[str, FoldOp] = field(default_factory=dict)  # by the layer that takes it up
    answer: Node | None = None

    def __post_init__(self) -> None:
        self.tensors[INPUT] = Tensor(INPUT, self.spec.input, "input")
        self.uses[INPUT_NAME] = Use(INPUT, self.spec.input)

    def add(self, layer: Layer, sources: tuple[str, ...]) -> None:
        uses = [self.uses[source] for source in sources]
        if isinstance(layer.op, FoldOp):
            self.uses[layer.name] = self._add_fold(layer, layer.op, sources[0])
            return
        layer = self._prepared(layer)
        if isinstance(layer.op, LayerOp) and layer.asks_for is not None:
            _check_update(layer, layer.op, [use.shape for use in uses])
        if isinstance(layer.op, ViewOp):
            self.uses[layer.name] = replace(uses[0], shape=layer.op.output_shape(uses[0].shape))
            return
        if isinstance(layer.op, AnswerOp):
            self.answer = self._add_answer(layer, layer.op, uses[0])
            self.uses[layer.name] = uses[0]
        elif isinstance(layer.op, ChainOp):
            self.uses[layer.name] = self._add_links(layer, layer.op, uses[0])
        elif layer.update_channels < 1:
            self.uses[layer.name] = self._add_split(layer, uses[0])
        elif isinstance(layer.op, LayerOp) and len(layer.op.inputs) > 1:
            self.uses[layer.name] = self._add_chain(layer, layer.op, layer.name, uses)
        else:
            assert isinstance(layer.op, LayerOp | ElementwiseOp)
            self.uses[layer.name] = self._add(layer, layer.op, layer.name, {"x": uses[0]})

    def _prepared(self, layer: Layer) -> Layer:
        """The layer itself; with a bias where it takes up the FoldOp that alone reads it."""
        readers = [
            reader
            for reader, sources in zip(self.spec.layers, self.spec.sources, strict=True)
            if layer.name in sources
        ]
        fold = readers[0].op if len(readers) == 1 else None
        able = layer.op.with_bias() if isinstance(layer.op, LayerOp) else None
        if able is None or not isinstance(fold, FoldOp) or fold.stays_apart:
            return layer
        self.folds[layer.name] = fold
        return replace(layer, op=able)

    def _add_fold(self, layer: Layer, op: FoldOp, source: str) -> Use:
        use = self.uses[source]
        if op.channels != use.shape[-1]:
            raise ShapeError(
                f"{op.kind} has numbers for {op.channels} channels, its input has {use.shape[-1]}; "
                "give each channel its own"
            )
        if source in self.folds:
            if layer.asks_for is not None:
                raise ShapeError(
                    f"{op.kind} is folded into {source}; say what learns there, or learn = true"
                )
            self._pin(layer, source, use.tensor)
            return use
        return self._add(layer, op.alone(), layer.name, {"x": use}, fold=op)

    def _pin(self, layer: Layer, source: str, tensor: str) -> None:
        """What is folded stores nothing itself: its format is that of the layer it goes into."""
        known = self.tensors[tensor]
        if layer.format is not None and known.pinned is not None:
            raise ShapeError(f"{source} sets the format of the same values; remove one of them")
        self.tensors[tensor] = replace(known, pinned=known.pinned or layer.format)

    def _add_chain(self, layer: Layer, op: LayerOp, name: str, uses: list[Use]) -> Use:
        """An op of two inputs takes more of them two at a time, from the left."""
        use = uses[0]
        for i, other in enumerate(uses[1:], 1):
            step = name if i == len(uses) - 1 else f"{name}_{i}"
            use = self._add(layer, op, step, dict(zip(op.inputs, (use, other), strict=True)))
        return use

    def _add_links(self, layer: Layer, chain: ChainOp, use: Use) -> Use:
        """Each reads the one before it; their parameters bear the name of the layer."""
        if layer.update_channels < 1:
            chain.split(1)
        for suffix, op in chain.links(use.shape).items():
            use = self._add(layer, op, layer.name + suffix, {"x": use}, layer.name)
        return use

    def _add_answer(self, layer: Layer, op: AnswerOp, use: Use) -> Node:
        """What training leaves out: the scores stay those before it."""
        if layer is not self.spec.layers[-1]:
            raise ShapeError(f"{op.kind} can only be the last layer; put it last or remove it")
        if self.spec.loss.kind != op.loss:
            raise ShapeError(
                f"{op.kind} goes with {op.loss}, which sees the scores before it; write loss = "
                f"'{op.loss}' or remove the layer"
            )
        shape = op.output_shape(use.shape)
        add_tensor(self.tensors, Tensor(layer.name, shape, "scores"))
        return Node(layer.name, op, {"x": use}, layer.name)

    def _add_split(self, layer: Layer, use: Use) -> Use:
        """The channels that learn and the others are layers of their own, joined again."""
        assert isinstance(layer.op, LayerOp)
        channels = layer.op.output_shape(use.shape)[-1]
        count = max(1, round(layer.update_channels * channels))
        if count == channels:
            return self._add(layer, layer.op, layer.name, {"x": use})
        rows = {"_first": (0, count), "_rest": (count, channels)}
        halves = []
        for op, (suffix, part) in zip(layer.op.split(count), rows.items(), strict=True):
            half = replace(layer, frozen=suffix == "_rest", format=None)
            halves.append(self._add(half, op, layer.name + suffix, {"x": use}))
            self._mark_parts(layer, layer.op, use, suffix, part)
        return self._add_chain(layer, Concatenate(), layer.name, halves)

    def _mark_parts(
        self, layer: Layer, op: LayerOp, use: Use, suffix: str, rows: tuple[int, int]
    ) -> None:
        for key, whole in op.parameters(use.shape).items():
            name = f"{layer.name}{suffix}_{key}"
            part = Part(f"{layer.name}_{key}", whole.shape, *rows)
            self.tensors[name] = replace(
                self.tensors[name], part=part, fan_in=whole.fan_in, fan_out=whole.fan_out
            )

    def _add(
        self,
        layer: Layer,
        op: LayerOp | ElementwiseOp,
        name: str,
        inputs: Mapping[str, Use],
        owner: str = "",
        fold: FoldOp | None = None,
    ) -> Use:
        """A node, its parameters under the name of their `owner` (the node), and its output."""
        owner = owner or name
        shapes = [use.shape for use in inputs.values()]
        output = op.output_shape(*shapes) if isinstance(op, LayerOp) else shapes[0]
        own = op.parameters(*shapes) if isinstance(op, LayerOp) else {}
        for key, p in own.items():
            learns = self.spec.learns(layer, p.role)
            tensor = Tensor(f"{owner}_{key}", p.shape, p.role, p.fan_in, p.fan_out, not learns)
            fold = fold or self.folds.get(layer.name)
            factor = layer.learning_rate_multiplier
            tensor = replace(tensor, initial=p.initial, rate_factor=factor, fold=fold)
            add_tensor(self.tensors, tensor)
        seed = self._add_seed(owner) if "seed" in op.reads("forward") else None
        add_tensor(self.tensors, Tensor(name, output, "activation", pinned=layer.format))
        parameters = {key: f"{owner}_{key}" for key in own}
        self.nodes.append(Node(name, op, inputs, name, parameters, owner, seed))
        return Use(name, output)

    def _add_seed(self, owner: str) -> str:
        number = sum(tensor.role == "seed" for tensor in self.tensors.values())
        add_tensor(self.tensors, Tensor(f"{owner}_seed", (1,), "seed", number=number))
        return f"{owner}_seed"


def _check_update(layer: Layer, op: LayerOp, shapes: list[Shape]) -> None:
    roles = [p.role for p in op.parameters(*shapes[: len(op.inputs)]).values()]
    if not roles:
        raise ShapeError(f"{op.kind} has no parameters; remove {layer.asks_for}")
    if layer.update == "bias" and "bias" not in roles:
        raise ShapeError("update = 'bias', but the layer has no bias; remove update")


def _name_scores(spec: Spec, building: _Building) -> str:
    """The last activation is what the caller sees: 16 bits in a fixed format."""
    tensors, last = building.tensors, building.uses[spec.layers[-1].name]
    place = f"{spec.source}: layer {len(spec.layers)} ({spec.layers[-1].name})"
    if len(last.shape) != 1:
        raise UserError(f"{place}: the network ends in {last.shape}; it must end in a vector")
    for node in building.nodes:
        if node.output == last.tensor and isinstance(node.op, LayerOp) and node.op.training_only:
            raise UserError(
                f"{place}: the scores are what {node.op.kind} leaves, and inference has none; "
                "remove it or put a layer behind it"
            )
    try:
        spec.loss.accepts(last.shape[0])
    except ShapeError as error:
        raise UserError(f"{place}: {error}") from None
    if not any(t.role in PARAMETER_ROLES and not t.frozen for t in tensors.values()):
        raise UserError(
            f"{spec.source}: nothing learns; one layer must have parameters and frozen = false"
        )
    tensors[last.tensor] = replace(tensors[last.tensor], role="scores")
    target = (1,) if spec.loss.target_is_label else last.shape
    tensors[TARGET] = Tensor(TARGET, target, "target")
    return last.tensor
