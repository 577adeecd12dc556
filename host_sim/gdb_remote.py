"""The remote protocol of gdb over two streams: packets there, answers back."""

from io import BufferedReader
from typing import IO

CHUNK = 2000  # bytes that fit into a packet, each as two digits


class Remote:
    """Every method raises EOFError once the other end is gone."""

    def __init__(self, sent: IO[bytes], received: BufferedReader):
        self._sent, self._received = sent, received

    def ask(self, packet: str) -> str:
        """The packet that comes next."""
        self.send(packet)
        return self.answer()

    def send(self, packet: str) -> None:
        """$packet#checksum, acknowledged by a plus before the answer."""
        self.send_raw(f"${packet}#{sum(packet.encode()) & 255:02x}".encode())

    def send_raw(self, data: bytes) -> None:
        """What is no packet: an acknowledgement, or 3, which interrupts."""
        try:
            self._sent.write(data)
            self._sent.flush()
        except BrokenPipeError:
            raise EOFError from None

    def answer(self) -> str:
        """What comes next without being asked for again."""
        packet = b""
        while not packet.endswith(b"#"):
            buffered = self._received.peek()
            if buffered == b"":
                raise EOFError
            packet += self._received.read(buffered.find(b"#") + 1 or len(buffered))
        self._received.read(2)
        self.send_raw(b"+")
        return packet[packet.index(b"$") + 1 : -1].decode()

    def read(self, address: int, size: int) -> bytes:
        """Memory."""
        memory = b""
        for first in range(0, size, CHUNK):
            packet = f"m{address + first:x},{min(CHUNK, size - first):x}"
            memory += bytes.fromhex(self.ask(packet))
        return memory
