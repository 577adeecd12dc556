"""Uno and Mega under simavr: the same bytes, what they take, and power cuts at every write."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from given import NO_SKIP, named

from codegen.board import load_board
from codegen.emit import Options, emit
from codegen.errors import UserError
from codegen.firmware import make_project
from codegen.pipeline import make_plan, make_state, synthetic_samples
from codegen.report import make_report
from codegen.spec import MODES, Spec, parse_spec
from host_sim.device import Device
from host_sim.firmware import (
    Built,
    EmulatedBoard,
    build_firmware,
    emulator_of,
    find_toolchain,
    write_project,
)
from host_sim.link import Link

SMALL = """
name = "small"
input = [6]
loss = "softmax_cross_entropy"
[training]
learning_rate = 0.05
[[layer]]
kind = "dense"
units = 8
[[layer]]
kind = "relu"
[[layer]]
kind = "dense"
units = 4
"""


@pytest.fixture(scope="module", autouse=True)
def simavr() -> None:
    try:
        board = load_board("arduino_uno")
        find_toolchain(board)
        emulator_of(board)
    except UserError as error:
        pytest.fail(str(error)) if NO_SKIP else pytest.skip(str(error))


def built(spec: Spec, name: str, folder: Path) -> Built:
    board = load_board(name)
    plan = make_plan(spec, board)
    project = make_project(spec, plan, make_state(spec, plan), board)
    write_project(folder, project)
    return build_firmware(folder, project, "gcc")


@dataclass
class Run:
    """A link to a device, and after it has ended what the device's work took."""

    link: Any
    figures: dict[str, int]


@contextmanager
def running(spec: Spec, firmware: Built, folder: Path, *options: str) -> Iterator[Run]:
    report, plan = folder / "report", make_plan(spec, firmware.board)
    run = Run(None, {})
    with EmulatedBoard(firmware.board, firmware.elf, f"report={report}", *options) as line:
        run.link = Link(line, spec, plan, make_state(spec, plan), place="simavr")
        yield run
    pairs = re.findall(r"(\w+) (\d+)", report.read_text())
    run.figures = {key: int(value) for key, value in pairs}


# ---------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["xor_gate", "digits"])
def test_the_mega_learns_the_same_bytes(name: str, mode: str, tmp_path: Path) -> None:
    """1 000 steps with an int of 16 bits, and tables that are in flash only."""
    spec = named(name, mode=mode)
    firmware = built(spec, "arduino_mega", tmp_path)
    device = Device(spec, board=firmware.board, counters=False)
    samples = synthetic_samples(spec, device.plan, 1000, seed=3)
    with running(spec, firmware, tmp_path) as run:
        order = range(len(samples))
        assert run.link.train_samples(samples, order) == device.train_samples(samples, order)
        assert run.link.read_parameters() == device.parameter_bytes


# ---------------------------------------------------------------- an Uno


def test_a_small_network_learns_on_an_uno(tmp_path: Path) -> None:
    """Link, EEPROM and stack included: RAM of 1 400 bytes, flash of 16 KiB at the most."""
    spec = parse_spec(SMALL, "small.toml")
    firmware = built(spec, "arduino_uno", tmp_path)
    device = Device(spec, board=firmware.board, counters=False)
    samples = synthetic_samples(spec, device.plan, 100, seed=3)
    with running(spec, firmware, tmp_path, f"eeprom={tmp_path / 'eeprom'}") as run:
        run.link.train_samples(samples, range(50))
        run.link.save()
        device.train_samples(samples, range(50))
    assert firmware.data_bytes + run.figures["stack"] < 1400
    assert firmware.code_bytes < 16 * 1024
    with running(spec, firmware, tmp_path, f"eeprom={tmp_path / 'eeprom'}") as run:
        assert run.link.read_parameters() == device.parameter_bytes  # after a reset
        run.link.train_samples(samples, range(50, 100))
        device.train_samples(samples, range(50, 100))
        assert run.link.read_parameters() == device.parameter_bytes


def test_tables_take_no_ram(tmp_path: Path) -> None:
    spec = named("xor_gate")
    firmware = built(spec, "arduino_uno", tmp_path)
    plan = make_plan(spec, firmware.board)
    report = make_report(plan, make_state(spec, plan))
    assert report.constants > 500
    assert firmware.data_bytes < report.total + 200


def test_a_step_takes_far_fewer_cycles_than_in_floats(tmp_path: Path) -> None:
    """AIfES in floats needs 67 221 for this network."""
    spec = named("xor_gate")
    firmware = built(spec, "arduino_mega", tmp_path)
    samples = synthetic_samples(spec, make_plan(spec, firmware.board), 100, seed=3)
    with running(spec, firmware, tmp_path, "count=xor_gate_train") as run:
        run.link.train_samples(samples, range(100))
    assert run.figures["calls"] == 100
    assert run.figures["inside"] / 100 < 8_000


# ---------------------------------------------------------------- power cuts


def test_a_power_cut_at_any_write_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    """The first and the second save to the EEPROM, cut at every seventh write of a byte."""
    spec = named("xor_gate")
    firmware = built(spec, "arduino_uno", tmp_path)
    samples = synthetic_samples(spec, make_plan(spec, firmware.board), 20, seed=3)
    eeprom = tmp_path / "eeprom"
    with running(spec, firmware, tmp_path, f"eeprom={eeprom}") as run:
        old = run.link.read_parameters()
        run.link.train_samples(samples, range(10))
        new = run.link.read_parameters()
        run.link.save()
    saved, writes = eeprom.read_bytes(), run.figures["writes"]
    assert writes > 50
    for begin, states in ((b"\xff" * len(saved), (old, new)), (saved, (new,))):
        for cut in range(1, writes + 1, 7):
            eeprom.write_bytes(begin)
            with running(spec, firmware, tmp_path, f"eeprom={eeprom}", f"cut={cut}") as run:
                run.link.train_samples(samples, range(10 if begin != saved else 0))
                with pytest.raises(UserError):
                    run.link.save()
            assert run.figures["writes"] == cut
            with running(spec, firmware, tmp_path, f"eeprom={eeprom}") as run:
                assert run.link.read_parameters() in states
                run.link.train_samples(samples, range(3))


# ---------------------------------------------------------------- tables in flash


def test_no_table_is_taken_for_ram(spec: Spec, tmp_path: Path) -> None:
    """Pointers to flash are another type: the compiler tells where one is taken for the other."""
    board = load_board("arduino_mega")
    try:
        plan = make_plan(spec, board)
        files = emit(spec, plan, make_state(spec, plan), Options(board=board.name))
    except UserError as too_large:
        if "(16-bit sizes)" in str(too_large):
            return
        raise
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    flags = ("-mmcu=atmega2560", "-std=gnu99", "-Os", "-Wall", "-Wextra", "-Wno-array-bounds")
    more = ("-Waddr-space-convert", "-Werror", "-fsyntax-only")
    sources = [name for name in files if name.endswith(".c")]
    done = subprocess.run(
        ["avr-gcc", *flags, *more, *sources],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
