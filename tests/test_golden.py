"""The C of three small networks, as a human reviewed it: a change of the generator is a diff here.

`pytest --update-golden` rewrites the files; `git diff tests/golden` is then to be reviewed.
"""

from difflib import unified_diff
from pathlib import Path

import pytest
from given import named

from codegen.emit import RUNTIME_HEADERS
from codegen.pipeline import generate

HERE = Path(__file__).parent
GOLDEN = {"lesson": "int16", "xor_gate": "int8", "frozen_prefix": "int16"}
HINT = "If that is meant: pytest --update-golden, then review git diff tests/golden"


@pytest.mark.parametrize("name", GOLDEN)
def test_the_generated_files_are_the_reviewed_ones(name: str, pytestconfig: pytest.Config) -> None:
    spec = named(name, mode=GOLDEN[name])
    files = {file: text for file, text in generate(spec).items() if file not in RUNTIME_HEADERS}
    folder = HERE / "golden" / name
    if pytestconfig.getoption("--update-golden"):
        _write(folder, files)
    assert _differences(folder, files) == [], HINT


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file, text in files.items():
        (folder / file).write_bytes(text.encode())


def _differences(folder: Path, files: dict[str, str]) -> list[str]:
    golden = {path.name: path.read_bytes().decode() for path in folder.glob("*")}
    lines: list[str] = []
    for file in sorted(golden.keys() | files.keys()):
        old, new = golden.get(file, ""), files.get(file, "")
        lines += unified_diff(
            old.splitlines(keepends=True), new.splitlines(keepends=True), f"golden/{file}", file
        )
        if (file in golden) != (file in files):
            lines.append(f"{file} is only in one of the two\n")
    return lines
