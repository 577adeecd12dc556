"""Uno and Mega under simavr: the same bytes, what they take, and power cuts at every write."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from arduino import PLATFORM, build_sketch
from elftools.elf.elffile import ELFFile
from given import PATHS, lacking, named

from codegen.board import load_board
from codegen.emit import Options, emit
from codegen.errors import UserError
from codegen.firmware import LINK_STATE_BYTES, make_package, make_project, overhead_bytes
from codegen.layout import initial_tables
from codegen.pipeline import make_plan, make_state, synthetic_samples
from codegen.report import make_report
from codegen.spec import MODES, Spec, load_spec, parse_spec
from host_sim.device import Device
from host_sim.firmware import (
    Built,
    EmulatedBoard,
    build_firmware,
    emulator_of,
    find_toolchain,
    measured,
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
        lacking(str(error))


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


# Kernels of optimizers, batches, curves and recurrences, too, count with an int of 16 bits.
OTHERS = ("batch_momentum", "frozen_prefix", "optimizer_adam", "dropout", "elu", "gru")


@pytest.mark.parametrize(
    ("name", "mode", "steps"),
    [
        *((name, mode, 1000) for name in ("xor_gate", "digits") for mode in MODES),
        *((name, mode, 150) for name in OTHERS for mode in ("int16", "int8")),
    ],
)
def test_the_mega_learns_the_same_bytes(name: str, mode: str, steps: int, tmp_path: Path) -> None:
    """With an int of 16 bits, and tables that are in flash only."""
    spec = named(name, mode=mode)
    firmware = built(spec, "arduino_mega", tmp_path)
    device = Device(spec, board=firmware.board, counters=False)
    samples = synthetic_samples(spec, device.plan, steps, seed=3)
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


@pytest.mark.parametrize(("name", "cycles"), [("xor_gate", 8_000), ("digits", 400_000)])
def test_a_step_takes_few_cycles(name: str, cycles: int, tmp_path: Path) -> None:
    """AIfES in floats needs 67 221 for the first; the second does not fit."""
    spec = named(name)
    firmware = built(spec, "arduino_mega", tmp_path)
    samples = synthetic_samples(spec, make_plan(spec, firmware.board), 100, seed=3)
    with running(spec, firmware, tmp_path, f"count={name}_train") as run:
        run.link.train_samples(samples, range(100))
    assert run.figures["calls"] == 100
    assert run.figures["inside"] / 100 < cycles


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


# ---------------------------------------------------------------- constants in flash

FROZEN = """
name = "frozen"
input = [6, 4]
loss = "softmax_cross_entropy"
[training]
learning_rate = 0.05
[[layer]]
kind = "conv1d"
filters = 4
kernel = 3
padding = "same"
{middle}
[[layer]]
kind = "flatten"
[[layer]]
kind = "dense"
units = 3
"""
MIDDLE = {
    "convolutions": """
[[layer]]
kind = "conv1d"
filters = 6
kernel = 3
padding = "same"
[[layer]]
kind = "prelu"
[[layer]]
kind = "conv1d"
filters = 4
kernel = 3
groups = 2
[[layer]]
kind = "scale_shift"
""",
    "recurrent": """
[[layer]]
kind = "gru"
units = 3
sequence = true
[[layer]]
kind = "simple_rnn"
units = 3
sequence = true
""",
}
RAM = 0x80_0000  # where the linker has what is in RAM; below is flash


def learns_less(spec: Spec, update: str) -> Spec:
    """All layers but the first that learn do so no more, or in their biases only."""
    names = [t.name for t in make_plan(spec).training.trained]
    wanted = {name.removesuffix("_b") for name in names if name.endswith("_b")}
    if update == "none":
        wanted |= {name.rsplit("_", 1)[0] for name in names}
    layers = [layer for layer in spec.layers if layer.name in wanted]
    less = tuple(replace(x, update=update) if x in layers[1:] else x for x in spec.layers)
    return replace(spec, layers=less)


def symbols(elf: Path) -> dict[str, int]:
    table = ELFFile(BytesIO(elf.read_bytes())).get_section_by_name(".symtab")
    return {symbol.name: symbol["st_value"] for symbol in table.iter_symbols()}


@pytest.mark.parametrize(
    ("name", "mode", "update"),
    [
        ("convolutions", "int16", "none"),
        ("convolutions", "int8", "bias"),
        ("convolutions", "int8_compact", "none"),
        ("recurrent", "int16", "bias"),
        ("recurrent", "int8", "none"),
    ],
)
def test_weights_that_do_not_learn_are_read_from_flash(
    name: str, mode: str, update: str, tmp_path: Path
) -> None:
    """Forth, and back to a layer before them; the same bytes, and no RAM for them."""
    text = FROZEN.format(middle=MIDDLE[name])
    spec = learns_less(replace(parse_spec(text, "frozen.toml"), mode=mode), update)
    firmware = built(spec, "arduino_mega", tmp_path)
    device = Device(spec, board=firmware.board, counters=False)
    tables = initial_tables(device.plan, make_state(spec, device.plan))
    frozen = [table for table in tables if table.frozen]
    found = symbols(firmware.elf)
    assert {table.name for table in frozen if found[table.name] >= RAM} == set()
    total = make_report(device.plan, make_state(spec, device.plan)).total
    assert sum(table.bytes for table in frozen) > LINK_STATE_BYTES
    assert firmware.board.firmware is not None
    foretold = total + overhead_bytes(device.plan, firmware.board.firmware)
    assert firmware.data_bytes + firmware.board.firmware.stack_bytes <= foretold
    samples = synthetic_samples(spec, device.plan, 20, seed=3)
    with running(spec, firmware, tmp_path) as run:
        assert run.link.train_samples(samples, range(20)) == device.train_samples(
            samples, range(20)
        )
        assert run.link.read_parameters() == device.parameter_bytes


@pytest.mark.parametrize("update", ["all", "none"])
def test_no_constant_is_taken_for_ram(network: Path, update: str, tmp_path: Path) -> None:
    """Pointers to flash are another type: the compiler tells where one is taken for the other."""
    board, mode = load_board("arduino_mega"), MODES[PATHS.index(network) % len(MODES)]
    spec = replace(load_spec(network), mode=mode)
    try:
        spec = spec if update == "all" else learns_less(spec, update)
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


# ---------------------------------------------------------------- Arduino's own core


ARDUINO = {"arduino_uno": ["uno"], "arduino_mega": ["mega", "mega.menu.cpu.atmega2560"]}


@pytest.mark.parametrize(
    ("name", "network"), [("arduino_uno", "frozen_prefix"), ("arduino_mega", "xor_gate")]
)
def test_the_library_learns_in_a_sketch_of_the_real_arduino(
    name: str, network: str, tmp_path: Path
) -> None:
    """Its example, built by the recipes of Arduino's core, answers the link over Serial."""
    if not PLATFORM.is_dir():
        lacking(f"there is no {PLATFORM}: apt-get install arduino-core-avr")
    spec, board = named(network), load_board(name)
    plan = make_plan(spec, board)
    state = make_state(spec, plan)
    package = make_package("arduino", spec, plan, state, board)
    for file, text in package.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text, encoding="utf-8")
    elf = build_sketch(tmp_path, "examples/Learn/Learn.ino", ARDUINO[name], tmp_path)
    device = Device(spec, board=board, counters=False)
    samples = synthetic_samples(spec, plan, 60, seed=3)
    with running(spec, measured(elf, board), tmp_path) as run:
        began = run.link.statistics()  # a UART that starts within a greeting hears the rest of it
        assert run.link.read_parameters() == device.parameter_bytes
        order = range(len(samples))
        assert run.link.train_samples(samples, order) == device.train_samples(samples, order)
        assert run.link.read_parameters() == device.parameter_bytes
        assert run.link.statistics().dropped == began.dropped
