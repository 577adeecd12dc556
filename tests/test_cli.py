"""The command line: its JSON, and one line for every mistake."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from given import NETWORKS

from codegen.spec import load_spec

XOR = str(NETWORKS / "xor_gate.toml")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mcugrad: Run) -> Run:
    """mcugrad with these arguments, in a folder of its own: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    return mcugrad


def write_xor_data(folder: Path) -> str:
    rows = "\n".join(f"{a},{b},{a ^ b}" for a in (0, 1) for b in (0, 1))
    (folder / "xor.csv").write_text(rows + "\n")
    return "xor.csv"


def test_check_prints_one_json_object(run: Run) -> None:
    status, out, _ = run("check", XOR, "--samples", "4", "--json")
    result = json.loads(out)
    assert status == 0
    assert list(result) == [
        *("network", "mode", "samples", "c_equals_integers", "finite_difference_error"),
        *("kernels", "tensors"),
    ]
    assert set(result["kernels"][0]) == {"step", "worst_lsb", "allowed_lsb"}
    assert result["c_equals_integers"] is True


def test_train_prints_one_json_object_and_saves(run: Run, tmp_path: Path) -> None:
    data = write_xor_data(tmp_path)
    arguments = ("--data", data, "--epochs", "3", "--save", "p.npz", "--plot", "p.png", "--json")
    status, out, _ = run("train", XOR, *arguments)
    result = json.loads(out)
    assert status == 0
    assert list(result) == [
        *("network", "mode", "epochs", "steps", "fixed", "float", "ram_bytes", "saturations"),
        "parameters_crc32",
    ]
    assert set(result["fixed"]) == {"r2", "loss", "train_loss"}
    assert (tmp_path / "p.png").stat().st_size > 0
    assert run("check", XOR, "--samples", "4", "--parameters", "p.npz", "--json")[0] == 0


def test_training_twice_gives_the_same_parameters(run: Run, tmp_path: Path) -> None:
    data = write_xor_data(tmp_path)
    results = [json.loads(run("train", XOR, "--data", data, "--json")[1]) for _ in range(2)]
    assert results[0]["parameters_crc32"] == results[1]["parameters_crc32"]


def test_report_says_whether_a_board_has_room(run: Run) -> None:
    mnist = str(NETWORKS / "mnist.toml")
    status, out, _ = run("report", mnist, "--board", "microbit", "--json")
    assert status == 0
    assert json.loads(out)["board"]["missing_ram"] > 0
    assert "does not fit BBC micro:bit" in run("report", mnist, "--board", "microbit")[1]


def test_without_a_command_the_help_is_printed(run: Run) -> None:
    assert run() == run("--help")
    assert run()[1].startswith("Usage: mcugrad [OPTIONS] ")


def test_new_writes_a_network_that_works(run: Run, tmp_path: Path) -> None:
    assert run("new", "mine")[0] == 0
    assert load_spec(tmp_path / "mine.toml").name == "mine"


def test_generate_writes_again_into_its_own_folder(run: Run) -> None:
    assert run("generate", XOR, "-o", "new")[0] == 0
    assert run("generate", XOR, "-o", "new")[0] == 0


def test_numbers_beyond_input_max_are_counted_in_a_warning(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=[[3.0, 0.0], [0.0, -2.0], [1.0, 1.0]], y=[[0.0], [1.0], [0.5]])
    status, _, err = run("train", XOR, "--data", "d.npz", "--epochs", "1")
    assert status == 0
    assert err == "warning: d.npz: 2 numbers are beyond input_max = 1 and saturate\n"


NETWORK = """name = "net"
input = [4]
loss = "softmax_cross_entropy"
[[layer]]
kind = "dense"
units = 3
"""
CSV = "0.1,0.2,0.3,0.4,1\n0.4,0.3,0.2,0.1,2\n"
REPORT = ("report", "net.toml")
TRAIN = ("train", "net.toml", "--data", "data.csv", "--epochs", "1")
NAME = "it must be letters, digits and single underscores between them, a letter first"
RATE = "it must be 0, or from 2**-24 to 255"


def edited(old: str, new: str) -> dict[str, str]:
    """The network with one thing changed."""
    assert old in NETWORK
    return {"net.toml": NETWORK.replace(old, new)}


def rated(rate: str) -> dict[str, str]:
    return edited("[[layer]]", f"[training]\nlearning_rate = {rate}\n[[layer]]")


def with_data(text: str) -> dict[str, str]:
    return {"net.toml": NETWORK, "data.csv": text}


def contents(folder: Path) -> dict[Path, bytes | None]:
    """Every file with its bytes, and every folder."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


MISTAKES: list[tuple[tuple[str, ...], dict[str, str], str]] = [
    (("report", "none.toml"), {}, "none.toml: there is no such file; check the path"),
    (
        REPORT,
        edited("[4]", "[4"),
        "net.toml: line 3, column 1: Unclosed array; see toml.io for how to write it",
    ),
    (
        REPORT,
        edited("units", "unit"),
        "net.toml: layer 1 (dense): unknown key 'unit'; did you mean 'units'?",
    ),
    (
        REPORT,
        edited('"dense"', '"denze"'),
        "net.toml: layer 1: unknown kind 'denze'; did you mean 'dense'?",
    ),
    (
        REPORT,
        edited("units = 3", ""),
        "net.toml: layer 1 (dense): key 'units' is missing; write units = 1",
    ),
    (
        REPORT,
        edited("units = 3", 'units = "3"'),
        "net.toml: layer 1 (dense): units = '3'; it must be a whole number, such as units = 1",
    ),
    (
        REPORT,
        edited("[4]", "[2, 2]"),
        "net.toml: layer 1 (dense1): dense needs a vector, its input is (2, 2); put a flatten "
        "before it",
    ),
    (
        REPORT,
        edited('"net"', '"while"'),
        "net.toml: name = 'while'; that is a keyword of C or C++; choose another",
    ),
    (REPORT, edited('"net"', '"my net"'), f"net.toml: name = 'my net'; {NAME}"),
    (
        REPORT,
        edited("units = 3", "units = 0"),
        "net.toml: layer 1 (dense1): units = 0: at least 1 is needed",
    ),
    (
        REPORT,
        edited("[4]", "[-4]"),
        "net.toml: input = [-4]; it must be sizes of at least 1, such as input = [64]",
    ),
    (
        REPORT,
        edited("units = 3", "units = 1"),
        "net.toml: layer 1 (dense1): softmax_cross_entropy needs at least 2 outputs, this "
        "layer has 1; one output goes with squared_error",
    ),
    (REPORT, rated("nan"), f"net.toml: [training]: learning_rate = nan; {RATE}"),
    (REPORT, rated("inf"), f"net.toml: [training]: learning_rate = inf; {RATE}"),
    (
        REPORT,
        edited("units = 3", 'units = 3\nformat = "Q9.9"'),
        "net.toml: layer 1 (dense): format Q9.9 needs 18 bits, the last layer has 16; choose Qm.n "
        "with m + n <= 16",
    ),
    (
        REPORT,
        edited(
            "[[layer]]",
            '[numbers]\nmode = "int8_compact"\n[training]\nrounding = "nearest"\n[[layer]]',
        ),
        "net.toml: [training]: rounding = 'nearest' loses every small change of 8-bit weights; "
        "int8_compact needs rounding = 'stochastic'",
    ),
    (
        REPORT,
        edited("units = 3", 'units = 3\n[[layer]]\nkind = "dense"\nunits = 3\nname = "dense1_w"'),
        "net.toml: layer 2 (dense1_w): name = 'dense1_w'; the C code would have two things "
        "called 'dense1_w'; choose another",
    ),
    (
        REPORT,
        edited("units = 3", 'units = 3\n[[layer]]\nkind = "dense"\nunits = 3\nname = "d_dense1"'),
        "net.toml: layer 2 (d_dense1): name = 'd_dense1'; the C code would have two things "
        "called 'd_dense1'; choose another",
    ),
    (
        REPORT,
        edited(
            "units = 3", 'units = 3\n[[layer]]\nkind = "dense"\nunits = 3\nname = "loss_scratch"'
        ),
        "net.toml: layer 2 (loss_scratch): name = 'loss_scratch'; the C code would have two things "
        "called 'loss_scratch'; choose another",
    ),
    (
        (*REPORT, "--board", "arduino_mega"),
        edited("[4]", "[9000]"),
        "net.toml: the parameters of net would be 54028 bytes long, but an object on arduino_mega has "
        "at most 32767 (16-bit sizes); take fewer units or another board",
    ),
    (
        (*REPORT, "--board", "arduino_mega"),
        {
            "net.toml": edited(
                "units = 3", 'units = 3\nfrozen = true\n[[layer]]\nkind = "dense"\nunits = 3'
            )["net.toml"].replace("[4]", "[12000]")
        },
        "net.toml: the constant dense1_w of net would be 36000 bytes long, but an object on "
        "arduino_mega has at most 32767 (16-bit sizes); take fewer units or another board",
    ),
    (
        (*REPORT, "--board", "arduino_meta"),
        {"net.toml": NETWORK},
        "unknown board 'arduino_meta': did you mean arduino_mega? (boards: arduino_mega, "
        "arduino_nano33ble, arduino_uno, esp32c3, microbit, mps2_an386, mps2_an505, mps3_an547, "
        "netduinoplus2, nucleo_f446re, nucleo_h743zi, raspberry_pi_pico, rv32_virt, "
        "stm32vldiscovery)",
    ),
    (
        ("train", "net.toml"),
        {"net.toml": NETWORK},
        "mcugrad train: Missing option '--data'; see mcugrad train --help",
    ),
    (TRAIN, {"net.toml": NETWORK}, "data.csv: file: does not exist; check the path"),
    (
        TRAIN,
        with_data("1,2,3,0\n"),
        "data.csv: line 1: has 4 columns instead of 5; write 4 inputs, then 1 label",
    ),
    (
        TRAIN,
        with_data(CSV + "0,nan,0,0,1\n"),
        "data.csv: line 3: nan is not a finite number; correct it or remove the sample",
    ),
    (
        TRAIN,
        with_data(CSV + "0,0,0,0,3\n"),
        "data.csv: line 3: label 3 is not a whole number from 0 to 2; correct it or change the "
        "number of outputs",
    ),
    (TRAIN, with_data(""), "data.csv: file: holds no samples; add samples"),
    (
        TRAIN,
        with_data(CSV + "0,0,a,0,1\n"),
        "data.csv: line 3: 'a' is not a number; write a number (a header has none, on the first "
        "line)",
    ),
    (
        ("train", "net.toml", "--data", "data.txt"),
        {"net.toml": NETWORK, "data.txt": CSV},
        "data.txt: file: is neither .npz nor .csv; save the samples as one of them",
    ),
    (
        ("generate", "net.toml", "-o", "out", "--data", "data.npz"),
        {"net.toml": NETWORK, "data.npz": "no archive"},
        "data.npz: file: is not an .npz archive or is damaged; save it with np.savez",
    ),
    (
        ("check", "net.toml", "--parameters", "p.npz"),
        {"net.toml": NETWORK},
        "p.npz: there is no such file; check the path",
    ),
    (
        ("check", "net.toml", "--parameters", "p.npz"),
        {"net.toml": NETWORK, "p.npz": "no archive"},
        "p.npz: no parameters in it; mcugrad train --save FILE.npz writes them",
    ),
    (
        (*TRAIN, "--save", "out"),
        with_data(CSV) | {"out/letter.txt": "mine"},
        "out: is a folder; name a file in it",
    ),
    (
        ("plan", "net.toml", "--ram", "9kB", "-o", "nowhere/net.toml"),
        {"net.toml": NETWORK},
        "nowhere/net.toml: there is no folder nowhere; make it first",
    ),
    (
        ("generate", "net.toml", "-o", "net.toml/c"),
        {"net.toml": NETWORK},
        "net.toml: is a file; give a folder that is new or empty",
    ),
    (
        ("demo",),
        {"mcugrad-demo": "a file"},
        "mcugrad-demo: is a file; give a folder that is new or empty",
    ),
    (
        ("new", "my-net"),
        {},
        f"my-net.toml: name = 'my-net'; {NAME}",
    ),
    (("new", "net"), {"net.toml": NETWORK}, "net.toml: exists already; choose another name"),
    (
        (*TRAIN, "--save", "nowhere/p.npz"),
        with_data(CSV),
        "nowhere/p.npz: there is no folder nowhere; make it first",
    ),
    (
        (*TRAIN, "--plot", "nowhere/p.png"),
        with_data(CSV),
        "nowhere/p.png: there is no folder nowhere; make it first",
    ),
    (
        ("generate", "net.toml", "-o", "net.toml"),
        {"net.toml": NETWORK},
        "net.toml: is a file; give a folder that is new or empty",
    ),
    (
        ("generate", "net.toml", "-o", "out"),
        {"net.toml": NETWORK, "out/letter.txt": "mine"},
        "out: holds letter.txt, which mcugrad would not write; give a folder that is new or empty",
    ),
    (
        ("generate", "net.toml", "-o", "new", "--start", "w.npz"),
        {"net.toml": NETWORK},
        "w.npz: there is no such file; check the path",
    ),
    (
        ("generate", "net.toml", "-o", "new", "--start", "data.csv"),
        with_data(CSV),
        "data.csv: is not an .npz archive of weights; mcugrad train --save or np.savez write one",
    ),
    (
        ("plan", "net.toml", "--ram", "10B"),
        {"net.toml": NETWORK},
        "net.toml: does not fit in 10 bytes of RAM whatever learns; with only dense1 (bias) "
        "learning it takes 52; give that much, or shrink the network",
    ),
    (
        ("plan", "net.toml", "--ram", "lots"),
        {"net.toml": NETWORK},
        "mcugrad plan: Invalid value for '--ram': 'lots' is no size; write bytes, or 141kB, 0.5MB, "
        "64KiB; see mcugrad plan --help",
    ),
]


@pytest.mark.parametrize(
    ("arguments", "files", "message"), MISTAKES, ids=[m[2].split(";")[0][:60] for m in MISTAKES]
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = contents(tmp_path)
    assert run(*arguments) == (2, "", message + "\n")
    assert contents(tmp_path) == before


def test_an_image_of_no_known_kind_is_refused_before_training(run: Run, tmp_path: Path) -> None:
    data = write_xor_data(tmp_path)
    status, out, err = run("train", XOR, "--data", data, "--plot", "curve.xyz")
    assert (status, out) == (2, "")
    assert err.startswith("curve.xyz: no image is called so; end it in one of .")


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", XOR, "--data", "xor.csv", "--save", "p.npz", "--plot", "p.png"),
        ("generate", XOR, "-o", "out/c"),
        ("plan", XOR, "--ram", "9kB", "-o", "plan.toml"),
        ("demo",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_where_nothing_can_be_written_nothing_is_worked(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    write_xor_data(tmp_path)
    before = contents(tmp_path)
    place = {"train": "p.npz", "generate": "out/c", "plan": "plan.toml", "demo": "mcugrad-demo/c"}
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    monkeypatch.setattr("codegen.cli.load_spec_data", None)  # the work would begin with it
    message = f"{place[arguments[0]]}: cannot be written; choose another place\n"
    assert run(*arguments) == (2, "", message)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "arguments",
    [("check", XOR, "--samples", "1"), ("train", XOR, "--data", "xor.csv", "--save", "p.npz")],
    ids=lambda arguments: arguments[0],
)
def test_without_a_compiler_the_way_out_is_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    write_xor_data(tmp_path)
    before = contents(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    message = (
        "no C compiler: there is no cc on the PATH and the package ziglang is not installed; "
        "pip install ziglang\n"
    )
    assert run(*arguments) == (2, "", message)
    assert contents(tmp_path) == before
