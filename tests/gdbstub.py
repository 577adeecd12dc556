"""A debugger at the end of a socket, as far as tests need one."""

import socket
import time
from pathlib import Path
from typing import Self

from host_sim.gdb_remote import Remote


class Debugger:
    """Of an emulator that listens at a path; it stands still until `go`."""

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        deadline = time.monotonic() + 20
        while self._socket.connect_ex(str(path)) != 0:
            assert time.monotonic() < deadline, "the emulator does not listen"
            time.sleep(0.01)
        self._remote = Remote(self._socket.makefile("wb"), self._socket.makefile("rb"))
        self._remote.send("qAttached")
        while self._remote.answer().startswith("T"):  # that it stands is told once more or less
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def stop_at(self, address: int) -> None:
        """Thumb code."""
        assert self._remote.ask(f"Z0,{address & ~1:x},2") == "OK"

    def go(self) -> None:
        """Runs on, with a step first, as it would stop at once where it stands."""
        self._remote.send("s")
        self.wait()
        self._remote.send("c")

    def wait(self) -> None:
        """Until it stands at one of those addresses."""
        assert self._remote.answer().startswith("T05")

    def interrupt(self) -> None:
        """Stands still wherever it is."""
        self._remote.send_raw(b"\x03")
        assert self._remote.answer().startswith("T02")

    def read(self, address: int, count: int) -> bytes:
        """Bytes of memory."""
        return self._remote.read(address, count)
