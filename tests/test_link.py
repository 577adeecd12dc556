"""Learning over a line: the same bytes as without it, and a device that survives anything on it."""

import binascii
import ctypes
import errno
import importlib.util
import io
import itertools
import json
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
import tty
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial
from cobs import cobs
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection
from given import NETWORKS, lacking, named

from codegen import paths
from codegen.board import POLICIES, load_board
from codegen.errors import UserError
from codegen.layout import network_hash
from codegen.pipeline import (
    Samples,
    load_spec_data,
    make_plan,
    make_state,
    quantize_samples,
    synthetic_samples,
)
from codegen.spec import MODES, Spec, load_spec
from host_sim import link as link_module
from host_sim.compiler import STRICT, Compiler, build_library
from host_sim.device import Device
from host_sim.flash import Geometry
from host_sim.link import (
    HELLO,
    LOAD,
    PREDICT,
    RATE,
    READ,
    SAVE,
    SCORES,
    STATISTICS,
    TRAIN,
    WRITE,
    Link,
    SerialLine,
    frame,
    link_to_any,
    unframe,
)
from host_sim.loopback import Loopback, device_files

HERE = Path(__file__).parent


def linked(loopback: Loopback, spec: Spec, **options: Any) -> Link:
    return Link(loopback, spec, loopback.plan, loopback.state, place="loopback", **options)


def pair(spec: Spec, steps: int = 60) -> tuple[Loopback, Link, Device, Samples]:
    """The same network at the end of a line and at hand, and samples for both."""
    loopback, device = Loopback(spec), Device(spec, counters=False)
    samples = synthetic_samples(spec, device.plan, steps, seed=3)
    return loopback, linked(loopback, spec), device, samples


# ---------------------------------------------------------------- the same bytes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["xor_gate", "digits", "batch_momentum"])
def test_after_the_same_samples_the_parameters_are_the_same_bytes(name: str, mode: str) -> None:
    _, link, device, samples = pair(named(name, mode=mode))
    assert link.read_parameters() == device.parameter_bytes
    order = [5, 4, 3, *range(len(samples))]
    assert link.train_samples(samples, order) == device.train_samples(samples, order)
    assert link.read_parameters() == device.parameter_bytes
    for x in samples.x[:10]:
        assert link.predict(x) == device.predict_of(x[None])[0]
        assert np.array_equal(link.scores(x), device.scores_of(x[None])[0])
    assert link.read_parameters() == device.parameter_bytes


def test_a_learning_rate_over_the_line_is_that_of_the_network_file() -> None:
    loopback = Loopback(named("xor_gate"))
    link = linked(loopback, named("xor_gate"))
    link.set_learning_rate(0.125)
    assert link.read_parameters() == Device(named("xor_gate", learning_rate=0.125)).parameter_bytes


def test_statistics_count_what_happened() -> None:
    loopback, link, device, samples = pair(named("digits"), 20)
    loss = link.train_samples(samples, range(20))
    loopback.write(b"\x05noise\0" + b"\x02\0")
    statistics = link.statistics()
    assert statistics.trained == 20
    assert statistics.loss == loss == device.train_samples(samples, range(20))
    assert statistics.dropped == 2
    assert statistics.answered == 21  # and the greeting


@pytest.mark.parametrize("pattern", ["zeros", "ones", "random", "no zeros"])
def test_parameters_go_there_and_back_in_long_frames(pattern: str) -> None:
    """Frames longer than a block of COBS, with blocks of every length."""
    loopback = Loopback(named("mnist"))
    link = linked(loopback, named("mnist"))
    dice = np.random.RandomState(0)
    size = link.facts.params_bytes
    memory = {
        "zeros": np.zeros(size),
        "ones": np.full(size, 255),
        "random": dice.randint(0, 256, size) * (dice.rand(size) < 0.99),
        "no zeros": dice.randint(1, 256, size),
    }[pattern].astype(np.uint8)
    link.write_parameters(memory.tobytes())
    assert np.array_equal(loopback.params, memory)
    assert link.read_parameters() == memory.tobytes()


# ---------------------------------------------------------------- a line that loses and changes


class Noisy(Loopback):
    """A third of what goes over the line, either way, is cut, changed or lost."""

    dice = random.Random(4)
    struck = 0

    def noise(self, data: bytes) -> bytes:
        if self.dice.random() > 1 / 3 or not data:
            return data
        Noisy.struck += 1
        at = self.dice.randrange(len(data))
        kind = self.dice.randrange(4)
        if kind == 0:
            return b""
        if kind == 1:
            return data[:at]
        if kind == 2:
            return data[at:]
        return data[:at] + bytes([data[at] ^ 1 << self.dice.randrange(8)]) + data[at + 1 :]


def test_no_sample_is_lost_or_learnt_twice_over_a_bad_line() -> None:
    spec = named("xor_gate")
    loopback, device = Noisy(spec), Device(spec, counters=False)
    samples = synthetic_samples(spec, device.plan, 400, seed=3)
    link = linked(loopback, spec, tries=50)
    struck = Noisy.struck
    assert link.train_samples(samples, range(400)) == device.train_samples(samples, range(400))
    assert Noisy.struck - struck > 200
    assert link.read_parameters() == device.parameter_bytes
    assert link.statistics().trained == 400


def test_a_request_is_done_once_however_often_it_comes() -> None:
    loopback, _, device, samples = pair(named("xor_gate"), 3)
    data = samples.target[0].astype("<i2").tobytes() + samples.x[0].astype("<i2").tobytes()
    for tag in (7, 8, 7, 9, 7):  # a tag that comes again later is a new request
        for _ in range(3):
            loopback.write(frame(bytes([TRAIN, tag]) + data))
    device.train_samples(samples, [0] * 5)
    assert loopback.params.tobytes() == device.parameter_bytes


def test_what_was_cut_does_not_spoil_the_next_host() -> None:
    loopback = Loopback(named("xor_gate"))
    for length in range(1, 12):
        loopback.write(frame(bytes([TRAIN, 1]) + bytes(6))[:length])
        assert linked(loopback, named("xor_gate"), tries=1).statistics().trained == 0


# ---------------------------------------------------------------- byte by byte

STUB = """\
#include "link.h"

const link_facts link_network = {{1, 2, 3, 4, 5, 6, 7, 8}, 8, 2, 1, 2, 1};
static uint8_t params[8];
static uint16_t buffer[LINK_BUFFER(4, 1)];
static link_state state;

void start(void);
void receive(uint8_t byte);
void run(void);
int transmit(void);
uint32_t buffer_bytes(void);

void start(void)
{
    link_init(&state, params, params, buffer, sizeof buffer);
}

void receive(uint8_t byte)
{
    link_receive(&state, byte);
}

void run(void)
{
    link_run(&state);
}

int transmit(void)
{
    return link_transmit(&state);
}

uint32_t buffer_bytes(void)
{
    return sizeof buffer;
}

int16_t link_network_predict(const void *p, void *work, const void *x)
{
    (void)p;
    (void)work;
    return *(const int16_t *)x;
}

void link_network_scores(const void *p, void *work, const void *x, int16_t *scores)
{
    scores[0] = link_network_predict(p, work, x);
}

int32_t link_network_train(void *p, void *work, const int16_t *target, const void *x)
{
    return target[0] + link_network_predict(p, work, x);
}

void link_network_set_rate(void *p, uint32_t rate)
{
    ((uint8_t *)p)[0] = (uint8_t)rate;
}

int link_network_is_between_batches(const void *p)
{
    (void)p;
    return 1;
}
"""


class Wire:
    """link.c alone, with a network that only echoes; each end of the line moves when told to."""

    def __init__(self) -> None:
        names = ("link.h", "link.c", "link_no_checkpoint.c")
        files = {name: (paths.RUNTIME / name).read_text() for name in names}
        self.library = ctypes.CDLL(str(build_library(files | {"stub.c": STUB})))
        self.library.start()
        assert self.ask(bytes([HELLO, 0]))[0] == 0x80

    def receive(self, data: bytes) -> None:
        for byte in data:
            self.library.receive(ctypes.c_uint8(byte))

    def transmit(self) -> bytes:
        return bytes(iter(self.library.transmit, -1))

    def ask(self, content: bytes) -> bytes:
        """The answer, without its tag."""
        self.receive(frame(content))
        self.library.run()
        answer = unframe(self.transmit()[:-1])
        assert answer is not None
        assert answer[1] == content[1]
        return answer[:1] + answer[2:]


def test_what_arrives_before_the_answer_has_gone_is_lost_and_harms_nothing() -> None:
    wire = Wire()
    other = frame(bytes([PREDICT, 9]) + struct.pack("<hh", 5, 6))
    wire.receive(frame(bytes([PREDICT, 2]) + struct.pack("<hh", 7, 8)) + other)
    assert wire.transmit() == b""
    wire.library.run()
    wire.receive(other)
    first = bytes([wire.library.transmit()])
    wire.receive(other)
    assert unframe((first + wire.transmit())[:-1]) == b"\x80\x02" + struct.pack("<h", 7)
    wire.library.run()
    assert wire.transmit() == b""
    assert wire.ask(bytes([PREDICT, 9]) + struct.pack("<hh", 5, 6)) == b"\x80\x05\x00"


def test_a_frame_that_is_too_long_is_dropped_even_if_its_beginning_is_sound() -> None:
    wire = Wire()
    room = wire.library.buffer_bytes()
    content = bytes([WRITE, 3]) + bytes(4) + bytes(room - 8)
    sound = cobs.decode(frame(content)[1:-1])
    assert len(sound) == room
    for more in (1, 2, 300):
        wire.receive(cobs.encode(sound + b"x" * more) + b"\0")
        wire.library.run()
        assert wire.transmit() == b""
    assert wire.ask(content)[0] == 0x82  # more than there is of parameters
    assert struct.unpack("<III", wire.ask(bytes([STATISTICS, 4]))[1:13]) == (2, 3, 0)


def test_every_length_but_the_right_one_is_refused() -> None:
    wire = Wire()
    right = {HELLO: 0, PREDICT: 4, SCORES: 4, TRAIN: 6, RATE: 4, STATISTICS: 0, READ: 6}
    right |= {SAVE: 0, LOAD: 0}
    for message, length in right.items():
        for other in range(20):
            status = wire.ask(bytes([message, other]) + bytes(other))[0] - 0x80
            answered = 15 if message in (SAVE, LOAD) else 0
            assert status == (answered if other == length else 2), (message, other)


# ---------------------------------------------------------------- 10 000 frames of anything

PROGRAM = """\
#include <stdint.h>
#include <stdio.h>

void device_start(void);
uint32_t device_exchange(const uint8_t *in, uint32_t bytes, uint8_t *out, uint32_t room);

int main(void)
{
    static uint8_t out[4096];
    device_start();
    for (int c = getchar(); c != EOF; c = getchar()) {
        const uint8_t byte = (uint8_t)c;
        const uint32_t sent = device_exchange(&byte, 1, out, sizeof out);
        if (sent > sizeof out || fwrite(out, 1, sent, stdout) != sent) {
            return 1;
        }
    }
    return 0;
}
"""
FRAMES = 10_000


def mutated(good: bytes, dice: random.Random) -> bytes:
    """A frame after an accident."""
    data = bytearray(good)
    for _ in range(dice.choice([1, 1, 1, 2, 5])):
        at = dice.randrange(len(data))
        kind = dice.randrange(6)
        if kind == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[at] = dice.randrange(256)
        elif kind == 2:
            del data[at : at + dice.randrange(1, 8)]
        elif kind == 3:
            data[at:at] = dice.randbytes(dice.randrange(1, 8))
        elif kind == 4:
            del data[at:]
        else:
            data[at:at] = data[: dice.randrange(len(data))]
        if not data:
            break
    return bytes(data)


def strange(dice: random.Random, facts: link_module.Facts) -> tuple[bytes, int | None]:
    """Anything: noise, or a sound frame that asks for nonsense, with the status that this gets."""
    kind = dice.randrange(8)
    if kind == 0:
        return dice.randbytes(dice.randrange(1, 600)), None
    if kind == 1:
        return bytes(dice.randrange(1, 256) for _ in range(dice.randrange(1, 600))), None
    if kind == 2:  # no such message
        message = dice.choice([0, *range(11, 256)])
        return bytes([message]) + dice.randbytes(dice.randrange(0, 100)), 1
    if kind == 3:  # wrong length
        lengths = {HELLO: 0, STATISTICS: 0, SAVE: 0, LOAD: 0, RATE: 4, READ: 6}
        lengths |= {
            PREDICT: facts.inputs * 2,
            SCORES: facts.inputs * 2,
            TRAIN: facts.inputs * 2 + 2,
        }
        message, right = dice.choice(list(lengths.items()))
        length = dice.choice([n for n in (0, 1, 3, 5, right - 1, right + 1) if 0 <= n != right])
        return bytes([message]) + dice.randbytes(length), 2
    if kind == 4:  # outside of the parameters
        offset = dice.choice([facts.params_bytes + 1, 2**31, 2**32 - 1, facts.params_bytes - 3])
        return bytes([WRITE]) + struct.pack("<I", offset) + bytes(4), 2
    if kind == 5:
        last = facts.params_bytes
        wrong = [(last, 1), (last - 5, 6), (2**31, 1), (2**32 - 1, 2), (0, 1000), (0, 65535)]
        return bytes([READ]) + struct.pack("<IH", *dice.choice(wrong)), 2
    if kind == 6:  # no such label
        label = dice.choice([-1, facts.outputs, 32767, -32768])
        return bytes([TRAIN]) + struct.pack("<h", label) + dice.randbytes(2 * facts.inputs), 4
    return bytes([WRITE]) + dice.randbytes(dice.randrange(4)), 2


def stream(device: Device, samples: Samples) -> tuple[bytes, list[tuple[int, int, bytes | None]]]:
    """Everything for the line, and the answers (status, tag, data) that must come, in order."""
    dice = random.Random(11)
    facts = link_module.Facts.of(device.spec, device.plan, device.state())
    line = [frame(bytes([HELLO, 0]))]
    answers: list[tuple[int, int, bytes | None]] = [(0, 0, None)]
    tags = itertools.cycle(range(256))
    losses = []
    for number in range(FRAMES):
        index = number % len(samples)
        x = samples.x[index].astype("<i2").tobytes()
        y = struct.pack("<h", samples.target[index])
        good = [bytes([PREDICT]) + x, bytes([TRAIN]) + y + x, bytes([STATISTICS])][number % 3]
        while True:
            if dice.random() < 0.5:
                content, status = (
                    mutated(frame(good[:1] + bytes([next(tags)]) + good[1:]), dice),
                    None,
                )
            else:
                content, status = strange(dice, facts)
            tag = next(tags)
            if status is not None:
                content = frame(content[:1] + bytes([tag]) + content[1:])
                answers.append((status, tag, b""))
            # What is sound by accident would be no accident to the device either.
            if status is not None or not any(map(unframe, content.split(b"\0"))):
                break
        line.append(content)
        tag = next(tags)
        line.append(frame(good[:1] + bytes([tag]) + good[1:]))
        data: bytes | None = None
        if good[0] == PREDICT:
            data = struct.pack("<h", device.predict_of(samples.x[index : index + 1])[0])
        elif good[0] == TRAIN:
            losses.append(round(device.train_samples(samples, [index]) * 2**20))
            data = struct.pack("<i", losses[-1])
        answers.append((0, tag, data))
    for offset in range(0, facts.params_bytes, 64):
        memory = device.parameter_bytes[offset : offset + 64]
        line.append(frame(bytes([READ, 1]) + struct.pack("<IH", offset, len(memory))))
        answers.append((0, 1, memory))
    return b"".join(line), answers


def test_a_device_survives_anything_on_the_wire(
    system_compiler: Compiler, sanitizers: Callable[[Compiler], tuple[str, ...]], tmp_path: Path
) -> None:
    """No fault, no hang, no wrong parameters, and the next good frame is answered."""
    spec = named("digits")
    device = Device(spec, counters=False)
    plan, state = device.plan, make_state(spec, device.plan)
    files = device_files(spec, plan, state, Geometry.holding(len(device.parameter_bytes), 4, 1024))
    for name, text in (files | {"main.c": PROGRAM}).items():
        (tmp_path / name).write_text(text)
    flags = ("-std=c99", "-O1", *sanitizers(system_compiler))
    sources = sorted(name for name in [*files, "main.c"] if name.endswith(".c"))
    replace(system_compiler, flags=flags).run(*STRICT, "-o", "program", *sources, cwd=tmp_path)
    line, answers = stream(device, synthetic_samples(spec, plan, 100, seed=3))
    done = subprocess.run([tmp_path / "program"], input=line, capture_output=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, b"")
    got = [unframe(part) for part in done.stdout.split(b"\0")[:-1]]
    assert len(got) == len(answers) > FRAMES
    for number, (answer, (status, tag, data)) in enumerate(zip(got, answers, strict=True)):
        assert answer is not None
        assert (answer[0] - 0x80, answer[1]) == (status, tag), number
        assert data is None or answer[2:] == data, number


# ---------------------------------------------------------------- saving


def test_what_was_saved_is_there_after_a_reset() -> None:
    loopback, link, device, samples = pair(named("digits"))
    link.train_samples(samples, range(30))
    link.save()
    saved = link.read_parameters()
    link.train_samples(samples, range(30, 40))
    assert link.read_parameters() != saved
    link.load()
    assert link.read_parameters() == saved
    loopback.restart()
    link = linked(loopback, named("digits"))
    assert link.read_parameters() == saved
    link.train_samples(samples, range(30, 60))
    device.train_samples(samples, range(60))
    assert link.read_parameters() == device.parameter_bytes
    assert loopback.flash.violations == 0


def test_batches_are_saved_between_them() -> None:
    spec = named("batch_momentum")
    _, link, device, samples = pair(spec)
    link.train_samples(samples, range(spec.batch))
    link.save()
    link.train_samples(samples, range(spec.batch, spec.batch + 1))
    complains(
        link.save,
        "loopback: the device is in the middle of a batch, of which nothing is saved; send the rest of it first",
    )
    link.load()
    link.train_samples(samples, range(spec.batch, len(samples)))
    device.train_samples(samples, range(len(samples)))
    assert link.read_parameters() == device.parameter_bytes


# ---------------------------------------------------------------- one line each


def complains(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        call()
    assert str(caught.value) == message


def test_another_network_on_the_device_is_said_with_both_hashes() -> None:
    here, there = named("lesson"), named("xor_gate")
    loopback = Loopback(there)
    plan = make_plan(here)
    state = make_state(here, plan)
    own, other = network_hash(here, plan, state), network_hash(there, loopback.plan, loopback.state)
    message = (
        f"loopback: the device has network {other.hex()}, but {here.source} is {own.hex()}; "
        "flash the firmware of this file, or name the other file"
    )
    complains(lambda: Link(loopback, here, plan, state, place="loopback"), message)


def test_sums_of_another_kind_are_another_network() -> None:
    """Else a board would quietly learn other bytes than its twin here."""
    spec = named("xor_gate")
    loopback = Loopback(spec, board=load_board("microbit"))
    plan = make_plan(spec)
    state = make_state(spec, plan)
    own = network_hash(spec, plan, state)
    other = network_hash(spec, loopback.plan, loopback.state)
    message = (
        f"loopback: the device has network {other.hex()}, but {spec.source} is {own.hex()}; "
        "flash the firmware of this file, or name the other file"
    )
    complains(lambda: Link(loopback, spec, plan, state, place="loopback"), message)
    wide, short = (make_plan(spec, accumulate=kind) for kind in POLICIES)
    ways = [(plan, make_state(spec, plan)) for plan in (wide, short)]
    link = link_to_any(loopback, spec, ways, place="loopback")
    assert link.facts.hash == other
    complains(lambda: link_to_any(loopback, spec, ways[:1], place="loopback"), message)


def test_another_version_of_the_link_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    loopback = Loopback(named("xor_gate"))
    monkeypatch.setattr(link_module, "VERSION", 2)
    message = "loopback: the device speaks version 1 of the link, this mcugrad version 2; flash the firmware anew"
    complains(lambda: linked(loopback, named("xor_gate")), message)


def test_a_device_that_does_not_answer_is_said() -> None:
    class Dead(Loopback):
        def noise(self, data: bytes) -> bytes:
            return b""

    message = "loopback: no answer, asked 4 times within 0.4 s; check cable, baud rate, and that the firmware runs"
    complains(
        lambda: linked(Dead(named("xor_gate")), named("xor_gate"), timeout=0.1, tries=3), message
    )


def test_a_device_that_was_reset_meanwhile_is_noticed() -> None:
    loopback, link, _, samples = pair(named("xor_gate"))
    link.train_samples(samples, range(3))
    loopback.restart()
    message = "loopback: the device was started anew: what it learnt since it was last saved is lost; begin anew"
    complains(lambda: link.train_samples(samples, range(3)), message)


def test_refusals_of_the_device_are_said() -> None:
    loopback, link, _, samples = pair(named("digits"), 1)
    complains(link.load, "loopback: the device has nothing saved; save first")
    message = "loopback: the device refuses a label out of range; check the labels of the data"
    complains(lambda: link.train(samples.x[0], 10), message)
    assert link.statistics().trained == 0
    message = f"loopback: 3 bytes of parameters, but the network has {loopback.params.size}; take those of this network"
    complains(lambda: link.write_parameters(b"abc"), message)
    message = "loopback: the device expects another length of this message; flash the firmware anew"
    complains(lambda: link.predict(samples.x[0][:3]), message)


def test_a_missing_port_is_said() -> None:
    with pytest.raises(UserError) as caught:
        SerialLine("/dev/ttyNONE")
    message = r"/dev/ttyNONE: there is no such port; (there are [^;]+|plug the board in)"
    assert re.fullmatch(message, str(caught.value))


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A pseudo-terminal: the device's end, and the name of the port at the other."""
    device, port = pty.openpty()
    tty.setraw(port, termios.TCSANOW)
    yield device, os.ttyname(port)
    for end in (device, port):
        os.close(end)


def test_a_busy_port_is_said(line: tuple[int, str]) -> None:
    _, port = line
    first = SerialLine(port)
    message = f"{port}: the port is busy; close the program that uses it (a serial monitor?)"
    complains(lambda: SerialLine(port), message)
    first.close()
    SerialLine(port).close()


def test_a_port_without_permission_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port")

    monkeypatch.setattr(serial, "Serial", refuse)
    message = "COM7: no permission to use the port; join the group that owns it (dialout?)"
    complains(lambda: SerialLine("COM7"), message)


def test_missing_packages_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "serial", None)
    found = importlib.util.spec_from_file_location("link_anew", str(link_module.__file__))
    assert found is not None
    loader = found.loader
    assert loader is not None
    message = "a serial line needs the packages cobs and pyserial; pip install 'mcugrad[boards]'"
    module = importlib.util.module_from_spec(found)
    monkeypatch.setitem(sys.modules, "link_anew", module)
    complains(lambda: loader.exec_module(module), message)


@pytest.fixture
def board(line: tuple[int, str]) -> Iterator[Callable[[Loopback], str]]:
    """Puts a device at the end of a pseudo-terminal; the name of the port."""
    end, port = line
    threads = []

    def connect(loopback: Loopback) -> str:
        def serve() -> None:
            while (data := os.read(end, 64)) != b"bye":
                loopback.write(data)
                os.write(end, loopback.read(0))

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return port

    yield connect
    for thread in threads:
        with SerialLine(port) as last:
            last.write(b"bye")
            thread.join()


def test_a_device_learns_over_a_serial_port(board: Callable[[Loopback], str]) -> None:
    """pyserial on a pseudo-terminal, with the compiled device behind it."""
    spec = named("digits")
    loopback, device = Loopback(spec), Device(spec, counters=False)
    samples = synthetic_samples(spec, device.plan, 60, seed=3)
    with SerialLine(board(loopback)) as port:
        link = Link(port, spec, loopback.plan, loopback.state)
        assert link.train_samples(samples, range(60)) == device.train_samples(samples, range(60))
        assert link.read_parameters() == device.parameter_bytes


# ---------------------------------------------------------------- mcugrad link

XOR = str(NETWORKS / "xor_gate.toml")


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mcugrad: Callable[..., tuple[int, str, str]],
) -> Callable[..., tuple[int, str, str]]:
    """mcugrad with these arguments, in a folder with samples: (status, output, errors)."""
    monkeypatch.chdir(tmp_path)
    Path("xor.csv").write_text("".join(f"{a},{b},{a ^ b}\n" for a in (0, 1) for b in (0, 1)))
    return mcugrad


def loopback_with_data() -> Loopback:
    """As `mcugrad generate --data xor.csv` makes it."""
    spec = load_spec(Path(XOR))
    data = load_spec_data(spec, Path("xor.csv"))
    return Loopback(spec, samples=quantize_samples(spec, data.x, data.y))


def test_a_board_learns_what_the_simulator_learns(
    run: Callable[..., tuple[int, str, str]], board: Callable[[Loopback], str]
) -> None:
    loopback = loopback_with_data()
    port = board(loopback)
    arguments = (
        "--data",
        "xor.csv",
        "--epochs",
        "3",
        "--save",
        "p.npz",
        "--csv",
        "c.csv",
        "--keep",
    )
    status, out, err = run("link", XOR, "--port", port, *arguments, "--json")
    assert (status, err) == (0, "")
    result = json.loads(out)
    assert list(result) == ["network", "mode", "port", "curve", "trained", "parameters_crc32"]
    simulated = json.loads(run("train", XOR, "--data", "xor.csv", "--epochs", "3", "--json")[1])
    assert result["parameters_crc32"] == simulated["parameters_crc32"]
    last = {**simulated["fixed"], "epoch": 3}
    assert result["curve"][3] == pytest.approx(last)
    assert Path("c.csv").read_text().splitlines()[0] == "epoch,r2,loss,train_loss"
    assert len(Path("c.csv").read_text().splitlines()) == 5
    device = Device(load_spec(Path(XOR)))
    device.load(Path("p.npz"))
    assert device.crc32() == result["parameters_crc32"]
    loopback.restart()
    assert loopback.params.tobytes() == device.parameter_bytes


def test_without_the_board_its_kind_of_sums_is_found(
    run: Callable[..., tuple[int, str, str]], board: Callable[[Loopback], str]
) -> None:
    port = board(Loopback(load_spec(Path(XOR)), board=load_board("microbit")))
    assert run("link", XOR, "--port", port, "--board", "microbit")[0] == 0
    assert run("link", XOR, "--port", port)[0] == 0
    status, _, err = run("link", XOR, "--port", port, "--board", "nucleo_f446re")
    assert (status, "the device has network" in err) == (2, True)


def test_a_board_is_asked_what_it_is(
    run: Callable[..., tuple[int, str, str]], board: Callable[[Loopback], str]
) -> None:
    loopback = loopback_with_data()
    port = board(loopback)
    crc = f"{zlib.crc32(loopback.params.tobytes()):08x}"
    line = f"{port}: xor_gate, 0 steps since it was started; parameters' CRC-32 {crc}\n"
    assert run("link", XOR, "--port", port) == (0, line, "")


def test_mistakes_of_the_command_are_one_line(run: Callable[..., tuple[int, str, str]]) -> None:
    message = "c.csv: without samples there is no curve; add --data FILE\n"
    assert run("link", XOR, "--port", "nowhere", "--csv", "c.csv") == (2, "", message)
    status, out, err = run("link", XOR, "--port", "nowhere", "--data", "xor.csv", "--save", "p.npz")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"nowhere: there is no such port; [^\n]+\n", err)
    assert sorted(os.listdir()) == ["xor.csv"]


# ---------------------------------------------------------------- the C on its targets

OF_OTHER_CORES = ("flash_eeprom_avr.c", "flash_stm32h7.c")
RUNTIME = sorted(path for path in paths.RUNTIME.glob("*.c") if path.name not in OF_OTHER_CORES)
SMALL = (
    "-std=c99",
    "-Os",
    "-ffreestanding",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)
ZIG = Compiler((sys.executable, "-m", "ziglang", "cc", "-target", "thumb-freestanding-eabi"), SMALL)
STRING_H = """\
#include <stddef.h>
void *memcpy(void *to, const void *from, size_t bytes);
void *memset(void *to, int value, size_t bytes);
"""


def targets() -> dict[str, Compiler]:
    """Compilers for Cortex-M of this machine: that of ziglang, and GNU's where it is installed."""
    found = {"zig": ZIG}
    gnu = shutil.which("arm-none-eabi-gcc")
    if gnu is not None:
        found["gnu"] = Compiler((gnu, "-mthumb"), SMALL)
    return found


def cross_compiled(compiler: Compiler, core: str, source: Path, folder: Path) -> ELFFile:
    """The object file, after the strictest warnings."""
    (folder / "string.h").write_text(STRING_H)
    include = ("-I", str(folder), "-I", str(paths.RUNTIME))
    compiler.run(f"-mcpu={core}", *include, *STRICT, "-c", str(source), "-o", "x.o", cwd=folder)
    return ELFFile(io.BytesIO((folder / "x.o").read_bytes()))


def code_bytes(elf: ELFFile) -> int:
    """What goes into flash: code and constants."""
    return sum(
        section["sh_size"]
        for section in elf.iter_sections("SHT_PROGBITS")
        if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and not section["sh_flags"] & SH_FLAGS.SHF_WRITE
    )


@pytest.mark.parametrize("toolchain", targets())
def test_link_and_checkpoint_cost_less_than_3_kilobytes_on_cortex_m0(
    toolchain: str, tmp_path: Path
) -> None:
    core = {"zig": "cortex_m0", "gnu": "cortex-m0"}[toolchain]
    total = 0
    for name in ("link.c", "link_checkpoint.c", "checkpoint.c"):
        elf = cross_compiled(targets()[toolchain], core, paths.RUNTIME / name, tmp_path)
        total += code_bytes(elf)
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        symbols = table.iter_symbols()
        needed = {s.name for s in symbols if s["st_shndx"] == "SHN_UNDEF" and s.name}
        own = re.compile(
            r"memcpy|memset|__aeabi_mem\w+|__gnu_thumb1_case_\w+|(link|checkpoint)_\w+"
        )
        assert all(own.fullmatch(name) for name in needed), needed
        assert not [
            s for s in elf.iter_sections() if s.name.startswith((".data", ".bss")) and s["sh_size"]
        ]
    assert 1000 < total < 3072


@pytest.mark.parametrize("core", ["cortex_m0", "cortex_m3", "cortex_m4"])
def test_the_runtime_compiles_for_cores_without_a_warning(core: str, tmp_path: Path) -> None:
    for source in RUNTIME:
        cross_compiled(ZIG, core, source, tmp_path)


AVR = shutil.which("avr-gcc")


def test_the_runtime_compiles_for_avr_without_a_warning(tmp_path: Path) -> None:
    if AVR is None:
        lacking("avr-gcc (with avr-libc) is not on the PATH")
    names = (
        "checkpoint.c",
        "flash_eeprom_avr.c",
        "link.c",
        "link_checkpoint.c",
        "link_no_checkpoint.c",
    )
    sources = [str(paths.RUNTIME / name) for name in names]
    for chip in ("atmega328p", "atmega2560"):
        compiler = Compiler((str(AVR), f"-mmcu={chip}"), ("-std=c99", "-Os"))
        compiler.run(*STRICT, "-c", *sources, cwd=tmp_path)


def test_the_runtime_compiles_on_this_machine_without_a_warning(
    compiler: Compiler, tmp_path: Path
) -> None:
    portable = [str(path) for path in RUNTIME if not path.name.startswith("flash_")]
    for level, source in itertools.product(("-O0", "-O2"), portable):
        compiler.run(*STRICT, "-std=c99", level, "-c", source, cwd=tmp_path)


def test_the_headers_are_also_c_plus_plus(cxx_compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "main.cpp").write_text('#include "link.h"\n#include "checkpoint.h"\n' * 2)
    include = ("-I", str(paths.RUNTIME))
    cxx_compiler.run(
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Wpedantic",
        "-Werror",
        *include,
        "-c",
        "main.cpp",
        cwd=tmp_path,
    )


def test_the_crc_is_that_of_the_standard_library() -> None:
    """So that hosts in other languages find it under its name: CRC-16/CCITT-FALSE of 123456789."""
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1
    assert cobs.decode(frame(b"123456789")[1:-1]) == b"123456789\x29\xb1"
