"""The generated C: what compilers, sanitizers, the linker and a reader have to say about it.

The parameter bytes after training are compared with the Python integers, bit for bit.
"""

import ctypes
import hashlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from given import EVERYWHERE, PATHS, SHORT, named, planned

from codegen.board import Board
from codegen.emit import RUNTIME_HEADERS, Options, emit, emit_harness
from codegen.errors import UserError
from codegen.fixedpoint import (
    LOSS_FRACTION,
    Ints,
    Rate,
    encode_rate,
    integers,
    learning_rate,
    quantize,
    rescale,
)
from codegen.interpret import IntegerLearner, finished
from codegen.layout import pack, unpack
from codegen.pipeline import Samples, generate, make_plan, synthetic_samples
from codegen.report import make_report, multiplies
from codegen.spec import MODES, Spec, load_spec, parse_spec
from host_sim.compiler import STRICT, Compiler, build_library
from host_sim.device import Build, Device

HERE = Path(__file__).parent
C_PLUS_PLUS = (
    "-std=c++17",
    "-Wall",
    "-Wextra",
    "-Wpedantic",
    "-Wconversion",
    "-Wshadow",
    "-Werror",
)

COLUMNS = 100
STEPS = 50
WILD = 100 << 24  # a learning rate of 100
LEVELS = ("-O0", "-O2", "-O3")
STEP_MACS = 2**21  # multiplications that the Python integers may take for one comparison
HUGE = 4_000_000  # above which sanitizers see a few steps only
LABELS = ("batch_momentum", "digits")  # networks that are trained on labels
WORDS_OF_OTHERS = {"alloca", "calloc", "double", "float", "free", "goto", "malloc", "printf",
                   "realloc", "setjmp", "stdio"}  # fmt: skip
# The last two declare the vector instructions of Arm cores and of x86-64.
HEADERS = {
    *("<stdint.h>", "<string.h>", "<arm_acle.h>", "<emmintrin.h>"),
    *(f'"{name}"' for name in RUNTIME_HEADERS),
}


def macs_of(spec: Spec) -> int:
    return multiplies(planned(spec)[0])["total"]


def steps_of(spec: Spec) -> int:
    """How many steps are compared: fewer where one takes long, two at least."""
    return max(2, min(STEPS, STEP_MACS // macs_of(spec)))


@cache
def emitted(spec: Spec) -> dict[str, str]:
    """The files that a user gets."""
    return emit(spec, *planned(spec), Options())


def sources(files: dict[str, str]) -> list[str]:
    return [name for name in files if name.endswith(".c")]


def write(files: dict[str, str], folder: Path) -> Path:
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def built(spec: Spec, compiler: Compiler, level: str = "-O0", counters: bool = False) -> Build:
    flagged = replace(compiler, flags=("-std=c99", level))
    build = Build(spec, *planned(spec), Options(counters=counters), flagged)
    build.init()
    return build


# ---------------------------------------------------------------- compilers


def test_no_compiler_has_a_warning_in_c11(
    network: Path, compiler: Compiler, tmp_path: Path
) -> None:
    """In C99, in each mode and with an optimiser, warnings make the builds below fail, which are as
    strict.
    """
    files = emitted(load_spec(network))
    write(files, tmp_path)
    compiler.run(*STRICT, "-std=c11", "-c", *sources(files), cwd=tmp_path)


def in_parallel(run: Callable[[Any], object], jobs: Iterable[Any]) -> None:
    """Compilers are processes of their own; the first error of any is raised."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(run, jobs):
            pass


def test_a_warning_would_be_noticed(compiler: Compiler, tmp_path: Path) -> None:
    (tmp_path / "bad.c").write_text("char f(int v);\nchar f(int v)\n{\n    return v;\n}\n")
    with pytest.raises(UserError, match="conversion"):
        compiler.run(*STRICT, "-std=c99", "-c", "bad.c", cwd=tmp_path)


def test_the_header_is_also_c_plus_plus(
    network: Path, cxx_compiler: Compiler, tmp_path: Path
) -> None:
    spec = load_spec(network)
    write(emitted(spec), tmp_path)
    include = f'#include "{spec.name}.h"\n'
    (tmp_path / "main.cpp").write_text(include * 2)
    cxx_compiler.run(*C_PLUS_PLUS, "-c", "main.cpp", "-o", "main.o", cwd=tmp_path)


def test_c_plus_plus_links_with_it(
    wanted_compilers: tuple[Compiler, Compiler], tmp_path: Path
) -> None:
    c, cxx = wanted_compilers
    files = emitted(named("lesson"))
    write(files, tmp_path)
    (tmp_path / "main.cpp").write_text(
        '#include "lesson.h"\n'
        "int main()\n{\n"
        "    static lesson_params params;\n    static lesson_work work;\n"
        "    const int16_t x[1] = {lesson_input(1)}, target[1] = {0};\n"
        "    lesson_init(&params);\n"
        "    return lesson_train(&params, &work, x, target) > 0 ? 0 : 1;\n}\n"
    )
    c.run("-std=c99", "-c", *sources(files), cwd=tmp_path)
    objects = [f"{Path(source).stem}.o" for source in sources(files)]
    cxx.run(*C_PLUS_PLUS, "main.cpp", *objects, "-o", "program", cwd=tmp_path)
    subprocess.run([tmp_path / "program"], check=True)


# ---------------------------------------------------------------- the same integers everywhere


@dataclass(frozen=True)
class Expected:
    """What the Python integers compute."""

    samples: Samples
    params: bytes
    loss: int

    @property
    def order(self) -> np.ndarray:
        return np.arange(len(self.samples), dtype=np.uint32)


@cache
def expected(spec: Spec, board: Board | None = None) -> Expected:
    plan, _ = planned(spec, board)
    samples = synthetic_samples(spec, plan, steps_of(spec), seed=7)
    return learned(spec, samples, board)


def learned(
    spec: Spec, samples: Samples, board: Board | None = None, rate: int | None = None
) -> Expected:
    plan, start = planned(spec, board)
    state = deepcopy(start)
    if rate is not None:
        state.rate = encode_rate(rate, spec.rate_batch)
    learner = IntegerLearner(plan.quantized, state)
    pairs = zip(samples.x, samples.target, strict=True)
    loss = sum(learner.train(x, target) for x, target in pairs)
    return Expected(samples, pack(plan, state), loss)


def assert_equal_to_integers(build: Build, wanted: Expected) -> None:
    loss = build.run(wanted.samples, wanted.order)
    assert build.params.tobytes() == wanted.params
    assert loss == wanted.loss


def test_every_optimisation_computes_the_python_integers(
    spec: Spec, c_compilers: dict[str, Compiler]
) -> None:
    """Every compiler at -O0, -O2 and -O3; most networks meet one compiler at one level in each
    mode, which take turns. No warning in any of them.
    """
    plan, start = planned(spec)
    files = emitted(spec) | emit_harness(spec, plan, start, Options())
    pairs = list(itertools.product(c_compilers.values(), LEVELS))
    if spec.name not in EVERYWHERE:
        turn = 4 * MODES.index(spec.mode) + len(spec.name) * len(LEVELS)
        pairs = [pairs[turn % len(pairs)]]
    variants = [replace(compiler, flags=("-std=c99", level)) for compiler, level in pairs]
    in_parallel(partial(build_library, files), variants)
    for variant in variants:
        build = Build(spec, plan, start, Options(), variant)
        build.init()
        assert_equal_to_integers(build, expected(spec))


def test_training_does_change_the_parameters(spec: Spec) -> None:
    """Otherwise the comparison above would prove nothing."""
    plan, start = planned(spec)
    before = deepcopy(start)
    unpack(plan, expected(spec).params, before)
    changed = [
        not np.array_equal(before.values[tensor.name], start.values[tensor.name])
        for tensor in plan.training.trained
    ]
    # A few steps leave some tensors of a large network as they were.
    assert all(changed) if steps_of(spec) > 10 else any(changed)


def test_sums_of_32_bits_compute_the_python_integers(network: Path, any_compiler: Compiler) -> None:
    spec = load_spec(network)
    flagged = replace(any_compiler, flags=("-std=c99", "-O0"))
    build = Build(spec, *planned(spec, SHORT), Options(), flagged)
    build.init()
    assert_equal_to_integers(build, expected(spec, SHORT))


def test_sums_of_32_bits_are_used_on_a_small_board() -> None:
    plan, _ = planned(named("digits"), SHORT)
    assert any(accumulator.is_short for accumulator in plan.quantized.accumulators.values())


def test_counters_do_not_change_the_arithmetic(spec: Spec, any_compiler: Compiler) -> None:
    assert_equal_to_integers(built(spec, any_compiler, counters=True), expected(spec))


def test_extreme_numbers_compute_the_python_integers(spec: Spec, any_compiler: Compiler) -> None:
    """Inputs and targets at the ends of their range, at a rate that drives weights to the rails."""
    build = built(spec, any_compiler)
    set_rate(build, spec, WILD)
    assert_equal_to_integers(build, learned(spec, extremes(spec), rate=WILD))


@pytest.mark.parametrize("size", [65536, 65537, 70000])
def test_a_mean_of_many_extreme_numbers_does_not_overflow(
    size: int, any_compiler: Compiler
) -> None:
    """65536 numbers of -2**15 are the most whose sum fits 32 bits."""
    text = f'name = "far"\nloss = "squared_error"\ninput = [{size}, 1]\n'
    text += '[[layer]]\nkind = "global_average_pool"\n[[layer]]\nkind = "dense"\nunits = 1\n'
    spec = parse_spec(text, "far.toml")
    x = integers(np.full((1, size, 1), -(2**15)))
    want = IntegerLearner(planned(spec)[0].quantized, planned(spec)[1]).scores(x[0])
    got = built(spec, any_compiler).map("scores", x, 1, np.int16)
    assert got[0].tolist() == want.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_pools_of_windows_with_more_places_than_a_byte_counts(
    mode: str, any_compiler: Compiler
) -> None:
    """And pools that leave inputs out between their windows, of a channel more than is searched at
    once.
    """
    text = (
        f'name = "wide"\nloss = "squared_error"\ninput = [20, 36, 2]\n[numbers]\nmode = "{mode}"\n'
    )
    for keys in (
        'kind = "conv2d"\nfilters = 9\nkernel = 1',
        'kind = "max_pool"\nkernel = 1\nstride = [1, 2]',
        'kind = "max_pool"\nkernel = [17, 16]\nstride = 2',
        'kind = "flatten"',
        'kind = "dense"\nunits = 2',
    ):
        text += f"[[layer]]\n{keys}\n"
    spec = parse_spec(text, "wide.toml")
    assert_equal_to_integers(built(spec, any_compiler, counters=True), expected(spec))


def extremes(spec: Spec) -> Samples:
    plan, _ = planned(spec)
    random, count = np.random.RandomState(3), steps_of(spec)
    outputs = plan.training.graph.outputs

    def ends(bits: int, *shape: int) -> Ints:
        rail = 1 << (bits - 1)
        return integers(np.where(random.rand(*shape) < 0.5, -rail, rail - 1))

    x = ends(plan.quantized.formats["x"].bits, count, *spec.input)
    if spec.loss.target_is_label:
        return Samples(x, random.randint(0, outputs, count))
    return Samples(x, ends(16, count, outputs))


def test_predict_and_scores_compute_the_python_integers(spec: Spec, any_compiler: Compiler) -> None:
    plan, start = planned(spec)
    build = built(spec, any_compiler)
    before = build.params.tobytes()
    x = expected(spec).samples.x[:5]
    learner = IntegerLearner(plan.quantized, deepcopy(start))
    own = np.array([learner.scores(sample) for sample in x])
    scores = build.map("scores", x, plan.training.graph.outputs, np.int16)
    best = build.map("predict", x, 1, np.int32)
    assert np.array_equal(scores, own)
    assert np.array_equal(np.take_along_axis(own, best, axis=1)[:, 0], own.max(axis=1))
    assert build.params.tobytes() == before


@pytest.mark.parametrize(("kinds", "kept"), [(("relu", "tanh"), 0), (("tanh", "relu"), 1)])
def test_the_last_of_fused_ops_says_whether_positive_values_are_kept(
    kinds: tuple[str, str], kept: int, any_compiler: Compiler
) -> None:
    """In a frozen prefix, on inputs so small that what is positive is rounded to 0."""
    layers = "".join(f'[[layer]]\nkind = "{kind}"\n' for kind in kinds)
    text = 'name = "small"\nloss = "squared_error"\ninput = [4]\n[numbers]\nmode = "int8"\n'
    text += '[[layer]]\nkind = "dense"\nunits = 32\nfrozen = true\n' + layers
    spec = parse_spec(text + '[[layer]]\nkind = "dense"\nunits = 1\n', "small.toml")
    device = Device(spec, compiler=any_compiler)
    samples = Samples(integers([[1, 0, 0, 0], [0, 1, -1, 0]]), integers([[0], [0]]))
    quantized, state = make_plan(spec, gradient=True).quantized, device.state()
    step = quantized.training.steps[0]
    for index, (x, target) in enumerate(samples.first(2)):
        _, values, _ = IntegerLearner(quantized, state).gradients(x, target)
        device.gradient_of(samples, index)
        assert np.array_equal(device.read_q(step.output).q, values[step.output].q)
        acc, f = finished(quantized, step, values).acc, values[step.output].f
        lost = (acc.q > 0) & (rescale(acc.q, acc.f - f) == 0)
        assert lost.any()
        assert np.all(values[step.output].q[lost] == kept)


# ---------------------------------------------------------------- sanitizers

PROGRAM = """\
#include "{name}.h"

#define STEPS {steps}

static {name}_params params[2];
static {name}_work work[2];

static uint32_t draw(void)
{{
    static uint32_t state = 1;
    return fxp_draw(&state);
}}

/* All at one end, all at the other, ends at random, anything. */
static int32_t value(int step, int32_t low, int32_t high)
{{
    const uint32_t random = draw() >> 8;
    switch (step % 4) {{
    case 0:
        return low;
    case 1:
        return high;
    case 2:
        return (random & 1u) != 0 ? low : high;
    default:
        return low + (int32_t)(random % (uint32_t)(high - low + 1));
    }}
}}

static int run(int step)
{{
    {type} x[{name_upper}_INPUTS];
    int16_t scores[2][{name_upper}_OUTPUTS];
    int32_t loss[2];
    for (int i = 0; i < {name_upper}_INPUTS; i++) {{
        x[i] = ({type})value(step, {low}, {high});
    }}
{target}
    for (int k = 0; k < 2; k++) {{
        loss[k] = {name}_train(&params[k], &work[k], x, target);
        {name}_scores(&params[k], &work[k], x, scores[k]);
        const int label = {name}_predict(&params[k], &work[k], x);
        if (label < 0 || label >= {name_upper}_OUTPUTS) {{
            return 2;
        }}
    }}
    return loss[0] < 0 || loss[0] != loss[1] || memcmp(scores[0], scores[1], sizeof scores[0]) != 0;
}}

int main(void)
{{
    memset(&work[0], 0x00, sizeof work[0]);
    memset(&work[1], 0xA5, sizeof work[1]); /* scratch needs no initialisation */
    {name}_init(&params[0]);
    {name}_init(&params[1]);
    for (int step = 0; step < STEPS; step++) {{
        if (step == STEPS / 2) {{ /* as wild as it gets */
            {name}_set_learning_rate(&params[0], UINT32_MAX);
            {name}_set_learning_rate(&params[1], UINT32_MAX);
        }}
        if (run(step) != 0) {{
            return 1;
        }}
    }}
    (void){name}_input(INT32_MIN);
    (void){name}_input(INT32_MAX);
    return memcmp(&params[0], &params[1], sizeof params[0]) != 0;
}}
"""
LABEL = "    const int target = (int)(draw() >> 8) % {name_upper}_OUTPUTS;"
TARGETS = """\
    int16_t target[{name_upper}_OUTPUTS];
    for (int i = 0; i < {name_upper}_OUTPUTS; i++) {{
        target[i] = (int16_t)value(step / 4, INT16_MIN, INT16_MAX);
    }}"""


def program(spec: Spec) -> str:
    """A program that trains on random and on extreme numbers, and ends with 0 if all is well."""
    plan, _ = planned(spec)
    bits = plan.quantized.formats["x"].bits
    words = {"name": spec.name, "name_upper": spec.name.upper()}
    target = (LABEL if spec.loss.target_is_label else TARGETS).format(**words)
    return PROGRAM.format(
        **words,
        type=f"int{bits}_t",
        low=f"INT{bits}_MIN",
        high=f"INT{bits}_MAX",
        steps=8 * steps_of(spec) if macs_of(spec) < HUGE else 4,
        target=target,
    )


def run_program(files: dict[str, str], compiler: Compiler) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as name:
        folder = write(files, Path(name))
        compiler.run(*sources(files), "-o", "program", cwd=folder)
        return subprocess.run([folder / "program"], capture_output=True, text=True, check=False)


def test_sanitizers_have_nothing_to_say(
    spec: Spec,
    system_compilers: list[Compiler],
    sanitizers: Callable[[Compiler], tuple[str, ...]],
) -> None:
    """Compilers take turns; in its three modes a network meets all."""
    turn = len(spec.name) + MODES.index(spec.mode)
    compiler = system_compilers[turn % len(system_compilers)]
    flags = ("-std=c99", "-O0", *sanitizers(compiler))
    files = emitted(spec) | {"main.c": program(spec)}
    done = run_program(files, replace(compiler, flags=flags))
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- the linker


@pytest.fixture(scope="session")
def symbols(
    tmp_path_factory: pytest.TempPathFactory, any_compiler: Compiler, need: Callable[..., None]
) -> Callable[[Spec], list[tuple[str, str, int]]]:
    """(name, type as nm calls it, size) of every symbol of the objects of a network."""
    need("nm")

    @cache
    def list_symbols(spec: Spec) -> list[tuple[str, str, int]]:
        folder = write(emitted(spec), tmp_path_factory.mktemp("objects"))
        names = sources(emitted(spec))
        any_compiler.run("-std=c99", "-O0", "-c", *names, cwd=folder)
        objects = [f"{Path(name).stem}.o" for name in names]
        command = ["nm", "-P", "-t", "d", *objects]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        rows = [line.split() for line in done.stdout.splitlines() if not line.endswith(":")]
        return [(row[0], row[1], int(row[3]) if len(row) > 3 else 0) for row in rows]

    return list_symbols


def test_the_linker_needs_only_memcpy_and_memset(
    spec: Spec, symbols: Callable[[Spec], list[tuple[str, str, int]]]
) -> None:
    defined = {name for name, kind, _ in symbols(spec) if kind != "U"}
    undefined = {name for name, kind, _ in symbols(spec) if kind == "U"} - defined
    others = {name for name in undefined if not name.startswith("__")}
    assert others - {"_GLOBAL_OFFSET_TABLE_"} <= {"memcpy", "memset"}


def test_everything_public_carries_the_name_of_the_network(
    spec: Spec, symbols: Callable[[Spec], list[tuple[str, str, int]]]
) -> None:
    public = {name for name, kind, _ in symbols(spec) if kind.isupper() and kind != "U"}
    functions = {f"{spec.name}_{f}" for f in ("init", "predict", "scores", "train")}
    assert functions <= public
    assert all(name.startswith(f"{spec.name}_") for name in public)


def test_nothing_lies_in_memory_that_can_be_written(
    spec: Spec, symbols: Callable[[Spec], list[tuple[str, str, int]]]
) -> None:
    assert {kind for _, kind, _ in symbols(spec)} <= set("tTrRU")


def test_constants_take_the_bytes_that_the_report_states(
    spec: Spec, symbols: Callable[[Spec], list[tuple[str, str, int]]]
) -> None:
    """But for what a function keeps of its own, which is counted with its code."""
    constants = [size for name, kind, size in symbols(spec) if kind in "rR" and "." not in name]
    assert sum(constants) == make_report(*planned(spec)).constants


# ---------------------------------------------------------------- the text


def without_comments(text: str) -> str:
    return re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)


def functions(text: str) -> list[tuple[str, str]]:
    """Name and body of every function, in the order of the text."""
    pattern = r"^(?:[a-z][\w *]*[ *])(\w+)\([^;{}]*\)\n\{\n(.*?)^\}"
    return re.findall(pattern, without_comments(text), flags=re.DOTALL | re.MULTILINE)


def test_no_float_no_heap_no_input_or_output(spec: Spec) -> None:
    for text in emitted(spec).values():
        words = set(re.findall(r"[A-Za-z_]\w*", without_comments(text)))
        assert not words & WORDS_OF_OTHERS
        # A number begins with a digit; an instruction such as vst20.32 does not.
        assert not re.search(r"\b\d+\.\d|\d[eE][+-]\d", without_comments(text))
        includes = set(re.findall(r"#include (.*)", text))
        assert includes <= {*HEADERS, f'"{spec.name}.h"'}


def test_what_is_static_is_a_function_or_constant(spec: Spec) -> None:
    for text in emitted(spec).values():
        for line in re.findall(r"^ *(.*\bstatic\b.*)$", without_comments(text), re.MULTILINE):
            assert re.match(
                r"static const FXP_FLASH \w+ \w+(\[\d+\] = \{$| = \{[\d, ]+\};$)"
                r"|static (?:[\w *#]+)\(|#define FXP_RUN",
                line,
            )


def test_functions_call_only_functions_above_them(spec: Spec) -> None:
    """So there is no recursion."""
    files = emitted(spec)
    order = [*RUNTIME_HEADERS, f"{spec.name}.h", f"{spec.name}_init.c", f"{spec.name}.c"]
    found = functions("\n".join(files[name] for name in order))
    names = [name for name, _ in found]
    assert len(set(names)) == len(names) > 25
    assert {"fxp_tanh", "forward", f"{spec.name}_train", f"{spec.name}_init"} <= set(names)
    for i, (name, body) in enumerate(found):
        later = set(re.findall(r"\w+", body)) & set(names[i:])
        assert not later, f"{name} mentions {later}"


# What an x86-64 multiplies, adds, narrows and compares in vectors of eight numbers of 16 bits.
PACKED = {
    "fxp_rows16": ("pmaddwd", "paddd", "psrad"),
    "fxp_columns16": ("pmaddwd", "paddd"),
    "fxp_settle_positive16": ("psrlq", "packssdw", "pmaxsw"),
    "fxp_settle_masked16": ("pcmpgtw", "psrlq", "packssdw"),
    "fxp_settle_sums16": ("psrlq", "packssdw"),
    "fxp_learn16": ("pmullw", "pmulhw", "paddsw"),
}


@pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="this machine has other instructions"
)
@pytest.mark.parametrize("kernel", PACKED)
def test_inner_loops_are_vectors_on_this_machine(
    kernel: str, compiler: Compiler, tmp_path: Path
) -> None:
    write(emitted(named("digits")), tmp_path)
    optimised = Compiler(compiler.command)
    optimised.run("-fno-inline", "-S", "digits.c", "-o", "digits.s", cwd=tmp_path)
    text = (tmp_path / "digits.s").read_text(encoding="utf-8")
    parts = re.split(r"^_?([a-z]\w+)[\w.]*:.*$", text, flags=re.MULTILINE)  # names, bodies
    bodies = [body for name, body in zip(parts[1::2], parts[2::2], strict=True) if name == kernel]
    for instruction in PACKED[kernel]:
        assert any(re.search(rf"\b{instruction}\b", body) for body in bodies), instruction


def test_lines_are_short_and_clean(spec: Spec) -> None:
    assert_short_and_clean(emitted(spec))


def test_lines_for_a_board_are_short_and_clean() -> None:
    spec = named("digits")
    assert_short_and_clean(emit(spec, *planned(spec), Options(board="arduino_nano33ble")))


def assert_short_and_clean(files: dict[str, str]) -> None:
    for name, text in files.items():
        assert text.isascii()
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert "\t" not in text
        assert "\n\n\n" not in text
        for number, line in enumerate(text.split("\n"), 1):
            assert len(line) <= COLUMNS, f"{name}:{number}"
            assert line == line.rstrip(), f"{name}:{number}"


@pytest.mark.parametrize("options", [Options(), Options(gradient=True)], ids=str)
def test_the_longest_name_still_fits(options: Options) -> None:
    files = generate(replace(named("lesson"), name="n" * 31), options=options)
    assert max(len(line) for text in files.values() for line in text.split("\n")) <= COLUMNS


def test_headers_have_the_format_of_the_repository(
    spec: Spec, clang_format: str, tmp_path: Path
) -> None:
    """Of networks; those of the runtime are the same for all, and formatted in .ci/run."""
    write({f"{spec.name}.h": emitted(spec)[f"{spec.name}.h"]}, tmp_path)
    shutil.copy(HERE.parent / ".clang-format", tmp_path)
    command = [clang_format, "--dry-run", "-Werror", f"{spec.name}.h"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------- same input, same bytes


def test_generating_twice_gives_the_same_bytes(spec: Spec) -> None:
    assert generate(spec) == emitted(spec)


DIGESTS = """\
import hashlib, json, sys
from codegen.pipeline import generate
from codegen.spec import load_spec
from pathlib import Path
print(json.dumps({p: {n: hashlib.sha256(t.encode()).hexdigest()
      for n, t in generate(load_spec(Path(p))).items()} for p in sys.argv[1:]}))
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_another_folder_and_another_hash_seed_give_the_same_bytes(
    seed: str, tmp_path: Path
) -> None:
    relative = [os.path.relpath(path, tmp_path) for path in PATHS]
    done = subprocess.run(
        [sys.executable, "-c", DIGESTS, *relative],
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=True,
    )
    digests = json.loads(done.stdout)
    for path, other in zip(PATHS, relative, strict=True):
        files = emitted(load_spec(path))
        own = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files.items()}
        assert digests[other] == own


# ---------------------------------------------------------------- the public functions


@pytest.mark.parametrize("name", LABELS)
def test_a_label_out_of_range_returns_minus_1_and_changes_nothing(
    name: str, any_compiler: Compiler
) -> None:
    build = built(named(name), any_compiler)
    train = partial(build.program.call, f"{name}_train")
    x = np.zeros(build.plan.training.tensors["x"].size, np.int16)
    build.work[:] = 0x5A
    before = build.params.tobytes(), build.work.tobytes()
    outputs = build.plan.training.graph.outputs
    for label in (-1, outputs, outputs + 1, 2**31 - 1, -(2**31)):
        arguments = (build.params, build.work, x)
        assert train(*arguments, label) == -1
        assert (build.params.tobytes(), build.work.tobytes()) == before
    assert train(*arguments, outputs - 1) >= 0
    assert build.params.tobytes() != before[0]


@pytest.mark.parametrize("name", ["lesson", "batch_momentum"])
def test_a_learning_rate_is_stored_as_the_generator_stores_it(
    name: str, any_compiler: Compiler
) -> None:
    spec = named(name)
    build = built(spec, any_compiler)
    random = np.random.RandomState(0)
    edges = [0, 1, 2, 127, 128, 255, 256, 257, 511, 1 << 24, 0xFF << 24, 0xFFFFFFFF, 0xFF800000]
    for fixed in [*edges, *(int(2**e) for e in random.uniform(0, 32, 500))]:
        assert set_rate(build, spec, fixed) == encode_rate(fixed, spec.rate_batch)
    for rate in (0.5, 0.1, 0.05, 0.02, 1e-3, 1e-6):
        stored = set_rate(build, spec, round(rate * 2**24))
        assert stored == learning_rate(rate, spec.batch)
        assert abs(stored.value * spec.batch - round(rate * 2**24) / 2**24) <= rate / 128


def set_rate(build: Build, spec: Spec, fixed: int) -> Rate:
    build.program.call(f"{spec.name}_set_learning_rate", build.params, fixed)
    state = deepcopy(planned(spec)[1])
    unpack(build.plan, build.params.tobytes(), state)
    return state.rate


def test_setting_the_rate_is_the_same_as_generating_with_it(any_compiler: Compiler) -> None:
    slow, fast = (named("lesson", learning_rate=rate) for rate in (0.1, 0.7))
    one, other = built(slow, any_compiler), built(fast, any_compiler)
    assert one.params.tobytes() != other.params.tobytes()
    set_rate(one, slow, round(0.7 * 2**24))
    assert one.params.tobytes() == other.params.tobytes()


def test_the_structs_have_the_bytes_that_the_report_states(
    spec: Spec, any_compiler: Compiler
) -> None:
    build = built(spec, any_compiler)
    report = make_report(*planned(spec))
    assert (build.params.size, build.work.size) == (report.parameters, report.work)
    assert report.total == build.params.size + build.work.size


def test_init_writes_the_starting_state(spec: Spec, any_compiler: Compiler) -> None:
    build = built(spec, any_compiler)
    assert build.params.tobytes() == pack(*planned(spec))


@pytest.mark.parametrize("mode", ["int16", "int8"])
@pytest.mark.parametrize("input_max", [0.5, 1.0, 16.0, 100.0, 255.0, 1023.0, 4095.0, 1e6, 2.0**31])
def test_the_input_helper_rounds_as_quantize_does(
    mode: str, input_max: float, any_compiler: Compiler
) -> None:
    spec = named("lesson", mode=mode, input_max=input_max)
    bits = planned(spec)[0].quantized.formats["x"].bits
    declaration = f"int{bits}_t probe(int32_t raw)"
    body = f"{declaration};\n{declaration}\n{{\n    return lesson_input(raw);\n}}\n"
    probe = f'#include "lesson.h"\n{body}'
    flagged = replace(any_compiler, flags=("-std=c99", "-O0"))
    library = ctypes.CDLL(str(build_library(emitted(spec) | {"probe.c": probe}, flagged)))
    library.probe.restype = ctypes.c_int16 if bits == 16 else ctypes.c_int8
    library.probe.argtypes = [ctypes.c_int32]
    random = np.random.RandomState(0)
    extent = min(int(input_max * 1.1) + 2, 2**31 - 1)
    raws = [*range(-300, 301), *(int(v) for v in random.uniform(-extent, extent, 2000))]
    raws += [-(2**31), 2**31 - 1]
    wanted = quantize(np.array(raws) / input_max, bits - 1, bits)
    assert [library.probe(raw) for raw in raws] == list(wanted)


def test_the_loss_has_the_fraction_bits_of_the_header(spec: Spec) -> None:
    header = emitted(spec)[f"{spec.name}.h"]
    assert f"#define {spec.name.upper()}_LOSS_FRACTION {LOSS_FRACTION}\n" in header


def test_only_the_check_build_has_a_gradient_function() -> None:
    spec = named("lesson")
    plain, check = emitted(spec), generate(spec, options=Options(gradient=True))
    assert "lesson_gradient" not in "".join(plain.values())
    assert "lesson_gradient" in check["lesson.h"]
    assert "lesson_train" not in "".join(check.values())
