"""Network TOML in, Spec out; a mistake in it is one line: where, what is wrong, the way out."""

import hashlib
import re
import reprlib
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_type_hints

from codegen.errors import UserError
from codegen.fixedpoint import LEARNING_RATE_FRACTION, Format, parse_format
from codegen.ops import LAYERS, LOSSES, OPTIMIZERS, SCHEDULES
from codegen.ops.base import (
    AnswerOp,
    ElementwiseOp,
    Extent,
    FoldOp,
    LayerOp,
    LossOp,
    Numbers,
    Op,
    OptimizerOp,
    Padding,
    ScheduleOp,
    Shape,
    ShapeError,
    ViewOp,
)
from codegen.ops.constant import Constant
from codegen.ops.momentum import Momentum
from codegen.ops.sgd import Sgd

MODES = ("int16", "int8", "int8_compact")
ROUNDINGS = ("stochastic", "nearest")
UPDATES = ("all", "bias", "none")
SCORE_BITS = 16  # the output of the last layer, in every mode
MAX_LEARNING_RATE = 255
MAX_BATCH = 256
CONSTANT = Constant()
SGD = Sgd()
INPUT_NAME = "input"  # under which a layer reads the input of the network
MAX_NAME = 31  # characters that C99 tells apart in a name that the linker sees


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# What the generated C calls its own variables and functions.
RESERVED_NAMES = _set(
    "x input params work target label scores arena rate random steps seen init predict train "
    "gradient main forward rate_factor update_factor fit_slots t loss set_learning_rate"
)
_KEYWORDS = _set(
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t "
    "char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr "
    "constinit continue decltype default delete do double dynamic_cast else enum explicit export "
    "extern false float for friend goto if inline int long mutable namespace new noexcept not "
    "not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires "
    "restrict return short signed sizeof static static_assert static_cast struct switch template "
    "this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned "
    "using virtual void volatile wchar_t while xor xor_eq"
)
# Forms of names: of macros, of types, and of what is in fxp.h.
_C_FORMS = re.compile(r"[A-Z0-9_]+|.*_t|fxp(_.*)?")
# Types, functions and macros that are visible where the generated C is.
_C_NAMES = _set(
    "EOF NULL abort abs calloc errno exit free int16_t int32_t int64_t int8_t intptr_t linux main "
    "malloc memcmp memcpy memmove memset offsetof printf ptrdiff_t realloc size_t uint16_t "
    "uint32_t uint64_t uint8_t uintptr_t unix"
)
# <name>.h would hide one of these headers, or is no file name on Windows; in lower case.
_FILE_NAMES = _set(
    "arduino assert aux avr complex con ctype errno fenv float fxp inttypes iso646 limits locale "
    "math nul prn setjmp signal stdalign stdarg stdatomic stdbool stdckdint stddef stdint stdio "
    "stdlib stdnoreturn string strings tgmath threads time uchar unistd wchar wctype"
)
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")

Choice = str | dict[str, Any]  # a kind, alone or with its keys

# The keys of each table and their types; those of an op are the fields of its dataclass.
_TABLES: dict[str, dict[str, object]] = {
    "numbers": {"mode": str},
    "training": {
        "learning_rate": float,
        "schedule": Choice,
        "optimizer": Choice,
        "momentum": float,
        "weight_decay": float,
        "clip_norm": float,
        "batch": int,
        "rounding": str,
    },
}
_TOP: dict[str, object] = {
    "name": str,
    "input": Shape,
    "input_max": float,
    "loss": Choice,
    "target_max": float,
    "frozen_until": str,
    **dict.fromkeys(_TABLES, dict),
    "layer": list[dict[str, Any]],
}
Names = tuple[str, ...]
_LAYER: dict[str, object] = {
    "kind": str,
    "name": str,
    "inputs": Names,
    "frozen": bool,
    "update": str,
    "update_channels": float,
    "learning_rate_multiplier": float,
    "format": str,
}
# What a value must be, for each type; how to write one.
_WORDS: list[tuple[object, str, str]] = [
    (str, "a text in quotes", '{key} = "{text}"'),
    (int, "a whole number", "{key} = 1"),
    (float, "a number", "{key} = 1.0"),
    (bool, "true or false", "{key} = true"),
    (Shape, "a list of whole numbers", "{key} = [64]"),
    (Extent, "a whole number or a list of them", "{key} = 3"),
    (Padding, "'same', 'valid', a whole number or a list of them", '{key} = "same"'),
    (Numbers, "a list of numbers", "{key} = [0.5, 1.0]"),
    (Names, "a list of layer names", '{key} = ["{text}"]'),
    (dict, "a table", "[{key}]"),
    (Choice, "a text in quotes or a table with a kind", '{key} = "{text}"'),
    (list[dict[str, Any]], "a list of tables", "[[{key}]]"),
]
_EXAMPLES = {
    "name": "tiny",
    "loss": next(iter(LOSSES)),
    "mode": MODES[0],
    "rounding": ROUNDINGS[0],
    "kind": next(iter(LAYERS)),
    "schedule": next(iter(SCHEDULES)),
    "optimizer": next(iter(OPTIMIZERS)),
    "format": "Q3.12",
    "inputs": "conv1",
    "update": "bias",
    "frozen_until": "conv1",
}


@dataclass(frozen=True)
class Layer:
    """One layer; `format` pins the format of its output.

    `inputs` names the layers that it reads ("input" is the network's); none: the one before it.
    `learning_rate_multiplier` is by what the learning rate is multiplied for its parameters.
    `update` says which parameters learn ("all", "bias", "none"; `frozen` is "none"), and
    `update_channels` which share of its output channels, the first ones, learns its weights.
    """

    op: LayerOp | ElementwiseOp | FoldOp | ViewOp
    name: str
    frozen: bool = False
    format: Format | None = None
    inputs: tuple[str, ...] = ()
    update: str = "all"
    update_channels: float = 1.0
    learning_rate_multiplier: float = 1.0

    @property
    def asks_for(self) -> str | None:
        """The key that says what learns, where it says anything but "all"."""
        asked = {
            "frozen": self.frozen,
            "update": self.update != "all",
            "update_channels": self.update_channels != 1,
            "learning_rate_multiplier": self.learning_rate_multiplier != 1,
        }
        return next((key for key, is_set in asked.items() if is_set), None)


@dataclass(frozen=True)
class Spec:
    """A network as the user describes it; a value that makes no sense raises UserError.

    Inputs are divided by `input_max`, targets and outputs by `target_max`. Layers before
    `frozen_until` do not learn. `learning_rate` is for
    the mean gradient of `batch` samples; a step takes rate * `weight_decay` * w off a weight w,
    whatever the optimizer. With `clip_norm` the gradient of each parameter tensor is shortened to
    that norm where it is longer. `source` is the file as the user named it; `digest` is the
    SHA-256 of its text, in hexadecimal.
    """

    name: str
    input: Shape
    layers: tuple[Layer, ...]
    loss: LossOp
    input_max: float = 1.0
    target_max: float = 1.0
    frozen_until: str = ""
    mode: str = "int16"
    learning_rate: float = 0.05
    schedule: ScheduleOp = CONSTANT
    optimizer: OptimizerOp = SGD
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    batch: int = 1
    rounding: str = "stochastic"
    source: str = "<spec>"
    digest: str = ""

    def __post_init__(self) -> None:
        _check_network(self)
        _check_training(self)
        _check_layers(self)

    @property
    def sources(self) -> tuple[tuple[str, ...], ...]:
        """What each layer reads, by name."""
        before = (INPUT_NAME, *(layer.name for layer in self.layers))
        return tuple(
            layer.inputs or (name,) for layer, name in zip(self.layers, before, strict=False)
        )

    def learns(self, layer: Layer, role: str) -> bool:
        """Whether the layer's parameters of that role change."""
        names = [layer.name for layer in self.layers]
        frozen_until = names.index(self.frozen_until) if self.frozen_until else 0
        if layer.frozen or names.index(layer.name) < frozen_until:
            return False
        return layer.update == "all" or layer.update == role

    @property
    def rate_batch(self) -> int:
        """Over how many samples the learning rate is shared: gradients are sums over a batch."""
        return 1 if self.optimizer.normalises else self.batch


def load_spec(path: Path) -> Spec:
    """The network in a file; UserError where there is none or it is wrong."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file; check the path") from None
    except OSError as error:
        if path.is_dir():
            raise UserError(f"{path}: this is a folder; name the network file in it") from None
        raise UserError(f"{path}: cannot be read ({error.strerror}); check the file") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}: line {line}: not UTF-8; save the file as UTF-8") from None
    return parse_spec(text, str(path))


def parse_spec(text: str, source: str) -> Spec:
    """The network in a TOML text; `source` is what messages call it."""
    text = text.replace("\r\n", "\n")
    values = _read(source, _parse_toml(text, source), _TOP, ("name", "input", "loss"))
    for key, types in _TABLES.items():
        values |= _read(f"{source}: [{key}]", values.pop(key, {}), types)
    values["loss"] = _parse_choice(source, "loss", values["loss"], LOSSES)
    if "schedule" in values:
        place = f"{source}: [training]"
        values["schedule"] = _parse_choice(place, "schedule", values["schedule"], SCHEDULES)
    values |= _parse_optimizer(f"{source}: [training]", values)
    values.pop("momentum", None)
    layers = _parse_layers(source, values.pop("layer", []))
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Spec(**values, layers=layers, source=source, digest=digest)


# From here on: TOML to values of the right types. `place` is where we are, for messages.


def _parse_toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{source}: {_locate(str(error), text)}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{source}: a value is too long or nested too deeply; shorten it") from None


def _locate(message: str, text: str) -> str:
    """`Invalid value (at line 3, column 5)` -> `line 3, column 5: Invalid value; ...`."""
    match = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", message, re.DOTALL)
    if match is None:
        return message
    what, where = match.groups()
    if where == "end of document":
        lines = text.split("\n")
        where = f"line {len(lines)}, column {len(lines[-1]) + 1}"
    return f"{where}: {what}; see toml.io for how to write it"


def _read(
    place: str, table: Mapping[str, Any], types: Mapping[str, object], required: Iterable[str] = ()
) -> dict[str, Any]:
    """The values of a table, each of its type, none unknown, none missing."""
    for key in table:
        if key not in types:
            raise UserError(f"{place}: unknown key {_show(key)}; {_hint(key, types)}")
    for key in required:
        _require(place, key, table, types[key])
    return {key: _convert(place, key, value, types[key]) for key, value in table.items()}


def _require(place: str, key: str, table: Mapping[str, Any], wanted: object) -> None:
    if key not in table:
        raise UserError(f"{place}: key '{key}' is missing; write {_words(key, wanted)[1]}")


def _convert(place: str, key: str, value: Any, wanted: object) -> Any:
    if not _fits(value, wanted):
        must, example = _words(key, wanted)
        raise UserError(f"{place}: {key} = {_show(value)}; it must be {must}, such as {example}")
    if wanted is float:
        return float(value)
    return tuple(value) if type(value) is list and wanted != list[dict[str, Any]] else value


def _fits(value: Any, wanted: object) -> bool:
    """True and false are no numbers; an integer has 64 bits, and does for a float."""
    if wanted == Choice:
        return type(value) in (str, dict)
    if wanted in (Extent, Padding) and type(value) is not list:
        return _fits(value, int) or (wanted == Padding and type(value) is str)
    if wanted in (Shape, Extent, Padding, Names, Numbers):
        each = str if wanted == Names else float if wanted == Numbers else int
        return type(value) is list and all(_fits(v, each) for v in value)
    if wanted == list[dict[str, Any]]:
        return type(value) is list and all(type(v) is dict for v in value)
    if type(value) is int:
        return wanted in (int, float) and -(2**63) <= value < 2**63
    return type(value) is wanted


def _words(key: str, wanted: object) -> tuple[str, str]:
    must, example = next((must, example) for kind, must, example in _WORDS if kind == wanted)
    return must, example.format(key=key, text=_EXAMPLES.get(key, "..."))


def _parse_layers(source: str, tables: Iterable[Mapping[str, Any]]) -> tuple[Layer, ...]:
    count = dict.fromkeys(LAYERS, 0)
    layers = []
    for number, table in enumerate(tables, 1):
        kind = _parse_kind(f"{source}: layer {number}", table)
        count[kind] += 1
        place = _place(source, number, kind, table.get("name"))
        layers.append(_parse_layer(place, kind, table, f"{kind}{count[kind]}"))
    return tuple(layers)


def _parse_choice(place: str, key: str, value: Any, known: Mapping[str, type[Op]]) -> Any:
    """An op by its kind alone, or from a table with its kind and its keys."""
    if isinstance(value, str):
        return _build(f"{place}: {key}", known[_choose(place, key, value, known)], {})
    place = f"{place}: {key}"
    _require(place, "kind", value, str)
    kind = _choose(place, "kind", _convert(place, "kind", value["kind"], str), known)
    return _build(place, known[kind], {k: v for k, v in value.items() if k != "kind"})


def _parse_optimizer(place: str, values: Mapping[str, Any]) -> dict[str, OptimizerOp]:
    """An optimizer by its kind or table; `momentum` alone stands for one with momentum."""
    momentum = values.get("momentum", 0.0)
    if not 0 <= momentum < 1:
        raise UserError(f"{place}: momentum = {momentum}; it must be at least 0 and below 1")
    if "optimizer" not in values:
        return {"optimizer": Momentum(momentum)} if momentum > 0 else {}
    if "momentum" in values:
        raise UserError(
            f"{place}: momentum belongs to the optimizer; write optimizer = "
            f'{{ kind = "momentum", momentum = {momentum} }}'
        )
    return {"optimizer": _parse_choice(place, "optimizer", values["optimizer"], OPTIMIZERS)}


def _build(place: str, op: type[Op], table: Mapping[str, Any]) -> Any:
    """The op whose fields are these keys."""
    types, required = _keys(op)
    try:
        return op(**_read(place, table, types, required))
    except ShapeError as error:
        raise UserError(f"{place}: {error}") from None


def _keys(op: type[Op]) -> tuple[dict[str, object], list[str]]:
    """Types of an op's keys, and those that must be there."""
    hints = get_type_hints(op)
    types = {key.name: hints[key.name] for key in fields(op)}
    return types, [key.name for key in fields(op) if key.default is MISSING]


def _parse_kind(place: str, table: Mapping[str, Any]) -> str:
    _require(place, "kind", table, str)
    return _choose(place, "kind", _convert(place, "kind", table["kind"], str), LAYERS)


def _parse_layer(place: str, kind: str, table: Mapping[str, Any], default_name: str) -> Layer:
    """The fields of the op's dataclass are its keys."""
    types, required = _keys(LAYERS[kind])
    values = _read(place, table, _LAYER | types, required)
    op = _build(place, LAYERS[kind], {key: table[key] for key in types if key in table})
    pinned = _parse_pinned(place, values["format"]) if "format" in values else None
    given = {
        key: values[key]
        for key in ("frozen", "inputs", "update", "update_channels", "learning_rate_multiplier")
        if key in values
    }
    return Layer(op, values.get("name", default_name), format=pinned, **given)


def _parse_pinned(place: str, text: str) -> Format:
    pinned = parse_format(text)
    if pinned is None:
        raise UserError(
            f"{place}: format = {_show(text)}; it must be Qm.n with m integer bits, the sign among "
            "them, and n fraction bits, such as format = 'Q3.12'"
        )
    return pinned


# From here on: what the values must be, wherever a Spec comes from.


def _check_network(spec: Spec) -> None:
    _check_name(spec.source, spec.name)
    if spec.name.lower() in _FILE_NAMES:
        raise UserError(
            f"{spec.source}: name = '{spec.name}'; the file {spec.name}.h is taken; choose another"
        )
    if not spec.input or min(spec.input) < 1:
        raise UserError(
            f"{spec.source}: input = {_show(list(spec.input))}; it must be sizes of at least 1, "
            "such as input = [64]"
        )
    for key, value in (("input_max", spec.input_max), ("target_max", spec.target_max)):
        if not 0 < value <= sys.float_info.max:
            raise UserError(f"{spec.source}: {key} = {value}; it must be positive and finite")
    if spec.loss.target_is_label and spec.target_max != 1:
        raise UserError(
            f"{spec.source}: target_max = {spec.target_max}; the target of {spec.loss.kind} is a "
            "label, which nothing divides; remove target_max"
        )


def _check_training(spec: Spec) -> None:
    _choose(f"{spec.source}: [numbers]", "mode", spec.mode, MODES)
    place = f"{spec.source}: [training]"
    rate = spec.learning_rate
    if not 0 <= rate <= MAX_LEARNING_RATE or 0 < rate < 2.0**-LEARNING_RATE_FRACTION:
        raise UserError(
            f"{place}: learning_rate = {rate}; it must be 0, or from 2**-{LEARNING_RATE_FRACTION} "
            f"to {MAX_LEARNING_RATE}"
        )
    if not 0 <= spec.weight_decay <= 1:
        raise UserError(f"{place}: weight_decay = {spec.weight_decay}; it must be from 0 to 1")
    if spec.clip_norm != 0 and not 2.0**-16 <= spec.clip_norm <= 2.0**16:
        raise UserError(
            f"{place}: clip_norm = {spec.clip_norm}; it must be from 2**-16 to 2**16, or 0 for none"
        )
    if not 1 <= spec.batch <= MAX_BATCH:
        raise UserError(f"{place}: batch = {spec.batch}; it must be from 1 to {MAX_BATCH}")
    _choose(place, "rounding", spec.rounding, ROUNDINGS)
    if spec.mode == "int8_compact" and spec.rounding == "nearest":
        raise UserError(
            f"{place}: rounding = 'nearest' loses every small change of 8-bit weights; "
            "int8_compact needs rounding = 'stochastic'"
        )
    if spec.optimizer.forms_gradient and spec.rounding == "nearest":
        raise UserError(
            f"{place}: rounding = 'nearest' makes weights run away with {spec.optimizer.kind}; "
            "write rounding = 'stochastic'"
        )
    if spec.weight_decay and spec.rounding == "nearest":
        raise UserError(
            f"{place}: rounding = 'nearest' loses all of weight_decay; write rounding = "
            "'stochastic'"
        )


def _check_layers(spec: Spec) -> None:
    if not spec.layers:
        raise UserError(f"{spec.source}: there is no layer; add one under [[layer]]")
    first: dict[str, int] = {}
    for number, layer in enumerate(spec.layers, 1):
        place = _place(spec.source, number, layer.op.kind, layer.name)
        _check_name(place, layer.name, RESERVED_NAMES)
        if first.setdefault(layer.name, number) != number:
            raise UserError(
                f"{place}: layer {first[layer.name]} is called '{layer.name}' too; "
                "give one of them another name"
            )
        _check_update(place, layer)
        if layer.format is not None:
            _check_pinned(place, layer.format, number, spec)
    _check_sources(spec)
    if spec.frozen_until:
        _choose(spec.source, "layer in frozen_until", spec.frozen_until, first)


def _check_update(place: str, layer: Layer) -> None:
    _choose(place, "update", layer.update, UPDATES)
    key, share = layer.asks_for, layer.update_channels
    if key is not None and not isinstance(layer.op, LayerOp | FoldOp):
        raise UserError(f"{place}: {layer.op.kind} has no parameters; remove {key}")
    if not 0 < share <= 1:
        raise UserError(f"{place}: update_channels = {share}; it must be above 0 and at most 1")
    if not 2.0**-16 <= layer.learning_rate_multiplier <= 256:
        raise UserError(
            f"{place}: learning_rate_multiplier = {layer.learning_rate_multiplier}; it must be "
            "from 2**-16 to 256; a layer that shall not learn is frozen"
        )
    if share < 1 and (layer.frozen or layer.update != "all"):
        raise UserError(
            f"{place}: update_channels is the share of channels whose weights learn, but none do; "
            "remove it"
        )


def _check_sources(spec: Spec) -> None:
    """Every layer reads layers before it, as many as its op takes, and somebody reads it."""
    known: list[str] = [INPUT_NAME]
    later = {layer.name for layer in spec.layers}
    for number, (layer, sources) in enumerate(zip(spec.layers, spec.sources, strict=True), 1):
        place = _place(spec.source, number, layer.op.kind, layer.name)
        for name in sources:
            if name in known:
                continue
            if name in later:
                raise UserError(
                    f"{place}: inputs: '{name}' does not come before it, which would be a cycle; "
                    "name layers above it"
                )
            raise UserError(f"{place}: inputs: unknown layer {_show(name)}; {_hint(name, known)}")
        _check_count(place, layer, len(sources))
        known.append(layer.name)
    read = {name for sources in spec.sources for name in sources}
    for number, layer in enumerate(spec.layers[:-1], 1):
        if layer.name not in read:
            place = _place(spec.source, number, layer.op.kind, layer.name)
            raise UserError(
                f"{place}: nobody reads '{layer.name}'; remove it or name it in the inputs of a "
                "layer"
            )
    if INPUT_NAME not in read:
        raise UserError(f"{spec.source}: no layer reads the input; name it in inputs")


def _check_count(place: str, layer: Layer, count: int) -> None:
    takes = len(layer.op.inputs) if isinstance(layer.op, LayerOp) else 1
    if takes == 1 and count > 1:
        raise UserError(f"{place}: {layer.op.kind} reads one input, inputs names {count}")
    if count < takes:
        raise UserError(
            f"{place}: {layer.op.kind} reads at least {takes} inputs; write inputs = "
            '["one", "other"]'
        )


def _check_pinned(place: str, pinned: Format, number: int, spec: Spec) -> None:
    """A format is that of the stored value: after the elementwise op that follows, if any."""
    storing = _storing(number, spec.layers)
    stored = spec.layers[storing - 1]
    who = stored.op.kind if storing == number else f"layer {storing} ({stored.op.kind})"
    own = spec.layers[number - 1].op
    for op, name in ((own, own.kind), (stored.op, who)):
        if isinstance(op, ElementwiseOp | LayerOp) and op.output_fraction(SCORE_BITS) is not None:
            raise UserError(f"{place}: the range of {name} fixes the format; remove format")
    if storing != number and stored.format is not None:
        raise UserError(f"{place}: {who} sets the format of the same values; remove one of them")
    last = storing == len(spec.layers) - isinstance(spec.layers[-1].op, AnswerOp)
    bits = SCORE_BITS if last or spec.mode == "int16" else 8
    if pinned.bits > bits:
        kept = "the last layer" if last else spec.mode
        raise UserError(
            f"{place}: format {pinned} needs {pinned.bits} bits, {kept} has {bits}; "
            f"choose Qm.n with m + n <= {bits}"
        )


def _storing(number: int, layers: tuple[Layer, ...]) -> int:
    """Number of the layer that stores what layer `number` computes."""
    if isinstance(layers[number - 1].op, ElementwiseOp) or number == len(layers):
        return number
    follows = isinstance(layers[number].op, ElementwiseOp) and not layers[number].inputs
    shared = any(layers[number - 1].name in layer.inputs for layer in layers)
    return number + (follows and not shared)


def _check_name(place: str, name: str, reserved: frozenset[str] = frozenset()) -> None:
    problem = None
    if _IDENTIFIER.fullmatch(name) is None:
        problem = "it must be letters, digits and single underscores between them, a letter first"
    elif len(name) > MAX_NAME:
        problem = f"it has {len(name)} characters; at most {MAX_NAME} are allowed"
    elif name in _KEYWORDS:
        problem = "that is a keyword of C or C++; choose another"
    elif name in _C_NAMES or name in reserved:
        problem = "the C code uses that name itself; choose another"
    elif reserved and _C_FORMS.fullmatch(name):
        problem = "C has macros and types that look so; choose another"
    if problem is not None:
        raise UserError(f"{place}: name = {_show(name)}; {problem}")


# Phrases.


def _place(source: str, number: int, kind: str, name: object) -> str:
    """`digits.toml: layer 3 (conv2)`: the name where the user gave one, else the kind."""
    given = isinstance(name, str) and _IDENTIFIER.fullmatch(name) and len(name) <= MAX_NAME
    automatic = given and re.fullmatch(rf"{kind}\d+", str(name))
    return f"{source}: layer {number} ({name if given and not automatic else kind})"


def _choose(place: str, key: str, word: str, choices: Iterable[str]) -> str:
    if word not in choices:
        raise UserError(f"{place}: unknown {key} {_show(word)}; {_hint(word, choices)}")
    return word


def _hint(word: str, choices: Iterable[str]) -> str:
    near = get_close_matches(word.lower(), choices, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(choices)}"


def _show(value: object) -> str:
    """A value on one short line."""
    return str(value).lower() if isinstance(value, bool) else reprlib.repr(value)
