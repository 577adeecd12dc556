/* fxp.h: fixed-point arithmetic of networks that mcugrad generates. Part of their runtime.
 *
 * A value is q * 2^-f: an integer q with f fraction bits. What is narrowed is rounded once, half
 * up, and saturated once to the full two's complement range. Right shifts are arithmetic.
 */
#ifndef FXP_H
#define FXP_H

#include <stdint.h>
#include <string.h>

#define FXP_VERSION 1

#if (-1 >> 1) != -1
#error "fxp.h needs arithmetic right shifts of negative numbers"
#endif

/* Where tables and weights that do not learn are: in flash. On AVR that is not memory like RAM; gcc
 * reads it with -std=gnu99. */
#ifdef __FLASH
#define FXP_FLASH __flash
#else
#define FXP_FLASH
#endif

#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_UNALIGNED) && !defined(__ARM_BIG_ENDIAN)
#include <arm_acle.h>
#define FXP_DSP 1
#else
#define FXP_DSP 0
#endif

/* Cores that have 16-bit Thumb instructions only. */
#if defined(__ARM_ARCH_6M__) && !defined(__ARM_BIG_ENDIAN)
#define FXP_SMALL_THUMB 1
#else
#define FXP_SMALL_THUMB 0
#endif

/* Cores with vectors of integers (Helium), and long shifts that round and saturate. */
#if defined(__ARM_FEATURE_MVE) && FXP_DSP
#define FXP_MVE 1
#else
#define FXP_MVE 0
#endif

/* Whether the core divides by an instruction. */
#ifndef FXP_DIVIDES
#if (defined(__arm__) && !defined(__ARM_FEATURE_IDIV)) || defined(__AVR__)
#define FXP_DIVIDES 0
#elif defined(__riscv) && !defined(__riscv_div)
#define FXP_DIVIDES 0
#else
#define FXP_DIVIDES 1
#endif
#endif

/* What is rare, or large, stays a function of its own. */
#if defined(__GNUC__)
#define FXP_APART __attribute__((noinline, unused))
#else
#define FXP_APART
#endif

/* Where memory is not short that is up to gcc, which finds what is called once; clang would copy
 * all. */
#if defined(__GNUC__) && !defined(__clang__) && UINTPTR_MAX > 0xFFFFFFFFu
#define FXP_OUTLINE __attribute__((unused))
#else
#define FXP_OUTLINE FXP_APART
#endif

/* What is called for each element is a function of its own where registers are scarce. */
#if UINTPTR_MAX > 0xFFFFFFFFu || FXP_DSP
#define FXP_SHARED inline
#else
#define FXP_SHARED FXP_OUTLINE
#endif

/* The steps of a network are functions of their own where the stack is short: what one needs is
 * free again in the next. */
#if defined(__arm__) || defined(__riscv)
#define FXP_STEP FXP_OUTLINE
#else
#define FXP_STEP
#endif

/* Those that are but a call with all rows of weights save no stack where cores are large, and take
 * code and time by themselves. */
#if FXP_DSP
#define FXP_CALL
#else
#define FXP_CALL FXP_STEP
#endif

/* What is shorter than its call. */
#if defined(__GNUC__)
#define FXP_INLINE inline __attribute__((always_inline))
#else
#define FXP_INLINE inline
#endif

/* Before a loop of which a compiler that knows how writes out n rounds. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 8)
#define FXP_PRAGMA(text) _Pragma(#text)
#define FXP_UNROLL(n) FXP_PRAGMA(GCC unroll n)
#else
#define FXP_UNROLL(n)
#endif

/* What is called for each sum is part of its caller where registers are plenty. */
#if defined(__riscv)
#define FXP_ROOMY inline
#else
#define FXP_ROOMY FXP_OUTLINE
#endif

/* What is a few instructions on most cores is a function of its own where shifts are loops. */
#ifdef __AVR__
#define FXP_SHORT FXP_OUTLINE
#else
#define FXP_SHORT inline
#endif

/* A static assertion for C99: an array of negative size where the condition fails. */
#define FXP_ASSERT(name, condition) typedef char fxp_assert_##name[(condition) ? 1 : -1]

FXP_ASSERT(shift_is_arithmetic, ((int64_t)-1 >> 1) == -1);
FXP_ASSERT(int_has_16_bits, sizeof(int) >= 2);

#define FXP_BIAS_FRACTION 22 /* fraction bits of every bias */
#define FXP_NO_IDEAL 127     /* ideal exponent of a tensor that is all zeros */

/* How a tensor was stored: its fraction bits, and the most that would have fitted. */
typedef struct {
    int16_t f;
    int16_t ideal;
} fxp_scale;

/* An exponent that follows the values of a tensor. */
typedef struct {
    int8_t f;
    int8_t best;
    uint8_t count;
} fxp_range;

/* A learning rate m * 2^-s. */
typedef struct {
    uint8_t m;
    int8_t s;
} fxp_rate;

/* Copies a table into RAM. */
static inline void fxp_load(void *to, const FXP_FLASH void *from, size_t bytes)
{
#ifdef __FLASH
    const FXP_FLASH uint8_t *source = (const FXP_FLASH uint8_t *)from;
    for (uint8_t *out = (uint8_t *)to; bytes > 0; bytes--) {
        *out++ = *source++;
    }
#else
    memcpy(to, from, bytes);
#endif
}

static FXP_INLINE uint32_t fxp_product16(uint16_t a, uint16_t b)
{
#ifdef __AVR__
    uint32_t p;
    __asm__("mul %A1, %A2\n\t"
            "movw %A0, r0\n\t"
            "mul %B1, %B2\n\t"
            "movw %C0, r0\n\t"
            "mul %B1, %A2\n\t"
            "add %B0, r0\n\t"
            "adc %C0, r1\n\t"
            "clr r1\n\t"
            "adc %D0, r1\n\t"
            "mul %A1, %B2\n\t"
            "add %B0, r0\n\t"
            "adc %C0, r1\n\t"
            "clr r1\n\t"
            "adc %D0, r1"
            : "=&r"(p)
            : "r"(a), "r"(b));
    return p;
#else
    return (uint32_t)a * b;
#endif
}

static inline uint64_t fxp_product32(uint32_t a, uint32_t b)
{
#ifdef __ARM_ARCH_6M__ /* a library would multiply 64 bits */
    const uint32_t a0 = a & 0xFFFFu, a1 = a >> 16, b0 = b & 0xFFFFu, b1 = b >> 16;
    const uint32_t low = a0 * b0, middle = a1 * b0 + (low >> 16); /* at most 2^32 - 2^16 */
    const uint32_t other = a0 * b1 + (middle & 0xFFFFu);
    const uint32_t high = a1 * b1 + (middle >> 16) + (other >> 16);
    return ((uint64_t)high << 32) | (other << 16) | (low & 0xFFFFu);
#else
    return (uint64_t)a * b;
#endif
}

static inline int64_t fxp_times32(int32_t a, int32_t b)
{
#ifdef __ARM_ARCH_6M__
    const uint32_t beyond = ((uint32_t)(a >> 31) & (uint32_t)b) +
                            ((uint32_t)(b >> 31) & (uint32_t)a);
    return (int64_t)(fxp_product32((uint32_t)a, (uint32_t)b) - ((uint64_t)beyond << 32));
#else
    return (int64_t)a * b;
#endif
}

static FXP_INLINE int32_t fxp_times16(int16_t a, uint16_t b)
{
#ifdef __AVR__
    int32_t p;
    __asm__("mul %A1, %A2\n\t"
            "movw %A0, r0\n\t"
            "mulsu %B1, %B2\n\t"
            "movw %C0, r0\n\t"
            "mul %A1, %B2\n\t"
            "add %B0, r0\n\t"
            "adc %C0, r1\n\t"
            "clr r1\n\t"
            "adc %D0, r1\n\t"
            "mulsu %B1, %A2\n\t"
            "sbci %D0, 0\n\t"
            "add %B0, r0\n\t"
            "adc %C0, r1\n\t"
            "clr r1\n\t"
            "adc %D0, r1"
            : "=&d"(p)
            : "a"(a), "a"(b));
    return p;
#else
    return (int32_t)a * b;
#endif
}

/* ---- rounding and saturation ---------------------------------------------------------------- */

/* |v|, one less below zero, so that it exists for every integer. */
static inline uint64_t fxp_magnitude(int64_t v)
{
    return (uint64_t)(v < 0 ? ~v : v);
}

/* v * 2^-shift, rounded half up. The caller knows that a left shift fits. */
static inline int64_t fxp_rescale(int64_t v, int shift)
{
    if (shift <= 0) {
        return (int64_t)((uint64_t)v << -shift);
    }
    if (shift > 62) {
        return 0;
    }
    return (v + ((int64_t)1 << (shift - 1))) >> shift;
}

static inline int64_t fxp_clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : (v > high ? high : v);
}

static inline int8_t fxp_sat8(int32_t v)
{
    return (int8_t)(v < INT8_MIN ? INT8_MIN : (v > INT8_MAX ? INT8_MAX : v));
}

static inline int16_t fxp_sat16(int32_t v)
{
    return (int16_t)(v < INT16_MIN ? INT16_MIN : (v > INT16_MAX ? INT16_MAX : v));
}

/* a + b, saturated */
static inline int32_t fxp_add32(int32_t a, int32_t b)
{
#if FXP_DSP
    return __qadd(a, b);
#elif defined(__AVR__)
    __asm__("add %A0, %A1\n\t"
            "adc %B0, %B1\n\t"
            "adc %C0, %C1\n\t"
            "adc %D0, %D1\n\t"
            "brvc 1f\n\t"
            "lsl %D0\n\t" /* its sign is wrong */
            "sbc %A0, %A0\n\t"
            "mov %B0, %A0\n\t"
            "mov %C0, %A0\n\t"
            "mov %D0, %A0\n\t"
            "subi %D0, 128\n"
            "1:"
            : "+d"(a)
            : "r"(b));
    return a;
#else
    const uint32_t sum = (uint32_t)a + (uint32_t)b;
    const int32_t wrong = (int32_t)((sum ^ (uint32_t)a) & (sum ^ (uint32_t)b));
    return wrong < 0 ? (a >> 31) ^ INT32_MAX : (int32_t)sum;
#endif
}

/* A number of two words as 32 bits, saturated. */
static inline int32_t fxp_word_of(int32_t high, int32_t low)
{
    return high == low >> 31 ? low : (high >> 31) ^ INT32_MAX;
}

static inline int32_t fxp_sat32(int64_t v)
{
#if defined(__GNUC__) && (defined(__arm__) || defined(__riscv))
    int32_t high = (int32_t)(v >> 32);
    __asm__("" : "+r"(high)); /* clang would compare 64 bits, twice */
    return fxp_word_of(high, (int32_t)v);
#else
    return (int32_t)fxp_clamp(v, INT32_MIN, INT32_MAX);
#endif
}

/* At most `bits` bits, up to 32. */
static inline int32_t fxp_limited(int32_t v, int bits)
{
    const int32_t most = (int32_t)(UINT32_MAX >> (33 - bits));
    return v < -most - 1 ? -most - 1 : (v > most ? most : v);
}

#if FXP_MVE
/* v * 2^-shift rounded half up, saturated to 64 bits; -64 <= shift <= 63. */
static inline int64_t fxp_rounded(int64_t v, int shift)
{
    __asm__("sqrshrl %Q0, %R0, #64, %1" : "+r"(v) : "r"(shift));
    return v;
}

/* v as 32 bits: the upper half of v * 2^32, saturated. */
static inline int32_t fxp_cut32(int64_t v)
{
    __asm__("sqshll %Q0, %R0, #32" : "+r"(v));
    return (int32_t)(v >> 32);
}

/* The nearest shift that fxp_rounded takes: all others give what it gives. */
static inline int fxp_near_shift(int shift)
{
    int near;
    __asm__("ssat %0, #7, %1" : "=r"(near) : "r"(shift));
    return near;
}
#endif

/* v >> shift as 32 bits, for 0 <= shift <= 31. */
static inline int32_t fxp_cut(int64_t v, int shift)
{
#ifdef __AVR__ /* shifts 32 bits one by one, but 64 by whole bytes first */
    return fxp_sat32(v >> shift);
#else
    const int32_t high = (int32_t)(v >> 32);
    const uint32_t low = ((uint32_t)v >> shift) | ((uint32_t)high << 1 << (31 - shift));
    return fxp_word_of(high >> shift, (int32_t)low);
#endif
}

/* v * 2^-shift as at most 32 bits, for every shift: beyond `bits` a left shift saturates. */
static FXP_OUTLINE int32_t fxp_narrow_any(int64_t v, int shift, int bits)
{
    const int32_t most = (int32_t)(UINT32_MAX >> (33 - bits));
    int32_t q;
    int up = 0;
    if (shift > 62) {
        return 0;
    }
    if (shift > 0) {
        q = shift > 32 ? (int32_t)(v >> 32) >> (shift - 33) : fxp_cut(v, shift - 1);
        q = (q >> 1) + (q & 1);
    } else {
        q = fxp_sat32(v);
        up = -shift < bits ? -shift : bits - 1;
    }
    const int32_t sign = q >> 31;
    return (q ^ sign) > most >> up ? most ^ sign : (int32_t)((uint32_t)q << up);
}

/* v * 2^up as 32 bits, for every shift of v, which has 16. */
static inline int32_t fxp_lift16(int32_t v, int up)
{
    return (unsigned)up <= 16 ? (int32_t)((uint32_t)v << up) : fxp_narrow_any(v, -up, 32);
}

/* The same for more bits, where 64 bits hold a left shift of twice the limit. */
static inline int64_t fxp_narrow_wide(int64_t v, int shift, int bits)
{
    const int64_t limit = (int64_t)1 << (bits - 1);
    if (shift > 0) {
        return fxp_clamp(fxp_rescale(v, shift), -limit, limit - 1);
    }
    v = fxp_clamp(v, -2 * limit, 2 * limit - 1);
    v = v * ((int64_t)1 << -shift);
    return fxp_clamp(v, -limit, limit - 1);
}

/* The same for 1 <= shift <= 31 and at most 32 bits. */
static inline int32_t fxp_shorten(int64_t v, int shift, int bits)
{
    return fxp_limited(fxp_cut(v + (int64_t)((uint32_t)1 << (shift - 1)), shift), bits);
}

/* The same for every shift; the usual ones need words of 32 bits only. */
static inline int64_t fxp_narrow(int64_t v, int shift, int bits)
{
#if FXP_MVE
    return fxp_limited(fxp_cut32(fxp_rounded(v, fxp_near_shift(shift))), bits);
#else
    return shift < 1 || shift > 31 ? fxp_narrow_any(v, shift, bits) : fxp_shorten(v, shift, bits);
#endif
}

#if UINTPTR_MAX <= 0xFFFFFFFFu
/* A digit of 16 bits of the quotient u * 2^16 / v, and in u what is left of u * 2^16; u < v, and
 * bit 31 of v is set. Its first estimate, from the upper half of v, is at most 2 too large. */
static inline uint32_t fxp_digit(uint32_t *u, uint32_t v)
{
    const uint32_t upper = v >> 16, lower = v & 0xFFFFu;
    uint32_t digit = *u / upper, rest = *u - digit * upper;
    while (rest < 65536 && (digit > 65535 || digit * lower > rest << 16)) {
        digit--;
        rest += upper;
    }
    *u = (*u << 16) - digit * v;
    return digit;
}
#endif

/* 2^62 / v, rounded down; v > 0. Cores of 32 bits divide numbers of 64 bits bit by bit. */
static FXP_SHARED uint64_t fxp_reciprocal(uint32_t v)
{
#if UINTPTR_MAX > 0xFFFFFFFFu
    return ((uint64_t)1 << 62) / v;
#else
    const uint32_t high = ((uint32_t)1 << 30) / v;
    uint32_t rest = ((uint32_t)1 << 30) - high * v;
#ifdef __ARM_FEATURE_CLZ
    const int up = __builtin_clz(v);
    v <<= up;
    rest <<= up; /* rest < v */
#else
    while (v >> 31 == 0) { /* rest < v */
        v += v;
        rest += rest;
    }
#endif
    const uint32_t low = fxp_digit(&rest, v) << 16;
    return ((uint64_t)high << 32) | low | fxp_digit(&rest, v);
#endif
}

/* How a tensor's accumulators are shortened, and their magnitudes, joined by or. */
typedef struct {
    uint64_t peak;
    uint32_t half; /* of the unit; 0 where `shift` is not usual */
    int shift;
} fxp_store;

/* Accumulators are at most 2^bits. Shifts are usual from 1 to 31 if 32 bits hold what is left. */
static inline fxp_store fxp_store_of(int shift, int bits)
{
#if FXP_MVE
    shift = fxp_near_shift(shift);
#endif
    const int usual = shift >= 1 && shift <= 31 && bits - shift <= 30;
#if FXP_MVE
    const fxp_store store = {0, (uint32_t)usual, shift}; /* which is all that is asked */
#else
    const fxp_store store = {0, usual ? (uint32_t)1 << (shift - 1) : 0, shift};
#endif
    return store;
}

/* An accumulator rounded to 32 bits, for a store of the usual shifts. */
static inline int32_t fxp_settled(fxp_store *store, int64_t acc)
{
    store->peak |= fxp_magnitude(acc);
#if FXP_MVE
    return fxp_cut32(fxp_rounded(acc, store->shift));
#else
    return (int32_t)((acc + (int64_t)store->half) >> store->shift);
#endif
}

/* As a tensor of 8, or of 16, bits has it. */
static inline int32_t fxp_settle8_usual(fxp_store *store, int64_t acc)
{
    return fxp_sat8(fxp_settled(store, acc));
}

static inline int32_t fxp_settle16_usual(fxp_store *store, int64_t acc)
{
    return fxp_sat16(fxp_settled(store, acc));
}

/* The same for the other shifts. */
static inline int32_t fxp_settled_any(fxp_store *store, int64_t acc, int bits)
{
    store->peak |= fxp_magnitude(acc);
    return fxp_narrow_any(acc, store->shift, bits);
}

static inline int32_t fxp_settle8_any(fxp_store *store, int64_t acc)
{
    return fxp_settled_any(store, acc, 8);
}

static inline int32_t fxp_settle16_any(fxp_store *store, int64_t acc)
{
    return fxp_settled_any(store, acc, 16);
}

static inline int fxp_is_usual(const fxp_store *store)
{
    return FXP_MVE || store->half != 0;
}

/* The same for all shifts. */
static FXP_SHARED int32_t fxp_settle8(fxp_store *store, int64_t acc)
{
    return fxp_is_usual(store) ? fxp_settle8_usual(store, acc) : fxp_settle8_any(store, acc);
}

static FXP_SHARED int32_t fxp_settle16(fxp_store *store, int64_t acc)
{
    return fxp_is_usual(store) ? fxp_settle16_usual(store, acc) : fxp_settle16_any(store, acc);
}

/* Bits of a sum of `bits` bits and a bias with f fraction bits. */
static inline int fxp_bits_with_bias(int bits, int f)
{
    const int of_bias = 31 - FXP_BIAS_FRACTION + f;
    return (bits > of_bias ? bits : of_bias) + 1;
}

/* A bias with f fraction bits. */
static FXP_OUTLINE int64_t fxp_bias_any(int32_t b, int f)
{
    const int down = FXP_BIAS_FRACTION - f;
    return down > 1 && down < 32 ? ((b >> (down - 1)) + 1) >> 1 : fxp_rescale(b, down);
}

static inline int64_t fxp_bias(int32_t b, int f)
{
#if FXP_MVE
    return fxp_rounded(b, fxp_near_shift(FXP_BIAS_FRACTION - f));
#else
    const int up = f - FXP_BIAS_FRACTION;
    if ((unsigned)up > 31) {
        return fxp_bias_any(b, f);
    }
    const int32_t high = b >> (31 - up) >> 1;
    return (int64_t)(((uint64_t)(uint32_t)high << 32) | (uint32_t)((uint32_t)b << up));
#endif
}

/* Bits of v; 0 for 0. */
static inline int fxp_bit_length(uint64_t v)
{
#if defined(__GNUC__)
    return v == 0 ? 0 : 64 - __builtin_clzll(v);
#else
    int n = 0;
    for (int step = 32; step > 0; step /= 2) {
        if ((v >> step) != 0) {
            v >>= step;
            n += step;
        }
    }
    return n + (v != 0 ? 1 : 0);
#endif
}

/* The same of 32 bits. */
static inline int fxp_bit_length32(uint32_t v)
{
#ifdef __AVR__
    return v == 0 ? 0 : 32 - __builtin_clzl(v);
#elif defined(__GNUC__)
    return v == 0 ? 0 : 32 - __builtin_clz(v);
#else
    int n = 0;
    for (; v > 0xFF; v >>= 8) {
        n += 8;
    }
    for (uint8_t rest = (uint8_t)v; rest != 0; rest >>= 1) {
        n++;
    }
    return n;
#endif
}

/* ---- accumulators of 32 bits ---------------------------------------------------------------- */

/* v >> shift, for 0 <= shift <= 31. */
static FXP_SHORT int32_t fxp_right32(int32_t v, int shift)
{
#ifdef __AVR__ /* whole bytes first */
    __asm__("rjmp 2f\n"
            "1:\n\t"
            "mov %A[v], %B[v]\n\t"
            "mov %B[v], %C[v]\n\t"
            "mov %C[v], %D[v]\n\t"
            "lsl %D[v]\n\t"
            "sbc %D[v], %D[v]\n"
            "2:\n\t"
            "subi %A[n], 8\n\t"
            "brcc 1b\n\t"
            "subi %A[n], 248\n\t"
            "breq 4f\n"
            "3:\n\t"
            "asr %D[v]\n\t"
            "ror %C[v]\n\t"
            "ror %B[v]\n\t"
            "ror %A[v]\n\t"
            "dec %A[n]\n\t"
            "brne 3b\n"
            "4:"
            : [v] "+r"(v), [n] "+d"(shift));
    return v;
#else
    return v >> shift;
#endif
}

/* By how much sums with f fraction bits are shifted, at least by `least`, so that 32 bits hold them
 * and a bias, which is not shifted left. */
static inline int fxp_sum_shift(int f, int least)
{
    return f - FXP_BIAS_FRACTION > least ? f - FXP_BIAS_FRACTION : least;
}

/* v * 2^-shift, rounded half up, for 0 <= shift <= 31. */
static FXP_SHORT int32_t fxp_round32(int32_t v, int shift)
{
#ifdef __AVR__
    register int32_t q __asm__("r22") = v; /* where it comes and goes */
    if (shift == 0) {
        return q;
    }
    __asm__("dec %A[n]\n\t"
            "rjmp 2f\n"
            "1:\n\t"
            "mov %A[v], %B[v]\n\t"
            "mov %B[v], %C[v]\n\t"
            "mov %C[v], %D[v]\n\t"
            "lsl %D[v]\n\t"
            "sbc %D[v], %D[v]\n"
            "2:\n\t"
            "subi %A[n], 8\n\t"
            "brcc 1b\n\t"
            "subi %A[n], 247\n" /* 1 to 8 are left; the last one that is lost rounds */
            "3:\n\t"
            "asr %D[v]\n\t"
            "ror %C[v]\n\t"
            "ror %B[v]\n\t"
            "ror %A[v]\n\t"
            "dec %A[n]\n\t"
            "brne 3b\n\t"
            "adc %A[v], __zero_reg__\n\t"
            "adc %B[v], __zero_reg__\n\t"
            "adc %C[v], __zero_reg__\n\t"
            "adc %D[v], __zero_reg__"
            : [v] "+r"(q), [n] "+d"(shift));
    return q;
#else
    if (shift == 0) {
        return v;
    }
    const int32_t twice = v >> (shift - 1); /* to which 1 could not always be added */
    return (twice >> 1) + (twice & 1);
#endif
}

/* The same of an exact sum, when 32 bits hold it. */
static FXP_ROOMY int32_t fxp_sum32(int64_t v, int shift)
{
#ifdef __AVR__ /* of at most 48 bits; the last one that is lost rounds */
    register int64_t sum __asm__("r18") = v;
    register int n __asm__("r16") = shift - 1;
    if (n >= 0) {
        __asm__("rjmp 2f\n"
                "1:\n\t"
                "mov r18, r19\n\t"
                "mov r19, r20\n\t"
                "mov r20, r21\n\t"
                "mov r21, r22\n\t"
                "mov r22, r23\n\t"
                "lsl r23\n\t"
                "sbc r23, r23\n"
                "2:\n\t"
                "subi r16, 8\n\t"
                "brcc 1b\n\t"
                "subi r16, 248\n\t"
                "breq 4f\n"
                "3:\n\t"
                "asr r23\n\t"
                "ror r22\n\t"
                "ror r21\n\t"
                "ror r20\n\t"
                "ror r19\n\t"
                "ror r18\n\t"
                "dec r16\n\t"
                "brne 3b\n"
                "4:\n\t"
                "asr r22\n\t"
                "ror r21\n\t"
                "ror r20\n\t"
                "ror r19\n\t"
                "ror r18\n\t"
                "adc r18, __zero_reg__\n\t"
                "adc r19, __zero_reg__\n\t"
                "adc r20, __zero_reg__\n\t"
                "adc r21, __zero_reg__"
                : "+r"(sum), "+r"(n));
    }
    return (int32_t)sum;
#else
    const uint32_t low = (uint32_t)v, high = (uint32_t)((uint64_t)v >> 32);
    if (shift == 0) {
        return (int32_t)low;
    }
    return (int32_t)((high << (32 - shift)) + (low >> shift) + ((low >> (shift - 1)) & 1));
#endif
}

/* A bias with f fraction bits, which are no more than it has. */
static FXP_OUTLINE int32_t fxp_bias32(int32_t b, int f)
{
    const int down = FXP_BIAS_FRACTION - f;
    return down > 31 ? 0 : fxp_round32(b, down);
}

/* v * 2^-shift as at most 32 bits, of which `most` is the largest, for every shift. */
static FXP_SHORT int32_t fxp_narrow32_to(int32_t v, int shift, int bits, int32_t most)
{
    const int32_t least = -most - 1;
    if (shift < 0) {
        const int up = -shift < bits ? -shift : bits - 1;
        if (v > fxp_right32(most, up)) {
            return most;
        }
        return v < fxp_right32(least, up) ? least : (int32_t)((uint32_t)v << up);
    }
    const int32_t q = shift > 31 ? 0 : fxp_round32(v, shift);
    return q < least ? least : (q > most ? most : q);
}

static inline int32_t fxp_narrow32(int32_t v, int shift, int bits)
{
    return fxp_narrow32_to(v, shift, bits, (int32_t)(UINT32_MAX >> (33 - bits)));
}

/* The same; usually the shift is a constant, 0 or 1. */
static inline int32_t fxp_fit32(int32_t v, int shift, int bits)
{
    if (shift != 0 && shift != 1) {
        return fxp_narrow32(v, shift, bits);
    }
    return fxp_limited(shift == 0 ? v : (v >> 1) + (v & 1), bits);
}

/* The same where it is rare. */
static FXP_INLINE int32_t fxp_narrow32_any(int32_t v, int shift, int bits)
{
#if FXP_DSP
    return fxp_narrow_any(v, shift, bits); /* which is there anyway */
#else
    return fxp_narrow32(v, shift, bits);
#endif
}

static FXP_OUTLINE int32_t fxp_change_any(int32_t v, int shift)
{
    return fxp_narrow32_any(v, shift, 32);
}

/* v * 2^-shift as 32 bits; usually some are lost. */
static inline int32_t fxp_change(int32_t v, int shift)
{
#if FXP_MVE
    return fxp_cut32(fxp_rounded(v, fxp_near_shift(shift)));
#else
    if (shift < 1 || shift > 31) {
        return fxp_change_any(v, shift);
    }
#ifdef __AVR__
    return fxp_round32(v, shift);
#else
    return ((v >> (shift - 1)) + 1) >> 1;
#endif
#endif
}

/* The same as `bits` bits. */
static inline int32_t fxp_shorten32(int32_t v, int shift, int bits)
{
    return fxp_limited(fxp_change(v, shift), bits);
}

static inline uint32_t fxp_magnitude32(int32_t v)
{
    return (uint32_t)(v ^ (v >> 31));
}

/* a * b * 2^-32, rounded half up, where b >= 0 has 31 bits. */
static FXP_SHARED int32_t fxp_high32(int32_t a, int32_t b)
{
#if UINTPTR_MAX > 0xFFFFFFFFu
    return (int32_t)(((int64_t)a * b + ((int64_t)1 << 31)) >> 32);
#elif defined(__AVR__)
    /* Byte by byte without signs; `low` and the result have the product. A row adds the products of
     * one byte of a with every second byte of b. */
#define FXP_AVR_ROW(a, b, d, p0, p1, p2, p3, p4)                                                   \
    "mul " a ", " b "\n\t"                                                                         \
    "movw r30, r0\n\t"                                                                             \
    "mul " a ", " d "\n\t"                                                                         \
    "add " p0 ", r30\n\t"                                                                          \
    "adc " p1 ", r31\n\t"                                                                          \
    "adc " p2 ", r0\n\t"                                                                           \
    "adc " p3 ", r1\n\t"                                                                           \
    "adc " p4 ", %[zero]\n\t"
    int32_t high;
    uint32_t low;
    __asm__(
        "mul %A[a], %A[b]\n\t"
        "movw %A[low], r0\n\t"
        "mul %A[a], %C[b]\n\t"
        "movw %C[low], r0\n\t"
        "clr %A[high]\n\t"
        "clr %B[high]\n\t"
        "clr %C[high]\n\t"
        "clr %D[high]\n\t" FXP_AVR_ROW("%A[a]", "%B[b]", "%D[b]", "%B[low]", "%C[low]", "%D[low]",
                                       "%A[high]", "%B[high]")
            FXP_AVR_ROW("%B[a]", "%A[b]", "%C[b]", "%B[low]", "%C[low]", "%D[low]", "%A[high]",
                        "%B[high]") FXP_AVR_ROW("%B[a]", "%B[b]", "%D[b]", "%C[low]", "%D[low]",
                                                "%A[high]", "%B[high]", "%C[high]")
                FXP_AVR_ROW("%C[a]", "%A[b]", "%C[b]", "%C[low]", "%D[low]", "%A[high]", "%B[high]",
                            "%C[high]") FXP_AVR_ROW("%C[a]", "%B[b]", "%D[b]", "%D[low]",
                                                    "%A[high]", "%B[high]", "%C[high]", "%D[high]")
                    FXP_AVR_ROW("%D[a]", "%A[b]", "%C[b]", "%D[low]", "%A[high]", "%B[high]",
                                "%C[high]", "%D[high]") "mul %D[a], %B[b]\n\t"
                                                        "movw r30, r0\n\t"
                                                        "mul %D[a], %D[b]\n\t"
                                                        "add %A[high], r30\n\t"
                                                        "adc %B[high], r31\n\t"
                                                        "adc %C[high], r0\n\t"
                                                        "adc %D[high], r1\n\t"
                                                        "lsl %D[low]\n\t"
                                                        "adc %A[high], %[zero]\n\t"
                                                        "adc %B[high], %[zero]\n\t"
                                                        "adc %C[high], %[zero]\n\t"
                                                        "adc %D[high], %[zero]\n\t"
                                                        "clr r1"
        : [low] "=&r"(low), [high] "=&r"(high)
        : [a] "r"(a), [b] "r"(b), [zero] "r"((uint8_t)0)
        : "r30", "r31");
#undef FXP_AVR_ROW
    return a < 0 ? high - b : high;
#else
    const int32_t a1 = a >> 16, b1 = b >> 16;
    const uint32_t a0 = (uint32_t)a & 0xFFFF, b0 = (uint32_t)b & 0xFFFF;
    const uint32_t low = a0 * b0;
    const int32_t middle = a1 * (int32_t)b0 + (int32_t)(low >> 16);
    const int32_t other = (int32_t)a0 * b1 + (int32_t)((uint32_t)middle & 0xFFFF);
    return a1 * b1 + (middle >> 16) + ((((other >> 15) + 1) >> 1));
#endif
}

/* The same for a shift that fits v exactly. */
static inline int32_t fxp_exact32(int32_t v, int shift, int bits)
{
    return shift < 0 ? (int32_t)((uint32_t)v << -shift) : fxp_narrow32(v, shift, bits);
}

/* How a tensor's accumulators of 32 bits are shortened, and their magnitudes, joined by or. */
typedef struct {
    uint32_t peak;
    int shift;
} fxp_store32;

static inline fxp_store32 fxp_store32_of(int shift)
{
    const fxp_store32 store = {0, shift};
    return store;
}

#ifdef __AVR__
#define FXP_AVR_JOIN(byte, place)                                                                  \
    "mov r20, " byte "\n\t"                                                                        \
    "eor r20, r21\n\t"                                                                             \
    "ldd __tmp_reg__, Z+" place "\n\t"                                                             \
    "or r20, __tmp_reg__\n\t"                                                                      \
    "std Z+" place ", r20\n\t"
#endif

/* v rounded to 32 bits, saturated at both ends of 17 bits where it is shifted left. */
static FXP_SHORT int32_t fxp_settled32(fxp_store32 *store, int32_t v)
{
#ifdef __AVR__
    __asm__ volatile("mov __tmp_reg__, %D[v]\n\t"
                     "lsl __tmp_reg__\n\t"
                     "sbc r21, r21\n\t" /* of the sign */
                     FXP_AVR_JOIN("%A[v]", "0") FXP_AVR_JOIN("%B[v]", "1")
                         FXP_AVR_JOIN("%C[v]", "2") FXP_AVR_JOIN("%D[v]", "3")
                     :
                     : [v] "r"(v), [peak] "z"(&store->peak)
                     : "r20", "r21", "memory");
#else
    store->peak |= fxp_magnitude32(v);
#endif
    if ((unsigned)store->shift > 31) {
        return fxp_narrow32(v, store->shift, 16);
    }
    return fxp_round32(v, store->shift);
}

/* An accumulator as a tensor of 8, or of 16, bits has it. */
static inline int32_t fxp_settle8_of32(fxp_store32 *store, int32_t acc)
{
    return fxp_sat8(fxp_settled32(store, acc));
}

static inline int32_t fxp_settle16_of32(fxp_store32 *store, int32_t acc)
{
    return fxp_sat16(fxp_settled32(store, acc));
}

/* ---- exponents ------------------------------------------------------------------------------ */

/* Describes a tensor of `bits` bits stored with f fraction bits; `peak` holds the magnitudes of
 * all its values, with `base` fraction bits, joined by or. */
static inline fxp_scale fxp_describe(uint64_t peak, int base, int bits, int f)
{
    const int ideal = peak == 0 ? FXP_NO_IDEAL : bits - 1 - fxp_bit_length(peak) + base;
    const fxp_scale scale = {(int16_t)f, (int16_t)ideal};
    return scale;
}

static inline fxp_scale fxp_describe32(uint32_t peak, int base, int bits, int f)
{
    const int ideal = peak == 0 ? FXP_NO_IDEAL : bits - 1 - fxp_bit_length32(peak) + base;
    const fxp_scale scale = {(int16_t)f, (int16_t)ideal};
    return scale;
}

/* Shift that fits values whose magnitudes, joined by or, are `peak` into `bits` bits exactly. */
static inline int fxp_exact_shift(uint64_t peak, int bits)
{
    const int shift = fxp_bit_length(peak) - (bits - 1);
    return shift < -8 ? -8 : shift;
}

static inline int fxp_exact_shift32(uint32_t peak, int bits)
{
    const int shift = fxp_bit_length32(peak) - (bits - 1);
    return shift < -8 ? -8 : shift;
}

/* Falls at once to what the values need; rises when no value in a window of samples needed it. */
static inline void fxp_adapt(fxp_range *range, int ideal, int lowest, int highest, int margin,
                             int window)
{
    if (ideal == FXP_NO_IDEAL) {
        return;
    }
    ideal = ideal < lowest ? lowest : (ideal > highest ? highest : ideal);
    if (ideal < range->f) {
        ideal -= margin;
        range->f = (int8_t)(ideal < lowest ? lowest : ideal);
        range->best = FXP_NO_IDEAL;
        range->count = 0;
        return;
    }
    range->best = ideal < range->best ? (int8_t)ideal : range->best;
    range->count = (uint8_t)(range->count + 1);
    if (range->count == window) {
        if (range->best - margin > range->f) {
            range->f = (int8_t)(range->best - margin);
        }
        range->best = FXP_NO_IDEAL;
        range->count = 0;
    }
}

/* For activations and gradients. */
static FXP_OUTLINE void fxp_adapt_values(fxp_range *range, int ideal)
{
    fxp_adapt(range, ideal, -8, 23, 0, 255);
}

/* For errors; their exponent is relative to that of their accumulator. */
static FXP_OUTLINE void fxp_adapt_errors(fxp_range *range, int ideal)
{
    fxp_adapt(range, ideal, -64, 8, 1, 64);
}

/* Fraction bits in which numbers with a and with b of them are added: the finer of the two, but at
 * most 14 bits more than the coarser one has. */
static inline int fxp_common(int a, int b)
{
    const int low = a < b ? a : b;
    const int high = a < b ? b : a;
    return high < low + 14 ? high : low + 14;
}

/* Fraction bits of a slope stored with f of them, such that 1 has an integer. */
static inline int fxp_slope_fraction(int f)
{
    return f > 0 ? f : 0;
}

/* ---- windows -------------------------------------------------------------------------------- */

/* The first i >= 0 with start + i * step >= 0. */
static inline int fxp_first(int start, int step)
{
    return start >= 0 ? 0 : (step - 1 - start) / step;
}

/* The i <= n up to which start + i * step < size. */
static inline int fxp_end(int start, int step, int n, int size)
{
    const int end = start >= size ? 0 : (size - start + step - 1) / step;
    return end < n ? end : n;
}

/* ---- learning ------------------------------------------------------------------------------- */

/* The next random word (xorshift32); the state is never 0. */
static FXP_INLINE uint32_t fxp_draw_in_line(uint32_t *state)
{
    uint32_t v = *state;
#ifdef __AVR__ /* products with 2^5 shift by five places */
    __asm__("mul %C0, %1\n\t"
            "eor %D0, r0\n\t"
            "mul %B0, %1\n\t"
            "eor %D0, r1\n\t"
            "eor %C0, r0\n\t"
            "mul %A0, %1\n\t"
            "eor %C0, r1\n\t"
            "eor %B0, r0\n\t"
            "movw r0, %C0\n\t"
            "lsr r1\n\t"
            "ror r0\n\t"
            "eor %A0, r0\n\t"
            "eor %B0, r1\n\t"
            "mul %D0, %1\n\t"
            "eor %D0, r0\n\t"
            "mul %C0, %1\n\t"
            "eor %D0, r1\n\t"
            "eor %C0, r0\n\t"
            "mul %B0, %1\n\t"
            "eor %C0, r1\n\t"
            "eor %B0, r0\n\t"
            "mul %A0, %1\n\t"
            "eor %B0, r1\n\t"
            "eor %A0, r0\n\t"
            "clr r1"
            : "+r"(v)
            : "r"((uint8_t)32));
#else
    v ^= v << 13;
    v ^= v >> 17;
    v ^= v << 5;
#endif
    *state = v;
    return v;
}

static FXP_SHORT uint32_t fxp_draw(uint32_t *state)
{
    return fxp_draw_in_line(state);
}

/* A rate with `fraction` fraction bits as m * 2^-s with 128 <= m <= 255, or 0. */
static inline fxp_rate fxp_encode_rate32(uint32_t v, int fraction)
{
    fxp_rate result = {0, 0};
    const int shift = fxp_bit_length32(v) - 8;
    if (v != 0) {
        const uint32_t m = shift > 0 ? ((v >> (shift - 1)) + 1) >> 1 : v << -shift;
        result.s = (int8_t)(fraction - shift - (m == 256 ? 1 : 0));
        result.m = (uint8_t)(m == 256 ? 128 : m);
    }
    return result;
}

/* The same for at most 48 bits. */
static inline fxp_rate fxp_encode_rate(uint64_t wide, int fraction)
{
    return wide >> 32 == 0 ? fxp_encode_rate32((uint32_t)wide, fraction)
                           : fxp_encode_rate32((uint32_t)(wide >> 16), fraction - 16);
}

/* A rate with 24 fraction bits, shared over a batch. */
static inline fxp_rate fxp_learning_rate(uint32_t rate, unsigned batch)
{
    return batch == 1 ? fxp_encode_rate32(rate, 24)
                      : fxp_encode_rate(((uint64_t)rate << 16) / batch, 40);
}

/* A rate times a factor with 16 fraction bits. */
static inline fxp_rate fxp_scale_rate(fxp_rate rate, uint32_t factor)
{
    return fxp_encode_rate((uint64_t)rate.m * factor, rate.s + 16);
}

/* Where none are lost. */
static FXP_OUTLINE int32_t fxp_fold_up(int16_t error, fxp_rate rate, int k)
{
    return fxp_narrow32_any(-(int32_t)error * rate.m, k, 16);
}

/* -error * rate as 16 bits, k bits shorter than the product, stochastically rounded. */
static inline int32_t fxp_fold(int16_t error, fxp_rate rate, int k, uint32_t *random)
{
    if (error == 0 || k > 30) {
        return 0;
    }
    if (k <= 0) {
        return fxp_fold_up(error, rate, k);
    }
#ifdef __AVR__
    /* Twice as large so often that only whole bytes are lost. */
    const uint8_t bytes = (uint8_t)((uint8_t)(k + 7) >> 3);
    const uint16_t m = (uint16_t)(rate.m << (uint8_t)(8 * bytes - (uint8_t)k));
    const int32_t product = -fxp_times16(error, m);
    const uint32_t draw = fxp_draw_in_line(random);
    if (bytes == 1) {
        return fxp_sat16((product + (int32_t)(draw >> 24)) >> 8);
    }
    if (bytes == 2) {
        return (int16_t)((product + (int32_t)(draw >> 16)) >> 16);
    }
    if (bytes == 3) {
        return (int8_t)((product + (int32_t)(draw >> 8)) >> 24);
    }
    return (product < 0 ? -1 : 0) + ((uint32_t)product + draw < draw ? 1 : 0);
#else
    const int32_t product = -(int32_t)error * rate.m;
    return fxp_sat16((product + (int32_t)(fxp_draw(random) >> (32 - k))) >> k);
#endif
}

/* -gradient with k bits less, rounded to nearest, as 24 bits; |gradient| <= 2^30. */
static inline int32_t fxp_step24(int32_t gradient, int k)
{
    if (k > 30) {
        return 0;
    }
    if (k < 1) {
        return fxp_narrow_any(-(int64_t)gradient, k, 24);
    }
    return fxp_limited(((-gradient >> (k - 1)) + 1) >> 1, 24);
}

/* floor(sqrt(v)) */
static inline uint32_t fxp_sqrt(uint32_t v)
{
    uint32_t root = 0;
    for (uint32_t bit = (uint32_t)1 << 30; bit != 0; bit >>= 2) {
        const uint32_t trial = root + bit;
        root >>= 1;
        if (v >= trial) {
            v -= trial;
            root += bit;
        }
    }
    return root;
}

/* The same of v < 2^31 whose root is near another one. Newton's method comes from above; where that
 * is dear, five bits are tried. */
static inline uint32_t fxp_sqrt_near(uint32_t v, uint16_t near)
{
#if FXP_DIVIDES
    if (v == 0) {
        return 0;
    }
    uint32_t root = near != 0 ? near : (uint32_t)1 << ((fxp_bit_length32(v) + 1) / 2);
    uint32_t ratio = v / root;
    do {
        root = (root + ratio) >> 1;
        ratio = v / root;
    } while (ratio < root);
    return root;
#else
    uint16_t root = (uint16_t)(near > 16 ? near - 16 : 0);
    const uint16_t beyond = (uint16_t)(root + 32);
    if (v < fxp_product16(root, root) || v >= fxp_product16(beyond, beyond)) {
        return fxp_sqrt(v);
    }
    for (uint8_t bit = 16; bit != 0; bit >>= 1) {
        const uint16_t trial = (uint16_t)(root + bit);
        root = v >= fxp_product16(trial, trial) ? trial : root;
    }
    return root;
#endif
}

/* beta * m + (1 - beta) * g, rounded by a dither; beta and the dither have 15 fraction bits, g has
 * 4 more than m, and at most 22 bits. */
static inline int16_t fxp_mean(int16_t m, int32_t g, int32_t beta, int32_t dither)
{
    const int64_t fresh = fxp_rescale(fxp_times32(g, 32768 - beta), 4);
    return (int16_t)fxp_sat16((int32_t)(((int32_t)m * beta + fresh + dither) >> 15));
}

/* sqrt(beta * root^2 + (1 - beta) * g^2), rounded by a dither of 16 bits; beta has 20 fraction
 * bits. Between two neighbours the square is taken for a straight line. */
static inline int16_t fxp_root_mean_square(int16_t root, int32_t g, int32_t beta, uint32_t dither)
{
    const uint32_t rest_of_1 = (uint32_t)(1048576 - beta);
    const uint64_t squared = (uint64_t)fxp_times32(g, g); /* at most 43 bits */
    const uint32_t high = (uint32_t)(squared >> 32) * rest_of_1;
    const uint64_t fresh = fxp_product32((uint32_t)squared, rest_of_1) + ((uint64_t)high << 32);
    const uint64_t kept = fxp_product32((uint32_t)((int32_t)root * root), (uint32_t)beta) << 8;
    const uint64_t most = (uint64_t)(INT16_MAX * (uint32_t)INT16_MAX) << 28;
    const uint64_t square = kept + fresh < most ? kept + fresh : most;
    const uint32_t below = fxp_sqrt_near((uint32_t)(square >> 28), (uint16_t)root);
    const uint32_t rest = (uint32_t)(square >> 12) - (below * below << 16); /* < 65535 * 2^16 */
    const int up = dither * (2 * below + 1) < rest;
    return (int16_t)(below + (up ? 1u : 0u));
}

/* numerator / denominator; the denominator is below 2^31. */
static inline uint32_t fxp_divided(uint32_t numerator, uint32_t denominator)
{
#if !FXP_DIVIDES /* a library would take twice as many steps */
    uint32_t rest = numerator >> 16;
    if (rest < denominator) {
        uint32_t ratio = numerator << 16;
        for (uint8_t i = 0; i < 16; i++) {
            rest = rest << 1 | ratio >> 31;
            ratio <<= 1;
            if (rest >= denominator) {
                rest -= denominator;
                ratio++;
            }
        }
        return ratio;
    }
#endif
    return numerator / denominator;
}

/* numerator / denominator, rounded to nearest; both have at most 31 bits. */
static inline int32_t fxp_quotient(int32_t numerator, int32_t denominator)
{
    const uint32_t size = numerator < 0 ? 0u - (uint32_t)numerator : (uint32_t)numerator;
    const uint32_t half = (uint32_t)denominator >> 1;
    const int32_t ratio = (int32_t)fxp_divided(size + half, (uint32_t)denominator);
    return numerator < 0 ? -ratio : ratio;
}

/* ratio * m * 2^-shift as 32 bits; m has 9. */
static inline int32_t fxp_scaled(int32_t ratio, int32_t m, int shift)
{
    return shift < 1 && shift > -16 ? fxp_sat32(fxp_times32(ratio, m * ((int32_t)1 << -shift)))
                                    : (int32_t)fxp_narrow(fxp_times32(ratio, m), shift, 32);
}

/* m * 2^-shift in whole units, at least 1. */
static inline int32_t fxp_epsilon(int32_t m, int shift)
{
    const int32_t units = (int32_t)fxp_narrow(m, shift, 15);
    return units < 1 ? 1 : units;
}

/* `peak` and the magnitudes of v, joined by or. */
static inline uint32_t fxp_join16(uint32_t peak, const int16_t *v, int32_t n)
{
#if FXP_DSP
    uint32_t both = 0;
    for (; n >= 2; n -= 2, v += 2) { /* a half that is not below 0 stays as it is */
        uint32_t pair, other;
        memcpy(&pair, v, 4);
        __asm__("mvn %[other], %[pair]\n\t"
                "ssub16 r12, %[pair], %[zero]\n\t"
                "sel %[pair], %[pair], %[other]"
                : [pair] "+r"(pair), [other] "=&r"(other)
                : [zero] "r"(0)
                : "r12");
        both |= pair;
    }
    peak |= (both | both >> 16) & 0x7FFFu;
#endif
    for (; n > 0; n--, v++) {
        peak |= (uint16_t)(*v ^ (*v >> 15));
    }
    return peak;
}

/* Whether values of 16 bits with f fraction bits should have one more (1) or one less (-1). */
static inline int fxp_fitting(uint32_t peak, int8_t *f)
{
    const int more = peak > 0 && peak < 4096 && *f < 60 ? 1 : 0;
    const int less = peak >= 16384 && *f > -16 ? 1 : 0;
    *f = (int8_t)(*f + more - less);
    return more - less;
}

/* (v * 2^-shift)^2 */
static inline uint64_t fxp_square(int32_t v, int shift)
{
    const int64_t rounded = fxp_rescale(v, shift);
    return (uint64_t)(rounded * rounded);
}

static inline uint64_t fxp_squares8(const int8_t *v, int32_t n)
{
    uint64_t sum = 0;
    for (; n > 0; n--, v++) {
        sum += (uint64_t)((int32_t)*v * *v);
    }
    return sum;
}

static inline uint64_t fxp_squares16(const int16_t *v, int32_t n)
{
    uint64_t sum = 0;
    for (; n > 0; n--, v++) {
        sum += (uint64_t)((int32_t)*v * *v);
    }
    return sum;
}

/* A length r * 2^-f; r has 16 bits, or is 0. */
typedef struct {
    uint32_t r;
    int f;
} fxp_norm;

/* From the sum of the squares of numbers with f fraction bits. */
static inline fxp_norm fxp_norm_of(uint64_t squares, int f)
{
    const int room = 32 - fxp_bit_length(squares);
    const int up = room - (room & 1);
    const uint64_t cut = up >= 0 ? squares << up : squares >> -up;
    const fxp_norm norm = {fxp_sqrt((uint32_t)cut), f + up / 2};
    return norm;
}

/* That of an outer product. */
static inline fxp_norm fxp_norm_of_outer(fxp_norm rows, fxp_norm columns)
{
    const fxp_norm norm = {(uint32_t)(((uint64_t)rows.r * columns.r) >> 16),
                           rows.f + columns.f - 16};
    return norm;
}

/* min(1, longest / norm) with 16 fraction bits, where the longest is r * 2^-f. */
static inline uint32_t fxp_clip(fxp_norm norm, uint32_t r, int f)
{
    const int shift = 15 + f - norm.f;
    if (norm.r == 0 || shift <= 0) {
        return 65536;
    }
    const int64_t factor = fxp_rescale((int64_t)(((uint64_t)r << 31) / norm.r), shift);
    return factor < 65536 ? (uint32_t)factor : 65536;
}

/* rate * m * 2^-s as a share of 1: below 2^-24 it is 0, from 1 up nearly 1. */
static inline fxp_rate fxp_share(fxp_rate rate, int32_t m, int s)
{
    fxp_rate share = fxp_encode_rate((uint64_t)rate.m * (uint32_t)m, rate.s + s);
    if (share.s > 32) {
        share.m = 0;
    } else if (share.m != 0 && share.s < 8) {
        share.m = 255;
        share.s = 8;
    }
    return share;
}

/* Every weight less its share, which is rounded by a random word of its own. */
static inline void fxp_decay8(int8_t *w, int32_t n, fxp_rate rate, int32_t m, int s,
                              uint32_t *random)
{
    const fxp_rate share = fxp_share(rate, m, s);
    if (share.m != 0) {
        uint32_t draw = fxp_draw(random);
        for (; n > 0; n--, w++) {
            draw += 0x9E3779B9u;
            const int64_t lost = (int64_t)*w * share.m + (draw >> (32 - share.s));
            *w = (int8_t)(*w - (lost >> share.s));
        }
    }
}

static inline void fxp_decay16(int16_t *w, int32_t n, fxp_rate rate, int32_t m, int s,
                               uint32_t *random)
{
    const fxp_rate share = fxp_share(rate, m, s);
    if (share.m != 0) {
        uint32_t draw = fxp_draw(random);
        for (; n > 0; n--, w++) {
            draw += 0x9E3779B9u;
            const int64_t lost = (int64_t)*w * share.m + (draw >> (32 - share.s));
            *w = (int16_t)(*w - (lost >> share.s));
        }
    }
}

#if FXP_SMALL_THUMB
/* Past eights of weights of 15 bits, from a word on; of `n` weights those that are left. */
static inline const int16_t *fxp_past_small16(const int16_t *w, int32_t *n)
{
    int32_t left = *n;
    /* clang-format off */
#define FXP_OF_15_BITS(two) "lsls r2, " two ", #1\n\teors " two ", r2\n\t"
    __asm__ volatile(".syntax unified\n\t"
                     "subs %[n], %[n], #8\n\t"
                     "blt 3f\n"
                     "1:\n\t"
                     "ldmia %[w]!, {r3, r4, r5, r6}\n\t" FXP_OF_15_BITS("r3")
                     FXP_OF_15_BITS("r4") FXP_OF_15_BITS("r5") FXP_OF_15_BITS("r6")
                     "orrs r3, r4\n\t"
                     "orrs r5, r6\n\t"
                     "orrs r3, r5\n\t"
                     "mov r2, %[signs]\n\t"
                     "tst r3, r2\n\t"
                     "bne 2f\n\t"
                     "subs %[n], %[n], #8\n\t"
                     "bge 1b\n\t"
                     "b 3f\n"
                     "2:\n\t"
                     "subs %[w], %[w], #16\n"
                     "3:\n\t"
                     "adds %[n], %[n], #8"
                     : [w] "+l"(w), [n] "+l"(left)
                     : [signs] "h"(0x80008000u)
                     : "r2", "r3", "r4", "r5", "r6", "cc", "memory");
#undef FXP_OF_15_BITS
    /* clang-format on */
    *n = left;
    return w;
}
#endif

/* The largest of n >= 1 numbers. */
static inline int16_t fxp_largest(const int16_t *x, int n)
{
#if FXP_MVE
    int32_t largest = INT16_MIN;
    __asm__ volatile("dlstp.16 lr, %[n]\n"
                     "1:\n\t"
                     "vldrh.u16 q0, [%[x]], #16\n\t"
                     "vmaxv.s16 %[largest], q0\n\t"
                     "letp lr, 1b"
                     : [x] "+r"(x), [largest] "+r"(largest)
                     : [n] "r"(n)
                     : "lr", "q0", "memory");
    return (int16_t)largest;
#elif FXP_DSP
    /* Two at once; the first of an odd number twice. */
    uint32_t both = (uint16_t)*x * 0x10001u, two, difference;
    x += n & 1;
    n >>= 1;
    if (n > 0) {
        __asm__ volatile("1:\n\t"
                         "ldr %[two], [%[x]], #4\n\t"
                         "ssub16 %[difference], %[two], %[both]\n\t"
                         "sel %[both], %[two], %[both]\n\t"
                         "subs %[n], %[n], #1\n\t"
                         "bne 1b"
                         : [x] "+r"(x), [n] "+r"(n), [both] "+r"(both), [two] "=&r"(two),
                           [difference] "=&r"(difference)
                         :
                         : "cc", "memory");
    }
    const int32_t first = (int16_t)both, second = (int32_t)both >> 16;
    return (int16_t)(first > second ? first : second);
#else
    int32_t largest = x[0];
    for (int i = 1; i < n; i++) {
        largest = x[i] > largest ? x[i] : largest;
    }
    return (int16_t)largest;
#endif
}

/* Whether a weight is within 2^-6 of its rail. */
static FXP_OUTLINE int fxp_near_rail16(const int16_t *w, int32_t n)
{
#if FXP_MVE
    /* One instruction loads 64 weights that lie at words. Of the largest magnitude only one tells
     * nothing: then the largest weight does. */
    const int16_t *at = w;
    uint32_t size = 0;
    const int32_t sixtyfours = ((uintptr_t)w & 3u) == 0 ? n >> 6 : 0;
    __asm__ volatile("wls lr, %[blocks], 2f\n"
                     "1:\n\t"
                     "vldmia %[at]!, {d0-d15}\n\t"
                     "vmaxav.s16 %[size], q0\n\t"
                     "vmaxav.s16 %[size], q1\n\t"
                     "vmaxav.s16 %[size], q2\n\t"
                     "vmaxav.s16 %[size], q3\n\t"
                     "vmaxav.s16 %[size], q4\n\t"
                     "vmaxav.s16 %[size], q5\n\t"
                     "vmaxav.s16 %[size], q6\n\t"
                     "vmaxav.s16 %[size], q7\n\t"
                     "le lr, 1b\n"
                     "2:\n\t"
                     "wlstp.16 lr, %[rest], 4f\n"
                     "3:\n\t"
                     "vldrh.u16 q0, [%[at]], #16\n\t"
                     "vmaxav.s16 %[size], q0\n\t"
                     "letp lr, 3b\n"
                     "4:"
                     : [at] "+r"(at), [size] "+r"(size)
                     : [blocks] "r"(sixtyfours), [rest] "r"(n - 64 * sixtyfours)
                     : "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "memory");
    if ((uint16_t)size != 32768 - 512) {
        return (uint16_t)size > 32768 - 512;
    }
    return fxp_largest(w, n) == 32768 - 512;
#elif FXP_DSP
    /* Most weights have 15 bits; the flag Q tells of the others. Only then: w + 0x8200, as numbers
     * without a sign, are below 0x400 where w is near; the rest reach 0xFFFF with 0xFBFF. */
    const int sixteens = ((uintptr_t)w & 3u) == 0 ? n >> 4 : 0;
    if (sixteens > 0) {
        const int16_t *at = w;
        int32_t left = sixteens;
        uint32_t all = 0;
        __asm__ volatile("msr APSR_nzcvq, %[all]\n"
                         "1:\n\t"
                         "ldmia %[w]!, {r3, r4, r5, r6, r8, r9, r10, r12}\n\t"
                         "ssat16 r3, #15, r3\n\t"
                         "ssat16 r4, #15, r4\n\t"
                         "ssat16 r5, #15, r5\n\t"
                         "ssat16 r6, #15, r6\n\t"
                         "ssat16 r8, #15, r8\n\t"
                         "ssat16 r9, #15, r9\n\t"
                         "ssat16 r10, #15, r10\n\t"
                         "ssat16 r12, #15, r12\n\t"
                         "subs %[n], %[n], #1\n\t"
                         "bgt 1b\n\t"
                         "mrs %[all], APSR"
                         : [w] "+r"(at), [n] "+r"(left), [all] "+r"(all)
                         :
                         : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r12", "cc", "memory");
        if ((all & 0x08000000u) != 0) {
            all = 0xFFFFFFFFu;
            at = w;
            left = 4 * sixteens;
            __asm__ volatile("1:\n\t"
                             "ldmia %[w]!, {r3, r4}\n\t"
                             "uadd16 r3, r3, %[near]\n\t"
                             "uadd16 r4, r4, %[near]\n\t"
                             "uqadd16 r3, r3, %[rest]\n\t"
                             "uqadd16 r4, r4, %[rest]\n\t"
                             "and %[all], %[all], r3\n\t"
                             "and %[all], %[all], r4\n\t"
                             "subs %[n], %[n], #1\n\t"
                             "bgt 1b"
                             : [w] "+r"(at), [n] "+r"(left), [all] "+r"(all)
                             : [near] "r"(0x82008200u), [rest] "r"(0xFBFFFBFFu)
                             : "r3", "r4", "cc", "memory");
            if (all != 0xFFFFFFFFu) {
                return 1;
            }
        }
        w = at;
        n -= 16 * sixteens;
    }
#endif
#if UINTPTR_MAX > 0xFFFFFFFFu
    int16_t least = 0, most = 0; /* which compilers find in vectors; clang takes many at once */
#ifndef __clang__
    FXP_UNROLL(8)
#endif
    for (int32_t i = 0; i < n; i++) {
        const int16_t v = w[i];
        least = v < least ? v : least;
        most = v > most ? v : most;
    }
    return ~least >= 32768 - 512 || most >= 32768 - 512;
#elif !FXP_MVE
    int32_t room = 0; /* below 0 where one is near */
#if FXP_SMALL_THUMB
    if (((uintptr_t)w & 3u) == 0) {
        for (w = fxp_past_small16(w, &n); n >= 8; w = fxp_past_small16(w, &n)) {
            for (const int16_t *const end = w + 8; w < end; w++) {
                room |= 32768 - 512 - 1 - (*w ^ (*w >> 15));
            }
            n -= 8;
        }
    }
#endif
#if !FXP_DSP
    for (; n >= 4; n -= 4, w += 4) {
        room |= 32768 - 512 - 1 - (w[0] ^ (w[0] >> 15));
        room |= 32768 - 512 - 1 - (w[1] ^ (w[1] >> 15));
        room |= 32768 - 512 - 1 - (w[2] ^ (w[2] >> 15));
        room |= 32768 - 512 - 1 - (w[3] ^ (w[3] >> 15));
    }
#endif
    for (; n > 0; n--, w++) {
        room |= 32768 - 512 - 1 - (*w ^ (*w >> 15));
    }
    return room < 0;
#endif
}

static inline int fxp_near_rail8(const int8_t *w, int32_t n)
{
    int peak = 0;
    for (; n > 0; n--, w++) {
        const int size = *w ^ (*w >> 7);
        peak = size > peak ? size : peak;
    }
    return peak >= 128 - 2;
}

/* Half of every value, rounded half up. */
static inline void fxp_halve8(int8_t *v, int32_t n)
{
    for (; n > 0; n--, v++) {
        *v = (int8_t)((*v + 1) >> 1);
    }
}

static inline void fxp_halve16(int16_t *v, int32_t n)
{
    for (; n > 0; n--, v++) {
        *v = (int16_t)(((int32_t)*v + 1) >> 1);
    }
}

/* Every value with one fraction bit more (1), one less (-1), or as it is. */
static inline void fxp_refit16(int16_t *v, int32_t n, int more)
{
    if (more < 0) {
        fxp_halve16(v, n);
    }
    for (; more > 0 && n > 0; n--, v++) {
        *v = (int16_t)(*v * 2);
    }
}

/* Halves weights that near their rail, and gives them a fraction bit less; returns whether. */
static inline int fxp_renormalise8(int8_t *w, int32_t n, int8_t *f)
{
    if (*f <= -8 || !fxp_near_rail8(w, n)) {
        return 0;
    }
    fxp_halve8(w, n);
    *f = (int8_t)(*f - 1);
    return 1;
}

static inline int fxp_renormalise16(int16_t *w, int32_t n, int8_t *f)
{
    if (*f <= -8 || !fxp_near_rail16(w, n)) {
        return 0;
    }
    fxp_halve16(w, n);
    *f = (int8_t)(*f - 1);
    return 1;
}

/* ---- curves --------------------------------------------------------------------------------- */

/* tanh(x * 2^-15) with 15 fraction bits; the table has tanh(i / 32) with 15 fraction bits. */
static FXP_SHARED int32_t fxp_tanh_of(const FXP_FLASH uint16_t table[257], int32_t x)
{
    const uint8_t is_negative = x < 0;
    uint32_t size = is_negative ? 0u - (uint32_t)x : (uint32_t)x;
    size = size < 262144 ? size : 262143;
    /* Shifts by whole bytes come first: cores of 8 bits have no others of one step. */
    const FXP_FLASH uint16_t *const at = &table[(uint16_t)(size >> 8) >> 2];
    const uint16_t low = at[0], rest = (uint16_t)(size & 1023);
    const uint32_t part = fxp_product16((uint16_t)(at[1] - low), rest) + 512;
    const int32_t y = (int32_t)(uint16_t)(low + ((uint16_t)(part >> 8) >> 2));
    return is_negative ? -y : y;
}

/* tanh(v * 2^-f) with 15 fraction bits */
static inline int32_t fxp_tanh(const FXP_FLASH uint16_t table[257], int64_t v, int f)
{
    return fxp_tanh_of(table, (int32_t)fxp_narrow(v, f - 15, 24));
}

static inline int32_t fxp_tanh32(const FXP_FLASH uint16_t table[257], int32_t v, int f)
{
    const int down = f - 15;
    const int is_usual = (unsigned)down <= 31; /* then the table's end is as good as saturation */
    return fxp_tanh_of(table, is_usual ? fxp_round32(v, down) : fxp_narrow32(v, down, 24));
}

/* min(max(x / 6 + 1 / 2, 0), 1) of x = v * 2^-f, with 24 fraction bits. */
static inline int32_t fxp_gate(int64_t v, int f)
{
    const int64_t above = fxp_narrow(v, f - 24, 32) + 50331648; /* x + 3 */
    return (int32_t)fxp_rescale(fxp_clamp(above, 0, 100663296) * 178956971, 30);
}

/* 32 bits that look random, of 32 bits. */
static inline uint32_t fxp_hash(uint32_t v)
{
    v = (v ^ (v >> 16)) * 0x7FEB352Du;
    v = (v ^ (v >> 15)) * 0x846CA68Bu;
    return v ^ (v >> 16);
}

/* The seed of a layer for the sample that comes after `steps` others. */
static inline uint32_t fxp_seed(uint32_t steps, uint32_t layer)
{
    return fxp_hash(fxp_hash(steps) + layer);
}

/* x = distance * 2^-f, 0 <= distance < 2^32, as an exponent of 2 with 26 fraction bits:
 * x * log2(e). */
static inline uint64_t fxp_exponent(int64_t distance, int f)
{
    const uint64_t product = fxp_product32((uint32_t)distance, 1549082005);
    return (uint64_t)fxp_rescale((int64_t)product, f + 4);
}

/* The same in a function of its own. */
static FXP_OUTLINE uint64_t fxp_exponent_apart(uint32_t distance, int f)
{
    return fxp_exponent(distance, f);
}

/* The same as 32 bits, at the most; distance < 2^17. */
static inline uint32_t fxp_exponent32(uint32_t distance, int f)
{
#if UINTPTR_MAX > 0xFFFFFFFFu
    const uint64_t t = fxp_exponent(distance, f);
    return t > UINT32_MAX ? UINT32_MAX : (uint32_t)t;
#else
    const int up = 27 - f;
    if (up < 0) {
        return (uint32_t)fxp_exponent_apart(distance, f);
    }
    if (distance > (up > 31 ? 0 : UINT32_MAX >> up)) {
        return UINT32_MAX;
    }
    const uint64_t product = fxp_product32(distance << (up & 31), 3098164010u);
    return (uint32_t)((product + ((uint64_t)1 << 31)) >> 32);
#endif
}

static inline uint32_t fxp_upper_product(uint32_t a, uint32_t b)
{
    return (uint32_t)(fxp_product32(a, b) >> 32);
}

/* 2^-(t * 2^-26) with `fraction` fraction bits: a table of 2^(31 - i / 32) for 5 bits of t, a cubic
 * below them. */
static inline uint32_t fxp_exp2(const FXP_FLASH uint32_t table[32], uint32_t t, int fraction)
{
    const uint32_t z = (uint32_t)(fxp_product32(t & 0x1FFFFF, 2977044472u) >> 26);
    const uint32_t z2 = fxp_upper_product(z, z); /* z < 2^27 */
    const uint32_t z3 = fxp_upper_product(z2, z);
    const uint32_t lost = z - (z2 >> 1) + ((z3 * 43691u) >> 18); /* of 2^32 */
    const uint32_t shift = 30u - (unsigned)fraction + (t >> 26);
    if (shift > 30) {
        return 0;
    }
    const uint32_t whole = table[(t >> 21) & 31];
    const uint64_t power = ((uint64_t)whole << 32) - fxp_product32(whole, lost);
    return (((uint32_t)(power >> 32) >> shift) + 1) >> 1;
}

/* log2(v * 2^-fraction) with 26 fraction bits, 2^fraction <= v: the power of 2 in the table of
 * fxp_exp2 that brings v nearest above a power of two gives 5 bits; what is left is 1 + z, where a
 * cubic is log(1 + z). */
static inline uint32_t fxp_log2(const FXP_FLASH uint32_t table[32], uint32_t v, int fraction)
{
    const int exponent = fxp_bit_length32(v) - 1;
    const uint32_t mantissa = v << (31 - exponent);
    uint32_t index = (mantissa >> 26) & 31; /* log2(1 + x) is x at least */
    uint32_t whole = fxp_upper_product(mantissa, table[index]);
    while (index < 31) {
        const uint32_t next = fxp_upper_product(mantissa, table[index + 1]);
        if (next >> 30 == 0) {
            break;
        }
        whole = next;
        index++;
    }
    const uint32_t z = whole - ((uint32_t)1 << 30); /* 30 fraction bits, z < 2^25 */
    const uint32_t z2 = (uint32_t)(fxp_product32(z, z) >> 31);
    const uint32_t z3 = (uint32_t)(fxp_product32(z2, z) >> 30) * 43691u >> 16;
    const uint32_t rest = (uint32_t)(fxp_product32(z - z2 + z3, 1549082005u) >> 34);
    return ((uint32_t)(exponent - fraction) << 26) + (index << 21) + rest;
}

/* x = v * 2^-f where x > 0, else alpha * (exp(x) - 1), with out_f <= 45 fraction bits; alpha has
 * 15. */
static inline int64_t fxp_elu(const FXP_FLASH uint32_t table[32], int64_t v, int f, int32_t alpha,
                              int out_f)
{
    if (v > 0) {
        return fxp_rescale(v, f - out_f);
    }
    const uint64_t distance = fxp_exponent(-fxp_narrow(v, f - 26, 32), 26);
    const uint32_t near = distance > UINT32_MAX ? UINT32_MAX : (uint32_t)distance;
    const int64_t power = fxp_exp2(table, near, 30);
    return fxp_rescale(alpha * (power - ((int64_t)1 << 30)), 45 - out_f);
}

/* x / (1 + |x|) of x = v * 2^-f, with 24 fraction bits: one division of at most 63 by 39 bits. */
static inline int32_t fxp_softsign(int64_t v, int f)
{
    uint64_t size = v < 0 ? (uint64_t)-v : (uint64_t)v;
    if (f < 0) {
        size = (size < (uint64_t)1 << 40 ? size : (uint64_t)1 << 40) << -f;
        f = 0;
    }
    const uint64_t whole = size + ((uint64_t)1 << f);
    const int length = fxp_bit_length(whole);
    const int shift = length > 39 ? length - 39 : 0;
    const uint64_t divisor = whole >> shift;
    const int32_t y = (int32_t)(((size >> shift << 24) + divisor / 2) / divisor);
    return v < 0 ? -y : y;
}
#endif
