"""A firmware project -> an ELF file and its sizes, a running emulated board, a flashed board."""

import importlib.util
import os
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, Self

from codegen.board import Board, Tool, load_board
from codegen.errors import UserError
from codegen.firmware import (
    COMMANDS,
    PROJECT,
    Project,
    Toolchain,
    build_commands,
    firmware_of,
    instruction_set,
)
from host_sim.compiler import Compiler, build, find_compiler

# ---------------------------------------------------------------- building


@dataclass(frozen=True)
class Built:
    """A firmware, and the bytes that it takes of what the board has."""

    elf: Path
    board: Board
    code_bytes: int  # flash: code, constants and starting values
    data_bytes: int  # RAM without the stack

    def as_json(self) -> dict[str, Any]:
        """The keys that scripts rely on."""
        firmware = firmware_of(self.board)
        return {
            "elf": str(self.elf),
            "board": self.board.name,
            "flash": {"used": self.code_bytes, "of": firmware.code.bytes},
            "ram": {"used": self.data_bytes, "of": firmware.data.bytes},
            "stack": firmware.data.bytes - self.data_bytes,
        }


def find_toolchain(board: Board, wanted: Toolchain | None = None) -> Toolchain:
    """`wanted`, or gcc where it is installed, else zig; UserError with what to install."""
    firmware = firmware_of(board)
    gcc = COMMANDS[instruction_set(firmware)]
    known = build_commands(firmware)
    if wanted == "zig" and "zig" not in known:
        raise UserError(f"{board.name}: zig does not build for this core; take --toolchain gcc")
    has_gcc = shutil.which(gcc) is not None
    has_zig = "zig" in known and importlib.util.find_spec("ziglang") is not None
    if wanted != "zig" and has_gcc:
        return "gcc"
    if wanted != "gcc" and has_zig:
        return "zig"
    ways = {"gcc": f"install {gcc}", "zig": "pip install ziglang"}
    way = " or ".join(ways[t] for t in ([wanted] if wanted else known))
    raise UserError(f"{board.name}: there is no compiler for this board; {way}")


def build_firmware(folder: Path, project: Project, toolchain: Toolchain) -> Built:
    """The files of `project` are in `folder`; what make would do, without make."""
    need_elftools()
    command = project.commands[toolchain]
    gcc = COMMANDS[instruction_set(firmware_of(project.board))]
    program = (gcc,) if toolchain == "gcc" else (sys.executable, "-m", "ziglang", "cc")
    (folder / project.elf).parent.mkdir(exist_ok=True)
    arguments = (*command.compiles, *project.sources, *command.links, "-o", project.elf)
    done = Compiler(program, ()).attempt(*arguments, cwd=folder)
    if done.returncode != 0:
        raise UserError(f"{folder}: {_trouble(done.stderr, project)}")
    built = measured(folder / project.elf, project.board)
    _check_sizes(built, project)
    return built


def need_elftools() -> None:
    """UserError where what measures an ELF file is missing."""
    if importlib.util.find_spec("elftools") is None:
        raise UserError(
            "measuring what was built needs pyelftools; pip install 'mcugrad[boards]', or build "
            "it with make"
        )


def _trouble(messages: str, project: Project) -> str:
    """The first error of compiler or linker; too much code is said in our words."""
    over = re.search(r"region.*?(CODE|DATA|text|data).*?overflowed by (\d+) bytes", messages)
    if over is not None:
        memory = "flash" if over[1] in ("CODE", "text") else "RAM"
        return _too_large(project, memory, int(over[2]))
    lines = messages.strip().splitlines() or ["no message"]
    first = next((line for line in lines if "error" in line or "Error" in line), lines[0])
    return f"the firmware does not build: {first}"


def _too_large(project: Project, memory: str, bytes_: int) -> str:
    return (
        f"the firmware of {project.name} does not fit {project.board.name}: {bytes_} bytes of "
        f"{memory} too many; shrink the network, or take another board"
    )


def _check_sizes(built: Built, project: Project) -> None:
    """AVR's own linker script knows the largest chip of a family only."""
    firmware = firmware_of(built.board)
    over = {
        "flash": built.code_bytes - firmware.code.bytes,
        "RAM": built.data_bytes + firmware.stack_bytes - firmware.data.bytes,
    }
    for memory, bytes_ in over.items():
        if bytes_ > 0:
            raise UserError(f"{built.elf}: {_too_large(project, memory, bytes_)}")


def measured(elf: Path, board: Board) -> Built:
    """What the sections of an ELF file take."""
    code = data = 0
    ram = firmware_of(board).data
    for section in _file(elf).iter_sections():
        flags, size = section["sh_flags"], section["sh_size"]
        if not flags & _ALLOC or section.name == ".eeprom":
            continue
        has_bytes = section["sh_type"] != "SHT_NOBITS"
        code += size if has_bytes else 0
        is_there = ram.start <= section["sh_addr"] < ram.start + ram.bytes
        data += size if flags & _WRITE or is_there else 0  # code may run in RAM, too
    return Built(elf, board, code, data)


_WRITE, _ALLOC = 1, 2


def _file(elf: Path) -> Any:
    from elftools.elf.elffile import ELFFile

    return ELFFile(BytesIO(elf.read_bytes()))


def write_binary(elf: Path) -> Path:
    """Beside the ELF file the bytes of its flash, from the first address on."""
    binary = elf.with_suffix(".bin")
    binary.write_bytes(flash_image(elf)[1])
    return binary


def write_uf2(elf: Path, family: int) -> Path:
    """Beside the ELF file the same bytes as boot loaders take them that look like a drive.

    Blocks of 512 bytes, 256 of them payload: https://github.com/microsoft/uf2.
    """
    start, image = flash_image(elf)
    count = -(-len(image) // _UF2_PAYLOAD)
    blocks = []
    for number in range(count):
        payload = image[number * _UF2_PAYLOAD : (number + 1) * _UF2_PAYLOAD]
        place = start + number * _UF2_PAYLOAD
        head = (*_UF2_BEGIN, _UF2_HAS_FAMILY, place, _UF2_PAYLOAD, number, count, family)
        blocks.append(struct.pack("<8I476sI", *head, payload, _UF2_END))
    uf2 = elf.with_suffix(".uf2")
    uf2.write_bytes(b"".join(blocks))
    return uf2


_UF2_BEGIN, _UF2_END = (0x0A324655, 0x9E5D5157), 0x0AB16F30
_UF2_HAS_FAMILY = 0x2000
_UF2_PAYLOAD = 256


def flash_image(elf: Path) -> tuple[int, bytes]:
    """First address, and the bytes from there on; what lies between sections is 0."""
    parts = [
        (segment["p_paddr"], segment.data())
        for segment in _file(elf).iter_segments("PT_LOAD")
        if segment["p_filesz"] > 0
    ]
    start = min(address for address, _ in parts)
    image = bytearray(max(address + len(data) for address, data in parts) - start)
    for address, data in parts:
        image[address - start : address - start + len(data)] = data
    return start, bytes(image)


# ---------------------------------------------------------------- an emulated board


def emulator_of(board: Board) -> Tool:
    """UserError where there is none, or where it is not installed."""
    emulator = firmware_of(board).emulator
    if emulator is None:
        raise UserError(f"{board.name}: nothing here emulates this board; see mcugrad boards")
    return _installed(emulator, board)


def _installed(tool: Tool, board: Board) -> Tool:
    if tool.source:
        return replace(tool, command=tool.command.format_map(_Made(program=_made(tool, board))))
    program = shlex.split(tool.command)[0]
    if shutil.which(program) is None:
        raise UserError(f"{board.name}: there is no {program} on the PATH; {tool.install}")
    return tool


class _Made(dict[str, str]):
    """Fills in what is made, and leaves the other names for later."""

    def __missing__(self, key: str) -> str:
        return f"{{{key}}}"


def _made(tool: Tool, board: Board) -> str:
    """What this machine's compiler makes of the tool's source."""
    source = Path(__file__).with_name(tool.source)
    libraries = tuple(f"-l{library}" for library in tool.libraries)
    files = {source.name: source.read_text(encoding="utf-8")}
    try:
        made = build(files, replace(find_compiler(), flags=("-O2",)), (source.name, *libraries), "")
    except UserError:
        raise UserError(
            f"{board.name}: its emulator cannot be built from {source.name}; {tool.install}"
        ) from None
    return shlex.quote(str(made))


def _words(tool: Tool, **values: object) -> list[str]:
    """The words of a command line, filled in after they are told apart."""
    texts = {key: str(value) for key, value in values.items()}
    return [word.format_map(texts) for word in shlex.split(tool.command)]


_WAKE = signal.SIGALRM  # QEMU's main loop takes it from a file, and does nothing more
_NAP = 0.02  # seconds


@contextmanager
def _blocked(number: signal.Signals) -> Iterator[None]:
    """A process that is started meanwhile does not end when this signal comes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [number])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class EmulatedBoard:
    """A firmware on an emulated board, whose serial line is a transport of `Link`.

    `options` are more words for the emulator.
    """

    def __init__(self, board: Board, elf: Path, *options: str):
        self._name, self._has_answered = f"emulated {board.name}", False
        words = [*_words(emulator_of(board), elf=elf, serial="stdio"), *options]
        with _blocked(_WAKE):
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(data)
        except OSError:
            raise self._stopped() from None

    def read(self, timeout: float) -> bytes:
        if not (self._comes(timeout) if self._has_answered else self._wakes(timeout)):
            return b""
        self._has_answered = True
        assert self._process.stdout is not None
        data = os.read(self._process.stdout.fileno(), 4096)
        if not data:
            raise self._stopped()
        return data

    def _comes(self, timeout: float) -> bool:
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], timeout)[0])

    def _wakes(self, timeout: float) -> bool:
        """QEMU looks for an open line of the firmware once a second, or when it is woken."""
        deadline = time.monotonic() + timeout
        while not self._comes(max(0.0, min(_NAP, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
            self._process.send_signal(_WAKE)
        return True

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def _stopped(self) -> UserError:
        return UserError(f"{self._name}: the emulator has stopped; run it by hand to see why")


@contextmanager
def emulated(project: Project, toolchain: Toolchain | None = None) -> Iterator[EmulatedBoard]:
    """A project built in a temporary folder and running."""
    emulator_of(project.board)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_project(folder, project)
        built = build_firmware(folder, project, find_toolchain(project.board, toolchain))
        with EmulatedBoard(project.board, built.elf) as board:
            yield board


def write_project(folder: Path, project: Project) -> None:
    """Its files, each in its folder."""
    for name, text in project.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@contextmanager
def running(board: Board, elf: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """A firmware on an emulated board, and the name of the terminal that is its serial line."""
    words = _words(emulator_of(board), elf=elf, serial="pty")
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield _terminal(process.stdout, board), process
        finally:
            process.kill()


def _terminal(output: Any, board: Board) -> str:
    """QEMU says: char device redirected to /dev/pts/3 (label serial0)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and (line := output.readline()):
        found = re.search(r"redirected to (\S+)", line)
        if found is not None:
            return found[1]
    raise UserError(f"emulated {board.name}: the emulator gives no serial line; run it by hand")


# ---------------------------------------------------------------- flashing


@dataclass(frozen=True)
class Upload:
    """The command that puts a built project on its board."""

    words: tuple[str, ...]

    def run(self) -> int:
        """Its output is the user's; its exit status."""
        return subprocess.run(self.words, check=False).returncode


def find_upload(folder: Path, port: str | None) -> Upload:
    """For a folder that `mcugrad firmware` wrote; UserError in one line where something lacks."""
    name, board = _project_in(folder)
    tool = firmware_of(board).upload
    if tool is None:
        raise UserError(f"{board.name}: no tool is known that flashes this board; see its manual")
    elf = folder / "build" / f"{name}.elf"
    if not elf.is_file():
        raise UserError(f"{elf}: is not built yet; make -C {folder}")
    if "{port}" in tool.command and port is None:
        raise UserError(f"{board.name}: is flashed over a serial port; add --port PORT")
    _installed(tool, board)
    if port is not None and not Path(port).exists() and os.name == "posix":
        raise UserError(f"{port}: there is no such port; plug the board in")
    binary = elf.with_suffix(".bin")
    if "{bin}" in tool.command:
        need_elftools()
        binary = write_binary(elf)
    return Upload(tuple(_words(tool, elf=elf, bin=binary, port=port)))


def _project_in(folder: Path) -> tuple[str, Board]:
    """Name of the network, and the board."""
    try:
        facts = tomllib.loads((folder / PROJECT).read_text(encoding="utf-8"))
        return str(facts["network"]), load_board(str(facts["board"]))
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{folder}: is no folder that mcugrad firmware wrote; name one, or write it first"
        ) from None
