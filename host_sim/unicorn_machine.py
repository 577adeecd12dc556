"""Cores that the package unicorn emulates, in this process."""

import ctypes
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import unicorn
import unicorn.arm_const
import unicorn.riscv_const
from numpy.typing import NDArray
from unicorn.unicorn_py3.unicorn import uclib

from host_sim.compiler import build_library
from host_sim.machine import BLOCK, STACK_BYTES, StoppedError, block_table, counter_files

PAGE = 4096
_ARM, _RISCV = unicorn.arm_const, unicorn.riscv_const
# Architecture, mode, and the constants of the registers by their numbers; with UC_MODE_MCLASS every
# model of an Arm core would become an M33.
_SETS: dict[str, tuple[int, int, Any, dict[int, int]]] = {
    "thumb": (
        unicorn.UC_ARCH_ARM,
        unicorn.UC_MODE_THUMB,
        _ARM,
        {n: getattr(_ARM, f"UC_ARM_REG_R{n}") for n in range(16)},
    ),
    "riscv": (
        unicorn.UC_ARCH_RISCV,
        unicorn.UC_MODE_RISCV32,
        _RISCV,
        {n: getattr(_RISCV, f"UC_RISCV_REG_X{n}") for n in range(32)}
        | {32: _RISCV.UC_RISCV_REG_PC},
    ),
}
_PROGRAM_COUNTER = {"thumb": 15, "riscv": 32}


class _Counter(ctypes.Structure):
    _fields_ = (("mask", ctypes.c_uint64), ("lost", ctypes.c_uint64), ("blocks", ctypes.c_void_p))


class BlockCounter:
    """Counts in C how often each straight run of instructions is entered."""

    def __init__(self, engine: Any, start: int, size: int):
        self._table = np.zeros(block_table(size), BLOCK)
        self._counter = _Counter(len(self._table) - 1, 0, self._table.ctypes.data)
        self._library = ctypes.CDLL(str(_counting_library()))  # kept as long as the hook
        status = uclib.uc_hook_add(
            engine._uch,
            ctypes.byref(ctypes.c_size_t()),
            unicorn.UC_HOOK_BLOCK,
            ctypes.cast(self._library.count_block, ctypes.c_void_p),
            ctypes.byref(self._counter),
            ctypes.c_uint64(start),
            ctypes.c_uint64(start + size - 1),
        )
        assert status == unicorn.UC_ERR_OK

    def reset(self) -> None:
        self._table["runs"] = 0
        self._counter.lost = 0

    def blocks(self) -> NDArray[Any]:
        """Address, bytes and runs of every block that ran since the reset."""
        assert self._counter.lost == 0
        return self._table[self._table["runs"] > 0]


def _counting_library() -> Path:
    return build_library(counter_files("block_counter.c"))


class UnicornMachine:
    """A `Machine`; code cannot be written, and beyond what is reserved there is nothing."""

    STACK: ClassVar[int] = 0x10000000
    RAM: ClassVar[int] = 0x20000000
    RETURN: ClassVar[int] = 0x30000000

    def __init__(self, instruction_set: str, model: str, start: int, code: bytes):
        architecture, mode, constants, self._registers = _SETS[instruction_set]
        self._program_counter = _PROGRAM_COUNTER[instruction_set]
        self.engine: Any = unicorn.Uc(architecture, mode)
        self.engine.ctl_set_cpu_model(getattr(constants, model))
        self._map(start, code)
        self.engine.mem_map(self.RETURN, PAGE)
        allowed = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        self.engine.mem_map(self.STACK, STACK_BYTES, allowed)
        self._ram_bytes = 0
        self._counter = BlockCounter(self.engine, start, len(code))
        self._denied = 0
        self.engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._deny)

    def _map(self, start: int, code: bytes) -> None:
        self.engine.mem_map(start, _pages(len(code)))
        self.engine.mem_write(start, code)
        allowed = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
        self.engine.mem_protect(start, _pages(len(code)), allowed)

    def reserve(self, size: int) -> None:
        """See `Machine`."""
        missing = _pages(size) - self._ram_bytes
        if missing > 0:
            allowed = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
            self.engine.mem_map(self.RAM + self._ram_bytes, missing, allowed)
            self._ram_bytes += missing

    def read(self, address: int, size: int) -> bytes:
        """See `Machine`."""
        return bytes(self.engine.mem_read(address, size))

    def write(self, address: int, memory: bytes) -> None:
        """See `Machine`."""
        self.engine.mem_write(address, memory)

    def register(self, number: int) -> int:
        """See `Machine`."""
        return int(self.engine.reg_read(self._registers[number]))

    def set_register(self, number: int, value: int) -> None:
        """See `Machine`."""
        self.engine.reg_write(self._registers[number], value)

    def run(self, address: int) -> None:
        """See `Machine`."""
        try:
            self.engine.emu_start(address, self.RETURN)
        except unicorn.UcError as error:
            what = str(error).split(" (")[0].lower()
            place = f" at {self._denied:#010x}" if "memory" in what else ""
            at = self.register(self._program_counter) & ~1
            raise StoppedError(what + place, at) from None

    def _deny(self, engine: Any, access: int, address: int, size: int, value: int, _: Any) -> bool:
        self._denied = address
        return False

    def reset_counts(self) -> None:
        """See `Machine`."""
        self._counter.reset()

    def blocks(self) -> NDArray[Any]:
        """See `Machine`."""
        return self._counter.blocks()


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE
