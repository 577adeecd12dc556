"""Rounding, saturation, exponents, random numbers; and fxp.h beside its Python twin.

Accumulators are bounded by 62 bits (passes/quantize.py), so |v| < 2**62 is all there is to narrow.
"""

import ctypes
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codegen import paths
from codegen.fixedpoint import (
    BIAS_FRACTION,
    LEARNING_RATE_FRACTION,
    MAX_FRACTION,
    MAX_RELATIVE_FRACTION,
    MAX_WEIGHT_FRACTION,
    MIN_FRACTION,
    MIN_RELATIVE_FRACTION,
    NO_IDEAL,
    Floats,
    Format,
    Outer,
    Q,
    Random,
    Range,
    Rate,
    bit_length,
    clip_factor,
    decayed,
    dither_of_fold,
    encode_norm,
    encode_rate,
    fold,
    integers,
    learning_rate,
    magnitude,
    narrow,
    norm_of,
    norm_of_outer,
    parse_format,
    quantize,
    rescale,
    saturate,
    squares_shift,
    step24,
    sum_bits,
    table_lookup,
    weight_fraction,
)
from codegen.ops.curves import TANH_TABLE, tanh_int
from codegen.ops.moments import mean, quotient, root_mean_square
from host_sim.compiler import Compiler, build_library

exhaustive = settings(deadline=None, derandomize=True, max_examples=500)
accumulators = st.one_of(
    st.integers(-(2**62) + 1, 2**62 - 1),
    st.integers(-70_000, 70_000),
    st.builds(lambda e, d: max(-(2**62) + 1, min(2**e + d, 2**62 - 1)), st.integers(0, 62),
              st.integers(-2, 2)),
    st.builds(lambda e, d: max(-(2**62) + 1, -(2**e) + d), st.integers(0, 62),
              st.integers(-2, 2)),
)  # fmt: skip
words = st.integers(-(2**15), 2**15 - 1)


def half_up(value: Fraction) -> int:
    """The rounding of this project, exactly."""
    return math.floor(value + Fraction(1, 2))


def scaled(v: int, shift: int) -> Fraction:
    """v * 2**-shift, exactly."""
    return v * Fraction(2) ** -shift


def clamp(v: int, bits: int) -> int:
    return max(-(1 << (bits - 1)), min(v, (1 << (bits - 1)) - 1))


# ---------------------------------------------------------------- rounding and saturation


@exhaustive
@given(accumulators, st.integers(1, 200))
def test_a_right_shift_rounds_half_up(v: int, shift: int) -> None:
    assert int(rescale(v, shift)) == half_up(scaled(v, shift))


@exhaustive
@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 31))
def test_a_left_shift_is_exact(v: int, shift: int) -> None:
    assert int(rescale(v, -shift)) == v << shift


def test_halves_round_upwards_on_both_sides_of_zero() -> None:
    assert rescale([-7, -6, -5, -3, -2, -1, 1, 2, 3, 5], 1).tolist() == [
        *(-3, -3, -2, -1, -1, 0),
        *(1, 1, 2, 3),
    ]


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_saturation_keeps_the_whole_range_and_no_more(bits: int) -> None:
    rail = 2 ** (bits - 1)
    values = [-(2**62), -rail - 1, -rail, -rail + 1, -1, 0, 1, rail - 2, rail - 1, rail, 2**62]
    assert saturate(values, bits).tolist() == [clamp(v, bits) for v in values]


@exhaustive
@given(accumulators, st.integers(-200, 200), st.sampled_from([8, 16, 24, 32]))
def test_narrow_equals_rational_arithmetic_for_every_shift(v: int, shift: int, bits: int) -> None:
    assume(bits < 32 or shift > -bits or abs(v) < 2**31)
    assert int(narrow(v, shift, bits)) == clamp(half_up(scaled(v, shift)), bits)


@pytest.mark.parametrize("bits", [8, 16, 24])
def test_narrow_equals_rational_arithmetic_at_the_rails(bits: int) -> None:
    near = [r + d for r in (0, 2 ** (bits - 1), 2**bits, 2**31, 2**62 - 2) for d in (-1, 0, 1)]
    values = [sign * v for v in near for sign in (1, -1)]
    for shift in range(-70, 71):
        want = [clamp(half_up(scaled(v, shift)), bits) for v in values]
        assert narrow(values, shift, bits).tolist() == want, shift


@pytest.mark.parametrize("v", [2**31, -(2**32), 2**62 - 1])
def test_narrow_to_32_bits_saturates_for_every_left_shift(v: int) -> None:
    """33 bits shifted left by 32 do not fit 64 bits."""
    assert int(narrow(v, -32, 32)) == clamp(v << 32, 32)


@exhaustive
@given(st.integers(-(2**63), 2**63 - 1))
def test_magnitude_exists_for_every_integer_and_has_its_bits(v: int) -> None:
    assert int(magnitude(v)) == (v if v >= 0 else -v - 1)
    bits = bit_length(v)
    assert -(2**bits) <= v < 2**bits
    assert bits == 0 or not -(2 ** (bits - 1)) <= v < 2 ** (bits - 1)


def test_bit_length_is_that_of_the_largest_value() -> None:
    assert bit_length([3, -129, 5]) == 8
    assert bit_length([0, -1]) == 0
    assert bit_length([]) == 0
    assert bit_length([[0, 1], [255, -256]]) == 8


# ---------------------------------------------------------------- formats


@exhaustive
@given(st.integers(-(2**40), 2**40), st.integers(0, 40), st.integers(-8, 23))
def test_quantize_rounds_half_up_and_saturates(numerator: int, scale: int, f: int) -> None:
    value = math.ldexp(numerator, -scale)
    for bits in (8, 16, 32):
        want = clamp(half_up(Fraction(value) * Fraction(2) ** f), bits)
        assert int(quantize(value, f, bits)) == want


def test_a_quantized_number_stands_for_the_number_within_half_a_unit() -> None:
    values = np.random.RandomState(0).uniform(-3.9, 3.9, 1000)
    got = Q(quantize(values, 13, 16), 13).value
    assert np.max(np.abs(got - values)) <= 2.0**-14


def test_an_outer_gradient_stands_for_the_product_of_its_vectors() -> None:
    rows, columns = Q(integers([3, -32768]), 14), Q(integers([-32768, 5, 7]), 15)
    product = Outer(rows, columns).product
    assert np.array_equal(product.value, np.multiply.outer(rows.value, columns.value))


@exhaustive
@given(st.floats(1e-3, 60.0), st.sampled_from([8, 16]))
def test_weights_start_with_one_bit_of_headroom(largest: float, bits: int) -> None:
    """The largest weight is in the upper half of what is left when one bit is kept free."""
    f = weight_fraction([largest / 3, -largest], bits)
    assert f <= MAX_WEIGHT_FRACTION
    assert 2.0 ** (bits - 3) < largest * 2.0**f <= 2.0 ** (bits - 2) or f == MAX_WEIGHT_FRACTION


def test_the_fraction_of_weights_stays_within_its_limits() -> None:
    assert weight_fraction([0.0], 16) == 14
    assert weight_fraction(np.zeros((0, 3)), 16) == 14
    assert weight_fraction([1e-30], 16) == MAX_WEIGHT_FRACTION
    assert weight_fraction([1e30], 16) == MIN_FRACTION
    assert weight_fraction([1.0], 16) == 14
    assert weight_fraction([1.0 + 1e-12], 16) == 13


@exhaustive
@given(st.integers(1, 40), st.integers(0, 60))
def test_q_formats_survive_a_round_trip_through_text(m: int, n: int) -> None:
    parsed = parse_format(str(Format(m, n)))
    assert parsed == Format(m, n)
    assert parsed is not None
    assert parsed.bits == m + n


@pytest.mark.parametrize(
    "text", ["", "Q", "Q3", "Q3.", "Q.12", "Q0.15", "q3.12", "Q-1.4", "Q3,12", " Q3.12", "Q3.12\n"]
)
def test_what_is_no_format_is_none(text: str) -> None:
    assert parse_format(text) is None


@exhaustive
@given(st.integers(1, 30), st.integers(1, 100_000))
def test_sum_bits_is_the_tightest_power_of_two(product_bits: int, terms: int) -> None:
    worst, bits = terms * 2**product_bits, sum_bits(product_bits, terms)
    assert 2 ** (bits - 1) < worst <= 2**bits


@exhaustive
@given(st.lists(words, min_size=2, max_size=9), st.integers(1, 12), st.data())
def test_a_table_is_interpolated_linearly_and_rounded_half_up(
    table: list[int], step_bits: int, data: st.DataObject
) -> None:
    v = data.draw(st.integers(0, (len(table) - 1) * 2**step_bits - 1))
    index, rest = divmod(v, 2**step_bits)
    slope = Fraction(table[index + 1] - table[index], 2**step_bits)
    got = int(table_lookup(table, integers(v), step_bits))
    assert got == table[index] + half_up(slope * rest)


# ---------------------------------------------------------------- exponents that follow


def followed(range_: Range, ideals: list[int], *, errors: bool = False) -> list[int]:
    """The exponent after each sample."""
    trace = []
    for ideal in ideals:
        range_.adapt_errors(ideal) if errors else range_.adapt_values(ideal)
        trace.append(range_.f)
    return trace


def test_an_exponent_falls_at_once_to_what_a_value_needs() -> None:
    assert followed(Range(10), [10, 7, 7, 3]) == [10, 7, 7, 3]


def test_an_exponent_of_errors_falls_one_bit_further() -> None:
    assert followed(Range(0), [-3, -4, -5, -6], errors=True) == [-4, -4, -6, -6]


def test_an_exponent_rises_after_a_window_in_which_no_value_needed_it() -> None:
    assert followed(Range(5), [9] * 200 + [8] + [9] * 54) == [5] * 254 + [8]
    assert followed(Range(-5), [-1] * 63 + [-2], errors=True) == [-5] * 63 + [-3]


def test_one_value_in_a_window_keeps_the_exponent() -> None:
    assert followed(Range(5), [9] * 100 + [5] + [9] * 154 + [9] * 255) == [5] * 509 + [9]


def test_an_exponent_of_errors_does_not_rise_by_its_margin_alone() -> None:
    assert followed(Range(-5), [-5] * 64 + [-4] * 64, errors=True) == [-5] * 128


def test_a_window_starts_anew_after_a_fall() -> None:
    range_ = Range(5)
    followed(range_, [9] * 254 + [4])
    assert range_ == Range(4, NO_IDEAL, 0)
    assert followed(range_, [9] * 255) == [4] * 254 + [9]


def test_a_tensor_of_zeros_says_nothing_about_its_range() -> None:
    range_ = Range(5, 7, 254)
    followed(range_, [NO_IDEAL] * 300)
    followed(range_, [NO_IDEAL] * 300, errors=True)
    assert range_ == Range(5, 7, 254)


def test_exponents_stay_within_their_limits() -> None:
    assert followed(Range(0), [-100] + [100] * 255)[::255] == [MIN_FRACTION, MAX_FRACTION]
    trace = followed(Range(0), [-100] + [100] * 64, errors=True)
    assert trace[::64] == [MIN_RELATIVE_FRACTION, MAX_RELATIVE_FRACTION - 1]


@exhaustive
@given(st.lists(st.integers(-90, 90), max_size=300), st.integers(-8, 23))
def test_after_a_sample_its_exponent_would_have_fitted(ideals: list[int], start: int) -> None:
    range_ = Range(start)
    for ideal in ideals:
        range_.adapt_values(ideal)
        assert MIN_FRACTION <= range_.f <= max(ideal, MIN_FRACTION)


# ---------------------------------------------------------------- learning rates


@exhaustive
@given(st.integers(0, 2**32 - 1), st.integers(1, 256))
def test_a_rate_is_within_2_to_the_minus_8_of_its_share_of_the_batch(
    fixed: int, batch: int
) -> None:
    """m >= 128 is rounded by half a unit at most; 40 fraction bits of the share were cut."""
    exact = Fraction(fixed, batch * 2**LEARNING_RATE_FRACTION)
    rate = encode_rate(fixed, batch)
    assert (128 <= rate.m <= 255) == (fixed > 0)
    assert abs(rate.m * Fraction(2) ** -rate.s - exact) <= exact / 2**8 + Fraction(1, 2**40)
    assert -128 <= rate.s <= 127


@exhaustive
@given(st.floats(2.0**-12, 255.0), st.integers(1, 256))
def test_a_learning_rate_in_floats_keeps_8_bits(rate: float, batch: int) -> None:
    """24 fraction bits cost half of 2**-24, which is 2**-13 of the smallest rate drawn here."""
    got = learning_rate(rate, batch).value
    assert abs(got - rate / batch) <= rate / batch * (2.0**-8 + 2.0**-12)


def test_learning_rates_at_the_edges_of_their_codes() -> None:
    assert learning_rate(0.0) == Rate(0, 0)
    assert learning_rate(2.0**-26) == Rate(0, 0)
    assert learning_rate(1.0) == Rate(128, 7)
    assert learning_rate(1.0, 2) == Rate(128, 8)
    assert learning_rate(255 / 256) == Rate(255, 8)
    assert learning_rate(511.4 / 512) == Rate(128, 7)
    assert learning_rate(2.0**-24) == Rate(128, 31)
    assert learning_rate(1e9) == Rate(128, -1)


# ---------------------------------------------------------------- random numbers


def linear_power(columns: list[int], exponent: int) -> list[int]:
    """A power of a matrix over GF(2), which is given by the images of 1, 2, 4, ..."""

    def apply(matrix: list[int], v: int) -> int:
        result = 0
        for i in range(32):
            result ^= matrix[i] if v >> i & 1 else 0
        return result

    result = [1 << i for i in range(32)]
    while exponent:
        if exponent & 1:
            result = [apply(columns, v) for v in result]
        columns, exponent = [apply(columns, v) for v in columns], exponent >> 1
    return result


def test_the_generator_visits_every_state_but_zero() -> None:
    """It is linear over GF(2); its order is 2**32 - 1, so no state but 0 leads to 0."""
    step = [Random(1 << i).draw() for i in range(32)]
    identity, period = [1 << i for i in range(32)], 2**32 - 1
    assert linear_power(step, period) == identity
    for prime in (3, 5, 17, 257, 65537):
        assert linear_power(step, period // prime) != identity, prime


def test_the_generator_never_reaches_zero_and_is_linear() -> None:
    random, other = Random(0x6D637567), Random(1)
    for _ in range(10_000):
        a, b = random.state, other.state
        assert Random(a ^ b).draw() == random.draw() ^ other.draw()
        assert 0 < random.state <= 0xFFFFFFFF


def test_the_first_words_of_the_generator_are_those_of_the_paper() -> None:
    """Marsaglia, Xorshift RNGs (2003), section 3: y = 2463534242 with 13, 17, 5."""
    random = Random(2463534242)
    assert [random.draw() for _ in range(3)] == [723471715, 2497366906, 2064144800]


# ---------------------------------------------------------------- folding the rate into an error


class Counted(Random):
    """Hands out given words, and counts them."""

    def __init__(self, words: list[int]):
        super().__init__(1)
        self.words, self.used = words, 0

    def draw(self) -> int:
        self.used += 1
        return self.words[self.used - 1]


@pytest.mark.parametrize("k", range(1, 11))
def test_a_folded_error_is_unbiased_over_all_draws(k: int) -> None:
    """floor((p + u) / 2**k) summed over u = 0 .. 2**k - 1 is p (Hermite), with p = -error * m."""
    for error, m in ((1, 128), (-1, 255), (77, 131), (-32, 200), (127, 255), (-128, 255)):
        words = Counted([u << (32 - k) for u in range(2**k)])
        values = [fold(error, Rate(m, 8), k, words) for _ in range(2**k)]
        if not {-(2**15), 2**15 - 1} & set(values):
            assert sum(values) == -error * m
        assert words.used == 2**k


@pytest.mark.parametrize("k", [1, 4, 12, 20, 24])
def test_a_folded_error_is_unbiased_with_the_real_generator(k: int) -> None:
    """A mean of n values, each one of two neighbours, has a deviation of 0.5 / sqrt(n) at most."""
    n, random = 20_000, Random(0x6D637567)
    for error, m in ((3, 200), (-5, 129)):
        mean = np.mean([fold(error, Rate(m, 8), k, random) for _ in range(n)])
        assert abs(mean + error * m / 2**k) <= 5 * 0.5 / math.sqrt(n)


@pytest.mark.parametrize("k", [1, 4, 8, 12, 15, 16, 18, 20, 24])
def test_a_row_is_unbiased_though_one_draw_rounds_its_rate_and_its_products(k: int) -> None:
    """A change is one of two neighbours of a product of a fold, which is one of two neighbours
    itself: with |x| <= 2**15 its deviation is at most 0.5 + 0.25. The upper half of the draw, which
    has folded too, would be off by up to 12 of what is allowed here.
    """
    n, random = 20_000, Random(0x6D637567)
    for error, m, x in ((3, 200, 32767), (-5, 129, 12345), (77, 255, -20000)):
        changes = []
        for _ in range(n):
            factor = fold(error, Rate(m, 8), k, random)
            changes.append((factor * x + dither_of_fold(k, random)) >> 16 if factor else 0)
        assert abs(np.mean(changes) + error * m * x / 2 ** (k + 16)) <= 5 * 0.75 / math.sqrt(n)


@exhaustive
@given(words, st.integers(128, 255), st.integers(-60, 60), st.integers(0, 2**32 - 1))
def test_a_folded_error_is_within_one_unit_and_saturates(
    error: int, m: int, k: int, word: int
) -> None:
    got = fold(error, Rate(m, 8), k, Counted([word]))
    exact = scaled(-error * m, k)
    low, high = (math.floor(exact), math.ceil(exact)) if k <= 30 else (0, 0)
    assert clamp(low, 16) <= got <= clamp(high, 16)


def test_no_draw_is_used_where_nothing_is_rounded() -> None:
    for error, k in ((0, 5), (0, -5), (9, 31), (9, 200), (9, 0), (9, -1), (-32768, -200)):
        random = Counted([])
        fold(error, Rate(200, 8), k, random)
        assert random.used == 0, (error, k)
    for k in range(1, 31):
        random = Counted([0])
        fold(-3, Rate(200, 8), k, random)
        assert random.used == 1, k


@exhaustive
@given(words, st.integers(-60, 60))
def test_a_step_from_a_summed_gradient_is_rounded_half_up_to_24_bits(g: int, k: int) -> None:
    assert int(step24(integers(g), k)) == clamp(half_up(scaled(-g, k)), 24)


# ---------------------------------------------------------------- fxp.h, the twin

HARNESS = r"""
#include "fxp.h"

#define EACH(n) for (int32_t i = 0; i < (n); i++)

void h_rescale(const int64_t *v, const int32_t *shift, int64_t *out, int32_t n);
void h_narrow(const int64_t *v, const int32_t *shift, int32_t bits, int64_t *out, int32_t n);
void h_saturate(const int64_t *v, int64_t *out8, int64_t *out16, int64_t *out32, int32_t n);
void h_magnitude(const int64_t *v, int64_t *out, int64_t *bits, int32_t n);
void h_describe(const int64_t *peak, int32_t base, int32_t bits, int32_t f, int64_t *out, int32_t n);
void h_draw(uint32_t *state, int64_t *out, int32_t n);
void h_fold(const int32_t *e, const int32_t *m, const int32_t *k, uint32_t *state, int64_t *out,
            int32_t n);
void h_step24(const int32_t *g, const int32_t *k, int64_t *out, int32_t n);
void h_learning_rate(const uint32_t *rate, const int32_t *batch, int64_t *m, int64_t *s, int32_t n);
void h_tanh(const uint16_t *table, const int64_t *v, const int32_t *f, int64_t *out, int32_t n);
void h_adapt(int32_t errors, int32_t start, const int32_t *ideal, int64_t *out, int32_t n);
void h_halve(int16_t *wide, int8_t *slim, int32_t n);
int32_t h_near_rail(const int16_t *wide, const int8_t *slim, int32_t n);
void h_sqrt(const uint32_t *v, int64_t *out, int32_t n);
void h_mean(const int16_t *m, const int32_t *g, int32_t beta, const int32_t *dither, int64_t *out,
            int32_t n);
void h_root(const int16_t *root, const int32_t *g, int32_t beta, const uint32_t *dither,
            int64_t *out, int32_t n);
void h_quotient(const int32_t *a, const int32_t *b, int64_t *out, int32_t n);
void h_clip(const uint64_t *squares, const int32_t *f, uint32_t r, int32_t most_f, int64_t *out,
            int32_t n);
void h_clip_outer(const int16_t *rows, const int16_t *columns, int32_t f, uint32_t r,
                  int32_t most_f, int64_t *out, int32_t n);
void h_decay(int16_t *wide, int8_t *slim, uint32_t m, int32_t s, uint32_t *random, int32_t n);

void h_rescale(const int64_t *v, const int32_t *shift, int64_t *out, int32_t n)
{
    EACH(n) { out[i] = fxp_rescale(v[i], shift[i]); }
}

void h_narrow(const int64_t *v, const int32_t *shift, int32_t bits, int64_t *out, int32_t n)
{
    EACH(n)
    {
        out[i] = fxp_narrow(v[i], shift[i], bits);
    }
}

void h_saturate(const int64_t *v, int64_t *out8, int64_t *out16, int64_t *out32, int32_t n)
{
    EACH(n) {
        out8[i] = fxp_sat8((int32_t)v[i]);
        out16[i] = fxp_sat16((int32_t)v[i]);
        out32[i] = fxp_sat32(v[i] * 1024);
    }
}

void h_magnitude(const int64_t *v, int64_t *out, int64_t *bits, int32_t n)
{
    EACH(n) {
        out[i] = (int64_t)fxp_magnitude(v[i]);
        bits[i] = fxp_bit_length(fxp_magnitude(v[i]));
    }
}

void h_describe(const int64_t *peak, int32_t base, int32_t bits, int32_t f, int64_t *out, int32_t n)
{
    EACH(n) {
        const fxp_scale scale = fxp_describe((uint64_t)peak[i], base, bits, f);
        out[3 * i] = scale.f;
        out[3 * i + 1] = scale.ideal;
        out[3 * i + 2] = fxp_exact_shift((uint64_t)peak[i], bits);
    }
}

void h_draw(uint32_t *state, int64_t *out, int32_t n)
{
    EACH(n) { out[i] = fxp_draw(state); }
}

void h_fold(const int32_t *e, const int32_t *m, const int32_t *k, uint32_t *state, int64_t *out,
            int32_t n)
{
    EACH(n) {
        const fxp_rate rate = {(uint8_t)m[i], 8};
        out[2 * i] = fxp_fold((int16_t)e[i], rate, k[i], state);
        out[2 * i + 1] = *state;
    }
}

void h_step24(const int32_t *g, const int32_t *k, int64_t *out, int32_t n)
{
    EACH(n) { out[i] = fxp_step24(g[i], k[i]); }
}

void h_learning_rate(const uint32_t *rate, const int32_t *batch, int64_t *m, int64_t *s, int32_t n)
{
    EACH(n) {
        const fxp_rate result = fxp_learning_rate(rate[i], (unsigned)batch[i]);
        m[i] = result.m;
        s[i] = result.s;
    }
}

void h_tanh(const uint16_t *table, const int64_t *v, const int32_t *f, int64_t *out, int32_t n)
{
    EACH(n) { out[i] = fxp_tanh(table, v[i], f[i]); }
}

void h_adapt(int32_t errors, int32_t start, const int32_t *ideal, int64_t *out, int32_t n)
{
    fxp_range range = {(int8_t)start, FXP_NO_IDEAL, 0};
    EACH(n) {
        if (errors) {
            fxp_adapt_errors(&range, ideal[i]);
        } else {
            fxp_adapt_values(&range, ideal[i]);
        }
        out[3 * i] = range.f;
        out[3 * i + 1] = range.best;
        out[3 * i + 2] = range.count;
    }
}

void h_halve(int16_t *wide, int8_t *slim, int32_t n)
{
    fxp_halve16(wide, n);
    fxp_halve8(slim, n);
}

int32_t h_near_rail(const int16_t *wide, const int8_t *slim, int32_t n)
{
    return fxp_near_rail16(wide, n) * 2 + fxp_near_rail8(slim, n);
}

void h_sqrt(const uint32_t *v, int64_t *out, int32_t n)
{
    EACH(n) { out[i] = fxp_sqrt(v[i]); }
}

void h_mean(const int16_t *m, const int32_t *g, int32_t beta, const int32_t *dither, int64_t *out,
            int32_t n)
{
    EACH(n) { out[i] = fxp_mean(m[i], g[i], beta, dither[i]); }
}

void h_root(const int16_t *root, const int32_t *g, int32_t beta, const uint32_t *dither,
            int64_t *out, int32_t n)
{
    EACH(n) { out[i] = fxp_root_mean_square(root[i], g[i], beta, dither[i]); }
}

void h_quotient(const int32_t *a, const int32_t *b, int64_t *out, int32_t n)
{
    EACH(n) { out[i] = fxp_quotient(a[i], b[i]); }
}

void h_clip(const uint64_t *squares, const int32_t *f, uint32_t r, int32_t most_f, int64_t *out,
            int32_t n)
{
    EACH(n) { out[i] = fxp_clip(fxp_norm_of(squares[i], f[i]), r, most_f); }
}

void h_clip_outer(const int16_t *rows, const int16_t *columns, int32_t f, uint32_t r,
                  int32_t most_f, int64_t *out, int32_t n)
{
    EACH(n) {
        const fxp_norm a = fxp_norm_of(fxp_squares16(&rows[i * 4], 4), f);
        const fxp_norm b = fxp_norm_of(fxp_squares16(&columns[i * 4], 4), 15);
        out[i] = fxp_clip(fxp_norm_of_outer(a, b), r, most_f);
    }
}

void h_decay(int16_t *wide, int8_t *slim, uint32_t m, int32_t s, uint32_t *random, int32_t n)
{
    const fxp_rate rate = {(uint8_t)m, (int8_t)s};
    fxp_decay16(wide, n, rate, 1, 0, random);
    fxp_decay8(slim, n, rate, 1, 0, random);
}
"""


@pytest.fixture(params=["-O0", "-O3", "-DFXP_DIVIDES=0"])
def fxp(system_compiler: Compiler, request: pytest.FixtureRequest) -> ctypes.CDLL:
    """fxp.h, each function over arrays, compiled with all warnings as errors."""
    header = (paths.RUNTIME / "fxp.h").read_text(encoding="utf-8")
    compiler = replace(system_compiler, flags=("-std=c99", request.param))
    return ctypes.CDLL(str(build_library({"fxp.h": header, "harness.c": HARNESS}, compiler)))


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.c_void_p)


def c(values: object, type: str = "int64") -> np.ndarray:
    return np.ascontiguousarray(values, dtype=type)


def empty(n: int) -> np.ndarray:
    return np.full(n, 77, np.int64)


def wide_numbers(count: int, limit: int = 62) -> np.ndarray:
    """Integers of all lengths below `limit` bits, and the neighbours of all powers of two."""
    random = np.random.RandomState(1)
    lengths = random.randint(1, limit, count)
    values = [int(random.randint(0, 2**62)) >> (62 - int(n)) for n in lengths]
    powers = [2**e + d for e in range(limit) for d in (-1, 0, 1)]
    both = [sign * v for v in (*values, *powers) for sign in (1, -1)]
    return integers(both)


def same(got: np.ndarray, want: list[int] | np.ndarray, *inputs: np.ndarray) -> None:
    """Equality that names the first inputs on which the C differs from Python."""
    want = np.asarray(want, np.int64).reshape(got.shape)
    for i in np.flatnonzero((got != want).reshape(len(inputs[0]), -1).any(axis=1))[:1]:
        got, want = got.reshape(len(inputs[0]), -1), want.reshape(len(inputs[0]), -1)
        pytest.fail(
            f"{[int(v[i]) for v in inputs]}: C {got[i].tolist()}, Python {want[i].tolist()}"
        )


def test_fxp_rescale_is_its_twin(fxp: ctypes.CDLL) -> None:
    v = wide_numbers(2000)
    for shift in (*range(-10, 70), 127, 1000):
        fitting = c(v[np.abs(v) < 2**52] if shift < 0 else v)
        out, shifts = empty(fitting.size), c(np.full(fitting.size, shift), type="int32")
        fxp.h_rescale(pointer(fitting), pointer(shifts), pointer(out), fitting.size)
        same(out, rescale(fitting, shift), fitting, shifts)


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
def test_fxp_narrow_is_its_twin(fxp: ctypes.CDLL, bits: int) -> None:
    v = wide_numbers(2000)
    for shift in (-1000, -128, *range(-65, 70), 127, 1000):
        fitting = c(v[np.abs(v) < 2**31] if shift <= -32 == -bits else v)
        out, shifts = empty(fitting.size), c(np.full(fitting.size, shift), type="int32")
        fxp.h_narrow(pointer(fitting), pointer(shifts), bits, pointer(out), fitting.size)
        same(out, narrow(fitting, shift, bits), fitting, shifts)


def test_fxp_sat_is_its_twin(fxp: ctypes.CDLL) -> None:
    v = wide_numbers(1000, 31)
    outs = [empty(v.size) for _ in range(3)]
    fxp.h_saturate(pointer(v), *map(pointer, outs), v.size)
    for out, bits, values in zip(outs, (8, 16, 32), (v, v, v * 1024), strict=True):
        same(out, saturate(values, bits), values)


def test_fxp_magnitude_and_bit_length_are_their_twins(fxp: ctypes.CDLL) -> None:
    v = c([*wide_numbers(2000), 2**63 - 1, -(2**63), 0, -1])
    out, bits = empty(v.size), empty(v.size)
    fxp.h_magnitude(pointer(v), pointer(out), pointer(bits), v.size)
    same(out, magnitude(v), v)
    same(bits, [bit_length(x) for x in v], v)


def test_fxp_describe_says_what_would_have_fitted(fxp: ctypes.CDLL) -> None:
    """`peak` stored with the ideal exponent fits, with one bit more it does not."""
    peak = magnitude(wide_numbers(300))
    for bits, base, f in ((8, 30, 5), (16, 37, -8), (15, 0, 3)):
        out = empty(3 * peak.size)
        fxp.h_describe(pointer(peak), base, bits, f, pointer(out), peak.size)
        for p, (own, ideal, shift) in zip(peak.tolist(), out.reshape(-1, 3).tolist(), strict=True):
            assert own == f
            assert shift == max(-8, p.bit_length() - bits + 1)
            if p == 0:
                assert ideal == NO_IDEAL
                continue
            assert math.floor(scaled(p, base - ideal)) < 2 ** (bits - 1)
            assert math.floor(scaled(p, base - ideal - 1)) >= 2 ** (bits - 1)


def test_fxp_draw_is_its_twin(fxp: ctypes.CDLL) -> None:
    for seed in (1, 2463534242, 0x6D637567, 0xFFFFFFFF):
        state, out, random = c([seed], type="uint32"), empty(1000), Random(seed)
        fxp.h_draw(pointer(state), pointer(out), 1000)
        same(out, [random.draw() for _ in range(1000)], out)


def test_fxp_fold_is_its_twin_and_uses_the_same_draws(fxp: ctypes.CDLL) -> None:
    r = np.random.RandomState(2)
    n = 20_000
    extremes = r.choice([-32768, -32767, -1, 0, 1, 32767], n)
    e = c(np.where(r.rand(n) < 0.3, extremes, r.randint(-32768, 32768, n)), type="int32")
    m = c(
        np.where(r.rand(n) < 0.2, r.choice([0, 128, 255], n), r.randint(128, 256, n)), type="int32"
    )
    k = c(np.where(r.rand(n) < 0.2, r.randint(-200, 200, n), r.randint(-20, 34, n)), type="int32")
    state, out, random = c([99], type="uint32"), empty(2 * n), Random(99)
    fxp.h_fold(pointer(e), pointer(m), pointer(k), pointer(state), pointer(out), n)
    want = []
    for error, rate, bits in zip(e.tolist(), m.tolist(), k.tolist(), strict=True):
        want += [fold(error, Rate(rate, 8), bits, random), random.state]
    same(out, want, e, m, k)


def test_fxp_step24_is_its_twin(fxp: ctypes.CDLL) -> None:
    r = np.random.RandomState(3)
    g = c([*r.randint(-32768, 32768, 500), -32768, 32767, 0, 2**30, -(2**30)], type="int32")
    for step in (-1000, *range(-64, 64), 1000):
        k, out = c(np.full(g.size, step), type="int32"), empty(g.size)
        fxp.h_step24(pointer(g), pointer(k), pointer(out), g.size)
        same(out, step24(integers(g), step), g, k)


def test_fxp_learning_rate_is_its_twin(fxp: ctypes.CDLL) -> None:
    r = np.random.RandomState(4)
    rates = [
        0,
        1,
        2,
        3,
        2**32 - 1,
        2**32 - 2,
        *(2**e + d for e in range(1, 32) for d in (-1, 0, 1)),
    ]
    rates += (r.randint(0, 2**32, 3000, dtype=np.int64) >> r.randint(0, 32, 3000)).tolist()
    rate = c(rates * 2, type="uint32")
    batch = c([1] * len(rates) + r.randint(1, 257, len(rates)).tolist(), type="int32")
    m, s = empty(rate.size), empty(rate.size)
    fxp.h_learning_rate(pointer(rate), pointer(batch), pointer(m), pointer(s), rate.size)
    want = [encode_rate(a, b) for a, b in zip(rate.tolist(), batch.tolist(), strict=True)]
    same(m, [w.m for w in want], rate, batch)
    same(s, [w.s for w in want], rate, batch)


def test_fxp_tanh_is_its_twin(fxp: ctypes.CDLL) -> None:
    table = c(TANH_TABLE, type="uint16")
    v = c([*wide_numbers(500), *range(-300_000, 300_000, 101)])
    for fraction in (-16, -1, 0, 7, 14, 15, 16, 22, 30, 38, 46, 61, 80):
        f, out = c(np.full(v.size, fraction), type="int32"), empty(v.size)
        fxp.h_tanh(pointer(table), pointer(v), pointer(f), pointer(out), v.size)
        same(out, tanh_int(v, fraction), v, f)


@pytest.mark.parametrize("errors", [False, True])
def test_fxp_adapt_is_its_twin(fxp: ctypes.CDLL, errors: bool) -> None:
    r = np.random.RandomState(5)
    for start in (-8, 0, 8, 23):
        level = np.repeat(r.randint(-70, 30, 40), r.randint(1, 600, 40))
        ideal = c(level + r.randint(0, 3, level.size), type="int32")
        ideal[r.rand(level.size) < 0.05] = NO_IDEAL
        out, range_, want = empty(3 * ideal.size), Range(start), []
        fxp.h_adapt(int(errors), start, pointer(ideal), pointer(out), ideal.size)
        for value in ideal.tolist():
            range_.adapt_errors(value) if errors else range_.adapt_values(value)
            want += [range_.f, range_.best, range_.count]
        same(out, want, ideal)


def test_fxp_halves_weights_and_knows_their_rails(fxp: ctypes.CDLL) -> None:
    wide = np.arange(-32768, 32768, dtype=np.int16)
    slim = np.tile(np.arange(-128, 128, dtype=np.int8), 256)
    want = rescale(wide, 1), rescale(slim, 1)
    fxp.h_halve(pointer(wide), pointer(slim), wide.size)
    same(integers(wide), want[0], want[0])
    same(integers(slim), want[1], want[1])
    for bits, place in ((16, 2), (8, 1)):
        rail = 2 ** (bits - 1) - 2 ** (bits - 7)
        for value, near in ((rail, 1), (rail - 1, 0), (-rail - 1, 1), (-rail, 0)):
            wide[:3] = 0, value if bits == 16 else 0, 0
            slim[:3] = 0, value if bits == 8 else 0, 0
            got = fxp.h_near_rail(pointer(wide), pointer(slim), 3)
            assert got == near * place, (bits, value)


def test_fxp_sqrt_is_the_root_below(fxp: ctypes.CDLL) -> None:
    r = np.random.RandomState(6)
    roots = np.concatenate([np.arange(300), r.randint(0, 2**16, 2000), [2**16 - 1]])
    v = c([*(roots**2), *(roots**2 + 2 * roots), 2**32 - 1], type="uint32")
    out = empty(v.size)
    fxp.h_sqrt(pointer(v), pointer(out), v.size)
    same(out, [math.isqrt(int(x)) for x in v], v)


def test_fxp_running_means_are_their_twins(fxp: ctypes.CDLL) -> None:
    r = np.random.RandomState(7)
    n = 5000
    m = c(r.randint(-(2**15), 2**15, n) >> r.randint(0, 16, n), type="int16")
    root = c(r.randint(0, 2**15, n) >> r.randint(0, 15, n), type="int16")
    g = c(r.randint(-(2**21), 2**21, n) >> r.randint(0, 22, n), type="int32")
    m[:2], root[:2], g[:2] = (-(2**15), 2**15 - 1), (0, 2**15 - 1), (-(2**21), 2**21 - 1)
    g[n // 2 :] = root[n // 2 :] * 8 * (1 + r.randint(-9, 9, n - n // 2) / 8)  # near the old root
    low, high = c(r.randint(0, 2**15, n), type="int32"), c(r.randint(0, 2**16, n), type="uint32")
    out = empty(n)
    for beta in (0, 1, 29491, 2**15 - 1):
        fxp.h_mean(pointer(m), pointer(g), beta, pointer(low), pointer(out), n)
        same(out, mean(integers(m), integers(g), beta, integers(low)), m, g)
    for beta in (0, 1, 1047527, 2**20 - 1):
        fxp.h_root(pointer(root), pointer(g), beta, pointer(high), pointer(out), n)
        same(out, root_mean_square(integers(root), integers(g), beta, integers(high)), root, g)


def test_fxp_quotient_is_its_twin(fxp: ctypes.CDLL) -> None:
    r = np.random.RandomState(8)
    a = c(r.randint(-(2**30), 2**30, 5000) >> r.randint(0, 31, 5000), type="int32")
    b = c(r.randint(1, 2**16, 5000) >> r.randint(0, 2, 5000) | 1, type="int32")
    a[:2] = -(2**30), 2**30
    out = empty(a.size)
    fxp.h_quotient(pointer(a), pointer(b), pointer(out), a.size)
    same(out, quotient(integers(a), integers(b)), a, b)


def test_a_norm_has_14_bits_and_clips_as_floats_do(fxp: ctypes.CDLL) -> None:
    """A sum of squares loses 2**-30, its root 2**-15, the product of two roots 2**-14 in all."""
    r = np.random.RandomState(9)
    vectors = r.randint(-(2**15), 2**15, (500, 2, 4)) >> r.randint(0, 15, (500, 2, 1))
    vectors[0] = 0
    vectors[1] = -(2**15)
    rows, columns = (c(vectors[:, i].reshape(-1), type="int16") for i in (0, 1))
    squares = c((vectors[:, 0].astype(np.int64) ** 2).sum(axis=1), type="uint64")
    out = empty(len(vectors))
    for f, longest in ((12, 1.0), (15, 0.03), (3, 777.7), (40, 1e-9)):
        most = encode_norm(longest)
        assert most.r * 2.0**-most.f == pytest.approx(longest, rel=2.0**-16)
        fraction = c(np.full(len(vectors), f), type="int32")
        fxp.h_clip(pointer(squares), pointer(fraction), most.r, most.f, pointer(out), out.size)
        norms = [norm_of(Q(integers(v), f)) for v in vectors[:, 0]]
        same(out, [clip_factor(norm, most) for norm in norms], squares)
        exact = np.ldexp(np.sqrt(squares.astype(float)), -f)
        assert out / 2**16 == pytest.approx(clips(exact, longest), rel=2.0**-14, abs=2.0**-16)
        arguments = (pointer(rows), pointer(columns), f, most.r, most.f, pointer(out), out.size)
        fxp.h_clip_outer(*arguments)
        outer = [Outer(Q(integers(v[0]), f), Q(integers(v[1]), 15)) for v in vectors]
        same(out, [clip_factor(norm_of_outer(o), most) for o in outer], squares)
        exact = np.array([np.linalg.norm(o.product.value) for o in outer])
        assert out / 2**16 == pytest.approx(clips(exact, longest), rel=2.0**-12, abs=2.0**-16)


def clips(norm: Floats, longest: float) -> Floats:
    factors: Floats = np.minimum(1, longest / np.maximum(norm, 1e-300))
    return factors


def test_squares_of_shifted_numbers_fit_62_bits() -> None:
    for bits in (15, 23, 30, 31):
        for count in (1, 2, 3, 4, 5, 1000, 2**16, 2**20 + 1):
            shift = squares_shift(bits, count)
            assert count * 2 ** (2 * (bits - shift)) <= 2**62
            assert shift == 0 or count * 2 ** (2 * (bits - shift + 1)) > 2**60


def test_weights_decay_by_their_share_without_bias(fxp: ctypes.CDLL) -> None:
    w = np.arange(-32768, 32768)
    for m, s in ((0, 0), (128, 40), (200, 31), (255, 32), (131, 14), (255, 8), (200, 3)):
        share, state = Rate(m, s), Random(0x6D637567)
        wide = c(w, type="int16")
        slim = np.tile(np.arange(-128, 128, dtype=np.int8), 256)
        slim_before = integers(slim)
        word = np.array([state.state], np.uint32)
        fxp.h_decay(pointer(wide), pointer(slim), m, s, pointer(word), wide.size)
        same(integers(wide), decayed(integers(w), share, state), w)
        same(integers(slim), decayed(slim_before, share, state), slim_before)
        assert int(word[0]) == state.state
        exact = 0.0 if m == 0 or s > 32 else min(m * 2.0**-s, 255 / 256)
        error = wide - w * (1 - exact)
        assert np.max(np.abs(error)) < 1
        assert abs(np.mean(error)) <= 2 / 256  # a Weyl sequence is even


def test_the_header_states_the_same_constants() -> None:
    header = (paths.RUNTIME / "fxp.h").read_text(encoding="utf-8")
    assert f"#define FXP_BIAS_FRACTION {BIAS_FRACTION} " in header
    assert f"#define FXP_NO_IDEAL {NO_IDEAL} " in header
