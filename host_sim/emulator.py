"""The same C files, built for a microcontroller's core and run on an emulated one."""

import ctypes
import importlib.util
import re
import shutil
import sys
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen import paths
from codegen.board import unknown
from codegen.errors import UserError
from codegen.firmware import COMMANDS, Toolchain
from codegen.spec import Spec
from host_sim.compiler import STRICT, Argument, Compiler, build, build_library
from host_sim.device import Device

MISSING = "emulated cores need {}; pip install 'mcugrad[boards]'"
try:
    import unicorn
    import unicorn.arm_const
    import unicorn.riscv_const
    from unicorn.unicorn_py3.unicorn import uclib

    from host_sim.elf import Elf, section_bytes
    from host_sim.stack import deepest_stack
except ImportError as error:
    package = {"elftools": "pyelftools"}.get(str(error.name).split(".")[0], error.name)
    raise UserError(MISSING.format(package)) from None

STACK, STACK_BYTES = 0x10000000, 1 << 16
RAM = 0x20000000
RETURN = 0x30000000  # where a call returns to; the emulator stops there
PAGE = 4096
PAINT = 0xA5


class FaultError(Exception):
    """The emulated core stopped: what it could not do, in which function and line."""


# ---------------------------------------------------------------- cores and their compilers


@dataclass(frozen=True)
class InstructionSet:
    """What a call needs to know of a family of cores."""

    arch: int
    mode: int
    registers: int  # the first of those that carry arguments and the result
    register_arguments: int
    stack_pointer: int
    return_address: int
    program_counter: int
    long: int  # bits of the first halfword, from `long` upwards an instruction has 4 bytes
    long_mask: int
    state: int  # bit 0 of an address of code


_ARM, _RISCV = unicorn.arm_const, unicorn.riscv_const
INSTRUCTION_SETS = {
    "thumb": InstructionSet(
        arch=unicorn.UC_ARCH_ARM,
        mode=unicorn.UC_MODE_THUMB,  # with UC_MODE_MCLASS every model would become an M33
        registers=_ARM.UC_ARM_REG_R0,
        register_arguments=4,
        stack_pointer=_ARM.UC_ARM_REG_SP,
        return_address=_ARM.UC_ARM_REG_LR,
        program_counter=_ARM.UC_ARM_REG_PC,
        long=0xE800,
        long_mask=0xF800,
        state=1,
    ),
    "riscv": InstructionSet(
        arch=unicorn.UC_ARCH_RISCV,
        mode=unicorn.UC_MODE_RISCV32,
        registers=_RISCV.UC_RISCV_REG_A0,
        register_arguments=8,
        stack_pointer=_RISCV.UC_RISCV_REG_SP,
        return_address=_RISCV.UC_RISCV_REG_RA,
        program_counter=_RISCV.UC_RISCV_REG_PC,
        long=3,
        long_mask=3,
        state=0,
    ),
}
_FLAGS = ("-g", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-I", ".")
_CONSTANTS = (".rodata", ".srodata")


def core_names() -> tuple[str, ...]:
    """Every core that can be emulated, those with small numbers first."""
    files = paths.CORES.glob("*.toml")
    names = [file.stem for file in files if "emulator" in tomllib.loads(file.read_text("utf-8"))]
    return tuple(sorted(names, key=lambda name: re.sub(r"\d+", lambda n: f"{n[0]:>9}", name)))


def find_core(name: str, toolchain: Toolchain = "zig", level: str = "-Os") -> "Core":
    """A core by name, its C compiled by `toolchain` at an optimisation level."""
    if name not in core_names():
        raise UserError(unknown("core", name, core_names()))
    facts = tomllib.loads((paths.CORES / f"{name}.toml").read_text(encoding="utf-8"))
    flags = ("-std=c99", level, *_FLAGS, *facts["flags"][toolchain])
    command = _command(toolchain, facts["instruction_set"])
    return Core(
        name, facts["title"], facts["instruction_set"], facts["emulator"], Compiler(command, flags)
    )


def _command(toolchain: Toolchain, instruction_set: str) -> tuple[str, ...]:
    if toolchain == "zig":
        if importlib.util.find_spec("ziglang") is None:
            raise UserError(MISSING.format("ziglang"))
        return (sys.executable, "-m", "ziglang", "cc")
    gcc = COMMANDS[instruction_set]
    if shutil.which(gcc) is None:
        raise UserError(f"there is no {gcc} on the PATH; install it or take --toolchain zig")
    return (gcc,)


@dataclass(frozen=True)
class Core:
    """An emulated core and the compiler for it."""

    name: str
    title: str
    instruction_set: str
    emulator: str  # the name of its model in unicorn
    compiler: Compiler

    def load(self, files: Mapping[str, str]) -> "EmulatedProgram":
        """The files as a program of this core."""
        return EmulatedProgram(self, Elf(self._link(files), frozenset(_sources(files))))

    def code_bytes(self, files: Mapping[str, str], network: str) -> int:
        """Code and constants of a network, without its starting and frozen weights."""
        learning = self._object(files, f"{network}.c")
        starting = self._object(files, f"{network}_init.c")
        return section_bytes(learning, ".text", *_CONSTANTS) + section_bytes(starting, ".text")

    def _object(self, files: Mapping[str, str], source: str) -> Path:
        """One of the C files, compiled."""
        header = (paths.CORES / "include" / "string.h").read_text(encoding="utf-8")
        arguments = (*STRICT, "-c", source)
        return build({**files, "string.h": header}, self.compiler, arguments, ".unit.o")

    def _link(self, files: Mapping[str, str]) -> Path:
        objects = [str(self._object(files, source)) for source in _sources(files)]
        script = (paths.CORES / "emulated.ld").read_text(encoding="utf-8")
        options = ["-Temulated.ld", "-Wl,--gc-sections", "-Wl,-z,max-page-size=16"]
        if len(self.compiler.command) == 1:  # gcc would add the start of a whole program
            options.append("-nostartfiles")
        arguments = (*options, "-Wl,--entry=0", *objects)
        return build({"emulated.ld": script}, self.compiler, arguments, ".elf")


def _sources(files: Mapping[str, str]) -> list[str]:
    return sorted(file for file in files if file.endswith(".c"))


# ---------------------------------------------------------------- counting


_BLOCK = np.dtype([("address", "u8"), ("runs", "u8"), ("bytes", "u4"), ("used", "u4")])


class _Counter(ctypes.Structure):
    _fields_ = (("mask", ctypes.c_uint64), ("lost", ctypes.c_uint64), ("blocks", ctypes.c_void_p))


class BlockCounter:
    """Counts in C how often each straight run of instructions is entered."""

    def __init__(self, engine: Any, start: int, size: int):
        self._table = np.zeros(1 << (2 * size).bit_length(), _BLOCK)
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
    source = Path(__file__).with_name("block_counter.c")
    return build_library({source.name: source.read_text(encoding="utf-8")})


# ---------------------------------------------------------------- running


class EmulatedProgram:
    """A program in the memory of an emulated core; its functions are called one by one."""

    def __init__(self, core: Core, elf: "Elf"):
        self._core, self._elf = core, elf
        self._set = INSTRUCTION_SETS[core.instruction_set]
        constants = _ARM if core.instruction_set == "thumb" else _RISCV
        self._engine: Any = unicorn.Uc(self._set.arch, self._set.mode)
        self._engine.ctl_set_cpu_model(getattr(constants, core.emulator))
        self._map(elf.start, elf.code)
        self._engine.mem_map(RETURN, PAGE)
        self._engine.mem_map(STACK, STACK_BYTES, unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE)
        self._ram_bytes = 0
        self._counter = BlockCounter(self._engine, elf.start, len(elf.code))
        self._denied = 0
        self._engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, self._deny)
        self._instructions: dict[tuple[int, int], Counter[str]] = {}
        self.reset()

    def _map(self, start: int, code: bytes) -> None:
        self._engine.mem_map(start, _pages(len(code)))
        self._engine.mem_write(start, code)
        allowed = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC
        self._engine.mem_protect(start, _pages(len(code)), allowed)

    def call(self, function: str, *arguments: Argument, bits: int = 32) -> int:
        """See `Program`; FaultError where the core stops."""
        places = self._place(arguments)
        words = [a if p is None else p for a, p in zip(arguments, places, strict=True)]
        self._enter([int(word) & 0xFFFFFFFF for word in words])
        try:
            self._engine.emu_start(self._elf.symbols[function], RETURN)
        except unicorn.UcError as error:
            raise FaultError(self._fault(str(error))) from None
        for argument, place in zip(arguments, places, strict=True):
            if isinstance(argument, np.ndarray) and argument.size:
                memory = self._engine.mem_read(place, argument.nbytes)
                argument[...] = np.frombuffer(memory, argument.dtype).reshape(argument.shape)
        first, second = (self._engine.reg_read(self._set.registers + i) for i in (0, 1))
        result = first | second << 32 if bits == 64 else first
        return int(result - (1 << bits) if result >> (bits - 1) else result)

    def _place(self, arguments: tuple[Argument, ...]) -> list[int | None]:
        """Writes the arrays into RAM, one after the other; where each lies."""
        places, end = list[int | None](), 0
        for argument in arguments:
            is_array = isinstance(argument, np.ndarray)
            places.append(RAM + end if is_array else None)
            end += -(-argument.nbytes // 8) * 8 if isinstance(argument, np.ndarray) else 0
        self._grow(end)
        for argument, place in zip(arguments, places, strict=True):
            if isinstance(argument, np.ndarray):
                self._engine.mem_write(place, argument.tobytes())
        return places

    def _grow(self, size: int) -> None:
        missing = _pages(size) - self._ram_bytes
        if missing > 0:
            allowed = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
            self._engine.mem_map(RAM + self._ram_bytes, missing, allowed)
            self._ram_bytes += missing

    def _enter(self, words: list[int]) -> None:
        """Arguments where the calling convention has them, stack and return address."""
        own = self._set.register_arguments
        for i, word in enumerate(words[:own]):
            self._engine.reg_write(self._set.registers + i, word)
        rest = np.array(words[own:], "<u4").tobytes()
        top = STACK + STACK_BYTES - -(-len(rest) // 16) * 16
        self._engine.mem_write(top, rest)
        self._engine.reg_write(self._set.stack_pointer, top)
        self._engine.reg_write(self._set.return_address, RETURN | self._set.state)

    # faults

    def _deny(self, engine: Any, access: int, address: int, size: int, value: int, _: Any) -> bool:
        self._denied = address
        return False

    def _fault(self, reason: str) -> str:
        at = self._engine.reg_read(self._set.program_counter) & ~1
        what = reason.split(" (")[0].lower()
        address = f" at {self._denied:#010x}" if "memory" in what else ""
        line = self._elf.line_at(at)
        place = f" ({line})" if line else ""
        return f"{self._core.name}: {what}{address} in {self._elf.function_at(at)}{place}"

    # what it cost

    def reset(self) -> None:
        """Counts start at 0, and the stack is painted anew."""
        self._counter.reset()
        self._engine.mem_write(STACK, bytes([PAINT]) * STACK_BYTES)

    @property
    def stack_bytes(self) -> int:
        """The deepest that the stack has been since the reset."""
        memory = np.frombuffer(self._engine.mem_read(STACK, STACK_BYTES), np.uint8)
        return int(STACK_BYTES - np.argmax(memory != PAINT)) if (memory != PAINT).any() else 0

    def stack_bound(self, function: str) -> int:
        """The deepest that the stack can be in a call of the function, by its frames and calls."""
        return deepest_stack(self._elf, self._core.instruction_set, function)

    def instructions(self) -> Counter[str]:
        """Instructions since the reset, by function.

        Counted is what the core issues: an instruction of an IT block whose condition does not
        hold counts too, as in QEMU. What a compiler inlines still counts for its function.
        """
        total: Counter[str] = Counter()
        for block in self._counter.blocks():
            key, runs = (int(block["address"]), int(block["bytes"])), int(block["runs"])
            if key not in self._instructions:
                self._instructions[key] = self._decode(*key)
            for function, count in self._instructions[key].items():
                total[function] += count * runs
        return total

    def _decode(self, address: int, size: int) -> Counter[str]:
        """The instructions of a block by function: their lengths show in their first halfwords."""
        counts: Counter[str] = Counter()
        end = address + size
        while address < end:
            at = address - self._elf.start
            halfword = int.from_bytes(self._elf.code[at : at + 2], "little")
            counts[self._elf.function_at(address)] += 1
            address += 4 if halfword & self._set.long_mask >= self._set.long else 2
        return counts


def _pages(size: int) -> int:
    return -(-size // PAGE) * PAGE


class EmulatedDevice(Device):
    """A device whose core is emulated: as `Device`, and it knows what its work costs."""

    def __init__(self, spec: Spec, core: Core | str, **options: Any):
        self.core = find_core(core) if isinstance(core, str) else core
        super().__init__(spec, compiler=self.core, **options)

    @property
    def program(self) -> EmulatedProgram:
        program = self._build.program
        assert isinstance(program, EmulatedProgram)
        return program

    def reset_counts(self) -> None:
        """Counts start at 0, and the stack is painted anew."""
        self.program.reset()

    def instructions(self) -> Counter[str]:
        """Instructions since the last reset, by function; those of the loop over samples too."""
        return self.program.instructions()

    @property
    def stack_bytes(self) -> int:
        """The deepest that the stack has been since the last reset."""
        return self.program.stack_bytes
