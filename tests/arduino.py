"""The real Arduino core for AVR boards: a library and its sketch, built by the core's own recipes."""

import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

PLATFORM = Path("/usr/share/arduino/hardware/arduino/avr")  # Debian's package arduino-core-avr
_RECIPES = {".c": "recipe.c.o.pattern", ".cpp": "recipe.cpp.o.pattern", ".S": "recipe.S.o.pattern"}


def build_sketch(library: Path, sketch: str, board: Iterable[str], folder: Path) -> Path:
    """The ELF file of a sketch, a path inside its library.

    `board` is its name in boards.txt, and the choices in its menus.

    As Arduino's builder does it: the sketch is C++ behind the core's header, all sources of core
    and library are compiled by the recipes of platform.txt, the core's into an archive. Warnings
    of the library and the sketch are errors.
    """
    facts = _facts(PLATFORM / "platform.txt", "")
    for beginning in board:
        facts |= _facts(PLATFORM / "boards.txt", f"{beginning}.")
    strict = "-Wall -Wextra -Werror"
    core = PLATFORM / "cores" / facts["build.core"]
    places = (core, PLATFORM / "variants" / facts["build.variant"], library / "src")
    facts |= {
        "runtime.ide.version": "10819",
        "build.arch": "AVR",
        "build.path": str(folder),
        "build.project_name": "sketch",
        "archive_file": "core.a",
        # Debian's compiler is older than Arduino's: its <float.h> keeps this from C++.
        "compiler.cpp.extra_flags": "-DDECIMAL_DIG=__DECIMAL_DIG__",
        "includes": " ".join(f'"-I{place}"' for place in places),
    }
    text = (library / sketch).read_text(encoding="utf-8")
    (folder / "sketch.cpp").write_text(f"#include <Arduino.h>\n{text}", encoding="utf-8")
    own = [*sorted((library / "src").glob("*.c")), folder / "sketch.cpp"]
    objects = _compiled(own, facts | {"compiler.warning_flags": strict}, folder)
    for file in _compiled(sorted(core.iterdir()), facts, folder):
        _run("recipe.ar.pattern", facts | {"object_file": file})
    _run("recipe.c.combine.pattern", facts | {"object_files": shlex.join(objects)})
    return folder / "sketch.elf"


def _facts(file: Path, beginning: str) -> dict[str, str]:
    """The lines key=value whose keys begin so, without that beginning."""
    lines = file.read_text(encoding="utf-8").splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line and line.startswith(beginning))
    return {key.removeprefix(beginning): value for key, value in pairs if not key.startswith("#")}


def _compiled(sources: Iterable[Path], facts: Mapping[str, str], folder: Path) -> list[str]:
    """The object files of those that are sources."""
    objects = []
    for source in sources:
        if source.suffix in _RECIPES:
            objects.append(str(folder / f"{source.name}.o"))
            places = {"source_file": str(source), "object_file": objects[-1]}
            _run(_RECIPES[source.suffix], {**facts, **places})
    return objects


def _run(recipe: str, facts: Mapping[str, str]) -> None:
    """Words in braces are names of facts, whose values may hold others."""
    line = facts[recipe]
    while (filled := re.sub(r"\{([\w.]+)\}", lambda name: facts[name[1]], line)) != line:
        line = filled
    done = subprocess.run(shlex.split(line), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
