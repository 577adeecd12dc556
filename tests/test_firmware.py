"""Firmware for boards: it builds for all of them, and learns on emulated ones as on this machine."""

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from given import NETWORKS, named

from codegen import paths
from codegen.board import Board, all_boards, load_board
from codegen.errors import UserError
from codegen.firmware import (
    LINK_STATE_BYTES,
    Project,
    Toolchain,
    make_package,
    make_project,
    overhead_bytes,
    package_kinds,
)
from codegen.pipeline import load_spec_data, make_plan, make_state, synthetic_samples
from codegen.report import make_report
from codegen.spec import Spec, load_spec, parse_spec
from host_sim.compiler import STRICT, Compiler
from host_sim.device import Device
from host_sim.firmware import build_firmware, emulated, measured, write_binary, write_project
from host_sim.link import Link, SerialLine
from host_sim.recording import Readings, record

ROOT = Path(__file__).parent.parent
XOR = str(NETWORKS / "xor_gate.toml")
BARE = {b.name: b for b in all_boards() if b.firmware is not None}
EMULATED = [
    name
    for name, board in BARE.items()
    if board.firmware and (tool := board.firmware.emulator) and not tool.source
]
Run = Callable[..., tuple[int, str, str]]
Need = Callable[..., None]


def project_of(spec: Spec, board: Board, toolchain: Toolchain = "gcc") -> Project:
    plan = make_plan(spec, board)
    return make_project(spec, plan, make_state(spec, plan), board, toolchain)


def core_of(board: Board) -> str:
    """The compiler of gcc, by what the board's core is."""
    if board.core.startswith("cortex"):
        return "arm-none-eabi-gcc"
    return "avr-gcc" if board.core.startswith("avr") else "riscv64-unknown-elf-gcc"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mcugrad: Run) -> Run:
    """mcugrad with these arguments, in a folder with samples: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    Path("xor.csv").write_text("".join(f"{a},{b},{a ^ b}\n" for a in (0, 1) for b in (0, 1)))
    return mcugrad


# ---------------------------------------------------------------- what is written


@pytest.mark.parametrize("name", BARE)
def test_the_same_network_gives_the_same_project(name: str) -> None:
    first, second = (project_of(named("xor_gate"), load_board(name)).files for _ in range(2))
    assert first == second
    for file, text in first.items():
        assert text.endswith("\n"), file
        assert not re.search(r"[ \t]\n|\n\n\n|/home/|/tmp/|20\d\d-\d\d", text), file
        is_ours = file.startswith(("main.c", "board/"))
        assert not is_ours or max(map(len, text.splitlines())) <= 100, file


@pytest.mark.parametrize("name", BARE)
def test_generated_files_are_formatted(name: str, clang_format: str, tmp_path: Path) -> None:
    files = project_of(named("xor_gate"), load_board(name)).files
    shutil.copy(ROOT / ".clang-format", tmp_path)
    generated = ("main.c", "board/board.c", "board/board.h")
    for file in generated:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(files[file])
    command = [clang_format, "--dry-run", "-Werror", *generated]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_board_is_data_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is copied and changed is a board."""
    monkeypatch.setattr(paths, "BOARDS", tmp_path)
    text = (ROOT / "firmware" / "boards" / "microbit" / "board.toml").read_text(encoding="utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "board.toml").write_text(
        text.replace("UART_BASE = 0x4000_2000", "UART_BASE = 0x4000_9000")
    )
    files = project_of(named("xor_gate"), load_board("mine")).files
    assert "#define UART_BASE 0x40009000u\n" in files["board/board.h"]


def test_without_room_for_two_slots_nothing_is_kept_and_the_readme_says_so() -> None:
    spec, board = named("digits", mode="int8_compact"), load_board("arduino_mega")
    files = project_of(spec, board).files
    assert "runtime/link_no_checkpoint.c" in files
    assert "runtime/checkpoint.c" not in files
    assert "There is no memory for checkpoints here" in files["README.md"]
    assert "at 0x00000000" in project_of(named("xor_gate"), board).files["README.md"]


# ---------------------------------------------------------------- it builds


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("name", BARE)
def test_it_builds_without_a_warning_and_within_what_was_foretold(
    name: str, toolchain: Toolchain, tmp_path: Path, need: Need
) -> None:
    board, spec = load_board(name), named("xor_gate")
    project = project_of(spec, board)
    if toolchain not in project.commands:
        assert board.core.startswith("avr")
        return
    if toolchain == "gcc":
        need(core_of(board))
    command = project.commands[toolchain]
    strict = replace(command, compiles=(*command.compiles, *STRICT))
    project = replace(project, commands={toolchain: strict})
    write_project(tmp_path, project)
    built = build_firmware(tmp_path, project, toolchain)
    plan = make_plan(spec, board)
    state = make_state(spec, plan)
    assert board.firmware is not None
    foretold = make_report(plan, state).total + overhead_bytes(plan, board.firmware)
    assert foretold - LINK_STATE_BYTES < built.data_bytes + board.firmware.stack_bytes <= foretold
    assert make_report(plan, state).constants < built.code_bytes < 16_384


def run_cmake(folder: Path) -> None:
    """Configures and builds in the folder's build/."""
    for arguments in (["-S", ".", "-B", "build"], ["--build", "build"]):
        subprocess.run(["cmake", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.parametrize("way", ["make", "cmake"])
@pytest.mark.parametrize("name", ["microbit", "rv32_virt", "arduino_uno"])
def test_make_and_cmake_build_the_same(name: str, way: str, tmp_path: Path, need: Need) -> None:
    board = load_board(name)
    need(core_of(board), way)
    project = project_of(named("xor_gate"), board)
    binaries = []
    for folder in (tmp_path / "ours", tmp_path / "theirs"):
        write_project(folder, project)
        if folder.name == "ours":
            build_firmware(folder, project, "gcc")
        elif way == "make":
            subprocess.run(["make", "-C", folder], check=True, capture_output=True)
        else:
            run_cmake(folder)
        sizes = measured(folder / project.elf, board)
        binaries.append((sizes.code_bytes, sizes.data_bytes))
        assert write_binary(folder / project.elf).stat().st_size == sizes.code_bytes
    assert binaries[0] == binaries[1]


@pytest.mark.parametrize("way", ["make", "cmake"])
def test_zig_builds_with_make_and_cmake(
    way: str, tmp_path: Path, need: Need, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take the python3 of the PATH; here that is the one with the package ziglang."""
    need(way, "make")
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PATH", f"{python.parent}:{os.environ['PATH']}")
    board = load_board("mps2_an386")
    project = project_of(named("xor_gate"), board, "zig")
    folder = tmp_path / "fw"
    write_project(folder, project)
    if way == "make":
        subprocess.run(["make"], cwd=folder, check=True, capture_output=True)
    else:
        run_cmake(folder)
    sizes = measured(folder / project.elf, board)
    ours = build_firmware(folder, project, "zig")
    assert (sizes.code_bytes, sizes.data_bytes) == (ours.code_bytes, ours.data_bytes)


# ---------------------------------------------------------------- it learns


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("name", EMULATED)
def test_an_emulated_board_learns_the_same_bytes(
    name: str, toolchain: Toolchain, need: Need
) -> None:
    board, spec = load_board(name), named("xor_gate")
    assert board.firmware is not None
    assert board.firmware.emulator is not None
    need(board.firmware.emulator.command.split()[0], *([core_of(board)] * (toolchain == "gcc")))
    device = Device(spec, board=board, counters=False)
    samples = synthetic_samples(spec, device.plan, 60, seed=3)
    with emulated(project_of(spec, board), toolchain) as line:
        link = Link(line, spec, device.plan, make_state(spec, device.plan), place=name)
        began = link.statistics()  # a UART that starts within a greeting hears the rest of it
        assert link.read_parameters() == device.parameter_bytes
        assert link.train_samples(samples, range(60)) == device.train_samples(samples, range(60))
        assert link.read_parameters() == device.parameter_bytes
        assert np.array_equal(link.scores(samples.x[0]), device.scores_of(samples.x[:1])[0])
        assert link.statistics().dropped == began.dropped


PROGRAM = """\
#include "board.h"
#include "uart.h"

static uint8_t greeting[] = "hello";
static volatile uint8_t nothing[64];
static volatile float half = 0.5f;

int main(void)
{
    uint8_t sum = 0;
    board_init();
    uart_init();
    for (uint8_t i = 0; i < sizeof nothing; i++) {
        sum |= nothing[i];
    }
    greeting[0] = (uint8_t)(greeting[0] - 'h' + 'H' + sum);
    greeting[4] = (uint8_t)(greeting[4] + (half * 8.0f == 4.0f ? 0 : 1));
    for (uint8_t i = 0; i < 5; i++) {
        uart_write(greeting[i]);
    }
    for (;;) {
    }
}
"""


@pytest.mark.parametrize("toolchain", ["gcc", "zig"])
@pytest.mark.parametrize("name", EMULATED)
def test_variables_have_their_values_when_main_begins(
    name: str, toolchain: Toolchain, need: Need
) -> None:
    """And floats work, where the core has registers for them that must be switched on."""
    board = load_board(name)
    assert board.firmware is not None
    assert board.firmware.emulator is not None
    need(board.firmware.emulator.command.split()[0], *([core_of(board)] * (toolchain == "gcc")))
    project = project_of(named("xor_gate"), board)
    files = {**project.files, "main.c": PROGRAM}
    with emulated(replace(project, files=files), toolchain) as line:
        said = b""
        while len(said) < 5 and (more := line.read(5)):
            said += more
    assert said == b"Hello"


@pytest.mark.parametrize("mode", ["int8", "int8_compact"])
def test_larger_networks_learn_on_the_microbit_in_other_modes(mode: str, need: Need) -> None:
    board, spec = load_board("microbit"), named("digits", mode=mode)
    need("qemu-system-arm")
    device = Device(spec, board=board, counters=False)
    samples = synthetic_samples(spec, device.plan, 40, seed=3)
    with emulated(project_of(spec, board)) as line:
        link = Link(line, spec, device.plan, make_state(spec, device.plan))
        assert link.train_samples(samples, range(40)) == device.train_samples(samples, range(40))
        assert link.read_parameters() == device.parameter_bytes


def test_the_microbit_keeps_what_it_saved(need: Need) -> None:
    """Its flash controller is emulated too."""
    board, spec = load_board("microbit"), named("xor_gate")
    need("qemu-system-arm")
    plan = make_plan(spec, board)
    samples = synthetic_samples(spec, plan, 20, seed=3)
    with emulated(project_of(spec, board)) as line:
        link = Link(line, spec, plan, make_state(spec, plan))
        for saves in range(6):  # more than there are slots
            link.train_samples(samples, range(saves + 1))
            kept = link.read_parameters()
            link.save()
            link.train_samples(samples, range(5))
            assert link.read_parameters() != kept
            link.load()
            assert link.read_parameters() == kept


def test_flash_without_its_controller_is_said(need: Need) -> None:
    board, spec = load_board("stm32vldiscovery"), named("xor_gate")
    need("qemu-system-arm")
    plan = make_plan(spec, board)
    with emulated(project_of(spec, board)) as line:
        link = Link(line, spec, plan, make_state(spec, plan), place="board")
        with pytest.raises(UserError) as caught:
            link.save()
    assert str(caught.value) == (
        "board: the device cannot write its memory, which may be worn out; use another part of it"
    )


@pytest.mark.parametrize("name", ["mps2_an386", "mps2_an505", "mps3_an547", "rv32_virt"])
def test_a_board_without_memory_for_checkpoints_says_so(name: str, need: Need) -> None:
    """It has RAM only; what it learnt is still there."""
    board, spec = load_board(name), named("xor_gate")
    need("qemu-system-arm", "qemu-system-riscv32")
    plan = make_plan(spec, board)
    with emulated(project_of(spec, board)) as line:
        link = Link(line, spec, plan, make_state(spec, plan), place="board")
        link.train_samples(synthetic_samples(spec, plan, 5, seed=3), range(5))
        before = link.read_parameters()
        for refused in (link.save, link.load):
            with pytest.raises(UserError) as caught:
                refused()
            assert str(caught.value) == (
                "board: the device has no memory for checkpoints; read the parameters and keep "
                "them on this machine"
            )
        assert link.read_parameters() == before


def test_link_emulates_a_board(run: Run, need: Need) -> None:
    need("qemu-system-arm")
    arguments = ("--data", "xor.csv", "--epochs", "3", "--json")
    board = ("--board", "mps2_an386", "--emulate", "--save", "p.npz", "--csv", "c.csv")
    status, out, err = run("link", XOR, *board, *arguments)
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert result["port"] == "emulated mps2_an386"
    trained = json.loads(run("train", XOR, *arguments)[1])
    assert result["parameters_crc32"] == trained["parameters_crc32"]
    assert len(Path("c.csv").read_text().splitlines()) == 5
    assert Path("p.npz").is_file()


def test_link_starts_where_the_firmware_started(run: Run, need: Need) -> None:
    """Weights that do not learn are in the firmware: both ends must have the same."""
    need("qemu-system-arm")
    text = Path(XOR).read_text().replace("units = 3", 'units = 3\nupdate = "none"')
    Path("frozen.toml").write_text(text)
    spec = load_spec(Path("frozen.toml"))
    first = Device(spec, seed=7)
    first.save(Path("start.npz"))
    arguments = ("link", "frozen.toml", "--board", "microbit", "--emulate", "--data", "xor.csv")
    status, _, err = run(*arguments, "--start", "start.npz", "--save", "p.npz", "--json")
    assert (status, err) == (0, "")
    with np.load("start.npz") as start, np.load("p.npz") as learnt:
        assert np.array_equal(start["dense1_w"], learnt["dense1_w"])
        assert not np.array_equal(start["dense2_b"], learnt["dense2_b"])


def test_run_names_a_terminal_at_which_the_board_answers(tmp_path: Path, need: Need) -> None:
    need("qemu-system-arm")
    # A shell starts what runs in the background with SIGINT ignored, which is inherited.
    heard = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{heard}; from codegen.cli import main; main()"
    arguments = ["firmware", XOR, "--board", "microbit", "-o", str(tmp_path / "fw"), "--run"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        try:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(5)]
            line = rf"emulated microbit runs .*; next: mcugrad link {XOR} --port (\S+)\n"
            found = re.fullmatch(line, lines[-1])
            assert found is not None, lines
            spec = named("xor_gate")
            plan = make_plan(spec, load_board("microbit"))
            with SerialLine(found[1]) as port:
                link = Link(port, spec, plan, make_state(spec, plan))
                assert link.statistics().trained == 0
        finally:
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert process.stderr.read().split() == ["stopped"]
    assert process.returncode == 2


# ---------------------------------------------------------------- the command


def test_build_says_what_it_takes(run: Run, need: Need) -> None:
    need("arm-none-eabi-gcc")
    arguments = ("firmware", XOR, "--board", "microbit", "-o", "fw", "--toolchain", "gcc")
    count = len(project_of(load_spec(Path(XOR)), load_board("microbit")).files)
    assert run(*arguments) == (0, f"wrote {count} files to fw; next: make -C fw\n", "")
    status, out, err = run(*arguments, "--build", "--json")  # into the same folder
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert set(result) == {"elf", "board", "flash", "ram", "stack"}
    assert (result["elf"], result["board"]) == ("fw/build/xor_gate.elf", "microbit")
    assert result["flash"]["of"] == 229_376
    assert result["stack"] == result["ram"]["of"] - result["ram"]["used"]
    flash, ram = result["flash"]["used"], result["ram"]["used"]
    share = 100 * flash / 229_376
    assert run(*arguments, "--build")[1] == (
        "built fw/build/xor_gate.elf\n"
        f"flash: {flash:,} of 229,376 bytes ({share:.1f} %)\n"
        f"RAM: {ram:,} of 16,384 bytes ({100 * ram / 16_384:.1f} %)\n"
        f"left for the stack: {16_384 - ram:,} bytes\n"
    )


def test_with_data_the_starting_formats_fit_them(run: Run) -> None:
    run("firmware", XOR, "--board", "mps2_an386", "-o", "fw", "--data", "xor.csv")
    run("generate", XOR, "--board", "mps2_an386", "-o", "c", "--data", "xor.csv")
    assert Path("fw/network/xor_gate_init.c").read_text() == Path("c/xor_gate_init.c").read_text()


FIRMWARE = ("firmware", XOR, "-o", "fw")
BOARDS = ", ".join(board.name for board in all_boards())
W4 = str(NETWORKS / "w4.toml")


def too_large(name: str, way: str) -> str:
    """What is said of W4 on a board, with the bytes of the report."""
    spec, board = load_spec(Path(W4)), load_board(name)
    plan = make_plan(spec, board)
    state = make_state(spec, plan)
    assert board.firmware is not None
    total, more = make_report(plan, state).total, overhead_bytes(plan, board.firmware)
    room = board.firmware.data.bytes - more
    return (
        f"{W4}: w4 does not fit {name}: it takes {total} bytes of RAM, and link and stack {more}, "
        f"but the board has {board.firmware.data.bytes}: {total - room} too many; "
        + way.format(room=room)
    )


def test_constants_beyond_pointers_of_16_bits_are_said() -> None:
    """Program memory of a Mega is larger than what they reach."""
    frozen = '[[layer]]\nkind = "dense"\nunits = {}\nupdate = "none"\n'
    layers = "".join(frozen.format(units) for units in (32, 1000, 32))
    learning = "[training]\nlearning_rate = 0.1\n"
    text = f'name = "large"\ninput = [1000]\nloss = "squared_error"\n{learning}{layers}'
    spec = parse_spec(f'{text}[[layer]]\nkind = "dense"\nunits = 1\n', "large.toml")
    board = load_board("arduino_mega")
    plan = make_plan(spec, board)
    constants = make_report(plan, make_state(spec, plan)).constants
    with pytest.raises(UserError) as caught:
        project_of(spec, board)
    assert str(caught.value) == (
        f"large.toml: large does not fit arduino_mega: its constants take {constants} bytes of "
        f"flash, of 65280: {constants - 65_280} too many; shrink the network, or take another board"
    )


MISTAKES = {
    "unknown board": (
        (*FIRMWARE, "--board", "microbits"),
        f"unknown board 'microbits': did you mean microbit? (boards: {BOARDS})",
    ),
    "no board": (
        FIRMWARE,
        "mcugrad firmware: Missing option '--board' or '--package'; see mcugrad firmware --help",
    ),
    "package only": (
        (*FIRMWARE, "--board", "esp32c3"),
        "esp32c3: there is no bare firmware for this board, since it starts through the boot "
        "loader and libraries of ESP-IDF; take --package arduino, or another kind",
    ),
    "no emulator": (
        (*FIRMWARE, "--board", "nucleo_f446re", "--run"),
        "nucleo_f446re: nothing here emulates this board; see mcugrad boards",
    ),
    "no zig": (
        (*FIRMWARE, "--board", "arduino_uno", "--toolchain", "zig", "--build"),
        "arduino_uno: zig does not build for this core; take --toolchain gcc",
    ),
    "a package is not built": (
        (*FIRMWARE, "--package", "cmake", "--build"),
        "mcugrad firmware: a package is not built or run here; see mcugrad firmware --help",
    ),
    "a package has no toolchain": (
        (*FIRMWARE, "--package", "cmake", "--toolchain", "gcc"),
        "mcugrad firmware: a package has no toolchain; leave --toolchain out; "
        "see mcugrad firmware --help",
    ),
    "does not fit": (
        ("firmware", W4, "-o", "fw", "--board", "microbit"),
        too_large("microbit", f"mcugrad plan {W4} --ram {{room}} proposes what may learn"),
    ),
    "will never fit": (
        ("firmware", W4, "-o", "fw", "--board", "arduino_uno"),
        too_large("arduino_uno", "shrink the network, or take another board"),
    ),
    "folder in use": (
        ("firmware", XOR, "-o", "used", "--board", "microbit"),
        "used: holds notes, which mcugrad would not write; give a folder that is new or empty",
    ),
    "folder is a file": (
        ("firmware", XOR, "-o", "xor.csv", "--board", "microbit"),
        "xor.csv: is a file; give a folder that is new or empty",
    ),
    "not a project": (
        ("flash", "used"),
        "used: is no folder that mcugrad firmware wrote; name one, or write it first",
    ),
    "no line": (
        ("link", XOR),
        "mcugrad link: Missing option '--port', or '--board' with '--emulate'; see mcugrad link "
        "--help",
    ),
    "which board": (
        ("link", XOR, "--emulate"),
        "mcugrad link: Missing option '--board'; see mcugrad link --help",
    ),
    "one label": (
        ("record", "-o", "r.npz", "--port", "nowhere", "--labels", "still"),
        "--labels still: give two or more different names, like still,shake",
    ),
    "no archive": (
        ("record", "-o", "r.csv", "--port", "nowhere", "--labels", "a,b"),
        "r.csv: samples are kept as .npz; end the name in it",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=list(MISTAKES))
def test_a_mistake_is_one_line_and_nothing_is_written(
    run: Run, arguments: tuple[str, ...], message: str
) -> None:
    Path("used").mkdir()
    Path("used/notes").write_text("mine")
    before = sorted(Path().rglob("*"))
    assert run(*arguments) == (2, "", message + "\n")
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("board", "toolchain", "way"),
    [
        ("microbit", (), "install arm-none-eabi-gcc or pip install ziglang"),
        ("microbit", ("--toolchain", "gcc"), "install arm-none-eabi-gcc"),
        ("rv32_virt", ("--toolchain", "zig"), "pip install ziglang"),
        ("arduino_uno", (), "install avr-gcc"),
    ],
)
def test_without_a_compiler_the_way_out_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch, board: str, toolchain: tuple[str, ...], way: str
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "ziglang" else object()
    )
    message = f"{board}: there is no compiler for this board; {way}\n"
    assert run(*FIRMWARE, "--board", board, *toolchain, "--build") == (2, "", message)
    assert not Path("fw").exists()


def test_without_an_emulator_the_way_out_is_named(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    message = "microbit: there is no qemu-system-arm on the PATH; apt-get install qemu-system-arm\n"
    assert run(*FIRMWARE, "--board", "microbit", "--run") == (2, "", message)
    assert run("link", XOR, "--board", "microbit", "--emulate") == (2, "", message)
    assert not Path("fw").exists()


def test_without_elftools_the_way_out_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = (
        "measuring what was built needs pyelftools; pip install 'mcugrad[boards]', or build it "
        "with make\n"
    )
    assert run(*FIRMWARE, "--board", "microbit", "--build") == (2, "", message)
    assert not Path("fw").exists()


def test_too_much_code_is_said_by_how_much(tmp_path: Path, need: Need) -> None:
    """Code is known only when it is built: this board has 4 KiB for it."""
    need("arm-none-eabi-gcc")
    board = load_board("microbit")
    assert board.firmware is not None
    small = replace(board.firmware, code=replace(board.firmware.code, bytes=4096))
    for toolchain in ("gcc", "zig"):
        folder = tmp_path / toolchain
        project = project_of(named("xor_gate"), replace(board, firmware=small))
        write_project(folder, project)
        with pytest.raises(UserError) as caught:
            build_firmware(folder, project, "gcc")
        assert re.fullmatch(
            rf"{folder}: the firmware of xor_gate does not fit microbit: \d+ bytes of flash too "
            "many; shrink the network, or take another board",
            str(caught.value),
        )


def test_too_much_code_for_an_avr_is_said_by_how_much(tmp_path: Path, need: Need) -> None:
    """Its linker script is that of the largest chip of the family."""
    need("avr-gcc")
    board = load_board("arduino_uno")
    assert board.firmware is not None
    small = replace(board.firmware, code=replace(board.firmware.code, bytes=10_000))
    project = project_of(named("xor_gate"), replace(board, firmware=small))
    write_project(tmp_path, project)
    with pytest.raises(UserError) as caught:
        build_firmware(tmp_path, project, "gcc")
    over = measured(tmp_path / project.elf, board).code_bytes - 10_000
    assert str(caught.value) == (
        f"{tmp_path / project.elf}: the firmware of xor_gate does not fit arduino_uno: {over} bytes "
        "of flash too many; shrink the network, or take another board"
    )


# ---------------------------------------------------------------- flashing

FAKE = '#!/bin/sh\nfor word in "$@"; do echo "$word"; done > called\nexit 3\n'
UPLOADS = {name: b for name, b in BARE.items() if b.firmware is not None and b.firmware.upload}


@pytest.mark.parametrize("name", UPLOADS)
def test_flash_calls_the_tool_of_the_board(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, need: Need, name: str
) -> None:
    """The tool is one that only notes its arguments, and fails."""
    need(core_of(load_board(name)))
    firmware = UPLOADS[name].firmware
    assert firmware is not None
    assert firmware.upload is not None
    assert run(*FIRMWARE, "--board", name, "--build")[0] == 0
    tool = tmp_path / "tools" / firmware.upload.command.split()[0]
    tool.parent.mkdir()
    tool.write_text(FAKE)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    Path("port").touch()
    assert run("flash", "fw", "--port", "port") == (3, "", "")
    words = Path("called").read_text().splitlines()
    image = (
        "fw/build/xor_gate.bin" if "{bin}" in firmware.upload.command else "fw/build/xor_gate.elf"
    )
    assert len([word for word in words if image in word]) == 1
    assert ("{port}" in firmware.upload.command) == any(w.split("=")[-1] == "port" for w in words)
    assert Path(image).is_file()


def test_what_lacks_for_flashing_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch, need: Need
) -> None:
    need("avr-gcc", "arm-none-eabi-gcc")
    run(*FIRMWARE, "--board", "arduino_uno")
    assert run("flash", "fw") == (
        *(2, ""),
        "fw/build/xor_gate.elf: is not built yet; make -C fw\n",
    )
    run(*FIRMWARE, "--board", "arduino_uno", "--build")
    line = "arduino_uno: is flashed over a serial port; add --port PORT\n"
    assert run("flash", "fw") == (2, "", line)
    monkeypatch.setenv("PATH", "")
    line = "arduino_uno: there is no avrdude on the PATH; apt-get install avrdude\n"
    assert run("flash", "fw", "--port", "nowhere") == (2, "", line)
    monkeypatch.setattr(shutil, "which", lambda program: program)
    line = "nowhere: there is no such port; plug the board in\n"
    assert run("flash", "fw", "--port", "nowhere") == (2, "", line)
    Path("fw/mcugrad.toml").write_text('network = "xor_gate"\nboard = "rv32_virt"\n')
    line = "rv32_virt: no tool is known that flashes this board; see its manual\n"
    assert run("flash", "fw") == (2, "", line)


# ---------------------------------------------------------------- packages


def package(kind: str, name: str = "xor_gate") -> dict[str, str]:
    spec = named(name)
    plan = make_plan(spec)
    return make_package(kind, spec, plan, make_state(spec, plan), None)


def written(files: dict[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", package_kinds())
def test_a_package_has_all_sources(run: Run, kind: str) -> None:
    files = package(kind)
    assert files == package(kind)
    assert run(*FIRMWARE, "--package", kind) == (0, f"wrote {len(files)} files to fw\n", "")
    assert all(Path("fw", name).read_text() == text for name, text in files.items())
    sources = sorted(name for name in files if name.startswith("src/"))
    assert sources == [
        *("src/fxp.h", "src/fxp_kernels.h", "src/link.c", "src/link.h", "src/link_no_checkpoint.c"),
        *("src/xor_gate.c", "src/xor_gate.h", "src/xor_gate_init.c", "src/xor_gate_link.c"),
    ]
    assert (
        set(files) - set(sources)
        == {
            "arduino": {"README.md", "library.properties", "examples/Learn/Learn.ino"},
            "cmake": {"README.md", "CMakeLists.txt"},
            "platformio": {"README.md", "library.json", "examples/learn/main.cpp"},
            "esp-idf": {
                *("README.md", "CMakeLists.txt", "idf_component.yml"),
                *("examples/learn/CMakeLists.txt", "examples/learn/sdkconfig.defaults"),
                *("examples/learn/main/CMakeLists.txt", "examples/learn/main/main.c"),
            },
            "zephyr": {
                *("README.md", "zephyr/CMakeLists.txt", "zephyr/Kconfig", "zephyr/module.yml"),
            },
        }[kind]
    )


def test_the_cmake_package_is_linked_into_a_program(
    tmp_path: Path, need: Need, any_compiler: Compiler
) -> None:
    need("cmake", "cc")
    written(package("cmake"), tmp_path / "xor_gate")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(program C)\nadd_subdirectory(xor_gate)\n"
        "add_executable(program main.c)\ntarget_link_libraries(program PRIVATE xor_gate)\n"
    )
    (tmp_path / "main.c").write_text(
        '#include "link.h"\n#include "xor_gate.h"\nstatic xor_gate_params params;\n'
        "int main(void)\n{\n    xor_gate_init(&params);\n"
        "    return link_network.params_bytes != sizeof params || link_save(&params) == 0;\n}\n"
    )
    run_cmake(tmp_path)
    subprocess.run([tmp_path / "build" / "program"], check=True)


ARDUINO_H = """\
#include <stdint.h>
#include <stddef.h>
struct Port {
    void begin(unsigned long);
    int available();
    int read();
    size_t write(uint8_t);
};
extern Port Serial;
"""


@pytest.mark.parametrize(
    ("kind", "sketch"),
    [
        ("arduino", "examples/Learn/Learn.ino"),
        ("platformio", "examples/learn/main.cpp"),
    ],
)
def test_the_sketch_of_a_package_compiles(
    kind: str, sketch: str, tmp_path: Path, cxx_compiler: Compiler
) -> None:
    """Against the few functions of Arduino that it uses."""
    folder = written(package(kind), tmp_path)
    (folder / "Arduino.h").write_text(ARDUINO_H)
    (folder / "sketch.cpp").write_text((folder / sketch).read_text())
    flags = ("-std=c++11", "-Wall", "-Wextra", "-Werror", "-I.", "-Isrc")
    cxx_compiler.run(*flags, "-c", "sketch.cpp", "-o", "sketch.o", cwd=folder)


RISCV = """\
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_C_COMPILER riscv64-unknown-elf-gcc)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
set(CMAKE_C_FLAGS_INIT "-march=rv32imc -mabi=ilp32 --specs=picolibc.specs -std=gnu17")
add_compile_options(-Wall -Wextra -Werror)
"""
# What ESP-IDF's project.cmake does with components, as its manual has it: build system, chapters
# "Component CMakeLists Files" and "Optional Project Variables".
PROJECT_CMAKE = """\
include_directories(${CMAKE_CURRENT_LIST_DIR}/headers)
macro(idf_component_register)
  cmake_parse_arguments(COMPONENT "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  get_filename_component(COMPONENT_NAME ${CMAKE_CURRENT_LIST_DIR} NAME)
  add_library(${COMPONENT_NAME} OBJECT ${COMPONENT_SRCS})
  target_include_directories(${COMPONENT_NAME} PUBLIC ${COMPONENT_INCLUDE_DIRS})
endmacro()
macro(project name)
  _project(${name} C)
  foreach(DIRECTORY ${EXTRA_COMPONENT_DIRS})
    get_filename_component(NAME ${DIRECTORY} NAME)
    add_subdirectory(${DIRECTORY} components/${NAME})
    list(APPEND COMPONENTS ${NAME})
  endforeach()
  add_subdirectory(main)
  target_link_libraries(main PRIVATE ${COMPONENTS})
endmacro()
"""
UART_H = """\
#include <stddef.h>
#include <stdint.h>
typedef int esp_err_t;
typedef struct {
    int baud_rate, data_bits, parity, stop_bits, flow_ctrl;
    uint8_t rx_flow_ctrl_thresh;
    int source_clk;
} uart_config_t;
enum { UART_NUM_0, UART_DATA_8_BITS = 3, UART_PARITY_DISABLE = 0, UART_STOP_BITS_1 = 1 };
enum { UART_HW_FLOWCTRL_DISABLE, UART_SCLK_DEFAULT = 4 };
void check(esp_err_t error);
#define ESP_ERROR_CHECK(x) check(x)
esp_err_t uart_driver_install(int port, int rx, int tx, int length, void *queue, int flags);
esp_err_t uart_param_config(int port, const uart_config_t *config);
int uart_read_bytes(int port, void *data, uint32_t length, uint32_t ticks);
int uart_write_bytes(int port, const void *data, size_t size);
void app_main(void);
"""


def test_the_component_of_esp_idf_is_built_for_the_core_of_esp32c3(
    tmp_path: Path, need: Need
) -> None:
    """Its example, by its own CMake files, against the few functions of ESP-IDF that it uses."""
    need("cmake", "make", "riscv64-unknown-elf-gcc")
    component = written(package("esp-idf"), tmp_path / "xor_gate")
    tools = tmp_path / "idf" / "tools" / "cmake"
    (tools / "headers" / "driver").mkdir(parents=True)
    (tools / "project.cmake").write_text(PROJECT_CMAKE)
    (tools / "headers" / "driver" / "uart.h").write_text(UART_H)
    (tmp_path / "riscv.cmake").write_text(RISCV)
    example = component / "examples" / "learn"
    environment = {**os.environ, "IDF_PATH": str(tmp_path / "idf")}
    toolchain = f"-DCMAKE_TOOLCHAIN_FILE={tmp_path / 'riscv.cmake'}"
    for arguments in (["-S", ".", "-B", "build", toolchain], ["--build", "build"]):
        command = ["cmake", *arguments]
        subprocess.run(command, cwd=example, env=environment, check=True, capture_output=True)
    objects = {path.name.removesuffix(".obj") for path in example.rglob("*.obj")}
    sources = {Path(name).name for name in package("esp-idf") if name.endswith(".c")}
    assert objects == sources


# What Zephyr's extensions.cmake has, and what it does with a module: its manual, chapters "Modules
# (External projects)" and "CMake package".
ZEPHYR = """\
cmake_minimum_required(VERSION 3.20)
project(application C)
add_library(zephyr_interface INTERFACE)
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC "")
  set_property(GLOBAL APPEND PROPERTY ZEPHYR_LIBS ${name})
  target_link_libraries(${name} PUBLIC zephyr_interface)
endmacro()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  foreach(path ${ARGN})
    get_filename_component(path ${path} ABSOLUTE BASE_DIR ${CMAKE_CURRENT_SOURCE_DIR})
    target_include_directories(zephyr_interface INTERFACE ${path})
  endforeach()
endfunction()
add_subdirectory(${MODULE} modules/module)
get_property(LIBRARIES GLOBAL PROPERTY ZEPHYR_LIBS)
add_executable(zephyr main.c)
target_link_libraries(zephyr PRIVATE ${LIBRARIES} zephyr_interface)
"""
ZEPHYR_MAIN = """\
#ifdef WITH
#include "xor_gate.h"
static xor_gate_params params;
#endif
int main(void)
{
#ifdef WITH
    xor_gate_init(&params);
#endif
    return 0;
}
"""


@pytest.mark.parametrize("is_chosen", [True, False])
def test_the_module_of_zephyr_is_built_where_it_is_chosen(
    is_chosen: bool, tmp_path: Path, need: Need
) -> None:
    """By the folders that its module.yml names and the symbol that its Kconfig defines."""
    need("cmake", "make", "cc")
    module = written(package("zephyr"), tmp_path / "xor_gate")
    lines = (module / "zephyr" / "module.yml").read_text().splitlines()
    facts = dict(line.strip().split(": ") for line in lines if not line.endswith(":"))
    assert lines[1] == "build:"
    assert facts.keys() == {"name", "cmake", "kconfig"}
    kconfig = (module / facts["kconfig"]).read_text()
    symbol = re.match(r'config ([A-Z0-9_]+)\n\tbool "[^"]+"\n\thelp\n(?:\t  .+\n)+\Z', kconfig)
    assert symbol is not None
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR)
    (tmp_path / "main.c").write_text(ZEPHYR_MAIN)
    chosen = [f"-DCONFIG_{symbol[1]}=y", "-DCMAKE_C_FLAGS=-DWITH"] if is_chosen else []
    place = f"-DMODULE={module / facts['cmake']}"
    configure = ["cmake", "-S", ".", "-B", "build", place, *chosen]
    for command in (configure, ["cmake", "--build", "build"]):
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert bool(list((tmp_path / "build").rglob("libxor_gate.a"))) == is_chosen


def test_a_package_may_be_for_a_board(run: Run) -> None:
    assert run(*FIRMWARE, "--package", "arduino", "--board", "raspberry_pi_pico")[0] == 0
    assert ", for raspberry_pi_pico." in Path("fw/src/xor_gate.c").read_text()


def test_the_facts_of_packages_are_read_by_others() -> None:
    assert json.loads(package("platformio")["library.json"])["headers"] == "xor_gate.h"
    facts = dict(
        line.split("=", 1) for line in package("arduino")["library.properties"].splitlines()
    )
    wanted = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category"}
    assert wanted | {"url", "architectures", "includes"} == set(facts)
    assert "config XOR_GATE\n" in package("zephyr")["zephyr/Kconfig"]


# ---------------------------------------------------------------- recording


@pytest.fixture
def sensor() -> Iterator[Callable[[bytes], str]]:
    """A board that says the same again and again; the name of its port."""
    device, port = pty.openpty()
    tty.setraw(port, termios.TCSANOW)
    stop = threading.Event()
    threads = []

    def begin(text: bytes) -> str:
        def speak() -> None:
            while not stop.wait(0.002):
                os.write(device, text)

        threads.append(threading.Thread(target=speak))
        threads[-1].start()
        return os.ttyname(port)

    yield begin
    stop.set()
    for thread in threads:
        os.set_blocking(device, False)
        thread.join()
    for end in (device, port):
        os.close(end)


def test_a_recording_is_what_training_reads(run: Run, sensor: Callable[[bytes], str]) -> None:
    port = sensor(b"1, -2\r\n3;4.5\r\n")
    arguments = ("--labels", "still, shake", "--samples", "5", "--lines", "2")
    status, out, err = run("record", "-o", "r.npz", "--port", port, *arguments)
    assert (status, err) == (0, "")
    assert out == "wrote 10 samples of 4 numbers, labels still, shake, to r.npz\n"
    with np.load("r.npz") as file:
        assert file["labels"].tolist() == ["still", "shake"]
        assert file["y"].tolist() == [0] * 5 + [1] * 5
        assert all(sorted(row) == [-2, 1, 3, 4.5] for row in file["x"])
    network = load_spec(Path(XOR))
    text = Path(XOR).read_text().replace("[2]", "[4]").replace(network.name, "motion")
    text = text.replace('"squared_error"', '"softmax_cross_entropy"').replace(
        "units = 1", "units = 2"
    )
    text = text[: text.rindex("[[layer]]")]
    Path("motion.toml").write_text(text)
    data = load_spec_data(load_spec(Path("motion.toml")), Path("r.npz"))
    assert len(data.x) + len(data.x_test) == 10


def test_damaged_lines_are_skipped_and_counted(run: Run, sensor: Callable[[bytes], str]) -> None:
    port = sensor(b"1 2\n1 2 3\nnan 2\nx\n\n1 2\n")
    arguments = ("--labels", "a,b", "--samples", "4", "--json")
    status, out, _ = run("record", "-o", "r.npz", "--port", port, *arguments)
    result = json.loads(out)
    assert status == 0
    assert (result["samples"], result["numbers"], result["labels"]) == (8, 2, ["a", "b"])
    assert result["skipped"] > 0
    with np.load("r.npz") as file:
        assert file["x"].tolist() == [[1, 2]] * 8


class Script:
    """A line on which this arrives, piece by piece; what is there at once ends with an empty one."""

    def __init__(self, *pieces: bytes):
        self.pieces = list(pieces)

    def write(self, data: bytes) -> None:
        raise AssertionError("nothing is sent")

    def read(self, timeout: float) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def test_what_came_before_a_label_began_is_not_of_it() -> None:
    stale = (b"8 8\n8 8\n", b"8 8\n8", b"")
    line = Script(*stale, b" 7\n1 2\n1 2\n", b"1 3\n", *stale, b"6\n4 5\n4 ", b"6\n")
    recording = record(Readings(line, "board"), ("a", "b"), count=2)
    assert recording.x.tolist() == [[1, 2], [1, 3], [4, 5], [4, 6]]
    assert recording.y.tolist() == [0, 0, 1, 1]
    assert recording.skipped == 0


def test_a_board_that_sends_no_numbers_is_said(run: Run, sensor: Callable[[bytes], str]) -> None:
    port = sensor(b"hello\n")
    arguments = ("record", "-o", "r.npz", "--port", port, "--labels", "a,b")
    assert run(*arguments) == (
        *(2, ""),
        f"{port}: sends 'hello', which is no line of numbers; send readings like 12, -7, 31\n",
    )
    assert not Path("r.npz").exists()


def test_a_silent_board_is_said(
    run: Run, sensor: Callable[[bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = sensor(b"")
    monkeypatch.setattr("host_sim.recording.Readings.__init__.__defaults__", (0.1,))
    assert run("record", "-o", "r.npz", "--port", port, "--labels", "a,b") == (
        *(2, ""),
        f"{port}: no line of numbers within 0.1 s; check the baud rate, and that the board sends "
        "its readings\n",
    )
