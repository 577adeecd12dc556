"""Cores that only QEMU emulates: a process of its own, spoken to in the remote protocol of gdb."""

import re
import shutil
import subprocess
import tempfile
import weakref
from dataclasses import dataclass
from functools import cache
from io import BufferedReader
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from codegen.errors import UserError
from host_sim.compiler import build_library
from host_sim.gdb_remote import CHUNK, Remote
from host_sim.machine import BLOCK, StoppedError, block_table, counter_files

# Vectors, and the little code that QEMU runs beside the program's.
_VECTORS = 0x00000000
_ENABLE = 0x01180000  # switches floating-point and vector registers on (CPACR), then returns
_FAULT = 0x011C0000  # every exception comes here
_ENABLE_CODE = "4ef68850cef20000016841f470010160bff34f8fbff36f8f7047"
_FAULT_CODE = "4ef62850cef200000068fee7"  # r0 = CFSR, then a loop
_XPSR, _STACK_POINTER, _RETURN_ADDRESS, _PROGRAM_COUNTER = 25, 13, 14, 15
_THUMB = 1 << 24  # of xPSR
_FAULTS = {  # bits of the Configurable Fault Status Register
    16: "undefined instruction",
    17: "instruction that is no Thumb",
    24: "unaligned access",
    25: "division by zero",
    9: "invalid memory access",
    8: "invalid memory fetch",
}


@dataclass(frozen=True)
class Qemu:
    """An emulator that may be missing: its command, the board that has the core, the way to it."""

    command: str
    board: str
    install: str

    def missing(self, core: str) -> str | None:
        """One line where it is not installed."""
        if shutil.which(self.command) is None:
            return f"{core}: there is no {self.command} on the PATH; {self.install}"
        return None


class QemuMachine:
    """A `Machine` of an Arm core; all memory can be written."""

    STACK: ClassVar[int] = 0x20000000
    RAM: ClassVar[int] = 0x60000000
    RETURN: ClassVar[int] = 0x01140000
    _RAM_BYTES: ClassVar[int] = 1 << 28

    def __init__(self, qemu: Qemu, start: int, code: bytes):
        folder = tempfile.mkdtemp(prefix="mcugrad-qemu-")
        table = Path(folder) / "blocks"
        self._table: Any = np.memmap(table, BLOCK, "w+", shape=block_table(len(code)))
        plugin = f"{_counting_library(qemu.command)},table={table}"
        words = [qemu.command, "-M", qemu.board, "-S", "-gdb", "stdio", "-display", "none"]
        words += ["-monitor", "none", "-serial", "none"]
        words += ["-plugin", f"{plugin},start={start:#x},end={start + len(code):#x}"]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        weakref.finalize(self, _end, self._process, folder)
        assert self._process.stdin is not None
        assert isinstance(self._process.stdout, BufferedReader)
        self._remote = Remote(self._process.stdin, self._process.stdout)
        self._prepare(start, code)

    def _prepare(self, start: int, code: bytes) -> None:
        """The program, and whatever a start-up would have done."""
        self._ask("qXfer:features:read:target.xml:0,ff")  # else there are no registers by number
        self.write(start, code)
        self.write(_VECTORS, np.full(16, _FAULT | 1, "<u4").tobytes())
        self.write(_ENABLE, bytes.fromhex(_ENABLE_CODE))
        self.write(_FAULT, bytes.fromhex(_FAULT_CODE))
        for address in (self.RETURN, _FAULT + len(_FAULT_CODE) // 2 - 2):
            self._ask(f"Z0,{address:x},2")
        self.set_register(_STACK_POINTER, self.STACK + 0x8000)
        self.set_register(_XPSR, _THUMB)
        self.set_register(_RETURN_ADDRESS, self.RETURN | 1)
        self.run(_ENABLE)

    def reserve(self, size: int) -> None:
        """See `Machine`."""
        assert size <= self._RAM_BYTES

    def read(self, address: int, size: int) -> bytes:
        """See `Machine`."""
        try:
            return self._remote.read(address, size)
        except EOFError:
            raise self._gone() from None

    def write(self, address: int, memory: bytes) -> None:
        """See `Machine`."""
        for first in range(0, len(memory), CHUNK):
            part = memory[first : first + CHUNK]
            self._ask(f"M{address + first:x},{len(part):x}:{part.hex()}")

    def register(self, number: int) -> int:
        """See `Machine`."""
        return int.from_bytes(bytes.fromhex(self._ask(f"p{number:x}")), "little")

    def set_register(self, number: int, value: int) -> None:
        """See `Machine`."""
        self._ask(f"P{number:x}={(value & 0xFFFFFFFF).to_bytes(4, 'little').hex()}")

    def run(self, address: int) -> None:
        """See `Machine`."""
        self.set_register(_PROGRAM_COUNTER, address & ~1)
        self._ask("c")
        if self.register(_PROGRAM_COUNTER) != self.RETURN:
            raise StoppedError(*self._reason())

    def _reason(self) -> tuple[str, int]:
        """What the core could not do, and where; the frame of the exception is on the stack."""
        status, frame = self.register(0), self.read(self.register(_STACK_POINTER), 32)
        faults = [what for bit, what in _FAULTS.items() if status >> bit & 1]
        return (faults or ["fault"])[0], int.from_bytes(frame[24:28], "little")

    def reset_counts(self) -> None:
        """See `Machine`."""
        self._table["runs"] = 0

    def blocks(self) -> NDArray[Any]:
        """See `Machine`."""
        return np.array(self._table[self._table["runs"] > 0])

    def _ask(self, packet: str) -> str:
        try:
            return self._remote.ask(packet)
        except EOFError:
            raise self._gone() from None

    def _gone(self) -> StoppedError:
        return StoppedError("the emulator has stopped", self.RETURN)


def _end(process: "subprocess.Popen[bytes]", folder: str) -> None:
    process.kill()
    process.communicate()
    shutil.rmtree(folder, ignore_errors=True)


@cache
def _counting_library(command: str) -> Path:
    version = f"#define QEMU_PLUGIN_VERSION {_plugin_version(command)}\n"
    return build_library({**counter_files("qemu_counter.c"), "qemu_version.h": version})


def _plugin_version(command: str) -> int:
    """QEMU refuses plugins whose interface is older than 2 since its release 9."""
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    release = re.search(r"version (\d+)", done.stdout)
    if release is None:
        raise UserError(f"{command} --version does not say which it is; install QEMU anew")
    return 1 if int(release[1]) < 9 else 2
