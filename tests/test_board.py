"""Boards: the facts load, and every mistake in them is one clear line."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from codegen import paths
from codegen.board import all_boards, load_board
from codegen.errors import UserError

FOLDERS = sorted(path.name for path in paths.BOARDS.iterdir())
GOOD = """\
title = "Toy"
mcu = "T1"
core = "cortex-m0"
clock_hz = 16_000_000
flash_bytes = 32_768
ram_bytes = 2_048
address_bits = 32
accumulate = "shifted"
source = "https://example.org"
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The board file of the only board there is."""
    monkeypatch.setattr(paths, "BOARDS", tmp_path)
    file = tmp_path / "toy" / "board.toml"
    file.parent.mkdir()
    file.write_text(GOOD, encoding="utf-8")
    return file


def message(name: str) -> str:
    with pytest.raises(UserError) as caught:
        load_board(name)
    return str(caught.value)


def test_the_boards_are_sorted_by_name() -> None:
    assert [board.name for board in all_boards()] == [
        "arduino_mega",
        "arduino_nano33ble",
        "arduino_uno",
        "esp32c3",
        "microbit",
        "mps2_an386",
        "mps2_an505",
        "mps3_an547",
        "netduinoplus2",
        "nucleo_f446re",
        "nucleo_h743zi",
        "raspberry_pi_pico",
        "rv32_virt",
        "stm32vldiscovery",
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_folder_loads_and_gives_the_board_its_name(folder: str) -> None:
    assert load_board(folder).name == folder


@pytest.mark.parametrize("folder", FOLDERS)
def test_core_decides_address_width_and_accumulator(folder: str) -> None:
    board = load_board(folder)
    assert board.address_bits == (16 if board.core.startswith("avr") else 32)
    has_long_multiply = board.core.startswith(("cortex-m3", "cortex-m4", "cortex-m5", "cortex-m7"))
    assert board.accumulate == ("wide" if has_long_multiply else "shifted")


@pytest.mark.parametrize("folder", FOLDERS)
def test_sizes_are_plausible_and_the_source_is_a_link(folder: str) -> None:
    board = load_board(folder)
    assert board.ram_bytes % 1024 == board.flash_bytes % 1024 == 0
    assert board.ram_bytes <= board.flash_bytes
    assert 1_000_000 <= board.clock_hz <= 1_000_000_000
    assert board.source.startswith("https://")


def test_the_uno_has_two_kibibytes_of_ram() -> None:
    uno = load_board("arduino_uno")
    assert (uno.title, uno.mcu, uno.core) == ("Arduino Uno R3", "ATmega328P", "avr5")
    assert (uno.clock_hz, uno.flash_bytes, uno.ram_bytes) == (16_000_000, 32 * 1024, 2 * 1024)


def test_a_board_cannot_be_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        load_board("arduino_uno").ram_bytes = 1  # type: ignore[misc]


def test_an_unknown_board_names_the_nearest_one() -> None:
    assert message("arduino_unno") == (
        "unknown board 'arduino_unno': did you mean arduino_uno? (boards: arduino_mega, "
        "arduino_nano33ble, arduino_uno, esp32c3, microbit, mps2_an386, mps2_an505, mps3_an547, "
        "netduinoplus2, nucleo_f446re, nucleo_h743zi, raspberry_pi_pico, rv32_virt, stm32vldiscovery)"
    )


def test_an_unknown_board_without_a_near_name_only_lists_the_boards(toy: Path) -> None:
    assert message("zx81") == "unknown board 'zx81' (boards: toy)"


def test_a_path_is_not_a_board(toy: Path) -> None:
    assert message("../boards/x") == "unknown board '../boards/x' (boards: toy)"


def test_a_folder_without_a_board_file_is_not_a_board(toy: Path) -> None:
    (toy.parent.parent / "notes").mkdir()
    assert [board.name for board in all_boards()] == ["toy"]


def test_an_unknown_key_names_the_nearest_one(toy: Path) -> None:
    toy.write_text(GOOD.replace("ram_bytes", "ram_byte"), encoding="utf-8")
    assert message("toy") == (
        "toy/board.toml: unknown key 'ram_byte': did you mean ram_bytes? (keys: title, mcu, core, "
        "clock_hz, flash_bytes, ram_bytes, address_bits, accumulate, source, firmware, no_firmware)"
    )


def test_a_missing_key_is_named(toy: Path) -> None:
    toy.write_text(GOOD.replace("ram_bytes = 2_048\n", ""), encoding="utf-8")
    assert message("toy") == "toy/board.toml: key 'ram_bytes' is missing"


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("16_000_000", '"16 MHz"', "clock_hz must be a whole number above 0, not '16 MHz'"),
        ("16_000_000", "16e6", "clock_hz must be a whole number above 0, not 16000000.0"),
        ("2_048", "true", "ram_bytes must be a whole number above 0, not True"),
        ("2_048", "0", "ram_bytes must be a whole number above 0, not 0"),
        ('"T1"', "1", "mcu must be a text in quotes, not 1"),
        ('"T1"', '""', "mcu must be a text in quotes, not ''"),
        ("= 32\n", "= 24\n", "address_bits must be 16 or 32, not 24"),
        ("= 32\n", "= 32.0\n", "address_bits must be 16 or 32, not 32.0"),
        ('"shifted"', '"narrow"', "accumulate must be 'wide' or 'shifted', not 'narrow'"),
    ],
)
def test_a_wrong_value_is_named(toy: Path, good: str, bad: str, complaint: str) -> None:
    toy.write_text(GOOD.replace(good, bad), encoding="utf-8")
    assert message("toy") == f"toy/board.toml: {complaint}"


def test_a_file_that_is_not_toml_says_where(toy: Path) -> None:
    toy.write_text("title\n", encoding="utf-8")
    expected = "Expected '=' after a key in a key/value pair (at line 1, column 6)"
    assert message("toy") == f"toy/board.toml: {expected}"
