"""fxp_kernels.h: every kernel on every core equals NumPy's integers, whatever the shape."""

import math
from dataclasses import replace
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pytest
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from given import core_case

from codegen import paths
from codegen.emit import RUNTIME_HEADERS, runtime_header
from codegen.firmware import Toolchain
from codegen.fixedpoint import (
    BIAS_FRACTION,
    Q,
    Random,
    Rate,
    accumulated,
    dither_of_fold,
    fold,
    integers,
    magnitude,
    narrow,
    rescale,
    saturate,
    step24,
)
from codegen.ops.conv2d import Conv2d
from codegen.ops.exponential import EXP2_TABLE, exp2
from codegen.ops.momentum import Momentum
from codegen.ops.probabilities import exponents, power_fraction, shares
from codegen.ops.window import Axis
from host_sim.compiler import STRICT, Program, build, find_compiler
from host_sim.emulator import core_names, find_core

LENGTHS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 40, 63, 64, 71, 300)
STORED = {"sums": 0, "positive": 1, "masked": 2}
TYPES = {"16": (16, 16), "16x8": (16, 8), "8x16": (8, 16), "8": (8, 8)}

# Wrappers with arguments of one kind: pointers, and words.
_ROWS = """
void t_rows{name}(const {a} *w, const {b} *x, const int32_t *shape, const int32_t *b, int64_t *out);
void t_rows{name}_short(const {a} *w, const {b} *x, const int32_t *shape, const int32_t *b, int32_t *out);
void t_rows{name}(const {a} *w, const {b} *x, const int32_t *shape, const int32_t *b, int64_t *out)
{{
    const int32_t *bias = shape[3] < 0 ? NULL : b;
    fxp_rows{name}(w + shape[2], x, shape[0], bias, shape[3], shape[1], out);
}}
void t_rows{name}_short(const {a} *w, const {b} *x, const int32_t *shape, const int32_t *b, int32_t *out)
{{
    const int32_t *bias = shape[3] < 0 ? NULL : b;
    fxp_rows{name}_short(w + shape[2], x, shape[0], bias, shape[3], shape[1], shape[4], out);
}}
"""
_COLUMNS = """
void t_columns{name}(const {a} *w, const {b} *e, const int32_t *walk, int n, int64_t *sums);
void t_columns{name}(const {a} *w, const {b} *e, const int32_t *walk, int n, int64_t *sums)
{{
    const fxp_walk way = {{walk[0], walk[1], walk[2], walk[3], walk[4]}};
    fxp_columns{name}(w, e + walk[5], &way, n, sums);
}}
"""
_SETTLE = """
void t_settle_{how}{of}(const {acc} *acc, const int32_t *n, int16_t *out, int8_t *few, {peak} *peak);
void t_settle_{how}{of}(const {acc} *acc, const int32_t *n, int16_t *out, int8_t *few, {peak} *peak)
{{
    {store} wide = {store}_of(n[1]{most}), slim = wide;
    fxp_settle_{how}16{of}(&wide, acc, n[0], out{mask});
    fxp_settle_{how}8{of}(&slim, acc, n[0], few{mask_few});
    peak[0] = wide.peak;
    peak[1] = slim.peak;
}}
"""
_CHANNELS = """
void t_channels{name}(const {a} *a, const {b} *b, const int32_t *shape, int64_t *sums);
void t_channels{name}(const {a} *a, const {b} *b, const int32_t *shape, int64_t *sums)
{{
    const fxp_strides strides = {{shape[0], shape[1], shape[2], shape[3], shape[4], shape[5]}};
    fxp_channels{name}(&a[shape[6]], &b[shape[7]], &strides, shape[8], sums);
}}
"""
_OTHERS = """
uint32_t t_powers(const uint32_t *table, const int16_t *x, const int32_t *facts, int8_t *powers);
uint32_t t_powers(const uint32_t *table, const int16_t *x, const int32_t *facts, int8_t *powers)
{
    return fxp_powers(table, x, facts[0], facts[1], fxp_largest(x, facts[0]), facts[2], powers);
}
uint32_t t_errors(int8_t *powers, const int32_t *facts, int16_t *out, int8_t *few);
uint32_t t_errors(int8_t *powers, const int32_t *facts, int16_t *out, int8_t *few)
{
    const uint64_t reciprocal = fxp_reciprocal((uint32_t)facts[2]);
    const uint32_t peak = fxp_errors_of_powers(powers, facts[0], reciprocal, facts[1]);
    fxp_store_errors16(out, powers, facts[0], fxp_exact_shift32(peak, 16));
    fxp_store_errors8(few, powers, facts[0], fxp_exact_shift32(peak, 8));
    return peak;
}
void t_add_biases(const int32_t *b, int n, int f, int64_t *sums);
void t_add_biases(const int32_t *b, int n, int f, int64_t *sums)
{
    fxp_add_biases(b, f, n, sums);
}
void t_readers(int place, int stride, int kernel, int outputs, int32_t *readers);
void t_readers(int place, int stride, int kernel, int outputs, int32_t *readers)
{
    const fxp_readers found = fxp_readers_of(place, stride, kernel, outputs);
    readers[0] = found.n;
    readers[1] = found.tap;
    readers[2] = found.output;
}
void t_rows_masked(const int16_t *w, const int16_t *x, const int16_t *y, const int32_t *shape,
                   int32_t *out);
void t_rows_masked(const int16_t *w, const int16_t *x, const int16_t *y, const int32_t *shape,
                   int32_t *out)
{
    fxp_rows16_short_masked(w, x, shape[0], y, shape[1], shape[2], out);
}
void t_columns_masked(const int16_t *w, const int16_t *e, const int16_t *y, const int32_t *shape,
                      int32_t *out);
void t_columns_masked(const int16_t *w, const int16_t *e, const int16_t *y, const int32_t *shape,
                      int32_t *out)
{
    const fxp_walk walk = {shape[0], shape[1], shape[2], shape[3], shape[4]};
    fxp_columns16_short_masked(w, e + shape[5], &walk, y, shape[6], shape[7], out);
}
void t_copy(int8_t *out, const int8_t *from, int n);
void t_copy_to(int8_t *out, const int8_t *from, int n, int at, int to);
void t_copy_lines(int8_t *out, const int8_t *from, const int32_t *facts);
void t_zero(int8_t *out, int n, int at);
void t_widen(int16_t *out, const int8_t *from, int n);
void t_update16(int16_t *w, const int16_t *x, int n, const int32_t *m);
void t_update16x8(int16_t *w, const int8_t *x, int n, const int32_t *m);
void t_settle(const int64_t *acc, int n, int shift, int32_t *out, uint64_t *peak);
int32_t t_near_rail(const int16_t *w, int n);
int32_t t_most_columns(void);
int32_t t_gradients(const int16_t *dy, const int16_t *x, const int32_t *facts, int16_t *scratch, int32_t *tile);
void t_descend(int16_t *w, int8_t *v, const int32_t *gradient, const int32_t *facts);
void t_stored_rows(const int16_t *w, const int16_t *x, const int32_t *facts, int16_t *out, uint64_t *peak);
void t_masked_columns(const int16_t *w, const int16_t *e, const int32_t *shape, int32_t *list, int16_t *out, uint64_t *peak);
void t_accumulate16(int16_t *out, const int16_t *x, const int16_t *dy, const int32_t *facts);
void t_accumulate8(int16_t *out, const int8_t *x, const int8_t *dy, const int32_t *facts);
void t_descend_row(int16_t *w, const int16_t *g, const int32_t *facts);
void t_momentum(int16_t *w, int16_t *v, const int16_t *x, const int32_t *facts);
uint32_t t_join(const int16_t *v, int n);
void t_reciprocal(const uint32_t *v, int n, uint64_t *out);
void t_settle32(const int32_t *acc, int n, int shift, int32_t *out, uint32_t *peak);
void t_narrow32(const int32_t *v, int n, int shift, int bits, int32_t *out);
void t_high32(const int32_t *a, const int32_t *b, int n, int32_t *out);
void t_bias(const int32_t *b, int n, int f, int64_t *out);
void t_narrow(const int64_t *v, int n, int shift, int32_t *out);
void t_short(const int64_t *sums, const int32_t *b, int n, int shift, int f, int32_t *out);
uint32_t t_learn16(int16_t *w, const int16_t *x, const int16_t *dy, const int32_t *facts);
uint32_t t_learn16x8(int16_t *w, const int8_t *x, const int8_t *dy, const int32_t *facts);
void t_biases(int32_t *b, const int16_t *dy, const int8_t *few, const int32_t *facts);
void t_biases_of(int32_t *b, const int16_t *dy, const int8_t *few, const int32_t *facts);
/* facts: n, rows, m and s of the rate, k, the draw before, whether it rounds to nearest, where
   weights and numbers begin */
uint32_t t_learn16(int16_t *w, const int16_t *x, const int16_t *dy, const int32_t *facts)
{
    const fxp_rate rate = {(uint8_t)facts[2], (int8_t)facts[3]};
    uint32_t draw = (uint32_t)facts[5];
    (facts[6] ? fxp_learn16_nearest : fxp_learn16)(w + facts[7], x + facts[8], facts[0], dy, facts[1],
                                                   rate, facts[4], &draw);
    return draw;
}
uint32_t t_learn16x8(int16_t *w, const int8_t *x, const int8_t *dy, const int32_t *facts)
{
    const fxp_rate rate = {(uint8_t)facts[2], (int8_t)facts[3]};
    uint32_t draw = (uint32_t)facts[5];
    (facts[6] ? fxp_learn16x8_nearest : fxp_learn16x8)(w + facts[7], x + facts[8], facts[0], dy,
                                                       facts[1], rate, facts[4], &draw);
    return draw;
}
void t_biases_of(int32_t *b, const int16_t *dy, const int8_t *few, const int32_t *facts)
{
    const int n = facts[0] * facts[3];
    fxp_update_biases_of16(b, dy, n, facts[0], (uint8_t)facts[1], facts[2]);
    fxp_update_biases_of8(b + facts[0], few, n, facts[0], (uint8_t)facts[1], facts[2]);
}
void t_biases(int32_t *b, const int16_t *dy, const int8_t *few, const int32_t *facts)
{
    fxp_update_biases16(b, dy, facts[0], (uint8_t)facts[1], facts[2]);
    fxp_update_biases8(b + facts[0], few, facts[0], (uint8_t)facts[1], facts[2]);
}
void t_widen(int16_t *out, const int8_t *from, int n)
{
    fxp_widen(out, from, n);
}
void t_zero(int8_t *out, int n, int at)
{
    fxp_zero(out + at, n);
}
void t_copy(int8_t *out, const int8_t *from, int n)
{
    fxp_copy(out, from, n);
}
void t_copy_to(int8_t *out, const int8_t *from, int n, int at, int to)
{
    fxp_copy(out + to, from + at, n);
}
/* facts: bytes, lines, steps, where they begin */
void t_copy_lines(int8_t *out, const int8_t *from, const int32_t *facts)
{
    fxp_copy_lines(out + facts[4], from + facts[5], facts[0], facts[1], facts[2], facts[3]);
}
void t_update16(int16_t *w, const int16_t *x, int n, const int32_t *m)
{
    fxp_update16(w, x, n, m[0], m[1]);
}
void t_update16x8(int16_t *w, const int8_t *x, int n, const int32_t *m)
{
    fxp_update16x8(w, x, n, m[0], m[1]);
}
void t_settle(const int64_t *acc, int n, int shift, int32_t *out, uint64_t *peak)
{
    fxp_store wide = fxp_store_of(shift, 51), slim = wide;
    for (int i = 0; i < n; i++) {
        out[2 * i] = fxp_settle16(&wide, acc[i]);
        out[2 * i + 1] = fxp_settle8(&slim, acc[i]);
    }
    peak[0] = wide.peak;
    peak[1] = slim.peak;
}
void t_narrow(const int64_t *v, int n, int shift, int32_t *out)
{
    for (int i = 0; i < n; i++) {
        out[4 * i] = (int32_t)fxp_narrow(v[i], shift, 8);
        out[4 * i + 1] = (int32_t)fxp_narrow(v[i], shift, 16);
        out[4 * i + 2] = (int32_t)fxp_narrow(v[i], shift, 32);
        out[4 * i + 3] = fxp_change((int32_t)v[i], shift);
    }
}
void t_settle32(const int32_t *acc, int n, int shift, int32_t *out, uint32_t *peak)
{
    fxp_store32 wide = fxp_store32_of(shift), slim = wide;
    for (int i = 0; i < n; i++) {
        out[2 * i] = fxp_settle16_of32(&wide, acc[i]);
        out[2 * i + 1] = fxp_settle8_of32(&slim, acc[i]);
    }
    peak[0] = wide.peak;
    peak[1] = slim.peak;
}
void t_narrow32(const int32_t *v, int n, int shift, int bits, int32_t *out)
{
    for (int i = 0; i < n; i++) {
        out[i] = fxp_narrow32(v[i], shift, bits);
    }
}
void t_high32(const int32_t *a, const int32_t *b, int n, int32_t *out)
{
    for (int i = 0; i < n; i++) {
        out[i] = fxp_high32(a[i], b[i]);
    }
}
void t_short(const int64_t *sums, const int32_t *b, int n, int shift, int f, int32_t *out)
{
    for (int i = 0; i < n; i++) {
        out[i] = fxp_add32(fxp_sum32(sums[i], shift), fxp_bias32(b[i], f));
    }
}
void t_bias(const int32_t *b, int n, int f, int64_t *out)
{
    for (int i = 0; i < n; i++) {
        out[i] = fxp_bias(b[i], f);
    }
}
/* facts: n, rows, where rows and numbers begin, shift, bits of a sum, how, f, which is less than 0 without biases, and
   biases; the mask is what lies in the output before */
void t_stored_rows(const int16_t *w, const int16_t *x, const int32_t *facts, int16_t *out, uint64_t *peak)
{
    const fxp_layer layer = fxp_layer_of(facts[7] < 0 ? NULL : &facts[8], facts[7], facts[1]);
    const int bits = facts[7] < 0 ? facts[5] : fxp_bits_with_bias(facts[5], facts[7]);
    fxp_store store = fxp_store_of(facts[4], bits);
    int64_t sums[FXP_SUMS];
    store.peak = *peak;
    fxp_stored_rows16(&store, &layer, w + facts[2], x + facts[3], facts[0], facts[6], out, out, sums, FXP_SUMS);
    *peak = store.peak;
}
/* shape: n, columns, where they begin, shift, bits of a sum, whether errors are listed; the mask as above */
void t_masked_columns(const int16_t *w, const int16_t *e, const int32_t *shape, int32_t *list, int16_t *out, uint64_t *peak)
{
    const fxp_walk walk = {1, shape[0], shape[1], 0, 0};
    fxp_store store = fxp_store_of(shape[3], shape[4]);
    store.peak = *peak;
    if (shape[5]) {
        fxp_masked_columns16_listed(&store, w + shape[2], e, &walk, shape[1], out, out, list);
    } else {
        fxp_masked_columns16(&store, w + shape[2], e, &walk, shape[1], out, out);
    }
    *peak = store.peak;
}
/* facts: those of windows, filters that are left, narrowing, where x begins; then pieces */
int32_t t_gradients(const int16_t *dy, const int16_t *x, const int32_t *facts, int16_t *scratch, int32_t *tile)
{
    const fxp_windows windows = {facts[0], facts[1], facts[2], facts[3], facts[4], facts[5], facts[6], facts[7]};
    fxp_piece pieces[32];
    for (int i = 0; i < facts[0]; i++) {
        const int32_t *const p = &facts[11 + 7 * i];
        const fxp_piece piece = {p[0], (int16_t)p[1], (int16_t)p[2], (int16_t)p[3], (int16_t)p[4], (int16_t)p[5],
                                 (int16_t)p[6]};
        pieces[i] = piece;
    }
    return fxp_gradients16(dy, x + facts[10], &windows, pieces, facts[8], facts[9], scratch, tile);
}
void t_descend(int16_t *w, int8_t *v, const int32_t *gradient, const int32_t *facts)
{
    fxp_descend16(w, gradient, facts[0], facts[1], facts[2], facts[3]);
    fxp_descend8(v, gradient, facts[0], facts[1], facts[2], facts[3]);
}
/* facts: n, rows, shift, where sums and numbers begin */
void t_accumulate16(int16_t *out, const int16_t *x, const int16_t *dy, const int32_t *facts)
{
    fxp_accumulate16(out + facts[3], x + facts[4], facts[0], dy, facts[1], facts[2]);
}
void t_accumulate8(int16_t *out, const int8_t *x, const int8_t *dy, const int32_t *facts)
{
    fxp_accumulate8(out + facts[3], x + facts[4], facts[0], dy, facts[1], facts[2]);
}
/* facts: n, k, m, dither, where weights and gradients begin */
void t_descend_row(int16_t *w, const int16_t *g, const int32_t *facts)
{
    fxp_descend_row16(w + facts[4], g + facts[5], facts[0], facts[1], facts[2], facts[3]);
}
/* facts: n, the folded error, the momentum, two dithers, where the three begin */
void t_momentum(int16_t *w, int16_t *v, const int16_t *x, const int32_t *facts)
{
    fxp_momentum_row16(w + facts[5], v + facts[6], x + facts[7], facts[0], facts[1], facts[2],
                       (uint32_t)facts[3], (uint32_t)facts[4]);
}
uint32_t t_join(const int16_t *v, int n)
{
    return fxp_join16(0, v, n);
}
void t_reciprocal(const uint32_t *v, int n, uint64_t *out)
{
    for (int i = 0; i < n; i++) {
        out[i] = fxp_reciprocal(v[i]);
    }
}
void t_largest(const int16_t *x, const int8_t *few, const int32_t *facts, int32_t *out);
void t_largest(const int16_t *x, const int8_t *few, const int32_t *facts, int32_t *out)
{
    const fxp_window window = {facts[0], facts[1], facts[2], facts[3], facts[4], facts[5]};
    const int count = facts[6];
    uint8_t places[FXP_NUMBERS];
    uint16_t many[FXP_NUMBERS];
    int32_t largest[FXP_NUMBERS];
    fxp_largest_of16(x, &window, count, out);
    fxp_first_largest_of16(x, &window, count, &out[count], places);
    fxp_first_largest_of16_of_many(x, &window, count, largest, many);
    fxp_largest_of8(few, &window, count, &out[4 * count]);
    for (int j = 0; j < count; j++) {
        out[2 * count + j] = places[j];
        out[3 * count + j] = many[j];
    }
    fxp_first_largest_of8(few, &window, count, largest, places);
    fxp_first_largest_of8_of_many(few, &window, count, largest, many);
    for (int j = 0; j < count; j++) {
        out[5 * count + j] = places[j];
        out[6 * count + j] = many[j];
    }
}
int32_t t_most_columns(void)
{
    return FXP_COLUMNS;
}
int32_t t_near_rail(const int16_t *w, int n)
{
    return fxp_near_rail16(w, n);
}
"""


def harness() -> dict[str, str]:
    text = '#include "fxp_kernels.h"\n'
    for name, (a, b) in TYPES.items():
        facts = {"name": name, "a": f"int{a}_t", "b": f"int{b}_t"}
        text += _ROWS.format(**facts) + _COLUMNS.format(**facts)
        if a >= b:
            text += _CHANNELS.format(**facts)
    for how, bits in product(("sums", "positive", "masked"), (64, 32)):
        suffix = "" if bits == 64 else "32"
        facts = {"acc": f"int{bits}_t", "peak": f"uint{bits}_t", "store": f"fxp_store{suffix}"}
        facts["most"] = "" if suffix else ", n[2]"
        masks = (
            {"mask": ", out", "mask_few": ", few"}
            if how == "masked"
            else dict.fromkeys(("mask", "mask_few"), "")
        )
        text += _SETTLE.format(how=how, of="_of32" if bits == 32 else "", **facts, **masks)
    headers = {name: runtime_header(name) for name in RUNTIME_HEADERS}
    return {**headers, "kernels.c": text + _OTHERS}


def test_the_header_has_all_its_parts() -> None:
    text = runtime_header("fxp_kernels.h")
    assert '#include "kernels' not in text
    for part in (paths.RUNTIME / "kernels").iterdir():
        assert part.read_text(encoding="utf-8") in text, part.name


@cache
def loaded(place: str, toolchain: Toolchain, level: str) -> Program:
    if place == "here":
        return replace(find_compiler(), flags=("-std=c99", level)).load(harness())
    return find_core(place, toolchain, level).load(harness())


HERE = [("here", "", "-O0"), ("here", "", "-O3")]
LEVELS = ("-Os", "-O1", "-O3")  # of gcc, which cores take in turn: its bodies are mostly assembly
CORES = [
    core_case(core, (core, toolchain, level))
    for i, core in enumerate(core_names())
    for toolchain, level in (("zig", "-Os"), ("gcc", LEVELS[i % len(LEVELS)]))
]


@pytest.fixture(params=[*HERE, *CORES], ids="".join)
def program(request: pytest.FixtureRequest, need: Any) -> Program:
    """On each emulated core by each compiler, and on this machine; the optimisers differ."""
    place, toolchain, level = request.param
    if toolchain == "gcc":
        need("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")
    return loaded(place, toolchain, level)


@pytest.mark.parametrize(("name", "toolchain", "level"), [case.values[0] for case in CORES])
def test_code_that_names_places_begins_at_a_word(
    name: str, toolchain: Toolchain, level: str, need: Any
) -> None:
    """ADR counts from a word, but a linker may put anywhere what asks for less."""
    if toolchain == "gcc":
        need("arm-none-eabi-gcc", "riscv64-unknown-elf-gcc")
    core = find_core(name, toolchain, level)
    if core.instruction_set != "thumb":
        return
    files = harness() | {"string.h": (paths.CORES / "include" / "string.h").read_text()}
    arguments = (*STRICT, "-ffunction-sections", "-c", "kernels.c")
    path = build(files, core.compiler, arguments, ".unit.o")
    count = 0
    with path.open("rb") as file:
        for section in ELFFile(file).iter_sections():
            if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR and names_places(section.data()):
                assert section["sh_addralign"] % 4 == 0, section.name
                count += 1
    assert count > 0 or name in ("cortex-m3", "cortex-m55")


def names_places(code: bytes) -> bool:
    """Whether there is an ADR of 16 or 32 bits, or what reads like one."""
    words, found, at = np.frombuffer(code, "<u2"), False, 0
    while at < len(words):
        first = int(words[at])
        found |= first & 0xF800 == 0xA000 or first & 0xFBFF in (0xF20F, 0xF2AF)
        at += 2 if first >= 0xE800 else 1
    return found


def drawn(random: np.random.RandomState, bits: int, *shape: int) -> np.ndarray:
    """Random numbers of `bits` bits, some of them at their rails."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    numbers = random.randint(low, high + 1, shape)
    rails = np.where(random.rand(*shape) < 0.5, low, high)
    return np.where(random.rand(*shape) < 0.2, rails, numbers).astype(f"int{bits}")


# n, rows, where the first row begins: where it is not at a word, cores with DSP instructions take
# another loop, as they do for rows of odd lengths.
SHAPES = [(n, n % 8 + 1, 0) for n in LENGTHS] + [(n, 3, 1) for n in LENGTHS]
SHAPES += [(40, 0, 0), (64, 5, 1)]
SHAPES += [(40, 16, 0), (9, 17, 0), (9, 33, 0), (50, 33, 1)]  # more than any core sums at once
# Several rows at once, with and without a number that is -2^15.
SHAPES += [(n, rows, first) for n in (8, 9, 16, 40) for rows in (4, 7) for first in (0, 1)]


@pytest.mark.parametrize("name", TYPES)
def test_rows_are_sums_of_products_and_biases(program: Program, name: str) -> None:
    random = np.random.RandomState(1)
    for n, rows, first in SHAPES:
        w, x = drawn(random, TYPES[name][0], rows * n + first), drawn(random, TYPES[name][1], n)
        x[random.random_sample(n) < 0.5 * (rows % 2)] = 0
        x = np.maximum(x, -np.iinfo(x.dtype).max) if rows == 4 else x
        b = drawn(random, 32, rows)
        products = integers(w[first:]).reshape(rows, n) * integers(x)
        for f in (-1, 0, 3, BIAS_FRACTION, BIAS_FRACTION + 9, BIAS_FRACTION + 30):
            wide, shape = np.zeros(rows + 1, np.int64), np.array([n, rows, first, f], np.int32)
            program.call(f"t_rows{name}", w, x, shape, b, wide)
            more = 0 if f < 0 else rescale(integers(b), BIAS_FRACTION - f)
            assert (wide[:rows] == products.sum(axis=1) + more).all(), (n, rows, first, f)
            assert wide[rows] == 0
        for f, shift in product((-1, 0, 3, BIAS_FRACTION), (0, 9, 14, 23)):
            if shift > 0 or abs(products.sum(axis=1)).max(initial=0) < 1 << 31:
                short = np.zeros(rows + 1, np.int32)
                shape = np.array([n, rows, first, f, shift], np.int32)
                program.call(f"t_rows{name}_short", w, x, shape, b, short)
                bias = None if f < 0 else Q(integers(b), BIAS_FRACTION)
                want = accumulated(Q(products.sum(axis=1), f + shift), bias, shift)
                assert (short[:rows] == want.q).all(), (n, rows, first, f, shift)
                assert short[rows] == 0


# Runs of a window and of an image, forwards and backwards; with channels between and without.
STRIDES = [
    (3, 3, 8, 24, 8, 40),
    (2, 3, 9, 27, -9, -45),
    (3, 1, 7, 21, 14, 70),
    (5, 4, 6, 30, 12, 66),
    (4, 5, 10, 50, -10, -50),
    (1, 2, 12, 24, 5, 9),
    (0, 3, 8, 24, 8, 40),
    (3, 0, 8, 24, 8, 40),
]


@pytest.mark.parametrize("name", [name for name, (a, b) in TYPES.items() if a >= b])
def test_channels_are_summed_each_by_itself(program: Program, name: str) -> None:
    random = np.random.RandomState(11)
    a, b = drawn(random, TYPES[name][0], 300), drawn(random, TYPES[name][1], 700)
    a[:150], b[:350] = np.iinfo(a.dtype).min, np.iinfo(b.dtype).min
    for strides, channels in product(STRIDES, range(9)):
        rows, n, a_step, a_line, b_step, b_line = strides
        starts = (channels % 3, 350 if b_step < 0 else channels % 2)
        runs = np.arange(rows)[:, None], np.arange(n)[None, :]
        places = [
            start + runs[0] * line + runs[1] * step + np.arange(channels)[:, None, None]
            for start, line, step in zip(starts, (a_line, b_line), (a_step, b_step), strict=True)
        ]
        want = (integers(a)[places[0]] * integers(b)[places[1]]).sum(axis=(1, 2))
        sums = np.full(channels + 1, 77, np.int64)
        shape = np.array([*strides, *starts, channels], np.int32)
        program.call(f"t_channels{name}", a, b, shape, sums)
        assert (sums[:channels] == want).all(), (strides, channels)
        assert sums[channels] == 77


def test_biases_are_added(program: Program) -> None:
    random = np.random.RandomState(12)
    b = drawn(random, 32, 7)
    for f in (3, BIAS_FRACTION - 1, BIAS_FRACTION, BIAS_FRACTION + 1, BIAS_FRACTION + 30):
        sums = random.randint(-(1 << 60), 1 << 60, 7)
        want = sums + rescale(integers(b), BIAS_FRACTION - f)
        program.call("t_add_biases", b, 7, f, sums)
        assert (sums == want).all(), f


def test_readers_are_the_outputs_that_read_an_input(program: Program) -> None:
    for size, kernel, stride, before in product((5, 6, 7), (1, 2, 3, 4), (1, 2, 3, 5), (0, 1)):
        axis = Axis(size, kernel, stride, before=min(before, kernel - 1))
        for r in range(size):
            place = r + axis.before
            want = [(place - o * stride, o) for o in reversed(range(axis.outputs))]
            want = [(tap, o) for tap, o in want if 0 <= tap < kernel]
            found = np.zeros(3, np.int32)
            program.call("t_readers", place, stride, kernel, axis.outputs, found)
            n, tap, output = (int(v) for v in found)
            assert [(tap + i * stride, output - i) for i in range(n)] == want, (axis, r)


def test_a_reciprocal_is_rounded_down(program: Program) -> None:
    random = np.random.RandomState(15)
    powers = [(1 << bit) + more for bit in range(1, 32) for more in (-1, 0, 1)]
    drawn_ones = (random.randint(1, 2**32, 300) >> random.randint(0, 31, 300)) | 1
    v = np.array([*powers, 2**32 - 1, *drawn_ones], np.uint32)
    out = np.zeros(v.size, np.uint64)
    program.call("t_reciprocal", v, v.size, out)
    assert out.tolist() == [(1 << 62) // int(value) for value in v]


def test_scores_become_powers_and_errors(program: Program) -> None:
    """Near and far below the largest, down to where nothing is left."""
    random = np.random.RandomState(18)
    table = np.array(EXP2_TABLE, np.uint32)
    for n, f in product((1, 2, 3, 4, 9, 40), (-8, -1, 0, 7, 8, 9, 11, 12, 15, 20, 27, 28)):
        fraction = power_fraction(n)
        x = drawn(random, 16, n) >> random.randint(0, 16, n).astype(np.int16)
        powers, facts = np.zeros(n, np.int32), np.array([n, f, fraction], np.int32)
        total = program.call("t_powers", table, x, facts, powers.view(np.int8))
        want = [exp2(t, fraction) for t in exponents(Q(integers(x), f))]
        assert powers.tolist() == want, (n, f)
        assert total & 0xFFFFFFFF == sum(want)
        target = int(random.randint(0, n))
        facts = np.array([n, target, total], np.int32)
        out, few = np.zeros(n, np.int16), np.zeros(n, np.int8)
        peak = program.call("t_errors", powers.view(np.int8), facts, out, few)
        errors = shares(want) - integers(np.arange(n) == target) * (1 << 30)
        assert powers.tolist() == errors.tolist(), (n, f)
        assert peak & 0xFFFFFFFF == int(np.bitwise_or.reduce(magnitude(errors)))
        for stored, bits in ((out, 16), (few, 8)):
            shift = max(-8, int(peak).bit_length() - (bits - 1))
            assert stored.tolist() == narrow(errors, shift, bits).tolist(), (n, f)


def test_a_power_that_is_too_small_is_0(program: Program) -> None:
    """At each exponent about the last one of which something is left."""
    table = np.array(EXP2_TABLE, np.uint32)
    for fraction, f in product((8, 20, 27, 28), (7, 8, 9, 10)):
        limit = round((fraction + 1) * math.log(2) * 2**f)
        x = np.array([0, *range(-limit - 3, -limit + 4)], np.int16)
        powers, facts = np.zeros(8, np.int32), np.array([8, f, fraction], np.int32)
        program.call("t_powers", table, x, facts, powers.view(np.int8))
        assert powers.tolist() == [exp2(t, fraction) for t in exponents(Q(integers(x), f))]


def test_powers_of_any_distance() -> None:
    """Near and far: this machine computes two at once by other shifts."""
    table = np.array(EXP2_TABLE, np.uint32)
    for f, fraction in product(range(28), (20, 27)):
        x = np.arange(32767 - f, -32769, -97).astype(np.int16)
        powers, facts = np.zeros(x.size, np.int32), np.array([x.size, f, fraction], np.int32)
        loaded("here", "", "-O3").call("t_powers", table, x, facts, powers.view(np.int8))
        want = [exp2(t, fraction) for t in exponents(Q(integers(x), f))]
        assert powers.tolist() == want, (f, fraction)


def test_weights_descend_their_gradients(program: Program) -> None:
    random = np.random.RandomState(16)
    for n, k, m in product((1, 2, 9, 40), (-40, -1, 0, 1, 2, 7, 16, 29, 30, 31), (0, 128, 255)):
        gradient = (drawn(random, 32, n) >> random.randint(1, 32, n)).astype(np.int32)
        dither, w, v = int(random.randint(0, 1 << 16)), drawn(random, 16, n), drawn(random, 8, n)
        steps = (step24(integers(gradient), k) * m + dither) >> 16
        want = saturate(integers(w) + steps, 16), saturate(integers(v) + steps, 8)
        program.call("t_descend", w, v, gradient, np.array([n, k, m, dither], np.int32))
        assert (w == want[0]).all(), (n, k, m)
        assert (v == want[1]).all(), (n, k, m)


CONVOLUTIONS = [
    ((7, 6, 4), Conv2d(3, 3, 2, "same")),
    ((5, 5, 8), Conv2d(9, 3, 1, "same")),
    ((6, 7, 12), Conv2d(2, (2, 3), dilation=(1, 2))),
    ((4, 9, 4), Conv2d(2, (1, 5), (1, 3), (0, 0, 4, 4))),  # windows begin behind the next row's
    ((3, 3, 4), Conv2d(1, 3, 3, 2)),
    ((1, 20, 4), Conv2d(3, (1, 5), 1, "same")),
    ((1, 9, 8), Conv2d(2, 3, 1, "same")),  # two rows of a filter read outside
    ((2, 16, 4), Conv2d(2, (3, 4), (1, 2), (0, 1, 1, 2), (1, 3))),
    ((6, 6, 1), Conv2d(10, 3, 2, "same")),
    ((4, 5, 3), Conv2d(2, 2)),
    ((5, 5, 16), Conv2d(1, 1)),
]


@pytest.mark.parametrize("zeros", [0.0, 0.6, 1.0])
def test_gradients_of_filters_are_sums_over_positions(program: Program, zeros: float) -> None:
    random = np.random.RandomState(18)
    for (case, begin), narrowing in product(product(CONVOLUTIONS, (0, 1)), (0, 1, 7, 31)):
        shape, op = case
        g, out = op.geometry({"x": shape, "out": ()}), op.output_shape(shape)
        x, dy = drawn(random, 16, begin + int(np.prod(shape))), drawn(random, 16, *out)
        dy[random.random_sample(out) < zeros] = 0
        used = x[begin:].reshape(shape)
        want = rescale(op.grad_w_int(Q(integers(dy), 0), Q(integers(used), 0)).q, narrowing)
        want = want.reshape(op.filters, -1).astype(np.uint64).astype(np.uint32)
        first = 0
        while first < op.filters:
            scratch, tile = np.zeros(9 * g.pitch, np.int16), np.full(8 * g.taps + 1, 77, np.int32)
            facts = [*g.windows, op.filters - first, narrowing, begin, *np.ravel(g.pieces)]
            errors, place = dy.reshape(-1)[first:].copy(), np.array(facts, np.int32)
            count = program.call("t_gradients", errors, x, place, scratch, tile)
            assert 1 <= count <= min(8, op.filters - first)
            found = tile[: count * g.taps].view(np.uint32).reshape(count, -1)
            assert (found == want[first : first + count]).all(), (case, begin, narrowing)
            assert (tile[count * g.taps :] == 77).all()
            first += count


def test_biases_learn(program: Program) -> None:
    random = np.random.RandomState(13)
    for n, shift, m in product((1, 2, 7), (-70, -9, 0, 1, 2, 9, 29, 30, 31, 32, 70), (0, 128, 255)):
        b, dy, few = drawn(random, 32, 2 * n), drawn(random, 16, n), drawn(random, 8, n)
        changes = narrow(-m * integers(np.concatenate([dy, few])), shift, 32)
        want = saturate(integers(b) + changes, 32)
        program.call("t_biases", b, dy, few, np.array([n, m, shift], np.int32))
        assert (b == want).all(), (n, shift, m)


def test_biases_learn_from_sums_over_positions(program: Program) -> None:
    random = np.random.RandomState(17)
    for n, shift, m in product((1, 2, 3, 8, 9), (-9, 0, 1, 9, 31, 32, 40), (0, 255)):
        positions = int(random.randint(1, 12))
        b, dy = drawn(random, 32, 2 * n), drawn(random, 16, positions, n)
        few = drawn(random, 8, positions, n)
        sums = np.concatenate([integers(dy).sum(axis=0), integers(few).sum(axis=0)])
        want = saturate(integers(b) + narrow(-m * sums, shift, 32), 32)
        program.call("t_biases_of", b, dy, few, np.array([n, m, shift, positions], np.int32))
        assert (b == want).all(), (n, shift, m)
    b, dy = np.zeros(2, np.int32), np.full(1200, -32768, np.int16)  # longer than 32 bits
    few = np.full(1200, -128, np.int8)
    program.call("t_biases_of", b, dy, few, np.array([1, 255, 1, 1200], np.int32))
    assert b.tolist() == [2**31 - 1, 255 * 1200 * 128 // 2]


@pytest.mark.parametrize("bits", [16, 8])
@pytest.mark.parametrize("is_nearest", [False, True])
def test_rows_of_an_outer_product_learn(program: Program, bits: int, is_nearest: bool) -> None:
    """Wherever weights and numbers begin, and with errors of which nothing is left."""
    random = np.random.RandomState(14)
    name = {16: "t_learn16", 8: "t_learn16x8"}[bits]
    ks = (-20, -1, 0, 1, 2, 9, 16, 29, 30, 31)
    offsets = ((0, 0), (1, 0), (0, 1))
    cases = [
        (n, 1 + i % 5, ks[(i + offset[0] + 2 * offset[1]) % len(ks)], offset)
        for (i, n), offset in product(enumerate(LENGTHS), offsets)
    ]
    more = ((16, 37), (9, 40), (34, 50))  # more rows than any core takes at once
    cases += [(n, rows, k, offset) for (n, rows), k, offset in product(more, (8, 12), offsets)]
    for n, rows, k, offset in cases:
        w, x = drawn(random, 16, rows * n + 1), drawn(random, bits, n + 1)
        x[random.random_sample(n + 1) < 0.8 * (rows % 2)] = 0
        dy = drawn(random, bits, rows) >> random.randint(0, bits, rows).astype(x.dtype)
        dy[random.randint(0, 3, rows) == 0] = 0
        rate, draws = Rate(int(random.randint(128, 256)), 3), Random(int(random.randint(1, 2**31)))
        facts = [n, rows, rate.m, rate.s, k, draws.state, is_nearest, *offset]
        scaled, want = integers(x[offset[1] :][:n]) << (16 - bits), integers(w)
        for row in range(rows):
            m = fold(int(dy[row]), rate, k, draws)
            if m != 0:
                place = slice(offset[0] + row * n, offset[0] + (row + 1) * n)
                dither = 0x8000 if is_nearest else dither_of_fold(k, draws)
                want[place] = saturate(want[place] + ((m * scaled + dither) >> 16), 16)
        state = program.call(name, w, x, dy, np.array(facts, np.int32))
        assert (w == want).all(), (n, rows, k, offset)
        assert state & 0xFFFFFFFF == draws.state


@pytest.mark.parametrize("bits", [16, 8])
def test_a_batch_adds_up_outer_products(program: Program, bits: int) -> None:
    random = np.random.RandomState(20)
    shifts = (-40, -20, -9, -7, -1, 0, 1, 2, 7, 8, 9, 14, 15, 16, 17, 24, 30, 31, 40)
    for (i, n), offset in product(enumerate(LENGTHS), ((0, 0), (1, 0), (0, 1))):
        for shift in shifts[i % 3 :: 3]:
            rows = 1 + i % 4
            out, x = drawn(random, 16, rows * n + 1), drawn(random, bits, n + 1)
            dy = drawn(random, bits, rows) >> random.randint(0, bits, rows).astype(x.dtype)
            want = integers(out)
            products = np.outer(integers(dy), integers(x[offset[1] :][:n]))
            want[offset[0] :][: rows * n] += narrow(products, shift, 16).reshape(-1)
            facts = np.array([n, rows, shift, *offset], np.int32)
            program.call(f"t_accumulate{bits}", out, x, dy, facts)
            assert (out == saturate(want, 16)).all(), (n, rows, shift, offset)


def test_weights_descend_along_what_a_batch_added_up(program: Program) -> None:
    random = np.random.RandomState(21)
    ks, offsets = (-30, -9, -8, -7, -6, -1, 0, 1, 2, 7, 15, 16, 30, 31), ((0, 0), (1, 0), (0, 1))
    for (i, n), offset in product(enumerate(LENGTHS), offsets):
        for k in ks[i % 2 :: 2]:
            m, dither = int(random.randint(128, 256)), int(random.randint(0, 1 << 16))
            w, g = drawn(random, 16, n + 1), drawn(random, 16, n + 1)
            want, part = integers(w), slice(offset[0], offset[0] + n)
            want[part] += (step24(integers(g[offset[1] :][:n]), k) * m + dither) >> 16
            facts = np.array([n, k, m, dither, *offset], np.int32)
            program.call("t_descend_row", w, g, facts)
            assert (w == saturate(want, 16)).all(), (n, k, m, offset)


def test_a_row_moves_with_momentum(program: Program) -> None:
    random = np.random.RandomState(23)
    offsets = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
    for n, offset, m in product(LENGTHS, offsets, (-32768, -55, 0, 32767)):
        w, v, x = (drawn(random, 16, n + 1) for _ in range(3))
        optimizer = Momentum(momentum=random.choice([2.0**-15, 0.5, 0.9, 1 - 2.0**-15]))
        draw, kept = int(random.randint(0, 2**32)), optimizer.momentum_q
        want = [integers(w), integers(v)]
        moved, still, by = (integers(a[o : o + n]) for a, o in zip((w, v, x), offset, strict=True))
        moved, (still,) = optimizer.update_int(moved, m * by, (still,), integers(draw), 16)
        want[0][offset[0] :][:n], want[1][offset[1] :][:n] = moved, still
        dithers = draw & 0x7FFF, draw >> (32 - optimizer.headroom(16))
        facts = np.array([n, m, kept, *dithers, *offset], np.int32)
        program.call("t_momentum", w, v, x, facts)
        assert (w == want[0]).all(), (n, offset, m)
        assert (v == want[1]).all(), (n, offset, m)


def test_magnitudes_are_joined(program: Program) -> None:
    random = np.random.RandomState(22)
    for n, bits in product(LENGTHS, (1, 2, 8, 15, 16)):
        v = drawn(random, 16, n) >> np.int16(16 - bits)
        want = int(np.bitwise_or.reduce(magnitude(v)))
        assert program.call("t_join", v, n) == want, (n, bits)


def test_rows_of_the_largest_products(program: Program) -> None:
    """Sums that need more than 32 bits, of both signs."""
    low, high = np.full(1500, -32768, np.int16), np.full(1500, 32767, np.int16)
    out, b = np.zeros(5, np.int64), np.zeros(1, np.int32)
    shape = np.array([300, 5, 0, -1], np.int32)
    for w, x in product((low, high), (low, high, -high)):
        program.call("t_rows16", w, x[:300].copy(), shape, b, out)
        assert (out == 300 * int(w[0]) * int(x[0])).all()
    program.call("t_rows16x8", low, np.full(300, -128, np.int8), shape, b, out)
    assert (out == 300 << 22).all()


# rows, n, step, w_line, e_line; where the errors begin.
WALKS = [(1, n, n % 5 + 4, 0, 0, 0) for n in LENGTHS if n < 100]
WALKS += [(3, n, 6, 50, n + 2, 0) for n in (1, 2, 5, 8)] + [(2, 4, 9, 3, -4, 4)]
# Steps whose multiples need more than 16 bits.
WALKS += [(1, 9, step, 0, 0, 0) for step in (9000, 9001, 30000)] + [(1, 5, 40000, 0, 0, 0)]


@pytest.mark.parametrize("name", TYPES)
def test_columns_add_the_products_of_a_walk(program: Program, name: str) -> None:
    random = np.random.RandomState(2)
    for walk in WALKS:
        rows, n, step, w_line, e_line, first = walk
        r, i = np.meshgrid(np.arange(rows), np.arange(n), indexing="ij")
        weights, errors = r * w_line + i * step, first + r * e_line + i
        most = program.call("t_most_columns")
        w = drawn(random, TYPES[name][0], int(weights.max()) + most)
        e = drawn(random, TYPES[name][1], int(errors.max()) + 1)
        for columns in (1, 2, 3, 4, 9, most, 2 * most):
            sums = np.arange(most + 1, dtype=np.int64)
            program.call(f"t_columns{name}", w, e, np.array(walk, np.int32), columns, sums)
            for j in range(most):
                products = integers(w[weights + j]) * integers(e[errors]) * (j < columns)
                assert sums[j] == j + products.sum(), (walk, columns)
            assert sums[most] == most


def test_sums_are_right_where_they_are_not_masked(program: Program) -> None:
    random = np.random.RandomState(5)
    for n, count in [*((n, n % 8 + 1) for n in LENGTHS), (40, 8), (41, 16)]:
        y = drawn(random, 16, count)
        y[: count // 4] = 0
        w, x, out = drawn(random, 16, count, n), drawn(random, 16, n), np.zeros(count, np.int32)
        x[random.random_sample(n) < 0.5 * (n % 2)] = 0
        program.call("t_rows_masked", w, x, y, np.array([n, count, 14], np.int32), out)
        want = accumulated(Q((integers(w) * integers(x)).sum(axis=1), 0), None, 14).q
        assert (out == want)[y > 0].all(), (n, count)
    for walk in WALKS:
        rows, n, step, w_line, e_line, first = walk
        r, i = np.meshgrid(np.arange(rows), np.arange(n), indexing="ij")
        weights, errors = r * w_line + i * step, first + r * e_line + i
        w, e = drawn(random, 16, weights.max() + 8), drawn(random, 16, errors.max() + 1)
        e[random.random_sample(len(e)) < 0.5 * (n % 2)] = 0
        for count in range(1, 9):
            y, out = drawn(random, 16, count), np.zeros(8, np.int32)
            shape = np.array([*walk, count, 14], np.int32)
            program.call("t_columns_masked", w, e, y, shape, out)
            columns = integers(w[weights[..., None] + np.arange(count)])
            sums = (columns * integers(e[errors])[..., None]).sum(axis=(0, 1))
            want = accumulated(Q(sums, 0), None, 14).q
            assert (out[:count] == want)[y > 0].all(), (walk, count)
            assert not out[count:].any()


def test_sums_may_have_more_than_131_072_products(program: Program) -> None:
    """On RV32 they are added in another way."""
    many, low = 132_001, -32768
    for rows in (2, 4):
        out = np.zeros(rows, np.int64)
        w, x = np.full(rows * many, low, np.int16), np.full(many, low, np.int16)
        shape = np.array([many, rows, 0, -1], np.int32)
        program.call("t_rows16", w, x, shape, np.zeros(1, np.int32), out)
        assert out.tolist() == [many << 30] * rows
    sums, walk = np.zeros(4, np.int64), np.array([1, many, 1, 0, 0, 0], np.int32)
    program.call("t_columns16", np.full(many + 4, low, np.int16), x, walk, 4, sums)
    assert sums.tolist() == [many << 30] * 4


def test_an_empty_walk_adds_nothing(program: Program) -> None:
    for rows, n in ((0, 4), (4, 0)):
        sums = np.arange(4, dtype=np.int64)
        walk = np.array([rows, n, 4, 0, 0, 0], np.int32)
        program.call("t_columns16", np.ones(64, np.int16), np.ones(64, np.int16), walk, 4, sums)
        assert sums.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("bits", [16, 8])
def test_update_rounds_and_saturates(program: Program, bits: int) -> None:
    random = np.random.RandomState(3)
    name = {16: "t_update16", 8: "t_update16x8"}[bits]
    for n in LENGTHS:
        for m in (-32768, -77, 1, 32767):
            w, x = drawn(random, 16, n), drawn(random, bits, n)
            dither = int(random.randint(0, 1 << 16))
            scaled = integers(x) << (16 - bits)
            want = saturate(integers(w) + ((m * scaled + dither) >> 16), 16)
            program.call(name, w, x, n, np.array([m, dither], np.int32))
            assert (w == want).all(), (n, m)


def test_copy(program: Program) -> None:
    random = np.random.RandomState(4)
    for n in LENGTHS:
        source, out = drawn(random, 8, n), np.full(n + 1, 99, np.int8)
        program.call("t_copy", out, source, n)
        assert (out[:n] == source).all()
        assert out[n] == 99
        wide = np.full(n + 1, 99, np.int16)
        program.call("t_widen", wide, source, n)
        assert wide.tolist() == [*source, 99]
        for at in (0, 1, 2, 4):
            out = np.full(n + 9, 99, np.int8)
            program.call("t_zero", out, n, at)
            assert out.tolist() == [99] * at + [0] * n + [99] * (9 - at)
        for at, to in ((0, 1), (2, 0), (2, 2), (1, 1), (4, 2)):
            source, out = drawn(random, 8, n + at), np.full(n + to + 1, 99, np.int8)
            program.call("t_copy_to", out, source, n, at, to)
            assert out.tolist() == [99] * to + source[at:].tolist() + [99], (n, at, to)


def test_copies_of_lines(program: Program) -> None:
    random = np.random.RandomState(20)
    places = [(0, 0, 0, 0), (0, 0, 3, 5), (1, 0, 0, 4), (2, 2, 4, 0), (0, 4, 2, 2)]
    for n, lines, place in product((0, *LENGTHS), (0, 1, 3), places):
        to, at, gap, skip = place
        steps = n + gap + (-n % 4), n + skip + (-n % 4)
        source, out = drawn(random, 8, 400 * 4), np.full(400 * 4, 99, np.int8)
        want = out.copy()
        for line in range(lines):
            begin = at + line * steps[1]
            want[to + line * steps[0] :][:n] = source[begin : begin + n]
        facts = np.array([n, lines, *steps, to, at], np.int32)
        program.call("t_copy_lines", out, source, facts)
        assert (out == want).all(), (n, lines, place)


def test_settling_rounds_once_and_keeps_the_peak(program: Program) -> None:
    random = np.random.RandomState(5)
    sizes = random.randint(0, 45, 200)
    acc = np.array(
        [int(random.randint(-(2**31), 2**31)) << 20 >> (45 - k) for k in sizes], np.int64
    )
    for shift in (-150, -70, -9, -1, 0, 1, 2, 14, 15, 16, 17, 30, 31, 32, 33, 40, 62, 64, 150):
        out, peak = np.zeros((acc.size, 2), np.int32), np.zeros(2, np.uint64)
        program.call("t_settle", acc, acc.size, shift, out, peak)
        for column, bits in ((0, 16), (1, 8)):
            assert (out[:, column] == narrow(integers(acc), shift, bits)).all(), shift
        assert peak.tolist() == [int(np.bitwise_or.reduce(acc ^ (acc >> 63)))] * 2


@pytest.mark.parametrize("width", [64, 32])
@pytest.mark.parametrize("how", ["sums", "positive", "masked"])
def test_neighbouring_sums_settle_as_one_by_one(program: Program, how: str, width: int) -> None:
    """The mask is what lies in the output before."""
    random = np.random.RandomState(8)
    largest, name = 2 ** (width - 24 if width == 64 else 31), "" if width == 64 else "_of32"
    acc = random.randint(-largest, largest, 60) >> random.randint(0, width // 2, 60)
    for shift in (-9, 0, 1, 9, 16, 31, 32, 40):
        mask = random.randint(-1, 2, acc.size)
        many, few = mask.astype(np.int16), mask.astype(np.int8)
        peak, settings = np.zeros(2, f"uint{width}"), np.array([acc.size, shift, 40], np.int32)
        program.call(f"t_settle_{how}{name}", acc.astype(f"int{width}"), settings, many, few, peak)
        taken = {"sums": acc == acc, "positive": acc > 0, "masked": mask > 0}[how]
        for stored, bits in ((many, 16), (few, 8)):
            want = np.where(taken, narrow(acc, shift, bits), 0)
            want = np.where((want == 0) & taken, 1, want) if how == "positive" else want
            assert (stored == want).all(), shift
        magnitudes = np.where(taken, magnitude(acc), 0)
        assert peak.tolist() == [int(np.bitwise_or.reduce(magnitudes))] * 2


@pytest.mark.parametrize("how", ["sums", "positive", "masked"])
def test_rows_are_stored_as_their_sums_are(program: Program, how: str) -> None:
    random = np.random.RandomState(19)
    fs = [-1] if how == "masked" else [-1, 0, *(BIAS_FRACTION + up for up in (-9, -1, 0, 1, 30))]
    shifts = (-3, 0, 1, 9, 17, 31, 34)
    for i, (n, begins, shift) in enumerate(product(LENGTHS, ((0, 0), (1, 0), (0, 1)), shifts)):
        rows, f = int(random.randint(1, 20)), fs[i % len(fs)]
        w, x = drawn(random, 16, rows * n + begins[0]), drawn(random, 16, n + begins[1])
        x >>= 8 * (i % 3)  # biases weigh
        b = drawn(random, 32, rows)
        b[0] = -(2**31)
        b[1:] >>= random.randint(0, 31, rows - 1)
        sums = (integers(w[begins[0] :]).reshape(rows, n) * integers(x[begins[1] :])).sum(axis=1)
        sums += 0 if f < 0 else rescale(integers(b), BIAS_FRACTION - f)
        mask = random.randint(-1, 2, rows + 1).astype(np.int16)
        out, peak = mask.copy(), np.array([1 << 55], np.uint64)
        facts = [n, rows, *begins, shift, 31 + n.bit_length(), STORED[how], f, *b]
        program.call("t_stored_rows", w, x, np.array(facts, np.int32), out, peak)
        taken = {"sums": sums == sums, "positive": sums > 0, "masked": mask[:rows] > 0}[how]
        want = np.where(taken, narrow(sums, shift, 16), 0)
        want = np.where((want == 0) & taken, 1, want) if how == "positive" else want
        assert out.tolist() == [*want, mask[rows]], (n, begins, shift, f)
        magnitudes = np.where(taken, magnitude(sums), 0)
        assert peak.tolist() == [int(np.bitwise_or.reduce(magnitudes)) | 1 << 55]


@pytest.mark.parametrize("n", [1, 5, 8, 12, 40])
def test_rows_of_small_sums_stay_positive(program: Program, n: int) -> None:
    """What rounds to 0 and is more becomes 1, the sum 0 does not; without biases too."""
    w, x = np.zeros((5, n), np.int16), np.ones(n, np.int16)
    w[:, 0] = [0, 1, -1, 300, 2]
    for how, want in (("positive", [0, 1, 0, 1, 1]), ("sums", [0, 0, 0, 0, 0])):
        for f in (-1, BIAS_FRACTION):
            out, peak = np.full(5, 99, np.int16), np.zeros(1, np.uint64)
            facts = [n, 5, 0, 0, 12, 31 + n.bit_length(), STORED[how], f, *[0] * 5]
            program.call("t_stored_rows", w, x, np.array(facts, np.int32), out, peak)
            assert out.tolist() == want
            assert peak.tolist() == [303]


def summing_to(total: int, n: int) -> np.ndarray:
    """n numbers of 16 bits whose magnitudes add up to `total`, as far as they can, in any order."""
    sizes = [min(max(total - 32767 * i, 0), 32767) for i in range(n)]
    random = np.random.RandomState(total + n)
    numbers: np.ndarray = random.permutation(sizes) * random.choice([-1, 1], n)
    return numbers.astype(np.int16)


@pytest.mark.parametrize("how", ["sums", "positive"])
def test_rows_at_the_limits_of_their_vectors(program: Program, how: str) -> None:
    """Sums of fourths that 32 bits just hold, the longest rows and the longest biases."""
    rows, rails = 5, np.array([-32768, 32767, 32767, -32768, -32768])[:, None]
    fourths = [summing_to(total, 8).reshape(4, 2) for total in range(65522, 65540)]
    lists = [np.tile(fourth, 4).reshape(-1) for fourth in fourths]
    lists += [np.full(n, x, np.int16) for n in (504, 512, 513, 520) for x in (32767, -32767)]
    for i, (x, sign) in enumerate(product(lists, (0, 1))):
        n, f, shift = x.size, BIAS_FRACTION + (0, 22, 23)[i % 3], (9, 24, 30)[i % 3]
        w = np.where((x < 0) & (sign == 0), -1 - rails, rails)  # most products have one sign
        b = np.array([-(2**31), 2**31 - 1, 0, -1, 2**31 - 1])
        sums = (integers(w) * integers(x)).sum(axis=1) + rescale(integers(b), BIAS_FRACTION - f)
        out, peak = np.zeros(rows, np.int16), np.zeros(1, np.uint64)
        facts = [n, rows, 0, 0, shift, 31 + n.bit_length(), STORED[how], f, *b]
        arguments = w.astype(np.int16).reshape(-1), x, np.array(facts, np.int32), out, peak
        program.call("t_stored_rows", *arguments)
        taken, q = sums > 0 if how == "positive" else sums == sums, narrow(sums, shift, 16)
        want = np.where(taken, np.maximum(q, 1) if how == "positive" else q, 0)
        assert out.tolist() == want.tolist(), (n, f)
        assert peak.tolist() == [int(np.bitwise_or.reduce(np.where(taken, magnitude(sums), 0)))]


@pytest.mark.parametrize("n", [2, 3, 8, 10, 32, 33])
def test_columns_of_errors_that_32_bits_just_hold(program: Program, n: int) -> None:
    for total in range(65532 - n, 65540):
        e, mask = summing_to(total, n), np.ones(17, np.int16)
        w = np.where(e[:, None] < 0, 1, -1) * np.array([1, -1] * 8)
        w = np.where(w < 0, -32768, 32767).astype(np.int16)
        sums = (integers(w) * integers(e)[:, None]).sum(axis=0)
        out, peak, list_ = mask[:16].copy(), np.zeros(1, np.uint64), np.zeros(n + 2, np.int32)
        shape = np.array([n, 16, 0, 16, 31 + n.bit_length(), 0], np.int32)
        program.call("t_masked_columns", w.reshape(-1), e, shape, list_, out, peak)
        assert out.tolist() == narrow(sums, 16, 16).tolist(), total
        assert peak.tolist() == [int(np.bitwise_or.reduce(magnitude(sums)))]


# n, columns: as above, and lists of which zeros in a row need more than 16 bits of a distance.
COLUMNS = [(n, n % 23 + 1) for n in LENGTHS] + [(10, c) for c in range(26)]
COLUMNS += [(n, 8) for n in range(1, 20)] + [(9, 8000)] * 4 + [(5, 12002)]


@pytest.mark.parametrize("is_listed", [False, True])
def test_columns_that_are_masked_are_not_stored(program: Program, is_listed: bool) -> None:
    """With any share of zeros among the errors, and of columns that are masked."""
    random = np.random.RandomState(21)
    shifts = (-3, 0, 1, 9, 10, 14, 17, 20, 31, 34)
    for (n, columns), first in product(COLUMNS, (0, 1)):
        w, e = drawn(random, 16, n * columns + first), drawn(random, 16, n)
        e[random.random_sample(n) < random.choice([0, 0.5, 0.8, 1])] = 0
        sums = (integers(w[first:]).reshape(n, columns) * integers(e)[:, None]).sum(axis=0)
        mask = drawn(random, 16, columns + 1)
        mask = abs(mask) if random.randint(3) == 0 else mask
        mask[random.random_sample(columns + 1) < random.choice([0, 0.3, 0.8, 1])] = 0
        taken, shift = mask[:columns] > 0, int(random.choice(shifts))
        out, peak = mask.copy(), np.array([1 << 40], np.uint64)
        list_ = np.full(n + n % 2 + 1, 77, np.int32)
        shape = [n, columns, first, shift, 31 + n.bit_length(), is_listed]
        program.call("t_masked_columns", w, e, np.array(shape, np.int32), list_, out, peak)
        want = np.where(taken, narrow(sums, shift, 16), 0)
        assert out.tolist() == [*want, mask[columns]], shape
        magnitudes = np.where(taken, magnitude(sums), 0)
        assert peak.tolist() == [int(np.bitwise_or.reduce(magnitudes)) | 1 << 40], shape
        assert list_[-1] == 77


def test_narrowing_rounds_and_saturates_for_every_shift(program: Program) -> None:
    random = np.random.RandomState(8)
    words = drawn(random, 32, 2, 100).astype(np.int64)
    v = ((words[0] << 30) + words[1]) >> random.randint(0, 62, 100)
    for shift in range(-150, 151):
        out = np.zeros((v.size, 4), np.int32)
        program.call("t_narrow", v, v.size, shift, out)
        for column, bits in enumerate((8, 16, 32)):
            assert (out[:, column] == narrow(integers(v), shift, bits)).all(), (shift, bits)
        low = integers(v.astype(np.int32))
        assert (out[:, 3] == narrow(low, shift, 32)).all(), shift


def test_settling_32_bits_rounds_once_and_keeps_the_peak(program: Program) -> None:
    acc = drawn(np.random.RandomState(8), 32, 100) >> np.arange(100, dtype=np.int32) % 32
    for shift in (-20, -9, -1, 0, 1, 2, 8, 14, 15, 16, 17, 24, 30, 31, 32, 40):
        out, peak = np.zeros((acc.size, 2), np.int32), np.zeros(2, np.uint32)
        program.call("t_settle32", acc, acc.size, shift, out, peak)
        for column, bits in ((0, 16), (1, 8)):
            assert (out[:, column] == narrow(integers(acc), shift, bits)).all(), shift
        assert peak.tolist() == [int(np.bitwise_or.reduce(magnitude(acc)))] * 2


def test_narrowing_32_bits_rounds_and_saturates(program: Program) -> None:
    v = drawn(np.random.RandomState(10), 32, 100) >> np.arange(100, dtype=np.int32) % 32
    for shift in (-60, -31, -30, -16, -15, -8, -1, 0, 1, 2, 7, 8, 9, 16, 24, 30, 31, 32, 60):
        for bits in (8, 16, 24, 32):
            out = np.zeros(v.size, np.int32)
            program.call("t_narrow32", v, v.size, shift, bits, out)
            assert (out == narrow(integers(v), shift, bits)).all(), (shift, bits)


def test_the_upper_word_of_a_product_is_rounded(program: Program) -> None:
    random = np.random.RandomState(11)
    a, b = drawn(random, 32, 300), magnitude(drawn(random, 32, 300) >> 1).astype(np.int32)
    b[:3] = 0, 1, 2**30
    out = np.zeros(a.size, np.int32)
    program.call("t_high32", a, b, a.size, out)
    assert (out == rescale(integers(a) * integers(b), 32)).all()


def test_a_short_sum_is_rounded_and_takes_a_bias(program: Program) -> None:
    random = np.random.RandomState(9)
    b, draws = drawn(random, 32, 100), drawn(random, 32, 100) >> 1
    for shift in (0, 1, 5, 8, 13, 16, 23):
        sums = (integers(draws) << shift) + random.randint(-(2**shift) // 2, 2**shift // 2 + 1, 100)
        sums = np.clip(sums, -(2 ** (30 + shift)), 2 ** (30 + shift))
        for f in (BIAS_FRACTION - down for down in (0, 1, 7, 8, 16, 30, 31, 32, 50)):
            out = np.zeros(b.size, np.int32)
            program.call("t_short", sums, b, b.size, shift, f, out)
            want = accumulated(Q(sums, f + shift), Q(integers(b), BIAS_FRACTION), shift)
            assert (out == want.q).all(), (shift, f)


def test_a_bias_is_rounded_to_the_exponent_of_the_sum(program: Program) -> None:
    b = drawn(np.random.RandomState(7), 32, 100)
    for f in range(-60, 54):
        out = np.zeros(b.size, np.int64)
        program.call("t_bias", b, b.size, f, out)
        assert (out == rescale(integers(b), BIAS_FRACTION - f)).all(), f


def test_the_rail_is_seen_from_everywhere(program: Program) -> None:
    for n in LENGTHS:
        for value, near in (
            (32255, 0),
            (32256, 1),
            (-32256, 0),
            (-32257, 1),
            (32767, 1),
            (-32768, 1),
        ):
            for at in {0, n // 2, n - 1}:
                w = np.zeros(n, np.int16)
                w[at] = value
                assert program.call("t_near_rail", w, n) == near, (n, value, at)


def test_largest_numbers_of_windows(program: Program) -> None:
    """The first of equal ones counts, and so do the least numbers there are."""
    random = np.random.RandomState(17)
    for count in range(1, 9):
        for rows, columns, wide in (
            (1, 1, 0),
            (1, 3, 2),
            (2, 2, 0),
            (3, 2, 1),
            (3, 3, 0),
            (5, 4, 3),
        ):
            channels, at, pitch = count + count % 3, int(random.randint(2)), columns + 2 * wide
            place = int(random.randint(0, 20))
            numbers = random.choice([-32768, -200, 7, 7, 32767], (rows, columns + wide, channels))
            few = random.choice([-128, -20, 7, 7, 127], numbers.shape).astype(np.int8)
            x = np.concatenate([np.zeros(at), numbers.reshape(-1)]).astype(np.int16)
            facts = [rows, columns, (columns + wide) * channels, channels, place, pitch, count]
            out = np.zeros(7 * count, np.int32)
            program.call("t_largest", x[at:], few.reshape(-1), np.array(facts, np.int32), out)
            want = []
            for v in (numbers, few):
                window = v[:, :columns, :count].reshape(-1, count)
                first = window.argmax(axis=0)
                number = place + first // columns * pitch + first % columns
                want += [window.max(axis=0)] * (2 if v is numbers else 1) + [number, number]
            assert (out == np.concatenate(want)).all(), (count, rows, columns)
