"""A debugger at the end of a socket, as far as tests need one: GDB's remote serial protocol."""

import socket
import time
from pathlib import Path
from typing import Self


class Debugger:
    """Of an emulator that listens at a path; it stands still until `go`.

    Packets: the chapter "gdb Remote Serial Protocol" of the manual of GDB.
    """

    def __init__(self, path: Path):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        deadline = time.monotonic() + 20
        while self._socket.connect_ex(str(path)) != 0:
            assert time.monotonic() < deadline, "the emulator does not listen"
            time.sleep(0.01)
        self._pending = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def stop_at(self, address: int) -> None:
        """Thumb code."""
        assert self._ask(f"Z0,{address & ~1:x},2") == "OK"

    def go(self) -> None:
        """Runs on, with a step first, as it would stop at once where it stands."""
        self._send("s")
        self.wait()
        self._send("c")

    def wait(self) -> None:
        """Until it stands at one of those addresses."""
        assert self._answer().startswith("T05")

    def interrupt(self) -> None:
        """Stands still wherever it is."""
        self._socket.sendall(b"\x03")
        assert self._answer().startswith("T02")

    def read(self, address: int, count: int) -> bytes:
        """Bytes of memory."""
        places = range(address, address + count, 1024)
        parts = (self._ask(f"m{p:x},{min(1024, address + count - p):x}") for p in places)
        return b"".join(map(bytes.fromhex, parts))

    def _ask(self, text: str) -> str:
        """That the core has stopped since it was connected is told beside the answer."""
        self._send(text)
        while (answer := self._answer()).startswith("T"):
            pass
        return answer

    def _send(self, text: str) -> None:
        self._socket.sendall(f"${text}#{sum(text.encode()) % 256:02x}".encode())

    def _answer(self) -> str:
        """The next packet: $text#NN; acknowledgements are passed over."""
        while b"#" not in self._pending[:-2]:
            self._pending += self._socket.recv(4096)
        text, _, rest = self._pending.partition(b"#")
        self._pending = rest[2:]
        self._socket.sendall(b"+")
        return text.lstrip(b"+").removeprefix(b"$").decode()
