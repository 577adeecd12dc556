"""Numbers in, fixed-point numbers out: the Python twin of firmware/runtime/fxp.h.

A value is q * 2**-f: an integer q with f fraction bits. Right shifts are arithmetic. Whatever is
narrowed is rounded once (half up) and saturated once to the full two's complement range.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Array = NDArray[Any]  # either

# Limits of the exponents that adapt while the network learns.
MIN_FRACTION = -8
MAX_FRACTION = 23
MAX_WEIGHT_FRACTION = 22
BIAS_FRACTION = 22
BIAS_LIMIT = 1 << (31 - BIAS_FRACTION)  # no bias reaches it
LOSS_FRACTION = 20
LEARNING_RATE_FRACTION = 24
NO_IDEAL = 127  # of a tensor that is all zeros: it says nothing about its range
MAX_RELATIVE_FRACTION = 8  # an error keeps at most 8 bits more than its accumulator has
MIN_RELATIVE_FRACTION = -64


@dataclass(frozen=True)
class Q:
    """Integers `q` with `f` fraction bits."""

    q: Ints
    f: int

    @property
    def value(self) -> Floats:
        """The numbers these integers stand for."""
        return np.ldexp(self.q.astype(np.float64), -self.f)

    def reshape(self, shape: tuple[int, ...]) -> "Q":
        return Q(self.q.reshape(shape), self.f)


@dataclass(frozen=True)
class Outer:
    """A weight gradient that is the outer product of `rows` and `columns` and is never formed."""

    rows: Q
    columns: Q

    @property
    def product(self) -> Q:
        q = np.multiply.outer(self.rows.q, self.columns.q)
        return Q(q, self.rows.f + self.columns.f)


def integers(values: Any) -> Ints:
    return np.asarray(values, dtype=np.int64)


def rescale(v: Any, shift: int) -> Ints:
    """v * 2**-shift, rounded half up. Left shifts are exact; the caller knows that they fit."""
    v = integers(v)
    if shift <= 0:
        return integers(v << -shift)
    if shift > 62:
        return np.zeros_like(v)
    return integers((v + (np.int64(1) << np.int64(shift - 1))) >> np.int64(shift))


def saturate(v: Any, bits: int) -> Ints:
    """Clamp to the full range of `bits`-bit two's complement."""
    return np.clip(integers(v), -(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def narrow(v: Any, shift: int, bits: int) -> Ints:
    """Rescale, then saturate; safe for every shift: beyond `bits` a left shift saturates anyway."""
    if shift <= 0:
        return saturate(saturate(v, bits + 1) << min(-shift, bits - 1), bits)
    return saturate(rescale(v, shift), bits)


def hashed(v: Any) -> Ints:
    """32 bits that look random, of each v modulo 2**32; twin of fxp_hash."""
    h = integers(v).astype(np.uint64) & np.uint64(0xFFFFFFFF)
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    return integers(h ^ (h >> np.uint64(16)))


def sample_seed(steps: int, number: int) -> Ints:
    """The seed of a layer for a sample, in an array of one; twin of fxp_seed."""
    return hashed(hashed([steps]) + number)


def magnitude(v: Any) -> Ints:
    """|v|, off by one below zero (~v), so that it exists for every integer."""
    v = integers(v)
    return integers(v ^ (v >> 63))


def bit_length(v: Any) -> int:
    """Bits that the largest magnitude needs."""
    v = magnitude(v)
    return int(v.max()).bit_length() if v.size else 0


def quantize(values: Any, f: int, bits: int) -> Ints:
    """Floats to integers with f fraction bits: rounded half up, saturated."""
    scaled = np.ldexp(np.asarray(values, dtype=np.float64), f)
    limit = float(1 << (bits - 1))
    return np.clip(np.floor(scaled + 0.5), -limit, limit - 1).astype(np.int64)


@dataclass
class Range:
    """An exponent that follows the values of a tensor; twin of fxp_range.

    It falls at once to what a value needs, less `margin`; it rises when no value in a window of
    samples needed it. Called once per sample with the largest exponent that would have fitted.
    """

    f: int
    best: int = NO_IDEAL
    count: int = 0

    def adapt(self, ideal: int, lowest: int, highest: int, margin: int, window: int) -> None:
        if ideal == NO_IDEAL:
            return
        ideal = max(lowest, min(ideal, highest))
        if ideal < self.f:
            self.f, self.best, self.count = max(lowest, ideal - margin), NO_IDEAL, 0
            return
        self.best, self.count = min(self.best, ideal), self.count + 1
        if self.count == window:
            self.f, self.best, self.count = max(self.f, self.best - margin), NO_IDEAL, 0

    def adapt_values(self, ideal: int) -> None:
        """For activations and gradients (NUMERICS 3)."""
        self.adapt(ideal, MIN_FRACTION, MAX_FRACTION, margin=0, window=255)

    def adapt_errors(self, ideal: int) -> None:
        """For errors, whose exponent is relative to that of their accumulator (NUMERICS 6)."""
        self.adapt(ideal, MIN_RELATIVE_FRACTION, MAX_RELATIVE_FRACTION, margin=1, window=64)


def weight_fraction(weights: Any, bits: int, headroom: int = 1) -> int:
    """Fraction bits that leave some of headroom above the largest weight (NUMERICS 1)."""
    largest = float(np.max(np.abs(weights), initial=0.0))
    exponent = int(np.ceil(np.log2(largest))) if largest > 0 else 0
    return int(np.clip(bits - 1 - headroom - exponent, MIN_FRACTION, MAX_WEIGHT_FRACTION))


class Random:
    """The generator of the C: xorshift32 with shifts 13, 17, 5; the state is never 0."""

    def __init__(self, state: int):
        self.state = state

    def draw(self) -> int:
        v = self.state
        v ^= (v << 13) & 0xFFFFFFFF
        v ^= v >> 17
        v ^= (v << 5) & 0xFFFFFFFF
        self.state = v
        return v


@dataclass(frozen=True)
class Rate:
    """A learning rate m * 2**-s, with 128 <= m <= 255 (or m = 0: no learning)."""

    m: int
    s: int

    @property
    def value(self) -> float:
        return float(np.ldexp(float(self.m), -self.s))

    def scaled(self, factor: int) -> "Rate":
        """Times a factor with 16 fraction bits; twin of fxp_scale_rate."""
        return encode_number(self.m * factor, self.s + 16)


def learning_rate(rate: float, batch: int = 1) -> Rate:
    """The rate per sample as the C stores it: from 24 fraction bits, shared over the batch.

    Twin of fxp_learning_rate: the mean over a batch is folded into the rate.
    """
    fixed = min(int(np.floor(np.ldexp(rate, LEARNING_RATE_FRACTION) + 0.5)), 0xFFFFFFFF)
    return encode_rate(fixed, batch)


def encode_rate(fixed: int, batch: int) -> Rate:
    """`fixed` has LEARNING_RATE_FRACTION fraction bits; 16 more make the division by batch fine."""
    return encode_number((fixed << 16) // batch, LEARNING_RATE_FRACTION + 16)


def encode_number(wide: int, fraction: int) -> Rate:
    """8 significant bits of a number with `fraction` fraction bits; twin of fxp_encode_rate."""
    if wide == 0:
        return Rate(0, 0)
    shift = wide.bit_length() - 8
    m = (wide + (1 << (shift - 1))) >> shift if shift > 0 else wide << -shift
    if m == 256:
        m, shift = 128, shift + 1
    return Rate(m, fraction - shift)


@dataclass(frozen=True)
class Format:
    """Qm.n in ARM's notation: m integer bits with the sign, n fraction bits."""

    integer_bits: int
    fraction_bits: int

    @property
    def bits(self) -> int:
        return self.integer_bits + self.fraction_bits

    def __str__(self) -> str:
        return f"Q{self.integer_bits}.{self.fraction_bits}"


def parse_format(text: str) -> Format | None:
    """ "Q3.12" -> Format(3, 12); None where the text is no such thing."""
    match = re.fullmatch(r"Q(\d+)\.(\d+)", text)
    if match is None or int(match[1]) < 1:
        return None
    return Format(int(match[1]), int(match[2]))


def fold(error: int, rate: Rate, k: int, random: Random) -> int:
    """-error * rate as 16 bits, k bits shorter than the product, stochastically rounded.

    Twin of fxp_fold. No draw is used where nothing is rounded.
    """
    product = -error * rate.m
    if error == 0 or k > 30:
        return 0
    if k > 0:
        product = (product + (random.draw() >> (32 - k))) >> k
    else:
        product = max(-(1 << 16), min(product, (1 << 16) - 1)) << min(-k, 16)
    return max(-(1 << 15), min(product, (1 << 15) - 1))


def dither_of_fold(k: int, random: Random) -> int:
    """The 16 bits that round a row whose rate was folded: the lower half of the draw that did.

    Twin of fxp_dither. For k < 1 nothing was drawn, and one more draw is used.
    """
    return (random.draw() if k < 1 else random.state) & 0xFFFF


def step24(gradient: Ints, k: int) -> Ints:
    """-gradient with k bits less, rounded to nearest, as 24 bits; twin of fxp_step24."""
    return integers(gradient) * 0 if k > 30 else narrow(-integers(gradient), k, 24)


_EXACT = 2**53  # integers up to here are exact in float64


def dot(a: Ints, b: Ints) -> Ints:
    """Sums of products over the last axis: (..., p, n) and (..., m, n) -> (..., p, m), exact."""
    largest = int(np.abs(a).max(initial=0)) * int(np.abs(b).max(initial=0)) * a.shape[-1]
    right = np.swapaxes(b, -1, -2)
    if largest < _EXACT:  # then so is every partial sum, and BLAS is far faster
        return integers(a.astype(np.float64) @ right.astype(np.float64))
    return integers(a @ right)


def accumulated(sums: Q, b: Q | None = None, shift: int | None = None) -> Q:
    """Exact sums (..., outputs) and the bias of each output, rounded to their exponent.

    With a `shift` the accumulators have 32 bits: the sums are rounded to so many bits less, and
    where the bias does not fit beside them it saturates.
    """
    acc = Q(rescale(sums.q, shift or 0), sums.f - (shift or 0))
    if b is not None:
        acc = Q(acc.q + rescale(b.q, BIAS_FRACTION - acc.f), acc.f)
    return acc if shift is None else Q(saturate(acc.q, 32), acc.f)


def sum_shift(f: int, least: int, has_bias: bool) -> int:
    """By how much sums with f fraction bits are shifted so that 32 bits hold them and a bias.

    A bias is never shifted left, however small the weights are. Twin of fxp_sum_shift.
    """
    return max(least, f - BIAS_FRACTION) if has_bias else least


COMMON_ROOM = 14  # bits by which the coarser of two addends may be widened


def common_fraction(a: int, b: int) -> int:
    """Fraction bits in which numbers with a and with b of them are added; twin of fxp_common.

    The finer of the two, but at most COMMON_ROOM bits more than the coarser one has.
    """
    return min(max(a, b), min(a, b) + COMMON_ROOM)


def sum_bits(product_bits: int, terms: int) -> int:
    """b such that |sum of `terms` products, each at most 2**product_bits| <= 2**b."""
    return product_bits + (terms - 1).bit_length()


def table_lookup(table: Sequence[int], v: Ints, step_bits: int) -> Ints:
    """Linear interpolation in a table whose entries are 2**step_bits apart, rounded half up."""
    entries = integers(table)
    index, rest = v >> step_bits, v & ((1 << step_bits) - 1)
    low, high = entries[index], entries[index + 1]
    return integers(low + (((high - low) * rest + (1 << (step_bits - 1))) >> step_bits))


ONE_16 = 1 << 16  # 1 with 16 fraction bits


@dataclass(frozen=True)
class Norm:
    """A length r * 2**-f; r has 16 bits, or is 0."""

    r: int
    f: int


def squares_shift(bits: int, count: int) -> int:
    """By how much numbers of at most 2**bits are shifted so that `count` squares fit 62 bits."""
    return max(0, -(-(2 * bits + (count - 1).bit_length() - 62) // 2))


def norm_of(numbers: Q, shift: int = 0) -> Norm:
    """Euclidean norm: the sum of squares is cut to 31 or 32 bits, its root to 16: 2**-14 at most.

    Numbers lose `shift` bits before they are squared. Twin of fxp_norm.
    """
    squares = sum(int(v) * int(v) for v in rescale(numbers.q, shift).flat)
    if squares == 0:
        return Norm(0, 0)
    up = 32 - squares.bit_length()
    up -= up & 1
    squares = squares << up if up >= 0 else squares >> -up
    return Norm(math.isqrt(squares), numbers.f - shift + up // 2)


def norm_of_outer(outer: Outer) -> Norm:
    """That of the product, which is the product of both; cut to 15 bits at least."""
    rows, columns = norm_of(outer.rows), norm_of(outer.columns)
    return Norm(rows.r * columns.r >> 16, rows.f + columns.f - 16)


def clip_factor(norm: Norm, most: Norm) -> int:
    """min(1, most / norm) with 16 fraction bits. Twin of fxp_clip."""
    shift = 15 + most.f - norm.f
    if norm.r == 0 or shift <= 0:
        return ONE_16
    return min(ONE_16, int(rescale((most.r << 31) // norm.r, shift)))


def encode_norm(length: float) -> Norm:
    """A positive number with 16 significant bits."""
    mantissa, exponent = math.frexp(length)
    r, f = round(math.ldexp(mantissa, 16)), 16 - exponent
    return Norm(r >> 1, f - 1) if r == ONE_16 else Norm(r, f)


WEYL = 0x9E3779B9  # 2**32 divided by the golden ratio


def spread(word: Ints, shape: tuple[int, ...]) -> Ints:
    """A random word for each element: a Weyl sequence from one."""
    steps = np.arange(1, math.prod(shape) + 1, dtype=np.int64).reshape(shape)
    return integers((word + steps * WEYL) & 0xFFFFFFFF)


def decayed(w: Ints, share: Rate, random: Random) -> Ints:
    """w less its share, each weight with a random word of its own; twin of fxp_decay16.

    A share below 2**-24 is none; one of 1 or more is nearly 1.
    """
    if share.m == 0 or share.s > 32:
        return w
    m, s = (255, 8) if share.s < 8 else (share.m, share.s)
    draws = spread(integers(random.draw()), w.shape)
    return integers(w - ((w * m + (draws >> (32 - s))) >> s))
