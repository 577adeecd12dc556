"""Flash and its controller of three families of STM32, as their reference manuals have them.

An operation takes as many looks at the status as `BUSY`; who touches anything meanwhile, or does
what the manual forbids, breaks a rule. `broken` counts that, since a device would only be wrong.
"""

from dataclasses import dataclass, field
from typing import ClassVar

BUSY = 3
_KEYS = [0x45670123, 0xCDEF89AB]


@dataclass
class Controller:
    """Registers at `base`, flash from `start` on; subclasses know the registers."""

    base: ClassVar[int]
    errors: ClassVar[int]  # bits of the status
    start: int
    memory: bytearray
    broken: list[str] = field(default_factory=list)
    operations: int = 0
    error: int = 0  # bits of the status that the next operation sets
    cut: int = 0  # the operation in which power fails
    is_locked: bool = True
    ignores_faults: bool = False  # whether the core does
    _keys: list[int] = field(default_factory=list)
    _busy: int = 0
    _status: int = 0
    _mode: int = 0

    def _lock(self) -> None:
        self.is_locked, self._mode, self._keys = True, 0, []

    def _key(self, value: int) -> None:
        self._keys.append(value)
        self._rule(self._keys == _KEYS[: len(self._keys)], "wrong key")
        self.is_locked = self._keys != _KEYS

    def _rule(self, holds: bool, what: str) -> None:
        if not holds:
            self.broken.append(what)

    def _begins(self) -> bool:
        """An operation; whether it does what it should."""
        self._rule(self._busy == 0, "begun while busy")
        self._rule(not self.is_locked, "begun while locked")
        self._rule(self._status & self.errors == 0, "begun with an error of before")
        self._busy = BUSY
        self.operations += 1
        if self.operations == self.cut:
            raise PowerCutError
        self._status |= self.error
        return self.error == 0

    def _look(self, busy: int) -> int:
        """The status, with its busy bits for a while."""
        if self._busy > 0:
            self._busy -= 1
            return self._status | busy
        return self._status

    def _erase(self, at: int, size: int) -> None:
        self._rule(0 <= at < len(self.memory) and at % size == 0, "erased elsewhere")
        self.memory[at : at + size // 2] = b"\xff" * (size // 2)  # as far as a cut lets it come
        if self._begins():
            self.memory[at : at + size] = b"\xff" * size

    def _program(self, at: int, word: bytes) -> None:
        """A cut leaves some of its zeros as they were."""
        if self.operations + 1 == self.cut:
            self.memory[at : at + len(word)] = bytes(byte | 0x0F for byte in word)
        if self._begins():
            self.memory[at : at + len(word)] = word

    def read(self, at: int, size: int) -> int:
        return int.from_bytes(self.memory[at : at + size], "little")

    def write(self, at: int, size: int, value: int) -> None:
        raise NotImplementedError

    def read_register(self, at: int) -> int:
        raise NotImplementedError

    def write_register(self, at: int, value: int) -> None:
        raise NotImplementedError


class PowerCutError(Exception):
    """Nothing runs any more."""


class Stm32F1(Controller):
    """PM0075: half words, pages of 1024 bytes by their address."""

    base, errors = 0x4002_2000, 0x14
    _address = 0

    def read_register(self, at: int) -> int:
        return {0xC: lambda: self._look(1), 0x10: lambda: self._mode | self.is_locked << 7}[at]()

    def write_register(self, at: int, value: int) -> None:
        if at == 0x4:
            self._key(value)
        elif at == 0xC:
            self._status &= ~value
        elif at == 0x14:
            self._address = value
        elif at == 0x10:
            self._rule(not self.is_locked or value == 0x80, "mode while locked")
            self._mode = value & 0x3F
            if value & 0x40:
                self._rule(self._mode == 2, "begun as no page erase")
                self._erase(self._address - self.start, 1024)
            if value & 0x80:
                self._lock()

    def write(self, at: int, size: int, value: int) -> None:
        self._rule((self._mode, size) == (1, 2), "programmed otherwise")
        self._rule(self.read(at, 2) == 0xFFFF or value == 0, "programmed over")
        self._program(at, value.to_bytes(2, "little"))


class Stm32F4(Controller):
    """RM0390: words of PSIZE, sectors by their number; sectors from 5 on have 128 KiB."""

    base, errors = 0x4002_3C00, 0xF2

    def read_register(self, at: int) -> int:
        if at == 0xC:
            return self._look(1 << 16)
        return {0x0: 0, 0x10: self._mode | self.is_locked << 31}[at]

    def write_register(self, at: int, value: int) -> None:
        if at == 0x4:
            self._key(value)
        elif at == 0xC:
            self._status &= ~value
        elif at == 0x10:
            self._rule(not self.is_locked or value == 1 << 31, "mode while locked")
            self._mode = value & 0xFFFF
            if value >> 16 & 1:
                self._rule(self._mode & 0x307 == 0x202, "begun as no sector erase")
                sector = self._mode >> 3 & 0x1F
                self._erase(0x0802_0000 + (sector - 5) * 0x2_0000 - self.start, 0x2_0000)
            if value >> 31:
                self._lock()

    def write(self, at: int, size: int, value: int) -> None:
        self._rule((self._mode, size) == (0x201, 4), "programmed otherwise")
        self._rule(self.read(at, 4) == 0xFFFF_FFFF, "programmed over")
        self._program(at, value.to_bytes(4, "little"))


class Stm32H7(Controller):
    """RM0433, bank 2: words of 32 bytes from 8 writes in order, with error correction.

    A word that power cut is `torn`: reading it sets DBECCERR, and is a bus fault on the way.
    """

    base, errors = 0x5200_2100, 7 << 17 | 3 << 21
    torn: int = -1
    _buffer = b""
    _place = 0

    def read_register(self, at: int) -> int:
        if at == 0x10:
            return self._look(1 << 2) | (1 << 1 if self._buffer else 0)
        return {0xC: self._mode | 3 << 4 | self.is_locked}[at]

    def write_register(self, at: int, value: int) -> None:
        if at == 0x4:
            self._key(value)
        elif at == 0x14:
            self._status &= ~value
        elif at == 0xC:
            self._rule(not self.is_locked or value & ~0x30 == 1, "mode while locked")
            self._rule(value & 0x30 == 0x30, "another parallelism")
            self._mode = value & 0x706
            if value & 0x80:
                self._rule(self._mode & 0x6 == 4, "begun as no sector erase")
                self._erase(0x0810_0000 + (self._mode >> 8) * 0x2_0000 - self.start, 0x2_0000)
            if value & 1:
                self._lock()

    def write(self, at: int, size: int, value: int) -> None:
        self._rule((self._mode, size) == (2, 4), "programmed otherwise")
        self._rule(at == self._place + len(self._buffer) if self._buffer else at % 32 == 0, "order")
        self._place = at if not self._buffer else self._place
        self._buffer += value.to_bytes(4, "little")
        if len(self._buffer) == 32:
            word, self._buffer = self._buffer, b""
            self.torn = self._place if self.operations + 1 == self.cut else self.torn
            place = slice(self._place, self._place + 32)
            self._rule(self.memory[place] == b"\xff" * 32, "programmed over")
            self._program(self._place, word)

    def _erase(self, at: int, size: int) -> None:
        super()._erase(at, size)
        self.torn = -1 if self.torn // size == at // size else self.torn

    def read(self, at: int, size: int) -> int:
        if at // 32 * 32 == self.torn:
            self._rule(self.ignores_faults, "a bus fault")
            self._status |= 1 << 26
        return super().read(at, size)
