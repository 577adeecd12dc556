"""Plan -> bytes, multiplications and formats, per tensor and in total."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codegen.board import Board
from codegen.graph import Plan, Step
from codegen.interpret import State
from codegen.layout import (
    initial_tables,
    op_tables,
    parameter_fields,
    struct_bytes,
    work_bytes,
)
from codegen.ops.base import LayerOp


@dataclass(frozen=True)
class Row:
    """One tensor: shape, bytes, format, and the bound of the accumulator it is rounded from."""

    name: str
    shape: str
    bytes: int
    format: str
    bound: str


@dataclass(frozen=True)
class Report:
    """What a network costs. Bytes, and multiplications for one training step."""

    network: str
    mode: str
    parameters: int
    work: int
    arena: int
    arena_lower_bound: int
    constants: int
    macs: Mapping[str, int]
    rows: tuple[Row, ...]

    @property
    def total(self) -> int:
        """RAM for training: both structs."""
        return self.parameters + self.work

    def missing_ram(self, board: Board) -> int:
        """Bytes of RAM that the board lacks; 0 where the network fits."""
        return max(0, self.total - board.ram_bytes)

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts rely on."""
        return {
            "network": self.network,
            "mode": self.mode,
            "ram": {
                "parameters": self.parameters,
                "work": self.work,
                "arena": self.arena,
                "arena_lower_bound": self.arena_lower_bound,
                "total": self.total,
            },
            "flash": {"constants": self.constants},
            "macs": dict(self.macs),
        }


def make_report(plan: Plan, state: State) -> Report:
    """All figures equal sizeof in the compiled C."""
    return Report(
        network=plan.training.graph.name,
        mode=plan.quantized.numbers.mode,
        parameters=struct_bytes(parameter_fields(plan)),
        work=work_bytes(plan),
        arena=plan.arena,
        arena_lower_bound=plan.arena_lower_bound,
        constants=sum(t.bytes for t in (*initial_tables(plan, state), *op_tables(plan.training))),
        macs=multiplies(plan),
        rows=_rows(plan, state),
    )


def multiplies(plan: Plan) -> dict[str, int]:
    """Multiplications of one training step. A fused update forms each gradient only once."""
    macs = {"forward": 0, "backward_data": 0, "weight_gradient": 0, "update": 0}
    kinds = {"forward": "forward", "backward": "backward_data", "gradient": "weight_gradient"}
    for step in plan.training.learning:
        if isinstance(step.op, LayerOp) and not _is_cheap(step, step.op):
            macs[kinds[step.phase]] += step.op.multiplies(step.kernel, step.shapes)
    for tensor in plan.training.trained:
        macs["update"] += tensor.size if tensor.role == "weight" else 0
    macs["total"] = sum(macs.values())
    return macs


def _is_cheap(step: Step, op: LayerOp) -> bool:
    """The norm of an outer product, which is not formed for it."""
    return step.sink is not None and step.sink.kind == "norm" and step.kernel in op.outer


def _rows(plan: Plan, state: State) -> tuple[Row, ...]:
    accumulators = {
        step.output: plan.quantized.accumulators[step.name]
        for step in reversed(plan.training.steps)  # the twins of inference come last
        if step.name in plan.quantized.accumulators
    }
    rows = []
    for name, tensor in plan.training.tensors.items():
        if tensor.role in ("factor", "seed"):  # a variable of the function that trains
            continue
        bits = plan.quantized.formats[name].bits
        sum_ = accumulators.get(name)
        bound = f"2^{sum_.sum_bits} in {sum_.type}" if sum_ is not None else ""
        shape = " x ".join(str(extent) for extent in tensor.shape)
        rows.append(
            Row(name, shape, tensor.size * bits // 8, format_text(plan, state, name), bound)
        )
    return tuple(sorted(rows, key=lambda row: (-row.bytes, row.name)))


def format_text(plan: Plan, state: State, name: str) -> str:
    """The format of a tensor in ARM's notation, with how it changes."""
    tensor_format = plan.quantized.formats[name]
    if tensor_format.policy == "parameter":
        f = state.f[name]
    elif tensor_format.policy == "adaptive":
        f = state.ranges[name].f
    else:
        f = tensor_format.f
    if tensor_format.policy in ("relative", "exact"):
        return f"{tensor_format.bits} bits, {tensor_format.policy}"
    note = " at first" if tensor_format.policy != "fixed" else ""
    return f"Q{tensor_format.bits - f}.{f}{note}"
