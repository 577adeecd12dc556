"""RP2040 as far as a firmware on one core and a serial line needs it: its datasheet as a model.

The boot ROM copies 256 bytes and checks them; flash is there once the SSI reads it; clocks run
when what they come from does; what is in reset is not to be touched; UART0 reaches its pins at a
baud rate that follows from all that. ROM functions change the flash, which is not there meanwhile.
Nothing is timed.
"""

from collections.abc import Callable

import unicorn
from unicorn import arm_const

FLASH, RAM, BOOT2, SSI, PRIVATE = 0x1000_0000, 0x2000_0000, 0x2004_1F00, 0x1800_0000, 0xE000_E000
PERIPHERALS, EXTENT = 0x4000_0000, 0x8_0000
RAM_BYTES, FLASH_BYTES = 0x4_2000, 0x20_0000
CRYSTAL = 12_000_000
CLOCKS, RESETS, XOSC, PLL_SYS, UART0 = 0x8000, 0xC000, 0x2_4000, 0x2_8000, 0x3_4000
IO_BANK0, PADS_BANK0 = 0x1_4000, 0x1_C000
CLK_REF, CLK_SYS, CLK_PERI = CLOCKS + 0x30, CLOCKS + 0x3C, CLOCKS + 0x48
IN_RESET = {IO_BANK0: 5, PADS_BANK0: 8, PLL_SYS: 12, UART0: 22}  # bits of RESETS_RESET
AFTER_RESET = {
    RESETS: 0x01FF_FFFF,
    PLL_SYS: 0x1,
    PLL_SYS + 0x4: 0x2D,
    PLL_SYS + 0xC: 0x7_7000,
    **{IO_BANK0 + 8 * pin + 4: 0x1F for pin in range(30)},
    **{PADS_BANK0 + 4 * pin + 4: 0x56 for pin in range(30)},
}
ROM, TABLE, LOOKUP, FUNCTIONS = 0x0, 0x100, 0x200, 0x210
_NAMES = ("IF", "EX", "RE", "RP", "FC")
_BX_LR = b"\x70\x47"
_PATIENCE = 5_000_000  # microseconds
_IDLE = 40  # looks at a line on which nothing is


def crc32(data: bytes) -> int:
    """Polynomial 0x04C11DB7 from all ones on, not reflected, not inverted at the end."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C1_1DB7) & 0xFFFF_FFFF if crc >> 31 else crc << 1
    return crc


class PowerCutError(Exception):
    """Nothing runs any more."""


class Rp2040:
    """With an image in its flash, from its boot ROM on; UART0 is a transport of `Link`."""

    def __init__(self, image: bytes, cut: int = 0):
        """Power fails in the flash operation of number `cut`, counted from 1."""
        assert crc32(image[:252]) == int.from_bytes(image[252:256], "little")
        self._image = image
        self.registers = dict(AFTER_RESET)
        self.ssi: dict[int, int] = {}
        self.vectors = 0
        self._came, self._sent, self._idle = bytearray(), bytearray(), 0
        self._engine = unicorn.Uc(
            unicorn.UC_ARCH_ARM, unicorn.UC_MODE_THUMB, cpu=arm_const.UC_CPU_ARM_CORTEX_M0
        )
        self._engine.mem_map(RAM, 0x4_3000)
        self.operations, self._cut, self._exited = 0, cut, False
        self._make_rom()
        self._map(PERIPHERALS, EXTENT, self._read, self._write)
        self._map(SSI, 0x1000, lambda at: self.ssi.get(at, 0), self._configure)
        self._map(PRIVATE, 0x1000, lambda _: 0, self._private)
        self._boot()

    def _map(
        self, start: int, size: int, read: Callable[[int], int], write: Callable[[int, int], None]
    ) -> None:
        self._engine.mmio_map(
            start,
            size,
            lambda _engine, at, _size, _data: read(at),
            None,
            lambda _engine, at, _size, value, _data: write(at, value),
            None,
        )

    def _boot(self) -> None:
        """As the boot ROM does: the second stage is called in RAM, without a way back."""
        engine = self._engine
        engine.mem_write(BOOT2, self._image[:256])
        engine.reg_write(arm_const.UC_ARM_REG_SP, BOOT2 - 64)
        engine.reg_write(arm_const.UC_ARM_REG_LR, 0)
        self._run(BOOT2)  # until the flash is there
        engine.mem_map(FLASH, FLASH_BYTES, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        engine.mem_write(FLASH, self._image)

    def _run(self, address: int | None = None) -> None:
        start = self._engine.reg_read(arm_const.UC_ARM_REG_PC) if address is None else address
        self._engine.emu_start(start | 1, 0xFFFF_FFFE, timeout=_PATIENCE)
        waits = self._engine.query(unicorn.UC_QUERY_TIMEOUT)
        assert not waits, "it waits for what never happens"

    # serial flash, and what is the core's own

    def _configure(self, at: int, value: int) -> None:
        """The instruction that switches it on is where it stops, and runs again later."""
        if at == 0x8 and value == 1 and self.ssi[at] == 0:
            if self._exited:
                self._show_flash(True)
            else:
                self._engine.emu_stop()
        self.ssi[at] = value

    def _show_flash(self, is_there: bool) -> None:
        rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC if is_there else unicorn.UC_PROT_NONE
        self._engine.mem_protect(FLASH, FLASH_BYTES, rights)
        self._exited = not is_there

    @property
    def flash(self) -> bytes:
        return bytes(self._engine.mem_read(FLASH, FLASH_BYTES))

    # functions of the ROM

    def _make_rom(self) -> None:
        """Two addresses of 16 bits, and functions that return after what is done here."""
        self._engine.mem_map(ROM, 0x1000, unicorn.UC_PROT_READ | unicorn.UC_PROT_EXEC)
        words = {0x14: TABLE, 0x18: LOOKUP | 1}
        for at, word in words.items():
            self._engine.mem_write(ROM + at, word.to_bytes(2, "little"))
        for number in range(-4, len(_NAMES)):
            self._engine.mem_write(FUNCTIONS + 4 * number, _BX_LR)
        end = FUNCTIONS + 4 * len(_NAMES)
        self._engine.hook_add(unicorn.UC_HOOK_CODE, self._enter, None, LOOKUP, end)

    def _enter(self, engine: unicorn.Uc, address: int, _size: int, _data: object) -> None:
        first, second, third = (
            engine.reg_read(register)
            for register in (
                arm_const.UC_ARM_REG_R0,
                arm_const.UC_ARM_REG_R1,
                arm_const.UC_ARM_REG_R2,
            )
        )
        if address == LOOKUP:
            assert first == TABLE
            number = _NAMES.index(second.to_bytes(2, "little").decode())
            engine.reg_write(arm_const.UC_ARM_REG_R0, FUNCTIONS + 4 * number | 1)
            return
        name = _NAMES[(address - FUNCTIONS) // 4]
        if name == "EX":
            self._show_flash(False)
        elif name in ("RE", "RP"):
            data = b"\xff" * second if name == "RE" else bytes(engine.mem_read(second, third))
            self._change(first, data, 4096 if name == "RE" else 256)

    def _change(self, offset: int, data: bytes, unit: int) -> None:
        """An erase, or a page in which ones change nothing; a cut comes half way."""
        assert self._exited
        assert offset % unit == 0 < len(data) == unit
        if unit == 256:
            old = self._engine.mem_read(FLASH + offset, unit)
            data = bytes(a & b for a, b in zip(old, data, strict=True))
        self.operations += 1
        is_cut = self.operations == self._cut
        self._engine.mem_write(FLASH + offset, data[: unit // 2] if is_cut else data)
        if is_cut:
            raise PowerCutError

    def _private(self, at: int, value: int) -> None:
        assert at == 0xD08
        self.vectors = value

    # the others

    def _is_crystal_stable(self) -> bool:
        return self.registers.get(XOSC) == 0xFA_BAA0 and self.registers.get(XOSC + 0xC, 0) >= 47

    def _pll(self) -> float:
        """Hz; 0 where it is not locked."""
        power, whole = self.registers[PLL_SYS + 4], self.registers.get(PLL_SYS + 8, 0)
        reference = CRYSTAL / (self.registers[PLL_SYS] & 0x3F) * self._is_crystal_stable()
        oscillator = reference * whole
        is_locked = not power & 0x21 and reference >= 5e6 and 750e6 <= oscillator <= 1600e6
        return oscillator * is_locked

    @property
    def system_clock(self) -> float:
        """Hz, once it comes from the PLL."""
        assert self.registers[CLK_SYS] & 0xE1 == 1
        dividers = self.registers[PLL_SYS + 0xC]
        assert not self.registers[PLL_SYS + 4] & 0x8
        return self._pll() / (dividers >> 16 & 7) / (dividers >> 12 & 7)

    @property
    def baud_rate(self) -> float:
        """Of UART0, from the crystal."""
        assert self.registers[CLK_PERI] & 0x8E0 == 0x880
        assert self._is_crystal_stable()
        divisor = self.registers[UART0 + 0x24] + self.registers[UART0 + 0x28] / 64
        return CRYSTAL / (16 * divisor)

    def _check(self, at: int) -> None:
        bit = IN_RESET.get(at & ~0xFFF)
        assert bit is None or not self.registers[RESETS] >> bit & 1, f"{at:#x} is in reset"

    def _read(self, at: int) -> int:
        self._check(at)
        if at == RESETS + 8:
            return ~self.registers[RESETS] & 0x01FF_FFFF
        if at == XOSC + 4:
            return self._is_crystal_stable() << 31
        if at == CLK_REF + 8:
            source = self.registers.get(CLK_REF, 0) & 3
            assert source == 0 or self._is_crystal_stable()
            return 1 << source
        if at == CLK_SYS + 8:
            return 1 << (self.registers.get(CLK_SYS, 0) & 1)
        if at == PLL_SYS:
            return self.registers[at] | (self._pll() > 0) << 31
        if at == UART0:
            return self._came.pop(0)
        if at == UART0 + 0x18:
            return self._flags()
        return self.registers.get(at, 0)

    def _write(self, at: int, value: int) -> None:
        self._check(at)
        if at == UART0:
            pins = [self.registers[IO_BANK0 + 8 * pin + 4] & 0x1F for pin in (0, 1)]
            assert (pins, self.registers[UART0 + 0x30]) == ([2, 2], 0x301)
            assert self.registers[UART0 + 0x2C] & 0x60 == 0x60
            self._sent.append(value)
        self.registers[at] = value

    def _flags(self) -> int:
        """The line stands still for a while once nothing comes any more."""
        self._idle = 0 if self._came else self._idle + 1
        if self._idle == _IDLE:
            self._engine.emu_stop()
        return 0 if self._came else 0x10

    # the other end of the line

    def write(self, data: bytes) -> None:
        self._came += data

    def read(self, timeout: float) -> bytes:
        self._idle = 0
        self._run()
        data, self._sent = bytes(self._sent), bytearray()
        return data
