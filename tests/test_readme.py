"""The README's examples run, and print what it says; its tables are those of the commands."""

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from given import NETWORKS, named

from codegen.pipeline import generate, make_plan, make_state
from codegen.report import make_report, multiplies
from codegen.spec import MODES, load_spec
from host_sim.comparison import compare
from host_sim.compiler import STRICT, Compiler
from host_sim.emulator import core_names, find_core

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "xor.toml").write_text(blocks("toml")[0], encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def test_the_commands_print_what_the_readme_says(folder: Path) -> None:
    for part in "".join(blocks("console")).split("$ ")[1:]:
        line, expected = part.split("\n", 1)
        command, *arguments = shlex.split(line)
        assert command == "mcugrad"
        code = [sys.executable, "-c", "from codegen.cli import main; main()"]
        done = subprocess.run([*code, *arguments], capture_output=True, text=True, check=True)
        assert (done.stdout, done.stderr) == (expected, "")


def test_the_python_examples_run_one_after_the_other(folder: Path) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["result"].fixed.score > 0.9
    assert names["losses"][-1] < names["losses"][0]
    assert (folder / "xor.npz").stat().st_size > 0


PROGRAM = """#include "xor_gate.h"
int main(void)
{{
    const int16_t x[2] = {{0, 32767}}, target[1] = {{32767}};
    int16_t scores[1];
{example}
    return loss <= 0 || scores[0] == 0;
}}
"""


def test_the_c_example_compiles_and_runs(folder: Path, any_compiler: Compiler) -> None:
    files = generate(load_spec(folder / "xor.toml"))
    files["main.c"] = PROGRAM.format(example=blocks("c")[0])
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    sources = [name for name in files if name.endswith(".c")]
    any_compiler.run(*STRICT, "-std=c99", *sources, "-o", "program", cwd=folder)
    assert subprocess.run([folder / "program"], check=False).returncode == 0


def table(title: str) -> dict[str, list[str]]:
    """Rows of the first table after the title: what the first cell has in backquotes -> the others."""
    lines = README[README.index(title) :].split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {match[1]: row[1:] for row in rows if (match := re.match(r"`(\w+)`", row[0]))}


def spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def test_the_bytes_of_the_digits_are_those_of_the_report() -> None:
    rows = table("RAM for training 64-32-10")
    assert set(rows) == set(MODES)
    for mode, row in rows.items():
        spec = replace(load_spec(ROOT / "tests" / "networks" / "digits.toml"), mode=mode)
        plan = make_plan(spec)
        report = make_report(plan, make_state(spec, plan))
        assert row == [spaced(n) for n in (report.parameters, report.work, report.total)]


@pytest.mark.parametrize("name", table("Other networks, all layers learning"))
def test_the_bytes_of_other_networks_are_those_of_the_report(name: str) -> None:
    mode, *row = table("Other networks, all layers learning")[name]
    spec = load_spec(ROOT / "tests" / "networks" / f"{name}.toml")
    assert mode == f"`{spec.mode}`"
    plan = make_plan(spec)
    report = make_report(plan, make_state(spec, plan))
    counts = (report.parameters, report.work, report.total, report.macs["total"])
    assert row == [spaced(n) for n in counts]


@pytest.mark.parametrize("path", sorted(NETWORKS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_benchmark_page_has_every_network_on_every_core(path: Path) -> None:
    spec = load_spec(path)
    ours = benchmarks(spec.name)
    assert list(ours) == list(core_names())
    assert (
        f"`{spec.name}`, {spaced(multiplies(make_plan(spec))['total'])} multiplications" in README
    )


@pytest.mark.parametrize("name", ["digits", "pools"])
def test_the_benchmark_page_is_that_of_the_command(name: str) -> None:
    """Within 3 %, by which compilers of other days may differ."""
    (ours, *_) = compare([named(name)], [find_core("cortex-m4")])[0].rows
    told = benchmarks(name)[ours.core]
    for figure, text in zip(list(vars(ours).values())[2:], told, strict=True):
        assert float(text.replace(" ", "")) == pytest.approx(figure, rel=0.03)


def benchmarks(name: str) -> dict[str, list[str]]:
    """Of our rows of a network, by core: instructions, per MAC, predict, code, stack, RAM."""
    start = README.index(f"\n`{name}`, ")
    lines = README[start:].split("\n\n")[1].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[1]: row[2:] for row in rows if row[0].startswith("mcugrad")}
