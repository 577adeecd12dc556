"""The micro:bit under QEMU loses its power during saves: what a new start finds in its flash."""

import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from gdbstub import Debugger
from given import named

from codegen.board import load_board
from codegen.firmware import checkpoint_slot, firmware_of, make_project
from codegen.graph import Plan
from codegen.interpret import State
from codegen.layout import parameter_fields, struct_bytes
from codegen.pipeline import make_plan, make_state, synthetic_samples
from codegen.spec import Spec
from host_sim.elf import Elf
from host_sim.firmware import EmulatedBoard, build_firmware, find_toolchain, write_project
from host_sim.link import Link

BOARD = load_board("microbit")
FLASH = firmware_of(BOARD).checkpoint
SLOTS = 4


@dataclass(frozen=True)
class Microbit:
    """A micro:bit with a network, started again and again, each time with other bytes in flash."""

    spec: Spec
    plan: Plan
    state: State
    elf: Path

    @contextmanager
    def running(self, flash: bytes, *options: str) -> Iterator[Link]:
        """QEMU knows nothing of the process before: the bytes are all that is kept."""
        assert FLASH is not None
        image = self.elf.with_suffix(".flash")
        image.write_bytes(flash)
        loader = f"loader,file={image},addr={FLASH.memory.start:#x},force-raw=on"
        with EmulatedBoard(BOARD, self.elf, "-device", loader, *options) as line:
            yield Link(line, self.spec, self.plan, self.state, timeout=20, tries=1)

    def saved(self, flash: bytes, steps: int) -> tuple[bytes, bytes, list[bytes]]:
        """Starts, trains and saves: parameters before and after, and the flash at each change.

        The debugger stops the core before each erase and before each word, and at the end.
        """
        assert FLASH is not None
        samples = synthetic_samples(self.spec, self.plan, steps, seed=3)
        size, symbols = (
            struct_bytes(parameter_fields(self.plan)),
            Elf(self.elf, frozenset()).symbols,
        )
        changes = 1 + checkpoint_slot(size, FLASH.word, FLASH.word) // FLASH.word
        path, found = self.elf.with_suffix(".gdb"), []
        with self.running(flash, "-gdb", f"unix:{path},server=on,wait=off") as link:
            before = link.read_parameters()
            link.train_samples(samples, range(steps))
            after = link.read_parameters()
            with Debugger(path) as debugger, ThreadPoolExecutor() as pool:
                for function in ("erase", "program"):
                    debugger.stop_at(symbols[f"checkpoint_flash_{function}"])
                debugger.go()
                saving = pool.submit(link.save)
                for _ in range(changes):
                    debugger.wait()
                    found.append(debugger.read(FLASH.memory.start, len(flash)))
                    debugger.go()
                saving.result()
                debugger.interrupt()
                found.append(debugger.read(FLASH.memory.start, len(flash)))
        return before, after, found


@pytest.fixture(scope="module")
def microbit(tmp_path_factory: pytest.TempPathFactory, need: Callable[..., None]) -> Microbit:
    need("qemu-system-arm")
    spec, folder = named("xor_gate"), tmp_path_factory.mktemp("microbit")
    plan = make_plan(spec, BOARD)
    project = make_project(spec, plan, state := make_state(spec, plan), BOARD)
    write_project(folder, project)
    built = build_firmware(folder, project, find_toolchain(BOARD))
    return Microbit(spec, plan, state, built.elf)


def test_after_a_power_cut_it_has_the_old_or_the_new_state_and_learns_on(
    microbit: Microbit,
) -> None:
    """The first save and the one after it, cut at their beginning, their end and in between."""
    assert FLASH is not None
    flash = bytes(FLASH.page * SLOTS)  # as this flash is at first
    for _ in range(2):
        old, new, cuts = microbit.saved(flash, steps=10)
        assert len(set(cuts)) == len(cuts)  # each changed something
        assert old != new
        inside = random.Random(1).sample(cuts[2:-3], 3)
        for cut in [*cuts[:2], *inside, *cuts[-3:]]:
            ways = {cuts[0]: [old], cuts[-1]: [new]}
            with microbit.running(cut) as link:
                assert link.read_parameters() in ways.get(cut, [old, new])
                samples = synthetic_samples(microbit.spec, microbit.plan, 5, seed=4)
                link.train_samples(samples, range(5))
                learnt = link.read_parameters()
                assert learnt not in (old, new)
                link.save()
                link.train_samples(samples, range(5))
                link.load()
                assert link.read_parameters() == learnt
        flash = cuts[-1]
