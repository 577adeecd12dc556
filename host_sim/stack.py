"""A linked program -> the deepest stack that a function can need, from its frames and calls.

Frames and calls are read from the instructions, so that the helpers which a compiler adds count as
well. Recursion and calls through registers have no bound: UserError.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from codegen.errors import UserError
from host_sim.elf import Elf


@dataclass
class Function:
    """What a function does to the stack itself, and whom it calls."""

    name: str
    frame: int = 0
    calls: set[int] = field(default_factory=set)
    jumps: set[int] = field(default_factory=set)  # it ends with them, after its frame is gone
    unbounded: str = ""  # the reason why it has no bound


def deepest_stack(elf: Elf, instruction_set: str, function: str) -> int:
    """Bytes below the stack pointer with which the function is entered."""
    read = {"thumb": _read_thumb, "riscv": _read_riscv}[instruction_set]
    known: dict[int, int] = {}

    def depth(address: int, callers: tuple[int, ...]) -> int:
        if address in callers:
            raise UserError(f"{elf.function_at(address)} calls itself: its stack has no bound")
        if address not in known:
            own = read(elf, address)
            if own.unbounded:
                raise UserError(f"{own.name} {own.unbounded}: its stack has no bound")
            below = [depth(each, (*callers, address)) for each in sorted(own.calls)]
            after = [depth(each, (*callers, address)) for each in sorted(own.jumps)]
            known[address] = max(own.frame + max(below, default=0), *after, 0)
        return known[address]

    return depth(elf.symbols[function] & ~1, ())


def _signed(value: int, bits: int) -> int:
    return value - (1 << bits) if value >> (bits - 1) else value


def _read_thumb(elf: Elf, start: int) -> Function:
    """See the Arm v7-M Architecture Reference Manual, chapter A7, for the encodings."""
    function = Function(elf.function_at(start))
    low, high = elf.extent(start)
    constants: dict[int, int] = {}  # by the register that they were last put into
    is_gone = False  # the frame: the instruction before loaded the registers that were saved
    early: set[int] = set()  # where it goes before it has a frame
    returns = False  # to what comes before the frame
    first = low  # instruction of the frame
    for at, word, is_long in _thumb_instructions(elf, low, high):
        if function.frame == 0:
            first = at
        function.frame += _thumb_push(word, is_long)
        way = _thumb_way(at, word, is_long)
        returns = returns or (at >= first and way is not None and low <= way < first)
        is_linked = is_long and bool(word & 0x4000)
        is_far = is_linked and way == low  # an M0 jumps far by bl
        if way is not None and (is_far or not low <= way < high):
            is_early = function.frame == 0 and not is_linked
            (early if is_early else function.jumps if is_gone else function.calls).add(way)
        is_gone = is_long and word & 0xFFFFC000 == 0xE8BD4000  # pop.w, lr among them
        if not is_long and word & 0xFF80 == 0x4780:
            function.unbounded = "calls through a register"
        if not is_long:
            constants |= _thumb_constants(elf, at, word, constants)
        if not is_long and word & 0xFF87 == 0x4485:  # add sp, register
            moved = constants.get(word >> 3 & 15)
            if moved is None:
                function.unbounded = "moves the stack pointer by what it computes"
            else:
                function.frame += max(0, -_signed(moved, 32))
    (function.calls if returns else function.jumps).update(early)
    return function


def _thumb_instructions(elf: Elf, low: int, high: int) -> Iterator[tuple[int, int, bool]]:
    at = low
    while at < high:
        if elf.is_data(at):
            at += 2
            continue
        word = elf.word(at, 2)
        if word >= 0xE800:
            yield at, word << 16 | elf.word(at + 2, 2), True
            at += 4
        else:
            yield at, word, False
            at += 2


def _thumb_constants(elf: Elf, at: int, word: int, known: dict[int, int]) -> dict[int, int]:
    """What a short instruction puts into a low register, where that is a constant."""
    if word & 0xF800 == 0x4800:  # ldr, of a constant beside the code
        return {word >> 8 & 7: elf.word((at + 4 & ~3) + 4 * (word & 0xFF), 4)}
    if word & 0xF800 == 0x2000:  # movs, #
        return {word >> 8 & 7: word & 0xFF}
    if word & 0xF800 == 0x0000 and word >> 3 & 7 in known:  # lsls, #
        return {word & 7: known[word >> 3 & 7] << (word >> 6 & 31) & 0xFFFFFFFF}
    return {}


def _thumb_push(word: int, is_long: bool) -> int:
    """Bytes by which an instruction lowers the stack pointer."""
    if not is_long:
        if word & 0xFE00 == 0xB400:  # push
            return 4 * (word & 0x1FF).bit_count()
        return 4 * (word & 0x7F) if word & 0xFF80 == 0xB080 else 0  # sub sp, #
    if word >> 16 == 0xE92D:  # push.w
        return 4 * (word & 0xFFFF).bit_count()
    if word >> 16 == 0xF84D and word & 0xF00 == 0xD00:  # push.w of one register
        return 4
    if word >> 16 == 0xE96D:  # strd, sp!
        return 4 * (word & 0xFF)
    if word & 0xFFBF0F00 == 0xED2D0B00:  # vpush
        return 4 * (word & 0xFF)
    constant = (word >> 26 & 1) << 11 | (word >> 12 & 7) << 8 | word & 0xFF
    if word & 0xFBFF8F00 == 0xF2AD0D00:  # subw sp, sp, #
        return constant
    if word & 0xFBEF8F00 == 0xF1AD0D00:  # sub.w sp, sp, #
        return _thumb_constant(constant)
    return 0


def _thumb_constant(code: int) -> int:
    """A modified immediate: a byte, repeated or rotated."""
    byte = code & 0xFF
    if code >> 10 == 0:
        return byte * (0x1, 0x10001, 0x1000100, 0x1010101)[code >> 8 & 3]
    return (0x80 | byte & 0x7F) << (32 - (code >> 7))


def _thumb_way(at: int, word: int, is_long: bool) -> int | None:
    """Where a branch goes, whatever its condition."""
    if not is_long and word & 0xF000 == 0xD000 and word >> 8 & 15 < 14:
        return at + 4 + 2 * _signed(word & 0xFF, 8)
    if is_long and word & 0xF800D000 == 0xF0008000 and word >> 22 & 15 < 14:
        sign, middle = word >> 26 & 1, word >> 11 & 1
        places = sign << 19 | middle << 18 | (word >> 13 & 1) << 17 | (word >> 16 & 63) << 11
        return at + 4 + 2 * _signed(places | word & 0x7FF, 20)
    return _thumb_target(at, word, is_long)


def _thumb_target(at: int, word: int, is_long: bool) -> int | None:
    """Where a call or an unconditional branch goes."""
    if not is_long:
        return at + 4 + 2 * _signed(word & 0x7FF, 11) if word & 0xF800 == 0xE000 else None
    if word & 0xF8009000 != 0xF0009000:  # bl, b.w
        return None
    sign = word >> 26 & 1
    first, second = (1 - (word >> bit & 1 ^ sign) for bit in (13, 11))
    offset = sign << 24 | first << 23 | second << 22 | (word >> 16 & 0x3FF) << 12
    return at + 4 + _signed(offset | (word & 0x7FF) << 1, 25)


def _read_riscv(elf: Elf, start: int) -> Function:
    """See The RISC-V Instruction Set Manual, volume I, for the encodings."""
    function = Function(elf.function_at(start))
    low, high = elf.extent(start)
    at, constants = low, dict[int, int]()  # by the register that they were last put into
    while at < high:
        size = 4 if elf.word(at, 2) & 3 == 3 else 2
        word = elf.word(at, size)
        constants |= _riscv_constants(at, word, size, constants)
        function.frame += _riscv_push(word, size)
        if size == 2 and word & 0xFF83 == 0x9102:  # c.add sp, register
            if word >> 2 & 31 not in constants:
                function.unbounded = "moves the stack pointer by what it computes"
            function.frame += max(0, -constants.get(word >> 2 & 31, 0))
        target = _riscv_target(at, word, size)
        if size == 4 and word & 0x7F == 0x67 and word != 0x8067:  # jalr, but for ret
            if word >> 15 & 31 not in constants:
                function.unbounded = "calls through a register"
            target = constants.get(word >> 15 & 31, low) + _signed(word >> 20, 12)
        if size == 2 and word & 0xF07F == 0x9002 and word & 0xF80:  # c.jalr
            function.unbounded = "calls through a register"
        is_call = word & 0xFFF in (0xEF, 0xE7) if size == 4 else word >> 15 == 0
        if target is not None and (is_call or not low <= target < high):
            function.calls.add(target)
        at += size
    return function


def _riscv_constants(at: int, word: int, size: int, known: dict[int, int]) -> dict[int, int]:
    """What an instruction puts into a register, where that is a constant or an address."""
    register = word >> 7 & 31
    if size == 2:
        value = _signed(word >> 7 & 32 | word >> 2 & 31, 6) << 12
        return {register: value} if word & 0xE003 == 0x6001 and register != 2 else {}  # c.lui
    if word & 0x7F in (0x17, 0x37):  # auipc, lui
        return {register: _signed(word & 0xFFFFF000, 32) + (at if word & 0x7F == 0x17 else 0)}
    if word & 0x707F == 0x13 and register == word >> 15 & 31 and register in known:  # addi
        return {register: known[register] + _signed(word >> 20, 12)}
    return {}


def _riscv_push(word: int, size: int) -> int:
    moved = 0
    if size == 4 and word & 0xFFFFF == 0x10113:  # addi sp, sp, #
        moved = _signed(word >> 20, 12)
    elif size == 2 and word & 0xEF83 == 0x0101:  # c.addi sp, #
        moved = _signed(word >> 7 & 32 | word >> 2 & 31, 6)
    elif size == 2 and word & 0xEF83 == 0x6101:  # c.addi16sp
        places = ((12, 9), (6, 4), (5, 6), (4, 8), (3, 7), (2, 5))  # of a bit in the offset
        moved = _signed(sum((word >> bit & 1) << place for bit, place in places), 10)
    return max(0, -moved)


def _riscv_target(at: int, word: int, size: int) -> int | None:
    """Where a jump with a constant offset goes; branches stay within a function."""
    if size == 4 and word & 0x7F == 0x6F:  # jal
        offset = word >> 31 << 20 | (word >> 12 & 0xFF) << 12
        return at + _signed(offset | (word >> 20 & 1) << 11 | (word >> 21 & 0x3FF) << 1, 21)
    if size == 2 and word & 0x6003 == 0x2001:  # c.jal, c.j
        places = (11, 4, 9, 8, 10, 6, 7, 3, 2, 1, 5)  # in the offset, of bits 12 to 2
        offset = sum((word >> 12 - i & 1) << place for i, place in enumerate(places))
        return at + _signed(offset, 12)
    return None
