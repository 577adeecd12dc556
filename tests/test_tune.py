"""Forms of the C compute the same; mcugrad tune chooses among them and keeps what is faster."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given import CORES, NETWORKS, SHORT, named, planned

from codegen.board import Board, load_board
from codegen.emit import Options, emit
from codegen.graph import Plan
from codegen.layout import training_bytes
from codegen.ops.base import Choice
from codegen.passes.choose_forms import Forms
from codegen.pipeline import make_plan, synthetic_samples
from codegen.spec import MODES, Spec, load_spec
from host_sim.bench import bench, board_with
from host_sim.compiler import Compiler, Platform, find_compiler
from host_sim.device import Build
from host_sim.emulator import find_core
from host_sim.tune import tune

NAMES = ("digits", "conv_digits", "residual", "pools", "norms", "batch_momentum", "gru")


def others(plan: Plan, index: int) -> Forms:
    """Of every knob of every step another choice than the default, as far as there is one."""
    forms: dict[str, dict[str, Choice]] = {}
    for step in plan.training.steps:
        for knob, choices in step.op.choices(step.kernel, step.shapes).items():
            if not step.twin and len(choices) > 1:
                forms.setdefault(step.name, {})[knob] = choices[1:][index % len(choices[1:])]
    return forms


def learnt(spec: Spec, plan: Plan, platform: Platform, board: Board | None, steps: int) -> bytes:
    build = Build(spec, plan, planned(spec, board)[1], Options(), platform)
    build.init()
    samples = synthetic_samples(spec, plan, steps, seed=3)
    build.run(samples, np.arange(steps, dtype=np.uint32))
    return build.params.tobytes()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (name, mode)
        for i, name in enumerate(NAMES)
        for j, mode in enumerate(MODES)
        if name == "conv_digits" or (i + j) % len(MODES) == 0
    ],
)
def test_every_form_learns_the_same(name: str, mode: str, any_compiler: Compiler) -> None:
    """In all modes the network that has all knobs, the others in turn."""
    spec = named(name, mode=mode)
    for board in (None, SHORT):
        plan = planned(spec, board)[0]
        expected = learnt(spec, plan, any_compiler, board, 20)
        for index in (0, 1):
            formed = make_plan(spec, board, forms=others(plan, index))
            assert learnt(spec, formed, any_compiler, board, 20) == expected


@pytest.mark.parametrize("core", CORES)
def test_every_form_learns_the_same_on_cores(core: str) -> None:
    """As here with one compiler: all compilers agree, see above."""
    spec, found = named("conv_digits"), find_core(core)
    board = board_with(found)
    plan = planned(spec, board)[0]
    expected = learnt(spec, plan, find_compiler(), board, 20)
    for index in (0, 1):
        formed = make_plan(spec, board, forms=others(plan, index))
        assert learnt(spec, formed, found, board, 20) == expected


@pytest.mark.parametrize("name", ["conv_digits", "w4"])
def test_the_forms_are_others(name: str) -> None:
    """Else the tests above would compare nothing. In conv_digits two walks change places."""
    spec = named(name)
    plan, state = planned(spec)
    text = emit(spec, plan, state, Options())[f"{name}.c"]
    forms = others(plan, 0)
    assert {knob for form in forms.values() for knob in form} == {
        "sums",
        "walk",
        "function",
        "unroll",
    }
    formed = emit(spec, make_plan(spec, forms=forms), state, Options())[f"{name}.c"]
    assert "static void step_" in formed
    assert "static void step_" not in text
    assert "sums[16]" in formed
    walks = r"fxp_walk walk = [^;]*;"
    assert re.findall(walks, formed) != re.findall(walks, text)
    assert name == "conv_digits" or formed.count("fxp_walk") != text.count("fxp_walk")
    assert "FXP_UNROLL" not in text
    assert re.findall(r"FXP_UNROLL\(2\)\n +for \(", formed)
    assert formed.count("FXP_UNROLL") < formed.count("for (")  # of innermost loops only


@pytest.mark.parametrize("name", NAMES)
def test_the_first_choice_is_the_default(name: str) -> None:
    plan, state = planned(named(name))
    forms: dict[str, dict[str, Choice]] = {}
    for step in plan.training.steps:
        choices = step.op.choices(step.kernel, step.shapes)
        forms[step.name] = {knob: values[0] for knob, values in choices.items()}
    formed = make_plan(named(name), forms=forms)
    assert emit(named(name), formed, state, Options()) == emit(named(name), plan, state, Options())


def test_a_step_of_inference_alone_has_the_form_of_its_twin() -> None:
    """So that both remain one function."""
    plan = planned(named("dropout"))[0]
    formed = make_plan(named("dropout"), forms=others(plan, 0)).training
    twins = [step for step in formed.steps if step.twin]
    assert twins
    for twin in twins:
        assert twin.op.form == formed.step(twin.twin).op.form


# ---------------------------------------------------------------- choosing


def copied(name: str, folder: Path) -> Path:
    path = folder / f"{name}.toml"
    path.write_text((NETWORKS / f"{name}.toml").read_text(encoding="utf-8"), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["digits", "conv_digits"])
def test_nothing_gets_slower_or_larger(name: str, mcugrad: Any, tmp_path: Path) -> None:
    """And what tune measured is what bench finds afterwards."""
    path, core = copied(name, tmp_path), find_core("cortex-m4")
    plain = bench(load_spec(path), [core]).cores["cortex-m4"]
    status, out, err = mcugrad("tune", str(path), "--core", "cortex-m4", "--json")
    result = json.loads(out)
    assert (status, err) == (0, "")
    tuned = bench(load_spec(path), [core]).cores["cortex-m4"]
    before, after = ("ram_before", "stack_before"), ("ram_after", "stack_after")
    assert sum(result[key] for key in after) <= sum(result[key] for key in before)
    assert (result["before"], result["after"]) == (plain.train, tuned.train)
    assert result["after"] <= result["before"]
    assert (result["stack_before"], result["stack_after"]) == (
        plain.stack_bound_bytes,
        tuned.stack_bound_bytes,
    )
    for choice in result["choices"]:
        assert choice["after"] < choice["before"]


def test_more_ram_is_taken_where_it_is_given() -> None:
    spec, core = named("conv_digits"), find_core("cortex-m4")
    frugal = tune(spec, core)
    assert frugal.ram_before == training_bytes(make_plan(spec))
    room = 2 * frugal.ram_before
    generous = tune(spec, core, ram=room)
    assert frugal.ram_after < generous.ram_after
    assert generous.ram_after + generous.stack_after <= room
    assert generous.after < frugal.after


def test_ram_of_a_form_is_counted() -> None:
    """The generated C asserts the sizes of its structs, so that they are those of the plan."""
    spec = named("w4")
    plan, state = planned(spec)
    formed = make_plan(spec, forms={"update_conv2d2_w": {"walk": "rows"}, **walks(plan)})
    assert training_bytes(formed) != training_bytes(plan)
    header = emit(spec, formed, state, Options())["w4.c"]
    assert f"sizeof(w4_work) == {training_bytes(formed) - parameters(header)}" in header


def walks(plan: Plan) -> Forms:
    return {
        step.name: {"walk": choices["walk"][1]}
        for step in plan.training.steps
        if "walk" in (choices := step.op.choices(step.kernel, step.shapes))
    }


def parameters(text: str) -> int:
    found = re.search(r"sizeof\(w4_params\) == (\d+)", text)
    assert found
    return int(found[1])


def test_the_choices_reach_the_c_of_boards_with_that_core(mcugrad: Any, tmp_path: Path) -> None:
    path = copied("digits", tmp_path)
    tuned = tmp_path / "digits.tune.toml"
    tuned.write_text("[cortex-m4.steps.relu1]\nsums = 16\n")
    for board, has in (("mps2_an386", True), ("nucleo_f446re", True), ("mps2_an505", False)):
        out = tmp_path / board
        assert mcugrad("generate", str(path), "--board", board, "-o", str(out))[0] == 0
        assert ("sums[16]" in (out / "digits.c").read_text()) == has
    assert mcugrad("generate", str(path), "-o", str(tmp_path / "none"))[0] == 0
    assert "sums[16]" not in (tmp_path / "none" / "digits.c").read_text()
    assert (
        mcugrad("firmware", str(path), "--board", "mps2_an386", "-o", str(tmp_path / "f"))[0] == 0
    )
    assert "sums[16]" in (tmp_path / "f" / "network" / "digits.c").read_text()


def test_choices_of_another_mode_do_not_count(tmp_path: Path) -> None:
    path = copied("digits", tmp_path)
    (tmp_path / "digits.tune.toml").write_text(
        '[cortex-m4]\nmode = "int8"\n[cortex-m4.steps.relu1]\nsums = 16\n'
    )
    board = load_board("mps2_an386")
    spec = load_spec(path)
    assert not any(step.op.form for step in make_plan(spec, board).training.steps)
    narrow = named("digits", mode="int8", source=str(path))
    assert any(step.op.form for step in make_plan(narrow, board).training.steps)


def test_the_file_keeps_what_it_says_of_other_cores(mcugrad: Any, tmp_path: Path) -> None:
    path, file = copied("relu6", tmp_path), tmp_path / "relu6.tune.toml"
    mcugrad("tune", str(path), "--core", "cortex-m4", "--ram", "64KiB")
    first = file.read_text()
    assert "[cortex-m4.steps.d_dense1]\n" in first
    mcugrad("tune", str(path), "--core", "cortex-m0", "--ram", "64KiB")
    both = file.read_text()
    assert first[first.index("[cortex-m4]") :] in both
    assert both.index("[cortex-m0]") < both.index("[cortex-m4]")
    mcugrad("tune", str(path), "--core", "cortex-m4", "--ram", "64KiB")
    assert file.read_text() == both


def test_choices_are_told_one_by_one(mcugrad: Any, tmp_path: Path) -> None:
    path = copied("relu6", tmp_path)
    status, out, _ = mcugrad("tune", str(path), "--core", "cortex-m4", "--ram", "64KiB")
    assert status == 0
    assert re.search(r"^d_dense1: unroll = \d, [\d ]+ -> [\d ]+ instructions a step$", out, re.M)
    assert out.splitlines()[-1].endswith(f"; wrote {tmp_path / 'relu6.tune.toml'}")


# ---------------------------------------------------------------- errors

WAY = "mcugrad tune {net} --core cortex-m4 writes it anew, without it the defaults hold"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[cortex-m4.steps.relu7]\nsums = 16\n",
            "{file}: cortex-m4.steps.relu7: {net} has no such step; " + WAY,
        ),
        (
            "[cortex-m4.steps.relu1]\nsums = 17\n",
            "{file}: cortex-m4.steps.relu1: sums = 17 is no choice of this step; " + WAY,
        ),
        (
            "[cortex-m4.steps.relu1]\nspeed = 'high'\n",
            '{file}: cortex-m4.steps.relu1: speed = "high" is no choice of this step; ' + WAY,
        ),
        ("cortex-m4 = 1\n", "{file}: cortex-m4: must be a table, not 1; delete it"),
        (
            "[cortex-m4\n",
            "{file}: Expected ']' at the end of a table declaration (at line 1, column 11); "
            "delete it, and the defaults hold",
        ),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(
    text: str, line: str, mcugrad: Any, tmp_path: Path
) -> None:
    path, file = copied("digits", tmp_path), tmp_path / "digits.tune.toml"
    file.write_text(text)
    expected = line.format(file=file, net=path) + "\n"
    assert mcugrad("bench", str(path), "--core", "cortex-m4") == (2, "", expected)
    assert mcugrad("generate", str(path), "--board", "mps2_an386", "-o", str(tmp_path / "c")) == (
        2,
        "",
        expected,
    )
    assert not (tmp_path / "c").exists()


def test_tuning_repairs_a_stale_file(mcugrad: Any, tmp_path: Path) -> None:
    path, file = copied("digits", tmp_path), tmp_path / "digits.tune.toml"
    file.write_text("[cortex-m4.steps.relu7]\nsums = 16\n")
    assert mcugrad("tune", str(path), "--core", "cortex-m4", "--ram", "64KiB")[0] == 0
    assert "relu7" not in file.read_text()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("cortex-m0 = 3\n", "{file}: cortex-m0: must be a table, not 3; delete it"),
        ("x = [\n", "{file}: Invalid value (at end of document); delete it, and the defaults hold"),
    ],
)
def test_a_file_that_cannot_be_rewritten_is_said_before_anything_is_measured(
    text: str, line: str, mcugrad: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, file = copied("digits", tmp_path), tmp_path / "digits.tune.toml"
    file.write_text(text)
    monkeypatch.setattr("host_sim.tune.tune", None)
    expected = line.format(file=file) + "\n"
    assert mcugrad("tune", str(path), "--core", "cortex-m4") == (2, "", expected)
    assert file.read_text() == text


def test_a_folder_in_place_of_the_file_is_one_line(mcugrad: Any, tmp_path: Path) -> None:
    path, file = copied("digits", tmp_path), tmp_path / "digits.tune.toml"
    file.mkdir()
    line = f"{file}: Is a directory; remove it, and the defaults hold\n"
    assert mcugrad("bench", str(path), "--core", "cortex-m4") == (2, "", line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("--core", "cortex-m5"),
            "unknown core 'cortex-m5': did you mean cortex-m55? (cores: cortex-m0, cortex-m3, "
            "cortex-m4, cortex-m7, cortex-m33, cortex-m55, rv32imc)\n",
        ),
        ((), "mcugrad tune: Missing option '--core'; see mcugrad tune --help\n"),
        (
            ("--core", "cortex-m4", "--ram", "much"),
            "mcugrad tune: Invalid value for '--ram': 'much' is no size; write bytes, or 141kB, "
            "0.5MB, 64KiB; see mcugrad tune --help\n",
        ),
    ],
)
def test_a_bad_option_is_one_line(
    arguments: tuple[str, ...], line: str, mcugrad: Callable[..., Any], tmp_path: Path
) -> None:
    path = copied("digits", tmp_path)
    assert mcugrad("tune", str(path), *arguments) == (2, "", line)
    assert not (tmp_path / "digits.tune.toml").exists()
