"""The README's examples run, and print what it says."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    match = re.search(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert match is not None
    return match[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "xor.toml").write_text(_block("toml"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_print_what_the_readme_says(folder: Path) -> None:
    for part in _block("console").split("$ ")[1:]:
        line, expected = part.split("\n", 1)
        code = [sys.executable, "-c", "from codegen.cli import main; main()"]
        done = subprocess.run(
            [*code, *shlex.split(line)[1:]], capture_output=True, text=True, check=True
        )
        assert done.stdout == expected


def test_the_python_example_runs(folder: Path) -> None:
    exec(compile(_block("python"), "README.md", "exec"), {})
