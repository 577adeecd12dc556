"""What the tests share: every network in every mode, every C compiler, the golden option."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from given import PATHS, SPECS, lacking

from codegen import cli
from codegen.errors import UserError
from codegen.spec import Spec, load_spec
from host_sim.compiler import ZIG_CPU, Compiler


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden/")


@pytest.fixture
def mcugrad(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """The command with these arguments: (status, output, errors)."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mcugrad", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def network(request: pytest.FixtureRequest) -> Path:
    """Every network file of tests/networks."""
    return Path(request.param)


@pytest.fixture(params=SPECS, ids=lambda pair: f"{pair[1]}-{pair[0].stem}")
def spec(request: pytest.FixtureRequest) -> Spec:
    """Every network in the modes that `modes_of` tells."""
    path, mode = request.param
    return replace(load_spec(path), mode=mode)


def _newest(command: str) -> str | None:
    """The path of `command`, or of the `command`-NN with the largest NN."""
    plain = shutil.which(command)
    if plain is not None:
        return plain
    versions = {
        int(match[1])
        for folder in os.get_exec_path()
        if Path(folder).is_dir()
        for file in os.listdir(folder)
        if (match := re.fullmatch(rf"{re.escape(command)}-(\d+)", file))
    }
    return shutil.which(f"{command}-{max(versions)}") if versions else None


def _compilers(names: dict[str, str], zig: str) -> dict[str, Compiler]:
    """The compilers of this machine, by the name of their family, without flags."""
    found = {family: _newest(command) for family, command in names.items()}
    compilers = {family: Compiler((path,), ()) for family, path in found.items() if path}
    if importlib.util.find_spec("ziglang") is not None:
        compilers["zig"] = Compiler((sys.executable, "-m", "ziglang", zig, ZIG_CPU), ())
    return compilers


C_COMPILERS = _compilers({"gcc": "gcc", "clang": "clang"}, "cc")
CXX_COMPILERS = _compilers({"gcc": "g++", "clang": "clang++"}, "c++")


@pytest.fixture(params=C_COMPILERS)
def compiler(request: pytest.FixtureRequest) -> Compiler:
    """Every C compiler of this machine: gcc, clang, and the clang of the package ziglang."""
    return C_COMPILERS[request.param]


@pytest.fixture(scope="session")
def c_compilers() -> dict[str, Compiler]:
    """All of them, for tests that use them side by side."""
    return C_COMPILERS


@pytest.fixture(params=CXX_COMPILERS)
def cxx_compiler(request: pytest.FixtureRequest) -> Compiler:
    """Every C++ compiler of this machine."""
    return CXX_COMPILERS[request.param]


@pytest.fixture(scope="session")
def any_compiler() -> Compiler:
    """One C compiler, gcc where it exists, for tests in which it does not matter which."""
    return next(iter(C_COMPILERS.values()))


# Those of the PATH; a machine without any has the one of ziglang.
SYSTEM = {family: c for family, c in C_COMPILERS.items() if family != "zig"} or C_COMPILERS


@pytest.fixture(params=SYSTEM)
def system_compiler(request: pytest.FixtureRequest) -> Compiler:
    """Every C compiler of the PATH, for tests that would take too long with all of them."""
    return SYSTEM[request.param]


@pytest.fixture(scope="session")
def system_compilers() -> list[Compiler]:
    """All of them, for tests that take one in turn."""
    return list(SYSTEM.values())


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Where one of these commands is missing the test is skipped, in CI it fails."""

    def check(*commands: str) -> None:
        for command in commands:
            if shutil.which(command) is None:
                lacking(f"{command} is not on the PATH")

    return check


@pytest.fixture(scope="session")
def clang_format() -> str:
    """The command, of the package clang-format or of the system."""
    path = f"{Path(sys.executable).parent}:{os.defpath}"
    return shutil.which("clang-format", path=path) or lacking("clang-format is not installed")


@pytest.fixture(params=["gcc", "clang"])
def wanted_compilers(request: pytest.FixtureRequest) -> tuple[Compiler, Compiler]:
    """C and C++ of one family: where they are missing the test is skipped, in CI it fails."""
    if request.param not in C_COMPILERS or request.param not in CXX_COMPILERS:
        lacking(f"{request.param} (C and C++) is not on the PATH")
    return C_COMPILERS[request.param], CXX_COMPILERS[request.param]


@pytest.fixture(scope="session")
def sanitizers() -> Callable[[Compiler], tuple[str, ...]]:
    """Flags of the sanitizers that a compiler has: with a runtime, else as a trap."""
    return _sanitizers


@cache
def _sanitizers(compiler: Compiler) -> tuple[str, ...]:
    address = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")
    trap = ("-fsanitize=undefined", "-fsanitize-trap=undefined")
    for flags in (address, trap):
        if _stops_overflow(replace(compiler, flags=flags)):
            return flags
    lacking(f"{compiler.command[0]} has no sanitizer")


def _stops_overflow(compiler: Compiler) -> bool:
    """Whether it builds programs, and they do not end well when they overflow."""
    bad = "int main(int n, char **v)\n{\n    (void)v;\n    return (n << 31) + (n << 31) == 1;\n}\n"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "bad.c").write_text(bad)
        try:
            compiler.run("bad.c", "-o", "program", cwd=folder)
        except UserError:
            return False
        done = subprocess.run([folder / "program"], capture_output=True, check=False)
        assert done.returncode != 0
        return True
