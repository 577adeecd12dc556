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

/* clang-format off */
#if FXP_MVE
/* Loops over vectors: the last one has only the lanes that are left (dlstp, letp), so that any n
 * will do, and any address. What loads eight, or sixteen, neighbours; those of 8 bits are widened
 * to 16 by an instruction that needs a low register. */
#define FXP_EIGHT16(q, at) "vldrh.u16 " q ", [" at "], #16\n\t"
#define FXP_EIGHT8(q, at) "vldrb.s16 " q ", [" at "], #8\n\t"
#define FXP_SIXTEEN8(q, at) "vldrb.u8 " q ", [" at "], #16\n\t"

/* Eight neighbours of 8 bits, times 256. */
#define FXP_EIGHT8_HIGH(q, at) FXP_EIGHT8(q, at) "vshl.i16 " q ", " q ", #8\n\t"

/* w[i] += (m * x[i] + dither) >> 16, saturated, for i < n. The lower half of a product carries
 * where it is above the complement of the dither. */
#define FXP_UPDATE_MVE(load_x)                                                                     \
    __asm__ volatile("vdup.16 q3, %[m]\n\t"                                                        \
                     "dlstp.16 lr, %[n]\n"                                                         \
                     "1:\n\t" load_x("q0", "%[x]")                                                 \
                     "vmulh.s16 q1, q0, q3\n\t"                                                    \
                     "vmul.i16 q0, q0, %[m]\n\t"                                                   \
                     "vpt.u16 hi, q0, %[rest]\n\t"                                                 \
                     "vaddt.i16 q1, q1, %[one]\n\t"                                                \
                     "vldrh.u16 q2, [%[w]]\n\t"                                                    \
                     "vqadd.s16 q2, q2, q1\n\t"                                                    \
                     "vstrh.16 q2, [%[w]], #16\n\t"                                                \
                     "letp lr, 1b"                                                                 \
                     : [w] "+r"(w), [x] "+l"(x)                                                    \
                     : [n] "r"(n), [m] "r"(m), [rest] "r"(0xFFFF - dither), [one] "r"(1)           \
                     : "lr", "q0", "q1", "q2", "q3", "memory")

/* sum += a[i] * b[i], for i < n */
#define FXP_DOT_MVE(eight_a, eight_b)                                                              \
    __asm__ volatile("dlstp.16 lr, %[n]\n"                                                         \
                     "1:\n\t" eight_a("q0", "%[a]") eight_b("q1", "%[b]")                          \
                         "vmlaldava.s16 %Q[sum], %R[sum], q0, q1\n\t"                              \
                         "letp lr, 1b"                                                             \
                     : [a] "+l"(a), [b] "+l"(b), [sum] "+r"(sum)                                   \
                     : [n] "r"(n)                                                                  \
                     : "lr", "q0", "q1", "memory");

/* sums[j] += sum of w[j * n + i] * x[i], for four rows; 32 bits hold `block` products. */
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

/* The rest of sums of rows: w, x, the places of the next biases and sums; sums begin with a bias
 * times the factor. */
typedef struct {
    const int16_t *w;
    const int16_t *x;
    const int32_t *b;
    int32_t factor;
    int64_t *sums;
} fxp_rows_left;

/* The same for products of 16 by 16 bits, whose sums need pairs of registers: four times `fours`
 * rows. Where rows begin at words, one instruction loads 32 numbers. What four rows begin with lies
 * on the stack: the weights, the bytes of a row, the place of the biases, their factor, x, how many
 * times 32 products there are and how many more, then the places of the next sum and of the last,
 * and how many numbers are loaded beyond the end of the last row. */
#define FXP_32_PRODUCTS(w, sum)                                                                    \
    "vldmia " w "!, {d8-d15}\n\t"                                                                  \
    "vmlaldava.s16 " sum ", q0, q4\n\t"                                                            \
    "vmlaldava.s16 " sum ", q1, q5\n\t"                                                            \
    "vmlaldava.s16 " sum ", q2, q6\n\t"                                                            \
    "vmlaldava.s16 " sum ", q3, q7\n\t"
static inline void fxp_rows_by_four16(fxp_rows_left *rest, int n, int fours)
{
    register const int16_t *r0 __asm__("r0") = rest->w;
    register const int32_t *r2 __asm__("r2") = rest->b;
    register int32_t r3 __asm__("r3") = rest->factor;
    register const int16_t *r4 __asm__("r4") = rest->x;
    register int r6 __asm__("r6") = n;
    register int64_t *r8 __asm__("r8") = rest->sums;
    register int r9 __asm__("r9") = fours;
    __asm__ volatile("push {r7}\n\t"
                     "lsl r1, r6, #1\n\t"
                     "add r9, r8, r9, lsl #5\n\t"
                     "rsb r10, r6, #0\n\t"
                     "and r10, r10, #7\n\t"
                     "orr r5, r0, r4\n\t"
                     "orr r5, r5, r1\n\t"
                     "lsls r5, r5, #30\n\t"
                     "mov r5, #0\n\t"
                     "itt eq\n\t"
                     "lsreq r5, r6, #5\n\t"
                     "andeq r6, r6, #31\n\t"
                     "push {r0, r1, r2, r3, r4, r5, r6, r8, r9, r10}\n"
                     "1:\n\t"
                     "ldm sp, {r8, r9, r10, r11, r12, lr}\n\t"
                     "ldm r10!, {r0, r2, r4, r6}\n\t"
                     "str r10, [sp, #8]\n\t"
                     "smull r0, r1, r0, r11\n\t"
                     "smull r2, r3, r2, r11\n\t"
                     "smull r4, r5, r4, r11\n\t"
                     "smull r6, r7, r6, r11\n\t"
                     "add r10, r8, r9, lsl #1\n\t"
                     "add r11, r10, r9\n\t"
                     "add r9, r9, r8\n\t"
                     "wls lr, lr, 3f\n"
                     "2:\n\t"
                     "vldmia r12!, {d0-d7}\n\t"
                     FXP_32_PRODUCTS("r8", "r0, r1") FXP_32_PRODUCTS("r9", "r2, r3")
                     FXP_32_PRODUCTS("r10", "r4, r5") FXP_32_PRODUCTS("r11", "r6, r7")
                     "le lr, 2b\n"
                     "3:\n\t"
                     "ldr lr, [sp, #24]\n\t"
                     "wlstp.16 lr, lr, 5f\n"
                     "4:\n\t" FXP_EIGHT16("q0", "r12")
                     FXP_EIGHT16("q1", "r8") "vmlaldava.s16 r0, r1, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r9") "vmlaldava.s16 r2, r3, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r10") "vmlaldava.s16 r4, r5, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r11") "vmlaldava.s16 r6, r7, q0, q1\n\t"
                     "letp lr, 4b\n"
                     "5:\n\t"
                     "ldr r12, [sp, #28]\n\t"
                     "stm r12!, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "str r12, [sp, #28]\n\t"
                     "ldrd r0, r1, [sp, #32]\n\t"
                     "sub r11, r11, r1, lsl #1\n\t"
                     "str r11, [sp]\n\t"
                     "cmp r12, r0\n\t"
                     "bne 1b\n\t"
                     "pop {r0, r1, r2, r3, r4, r5, r6, r8, r9, r10}\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r6), "+r"(r8), "+r"(r9)
                     :
                     : "r1", "r5", "r10", "r11", "r12", "lr", "q0", "q1", "q2", "q3", "q4", "q5",
                       "q6", "q7", "cc", "memory");
    rest->w = r0;
    rest->x = r4;
    rest->b = r2;
    rest->factor = r3;
    rest->sums = r8;
}
#undef FXP_32_PRODUCTS

/* out[j] = b[j] with `up` fraction bits more, of which there are fewer: up < 0 */
static inline void fxp_shorten_biases(const int32_t *b, int up, int rows, int32_t *out)
{
    __asm__ volatile("dlstp.32 lr, %[rows]\n"
                     "1:\n\t"
                     "vldrw.u32 q0, [%[b]], #16\n\t"
                     "vqrshl.s32 q0, %[up]\n\t"
                     "vstrw.32 q0, [%[out]], #16\n\t"
                     "letp lr, 1b"
                     : [b] "+r"(b), [out] "+r"(out)
                     : [rows] "r"(rows), [up] "r"(fxp_near_shift(up))
                     : "lr", "q0", "memory");
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

/* sums[j] += sum of w * e over the walk, for four times `fours` columns. The stack has the places
 * of the errors, of the weights of the next columns and of the end of the sums, how many runs there
 * are, from where one ends to where the next begins, and the place of the next sum. */
static inline void fxp_columns_by_four16(const int16_t *w, const int16_t *e, const fxp_walk *walk,
                                         int fours, int64_t *sums)
{
    const int eights = (walk->n + 7) >> 3;
    register const int16_t *r1 __asm__("r1") = e;
    register const int16_t *r2 __asm__("r2") = w;
    register int64_t *r3 __asm__("r3") = sums + 4 * fours;
    register int r4 __asm__("r4") = walk->rows;
    register int r5 __asm__("r5") = 2 * walk->w_line - 16 * eights * walk->step;
    register int r6 __asm__("r6") = 2 * walk->e_line - 16 * eights;
    register int r10 __asm__("r10") = walk->n;
    register int r11 __asm__("r11") = walk->step;
    register int64_t *r12 __asm__("r12") = sums;
    __asm__ volatile("push {r7, r12}\n\t"
                     "push {r1, r2, r3, r4, r5, r6}\n\t"
                     FXP_PLACES("r0", "r1", "r11")
                     "lsl r11, r11, #4\n"
                     "1:\n\t"
                     "ldrd r9, r8, [sp]\n\t"
                     "ldm r12, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "ldr r12, [sp, #12]\n"
                     "2:\n\t"
                     "dlstp.16 lr, r10\n"
                     "3:\n\t" FXP_EIGHT16("q0", "r9")
                     FXP_GATHER16("q1", "r8", "q2") "vmlaldava.s16 r0, r1, q0, q1\n\t"
                     FXP_GATHER16("q1", "r8", "q3") "vmlaldava.s16 r2, r3, q0, q1\n\t"
                     FXP_GATHER16("q1", "r8", "q4") "vmlaldava.s16 r4, r5, q0, q1\n\t"
                     FXP_GATHER16("q1", "r8", "q5") "vmlaldava.s16 r6, r7, q0, q1\n\t"
                     "add r8, r8, r11\n\t"
                     "letp lr, 3b\n\t"
                     "subs r12, r12, #1\n\t"
                     "bgt 4f\n\t"
                     "ldr r12, [sp, #28]\n\t"
                     "stm r12!, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "str r12, [sp, #28]\n\t"
                     "ldrd r0, r1, [sp, #4]\n\t"
                     "adds r0, r0, #8\n\t"
                     "str r0, [sp, #4]\n\t"
                     "cmp r12, r1\n\t"
                     "bne 1b\n\t"
                     "b 5f\n"
                     "4:\n\t" /* the next run */
                     "ldr lr, [sp, #16]\n\t"
                     "add r8, r8, lr\n\t"
                     "ldr lr, [sp, #20]\n\t"
                     "add r9, r9, lr\n\t"
                     "b 2b\n"
                     "5:\n\t"
                     "add sp, sp, #24\n\t"
                     "pop {r7, r12}"
                     : "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r11)
                     : "r"(r10), "r"(r12)
                     : "r0", "r8", "r9", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "cc",
                       "memory");
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

/* Four columns after the other, all runs of a walk. What is left is fewer columns, or all. */
#define FXP_WALK_MVE(four_columns)                                                                 \
    columns = fxp_part(columns, FXP_COLUMNS);                                                      \
    for (; columns >= 4 && walk->step <= FXP_FAR; columns -= 4, w += 4, sums += 4) {               \
        const int line = walk->w_line, next = walk->e_line;                                        \
        for (int row = 0; row < walk->rows; row++) {                                               \
            four_columns(w + row * line, e + row * next, walk->n, walk->step, sums);               \
        }                                                                                          \
    }
#else
#define FXP_WALK_MVE(four_columns)
#endif

#ifdef __AVR__
/* p = the product of r21:r20 and r19:r18, which have signs. Afterwards r1 is not 0; `zero` is. */
#define FXP_AVR_PRODUCT                                                                            \
    "muls r21, r19\n\t"                                                                            \
    "movw %C[p], r0\n\t"                                                                           \
    "mul r20, r18\n\t"                                                                             \
    "movw %A[p], r0\n\t"                                                                           \
    "mulsu r21, r18\n\t"                                                                           \
    "sbc %D[p], %[zero]\n\t"                                                                       \
    "add %B[p], r0\n\t"                                                                            \
    "adc %C[p], r1\n\t"                                                                            \
    "adc %D[p], %[zero]\n\t"                                                                       \
    "mulsu r19, r20\n\t"                                                                           \
    "sbc %D[p], %[zero]\n\t"                                                                       \
    "add %B[p], r0\n\t"                                                                            \
    "adc %C[p], r1\n\t"                                                                            \
    "adc %D[p], %[zero]\n\t"

/* Adds products of n numbers from X, 2 + `gap` bytes apart, and from Z to `low` and `high`. They
 * are lifted by 2^31, so that they have no sign; what that adds is taken off first. */
#define FXP_AVR_SUM(a, b, n)                                                                       \
    uint32_t low = (n) & 1 ? 0x80000000u : 0;                                                      \
    int16_t high = (int16_t)-(((n) + 1) >> 1);                                                     \
    int32_t p;                                                                                     \
    register const int16_t *x __asm__("r26") = a;                                                  \
    register const int16_t *z __asm__("r30") = b;                                                  \
    register int count __asm__("r24") = n;                                                         \
    if (count > 0) {                                                                               \
        __asm__ volatile("1:\n\t"                                                                  \
                         "ld r20, X+\n\t"                                                          \
                         "ld r21, X+\n\t"                                                          \
                         "add r26, %A[gap]\n\t"                                                    \
                         "adc r27, %B[gap]\n\t"                                                    \
                         "ld r18, Z+\n\t"                                                          \
                         "ld r19, Z+\n\t" FXP_AVR_PRODUCT "add %D[p], %[lift]\n\t"                 \
                         "add %A[low], %A[p]\n\t"                                                  \
                         "adc %B[low], %B[p]\n\t"                                                  \
                         "adc %C[low], %C[p]\n\t"                                                  \
                         "adc %D[low], %D[p]\n\t"                                                  \
                         "adc %A[high], %[zero]\n\t"                                               \
                         "adc %B[high], %[zero]\n\t"                                               \
                         "sbiw r24, 1\n\t"                                                         \
                         "brne 1b\n\t"                                                             \
                         "clr r1"                                                                  \
                         : "+r"(x), "+r"(z),                                                       \
                           "+r"(count), [low] "+r"(low), [high] "+r"(high), [p] "=&r"(p)           \
                         : [gap] "r"(gap), [zero] "r"((uint8_t)0), [lift] "r"((uint8_t)128)        \
                         : "r18", "r19", "r20", "r21", "memory");                                  \
    }

/* sum of a * b[i] over n numbers a that are 2 + `gap` bytes apart, exact */
static FXP_OUTLINE int64_t fxp_avr_dot16(const int16_t *a, int gap, const int16_t *b, int n)
{
    FXP_AVR_SUM(a, b, n)
    register int64_t sum __asm__("r18");
    __asm__("movw r18, %A[low]\n\t"
            "movw r20, %C[low]\n\t"
            "movw r22, %A[high]\n\t"
            "mov r24, r23\n\t"
            "lsl r24\n\t"
            "sbc r24, r24\n\t"
            "mov r25, r24"
            : "=&r"(sum)
            : [low] "r"(low), [high] "r"(high));
    return sum;
}

/* The same rounded to 32 bits. */
static FXP_OUTLINE int32_t fxp_avr_dot16_short(const int16_t *a, int gap, const int16_t *b, int n,
                                               int shift)
{
    FXP_AVR_SUM(a, b, n)
    if (shift > 0) {
        __asm__("dec %A[n]\n\t"
                "rjmp 2f\n"
                "1:\n\t"
                "mov %A[low], %B[low]\n\t"
                "mov %B[low], %C[low]\n\t"
                "mov %C[low], %D[low]\n\t"
                "mov %D[low], %A[high]\n\t"
                "mov %A[high], %B[high]\n\t"
                "lsl %B[high]\n\t"
                "sbc %B[high], %B[high]\n"
                "2:\n\t"
                "subi %A[n], 8\n\t"
                "brcc 1b\n\t"
                "subi %A[n], 247\n\t" /* 1 to 8 are left; the last one that is lost rounds */
                "cpi %A[n], 5\n\t"
                "brlo 3f\n\t"
                "rjmp 5f\n" /* rather to the left, and a byte to the right */
                "4:\n\t"
                "lsl %A[low]\n\t"
                "rol %B[low]\n\t"
                "rol %C[low]\n\t"
                "rol %D[low]\n\t"
                "rol %A[high]\n\t"
                "inc %A[n]\n"
                "5:\n\t"
                "cpi %A[n], 8\n\t"
                "brne 4b\n\t"
                "lsl %A[low]\n\t"
                "mov %A[low], %B[low]\n\t"
                "mov %B[low], %C[low]\n\t"
                "mov %C[low], %D[low]\n\t"
                "mov %D[low], %A[high]\n\t"
                "rjmp 6f\n"
                "3:\n\t"
                "asr %B[high]\n\t"
                "ror %A[high]\n\t"
                "ror %D[low]\n\t"
                "ror %C[low]\n\t"
                "ror %B[low]\n\t"
                "ror %A[low]\n\t"
                "dec %A[n]\n\t"
                "brne 3b\n"
                "6:\n\t"
                "adc %A[low], __zero_reg__\n\t"
                "adc %B[low], __zero_reg__\n\t"
                "adc %C[low], __zero_reg__\n\t"
                "adc %D[low], __zero_reg__"
                : [low] "+r"(low), [high] "+r"(high), [n] "+d"(shift));
    }
    return (int32_t)low;
}
#undef FXP_AVR_SUM

/* *sum += v */
static inline void fxp_avr_add(int64_t *sum, int64_t v)
{
    register int64_t addend __asm__("r18") = v;
#define FXP_AVR_ADD(add, byte)                                                                     \
    "ld __tmp_reg__, Z\n\t" add " __tmp_reg__, " byte "\n\t"                                       \
    "st Z+, __tmp_reg__\n\t"
    __asm__ volatile(FXP_AVR_ADD("add", "r18") FXP_AVR_ADD("adc", "r19") FXP_AVR_ADD("adc", "r20")
                         FXP_AVR_ADD("adc", "r21") FXP_AVR_ADD("adc", "r22")
                             FXP_AVR_ADD("adc", "r23") FXP_AVR_ADD("adc", "r24")
                                 FXP_AVR_ADD("adc", "r25")
                     : "+z"(sum)
                     : "r"(addend)
                     : "memory");
#undef FXP_AVR_ADD
}
#endif
/* clang-format on */

#if FXP_SMALL_THUMB
/* Neighbouring sums, exact: `low` with a sign, less 2^32 for each of `wraps`, which lie FXP_WRAPS
 * bytes behind. */
#define FXP_RAW 16
#define FXP_WRAPS "#64"
typedef struct {
    int32_t low[FXP_RAW];
    int32_t wraps[FXP_RAW];
} fxp_raw;

static inline void fxp_clear_raw(fxp_raw *raw)
{
    __asm__ volatile(".syntax unified\n\t"
                     "movs r3, #0\n\t"
                     "movs r4, #0\n\t"
                     "movs r5, #0\n\t"
                     "movs r6, #0\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}"
                     : [raw] "+l"(raw)
                     :
                     : "r3", "r4", "r5", "r6", "cc", "memory");
}

/* What lies above the low word of one of them. */
static inline uint32_t fxp_above(const fxp_raw *raw, int j)
{
    return (uint32_t)(raw->low[j] >> 31) - (uint32_t)raw->wraps[j];
}

/* One of them as it is. */
static inline int64_t fxp_whole_of(const fxp_raw *raw, int j)
{
    return (int64_t)(((uint64_t)fxp_above(raw, j) << 32) | (uint32_t)raw->low[j]);
}

/* A product goes to a sum; where that overflows, which is seldom, its sign is wrong. r7 is lost. */
#define FXP_ADD_PRODUCT(product, low, wraps)                                                       \
    "adds " low ", " low ", " product "\n\t"                                                       \
    "bvc 9f\n\t"                                                                                   \
    "asrs " product ", " low ", #31\n\t"                                                           \
    "adds " product ", " product ", " product "\n\t"                                               \
    "adds " product ", " product ", #1\n\t"                                                        \
    "add " wraps ", " product "\n"                                                                 \
    "9:\n\t"

/* The sums go to where the pushed r4 points. */
#define FXP_KEEP_TWO                                                                               \
    "pop {r4}\n\t"                                                                                 \
    "str r5, [r4]\n\t"                                                                             \
    "str r6, [r4, #4]\n\t"                                                                         \
    "mov r5, r8\n\t"                                                                               \
    "mov r6, r9\n\t"                                                                               \
    "str r5, [r4, " FXP_WRAPS "]\n\t"                                                              \
    "str r6, [r4, " FXP_WRAPS " + 4]\n\t"

/* clang-format off */
/* A product of each row. */
#define FXP_TWO_PRODUCTS                                                                           \
    "ldrsh r4, [r0, r3]\n\t"                                                                       \
    "ldrsh r7, [r1, r3]\n\t"                                                                       \
    "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT("r7", "r5", "r8")                                        \
    "ldrsh r7, [r2, r3]\n\t"                                                                       \
    "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT("r7", "r6", "r9")                                        \
    "adds r3, r3, #2\n\t"

/* Products of x with two rows of n, of which the sums go to `low` and behind. */
static FXP_OUTLINE void fxp_two_rows16(const int16_t *w, const int16_t *v, const int16_t *x, int n,
                                       int32_t *low)
{
    register const int16_t *r0 __asm__("r0") = x + n;
    register const int16_t *r1 __asm__("r1") = w + n;
    register const int16_t *r2 __asm__("r2") = v + n;
    register int32_t r3 __asm__("r3") = -2 * (int32_t)n;
    register int32_t *r4 __asm__("r4") = low;
    /* All registers are needed, and no compiler finds them all. */
    __asm__ volatile(".syntax unified\n\t"
                     "push {r4, r5, r6, r7}\n\t"
                     "movs r5, #0\n\t"
                     "movs r6, #0\n\t"
                     "mov r8, r5\n\t"
                     "mov r9, r5\n\t"
                     "lsls r4, r3, #30\n\t" /* n is odd */
                     "bne 2f\n\t"
                     "cmp r3, #0\n\t"
                     "beq 3f\n"
                     "1:\n\t" FXP_TWO_PRODUCTS
                     "2:\n\t" FXP_TWO_PRODUCTS
                     "bne 1b\n"
                     "3:\n\t"
                     FXP_KEEP_TWO
                     "pop {r5, r6, r7}"
                     : "+r"(r3), "+r"(r4)
                     : "r"(r0), "r"(r1), "r"(r2)
                     : "r8", "r9", "cc", "memory");
}

/* Numbers that are not 0, negated, each behind how far its place is from a base, in bytes. An even
 * count, as pairs of products are added first: a negated number makes no pair of them exceed 32
 * bits. */
#define FXP_LISTED 40
typedef struct {
    int32_t entries[2 * FXP_LISTED];
} fxp_list;

/* Lists numbers from x + *at bytes up to x, or until the list is full; its end. */
#define FXP_LIST_1                                                                                 \
    "ldrsh r4, [r0, r1]\n\t"                                                                       \
    "rsbs r4, r4, #0\n\t"                                                                          \
    "beq 8f\n\t"                                                                                   \
    "stmia r2!, {r1, r4}\n"                                                                        \
    "8:\n\t"                                                                                       \
    "adds r1, r1, #2\n\t"
static inline int32_t *fxp_list_of(const int16_t *x, int32_t *at, fxp_list *list)
{
    register const int16_t *r0 __asm__("r0") = x;
    register int32_t r1 __asm__("r1") = *at;
    register int32_t *r2 __asm__("r2") = list->entries;
    register int32_t *r3 __asm__("r3") = list->entries + 2 * (FXP_LISTED - 4);
    __asm__ volatile(".syntax unified\n\t"
                     "b 2f\n"
                     "1:\n\t" FXP_LIST_1
                     "2:\n\t"
                     "lsls r4, %[at], #29\n\t" /* they are no fours */
                     "bne 1b\n\t"
                     "cmp %[at], #0\n\t"
                     "beq 4f\n"
                     "3:\n\t" FXP_LIST_1 FXP_LIST_1 FXP_LIST_1 FXP_LIST_1
                     "beq 4f\n\t"
                     "cmp %[end], %[most]\n\t"
                     "bls 3b\n"
                     "4:"
                     : [at] "+l"(r1), [end] "+l"(r2)
                     : [x] "l"(r0), [most] "l"(r3)
                     : "r4", "cc", "memory");
    *at = r1;
    return r2;
}

/* The products of two entries are subtracted from the sum in r6. */
#define FXP_LISTED_2                                                                               \
    "ldmia r0!, {r2, r3, r4, r5}\n\t"                                                              \
    "ldrsh r2, [r1, r2]\n\t"                                                                       \
    "muls r2, r3, r2\n\t"                                                                          \
    "ldrsh r4, [r1, r4]\n\t"                                                                       \
    "muls r4, r5, r4\n\t"                                                                          \
    "adds r2, r2, r4\n\t"                                                                          \
    "subs r6, r6, r2\n\t"                                                                          \
    "bvc 9f\n\t"                                                                                   \
    "asrs r2, r6, #31\n\t"                                                                         \
    "adds r2, r2, r2\n\t"                                                                          \
    "adds r2, r2, #1\n\t"                                                                          \
    "ldr r3, [r7, " FXP_WRAPS "]\n\t"                                                              \
    "adds r3, r3, r2\n\t"                                                                          \
    "str r3, [r7, " FXP_WRAPS "]\n"                                                                \
    "9:\n\t"
#define FXP_LISTED_2_BYTES "#28" /* of its code */

/* What sums of products with listed numbers need. Numbers lie from x + at bytes up to x; `down` is
 * how many bytes are between their weights, the first of which is at w + place, or 0 for neighbours
 * that end at w. The next sum has its weights `step` bytes further on. Where y is not NULL, sums
 * are those where y > 0; `mask` is the next. They end at `end`. */
typedef struct {
    const int16_t *x;
    int32_t at;
    int32_t down;
    int32_t place;
    const int16_t *w;
    int32_t step;
    const int16_t *y;
    const int16_t *mask;
    int32_t *end;
    fxp_raw sums;
    fxp_list list;
} fxp_products;
#define FXP_SUMS_AT "#36"
#define FXP_LIST_AT "#164"
FXP_ASSERT(sums_and_list_are_there, sizeof(fxp_products) == 164 + sizeof(fxp_list));
FXP_ASSERT(a_list_has_room_for_four_entries_there, 8 * (FXP_LISTED - 4) == 2 * 144);

/* Adds products to sums that begin at 0: one list after the other. */
static FXP_OUTLINE void fxp_add_products(fxp_products *products)
{
    register fxp_products *r0 __asm__("r0") = products;
    /* Rows begin where lr points: at 1, if there is a mask, else at 2; the stack has `products`. */
    __asm__ volatile(".syntax unified\n\t"
                     "push {r0, r7}\n\t"
                     "mov r7, r0\n"
                     "10:\n\t"
                     "ldmia r0!, {r1, r2, r3}\n\t"
                     "mov r0, r1\n\t"
                     "mov r1, r2\n\t"
                     "mov r2, r7\n\t"
                     "adds r2, r2, " FXP_LIST_AT "\n\t"
                     "mov r8, r2\n\t"
                     "mov r5, r2\n\t"
                     "adds r5, r5, #144\n\t"
                     "adds r5, r5, #144\n\t"
                     "cmp r3, #0\n\t"
                     "bne 14f\n\t"
                     "mov r3, r5\n\t"
                     "b 12f\n"
                     "11:\n\t" FXP_LIST_1
                     "12:\n\t"
                     "lsls r4, r1, #29\n\t" /* they are no fours */
                     "bne 11b\n\t"
                     "cmp r1, #0\n\t"
                     "beq 17f\n"
                     "13:\n\t" FXP_LIST_1 FXP_LIST_1 FXP_LIST_1 FXP_LIST_1
                     "beq 17f\n\t"
                     "cmp r2, r3\n\t"
                     "bls 13b\n\t"
                     "b 17f\n"
                     "14:\n\t"
                     "mov r6, r3\n\t"
                     "ldr r3, [r7, #12]\n"
                     "15:\n\t"
                     "ldrsh r4, [r0, r1]\n\t"
                     "rsbs r4, r4, #0\n\t"
                     "beq 16f\n\t"
                     "stmia r2!, {r3, r4}\n"
                     "16:\n\t"
                     "adds r3, r3, r6\n\t"
                     "adds r1, r1, #2\n\t"
                     "beq 17f\n\t"
                     "cmp r2, r5\n\t"
                     "bls 15b\n\t"
                     "str r3, [r7, #12]\n"
                     "17:\n\t"
                     "str r1, [r7, #4]\n\t"
                     "mov r0, r8\n\t"
                     "subs r0, r2, r0\n\t"
                     "bne 18f\n\t"
                     "b 4f\n"
                     "18:\n\t"
                     "lsls r3, r0, #28\n\t" /* an odd count */
                     "bpl 18f\n\t"
                     "subs r3, r2, #4\n\t"
                     "subs r3, r3, #4\n\t"
                     "ldr r3, [r3]\n\t"
                     "movs r4, #0\n\t"
                     "stmia r2!, {r3, r4}\n\t"
                     "adds r0, r0, #8\n"
                     "18:\n\t"
                     "mov r12, r2\n\t"
                     "rsbs r0, r0, #0\n\t"
                     "lsls r0, r0, #25\n\t"
                     "lsrs r0, r0, #29\n\t"
                     "movs r1, " FXP_LISTED_2_BYTES "\n\t"
                     "muls r0, r1, r0\n\t"
                     "adr r1, 3f\n\t"
                     "adds r0, r0, r1\n\t"
                     "mov r10, r0\n\t"
                     "mov r0, r7\n\t"
                     "adds r0, r0, #16\n\t"
                     "ldmia r0!, {r1, r2, r3, r4, r5}\n\t"
                     "mov r9, r2\n\t"
                     "mov r11, r5\n\t"
                     "str r3, [r7, #28]\n\t"
                     "adds r7, r7, " FXP_SUMS_AT "\n\t"
                     "adr r0, 2f\n\t"
                     "cmp r3, #0\n\t"
                     "beq 0f\n\t"
                     "adr r0, 1f\n"
                     "0:\n\t"
                     "mov lr, r0\n\t"
                     "mov pc, r0\n\t"
                     ".balign 4\n"
                     "1:\n\t"
                     "ldr r2, [sp]\n\t"
                     "ldr r3, [r2, #28]\n\t"
                     "movs r4, #0\n\t"
                     "ldrsh r4, [r3, r4]\n\t"
                     "adds r3, r3, #2\n\t"
                     "str r3, [r2, #28]\n\t"
                     "cmp r4, #0\n\t"
                     "bgt 2f\n\t"
                     "adds r7, r7, #4\n\t"
                     "add r1, r9\n\t"
                     "cmp r7, r11\n\t"
                     "bne 1b\n\t"
                     "b 4f\n\t"
                     ".balign 4\n"
                     "2:\n\t"
                     "mov r0, r8\n\t"
                     "ldr r6, [r7]\n\t"
                     "mov pc, r10\n\t"
                     ".balign 4\n"
                     "3:\n\t" FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2
                     FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2
                     "cmp r0, r12\n\t"
                     "bne 3b\n\t"
                     "stmia r7!, {r6}\n\t"
                     "add r1, r9\n\t"
                     "cmp r7, r11\n\t"
                     "beq 4f\n\t"
                     "mov pc, lr\n"
                     "4:\n\t"
                     "ldr r0, [sp]\n\t"
                     "mov r7, r0\n\t"
                     "ldr r1, [r7, #4]\n\t"
                     "cmp r1, #0\n\t"
                     "beq 5f\n\t"
                     "b 10b\n"
                     "5:\n\t"
                     "pop {r0, r7}"
                     : "+r"(r0)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr",
                       "cc", "memory");
}
#undef FXP_SUMS_AT
#undef FXP_LIST_AT
#undef FXP_LIST_1
#undef FXP_LISTED_2
#undef FXP_LISTED_2_BYTES
/* clang-format on */

/* What sums of two columns need, in bytes: where they are, how far the next row of weights is, the
 * next run of weights from the end of one, and the next of errors; then a run, below 0, and how
 * many there are. */
typedef struct {
    const int16_t *w;
    const int16_t *e;
    int32_t step;
    int32_t w_next;
    int32_t e_next;
    int32_t run;
    int32_t rows;
} fxp_two_columns;

#define FXP_TWO_PRODUCTS_DOWN                                                                      \
    "ldrsh r4, [r1, r3]\n\t"                                                                       \
    "ldrh r7, [r0]\n\t"                                                                            \
    "sxth r7, r7\n\t"                                                                              \
    "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT("r7", "r5", "r8") "ldrsh r7, [r0, r2]\n\t"               \
                                                            "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT( \
                                                                "r7", "r6",                        \
                                                                "r9") "add r0, r12\n\t"            \
                                                                      "adds r3, r3, #2\n\t"

/* Neither a run nor their number is 0. */
static FXP_OUTLINE void fxp_two_columns16(fxp_two_columns *columns, int32_t *low)
{
    register fxp_two_columns *r0 __asm__("r0") = columns;
    register int32_t *r1 __asm__("r1") = low;
    __asm__ volatile(".syntax unified\n\t"
                     "push {r1, r4, r5, r6, r7}\n\t"
                     "mov lr, r0\n\t"
                     "ldr r4, [r0, #8]\n\t"
                     "mov r12, r4\n\t"
                     "movs r5, #0\n\t"
                     "movs r6, #0\n\t"
                     "mov r8, r5\n\t"
                     "mov r9, r5\n\t"
                     "movs r2, #2\n\t"
                     "mov r4, r0\n\t"
                     "ldmia r4!, {r0, r1}\n"
                     "1:\n\t"
                     "mov r4, lr\n\t"
                     "ldr r3, [r4, #20]\n\t"
                     "lsls r4, r3, #30\n\t" /* n is odd */
                     "bne 3f\n"
                     "2:\n\t" FXP_TWO_PRODUCTS_DOWN "3:\n\t" FXP_TWO_PRODUCTS_DOWN "bne 2b\n\t"
                     "mov r4, lr\n\t"
                     "ldr r7, [r4, #12]\n\t"
                     "adds r0, r0, r7\n\t"
                     "ldr r7, [r4, #16]\n\t"
                     "adds r1, r1, r7\n\t"
                     "ldr r7, [r4, #24]\n\t"
                     "subs r7, r7, #1\n\t"
                     "str r7, [r4, #24]\n\t"
                     "bne 1b\n\t" FXP_KEEP_TWO "pop {r4, r5, r6, r7}"
                     : "+r"(r0), "+r"(r1)
                     :
                     : "r2", "r3", "r8", "r9", "r12", "lr", "cc", "memory");
}

/* Those of one column, whose rows are `step` apart, go to the first sum; n > 0. */
static FXP_OUTLINE void fxp_one_column16(const int16_t *w, int step, const int16_t *e, int n,
                                         fxp_raw *raw)
{
    const int16_t *const end = e + n;
    int32_t at = -2 * (int32_t)n, low = raw->low[0], wraps = raw->wraps[0], p, q;
    __asm__ volatile(".syntax unified\n"
                     "1:\n\t"
                     "ldrsh %[q], [%[end], %[at]]\n\t"
                     "ldrh %[p], [%[w]]\n\t"
                     "sxth %[p], %[p]\n\t"
                     "muls %[p], %[q], %[p]\n\t" FXP_ADD_PRODUCT(
                         "%[p]", "%[low]", "%[wraps]") "add %[w], %[step]\n\t"
                                                       "adds %[at], %[at], #2\n\t"
                                                       "bne 1b"
                     : [at] "+l"(at), [w] "+l"(w), [low] "+l"(low), [wraps] "+hr"(wraps),
                       [p] "=&l"(p), [q] "=&l"(q)
                     : [end] "l"(end), [step] "hr"(2 * (int32_t)step)
                     : "cc", "memory");
    raw->low[0] = low;
    raw->wraps[0] = wraps;
}
#undef FXP_ADD_PRODUCT
#undef FXP_TWO_PRODUCTS
#undef FXP_TWO_PRODUCTS_DOWN
#undef FXP_KEEP_TWO
#endif

/* ---- sums of products ----------------------------------------------------------------------- */

#if FXP_RISCV32
/* A sum of fewer than 2^16 numbers of 32 bits, modulo 2^32, and that of their upper halves. */
typedef struct {
    uint32_t low;
    int32_t high;
} fxp_halves;

static inline void fxp_add_halves(fxp_halves *sum, int32_t v)
{
    sum->low += (uint32_t)v;
    sum->high += v >> 16;
}

static inline int64_t fxp_of_halves(fxp_halves sum)
{
    return (int64_t)sum.high * 65536 + (uint32_t)(sum.low - ((uint32_t)sum.high << 16));
}
#endif

/* sum of a[i] * b[i], exact */
static inline int64_t fxp_dot16(const int16_t *a, const int16_t *b, int n)
{
#ifdef __AVR__
    return fxp_avr_dot16(a, 0, b, n);
#else
    int64_t sum = 0;
#if FXP_MVE
    FXP_DOT_MVE(FXP_EIGHT16, FXP_EIGHT16)
    return sum;
#endif
#if FXP_SSE2
    while (n >= 8) {
        const int vectors = n < 65536 ? n >> 3 : 8191;
        fxp_pairs pairs = fxp_no_pairs(vectors);
        for (int i = 0; i < vectors; i++, a += 8, b += 8) {
            fxp_add_lifted(&pairs, _mm_madd_epi16(fxp_eight(a), fxp_eight(b)));
        }
        const fxp_four none = {_mm_setzero_si128(), _mm_setzero_si128()};
        const fxp_four four = fxp_with_pairs(none, pairs);
        const __m128i both = _mm_add_epi64(four.first, four.second);
        sum += _mm_cvtsi128_si64(_mm_add_epi64(both, _mm_unpackhi_epi64(both, both)));
        n -= 8 * vectors;
    }
#endif
#if FXP_LONG_THUMB
    for (; n > 0; n--, a++, b++) {
        sum += (int64_t)*a * *b;
    }
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
#endif
}

/* The same where one of both has 8 bits, in plain C. */
#define FXP_SUM_BLOCKS                                                                             \
    int64_t sum = 0;                                                                               \
    while (n > 0) {                                                                                \
        int block = n < FXP_BLOCK ? n : FXP_BLOCK;                                                 \
        int32_t part = 0;                                                                          \
        n -= block;                                                                                \
        for (; block > 0; block--, a++, b++) {                                                     \
            part += (int32_t)*a * *b;                                                              \
        }                                                                                          \
        sum += part;                                                                               \
    }                                                                                              \
    return sum

/* sum of a[i] * b[i], exact */
static inline int64_t fxp_dot16x8(const int16_t *a, const int8_t *b, int n)
{
#if FXP_DSP
    int64_t sum = 0;
#if FXP_MVE
    FXP_DOT_MVE(FXP_EIGHT16, FXP_EIGHT8)
    return sum;
#endif
    while (n > 0) {
        int block = n < FXP_BLOCK ? n : FXP_BLOCK;
        int32_t part = 0;
        n -= block;
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
        for (; block > 0; block--, a++, b++) {
            part += (int32_t)*a * *b;
        }
        sum += part;
    }
    return sum;
#else
    FXP_SUM_BLOCKS;
#endif
}

/* sum of a[i] * b[i], exact */
static inline int64_t fxp_dot8(const int8_t *a, const int8_t *b, int n)
{
#if FXP_DSP
    int64_t sum = 0;
#if FXP_MVE
    FXP_DOT_MVE(FXP_EIGHT8, FXP_EIGHT8)
    return sum;
#endif
    while (n > 0) {
        int block = n < FXP_BLOCK ? n : FXP_BLOCK;
        int32_t part = 0;
        n -= block;
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
        for (; block > 0; block--, a++, b++) {
            part += (int32_t)*a * *b;
        }
        sum += part;
    }
    return sum;
#else
    FXP_SUM_BLOCKS;
#endif
}

/* ---- sums of products along rows ------------------------------------------------------------ */

#if FXP_SMALL_THUMB
FXP_ASSERT(sums_fit_raw_ones, FXP_SUMS <= FXP_RAW);

/* Whether so many of n numbers are 0, as far as four of them tell, that it pays to list the others
 * for a few rows. */
static inline int fxp_are_sparse(const int16_t *x, int n)
{
    const int step = n >> 2;
    return step > 0 && (x[0] == 0) + (x[step] == 0) + (x[2 * step] == 0) + (x[3 * step] == 0) > 1;
}

/* Products of x with at most FXP_RAW rows of n are summed, or those of rows where y > 0. */
static FXP_INLINE void fxp_sum_rows16(const int16_t *w, const int16_t *x, int n, const int16_t *y,
                                      int rows, fxp_products *products)
{
    int32_t *low = products->sums.low;
    if (y == NULL && rows < 6 && !fxp_are_sparse(x, n)) {
        for (; rows > 0; rows -= 2, w += 2 * n, low += 2) {
            fxp_two_rows16(w, rows > 1 ? w + n : w, x, n, low);
        }
        return;
    }
    fxp_clear_raw(&products->sums);
    products->x = x + n;
    products->at = -2 * (int32_t)n;
    products->down = 0;
    products->w = w + n;
    products->step = 2 * (int32_t)n;
    products->y = y;
    products->end = low + rows;
    if (n > 0) {
        fxp_add_products(products);
    }
}

/* clang-format off */
/* A sum shorter by r3, where r4 is 32 less r3, plus a bias shorter by r9: the bit that a shift
 * loses last is its carry, which rounds. */
#define FXP_SHORTEN(bias)                                                                          \
    "ldmia r0!, {r5}\n\t"                                                                          \
    "ldr r6, [r0, " FXP_WRAPS " - 4]\n\t"                                                          \
    "asrs r7, r5, #31\n\t"                                                                         \
    "subs r7, r7, r6\n\t"                                                                          \
    "lsls r7, r4\n\t"                                                                              \
    "lsrs r5, r3\n\t"                                                                              \
    "adcs r5, r7\n\t" bias                                                                         \
    "stmia r2!, {r5}\n\t"                                                                          \
    "cmp r0, r8\n\t"                                                                               \
    "bne 1b\n"
#define FXP_SHORTEN_BIAS                                                                           \
    "ldmia r1!, {r7}\n\t"                                                                          \
    "mov r6, r9\n\t"                                                                               \
    "adds r6, r6, #0\n\t" /* which carries nothing */                                              \
    "asrs r7, r6\n\t"                                                                              \
    "adcs r5, r7\n\t"                                                                              \
    "bvc 3f\n\t"                                                                                   \
    "asrs r5, r5, #31\n\t" /* its sign is wrong */                                                 \
    "movs r6, #1\n\t"                                                                              \
    "lsls r6, r6, #31\n\t"                                                                         \
    "eors r5, r6\n"                                                                                \
    "3:\n\t"

/* Sums as 32 bits, rounded to `shift` bits less, and with their biases saturated. */
static FXP_INLINE void fxp_shorten_raw(const fxp_raw *raw, int count, const int32_t *b, int f,
                                        int shift, int32_t *sums)
{
    const int down = FXP_BIAS_FRACTION - f;
    if (shift < 1 || down < 0) {
        for (int j = 0; j < count; j++) {
            const int32_t sum = fxp_sum32(fxp_whole_of(raw, j), shift);
            sums[j] = b == NULL ? sum : fxp_add32(sum, fxp_bias32(b[j], f));
        }
        return;
    }
    register const int32_t *r0 __asm__("r0") = raw->low;
    register const int32_t *r1 __asm__("r1") = b;
    register int32_t *r2 __asm__("r2") = sums;
    register int r3 __asm__("r3") = shift;
    register int r4 __asm__("r4") = down < 32 ? down : 32;
    register const int32_t *r5 __asm__("r5") = raw->low + count;
    __asm__ volatile(".syntax unified\n\t"
                     "push {r7}\n\t"
                     "mov r8, r5\n\t"
                     "mov r9, r4\n\t"
                     "movs r4, #32\n\t"
                     "subs r4, r4, r3\n\t"
                     "cmp r1, #0\n\t"
                     "bne 2f\n"
                     "1:\n\t" FXP_SHORTEN("")
                     "b 4f\n"
                     "2:\n"
                     "1:\n\t" FXP_SHORTEN(FXP_SHORTEN_BIAS)
                     "4:\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r4), "+r"(r5)
                     : "r"(r3)
                     : "r6", "r8", "r9", "cc", "memory");
}
/* clang-format on */
#undef FXP_SHORTEN
#undef FXP_SHORTEN_BIAS
#endif

#define FXP_SUM_ROWS(dot)                                                                          \
    do {                                                                                           \
        for (int j = 0; j < rows; j++, w += n) {                                                   \
            sums[j] = (dot) + (b ? fxp_bias(b[j], f) : 0);                                         \
        }                                                                                          \
    } while (0)

#if FXP_DSP && !FXP_MVE
/* A row begins with its bias times r4, and ends with its sum stored. All registers are needed: the
 * stack has x, n, the place of the bias, its factor, the end of the sums; r7 has the place of
 * the next sum, r12 and lr are the sum. */
#define FXP_ROW_BEGIN                                                                              \
    "ldm sp, {r1, r2, r3, r4, r5}\n\t"                                                             \
    "ldr r6, [r3], #4\n\t"                                                                         \
    "str r3, [sp, #8]\n\t"                                                                         \
    "smull r12, lr, r6, r4\n\t"
#define FXP_ROW_END                                                                                \
    "strd r12, lr, [r7], #8\n\t"                                                                   \
    "ldr r3, [sp, #20]\n\t"                                                                        \
    "cmp r7, r3\n\t"
#define FXP_ROW_2                                                                                  \
    "ldr r3, [r1], #4\n\t"                                                                         \
    "ldr r4, [r0], #4\n\t"                                                                         \
    "smlald r12, lr, r3, r4\n\t"
#define FXP_ROW_8                                                                                  \
    "ldmia.w r1!, {r3, r4, r5, r6}\n\t"                                                            \
    "ldmia.w r0!, {r8, r9, r10, r11}\n\t"                                                          \
    "smlald r12, lr, r3, r8\n\t"                                                                   \
    "smlald r12, lr, r4, r9\n\t"                                                                   \
    "smlald r12, lr, r5, r10\n\t"                                                                  \
    "smlald r12, lr, r6, r11\n\t"
#define FXP_ROW_8_BYTES 24 /* of its code: instructions of four bytes each */
/* clang-format off */
/* The products of a row that begins at words and has eight or more: the loop takes four times eight
 * of them and is entered where the eights that are left over begin; r2 counts. */
#define FXP_ROW_AT_WORDS                                                                           \
    "2:\n\t" FXP_ROW_8 FXP_ROW_8 FXP_ROW_8 FXP_ROW_8                                               \
    "subs r2, r2, #16\n\t"                                                                         \
    "bge 2b\n\t"                                                                                   \
    "adds r2, r2, #15\n\t"                                                                         \
    "bmi 4f\n"                                                                                     \
    "3:\n\t" FXP_ROW_2                                                                             \
    "subs r2, r2, #1\n\t"                                                                          \
    "bpl 3b\n"                                                                                     \
    "4:\n\t"
/* Those of a row that begins anywhere; r2 counts down from n. */
#define FXP_ROW_ANYWHERE                                                                           \
    "subs r2, r2, #8\n\t"                                                                          \
    "blt 11f\n"                                                                                    \
    "10:\n\t" FXP_ROW_2 FXP_ROW_2 FXP_ROW_2 FXP_ROW_2                                              \
    "subs r2, r2, #8\n\t"                                                                          \
    "bge 10b\n"                                                                                    \
    "11:\n\t"                                                                                      \
    "adds r2, r2, #6\n\t"                                                                          \
    "blt 13f\n"                                                                                    \
    "12:\n\t" FXP_ROW_2                                                                            \
    "subs r2, r2, #2\n\t"                                                                          \
    "bge 12b\n"                                                                                    \
    "13:\n\t"                                                                                      \
    "adds r2, r2, #1\n\t"                                                                          \
    "blt 14f\n\t"                                                                                  \
    "ldrsh r3, [r1]\n\t"                                                                           \
    "ldrsh r4, [r0], #2\n\t"                                                                       \
    "smlalbb r12, lr, r3, r4\n"                                                                    \
    "14:\n\t"
/* Those with at most nine numbers in r1, r2, r3, r5, r6. */
#define FXP_FEW_PRODUCTS(skipped, t)                                                               \
    "add pc, " skipped "\n\t"                                                                      \
    "nop\n\t"                                                                                      \
    FXP_FEW_2(t, "r1") FXP_FEW_2(t, "r2") FXP_FEW_2(t, "r3") FXP_FEW_2(t, "r5")                    \
    "ldrsh " t ", [r0], #2\n\t"                                                                    \
    "smlald r12, lr, " t ", r6\n\t"
#define FXP_FEW_2(t, x) "ldr " t ", [r0], #4\n\tsmlald r12, lr, " t ", " x "\n\t"
/* clang-format on */

/* What r2 and r5 begin with. */
static FXP_INLINE int fxp_row_count(int n)
{
    return (((n >> 3) - 1) >> 2) * 16 + ((n & 7) >> 1);
}

static FXP_INLINE int fxp_row_entry(int n)
{
    return FXP_ROW_8_BYTES * (-(n >> 3) & 3);
}
#endif

#if FXP_LONG_THUMB
#define FXP_AT_ONCE 2 /* rows that share what is loaded of x */
#define FXP_SOME_ROWS16 fxp_by_two_rows16
#define FXP_ARE_FEW(n) 1

static inline void fxp_by_two_rows16(const int16_t *w, const int16_t *x, int n, int64_t *sums)
{
    const int16_t *v = w + n;
    int64_t first = 0, second = 0;
    int a, c;
#define FXP_PRODUCTS                                                                               \
    "ldrsh %[a], [%[x]], #2\n\t"                                                                   \
    "ldrsh %[c], [%[w]], #2\n\t"                                                                   \
    "smlal %Q[first], %R[first], %[a], %[c]\n\t"                                                   \
    "ldrsh %[c], [%[v]], #2\n\t"                                                                   \
    "smlal %Q[second], %R[second], %[a], %[c]\n\t"
    __asm__ volatile("subs %[n], %[n], #4\n\t"
                     "blt 2f\n"
                     "1:\n\t" FXP_PRODUCTS FXP_PRODUCTS FXP_PRODUCTS FXP_PRODUCTS
                     "subs %[n], %[n], #4\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #3\n\t"
                     "blt 4f\n"
                     "3:\n\t" FXP_PRODUCTS "subs %[n], %[n], #1\n\t"
                     "bge 3b\n"
                     "4:"
                     : [x] "+r"(x), [w] "+r"(w), [v] "+r"(v), [n] "+r"(n), [first] "+r"(first),
                       [second] "+r"(second), [a] "=&r"(a), [c] "=&r"(c)
                     :
                     : "cc", "memory");
#undef FXP_PRODUCTS
    sums[0] = first;
    sums[1] = second;
}
#elif FXP_RISCV32
#define FXP_AT_ONCE 4
#define FXP_SOME_ROWS16 fxp_by_four_rows16
#define FXP_ARE_FEW(n) ((n) < 65536)

/* The products are of -x: 32 bits hold every sum of two such. Of it the low words are added modulo
 * 2^32, and the upper halves; there are fewer than 2^16. */
static inline void fxp_by_four_rows16(const int16_t *w, const int16_t *x, int n, int64_t *sums)
{
    const int16_t *v0 = w, *v1 = w + n, *v2 = w + 2 * n, *v3 = w + 3 * n;
    fxp_halves s0 = {0, 0}, s1 = {0, 0}, s2 = {0, 0}, s3 = {0, 0};
    for (; n >= 2; n -= 2, x += 2, v0 += 2, v1 += 2, v2 += 2, v3 += 2) {
        const int32_t a = -x[0], b = -x[1];
        fxp_add_halves(&s0, a * v0[0] + b * v0[1]);
        fxp_add_halves(&s1, a * v1[0] + b * v1[1]);
        fxp_add_halves(&s2, a * v2[0] + b * v2[1]);
        fxp_add_halves(&s3, a * v3[0] + b * v3[1]);
    }
    if (n > 0) {
        fxp_add_halves(&s0, -*x * *v0);
        fxp_add_halves(&s1, -*x * *v1);
        fxp_add_halves(&s2, -*x * *v2);
        fxp_add_halves(&s3, -*x * *v3);
    }
    sums[0] = -fxp_of_halves(s0);
    sums[1] = -fxp_of_halves(s1);
    sums[2] = -fxp_of_halves(s2);
    sums[3] = -fxp_of_halves(s3);
}
#elif FXP_SSE2 || (FXP_DSP && !FXP_MVE)
#define FXP_AT_ONCE 4
#define FXP_SOME_ROWS16(w, x, n, sums) fxp_rows16(w, x, n, NULL, 0, FXP_AT_ONCE, sums)
#define FXP_ARE_FEW(n) 1
#endif

#if FXP_SSE2
/* Whether one of at least eight numbers is -2^15. */
static FXP_OUTLINE int fxp_has_least(const int16_t *x, int n)
{
    __m128i least = fxp_eight(&x[n - 8]);
    for (int i = 0; i + 8 < n; i += 8) {
        least = _mm_min_epi16(least, fxp_eight(&x[i]));
    }
    return _mm_movemask_epi8(_mm_cmpeq_epi16(least, _mm_set1_epi16(INT16_MIN))) != 0;
}

/* The last n % 8 of at least eight numbers, after zeros. */
static FXP_INLINE __m128i fxp_rest(const int16_t *x, int n)
{
    const __m128i places = _mm_set_epi16(7, 6, 5, 4, 3, 2, 1, 0);
    const __m128i is_rest = _mm_cmpgt_epi16(places, _mm_set1_epi16((int16_t)(7 - n % 8)));
    return _mm_and_si128(fxp_eight(&x[n - 8]), is_rest);
}

/* Adds products of eight numbers to the sums of four rows. */
static FXP_INLINE void fxp_add_four_rows(const int16_t *w, int n, __m128i x, int is_lifted,
                                         fxp_pairs pairs[4])
{
    for (int j = 0; j < 4; j++, w += n) {
        const __m128i products = _mm_madd_epi16(fxp_eight(w), x);
        if (is_lifted) {
            fxp_add_lifted(&pairs[j], products);
        } else {
            fxp_add_pairs(&pairs[j], products);
        }
    }
}

static FXP_INLINE fxp_pairs fxp_pairs_of_rows(const int16_t *w, const int16_t *x, int n,
                                              int is_lifted)
{
    const fxp_pairs none = fxp_no_pairs(is_lifted ? (n + 7) / 8 : 0);
    fxp_pairs pairs[4] = {none, none, none, none};
    for (int i = 0; i + 8 <= n; i += 8) {
        fxp_add_four_rows(&w[i], n, fxp_eight(&x[i]), is_lifted, pairs);
        fxp_keep(pairs, 4);
    }
    if (n % 8 != 0) {
        fxp_add_four_rows(&w[n - 8], n, fxp_rest(x, n), is_lifted, pairs);
    }
    const fxp_pairs sums = {
        fxp_sum_each(pairs[0].low, pairs[1].low, pairs[2].low, pairs[3].low),
        fxp_sum_each(pairs[0].high, pairs[1].high, pairs[2].high, pairs[3].high),
    };
    return sums;
}

/* Four biases with `up` more fraction bits than they have, for 0 <= up <= 31. */
static FXP_INLINE fxp_four fxp_four_biases(const int32_t *b, int up)
{
    __m128i low = _mm_loadu_si128((const void *)b);
    const __m128i high = _mm_sra_epi32(low, _mm_cvtsi32_si128(32 - up));
    low = _mm_sll_epi32(low, _mm_cvtsi32_si128(up));
    const fxp_four biases = {_mm_unpacklo_epi32(low, high), _mm_unpackhi_epi32(low, high)};
    return biases;
}

/* Fours of rows, each of fewer than 2^16 pairs of products; returns how many rows they are. */
static FXP_INLINE int fxp_fours_of_rows16(const int16_t *w, const int16_t *x, int n,
                                          const int32_t *b, int f, int rows, int64_t *sums)
{
    const int up = f - FXP_BIAS_FRACTION, is_usual = b != NULL && up >= 0 && up <= 31;
    if (rows < 4 || n < 8 || n >= 65536) {
        return 0;
    }
    const int has_least = fxp_has_least(x, n);
    int j = 0;
    for (; j + 4 <= rows; j += 4, w += 4 * n) {
        const fxp_pairs pairs = has_least ? fxp_pairs_of_rows(w, x, n, 1)
                                          : fxp_pairs_of_rows(w, x, n, 0);
        const fxp_four none = {_mm_setzero_si128(), _mm_setzero_si128()};
        const fxp_four biases = is_usual ? fxp_four_biases(&b[j], up) : none;
        fxp_store_four(&sums[j], fxp_with_pairs(biases, pairs));
    }
    for (int i = 0; i < j && b != NULL && !is_usual; i++) {
        sums[i] += fxp_bias(b[i], f);
    }
    return j;
}
#endif

#if FXP_DSP && !FXP_MVE
/* The same as fxp_rows16 for an odd n of at most 9, as first convolutions of one channel have it:
 * x stays in registers. Biases b * factor; rows > 0. */
static inline void fxp_rows16_in_registers(const int16_t *w, const int16_t *x, int n,
                                           const int32_t *b, int32_t factor, int64_t *sums,
                                           const int64_t *end)
{
    register const int16_t *r0 __asm__("r0") = w;
    register int32_t r1 __asm__("r1") = n > 7 ? fxp_pair(x + n - 9) : 0;
    register int32_t r2 __asm__("r2") = n > 5 ? fxp_pair(x + n - 7) : 0;
    register int32_t r3 __asm__("r3") = n > 3 ? fxp_pair(x + n - 5) : 0;
    register int32_t r4 __asm__("r4") = factor;
    register int32_t r5 __asm__("r5") = n > 1 ? fxp_pair(x + n - 3) : 0;
    register int32_t r6 __asm__("r6") = (uint16_t)x[n - 1];
    register const int32_t *r8 __asm__("r8") = b;
    register int64_t *r9 __asm__("r9") = sums;
    register const int64_t *r10 __asm__("r10") = end;
    register int r11 __asm__("r11") = 36 - 4 * n; /* bytes of the products that n has not */
    /* clang-format off */
    __asm__ volatile("push {r7}\n"
                     "1:\n\t"
                     "ldr r7, [r8], #4\n\t"
                     "smull r12, lr, r7, r4\n\t"
                     FXP_FEW_PRODUCTS("r11", "r7")
                     "strd r12, lr, [r9], #8\n\t"
                     "cmp r9, r10\n\t"
                     "bne 1b\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r8), "+r"(r9)
                     : "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5), "r"(r6), "r"(r10), "r"(r11)
                     : "r12", "lr", "cc", "memory");
    /* clang-format on */
}
#endif

/* sums[j] = b[j] with f fraction bits (0 without b) + sum of w[j * n + i] * x[i], exact, for
 * j < rows; f is at most 30 more than biases have */
static FXP_OUTLINE void fxp_rows16(const int16_t *w, const int16_t *x, int n, const int32_t *b,
                                   int f, int rows, int64_t *sums)
{
#if FXP_MVE
    /* Biases that are shortened lie where sums have not been stored yet. Without any, 0 times what
     * lies there does. */
    const int up = f - FXP_BIAS_FRACTION;
    fxp_rows_left rest = {w, x, b, 1, sums};
    if (b == NULL) {
        rest.b = (const int32_t *)(const void *)sums;
        rest.factor = 0;
    } else if (up >= 0) {
        rest.factor <<= up;
    } else {
        int32_t *const place = (int32_t *)(void *)sums + rows;
        fxp_shorten_biases(b, up, rows, place);
        rest.b = place;
    }
    if (rows >= 4) {
        fxp_rows_by_four16(&rest, n, rows >> 2);
    }
    for (rows &= 3; rows > 0; rows--, rest.w += n) {
        const int64_t bias = b == NULL ? 0 : (int64_t)*rest.b++ * rest.factor;
        *rest.sums++ = fxp_dot16(rest.w, rest.x, n) + bias;
    }
#elif FXP_DSP
    int up = b == NULL ? 0 : f - FXP_BIAS_FRACTION;
    const int32_t *first = b == NULL ? (const int32_t *)(const void *)sums : b; /* times 0 */
    if (rows == 0) {
        return;
    }
    if (up < 0) { /* biases that are shortened lie where sums have not been stored yet */
        int32_t *place = (int32_t *)(void *)(sums + rows);
        for (int j = rows - 1; j >= 0; j--) {
            *--place = up < -31 ? 0 : ((b[j] >> (-1 - up)) + 1) >> 1;
        }
        first = place;
        up = 0;
    }
    const int32_t factor = b == NULL ? 0 : (int32_t)1 << up;
    if ((n & 1) != 0 && n < 10) {
        fxp_rows16_in_registers(w, x, n, first, factor, sums, sums + rows);
        return;
    }
    /* What a row begins with lies on the stack. */
    register const int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register int r2 __asm__("r2") = fxp_row_count(n);
    register const int32_t *r3 __asm__("r3") = first;
    register int32_t r4 __asm__("r4") = factor;
    register int r5 __asm__("r5") = fxp_row_entry(n);
    register int64_t *r6 __asm__("r6") = sums + rows;
    register int64_t *r8 __asm__("r8") = sums;
    /* 0 where rows begin at words and have eight products */
    const int beside_words = (int)(((uintptr_t)w | (uintptr_t)x | (uintptr_t)n << 1) & 3u);
    register int r9 __asm__("r9") = beside_words | (n - 8) >> 31;
    register int r10 __asm__("r10") = n;
    /* clang-format off */
    __asm__ volatile("push {r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "mov r7, r8\n\t"
                     "cmp r9, #0\n\t"
                     "bne 5f\n"
                     "1:\n\t" FXP_ROW_BEGIN "add pc, r5\n\tnop\n" FXP_ROW_AT_WORDS FXP_ROW_END
                     "bne 1b\n\t"
                     "b 9f\n"
                     "5:\n\t" /* rows that begin anywhere */
                     "str r10, [sp, #4]\n"
                     "5:\n\t" FXP_ROW_BEGIN FXP_ROW_ANYWHERE FXP_ROW_END "bne 5b\n"
                     "9:\n\t"
                     "add sp, sp, #24\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),
                       "+r"(r8), "+r"(r9), "+r"(r10)
                     :
                     : "r11", "r12", "lr", "cc", "memory");
    /* clang-format on */
#elif FXP_SSE2
    const int done = fxp_fours_of_rows16(w, x, n, b, f, rows, sums);
    w += done * n;
    b = b == NULL ? NULL : b + done;
    sums += done;
    rows -= done;
    FXP_SUM_ROWS(fxp_dot16(w, x, n));
#elif FXP_SMALL_THUMB
    for (; rows > 0; rows -= FXP_RAW, w += FXP_RAW * n) {
        fxp_products products;
        fxp_sum_rows16(w, x, n, NULL, fxp_part(rows, FXP_RAW), &products);
        for (int j = 0; j < FXP_RAW && j < rows; j++, sums++) {
            *sums = fxp_whole_of(&products.sums, j);
            if (b != NULL) {
                *sums += fxp_bias(*b++, f);
            }
        }
    }
#else
#ifdef FXP_AT_ONCE
    for (; rows >= FXP_AT_ONCE && FXP_ARE_FEW(n); rows -= FXP_AT_ONCE, w += FXP_AT_ONCE * n) {
        FXP_SOME_ROWS16(w, x, n, sums);
        for (int j = 0; j < FXP_AT_ONCE; j++) {
            *sums++ += b == NULL ? 0 : fxp_bias(*b++, f);
        }
    }
#endif
    FXP_SUM_ROWS(fxp_dot16(w, x, n));
#endif
}
static FXP_OUTLINE void fxp_rows16x8(const int16_t *w, const int8_t *x, int n, const int32_t *b,
                                     int f, int rows, int64_t *sums)
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows16x8, fxp_dot16x8(w, x, n))
#else
    FXP_SUM_ROWS(fxp_dot16x8(w, x, n));
#endif
}

static FXP_OUTLINE void fxp_rows8x16(const int8_t *w, const int16_t *x, int n, const int32_t *b,
                                     int f, int rows, int64_t *sums)
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows8x16, fxp_dot16x8(x, w, n))
#else
    FXP_SUM_ROWS(fxp_dot16x8(x, w, n));
#endif
}

static FXP_OUTLINE void fxp_rows8(const int8_t *w, const int8_t *x, int n, const int32_t *b, int f,
                                  int rows, int64_t *sums)
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows8, fxp_dot8(w, x, n))
#else
    FXP_SUM_ROWS(fxp_dot8(w, x, n));
#endif
}

#define FXP_SUM_ROWS_SHORT(dot)                                                                    \
    do {                                                                                           \
        for (int j = 0; j < rows; j++, w += n) {                                                   \
            const int32_t sum = fxp_sum32(dot, shift);                                             \
            sums[j] = b ? fxp_add32(sum, fxp_bias32(b[j], f)) : sum;                               \
        }                                                                                          \
    } while (0)

#if FXP_SMALL_THUMB
/* The same as 32 bits for at most FXP_RAW rows, or for those of them where y > 0. */
static FXP_OUTLINE void fxp_few_rows16_short(const int16_t *w, const int16_t *x, int n,
                                             const int16_t *y, const int32_t *b, int f, int rows,
                                             int shift, int32_t *sums)
{
    fxp_products products;
    fxp_sum_rows16(w, x, n, y, rows, &products);
    fxp_shorten_raw(&products.sums, rows, b, f, shift, sums);
}

/* The same for any rows. */
static FXP_OUTLINE void fxp_many_rows16_short(const int16_t *w, const int16_t *x, int n,
                                              const int32_t *b, int f, int rows, int shift,
                                              int32_t *sums)
{
    for (; rows > 0; rows -= FXP_RAW, w += FXP_RAW * n, sums += FXP_RAW) {
        fxp_few_rows16_short(w, x, n, NULL, b, f, fxp_part(rows, FXP_RAW), shift, sums);
        b = b == NULL ? NULL : b + FXP_RAW;
    }
}

#define FXP_SHORT_ROWS inline
#else
#define FXP_SHORT_ROWS FXP_OUTLINE
#endif

/* The same as 32 bits: every sum is rounded to `shift` bits less, and with its bias saturated. */
static FXP_SHORT_ROWS void fxp_rows16_short(const int16_t *w, const int16_t *x, int n,
                                            const int32_t *b, int f, int rows, int shift,
                                            int32_t *sums)
{
#if FXP_SMALL_THUMB
    if (rows >= 1 && rows <= FXP_RAW) { /* as the compiler knows of most calls */
        fxp_few_rows16_short(w, x, n, NULL, b, f, rows, shift, sums);
    } else {
        fxp_many_rows16_short(w, x, n, b, f, rows, shift, sums);
    }
#elif defined(__AVR__)
    for (; rows > 0; rows--, w += n, sums++) {
        int32_t sum = fxp_avr_dot16_short(w, 0, x, n, shift);
        if (b != NULL) {
            sum = fxp_add32(sum, fxp_bias32(*b++, f));
        }
        *sums = sum;
    }
#else
#ifdef FXP_AT_ONCE
    for (; rows >= FXP_AT_ONCE && FXP_ARE_FEW(n); rows -= FXP_AT_ONCE, w += FXP_AT_ONCE * n) {
        int64_t exact[FXP_AT_ONCE];
        FXP_SOME_ROWS16(w, x, n, exact);
        for (int j = 0; j < FXP_AT_ONCE; j++) {
            const int32_t sum = fxp_sum32(exact[j], shift);
            *sums++ = b == NULL ? sum : fxp_add32(sum, fxp_bias32(*b++, f));
        }
    }
#endif
    FXP_SUM_ROWS_SHORT(fxp_dot16(w, x, n));
#endif
}
#undef FXP_AT_ONCE
#undef FXP_SOME_ROWS16
#undef FXP_ARE_FEW

/* The same without biases for at most FXP_SUMS rows where y > 0; others may be anything. */
static FXP_SHORT_ROWS void fxp_rows16_short_masked(const int16_t *w, const int16_t *x, int n,
                                                   const int16_t *y, int rows, int shift,
                                                   int32_t *sums)
{
#if FXP_SMALL_THUMB
    fxp_few_rows16_short(w, x, n, y, NULL, 0, rows, shift, sums);
#elif defined(__AVR__)
    for (; rows > 0; rows--, w += n, sums++) {
        *sums = *y++ > 0 ? fxp_avr_dot16_short(w, 0, x, n, shift) : 0;
    }
#else
    (void)y;
    fxp_rows16_short(w, x, n, NULL, 0, rows, shift, sums);
#endif
}

static FXP_OUTLINE void fxp_rows16x8_short(const int16_t *w, const int8_t *x, int n,
                                           const int32_t *b, int f, int rows, int shift,
                                           int32_t *sums)
{
    FXP_SUM_ROWS_SHORT(fxp_dot16x8(w, x, n));
}

static FXP_OUTLINE void fxp_rows8x16_short(const int8_t *w, const int16_t *x, int n,
                                           const int32_t *b, int f, int rows, int shift,
                                           int32_t *sums)
{
    FXP_SUM_ROWS_SHORT(fxp_dot16x8(x, w, n));
}

static FXP_OUTLINE void fxp_rows8_short(const int8_t *w, const int8_t *x, int n, const int32_t *b,
                                        int f, int rows, int shift, int32_t *sums)
{
    FXP_SUM_ROWS_SHORT(fxp_dot8(w, x, n));
}

/* ---- sums of products down columns ---------------------------------------------------------- */

/* One run: a constant, which AVR would keep in RAM. */
#ifdef __AVR__
#define FXP_RUN(walk, count, distance)                                                             \
    fxp_walk walk;                                                                                 \
    walk.rows = 1;                                                                                 \
    walk.n = count;                                                                                \
    walk.step = distance;                                                                          \
    walk.w_line = 0;                                                                               \
    walk.e_line = 0
#else
#define FXP_RUN(walk, count, distance) static const fxp_walk walk = {1, count, distance, 0, 0}
#endif

/* The first `columns` of them become 0, and others may. */
static inline void fxp_clear(int64_t sums[FXP_COLUMNS], int columns)
{
#if FXP_MVE
    __asm__ volatile("vmov.i32 q0, #0\n\t"
                     "dlstp.64 lr, %[n]\n"
                     "1:\n\t"
                     "vstrw.32 q0, [%[sums]], #16\n\t"
                     "letp lr, 1b"
                     : [sums] "+r"(sums)
                     : [n] "r"(fxp_part(columns, FXP_COLUMNS))
                     : "lr", "q0", "memory");
#elif FXP_SSE2
    (void)columns;
    memset(sums, 0, FXP_COLUMNS * sizeof *sums);
#else
    (void)columns;
    sums[0] = 0;
    sums[1] = 0;
    sums[2] = 0;
    sums[3] = 0;
#endif
}

/* What those of narrow factors compute, for weights and errors of these types: the products of a
 * block fit 32 bits. */
#define FXP_SUM_COLUMNS(weight, error)                                                             \
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {                                         \
        const weight *line = &w[j];                                                                \
        const error *run = e;                                                                      \
        for (int row = 0; row < walk->rows; row++, line += walk->w_line, run += walk->e_line) {    \
            const weight *column = line;                                                           \
            const error *const end = run + walk->n;                                                \
            for (const error *at = run; at < end;) {                                               \
                int32_t part = 0;                                                                  \
                for (int n = 0; n < FXP_BLOCK && at < end; n++, column += walk->step) {            \
                    part += (int32_t)*column * *at++;                                              \
                }                                                                                  \
                sums[j] += part;                                                                   \
            }                                                                                      \
        }                                                                                          \
    }

#if FXP_SMALL_THUMB
/* Two columns of a walk that is not empty. */
static inline void fxp_down_two_columns(const int16_t *w, const int16_t *e, const fxp_walk *walk,
                                        int32_t *low)
{
    fxp_two_columns both;
    both.w = w;
    both.e = e + walk->n;
    both.step = 2 * (int32_t)walk->step;
    both.w_next = 2 * ((int32_t)walk->w_line - (int32_t)walk->n * walk->step);
    both.e_next = 2 * (int32_t)walk->e_line;
    both.run = -2 * (int32_t)walk->n;
    both.rows = walk->rows;
    fxp_two_columns16(&both, low);
}
#endif

#if FXP_DSP && !FXP_MVE
/* One column after the other. */
static FXP_OUTLINE void fxp_few_columns16(const int16_t *w, const int16_t *e, const fxp_walk *walk,
                                          int columns, int64_t *sums)
{
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {
        const int16_t *line = &w[j];
        const int16_t *run = e;
        int64_t sum = 0;
        for (int row = 0; row < walk->rows; row++, line += walk->w_line, run += walk->e_line) {
            const int16_t *column = line;
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
        }
        sums[j] += sum;
    }
}
#endif

#if FXP_SSE2
/* Adds the products of two rows of eight or, in the first pairs, of four columns. */
static FXP_INLINE void fxp_add_columns(const int16_t *w, const int16_t *v, uint32_t errors,
                                       int columns, fxp_pairs pairs[2])
{
    const __m128i both = _mm_set1_epi32((int)errors);
    const __m128i first = columns == 8 ? fxp_eight(w) : _mm_loadl_epi64((const void *)w);
    const __m128i second = columns == 8 ? fxp_eight(v) : _mm_loadl_epi64((const void *)v);
    fxp_add_lifted(&pairs[0], _mm_madd_epi16(_mm_unpacklo_epi16(first, second), both));
    if (columns == 8) {
        fxp_add_lifted(&pairs[1], _mm_madd_epi16(_mm_unpackhi_epi16(first, second), both));
    }
}

/* The sums of eight or of four columns, of fewer than 2^16 products each. */
static FXP_INLINE void fxp_some_columns16(const int16_t *w, const int16_t *e, const fxp_walk *walk,
                                          int columns, int64_t *sums)
{
    const int are_some = walk->rows > 0 && walk->n > 0;
    const fxp_pairs none = fxp_no_pairs(are_some ? walk->rows * ((walk->n + 1) / 2) : 0);
    fxp_pairs pairs[2] = {none, none};
    for (int row = walk->rows; row > 0; row--, w += walk->w_line, e += walk->e_line) {
        const int16_t *v = w, *run = e;
        int n = walk->n;
        for (; n >= 2; n -= 2, run += 2, v += 2 * walk->step) {
            uint32_t errors;
            memcpy(&errors, run, sizeof errors);
            fxp_add_columns(v, v + walk->step, errors, columns, pairs);
            fxp_keep(pairs, columns / 4);
        }
        if (n > 0) {
            fxp_add_columns(v, v, (uint16_t)*run, columns, pairs);
        }
    }
    fxp_store_four(sums, fxp_with_pairs(fxp_four_at(sums), pairs[0]));
    if (columns == 8) {
        fxp_store_four(sums + 4, fxp_with_pairs(fxp_four_at(sums + 4), pairs[1]));
    }
}
#endif

/* sums[j] += sum of w * e over the walk that begins at w[j] and e, exact, for j < columns */
static FXP_OUTLINE void fxp_columns16(const int16_t *w, const int16_t *e, const fxp_walk *walk,
                                      int columns, int64_t sums[FXP_COLUMNS])
{
#if FXP_MVE
    columns = fxp_part(columns, FXP_COLUMNS);
    if (columns >= 4 && walk->step <= FXP_FAR && walk->rows > 0 && walk->n > 0) {
        const int fours = columns >> 2;
        fxp_columns_by_four16(w, e, walk, fours, sums);
        w += 4 * fours;
        sums += 4 * fours;
        columns -= 4 * fours;
    }
#endif
#if FXP_LONG_THUMB
    /* clang-format off */
/* A run of rows, from r0 and r2; r3 is their number, r1 the distance of two in bytes. */
#define FXP_FITS 1
#define FXP_ROW                                                                                    \
    "ldrsh lr, [r2], #2\n\t"                                                                       \
    "ldrsh r12, [r0]\n\t"                                                                          \
    "smlal r4, r5, r12, lr\n\t"                                                                    \
    "ldrsh r12, [r0, #2]\n\t"                                                                      \
    "smlal r6, r7, r12, lr\n\t"                                                                    \
    "ldrsh r12, [r0, #4]\n\t"                                                                      \
    "smlal r8, r9, r12, lr\n\t"                                                                    \
    "ldrsh r12, [r0, #6]\n\t"                                                                      \
    "smlal r10, r11, r12, lr\n\t"                                                                  \
    "add r0, r0, r1\n\t"
#define FXP_ROWS_OF_RUN                                                                            \
    "subs r3, r3, #2\n\t"                                                                          \
    "blt 3f\n"                                                                                     \
    "2:\n\t" FXP_ROW FXP_ROW                                                                       \
    "subs r3, r3, #2\n\t"                                                                          \
    "bge 2b\n"                                                                                     \
    "3:\n\t"                                                                                       \
    "adds r3, r3, #1\n\t"                                                                          \
    "blt 4f\n\t" FXP_ROW
#elif FXP_DSP && !FXP_MVE
/* The same; the number goes above the distance. Rows that all begin at a word are loaded whole. */
#define FXP_FITS (walk->n <= INT16_MAX && walk->step <= INT16_MAX)
#define FXP_ROW(load, half)                                                                        \
    load                                                                                           \
    "smlalb" half " r4, r5, r12, r3\n\t"                                                           \
    "smlalt" half " r6, r7, r12, r3\n\t"                                                           \
    "smlalb" half " r8, r9, lr, r3\n\t"                                                            \
    "smlalt" half " r10, r11, lr, r3\n\t"                                                          \
    "uxtah r0, r0, r1\n\t"
#define FXP_TWO_ROWS                                                                               \
    "ldr r3, [r2], #4\n\t" FXP_ROW("ldrd r12, lr, [r0]\n\t", "b")                                  \
        FXP_ROW("ldrd r12, lr, [r0]\n\t", "t")
#define FXP_ROWS_OF_RUN                                                                            \
    "pkhbt r1, r1, r3, lsl #16\n\t"                                                                \
    "subs r1, r1, #0x40000\n\t"                                                                    \
    "blt 3f\n\t"                                                                                   \
    "orr r12, r0, r1\n\t"                                                                          \
    "lsls r12, r12, #30\n\t"                                                                       \
    "bne 3f\n"                                                                                     \
    "2:\n\t" FXP_TWO_ROWS FXP_TWO_ROWS                                                             \
    "subs r1, r1, #0x40000\n\t"                                                                    \
    "bge 2b\n"                                                                                     \
    "3:\n\t"                                                                                       \
    "adds r1, r1, #0x30000\n\t"                                                                    \
    "blt 4f\n"                                                                                     \
    "5:\n\t"                                                                                       \
    "ldrsh r3, [r2], #2\n\t" FXP_ROW("ldr r12, [r0]\n\tldr lr, [r0, #4]\n\t", "b")                \
    "subs r1, r1, #0x10000\n\t"                                                                    \
    "bge 5b\n"
#endif
#if FXP_LONG_THUMB || (FXP_DSP && !FXP_MVE)
    if (columns >= FXP_COLUMNS && walk->rows > 0 && walk->n > 0 && FXP_FITS) {
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
                         "ldr r3, [sp, #8]\n\t" FXP_ROWS_OF_RUN
                         "4:\n\t"
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
#undef FXP_FITS
#undef FXP_ROW
#undef FXP_TWO_ROWS
#undef FXP_ROWS_OF_RUN
#endif
/* clang-format on */
#if FXP_DSP && !FXP_MVE
    fxp_few_columns16(w, e, walk, columns, sums);
#elif FXP_SMALL_THUMB
    int j = 0;
    for (; j + 2 <= columns && j + 2 <= FXP_COLUMNS && walk->n > 0 && walk->rows > 0; j += 2) {
        fxp_raw raw;
        fxp_down_two_columns(&w[j], e, walk, raw.low);
        sums[j] += fxp_whole_of(&raw, 0);
        sums[j + 1] += fxp_whole_of(&raw, 1);
    }
    if (j < columns && j < FXP_COLUMNS) {
        const int16_t *line = &w[j], *run = e;
        fxp_raw raw;
        raw.low[0] = 0;
        raw.wraps[0] = 0;
        for (int row = walk->n > 0 ? walk->rows : 0; row > 0;
             row--, line += walk->w_line, run += walk->e_line) {
            fxp_one_column16(line, walk->step, run, walk->n, &raw);
        }
        sums[j] += fxp_whole_of(&raw, 0);
    }
#elif defined(__AVR__)
    for (int row = walk->rows; row > 0; row--, w += walk->w_line, e += walk->e_line) {
        for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {
            fxp_avr_add(&sums[j], fxp_avr_dot16(&w[j], 2 * walk->step - 2, e, walk->n));
        }
    }
#else
#if FXP_SSE2
    if ((int64_t)walk->rows * walk->n < 65536) {
        int j = 0;
        for (; j + 8 <= columns && j + 8 <= FXP_COLUMNS; j += 8) {
            fxp_some_columns16(&w[j], e, walk, 8, &sums[j]);
        }
        if (j + 4 <= columns && j + 4 <= FXP_COLUMNS) {
            fxp_some_columns16(&w[j], e, walk, 4, &sums[j]);
            j += 4;
        }
        w += j;
        sums += j;
        columns = (columns < FXP_COLUMNS ? columns : FXP_COLUMNS) - j;
    }
#endif
#if FXP_RISCV32
    if (columns >= FXP_COLUMNS && (int64_t)walk->rows * walk->n < 65536) {
        fxp_halves s0 = {0, 0}, s1 = {0, 0}, s2 = {0, 0}, s3 = {0, 0};
        for (int row = walk->rows; row > 0; row--, w += walk->w_line, e += walk->e_line) {
            const int16_t *v = w, *run = e;
            const int step = walk->step;
            int n = walk->n;
            for (; n >= 2; n -= 2, run += 2) {
                const int16_t *const u = v + step;
                const int32_t a = -run[0], b = -run[1];
                fxp_add_halves(&s0, a * v[0] + b * u[0]);
                fxp_add_halves(&s1, a * v[1] + b * u[1]);
                fxp_add_halves(&s2, a * v[2] + b * u[2]);
                fxp_add_halves(&s3, a * v[3] + b * u[3]);
                v = u + step;
            }
            if (n > 0) {
                fxp_add_halves(&s0, -*run * v[0]);
                fxp_add_halves(&s1, -*run * v[1]);
                fxp_add_halves(&s2, -*run * v[2]);
                fxp_add_halves(&s3, -*run * v[3]);
            }
        }
        sums[0] -= fxp_of_halves(s0);
        sums[1] -= fxp_of_halves(s1);
        sums[2] -= fxp_of_halves(s2);
        sums[3] -= fxp_of_halves(s3);
        return;
    }
#endif
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {
        const int16_t *line = &w[j];
        const int16_t *run = e;
        int64_t sum = 0;
        for (int row = 0; row < walk->rows; row++, line += walk->w_line, run += walk->e_line) {
            const int16_t *column = line;
            for (int i = 0; i < walk->n; i++, column += walk->step) {
                sum += (int32_t)*column * run[i];
            }
        }
        sums[j] += sum;
    }
#endif
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
    FXP_SUM_COLUMNS(int16_t, int8_t);
}

/* sums[j] += sum of w * e over the walk that begins at w[j] and e, exact, for j < columns */
static FXP_OUTLINE void fxp_columns8x16(const int8_t *w, const int16_t *e, const fxp_walk *walk,
                                        int columns, int64_t sums[FXP_COLUMNS])
{
    FXP_WALK_MVE(fxp_four_columns8x16)
    FXP_SUM_COLUMNS(int8_t, int16_t);
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
    FXP_SUM_COLUMNS(int8_t, int8_t);
}

/* The same where nothing else is added, as 32 bits: every sum is rounded to `shift` bits less. */
static FXP_OUTLINE void fxp_columns16_short(const int16_t *w, const int16_t *e,
                                            const fxp_walk *walk, int columns, int shift,
                                            int32_t sums[FXP_COLUMNS])
{
#if FXP_SMALL_THUMB
    if (columns % 2 == 0 && walk->n > 0 && walk->rows > 0) {
        fxp_raw raw;
        columns = columns < FXP_COLUMNS ? columns : FXP_COLUMNS;
        for (int j = 0; j < columns; j += 2) {
            fxp_down_two_columns(&w[j], e, walk, &raw.low[j]);
        }
        fxp_shorten_raw(&raw, columns, NULL, 0, shift, sums);
        return;
    }
#elif defined(__AVR__)
    if (walk->rows == 1) {
        for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {
            sums[j] = fxp_avr_dot16_short(&w[j], 2 * walk->step - 2, e, walk->n, shift);
        }
        return;
    }
#endif
    int64_t exact[FXP_COLUMNS];
    fxp_clear(exact, columns);
    fxp_columns16(w, e, walk, columns, exact);
    for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {
        sums[j] = fxp_sum32(exact[j], shift);
    }
}

/* The same for at most FXP_SUMS columns where y > 0; others may be anything. */
static FXP_OUTLINE void fxp_columns16_short_masked(const int16_t *w, const int16_t *e,
                                                   const fxp_walk *walk, const int16_t *y,
                                                   int columns, int shift, int32_t *sums)
{
#if FXP_SMALL_THUMB
    fxp_products products;
    fxp_clear_raw(&products.sums);
    products.down = 2 * (int32_t)walk->step;
    products.step = 2;
    products.y = y;
    products.end = products.sums.low + columns;
    for (int row = walk->n > 0 ? walk->rows : 0; row > 0; row--) {
        products.x = e + walk->n;
        products.at = -2 * (int32_t)walk->n;
        products.place = 0;
        products.w = w;
        fxp_add_products(&products);
        w += walk->w_line;
        e += walk->e_line;
    }
    fxp_shorten_raw(&products.sums, columns, NULL, 0, shift, sums);
#else
    (void)y;
    for (; columns > 0; columns -= FXP_COLUMNS, w += FXP_COLUMNS, sums += FXP_COLUMNS) {
        fxp_columns16_short(w, e, walk, fxp_part(columns, FXP_COLUMNS), shift, sums);
    }
#endif
}

#define FXP_SHORT_COLUMNS(short, exact_sums, weight, error)                                        \
    static FXP_OUTLINE void short(const weight *w, const error *e, const fxp_walk *walk,           \
                                  int columns, int shift, int32_t sums[FXP_COLUMNS])               \
    {                                                                                              \
        int64_t exact[FXP_COLUMNS];                                                                \
        fxp_clear(exact, columns);                                                                 \
        exact_sums(w, e, walk, columns, exact);                                                    \
        for (int j = 0; j < columns && j < FXP_COLUMNS; j++) {                                     \
            sums[j] = fxp_sum32(exact[j], shift);                                                  \
        }                                                                                          \
    }

FXP_SHORT_COLUMNS(fxp_columns16x8_short, fxp_columns16x8, int16_t, int8_t)
FXP_SHORT_COLUMNS(fxp_columns8x16_short, fxp_columns8x16, int8_t, int16_t)
FXP_SHORT_COLUMNS(fxp_columns8_short, fxp_columns8, int8_t, int8_t)

/* ---- the same for weights in program memory ------------------------------------------------- */

/* Weights that do not learn have 8 bits; their biases are there too, or (_w) in RAM, or none. */
#ifdef __FLASH
static inline int64_t fxp_dot16x8_flash(const int16_t *a, const FXP_FLASH int8_t *b, int n)
{
    FXP_SUM_BLOCKS;
}

static inline int64_t fxp_dot8_flash(const FXP_FLASH int8_t *a, const int8_t *b, int n)
{
    FXP_SUM_BLOCKS;
}

#define FXP_FLASH_ROWS(width, x_type, memory, b_memory, dot)                                       \
    static FXP_OUTLINE void fxp_rows##width##memory(const FXP_FLASH int8_t *w, const x_type *x,    \
                                                    int n, const b_memory int32_t *b, int f,       \
                                                    int rows, int64_t *sums)                       \
    {                                                                                              \
        FXP_SUM_ROWS(dot);                                                                         \
    }                                                                                              \
    static FXP_OUTLINE void fxp_rows##width##_short##memory(                                       \
        const FXP_FLASH int8_t *w, const x_type *x, int n, const b_memory int32_t *b, int f,       \
        int rows, int shift, int32_t *sums)                                                        \
    {                                                                                              \
        FXP_SUM_ROWS_SHORT(dot);                                                                   \
    }

FXP_FLASH_ROWS(8x16, int16_t, _flash, FXP_FLASH, fxp_dot16x8_flash(x, w, n))
FXP_FLASH_ROWS(8x16, int16_t, _flash_w, , fxp_dot16x8_flash(x, w, n))
FXP_FLASH_ROWS(8, int8_t, _flash, FXP_FLASH, fxp_dot8_flash(w, x, n))
FXP_FLASH_ROWS(8, int8_t, _flash_w, , fxp_dot8_flash(w, x, n))
#undef FXP_FLASH_ROWS

static FXP_OUTLINE void fxp_columns8x16_flash(const FXP_FLASH int8_t *w, const int16_t *e,
                                              const fxp_walk *walk, int columns,
                                              int64_t sums[FXP_COLUMNS])
{
    FXP_SUM_COLUMNS(FXP_FLASH int8_t, int16_t);
}

static FXP_OUTLINE void fxp_columns8_flash(const FXP_FLASH int8_t *w, const int8_t *e,
                                           const fxp_walk *walk, int columns,
                                           int64_t sums[FXP_COLUMNS])
{
    FXP_SUM_COLUMNS(FXP_FLASH int8_t, int8_t);
}

FXP_SHORT_COLUMNS(fxp_columns8x16_short_flash, fxp_columns8x16_flash, FXP_FLASH int8_t, int16_t)
FXP_SHORT_COLUMNS(fxp_columns8_short_flash, fxp_columns8_flash, FXP_FLASH int8_t, int8_t)
#else
#define fxp_rows8x16_flash fxp_rows8x16
#define fxp_rows8x16_flash_w fxp_rows8x16
#define fxp_rows8_flash fxp_rows8
#define fxp_rows8_flash_w fxp_rows8
#define fxp_rows8x16_short_flash fxp_rows8x16_short
#define fxp_rows8x16_short_flash_w fxp_rows8x16_short
#define fxp_rows8_short_flash fxp_rows8_short
#define fxp_rows8_short_flash_w fxp_rows8_short
#define fxp_columns8x16_flash fxp_columns8x16
#define fxp_columns8_flash fxp_columns8
#define fxp_columns8x16_short_flash fxp_columns8x16_short
#define fxp_columns8_short_flash fxp_columns8_short
#endif
#undef FXP_SUM_BLOCKS
#undef FXP_SUM_ROWS
#undef FXP_SUM_ROWS_SHORT
#undef FXP_SUM_COLUMNS
#undef FXP_SHORT_COLUMNS

/* ---- sums of products channel by channel ---------------------------------------------------- */

/* The places of the products of a channel: `rows` runs of n, all distances in elements. Channels
 * are neighbours at both places. */
typedef struct {
    int rows;
    int n;
    int a_step;
    int a_line;
    int b_step;
    int b_line;
} fxp_strides;

/* Which positions of a window read an input: n of them, of neighbouring outputs; the first one does
 * it with that tap, each earlier output with one a stride further. */
typedef struct {
    int n;
    int tap;
    int output;
} fxp_readers;

/* `place` counts the inputs from the first that the first output reads. */
static inline fxp_readers fxp_readers_of(int place, int stride, int kernel, int outputs)
{
    fxp_readers readers = {0, place % stride, place / stride};
    if (readers.output >= outputs) {
        readers.tap += (readers.output - outputs + 1) * stride;
        readers.output = outputs - 1;
    }
    if (readers.tap < kernel) {
        readers.n = fxp_part((kernel - readers.tap + stride - 1) / stride, readers.output + 1);
    } else {
        readers.tap = 0;
    }
    return readers;
}

#define FXP_CHANNELS(name, a_type, b_type)                                                         \
    static FXP_OUTLINE void name(const a_type *a, const b_type *b, const fxp_strides *strides,     \
                                 int channels, int64_t *sums)                                      \
    {                                                                                              \
        for (int j = 0; j < channels; j++) {                                                       \
            int64_t sum = 0;                                                                       \
            for (int row = 0, p = j, q = j; row < strides->rows;                                   \
                 row++, p += strides->a_line, q += strides->b_line) {                              \
                for (int i = 0, p_i = p, q_i = q; i < strides->n;                                  \
                     i++, p_i += strides->a_step, q_i += strides->b_step) {                        \
                    sum += (int32_t)a[p_i] * b[q_i];                                               \
                }                                                                                  \
            }                                                                                      \
            sums[j] = sum;                                                                         \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(factors_of_##name, sizeof(a_type) >= sizeof(b_type))

/* sums[j] = sum of a * b over the strides that begin at a[j] and b[j], exact, for j < channels */
#if FXP_DSP && !FXP_MVE
FXP_CHANNELS(fxp_last_channels16, int16_t, int16_t);

/* Two channels at a time: a word has both, at any address. The stack has the places of a and b, n,
 * how far it is from where a run leaves them to the next one, the channels that are left, the
 * place of their sums, and the runs. Runs of three leave the places where they are. */
static FXP_OUTLINE void fxp_channels16(const int16_t *a, const int16_t *b,
                                       const fxp_strides *strides, int channels, int64_t *sums)
{
#define FXP_TWO_CHANNELS(a, b)                                                                     \
    "ldr r10, [" a "]\n\t"                                                                         \
    "ldr r11, [" b "]\n\t"                                                                         \
    "smlalbb r5, r6, r10, r11\n\t"                                                                 \
    "smlaltt r8, r9, r10, r11\n\t"
#define FXP_NEXT_RUN                                                                               \
    "ldrd r10, r11, [sp, #12]\n\t"                                                                 \
    "add r0, r0, r10\n\t"                                                                          \
    "add r1, r1, r11\n\t"                                                                          \
    "subs r12, r12, #1\n\t"
    if (channels > 1 && strides->n > 0 && strides->rows > 0) {
        const int left = strides->n == 3 ? 0 : strides->n;
        register const int16_t *r0 __asm__("r0") = a;
        register const int16_t *r1 __asm__("r1") = b;
        register int r2 __asm__("r2") = strides->n;
        register int r3 __asm__("r3") = 2 * strides->a_step;
        register int r4 __asm__("r4") = 2 * strides->b_step;
        register int r5 __asm__("r5") = 2 * (strides->a_line - left * strides->a_step);
        register int r6 __asm__("r6") = 2 * (strides->b_line - left * strides->b_step);
        register int r8 __asm__("r8") = channels - 2;
        register int64_t *r9 __asm__("r9") = sums;
        register int r12 __asm__("r12") = strides->rows;
        /* clang-format off */
        __asm__ volatile("push {r0, r1, r2, r5, r6, r8, r9, r12}\n"
                         "1:\n\t"
                         "ldm sp, {r0, r1, r2}\n\t"
                         "ldr r12, [sp, #28]\n\t"
                         "movs r5, #0\n\t"
                         "movs r6, #0\n\t"
                         "mov r8, #0\n\t"
                         "mov r9, #0\n\t"
                         "cmp r2, #3\n\t"
                         "bne 3f\n"
                         "2:\n\t" FXP_TWO_CHANNELS("r0", "r1") FXP_TWO_CHANNELS("r0, r3", "r1, r4")
                             FXP_TWO_CHANNELS("r0, r3, lsl #1", "r1, r4, lsl #1") FXP_NEXT_RUN
                         "bne 2b\n\t"
                         "b 7f\n"
                         "3:\n\t" /* runs of any length */
                         "subs r2, r2, #2\n\t"
                         "blt 5f\n"
                         "4:\n\t" FXP_TWO_CHANNELS("r0", "r1") FXP_TWO_CHANNELS("r0, r3", "r1, r4")
                         "add r0, r0, r3, lsl #1\n\t"
                         "add r1, r1, r4, lsl #1\n\t"
                         "subs r2, r2, #2\n\t"
                         "bge 4b\n"
                         "5:\n\t"
                         "adds r2, r2, #1\n\t"
                         "blt 6f\n\t" FXP_TWO_CHANNELS("r0", "r1")
                         "add r0, r0, r3\n\t"
                         "add r1, r1, r4\n"
                         "6:\n\t"
                         "ldr r2, [sp, #8]\n\t" FXP_NEXT_RUN
                         "bne 3b\n"
                         "7:\n\t"
                         "ldr r10, [sp, #24]\n\t"
                         "strd r5, r6, [r10], #8\n\t"
                         "strd r8, r9, [r10], #8\n\t"
                         "str r10, [sp, #24]\n\t"
                         "ldrd r0, r1, [sp]\n\t"
                         "adds r0, r0, #4\n\t"
                         "adds r1, r1, #4\n\t"
                         "strd r0, r1, [sp]\n\t"
                         "ldr r8, [sp, #20]\n\t"
                         "subs r8, r8, #2\n\t"
                         "str r8, [sp, #20]\n\t"
                         "bge 1b\n\t"
                         "add sp, sp, #32"
                         : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r5), "+r"(r6), "+r"(r8), "+r"(r9),
                           "+r"(r12)
                         : "r"(r3), "r"(r4)
                         : "r10", "r11", "lr", "cc", "memory");
        /* clang-format on */
        a = r0;
        b = r1;
        sums += channels & ~1;
        channels &= 1;
    }
#undef FXP_TWO_CHANNELS
#undef FXP_NEXT_RUN
    if (channels > 0) {
        fxp_last_channels16(a, b, strides, channels, sums);
    }
}
#else
FXP_CHANNELS(fxp_channels16, int16_t, int16_t);
#endif
FXP_CHANNELS(fxp_channels16x8, int16_t, int8_t);
FXP_CHANNELS(fxp_channels8, int8_t, int8_t);
#undef FXP_CHANNELS

/* sums[j] += b[j] with f fraction bits, for j < count; f is at most 30 more than biases have */
static FXP_OUTLINE void fxp_add_biases(const int32_t *b, int f, int count, int64_t *sums)
{
    const int up = f - FXP_BIAS_FRACTION;
    const int32_t factor = (int32_t)1 << (up < 0 ? 0 : up);
    for (int j = 0; j < count; j++) {
        sums[j] += up < 0 ? fxp_bias(b[j], f) : (int64_t)b[j] * factor;
    }
}

/* ---- storing neighbouring sums -------------------------------------------------------------- */

#if FXP_SSE2
/* For a vector of two numbers of 64 bits: -1 where one is below 0, else 0. */
static FXP_INLINE __m128i fxp_signs(__m128i v)
{
    return _mm_srai_epi32(_mm_shuffle_epi32(v, _MM_SHUFFLE(3, 3, 1, 1)), 31);
}

/* Four sums rounded to 16 bits, in the lower half. */
static FXP_INLINE __m128i fxp_settle_four(const fxp_store *store, fxp_four sums)
{
    const __m128i half = _mm_set1_epi64x(store->half), shift = _mm_cvtsi32_si128(store->shift);
    const __m128i a = _mm_srl_epi64(_mm_add_epi64(sums.first, half), shift);
    const __m128i b = _mm_srl_epi64(_mm_add_epi64(sums.second, half), shift);
    const __m128 words = _mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0x88);
    return _mm_packs_epi32(_mm_castps_si128(words), _mm_setzero_si128());
}

static FXP_INLINE __m128i fxp_magnitudes(fxp_four sums)
{
    return _mm_or_si128(_mm_xor_si128(sums.first, fxp_signs(sums.first)),
                        _mm_xor_si128(sums.second, fxp_signs(sums.second)));
}

/* Of four sums as FXP_SETTLE has them, what is stored; their magnitudes are joined to the peak. */
static FXP_INLINE __m128i fxp_four_sums(const fxp_store *store, fxp_four sums, const int16_t *y,
                                        __m128i *peak)
{
    (void)y;
    *peak = _mm_or_si128(*peak, fxp_magnitudes(sums));
    return fxp_settle_four(store, sums);
}

static FXP_INLINE __m128i fxp_four_positive(const fxp_store *store, fxp_four sums, const int16_t *y,
                                            __m128i *peak)
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i a = fxp_signs(_mm_sub_epi64(zero, sums.first));
    const __m128i b = fxp_signs(_mm_sub_epi64(zero, sums.second));
    const __m128i least = _mm_srli_epi16(_mm_packs_epi32(_mm_packs_epi32(a, b), zero), 15);
    (void)y;
    sums.first = _mm_and_si128(sums.first, a);
    sums.second = _mm_and_si128(sums.second, b);
    *peak = _mm_or_si128(*peak, _mm_or_si128(sums.first, sums.second));
    return _mm_max_epi16(fxp_settle_four(store, sums), least);
}

static FXP_INLINE __m128i fxp_four_masked(const fxp_store *store, fxp_four sums, const int16_t *y,
                                          __m128i *peak)
{
    __m128i mask = _mm_cmpgt_epi16(_mm_loadl_epi64((const void *)y), _mm_setzero_si128());
    mask = _mm_unpacklo_epi16(mask, mask);
    sums.first = _mm_and_si128(sums.first, _mm_unpacklo_epi32(mask, mask));
    sums.second = _mm_and_si128(sums.second, _mm_unpackhi_epi32(mask, mask));
    *peak = _mm_or_si128(*peak, fxp_magnitudes(sums));
    return fxp_settle_four(store, sums);
}

#define FXP_FOURS(how, y)                                                                          \
    __m128i peak = _mm_setzero_si128();                                                            \
    for (; count >= 4; count -= 4, sums += 4, out += 4) {                                          \
        const fxp_four four = fxp_four_at(sums);                                                   \
        _mm_storel_epi64((void *)out, fxp_four_##how(&own, four, y, &peak));                       \
    }                                                                                              \
    peak = _mm_or_si128(peak, _mm_unpackhi_epi64(peak, peak));                                     \
    own.peak |= (uint64_t)_mm_cvtsi128_si64(peak)
#else
#define FXP_FOURS FXP_NO_FOURS
#endif

/* fxp_settle_sums rounds each sum. fxp_settle_positive rounds those above 0, but not to 0, as the
 * mask of backward is y > 0; the others become 0. fxp_settle_masked rounds those where y > 0; the
 * others become 0. `settle` rounds one; `unless` leaves to others what it cannot; `fours` may round
 * the first ones. */
#define FXP_SETTLE(bits, name, store_type, total, settle, unless, fours)                           \
    static FXP_OUTLINE void fxp_settle_sums##name(store_type *store, const total *sums, int count, \
                                                  int##bits##_t *out)                              \
    {                                                                                              \
        store_type own = *store;                                                                   \
        unless(fxp_settle_sums##bits##_any, (store, sums, count, out));                            \
        fours(sums, NULL);                                                                         \
        for (; count > 0; count--) {                                                               \
            *out++ = (int##bits##_t)settle(&own, *sums++);                                         \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
                                                                                                   \
    static FXP_OUTLINE void fxp_settle_positive##name(store_type *store, const total *sums,        \
                                                      int count, int##bits##_t *out)               \
    {                                                                                              \
        store_type own = *store;                                                                   \
        unless(fxp_settle_positive##bits##_any, (store, sums, count, out));                        \
        fours(positive, NULL);                                                                     \
        for (; count > 0; count--) {                                                               \
            const total sum = *sums++;                                                             \
            int32_t q = 0;                                                                         \
            if (sum > 0) {                                                                         \
                q = settle(&own, sum);                                                             \
                q = q == 0 ? 1 : q;                                                                \
            }                                                                                      \
            *out++ = (int##bits##_t)q;                                                             \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
                                                                                                   \
    static FXP_OUTLINE void fxp_settle_masked##name(store_type *store, const total *sums,          \
                                                    int count, int##bits##_t *out,                 \
                                                    const int##bits##_t *y)                        \
    {                                                                                              \
        store_type own = *store;                                                                   \
        unless(fxp_settle_masked##bits##_any, (store, sums, count, out, y));                       \
        fours(masked, (y += 4) - 4);                                                               \
        for (; count > 0; count--, sums++) {                                                       \
            *out++ = *y++ > 0 ? (int##bits##_t)settle(&own, *sums) : 0;                            \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
    FXP_ASSERT(a_sum_is_longer_than_##name, sizeof(total) > sizeof(int##bits##_t))

#define FXP_NO_FOURS(how, y) (void)0
#define FXP_NEVER(others, arguments) (void)0
#define FXP_UNUSUAL(others, arguments)                                                             \
    if (!fxp_is_usual(&own)) {                                                                     \
        others arguments;                                                                          \
        return;                                                                                    \
    }                                                                                              \
    (void)0

FXP_SETTLE(16, 16_any, fxp_store, int64_t, fxp_settle16_any, FXP_NEVER, FXP_NO_FOURS);
FXP_SETTLE(8, 8_any, fxp_store, int64_t, fxp_settle8_any, FXP_NEVER, FXP_NO_FOURS);
#if FXP_DSP && !FXP_MVE
/* The loop in assembly: r8 and r9 join the magnitudes of the accumulators, in r10 and r11. `take`
 * may leave for 2, where 0 is stored; `join` and `check` are what the others differ in. */
/* clang-format off */
#define FXP_SETTLE_16(own, take, join, check)                                                      \
    register const int64_t *r0 __asm__("r0") = sums;                                               \
    register int r1 __asm__("r1") = count;                                                         \
    register int16_t *r2 __asm__("r2") = out;                                                      \
    register uint32_t r4 __asm__("r4") = own->half;                                                \
    register int r5 __asm__("r5") = own->shift;                                                    \
    register int r6 __asm__("r6") = 32 - own->shift;                                               \
    register uint32_t r8 __asm__("r8") = (uint32_t)own->peak;                                      \
    register uint32_t r9 __asm__("r9") = (uint32_t)(own->peak >> 32);                              \
    __asm__ volatile("cmp %[n], #0\n\t"                                                            \
                     "ble 4f\n"                                                                    \
                     "1:\n\t"                                                                      \
                     "ldrd r10, r11, [%[sums]], #8\n\t" take join                                  \
                     "adds r10, r10, %[half]\n\t"                                                  \
                     "adc r11, r11, #0\n\t"                                                        \
                     "lsr r10, r10, %[shift]\n\t"                                                  \
                     "lsl r11, r11, %[up]\n\t"                                                     \
                     "orrs r10, r10, r11\n\t" check                                                \
                     "ssat r10, #16, r10\n"                                                        \
                     "3:\n\t"                                                                      \
                     "subs %[n], %[n], #1\n\t"                                                     \
                     "strh r10, [%[out]], #2\n\t"                                                  \
                     "bgt 1b\n\t"                                                                  \
                     "b 4f\n"                                                                      \
                     "2:\n\t"                                                                      \
                     "mov r10, #0\n\t"                                                             \
                     "b 3b\n"                                                                      \
                     "4:"                                                                          \
                     : [sums] "+r"(r0), [n] "+r"(r1), [out] "+r"(r2), "+r"(r3), [low] "+r"(r8),    \
                       [high] "+r"(r9)                                                             \
                     : [half] "r"(r4), [shift] "r"(r5), [up] "r"(r6)                               \
                     : "r10", "r11", "r12", "cc", "memory");                                       \
    own->peak = ((uint64_t)r9 << 32) | r8
#define FXP_JOIN                                                                                   \
    "eor r12, r10, r11, asr #31\n\t"                                                               \
    "orr %[low], %[low], r12\n\t"                                                                 \
    "eor r12, r11, r11, asr #31\n\t"                                                               \
    "orr %[high], %[high], r12\n\t"

#define FXP_SETTLE_SUMS                                                                            \
    register int r3 __asm__("r3") = 0;                                                             \
    FXP_SETTLE_16(store, "", FXP_JOIN, "")
#define FXP_SETTLE_POSITIVE                                                                        \
    register int r3 __asm__("r3") = 0;                                                             \
    FXP_SETTLE_16(store, "rsbs r12, r10, #0\n\tsbcs r12, %3, r11\n\tbge 2f\n\t",                   \
                  "orr %[low], %[low], r10\n\torr %[high], %[high], r11\n\t",                    \
                  "it eq\n\tmoveq r10, #1\n\t")
#define FXP_SETTLE_MASKED                                                                          \
    register const int16_t *r3 __asm__("r3") = y;                                                  \
    FXP_SETTLE_16(store, "ldrsh r12, [%3], #2\n\tcmp r12, #0\n\tble 2f\n\t", FXP_JOIN, "")
/* clang-format on */
#elif FXP_MVE
/* Four accumulators at once: q5 has where they lie, q0 their lower words, q1 the upper ones, q3 and
 * q4 join their magnitudes. What is rounded fits 32 bits, so that both words are shifted apart and
 * added. `begin` comes first, `take` before the loads, `join` after them, `check` after the sum. */
/* clang-format off */
#define FXP_SETTLE_16(begin, take, t, join, check)                                                 \
    uint32_t low = (uint32_t)store->peak, high = (uint32_t)(store->peak >> 32);                    \
    if (count > 0) {                                                                               \
        __asm__ volatile(begin "sub r4, %[sums], #32\n\t"                                          \
                         "vidup.u32 q5, r4, #8\n\t"                                                \
                         "vmov.i32 q3, #0\n\t"                                                     \
                         "vmov.i32 q4, #0\n\t"                                                     \
                         "dlstp.32 lr, %[n]\n"                                                     \
                         "1:\n\t" take                                                             \
                         "vldrw" t ".u32 q0, [q5, #32]!\n\t"                                       \
                         "vldrw" t ".u32 q1, [q5, #4]\n\t"                                         \
                         "vshr.s32 q2, q1, #31\n\t" join                                           \
                         "vrshl.u32 q0, %[down]\n\t"                                               \
                         "vshl.u32 q1, %[up]\n\t"                                                  \
                         "vadd.i32 q0, q0, q1\n\t" check                                           \
                         "vqmovnb.s32 q0, q0\n\t"                                                  \
                         "vstrh.32 q0, [%[out]], #8\n\t"                                           \
                         "letp lr, 1b\n\t"                                                         \
                         "vmov r4, r5, q3[2], q3[0]\n\t"                                           \
                         "orr %[low], %[low], r4\n\t"                                              \
                         "orr %[low], %[low], r5\n\t"                                              \
                         "vmov r4, r5, q3[3], q3[1]\n\t"                                           \
                         "orr %[low], %[low], r4\n\t"                                              \
                         "orr %[low], %[low], r5\n\t"                                              \
                         "vmov r4, r5, q4[2], q4[0]\n\t"                                           \
                         "orr %[high], %[high], r4\n\t"                                            \
                         "orr %[high], %[high], r5\n\t"                                            \
                         "vmov r4, r5, q4[3], q4[1]\n\t"                                           \
                         "orr %[high], %[high], r4\n\t"                                            \
                         "orr %[high], %[high], r5"                                                \
                         : [out] "+&l"(out), [y] "+&l"(y), [low] "+&r"(low), [high] "+&r"(high)    \
                         : [n] "r"(count), [down] "r"(-store->shift), [up] "r"(32 - store->shift), \
                           [sums] "r"(sums)                                                        \
                         : "r4", "r5", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",       \
                           "cc", "memory");                                                        \
    }                                                                                              \
    store->peak = ((uint64_t)high << 32) | low
#define FXP_JOIN                                                                                   \
    "veor q6, q2, q0\n\t"                                                                          \
    "vorr q3, q3, q6\n\t"                                                                          \
    "veor q6, q2, q1\n\t"                                                                          \
    "vorr q4, q4, q6\n\t"

#define FXP_SETTLE_SUMS                                                                            \
    const int16_t *y = out;                                                                        \
    FXP_SETTLE_16("", "", "", FXP_JOIN, "")
#define FXP_SETTLE_POSITIVE                                                                        \
    const int16_t *y = out;                                                                        \
    FXP_SETTLE_16("vmov.i32 q7, #1\n\t", "", "",                                                   \
                  "vbic q0, q0, q2\n\t"                                                            \
                  "vbic q1, q1, q2\n\t"                                                            \
                  "vorr q3, q3, q0\n\t"                                                            \
                  "vorr q4, q4, q1\n\t"                                                            \
                  "vorr q2, q0, q1\n\t",                                                           \
                  "vpt.i32 ne, q2, zr\n\t"                                                         \
                  "vmaxt.s32 q0, q0, q7\n\t")
/* What y masks is loaded as 0. */
#define FXP_SETTLE_MASKED                                                                          \
    FXP_SETTLE_16("",                                                                              \
                  "vldrh.s32 q2, [%[y]], #8\n\t"                                                   \
                  "vptt.s32 gt, q2, zr\n\t",                                                       \
                  "t", FXP_JOIN, "")
/* clang-format on */
#endif

#if FXP_DSP
static FXP_OUTLINE void fxp_settle_sums16(fxp_store *store, const int64_t *sums, int count,
                                          int16_t *out)
{
    if (store->half == 0) {
        fxp_settle_sums16_any(store, sums, count, out);
        return;
    }
    FXP_SETTLE_SUMS;
}

static FXP_OUTLINE void fxp_settle_positive16(fxp_store *store, const int64_t *sums, int count,
                                              int16_t *out)
{
    if (store->half == 0) {
        fxp_settle_positive16_any(store, sums, count, out);
        return;
    }
    FXP_SETTLE_POSITIVE;
}

static FXP_OUTLINE void fxp_settle_masked16(fxp_store *store, const int64_t *sums, int count,
                                            int16_t *out, const int16_t *y)
{
    if (store->half == 0) {
        fxp_settle_masked16_any(store, sums, count, out, y);
        return;
    }
    FXP_SETTLE_MASKED;
}
#undef FXP_SETTLE_16
#undef FXP_JOIN
#undef FXP_SETTLE_SUMS
#undef FXP_SETTLE_POSITIVE
#undef FXP_SETTLE_MASKED
#else
FXP_SETTLE(16, 16, fxp_store, int64_t, fxp_settle16_usual, FXP_UNUSUAL, FXP_FOURS);
#endif
FXP_SETTLE(8, 8, fxp_store, int64_t, fxp_settle8_usual, FXP_UNUSUAL, FXP_NO_FOURS);
#if FXP_SMALL_THUMB
FXP_SETTLE(16, 16_of32_any, fxp_store32, int32_t, fxp_settle16_of32, FXP_NEVER, FXP_NO_FOURS);
/* clang-format off */
/* The loop in assembly for shifts from 1 to 31, whose carry is the bit that rounds. `take` may
 * leave for 2, where 0 is stored; `join` and `check` are what the others differ in. */
#define FXP_SETTLE_16(y, take, join, check, others)                                                \
    if (count < 1 || store->shift < 1 || store->shift > 31) {                                      \
        others;                                                                                    \
        return;                                                                                    \
    }                                                                                              \
    register const int32_t *r0 __asm__("r0") = sums;                                               \
    register int16_t *r1 __asm__("r1") = out + count;                                              \
    register const int16_t *r2 __asm__("r2") = y + count;                                          \
    register int r3 __asm__("r3") = store->shift;                                                  \
    register uint32_t r4 __asm__("r4") = store->peak;                                              \
    register int32_t r5 __asm__("r5") = -2 * (int32_t)count;                                       \
    __asm__ volatile(".syntax unified\n\t"                                                         \
                     "push {r7}\n"                                                                 \
                     "1:\n\t"                                                                      \
                     "ldmia r0!, {r6}\n\t" take join                                               \
                     "asrs r6, r3\n\t"                                                             \
                     "bcc 3f\n\t"                                                                  \
                     "adds r6, r6, #1\n"                                                           \
                     "3:\n\t" check                                                                \
                     "sxth r7, r6\n\t"                                                             \
                     "cmp r7, r6\n\t"                                                              \
                     "bne 5f\n"                                                                    \
                     "4:\n\t"                                                                      \
                     "strh r6, [r1, r5]\n\t"                                                       \
                     "adds r5, r5, #2\n\t"                                                         \
                     "bne 1b\n\t"                                                                  \
                     "b 6f\n"                                                                      \
                     "2:\n\t"                                                                      \
                     "movs r6, #0\n\t"                                                             \
                     "strh r6, [r1, r5]\n\t"                                                       \
                     "adds r5, r5, #2\n\t"                                                         \
                     "bne 1b\n\t"                                                                  \
                     "b 6f\n"                                                                      \
                     "5:\n\t"                                                                      \
                     "asrs r6, r6, #31\n\t"                                                        \
                     "movs r7, #1\n\t"                                                             \
                     "lsls r7, r7, #15\n\t"                                                        \
                     "subs r7, r7, #1\n\t"                                                         \
                     "eors r6, r7\n\t"                                                             \
                     "b 4b\n"                                                                      \
                     "6:\n\t"                                                                      \
                     "pop {r7}"                                                                    \
                     : "+r"(r0), "+r"(r4), "+r"(r5)                                                \
                     : "r"(r1), "r"(r2), "r"(r3)                                                   \
                     : "r6", "cc", "memory");                                                      \
    store->peak = r4
#define FXP_JOIN "asrs r7, r6, #31\n\teors r7, r6\n\torrs r4, r7\n\t"

static FXP_OUTLINE void fxp_settle_sums16_of32(fxp_store32 *store, const int32_t *sums, int count,
                                               int16_t *out)
{
    FXP_SETTLE_16(out, "", FXP_JOIN, "", fxp_settle_sums16_of32_any(store, sums, count, out));
}

static FXP_OUTLINE void fxp_settle_positive16_of32(fxp_store32 *store, const int32_t *sums,
                                                   int count, int16_t *out)
{
    FXP_SETTLE_16(out, "cmp r6, #0\n\tble 2f\n\t", "orrs r4, r6\n\t",
                  "bne 3f\n\tadds r6, r6, #1\n3:\n\t",
                  fxp_settle_positive16_of32_any(store, sums, count, out));
}

static FXP_OUTLINE void fxp_settle_masked16_of32(fxp_store32 *store, const int32_t *sums,
                                                 int count, int16_t *out, const int16_t *y)
{
    FXP_SETTLE_16(y, "ldrsh r7, [r2, r5]\n\tcmp r7, #0\n\tble 2f\n\t", FXP_JOIN, "",
                  fxp_settle_masked16_of32_any(store, sums, count, out, y));
}
/* clang-format on */
#undef FXP_SETTLE_16
#undef FXP_JOIN
#else
FXP_SETTLE(16, 16_of32, fxp_store32, int32_t, fxp_settle16_of32, FXP_NEVER, FXP_NO_FOURS);
#endif
FXP_SETTLE(8, 8_of32, fxp_store32, int32_t, fxp_settle8_of32, FXP_NEVER, FXP_NO_FOURS);
#undef FXP_SETTLE
#undef FXP_NO_FOURS
#undef FXP_FOURS
#undef FXP_NEVER
#undef FXP_UNUSUAL

/* ---- powers of scores ----------------------------------------------------------------------- */

/* 2^-t of each score with `fraction` fraction bits, at most 28, and their sum; t is how far a score
 * with f fraction bits is below the largest, as fxp_exponent tells. */
static inline uint32_t fxp_powers(const FXP_FLASH uint32_t table[32], const int16_t *x, int n,
                                  int f, int16_t largest, int fraction, int8_t *powers)
{
    uint32_t total = 0;
#if FXP_MVE
    /* Four at once. A distance times 2^(27 - f), saturated, times 2^5 * log2(e) without its lower
     * word is t; that is fxp_exp2, whose lower word only tells whether it borrows. */
    if (f <= 27) {
        /* clang-format off */
        __asm__ volatile("vdup.32 q7, %[largest]\n\t"
                         "vdup.32 q6, %[log2_e]\n\t"
                         "vdup.32 q5, %[ln_2]\n\t"
                         "vdup.32 q4, %[down]\n\t"
                         "mov r4, #1\n\t"
                         "dlstp.32 lr, %[n]\n"
                         "1:\n\t"
                         "vldrh.s32 q0, [%[x]], #8\n\t"
                         "vsub.i32 q0, q7, q0\n\t"
                         "vqshl.u32 q0, %[up]\n\t"
                         "vrmulh.u32 q0, q0, q6\n\t" /* t */
                         "vshl.i32 q1, q0, #11\n\t"
                         "vshr.u32 q1, q1, #5\n\t"
                         "vmulh.u32 q1, q1, q5\n\t" /* z */
                         "vmulh.u32 q2, q1, q1\n\t"
                         "vmulh.u32 q3, q2, q1\n\t"
                         "vmul.i32 q3, q3, %[sixth]\n\t"
                         "vshr.u32 q3, q3, #18\n\t"
                         "vshr.u32 q2, q2, #1\n\t"
                         "vsub.i32 q1, q1, q2\n\t"
                         "vadd.i32 q1, q1, q3\n\t" /* lost */
                         "vshl.i32 q2, q0, #6\n\t"
                         "vshr.u32 q2, q2, #27\n\t"
                         "vldrw.u32 q3, [%[table], q2, uxtw #2]\n\t"
                         "vmulh.u32 q2, q3, q1\n\t"
                         "vmul.i32 q1, q3, q1\n\t"
                         "vsub.i32 q3, q3, q2\n\t"
                         "vpt.i32 ne, q1, zr\n\t"
                         "vsubt.i32 q3, q3, r4\n\t"
                         "vshr.u32 q2, q0, #26\n\t"
                         "vsub.i32 q2, q4, q2\n\t"
                         "vrshl.u32 q3, q3, q2\n\t"
                         "vpt.u32 cs, q0, %[limit]\n\t"
                         "vmovt.i32 q3, #0\n\t"
                         "vaddva.u32 %[total], q3\n\t"
                         "vstrw.32 q3, [%[powers]], #16\n\t"
                         "letp lr, 1b"
                         : [x] "+l"(x), [powers] "+r"(powers), [total] "+Te"(total)
                         : [n] "r"(n), [largest] "r"(largest), [log2_e] "r"(3098164010u),
                           [ln_2] "r"(2977044472u), [down] "r"(fraction - 31), [up] "r"(27 - f),
                           [sixth] "r"(43691), [table] "r"(table),
                           [limit] "r"((uint32_t)(fraction + 1) << 26)
                         : "r4", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc",
                           "memory");
        /* clang-format on */
        return total;
    }
#endif
    for (int i = 0; i < n; i++) {
        const uint32_t distance = (uint32_t)((int32_t)largest - x[i]);
        const uint32_t power = fxp_exp2(table, fxp_exponent32(distance, f), fraction);
        memcpy(&powers[4 * i], &power, 4);
        total += power;
    }
    return total;
}

/* power * reciprocal * 2^-32, rounded half up, as 32 bits */
static inline int32_t fxp_share_of(uint32_t power, uint64_t reciprocal)
{
    const uint64_t below = fxp_product32(power, (uint32_t)reciprocal) + ((uint64_t)1 << 31);
    const uint32_t above = power * (uint32_t)(reciprocal >> 32);
    return (int32_t)(above + (uint32_t)(below >> 32));
}

/* Powers become shares, less 1 for that of index t, with 30 fraction bits; returns their magnitudes
 * joined by or. */
static inline uint32_t fxp_errors_of_powers(int8_t *powers, int n, uint64_t reciprocal, int t)
{
    uint32_t peak = 0;
#if FXP_MVE
    uint32_t more, index = 0;
    /* clang-format off */
    __asm__ volatile("vdup.32 q1, %[low]\n\t"
                     "vmov.i32 q4, #0\n\t"
                     "dlstp.32 lr, %[n]\n"
                     "1:\n\t"
                     "vldrw.u32 q0, [%[powers]]\n\t"
                     "vrmulh.u32 q2, q0, q1\n\t"
                     "vmul.i32 q0, q0, %[high]\n\t"
                     "vadd.i32 q0, q0, q2\n\t"
                     "vidup.u32 q3, %[index], #1\n\t"
                     "vpt.i32 eq, q3, %[t]\n\t"
                     "vsubt.i32 q0, q0, %[one]\n\t"
                     "vshr.s32 q2, q0, #31\n\t"
                     "veor q2, q2, q0\n\t"
                     "vorr q4, q4, q2\n\t"
                     "vstrw.32 q0, [%[powers]], #16\n\t"
                     "letp lr, 1b\n\t"
                     "vmov %[peak], %[more], q4[2], q4[0]\n\t"
                     "orr %[peak], %[peak], %[more]\n\t"
                     "vmov %[index], %[more], q4[3], q4[1]\n\t"
                     "orr %[peak], %[peak], %[index]\n\t"
                     "orr %[peak], %[peak], %[more]"
                     : [powers] "+r"(powers), [index] "+Te"(index), [peak] "=&r"(peak),
                       [more] "=&r"(more)
                     : [n] "r"(n), [low] "r"((uint32_t)reciprocal),
                       [high] "r"((uint32_t)(reciprocal >> 32)), [t] "r"(t),
                       [one] "r"((int32_t)1 << 30)
                     : "lr", "q0", "q1", "q2", "q3", "q4", "cc", "memory");
    /* clang-format on */
    return peak;
#else
    for (int i = 0; i < n; i++) {
        uint32_t power;
        memcpy(&power, &powers[4 * i], 4);
        int32_t acc = fxp_share_of(power, reciprocal);
        acc -= i == t ? (int32_t)1 << 30 : 0;
        peak |= fxp_magnitude32(acc);
        memcpy(&powers[4 * i], &acc, 4);
    }
    return peak;
#endif
}

/* Errors of 32 bits as a tensor has them, by a shift that fits the largest exactly. */
#define FXP_STORE_ERRORS(bits)                                                                     \
    for (int i = 0; i < n; i++) {                                                                  \
        int32_t acc;                                                                               \
        memcpy(&acc, &errors[4 * i], 4);                                                           \
        out[i] = (int##bits##_t)fxp_exact32(acc, shift, bits);                                     \
    }                                                                                              \
    (void)0
static inline void fxp_store_errors16(int16_t *out, const int8_t *errors, int n, int shift)
{
#if FXP_MVE
    __asm__ volatile("dlstp.32 lr, %[n]\n"
                     "1:\n\t"
                     "vldrw.u32 q0, [%[errors]], #16\n\t"
                     "vqrshl.s32 q0, %[up]\n\t"
                     "vqmovnb.s32 q0, q0\n\t"
                     "vstrh.32 q0, [%[out]], #8\n\t"
                     "letp lr, 1b"
                     : [errors] "+r"(errors), [out] "+l"(out)
                     : [n] "r"(n), [up] "r"(-shift)
                     : "lr", "q0", "memory");
#else
    FXP_STORE_ERRORS(16);
#endif
}

static inline void fxp_store_errors8(int8_t *out, const int8_t *errors, int n, int shift)
{
    FXP_STORE_ERRORS(8);
}
#undef FXP_STORE_ERRORS

/* ---- rows whose sums are stored at once ------------------------------------------------------ */

/* How sums are stored: as fxp_settle_sums, fxp_settle_positive or fxp_settle_masked does. */
#define FXP_AS_SUMS 0
#define FXP_AS_POSITIVE 1
#define FXP_AS_MASKED 2

/* Biases of rows, which get f fraction bits, or NULL, and how many rows there are; a bias times
 * `factor` has those bits, or 32 more and the wrong sign where it is shortened. */
typedef struct {
    const int32_t *b;
    int f;
    int rows;
    int32_t factor;
} fxp_layer;

static inline fxp_layer fxp_layer_of(const int32_t *b, int f, int rows)
{
    const int up = f - FXP_BIAS_FRACTION;
    fxp_layer layer = {b, f, rows, 0};
    if (b != NULL && up >= 0) {
        layer.factor = (int32_t)1 << up;
    } else if (b != NULL && up >= -31) {
        layer.factor = INT32_MIN >> (-1 - up);
    }
    return layer;
}

#if FXP_DSP && !FXP_MVE
/* Such rows by a store whose shift is not usual. */
static FXP_OUTLINE void fxp_stored_rows16_any(fxp_store *store, const fxp_layer *layer,
                                              const int16_t *w, const int16_t *x, int n, int how,
                                              int16_t *out, const int16_t *y)
{
    for (int j = 0; j < layer->rows; j++, w += n) {
        int32_t q = 0;
        if (how != FXP_AS_MASKED || y[j] > 0) {
            int64_t sum = layer->b == NULL ? 0 : (int64_t)layer->b[j] * layer->factor;
            sum = layer->factor < 0 ? (((int64_t)1 << 31) - sum) >> 32 : sum;
            for (int i = 0; i < n; i++) {
                sum += (int32_t)w[i] * x[i];
            }
            if (how != FXP_AS_POSITIVE || sum > 0) {
                q = fxp_settle16_any(store, sum);
                q = q == 0 && how == FXP_AS_POSITIVE ? 1 : q;
            }
        }
        out[j] = (int16_t)q;
    }
}

/* clang-format off */
/* From here on a sum in r12 and lr is stored. The bit that the shift loses last is its carry. */
#define FXP_ROUND_ROW(q, shift, up, t)                                                             \
    "lsrs " q ", r12, " shift "\n\t"                                                               \
    "lsl " t ", lr, " up "\n\t"                                                                    \
    "adcs " q ", " q ", " t "\n\t"
#define FXP_JOIN_ROW(low, high, t, place)                                                          \
    "eor " t ", r12, lr, asr #31\n\t"                                                              \
    "orr " low ", " low ", " t "\n\t"                                                              \
    "eor " t ", lr, lr, asr #31\n\t"                                                               \
    "orr " high ", " high ", " t "\n\t"                                                            \
    "strd " low ", " high ", [sp, " place "]\n\t"
/* What became 0 and is more becomes 1, where bit 30 of the mode tells that sums are positive. */
#define FXP_KEEP_ROW(q, mode, t)                                                                   \
    "lsls " t ", " mode ", #1\n\t"                                                                 \
    "bpl 5b\n\t"                                                                                   \
    "orrs " t ", r12, lr\n\t"                                                                      \
    "it ne\n\t"                                                                                    \
    "movne " q ", #1\n\t"                                                                          \
    "b 5b\n"
/* clang-format on */

/* A shift, which the lower byte of a word has, and in bit 30 whether sums below 0 become 0. */
static FXP_INLINE uint32_t fxp_mode_of(const fxp_store *store, int how)
{
    return (uint32_t)how << 30 | (uint32_t)store->shift;
}

/* As fxp_stored_rows16 where nothing is masked. */
static FXP_OUTLINE void fxp_stored_rows16_many(fxp_store *store, const fxp_layer *layer,
                                               const int16_t *w, const int16_t *x, int n, int how,
                                               int16_t *out)
{
    const int is_even = (((uintptr_t)w | (uintptr_t)x | (uintptr_t)n << 1) & 3u) == 0;
    const int is_at_words = is_even && n >= 8 && layer->factor >= 0;
    const int rows = layer->rows;
    if (store->half == 0 || n < 2) {
        fxp_stored_rows16_any(store, layer, w, x, n, how, out, out);
        return;
    }
    /* Without biases, as many words of w are, times 0. r7 counts up to 0. */
    const int32_t *const b = layer->b == NULL ? (const int32_t *)(const void *)w : layer->b;
    const int count = is_at_words ? fxp_row_count(n) : n;
    const int entry = is_at_words ? fxp_row_entry(n) : -1;
    const uint32_t mode = fxp_mode_of(store, how);
    register const int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register int r2 __asm__("r2") = count;
    register int r3 __asm__("r3") = entry;
    register const int32_t *r4 __asm__("r4") = b + rows;
    register int32_t r5 __asm__("r5") = layer->factor;
    register uint32_t r6 __asm__("r6") = mode;
    register int16_t *r8 __asm__("r8") = out + rows;
    register uint32_t r9 __asm__("r9") = (uint32_t)store->peak;
    register uint32_t r10 __asm__("r10") = (uint32_t)(store->peak >> 32);
    register int r11 __asm__("r11") = -2 * rows;
    /* clang-format off */
    /* The stack has r1 to r10; r3, where the products of a row begin, r7, 32 less the shift. */
    __asm__ volatile("push {r7}\n\t"
                     "adr.w r7, 2f\n\t"
                     "adds r3, r3, r7\n\t"
                     "cmp r3, r7\n\t"
                     "bcs 1f\n\t"
                     "adr.w r3, 7f\n"
                     "1:\n\t"
                     "uxtb r7, r6\n\t"
                     "rsb r7, r7, #32\n\t"
                     "push {r1, r2, r3, r4, r5, r6, r7, r8, r9, r10}\n\t"
                     "mov r7, r11\n"
                     "1:\n\t"
                     "ldm sp, {r1, r2, r3, r4, r5}\n\t"
                     "ldr r4, [r4, r7, lsl #1]\n\t"
                     "smull r12, lr, r4, r5\n\t"
                     "mov pc, r3\n"
                     "2:\n\t"
                     FXP_ROW_AT_WORDS
                     "add r1, sp, #20\n\t"
                     "ldm r1, {r2, r3, r4, r5, r8}\n\t"
                     "tst lr, r2, lsl #1\n\t"
                     "bmi 6f\n\t"
                     FXP_JOIN_ROW("r5", "r8", "r10", "#32")
                     FXP_ROUND_ROW("r10", "r2", "r3", "r11")
                     "beq 8f\n\t"
                     "ssat r10, #16, r10\n"
                     "5:\n\t"
                     "strh r10, [r4, r7]\n\t"
                     "adds r7, r7, #2\n\t"
                     "bne 1b\n\t"
                     "b 9f\n"
                     "6:\n\t"
                     "mov r10, #0\n\t"
                     "b 5b\n"
                     "8:\n\t"
                     FXP_KEEP_ROW("r10", "r2", "r11")
                     "7:\n\t" /* a row that begins anywhere; its bias may have to be shortened */
                     "cmp r5, #0\n\t"
                     "bge 8f\n\t"
                     "mov r3, #0x80000000\n\t"
                     "subs r12, r3, r12\n\t"
                     "sbc r12, r3, lr\n\t"
                     "add r12, r12, r3\n\t"
                     "asr lr, r12, #31\n"
                     "8:\n\t"
                     FXP_ROW_ANYWHERE
                     "b 4b\n"
                     "9:\n\t"
                     "ldrd r9, r10, [sp, #32]\n\t"
                     "add sp, sp, #40\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),
                       "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11)
                     :
                     : "r12", "lr", "cc", "memory");
    /* clang-format on */
    store->peak = ((uint64_t)r10 << 32) | r9;
}

/* The same for an odd n from 3 to 9, as first convolutions of one channel have it: x stays in
 * registers. */
static FXP_OUTLINE void fxp_stored_rows16_few(fxp_store *store, const fxp_layer *layer,
                                              const int16_t *w, const int16_t *x, int n, int how,
                                              int16_t *out)
{
    const uint32_t skipped = (uint32_t)(36 - 4 * n); /* bytes of the products that n has not */
    const uint32_t mode = fxp_mode_of(store, how) | skipped << 8;
    const int rows = layer->rows;
    if (store->half == 0 || layer->factor < 0) {
        fxp_stored_rows16_any(store, layer, w, x, n, how, out, out);
        return;
    }
    const int32_t *const b = layer->b == NULL ? (const int32_t *)(const void *)w : layer->b;
    const int32_t first = n > 7 ? fxp_pair(x + n - 9) : 0;
    const int32_t second = n > 5 ? fxp_pair(x + n - 7) : 0;
    const int32_t third = n > 3 ? fxp_pair(x + n - 5) : 0;
    const int32_t fourth = fxp_pair(x + n - 3);
    register const int16_t *r0 __asm__("r0") = w;
    register int32_t r1 __asm__("r1") = first;
    register int32_t r2 __asm__("r2") = second;
    register int32_t r3 __asm__("r3") = third;
    register int32_t r4 __asm__("r4") = layer->factor;
    register int32_t r5 __asm__("r5") = fourth;
    register int32_t r6 __asm__("r6") = (uint16_t)x[n - 1];
    register const int32_t *r8 __asm__("r8") = b + rows;
    register uint32_t r9 __asm__("r9") = mode;
    register uint32_t r10 __asm__("r10") = (uint32_t)store->peak;
    register uint32_t r11 __asm__("r11") = (uint32_t)(store->peak >> 32);
    register int16_t *r12 __asm__("r12") = out + rows;
    register int index __asm__("lr") = -2 * rows;
    /* clang-format off */
    /* The stack has: bytes skipped, r8, r9, 32 less the shift, r10, r11, r12. */
    __asm__ volatile("push {r7}\n\t"
                     "uxtb r7, r9\n\t"
                     "rsb r7, r7, #32\n\t"
                     "push {r7, r10, r11, r12}\n\t"
                     "ubfx r7, r9, #8, #8\n\t"
                     "push {r7, r8, r9}\n\t"
                     "mov r7, lr\n"
                     "1:\n\t"
                     "ldm sp, {r8, r9}\n\t"
                     "ldr r9, [r9, r7, lsl #1]\n\t"
                     "smull r12, lr, r9, r4\n\t"
                     FXP_FEW_PRODUCTS("r8", "r9")
                     "ldrd r9, r11, [sp, #8]\n\t"
                     "tst lr, r9, lsl #1\n\t"
                     "bmi 6f\n\t"
                     FXP_ROUND_ROW("r10", "r9", "r11", "r11")
                     "beq 8f\n\t"
                     "ssat r10, #16, r10\n"
                     "5:\n\t"
                     "ldrd r8, r9, [sp, #16]\n\t"
                     FXP_JOIN_ROW("r8", "r9", "r11", "#16")
                     "7:\n\t"
                     "ldr r8, [sp, #24]\n\t"
                     "strh r10, [r8, r7]\n\t"
                     "adds r7, r7, #2\n\t"
                     "bne 1b\n\t"
                     "b 9f\n"
                     "6:\n\t"
                     "mov r10, #0\n\t"
                     "b 7b\n"
                     "8:\n\t"
                     FXP_KEEP_ROW("r10", "r9", "r11")
                     "9:\n\t"
                     "ldrd r10, r11, [sp, #16]\n\t"
                     "add sp, sp, #28\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11), "+r"(r12), "+r"(index)
                     : "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5), "r"(r6)
                     : "cc", "memory");
    /* clang-format on */
    store->peak = ((uint64_t)r11 << 32) | r10;
}

/* The same where rows are masked: sums of those that are are not computed. There are no biases. */
static FXP_OUTLINE void fxp_stored_rows16_masked(fxp_store *store, const fxp_layer *layer,
                                                 const int16_t *w, const int16_t *x, int n,
                                                 int16_t *out, const int16_t *y)
{
    const int rows = layer->rows;
    if (store->half == 0 || !fxp_are_words(w, x) || (n & 1) != 0 || n < 8) {
        fxp_stored_rows16_any(store, layer, w, x, n, FXP_AS_MASKED, out, y);
        return;
    }
    const int count = fxp_row_count(n), entry = fxp_row_entry(n);
    register const int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register int r2 __asm__("r2") = count;
    register int r3 __asm__("r3") = store->shift;
    register int r4 __asm__("r4") = 32 - store->shift;
    register int16_t *r5 __asm__("r5") = out + rows;
    register uint32_t r6 __asm__("r6") = (uint32_t)store->peak;
    register uint32_t r8 __asm__("r8") = (uint32_t)(store->peak >> 32);
    register const int16_t *r9 __asm__("r9") = y + rows;
    register int r10 __asm__("r10") = 2 * n;
    register int r11 __asm__("r11") = entry;
    register int r12 __asm__("r12") = -2 * rows;
    /* clang-format off */
    /* The stack has r1, r2, where the products of a row begin, then r3 to r10. */
    __asm__ volatile("push {r7}\n\t"
                     "push {r3, r4, r5, r6, r8, r9, r10}\n\t"
                     "adr.w r3, 2f\n\t"
                     "add r3, r3, r11\n\t"
                     "push {r1, r2, r3}\n\t"
                     "mov r7, r12\n"
                     "1:\n\t"
                     "ldrd r4, r5, [sp, #32]\n\t"
                     "ldrsh r3, [r4, r7]\n\t"
                     "cmp r3, #0\n\t"
                     "ble 6f\n\t"
                     "ldm sp, {r1, r2, r3}\n\t"
                     "mov r12, #0\n\t"
                     "mov lr, #0\n\t"
                     "mov pc, r3\n"
                     "2:\n\t"
                     FXP_ROW_AT_WORDS
                     "add r1, sp, #12\n\t"
                     "ldm r1, {r2, r3, r4, r5, r8}\n\t"
                     FXP_JOIN_ROW("r5", "r8", "r10", "#24")
                     FXP_ROUND_ROW("r10", "r2", "r3", "r11")
                     "ssat r10, #16, r10\n"
                     "5:\n\t"
                     "strh r10, [r4, r7]\n\t"
                     "adds r7, r7, #2\n\t"
                     "bne 1b\n\t"
                     "b 9f\n"
                     "6:\n\t" /* masked */
                     "ldr r4, [sp, #20]\n\t"
                     "add r0, r0, r5\n\t"
                     "mov r10, #0\n\t"
                     "b 5b\n"
                     "9:\n\t"
                     "ldrd r6, r8, [sp, #24]\n\t"
                     "add sp, sp, #40\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),
                       "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11), "+r"(r12)
                     :
                     : "lr", "cc", "memory");
    /* clang-format on */
    store->peak = ((uint64_t)r8 << 32) | r6;
}
#undef FXP_ROUND_ROW
#undef FXP_JOIN_ROW
#undef FXP_KEEP_ROW
#undef FXP_FEW_PRODUCTS
#undef FXP_FEW_2
#undef FXP_ROW_BEGIN
#undef FXP_ROW_END
#undef FXP_ROW_2
#undef FXP_ROW_8
#undef FXP_ROW_8_BYTES
#undef FXP_ROW_AT_WORDS
#undef FXP_ROW_ANYWHERE
#endif

/* As fxp_rows16 for the rows of a layer, which has no biases where y masks, then as `how` tells.
 * `sums` has room for `most`, which are computed at once. */
static FXP_INLINE void fxp_stored_rows16(fxp_store *store, const fxp_layer *layer, const int16_t *w,
                                         const int16_t *x, int n, int how, int16_t *out,
                                         const int16_t *y, int64_t *sums, int most)
{
#if FXP_DSP && !FXP_MVE
    (void)sums;
    (void)most;
    if (how == FXP_AS_MASKED) {
        fxp_stored_rows16_masked(store, layer, w, x, n, out, y);
    } else if ((n & 1) != 0 && n > 1 && n < 10) {
        fxp_stored_rows16_few(store, layer, w, x, n, how, out);
    } else {
        fxp_stored_rows16_many(store, layer, w, x, n, how, out);
    }
#else
    const int32_t *b = layer->b;
    for (int left = layer->rows; left > 0; left -= most) {
        const int rows = fxp_part(left, most);
        fxp_rows16(w, x, n, b, layer->f, rows, sums);
        if (how == FXP_AS_MASKED) {
            fxp_settle_masked16(store, sums, rows, out, y);
            y += rows;
        } else if (how == FXP_AS_POSITIVE) {
            fxp_settle_positive16(store, sums, rows, out);
        } else {
            fxp_settle_sums16(store, sums, rows, out);
        }
        w += rows * n;
        out += rows;
        b = b == NULL ? NULL : b + rows;
    }
#endif
}

#if FXP_DSP && !FXP_MVE
/* One sum after the other, whatever the shift. */
static FXP_OUTLINE void fxp_masked_columns16_any(fxp_store *store, const int16_t *w,
                                                 const int16_t *e, const fxp_walk *walk,
                                                 int columns, int16_t *out, const int16_t *y)
{
    for (int j = 0; j < columns; j++) {
        int32_t q = 0;
        if (y[j] > 0) {
            int64_t sum = 0;
            for (int i = 0; i < walk->n; i++) {
                sum += (int32_t)w[j + i * walk->step] * e[i];
            }
            q = fxp_settle16_any(store, sum);
        }
        out[j] = (int16_t)q;
    }
}

/* Four neighbouring columns of which none is masked are summed together, where rows begin at words;
 * of others, those that are not masked wait until they are three. All registers are needed. On the
 * stack lie: at 0 to 20, places in y of those that wait, and room for what is written before it is
 * known whether it is one; at 24, the end of those; 28, the place in y; 32, where fours end; 36,
 * where y ends; 40 and 44, how far from y the output and the weights are; 48 and 52, what products
 * are added from; 56, what a sum is stored with, see FXP_STORE_SUM. Halves of r6 and r7 are 4, the
 * bytes of a place, or 0 for a column that is masked.
 *
 * `fours` adds products to r4 to r11, with weights from r0 on; `threes` to r4 to r9, with weights
 * also r1 and r2 further on. */
/* clang-format off */
#define FXP_MASKED_COLUMNS_OF(begin, end, fours, threes)                                           \
    const int are_fours = (((uintptr_t)w | 2 * (uintptr_t)walk->step) & 3u) == 0;                  \
    register const int16_t *r0 __asm__("r0") = y;                                                  \
    register const int16_t *r1 __asm__("r1") = y + (are_fours ? columns & ~3 : 0);                 \
    register const int16_t *r2 __asm__("r2") = y + columns;                                        \
    register uintptr_t r3 __asm__("r3") = (uintptr_t)out - (uintptr_t)y;                           \
    register uintptr_t r4 __asm__("r4") = (uintptr_t)w - (uintptr_t)y;                             \
    register uintptr_t r5 __asm__("r5") = begin;                                                   \
    register uintptr_t r6 __asm__("r6") = end;                                                     \
    register int r8 __asm__("r8") = store->shift;                                                  \
    register int r9 __asm__("r9") = 32 - store->shift;                                             \
    register uint32_t r10 __asm__("r10") = (uint32_t)store->peak;                                  \
    register uint32_t r11 __asm__("r11") = (uint32_t)(store->peak >> 32);                          \
    __asm__ volatile("push {r7}\n\t"                                                               \
                     "push {r0-r6, r8-r11}\n\t"                                                    \
                     "sub sp, #28\n\t"                                                             \
                     "mov r1, sp\n\t"                                                              \
                     "str r1, [sp, #24]\n"                                                         \
                     "1:\n\t"                                                                      \
                     "add r0, sp, #24\n\t"                                                         \
                     "ldm r0, {r1-r5}\n\t"                                                         \
                     "movs r0, #0\n\t"                                                             \
                     "mov lr, #0x40004\n\t"                                                        \
                     "cmp r2, r3\n\t"                                                              \
                     "bhs 2f\n\t"                                                                  \
                     "ldr r6, [r2]\n\t"                                                            \
                     "ldr r7, [r2, #4]\n\t"                                                        \
                     "ssub16 r6, r0, r6\n\t"                                                       \
                     "sel r6, r0, lr\n\t"                                                          \
                     "ssub16 r7, r0, r7\n\t"                                                       \
                     "sel r7, r0, lr\n\t"                                                          \
                     "and r8, r6, r7\n\t"                                                          \
                     "cmp r8, lr\n\t"                                                              \
                     "beq 5f\n\t"                                                                  \
                     "add r8, r2, r5\n\t"                                                          \
                     "str r0, [r8]\n\t"                                                            \
                     "str r0, [r8, #4]\n\t"                                                        \
                     FXP_MAY_WAIT("uxtah r1, r1, r6")                                              \
                     FXP_MAY_WAIT("add r1, r1, r6, lsr #16")                                       \
                     FXP_MAY_WAIT("uxtah r1, r1, r7")                                              \
                     FXP_MAY_WAIT("add r1, r1, r7, lsr #16")                                       \
                     "b 3f\n"                                                                      \
                     "2:\n\t" /* one column */                                                     \
                     "cmp r2, r4\n\t"                                                              \
                     "beq 4f\n\t"                                                                  \
                     "ldrh r6, [r2]\n\t"                                                           \
                     "ssub16 r6, r0, r6\n\t"                                                       \
                     "sel r6, r0, lr\n\t"                                                          \
                     "strh r0, [r2, r5]\n\t"                                                       \
                     FXP_MAY_WAIT("uxtah r1, r1, r6")                                              \
                     "3:\n\t"                                                                      \
                     "strd r1, r2, [sp, #24]\n\t"                                                  \
                     "add r0, sp, #12\n\t"                                                         \
                     "cmp r1, r0\n\t"                                                              \
                     "blo 1b\n\t"                                                                  \
                     "b 6f\n"                                                                      \
                     "4:\n\t" /* those that wait become three: one is taken again */               \
                     "mov r0, sp\n\t"                                                              \
                     "cmp r1, r0\n\t"                                                              \
                     "beq 9f\n\t"                                                                  \
                     "ldr r3, [r0]\n\t"                                                            \
                     "strd r3, r3, [r1]\n\t"                                                       \
                     "adds r0, #12\n\t"                                                            \
                     "str r0, [sp, #24]\n\t"                                                       \
                     "b 6f\n"                                                                      \
                     "5:\n\t" /* four columns */                                                   \
                     "ldr r0, [sp, #44]\n\t"                                                       \
                     "add r0, r2\n\t"                                                              \
                     "adds r2, #8\n\t"                                                             \
                     "str r2, [sp, #28]\n\t"                                                       \
                     "ldrd r2, r1, [sp, #48]\n\t" FXP_NO_SUMS                                      \
                     "mov r10, #0\n\t"                                                             \
                     "mov r11, #0\n\t" fours                                                       \
                     "ldr lr, [sp, #28]\n\t"                                                       \
                     "add r0, sp, #56\n\t"                                                         \
                     "ldm r0, {r0-r3}\n\t" FXP_STORE_SUM("r10", "r11")                             \
                     "b 7f\n"                                                                      \
                     "6:\n\t" /* three columns */                                                  \
                     "ldm sp, {r0-r2}\n\t"                                                         \
                     "subs r1, r0\n\t"                                                             \
                     "subs r2, r0\n\t"                                                             \
                     "add r3, sp, #44\n\t"                                                         \
                     "ldm r3, {r3, r10, r11}\n\t"                                                  \
                     "add r0, r3\n\t" FXP_NO_SUMS threes                                           \
                     "mov lr, #0\n\t"                                                              \
                     "add r0, sp, #56\n\t"                                                         \
                     "ldm r0, {r0-r3}\n"                                                           \
                     "7:\n\t"                                                                      \
                     FXP_STORE_SUM("r8", "r9") FXP_STORE_SUM("r6", "r7") FXP_STORE_SUM("r4", "r5") \
                     "strd r2, r3, [sp, #64]\n\t"                                                  \
                     "ldr r7, [sp, #40]\n\t"                                                       \
                     "cmp lr, #0\n\t"                                                              \
                     "beq 8f\n\t"                                                                  \
                     "add r7, lr\n\t"                                                              \
                     "strh r4, [r7, #-8]\n\t"                                                      \
                     "strh r6, [r7, #-6]\n\t"                                                      \
                     "strh r8, [r7, #-4]\n\t"                                                      \
                     "strh r10, [r7, #-2]\n\t"                                                     \
                     "b 1b\n"                                                                      \
                     "8:\n\t"                                                                      \
                     "ldm sp, {r0-r3, r5}\n\t"                                                     \
                     "strh r4, [r0, r7]\n\t"                                                       \
                     "strh r6, [r1, r7]\n\t"                                                       \
                     "strh r8, [r2, r7]\n\t"                                                       \
                     "strd r3, r5, [sp]\n\t"                                                       \
                     "ldr r1, [sp, #24]\n\t"                                                       \
                     "subs r1, #12\n\t"                                                            \
                     "str r1, [sp, #24]\n\t"                                                       \
                     "b 1b\n"                                                                      \
                     "9:\n\t"                                                                      \
                     "ldrd r10, r11, [sp, #64]\n\t"                                                \
                     "add sp, #72\n\t"                                                             \
                     "pop {r7}"                                                                    \
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),       \
                       "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11)                                    \
                     :                                                                             \
                     : "r12", "lr", "cc", "memory");                                               \
    store->peak = ((uint64_t)r11 << 32) | r10
#define FXP_MAY_WAIT(advance) "str r2, [r1]\n\t" advance "\n\tadds r2, #2\n\t"
#define FXP_NO_SUMS                                                                                \
    "movs r4, #0\n\t"                                                                              \
    "movs r5, #0\n\t"                                                                              \
    "movs r6, #0\n\t"                                                                              \
    "movs r7, #0\n\t"                                                                              \
    "mov r8, #0\n\t"                                                                               \
    "mov r9, #0\n\t"
/* A sum is joined to r2 and r3, and rounded to r0 bits less, r1 being 32 less r0; the bit that is
 * lost last is the carry, which rounds. */
#define FXP_STORE_SUM(low, high)                                                                   \
    "eor r12, " low ", " high ", asr #31\n\t"                                                      \
    "orr r2, r12\n\t"                                                                              \
    "eor r12, " high ", " high ", asr #31\n\t"                                                     \
    "orr r3, r12\n\t"                                                                              \
    "lsrs " low ", r0\n\t"                                                                         \
    "lsl " high ", r1\n\t"                                                                         \
    "adc " low ", " high "\n\t"                                                                    \
    "ssat " low ", #16, " low "\n\t"

/* Products of a row with an error in the lower ("b") or upper ("t") half of a register. The rows
 * are so far apart as the lower half of r1, or of r11, says; their number less 1 is above. */
#define FXP_ROW_OF_FOUR(half)                                                                      \
    "ldrd r12, lr, [r0]\n\t"                                                                       \
    "smlalb" half " r4, r5, r12, r3\n\t"                                                           \
    "smlalt" half " r6, r7, r12, r3\n\t"                                                           \
    "smlalb" half " r8, r9, lr, r3\n\t"                                                            \
    "smlalt" half " r10, r11, lr, r3\n\t"                                                          \
    "uxtah r0, r0, r1\n\t"
#define FXP_ROW_OF_THREE(half)                                                                     \
    "ldrh r3, [r0]\n\t"                                                                            \
    "smlalb" half " r4, r5, r3, r12\n\t"                                                           \
    "ldrh r3, [r0, r1]\n\t"                                                                        \
    "smlalb" half " r6, r7, r3, r12\n\t"                                                           \
    "ldrh r3, [r0, r2]\n\t"                                                                        \
    "smlalb" half " r8, r9, r3, r12\n\t"                                                           \
    "uxtah r0, r0, r11\n\t"
#define FXP_ROWS_OF(row, rows, errors, at)                                                         \
    "lsls " errors ", " rows ", #15\n\t" /* carry: an even number of pairs, one of which may */    \
    "bmi 14f\n\t"                          /* have one row only */                                 \
    "ldrh " errors ", [" at "], #2\n\t"                                                            \
    "lsl " errors ", #16\n\t"                                                                      \
    "bcs 11f\n\t"                                                                                  \
    "add " rows ", #0x20000\n\t"                                                                   \
    "b 13f\n"                                                                                      \
    "14:\n\t"                                                                                      \
    "bcs 10f\n\t"                                                                                  \
    "add " rows ", #0x20000\n\t"                                                                   \
    "b 12f\n"                                                                                      \
    "10:\n\t"                                                                                      \
    "ldr " errors ", [" at "], #4\n\t" row("b")                                                    \
    "11:\n\t" row("t")                                                                             \
    "12:\n\t"                                                                                      \
    "ldr " errors ", [" at "], #4\n\t" row("b")                                                    \
    "13:\n\t" row("t")                                                                             \
    "subs " rows ", #0x40000\n\t"                                                                  \
    "bge 10b\n\t"

/* The same for entries of a list: an error in the upper half, and in the lower one how far its row
 * is from that of the one before. */
#define FXP_ENTRY_OF_FOUR(e)                                                                       \
    "uxtah r0, r0, " e "\n\t"                                                                      \
    "ldrd r2, r3, [r0]\n\t"                                                                        \
    "smlalbt r4, r5, r2, " e "\n\t"                                                                \
    "smlaltt r6, r7, r2, " e "\n\t"                                                                \
    "smlalbt r8, r9, r3, " e "\n\t"                                                                \
    "smlaltt r10, r11, r3, " e "\n\t"
#define FXP_ENTRY_OF_THREE(e)                                                                      \
    "uxtah r0, r0, " e "\n\t"                                                                      \
    "ldrh r3, [r0]\n\t"                                                                            \
    "smlalbt r4, r5, r3, " e "\n\t"                                                                \
    "ldrh r3, [r0, r1]\n\t"                                                                        \
    "smlalbt r6, r7, r3, " e "\n\t"                                                                \
    "ldrh r3, [r0, r2]\n\t"                                                                        \
    "smlalbt r8, r9, r3, " e "\n\t"
#define FXP_ENTRIES_OF(list, last, entry, check)                                                   \
    "sub r3, " last ", " list "\n\t"                                                               \
    "lsls r3, r3, #28\n\t" /* two more than a multiple of four */                                  \
    "bmi 12f\n"                                                                                    \
    "11:\n\t"                                                                                      \
    "ldm " list "!, {r12, lr}\n\t" entry("r12") entry("lr")                                        \
    "12:\n\t"                                                                                      \
    "ldm " list "!, {r12, lr}\n\t" entry("r12") entry("lr") check                                  \
    "bne 11b\n\t"
/* clang-format on */
#define FXP_MASKED_COLUMNS FXP_OUTLINE
#else
#define FXP_MASKED_COLUMNS FXP_INLINE
#endif

/* As fxp_columns16 for one run of n > 0, then fxp_settle_masked16, for any number of columns. */
static FXP_MASKED_COLUMNS void fxp_masked_columns16(fxp_store *store, const int16_t *w,
                                                    const int16_t *e, const fxp_walk *walk,
                                                    int columns, int16_t *out, const int16_t *y)
{
#if FXP_DSP && !FXP_MVE
    if (store->half == 0 || walk->n > INT16_MAX || walk->step > INT16_MAX) {
        fxp_masked_columns16_any(store, w, e, walk, columns, out, y);
        return;
    }
    const uint32_t rows = (uint32_t)(walk->n - 1) << 16 | (uint32_t)walk->step << 1;
    FXP_MASKED_COLUMNS_OF((uintptr_t)e, rows, FXP_ROWS_OF(FXP_ROW_OF_FOUR, "r1", "r3", "r2"),
                          FXP_ROWS_OF(FXP_ROW_OF_THREE, "r11", "r12", "r10"));
#else
    int64_t sums[FXP_COLUMNS];
    for (int first = 0; first < columns; first += FXP_COLUMNS) {
        const int count = fxp_part(columns - first, FXP_COLUMNS);
        fxp_clear(sums, count);
        fxp_columns16(&w[first], e, walk, count, sums);
        fxp_settle_masked16(store, sums, count, &out[first], &y[first]);
    }
#endif
}

/* The same where many errors may be 0: cores with DSP instructions list the others, of which an
 * even number is needed. */
static FXP_MASKED_COLUMNS void fxp_masked_columns16_listed(fxp_store *store, const int16_t *w,
                                                           const int16_t *e, const fxp_walk *walk,
                                                           int columns, int16_t *out,
                                                           const int16_t *y, int32_t *list)
{
#if FXP_DSP && !FXP_MVE
    if (store->half == 0 || walk->step > INT16_MAX) {
        fxp_masked_columns16_any(store, w, e, walk, columns, out, y);
        return;
    }
    const uint32_t step = (uint32_t)walk->step << 1;
    const int n = walk->n;
    int32_t *last = list;
    uint32_t gap = 0;
    for (int i = 0; i < n; i++, gap += step) {
        const uint32_t error = (uint16_t)e[i];
        if (error != 0 || gap > UINT16_MAX - step) { /* 16 bits hold no longer gap */
            *last++ = (int32_t)(error << 16 | gap);
            gap = 0;
        }
    }
    while (last == list || ((last - list) & 1) != 0) {
        *last++ = 0;
    }
    FXP_MASKED_COLUMNS_OF((uintptr_t)last, (uintptr_t)list,
                          FXP_ENTRIES_OF("r1", "r2", FXP_ENTRY_OF_FOUR,
                                         "ldr r2, [sp, #48]\n\t"
                                         "cmp r1, r2\n\t"),
                          FXP_ENTRIES_OF("r11", "r10", FXP_ENTRY_OF_THREE, "cmp r11, r10\n\t"));
#else
    (void)list;
    fxp_masked_columns16(store, w, e, walk, columns, out, y);
#endif
}
#if FXP_DSP && !FXP_MVE
#undef FXP_MASKED_COLUMNS_OF
#undef FXP_MAY_WAIT
#undef FXP_NO_SUMS
#undef FXP_STORE_SUM
#undef FXP_ROW_OF_FOUR
#undef FXP_ROW_OF_THREE
#undef FXP_ROWS_OF
#undef FXP_ENTRY_OF_FOUR
#undef FXP_ENTRY_OF_THREE
#undef FXP_ENTRIES_OF
#endif
#undef FXP_MASKED_COLUMNS

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
#elif FXP_SMALL_THUMB
    uint8_t *at = (uint8_t *)out;
    if (((uintptr_t)at & 3u) == 0) {
        __asm__ volatile(".syntax unified\n\t"
                         "movs r3, #0\n\t"
                         "movs r4, #0\n\t"
                         "movs r5, #0\n\t"
                         "movs r6, #0\n\t"
                         "subs %[n], %[n], #16\n\t"
                         "blt 2f\n"
                         "1:\n\t"
                         "stmia %[at]!, {r3, r4, r5, r6}\n\t"
                         "subs %[n], %[n], #16\n\t"
                         "bge 1b\n"
                         "2:\n\t"
                         "adds %[n], %[n], #16"
                         : [at] "+l"(at), [n] "+l"(bytes)
                         :
                         : "r3", "r4", "r5", "r6", "cc", "memory");
    }
    for (; bytes >= 2 && ((uintptr_t)at & 1u) == 0; bytes -= 2, at += 2) {
        const int16_t zero = 0;
        memcpy(__builtin_assume_aligned(at, 2), &zero, 2);
    }
    for (; bytes > 0; bytes--) {
        *at++ = 0;
    }
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
#elif FXP_SMALL_THUMB
    uint8_t *to = (uint8_t *)out;
    const uint8_t *at = (const uint8_t *)from;
    const uintptr_t places = (uintptr_t)to | (uintptr_t)at;
    if (bytes >= 16 && (places & 3u) == 0) {
        __asm__ volatile(".syntax unified\n\t"
                         "subs %[n], %[n], #16\n"
                         "1:\n\t"
                         "ldmia %[from]!, {r3, r4, r5, r6}\n\t"
                         "stmia %[out]!, {r3, r4, r5, r6}\n\t"
                         "subs %[n], %[n], #16\n\t"
                         "bge 1b\n\t"
                         "adds %[n], %[n], #16"
                         : [out] "+l"(to), [from] "+l"(at), [n] "+l"(bytes)
                         :
                         : "r3", "r4", "r5", "r6", "cc", "memory");
        if (bytes == 0) {
            return;
        }
    }
    if (bytes >= 2 && (places & 1u) == 0) {
        const int odd = bytes & 1;
        int32_t left = odd - bytes;
        to -= left;
        at -= left;
        bytes = odd;
        __asm__ volatile(".syntax unified\n"
                         "1:\n\t"
                         "ldrh r3, [%[from], %[left]]\n\t"
                         "strh r3, [%[out], %[left]]\n\t"
                         "adds %[left], %[left], #2\n\t"
                         "bne 1b"
                         : [left] "+l"(left)
                         : [out] "l"(to), [from] "l"(at)
                         : "r3", "cc", "memory");
    }
    for (; bytes > 0; bytes--) {
        *to++ = *at++;
    }
#else
    memcpy(out, from, (size_t)bytes);
#endif
}

/* A call costs more than it saves where there is no assembly. */
#if FXP_DSP
#define FXP_COPIES FXP_OUTLINE
#else
#define FXP_COPIES inline
#endif

/* Lines of so many bytes; steps from line to line in bytes. */
static FXP_COPIES void fxp_copy_lines(void *out, const void *from, int bytes, int lines,
                                      int out_step, int from_step)
{
    uint8_t *to = (uint8_t *)out;
    const uint8_t *at = (const uint8_t *)from;
#if FXP_DSP && !FXP_MVE
    const uintptr_t places = (uintptr_t)out | (uintptr_t)from;
    const int odd = ((int)places | out_step | from_step) & 3;
    int left;
    /* clang-format off */
    if (lines > 0) {
        __asm__ volatile("1:\n\t"
                         "subs %[left], %[bytes], #16\n\t"
                         "blt 4f\n\t"
                         "cmp %[odd], #0\n\t"
                         "bne 3f\n"
                         "2:\n\t"
                         "ldmia.w %[at]!, {r3, r4, r5, r6}\n\t"
                         "stmia.w %[to]!, {r3, r4, r5, r6}\n\t"
                         "subs %[left], %[left], #16\n\t"
                         "bge 2b\n\t"
                         "b 4f\n"
                         "3:\n\t"
                         "ldr r3, [%[at]], #4\n\t"
                         "ldr r4, [%[at]], #4\n\t"
                         "ldr r5, [%[at]], #4\n\t"
                         "ldr r6, [%[at]], #4\n\t"
                         "str r3, [%[to]], #4\n\t"
                         "str r4, [%[to]], #4\n\t"
                         "str r5, [%[to]], #4\n\t"
                         "str r6, [%[to]], #4\n\t"
                         "subs %[left], %[left], #16\n\t"
                         "bge 3b\n"
                         "4:\n\t" /* carry and sign are bits of what is left */
                         "lsls r3, %[left], #29\n\t"
                         "bcc 5f\n\t"
                         "ldr r4, [%[at]], #4\n\t"
                         "ldr r5, [%[at]], #4\n\t"
                         "str r4, [%[to]], #4\n\t"
                         "str r5, [%[to]], #4\n"
                         "5:\n\t"
                         "bpl 6f\n\t"
                         "ldr r4, [%[at]], #4\n\t"
                         "str r4, [%[to]], #4\n"
                         "6:\n\t"
                         "lsls r3, %[left], #31\n\t"
                         "bcc 7f\n\t"
                         "ldrh r4, [%[at]], #2\n\t"
                         "strh r4, [%[to]], #2\n"
                         "7:\n\t"
                         "bpl 8f\n\t"
                         "ldrb r4, [%[at]], #1\n\t"
                         "strb r4, [%[to]], #1\n"
                         "8:\n\t"
                         "add %[to], %[to], %[gap]\n\t"
                         "add %[at], %[at], %[skip]\n\t"
                         "subs %[lines], %[lines], #1\n\t"
                         "bgt 1b"
                         : [to] "+r"(to), [at] "+r"(at), [lines] "+r"(lines), [left] "=&r"(left)
                         : [bytes] "r"(bytes), [odd] "r"(odd), [gap] "r"(out_step - bytes),
                           [skip] "r"(from_step - bytes)
                         : "r3", "r4", "r5", "r6", "cc", "memory");
    }
    /* clang-format on */
#else
    for (; lines > 0; lines--, to += out_step, at += from_step) {
        fxp_copy(to, at, bytes);
    }
#endif
}

/* n numbers of 8 bits as 16 bits */
static FXP_OUTLINE void fxp_widen(int16_t *out, const int8_t *from, int n)
{
#if FXP_DSP
    for (; n >= 4; n -= 4, out += 4, from += 4) {
        const int8x4_t quad = fxp_quad(from);
        const int16x2_t even = __sxtb16(quad), odd = fxp_odd(quad);
        const int16x2_t first = fxp_lower(even, odd), second = fxp_upper(even, odd);
        memcpy(out, &first, 4);
        memcpy(out + 2, &second, 4);
    }
#endif
    for (; n > 0; n--) {
        *out++ = *from++;
    }
}

/* n elements that are `step` apart */
static FXP_COPIES void fxp_gather16(int16_t *out, const int16_t *from, int step, int n)
{
    /* clang-format off */
#if FXP_MVE
    if (step <= FXP_FAR && n > 0) {
        __asm__ volatile("mov r12, #0\n\t"
                         "vidup.u16 q0, r12, #1\n\t"
                         "vmul.i16 q0, q0, %[step]\n\t"
                         "dlstp.16 lr, %[n]\n"
                         "1:\n\t"
                         "vldrh.u16 q1, [%[from], q0, uxtw #1]\n\t"
                         "add %[from], %[from], %[step], lsl #4\n\t"
                         "vstrh.16 q1, [%[out]], #16\n\t"
                         "letp lr, 1b"
                         : [out] "+l"(out), [from] "+r"(from)
                         : [step] "r"(step), [n] "r"(n)
                         : "r12", "lr", "q0", "q1", "cc", "memory");
        return;
    }
#endif
#if FXP_DSP && !FXP_MVE
    int u, v;
    __asm__ volatile("subs %[n], %[n], #2\n\t"
                     "blt 2f\n"
                     "1:\n\t"
                     "ldrh %[u], [%[from]]\n\t"
                     "ldrh %[v], [%[from], %[step]]\n\t"
                     "add %[from], %[from], %[step], lsl #1\n\t"
                     "orr %[u], %[u], %[v], lsl #16\n\t"
                     "str %[u], [%[out]], #4\n\t"
                     "subs %[n], %[n], #2\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #1\n\t"
                     "blt 3f\n\t"
                     "ldrh %[u], [%[from]]\n\t"
                     "strh %[u], [%[out]]\n"
                     "3:"
                     : [out] "+r"(out), [from] "+r"(from), [n] "+r"(n), [u] "=&r"(u), [v] "=&r"(v)
                     : [step] "r"(2 * step)
                     : "cc", "memory");
    /* clang-format on */
#else
    for (const int16_t *const end = out + n; out < end; from += step) {
        *out++ = *from;
    }
#endif
}

/* ---- gradients of convolutions -------------------------------------------------------------- */

/* Taps of a filter that lie in one piece and meet the same outputs: those of rows r0 <= r < r1 and
 * columns c0 <= c < c1; the others read outside of the input with them. Output (0, 0) reads `place`
 * with the first one. */
typedef struct {
    int32_t place;
    int16_t tap;
    int16_t taps;
    int16_t r0;
    int16_t r1;
    int16_t c0;
    int16_t c1;
} fxp_piece;

/* Windows of `rows` times `columns` outputs, whose inputs lie so many elements apart, and pieces of
 * filters that see all channels. May they be listed, all places are those of words, and offsets in
 * bytes have 16 bits and rise from output to output. */
typedef struct {
    int pieces;
    int rows;
    int columns;
    int row_step;
    int column_step;
    int filters;
    int taps;
    int may_be_listed;
} fxp_windows;

#if FXP_DSP && !FXP_MVE
/* sums[j] = sum of x[offset + j] * error over a list, `narrowing` bits shorter, for 4 * quads sums.
 * The list has an error in the upper half of a word and its offset in bytes in the lower one; x and
 * all offsets are those of words. */
static inline void fxp_listed16(const uint32_t *list, const uint32_t *end, const int16_t *x,
                                int quads, int narrowing, int32_t *sums)
{
    register const uint32_t *r0 __asm__("r0") = list;
    register const int16_t *r1 __asm__("r1") = x;
    register const uint32_t *r2 __asm__("r2") = end;
    register int32_t *r3 __asm__("r3") = sums;
    register int r4 __asm__("r4") = quads;
    register int32_t r5 __asm__("r5") = narrowing > 0 ? (int32_t)1 << (narrowing - 1) : 0;
    register int r6 __asm__("r6") = narrowing;
    register int r8 __asm__("r8") = 32 - narrowing;
    /* clang-format off */
#define FXP_ENTRY(e)                                                                               \
    "uxtah r2, r1, " e "\n\t"                                                                      \
    "ldm r2, {r2, r3}\n\t"                                                                         \
    "smlalbt r4, r5, r2, " e "\n\t"                                                                \
    "smlaltt r6, r7, r2, " e "\n\t"                                                                \
    "smlalbt r8, r9, r3, " e "\n\t"                                                                \
    "smlaltt r10, r11, r3, " e "\n\t"
#define FXP_TWO_ENTRIES "ldm r0!, {r12, lr}\n\t" FXP_ENTRY("r12") FXP_ENTRY("lr")
#define FXP_NARROW(low, high)                                                                      \
    "adds " low ", " low ", r2\n\t"                                                                \
    "adc " high ", " high ", #0\n\t"                                                               \
    "lsr " low ", " low ", r3\n\t"                                                                 \
    "lsl " high ", " high ", r12\n\t"                                                              \
    "orr " low ", " low ", " high "\n\t"
    /* All registers are needed; what they began with lies on the stack. */
    __asm__ volatile("push {r7}\n\t"
                     "push {r0, r1, r2, r3, r4, r5, r6, r8}\n"
                     "1:\n\t"
                     "ldm sp, {r0, r1, r2}\n\t"
                     "movs r4, #0\n\t"
                     "movs r5, #0\n\t"
                     "movs r6, #0\n\t"
                     "movs r7, #0\n\t"
                     "mov r8, #0\n\t"
                     "mov r9, #0\n\t"
                     "mov r10, #0\n\t"
                     "mov r11, #0\n\t"
                     "subs r2, r2, r0\n\t"
                     "lsls r2, r2, #29\n\t" /* an odd one; two more than a multiple of four */
                     "bpl 2f\n\t"
                     "ldr lr, [r0], #4\n\t" FXP_ENTRY("lr")
                     "2:\n\t"
                     "bcs 4f\n\t"
                     "b 5f\n"
                     "3:\n\t" FXP_TWO_ENTRIES "4:\n\t" FXP_TWO_ENTRIES
                     "5:\n\t"
                     "ldr r2, [sp, #8]\n\t"
                     "cmp r0, r2\n\t"
                     "bne 3b\n\t"
                     "add r0, sp, #12\n\t"
                     "ldm r0, {r0, r1, r2, r3, r12}\n\t"
                     FXP_NARROW("r4", "r5") FXP_NARROW("r6", "r7") FXP_NARROW("r8", "r9")
                     FXP_NARROW("r10", "r11")
                     "stmia.w r0!, {r4, r6, r8, r10}\n\t"
                     "ldr r2, [sp, #4]\n\t"
                     "adds r2, r2, #8\n\t"
                     "str r2, [sp, #4]\n\t"
                     "subs r1, r1, #1\n\t"
                     "strd r0, r1, [sp, #12]\n\t"
                     "bne 1b\n\t"
                     "add sp, sp, #32\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),
                       "+r"(r8)
                     :
                     : "r9", "r10", "r11", "r12", "lr", "cc", "memory");
    /* clang-format on */
#undef FXP_ENTRY
#undef FXP_TWO_ENTRIES
#undef FXP_NARROW
}

/* Errors of a filter other than 0, in columns c0 <= c < c1; returns the end of the list. */
static FXP_OUTLINE uint32_t *fxp_list16(const int16_t *dy, const fxp_windows *windows, int c0,
                                        int c1, uint32_t *list)
{
    const int n = c1 - c0, next = 2 * windows->filters, step = 2 * windows->column_step;
    const int16_t *error = &dy[c0 * windows->filters];
    int rows = windows->rows, offset = c0 * step, left, e;
    /* clang-format off */
    if (n > 0) {
        __asm__ volatile("1:\n\t"
                         "mov %[left], %[n]\n"
                         "2:\n\t"
                         "ldrh %[e], [%[error]]\n\t"
                         "add %[error], %[error], %[next]\n\t"
                         "cmp %[e], #0\n\t"
                         "beq 3f\n\t"
                         "orr %[e], %[offset], %[e], lsl #16\n\t"
                         "str %[e], [%[list]], #4\n"
                         "3:\n\t"
                         "add %[offset], %[offset], %[step]\n\t"
                         "subs %[left], %[left], #1\n\t"
                         "bgt 2b\n\t"
                         "add %[error], %[error], %[gap]\n\t"
                         "add %[offset], %[offset], %[line]\n\t"
                         "subs %[rows], %[rows], #1\n\t"
                         "bgt 1b"
                         : [error] "+r"(error), [list] "+r"(list), [offset] "+r"(offset),
                           [rows] "+r"(rows), [left] "=&r"(left), [e] "=&r"(e)
                         : [n] "r"(n), [next] "r"(next), [step] "r"(step),
                           [gap] "r"((windows->columns - n) * next),
                           [line] "r"(2 * windows->row_step - n * step)
                         : "cc", "memory");
    }
    /* clang-format on */
    return list;
}

/* Gradients of a filter from lists. */
static inline void fxp_gradient_of_lists16(const int16_t *dy, const int16_t *x,
                                           const fxp_windows *windows, const fxp_piece *piece,
                                           int narrowing, uint32_t *list, int32_t *tile)
{
    const uint32_t *end = list;
    for (int n = 0; n < windows->pieces; n++, piece++) {
        if (n == 0 || piece->c0 != piece[-1].c0 || piece->c1 != piece[-1].c1) {
            end = fxp_list16(dy, windows, piece->c0, piece->c1, list);
        }
        const uint32_t *first = list, *last = end;
        const int low = 2 * piece->r0 * windows->row_step, high = 2 * piece->r1 * windows->row_step;
        while (first < last && (int)(*first & 0xFFFF) < low) {
            first++;
        }
        while (first < last && (int)(last[-1] & 0xFFFF) >= high) {
            last--;
        }
        fxp_listed16(first, last, &x[piece->place], piece->taps >> 2, narrowing, &tile[piece->tap]);
    }
}
#endif

/* Gradients of the weights of some filters, `left` at the most, `narrowing` bits shorter; dy begins
 * with the first one's errors. Returns how many they are. Rows of errors, [filter][position], meet
 * what a tap reads at all positions: both are copied to scratch. Or what a filter's errors that are
 * not 0 meet is summed where it lies. */
static FXP_OUTLINE int fxp_gradients16(const int16_t *dy, const int16_t *x,
                                       const FXP_FLASH fxp_windows *windows,
                                       const FXP_FLASH fxp_piece *piece, int left, int narrowing,
                                       int16_t *scratch, int32_t *tile)
{
#if FXP_DSP && !FXP_MVE
    if (windows->may_be_listed && fxp_are_words(x, scratch)) {
        uint32_t *const list = (uint32_t *)(void *)scratch;
        fxp_gradient_of_lists16(dy, x, windows, piece, narrowing, list, tile);
        return 1;
    }
#endif
    const int count = fxp_part(left, FXP_ROWS), columns = windows->columns;
    const int positions = windows->rows * columns, pitch = positions + (positions & 1);
    int16_t *const inputs = &scratch[FXP_ROWS * pitch];
    int32_t sums[FXP_ROWS];
    for (int o = 0; o < count; o++) {
        int16_t *const copy = &scratch[o * pitch];
        copy[pitch - 1] = 0;
        fxp_gather16(copy, &dy[o], windows->filters, positions);
    }
    for (int p = windows->pieces; p > 0; p--, piece++) {
        const int height = piece->r1 - piece->r0, width = piece->c1 - piece->c0;
        const int above = piece->r0 * windows->row_step, before = piece->c0 * windows->column_step;
        const int16_t *const first = &x[piece->place + above + before];
        if (height * width < positions) {
            fxp_zero(inputs, 2 * pitch);
        }
        for (int n = 0; n < piece->taps; n++) {
            const int16_t *from = &first[n];
            int16_t *to = &inputs[piece->r0 * columns + piece->c0];
            for (int r = height; r > 0; r--, from += windows->row_step, to += columns) {
                fxp_gather16(to, from, windows->column_step, width);
            }
            fxp_rows16_short(scratch, inputs, pitch, NULL, 0, count, narrowing, sums);
            for (int o = 0, at = piece->tap + n; o < count; o++, at += windows->taps) {
                tile[at] = sums[o];
            }
        }
    }
    return count;
}

/* ---- updates -------------------------------------------------------------------------------- */

#if FXP_SSE2
/* For fxp_update16, by eights. The lower half of a product carries where it is above the complement
 * of the dither; without their signs they compare when both have another. */
static FXP_INLINE void fxp_update_eights(int16_t *w, const int16_t *x, int n, __m128i m,
                                         __m128i dither, int is_aligned)
{
    const __m128i sign = _mm_set1_epi16(INT16_MIN);
    const __m128i limit = _mm_xor_si128(dither, _mm_set1_epi16(INT16_MAX));
    for (int i = 0; i + 8 <= n; i += 8) {
        const __m128i v = fxp_eight(&x[i]);
        const __m128i low = _mm_xor_si128(_mm_mullo_epi16(v, m), sign);
        const __m128i step = _mm_sub_epi16(_mm_mulhi_epi16(v, m), _mm_cmpgt_epi16(low, limit));
        __m128i *const place = (void *)&w[i];
        const __m128i before = is_aligned ? _mm_load_si128(place) : _mm_loadu_si128(place);
        _mm_storeu_si128(place, _mm_adds_epi16(before, step));
    }
}
#endif

/* w[i] += (m * x[i] + dither) >> 16, saturated; m has 16 bits and a sign, 0 <= dither < 2^16. */
static FXP_OUTLINE void fxp_update16(int16_t *w, const int16_t *x, int n, int32_t m, int32_t dither)
{
#if FXP_MVE
    FXP_UPDATE_MVE(FXP_EIGHT16);
    return;
#endif
#if FXP_SSE2
    const int done = n & ~7;
    fxp_update_eights(w, x, n, _mm_set1_epi16((int16_t)m), _mm_set1_epi16((int16_t)dither), 0);
    w += done;
    x += done;
    n -= done;
#endif
#ifdef __AVR__
    int32_t p;
    register int16_t *z __asm__("r30") = w;
    register const int16_t *from __asm__("r26") = x;
    register int count __asm__("r24") = n;
    register int16_t factor __asm__("r18") = (int16_t)m;
    if (count > 0) {
        __asm__ volatile("1:\n\t"
                         "ld r20, X+\n\t"
                         "ld r21, X+\n\t" FXP_AVR_PRODUCT "add %A[p], %A[dither]\n\t"
                         "adc %B[p], %B[dither]\n\t"
                         "adc %C[p], %[zero]\n\t"
                         "adc %D[p], %[zero]\n\t"
                         "ld r20, Z\n\t"
                         "ldd r21, Z+1\n\t"
                         "add r20, %C[p]\n\t"
                         "adc r21, %D[p]\n\t"
                         "brvc 2f\n\t"
                         "lsl r21\n\t" /* its sign is wrong */
                         "ldi r20, 255\n\t"
                         "ldi r21, 127\n\t"
                         "brcs 2f\n\t"
                         "ldi r20, 0\n\t"
                         "ldi r21, 128\n"
                         "2:\n\t"
                         "st Z+, r20\n\t"
                         "st Z+, r21\n\t"
                         "sbiw r24, 1\n\t"
                         "brne 1b\n\t"
                         "clr r1"
                         : "+r"(z), "+r"(from), "+r"(count), "+r"(factor), [p] "=&r"(p)
                         : [dither] "r"((uint16_t)dither), [zero] "r"((uint8_t)0)
                         : "r20", "r21", "memory");
    }
#elif FXP_SMALL_THUMB
    /* The sum of the upper halves of a register overflows where the weight does; then its sign is
     * wrong. */
#define FXP_SATURATE(q, p)                                                                         \
    "bvc 9f\n\t"                                                                                   \
    "asrs " q ", " q ", #31\n\t"                                                                   \
    "movs " p ", #1\n\t"                                                                           \
    "lsls " p ", " p ", #31\n\t"                                                                   \
    "eors " q ", " p "\n"                                                                          \
    "9:\n\t"
    /* A word of two weights: first the sum of the upper one is stored, then that of the lower. */
#define FXP_UPDATE_2(place)                                                                        \
    "ldr r4, [r1, " place "]\n\t"                                                                  \
    "ldr r5, [r0, " place "]\n\t"                                                                  \
    "lsls r7, r5, #16\n\t"                                                                         \
    "asrs r6, r4, #16\n\t"                                                                         \
    "muls r6, r2, r6\n\t"                                                                          \
    "add r6, r8\n\t"                                                                               \
    "bics r5, r3\n\t"                                                                              \
    "adds r5, r5, r6\n\t" FXP_SATURATE("r5", "r6") "str r5, [r0, " place "]\n\t"                   \
                                                   "sxth r4, r4\n\t"                               \
                                                   "muls r4, r2, r4\n\t"                           \
                                                   "add r4, r8\n\t"                                \
                                                   "adds r7, r7, r4\n\t" FXP_SATURATE(             \
                                                       "r7", "r6") "lsrs r7, r7, #16\n\t"          \
                                                                   "strh r7, [r0, " place "]\n\t"
    if (n >= 8 && (((uintptr_t)w | (uintptr_t)x) & 3u) == 0) {
        register int16_t *r0 __asm__("r0") = w;
        register const int16_t *r1 __asm__("r1") = x;
        register int32_t r2 __asm__("r2") = m;
        register int32_t r3 __asm__("r3") = dither;
        register const int16_t *r4 __asm__("r4") = w + (n & ~7);
        __asm__ volatile(".syntax unified\n\t"
                         "push {r4, r5, r6, r7}\n\t"
                         "mov r8, r3\n\t"
                         "mov r9, r4\n\t"
                         "movs r3, #0\n\t"
                         "mvns r3, r3\n\t"
                         "lsrs r3, r3, #16\n"
                         "1:\n\t" FXP_UPDATE_2("#0") FXP_UPDATE_2("#4") FXP_UPDATE_2("#8")
                             FXP_UPDATE_2("#12") "adds r0, r0, #16\n\t"
                                                 "adds r1, r1, #16\n\t"
                                                 "cmp r0, r9\n\t"
                                                 "bne 1b\n\t"
                                                 "pop {r4, r5, r6, r7}"
                         : "+r"(r0), "+r"(r1), "+r"(r3)
                         : "r"(r2), "r"(r4)
                         : "r8", "r9", "cc", "memory");
        w = r0;
        x = r1;
        n &= 7;
    }
#undef FXP_UPDATE_2
#define FXP_UPDATE_1                                                                               \
    "ldrsh %[p], [%[x], %[at]]\n\t"                                                                \
    "muls %[p], %[m], %[p]\n\t"                                                                    \
    "add %[p], %[dither]\n\t"                                                                      \
    "ldrh %[q], [%[w], %[at]]\n\t"                                                                 \
    "lsls %[q], %[q], #16\n\t"                                                                     \
    "adds %[q], %[q], %[p]\n\t" FXP_SATURATE("%[q]", "%[p]") "lsrs %[q], %[q], #16\n\t"            \
                                                             "strh %[q], [%[w], %[at]]\n\t"        \
                                                             "adds %[at], %[at], #2\n\t"
    int32_t p, q;
    for (; n > 0 && (n & 3) != 0; n--, w++, x++) {
        *w = fxp_sat16(*w + ((m * *x + dither) >> 16));
    }
    int32_t at = -2 * (int32_t)n;
    w += n;
    x += n;
    if (n > 0) {
        __asm__ volatile(".syntax unified\n"
                         "1:\n\t" FXP_UPDATE_1 FXP_UPDATE_1 FXP_UPDATE_1 FXP_UPDATE_1 "bne 1b"
                         : [at] "+l"(at), [p] "=&l"(p), [q] "=&l"(q)
                         : [w] "l"(w), [x] "l"(x), [m] "l"(m), [dither] "hr"(dither)
                         : "cc", "memory");
    }
#undef FXP_UPDATE_1
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
    FXP_UPDATE_MVE(FXP_EIGHT8_HIGH);
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

/* The dither that rounds to nearest. Compilers that know it add it apart from the product. */
static FXP_INLINE int32_t fxp_nearest(void)
{
    int32_t half = 0x8000;
#if defined(__GNUC__)
    __asm__("" : "+r"(half));
#endif
    return half;
}

/* What a layer calls once goes into its step where a call with many arguments costs the most. */
#ifdef __AVR__
#define FXP_LAYER FXP_INLINE
#else
#define FXP_LAYER FXP_OUTLINE
#endif

/* Row after row of an outer product: what lies at w, `rows` times n weights, takes -rate * dy[o] *
 * x[i]. The rate goes into the error of a row as in fxp_fold; what becomes 0 changes nothing. */
#define FXP_LEARN(name, x_type, update, dither)                                                    \
    static FXP_LAYER void name(int16_t *w, const x_type *x, int n, const x_type *dy, int rows,     \
                               fxp_rate rate, int k, uint32_t *random)                             \
    {                                                                                              \
        for (; rows > 0; rows--, w += n) {                                                         \
            const int32_t m = fxp_fold(*dy++, rate, k, random);                                    \
            if (m != 0) {                                                                          \
                update(w, x, n, m, dither);                                                        \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)

#if FXP_SSE2
/* The first, or the second, 16 bits of a vector in all eight places. */
#define FXP_EACH(v, second) _mm_shuffle_epi32(_mm_shufflelo_epi16(v, (second) ? 0x55 : 0), 0)

/* Rows learn; the scale has 32 fraction bits, the factor k less. Returns the last draw. */
static FXP_INLINE uint32_t fxp_learn_eights(int16_t *w, const int16_t *x, int n, const int16_t *dy,
                                            int rows, int64_t scale, uint32_t draw, int is_nearest,
                                            int is_aligned)
{
    for (; rows > 0; rows--, w += n) {
        const int64_t error = *dy++;
        if (error == 0) {
            continue;
        }
        const int32_t m = (int32_t)((error * scale + fxp_draw(&draw)) >> 32);
        if (m == 0) {
            continue;
        }
        const __m128i factor = _mm_packs_epi32(_mm_cvtsi32_si128(m), _mm_setzero_si128());
        const uint32_t second = is_nearest ? 0x80000000u : fxp_draw(&draw);
        const __m128i dither = _mm_cvtsi32_si128((int32_t)second);
        fxp_update_eights(w, x, n, FXP_EACH(factor, 0), FXP_EACH(dither, 1), is_aligned);
        if (n % 8 != 0) {
            const int done = n & ~7;
            fxp_update16(w + done, x + done, n % 8, fxp_sat16(m), (int32_t)(second >> 16));
        }
    }
    return draw;
}
#undef FXP_EACH
#endif

#if FXP_DSP
/* clang-format off */
/* As fxp_draw. */
#define FXP_DRAW(v)                                                                                \
    "eor " v ", " v ", " v ", lsl #13\n\t"                                                        \
    "eor " v ", " v ", " v ", lsr #17\n\t"                                                        \
    "eor " v ", " v ", " v ", lsl #5\n\t"
/* clang-format on */
#endif

#if FXP_SSE2 || FXP_DSP || FXP_SMALL_THUMB
FXP_LEARN(fxp_learn16_any, int16_t, fxp_update16, (int32_t)(fxp_draw(random) >> 16));
FXP_LEARN(fxp_learn16_nearest_any, int16_t, fxp_update16, fxp_nearest());
#endif

#if FXP_SSE2 || FXP_SMALL_THUMB || (FXP_DSP && !FXP_MVE)
#if FXP_DSP
/* clang-format off */
#define FXP_UPDATE_2(w, x)                                                                         \
    "smlabb r12, " x ", r2, lr\n\t"                                                               \
    "smlatb " x ", " x ", r2, lr\n\t"                                                             \
    "pkhtb " x ", " x ", r12, asr #16\n\t"                                                        \
    "qadd16 " w ", " w ", " x "\n\t"
#define FXP_UPDATE_8                                                                               \
    "ldmia.w r0, {r3, r4, r5, r6}\n\t"                                                            \
    "ldmia.w r1!, {r8, r9, r10, r11}\n\t"                                                          \
    FXP_UPDATE_2("r3", "r8") FXP_UPDATE_2("r4", "r9") FXP_UPDATE_2("r5", "r10")                    \
        FXP_UPDATE_2("r6", "r11") "stmia.w r0!, {r3, r4, r5, r6}\n\t"
#define FXP_EIGHT_BYTES 76 /* of the code of FXP_UPDATE_8: instructions of four bytes each */
#define FXP_LEARN_ROWS(dither)                                                                     \
    __asm__ volatile("mov lr, r2\n\t"                                                              \
                     "adr.w r12, 3f\n\t"                                                           \
                     "lsls r2, r11, #31\n\t"                                                       \
                     "bne 1f\n\t"                                                                  \
                     "adr.w r12, 2f\n\t"                                                           \
                     "add r12, r12, r10\n"                                                         \
                     "1:\n\t"                                                                      \
                     "push {r1, r3, r4, r5, r6, r8, r9, r11, r12, lr}\n"                           \
                     "1:\n\t"                                                                      \
                     "ldm sp, {r1, r3, r4, r5, r6, r8, r9, r11, r12, lr}\n\t"                      \
                     "subs r4, r4, #1\n\t"                                                         \
                     "blt 9f\n\t"                                                                  \
                     "ldrsh r2, [r3], #2\n\t"                                                      \
                     "cmp r2, #0\n\t"                                                              \
                     "beq 7f\n\t" FXP_DRAW("r5")                                                   \
                     "muls r2, r6, r2\n\t"                                                         \
                     "lsr r10, r5, r9\n\t"                                                         \
                     "add r2, r2, r10\n\t"                                                         \
                     "asrs r2, r2, r8\n\t"                                                         \
                     "beq 7f\n\t"                                                                  \
                     "ssat r2, #16, r2\n\t" dither                                                 \
                     "strd r3, r4, [sp, #4]\n\t"                                                   \
                     "str r5, [sp, #12]\n\t"                                                       \
                     "pkhbt r2, r2, r11\n\t"                                                       \
                     "mov pc, r12\n"                                                               \
                     "2:\n\t" FXP_UPDATE_8 FXP_UPDATE_8 FXP_UPDATE_8 FXP_UPDATE_8                  \
                     "subs r2, r2, #0x200000\n\t"                                                  \
                     "bge 2b\n\t"                                                                  \
                     "adds r2, r2, #0x1E0000\n\t"                                                  \
                     "bge 4f\n\t"                                                                  \
                     "b 5f\n"                                                                      \
                     "3:\n\t" /* pairs at any address */                                           \
                     "subs r2, r2, #0x20000\n\t"                                                   \
                     "blt 5f\n"                                                                    \
                     "4:\n\t"                                                                      \
                     "ldr r3, [r0]\n\t"                                                            \
                     "ldr r8, [r1], #4\n\t" FXP_UPDATE_2("r3", "r8")                               \
                     "str r3, [r0], #4\n\t"                                                        \
                     "subs r2, r2, #0x20000\n\t"                                                   \
                     "bge 4b\n"                                                                    \
                     "5:\n\t"                                                                      \
                     "lsls r3, r2, #15\n\t"                                                        \
                     "bpl 1b\n\t"                                                                  \
                     "ldrh r3, [r0]\n\t"                                                           \
                     "ldrsh r8, [r1]\n\t"                                                          \
                     "smlabb r8, r8, r2, lr\n\t"                                                   \
                     "asr r8, r8, #16\n\t"                                                         \
                     "qadd16 r3, r3, r8\n\t"                                                       \
                     "strh r3, [r0], #2\n\t"                                                       \
                     "b 1b\n"                                                                      \
                     "7:\n\t" /* nothing changes */                                                \
                     "strd r3, r4, [sp, #4]\n\t"                                                   \
                     "str r5, [sp, #12]\n\t"                                                       \
                     "add r0, r0, lr\n\t"                                                          \
                     "b 1b\n"                                                                      \
                     "9:\n\t"                                                                      \
                     "add sp, sp, #40"                                                             \
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),       \
                       "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11)                                    \
                     :                                                                             \
                     : "r12", "lr", "cc", "memory")
/* clang-format on */
#elif FXP_SMALL_THUMB
/* clang-format off */
/* The next row that changes, from `dy` and `w` on, of so many that are left, `step` bytes apart:
 * its factor, 0 without one. w is behind it. */
static FXP_INLINE int32_t fxp_next_row(const int16_t **dy, int16_t **w, int32_t step, int *rows,
                                       int32_t m, int k, uint32_t *random, int is_nearest)
{
#define FXP_DRAW                                                                                   \
    "lsls r6, r2, #13\n\t"                                                                         \
    "eors r2, r6\n\t"                                                                              \
    "lsrs r6, r2, #17\n\t"                                                                         \
    "eors r2, r6\n\t"                                                                              \
    "lsls r6, r2, #5\n\t"                                                                          \
    "eors r2, r6\n\t"
#define FXP_NEXT(second)                                                                           \
    __asm__ volatile(".syntax unified\n\t"                                                         \
                     "mov r8, r5\n"                                                                \
                     "1:\n\t"                                                                      \
                     "movs r5, #0\n\t"                                                             \
                     "subs r1, r1, #1\n\t"                                                         \
                     "blt 2f\n\t"                                                                  \
                     "ldrsh r5, [r0, r5]\n\t"                                                      \
                     "adds r0, r0, #2\n\t"                                                         \
                     "add r9, r10\n\t"                                                             \
                     "cmp r5, #0\n\t"                                                              \
                     "beq 1b\n\t" FXP_DRAW                                                         \
                     "mov r6, r8\n\t"                                                              \
                     "muls r5, r6, r5\n\t"                                                         \
                     "movs r6, r2\n\t"                                                             \
                     "lsrs r6, r3\n\t"                                                             \
                     "subs r5, r6, r5\n\t"                                                         \
                     "asrs r5, r4\n\t"                                                             \
                     "beq 1b\n\t" second                                                           \
                     "sxth r6, r5\n\t"                                                             \
                     "cmp r6, r5\n\t"                                                              \
                     "beq 2f\n\t"                                                                  \
                     "asrs r5, r5, #31\n\t"                                                        \
                     "movs r6, #1\n\t"                                                             \
                     "lsls r6, r6, #15\n\t"                                                        \
                     "subs r6, r6, #1\n\t"                                                         \
                     "eors r5, r6\n"                                                               \
                     "2:"                                                                          \
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r5), "+r"(r9)                            \
                     : "r"(r3), "r"(r4), "r"(r10)                                                  \
                     : "r6", "r8", "cc", "memory")
    register const int16_t *r0 __asm__("r0") = *dy;
    register int r1 __asm__("r1") = *rows;
    register uint32_t r2 __asm__("r2") = *random;
    register int r3 __asm__("r3") = 32 - k;
    register int r4 __asm__("r4") = k;
    register int32_t r5 __asm__("r5") = m;
    register int16_t *r9 __asm__("r9") = *w;
    register int32_t r10 __asm__("r10") = step;
    if (is_nearest) {
        FXP_NEXT("");
    } else {
        FXP_NEXT(FXP_DRAW);
    }
#undef FXP_NEXT
#undef FXP_DRAW
    *dy = r0;
    *w = r9;
    *rows = r1;
    *random = r2;
    return r5;
}

/* What a row that changes takes. */
typedef struct {
    int16_t *end;
    int32_t m;
    int32_t dither;
} fxp_row_change;

/* As fxp_update16, where x is a list and w its base. */
static inline void fxp_update_listed(fxp_list *list, const int32_t *end, int16_t *w, int32_t m,
                                     int32_t dither)
{
#define FXP_UPDATE_1                                                                               \
    "ldmia r0!, {r3, r4}\n\t"                                                                      \
    "muls r4, r2, r4\n\t"                                                                          \
    "add r4, r8\n\t"                                                                               \
    "ldrh r5, [r1, r3]\n\t"                                                                        \
    "lsls r5, r5, #16\n\t"                                                                         \
    "adds r5, r5, r4\n\t" FXP_SATURATE("r5", "r4")                                                 \
    "lsrs r5, r5, #16\n\t"                                                                         \
    "strh r5, [r1, r3]\n\t"
#define FXP_UPDATE_1_BYTES 26 /* of its code */
    register const int32_t *r0 __asm__("r0") = list->entries;
    register int16_t *r1 __asm__("r1") = w;
    register int32_t r2 __asm__("r2") = -m;
    register int32_t r3 __asm__("r3") = dither;
    register const int32_t *r4 __asm__("r4") = end;
    register int32_t r5 __asm__("r5") = FXP_UPDATE_1_BYTES * (-((end - list->entries) >> 1) & 3);
    if (r0 == end) {
        return;
    }
    __asm__ volatile(".syntax unified\n\t"
                     "mov r8, r3\n\t"
                     "mov r9, r4\n\t"
                     "adr r4, 1f\n\t"
                     "adds r5, r5, r4\n\t"
                     "mov pc, r5\n\t"
                     ".balign 4\n"
                     "1:\n\t" FXP_UPDATE_1 FXP_UPDATE_1 FXP_UPDATE_1 FXP_UPDATE_1
                     "cmp r0, r9\n\t"
                     "bne 1b"
                     : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5)
                     : "r"(r1), "r"(r2)
                     : "r8", "r9", "cc", "memory");
#undef FXP_UPDATE_1
#undef FXP_UPDATE_1_BYTES
}
/* clang-format on */

/* Changes rows of n that share a list of the numbers that are not 0. */
#define FXP_CHANGES 8
static inline void fxp_change_rows(const fxp_row_change *changes, int count, const int16_t *x,
                                   int n)
{
    fxp_list list;
    for (int32_t at = -2 * (int32_t)n; at < 0;) {
        const int32_t *const end = fxp_list_of(x + n, &at, &list);
        for (int j = 0; j < count; j++) {
            fxp_update_listed(&list, end, changes[j].end, changes[j].m, changes[j].dither);
        }
    }
}
#endif

/* For shifts from 1 to 30 and rows whose length fits 16 bits. */
static FXP_INLINE void fxp_learn_rows16(int16_t *w, const int16_t *x, int n, const int16_t *dy,
                                        int rows, fxp_rate rate, int k, uint32_t *random,
                                        int is_nearest)
{
#if FXP_SSE2
    const int64_t scale = -(int64_t)((uint64_t)rate.m << (32 - k));
    if ((uintptr_t)w % 16 == 0 && n % 8 == 0) {
        *random = fxp_learn_eights(w, x, n, dy, rows, scale, *random, is_nearest, 1);
    } else {
        *random = fxp_learn_eights(w, x, n, dy, rows, scale, *random, is_nearest, 0);
    }
#elif FXP_SMALL_THUMB
    const int is_sparse = fxp_are_sparse(x, n);
    const int32_t step = 2 * (int32_t)n;
    fxp_row_change changes[FXP_CHANGES];
    int count = 0;
    uint32_t draw = *random;
    while (rows > 0) {
        const int32_t m = fxp_next_row(&dy, &w, step, &rows, rate.m, k, &draw, is_nearest);
        const int32_t dither = is_nearest ? 0x8000 : (int32_t)(draw >> 16);
        if (!is_sparse) {
            if (m != 0) {
                fxp_update16(w - n, x, n, m, dither);
            }
            continue;
        }
        if (m != 0) {
            changes[count].end = w;
            changes[count].m = m;
            changes[count++].dither = dither;
        }
        if (count == FXP_CHANGES || rows <= 0) {
            fxp_change_rows(changes, count, x, n);
            count = 0;
        }
    }
    *random = draw;
#undef FXP_CHANGES
#else
    /* What a row begins with lies on the stack. Its loop takes four times eight weights and is
     * entered where the eights that are left over begin; the count lies above the row's factor. */
    const int eights = fxp_are_words(w, x) && (n & 1) == 0 ? n >> 3 : 0;
    const int count = eights == 0 ? n : (((eights - 1) >> 2) * 32) + (n & 7);
    register int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register int r2 __asm__("r2") = 2 * n;
    register const int16_t *r3 __asm__("r3") = dy;
    register int r4 __asm__("r4") = rows;
    register uint32_t r5 __asm__("r5") = *random;
    register int r6 __asm__("r6") = -(int)rate.m;
    register int r8 __asm__("r8") = k;
    register int r9 __asm__("r9") = 32 - k;
    register int r10 __asm__("r10") = FXP_EIGHT_BYTES * (-eights & 3);
    register uint32_t r11 __asm__("r11") = ((uint32_t)count << 16) | (eights == 0 ? 1 : 0);
    if (is_nearest) {
        FXP_LEARN_ROWS("mov lr, #0x8000\n\t");
    } else {
        FXP_LEARN_ROWS(FXP_DRAW("r5") "lsr lr, r5, #16\n\t");
    }
    *random = r5;
#endif
}
#undef FXP_UPDATE_2
#undef FXP_UPDATE_8
#undef FXP_EIGHT_BYTES
#undef FXP_LEARN_ROWS

#define FXP_LEARN_BY_ROWS(name, is_nearest)                                                        \
    static FXP_APART void name(int16_t *w, const int16_t *x, int n, const int16_t *dy, int rows,   \
                               fxp_rate rate, int k, uint32_t *random)                             \
    {                                                                                              \
        if (k < 1 || k > 30 || n > INT16_MAX - 32) {                                               \
            name##_any(w, x, n, dy, rows, rate, k, random);                                        \
        } else {                                                                                   \
            fxp_learn_rows16(w, x, n, dy, rows, rate, k, random, is_nearest);                      \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)
FXP_LEARN_BY_ROWS(fxp_learn16, 0);
FXP_LEARN_BY_ROWS(fxp_learn16_nearest, 1);
#undef FXP_LEARN_BY_ROWS
#elif FXP_MVE
FXP_LEARN(fxp_learn16x8_any, int8_t, fxp_update16x8, (int32_t)(fxp_draw(random) >> 16));
FXP_LEARN(fxp_learn16x8_nearest_any, int8_t, fxp_update16x8, fxp_nearest());

/* Four rows at once. First the rates go into the errors of FXP_FOLDED rows: where something is
 * left, the place of the row and a pair, its factor m and its dither - 2^15, go onto the stack.
 * Twice the product of such a pair and (x[i], 1) is cut to 16 bits; half of that, rounded, is the
 * change, as ((m * x[i] + dither - 2^15) >> 15) + 1 >> 1 is (m * x[i] + dither) >> 16. q0 has pairs
 * (x[i], 1) for even i, q1 has (1, x[i]) for odd ones. Where rows begin at words, sixteen weights
 * of each row learn before the next sixteen, and one instruction loads them. Rows that are left
 * over wait for the next ones; in the end rows that change nothing fill up. The stack has what the
 * folding begins with, then x, how many fours of rows there are and how many weights of a row are
 * no sixteen. */
/* clang-format off */
#define FXP_FOLDED 32
#define FXP_CHANGE(x, y, pairs, change)                                                            \
    "vqdmladh.s16 " change ", " x ", " pairs "\n\t"                                                \
    "vqdmladhx.s16 " change ", " y ", " pairs "\n\t"
#define FXP_LEARN_8(w, pairs) FXP_CHANGE("q0", "q1", pairs, "q2")                                  \
    "vldrh.u16 q3, [" w "]\n\t"                                                                    \
    "vqrdmlah.s16 q3, q2, r10\n\t"                                                                 \
    "vstrh.16 q3, [" w "], #16\n\t"
#define FXP_LEARN_16(w, pair)                                                                      \
    "vdup.32 q4, " pair "\n\t"                                                                     \
    "vldmia " w ", {d12-d15}\n\t"                                                                  \
    FXP_CHANGE("q0", "q1", "q4", "q5") "vqrdmlah.s16 q6, q5, r10\n\t"                              \
    FXP_CHANGE("q2", "q3", "q4", "q5") "vqrdmlah.s16 q7, q5, r10\n\t"                              \
    "vstmia " w "!, {d12-d15}\n\t"
#define FXP_PAIR_WITH_1(even, odd)                                                                 \
    "vmovnb.i32 " even ", " odd "\n\t"                                                             \
    "vsri.32 " odd ", " even ", #16\n\t"
/* Of a factor in r3: the pair of it and a dither that is drawn, or that is 2^15. */
#define FXP_STOCHASTIC FXP_DRAW("r1") "pkhbt r3, r3, r1\n\t" "eor r3, r3, #0x80000000\n\t"
#define FXP_NEAREST "uxth r3, r3\n\t"
#define FXP_LEARN_MVE(name, x_type, load_one, load_x, pair)                                        \
    static FXP_OUTLINE void name(int16_t *w, const x_type *x, int n, const x_type *dy, int rows,   \
                                 fxp_rate rate, int k, uint32_t *random)                           \
    {                                                                                              \
        if (k < 1 || k > 30 || rows < 1) {                                                         \
            name##_any(w, x, n, dy, rows, rate, k, random);                                        \
            return;                                                                                \
        }                                                                                          \
        const int sixteens = (((uintptr_t)w | (uintptr_t)n << 1) & 3u) == 0 ? n & ~15 : 0;         \
        register const x_type *r0 __asm__("r0") = dy;                                              \
        register uint32_t r1 __asm__("r1") = *random;                                              \
        register int16_t *r2 __asm__("r2") = w;                                                    \
        register int r3 __asm__("r3") = rows;                                                      \
        register int r4 __asm__("r4") = -(int)rate.m;                                              \
        register int r5 __asm__("r5") = k;                                                         \
        register int r6 __asm__("r6") = n;                                                         \
        register const x_type *r8 __asm__("r8") = x + sixteens;                                    \
        register const x_type *r9 __asm__("r9") = x;                                               \
        register int r10 __asm__("r10") = 0x4000;                                                  \
        register int r11 __asm__("r11") = n - sixteens;                                            \
        __asm__ volatile("push {r7}\n\t"                                                           \
                         "sub sp, sp, #(44 + 8 * (" FXP_TEXT(FXP_FOLDED) " + 6))\n\t"              \
                         "lsl r7, r6, #1\n\t"                                                      \
                         "rsb r6, r5, #32\n\t"                                                     \
                         "stm sp, {r0, r1, r2, r3, r4, r5, r6, r7, r9}\n\t"                        \
                         "str r11, [sp, #40]\n\t"                                                  \
                         "vmov.i32 q0, #0x10000\n\t"                                               \
                         "vmov.i32 q2, #0x10000\n\t"                                               \
                         "add r11, sp, #44\n"                                                      \
                         "1:\n\t"                                                                  \
                         "mov lr, #" FXP_TEXT(FXP_FOLDED) "\n\t"                                   \
                         "cmp r3, lr\n\t"                                                          \
                         "it lt\n\t"                                                               \
                         "movlt lr, r3\n\t"                                                        \
                         "sub r3, r3, lr\n\t"                                                      \
                         "str r3, [sp, #12]\n\t"                                                   \
                         "dls lr, lr\n"                                                            \
                         "2:\n\t" load_one("r3", "r0")                                             \
                         "cbz r3, 3f\n\t" FXP_DRAW("r1")                                           \
                         "lsr r12, r1, r6\n\t"                                                     \
                         "mla r3, r3, r4, r12\n\t"                                                 \
                         "asrs r3, r3, r5\n\t"                                                     \
                         "beq 3f\n\t"                                                              \
                         "ssat r3, #16, r3\n\t" pair                                               \
                         "strd r2, r3, [r11], #8\n"                                                \
                         "3:\n\t"                                                                  \
                         "add r2, r2, r7\n\t"                                                      \
                         "le lr, 2b\n\t"                                                           \
                         "stm sp, {r0, r1, r2}\n\t"                                                \
                         "ldr r3, [sp, #12]\n\t"                                                   \
                         "cbnz r3, 4f\n\t"                                                         \
                         "sub r2, r2, r7\n\t"                                                      \
                         "mov r3, #0x80000000\n\t"                                                 \
                         "strd r2, r3, [r11], #8\n\t"                                              \
                         "strd r2, r3, [r11], #8\n\t"                                              \
                         "strd r2, r3, [r11], #8\n"                                                \
                         "4:\n\t"                                                                  \
                         "add r12, sp, #44\n\t"                                                    \
                         "sub lr, r11, r12\n\t"                                                    \
                         "lsrs lr, lr, #5\n\t"                                                     \
                         "beq 9f\n\t"                                                              \
                         "str lr, [sp, #36]\n\t"                                                   \
                         "ldr r9, [sp, #32]\n\t"                                                   \
                         "cmp r9, r8\n\t"                                                          \
                         "beq 7f\n"                                                                \
                         "5:\n\t" /* sixteen weights of all rows */                                \
                         "mov r7, r9\n\t" load_x("q1", "r7") FXP_PAIR_WITH_1("q0", "q1")           \
                         load_x("q3", "r7") FXP_PAIR_WITH_1("q2", "q3")                            \
                         "mov r9, r7\n\t"                                                          \
                         "add r12, sp, #44\n\t"                                                    \
                         "ldr lr, [sp, #36]\n\t"                                                   \
                         "dls lr, lr\n"                                                            \
                         "6:\n\t"                                                                  \
                         "ldm r12, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"                           \
                         FXP_LEARN_16("r0", "r1") FXP_LEARN_16("r2", "r3")                         \
                         FXP_LEARN_16("r4", "r5") FXP_LEARN_16("r6", "r7")                         \
                         "stm r12!, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"                          \
                         "le lr, 6b\n\t"                                                           \
                         "cmp r9, r8\n\t"                                                          \
                         "bne 5b\n"                                                                \
                         "7:\n\t" /* what is left of the rows */                                   \
                         "ldr r3, [sp, #40]\n\t"                                                   \
                         "cmp r3, #0\n\t"                                                          \
                         "beq 9f\n\t"                                                              \
                         "add r12, sp, #44\n"                                                      \
                         "7:\n\t"                                                                  \
                         "ldm r12!, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"                          \
                         "vdup.32 q4, r1\n\t"                                                      \
                         "vdup.32 q5, r3\n\t"                                                      \
                         "vdup.32 q6, r5\n\t"                                                      \
                         "vdup.32 q7, r7\n\t"                                                      \
                         "mov r1, r9\n\t"                                                          \
                         "ldr lr, [sp, #40]\n\t"                                                   \
                         "dlstp.16 lr, lr\n"                                                       \
                         "8:\n\t" load_x("q1", "r1") FXP_PAIR_WITH_1("q0", "q1")                   \
                         FXP_LEARN_8("r0", "q4") FXP_LEARN_8("r2", "q5")                           \
                         FXP_LEARN_8("r4", "q6") FXP_LEARN_8("r6", "q7")                           \
                         "letp lr, 8b\n\t"                                                         \
                         "ldr r3, [sp, #36]\n\t"                                                   \
                         "subs r3, r3, #1\n\t"                                                     \
                         "str r3, [sp, #36]\n\t"                                                   \
                         "bne 7b\n\t"                                                              \
                         "vmov.i32 q2, #0x10000\n"                                                 \
                         "9:\n\t"                                                                  \
                         "ldr r3, [sp, #12]\n\t"                                                   \
                         "cbz r3, 9f\n\t"                                                          \
                         "ldm r12, {r0, r1, r2, r3, r4, r5}\n\t"                                   \
                         "add lr, sp, #44\n\t"                                                     \
                         "stm lr, {r0, r1, r2, r3, r4, r5}\n\t"                                    \
                         "sub r11, r11, r12\n\t"                                                   \
                         "add r11, r11, lr\n\t"                                                    \
                         "ldm sp, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"                            \
                         "b 1b\n"                                                                  \
                         "9:\n\t"                                                                  \
                         "ldr r1, [sp, #4]\n\t"                                                    \
                         "add sp, sp, #(44 + 8 * (" FXP_TEXT(FXP_FOLDED) " + 6))\n\t"              \
                         "pop {r7}"                                                                \
                         : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),   \
                           "+r"(r9), "+r"(r11)                                                     \
                         : "r"(r8), "r"(r10)                                                       \
                         : "r12", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc",      \
                           "memory");                                                              \
        *random = r1;                                                                              \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)
#define FXP_TEXT_OF(number) #number
#define FXP_TEXT(number) FXP_TEXT_OF(number)
#define FXP_ONE16(v, at) "ldrsh " v ", [" at "], #2\n\t"
#define FXP_ONE8(v, at) "ldrsb " v ", [" at "], #1\n\t"
FXP_LEARN_MVE(fxp_learn16, int16_t, FXP_ONE16, FXP_EIGHT16, FXP_STOCHASTIC);
FXP_LEARN_MVE(fxp_learn16_nearest, int16_t, FXP_ONE16, FXP_EIGHT16, FXP_NEAREST);
FXP_LEARN_MVE(fxp_learn16x8, int8_t, FXP_ONE8, FXP_EIGHT8_HIGH, FXP_STOCHASTIC);
FXP_LEARN_MVE(fxp_learn16x8_nearest, int8_t, FXP_ONE8, FXP_EIGHT8_HIGH, FXP_NEAREST);
/* clang-format on */
#undef FXP_FOLDED
#undef FXP_CHANGE
#undef FXP_LEARN_8
#undef FXP_LEARN_16
#undef FXP_PAIR_WITH_1
#undef FXP_STOCHASTIC
#undef FXP_NEAREST
#undef FXP_LEARN_MVE
#undef FXP_TEXT_OF
#undef FXP_TEXT
#undef FXP_ONE16
#undef FXP_ONE8
#else
FXP_LEARN(fxp_learn16, int16_t, fxp_update16, (int32_t)(fxp_draw(random) >> 16));
FXP_LEARN(fxp_learn16_nearest, int16_t, fxp_update16, fxp_nearest());
#endif
#if !FXP_MVE
FXP_LEARN(fxp_learn16x8, int8_t, fxp_update16x8, (int32_t)(fxp_draw(random) >> 16));
FXP_LEARN(fxp_learn16x8_nearest, int8_t, fxp_update16x8, fxp_nearest());
#endif
#undef FXP_LEARN
#undef FXP_DRAW

/* Where a half unit fits the numbers that are shortened; AVR has a shorter way for all. */
#ifdef __AVR__
#define FXP_ADDS_HALF(shift) 0
#define FXP_RARE_CHANGE fxp_change
#else
#define FXP_ADDS_HALF(shift) ((shift) >= 1 && (shift) <= 30)
#define FXP_RARE_CHANGE fxp_change_any
#endif

/* b[i] -= m * dy[i], `shift` bits shorter, rounded to nearest and saturated. */
#if FXP_MVE
/* clang-format off */
#define FXP_UPDATE_BIASES(bits, load_dy)                                                           \
    static FXP_OUTLINE void fxp_update_biases##bits(int32_t *b, const int##bits##_t *dy, int n,    \
                                                    uint8_t m, int shift)                          \
    {                                                                                              \
        __asm__ volatile("dlstp.32 lr, %[n]\n"                                                     \
                         "1:\n\t" load_dy                                                          \
                         "vmul.i32 q0, q0, %[m]\n\t"                                               \
                         "vqrshl.s32 q0, %[up]\n\t"                                                \
                         "vldrw.u32 q1, [%[b]]\n\t"                                                \
                         "vqadd.s32 q1, q1, q0\n\t"                                                \
                         "vstrw.32 q1, [%[b]], #16\n\t"                                            \
                         "letp lr, 1b"                                                             \
                         : [b] "+r"(b), [dy] "+l"(dy)                                              \
                         : [n] "r"(n), [m] "r"(-(int32_t)m), [up] "r"(-fxp_near_shift(shift))      \
                         : "lr", "q0", "q1", "memory");                                            \
    }                                                                                              \
    FXP_ASSERT(fxp_update_biases##bits##_is_a_function, 1)
FXP_UPDATE_BIASES(16, "vldrh.s32 q0, [%[dy]], #8\n\t");
FXP_UPDATE_BIASES(8, "vldrb.s32 q0, [%[dy]], #4\n\t");
/* clang-format on */
#else
#if FXP_DSP
#define FXP_TWO_BIASES16                                                                           \
    for (; n >= 2; n -= 2, b += 2, dy += 2) {                                                      \
        const int16x2_t pair = fxp_pair(dy);                                                       \
        b[0] = fxp_add32(b[0], __smlabb(pair, -(int32_t)m, half) >> shift);                        \
        b[1] = fxp_add32(b[1], __smlatb(pair, -(int32_t)m, half) >> shift);                        \
    }                                                                                              \
    (void)0
#else
#define FXP_TWO_BIASES16 (void)0
#endif
#define FXP_TWO_BIASES8 (void)0
#define FXP_UPDATE_BIASES(bits)                                                                    \
    static FXP_LAYER void fxp_update_biases##bits(int32_t *b, const int##bits##_t *dy, int n,      \
                                                  uint8_t m, int shift)                            \
    {                                                                                              \
        if (FXP_ADDS_HALF(shift)) {                                                                \
            const int32_t half = (int32_t)1 << (shift - 1);                                        \
            FXP_TWO_BIASES##bits;                                                                  \
            for (; n > 0; n--, b++) {                                                              \
                *b = fxp_add32(*b, (half - fxp_times16(*dy++, m)) >> shift);                       \
            }                                                                                      \
        }                                                                                          \
        for (; n > 0; n--, b++) {                                                                  \
            *b = fxp_add32(*b, FXP_RARE_CHANGE(-fxp_times16(*dy++, m), shift));                    \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(fxp_update_biases##bits##_is_a_function, 1)
FXP_UPDATE_BIASES(16);
FXP_UPDATE_BIASES(8);
#undef FXP_TWO_BIASES16
#undef FXP_TWO_BIASES8
#endif
#undef FXP_UPDATE_BIASES

static FXP_OUTLINE int32_t fxp_updated_bias(int32_t b, int32_t sum, uint8_t m, int shift)
{
    return fxp_add32(b, (int32_t)fxp_narrow((int64_t)sum * -(int32_t)m, shift, 32));
}

/* The same for sums over positions: dy has n errors, of `count` channels in turn. */
#define FXP_UPDATE_BIASES_OF(bits)                                                                 \
    static FXP_OUTLINE void fxp_update_biases_of##bits(int32_t *b, const int##bits##_t *dy, int n, \
                                                       int count, uint8_t m, int shift)            \
    {                                                                                              \
        int c = 0;                                                                                 \
        FXP_SUM_CHANNELS##bits;                                                                    \
        for (; c < count; c++) {                                                                   \
            int32_t sum = 0;                                                                       \
            for (int i = c; i < n; i += count) {                                                   \
                sum += dy[i];                                                                      \
            }                                                                                      \
            b[c] = fxp_updated_bias(b[c], sum, m, shift);                                          \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(fxp_update_biases_of##bits##_is_a_function, 1)
#if FXP_MVE
/* Four channels at once. */
#define FXP_SUM_CHANNELS(four, bytes)                                                              \
    for (; c + 4 <= count && n >= count; c += 4) {                                                 \
        int32_t sums[4];                                                                           \
        const void *at = &dy[c];                                                                   \
        __asm__ volatile("vmov.i32 q0, #0\n\t"                                                     \
                         "dls lr, %[positions]\n"                                                  \
                         "1:\n\t" four " q1, [%[at]]\n\t"                                          \
                         "vadd.i32 q0, q0, q1\n\t"                                                 \
                         "add %[at], %[at], %[step]\n\t"                                           \
                         "le lr, 1b\n\t"                                                           \
                         "vstrw.32 q0, [%[sums]]"                                                  \
                         : [at] "+l"(at)                                                           \
                         : [sums] "r"(sums), [positions] "r"(n / count), [step] "r"(bytes * count) \
                         : "lr", "q0", "q1", "memory");                                            \
        for (int j = 0; j < 4; j++) {                                                              \
            b[c + j] = fxp_updated_bias(b[c + j], sums[j], m, shift);                              \
        }                                                                                          \
    }                                                                                              \
    (void)0
#define FXP_SUM_CHANNELS16 FXP_SUM_CHANNELS("vldrh.s32", 2)
#define FXP_SUM_CHANNELS8 FXP_SUM_CHANNELS("vldrb.s32", 1)
#elif FXP_DSP
#define FXP_SUM_CHANNELS16                                                                         \
    for (; c + 2 <= count; c += 2) {                                                               \
        int32_t even = 0, odd = 0;                                                                 \
        for (int i = c; i < n; i += count) {                                                       \
            const int16x2_t pair = fxp_pair(&dy[i]);                                               \
            even += (int16_t)pair;                                                                 \
            odd += (int32_t)pair >> 16;                                                            \
        }                                                                                          \
        b[c] = fxp_updated_bias(b[c], even, m, shift);                                             \
        b[c + 1] = fxp_updated_bias(b[c + 1], odd, m, shift);                                      \
    }                                                                                              \
    (void)0
#elif FXP_SMALL_THUMB
#define FXP_SUM_CHANNELS16                                                                         \
    for (; c < count && n > 0; c++) {                                                              \
        int32_t sum = 0, at = -2 * (int32_t)n, error;                                              \
        __asm__ volatile(".syntax unified\n"                                                       \
                         "1:\n\t"                                                                  \
                         "ldrsh %[e], [%[dy], %[at]]\n\t"                                          \
                         "adds %[sum], %[sum], %[e]\n\t"                                           \
                         "adds %[at], %[at], %[step]\n\t"                                          \
                         "bne 1b"                                                                  \
                         : [sum] "+l"(sum), [at] "+l"(at), [e] "=&l"(error)                        \
                         : [dy] "l"(dy + n + c), [step] "l"(2 * (int32_t)count)                    \
                         : "cc", "memory");                                                        \
        b[c] = fxp_updated_bias(b[c], sum, m, shift);                                              \
    }                                                                                              \
    (void)0
#else
#define FXP_SUM_CHANNELS16 (void)0
#endif
#if !FXP_MVE
#define FXP_SUM_CHANNELS8 (void)0
#endif
FXP_UPDATE_BIASES_OF(16);
FXP_UPDATE_BIASES_OF(8);
#undef FXP_UPDATE_BIASES_OF
#undef FXP_SUM_CHANNELS
#undef FXP_SUM_CHANNELS16
#undef FXP_SUM_CHANNELS8

#if FXP_SMALL_THUMB
/* clang-format off */
/* The same as below for 1 <= k <= 30. */
static FXP_OUTLINE void fxp_descend16_usual(int16_t *w, const int32_t *gradient, int n, int k,
                                            int32_t m, int32_t dither)
{
    register const int32_t *r0 __asm__("r0") = gradient;
    register int16_t *r1 __asm__("r1") = w + n;
    register int32_t r2 __asm__("r2") = -2 * (int32_t)n;
    register int r3 __asm__("r3") = k;
    register int32_t r4 __asm__("r4") = m;
    register int32_t r5 __asm__("r5") = (int32_t)1 << (k - 1);
    register int32_t r6 __asm__("r6") = dither;
    __asm__ volatile(".syntax unified\n\t"
                     "mov r8, r5\n\t"
                     "mov r9, r6\n"
                     "1:\n\t"
                     "ldmia r0!, {r6}\n\t"
                     "mov r5, r8\n\t"
                     "subs r5, r5, r6\n\t"
                     "asrs r5, r3\n\t"
                     "lsls r6, r5, #8\n\t"
                     "asrs r6, r6, #8\n\t"
                     "cmp r6, r5\n\t"
                     "beq 2f\n\t"
                     "asrs r5, r5, #31\n\t"
                     "movs r6, #1\n\t"
                     "lsls r6, r6, #23\n\t"
                     "subs r6, r6, #1\n\t"
                     "eors r5, r6\n"
                     "2:\n\t"
                     "muls r5, r4, r5\n\t"
                     "add r5, r9\n\t"
                     "ldrh r6, [r1, r2]\n\t"
                     "lsls r6, r6, #16\n\t"
                     "adds r6, r6, r5\n\t" FXP_SATURATE("r6", "r5")
                     "lsrs r6, r6, #16\n\t"
                     "strh r6, [r1, r2]\n\t"
                     "adds r2, r2, #2\n\t"
                     "bne 1b"
                     : "+r"(r0), "+r"(r2), "+r"(r5), "+r"(r6)
                     : "r"(r1), "r"(r3), "r"(r4)
                     : "r8", "r9", "cc", "memory");
}
/* clang-format on */
#define FXP_DESCEND_AT_ONCE16                                                                      \
    if (n > 0) {                                                                                   \
        fxp_descend16_usual(w, gradient, n, k, m, dither);                                         \
        return;                                                                                    \
    }                                                                                              \
    (void)0
#else
#define FXP_DESCEND_AT_ONCE16 (void)0
#endif
#define FXP_DESCEND_AT_ONCE8 (void)0

/* w[i] -= m * gradient[i], which is k + 16 bits shorter and rounded by the dither; |gradient| is at
 * most 2^30, and has 24 bits where it meets m. */
#if FXP_MVE
/* clang-format off */
#define FXP_DESCEND(bits, load_w, store_w)                                                         \
    static FXP_OUTLINE void fxp_descend##bits(int##bits##_t *w, const int32_t *gradient, int n,    \
                                              int k, int32_t m, int32_t dither)                    \
    {                                                                                              \
        if (k > 30) {                                                                              \
            return; /* nothing is left of any */                                                   \
        }                                                                                          \
        __asm__ volatile("dlstp.32 lr, %[n]\n"                                                     \
                         "1:\n\t"                                                                  \
                         "vldrw.u32 q0, [%[gradient]], #16\n\t"                                    \
                         "vneg.s32 q0, q0\n\t"                                                     \
                         "vqrshl.s32 q0, %[up]\n\t"                                                \
                         "vqshl.s32 q0, q0, #8\n\t" /* 24 bits */                                  \
                         "vshr.s32 q0, q0, #8\n\t"                                                 \
                         "vmul.i32 q0, q0, %[m]\n\t"                                               \
                         "vadd.i32 q0, q0, %[dither]\n\t"                                          \
                         "vshr.s32 q0, q0, #16\n\t" load_w                                         \
                         "vadd.i32 q0, q0, q1\n\t"                                                 \
                         "vqmovnb.s32 q0, q0\n\t" store_w                                          \
                         "letp lr, 1b"                                                             \
                         : [w] "+l"(w), [gradient] "+r"(gradient)                                  \
                         : [n] "r"(n), [up] "r"(fxp_near_shift(-k)), [m] "r"(m),                   \
                           [dither] "r"(dither)                                                    \
                         : "lr", "q0", "q1", "memory");                                            \
    }                                                                                              \
    FXP_ASSERT(fxp_descend##bits##_is_a_function, 1)
FXP_DESCEND(16, "vldrh.s32 q1, [%[w]]\n\t", "vstrh.32 q0, [%[w]], #8\n\t");
FXP_DESCEND(8, "vldrb.s32 q1, [%[w]]\n\t", "vqmovnb.s16 q0, q0\n\tvstrb.32 q0, [%[w]], #4\n\t");
/* clang-format on */
#else
#define FXP_DESCEND(bits)                                                                          \
    static FXP_OUTLINE void fxp_descend##bits(int##bits##_t *w, const int32_t *gradient, int n,    \
                                              int k, int32_t m, int32_t dither)                    \
    {                                                                                              \
        if (k > 30) {                                                                              \
            return; /* nothing is left of any */                                                   \
        }                                                                                          \
        if (FXP_ADDS_HALF(k)) {                                                                    \
            FXP_DESCEND_AT_ONCE##bits;                                                             \
            const int32_t half = (int32_t)1 << (k - 1);                                            \
            FXP_TWO_WEIGHTS##bits;                                                                 \
            for (; n > 0; n--, w++) {                                                              \
                const int32_t step = fxp_sat24((half - *gradient++) >> k);                         \
                *w = fxp_sat##bits(*w + ((step * m + dither) >> 16));                              \
            }                                                                                      \
        }                                                                                          \
        for (; n > 0; n--, w++) {                                                                  \
            *w = fxp_sat##bits(*w + ((fxp_step24(*gradient++, k) * m + dither) >> 16));            \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(fxp_descend##bits##_is_a_function, 1)
#if FXP_DSP
#define FXP_TWO_WEIGHTS16                                                                          \
    for (; n >= 2; n -= 2, w += 2, gradient += 2) {                                                \
        const int32_t first = fxp_sat24((half - gradient[0]) >> k) * m + dither;                   \
        const int32_t second = fxp_sat24((half - gradient[1]) >> k) * m + dither;                  \
        const int16x2_t sum = __qadd16(fxp_pair(w), fxp_upper(first, second));                     \
        memcpy(w, &sum, 4);                                                                        \
    }                                                                                              \
    (void)0
#else
#define FXP_TWO_WEIGHTS16 (void)0
#endif
#define FXP_TWO_WEIGHTS8 (void)0
FXP_DESCEND(16);
FXP_DESCEND(8);
#endif
#undef FXP_DESCEND
#undef FXP_DESCEND_AT_ONCE16
#undef FXP_DESCEND_AT_ONCE8
#undef FXP_SATURATE
#undef FXP_TWO_WEIGHTS16
#undef FXP_TWO_WEIGHTS8
#undef FXP_ADDS_HALF
#undef FXP_RARE_CHANGE
#endif
