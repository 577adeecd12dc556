"""Plan -> {file name: C text}. The only module that knows jinja2."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from textwrap import indent
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from codegen import VERSION, paths
from codegen.fixedpoint import Norm
from codegen.graph import (
    PARAMETER_ROLES,
    Accumulator,
    Plan,
    Step,
    Tensor,
    TensorFormat,
    TrainingGraph,
)
from codegen.interpret import (
    State,
    longest,
    norm_shift,
    rate_factor,
    slot_name,
    weight_decay,
)
from codegen.layout import (
    C_TYPES,
    Field,
    Table,
    initial_tables,
    network_hash,
    op_tables,
    parameter_fields,
    work_fields,
)
from codegen.ops.base import FEW_ROWS, ROWS, ElementwiseOp, LayerOp, LossOp, Op, Shape, size
from codegen.passes.plan_memory import Scratch, listed, scratch_names, scratches
from codegen.report import make_report
from codegen.spec import RESERVED_NAMES, Spec

RUNTIME_HEADERS = ("fxp.h", "fxp_kernels.h")
_COLUMNS = 100
_SHORT_GRADIENT = 22  # bits of a gradient that fits 30 bits with a rate of 8 bits
_FEW_ERRORS = 16
_DEEPEST = 8  # indentation of the deepest call of a step
_STORED = {"adaptive": "range_f", "relative": "out_f"}  # where the exponent of the output is found


@dataclass(frozen=True)
class Options:
    """`gradient`: the build for the check. `counters`: training counts saturated samples."""

    gradient: bool = False
    counters: bool = False
    board: str | None = None


def emit(spec: Spec, plan: Plan, state: State, options: Options) -> dict[str, str]:
    """The files of the network; the same plan and state give the same bytes."""
    n = _NetworkView(spec, plan, state, options)
    runtime = {name: runtime_header(name) for name in RUNTIME_HEADERS}
    return {
        f"{n.name}.h": _render("network.h.j2", n),
        f"{n.name}.c": _render("network.c.j2", n),
        f"{n.name}_init.c": _render("network_init.c.j2", n),
        **runtime,
    }


def runtime_header(name: str) -> str:
    """The text of a header of the runtime, in one piece with the parts that it includes."""
    text = (paths.RUNTIME / name).read_text(encoding="utf-8")
    return re.sub(
        r'^#include "(\w+/\w+\.h)"\n',
        lambda part: (paths.RUNTIME / part[1]).read_text(encoding="utf-8"),
        text,
        flags=re.MULTILINE,
    )


def declared(training: TrainingGraph) -> Iterator[str]:
    """What the C calls its functions, tables and variables; every name may be there once."""
    graph, tensors = training.graph, training.tensors
    yield from (f"{graph.name}_{word}" for word in RESERVED_NAMES)
    yield from (f"{graph.name}_{t.name}" for t in tensors.values() if t.frozen)
    yield from (table.name for table in op_tables(training))
    yield from (_function_name(step) for step in training.steps)
    yield from tensors
    yield from (_scale_name(name) for name in tensors)
    yield from (name for step in training.steps for name in scratch_names(step))


def _function_name(step: Step) -> str:
    return f"step_{step.name}"


def _scale_name(tensor: str) -> str:
    return f"{tensor}_scale"


def emit_harness(spec: Spec, plan: Plan, state: State, options: Options) -> dict[str, str]:
    """What the host simulator compiles beside the network."""
    n = _NetworkView(spec, plan, state, options)
    return {"host_harness.c": _render("host_harness.c.j2", n)}


def emit_host_link(spec: Spec, plan: Plan, state: State, options: Options) -> dict[str, str]:
    """What the host simulator compiles beside a network with a link."""
    n = _NetworkView(spec, plan, state, options)
    return {"host_link.c": _render("host_link.c.j2", n)}


def emit_link(spec: Spec, plan: Plan, state: State, options: Options) -> dict[str, str]:
    """What connects the network with firmware/runtime/link.c."""
    n = _NetworkView(spec, plan, state, options)
    return {f"{n.name}_link.c": _render("network_link.c.j2", n)}


def render(
    template: str, spec: Spec, plan: Plan, state: State, options: Options, **views: Any
) -> str:
    """Any other text about the network `n`; `views` are more names that the template knows."""
    return _render(template, _NetworkView(spec, plan, state, options), **views)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(paths.TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["numbers"] = _numbers
    return environment


def _render(template: str, n: "_NetworkView", **views: Any) -> str:
    text = _environment().get_template(template).render(n=n, **views)
    return re.sub(r"\n\s*\n(\s*})", r"\n\1", re.sub(r"[ \t]+\n", "\n", text))


def _helpers(op: Op) -> str:
    """C functions of an op's own."""
    module: Any = _environment().get_template(f"ops/{op.kind}.c.j2").module
    return str(module.helpers(op)).strip("\n")


def _numbers(values: Iterable[int]) -> str:
    return wrap("    ", [f"{v}" if v < 2**31 else f"{v}u" for v in values], "    ")


def wrap(start: str, words: list[str], indent: str, end: str = "", columns: int = _COLUMNS) -> str:
    """start + words, separated by commas, + end, in lines of at most 100 columns."""
    lines, line = [], start
    for i, word in enumerate(words):
        word += "," if i < len(words) - 1 else end
        gap = "" if line in (start, indent) else " "
        if len(line) + len(gap) + len(word) > columns and line not in (start, indent):
            lines.append(line)
            line, gap = indent, ""
        line += gap + word
    return "\n".join([*lines, line])


def _call(start: str, arguments: list[str], end: str, columns: int = _COLUMNS) -> str:
    """A call or a signature, continued under its first argument where there is room."""
    if len(start) + max(map(len, arguments)) + len(end) <= columns:
        return wrap(start, arguments, " " * len(start), end, columns)
    return f"{start}\n{wrap('    ', arguments, '    ', end, columns)}"


def _line(start: str, arguments: list[str], end: str, indent: int) -> str:
    """A call that the template indents; its further lines are indented here."""
    text = _call(start, arguments, end, _COLUMNS - indent)
    return text.replace("\n", "\n" + " " * indent)


def _unrolled(text: str, times: int) -> str:
    """The same C, whose compiler writes out so many rounds of each loop that has none within it and
    one condition: gcc warns of others that it ignores what is said of them.
    """
    if times == 1:
        return text
    lines = []
    after = text.split("\n")
    while after:
        line, *after = after
        margin = line[: len(line) - len(line.lstrip())]
        if line.startswith(f"{margin}for (") and "&&" not in line:
            body = after[: after.index(f"{margin}}}")]
            if not any(inner.lstrip().startswith("for (") for inner in body):
                lines.append(f"{margin}FXP_UNROLL({times})")
        lines.append(line)
    return "\n".join(lines)


def _widths(a: int, b: int) -> str:
    """How kernels of the runtime are called for factors of a and b bits: 16, 16x8, 8."""
    return str(a) if a == b else f"{a}x{b}"


@dataclass(frozen=True)
class _FinishView:
    op: ElementwiseOp
    kernel: str
    bits: int
    y_f: int | str


@dataclass(frozen=True)
class _StepView:
    """One C function, as templates/macros.j2 wants to see it."""

    plan: Plan
    state: State
    step: Step
    options: Options
    label: str = "step"  # the name of the C function

    # what it works on

    @property
    def op(self) -> Any:
        return self.step.op

    @property
    def kernel(self) -> str:
        return self.step.kernel

    @property
    def optimizer(self) -> Any:
        return self.plan.training.graph.optimizer

    def _tensor(self, name: str) -> Tensor:
        return self.plan.training.tensors[name]

    def _format(self, name: str) -> TensorFormat:
        return self.plan.quantized.formats[name]

    @property
    def _output(self) -> TensorFormat:
        return self._format(self.step.output)

    @property
    def role(self) -> str:
        """Of the parameter that learns."""
        assert self.step.sink is not None
        return self._tensor(self.step.sink.parameter).role

    @property
    def policy(self) -> str:
        return self._output.policy

    @property
    def bits(self) -> int:
        return self._output.bits

    @property
    def sizes(self) -> dict[str, int]:
        sizes = {key: self._tensor(name).size for key, name in self.step.reads.items()}
        out = self.step.shapes.get("out", self._tensor(self.step.output).shape)
        return {**sizes, "out": size(out)}

    @property
    def types(self) -> dict[str, str]:
        types = {key: self._type(name) for key, name in self.step.reads.items()}
        return {**types, "out": C_TYPES[self.bits]}

    def _type(self, name: str) -> str:
        """With the memory that it is in, where that is not RAM."""
        memory = "FXP_FLASH " if self._is_constant(name) else ""
        return memory + C_TYPES[self._format(name).bits]

    def _is_constant(self, name: str) -> bool:
        return self._tensor(name).role in PARAMETER_ROLES and self._tensor(name).frozen

    @property
    def bits_of(self) -> dict[str, int]:
        return {key: self._format(name).bits for key, name in self.step.reads.items()}

    @property
    def f(self) -> dict[str, str]:
        """Fraction bits of each argument: a literal, or an argument of its own."""
        return {
            key: f"{key}_f" if self._constant_f(name) is None else str(self._constant_f(name))
            for key, name in self.step.reads.items()
        }

    def _constant_f(self, name: str) -> int | None:
        if self._is_constant(name):
            return self.state.f[name]
        tensor_format = self._format(name)
        return tensor_format.f if tensor_format.policy == "fixed" else None

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """As the kernel sees them; that of its result is "out"."""
        return self.step.shapes

    # accumulator and finishes

    @property
    def _accumulator(self) -> Accumulator:
        return self.plan.quantized.accumulators[self.step.name]

    @property
    def sum_type(self) -> str:
        return self._accumulator.type

    @property
    def acc_type(self) -> str:
        """Of the accumulator from the sum on, until it is rounded."""
        bits = [self._accumulator.raw_bits, *(finish.bits for finish in self.finishes)]
        is_short = self._accumulator.is_short and max(*bits, self._accumulator.bits) <= 31
        return "int32_t" if is_short else "int64_t"

    @property
    def _is_short(self) -> bool:
        return self.acc_type == "int32_t"

    @property
    def store(self) -> str:
        """The runtime's type, and below its functions, for what happens to an accumulator."""
        return "fxp_store32" if self._is_short else "fxp_store"

    @property
    def stored_bits(self) -> str:
        """What the store of long accumulators must know besides their shift: how large they are."""
        accumulator = self._accumulator
        if self._is_short:
            return ""
        stored = self.op.stored_bits(self.kernel) if isinstance(self.op, LayerOp) else None
        if stored is not None and not self.step.finishes:
            return f", {stored}"
        if accumulator.has_bias and accumulator.bits == accumulator.raw_bits:
            return f", fxp_bits_with_bias({accumulator.sum_bits}, f0)"
        return f", {accumulator.bits}"

    @property
    def is_plain(self) -> bool:
        """Accumulators that 32 bits hold are stored and nobody asks how large they were."""
        fits = self._is_short or self._accumulator.bits <= 30
        return fits and not self.returns_scale and not self.sticky

    @property
    def settle(self) -> str:
        return f"fxp_settle{self.of_sums}"

    @property
    def of_sums(self) -> str:
        """How functions are called that store accumulators."""
        return f"{self.bits}_of32" if self._is_short else str(self.bits)

    @property
    def describe(self) -> str:
        return "fxp_describe32" if self._is_short else "fxp_describe"

    @property
    def bias_shift(self) -> str:
        """By how much a sum is shifted that 32 bits hold with its bias; known at run time."""
        if not (self._accumulator.is_short and self._accumulator.has_bias):
            return ""
        factors = self.op.products(self.kernel, self.shapes).factors
        f = " + ".join(self.f[key] for key in factors)
        return f"fxp_sum_shift({f}, {self._accumulator.shift})"

    @property
    def minus_shift(self) -> str:
        return f" - {self._sum_shift}" if self._sum_shift != "0" else ""

    @property
    def _sum_shift(self) -> str:
        return "shift" if self.bias_shift else str(self._accumulator.shift)

    def accumulated(self, total: str, c_type: str | None = None, bias: str | None = None) -> str:
        """The accumulator, given the exact sum as an expression of that type, and the bias."""
        shift, c_type = self._sum_shift, c_type or self.sum_type
        if not self._accumulator.is_short:
            return total if bias is None else f"{total} + fxp_bias({bias}, f0)"
        if c_type == "int64_t":
            total = f"fxp_sum32({total}, {shift})" if shift != "0" else f"(int32_t){total}"
        elif shift != "0":
            total = f"fxp_round32({total}, {shift})"
        return total if bias is None else f"fxp_add32({total}, fxp_bias32({bias}, f0))"

    def product(self, a: str, b: str) -> str:
        """One product of two numbers of at most 16 bits."""
        return f"(int32_t){a} * {b}"

    def kernel_of(self, name: str, a: str, b: str) -> str:
        """The runtime's kernel for arguments a and b of the widths that they have here."""
        bits = self.bits_of | {"w": self.bits_of.get("w", self.weight_bits), "out": self.bits}
        return f"{name}{_widths(bits[a], bits[b])}"

    @property
    def scratches(self) -> list[Scratch]:
        """What it needs while it runs, and the list that it takes."""
        found = listed(self.plan.quantized, self.step) if self.lists_errors else None
        return scratches(self.plan.quantized, self.step) + ([] if found is None else [found])

    @property
    def scratch_bits(self) -> int:
        """Of the elements of the first argument that is scratch."""
        return scratches(self.plan.quantized, self.step)[0].bits

    def along_rows(
        self,
        place: str,
        other: str,
        widths: tuple[int, int],
        n: Any,
        first: str = "",
        of: str = "",
        mask: str = "",
    ) -> str:
        """Fills `sums` with `count` accumulators: rows of products of elements at two places, n
        each, as wide as `widths` says, and biases, beginning with that of index `first`. The first
        place is in argument `of`, or in scratch. `mask` tells where sums are masked, if they are.
        """
        name, memory = f"fxp_rows{_widths(*widths)}", self._memory(of)
        if mask and self._takes_mask(name):
            arguments = f"{place}, {other}, {n}, {mask}, count"
            return f"{name}_short_masked({arguments}, {self._sum_shift}, sums)"
        if memory and not self._memory("b"):
            memory += "_w"
        bias, f = (f"&b[{first}]", "f0") if "b" in self.step.reads else ("NULL", "0")
        arguments = f"{place}, {other}, {n}, {bias}, {f}, count, "
        if self.sums_are_gradients:
            return f"{name}_short{memory}({arguments}{self.narrowing}, sums)"
        if self._accumulator.is_short:
            return f"{name}_short{memory}({arguments}{self._sum_shift}, sums)"
        return f"{name}{memory}({arguments}sums)"

    def _memory(self, key: str) -> str:
        """What kernels are called for an argument that is in flash."""
        name = self.step.reads.get(key)
        return "_flash" if name is not None and self._is_constant(name) else ""

    def by_channels(self, a: str, b: str, widths: tuple[int, int], sums: str = "sums") -> str:
        """Fills `sums` with `count` exact sums of products of neighbouring channels at two places,
        as wide as `widths` says, by `strides`.
        """
        return f"fxp_channels{_widths(*widths)}({a}, {b}, &strides, count, {sums})"

    def down_columns(
        self,
        a: str,
        place: str,
        b: str,
        errors: str,
        columns: str,
        is_all: bool = False,
        mask: str = "",
    ) -> str:
        """Adds to `sums` products of arguments a and b, which lie at these places, by a `walk`;
        where those are all, `sums` become accumulators. `mask` as above.
        """
        name, memory = self.kernel_of("fxp_columns", a, b), self._memory(a)
        if mask and self._takes_mask(name):
            arguments = f"{place}, {errors}, &walk, {mask}, {columns}"
            return f"{name}_short_masked({arguments}, {self._sum_shift}, sums)"
        arguments = f"{place}, {errors}, &walk, {columns}"
        if is_all and self._accumulator.is_short:
            return f"{name}_short{memory}({arguments}, {self._sum_shift}, sums)"
        return f"{name}{memory}({arguments}, sums)"

    def _takes_mask(self, kernel: str) -> bool:
        """Whether a kernel has a body for sums of which the last finish masks some."""
        is_masked = self.sums_type == "int32_t" and self.settles == ["masked"]
        return is_masked and self.bits == 16 and kernel in ("fxp_rows16", "fxp_columns16")

    @property
    def columns_at_once(self) -> str:
        """How many sums such a kernel computes at the most where those of columns are all."""
        takes_mask = self._takes_mask(self.kernel_of("fxp_columns", "w", "dy"))
        return "FXP_SUMS" if takes_mask else "FXP_COLUMNS"

    @property
    def sums(self) -> str:
        """How many sums a call of the runtime computes at the most; a core says what are a few."""
        chosen = self.op.chosen(self.kernel, self.shapes, "sums") if self._has("sums") else ROWS
        return {ROWS: "FXP_SUMS", FEW_ROWS: "FXP_FEW_ROWS"}.get(chosen, str(chosen))

    def _has(self, knob: str) -> bool:
        return knob in self.op.choices(self.kernel, self.shapes)

    @property
    def _is_apart(self) -> bool:
        """A function of its own where the stack is short; else that is up to the compiler."""
        return bool(self.op.chosen(self.kernel, self.shapes, "function") == "apart")

    @property
    def _is_call(self) -> bool:
        """An update that is one call of the runtime, with all rows of weights."""
        return self._is_update and self.step.phase != "batch" and self.takes_rows

    @property
    def text(self) -> str:
        """The C function, its innermost loops as often unrolled as was chosen."""
        macros: Any = _environment().get_template("macros.j2").module
        return _unrolled(macros.function(self), self.op.chosen(self.kernel, self.shapes, "unroll"))

    @property
    def sums_type(self) -> str:
        """Of neighbouring accumulators."""
        is_short = self._accumulator.is_short or self.sums_are_gradients
        return "int32_t" if is_short else "int64_t"

    @property
    def sums_are_gradients(self) -> bool:
        """Rows of a gradient are summed, and shortened at once where that is how sums are taken."""
        return self.step.sink is not None and self.plan.quantized.numbers.accumulate == "short"

    @property
    def _takes_many(self) -> bool:
        """The sink is an update that takes many elements at once."""
        return self._is_update and bool(self.optimizer.takes_rows)

    @property
    def takes_rows(self) -> bool:
        """It takes all rows of an outer product."""
        accumulates = self.step.sink is not None and self.step.sink.kind == "accumulate"
        return self.is_outer and (accumulates or (self._takes_many and not self.spreads))

    @property
    def takes_gradients(self) -> bool:
        """It takes neighbouring elements of a gradient, which round together."""
        is_sum = not self.is_outer and self.step.phase != "batch"
        return self._takes_many and is_sum and not self.spreads

    @property
    def takes_row(self) -> bool:
        """It takes a row of an outer product whose numbers need no bits more."""
        takes = self._is_update and bool(self.optimizer.takes_row)
        return takes and self.is_outer and not self.spreads and not self.widen

    @property
    def takes_sums_of_rows(self) -> bool:
        """It takes a row of gradients that a batch added up, which round together."""
        return self._takes_many and not self.spreads

    @property
    def takes_biases(self) -> bool:
        """It takes errors that are the gradient of biases as they are."""
        accumulator = self._accumulator
        return self._takes_many and accumulator.terms == 1 and accumulator.gradient_bits <= 15

    @property
    def takes_sums_of_errors(self) -> bool:
        """The same for biases whose gradients are sums of errors over the positions."""
        is_sum = self.role == "bias" and self.step.phase != "batch"
        return self._takes_many and is_sum and self.sum_type == "int32_t" and not self.narrowing

    @property
    def finishes(self) -> list[_FinishView]:
        views = []
        bits = self._accumulator.raw_bits
        for finish in self.step.finishes:
            y_f: int | str = 0
            if finish.y is not None:
                fixed = self._constant_f(finish.y)
                y_f = "y_f" if fixed is None else fixed
            views.append(_FinishView(finish.op, finish.kernel, bits, y_f))
            bits = finish.op.grown_bits(finish.kernel, bits)
        return views

    @property
    def last_f(self) -> str:
        return f"f{len(self.step.finishes)}"

    @property
    def anchor_f(self) -> str:
        """To what the exponent of an error is relative."""
        anchor = self.op.anchor(self.kernel) if isinstance(self.op, LayerOp) else None
        return self.last_f if anchor is None else self.f[anchor]

    @property
    def described_f(self) -> str:
        """Fraction bits of the accumulator, relative where those of the error are."""
        if self.policy != "relative":
            return self.last_f
        return "0" if self.anchor_f == self.last_f else f"{self.last_f} - {self.anchor_f}"

    @property
    def out_f(self) -> str:
        return _STORED.get(self.policy, str(self._output.f))

    @property
    def error_f(self) -> str:
        return str(self.op.error_fraction(self._format(self.step.reads["x"]).f))

    @property
    def keeps_errors(self) -> bool:
        """The loss keeps its errors, in its scratch or few of them on the stack, until it knows the
        largest.
        """
        few = self.op.uses_scratch or self.sizes["out"] <= _FEW_ERRORS
        return self._is_short and bool(few)

    @property
    def takes_errors(self) -> bool:
        """The loss has a way to form all its errors at once, and nothing changes them."""
        return self.keeps_errors and bool(self.op.forms_errors) and not self.step.finishes

    @property
    def sticky(self) -> bool:
        return any(f.kernel == "forward" and f.op.keeps_positive for f in self.step.finishes[-1:])

    @property
    def settles(self) -> list[str]:
        """The runtime's way to store neighbouring sums that has the last finish in it, if any."""
        last = self.step.finishes[-1:]
        return [f.op.settles[f.kernel] for f in last if f.kernel in f.op.settles]

    def stores_rows(self, *bits: int) -> bool:
        """Rows of products of numbers so wide are summed and stored by one kernel."""
        is_long = self.acc_type == self.sums_type == "int64_t"
        is_stored = len(self.settles) == len(self.finishes) and self.bits == 16
        return is_long and is_stored and {*bits} == {16}

    def layer(self, rows: int) -> str:
        """What such rows have in common."""
        biases = "b, f0" if "b" in self.step.reads else "NULL, 0"
        return f"const fxp_layer layer = fxp_layer_of({biases}, {rows});"

    def stored_rows(
        self, indent: int, place: str, other: str, n: Any, out: str, y: str, sums: str
    ) -> str:
        """Does that with a `layer` of rows of n; where they are masked, y tells by what."""
        how = self.settles[0] if self.settles else "sums"
        start = "fxp_stored_rows16("
        words = ["&store", "&layer", place, other, str(n), f"FXP_AS_{how.upper()}", out]
        return _line(start, [*words, y if how == "masked" else "NULL", "sums", sums], ");", indent)

    @property
    def masks_columns(self) -> bool:
        """Columns of weights are summed and stored at once, where they are not masked."""
        is_stored = self.stores_rows(self.bits_of["w"], self.bits_of["dy"])
        return is_stored and self.settles == ["masked"]

    @property
    def lists_errors(self) -> bool:
        """There is room for a list of the errors that are not 0."""
        found = listed(self.plan.quantized, self.step)
        has_room = found is not None and found.block in self.plan.offsets
        return has_room and self.masks_columns

    # gradients and updates

    @property
    def is_outer(self) -> bool:
        """The gradient is an outer product: the rate goes into the error of a row."""
        return self.kernel in self.op.outer

    @property
    def narrowing(self) -> int:
        return self._accumulator.narrowing

    @property
    def minus_narrowing(self) -> str:
        return f" - {self.narrowing}" if self.narrowing else ""

    def gradient(self, e: str, x: str) -> str:
        """An element of the gradient as 31 bits; without x it is one already."""
        if not x:
            return e
        if self.is_outer:
            return f"(int32_t){e} * {x}"
        return f"(int32_t)fxp_rescale({e}, {self.narrowing})" if self.narrowing else e

    def change(self, g: str) -> str:
        """-rate * g as 32 bits; the product of a short gradient fits them."""
        if self._accumulator.terms == 1 and self._accumulator.gradient_bits <= 15:
            return f"fxp_change(-fxp_times16({g}, rate.m), shift)"
        if self._accumulator.gradient_bits <= _SHORT_GRADIENT:
            return f"fxp_change((int32_t){g} * -(int32_t)rate.m, shift)"
        return f"(int32_t)fxp_narrow((int64_t){g} * -(int32_t)rate.m, shift, 32)"

    @property
    def stochastic(self) -> bool:
        return self.plan.quantized.numbers.rounding == "stochastic"

    @property
    def spreads(self) -> bool:
        """Elements of a row do not round together."""
        return self.stochastic and bool(self.optimizer.spreads(self.weight_bits))

    @property
    def batch(self) -> int:
        return self.plan.quantized.numbers.batch

    @property
    def target_f(self) -> str:
        """Fraction bits of the parameter that is updated."""
        return "w_f" if self.role == "weight" else "FXP_BIAS_FRACTION"

    @property
    def weight_bits(self) -> int:
        return self._format(self.step.output).bits

    @property
    def headroom(self) -> int:
        return int(self.optimizer.headroom(self.weight_bits))

    @property
    def minus_headroom(self) -> str:
        return f" - {self.headroom}" if self.headroom else ""

    @property
    def widen(self) -> str:
        """8-bit values meet an update as x * 256, with 8 fraction bits more."""
        return "" if self.plan.quantized.numbers.activation_bits == 16 else " + 8"

    @property
    def rows(self) -> int:
        return self._tensor(self.step.output).shape[0]

    @property
    def columns(self) -> int:
        return self._tensor(self.step.output).size // self.rows

    def advance(self, columns: int, *also: str) -> str:
        """What a loop over rows adds to its pointers."""
        moving = [*also, *(["w"] if self._is_update else ["out"])]
        if self._is_update:
            moving += self.optimizer.slots
        return "".join(f", {name} += {columns}" for name in moving)

    # the norm of a gradient

    @property
    def norm_shift(self) -> int:
        return norm_shift(self.plan.quantized, self.step)

    @property
    def longest(self) -> Norm:
        return longest(self.plan.quantized)

    # the C function and its call

    @property
    def _is_norm(self) -> bool:
        return self.step.sink is not None and self.step.sink.kind == "norm"

    @property
    def clips(self) -> bool:
        return "clip" in self.step.reads

    @property
    def _is_update(self) -> bool:
        return self.step.sink is not None and self.step.sink.kind == "update"

    @property
    def returns_scale(self) -> bool:
        sink = self.step.sink
        if self._is_norm:
            return False
        if self._is_update:
            return self.step.phase == "batch" and self.role == "weight"
        if sink is not None:
            return sink.kind == "store"
        return self._output.is_dynamic or self.options.counters

    @property
    def signature(self) -> str:
        result = "fxp_scale" if self.returns_scale else "uint32_t" if self._is_norm else "void"
        declarations = [declaration for declaration, _ in self._arguments()]
        apart = "FXP_CALL" if self._is_call else "FXP_STEP"
        static = f"static {apart}" if self._is_apart else "static"
        return _call(f"{static} {result} {self.label}(", declarations, ")")

    @property
    def call(self) -> str:
        start = f"const fxp_scale {_scale_name(self.step.output)} = " if self.returns_scale else ""
        start = f"const uint32_t {self.step.output} = " if self._is_norm else start
        values, columns = [value for _, value in self._arguments()], _COLUMNS - _DEEPEST
        if len(f"{start}{self.label}(") <= columns:
            return _call(f"{start}{self.label}(", values, ");", columns)
        text = _call(f"{self.label}(", values, ");", columns - 4)
        return f"{start.rstrip()}\n{indent(text, '    ')}"

    def _arguments(self) -> Iterator[tuple[str, str]]:
        """Declaration and value of each: what is read, what is written, what that needs."""
        for key, name in self.step.reads.items():
            yield from self._input(key, name)
        for finish in self.step.finishes:
            if finish.y is not None:
                yield self._pointer("const ", "y", finish.y)
                if finish.op.knows_fraction and self._constant_f(finish.y) is None:
                    yield "int y_f", self._exponent(self._tensor(finish.y))
        for scratch in self.scratches:
            yield f"{C_TYPES[scratch.bits]} {scratch.argument}[{scratch.count}]", scratch.block
        if isinstance(self.step.op, LossOp):
            yield "int32_t *loss", "&loss"
        if self._is_update:
            yield from self._updated()
        if self._is_update or self._is_norm:
            return
        if self._output.adapts:
            yield "int range_f", f"params->{self.step.output}_range.f"
        yield self._pointer("", "out", self.step.output)

    def _input(self, key: str, name: str) -> Iterator[tuple[str, str]]:
        tensor = self._tensor(name)
        if tensor.role == "target" and self.plan.training.graph.loss.target_is_label:
            yield "int t", "target"
            return
        if tensor.role == "factor":
            if self.optimizer.forms_gradient:
                yield "uint32_t clip", name
            return
        if tensor.role == "seed":
            yield "uint32_t seed", f"fxp_seed(params->steps, {tensor.number})"
            return
        yield self._pointer("const ", key, name)
        idle = self.step.phase != "batch" and key not in self.op.exponents(self.kernel)
        if self._constant_f(name) is None and not idle:
            yield f"int {key}_f", self._exponent(tensor)

    def _pointer(self, const: str, key: str, name: str) -> tuple[str, str]:
        tensor = self._tensor(name)
        declaration = f"{const}{self._type(name)} {key}[{tensor.size}]"
        return declaration, self._place(tensor)

    def _updated(self) -> Iterator[tuple[str, str]]:
        name = self.step.output
        key = "w" if self.role == "weight" else "b"
        yield self._pointer("", key, name)
        for slot in self.optimizer.slots:
            c_type = C_TYPES[self.optimizer.slot_bits(self.role)]
            yield f"{c_type} {slot}[{self.sizes['out']}]", f"params->{slot_name(name, slot)}"
        if self.role == "weight":
            yield "int w_f", f"params->{name}_f"
        if self.optimizer.forms_gradient:
            yield "int slots_f", f"params->{slot_name(name)}_f"
        rate = rate_of(self._tensor(name))
        if self.clips and not self.optimizer.forms_gradient:
            rate = f"fxp_scale_rate({rate}, {self.step.reads['clip']})"
        yield "fxp_rate rate", rate
        draws = self.role == "weight" and (self.step.phase != "batch" or self.stochastic)
        if draws or self.optimizer.forms_gradient:
            yield "uint32_t *random", "&params->random"

    def _exponent(self, tensor: Tensor) -> str:
        if tensor.role in PARAMETER_ROLES:
            return f"params->{tensor.name}_f"
        if tensor.role == "gradient":
            return f"params->{tensor.name}_range.f"
        return f"{_scale_name(tensor.name)}.f"

    def _place(self, tensor: Tensor) -> str:
        """Where a tensor lies, seen from the function that runs the steps."""
        if tensor.role in PARAMETER_ROLES:
            network = self.plan.training.graph.name
            return f"{network}_{tensor.name}" if tensor.frozen else f"params->{tensor.name}"
        if tensor.role == "gradient" and tensor.name not in self.plan.offsets:
            return f"work->{tensor.name}"
        return tensor.name

    @property
    def comment(self) -> str:
        """What it computes, and the bound of its sum."""
        what = f"{self.step.output}: {self.step.kernel} of {self.step.op}"
        for finish in self.step.finishes:
            what += f", {finish.kernel} of {finish.op}"
        if self.step.sink is not None:
            what += f", {self.step.sink.kind}s {self.step.sink.parameter}"
        if self.step.phase == "batch":
            return what
        if not isinstance(self.step.op, LayerOp):
            return what
        a = self._accumulator
        summed = f"sum of {a.terms} products" if a.terms > 1 else "product"
        return f"{what}; |{summed}| <= 2^{a.sum_bits}"


@dataclass(frozen=True)
class _Function:
    comment: str
    text: str


@dataclass(frozen=True)
class _Port:
    """An input or output of the network, for the header."""

    name: str
    size: int
    bits: int = 16
    f: int = 0

    @property
    def type(self) -> str:
        return C_TYPES[self.bits]


@dataclass(frozen=True)
class _Target:
    is_label: bool
    size: int

    @property
    def declaration(self) -> str:
        return "int target" if self.is_label else f"const int16_t target[{self.size}]"


@dataclass(frozen=True)
class _NetworkView:
    """One network, as the templates want to see it."""

    spec: Spec
    plan: Plan
    state: State
    options: Options

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def upper(self) -> str:
        return self.name.upper()

    @property
    def guard(self) -> str:
        return f"{self.upper}_H"

    @property
    def banner(self) -> str:
        report = make_report(self.plan, self.state)
        board = f", for {self.options.board}" if self.options.board else ""
        return "\n".join(
            [
                f"/* Generated by mcugrad {VERSION} from network {self.name},",
                f" * sha256 {self.spec.digest[:16] or 'none'}{board}.",
                f" * {report.mode}: {report.parameters} bytes of parameters, {report.work} of "
                f"scratch, {report.constants} of constants;",
                f" * {report.macs['total']} multiplications a step. Generate it anew instead of "
                "editing it. */",
            ]
        )

    @property
    def gradient(self) -> bool:
        return self.options.gradient

    @property
    def main(self) -> str:
        return "gradient" if self.gradient else "train"

    @property
    def main_params(self) -> str:
        return f"const {self.name}_params" if self.gradient else f"{self.name}_params"

    # the header

    @property
    def input(self) -> _Port:
        tensor, tensor_format = self.plan.training.tensors["x"], self.plan.quantized.formats["x"]
        return _Port("x", tensor.size, tensor_format.bits, tensor_format.f)

    @property
    def scores(self) -> _Port:
        tensor = self.plan.training.tensors[self.plan.training.graph.shown]
        return _Port(tensor.name, tensor.size, 16, self.plan.quantized.score_fraction)

    @property
    def scores_adapt(self) -> bool:
        """Inside, the scores have a format that follows their range."""
        return self.plan.quantized.formats[self.scores.name].is_dynamic

    @property
    def target(self) -> _Target:
        return _Target(self.plan.training.graph.loss.target_is_label, self.scores.size)

    @property
    def input_max(self) -> str:
        return f"{self.spec.input_max:g}"

    @property
    def target_max(self) -> str:
        return f"{self.spec.target_max:g}"

    @property
    def learning_rate(self) -> str:
        return f"{self.spec.learning_rate:g}"

    @property
    def _input_scale(self) -> tuple[int, int]:
        """raw * 2**f / input_max as a factor of at most 31 bits and a shift of 0 to 46."""
        exact = 2.0**self.input.f / self.spec.input_max
        shift = 0
        while exact * 2 ** (shift + 1) < 2**31 and shift < 46:
            shift += 1
        return min(round(exact * 2**shift), 2**31 - 1), shift

    @property
    def input_factor(self) -> int:
        return self._input_scale[0]

    @property
    def input_shift(self) -> int:
        return self._input_scale[1]

    @property
    def params_fields(self) -> tuple[Field, ...]:
        return parameter_fields(self.plan)

    @property
    def work_fields(self) -> tuple[Field, ...]:
        fields = work_fields(self.plan)
        if self.gradient:
            fields += (Field("fractions", "int16_t", 2, 2, len(self.observed)),)
        if self.options.counters:
            fields += (Field("saturations", "uint32_t", 4, 4, len(self.observed)),)
        return fields

    @property
    def sizes(self) -> dict[str, int]:
        report = make_report(self.plan, self.state)
        return {"params": report.parameters, "work": report.work}

    @property
    def hash(self) -> str:
        """As the initialiser of an array of bytes."""
        digest = network_hash(self.spec, self.plan, self.state)
        return "{" + ", ".join(f"0x{byte:02x}" for byte in digest) + "}"

    @property
    def is_plain(self) -> bool:
        """The build that users get, whose struct sizes are promised."""
        return not self.gradient and not self.options.counters

    @property
    def arena(self) -> int:
        return self.plan.arena

    @property
    def constants(self) -> list[_Port]:
        """Frozen parameters."""
        return [
            _Port(f"{self.name}_{t.name}", t.size, self.plan.quantized.formats[t.name].bits)
            for t in self.plan.training.tensors.values()
            if t.role in PARAMETER_ROLES and t.frozen
        ]

    # the body

    @property
    def tables(self) -> tuple[Table, ...]:
        return op_tables(self.plan.training, learns=not self.gradient)

    @property
    def helpers(self) -> str:
        graph = self.plan.training.graph
        learning = [] if self.gradient else [graph.schedule, graph.optimizer]
        texts = [_helpers(op) for op in (graph.loss, *learning)]
        if graph.optimizer.forms_gradient and not self.gradient:
            macros: Any = _environment().get_template("macros.j2").module
            texts.append(str(macros.fit_slots(graph.optimizer)).strip("\n"))
        return "\n\n".join(text for text in texts if text)

    @property
    def rate(self) -> str:
        """The learning rate of a step."""
        graph, rate = self.plan.training.graph, "params->rate"
        if _helpers(graph.schedule):
            rate = f"fxp_scale_rate({rate}, rate_factor(params->steps))"
        if _helpers(graph.optimizer):
            update = "params->steps" + (f" / {self.batch}" if self.batch > 1 else "")
            rate = f"fxp_scale_rate({rate}, update_factor({update}))"
        return rate

    @cached_property
    def _views(self) -> dict[str, _StepView]:
        """A view per step; steps whose C is the same text share one function."""
        labels: dict[str, str] = {}
        views = {}
        for step in self.plan.training.steps:
            anonymous = _StepView(self.plan, self.state, step, self.options)
            label = labels.setdefault(anonymous.text, _function_name(step))
            views[step.name] = _StepView(self.plan, self.state, step, self.options, label)
        return views

    @property
    def functions(self) -> list[_Function]:
        firsts = {view.label: view for view in reversed(self._views.values())}
        order = [view for view in self._views.values() if firsts[view.label] is view]
        return [_Function(view.comment, view.text) for view in order]

    def _lines(self, steps: Iterable[Step], indent: int = 4) -> list[str]:
        gap = "\n" + " " * indent
        return [self._views[step.name].call.replace("\n", gap) for step in steps]

    def _pointers(self, steps: tuple[Step, ...]) -> list[str]:
        """Named views into the arena."""
        found = (scratch for step in steps for scratch in self._views[step.name].scratches)
        bits = {scratch.block: scratch.bits for scratch in found}
        names = {name for step in steps for name in (*step.inputs, step.output)}
        bits |= {name: f.bits for name, f in self.plan.quantized.formats.items() if name in names}
        return [
            f"{C_TYPES[bits[name]]} *const {name} = "
            f"&work->arena.i{bits[name]}[{offset * 8 // bits[name]}];"
            for name, offset in self.plan.offsets.items()
            if name in bits
        ]

    @property
    def forward_lines(self) -> list[str]:
        steps = self.plan.training.inference
        return [*self._pointers(steps), "", *(self._forward_line(step) for step in steps)]

    def _forward_line(self, step: Step) -> str:
        """Nobody needs the scale of a tensor whose exponent is fixed, or that of the scores."""
        line = self._lines([step])[0]
        dynamic = self.plan.quantized.formats[step.output].is_dynamic
        dynamic = dynamic and step.output != self.scores.name
        return line if dynamic else "(void)" * ("=" in line) + re.split(r"=\s+", line)[-1]

    @property
    def training_views(self) -> list[str]:
        return self._pointers(self.plan.training.learning)

    @property
    def training_lines(self) -> list[str]:
        steps = [step for step in self.plan.training.learning if step.phase != "batch"]
        lines = self._lines(steps)
        if self.gradient:
            lines += [
                f"work->fractions[{i}] = {self._exponent(name)};"
                for i, name in enumerate(self.observed)
            ]
        return lines

    def _exponent(self, name: str) -> str:
        tensor_format = self.plan.quantized.formats[name]
        return f"{_scale_name(name)}.f" if tensor_format.is_dynamic else str(tensor_format.f)

    @property
    def observed(self) -> tuple[str, ...]:
        """Tensors that a run writes: their exponents or saturations can be read by index."""
        return observed(self.plan)

    @property
    def sums(self) -> list[str]:
        return list(self.plan.training.sums)

    @property
    def batch(self) -> int:
        return self.spec.batch

    @property
    def batch_lines(self) -> list[str]:
        lines = []
        for step in self.plan.training.phase("batch"):
            view = self._views[step.name]
            lines += self._lines([step], 8)
            if view.returns_scale:
                range_ = f"params->{step.reads['g']}_range"
                arguments = [f"&{range_}", f"{_scale_name(step.output)}.ideal"]
                lines.append(_line("fxp_adapt_values(", arguments, ");", 8))
        return lines

    @property
    def adapt_lines(self) -> list[str]:
        lines = []
        for i, name in enumerate(self.observed):
            tensor_format = self.plan.quantized.formats[name]
            range_ = f"params->{name}_range"
            if self.options.counters and tensor_format.policy != "exact":
                limit = f"{range_}.f" if tensor_format.adapts else str(tensor_format.f)
                lines.append(
                    f"work->saturations[{i}] += {_scale_name(name)}.ideal < {limit} ? 1u : 0u;"
                )
            if tensor_format.adapts:
                kind = "errors" if tensor_format.policy == "relative" else "values"
                arguments = [f"&{range_}", f"{_scale_name(name)}.ideal"]
                lines.append(_line(f"fxp_adapt_{kind}(", arguments, ");", 4))
        return lines

    @property
    def renormalise_lines(self) -> list[str]:
        lines = []
        for tensor in self.plan.training.trained:
            if tensor.role != "weight":
                continue
            name, bits = f"params->{tensor.name}", self.plan.quantized.formats[tensor.name].bits
            arguments = [name, str(tensor.size), f"&{name}_f"]
            optimizer = self.plan.training.graph.optimizer
            lines += self._decay_lines(tensor)
            if optimizer.forms_gradient or not optimizer.slots:
                lines.append(_line(f"fxp_renormalise{bits}(", arguments, ");", 8))
                continue
            lines.append(_line(f"if (fxp_renormalise{bits}(", arguments, ")) {", 8))
            for slot in optimizer.slots:
                arguments = [slot_name(name, slot), str(tensor.size)]
                lines.append(_line("    fxp_halve16(", arguments, ");", 8))
            lines.append("}")
        return lines + self._refit_lines

    def _decay_lines(self, tensor: Tensor) -> list[str]:
        """Weights lose what the last samples take off them."""
        decay = weight_decay(self.plan.training.graph, self.batch)
        if decay.m == 0:
            return []
        bits = self.plan.quantized.formats[tensor.name].bits
        share = [rate_of(tensor), str(decay.m), str(decay.s)]
        arguments = [f"params->{tensor.name}", str(tensor.size), *share, "&params->random"]
        return [_line(f"fxp_decay{bits}(", arguments, ");", 8)]

    @property
    def _refit_lines(self) -> list[str]:
        """Slots with an exponent of their own are fitted to their values."""
        optimizer, lines = self.plan.training.graph.optimizer, []
        for tensor in self.plan.training.trained if optimizer.forms_gradient else ():
            name = f"params->{tensor.name}"
            slots = [slot_name(name, slot) for slot in optimizer.slots]
            arguments = [*slots, str(tensor.size), f"&{slot_name(name)}_f"]
            lines.append(_line("fit_slots(", arguments, ");", 8))
        return lines

    # starting values

    @property
    def initial(self) -> tuple[Table, ...]:
        return initial_tables(self.plan, self.state)

    @property
    def init_lines(self) -> list[str]:
        state = self.state
        lines = [
            f"params->random = {state.random.state}u;",
            f"params->rate.m = {state.rate.m};",
            f"params->rate.s = {state.rate.s};",
        ]
        for table in self.initial:
            if not table.frozen:
                name = table.name
                lines.append(f"fxp_load(params->{name}, {name}, sizeof {name});")
        for tensor in self.plan.training.trained:
            exponents = [tensor.name] if tensor.role == "weight" else []
            if self.plan.training.graph.optimizer.forms_gradient:
                exponents.append(slot_name(tensor.name))
            lines += [f"params->{name}_f = {state.f[name]};" for name in exponents]
        for field in self.params_fields:
            if field.type == "fxp_range":
                f = state.ranges[field.name.removesuffix("_range")].f
                lines.append(f"params->{field.name}.f = {f};")
                lines.append(f"params->{field.name}.best = FXP_NO_IDEAL;")
        return lines


def rate_of(tensor: Tensor) -> str:
    """The rate of a parameter, in the function that trains."""
    factor = rate_factor(tensor)
    return "rate" if factor == 1 << 16 else f"fxp_scale_rate(rate, {factor}u)"


def observed(plan: Plan) -> tuple[str, ...]:
    """Tensors that forward, loss and backward write, in the order of the steps."""
    return tuple(
        step.output
        for step in plan.training.learning
        if step.sink is None or (step.sink.kind == "store")
    )
