"""The Pico's own: its boot block, its UF2 file, and its firmware on a model of RP2040."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from given import named
from rp2040 import FLASH, PowerCutError, Rp2040, crc32

from codegen.board import load_board
from codegen.firmware import Toolchain, firmware_of, make_project
from codegen.pipeline import make_plan, make_state, synthetic_samples
from host_sim.device import Device
from host_sim.firmware import build_firmware, flash_image, write_project, write_uf2
from host_sim.link import Link

BOARD = load_board("raspberry_pi_pico")


@pytest.fixture(scope="module", params=["gcc", "zig"])
def elf(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    need: Callable[..., None],
) -> Path:
    """The firmware of a small network, built by each toolchain."""
    toolchain: Toolchain = request.param
    if toolchain == "gcc":
        need("arm-none-eabi-gcc")
    spec, folder = named("xor_gate"), tmp_path_factory.mktemp("pico")
    plan = make_plan(spec, BOARD)
    project = make_project(spec, plan, make_state(spec, plan), BOARD)
    write_project(folder, project)
    return build_firmware(folder, project, toolchain).elf


def test_crc32_is_that_of_the_catalogue() -> None:
    """CRC-32/MPEG-2 of the nine digits."""
    assert crc32(b"123456789") == 0x0376E6E7


def test_the_boot_block_has_its_checksum_and_the_vectors_follow_it(elf: Path) -> None:
    start, image = flash_image(elf)
    found = int.from_bytes(image[252:256], "little")
    assert f"{found:#010x}" == f"{crc32(image[:252]):#010x}"
    stack, reset = struct.unpack_from("<II", image, 256)
    firmware = firmware_of(BOARD)
    assert start == FLASH
    assert stack == firmware.data.start + firmware.data.bytes
    assert reset & 1
    assert FLASH + 256 < reset < FLASH + len(image)


def test_the_firmware_learns_on_a_model_of_the_chip(elf: Path) -> None:
    """From the boot ROM on, over UART0, the same bytes as everywhere."""
    spec = named("xor_gate")
    chip, device = Rp2040(flash_image(elf)[1]), Device(spec, board=BOARD, counters=False)
    # RP2040 Datasheet, tables of the SSI: command 03h, 24 bits of address, words of 32 bits
    wanted = {0x00: 0x001F_0300, 0x04: 0, 0x08: 1, 0x14: 4, 0xF4: 0x0300_0218}
    assert chip.ssi == wanted
    samples = synthetic_samples(spec, device.plan, 30, seed=3)
    link = Link(chip, spec, device.plan, make_state(spec, device.plan), place="model")
    assert chip.vectors == FLASH + 256
    assert chip.system_clock == 125e6
    assert chip.system_clock / wanted[0x14] < 50e6
    assert abs(chip.baud_rate / 115_200 - 1) < 0.001
    assert link.train_samples(samples, range(30)) == device.train_samples(samples, range(30))
    assert link.read_parameters() == device.parameter_bytes
    assert link.statistics().dropped == 0


def linked(chip: Rp2040) -> Link:
    spec = named("xor_gate")
    plan = make_plan(spec, BOARD)
    return Link(chip, spec, plan, make_state(spec, plan), place="model")


def test_what_it_saved_survives_power_cuts(elf: Path) -> None:
    """ROM functions write it from code in RAM; cut half way it is the old or the new state."""
    spec, image = named("xor_gate"), flash_image(elf)[1]
    samples = synthetic_samples(spec, make_plan(spec, BOARD), 20, seed=3)
    chip = Rp2040(image)
    link = linked(chip)
    link.train_samples(samples, range(10))
    old = link.read_parameters()
    link.save()
    kept, before = chip.flash, chip.operations
    link.train_samples(samples, range(10))
    new = link.read_parameters()
    link.save()
    assert linked(Rp2040(chip.flash)).read_parameters() == new
    for cut in range(1, chip.operations - before + 1):
        again = Rp2040(kept, cut=cut)
        link = linked(again)
        assert link.read_parameters() == old
        link.train_samples(samples, range(10))
        with pytest.raises(PowerCutError):
            link.save()
        started = linked(Rp2040(again.flash))
        assert started.read_parameters() in (old, new)
        started.train_samples(samples, range(3))
        learnt = started.read_parameters()
        started.save()
        started.train_samples(samples, range(3))
        started.load()
        assert started.read_parameters() == learnt


def test_the_uf2_file_holds_the_same_bytes(elf: Path) -> None:
    """Fields: https://github.com/microsoft/uf2."""
    start, image = flash_image(elf)
    data = write_uf2(elf, firmware_of(BOARD).uf2_family).read_bytes()
    blocks = [struct.unpack("<8I476sI", data[at : at + 512]) for at in range(0, len(data), 512)]
    count = len(blocks)
    assert count == -(-len(image) // 256)
    memory = b""
    for number, block in enumerate(blocks):
        fields = (0x0A324655, 0x9E5D5157, 0x2000, start + 256 * number, 256, number, count)
        assert block[:7] == fields
        assert (block[7], block[9]) == (0xE48BFF56, 0x0AB16F30)
        assert block[8][256:] == bytes(220)
        memory += block[8][:256]
    assert memory == image + bytes(-len(image) % 256)
