"""The command line: its JSON, and one line for every mistake."""

import json
from pathlib import Path

import numpy as np
import pytest

from codegen import cli
from codegen.spec import load_spec

NETWORKS = Path(__file__).parent / "networks"
XOR = str(NETWORKS / "xor_gate.toml")


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> object:
    """mcugrad with these arguments, in a folder of its own: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mcugrad", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


def write_xor_data(folder: Path) -> str:
    rows = "\n".join(f"{a},{b},{a ^ b}" for a in (0, 1) for b in (0, 1))
    (folder / "xor.csv").write_text(rows + "\n")
    return "xor.csv"


def test_check_prints_one_json_object(run) -> None:
    status, out, _ = run("check", XOR, "--samples", "4", "--json")
    result = json.loads(out)
    assert status == 0
    assert list(result) == [
        *("network", "mode", "samples", "c_equals_integers", "finite_difference_error"),
        *("kernels", "tensors"),
    ]
    assert set(result["kernels"][0]) == {"step", "worst_lsb", "allowed_lsb"}
    assert result["c_equals_integers"] is True


def test_train_prints_one_json_object_and_saves(run, tmp_path: Path) -> None:
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


def test_training_twice_gives_the_same_parameters(run, tmp_path: Path) -> None:
    data = write_xor_data(tmp_path)
    results = [json.loads(run("train", XOR, "--data", data, "--json")[1]) for _ in range(2)]
    assert results[0]["parameters_crc32"] == results[1]["parameters_crc32"]


def test_report_says_whether_a_board_has_room(run) -> None:
    mnist = str(NETWORKS / "mnist.toml")
    status, out, _ = run("report", mnist, "--board", "microbit", "--json")
    assert status == 0
    assert json.loads(out)["board"]["missing_ram"] > 0
    assert "does not fit BBC micro:bit" in run("report", mnist, "--board", "microbit")[1]


def test_new_writes_a_network_that_works(run, tmp_path: Path) -> None:
    assert run("new", "mine")[0] == 0
    assert load_spec(tmp_path / "mine.toml").name == "mine"
    assert run("new", "mine") == (2, "", "mine.toml: exists already; choose another name\n")


def test_generate_leaves_foreign_folders_alone(run, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "letter.txt").write_text("mine")
    status, _, err = run("generate", XOR, "-o", "out")
    assert (status, err) == (
        2,
        "out: holds letter.txt, which mcugrad would not write; give a folder that is new or empty\n",
    )
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["letter.txt"]
    assert run("generate", XOR, "-o", "new")[0] == 0
    assert run("generate", XOR, "-o", "new")[0] == 0


def test_numbers_beyond_input_max_are_counted_in_a_warning(run, tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        (("report", "none.toml"), None, "none.toml: there is no such file; check the path"),
        (
            ("report", "net.toml"),
            NETWORK.replace("[4]", "[2, 2]"),
            "net.toml: layer 1 (dense1): dense needs a vector, its input is (2, 2); put a flatten "
            "before it",
        ),
        (
            ("report", "net.toml"),
            NETWORK.replace("units = 3", "units = 0"),
            "net.toml: layer 1 (dense1): units = 0: at least 1 is needed",
        ),
        (
            ("report", "net.toml"),
            NETWORK.replace("units = 3", "units = 1"),
            "net.toml: layer 1 (dense1): softmax_cross_entropy needs at least 2 outputs, this "
            "layer has 1; one output goes with squared_error",
        ),
        (
            ("report", "net.toml", "--board", "arduino_mega"),
            NETWORK.replace("[4]", "[9000]"),
            "net.toml: the parameters of net take 54028 bytes, but an object on arduino_mega has "
            "at most 32767 (16-bit sizes); take fewer units or another board",
        ),
        (
            ("train", "net.toml"),
            NETWORK,
            "mcugrad train: Missing option '--data'; see mcugrad train --help",
        ),
        (
            ("train", "net.toml", "--data", "none.csv"),
            NETWORK,
            "none.csv: file: does not exist; check the path",
        ),
    ],
)
def test_a_mistake_is_one_line(
    run, tmp_path: Path, arguments: tuple[str, ...], text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "net.toml").write_text(text)
    status, out, err = run(*arguments)
    assert (status, out, err) == (2, "", message + "\n")


def test_without_a_compiler_the_way_out_is_named(run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = run("check", XOR, "--samples", "1")
    assert (status, err) == (
        2,
        "no C compiler: there is no cc on the PATH and the package ziglang is not installed; "
        "pip install ziglang\n",
    )
