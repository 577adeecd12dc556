"""What an emulated core is to the code that calls its functions: memory, registers, counts."""

from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

BLOCK = np.dtype([("address", "u8"), ("runs", "u8"), ("bytes", "u4"), ("used", "u4")])


class StoppedError(Exception):
    """The core could not go on: what it could not do, and the address of that instruction."""

    def __init__(self, what: str, at: int):
        super().__init__(what)
        self.at = at


class Machine(Protocol):
    """A core whose memory holds the code of one program.

    Registers have the numbers that gdb gives them. A call returns to `RETURN`, where it ends; the
    first `STACK_BYTES` from `STACK` are the stack's, and arrays lie from `RAM` upwards.
    """

    STACK: ClassVar[int]
    RAM: ClassVar[int]
    RETURN: ClassVar[int]

    def reserve(self, size: int) -> None:
        """There are `size` bytes from RAM upwards."""

    def read(self, address: int, size: int) -> bytes: ...

    def write(self, address: int, memory: bytes) -> None: ...

    def register(self, number: int) -> int: ...

    def set_register(self, number: int, value: int) -> None: ...

    def run(self, address: int) -> None:
        """From an address of code until the call returns; StoppedError where it does not."""

    def reset_counts(self) -> None: ...

    def blocks(self) -> NDArray[Any]:
        """`BLOCK`s: the straight runs of instructions that ran since the counts were reset."""


STACK_BYTES = 1 << 16


def counter_files(name: str) -> dict[str, str]:
    """A counter of this folder, in C, and the table that all counters have."""
    folder = Path(__file__).parent
    return {file: (folder / file).read_text(encoding="utf-8") for file in (name, "block_table.h")}


def block_table(code_bytes: int) -> int:
    """Entries of a table that has room for the blocks of a program, a power of two."""
    return 1 << (2 * code_bytes).bit_length()
