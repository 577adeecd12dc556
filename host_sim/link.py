"""The host's end of firmware/runtime/link.h: requests over a serial line, answers as numbers."""

import binascii
import errno
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from codegen.errors import UserError
from codegen.fixedpoint import LOSS_FRACTION, Floats, Ints, Q, integers
from codegen.graph import Plan
from codegen.interpret import State
from codegen.layout import network_hash, parameter_fields, struct_bytes
from codegen.pipeline import Samples
from codegen.spec import Spec

try:
    import serial
    from cobs import cobs
    from serial.tools import list_ports
except ImportError:
    raise UserError(
        "a serial line needs the packages cobs and pyserial; pip install 'mcugrad[boards]'"
    ) from None

VERSION = 1
HELLO, PREDICT, SCORES, TRAIN, RATE, STATISTICS, SAVE, LOAD, READ, WRITE = range(1, 11)
_OK, _UNKNOWN, _LENGTH, _GREET_FIRST, _VALUE = range(5)
_ANSWER = 0x80
_SOON = 0.1  # seconds after which it is greeted again: while it starts it may miss what comes
_OVERHEAD = 4  # bytes of a frame beside its data
_FACTS = struct.Struct("<8sIHHBB")
_TROUBLE = {
    _UNKNOWN: "does not know this message; flash the firmware anew",
    _LENGTH: "expects another length of this message; flash the firmware anew",
    _GREET_FIRST: "was started anew: what it learnt since it was last saved is lost; begin anew",
    _VALUE: "refuses a label out of range; check the labels of the data",
    5: "is in the middle of a batch, of which nothing is saved; send the rest of it first",
    9: "has nothing saved; save first",
    10: "has saved another network; save this one over it",
    11: "has saved in another version's format; save anew over it",
    12: "cannot write its memory, which may be worn out; use another part of it",
    13: "has too small a part of its memory for checkpoints; give it more",
    15: "has no memory for checkpoints; read the parameters and keep them on this machine",
}


class Transport(Protocol):
    """A line for bytes in both directions."""

    def write(self, data: bytes) -> None: ...

    def read(self, timeout: float) -> bytes:
        """What arrives within `timeout` seconds, as soon as there is something; else nothing."""
        ...


@dataclass(frozen=True)
class Facts:
    """What both ends must agree on about a network."""

    hash: bytes
    params_bytes: int
    inputs: int
    outputs: int
    input_bytes: int
    labels: bool

    @staticmethod
    def of(spec: Spec, plan: Plan, state: State) -> "Facts":
        tensors, graph = plan.training.tensors, plan.training.graph
        return Facts(
            hash=network_hash(spec, plan, state),
            params_bytes=struct_bytes(parameter_fields(plan)),
            inputs=tensors["x"].size,
            outputs=graph.outputs,
            input_bytes=plan.quantized.formats["x"].bits // 8,
            labels=graph.loss.target_is_label,
        )


@dataclass(frozen=True)
class Statistics:
    """Of a device since it was started. `loss` is the sum over the steps."""

    answered: int
    dropped: int
    trained: int
    loss: float


class OtherNetworkError(UserError):
    """The device runs a network with another hash."""


class Link:
    """A device that runs the network of a file, at the other end of a line.

    Inputs and targets are integers, as `quantize_samples` makes them. Every method raises
    UserError in one line where the device does not answer or refuses; `place` is what messages
    call it, `timeout` (seconds) what one answer may take, and `tries` how often it is asked.
    """

    def __init__(
        self,
        transport: Transport,
        spec: Spec,
        plan: Plan,
        state: State,
        *,
        place: str = "device",
        timeout: float = 2.0,
        tries: int = 5,
    ):
        self._transport, self._place = transport, place
        self._timeout, self._tries = timeout, tries
        self.facts = Facts.of(spec, plan, state)
        self._score_fraction = plan.quantized.score_fraction
        self._tag = 0
        self._pending = b""
        self._room = 0
        self._greet(spec)

    def _greet(self, spec: Spec) -> None:
        self._transport.write(b"\0")  # ends what a host before may have left unfinished
        data = self._ask(HELLO, b"", _SOON)
        if not data or data[0] != VERSION:
            raise UserError(
                f"{self._place}: the device speaks version {data[0] if data else 'unknown'} of the "
                f"link, this mcugrad version {VERSION}; flash the firmware anew"
            )
        facts = Facts(*_FACTS.unpack_from(data, 2))
        self._room = int.from_bytes(data[2 + _FACTS.size :], "little") - _OVERHEAD
        if facts.hash != self.facts.hash:
            raise OtherNetworkError(
                f"{self._place}: the device has network {facts.hash.hex()}, but {spec.source} is "
                f"{self.facts.hash.hex()}; flash the firmware of this file, or name the other file"
            )

    # what one can ask for

    def predict(self, x: Ints) -> int:
        """Index of the largest score."""
        return int(struct.unpack("<h", self._ask(PREDICT, self._inputs(x)))[0])

    def scores(self, x: Ints) -> Floats:
        """All scores, before target_max."""
        values = np.frombuffer(self._ask(SCORES, self._inputs(x)), "<i2")
        return Q(integers(values), self._score_fraction).value

    def train(self, x: Ints, target: Any) -> float:
        """One step of training; the loss before it."""
        data = np.asarray(target).astype("<i2").tobytes() + self._inputs(x)
        return float(struct.unpack("<i", self._ask(TRAIN, data))[0] / (1 << LOSS_FRACTION))

    def train_samples(self, samples: Samples, order: Iterable[int]) -> float:
        """A step for each sample that `order` names; the sum of the losses."""
        return sum(self.train(samples.x[i], samples.target[i]) for i in order)

    def set_learning_rate(self, rate: float) -> None:
        """From the next step on; rates from 0 to 256."""
        fixed = min(max(round(rate * 2**24), 0), 2**32 - 1)
        self._ask(RATE, struct.pack("<I", fixed))

    def statistics(self) -> Statistics:
        """Counts since the device was started."""
        answered, dropped, trained, loss = struct.unpack("<III4xq", self._ask(STATISTICS))
        return Statistics(answered, dropped, trained, loss / (1 << LOSS_FRACTION))

    def save(self) -> None:
        """The parameters survive a reset from now on."""
        self._ask(SAVE)

    def load(self) -> None:
        """Back to the parameters that were saved last."""
        self._ask(LOAD)

    def read_parameters(self) -> bytes:
        """<net>_params as it lies in the device's memory."""
        chunks = (struct.pack("<IH", *chunk) for chunk in self._chunks(self._room))
        return b"".join(self._ask(READ, chunk) for chunk in chunks)

    def write_parameters(self, memory: bytes) -> None:
        """The inverse. Where it fails halfway the device has a mixture: write again, or load."""
        if len(memory) != self.facts.params_bytes:
            raise UserError(
                f"{self._place}: {len(memory)} bytes of parameters, but the network has "
                f"{self.facts.params_bytes}; take those of this network"
            )
        for offset, count in self._chunks(self._room - 4):
            self._ask(WRITE, struct.pack("<I", offset) + memory[offset : offset + count])

    def _chunks(self, most: int) -> Iterable[tuple[int, int]]:
        total = self.facts.params_bytes
        return ((at, min(most, total - at)) for at in range(0, total, most))

    def _inputs(self, x: Ints) -> bytes:
        return np.asarray(x).reshape(-1).astype(f"<i{self.facts.input_bytes}").tobytes()

    # frames

    def _ask(self, message: int, data: bytes = b"", *early: float) -> bytes:
        """The data of the answer. What got lost is asked again under the same tag.

        `early` are times to wait (seconds) before the usual ones.
        """
        self._tag = (self._tag + 1) % 256
        request = frame(bytes([message, self._tag]) + data)
        waits = (*early, *[self._timeout] * self._tries)
        for wait in waits:
            self._transport.write(request)
            answer = self._await(time.monotonic() + wait)
            if answer is not None:
                return self._checked(answer)
        raise UserError(
            f"{self._place}: no answer, asked {len(waits)} times within "
            f"{sum(waits):g} s; check cable, baud rate, and that the firmware runs"
        )

    def _await(self, deadline: float) -> bytes | None:
        """The answer with the tag of the request; None where it does not come in time."""
        while True:
            while b"\0" in self._pending:
                line, self._pending = self._pending.split(b"\0", 1)
                answer = unframe(line)
                if answer is not None and answer[0] >= _ANSWER and answer[1] == self._tag:
                    return answer
            arrived = self._transport.read(max(deadline - time.monotonic(), 0))
            self._pending += arrived
            if not arrived:
                return None

    def _checked(self, answer: bytes) -> bytes:
        status = answer[0] - _ANSWER
        if status != _OK:
            trouble = _TROUBLE.get(status, f"answers with status {status}; flash it anew")
            raise UserError(f"{self._place}: the device {trouble}")
        return answer[2:]


def frame(content: bytes) -> bytes:
    """Content, its CRC, in COBS between zeros: noise before it costs only the noise."""
    crc = binascii.crc_hqx(content, 0xFFFF)
    return b"\0" + bytes(cobs.encode(content + crc.to_bytes(2, "big"))) + b"\0"


def unframe(line: bytes) -> bytes | None:
    """The content of what came before a zero; None where it is damaged."""
    try:
        content = bytes(cobs.decode(line))
    except cobs.DecodeError:
        return None
    if len(content) < _OVERHEAD or binascii.crc_hqx(content, 0xFFFF) != 0:
        return None
    return content[:-2]


def link_to_any(
    transport: Transport, spec: Spec, ways: Iterable[tuple[Plan, State]], *, place: str
) -> Link:
    """A link to a device that was built from one of these plans, which are tried in turn."""
    first: OtherNetworkError | None = None
    for plan, state in ways:
        try:
            return Link(transport, spec, plan, state, place=place)
        except OtherNetworkError as other:
            first = first or other
    assert first is not None
    raise first


class SerialLine:
    """A serial port as a transport, and as a context that closes it."""

    def __init__(self, port: str, baud: int = 115200):
        self._port = port
        try:
            self._serial = serial.Serial(port, baud, exclusive=True)
        except serial.SerialException as error:
            raise UserError(f"{port}: {_reason(error)}") from None
        self._serial.reset_input_buffer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, data: bytes) -> None:
        try:
            self._serial.write(data)
        except OSError:
            raise self._lost() from None

    def read(self, timeout: float) -> bytes:
        try:
            self._serial.timeout = timeout
            first = self._serial.read(1)
            return bytes(first + self._serial.read(self._serial.in_waiting)) if first else b""
        except OSError:
            raise self._lost() from None

    def close(self) -> None:
        self._serial.close()

    def _lost(self) -> UserError:
        return UserError(f"{self._port}: the connection is lost; plug the board in and begin anew")


def _reason(error: "serial.SerialException") -> str:
    """Why a port cannot be opened, and the way out."""
    if error.errno in (errno.EBUSY, errno.EAGAIN):
        return "the port is busy; close the program that uses it (a serial monitor?)"
    if error.errno == errno.EACCES:
        return "no permission to use the port; join the group that owns it (dialout?)"
    ports = ", ".join(sorted(port.device for port in list_ports.comports()))
    if error.errno == errno.ENOENT:
        return f"there is no such port; {f'there are {ports}' if ports else 'plug the board in'}"
    return f"the port cannot be opened ({error}); check the name"
