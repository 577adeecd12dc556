"""The same C files, built for a microcontroller's core and run on an emulated one."""

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

from codegen import paths
from codegen.board import unknown
from codegen.errors import UserError
from codegen.firmware import COMMANDS, Toolchain
from codegen.spec import Spec
from host_sim.compiler import STRICT, Argument, Compiler, build
from host_sim.device import Device
from host_sim.machine import STACK_BYTES, Machine, StoppedError
from host_sim.qemu_machine import Qemu, QemuMachine

MISSING = "emulated cores need {}; pip install 'mcugrad[boards]'"
try:
    from host_sim.elf import Elf, section_bytes
    from host_sim.stack import deepest_stack
    from host_sim.unicorn_machine import UnicornMachine
except ImportError as error:
    package = {"elftools": "pyelftools"}.get(str(error.name).split(".")[0], error.name)
    raise UserError(MISSING.format(package)) from None

PAINT = 0xA5


class FaultError(Exception):
    """The emulated core stopped: what it could not do, in which function and line."""


# ---------------------------------------------------------------- cores and their compilers


@dataclass(frozen=True)
class InstructionSet:
    """What a call needs to know of a family of cores; registers by their numbers."""

    arguments: int  # the first register of those that carry arguments and the result
    register_arguments: int
    stack_pointer: int
    return_address: int
    long: int  # bits of the first halfword, from `long` upwards an instruction has 4 bytes
    long_mask: int
    state: int  # bit 0 of an address of code


INSTRUCTION_SETS = {
    "thumb": InstructionSet(
        arguments=0,
        register_arguments=4,
        stack_pointer=13,
        return_address=14,
        long=0xE800,
        long_mask=0xF800,
        state=1,
    ),
    "riscv": InstructionSet(
        arguments=10,
        register_arguments=8,
        stack_pointer=2,
        return_address=1,
        long=3,
        long_mask=3,
        state=0,
    ),
}
_FLAGS = ("-g", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-I", ".")
_CONSTANTS = (".rodata", ".srodata")


def core_names() -> tuple[str, ...]:
    """Every core that can be emulated, those with small numbers first."""
    names = [file.stem for file in paths.CORES.glob("*.toml") if _emulator(_facts(file.stem))]
    return tuple(sorted(names, key=lambda name: re.sub(r"\d+", lambda n: f"{n[0]:>9}", name)))


def missing_emulators() -> dict[str, str]:
    """Cores whose emulator is not installed here, and a line for each that says so."""
    lines = {}
    for name in core_names():
        emulator = _emulator(_facts(name))
        line = emulator.missing(name) if isinstance(emulator, Qemu) else None
        if line is not None:
            lines[name] = line
    return lines


def find_core(name: str, toolchain: Toolchain = "zig", level: str = "-Os") -> "Core":
    """A core by name, its C compiled by `toolchain` at an optimisation level."""
    if name not in core_names():
        raise UserError(unknown("core", name, core_names()))
    facts = _facts(name)
    flags = ("-std=c99", level, *_FLAGS, *facts["flags"][toolchain])
    command = _command(toolchain, facts["instruction_set"])
    emulator = _emulator(facts)
    assert emulator is not None
    return Core(name, facts["title"], facts["instruction_set"], emulator, Compiler(command, flags))


def _facts(core: str) -> dict[str, Any]:
    return tomllib.loads((paths.CORES / f"{core}.toml").read_text(encoding="utf-8"))


def _emulator(facts: Mapping[str, Any]) -> str | Qemu | None:
    """The name of the core's model in unicorn, or how QEMU emulates it."""
    emulator = facts.get("emulator")
    return Qemu(**emulator) if isinstance(emulator, dict) else emulator


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
    emulator: str | Qemu  # the name of its model in unicorn, or how QEMU emulates it
    compiler: Compiler

    def load(self, files: Mapping[str, str]) -> "EmulatedProgram":
        """The files as a program of this core."""
        return EmulatedProgram(self, self.link(files))

    def link(self, files: Mapping[str, str]) -> "Elf":
        """The files as they lie in the memory of this core."""
        return Elf(self._link(files), frozenset(_sources(files)))

    def machine(self, elf: "Elf") -> Machine:
        """This core, a program in its memory; UserError where its emulator is not installed."""
        if isinstance(self.emulator, str):
            return UnicornMachine(self.instruction_set, self.emulator, elf.start, elf.code)
        missing = self.emulator.missing(self.name)
        if missing is not None:
            raise UserError(missing)
        return QemuMachine(self.emulator, elf.start, elf.code)

    def stack_bound(self, elf: "Elf", function: str) -> int:
        """The deepest that the stack can be in a call of the function, by its frames and calls."""
        return deepest_stack(elf, self.instruction_set, function)

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


# ---------------------------------------------------------------- running


class EmulatedProgram:
    """A program in the memory of an emulated core; its functions are called one by one."""

    def __init__(self, core: Core, elf: "Elf"):
        self._core, self._elf = core, elf
        self._set = INSTRUCTION_SETS[core.instruction_set]
        self.machine = core.machine(elf)
        self._instructions: dict[tuple[int, int], Counter[str]] = {}
        self.reset()

    def call(self, function: str, *arguments: Argument, bits: int = 32) -> int:
        """See `Program`; FaultError where the core stops."""
        places = self._place(arguments)
        words = [a if p is None else p for a, p in zip(arguments, places, strict=True)]
        self._enter([int(word) & 0xFFFFFFFF for word in words])
        try:
            self.machine.run(self._elf.symbols[function])
        except StoppedError as stopped:
            raise FaultError(self._fault(str(stopped), stopped.at)) from None
        for argument, place in zip(arguments, places, strict=True):
            if isinstance(argument, np.ndarray) and argument.size:
                assert place is not None
                memory = self.machine.read(place, argument.nbytes)
                argument[...] = np.frombuffer(memory, argument.dtype).reshape(argument.shape)
        first, second = (self.machine.register(self._set.arguments + i) for i in (0, 1))
        result = first | second << 32 if bits == 64 else first
        return int(result - (1 << bits) if result >> (bits - 1) else result)

    def _place(self, arguments: tuple[Argument, ...]) -> list[int | None]:
        """Writes the arrays into RAM, one after the other; where each lies."""
        places, end = list[int | None](), 0
        for argument in arguments:
            is_array = isinstance(argument, np.ndarray)
            places.append(self.machine.RAM + end if is_array else None)
            end += -(-argument.nbytes // 8) * 8 if isinstance(argument, np.ndarray) else 0
        self.machine.reserve(end)
        for argument, place in zip(arguments, places, strict=True):
            if isinstance(argument, np.ndarray):
                assert place is not None
                self.machine.write(place, argument.tobytes())
        return places

    def _enter(self, words: list[int]) -> None:
        """Arguments where the calling convention has them, stack and return address."""
        own = self._set.register_arguments
        for i, word in enumerate(words[:own]):
            self.machine.set_register(self._set.arguments + i, word)
        rest = np.array(words[own:], "<u4").tobytes()
        top = self.machine.STACK + STACK_BYTES - -(-len(rest) // 16) * 16
        self.machine.write(top, rest)
        self.machine.set_register(self._set.stack_pointer, top)
        back = self.machine.RETURN | self._set.state
        self.machine.set_register(self._set.return_address, back)

    def _fault(self, what: str, at: int) -> str:
        line = self._elf.line_at(at)
        place = f" ({line})" if line else ""
        return f"{self._core.name}: {what} in {self._elf.function_at(at)}{place}"

    # what it cost

    def reset(self) -> None:
        """Counts start at 0, and the stack is painted anew."""
        self.machine.reset_counts()
        self.machine.write(self.machine.STACK, bytes([PAINT]) * STACK_BYTES)

    @property
    def stack_bytes(self) -> int:
        """The deepest that the stack has been since the reset."""
        memory = np.frombuffer(self.machine.read(self.machine.STACK, STACK_BYTES), np.uint8)
        return int(STACK_BYTES - np.argmax(memory != PAINT)) if (memory != PAINT).any() else 0

    def stack_bound(self, function: str) -> int:
        """The deepest that the stack can be in a call of the function."""
        return self._core.stack_bound(self._elf, function)

    def instructions(self) -> Counter[str]:
        """Instructions since the reset, by function.

        Counted is what the core issues: an instruction of an IT block whose condition does not
        hold counts too, as in QEMU. What a compiler inlines still counts for its function.
        """
        total: Counter[str] = Counter()
        for block in self.machine.blocks():
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
