/* fxp_kernels.h: the inner loops of networks that mcugrad generates. Part of their runtime.
 *
 * Each has one meaning, given by its plain C; cores with DSP instructions get another body that
 * computes the same bits. Sums are exact, or shifted product by product so that 32 bits hold them.
 * They stay functions of their own, so that all layers share them.
 */
#ifndef FXP_KERNELS_H
#define FXP_KERNELS_H

#include "fxp.h"

#if defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_UNALIGNED) && !defined(__ARM_BIG_ENDIAN)
#include <arm_acle.h>
#define FXP_DSP 1
#else
#define FXP_DSP 0
#endif

#define FXP_BLOCK 256 /* products of 16 by 8 bits whose sum fits 32 bits: 256 * 2^22 = 2^30 */

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

/* ---- sums of products ----------------------------------------------------------------------- */

/* sum of a[i] * b[i], exact */
static FXP_OUTLINE int64_t fxp_dot16(const int16_t *a, const int16_t *b, int n)
{
    int64_t sum = 0;
#if FXP_DSP
#define FXP_DOT_8                                                                                  \
    "ldmia %[a]!, {r3, r4, r5, r6}\n\t"                                                            \
    "ldmia %[b]!, {r8, r9, r10, r12}\n\t"                                                          \
    "smlald %Q[sum], %R[sum], r3, r8\n\t"                                                          \
    "smlald %Q[sum], %R[sum], r4, r9\n\t"                                                          \
    "smlald %Q[sum], %R[sum], r5, r10\n\t"                                                         \
    "smlald %Q[sum], %R[sum], r6, r12\n\t"
    if (fxp_are_words(a, b)) {
        __asm__ volatile("subs %[n], %[n], #32\n\t"
                         "blt 2f\n"
                         "1:\n\t" FXP_DOT_8 FXP_DOT_8 FXP_DOT_8 FXP_DOT_8 "subs %[n], %[n], #32\n\t"
                         "bge 1b\n"
                         "2:\n\t"
                         "adds %[n], %[n], #24\n\t"
                         "blt 4f\n"
                         "3:\n\t" FXP_DOT_8 "subs %[n], %[n], #8\n\t"
                         "bge 3b\n"
                         "4:\n\t"
                         "add %[n], %[n], #8"
                         : [a] "+r"(a), [b] "+r"(b), [n] "+r"(n), [sum] "+r"(sum)
                         :
                         : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r12", "cc", "memory");
    }
#undef FXP_DOT_8
#define FXP_DOT_2                                                                                  \
    "ldr r3, [%[a]], #4\n\t"                                                                       \
    "ldr r4, [%[b]], #4\n\t"                                                                       \
    "smlald %Q[sum], %R[sum], r3, r4\n\t"
    __asm__ volatile("subs %[n], %[n], #8\n\t"
                     "blt 2f\n"
                     "1:\n\t" FXP_DOT_2 FXP_DOT_2 FXP_DOT_2 FXP_DOT_2 "subs %[n], %[n], #8\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #6\n\t"
                     "blt 4f\n"
                     "3:\n\t" FXP_DOT_2 "subs %[n], %[n], #2\n\t"
                     "bge 3b\n"
                     "4:\n\t"
                     "add %[n], %[n], #2"
                     : [a] "+r"(a), [b] "+r"(b), [n] "+r"(n), [sum] "+r"(sum)
                     :
                     : "r3", "r4", "cc", "memory");
#undef FXP_DOT_2
    return n > 0 ? sum + (int32_t)*a * *b : sum;
#else
    for (; n > 0; n--, a++, b++) {
        sum += (int32_t)*a * *b;
    }
    return sum;
#endif
}

/* sum of a[i] * b[i], exact */
static FXP_OUTLINE int64_t fxp_dot16x8(const int16_t *a, const int8_t *b, int n)
{
    int64_t sum = 0;
    while (n > 0) {
        int block = n < FXP_BLOCK ? n : FXP_BLOCK;
        int32_t part = 0;
        n -= block;
#if FXP_DSP
        for (; block >= 4; block -= 4, a += 4, b += 4) {
            const int8x4_t quad = fxp_quad(b);
            const int16x2_t even = __sxtb16(quad), odd = fxp_odd(quad);
            part = __smlad(fxp_pair(a), fxp_lower(even, odd), part);
            part = __smlad(fxp_pair(a + 2), fxp_upper(even, odd), part);
        }
#endif
        for (; block > 0; block--, a++, b++) {
            part += (int32_t)*a * *b;
        }
        sum += part;
    }
    return sum;
}

/* sum of a[i] * b[i], exact */
static FXP_OUTLINE int64_t fxp_dot8(const int8_t *a, const int8_t *b, int n)
{
    int64_t sum = 0;
    while (n > 0) {
        int block = n < FXP_BLOCK ? n : FXP_BLOCK;
        int32_t part = 0;
        n -= block;
#if FXP_DSP
        for (; block >= 4; block -= 4, a += 4, b += 4) {
            const int8x4_t p = fxp_quad(a), q = fxp_quad(b);
            part = __smlad(__sxtb16(p), __sxtb16(q), part);
            part = __smlad(fxp_odd(p), fxp_odd(q), part);
        }
#endif
        for (; block > 0; block--, a++, b++) {
            part += (int32_t)*a * *b;
        }
        sum += part;
    }
    return sum;
}

/* sum of (a[i] * b[i]) >> shift, which the caller knows to fit */
static FXP_OUTLINE int32_t fxp_dot16_shifted(const int16_t *a, const int16_t *b, int n, int shift)
{
    int32_t sum = 0;
    for (; n > 0; n--, a++, b++) {
        sum += ((int32_t)*a * *b) >> shift;
    }
    return sum;
}

/* sum of (a[i] * b[i]) >> shift, which the caller knows to fit */
static FXP_OUTLINE int32_t fxp_dot16x8_shifted(const int16_t *a, const int8_t *b, int n, int shift)
{
    int32_t sum = 0;
    for (; n > 0; n--, a++, b++) {
        sum += ((int32_t)*a * *b) >> shift;
    }
    return sum;
}

/* sum of (a[i] * b[i]) >> shift, which the caller knows to fit */
static FXP_OUTLINE int32_t fxp_dot8_shifted(const int8_t *a, const int8_t *b, int n, int shift)
{
    int32_t sum = 0;
    for (; n > 0; n--, a++, b++) {
        sum += ((int32_t)*a * *b) >> shift;
    }
    return sum;
}

/* ---- sums of products down columns ---------------------------------------------------------- */

/* How many neighbouring columns are summed at once. */
#define FXP_COLUMNS 2

/* sums[j] = sum of w[i * stride + j] * e[i], exact, for the first of `columns` columns j */
static FXP_OUTLINE void fxp_columns16(const int16_t *w, int stride, const int16_t *e, int n,
                                      int columns, int64_t sums[FXP_COLUMNS])
{
#if FXP_DSP
    if (columns >= 2) {
        int64_t left = 0, right = 0;
        for (; n >= 2; n -= 2, e += 2) {
            const int16x2_t above = fxp_pair(w), below = fxp_pair(w + stride);
            const int16x2_t pair = fxp_pair(e);
            w += 2 * stride;
            left = __smlald(fxp_lower(above, below), pair, left);
            right = __smlald(fxp_upper(above, below), pair, right);
        }
        sums[0] = n > 0 ? left + (int32_t)w[0] * *e : left;
        sums[1] = n > 0 ? right + (int32_t)w[1] * *e : right;
        return;
    }
#endif
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++, w++) {
        const int16_t *column = w;
        int64_t sum = 0;
        for (int i = 0; i < n; i++, column += stride) {
            sum += (int32_t)*column * e[i];
        }
        sums[j] = sum;
    }
}

/* The same for (w[i * stride + j] * e[i]) >> shift, which the caller knows to fit. */
static FXP_OUTLINE void fxp_columns16_shifted(const int16_t *w, int stride, const int16_t *e, int n,
                                              int columns, int shift, int32_t sums[FXP_COLUMNS])
{
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++, w++) {
        const int16_t *column = w;
        int32_t sum = 0;
        for (int i = 0; i < n; i++, column += stride) {
            sum += ((int32_t)*column * e[i]) >> shift;
        }
        sums[j] = sum;
    }
}

/* sums[j] = sum of w[i * stride + j] * e[i], exact, for the first of `columns` columns j */
static FXP_OUTLINE void fxp_columns16x8(const int16_t *w, int stride, const int8_t *e, int n,
                                        int columns, int64_t sums[FXP_COLUMNS])
{
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++, w++) {
        const int16_t *column = w;
        int64_t sum = 0;
        for (int i = 0; i < n; i++, column += stride) {
            sum += (int32_t)*column * e[i];
        }
        sums[j] = sum;
    }
}

/* The same for (w[i * stride + j] * e[i]) >> shift, which the caller knows to fit. */
static FXP_OUTLINE void fxp_columns16x8_shifted(const int16_t *w, int stride, const int8_t *e,
                                                int n, int columns, int shift,
                                                int32_t sums[FXP_COLUMNS])
{
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++, w++) {
        const int16_t *column = w;
        int32_t sum = 0;
        for (int i = 0; i < n; i++, column += stride) {
            sum += ((int32_t)*column * e[i]) >> shift;
        }
        sums[j] = sum;
    }
}

/* sums[j] = sum of w[i * stride + j] * e[i], exact, for the first of `columns` columns j */
static FXP_OUTLINE void fxp_columns8(const int8_t *w, int stride, const int8_t *e, int n,
                                     int columns, int64_t sums[FXP_COLUMNS])
{
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++, w++) {
        const int8_t *column = w;
        int64_t sum = 0;
        for (int i = 0; i < n; i++, column += stride) {
            sum += (int32_t)*column * e[i];
        }
        sums[j] = sum;
    }
}

/* The same for (w[i * stride + j] * e[i]) >> shift, which the caller knows to fit. */
static FXP_OUTLINE void fxp_columns8_shifted(const int8_t *w, int stride, const int8_t *e, int n,
                                             int columns, int shift, int32_t sums[FXP_COLUMNS])
{
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++, w++) {
        const int8_t *column = w;
        int32_t sum = 0;
        for (int i = 0; i < n; i++, column += stride) {
            sum += ((int32_t)*column * e[i]) >> shift;
        }
        sums[j] = sum;
    }
}

/* ---- updates -------------------------------------------------------------------------------- */

/* w[i] += (m * x[i] + dither) >> 16, saturated; m has 16 bits and a sign, 0 <= dither < 2^16. */
static FXP_OUTLINE void fxp_update16(int16_t *w, const int16_t *x, int n, int32_t m, int32_t dither)
{
#if FXP_DSP
#define FXP_UPDATE_2(w, x)                                                                         \
    "smlabb r12, " x ", %[m], %[dither]\n\t"                                                       \
    "smlatb " x ", " x ", %[m], %[dither]\n\t"                                                     \
    "pkhtb " x ", " x ", r12, asr #16\n\t"                                                         \
    "qadd16 " w ", " w ", " x "\n\t"
#define FXP_UPDATE_8                                                                               \
    "ldmia %[w], {r3, r4, r5, r6}\n\t"                                                             \
    "ldmia %[x]!, {r8, r9, r10, r11}\n\t" FXP_UPDATE_2("r3", "r8") FXP_UPDATE_2("r4", "r9")        \
        FXP_UPDATE_2("r5", "r10") FXP_UPDATE_2("r6", "r11") "stmia %[w]!, {r3, r4, r5, r6}\n\t"
    if (fxp_are_words(w, x)) {
        /* The count lies above m: registers are scarce. */
        int32_t both = (int32_t)(((uint32_t)n << 16) | ((uint32_t)m & 0xFFFFu));
        n &= 7;
        __asm__ volatile("subs %[m], %[m], #0x100000\n\t"
                         "blt 2f\n"
                         "1:\n\t" FXP_UPDATE_8 FXP_UPDATE_8 "subs %[m], %[m], #0x100000\n\t"
                         "bge 1b\n"
                         "2:\n\t"
                         "adds %[m], %[m], #0x80000\n\t"
                         "blt 3f\n\t" FXP_UPDATE_8 "3:"
                         : [w] "+r"(w), [x] "+r"(x), [m] "+r"(both)
                         : [dither] "r"(dither)
                         : "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "cc", "memory");
    }
#undef FXP_UPDATE_2
#undef FXP_UPDATE_8
#endif
    for (; n > 0; n--, w++, x++) {
        *w = fxp_sat16(*w + ((m * *x + dither) >> 16));
    }
}

/* The same for x[i] * 256. */
static FXP_OUTLINE void fxp_update16x8(int16_t *w, const int8_t *x, int n, int32_t m,
                                       int32_t dither)
{
    for (; n > 0; n--, w++, x++) {
        *w = fxp_sat16(*w + ((m * (*x * 256) + dither) >> 16));
    }
}
#endif
