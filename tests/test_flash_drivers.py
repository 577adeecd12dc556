"""The drivers of firmware/runtime/flash_stm32*.c as they are built, against models of registers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import unicorn
from flash_controllers import Controller, PowerCutError, Stm32F1, Stm32F4, Stm32H7
from given import named
from unicorn import arm_const

from codegen.board import Board, load_board
from codegen.firmware import Toolchain, firmware_of, make_project
from codegen.layout import parameter_fields, struct_bytes
from codegen.pipeline import make_plan, make_state
from host_sim.elf import Elf
from host_sim.firmware import build_firmware, flash_image, write_project
from host_sim.flash import FLASH_ERROR, NOTHING_SAVED, OK

FAMILIES = {
    "stm32vldiscovery": (Stm32F1, arm_const.UC_CPU_ARM_CORTEX_M3),
    "nucleo_f446re": (Stm32F4, arm_const.UC_CPU_ARM_CORTEX_M4),
    "nucleo_h743zi": (Stm32H7, arm_const.UC_CPU_ARM_CORTEX_M7),
}
_RETURN, _PRIVATE, _SCB_CCR = 0x0800_0000, 0xE000_E000, 0xD14
_HASH = bytes(range(8))


@dataclass
class Chip:
    """Code, RAM, and the controller: each call of the driver's users begins after a reset."""

    board: Board
    elf: Path
    size: int
    controller: Controller
    cpu: int

    def save(self, state: bytes) -> int:
        return self._call("checkpoint_save", state)[0]

    def load(self) -> tuple[int, bytes]:
        return self._call("checkpoint_load", b"\xa5" * self.size)

    def _call(self, function: str, state: bytes) -> tuple[int, bytes]:
        firmware = firmware_of(self.board)
        engine = unicorn.Uc(unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB, cpu=self.cpu)
        start, image = flash_image(self.elf)
        engine.mem_map(start, -(-len(image) // 4096) * 4096)
        engine.mem_write(start, image)
        engine.mem_map(firmware.data.start, firmware.data.bytes)
        self._connect(engine)
        ram = firmware.data.start
        engine.mem_write(ram, _HASH)
        engine.mem_write(ram + 8, state)
        values = {"R0": ram, "R1": ram + 8, "R2": self.size, "LR": _RETURN | 1}
        values["SP"] = ram + firmware.data.bytes
        for name, value in values.items():
            engine.reg_write(getattr(arm_const, f"UC_ARM_REG_{name}"), value)
        address = Elf(self.elf, frozenset()).symbols[function]
        engine.emu_start(address | 1, _RETURN, timeout=20_000_000)
        assert not engine.query(unicorn.UC_QUERY_TIMEOUT)
        result = engine.reg_read(arm_const.UC_ARM_REG_R0)
        return result, bytes(engine.mem_read(ram + 8, self.size))

    def _connect(self, engine: unicorn.Uc) -> None:
        flash, private = self.controller, {_SCB_CCR: 0}
        page = flash.base & ~0xFFF

        def read(at: int, size: int) -> int:
            masked = engine.reg_read(arm_const.UC_ARM_REG_FAULTMASK)
            flash.ignores_faults = bool(masked and private[_SCB_CCR] & 0x100)
            return flash.read(at, size)

        def connect(
            start: int, size: int, reads: Callable[..., int], writes: Callable[..., None]
        ) -> None:
            engine.mmio_map(
                start,
                size,
                lambda _, at, count, __: reads(at, count),
                None,
                lambda _, at, count, value, __: writes(at, count, value),
                None,
            )

        offset = flash.base - page
        connect(
            page,
            4096,
            lambda at, _: flash.read_register(at - offset),
            lambda at, _, value: flash.write_register(at - offset, value),
        )
        connect(
            _PRIVATE,
            4096,
            lambda at, _: private[at],
            lambda at, _, value: private.update({at: value}),
        )
        connect(flash.start, len(flash.memory), read, flash.write)


@pytest.fixture(scope="module", params=["gcc", "zig"])
def toolchain(request: pytest.FixtureRequest, need: Callable[..., None]) -> Toolchain:
    if request.param == "gcc":
        need("arm-none-eabi-gcc")
    toolchain: Toolchain = request.param
    return toolchain


@pytest.fixture(scope="module", params=FAMILIES)
def built(
    request: pytest.FixtureRequest,
    toolchain: Toolchain,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Board, Path, int]:
    """Board, firmware, and bytes of its parameters."""
    board, spec = load_board(request.param), named("xor_gate")
    plan = make_plan(spec, board)
    project = make_project(spec, plan, make_state(spec, plan), board)
    folder = tmp_path_factory.mktemp(board.name)
    write_project(folder, project)
    elf = build_firmware(folder, project, toolchain).elf
    return board, elf, struct_bytes(parameter_fields(plan))


@pytest.fixture
def chip(built: tuple[Board, Path, int]) -> Chip:
    """New, with what a flash may hold that nobody has erased."""
    board, elf, size = built
    kind, cpu = FAMILIES[board.name]
    checkpoint = firmware_of(board).checkpoint
    assert checkpoint is not None
    memory = bytearray(b"\x5a" * checkpoint.memory.bytes)
    return Chip(board, elf, size, kind(checkpoint.memory.start, memory), cpu)


def test_what_was_saved_is_loaded_and_no_rule_is_broken(chip: Chip) -> None:
    assert chip.load() == (NOTHING_SAVED, b"\xa5" * chip.size)
    for number in range(1, 6):
        state = bytes((number * 7 + i) % 256 for i in range(chip.size))
        assert chip.save(state) == OK
        assert chip.load() == (OK, state)
        assert chip.controller.is_locked
    assert chip.controller.broken == []


def test_an_error_of_the_controller_is_reported_and_forgotten(chip: Chip) -> None:
    state = bytes(chip.size)
    assert chip.save(state) == OK
    lowest = chip.controller.errors & -chip.controller.errors
    chip.controller.error = lowest
    assert chip.save(b"\x01" * chip.size) == FLASH_ERROR
    chip.controller.error = 0
    assert chip.load() == (OK, state)
    assert chip.save(b"\x02" * chip.size) == OK
    assert chip.load() == (OK, b"\x02" * chip.size)


def test_after_a_power_cut_the_old_or_the_new_state_is_loaded(chip: Chip) -> None:
    """Operations from the first to the last are cut; on H7 the word then reads as a bus fault."""
    flash = chip.controller
    old, new = b"\x11" * chip.size, b"\x22" * chip.size
    assert chip.save(old) == OK
    kept, before = bytes(flash.memory), flash.operations
    assert chip.save(new) == OK
    count = flash.operations - before
    for cut in {*range(1, count, max(count // 8, 1)), count - 1, count}:
        again = type(flash)(flash.start, bytearray(kept), cut=cut)
        begun = Chip(chip.board, chip.elf, chip.size, again, chip.cpu)
        with pytest.raises(PowerCutError):
            begun.save(new)
        after = type(flash)(flash.start, again.memory)
        if isinstance(after, Stm32H7) and isinstance(again, Stm32H7):
            after.torn = again.torn
        started = Chip(chip.board, chip.elf, chip.size, after, chip.cpu)
        assert started.load() in [(OK, old), (OK, new)]
        assert started.save(b"\x33" * chip.size) == OK
        assert started.load() == (OK, b"\x33" * chip.size)
        assert after.broken == []
