"""What a network learnt survives: power fails at every operation of the memory, words are torn.

The states are those of real networks that learn; what is in the memory after every cut is loaded
as after a reset and compared with the states before and after the save, byte for byte.
"""

import random
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from given import named

from codegen.pipeline import Samples, synthetic_samples
from host_sim.device import Device
from host_sim.flash import (
    ALL,
    FLASH_ERROR,
    NO_ROOM,
    NOTHING_SAVED,
    OK,
    OTHER_NETWORK,
    OTHER_VERSION,
    TEARS,
    Checkpoints,
    Geometry,
)

HERE = Path(__file__).parent
HEADER = 20
XOR_GATE = 52  # bytes of xor_gate_params; asserted below
MEMORIES = {
    "nRF51: words of 4, pages of 1024": Geometry(4, 1024, 1024),
    "STM32F1: words of 2, pages larger than a state": Geometry(2, 1024, 1024),
    "bytes, pages smaller than a state": Geometry.holding(XOR_GATE, 1, 16),
    "words of 8, small pages, three slots": Geometry.holding(XOR_GATE, 8, 32, slots=3),
    "words of 16, five slots": Geometry.holding(XOR_GATE, 16, 64, slots=5),
    "STM32H7: words of 32": Geometry.holding(XOR_GATE, 32, 128),
    "EEPROM: bytes, no erase": Geometry.holding(XOR_GATE, 1, 0),
    "FRAM: words of 4, no erase, three slots": Geometry.holding(XOR_GATE, 4, 0, slots=3),
}
memories = pytest.mark.parametrize("geometry", MEMORIES.values(), ids=list(MEMORIES))


@cache
def learnt(name: str) -> tuple[Device, Samples, tuple[bytes, ...]]:
    """A device, samples, and its parameters after 0, 1, 2, ... 102 of them."""
    spec = named(name)
    device = Device(spec, counters=False)
    samples = synthetic_samples(spec, device.plan, 102, seed=5)
    states = [device.parameter_bytes]
    for index in range(len(samples)):
        device.train_samples(samples, [index])
        states.append(device.parameter_bytes)
    assert len(set(states)) == len(states)
    return device, samples, tuple(states)


def fresh(geometry: Geometry, states: tuple[bytes, ...], content: object = 0xFF) -> Checkpoints:
    checkpoints = Checkpoints(geometry, len(states[0]))
    checkpoints.flash.fill(content)
    return checkpoints


def saved(checkpoints: Checkpoints, states: tuple[bytes, ...]) -> None:
    for state in states:
        assert checkpoints.save(state) == OK


def operations_of_a_save(checkpoints: Checkpoints, state: bytes) -> int:
    """Counted by doing it; the memory is put back."""
    image = checkpoints.flash.image()
    checkpoints.flash.boot()
    assert checkpoints.save(state) == OK
    count = checkpoints.flash.operations
    checkpoints.flash.restore(image)
    return count


def loaded(checkpoints: Checkpoints) -> bytes | None:
    """What a device has after a reset: a state, or None where it starts anew."""
    checkpoints.flash.boot()
    code, state = checkpoints.load()
    assert code in (OK, NOTHING_SAVED)
    if code == NOTHING_SAVED:
        assert state == b"\xa5" * len(state)
        return None
    return state


# ---------------------------------------------------------------- power cuts


def cuts(checkpoints: Checkpoints, state: bytes) -> Iterator[tuple[int, int]]:
    """A save is cut at each of its operations in each way; yields where, after the cut."""
    count = operations_of_a_save(checkpoints, state)
    image = checkpoints.flash.image()
    for operation in range(count):
        for tear in TEARS:
            checkpoints.flash.restore(image)
            checkpoints.flash.cut(operation, tear, seed=1 + operation * len(TEARS) + tear)
            checkpoints.save(state)
            assert not checkpoints.flash.is_on
            yield operation, tear
    checkpoints.flash.restore(image)


@pytest.mark.parametrize("content", [0xFF, 0x00], ids=["erased", "zeros"])
@pytest.mark.parametrize("saves", [0, 1, 2, 99])
@memories
def test_after_a_cut_the_state_is_the_old_or_the_new_one(
    geometry: Geometry, saves: int, content: int
) -> None:
    """... and the next save works, and the one after a second cut at the same place."""
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(geometry, states, content)
    saved(checkpoints, states[1 : saves + 1])
    old, new, after = (states[saves] if saves else None), states[saves + 1], states[saves + 2]
    outcomes = set()
    for operation, tear in cuts(checkpoints, new):
        found = loaded(checkpoints)
        assert found in (old, new), (operation, tear)
        assert loaded(checkpoints) == found
        outcomes.add(found)
        checkpoints.flash.cut(operation, tear, seed=operation + 1)
        checkpoints.save(after)
        second = loaded(checkpoints)
        assert second in (found, after), (operation, tear)
        assert checkpoints.save(after) == OK
        assert loaded(checkpoints) == after
    assert outcomes == {old, new}
    assert checkpoints.flash.violations == 0


@memories
def test_a_cut_while_a_load_recovers_changes_nothing(geometry: Geometry) -> None:
    """Power fails at every operation of a save, and again at every operation of the load."""
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(geometry, states)
    saved(checkpoints, states[1:4])
    old, new = states[3], states[4]
    recoveries = 0
    for _ in cuts(checkpoints, new):
        torn = checkpoints.flash.image()
        for operation in range(10**6):
            checkpoints.flash.restore(torn)
            checkpoints.flash.cut(operation, operation % len(TEARS), seed=operation + 1)
            checkpoints.load()
            if checkpoints.flash.is_on:
                break
            recoveries += 1
            assert loaded(checkpoints) in (old, new)
        checkpoints.flash.restore(torn)
    assert recoveries > 0
    assert checkpoints.flash.violations == 0


@pytest.mark.parametrize("saves", [0, 99], ids=["first", "hundredth"])
def test_digits_survive_a_cut_at_every_operation(saves: int) -> None:
    """4 928 bytes over five pages a slot, as on the micro:bit."""
    _, _, states = learnt("digits")
    checkpoints = fresh(Geometry.holding(len(states[0]), 4, 1024), states)
    saved(checkpoints, states[1 : saves + 1])
    old, new = (states[saves] if saves else None), states[saves + 1]
    outcomes = {loaded(checkpoints) for _ in cuts(checkpoints, new)}
    assert outcomes == {old, new}
    assert checkpoints.flash.violations == 0


@memories
def test_cuts_one_after_the_other_never_lose_what_a_load_has_returned(geometry: Geometry) -> None:
    """Thousands of saves and loads of which each may be cut; loose bits read anew at each start."""
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(geometry, states)
    dice = random.Random(1)
    count = operations_of_a_save(checkpoints, states[0])
    admissible: set[bytes | None] = {None}
    for number in range(10_000):
        state = states[number % len(states)]
        for start in range(3):
            checkpoints.flash.boot()
            if start < 2 and dice.random() < 0.5:
                checkpoints.flash.cut(dice.randrange(count), dice.choice(TEARS), 1 + number + start)
            code, found = checkpoints.load()
            if checkpoints.flash.is_on:
                admissible &= {found if code == OK else None}
                assert admissible, number
        checkpoints.flash.boot()
        # Most of the cuts where it matters: around the commit and the seal.
        late = count - 1 - dice.randrange(min(count, 8))
        cut = dice.choice([late, late, dice.randrange(count), count])
        checkpoints.flash.cut(cut, dice.choice(TEARS), 7 + number)
        code = checkpoints.save(state)
        admissible = {state} if checkpoints.flash.is_on and code == OK else admissible | {state}
    assert checkpoints.flash.violations == 0


# ---------------------------------------------------------------- learning goes on


@pytest.mark.parametrize("name", ["xor_gate", "digits"])
@pytest.mark.parametrize("tear", [0, ALL])
def test_training_goes_on_as_if_nothing_had_happened(name: str, tear: int) -> None:
    """Cut during the 50th save: from the state that is found, training ends in the same bytes."""
    device, samples, states = learnt(name)
    checkpoints = fresh(Geometry.holding(len(states[0]), 4, 1024), states)
    saved(checkpoints, states[1:50])
    last = operations_of_a_save(checkpoints, states[50]) - 1
    checkpoints.flash.cut(last - 1, tear)
    checkpoints.save(states[50])
    other = Device(device.spec, seed=1, counters=False)
    assert other.parameter_bytes != device.parameter_bytes
    other.parameter_bytes = loaded(checkpoints) or b""
    steps = 50 if tear == ALL else 49
    assert other.parameter_bytes == states[steps]
    other.train_samples(samples, range(steps, len(samples)))
    assert other.parameter_bytes == states[-1]


# ---------------------------------------------------------------- layout, refusals, wear


def test_the_layout_is_that_of_the_header() -> None:
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(Geometry(8, 128, 128), states)
    saved(checkpoints, states[:3])
    assert len(states[0]) == XOR_GATE
    head = struct.pack("<III8s", 0x6D670001, 3, XOR_GATE, checkpoints.network)
    body = head + states[2]
    commit = struct.pack("<I", zlib.crc32(body))
    want = body + commit + b"\xff" * 4 + bytes(4) + b"\xff" * 4
    assert checkpoints.flash.memory.tobytes()[: len(want)] == want
    assert set(checkpoints.flash.memory[len(want) : 128]) == {0xFF}


@pytest.mark.parametrize("field", range(8))
def test_another_network_is_refused_with_its_own_code(field: int) -> None:
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(Geometry(4, 128, 128), states)
    saved(checkpoints, states[:2])
    other = bytearray(checkpoints.network)
    other[field] ^= 1
    checkpoints.network = bytes(other)
    assert checkpoints.load() == (OTHER_NETWORK, b"\xa5" * XOR_GATE)
    assert checkpoints.save(states[2]) == OK
    assert checkpoints.load() == (OK, states[2])


def test_a_state_of_another_size_is_refused_as_that_of_another_network() -> None:
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(Geometry(4, 128, 128), states)
    saved(checkpoints, states[:2])
    checkpoints.size = XOR_GATE - 4
    assert checkpoints.load()[0] == OTHER_NETWORK


def test_another_version_is_refused_with_its_own_code() -> None:
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(Geometry(4, 128, 128), states)
    saved(checkpoints, states[:1])
    memory = checkpoints.flash.memory
    memory[0] = 2
    body = memory.tobytes()[: HEADER + XOR_GATE]
    memory[len(body) : len(body) + 4] = np.frombuffer(struct.pack("<I", zlib.crc32(body)), np.uint8)
    assert checkpoints.load() == (OTHER_VERSION, b"\xa5" * XOR_GATE)
    assert checkpoints.save(states[1]) == OK
    assert checkpoints.load() == (OK, states[1])


def test_every_damaged_bit_is_noticed() -> None:
    """Of the newest state: the one before is found; without one, nothing."""
    _, _, states = learnt("xor_gate")
    for saves, left in ((1, None), (2, states[0])):
        checkpoints = fresh(Geometry.holding(XOR_GATE, 4, 16), states)
        saved(checkpoints, states[:saves])
        first = (saves - 1) * checkpoints.flash.geometry.slot
        image = checkpoints.flash.image()
        for bit in range(8 * (HEADER + XOR_GATE + 4)):
            checkpoints.flash.memory[first + bit // 8] ^= 1 << bit % 8
            assert loaded(checkpoints) == left
            checkpoints.flash.restore(image)
        assert loaded(checkpoints) == states[saves - 1]


@pytest.mark.parametrize("content", ["noise", "zeros", "ones"])
@memories
def test_memory_that_holds_anything_else_holds_nothing(geometry: Geometry, content: str) -> None:
    _, _, states = learnt("xor_gate")
    noise = np.random.RandomState(0).randint(0, 256, geometry.total).astype(np.uint8)
    checkpoints = fresh(geometry, states, {"noise": noise, "zeros": 0, "ones": 0xFF}[content])
    assert loaded(checkpoints) is None
    assert checkpoints.flash.operations == 0
    saved(checkpoints, states[:3])
    assert loaded(checkpoints) == states[2]
    assert checkpoints.flash.violations == 0


def test_a_crc_that_looks_erased_still_commits() -> None:
    """Its stored form is another one, so that missing and present commits differ."""
    checkpoints = Checkpoints(Geometry(4, 128, 128), 8)
    checkpoints.flash.fill(0xFF)
    head = struct.pack("<III8s4x", 0x6D670001, 1, 8, checkpoints.network)
    state = bytes(4) + forged(head)
    assert zlib.crc32(head[:HEADER] + state) == 0xFFFFFFFF
    assert checkpoints.save(state) == OK
    assert checkpoints.flash.memory[28:32].tobytes() == bytes(4)
    assert checkpoints.load() == (OK, state)


def forged(prefix: bytes) -> bytes:
    """Four bytes that give prefix + bytes the CRC 0xFFFFFFFF: CRC is linear, solve for them."""
    target = zlib.crc32(prefix + bytes(4)) ^ 0xFFFFFFFF
    columns = [
        zlib.crc32(prefix + (1 << bit).to_bytes(4, "little")) ^ zlib.crc32(prefix + bytes(4))
        for bit in range(32)
    ]
    rows = [(column, 1 << bit) for bit, column in enumerate(columns)]
    solution = 0
    for bit in range(32):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows.remove(pivot)
        rows = [(c ^ pivot[0], s ^ pivot[1]) if c >> bit & 1 else (c, s) for c, s in rows]
        if target >> bit & 1:
            target, solution = target ^ pivot[0], solution ^ pivot[1]
    return solution.to_bytes(4, "little")


@memories
def test_saves_take_the_slots_in_turn(geometry: Geometry) -> None:
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(geometry, states)
    for number in range(12):
        before = checkpoints.flash.memory.copy()
        assert checkpoints.save(states[number]) == OK
        changed = np.flatnonzero(before != checkpoints.flash.memory) // geometry.slot
        assert set(changed) == {number % geometry.slots}


def test_a_worn_slot_is_passed_over() -> None:
    _, _, states = learnt("xor_gate")
    geometry = Geometry(4, 128, 128, slots=3)
    checkpoints = fresh(geometry, states)
    checkpoints.flash.wear_out(128 + HEADER + 3)
    used = []
    for number in range(6):
        state = bytes(XOR_GATE - 4) + struct.pack("<I", number)
        assert checkpoints.save(state) == OK
        assert loaded(checkpoints) == state
        at = checkpoints.flash.memory.tobytes().rindex(state)
        used.append(at // 128)
    assert used == [0, 2, 0, 2, 0, 2]


def test_the_last_slot_worn_out_is_an_error_and_the_state_before_remains() -> None:
    _, _, states = learnt("xor_gate")
    checkpoints = fresh(Geometry(4, 128, 128), states)
    saved(checkpoints, states[:1])
    checkpoints.flash.wear_out(128 + HEADER + XOR_GATE - 1)
    for _ in range(3):
        assert checkpoints.save(bytes(XOR_GATE)) == FLASH_ERROR
        assert loaded(checkpoints) == states[0]


def test_a_state_that_does_not_fit_is_refused() -> None:
    geometry = Geometry.holding(XOR_GATE, 4, 16)
    checkpoints = Checkpoints(geometry, XOR_GATE)
    checkpoints.flash.fill(0xFF)
    room = geometry.slot - HEADER - 8
    assert checkpoints.save(bytes(room)) == OK
    for size in (room + 1, room + 4, geometry.slot, 2 * geometry.slot, 2**31):
        library = checkpoints.flash.library
        assert library.checkpoint_save(checkpoints.network, b"", size) == NO_ROOM
    one = Checkpoints(Geometry(4, 128, 128, slots=1), XOR_GATE)
    one.flash.fill(0xFF)
    assert one.save(bytes(XOR_GATE)) == NO_ROOM
