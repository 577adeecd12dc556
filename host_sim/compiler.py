"""{file name: C text} -> what a compiler makes of it, cached by content, and how it is called."""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from codegen.errors import UserError

STRICT = (
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Wundef"),
    *("-Wstrict-prototypes", "-Werror"),
)
# As other compilers do, zig is to take the family's common instructions, not this very machine's.
# With AVX-512 it (0.17.1, clang 22) gets the training of tests/networks/dropout.toml wrong.
ZIG_CPU = "-mcpu=baseline"


Argument = int | NDArray[Any]


class Program(Protocol):
    """Compiled C, in a memory of its own or in ours."""

    def call(self, function: str, *arguments: Argument, bits: int = 32) -> int:
        """Calls a function; its result is a signed integer of `bits` bits.

        An array is passed as a pointer to its elements; what the function writes is found in it.
        """


class Platform(Protocol):
    """What makes a program of C files: a compiler of this machine, or an emulated core."""

    def load(self, files: Mapping[str, str]) -> Program: ...


@dataclass(frozen=True)
class Compiler:
    """A command and the flags that it always gets."""

    command: tuple[str, ...]
    flags: tuple[str, ...] = ("-std=c99", "-O3")

    def attempt(self, *arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Runs it in a folder, whatever comes of it."""
        command = [*self.command, *self.flags, *arguments]
        return subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, env=_environment(), check=False
        )

    def run(self, *arguments: str, cwd: Path) -> None:
        """Runs it in a folder; UserError with its first message when it fails."""
        done = self.attempt(*arguments, cwd=cwd)
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no message"]
            first = next((line for line in lines if "error" in line), lines[0])
            raise UserError(f"{' '.join(self.command)}: the generated C does not compile: {first}")

    def load(self, files: Mapping[str, str]) -> "SharedLibrary":
        """The files as a library of this process."""
        return SharedLibrary(build_library(files, self))


@dataclass(frozen=True)
class SharedLibrary:
    """A program in our own memory."""

    path: Path

    @cached_property
    def library(self) -> ctypes.CDLL:
        return ctypes.CDLL(str(self.path))

    def call(self, function: str, *arguments: Argument, bits: int = 32) -> int:
        """See `Program`."""
        entry = self.library[function]
        entry.restype = {32: ctypes.c_int32, 64: ctypes.c_int64}[bits]
        return int(entry(*(_passed(argument) for argument in arguments)))


def _passed(argument: Argument) -> ctypes.c_void_p | ctypes.c_int32:
    if isinstance(argument, np.ndarray):
        return ctypes.c_void_p(argument.ctypes.data)
    return ctypes.c_int32(argument)


def find_compiler() -> Compiler:
    """`cc` where there is one, else the pip package ziglang."""
    cc = shutil.which("cc")
    if cc is not None:
        return Compiler((cc,))
    if importlib.util.find_spec("ziglang") is not None:
        return Compiler((sys.executable, "-m", "ziglang", "cc", ZIG_CPU))
    raise UserError(
        "no C compiler: there is no cc on the PATH and the package ziglang is not installed; "
        "pip install ziglang"
    )


def build_library(files: Mapping[str, str], compiler: Compiler | None = None) -> Path:
    """The shared library of these files; compiled only when no earlier call did it."""
    compiler = compiler or find_compiler()
    sources = sorted(file for file in files if file.endswith(".c"))
    arguments = (*STRICT, "-shared", "-fPIC", *sources)
    return build(files, compiler, arguments, ".so")


def build(
    files: Mapping[str, str], compiler: Compiler, arguments: tuple[str, ...], suffix: str
) -> Path:
    """What the compiler makes of the files; made only when no earlier call did it."""
    result = cache_folder() / f"{_digest(files, compiler, arguments)}{suffix}"
    if not result.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
            folder = Path(name)
            for file, text in files.items():
                (folder / file).write_text(text, encoding="utf-8")
            compiler.run(*arguments, "-o", "result", cwd=folder)
            os.replace(folder / "result", result)
    return result


def cache_folder() -> Path:
    """Where libraries are kept: the user's cache, or a temporary folder where that is read-only."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for folder in (Path(base) / "mcugrad", Path(tempfile.gettempdir()) / f"mcugrad-{os.getuid()}"):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise UserError("no folder can be written for compiled libraries; set XDG_CACHE_HOME")


def _digest(files: Mapping[str, str], compiler: Compiler, arguments: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for part in (*compiler.command, *compiler.flags, *arguments):
        digest.update(part.encode() + b"\0")
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].encode() + b"\0")
    return digest.hexdigest()[:32]


def _environment() -> dict[str, str]:
    """Zig's caches must be writable; they lie beside the libraries."""
    folder = str(cache_folder() / "zig")
    defaults = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
    return {**defaults, **os.environ}
