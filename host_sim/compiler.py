"""{file name: C text} -> shared library, cached by content."""

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from codegen.errors import UserError

STRICT = (
    *("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Wcast-qual", "-Wundef"),
    *("-Wstrict-prototypes", "-Werror"),
)


@dataclass(frozen=True)
class Compiler:
    """A command and the flags that it always gets."""

    command: tuple[str, ...]
    flags: tuple[str, ...] = ("-std=c99", "-O3")

    def run(self, *arguments: str, cwd: Path) -> None:
        """Runs it in a folder; UserError with its first message when it fails."""
        command = [*self.command, *self.flags, *arguments]
        done = subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, env=_environment(), check=False
        )
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines() or ["no message"]
            first = next((line for line in lines if "error" in line), lines[0])
            raise UserError(f"{' '.join(self.command)}: the generated C does not compile: {first}")


def find_compiler() -> Compiler:
    """`cc` where there is one, else the pip package ziglang."""
    cc = shutil.which("cc")
    if cc is not None:
        return Compiler((cc,))
    if importlib.util.find_spec("ziglang") is not None:
        return Compiler((sys.executable, "-m", "ziglang", "cc"))
    raise UserError(
        "no C compiler: there is no cc on the PATH and the package ziglang is not installed; "
        "pip install ziglang"
    )


def build_library(files: Mapping[str, str], compiler: Compiler | None = None) -> Path:
    """The shared library of these files; compiled only when no earlier call did it."""
    compiler = compiler or find_compiler()
    library = cache_folder() / f"{_digest(files, compiler)}.so"
    if not library.exists():
        with tempfile.TemporaryDirectory(dir=cache_folder()) as name:
            folder = Path(name)
            for file, text in files.items():
                (folder / file).write_text(text, encoding="utf-8")
            sources = sorted(file for file in files if file.endswith(".c"))
            compiler.run(*STRICT, "-shared", "-fPIC", "-o", "library.so", *sources, cwd=folder)
            os.replace(folder / "library.so", library)
    return library


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


def _digest(files: Mapping[str, str], compiler: Compiler) -> str:
    digest = hashlib.sha256()
    for part in (*compiler.command, *compiler.flags):
        digest.update(part.encode() + b"\0")
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + files[name].encode() + b"\0")
    return digest.hexdigest()[:32]


def _environment() -> dict[str, str]:
    """Zig's caches must be writable; they lie beside the libraries."""
    folder = str(cache_folder() / "zig")
    defaults = {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
    return {**defaults, **os.environ}
