"""Emulated cores: the same integers as everywhere, exact counts, faults that say where."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import unicorn
from given import CORES, EVERYWHERE, PATHS, SHORT, core_case, modes_of, named, planned

from codegen import paths
from codegen.board import Board
from codegen.emit import Options, emit, emit_harness
from codegen.pipeline import Samples, synthetic_samples
from codegen.report import make_report, multiplies
from codegen.spec import MODES, Spec
from host_sim.bench import board_with
from host_sim.check import check
from host_sim.compiler import Compiler, Platform, find_compiler
from host_sim.device import Build, Device
from host_sim.emulator import (
    Core,
    EmulatedDevice,
    EmulatedProgram,
    FaultError,
    core_names,
    find_core,
)
from host_sim.unicorn_machine import UnicornMachine

HERE = Path(__file__).parent
NAMES = ("cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55", "rv32imc")
SLOW, HELIUM = "cortex-m55", ("conv_digits", "pools", "gru", "residual")  # it meets these only
STEPS = 1000
LARGE = 10_000  # multiplications a step; a network with more is trained for fewer steps
LARGE_MACS = 2_000_000  # multiplications of all its steps


@cache
def sampled(spec: Spec, steps: int) -> Samples:
    return synthetic_samples(spec, planned(spec)[0], steps, seed=3)


def steps_of(spec: Spec) -> int:
    macs = multiplies(planned(spec)[0])["total"]
    return STEPS if macs <= LARGE else max(4, LARGE_MACS // macs)


def learnt(
    spec: Spec, platform: Platform, board: Board | None = None, steps: int = 0
) -> tuple[int, bytes]:
    """Sum of the losses and the parameters after training."""
    build = Build(spec, *planned(spec, board), Options(), platform)
    build.init()
    samples = sampled(spec, steps or steps_of(spec))
    return build.run(samples, np.arange(len(samples), dtype=np.uint32)), build.params.tobytes()


# ---------------------------------------------------------------- the same integers everywhere


def test_every_core_has_its_name() -> None:
    assert core_names() == NAMES


def paired() -> Iterator[Any]:
    """Network, mode, core: two networks on all cores in each mode, one in its own, each of the rest
    on one core, which goes round, in one of its modes.

    What is special about the core that takes a process of QEMU are kernels, which have their own
    tests: few networks besides.
    """
    quick = [name for name in NAMES if name != SLOW]
    for turn, path in enumerate(PATHS):
        modes = modes_of(path)
        if path.stem in EVERYWHERE:
            is_small = multiplies(planned(named(path.stem))[0])["total"] <= LARGE
            for mode, core in product(modes if is_small else modes[:1], NAMES):
                yield core_case(core, path.stem, mode, core)
            continue
        cores = [quick[turn % len(quick)], *([SLOW] if path.stem in HELIUM else [])]
        for core in cores:
            yield core_case(core, path.stem, modes[turn // len(quick) % len(modes)], core)


@pytest.mark.parametrize(("network", "mode", "core"), [*paired()])
def test_a_core_learns_what_the_host_learns(
    network: str, mode: str, core: str, any_compiler: Compiler
) -> None:
    """Of small networks 1 000 steps. Sums are as boards with that core have them, or in both ways;
    kernels have tests of their own.
    """
    spec, found = named(network, mode=mode), find_core(core)
    host = replace(any_compiler, flags=("-std=c99", "-O0"))
    for board in policies(spec) if network in EVERYWHERE else (board_with(found),):
        assert learnt(spec, found, board) == learnt(spec, host, board)


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("name", ["digits", "conv_digits"])
def test_gcc_learns_what_zig_learns(name: str, core: str, need: Any) -> None:
    """Both have bodies of kernels in assembly that their own optimisers surround. Each network
    meets a core in one mode.
    """
    need("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")
    spec = named(name, mode=MODES[(len(name) + NAMES.index(core)) % len(MODES)])
    for board in policies(spec):
        built = [find_core(core, toolchain, "-Os") for toolchain in ("zig", "gcc")]
        assert len({learnt(spec, each, board, 20) for each in built}) == 1


def policies(spec: Spec) -> tuple[Board | None, ...]:
    plan, _ = planned(spec, SHORT)
    differs = any(accumulator.is_short for accumulator in plan.quantized.accumulators.values())
    return (None, SHORT) if differs else (None,)


def variants(compilers: dict[str, Compiler]) -> list[Compiler]:
    """With an optimiser; without one they meet fewer steps in tests/test_generated_c.py."""
    return [replace(c, flags=("-std=c99", "-O3")) for c in compilers.values()]


@pytest.mark.parametrize(
    ("name", "mode"), [(n, m) for n in EVERYWHERE for m in MODES if n == "digits" or m == MODES[0]]
)
def test_every_compiler_of_this_machine_learns_the_same(
    name: str, mode: str, c_compilers: dict[str, Compiler]
) -> None:
    """By the test above the cores learn it too."""
    spec, platforms = named(name, mode=mode), variants(c_compilers)
    for board in policies(spec):
        assert len({learnt(spec, platform, board, STEPS) for platform in platforms}) == 1


@cache
def learnt_here(spec: Spec, compiler: Compiler) -> tuple[int, bytes]:
    return learnt(spec, compiler, None, STEPS)


@pytest.mark.parametrize("core", CORES)
def test_convolutions_learn_the_same_for_1000_steps(core: str, any_compiler: Compiler) -> None:
    spec, host = named("w4"), replace(any_compiler, flags=("-std=c99", "-O3"))
    assert learnt(spec, find_core(core), None, STEPS) == learnt_here(spec, host)


def test_the_comparison_would_notice_one_other_step(any_compiler: Compiler) -> None:
    spec = named("xor_gate")
    build = Build(spec, *planned(spec), Options(), any_compiler)
    build.init()
    build.run(sampled(spec, STEPS), np.arange(STEPS - 1, dtype=np.uint32))
    assert build.params.tobytes() != learnt(spec, any_compiler)[1]


@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4", "rv32imc"])
def test_a_core_has_the_tensors_that_the_check_expects(name: str) -> None:
    """Every tensor after every gradient, read from the emulated memory, equals the integers."""
    spec = named("lesson_wide")
    result = check(spec, count=4, device=EmulatedDevice(spec, name))
    assert result.ok


def test_an_emulated_device_does_what_a_device_does(tmp_path: Path) -> None:
    spec = named("digits")
    host, emulated = Device(spec, seed=5), EmulatedDevice(spec, "cortex-m4", seed=5)
    x, y = np.random.RandomState(0).uniform(0, 16, (30, 64)), np.arange(30) % 10
    assert emulated.train(x, y) == host.train(x, y)
    assert emulated.crc32() == host.crc32()
    assert emulated.saturations() == host.saturations()
    assert np.array_equal(emulated.predict(x), host.predict(x))
    assert np.array_equal(emulated.scores(x), host.scores(x))
    assert emulated.gradient(x[0], y[0]) == host.gradient(x[0], y[0])
    assert np.array_equal(emulated.read("d_dense1_w"), host.read("d_dense1_w"))
    host.save(tmp_path / "p.npz")
    emulated.init()
    assert emulated.crc32() != host.crc32()
    emulated.load(tmp_path / "p.npz")
    assert emulated.crc32() == host.crc32()
    emulated.init()
    emulated.parameter_bytes = host.parameter_bytes
    assert emulated.crc32() == host.crc32()


def test_samples_are_handed_over_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = named("xor_gate")
    whole = learnt(spec, find_core("cortex-m0"))
    monkeypatch.setattr("host_sim.device.CHUNK", 1000)
    assert learnt(spec, find_core("cortex-m0")) == whole


# ---------------------------------------------------------------- counts


def program_of(spec: Spec, core: Core) -> EmulatedProgram:
    plan, state = planned(spec)
    options = Options()
    return core.load(emit(spec, plan, state, options) | emit_harness(spec, plan, state, options))


@pytest.mark.parametrize("name", ["cortex-m0", "rv32imc"])  # without IT blocks a hook sees all
def test_counts_equal_those_of_a_hook_on_every_instruction(name: str) -> None:
    device = EmulatedDevice(named("xor_gate"), find_core(name))
    seen: list[int] = []
    machine = device.program.machine
    assert isinstance(machine, UnicornMachine)
    machine.engine.hook_add(
        unicorn.UC_HOOK_CODE, lambda uc, address, size, data: seen.append(address)
    )
    machine.engine.ctl_flush_tb()
    seen.clear()
    device.reset_counts()
    device.train([[1, 0], [1, 1]], [[1], [0]])
    inside = [address for address in seen if address < 0x20000000]
    assert device.instructions().total() == len(inside) > 1000


@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4"])
def test_every_function_is_counted_though_it_is_inlined(name: str) -> None:
    """And nothing is counted twice: the parts of what was inlined sum to the whole."""
    device = EmulatedDevice(named("xor_gate"), name, counters=False)
    device.reset_counts()
    device.train([[1, 0]], [[1]])
    counts = device.instructions()
    text = emit(device.spec, *planned(device.spec), Options())["xor_gate.c"]
    steps = set(re.findall(r"^static FXP_STEP \w+ (step_\w+)\(", text, re.MULTILINE))
    assert len(steps) > 5
    assert steps | {"xor_gate_train", "harness_train"} <= {*counts}
    assert "unknown code" not in counts


def test_counts_add_up_until_they_are_reset() -> None:
    device = EmulatedDevice(named("xor_gate"), "cortex-m3")
    device.reset_counts()
    assert device.instructions().total() == 0
    device.predict([1, 1])
    once = device.instructions()
    device.predict([1, 1])
    assert device.instructions().total() == 2 * once.total() > 0
    device.reset_counts()
    device.predict([1, 1])
    assert device.instructions() == once


def test_blocks_are_counted_without_python() -> None:
    """A million instructions cost far fewer calls of Python than they have blocks."""
    spec = named("mnist")
    device = EmulatedDevice(spec, "cortex-m4", counters=False)
    samples = synthetic_samples(spec, device.plan, 20, seed=0)
    device.train_samples(samples, range(4))
    device.reset_counts()
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        device.train_samples(samples, range(20))
    finally:
        sys.setprofile(None)
    assert device.instructions().total() > 4_000_000
    assert 0 < calls < 5_000


# What QEMU counts: SysTick ticks 25 or 32 times in 1000 ns, an instruction takes 1024 ns (icount 10).
START = """
#include "NET.h"

static NET_params params;
static NET_work work;
static const int16_t x[] = {X};

void reset(void);

const void *const vectors[] __attribute__((section(".vectors"), used)) = {
    (void *)0x20010000, (void *)reset};

static void semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

static void print(uint32_t v)
{
    char text[11] = "00000000\\n";
    for (int i = 7; i >= 0; i--, v >>= 4) {
        text[i] = "0123456789abcdef"[v & 15];
    }
    semihost(4, text);
}

/* Ticks of a call; the function does not matter to the rest. */
__attribute__((noinline)) static uint32_t ticks(int (*function)(NET_params *, NET_work *,
                                                                const int16_t *, int))
{
    volatile uint32_t *const now = (uint32_t *)0xE000E018;
    const uint32_t before = *now;
    function(&params, &work, x, 3);
    return (before - *now) & 0xFFFFFF;
}

__attribute__((naked)) static int nothing(NET_params *p, NET_work *w, const int16_t *v, int t)
{
    __asm__ volatile("bx lr");
}

void reset(void)
{
#ifdef __ARM_FEATURE_MVE
    *(volatile uint32_t *)0xE000ED88 = 0xF00000;
#endif
    *(volatile uint32_t *)0xE000E014 = 0xFFFFFF;
    *(volatile uint32_t *)0xE000E018 = 0;
    *(volatile uint32_t *)0xE000E010 = 5;
    NET_init(&params);
    print(ticks(nothing));
    for (int i = 0; i < 20; i++) {
        print(ticks((int (*)(NET_params *, NET_work *, const int16_t *, int))NET_train));
    }
    static const uint32_t done[2] = {0x20026, 0};
    semihost(0x20, done);
    for (;;) {
    }
}
"""
MEMORY = """
SECTIONS
{
    .text 0 : { KEEP(*(.vectors)) *(.text .text.* .rodata .rodata.*) }
    .data 0x20000000 : { *(.data .data.* .bss .bss.* COMMON) }
    /DISCARD/ : { *(.ARM.exidx*) *(.ARM.extab*) }
}
"""
MACHINES = {  # and the megahertz of their SysTick
    "cortex-m3": ("mps2-an385", 25),
    "cortex-m4": ("mps2-an386", 25),
    "cortex-m7": ("mps2-an500", 25),
    "cortex-m55": ("mps3-an547", 32),
}


@pytest.mark.parametrize("core_name", MACHINES)
@pytest.mark.parametrize("toolchain", ["zig", "gcc"])
def test_counts_equal_those_of_qemu(
    core_name: str, toolchain: Any, need: Any, tmp_path: Path
) -> None:
    """Instruction for instruction, those of IT blocks too."""
    need("qemu-system-arm", *(["arm-none-eabi-gcc"] if toolchain == "gcc" else []))
    core, spec = find_core(core_name, toolchain), named("digits")
    assert qemu_counts(core, spec, tmp_path) == emulated_counts(core, spec)


def digits_input() -> np.ndarray:
    return (np.arange(64, dtype=np.int64) * 997 % 32768 - 8000).astype(np.int16)


def emulated_counts(core: Core, spec: Spec) -> list[int]:
    program, (plan, state) = program_of(spec, core), planned(spec)
    report = make_report(plan, state)
    params, work = np.zeros(report.parameters, np.uint8), np.zeros(report.work, np.uint8)
    program.call("digits_init", params)
    counts = []
    for _ in range(20):
        program.reset()
        program.call("digits_train", params, work, digits_input(), 3)
        counts.append(program.instructions().total())
    return counts


def qemu_counts(core: Core, spec: Spec, folder: Path) -> list[int]:
    plan, state = planned(spec)
    start = START.replace("NET", "digits").replace(
        "{X}", f"{{{', '.join(map(str, digits_input()))}}}"
    )
    files = emit(spec, plan, state, Options()) | {"start.c": start, "memory.ld": MEMORY}
    header = (paths.CORES / "include" / "string.h").read_text()
    for name, text in {**files, "string.h": header}.items():
        (folder / name).write_text(text)
    plain = ["-nostartfiles"] if len(core.compiler.command) == 1 else []
    options = ["-Tmemory.ld", "-Wl,--gc-sections", "-Wl,--entry=reset", *plain]
    core.compiler.run(*options, *(f for f in files if f.endswith(".c")), "-o", "t.elf", cwd=folder)
    machine, megahertz = MACHINES[core.name]
    command = f"qemu-system-arm -M {machine} -kernel t.elf -display none -monitor none -serial none"
    semihosting = "-semihosting-config enable=on,target=native -icount shift=10"
    done = subprocess.run(
        [*command.split(), *semihosting.split()], cwd=folder, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    ticks = [int(line, 16) for line in (done.stdout + done.stderr).split()]
    per_instruction = 1.024 * megahertz
    return [
        round((t - ticks[0]) / per_instruction) + 1 for t in ticks[1:]
    ]  # nothing() is one instruction


# ---------------------------------------------------------------- faults


FAULTY = """
#include <stdint.h>
int32_t read_nothing(void);
int32_t read_odd(const int8_t *at);
void write_constant(void);
int32_t shallow(int32_t at);
int32_t deep(int32_t at);
int32_t too_deep(int32_t at);
int32_t ninth(int32_t a, int32_t b, int32_t c, int32_t d, int32_t e, int32_t f, int32_t g,
              int32_t h, int32_t i);
int64_t wide(const int64_t *at);
int32_t products(int32_t a, int32_t b);

static const volatile int32_t constant = 1;

int32_t read_nothing(void)
{
    return *(const volatile int32_t *)0x40000000;
}

int32_t read_odd(const int8_t *at)
{
    return *(const volatile int32_t *)(const void *)(at + 1);
}

void write_constant(void)
{
    *(volatile int32_t *)(uintptr_t)&constant = 2;
}

int32_t shallow(int32_t at)
{
    volatile int8_t room[1000];
    room[at] = 1;
    return room[at];
}

int32_t deep(int32_t at)
{
    volatile int8_t room[5000];
    room[at] = 1;
    return room[at];
}

int32_t too_deep(int32_t at)
{
    volatile int8_t room[70000];
    room[at] = 1;
    return room[at];
}

int32_t ninth(int32_t a, int32_t b, int32_t c, int32_t d, int32_t e, int32_t f, int32_t g,
              int32_t h, int32_t i)
{
    return a + b + c + d + e + f + g + h == 36 ? i : 0;
}

int64_t wide(const int64_t *at)
{
    return at[0] + at[1];
}

int32_t products(int32_t a, int32_t b)
{
#if defined(__ARM_FEATURE_DSP)
    int32_t sum = 0;
    __asm__("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(a), "r"(b), "r"(sum));
    return sum;
#else
    return a == b ? 0 : 0;
#endif
}
"""


def line_of(text: str) -> int:
    return next(i for i, line in enumerate(FAULTY.splitlines(), 1) if text in line)


@pytest.fixture(params=["zig", "gcc"])
def faulty(request: pytest.FixtureRequest, need: Any) -> object:
    """Loads the program above on a core, built by each toolchain."""
    if request.param == "gcc":
        need("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")

    def load(core: str) -> EmulatedProgram:
        return find_core(core, request.param).load({"faulty.c": FAULTY})

    return load


def test_faults_name_function_and_line(faulty: Any) -> None:
    program = faulty("cortex-m3")
    with pytest.raises(FaultError) as fault:
        program.call("read_nothing")
    line = line_of("0x40000000")
    assert str(fault.value) == (
        f"cortex-m3: invalid memory read at 0x40000000 in read_nothing (faulty.c:{line})"
    )


def test_constants_cannot_be_written(faulty: Any) -> None:
    with pytest.raises(
        FaultError, match=r"^cortex-m4: .*write.* in write_constant \(faulty.c:\d+\)$"
    ):
        faulty("cortex-m4").call("write_constant")


@pytest.mark.parametrize("name", CORES)
def test_only_the_m0_needs_alignment(faulty: Any, name: str) -> None:
    program, words = faulty(name), np.arange(16, dtype=np.int8)
    if name != "cortex-m0":
        assert program.call("read_odd", words) == 0x04030201
        return
    with pytest.raises(FaultError, match=r"^cortex-m0: .* in read_odd \(faulty.c:\d+\)$"):
        program.call("read_odd", words)


def test_qemu_tells_faults_too(faulty: Any, need: Any) -> None:
    need("qemu-system-arm")
    line = line_of("0x40000000")
    with pytest.raises(FaultError) as fault:
        faulty("cortex-m55").call("read_nothing")
    assert str(fault.value) == (
        f"cortex-m55: invalid memory access in read_nothing (faulty.c:{line})"
    )


def test_without_qemu_the_way_out_is_named(mcugrad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All other cores are counted; this one only where it is asked for by name."""
    monkeypatch.setenv("PATH", "")
    network = str(HERE / "networks" / "xor_gate.toml")
    line = "cortex-m55: there is no qemu-system-arm on the PATH; apt-get install qemu-system-arm\n"
    assert mcugrad("bench", network, "--core", "cortex-m55") == (2, "", line)
    status, out, err = mcugrad("bench", network, "--json")
    assert (status, err) == (0, f"left out: {line}")
    assert list(json.loads(out)["cores"]) == [name for name in NAMES if name != "cortex-m55"]


def test_a_stack_that_is_too_deep_is_a_fault(faulty: Any) -> None:
    program = faulty("cortex-m0")
    assert program.call("deep", 0) == 1
    with pytest.raises(FaultError, match=r"^cortex-m0: .*memory .* in too_deep \(faulty.c:\d+\)$"):
        program.call("too_deep", 0)


@pytest.mark.parametrize("name", CORES)
def test_arguments_and_results_follow_the_calling_convention(faulty: Any, name: str) -> None:
    program = faulty(name)
    assert program.call("ninth", *range(1, 9), -7) == -7
    assert program.call("wide", np.array([-(2**40), 5]), bits=64) == 5 - 2**40


@pytest.mark.parametrize("name", CORES)
def test_some_cores_multiply_two_pairs_at_once(faulty: Any, name: str) -> None:
    some = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m55")
    sums = 3 * 5 - 2 * 7 if name in some else 0
    assert faulty(name).call("products", (3 << 16) | 2, (5 << 16) | (-7 & 0xFFFF)) == sums


def test_without_a_compiler_of_this_machine_zig_makes_the_hook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = learnt(named("lesson"), find_core("cortex-m0"))
    monkeypatch.setenv("PATH", "")
    assert find_compiler().command[1:4] == ("-m", "ziglang", "cc")
    assert learnt(named("lesson"), find_core("cortex-m0")) == expected


def test_the_deepest_stack_is_measured(faulty: Any) -> None:
    program = faulty("cortex-m0")
    program.call("deep", 0)
    deepest = program.stack_bytes
    assert 5000 <= deepest <= 5032
    program.call("shallow", 0)
    assert program.stack_bytes == deepest
    program.reset()
    assert program.stack_bytes == 0
    program.call("shallow", 0)
    assert 1000 <= program.stack_bytes <= 1032
