"""What the generator knows of a board: its core, clock and memory, read from board.toml."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import Any, Literal

from codegen import paths
from codegen.errors import UserError


@dataclass(frozen=True)
class Board:
    """One board; clock in Hz, memory in bytes, addresses in bits.

    `ram_bytes` is the largest contiguous region that holds data, before the stack takes its share.
    `flash_bytes` is the whole flash, before a boot loader takes its share.
    `accumulate` is "wide" where 64-bit multiply-accumulate is cheap, else "shifted": 32-bit
    accumulators of products that are shifted right first.
    """

    name: str
    title: str
    mcu: str
    core: str
    clock_hz: int
    flash_bytes: int
    ram_bytes: int
    address_bits: Literal[16, 32]
    accumulate: Literal["wide", "shifted"]
    source: str


_KEYS = {field.name: field.type for field in fields(Board) if field.name != "name"}
_CHOICES: dict[str, tuple[object, ...]] = {
    "address_bits": (16, 32),
    "accumulate": ("wide", "shifted"),
}


def load_board(name: str) -> Board:
    """The board in folder `name`, in the units of `Board`."""
    known = _names()
    if name not in known:
        raise UserError(unknown("board", name, known))
    try:
        facts = tomllib.loads((paths.BOARDS / name / "board.toml").read_text(encoding="utf-8"))
        _check(facts)
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
        if key not in facts:
            raise ValueError(f"key {key!r} is missing")
        _check_value(key, facts[key])


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
