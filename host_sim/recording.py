"""Lines of numbers from a board -> labelled samples, in the file that training reads."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codegen.errors import UserError
from codegen.fixedpoint import Floats, Ints
from host_sim.link import Transport

_STRANGE = 20  # lines in a row, after which it is not the line that is bad


@dataclass(frozen=True)
class Recording:
    """Samples (samples, numbers) and the index of each one's label."""

    labels: tuple[str, ...]
    x: Floats
    y: Ints
    skipped: int  # lines that were damaged

    def save(self, path: Path) -> None:
        """x and y as mcugrad train reads them; the names of the labels beside them."""
        with path.open("wb") as file:
            np.savez(file, x=self.x, y=self.y, labels=np.array(self.labels))


class Readings:
    """Lines of numbers that come over a line, as `place` sends them."""

    def __init__(self, transport: Transport, place: str, timeout: float = 5.0):
        self._transport, self._place, self._timeout = transport, place, timeout
        self._pending = b""
        self._count = 0  # numbers of a line, once two in a row had as many
        self.skipped = 0

    def lines(self) -> Iterator[list[float]]:
        """One list of numbers after the other, from now on; UserError where none come."""
        self._drain()
        self._next()  # it may have begun before
        strange = before = 0
        while strange < _STRANGE:
            text = self._next()
            numbers = _numbers(text)
            count = 0 if numbers is None else len(numbers)
            if self._count == 0 and count > 0 and count == before:
                self._count = count
            if numbers is not None and count == self._count:
                strange = 0
                yield numbers
                continue
            strange += 1
            self.skipped += 1 if self._count or numbers is None else 0
            before = count or before
        raise self._no_numbers(text)

    def _drain(self) -> None:
        """What came while nobody listened is not of this label."""
        self._pending = b""
        for _ in range(1000):
            if not self._transport.read(0):
                return

    def _next(self) -> bytes:
        while b"\n" not in self._pending:
            data = self._transport.read(self._timeout)
            if not data:
                raise UserError(
                    f"{self._place}: no line of numbers within {self._timeout:g} s; check the baud "
                    "rate, and that the board sends its readings"
                )
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return line

    def _no_numbers(self, text: bytes) -> UserError:
        wanted = f" of {self._count} numbers" if self._count else " of numbers"
        shown = ascii(text.decode("ascii", "replace").strip()[:40])
        return UserError(
            f"{self._place}: sends {shown}, which is no line{wanted}; send readings like 12, -7, 31"
        )


def _numbers(line: bytes) -> list[float] | None:
    """Separated by commas, semicolons or blanks; None where something else is there."""
    try:
        words = line.decode("ascii").replace(",", " ").replace(";", " ").split()
        numbers = [float(word) for word in words]
    except ValueError:
        return None
    return numbers if numbers and all(map(math.isfinite, numbers)) else None


def record(
    readings: Readings,
    labels: Sequence[str],
    *,
    count: int,
    lines: int = 1,
    begin: Callable[[str], None] = lambda label: None,
    got: Callable[[], None] = lambda: None,
) -> Recording:
    """`count` samples of each label; `lines` lines one after the other make a sample.

    `begin` is called before each label, and `got` after each sample.
    """
    x, y = [], []
    for index, label in enumerate(labels):
        begin(label)
        source = readings.lines()
        for _ in range(count):
            x.append([number for _ in range(lines) for number in next(source)])
            y.append(index)
            got()
    return Recording(tuple(labels), np.array(x), np.array(y), readings.skipped)
