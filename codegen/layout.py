"""Plan -> the fields of the C structs: one list from which C, report and simulator are made."""

import hashlib
import struct
from dataclasses import dataclass, replace

import numpy as np

from codegen.fixedpoint import Range, Rate, integers
from codegen.graph import PARAMETER_ROLES, Plan, Tensor, TrainingGraph
from codegen.interpret import State, slot_name
from codegen.ops.base import LayerOp, LossOp
from codegen.spec import Spec

C_TYPES = {8: "int8_t", 16: "int16_t", 32: "int32_t"}


@dataclass(frozen=True)
class Field:
    """A member of a struct: `count` values of `bytes` bytes each; count 0 is a single value."""

    name: str
    type: str
    bytes: int
    alignment: int
    count: int = 0

    @property
    def total(self) -> int:
        return self.bytes * max(self.count, 1)

    @property
    def declaration(self) -> str:
        return f"{self.type} {self.name}" + (f"[{self.count}]" if self.count else "")


def parameter_fields(plan: Plan) -> tuple[Field, ...]:
    """<net>_params: all that training changes, and all that is saved."""
    quantized = plan.quantized
    fields = [
        Field("random", "uint32_t", 4, 4),
        Field("steps", "uint32_t", 4, 4),
        Field("rate", "fxp_rate", 2, 1),
        Field("batch_count", "uint16_t", 2, 2),
    ]
    for tensor in plan.training.trained:
        bits = quantized.formats[tensor.name].bits
        fields.append(_array(tensor, bits))
        if tensor.role == "weight":
            fields.append(Field(f"{tensor.name}_f", "int8_t", 1, 1))
        optimizer = plan.training.graph.optimizer
        for slot in optimizer.slots:
            array = _array(tensor, optimizer.slot_bits(tensor.role))
            fields.append(replace(array, name=slot_name(tensor.name, slot)))
        if optimizer.forms_gradient:
            fields.append(Field(f"{slot_name(tensor.name)}_f", "int8_t", 1, 1))
    fields += [
        Field(f"{name}_range", "fxp_range", 3, 1)
        for name, tensor_format in quantized.formats.items()
        if tensor_format.adapts
    ]
    return _arranged(fields)


def work_fields(plan: Plan) -> tuple[Field, ...]:
    """<net>_work without the arena: gradients that are summed over a batch."""
    tensors = [plan.training.tensors[name] for name in plan.training.sums]
    return _arranged([_array(t, plan.quantized.formats[t.name].bits) for t in tensors])


def struct_bytes(fields: tuple[Field, ...]) -> int:
    return sum(field.total for field in fields)


def training_bytes(plan: Plan) -> int:
    """Bytes of RAM for training: both structs."""
    return struct_bytes(parameter_fields(plan)) + work_bytes(plan)


def work_bytes(plan: Plan) -> int:
    return plan.arena + struct_bytes(work_fields(plan))


def _array(tensor: Tensor, bits: int) -> Field:
    return Field(tensor.name, C_TYPES[bits], bits // 8, bits // 8, tensor.size)


def _arranged(fields: list[Field]) -> tuple[Field, ...]:
    """Widest first, so that no compiler pads; the end is padded to whole 32-bit words by name.

    Among them what fills whole words is first, so that it begins with one: kernels load words.
    """
    ordered = sorted(fields, key=lambda field: (-field.alignment, field.total % 4))
    rest = -sum(field.total for field in ordered) % 4
    if rest:
        ordered.append(Field("pad", "uint8_t", 1, 1, rest))
    return tuple(ordered)


def pack(plan: Plan, state: State) -> bytes:
    """The bytes that <net>_params has in the memory of a little-endian device."""
    return b"".join(_pack_field(field, state) for field in parameter_fields(plan))


def _pack_field(field: Field, state: State) -> bytes:
    name = field.name
    if field.type == "fxp_range":
        r = state.ranges[name.removesuffix("_range")]
        return struct.pack("<bbB", r.f, r.best, r.count)
    if field.type == "fxp_rate":
        return struct.pack("<Bb", state.rate.m, state.rate.s)
    if field.count:
        return _array_of(field, state).astype(_dtype(field)).tobytes()
    scalars = {"random": state.random.state, "steps": state.steps, "batch_count": state.batch_count}
    value = scalars[name] if name in scalars else state.f[name.removesuffix("_f")]
    return np.asarray(value).astype(_dtype(field)).tobytes()


def _array_of(field: Field, state: State) -> np.ndarray:
    if field.name == "pad":
        return np.zeros(field.count)
    if field.name in state.values:
        return state.values[field.name]
    return state.slots[field.name]


def unpack(plan: Plan, memory: bytes, state: State) -> None:
    """The inverse of `pack`: reads a device's parameters into the state."""
    offset = 0
    for field in parameter_fields(plan):
        _unpack_field(field, memory[offset : offset + field.total], state)
        offset += field.total


def _unpack_field(field: Field, memory: bytes, state: State) -> None:
    name = field.name
    if field.type == "fxp_range":
        state.ranges[name.removesuffix("_range")] = Range(*struct.unpack("<bbB", memory))
    elif field.type == "fxp_rate":
        state.rate = Rate(*struct.unpack("<Bb", memory))
    elif field.count and name != "pad":
        values = integers(np.frombuffer(memory, _dtype(field)))
        target = state.values if name in state.values else state.slots
        target[name] = values.reshape(target[name].shape)
    elif not field.count:
        value = int(np.frombuffer(memory, _dtype(field))[0])
        if name == "random":
            state.random.state = value
        elif name in ("steps", "batch_count"):
            setattr(state, name, value)
        else:
            state.f[name.removesuffix("_f")] = value


def _dtype(field: Field) -> np.dtype:
    return np.dtype(field.type.removesuffix("_t")).newbyteorder("<")


@dataclass(frozen=True)
class Table:
    """Constants in flash."""

    name: str
    type: str
    values: tuple[int, ...]
    bytes: int
    frozen: bool = False


def initial_tables(plan: Plan, state: State) -> tuple[Table, ...]:
    """Starting values and frozen parameters; what starts at 0 needs no table."""
    tables = []
    for tensor in plan.training.tensors.values():
        if tensor.role not in PARAMETER_ROLES:
            continue
        values = tuple(int(v) for v in state.values[tensor.name].flat)
        if tensor.frozen or any(values):
            bits = plan.quantized.formats[tensor.name].bits
            size = len(values) * bits // 8
            name = f"{plan.training.graph.name}_{tensor.name}" if tensor.frozen else tensor.name
            tables.append(Table(name, C_TYPES[bits], values, size, tensor.frozen))
    return tuple(tables)


def network_hash(spec: Spec, plan: Plan, state: State) -> bytes:
    """8 bytes that differ where saved parameters would not fit, or would mean something else.

    They cover the description (not the file's name or comments), the layout of <net>_params, the
    frozen parameters, and how sums are accumulated, which depends on the board.
    """
    frozen = [table for table in initial_tables(plan, state) if table.frozen]
    described = replace(spec, source="", digest="")
    sums = sorted(plan.quantized.accumulators.items())
    covered = (described, parameter_fields(plan), frozen, sums)
    return hashlib.sha256(repr(covered).encode()).digest()[:8]


def op_tables(training: TrainingGraph, learns: bool = True) -> tuple[Table, ...]:
    """Tables of the ops, each once; where nothing `learns`, those of the schedule are not there."""
    tables: dict[str, tuple[int, ...]] = {}
    for step in training.steps:
        for finish in step.finishes:
            tables |= finish.op.tables(finish.kernel)
        if isinstance(step.op, LossOp):
            tables |= step.op.tables()
        elif isinstance(step.op, LayerOp):
            tables |= step.op.tables(step.kernel)
    if learns:
        tables |= training.graph.schedule.tables()
    return tuple(_unsigned(name, values) for name, values in tables.items())


def _unsigned(name: str, values: tuple[int, ...]) -> Table:
    width = 2 if max(values) < 2**16 else 4
    return Table(name, f"uint{8 * width}_t", values, width * len(values))
