"""checkpoint.c on this machine, over memory whose power fails when it is told to."""

import ctypes
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codegen import paths
from codegen.firmware import checkpoint_slot
from host_sim.compiler import Compiler, build_library

HASH_BYTES = 8
NEVER = 2**32 - 1
NOTHING, ALL, SOME_BITS, LOOSE_BITS, FIRST_HALF = TEARS = range(5)  # what a cut operation did
OK, NOTHING_SAVED, OTHER_NETWORK, OTHER_VERSION, FLASH_ERROR, NO_ROOM = range(6)


@dataclass(frozen=True)
class Geometry:
    """A memory for checkpoints, in bytes; page 0 is memory that needs no erase."""

    word: int
    page: int
    slot: int
    slots: int = 2

    @staticmethod
    def holding(size: int, word: int, page: int, slots: int = 2) -> "Geometry":
        """Slots that are just large enough for `size` bytes of state."""
        return Geometry(word, page, checkpoint_slot(size, word, page), slots)

    @property
    def total(self) -> int:
        return self.slot * self.slots


def flash_sources(geometry: Geometry) -> dict[str, str]:
    """The files that a library with checkpoints over simulated memory consists of."""
    names = {"WORD": geometry.word, "PAGE": geometry.page, "SLOT": geometry.slot}
    names |= {"SLOTS": geometry.slots}
    files = {
        name: (paths.RUNTIME / name).read_text(encoding="utf-8")
        for name in ("checkpoint.h", "checkpoint.c")
    }
    memory = Path(__file__).with_name("simulated_flash.c").read_text(encoding="utf-8")
    defines = "".join(f"#define FLASH_{name} {value}u\n" for name, value in names.items())
    return files | {"simulated_flash.c": memory, "simulated_flash.h": defines}


class Flash:
    """The simulated memory inside a library that was built with `flash_sources`."""

    def __init__(self, library: ctypes.CDLL, geometry: Geometry):
        self.library, self.geometry = library, geometry
        self._arrays = {
            name: _view(library, f"flash_{name}", geometry.total)
            for name in ("memory", "loose", "programmed")
        }
        self.memory = self._arrays["memory"]

    def _counter(self, name: str) -> ctypes.c_uint32:
        return ctypes.c_uint32.in_dll(self.library, f"flash_{name}")

    @property
    def operations(self) -> int:
        """Erases and programs since power came on."""
        return self._counter("operations").value

    @property
    def violations(self) -> int:
        """How often the rules of the memory were broken."""
        return self._counter("violations").value

    @property
    def is_on(self) -> bool:
        """Whether power has not failed yet."""
        return self.operations <= self._counter("cut").value

    def boot(self) -> None:
        """Power comes on (again); bits that are loose settle at random."""
        self.library.flash_boot()

    def cut(self, operation: int, tear: int, seed: int = 1) -> None:
        """Lets power fail during an operation, counted from when power came on."""
        self._counter("cut").value = operation
        self._counter("tear").value = tear
        self._counter("random").value = seed

    def wear_out(self, at: int) -> None:
        """From now on the lowest bit of this byte cannot be cleared."""
        self._counter("worn").value = at

    def image(self) -> dict[str, NDArray[np.uint8]]:
        """All that the memory holds, to be put back by `restore`."""
        return {name: array.copy() for name, array in self._arrays.items()}

    def restore(self, image: dict[str, NDArray[np.uint8]]) -> None:
        for name, array in self._arrays.items():
            array[:] = image[name]
        self.boot()

    def fill(self, content: Any) -> None:
        """Brand-new memory with any content, which counts as programmed."""
        self._arrays["memory"][:] = content
        self._arrays["loose"][:] = 0
        self._arrays["programmed"][:] = 1
        for name, value in {"violations": 0, "worn": NEVER}.items():
            self._counter(name).value = value
        self.boot()


def _view(library: ctypes.CDLL, name: str, size: int) -> NDArray[np.uint8]:
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).in_dll(library, name))


class Checkpoints:
    """checkpoint_save and checkpoint_load of states of one size and hash."""

    def __init__(
        self,
        geometry: Geometry,
        size: int,
        network: bytes = bytes(range(HASH_BYTES)),
        compiler: Compiler | None = None,
    ):
        library = _library(geometry, compiler)
        self.flash = Flash(library, geometry)
        self.network, self.size = network, size

    def save(self, state: bytes) -> int:
        """The code that checkpoint_save returns."""
        size = ctypes.c_uint32(len(state))
        return int(self.flash.library.checkpoint_save(self.network, state, size))

    def load(self) -> tuple[int, bytes]:
        """The code that checkpoint_load returns, and what is then in RAM (0xA5 from the start)."""
        memory = ctypes.create_string_buffer(b"\xa5" * self.size, self.size)
        size = ctypes.c_uint32(self.size)
        return int(self.flash.library.checkpoint_load(self.network, memory, size)), memory.raw


@cache
def _library(geometry: Geometry, compiler: Compiler | None) -> ctypes.CDLL:
    return ctypes.CDLL(str(build_library(flash_sources(geometry), compiler)))
