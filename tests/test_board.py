"""Boards: the facts load, and every mistake in them is one clear line."""

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from codegen import paths
from codegen.board import Checkpoint, Region, Setting, Tool, all_boards, load_board
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
accumulate = "short"
lanes = 1
registers = 8
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
def test_core_decides_address_width_accumulator_lanes_and_registers(folder: str) -> None:
    board = load_board(folder)
    assert board.address_bits == (16 if board.core.startswith("avr") else 32)
    has_long_multiply = board.core.startswith(("cortex-m3", "cortex-m4", "cortex-m5", "cortex-m7"))
    assert board.accumulate == ("wide" if has_long_multiply else "short")
    two = dict.fromkeys(("cortex-m33", "cortex-m4", "cortex-m4f", "cortex-m7"), 2)
    assert board.lanes == {**two, "cortex-m55": 8}.get(board.core, 1)
    is_small = board.core.startswith(("avr", "cortex-m0"))
    assert board.registers == (32 if board.core == "rv32imc" else 8 if is_small else 13)


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
        "clock_hz, flash_bytes, ram_bytes, address_bits, accumulate, lanes, registers, source, "
        "firmware, no_firmware)"
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
        ('"short"', '"narrow"', "accumulate must be 'wide' or 'short', not 'narrow'"),
        ("lanes = 1\n", "lanes = 3\n", "lanes must be 1 or 2 or 8, not 3"),
    ],
)
def test_a_wrong_value_is_named(toy: Path, good: str, bad: str, complaint: str) -> None:
    toy.write_text(GOOD.replace(good, bad), encoding="utf-8")
    assert message("toy") == f"toy/board.toml: {complaint}"


def test_a_file_that_is_not_toml_says_where(toy: Path) -> None:
    toy.write_text("title\n", encoding="utf-8")
    expected = "Expected '=' after a key in a key/value pair (at line 1, column 6)"
    assert message("toy") == f"toy/board.toml: {expected}"


# ---------------------------------------------------------------- the table [firmware]

FIRMWARE = """\
[firmware]
core = "cortex-m0"
sources = ["start.c"]
code = [0, 32_768]
data = [0x2000_0000, 2_048]
stack_bytes = 512
serial = "USB"
setup = [["GPIO", 0x5000_0000, 0, 1]]
[firmware.defines]
UART_BASE = 0x4000_2000
[firmware.checkpoint]
files = ["flash_nvmc.c"]
memory = [0x7000, 4_096]
word = 4
page = 1_024
[firmware.upload]
command = "flasher {elf}"
install = "pip install flasher"
"""


def test_the_firmware_of_a_board_is_read(toy: Path) -> None:
    assert load_board("toy").firmware is None
    toy.write_text(GOOD + FIRMWARE, encoding="utf-8")
    firmware = load_board("toy").firmware
    assert firmware is not None
    assert firmware.data == Region(0x2000_0000, 2048)
    assert firmware.setup == (Setting("GPIO", 0x5000_0000, 0, 1),)
    assert firmware.checkpoint == Checkpoint(("flash_nvmc.c",), Region(0x7000, 4096), 4, 1024)
    assert firmware.upload == Tool("flasher {elf}", "pip install flasher")
    assert firmware.defines == {"UART_BASE": 0x4000_2000}
    assert firmware.emulator is None


@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        ("serial =", "serail =", "firmware: unknown key 'serail': did you mean serial? (keys: core, sources, code, data, stack_bytes, serial, defines, flags, linker_script, uf2_family, setup, checkpoint, emulator, upload)"),
        ('serial = "USB"\n', "", "key 'firmware.serial' is missing"),
        ("word = 4\n", "", "key 'firmware.checkpoint.word' is missing"),
        ("= 512", "= -1", "firmware.stack_bytes must be a whole number, not -1"),
        ('["start.c"]', '"start.c"', "firmware.sources must be texts in brackets, not 'start.c'"),
        ("[0, 32_768]", "[0]", "firmware.code must be an address and a number of bytes, [0x20000000, 16384], not [0]"),
        (", 0, 1]]", ", 0]]", 'firmware.setup must be a list of ["register", address, bits to clear, bits to set, bits to wait for or none], not [[\'GPIO\', 1342177280, 0]]'),
        ("0x4000_2000", '"here"', "firmware.defines must be names and whole numbers, not {'UART_BASE': 'here'}"),
        ('"USB"', "5", "firmware.serial must be a text in quotes, not 5"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_firmware_is_named(toy: Path, good: str, bad: str, complaint: str) -> None:
    assert good in FIRMWARE
    toy.write_text(GOOD + FIRMWARE.replace(good, bad), encoding="utf-8")
    assert message("toy") == f"toy/board.toml: {complaint}"


def test_a_table_that_is_none_is_named(toy: Path) -> None:
    toy.write_text(GOOD + 'firmware = "yes"\n', encoding="utf-8")
    assert message("toy") == "toy/board.toml: firmware must be a table, not 'yes'"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_board_has_firmware_or_says_why_not(folder: str) -> None:
    board = load_board(folder)
    assert (board.firmware is None) == (board.no_firmware != "")


@pytest.mark.parametrize("folder", FOLDERS)
def test_firmware_lies_in_the_memory_of_the_board(folder: str) -> None:
    """Code, then checkpoints, in flash; words and pages are those of the memory."""
    board = load_board(folder)
    firmware = board.firmware
    if firmware is None:
        return
    assert firmware.code.bytes <= board.flash_bytes
    assert firmware.data.bytes <= board.ram_bytes
    assert (paths.CORES / f"{firmware.core}.toml").is_file()
    assert all((paths.COMMON / source).is_file() for source in firmware.sources)
    kept = firmware.checkpoint
    if kept is None:
        return
    assert all((paths.RUNTIME / file).is_file() for file in kept.files)
    if kept.page:
        assert kept.memory.start >= firmware.code.start + firmware.code.bytes
        used = kept.memory.start + kept.memory.bytes - firmware.code.start
        assert used <= board.flash_bytes
        assert kept.memory.start % kept.page == kept.memory.bytes % kept.page == 0
        assert kept.page % kept.word == 0
