"""What the generator knows of a board: core, clock, memory, firmware, read from board.toml."""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, get_type_hints

from codegen import paths
from codegen.errors import UserError

Policy = Literal["wide", "short"]  # of accumulators, see Board
POLICIES: tuple[Policy, ...] = ("wide", "short")


@dataclass(frozen=True)
class Region:
    """A piece of memory: address of its first byte, and bytes."""

    start: int
    bytes: int


@dataclass(frozen=True)
class Setting:
    """Bits of a register that are cleared and set, or waited for, before anything else runs."""

    comment: str
    address: int
    clear: int
    set: int
    await_: int = 0


@dataclass(frozen=True)
class Checkpoint:
    """Where what was learnt is kept: files of firmware/runtime, and sizes in bytes."""

    files: tuple[str, ...]
    memory: Region
    word: int
    page: int  # 0: memory that needs no erase
    code_in_ram: int = 0  # bytes, of a driver that runs there


@dataclass(frozen=True)
class Tool:
    """A command line, with {elf}, {bin}, {port} or {serial} in it, and how to install the tool.

    Where a C file of host_sim is the `source`, the command begins with what is made of it.
    """

    command: str
    install: str
    source: str = ""
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Firmware:
    """How a program for a board is built and run.

    `core` names a file of firmware/cores with the flags of the compilers, `sources` are files of
    firmware/common, `linker_script` is one of templates/firmware, `defines` go into board.h.
    """

    core: str
    sources: tuple[str, ...]
    code: Region
    data: Region
    stack_bytes: int
    serial: str  # where the serial line comes out
    defines: Mapping[str, int]
    flags: str = ""
    linker_script: str = ""
    uf2_family: int = 0  # where a boot loader takes UF2 files
    setup: tuple[Setting, ...] = ()
    checkpoint: Checkpoint | None = None
    emulator: Tool | None = None
    upload: Tool | None = None


@dataclass(frozen=True)
class Board:
    """One board; clock in Hz, memory in bytes, addresses in bits.

    `ram_bytes` is the largest contiguous region that holds data, before the stack takes its share.
    `flash_bytes` is the whole flash, before a boot loader takes its share.
    `accumulate` is "wide" where 64-bit multiply-accumulate is cheap, else "short": sums
    are exact too, but once complete they are rounded to 32 bits before anything else meets them.
    `lanes` is how many products of 16 bits one instruction forms: 2 with Arm's DSP extension, 8
    with its vectors (Helium). `registers` are those of 32 bits that all instructions reach.
    """

    name: str
    title: str
    mcu: str
    core: str
    clock_hz: int
    flash_bytes: int
    ram_bytes: int
    address_bits: Literal[16, 32]
    accumulate: Policy
    lanes: Literal[1, 2, 8]
    registers: int
    source: str
    firmware: Firmware | None = field(default=None, repr=False, compare=False)
    no_firmware: str = ""  # why there is none

    @property
    def built_core(self) -> str:
        """The core that compilers build for; a Cortex-M4F is built as a Cortex-M4."""
        return self.core if self.firmware is None else self.firmware.core


_KEYS = {field.name: field.type for field in fields(Board) if field.name != "name"}
_OPTIONAL = ("firmware", "no_firmware")
_CHOICES: dict[str, tuple[object, ...]] = {
    "address_bits": (16, 32),
    "accumulate": POLICIES,
    "lanes": (1, 2, 8),
}


def load_board(name: str) -> Board:
    """The board in folder `name`, in the units of `Board`."""
    known = _names()
    if name not in known:
        raise UserError(unknown("board", name, known))
    try:
        facts = tomllib.loads((paths.BOARDS / name / "board.toml").read_text(encoding="utf-8"))
        _check(facts)
        if "firmware" in facts:
            facts["firmware"] = _read(Firmware, facts["firmware"], "firmware")
    except ValueError as error:
        raise UserError(f"{name}/board.toml: {error}") from error
    return Board(name=name, **facts)


def all_boards() -> tuple[Board, ...]:
    """Every board, sorted by name, in the units of `Board`."""
    return tuple(load_board(name) for name in _names())


def _names() -> list[str]:
    return sorted(file.parent.name for file in paths.BOARDS.glob("*/board.toml"))


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """A line about a word that nobody knows, with the nearest one and all that are known."""
    near = get_close_matches(word, known, n=1)
    hint = f": did you mean {near[0]}?" if near else ""
    return f"unknown {kind} {word!r}{hint} ({kind}s: {', '.join(known)})"


def _check(facts: dict[str, Any]) -> None:
    for key in facts:
        if key not in _KEYS:
            raise ValueError(unknown("key", key, _KEYS))
    for key in _KEYS:
        if key in facts:
            if key != "firmware":
                _check_value(key, facts[key])
        elif key not in _OPTIONAL:
            raise ValueError(f"key {key!r} is missing")


def _check_value(key: str, value: object) -> None:
    if key in _CHOICES:
        good = any(type(value) is type(choice) and value == choice for choice in _CHOICES[key])
        wanted = " or ".join(map(repr, _CHOICES[key]))
    elif _KEYS[key] is int:
        good = type(value) is int and value > 0
        wanted = "a whole number above 0"
    else:
        good = isinstance(value, str) and value != ""
        wanted = "a text in quotes"
    if not good:
        raise ValueError(f"{key} must be {wanted}, not {value!r}")


# ---------------------------------------------------------------- the table [firmware]


def _read(kind: Any, facts: object, place: str) -> Any:
    """A dataclass from a table of the same keys."""
    if not isinstance(facts, dict):
        raise ValueError(f"{place} must be a table, not {facts!r}")
    types = get_type_hints(kind)
    for key in facts:
        if key not in types:
            raise ValueError(f"{place}: {unknown('key', key, types)}")
    values = {}
    for known in fields(kind):
        if known.name in facts:
            at = f"{place}.{known.name}"
            values[known.name] = _value(types[known.name], facts[known.name], at)
        elif known.default is MISSING:
            raise ValueError(f"key '{place}.{known.name}' is missing")
    return kind(**values)


def _value(kind: Any, value: object, place: str) -> Any:
    if kind not in _READERS:  # a table that may be missing
        return _read(kind.__args__[0], value, place)
    read, wanted = _READERS[kind]
    try:
        return read(value)
    except (TypeError, ValueError):
        raise ValueError(f"{place} must be {wanted}, not {value!r}") from None


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _region(value: object) -> Region:
    start, size = _items(value)
    return Region(_number(start), _number(size))


def _setting(value: object) -> Setting:
    comment, *numbers = _items(value)
    return Setting(_text(comment), *(_number(number) for number in numbers))


def _numbers(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise TypeError
    return {name: _number(number) for name, number in value.items()}


_READERS: dict[Any, tuple[Callable[[object], Any], str]] = {
    str: (_text, "a text in quotes"),
    int: (_number, "a whole number"),
    Region: (_region, "an address and a number of bytes, [0x20000000, 16384]"),
    Mapping[str, int]: (_numbers, "names and whole numbers"),
    tuple[str, ...]: (lambda v: tuple(map(_text, _items(v))), "texts in brackets"),
    tuple[Setting, ...]: (
        lambda v: tuple(map(_setting, _items(v))),
        'a list of ["register", address, bits to clear, bits to set, bits to wait for or none]',
    ),
}
