"""mcugrad bench: its JSON, its worst case, and what it counts."""

import json
import subprocess
import sys
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given import NETWORKS, named
from rich.console import Console

from codegen.emit import Options, emit
from codegen.interpret import IntegerLearner
from codegen.layout import initial_tables, pack
from codegen.pipeline import make_plan, make_state
from codegen.report import multiplies
from codegen.show import bench_tables
from codegen.spec import MODES, Spec
from host_sim.bench import (
    BenchResult,
    CoreCost,
    WorstCase,
    bench,
    board_with,
    core_cost,
    worst_case,
)
from host_sim.device import Build
from host_sim.emulator import core_names, find_core

XOR = str(NETWORKS / "xor_gate.toml")
CORES = core_names()

LARGE = 400_000  # multiplications a step

# ---------------------------------------------------------------- the worst case


def test_no_row_is_skipped_in_the_worst_case(spec: Spec) -> None:
    """Of any network in any mode, on boards of both kinds; the largest would take minutes."""
    for core in ("cortex-m0", "cortex-m4"):
        plan = make_plan(spec, board_with(find_core(core)))
        if multiplies(plan)["total"] > LARGE:
            continue
        case = worst_case(spec, plan)
        for state in case.states():
            learner = IntegerLearner(plan.quantized, state)
            learner.train(case.samples.x[0], case.samples.target[0])
            # A loss that leaves scores without an error leaves rows to skip.
            assert learner.skipped == 0 or not spec.loss.reaches_all


def test_a_skipped_row_would_be_noticed() -> None:
    """A hidden unit that is off has no error, so that its row is skipped in each step."""
    spec = named("digits")
    plan = make_plan(spec)
    case = worst_case(spec, plan)
    state = deepcopy(case.state)
    state.values["dense1_b"][5] = -(2**30)
    assert WorstCase(plan, state, case.samples).skipped() == case.period == 16


@pytest.mark.parametrize("mode", MODES)
def test_the_core_takes_the_step_that_the_integers_take(mode: str) -> None:
    """Else the proof that nothing is skipped would be one of something else."""
    spec = named("digits", mode=mode)
    plan = make_plan(spec)
    case = worst_case(spec, plan)
    build = Build(spec, plan, make_state(spec, plan), Options(), find_core("cortex-m4"))
    learner = IntegerLearner(plan.quantized, deepcopy(case.state))
    build.params[:] = np.frombuffer(pack(plan, case.state), np.uint8)
    build.run(case.samples, np.zeros(1, np.uint32))
    learner.train(case.samples.x[0], case.samples.target[0])
    assert build.params.tobytes() == pack(plan, learner.state)


# ---------------------------------------------------------------- costs


@pytest.mark.parametrize("name", ["xor_gate", "digits", "batch_momentum", "frozen_prefix"])
def test_the_parts_sum_to_the_whole(name: str) -> None:
    spec = named(name)
    cost = bench(spec, [find_core("cortex-m4")]).cores["cortex-m4"]
    assert abs(sum(cost.functions.values()) - cost.train) <= len(cost.functions) / 2 + 1
    assert not any(function.startswith("harness") for function in cost.functions)
    macs = multiplies(make_plan(spec))["total"]
    assert cost.train_per_mac == pytest.approx(cost.train / macs, rel=1e-3, abs=1 / macs)
    assert 0 < cost.predict < cost.train
    assert 0 < cost.stack_bytes <= cost.stack_bound_bytes < 1024


def test_steps_that_skip_rows_cost_less() -> None:
    cost = bench(named("digits"), [find_core("cortex-m4")]).cores["cortex-m4"]
    assert cost.train_typical < 0.9 * cost.train


@pytest.mark.parametrize("core", CORES)
def test_rounding_to_nearest_costs_no_more(core: str) -> None:
    """It draws no more, and each core has a body for both ways or for none."""
    trains = {
        rounding: core_cost(named("digits", rounding=rounding), find_core(core)).train
        for rounding in ("stochastic", "nearest")
    }
    assert trains["nearest"] <= trains["stochastic"]


def test_starting_and_frozen_weights_are_no_code() -> None:
    """The same code for weights of 4 KB and of 200 KB; all that is left out is their tables."""
    core = find_core("cortex-m4")
    sizes = {}
    for name in ("digits", "mnist", "frozen_prefix"):
        spec = named(name)
        plan = make_plan(spec)
        state = make_state(spec, plan)
        files = emit(spec, plan, state, Options())
        sizes[name] = core.code_bytes(files, spec.name)
        tables = sum(table.bytes for table in initial_tables(plan, state))
        assert sizes[name] == linked_bytes(core, files) - tables
    assert sizes["mnist"] < 1.5 * sizes["digits"]


def linked_bytes(core: Any, files: Any) -> int:
    """Code and constants of all files, by their object files; alignment between them left out."""
    from host_sim.elf import section_bytes

    sources = [name for name in files if name.endswith(".c")]
    return sum(section_bytes(core._object(files, name), ".text", ".rodata") for name in sources)


# ---------------------------------------------------------------- the command line


def test_bench_prints_one_json_object(mcugrad: Any, need: Any) -> None:
    need("qemu-system-arm")
    status, out, err = mcugrad("bench", XOR, "--json")
    result = json.loads(out)
    assert (status, err) == (0, "")
    assert list(result) == ["network", "mode", "cores"]
    assert (result["network"], result["mode"]) == ("xor_gate", "int16")
    assert list(result["cores"]) == [*CORES]
    for cost in result["cores"].values():
        assert list(cost) == [
            *("train", "train_typical", "predict", "train_per_mac", "functions"),
            *("stack_bytes", "stack_bound_bytes", "code_bytes"),
        ]
        assert all(
            isinstance(cost[key], int) for key in cost if key not in ("functions", "train_per_mac")
        )
        assert cost["functions"]["xor_gate_train"] > 0


def test_bench_takes_another_mode_than_that_of_the_file(mcugrad: Any) -> None:
    arguments = ("bench", str(NETWORKS / "digits.toml"), "--core", "cortex-m4", "--json")
    result = json.loads(mcugrad(*arguments, "--mode", "int8")[1])
    assert result["mode"] == "int8"
    spec = named("digits", mode="int8")
    assert result["cores"]["cortex-m4"]["train"] == (
        bench(spec, [find_core("cortex-m4")]).cores["cortex-m4"].train
    )


def test_a_mode_that_the_network_refuses_is_one_line(mcugrad: Any, tmp_path: Path) -> None:
    path = tmp_path / "net.toml"
    text = Path(XOR).read_text(encoding="utf-8")
    path.write_text(text.replace("[training]\n", "[training]\nrounding = 'nearest'\n"))
    assert mcugrad("bench", str(path), "--mode", "int8_compact", "--core", "cortex-m4") == (
        2,
        "",
        f"{path}: [training]: rounding = 'nearest' loses every small change of 8-bit weights; "
        "int8_compact needs rounding = 'stochastic'\n",
    )


def test_bench_is_the_same_each_time(mcugrad: Any) -> None:
    arguments = ("bench", XOR, "--core", "cortex-m3", "--json")
    assert mcugrad(*arguments) == mcugrad(*arguments)


def test_bench_prints_tables(mcugrad: Any) -> None:
    status, out, _ = mcugrad("bench", XOR, "--core", "cortex-m0", "--core", "rv32imc")
    assert status == 0
    assert "cortex-m0" in out
    assert "rv32imc" in out
    assert "xor_gate_train" in out
    assert "cortex-m4" not in out


def test_names_of_functions_are_whole_beside_many_cores() -> None:
    name = "fxp_two_rows16_by_16"
    cost = CoreCost(1, 1, 1, 1.0, {name: 1}, 1, 1, 1)
    result = BenchResult("net", "int16", {f"cortex-m{i}": cost for i in range(8)})
    out = StringIO()
    Console(file=out, width=100).print(bench_tables(result)[1])
    rows = [line for line in out.getvalue().splitlines() if line.startswith("│")]
    assert "".join(row.split("│")[1].strip() for row in rows) == name


def test_bench_takes_its_typical_steps_from_data(mcugrad: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.full((20, 64), 8.0), y=np.zeros(20))
    arguments = ("bench", str(NETWORKS / "digits.toml"), "--core", "cortex-m4", "--json")
    plain = json.loads(mcugrad(*arguments)[1])["cores"]["cortex-m4"]
    own = json.loads(mcugrad(*arguments, "--data", str(tmp_path / "d.npz"))[1])["cores"][
        "cortex-m4"
    ]
    assert own["train_typical"] < plain["train_typical"]
    assert own["train"] == plain["train"]


def test_train_learns_the_same_on_a_core(mcugrad: Any, tmp_path: Path) -> None:
    rows = "\n".join(f"{a},{b},{a ^ b}" for a in (0, 1) for b in (0, 1))
    (tmp_path / "xor.csv").write_text(rows + "\n")
    arguments = ("train", XOR, "--data", str(tmp_path / "xor.csv"), "--epochs", "20", "--json")
    host = mcugrad(*arguments)
    assert host[0] == 0
    assert mcugrad(*arguments, "--core", "cortex-m0") == host
    assert mcugrad(*arguments, "--core", "rv32imc") == host


@pytest.mark.parametrize("command", [("bench", XOR), ("train", XOR, "--data", "none.csv")])
def test_an_unknown_core_is_one_line(mcugrad: Any, command: tuple[str, ...]) -> None:
    assert mcugrad(*command, "--core", "cortex-m5") == (
        2,
        "",
        f"unknown core 'cortex-m5': did you mean cortex-m55? (cores: {', '.join(CORES)})\n",
    )


def test_without_gcc_for_the_core_the_way_out_is_named(
    mcugrad: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    line = "there is no arm-none-eabi-gcc on the PATH; install it or take --toolchain zig\n"
    assert mcugrad("bench", XOR, "--core", "cortex-m4", "--toolchain", "gcc") == (2, "", line)


@pytest.mark.parametrize("package", ["unicorn", "elftools", "ziglang"])
def test_a_missing_package_is_one_line(package: str) -> None:
    code = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        f"u.find_spec = lambda name, *rest: None if name == '{package}' else find(name, *rest)\n"
        f"sys.modules['{package}'] = None\n"
        f"sys.argv = ['mcugrad', 'bench', {XOR!r}]\n"
        "from codegen.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    name = {"elftools": "pyelftools"}.get(package, package)
    line = f"emulated cores need {name}; pip install 'mcugrad[boards]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line)
