"""A device with a link and memory for checkpoints on this machine, as a transport of `Link`."""

import ctypes

import numpy as np
from numpy.typing import NDArray

from codegen import paths
from codegen.board import Board
from codegen.emit import Options, emit, emit_host_link, emit_link
from codegen.graph import Plan
from codegen.interpret import State
from codegen.layout import parameter_fields, struct_bytes
from codegen.pipeline import Samples, make_plan, make_state
from codegen.spec import Spec
from host_sim.compiler import Compiler, build_library
from host_sim.flash import Flash, Geometry, flash_sources

_RUNTIME = ("link.h", "link.c", "link_checkpoint.c")


def device_files(spec: Spec, plan: Plan, state: State, geometry: Geometry) -> dict[str, str]:
    """All C of a device: network, link, checkpoints, simulated memory."""
    files = emit(spec, plan, state, Options()) | emit_link(spec, plan, state, Options())
    files |= emit_host_link(spec, plan, state, Options())
    files |= {name: (paths.RUNTIME / name).read_text(encoding="utf-8") for name in _RUNTIME}
    return files | flash_sources(geometry)


class Loopback:
    """The transport to such a device. The line may lose or change bytes: override `noise`.

    The library is loaded once for each network: two devices of one network share their memory.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        seed: int = 0,
        board: Board | None = None,
        samples: Samples | None = None,
        compiler: Compiler | None = None,
    ):
        self.plan = make_plan(spec, board)
        self.state = make_state(spec, self.plan, samples, seed)
        size = struct_bytes(parameter_fields(self.plan))
        geometry = Geometry.holding(size, word=4, page=1024)
        files = device_files(spec, self.plan, self.state, geometry)
        self._library = ctypes.CDLL(str(build_library(files, compiler)))
        self._library.device_params.restype = ctypes.c_void_p
        self.flash = Flash(self._library, geometry)
        memory = (ctypes.c_uint8 * size).from_address(self._library.device_params())
        self.params: NDArray[np.uint8] = np.ctypeslib.as_array(memory)
        self._out = (ctypes.c_uint8 * 65536)()
        self._answers = b""
        self.flash.fill(0xFF)
        self.restart()

    def restart(self) -> None:
        """Power off and on: RAM is lost."""
        self.flash.boot()
        self._library.device_start()
        self._answers = b""

    def noise(self, data: bytes) -> bytes:
        """What becomes of bytes on the line, in either direction."""
        return data

    def write(self, data: bytes) -> None:
        data = self.noise(data)
        count = self._library.device_exchange(data, len(data), self._out, len(self._out))
        self._answers += self.noise(bytes(self._out[:count]))

    def read(self, timeout: float) -> bytes:
        """What has been answered; nothing more comes however long one waits."""
        answers, self._answers = self._answers, b""
        return answers
