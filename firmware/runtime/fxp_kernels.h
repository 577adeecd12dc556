/* fxp_kernels.h: the inner loops of networks that mcugrad generates. Part of their runtime.
 *
 * Each has one meaning, given by its plain C; cores with DSP instructions get another body that
 * computes the same bits. Sums are exact, or shifted product by product so that 32 bits hold them.
 * They stay functions of their own, so that all layers share them.
 */
#ifndef FXP_KERNELS_H
#define FXP_KERNELS_H

#include "fxp.h"

/* Cores that have 16-bit Thumb instructions only. */
#if defined(__ARM_ARCH_6M__) && !defined(__ARM_BIG_ENDIAN)
#define FXP_SMALL_THUMB 1
#else
#define FXP_SMALL_THUMB 0
#endif

/* Every x86-64 has vectors of eight numbers of 16 bits. */
#if defined(__SSE2__)
#include <emmintrin.h>
#define FXP_SSE2 1

static inline __m128i fxp_eight(const int16_t *v)
{
    __m128i eight;
    memcpy(&eight, v, sizeof eight);
    return eight;
}
#else
#define FXP_SSE2 0
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

#if FXP_MVE
/* Loops over vectors: the last one has only the lanes that are left (dlstp, letp), so that any n
 * will do, and any address. What loads eight, or sixteen, neighbours; those of 8 bits are widened
 * to 16 by an instruction that needs a low register. */
#define FXP_EIGHT16(q, at) "vldrh.u16 " q ", [" at "], #16\n\t"
#define FXP_EIGHT8(q, at) "vldrb.s16 " q ", [" at "], #8\n\t"
#define FXP_SIXTEEN8(q, at) "vldrb.u8 " q ", [" at "], #16\n\t"

/* sum += a[i] * b[i], for i < n */
#define FXP_DOT_MVE(eight_a, eight_b)                                                              \
    __asm__ volatile("dlstp.16 lr, %[n]\n"                                                         \
                     "1:\n\t" eight_a("q0", "%[a]") eight_b("q1", "%[b]")                          \
                         "vmlaldava.s16 %Q[sum], %R[sum], q0, q1\n\t"                              \
                         "letp lr, 1b"                                                             \
                     : [a] "+l"(a), [b] "+l"(b), [sum] "+r"(sum)                                   \
                     : [n] "r"(n)                                                                  \
                     : "lr", "q0", "q1", "memory");

/* sums[j] += sum of w[j * n + i] * x[i], for four rows; the sums of `block` products fit 32 bits. */
#define FXP_FOUR_ROWS(weight, load_w, value, load_x, lanes, add, block)                            \
    {                                                                                              \
        const weight *w0 = w, *w1 = w + n, *w2 = w1 + n, *w3 = w2 + n;                             \
        for (int left = n; left > 0; left -= block) {                                              \
            int32_t p = 0, q = 0, r = 0, s = 0;                                                    \
            __asm__ volatile("dlstp." lanes " lr, %[n]\n"                                          \
                             "1:\n\t" load_x("q0", "%[x]")                                         \
                             load_w("q1", "%[w0]") add " %[p], q0, q1\n\t"                         \
                             load_w("q1", "%[w1]") add " %[q], q0, q1\n\t"                         \
                             load_w("q1", "%[w2]") add " %[r], q0, q1\n\t"                         \
                             load_w("q1", "%[w3]") add " %[s], q0, q1\n\t"                         \
                             "letp lr, 1b"                                                         \
                             : [w0] "+l"(w0), [w1] "+l"(w1), [w2] "+l"(w2), [w3] "+l"(w3),         \
                               [x] "+l"(x), [p] "+Te"(p), [q] "+Te"(q), [r] "+Te"(r), [s] "+Te"(s) \
                             : [n] "r"(left < block ? left : block)                                \
                             : "lr", "q0", "q1", "memory");                                        \
            sums[0] += p;                                                                          \
            sums[1] += q;                                                                          \
            sums[2] += r;                                                                          \
            sums[3] += s;                                                                          \
        }                                                                                          \
    }

static inline void fxp_four_rows16x8(const int16_t *w, const int8_t *x, int n, int64_t sums[4])
FXP_FOUR_ROWS(int16_t, FXP_EIGHT16, int8_t, FXP_EIGHT8, "16", "vmladava.s16", FXP_BLOCK)

static inline void fxp_four_rows8x16(const int8_t *w, const int16_t *x, int n, int64_t sums[4])
FXP_FOUR_ROWS(int8_t, FXP_EIGHT8, int16_t, FXP_EIGHT16, "16", "vmladava.s16", FXP_BLOCK)

static inline void fxp_four_rows8(const int8_t *w, const int8_t *x, int n, int64_t sums[4])
FXP_FOUR_ROWS(int8_t, FXP_SIXTEEN8, int8_t, FXP_SIXTEEN8, "8", "vmladava.s8", 16384)

/* The same for products of 16 by 16 bits, whose sums need pairs of registers. */
static inline void fxp_four_rows16(const int16_t *w, const int16_t *x, int n, int64_t sums[4])
{
    register const int16_t *r8 __asm__("r8") = w;
    register int r9 __asm__("r9") = n;
    register int64_t *r10 __asm__("r10") = sums;
    register const int16_t *r12 __asm__("r12") = x;
    __asm__ volatile("push {r7, r10}\n\t"
                     "dlstp.16 lr, r9\n\t"
                     "ldm r10, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "lsl r11, r9, #1\n\t"
                     "add r9, r8, r11\n\t"
                     "add r10, r9, r11\n\t"
                     "add r11, r10, r11\n"
                     "1:\n\t" FXP_EIGHT16("q0", "r12")
                     FXP_EIGHT16("q1", "r8") "vmlaldava.s16 r0, r1, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r9") "vmlaldava.s16 r2, r3, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r10") "vmlaldava.s16 r4, r5, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r11") "vmlaldava.s16 r6, r7, q0, q1\n\t"
                     "letp lr, 1b\n\t"
                     "ldr r10, [sp, #4]\n\t"
                     "stm r10, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "pop {r7, r10}"
                     : "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r12)
                     :
                     : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r11", "lr", "q0", "q1", "memory");
}

/* sums[j] = b[j] with f fraction bits, or 0 without b, for j < rows */
static inline void fxp_begin(const int32_t *b, int f, int rows, int64_t *sums)
{
    const int shift = fxp_near_shift(FXP_BIAS_FRACTION - f);
    if (b == NULL) {
        for (int j = 0; j < rows; j++) {
            sums[j] = 0;
        }
    } else if (rows > 0) {
        __asm__ volatile("dls lr, %[rows]\n"
                         "1:\n\t"
                         "ldr r4, [%[b]], #4\n\t"
                         "asrs r5, r4, #31\n\t"
                         "sqrshrl r4, r5, #64, %[shift]\n\t"
                         "strd r4, r5, [%[sums]], #8\n\t"
                         "le lr, 1b"
                         : [b] "+r"(b), [sums] "+r"(sums)
                         : [rows] "r"(rows), [shift] "r"(shift)
                         : "r4", "r5", "lr", "cc", "memory");
    }
}

/* Rows, four at a time, after their biases. */
#define FXP_ROWS_MVE(four_rows, dot)                                                               \
    fxp_begin(b, f, rows, sums);                                                                   \
    for (; rows >= 4; rows -= 4, w += 4 * n, sums += 4) {                                          \
        four_rows(w, x, n, sums);                                                                  \
    }                                                                                              \
    for (; rows > 0; rows--, w += n, sums++) {                                                     \
        *sums += dot;                                                                              \
    }

/* The places of four columns: lanes are rows, q2 to q5 their distances, 16 bits without a sign. */
#define FXP_FAR 9000 /* the longest step: 7 steps and 3 fit */
#define FXP_PLACES(zero, one, step)                                                                \
    "mov " zero ", #0\n\t"                                                                        \
    "mov " one ", #1\n\t"                                                                         \
    "vidup.u16 q2, " zero ", #1\n\t"                                                               \
    "vmul.i16 q2, q2, " step "\n\t"                                                                \
    "vadd.i16 q3, q2, " one "\n\t"                                                                 \
    "vadd.i16 q4, q3, " one "\n\t"                                                                 \
    "vadd.i16 q5, q4, " one "\n\t"
#define FXP_GATHER16(q, at, places) "vldrh.u16 " q ", [" at ", " places ", uxtw #1]\n\t"
#define FXP_GATHER8(q, at, places) "vldrb.s16 " q ", [" at ", " places "]\n\t"

/* sums[j] += sum of w[i * step + j] * e[i], for four columns and i < n */
static inline void fxp_four_columns16(const int16_t *w, const int16_t *e, int n, int step,
                                           int64_t sums[4])
{
    register const int16_t *r8 __asm__("r8") = w;
    register const int16_t *r9 __asm__("r9") = e;
    register int r10 __asm__("r10") = n;
    register int r11 __asm__("r11") = step;
    register int64_t *r12 __asm__("r12") = sums;
    __asm__ volatile("push {r7}\n\t" FXP_PLACES("r0", "r1", "r11")
                     "lsl r11, r11, #4\n\t"
                     "ldm r12, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "dlstp.16 lr, r10\n"
                     "1:\n\t" FXP_EIGHT16("q0", "r9")
                     FXP_GATHER16("q1", "r8", "q2") "vmlaldava.s16 r0, r1, q0, q1\n\t"
                     FXP_GATHER16("q1", "r8", "q3") "vmlaldava.s16 r2, r3, q0, q1\n\t"
                     FXP_GATHER16("q1", "r8", "q4") "vmlaldava.s16 r4, r5, q0, q1\n\t"
                     FXP_GATHER16("q1", "r8", "q5") "vmlaldava.s16 r6, r7, q0, q1\n\t"
                     "add r8, r8, r11\n\t"
                     "letp lr, 1b\n\t"
                     "stm r12, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "pop {r7}"
                     : "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11)
                     : "r"(r12)
                     : "r0", "r1", "r2", "r3", "r4", "r5", "r6", "lr", "q0", "q1", "q2", "q3",
                       "q4", "q5", "memory");
}

/* The same where the sums of FXP_BLOCK products fit 32 bits. */
#define FXP_FOUR_COLUMNS(weight, gather, error, load_e)                                            \
    {                                                                                              \
        const int far = 8 * step * (int)sizeof w[0];                                               \
        for (; n > 0; n -= FXP_BLOCK) {                                                            \
            int32_t p = 0, q = 0, r = 0, s = 0;                                                    \
            __asm__ volatile(                                                                      \
                FXP_PLACES("%[p]", "%[q]", "%[step]")                                              \
                "mov %[p], #0\n\t"                                                                \
                "mov %[q], #0\n\t"                                                                \
                "dlstp.16 lr, %[n]\n"                                                              \
                "1:\n\t" load_e("q0", "%[e]")                                                      \
                gather("q1", "%[w]", "q2") "vmladava.s16 %[p], q0, q1\n\t"                         \
                gather("q1", "%[w]", "q3") "vmladava.s16 %[q], q0, q1\n\t"                         \
                gather("q1", "%[w]", "q4") "vmladava.s16 %[r], q0, q1\n\t"                         \
                gather("q1", "%[w]", "q5") "vmladava.s16 %[s], q0, q1\n\t"                         \
                "add %[w], %[w], %[far]\n\t"                                                       \
                "letp lr, 1b"                                                                      \
                : [w] "+r"(w), [e] "+l"(e), [p] "+Te"(p), [q] "+Te"(q), [r] "+Te"(r), [s] "+Te"(s) \
                : [n] "r"(n < FXP_BLOCK ? n : FXP_BLOCK), [step] "r"(step), [far] "r"(far)         \
                : "lr", "q0", "q1", "q2", "q3", "q4", "q5", "cc", "memory");                       \
            sums[0] += p;                                                                          \
            sums[1] += q;                                                                          \
            sums[2] += r;                                                                          \
            sums[3] += s;                                                                          \
        }                                                                                          \
    }

static inline void fxp_four_columns16x8(const int16_t *w, const int8_t *e, int n, int step,
                                             int64_t sums[4])
FXP_FOUR_COLUMNS(int16_t, FXP_GATHER16, int8_t, FXP_EIGHT8)

static inline void fxp_four_columns8x16(const int8_t *w, const int16_t *e, int n, int step,
                                             int64_t sums[4])
FXP_FOUR_COLUMNS(int8_t, FXP_GATHER8, int16_t, FXP_EIGHT16)

static inline void fxp_four_columns8(const int8_t *w, const int8_t *e, int n, int step,
                                          int64_t sums[4])
FXP_FOUR_COLUMNS(int8_t, FXP_GATHER8, int8_t, FXP_EIGHT8)

/* All runs of a walk. */
#define FXP_WALK_MVE(four_columns)                                                                 \
    if (columns >= 4 && walk->step <= FXP_FAR) {                                                   \
        for (int row = 0; row < walk->rows; row++, w += walk->w_line, e += walk->e_line) {         \
            four_columns(w, e, walk->n, walk->step, sums);                                         \
        }                                                                                          \
        return;                                                                                    \
    }
#else
#define FXP_WALK_MVE(four_columns)
#endif

/* ---- sums of products ----------------------------------------------------------------------- */

/* sum of a[i] * b[i], exact */
static inline int64_t fxp_dot16(const int16_t *a, const int16_t *b, int n)
{
    int64_t sum = 0;
#if FXP_MVE
    FXP_DOT_MVE(FXP_EIGHT16, FXP_EIGHT16)
    return sum;
#endif
#if FXP_SSE2
    /* Two products sum to -2^31 + 2^16 .. 2^31, which this addend makes 32 bits without a sign. */
    const __m128i lift = _mm_set1_epi32(0x7FFF0000), zero = _mm_setzero_si128();
    __m128i even = zero, odd = zero;
    int64_t pair[2];
    for (; n >= 8; n -= 8, a += 8, b += 8) {
        const __m128i p = _mm_madd_epi16(fxp_eight(a), fxp_eight(b));
        const __m128i lifted = _mm_add_epi32(p, lift);
        even = _mm_add_epi64(even, _mm_unpacklo_epi32(lifted, zero));
        odd = _mm_add_epi64(odd, _mm_unpackhi_epi32(lifted, zero));
        sum -= 4 * (int64_t)0x7FFF0000;
    }
    even = _mm_add_epi64(even, odd);
    memcpy(pair, &even, sizeof pair);
    sum += pair[0] + pair[1];
#endif
    for (; n >= 4; n -= 4, a += 4, b += 4) {
        sum += (int32_t)a[0] * b[0];
        sum += (int32_t)a[1] * b[1];
        sum += (int32_t)a[2] * b[2];
        sum += (int32_t)a[3] * b[3];
    }
    for (; n > 0; n--, a++, b++) {
        sum += (int32_t)*a * *b;
    }
    return sum;
}

/* sum of a[i] * b[i], exact */
static inline int64_t fxp_dot16x8(const int16_t *a, const int8_t *b, int n)
{
    int64_t sum = 0;
#if FXP_MVE
    FXP_DOT_MVE(FXP_EIGHT16, FXP_EIGHT8)
    return sum;
#endif
    while (n > 0) {
        int block = n < FXP_BLOCK ? n : FXP_BLOCK;
        int32_t part = 0;
        n -= block;
#if FXP_DSP
        for (; block >= 8; block -= 8, a += 8, b += 8) {
            const int8x4_t quad = fxp_quad(b);
            const int16x2_t even = __sxtb16(quad), odd = fxp_odd(quad);
            part = __smlad(fxp_pair(a), fxp_lower(even, odd), part);
            part = __smlad(fxp_pair(a + 2), fxp_upper(even, odd), part);
            const int8x4_t next = fxp_quad(b + 4);
            const int16x2_t more_even = __sxtb16(next), more_odd = fxp_odd(next);
            part = __smlad(fxp_pair(a + 4), fxp_lower(more_even, more_odd), part);
            part = __smlad(fxp_pair(a + 6), fxp_upper(more_even, more_odd), part);
        }
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
static inline int64_t fxp_dot8(const int8_t *a, const int8_t *b, int n)
{
    int64_t sum = 0;
#if FXP_MVE
    FXP_DOT_MVE(FXP_EIGHT8, FXP_EIGHT8)
    return sum;
#endif
    while (n > 0) {
        int block = n < FXP_BLOCK ? n : FXP_BLOCK;
        int32_t part = 0;
        n -= block;
#if FXP_DSP
        for (; block >= 8; block -= 8, a += 8, b += 8) {
            const int8x4_t p = fxp_quad(a), q = fxp_quad(b);
            part = __smlad(__sxtb16(p), __sxtb16(q), part);
            part = __smlad(fxp_odd(p), fxp_odd(q), part);
            const int8x4_t r = fxp_quad(a + 4), s = fxp_quad(b + 4);
            part = __smlad(__sxtb16(r), __sxtb16(s), part);
            part = __smlad(fxp_odd(r), fxp_odd(s), part);
        }
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
static inline int32_t fxp_dot16_shifted(const int16_t *a, const int16_t *b, int n, int shift)
{
    int32_t sum = 0;
#if FXP_SMALL_THUMB
    int32_t at = -2 * (int32_t)n, p, q;
    a += n;
    b += n;
    if (n > 0) {
        __asm__ volatile(".syntax unified\n"
                         "1:\n\t"
                         "ldrsh %[p], [%[a], %[at]]\n\t"
                         "ldrsh %[q], [%[b], %[at]]\n\t"
                         "muls %[p], %[q], %[p]\n\t"
                         "asrs %[p], %[p], %[shift]\n\t"
                         "adds %[sum], %[sum], %[p]\n\t"
                         "adds %[at], %[at], #2\n\t"
                         "bne 1b"
                         : [at] "+l"(at), [sum] "+l"(sum), [p] "=&l"(p), [q] "=&l"(q)
                         : [a] "l"(a), [b] "l"(b), [shift] "l"(shift)
                         : "cc", "memory");
    }
#else
    for (; n >= 4; n -= 4, a += 4, b += 4) {
        sum += ((int32_t)a[0] * b[0]) >> shift;
        sum += ((int32_t)a[1] * b[1]) >> shift;
        sum += ((int32_t)a[2] * b[2]) >> shift;
        sum += ((int32_t)a[3] * b[3]) >> shift;
    }
    for (; n > 0; n--, a++, b++) {
        sum += ((int32_t)*a * *b) >> shift;
    }
#endif
    return sum;
}

/* sum of (a[i] * b[i]) >> shift, which the caller knows to fit */
static inline int32_t fxp_dot16x8_shifted(const int16_t *a, const int8_t *b, int n, int shift)
{
    int32_t sum = 0;
    for (; n > 0; n--, a++, b++) {
        sum += ((int32_t)*a * *b) >> shift;
    }
    return sum;
}

/* sum of (a[i] * b[i]) >> shift, which the caller knows to fit */
static inline int32_t fxp_dot8_shifted(const int8_t *a, const int8_t *b, int n, int shift)
{
    int32_t sum = 0;
    for (; n > 0; n--, a++, b++) {
        sum += ((int32_t)*a * *b) >> shift;
    }
    return sum;
}

/* ---- sums of products along rows ------------------------------------------------------------ */

/* How many neighbouring sums are computed at once, at the most. */
#define FXP_ROWS 8

/* How many that is where `left` are left. */
static inline int fxp_part(int left, int most)
{
    return left < most ? left : most;
}

#define FXP_SUM_ROWS(dot)                                                                          \
    for (int j = 0; j < rows; j++, w += n) {                                                       \
        sums[j] = (dot) + (b == NULL ? 0 : fxp_bias(b[j], f));                                     \
    }

#if FXP_DSP && !FXP_MVE
/* Biases of rows that have none. */
static const FXP_FLASH int32_t fxp_no_biases[8] = {
    0, 0, 0, 0, 0, 0, 0, 0,
};
FXP_ASSERT(a_bias_for_every_row, sizeof fxp_no_biases == FXP_ROWS * sizeof(int32_t));

/* A row begins with its bias times r4, and ends with its sum stored. All registers are needed: the
 * stack has x, n, the place of the bias, its factor, the end of the sums; r7 has the place of
 * the next sum, r12 and lr are the sum. */
#define FXP_ROW_BEGIN                                                                              \
    "ldm sp, {r1, r2, r3, r4}\n\t"                                                                 \
    "ldr r6, [r3], #4\n\t"                                                                         \
    "str r3, [sp, #8]\n\t"                                                                         \
    "smull r12, lr, r6, r4\n\t"
#define FXP_ROW_END                                                                                \
    "strd r12, lr, [r7], #8\n\t"                                                                   \
    "ldr r3, [sp, #16]\n\t"                                                                        \
    "cmp r7, r3\n\t"
#define FXP_ROW_2                                                                                  \
    "ldr r3, [r1], #4\n\t"                                                                         \
    "ldr r4, [r0], #4\n\t"                                                                         \
    "smlald r12, lr, r3, r4\n\t"
#define FXP_ROW_8                                                                                  \
    "ldmia r1!, {r3, r4, r5, r6}\n\t"                                                              \
    "ldmia r0!, {r8, r9, r10, r11}\n\t"                                                            \
    "smlald r12, lr, r3, r8\n\t"                                                                   \
    "smlald r12, lr, r4, r9\n\t"                                                                   \
    "smlald r12, lr, r5, r10\n\t"                                                                  \
    "smlald r12, lr, r6, r11\n\t"
#endif

/* sums[j] = b[j] with f fraction bits (0 without b) + sum of w[j * n + i] * x[i], exact, for
 * j < rows; f is at most 30 more than biases have */
static FXP_OUTLINE void fxp_rows16(const int16_t *w, const int16_t *x, int n, const int32_t *b,
                                   int f, int rows, int64_t sums[FXP_ROWS])
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows16, fxp_dot16(w, x, n))
#elif FXP_DSP
    int up = b == NULL ? 0 : f - FXP_BIAS_FRACTION;
    const int32_t *first = b == NULL ? fxp_no_biases : b;
    if (rows == 0) {
        return;
    }
    if (up < 0) { /* biases that are shortened lie where sums have not been stored yet */
        int8_t *const place = (int8_t *)(sums + rows) - 4 * rows;
        for (int j = 0; j < rows; j++) {
            const int32_t rounded = (int32_t)fxp_bias_any(b[j], f);
            memcpy(&place[4 * j], &rounded, 4);
        }
        first = (const int32_t *)(const void *)place;
        up = 0;
    }
    register const int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register int r2 __asm__("r2") = n;
    register const int32_t *r3 __asm__("r3") = first;
    register int32_t r4 __asm__("r4") = (int32_t)1 << up;
    register int64_t *r5 __asm__("r5") = sums + rows;
    register int64_t *r6 __asm__("r6") = sums;
    register int r8 __asm__("r8") = fxp_are_words(w, x) && (n & 1) == 0;
    __asm__ volatile("push {r1, r2, r3, r4, r5, r7}\n\t"
                     "mov r7, r6\n\t"
                     "cmp r8, #0\n\t"
                     "beq 5f\n"
                     "1:\n\t" /* rows that begin at words */
                     FXP_ROW_BEGIN "subs r2, r2, #32\n\t"
                     "blt 3f\n"
                     "2:\n\t" FXP_ROW_8 FXP_ROW_8 FXP_ROW_8 FXP_ROW_8 "subs r2, r2, #32\n\t"
                     "bge 2b\n"
                     "3:\n\t"
                     "adds r2, r2, #24\n\t"
                     "blt 4f\n"
                     "3:\n\t" FXP_ROW_8 "subs r2, r2, #8\n\t"
                     "bge 3b\n"
                     "4:\n\t"
                     "adds r2, r2, #6\n\t"
                     "blt 4f\n"
                     "3:\n\t" FXP_ROW_2 "subs r2, r2, #2\n\t"
                     "bge 3b\n"
                     "4:\n\t" FXP_ROW_END "bne 1b\n\t"
                     "b 9f\n"
                     "5:\n\t" /* rows that begin anywhere */
                     FXP_ROW_BEGIN "subs r2, r2, #8\n\t"
                     "blt 7f\n"
                     "6:\n\t" FXP_ROW_2 FXP_ROW_2 FXP_ROW_2 FXP_ROW_2 "subs r2, r2, #8\n\t"
                     "bge 6b\n"
                     "7:\n\t"
                     "adds r2, r2, #6\n\t"
                     "blt 7f\n"
                     "6:\n\t" FXP_ROW_2 "subs r2, r2, #2\n\t"
                     "bge 6b\n"
                     "7:\n\t"
                     "adds r2, r2, #1\n\t"
                     "blt 8f\n\t"
                     "ldrsh r3, [r1]\n\t"
                     "ldrsh r4, [r0], #2\n\t"
                     "smlalbb r12, lr, r3, r4\n"
                     "8:\n\t" FXP_ROW_END "bne 5b\n"
                     "9:\n\t"
                     "add sp, sp, #20\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),
                       "+r"(r8)
                     :
                     : "r9", "r10", "r11", "r12", "lr", "cc", "memory");
#else
    FXP_SUM_ROWS(fxp_dot16(w, x, n));
#endif
}
#if FXP_DSP && !FXP_MVE
#undef FXP_ROW_BEGIN
#undef FXP_ROW_END
#undef FXP_ROW_2
#undef FXP_ROW_8
#endif

static FXP_OUTLINE void fxp_rows16x8(const int16_t *w, const int8_t *x, int n, const int32_t *b,
                                     int f, int rows, int64_t sums[FXP_ROWS])
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows16x8, fxp_dot16x8(w, x, n))
#else
    FXP_SUM_ROWS(fxp_dot16x8(w, x, n));
#endif
}

static FXP_OUTLINE void fxp_rows8x16(const int8_t *w, const int16_t *x, int n, const int32_t *b,
                                     int f, int rows, int64_t sums[FXP_ROWS])
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows8x16, fxp_dot16x8(x, w, n))
#else
    FXP_SUM_ROWS(fxp_dot16x8(x, w, n));
#endif
}

static FXP_OUTLINE void fxp_rows8(const int8_t *w, const int8_t *x, int n, const int32_t *b, int f,
                                  int rows, int64_t sums[FXP_ROWS])
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows8, fxp_dot8(w, x, n))
#else
    FXP_SUM_ROWS(fxp_dot8(w, x, n));
#endif
}

#undef FXP_SUM_ROWS

#define FXP_SUM_ROWS(dot)                                                                          \
    for (int j = 0; j < rows; j++, w += n) {                                                       \
        sums[j] = dot;                                                                             \
    }

/* sums[j] = sum of (w[j * n + i] * x[i]) >> shift, where the caller knows that the sums fit. */
static FXP_OUTLINE void fxp_rows16_shifted(const int16_t *w, const int16_t *x, int n, int rows,
                                           int shift, int32_t sums[FXP_ROWS])
{
    FXP_SUM_ROWS(fxp_dot16_shifted(w, x, n, shift));
}

static FXP_OUTLINE void fxp_rows16x8_shifted(const int16_t *w, const int8_t *x, int n, int rows,
                                             int shift, int32_t sums[FXP_ROWS])
{
    FXP_SUM_ROWS(fxp_dot16x8_shifted(w, x, n, shift));
}

static FXP_OUTLINE void fxp_rows8x16_shifted(const int8_t *w, const int16_t *x, int n, int rows,
                                             int shift, int32_t sums[FXP_ROWS])
{
    FXP_SUM_ROWS(fxp_dot16x8_shifted(x, w, n, shift));
}

static FXP_OUTLINE void fxp_rows8_shifted(const int8_t *w, const int8_t *x, int n, int rows,
                                          int shift, int32_t sums[FXP_ROWS])
{
    FXP_SUM_ROWS(fxp_dot8_shifted(w, x, n, shift));
}

#undef FXP_SUM_ROWS

/* ---- sums of products down columns ---------------------------------------------------------- */

/* How many neighbouring columns are summed at once. */
#define FXP_COLUMNS 4

/* The places of the products of a column: `rows` runs of n, all distances in elements. Within a run
 * weights are `step` apart and errors 1; runs begin w_line and e_line apart. */
typedef struct {
    int rows;
    int n;
    int step;
    int w_line;
    int e_line;
} fxp_walk;

/* One run. (Some cores keep a struct that is written as a constant in RAM.) */
static inline fxp_walk fxp_run(int n, int step)
{
    fxp_walk walk;
    walk.rows = 1;
    walk.n = n;
    walk.step = step;
    walk.w_line = 0;
    walk.e_line = 0;
    return walk;
}

static inline void fxp_clear(int64_t sums[FXP_COLUMNS])
{
    sums[0] = 0;
    sums[1] = 0;
    sums[2] = 0;
    sums[3] = 0;
}

static inline void fxp_clear_shifted(int32_t sums[FXP_COLUMNS])
{
    sums[0] = 0;
    sums[1] = 0;
    sums[2] = 0;
    sums[3] = 0;
}

/* What all of them compute, for weights, errors and sums of these types. */
#define FXP_SUM_COLUMNS(weight, error, total, shift)                                               \
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {                                         \
        const weight *line = &w[j];                                                                \
        const error *run = e;                                                                      \
        total sum = 0;                                                                             \
        for (int row = 0; row < walk->rows; row++, line += walk->w_line, run += walk->e_line) {    \
            const weight *column = line;                                                           \
            for (int i = 0; i < walk->n; i++, column += walk->step) {                              \
                sum += ((int32_t)*column * run[i]) >> (shift);                                     \
            }                                                                                      \
        }                                                                                          \
        sums[j] += sum;                                                                            \
    }

/* sums[j] += sum of w * e over the walk that begins at w[j] and e, exact, for j < columns */
static FXP_OUTLINE void fxp_columns16(const int16_t *w, const int16_t *e, const fxp_walk *walk,
                                      int columns, int64_t sums[FXP_COLUMNS])
{
    FXP_WALK_MVE(fxp_four_columns16)
#if FXP_DSP && !FXP_MVE
#define FXP_ROW(half)                                                                              \
    "ldr r12, [r0]\n\t"                                                                            \
    "smlalb" half " r4, r5, r12, lr\n\t"                                                           \
    "smlalt" half " r6, r7, r12, lr\n\t"                                                           \
    "ldr r12, [r0, #4]\n\t"                                                                        \
    "smlalb" half " r8, r9, r12, lr\n\t"                                                           \
    "smlalt" half " r10, r11, r12, lr\n\t"                                                         \
    "add r0, r0, r1\n\t"
    if (columns >= FXP_COLUMNS && walk->rows > 0 && walk->n > 0) {
        register const int16_t *r0 __asm__("r0") = w;
        register const int16_t *r1 __asm__("r1") = e;
        register const fxp_walk *r2 __asm__("r2") = walk;
        register int64_t *r3 __asm__("r3") = sums;
        /* All registers are needed: what changes once a run is kept on the stack. */
        __asm__ volatile("push {r7}\n\t"
                         "ldm r2, {r4, r5, r6, r7, r8}\n\t"
                         "mls r7, r5, r6, r7\n\t"
                         "sub r8, r8, r5\n\t"
                         "lsl r7, r7, #1\n\t"
                         "lsl r8, r8, #1\n\t"
                         "push {r3, r4, r5, r7, r8}\n\t"
                         "mov r2, r1\n\t"
                         "lsl r1, r6, #1\n\t"
                         "ldm r3, {r4, r5, r6, r7, r8, r9, r10, r11}\n"
                         "1:\n\t"
                         "ldr r3, [sp, #8]\n\t"
                         "subs r3, r3, #2\n\t"
                         "blt 3f\n"
                         "2:\n\t"
                         "ldr lr, [r2], #4\n\t" FXP_ROW("b")
                             FXP_ROW("t") "subs r3, r3, #2\n\t"
                                          "bge 2b\n"
                                          "3:\n\t"
                                          "adds r3, r3, #1\n\t"
                                          "blt 4f\n\t"
                                          "ldrsh lr, [r2], #2\n\t" FXP_ROW(
                                              "b") "4:\n\t"
                                                   "ldr r12, [sp, #12]\n\t"
                                                   "add r0, r0, r12\n\t"
                                                   "ldr r12, [sp, #16]\n\t"
                                                   "add r2, r2, r12\n\t"
                                                   "ldr r12, [sp, #4]\n\t"
                                                   "subs r12, r12, #1\n\t"
                                                   "str r12, [sp, #4]\n\t"
                                                   "bgt 1b\n\t"
                                                   "ldr r3, [sp]\n\t"
                                                   "stm r3, {r4, r5, r6, r7, r8, r9, r10, r11}\n\t"
                                                   "add sp, sp, #20\n\t"
                                                   "pop {r7}"
                         : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3)
                         :
                         : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr", "cc", "memory");
        return;
    }
#undef FXP_ROW
#endif
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {
        const int16_t *line = &w[j];
        const int16_t *run = e;
        int64_t sum = 0;
        for (int row = 0; row < walk->rows; row++, line += walk->w_line, run += walk->e_line) {
            const int16_t *column = line;
#if FXP_DSP
            const int16_t *q = run;
            int n = walk->n, u, v;
            __asm__ volatile("subs %[n], %[n], #2\n\t"
                             "blt 2f\n"
                             "1:\n\t"
                             "ldr %[u], [%[q]], #4\n\t"
                             "ldrh %[v], [%[p]]\n\t"
                             "add %[p], %[p], %[step]\n\t"
                             "smlalbb %Q[sum], %R[sum], %[v], %[u]\n\t"
                             "ldrh %[v], [%[p]]\n\t"
                             "add %[p], %[p], %[step]\n\t"
                             "smlalbt %Q[sum], %R[sum], %[v], %[u]\n\t"
                             "subs %[n], %[n], #2\n\t"
                             "bge 1b\n"
                             "2:\n\t"
                             "adds %[n], %[n], #1\n\t"
                             "blt 3f\n\t"
                             "ldrh %[u], [%[q]]\n\t"
                             "ldrh %[v], [%[p]]\n\t"
                             "smlalbb %Q[sum], %R[sum], %[v], %[u]\n"
                             "3:"
                             : [p] "+r"(column), [q] "+r"(q), [n] "+r"(n), [sum] "+r"(sum),
                               [u] "=&r"(u), [v] "=&r"(v)
                             : [step] "r"(2 * walk->step)
                             : "cc", "memory");
#else
            for (int i = 0; i < walk->n; i++, column += walk->step) {
                sum += (int32_t)*column * run[i];
            }
#endif
        }
        sums[j] += sum;
    }
}

/* The same for (w * e) >> shift, where the caller knows that the sums fit. */
static FXP_OUTLINE void fxp_columns16_shifted(const int16_t *w, const int16_t *e,
                                              const fxp_walk *walk, int columns, int shift,
                                              int32_t sums[FXP_COLUMNS])
{
    int j = 0;
#if FXP_SMALL_THUMB
    for (; j + 2 <= columns && j + 2 <= FXP_COLUMNS; j += 2) {
        const int16_t *line = &w[j], *run = e;
        /* End of the run, bytes from row to row, shift, and the two sums: all registers are needed,
         * and no compiler finds them all. */
        int32_t state[5] = {0, 2 * walk->step, shift, 0, 0};
        for (int row = 0; row < walk->rows; row++, line += walk->w_line, run += walk->e_line) {
            state[0] = (int32_t)(run + walk->n);
            if (walk->n > 0) {
                register const int16_t *r0 __asm__("r0") = line;
                register const int16_t *r1 __asm__("r1") = run;
                register int32_t *const r2 __asm__("r2") = state;
                __asm__ volatile(".syntax unified\n\t"
                                 "push {r2, r4, r5, r6, r7}\n\t"
                                 "ldr r3, [r2, #4]\n\t"
                                 "mov r12, r3\n\t"
                                 "ldr r3, [r2, #8]\n\t"
                                 "ldr r4, [r2, #12]\n\t"
                                 "ldr r5, [r2, #16]\n\t"
                                 "ldr r2, [r2]\n"
                                 "1:\n\t"
                                 "ldrh r7, [r1]\n\t"
                                 "sxth r7, r7\n\t"
                                 "ldrh r6, [r0]\n\t"
                                 "sxth r6, r6\n\t"
                                 "muls r6, r7, r6\n\t"
                                 "asrs r6, r6, r3\n\t"
                                 "adds r4, r4, r6\n\t"
                                 "ldrh r6, [r0, #2]\n\t"
                                 "sxth r6, r6\n\t"
                                 "muls r6, r7, r6\n\t"
                                 "asrs r6, r6, r3\n\t"
                                 "adds r5, r5, r6\n\t"
                                 "add r0, r12\n\t"
                                 "adds r1, r1, #2\n\t"
                                 "cmp r1, r2\n\t"
                                 "bne 1b\n\t"
                                 "pop {r2}\n\t"
                                 "str r4, [r2, #12]\n\t"
                                 "str r5, [r2, #16]\n\t"
                                 "pop {r4, r5, r6, r7}"
                                 : "+r"(r0), "+r"(r1)
                                 : "r"(r2)
                                 : "r3", "r12", "cc", "memory");
            }
        }
        sums[j] += state[3];
        sums[j + 1] += state[4];
    }
#endif
    for (; j < columns && j < FXP_COLUMNS; j++) {
        const int16_t *line = &w[j];
        const int16_t *run = e;
        int32_t sum = 0;
        for (int row = 0; row < walk->rows; row++, line += walk->w_line, run += walk->e_line) {
            const int16_t *column = line;
#if FXP_SMALL_THUMB
            const int16_t *const end = run + walk->n;
            int32_t at = -2 * (int32_t)walk->n, p, q;
            if (walk->n > 0) {
                __asm__ volatile(".syntax unified\n"
                                 "1:\n\t"
                                 "ldrh %[p], [%[column]]\n\t"
                                 "add %[column], %[step]\n\t"
                                 "sxth %[p], %[p]\n\t"
                                 "ldrsh %[q], [%[end], %[at]]\n\t"
                                 "muls %[p], %[q], %[p]\n\t"
                                 "asrs %[p], %[p], %[shift]\n\t"
                                 "adds %[sum], %[sum], %[p]\n\t"
                                 "adds %[at], %[at], #2\n\t"
                                 "bne 1b"
                                 : [at] "+l"(at), [column] "+l"(column), [sum] "+l"(sum),
                                   [p] "=&l"(p), [q] "=&l"(q)
                                 : [end] "l"(end), [shift] "l"(shift), [step] "hr"(2 * walk->step)
                                 : "cc", "memory");
            }
#else
            for (int i = 0; i < walk->n; i++, column += walk->step) {
                sum += ((int32_t)*column * run[i]) >> shift;
            }
#endif
        }
        sums[j] += sum;
    }
}

/* sums[j] += sum of w * e over the walk that begins at w[j] and e, exact, for j < columns */
static FXP_OUTLINE void fxp_columns16x8(const int16_t *w, const int8_t *e, const fxp_walk *walk,
                                        int columns, int64_t sums[FXP_COLUMNS])
{
    FXP_WALK_MVE(fxp_four_columns16x8)
#if FXP_DSP && !FXP_MVE
    if (columns >= FXP_COLUMNS) {
        for (int row = 0; row < walk->rows; row++, w += walk->w_line, e += walk->e_line) {
            const int16_t *line = w;
            const int8_t *run = e;
            int n = walk->n;
            while (n > 0) {
                int32_t a = 0, b = 0, c = 0, d = 0;
                int block = n < FXP_BLOCK ? n : FXP_BLOCK;
                n -= block;
                for (; block > 0; block--, line += walk->step) {
                    const int16x2_t first = fxp_pair(line), second = fxp_pair(line + 2);
                    const int32_t error = *run++;
                    a = __smlabb(first, error, a);
                    b = __smlatb(first, error, b);
                    c = __smlabb(second, error, c);
                    d = __smlatb(second, error, d);
                }
                sums[0] += a;
                sums[1] += b;
                sums[2] += c;
                sums[3] += d;
            }
        }
        return;
    }
#endif
    FXP_SUM_COLUMNS(int16_t, int8_t, int64_t, 0);
}

/* The same for (w * e) >> shift, where the caller knows that the sums fit. */
static FXP_OUTLINE void fxp_columns16x8_shifted(const int16_t *w, const int8_t *e,
                                                const fxp_walk *walk, int columns, int shift,
                                                int32_t sums[FXP_COLUMNS])
{
    FXP_SUM_COLUMNS(int16_t, int8_t, int32_t, shift);
}

/* sums[j] += sum of w * e over the walk that begins at w[j] and e, exact, for j < columns */
static FXP_OUTLINE void fxp_columns8x16(const int8_t *w, const int16_t *e, const fxp_walk *walk,
                                        int columns, int64_t sums[FXP_COLUMNS])
{
    FXP_WALK_MVE(fxp_four_columns8x16)
    FXP_SUM_COLUMNS(int8_t, int16_t, int64_t, 0);
}

/* The same for (w * e) >> shift, where the caller knows that the sums fit. */
static FXP_OUTLINE void fxp_columns8x16_shifted(const int8_t *w, const int16_t *e,
                                                const fxp_walk *walk, int columns, int shift,
                                                int32_t sums[FXP_COLUMNS])
{
    FXP_SUM_COLUMNS(int8_t, int16_t, int32_t, shift);
}

/* sums[j] += sum of w * e over the walk that begins at w[j] and e, exact, for j < columns */
static FXP_OUTLINE void fxp_columns8(const int8_t *w, const int8_t *e, const fxp_walk *walk,
                                     int columns, int64_t sums[FXP_COLUMNS])
{
    FXP_WALK_MVE(fxp_four_columns8)
#if FXP_DSP && !FXP_MVE
    if (columns >= FXP_COLUMNS) { /* the products of a run of 2^16 fit 32 bits */
        for (int row = 0; row < walk->rows; row++, w += walk->w_line, e += walk->e_line) {
            const int8_t *line = w, *run = e;
            int32_t a = 0, b = 0, c = 0, d = 0;
            for (int n = walk->n; n > 0; n--, line += walk->step) {
                const int8x4_t quad = fxp_quad(line);
                const int16x2_t even = __sxtb16(quad), odd = fxp_odd(quad);
                const int32_t error = *run++;
                a = __smlabb(even, error, a);
                b = __smlabb(odd, error, b);
                c = __smlatb(even, error, c);
                d = __smlatb(odd, error, d);
            }
            sums[0] += a;
            sums[1] += b;
            sums[2] += c;
            sums[3] += d;
        }
        return;
    }
#endif
    FXP_SUM_COLUMNS(int8_t, int8_t, int64_t, 0);
}

/* The same for (w * e) >> shift, where the caller knows that the sums fit. */
static FXP_OUTLINE void fxp_columns8_shifted(const int8_t *w, const int8_t *e, const fxp_walk *walk,
                                             int columns, int shift, int32_t sums[FXP_COLUMNS])
{
    FXP_SUM_COLUMNS(int8_t, int8_t, int32_t, shift);
}
#undef FXP_SUM_COLUMNS

/* ---- storing neighbouring sums -------------------------------------------------------------- */

/* fxp_settle_sums rounds each sum. fxp_settle_positive rounds those above 0, but not to 0, as the
 * mask of backward is y > 0; the others become 0. fxp_settle_masked rounds those where y > 0; the
 * others become 0. */
#define FXP_SETTLE(bits)                                                                           \
    static FXP_OUTLINE void fxp_settle_sums##bits(fxp_store *store, const int64_t *sums,           \
                                                  int count, int##bits##_t *out)                   \
    {                                                                                              \
        fxp_store own = *store;                                                                    \
        for (; count > 0; count--) {                                                               \
            *out++ = (int##bits##_t)fxp_settle##bits(&own, *sums++);                               \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
                                                                                                   \
    static FXP_OUTLINE void fxp_settle_positive##bits(fxp_store *store, const int64_t *sums,       \
                                                      int count, int##bits##_t *out)               \
    {                                                                                              \
        fxp_store own = *store;                                                                    \
        for (; count > 0; count--) {                                                               \
            const int64_t sum = *sums++;                                                           \
            int32_t q = 0;                                                                         \
            if (sum > 0) {                                                                         \
                q = fxp_settle##bits(&own, sum);                                                   \
                q = q == 0 ? 1 : q;                                                                \
            }                                                                                      \
            *out++ = (int##bits##_t)q;                                                             \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
                                                                                                   \
    static FXP_OUTLINE void fxp_settle_masked##bits(fxp_store *store, const int64_t *sums,         \
                                                    int count, int##bits##_t *out,                 \
                                                    const int##bits##_t *y)                        \
    {                                                                                              \
        fxp_store own = *store;                                                                    \
        for (; count > 0; count--, sums++) {                                                       \
            *out++ = *y++ > 0 ? (int##bits##_t)fxp_settle##bits(&own, *sums) : 0;                  \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
    FXP_ASSERT(a_sum_is_longer_than_##bits, sizeof(int64_t) > sizeof(int##bits##_t))

FXP_SETTLE(16);
FXP_SETTLE(8);
#undef FXP_SETTLE

/* ---- copies --------------------------------------------------------------------------------- */

/* A library's memset and memcpy may go byte by byte. */
static FXP_OUTLINE void fxp_zero(void *out, int bytes)
{
#if FXP_DSP
    __asm__ volatile("mov r3, #0\n\t"
                     "subs %[n], %[n], #16\n\t"
                     "blt 2f\n"
                     "1:\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "subs %[n], %[n], #16\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #15\n\t"
                     "blt 4f\n"
                     "3:\n\t"
                     "strb r3, [%[out]], #1\n\t"
                     "subs %[n], %[n], #1\n\t"
                     "bge 3b\n"
                     "4:"
                     : [out] "+r"(out), [n] "+r"(bytes)
                     :
                     : "r3", "cc", "memory");
#else
    memset(out, 0, (size_t)bytes);
#endif
}

static FXP_OUTLINE void fxp_copy(void *out, const void *from, int bytes)
{
#if FXP_MVE
    __asm__ volatile("dlstp.8 lr, %[n]\n"
                     "1:\n\t"
                     "vldrb.u8 q0, [%[from]], #16\n\t"
                     "vstrb.8 q0, [%[out]], #16\n\t"
                     "letp lr, 1b"
                     : [out] "+r"(out), [from] "+r"(from)
                     : [n] "r"(bytes)
                     : "lr", "q0", "memory");
#elif FXP_DSP
    __asm__ volatile("subs %[n], %[n], #16\n\t"
                     "blt 2f\n"
                     "1:\n\t"
                     "ldr r3, [%[from]], #4\n\t"
                     "ldr r4, [%[from]], #4\n\t"
                     "ldr r5, [%[from]], #4\n\t"
                     "ldr r6, [%[from]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r4, [%[out]], #4\n\t"
                     "str r5, [%[out]], #4\n\t"
                     "str r6, [%[out]], #4\n\t"
                     "subs %[n], %[n], #16\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #14\n\t"
                     "blt 4f\n"
                     "3:\n\t"
                     "ldrh r3, [%[from]], #2\n\t"
                     "strh r3, [%[out]], #2\n\t"
                     "subs %[n], %[n], #2\n\t"
                     "bge 3b\n"
                     "4:\n\t"
                     "adds %[n], %[n], #1\n\t"
                     "blt 5f\n\t"
                     "ldrb r3, [%[from]]\n\t"
                     "strb r3, [%[out]]\n"
                     "5:"
                     : [out] "+r"(out), [from] "+r"(from), [n] "+r"(bytes)
                     :
                     : "r3", "r4", "r5", "r6", "cc", "memory");
#else
    memcpy(out, from, (size_t)bytes);
#endif
}

/* ---- updates -------------------------------------------------------------------------------- */

/* w[i] += (m * x[i] + dither) >> 16, saturated; m has 16 bits and a sign, 0 <= dither < 2^16. */
static FXP_OUTLINE void fxp_update16(int16_t *w, const int16_t *x, int n, int32_t m, int32_t dither)
{
#if FXP_MVE
    /* The lower half of a product carries where it is above the dither's complement. */
    __asm__ volatile("vdup.16 q3, %[m]\n\t"
                     "dlstp.16 lr, %[n]\n"
                     "1:\n\t" FXP_EIGHT16("q0", "%[x]")
                     "vmulh.s16 q1, q0, q3\n\t"
                     "vmul.i16 q0, q0, %[m]\n\t"
                     "vpt.u16 hi, q0, %[rest]\n\t"
                     "vaddt.i16 q1, q1, %[one]\n\t"
                     "vldrh.u16 q2, [%[w]]\n\t"
                     "vqadd.s16 q2, q2, q1\n\t"
                     "vstrh.16 q2, [%[w]], #16\n\t"
                     "letp lr, 1b"
                     : [w] "+r"(w), [x] "+l"(x)
                     : [n] "r"(n), [m] "r"(m), [rest] "r"(0xFFFF - dither), [one] "r"(1)
                     : "lr", "q0", "q1", "q2", "q3", "memory");
    return;
#endif
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
#if FXP_SSE2
    const __m128i factor = _mm_set1_epi16((int16_t)m), addend = _mm_set1_epi32(dither);
    for (; n >= 8; n -= 8, w += 8, x += 8) {
        const __m128i v = fxp_eight(x);
        const __m128i low = _mm_mullo_epi16(v, factor), high = _mm_mulhi_epi16(v, factor);
        const __m128i p = _mm_add_epi32(_mm_unpacklo_epi16(low, high), addend);
        const __m128i q = _mm_add_epi32(_mm_unpackhi_epi16(low, high), addend);
        const __m128i step = _mm_packs_epi32(_mm_srai_epi32(p, 16), _mm_srai_epi32(q, 16));
        const __m128i sum = _mm_adds_epi16(fxp_eight(w), step);
        memcpy(w, &sum, sizeof sum);
    }
#endif
#if FXP_SMALL_THUMB
    int32_t at = -2 * (int32_t)n, p, q;
    w += n;
    x += n;
    if (n > 0) {
        __asm__ volatile(".syntax unified\n"
                         "1:\n\t"
                         "ldrsh %[p], [%[x], %[at]]\n\t"
                         "muls %[p], %[m], %[p]\n\t"
                         "add %[p], %[dither]\n\t"
                         "asrs %[p], %[p], #16\n\t"
                         "ldrsh %[q], [%[w], %[at]]\n\t"
                         "adds %[q], %[q], %[p]\n\t"
                         "sxth %[p], %[q]\n\t"
                         "cmp %[p], %[q]\n\t"
                         "beq 2f\n\t"
                         "asrs %[q], %[q], #31\n\t"
                         "movs %[p], #128\n\t"
                         "lsls %[p], %[p], #8\n\t"
                         "subs %[p], %[p], #1\n\t"
                         "eors %[q], %[q], %[p]\n"
                         "2:\n\t"
                         "strh %[q], [%[w], %[at]]\n\t"
                         "adds %[at], %[at], #2\n\t"
                         "bne 1b"
                         : [at] "+l"(at), [p] "=&l"(p), [q] "=&l"(q)
                         : [w] "l"(w), [x] "l"(x), [m] "l"(m), [dither] "hr"(dither)
                         : "cc", "memory");
    }
#else
#if !FXP_DSP
    for (; n >= 4; n -= 4, w += 4, x += 4) {
        w[0] = fxp_sat16(w[0] + ((m * x[0] + dither) >> 16));
        w[1] = fxp_sat16(w[1] + ((m * x[1] + dither) >> 16));
        w[2] = fxp_sat16(w[2] + ((m * x[2] + dither) >> 16));
        w[3] = fxp_sat16(w[3] + ((m * x[3] + dither) >> 16));
    }
#endif
    for (; n > 0; n--, w++, x++) {
        *w = fxp_sat16(*w + ((m * *x + dither) >> 16));
    }
#endif
}

/* The same for x[i] * 256. */
static FXP_OUTLINE void fxp_update16x8(int16_t *w, const int8_t *x, int n, int32_t m,
                                       int32_t dither)
{
#if FXP_MVE
    /* The lower half of a product carries where it is above the dither's complement. */
    __asm__ volatile("vdup.16 q3, %[m]\n\t"
                     "dlstp.16 lr, %[n]\n"
                     "1:\n\t" FXP_EIGHT8("q0", "%[x]") "vshl.i16 q0, q0, #8\n\t"
                     "vmulh.s16 q1, q0, q3\n\t"
                     "vmul.i16 q0, q0, %[m]\n\t"
                     "vpt.u16 hi, q0, %[rest]\n\t"
                     "vaddt.i16 q1, q1, %[one]\n\t"
                     "vldrh.u16 q2, [%[w]]\n\t"
                     "vqadd.s16 q2, q2, q1\n\t"
                     "vstrh.16 q2, [%[w]], #16\n\t"
                     "letp lr, 1b"
                     : [w] "+r"(w), [x] "+l"(x)
                     : [n] "r"(n), [m] "r"(m), [rest] "r"(0xFFFF - dither), [one] "r"(1)
                     : "lr", "q0", "q1", "q2", "q3", "memory");
    return;
#endif
#if FXP_DSP
    for (; n >= 4; n -= 4, w += 4, x += 4) {
        const uint32_t quad = (uint32_t)fxp_quad(x);
        const int16x2_t even = (int16x2_t)((quad << 8) & 0xFF00FF00u);
        const int16x2_t odd = (int16x2_t)(quad & 0xFF00FF00u);
        const int16x2_t first = fxp_upper(__smlabb(even, m, dither), __smlabb(odd, m, dither));
        const int16x2_t second = fxp_upper(__smlatb(even, m, dither), __smlatb(odd, m, dither));
        const int16x2_t low = __qadd16(fxp_pair(w), first);
        const int16x2_t high = __qadd16(fxp_pair(w + 2), second);
        memcpy(w, &low, 4);
        memcpy(w + 2, &high, 4);
    }
#endif
    for (; n > 0; n--, w++, x++) {
        *w = fxp_sat16(*w + ((m * (*x * 256) + dither) >> 16));
    }
}
#endif
