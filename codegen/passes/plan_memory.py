"""QuantizedGraph -> Plan: tensors that are not alive together share bytes of one arena."""

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from codegen.graph import Plan, QuantizedGraph, Step
from codegen.ops.base import LayerOp

IN_ARENA = ("activation", "scores", "error", "gradient")
_SHUFFLES = 40  # orders that are tried where the simple ones leave gaps
_CLOSE_ENOUGH = 1.01


@dataclass(frozen=True)
class Block:
    """Bytes that are needed from step `first` to step `last`, at a multiple of `alignment`.

    It may lie over a block that its first step reads last: `over` says how many bytes before it,
    at least or, where it is written from its end, at most.
    """

    name: str
    bytes: int
    alignment: int
    first: int
    last: int
    over: Mapping[str, int] = field(default_factory=dict)
    goes_back: bool = False

    def meets(self, other: "Block") -> bool:
        return self.first <= other.last and other.first <= self.last


def plan_memory(quantized: QuantizedGraph, keep: bool = False) -> Plan:
    """Offsets in the arena; `keep`: every tensor has bytes of its own, to be read afterwards."""
    blocks = _blocks(quantized, keep)
    offsets = _placed(blocks)
    lists: list[Block] = []
    if not keep:
        quantized, offsets = _with_room(quantized, blocks, offsets)
        blocks, lists = _blocks(quantized, keep), _lists(quantized)
        anew = _placed(blocks)  # as if somebody had chosen the same
        if _extent(blocks, anew) <= _extent(blocks, offsets):
            offsets = anew
    arena = _extent(blocks, offsets)
    plan = Plan(quantized, _with_lists(blocks, offsets, lists, arena), arena, _lower_bound(blocks))
    check(plan, [block for block in (*blocks, *lists) if block.name in plan.offsets])
    return plan


def check(plan: Plan, blocks: list[Block]) -> None:
    """No two blocks that live at the same time overlap, unless one is written over the other."""
    for i, a in enumerate(blocks):
        assert plan.offsets[a.name] % a.alignment == 0, a
        for b in blocks[:i]:
            assert _may_lie(a, plan.offsets[a.name], b, plan.offsets[b.name]), (a, b)


def _may_lie(a: Block, at: int, b: Block, bt: int) -> bool:
    if at + a.bytes <= bt or bt + b.bytes <= at or not a.meets(b):
        return True
    if a.name in b.over:
        a, at, b, bt = b, bt, a, at
    if b.name not in a.over:
        return False
    return at + a.over[b.name] >= bt if a.goes_back else at + a.over[b.name] <= bt


@dataclass(frozen=True)
class Scratch:
    """What a step needs while it runs: an argument of its C function, and a block of the arena."""

    argument: str
    block: str
    bits: int
    count: int

    @property
    def bytes(self) -> int:
        """It begins at a word, and ends at one."""
        return -(-self.count * self.bits // 32) * 4


def scratch_names(step: Step) -> tuple[str, ...]:
    """Of the blocks that a step may have."""
    return f"{step.name}_scratch", f"{step.name}_tile", f"{step.name}_list"


def scratches(quantized: QuantizedGraph, step: Step) -> list[Scratch]:
    """Those that a step has. Words that are not like an operand are bytes in the C."""
    count = step.op.scratch_size(step.kernel, step.shapes)
    like = step.op.scratch_like(step.kernel, step.shapes)
    names = {**({} if step.sink is None else {"w": step.sink.parameter}), **step.reads}
    bits = max((quantized.formats[names[key]].bits for key in like), default=0)
    scratch, tile, _ = scratch_names(step)
    found = [
        Scratch("scratch", scratch, bits or 8, count if bits else 4 * count),
        Scratch("tile", tile, 32, step.op.tile_size(step.kernel, step.shapes)),
    ]
    return [scratch for scratch in found if scratch.count]


def listed(quantized: QuantizedGraph, step: Step) -> Scratch | None:
    """The list of errors that a step has if there is room for it. It is for errors of 16 bits, of
    which a mask makes many 0, and for exact sums of their products.
    """
    count = step.op.list_size(step.kernel, step.shapes)
    if count == 0 or quantized.accumulators[step.name].is_short:
        return None
    error = step.reads["dy"]
    is_masked = any(_masks(other) for other in quantized.training.steps if other.output == error)
    if not is_masked or quantized.formats[error].bits != 16:
        return None
    return Scratch("list", scratch_names(step)[2], 32, count)


def _masks(step: Step) -> bool:
    return any(f.op.settles.get(f.kernel) == "masked" for f in step.finishes)


def _blocks(quantized: QuantizedGraph, keep: bool) -> list[Block]:
    training, end = quantized.training, len(quantized.training.steps)
    lives = {
        name: uses
        for name, tensor in training.tensors.items()
        if tensor.role in IN_ARENA and (uses := _uses(training.steps, name))
    }
    blocks = []
    for name, uses in lives.items():
        # The scores stay for the caller of predict, which has run all forward steps.
        first, last = (0, end) if keep else (uses[0], uses[-1])
        width = quantized.formats[name].bits // 8
        over = {} if keep else _over(quantized, training.steps[first], first, lives)
        back = bool(over) and _goes_back(training.steps[first])
        count = training.tensors[name].size * width
        blocks.append(Block(name, count, width, first, last, over, back))
    for i, step in enumerate(training.steps):
        blocks += _scratch_blocks(quantized, step, 0 if keep else i, i)
    return blocks


def _scratch_blocks(quantized: QuantizedGraph, step: Step, first: int, last: int) -> list[Block]:
    found = scratches(quantized, step)
    return [Block(scratch.block, scratch.bytes, 4, first, last) for scratch in found]


def _lists(quantized: QuantizedGraph) -> list[Block]:
    steps = enumerate(quantized.training.steps)
    found = ((i, listed(quantized, step)) for i, step in steps)
    return [Block(a.block, a.bytes, 4, i, i) for i, a in found if a is not None]


def _with_room(
    quantized: QuantizedGraph, blocks: list[Block], offsets: dict[str, int]
) -> tuple[QuantizedGraph, dict[str, int]]:
    """The same with steps that take the scratch of what is fast, where the arena is no larger."""
    arena, steps = _extent(blocks, offsets), list(quantized.training.steps)
    functions: dict[str, list[int]] = {}  # a step and its twins are one
    for i, step in enumerate(steps):
        functions.setdefault(step.twin or step.name, []).append(i)
    for function in functions.values():
        formed = {i: replace(steps[i], op=steps[i].op.with_room()) for i in function}
        names = {name for step in formed.values() for name in scratch_names(step)}
        scratch = [b for i, step in formed.items() for b in _scratch_blocks(quantized, step, i, i)]
        if scratch != [block for block in blocks if block.name in names]:
            kept = [block for block in blocks if block.name not in names]
            placed = _within(arena, scratch, kept, offsets)
            if placed is None:
                continue
            blocks, offsets = [*kept, *scratch], placed
        for i, step in formed.items():
            steps[i] = step
    training = replace(quantized.training, steps=tuple(steps))
    return replace(quantized, training=training), offsets


def _within(
    arena: int, more: list[Block], blocks: list[Block], offsets: Mapping[str, int]
) -> dict[str, int] | None:
    """Offsets of all of them if the arena has room for more: where it is free, or placed anew."""
    together = [*blocks, *more]
    if _lower_bound(together) > arena:
        return None
    placed = _place(more, blocks, offsets)
    if _extent(together, placed) > arena:
        placed = _placed(together, enough=arena, shuffles=0)
    return placed if _extent(together, placed) <= arena else None


def _with_lists(
    blocks: list[Block], offsets: dict[str, int], lists: list[Block], arena: int
) -> dict[str, int]:
    """The same, and those of lists that lie between the others."""
    found = offsets
    for block in lists:  # no two are there at the same time
        wider = _place([block], blocks, offsets)
        if wider[block.name] + block.bytes <= arena:
            found = {**found, block.name: wider[block.name]}
    return found


def _goes_back(step: Step) -> bool:
    return isinstance(step.op, LayerOp) and step.op.goes_back(step.kernel)


def _uses(steps: tuple[Step, ...], name: str) -> list[int]:
    """Steps that read or write it; none for what outlives a step, as a sum over a batch does."""
    uses = [i for i, step in enumerate(steps) if name in (*step.inputs, step.output)]
    return [] if any(steps[i].phase == "batch" for i in uses) else uses


def _over(
    quantized: QuantizedGraph, step: Step, index: int, lives: Mapping[str, list[int]]
) -> dict[str, int]:
    """Operands that the step may overwrite, and how many bytes before each it must begin."""
    if not isinstance(step.op, LayerOp) or step.sink is not None:
        return {}
    allowed = step.op.lag(step.kernel, step.shapes)
    lags = {finish.y: 0 for finish in step.finishes if finish.y is not None}
    for key, name in step.reads.items():
        # Who is read in two ways must allow both.
        known = key in allowed
        lags[name] = max(lags.get(name, 0), allowed[key]) if known else -1
    bits = quantized.formats[step.output].bits
    return {
        name: lag * bits // 8
        for name, lag in lags.items()
        if lag >= 0
        and name in lives
        and lives[name][-1] == index
        and quantized.formats[name].bits == bits
    }


def _lower_bound(blocks: list[Block]) -> int:
    """Largest sum of bytes that live at the same time, in whole words as the arena is.

    A block that is written over others counts once where it can lie over them.
    """
    known = {block.name: block for block in blocks}
    worst = 0
    for step in {block.first for block in blocks}:
        live = [b for b in blocks if b.first <= step <= b.last]
        total = sum(b.bytes for b in live)
        for block in (b for b in live if b.first == step):
            total -= min(block.bytes, sum(_saved(block, known[n]) for n in block.over))
        worst = max(worst, total)
    return _whole_words(worst)


def _saved(block: Block, below: Block) -> int:
    together = max(block.over[below.name] + below.bytes, block.bytes)
    return max(0, block.bytes + below.bytes - together)


def _extent(blocks: list[Block], offsets: Mapping[str, int]) -> int:
    return _whole_words(max(offsets[block.name] + block.bytes for block in blocks))


def _whole_words(count: int) -> int:
    return -(-count // 4) * 4


def _orders(blocks: list[Block], shuffles: int = _SHUFFLES) -> list[list[Block]]:
    """Orders in which greedy placement is tried; the best one wins."""
    orders = [
        sorted(blocks, key=lambda b: (-b.bytes, b.first)),
        sorted(blocks, key=lambda b: (b.first, -b.bytes)),
        sorted(blocks, key=lambda b: (-b.last, -b.bytes)),
        sorted(blocks, key=lambda b: (-b.first, -b.bytes)),
        sorted(blocks, key=lambda b: (b.first - b.last, -b.bytes)),
        sorted(blocks, key=lambda b: (-b.bytes * (b.last - b.first + 1), b.first)),
    ]
    shuffled = random.Random(0)
    for _ in range(shuffles):
        weight = {b.name: b.bytes * shuffled.uniform(0.5, 1.5) for b in blocks}
        orders.append(sorted(blocks, key=lambda b: -weight[b.name]))
    return orders


def _placed(blocks: list[Block], enough: int = 0, shuffles: int = _SHUFFLES) -> dict[str, int]:
    """Their offsets in the smallest arena that is found, or in the first one that is small enough:
    so many bytes, or near the bound.
    """
    enough = enough or int(_CLOSE_ENOUGH * _lower_bound(blocks))
    best: dict[str, int] = {}
    for order in _orders(blocks, shuffles):
        offsets = _place(order)
        if not best or _extent(blocks, offsets) < _extent(blocks, best):
            best = offsets
        if _extent(blocks, best) <= enough:
            break
    return best


def _place(
    order: list[Block], others: Iterable[Block] = (), offsets: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Each block at the lowest offset that those which live with it leave free, the others, which
    have offsets, where they are.
    """
    placed = [((offsets or {})[block.name], block) for block in others]
    for block in order:
        near = [(at, other) for at, other in placed if block.meets(other)]
        candidates = sorted(_candidates(block, near))
        offset = next(at for at in candidates if _is_free(block, at, near))
        placed.append((offset, block))
    return {block.name: offset for offset, block in placed}


def _candidates(block: Block, near: list[tuple[int, Block]]) -> set[int]:
    """The start, the ends of the others, and where it lies over another or under it."""
    found = {0}
    for at, other in near:
        found.add(at + other.bytes)
        if other.name in block.over:
            found.add(at - block.over[other.name])
        if block.name in other.over:
            found.add(at + other.over[block.name])
    step = block.alignment
    return {-(-at // step) * step for at in found if at >= 0}


def _is_free(block: Block, at: int, near: list[tuple[int, Block]]) -> bool:
    return all(_may_lie(block, at, other, bt) for bt, other in near)
