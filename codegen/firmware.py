"""Network and board -> a whole project for the board, or a package for other build systems."""

import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from codegen import paths
from codegen.board import Board, Checkpoint, Firmware
from codegen.emit import Options, emit, emit_link, render
from codegen.errors import UserError
from codegen.graph import Plan
from codegen.interpret import State
from codegen.layout import parameter_fields, struct_bytes
from codegen.report import make_report
from codegen.spec import Spec

Toolchain = Literal["gcc", "zig"]

LINK_STATE_BYTES = 96  # at most, of link_state, and on AVR of link.c's constants
_AVR_CONSTANTS = 65_280  # what pointers of 16 bits reach behind the interrupt vectors
_MOST_SLOTS = 4  # a start reads all of them
_FLAGS = (
    *("-Os", "-g", "-Wall", "-Wextra", "-ffunction-sections", "-fdata-sections"),
    *("-Inetwork", "-Iruntime", "-Iboard"),
)
# Zig has no <string.h>, ENTRY() of a script is nothing to it, and -g keeps the symbols.
_ZIG_COMPILES = (
    *("-ffreestanding", "-fno-unwind-tables", "-fno-asynchronous-unwind-tables", "-Izig"),
)
_ZIG_LINKS = ("-Wl,--entry=Reset_Handler", "-Wl,-z,max-page-size=16")
COMMANDS = {
    "thumb": "arm-none-eabi-gcc",
    "riscv": "riscv64-unknown-elf-gcc",
    "avr": "avr-gcc",
}
PROJECT = "mcugrad.toml"


@dataclass(frozen=True)
class Command:
    """How one toolchain builds the project, from its folder; the compiler itself is not in it."""

    compiles: tuple[str, ...]
    links: tuple[str, ...]


@dataclass(frozen=True)
class Project:
    """All files of a project by their path in its folder, and how they are built."""

    name: str
    board: Board
    files: dict[str, str]
    commands: dict[Toolchain, Command]

    @property
    def sources(self) -> tuple[str, ...]:
        return tuple(sorted(file for file in self.files if file.endswith(".c")))

    @property
    def elf(self) -> str:
        return f"build/{self.name}.elf"


# ---------------------------------------------------------------- a board's facts for the templates


def firmware_of(board: Board) -> Firmware:
    """UserError where a board takes packages only."""
    if board.firmware is None:
        why = board.no_firmware or "its board.toml has no table [firmware]"
        raise UserError(
            f"{board.name}: there is no bare firmware for this board, since {why}; "
            "take --package arduino, or another kind"
        )
    return board.firmware


def instruction_set(firmware: Firmware) -> str:
    """That of the core: thumb, riscv or avr."""
    return str(_core(firmware)["instruction_set"])


def _core(firmware: Firmware) -> dict[str, Any]:
    text = (paths.CORES / f"{firmware.core}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def build_commands(firmware: Firmware) -> dict[Toolchain, Command]:
    """By toolchain, gcc first; zig only where it links."""
    core, flags = _core(firmware), tuple(shlex.split(firmware.flags))
    script = (f"-Tboard/{firmware.linker_script}",) if firmware.linker_script else ()
    # gcc would add the start of a whole program
    bare = ("-nostartfiles",) if firmware.linker_script else ()
    links = (*script, "-Wl,--gc-sections")
    found = core["flags"]
    standard = f"-std={core.get('standard', 'c99')}"
    commands: dict[Toolchain, Command] = {
        "gcc": Command((*found["gcc"], *flags, standard, *_FLAGS), (*bare, *links))
    }
    if "zig" in found:
        compiles = (*found["zig"], *flags, standard, *_FLAGS, *_ZIG_COMPILES)
        commands["zig"] = Command(compiles, (*links, *_ZIG_LINKS))
    return commands


@dataclass(frozen=True)
class Slots:
    """Memory for checkpoints, divided for one network; bytes."""

    checkpoint: Checkpoint
    slot: int
    count: int


def checkpoint_slot(size: int, word: int, page: int) -> int:
    """CHECKPOINT_SLOT of checkpoint.h: bytes of a slot for a state of `size` bytes."""
    used = _whole(20 + size, word) + 2 * _whole(4, word)
    return _whole(used, page or word)


def slots_for(checkpoint: Checkpoint | None, size: int) -> Slots | None:
    """For a state of `size` bytes; None where two slots do not fit."""
    if checkpoint is None:
        return None
    slot = checkpoint_slot(size, checkpoint.word, checkpoint.page)
    count = min(checkpoint.memory.bytes // slot, _MOST_SLOTS)
    return Slots(checkpoint, slot, count) if count >= 2 else None


def _whole(size: int, unit: int) -> int:
    return -(-size // unit) * unit


@dataclass(frozen=True)
class _BoardView:
    """One board and its firmware, as the templates want to see them."""

    board: Board
    firmware: Firmware
    commands: dict[Toolchain, Command]
    toolchain: Toolchain
    slots: Slots | None
    files: tuple[str, ...]  # of the project, without those that are being written

    def __getattr__(self, name: str) -> Any:
        return getattr(self.board if hasattr(self.board, name) else self.firmware, name)

    @staticmethod
    def hex(value: int) -> str:
        return f"0x{value:08X}"

    @staticmethod
    def literal(value: int) -> str:
        return f"0x{value:08X}u" if value >= 4096 else f"{value}u"

    @property
    def gcc(self) -> str:
        return COMMANDS[instruction_set(self.firmware)]

    @property
    def sources(self) -> list[str]:
        return sorted(file for file in self.files if file.endswith(".c"))

    @property
    def headers(self) -> list[str]:
        return sorted(file for file in self.files if file.endswith(".h"))

    @staticmethod
    def words(words: tuple[str, ...]) -> str:
        return " ".join(words)

    @staticmethod
    def cmake_words(words: tuple[str, ...]) -> str:
        """CMake builds in another folder."""
        here = "${CMAKE_SOURCE_DIR}/"
        placed = (w[:2] + here + w[2:] if w.startswith(("-I", "-T")) else w for w in words)
        return " ".join(placed)

    def upload_words(self, name: str, port: str = "PORT") -> str:
        assert self.firmware.upload is not None
        elf = f"build/{name}.elf"
        binary = f"build/{name}.bin"
        return self.firmware.upload.command.format(elf=elf, bin=binary, port=port)

    def emulator_words(self, name: str) -> str:
        assert self.firmware.emulator is not None
        return self.firmware.emulator.command.format(elf=f"build/{name}.elf", serial="pty")

    @property
    def waits(self) -> bool:
        return any(setting.await_ for setting in self.firmware.setup)

    @property
    def needs_binary(self) -> bool:
        return self.firmware.upload is not None and "{bin}" in self.firmware.upload.command


# ---------------------------------------------------------------- whether it fits


def overhead_bytes(plan: Plan, firmware: Firmware) -> int:
    """RAM beside <net>_params and <net>_work: link, stack, and code that runs in RAM."""
    code = firmware.checkpoint.code_in_ram if firmware.checkpoint is not None else 0
    return _buffer_bytes(plan) + LINK_STATE_BYTES + firmware.stack_bytes + code


def _buffer_bytes(plan: Plan) -> int:
    """LINK_BUFFER of link.h."""
    inputs = plan.training.tensors["x"].size * plan.quantized.formats["x"].bits // 8
    return 2 * ((40 + inputs) // 2 + plan.training.graph.outputs)


def check_fit(spec: Spec, plan: Plan, state: State, board: Board) -> None:
    """UserError where the board has too little memory for network, link and stack."""
    firmware, report = firmware_of(board), make_report(plan, state)
    more = overhead_bytes(plan, firmware)
    room = firmware.data.bytes - more
    if report.total > room:
        way = (
            f"mcugrad plan {spec.source} --ram {room} proposes what may learn"
            if room > 0
            else "shrink the network, or take another board"
        )
        raise UserError(
            f"{spec.source}: {spec.name} does not fit {board.name}: it takes {report.total} bytes "
            f"of RAM, and link and stack {more}, but the board has "
            f"{firmware.data.bytes}: {report.total - room} too many; {way}"
        )
    if _buffer_bytes(plan) >= 2**16:
        raise UserError(
            f"{spec.source}: an input of {_buffer_bytes(plan)} bytes is too long for the link, "
            "whose frames have at most 65535; shrink the input"
        )
    is_avr = instruction_set(firmware) == "avr"
    room = min(firmware.code.bytes, _AVR_CONSTANTS if is_avr else 2**32)
    if report.constants > room:
        raise UserError(
            f"{spec.source}: {spec.name} does not fit {board.name}: its constants take "
            f"{report.constants} bytes of flash, of {room}: "
            f"{report.constants - room} too many; shrink the network, or take another board"
        )


# ---------------------------------------------------------------- the project


def make_project(
    spec: Spec, plan: Plan, state: State, board: Board, toolchain: Toolchain = "gcc"
) -> Project:
    """Everything that a board needs to learn over a serial line; `toolchain` is what make takes."""
    firmware = firmware_of(board)
    check_fit(spec, plan, state, board)
    slots = slots_for(firmware.checkpoint, struct_bytes(parameter_fields(plan)))
    commands = build_commands(firmware)
    options = Options(board=board.name)
    files = _network_files(spec, plan, state, options)
    files |= _runtime_files(slots) | _common_files(firmware)
    if "zig" in commands:
        header = paths.CORES / "include" / "string.h"
        files["zig/string.h"] = header.read_text(encoding="utf-8")
    written = ("main.c", "board/board.h", "board/board.c")
    view = _BoardView(board, firmware, commands, toolchain, slots, (*files, *written))
    templates = {name: f"{Path(name).name}.j2" for name in (*written, *_BUILD)}
    if firmware.linker_script:
        templates[f"board/{firmware.linker_script}"] = f"{firmware.linker_script}.j2"
    files |= {
        name: render(f"firmware/{template}", spec, plan, state, options, b=view)
        for name, template in templates.items()
    }
    return Project(spec.name, board, dict(sorted(files.items())), commands)


_BUILD = ("Makefile", "CMakeLists.txt", "README.md", PROJECT)


def _network_files(spec: Spec, plan: Plan, state: State, options: Options) -> dict[str, str]:
    files = emit(spec, plan, state, options) | emit_link(spec, plan, state, options)
    return {f"network/{name}": text for name, text in files.items()}


def _runtime_files(slots: Slots | None) -> dict[str, str]:
    names = ["link.h", "link.c"]
    if slots is None:
        names.append("link_no_checkpoint.c")
    else:
        names += ["link_checkpoint.c", "checkpoint.h", "checkpoint.c", *slots.checkpoint.files]
    return {f"runtime/{name}": (paths.RUNTIME / name).read_text(encoding="utf-8") for name in names}


def _common_files(firmware: Firmware) -> dict[str, str]:
    """Startup and serial line, with the headers that they include."""
    texts = {name: (paths.COMMON / name).read_text(encoding="utf-8") for name in firmware.sources}
    for header in sorted(paths.COMMON.glob("*.h")):
        if any(f'#include "{header.name}"' in text for text in texts.values()):
            texts[header.name] = header.read_text(encoding="utf-8")
    return {f"board/{name}": text for name, text in texts.items()}


# ---------------------------------------------------------------- packages


def package_kinds() -> tuple[str, ...]:
    """Every folder of templates/packages."""
    return tuple(sorted(path.name for path in (paths.TEMPLATES / "packages").iterdir()))


def make_package(
    kind: str, spec: Spec, plan: Plan, state: State, board: Board | None
) -> dict[str, str]:
    """The files of a package by their path in its folder: C in src/, the rest from templates."""
    options = Options(board=None if board is None else board.name)
    files = emit(spec, plan, state, options) | emit_link(spec, plan, state, options)
    for name in ("link.h", "link.c", "link_no_checkpoint.c"):
        files[name] = (paths.RUNTIME / name).read_text(encoding="utf-8")
    package = {f"src/{name}": text for name, text in files.items()}
    folder = paths.TEMPLATES / "packages" / kind
    for path in sorted(folder.rglob("*.j2")):
        template = path.relative_to(paths.TEMPLATES).as_posix()
        name = path.relative_to(folder).as_posix().removesuffix(".j2").replace("NET", spec.name)
        sources = sorted(file for file in package if file.endswith(".c"))
        package[name] = render(template, spec, plan, state, options, sources=sources)
    return dict(sorted(package.items()))
