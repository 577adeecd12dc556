/* fxp_kernels.h: the inner loops of networks that mcugrad generates. Part of their runtime.
 *
 * Each has one meaning, given by its plain C; cores with DSP instructions get another body that
 * computes the same bits. Sums are exact. They stay functions of their own, so that all layers
 * share them.
 */
#ifndef FXP_KERNELS_H
#define FXP_KERNELS_H

#include "fxp.h"

/* Cores that add a product to 64 bits in one instruction, but not two. */
#if defined(__thumb2__) && !FXP_DSP && !defined(__ARM_BIG_ENDIAN)
#define FXP_LONG_THUMB 1
#else
#define FXP_LONG_THUMB 0
#endif

/* Both those and the ones that add two; vectors need other loops. */
#if FXP_LONG_THUMB || (FXP_DSP && !FXP_MVE)
#define FXP_THUMB2 1
#else
#define FXP_THUMB2 0
#endif

/* Cores of 32 bits that add to 64 bits in five instructions, with registers for many sums. */
#if defined(__riscv) && __riscv_xlen == 32
#define FXP_RISCV32 1
#else
#define FXP_RISCV32 0
#endif

/* Every x86-64 has vectors of eight numbers of 16 bits. */
#if defined(__SSE2__) && defined(__x86_64__)
#include <emmintrin.h>
#define FXP_SSE2 1

static inline __m128i fxp_eight(const int16_t *v)
{
    return _mm_loadu_si128((const void *)v);
}

/* Four sums of pairs of products: their low words, modulo 2^32, and their upper halves. A pair is
 * from -2^31 + 2^16 to 2^31. Only for the last, of four factors -2^15, it has to be lifted: then it
 * is 32 bits without a sign. */
typedef struct {
    __m128i low, high;
} fxp_pairs;

#define FXP_LIFT 0x7FFF0000

/* Where `lifted` pairs will be lifted, that much less than 0. */
static FXP_INLINE fxp_pairs fxp_no_pairs(int lifted)
{
    const uint32_t low = (uint32_t)lifted * (uint32_t)FXP_LIFT;
    const fxp_pairs none = {_mm_set1_epi32((int)(0u - low)),
                            _mm_set1_epi32(-lifted * (FXP_LIFT >> 16))};
    return none;
}

static FXP_INLINE void fxp_add_pairs(fxp_pairs *sums, __m128i pairs)
{
    sums->low = _mm_add_epi32(sums->low, pairs);
    sums->high = _mm_add_epi32(sums->high, _mm_srai_epi32(pairs, 16));
}

static FXP_INLINE void fxp_add_lifted(fxp_pairs *sums, __m128i pairs)
{
    pairs = _mm_add_epi32(pairs, _mm_set1_epi32(FXP_LIFT));
    sums->low = _mm_add_epi32(sums->low, pairs);
    sums->high = _mm_add_epi32(sums->high, _mm_srli_epi32(pairs, 16));
}

/* Sums are added to in this order: where gcc unrolls a loop it would find another one, for which
 * there are not enough registers. */
static FXP_INLINE void fxp_keep(fxp_pairs *sums, int count)
{
    for (int j = 0; j < count; j++) {
        __asm__("" : "+x"(sums[j].low), "+x"(sums[j].high));
    }
}

/* Four numbers of 64 bits. */
typedef struct {
    __m128i first, second;
} fxp_four;

static FXP_INLINE fxp_four fxp_four_at(const int64_t *v)
{
    const fxp_four four = {_mm_loadu_si128((const void *)v),
                           _mm_loadu_si128((const void *)(v + 2))};
    return four;
}

static FXP_INLINE void fxp_store_four(int64_t *v, fxp_four four)
{
    _mm_storeu_si128((void *)v, four.first);
    _mm_storeu_si128((void *)(v + 2), four.second);
}

/* Those and four sums, each of fewer than 2^16 pairs. */
static FXP_INLINE fxp_four fxp_with_pairs(fxp_four four, fxp_pairs pairs)
{
    const __m128i rest = _mm_sub_epi32(pairs.low, _mm_slli_epi32(pairs.high, 16));
    const __m128i sum = _mm_add_epi32(pairs.high, _mm_srli_epi32(rest, 16));
    const __m128i high = _mm_srai_epi32(sum, 16);
    four.first = _mm_add_epi64(four.first, _mm_unpacklo_epi32(pairs.low, high));
    four.second = _mm_add_epi64(four.second, _mm_unpackhi_epi32(pairs.low, high));
    return four;
}

/* What each of four vectors holds, summed. */
static FXP_INLINE __m128i fxp_sum_each(__m128i a, __m128i b, __m128i c, __m128i d)
{
    const __m128i ab = _mm_add_epi32(_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b));
    const __m128i cd = _mm_add_epi32(_mm_unpacklo_epi32(c, d), _mm_unpackhi_epi32(c, d));
    return _mm_add_epi32(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
}
#else
#define FXP_SSE2 0
#endif

#define FXP_BLOCK 256 /* products of 16 by 8 bits whose sum fits 32 bits: 256 * 2^22 = 2^30 */

/* How many neighbouring sums are computed at once, at the most. */
#define FXP_ROWS 8

/* How many that is for what a layer gives; more where they share a list. */
#if FXP_SMALL_THUMB
#define FXP_SUMS 16
#else
#define FXP_SUMS FXP_ROWS
#endif

/* How many that is in a dense layer where nobody chooses: a call costs instructions, and each sum
 * eight bytes of stack. */
#if FXP_MVE || FXP_SSE2
#define FXP_FEW_ROWS 32
#else
#define FXP_FEW_ROWS 4
#endif

/* How many that is where `left` are left. */
static inline int fxp_part(int left, int most)
{
    return left < most ? left : most;
}

/* How many neighbouring columns are summed at once. */
#if FXP_MVE || FXP_SSE2
#define FXP_COLUMNS 32
#else
#define FXP_COLUMNS 4
#endif

/* The places of the products of a column: `rows` runs of n, all distances in elements. Within a run
 * weights are `step` apart and errors 1; runs begin w_line and e_line apart. */
typedef struct {
    int rows;
    int n;
    int step;
    int w_line;
    int e_line;
} fxp_walk;

#if FXP_DSP
/* Two neighbours of 16 bits, the first in the lower half; any address will do. */
static inline int16x2_t fxp_pair(const int16_t *v)
{
    int16x2_t pair;
    memcpy(&pair, v, 4);
    return pair;
}

/* Four neighbours of 8 bits. */
static inline int8x4_t fxp_quad(const int8_t *v)
{
    int8x4_t quad;
    memcpy(&quad, v, 4);
    return quad;
}

/* The lower, and the upper, halves of two pairs. */
static inline int16x2_t fxp_lower(int16x2_t a, int16x2_t b)
{
    int16x2_t pair;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
}

static inline int16x2_t fxp_upper(int16x2_t a, int16x2_t b)
{
    int16x2_t pair;
    __asm__("pkhtb %0, %2, %1, asr #16" : "=r"(pair) : "r"(a), "r"(b));
    return pair;
}

/* The second and the last of four numbers of 8 bits, as 16 bits each. */
static inline int16x2_t fxp_odd(int8x4_t quad)
{
    int16x2_t pair;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(quad));
    return pair;
}

/* Whether both addresses are those of words, as instructions that load several words need. */
static inline int fxp_are_words(const void *a, const void *b)
{
    return (((uintptr_t)a | (uintptr_t)b) & 3u) == 0;
}
#endif

#include "kernels/helium.h"

#include "kernels/avr.h"

#include "kernels/thumb.h"

#include "kernels/dot.h"

#include "kernels/rows.h"

#include "kernels/columns.h"

#include "kernels/flash.h"

#include "kernels/channels.h"

#include "kernels/windows.h"

#include "kernels/settle.h"

#include "kernels/powers.h"

#include "kernels/stored.h"

#include "kernels/copies.h"

#include "kernels/gradients.h"

#include "kernels/updates.h"

#include "kernels/batches.h"

#include "kernels/velocities.h"
#endif
