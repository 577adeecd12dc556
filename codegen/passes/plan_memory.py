"""QuantizedGraph -> Plan: tensors that are not alive together share bytes of one arena."""

from dataclasses import dataclass

from codegen.graph import Plan, QuantizedGraph, Step
from codegen.ops.base import LossOp

IN_ARENA = ("activation", "scores", "error", "gradient")


@dataclass(frozen=True)
class Block:
    """Bytes that are needed from step `first` to step `last`, at a multiple of `alignment`."""

    name: str
    bytes: int
    alignment: int
    first: int
    last: int

    def meets(self, other: "Block") -> bool:
        return self.first <= other.last and other.first <= self.last


def plan_memory(quantized: QuantizedGraph, keep: bool = False) -> Plan:
    """Offsets in the arena; `keep`: every tensor has bytes of its own, to be read afterwards."""
    blocks = _blocks(quantized, keep)
    offsets = min((_place(order) for order in _orders(blocks)), key=lambda o: _extent(blocks, o))
    plan = Plan(quantized, offsets, _extent(blocks, offsets), _lower_bound(blocks))
    check(plan, blocks)
    return plan


def check(plan: Plan, blocks: list[Block]) -> None:
    """No two blocks that live at the same time overlap."""
    for i, a in enumerate(blocks):
        assert plan.offsets[a.name] % a.alignment == 0, a
        for b in blocks[:i]:
            apart = (
                plan.offsets[a.name] + a.bytes <= plan.offsets[b.name]
                or plan.offsets[b.name] + b.bytes <= plan.offsets[a.name]
            )
            assert apart or not a.meets(b), (a, b)


def scratch_name(step: Step) -> str:
    """The block of a step's scratch words."""
    return f"{step.name}_scratch"


def _blocks(quantized: QuantizedGraph, keep: bool) -> list[Block]:
    training, end = quantized.training, len(quantized.training.steps)
    blocks = []
    for name, tensor in training.tensors.items():
        if tensor.role not in IN_ARENA:
            continue
        uses = [i for i, s in enumerate(training.steps) if name in (*s.inputs, s.output)]
        if any(training.steps[i].phase == "batch" for i in uses):
            continue  # what accumulates over a batch outlives the step
        # The scores stay for the caller of predict, which has run all forward steps.
        last = end if keep else uses[-1]
        width = quantized.formats[name].bits // 8
        blocks.append(Block(name, tensor.size * width, width, 0 if keep else uses[0], last))
    for i, step in enumerate(training.steps):
        if isinstance(step.op, LossOp) and step.op.uses_scratch:
            words = training.tensors[step.output].size
            blocks.append(Block(scratch_name(step), 4 * words, 4, 0 if keep else i, i))
    return blocks


def _lower_bound(blocks: list[Block]) -> int:
    """Largest sum of bytes that live at the same time, in whole words as the arena is."""
    live = [sum(b.bytes for b in blocks if b.first <= a.first <= b.last) for a in blocks]
    return _whole_words(max(live))


def _extent(blocks: list[Block], offsets: dict[str, int]) -> int:
    return _whole_words(max(offsets[block.name] + block.bytes for block in blocks))


def _whole_words(count: int) -> int:
    return -(-count // 4) * 4


def _orders(blocks: list[Block]) -> list[list[Block]]:
    """Orders in which greedy placement is tried; the best one wins."""
    return [
        sorted(blocks, key=lambda b: (-b.bytes, b.first)),
        sorted(blocks, key=lambda b: (b.first, -b.bytes)),
        sorted(blocks, key=lambda b: (-b.last, -b.bytes)),
        sorted(blocks, key=lambda b: (b.first - b.last, -b.bytes)),
        sorted(blocks, key=lambda b: (-b.bytes * (b.last - b.first + 1), b.first)),
    ]


def _place(order: list[Block]) -> dict[str, int]:
    """Each block at the lowest offset where no placed block that lives with it lies."""
    placed: list[tuple[int, Block]] = []
    for block in order:
        taken = sorted((o, o + b.bytes) for o, b in placed if b.meets(block))
        offset = 0
        for start, end in taken:
            if offset + block.bytes <= start:
                break
            offset = max(offset, -(-end // block.alignment) * block.alignment)
        placed.append((offset, block))
    return {block.name: offset for offset, block in placed}
