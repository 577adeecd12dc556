"""The stack that a call can need, read from frames and calls, against the stack that it took."""

import json
from typing import Any

import numpy as np
import pytest
from given import CORES, NETWORKS, named, planned

from codegen.emit import Options
from codegen.errors import UserError
from codegen.pipeline import synthetic_samples
from host_sim.device import Build
from host_sim.emulator import EmulatedProgram, find_core

CALLS = """
#include <stdint.h>
#define APART __attribute__((noinline))
int32_t leaf(int32_t at);
int32_t both(int32_t at);
int32_t large(int32_t at);
int32_t ends(int32_t at);
int64_t helped(int64_t a, int64_t b);
int32_t again(int32_t n);
int32_t through(int32_t (*function)(int32_t), int32_t at);
APART int32_t leaf(int32_t at) { volatile int8_t room[100]; room[at] = 1; return room[at]; }
APART static int32_t deeper(int32_t at) { volatile int8_t room[40]; room[at] = 1;
    return leaf(at) + room[at]; }
APART int32_t both(int32_t at) { return leaf(at) * 2 + deeper(at); }
APART int32_t large(int32_t at) { volatile int8_t room[5000]; room[at] = 1;
    return leaf(at) + room[at]; }
int64_t helped(int64_t a, int64_t b) { return a / b; }
APART int32_t ends(int32_t at) { volatile int8_t room[60]; room[at] = 1; return leaf(room[at] - 1); }
APART int32_t again(int32_t n) { volatile int32_t m = n; return n ? again(m - 1) * 3 + m : leaf(0); }
int32_t through(int32_t (*function)(int32_t), int32_t at) { return function(at) + 1; }
"""


@pytest.fixture(params=CORES)
def core(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["zig", "gcc"])
def program(core: str, request: pytest.FixtureRequest, need: Any) -> EmulatedProgram:
    if request.param == "gcc":
        need("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")
    return find_core(core, request.param).load({"calls.c": CALLS})


@pytest.mark.parametrize("function", ["leaf", "both", "large", "ends", "helped"])
def test_the_bound_is_what_a_call_takes(program: EmulatedProgram, function: str) -> None:
    """Of calls that go the deepest way; registers saved on a way not taken are 64 bytes at most."""
    wide = function == "helped"
    program.call(function, *((7, 0, 3, 0) if wide else (0,)), bits=64 if wide else 32)
    bound = program.stack_bound(function)
    assert bound - RARE <= program.stack_bytes <= bound


def test_what_has_no_bound_is_told(program: EmulatedProgram) -> None:
    with pytest.raises(UserError, match=r"^again calls itself: its stack has no bound$"):
        program.stack_bound("again")
    with pytest.raises(
        UserError, match=r"^through calls through a register: its stack has no bound$"
    ):
        program.stack_bound("through")


RARE = 128  # bytes of stack below functions for unusual shifts, which these samples need not reach


@pytest.mark.parametrize("toolchain", ["zig", "gcc"])
@pytest.mark.parametrize("name", ["digits", "w4", "gru"])
def test_no_step_takes_more_stack_than_its_bound(
    name: str, core: str, toolchain: Any, need: Any
) -> None:
    if toolchain == "gcc":
        need("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")
    spec = named(name)
    plan, state = planned(spec)
    build = Build(spec, plan, state, Options(), find_core(core, toolchain))
    program = build.program
    assert isinstance(program, EmulatedProgram)
    samples = synthetic_samples(spec, plan, 20, seed=1)
    build.init()
    program.reset()
    for i in range(20):
        x, target = build.inputs(samples.x[i : i + 1]), np.array(samples.target[i], np.int16)
        answer = int(target) if spec.loss.target_is_label else target
        program.call(f"{name}_train", build.params, build.work, x, answer)
    bound = program.stack_bound(f"{name}_train")
    assert bound - RARE <= program.stack_bytes <= bound


def test_training_digits_takes_little_stack() -> None:
    spec = named("digits")
    build = Build(spec, *planned(spec), Options(), find_core("cortex-m4"))
    assert isinstance(build.program, EmulatedProgram)
    assert build.program.stack_bound("digits_train") <= 256


def test_the_report_of_a_board_tells_the_stack(mcugrad: Any) -> None:
    network = str(NETWORKS / "xor_gate.toml")
    status, out, _ = mcugrad("report", network, "--board", "mps2_an386", "--json")
    stack = json.loads(out)["stack"]
    assert (status, list(stack)) == (0, ["train", "predict"])
    assert 0 < stack["predict"] < stack["train"] < 512
    line = (
        f"stack: at most {stack['train']} bytes in train, {stack['predict']} bytes in predict "
        "(zig cc -Os)"
    )
    for board in ("mps2_an386", "nucleo_f446re"):  # Cortex-M4, with and without floats
        assert line in mcugrad("report", network, "--board", board)[1]
    assert (
        "stack: not known, since avr5 is not emulated"
        in (mcugrad("report", network, "--board", "arduino_uno")[1])
    )
