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
 * stack has x, the place of the bias, its factor, where products begin, the end of the sums; r7 has
 * the place of the next sum, r12 and lr are the sum. */
#define FXP_ROW_BEGIN                                                                              \
    "ldm sp, {r1, r3, r4, r5, r8}\n\t"                                                             \
    "ldr r6, [r3], #4\n\t"                                                                         \
    "str r3, [sp, #4]\n\t"                                                                         \
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
/* clang-format off */
/* The products of a row that begins at words and has eight or more, up to r2 in x. Pairs that are
 * left over come first, then `on` in four bytes to the loop, which takes four times eight and is
 * entered where the eights that are left over begin. */
#define FXP_ROW_AT_WORDS(on)                                                                       \
    "subs r5, r2, r1\n\t"                                                                          \
    "ubfx r5, r5, #1, #3\n"                                                                        \
    "3:\n\t" FXP_ROW_2                                                                             \
    "subs r5, r5, #2\n\t"                                                                          \
    "bne 3b\n\t" on                                                                                \
    "2:\n\t" FXP_ROW_8 FXP_ROW_8 FXP_ROW_8 FXP_ROW_8                                               \
    "cmp r1, r2\n\t"                                                                               \
    "bne 2b\n"
#define FXP_ROW_PAIRS_BYTES 26 /* of the code up to the loop */
#define FXP_ROW_8_BYTES 24     /* instructions of four bytes each */
/* Those of a row that begins anywhere; r5 counts. */
#define FXP_ROW_ANYWHERE                                                                           \
    "subs r5, r2, r1\n\t"                                                                          \
    "lsrs r5, r5, #1\n\t"                                                                          \
    "subs r5, r5, #8\n\t"                                                                          \
    "blt 11f\n"                                                                                    \
    "10:\n\t" FXP_ROW_2 FXP_ROW_2 FXP_ROW_2 FXP_ROW_2                                              \
    "subs r5, r5, #8\n\t"                                                                          \
    "bge 10b\n"                                                                                    \
    "11:\n\t"                                                                                      \
    "adds r5, r5, #6\n\t"                                                                          \
    "blt 13f\n"                                                                                    \
    "12:\n\t" FXP_ROW_2                                                                            \
    "subs r5, r5, #2\n\t"                                                                          \
    "bge 12b\n"                                                                                    \
    "13:\n\t"                                                                                      \
    "adds r5, r5, #1\n\t"                                                                          \
    "blt 14f\n\t"                                                                                  \
    "ldrsh r3, [r1]\n\t"                                                                           \
    "ldrsh r4, [r0], #2\n\t"                                                                       \
    "smlalbb r12, lr, r3, r4\n"                                                                    \
    "14:\n\t"
/* Those with at most nine numbers in r1, r2, r3, r5, r6. */
#define FXP_FEW_PRODUCTS(t)                                                                        \
    FXP_FEW_2(t, "r1") FXP_FEW_2(t, "r2") FXP_FEW_2(t, "r3") FXP_FEW_2(t, "r5")                    \
    "ldrsh " t ", [r0], #2\n\t"                                                                    \
    "smlald r12, lr, " t ", r6\n\t"
#define FXP_FEW_2(t, x) "ldr " t ", [r0], #4\n\tsmlald r12, lr, " t ", " x "\n\t"
/* clang-format on */

/* Whether all rows of n begin at words and have eight products. */
static FXP_INLINE int fxp_are_rows_at_words(const int16_t *w, const int16_t *x, int n)
{
    return (((uintptr_t)w | (uintptr_t)x | (uintptr_t)n << 1) & 3u) == 0 && n >= 8;
}

/* Where the loop for a row that begins at words is entered, in bytes, and where its code is. */
static FXP_INLINE int fxp_row_eights(int n)
{
    return FXP_ROW_8_BYTES * (-(n >> 3) & 3);
}

static FXP_INLINE int fxp_row_entry(int n)
{
    return (n & 7) == 0 ? FXP_ROW_PAIRS_BYTES + fxp_row_eights(n) : 0;
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
    const int32_t first = n > 7 ? fxp_pair(x + n - 9) : 0;
    const int32_t second = n > 5 ? fxp_pair(x + n - 7) : 0;
    const int32_t third = n > 3 ? fxp_pair(x + n - 5) : 0;
    const int32_t fourth = n > 1 ? fxp_pair(x + n - 3) : 0;
    register const int16_t *r0 __asm__("r0") = w;
    register int32_t r1 __asm__("r1") = first;
    register int32_t r2 __asm__("r2") = second;
    register int32_t r3 __asm__("r3") = third;
    register int32_t r4 __asm__("r4") = factor;
    register int32_t r5 __asm__("r5") = fourth;
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
                     "add pc, r11\n\t"
                     "nop\n\t"
                     FXP_FEW_PRODUCTS("r7")
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

#if FXP_MVE
/* As fxp_rows16 does one row after the other. */
static FXP_OUTLINE void fxp_few_rows16(const int16_t *w, const int16_t *x, int n, const int32_t *b,
                                       int f, int rows, int64_t *sums)
{
    FXP_SUM_ROWS(fxp_dot16(w, x, n));
}
#endif

/* sums[j] = b[j] with f fraction bits (0 without b) + sum of w[j * n + i] * x[i], exact, for
 * j < rows; f is at most 30 more than biases have */
static FXP_OUTLINE void fxp_rows16(const int16_t *w, const int16_t *x, int n, const int32_t *b,
                                   int f, int rows, int64_t *sums)
{
#if FXP_MVE
    /* Biases that are shortened lie where sums have not been stored yet, which those of five rows
     * would not. Without any, 0 times what lies there is added. */
    const int up = f - FXP_BIAS_FRACTION;
    const int32_t *first = b;
    int32_t factor = 1;
    if (rows < 4 || (rows == 5 && b != NULL && up < 0)) {
        fxp_few_rows16(w, x, n, b, f, rows, sums);
        return;
    }
    if (b == NULL) {
        first = (const int32_t *)(const void *)sums;
        factor = 0;
    } else if (up >= 0) {
        factor <<= up;
    } else {
        int32_t *const place = (int32_t *)(void *)sums + rows;
        fxp_shorten_biases(b, up, rows, place);
        first = place;
    }
    fxp_rows_by_four16(w, x, n, first, factor, rows, sums);
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
    const int is_at_words = fxp_are_rows_at_words(w, x, n);
    /* What a row begins with lies on the stack. */
    register const int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register const int16_t *r2 __asm__("r2") = x + n;
    register const int32_t *r3 __asm__("r3") = first;
    register int32_t r4 __asm__("r4") = factor;
    register int r5 __asm__("r5") = fxp_row_entry(n);
    register int64_t *r6 __asm__("r6") = sums;
    register int r8 __asm__("r8") = fxp_row_eights(n);
    register int64_t *r9 __asm__("r9") = sums + rows;
    register int r10 __asm__("r10") = is_at_words;
    /* clang-format off */
    __asm__ volatile("push {r7}\n\t"
                     "push {r1, r3, r4, r5, r8, r9}\n\t"
                     "mov r7, r6\n\t"
                     "cmp r10, #0\n\t"
                     "beq 5f\n"
                     "1:\n\t" FXP_ROW_BEGIN "add pc, r5\n\tnop\n\t"
                     FXP_ROW_AT_WORDS("add pc, r8\n\tnop\n") FXP_ROW_END
                     "bne 1b\n\t"
                     "b 9f\n"
                     "5:\n\t" /* rows that begin anywhere */
                     FXP_ROW_BEGIN FXP_ROW_ANYWHERE FXP_ROW_END "bne 5b\n"
                     "9:\n\t"
                     "add sp, sp, #24\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r8),
                       "+r"(r9), "+r"(r10)
                     : "r"(r2)
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
#define FXP_WIDENED 128 /* numbers that the stack has at once */
static FXP_OUTLINE void fxp_rows16x8(const int16_t *w, const int8_t *x, int n, const int32_t *b,
                                     int f, int rows, int64_t *sums)
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows16x8, fxp_dot16x8(w, x, n))
#elif FXP_DSP
    int16_t wide[FXP_WIDENED];
    for (int at = 0; at < n; at += FXP_WIDENED) {
        const int count = fxp_part(n - at, FXP_WIDENED);
        fxp_widen(wide, x + at, count);
        if (count == n) {
            fxp_rows16(w, wide, n, b, f, rows, sums);
            return;
        }
        for (int j = 0; j < rows; j++) {
            int64_t part;
            fxp_rows16(&w[j * n + at], wide, count, at == 0 && b != NULL ? &b[j] : NULL, f, 1,
                       &part);
            sums[j] = at == 0 ? part : sums[j] + part;
        }
    }
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

#if FXP_DSP && !FXP_MVE
/* Eights of numbers of 8 bits as pairs of 16: of each four, the even ones are the first pair. */
static FXP_INLINE void fxp_widen_apart(int32_t *pairs, const int8_t *from, int eights)
{
    register int32_t *r0 __asm__("r0") = pairs;
    register const int8_t *r1 __asm__("r1") = from;
    register int r2 __asm__("r2") = eights;
    if (eights > 0) {
        __asm__ volatile("1:\n\t"
                         "ldr r4, [r1], #4\n\t"
                         "ldr r6, [r1], #4\n\t"
                         "sxtb16 r3, r4\n\t"
                         "sxtb16 r4, r4, ror #8\n\t"
                         "sxtb16 r5, r6\n\t"
                         "sxtb16 r6, r6, ror #8\n\t"
                         "stm r0!, {r3, r4, r5, r6}\n\t"
                         "subs r2, r2, #1\n\t"
                         "bgt 1b"
                         : "+r"(r0), "+r"(r1), "+r"(r2)
                         :
                         : "r3", "r4", "r5", "r6", "cc", "memory");
    }
}

/* sum + a sum of products with such numbers; it fits 32 bits */
static FXP_INLINE int32_t fxp_add_dot8(int32_t sum, const int8_t *w, const int32_t *x, int eights)
{
    register const int8_t *r0 __asm__("r0") = w;
    register const int32_t *r1 __asm__("r1") = x;
    register int r2 __asm__("r2") = eights;
    register int32_t r3 __asm__("r3") = sum;
    if (eights > 0) {
        __asm__ volatile("1:\n\t"
                         "ldr r4, [r0], #4\n\t"
                         "ldr r5, [r0], #4\n\t"
                         "ldm r1!, {r8, r9, r10, r11}\n\t"
                         "sxtb16 r6, r4\n\t"
                         "sxtb16 r4, r4, ror #8\n\t"
                         "smlad r3, r6, r8, r3\n\t"
                         "smlad r3, r4, r9, r3\n\t"
                         "sxtb16 r6, r5\n\t"
                         "sxtb16 r5, r5, ror #8\n\t"
                         "smlad r3, r6, r10, r3\n\t"
                         "smlad r3, r5, r11, r3\n\t"
                         "subs r2, r2, #1\n\t"
                         "bgt 1b"
                         : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3)
                         :
                         : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "cc", "memory");
    }
    return r3;
}
#endif

static FXP_OUTLINE void fxp_rows8(const int8_t *w, const int8_t *x, int n, const int32_t *b, int f,
                                  int rows, int64_t *sums)
{
#if FXP_MVE
    FXP_ROWS_MVE(fxp_four_rows8, fxp_dot8(w, x, n))
#elif FXP_DSP
    int32_t pairs[FXP_WIDENED / 2];
    for (int j = 0; j < rows; j++) {
        sums[j] = b == NULL ? 0 : fxp_bias(b[j], f);
    }
    for (int at = 0; at < n; at += FXP_WIDENED) {
        const int count = fxp_part(n - at, FXP_WIDENED), eights = count >> 3;
        fxp_widen_apart(pairs, x + at, eights);
        for (int j = 0; j < rows; j++) {
            const int8_t *const row = &w[j * n + at];
            int32_t part = 0;
            for (int i = 8 * eights; i < count; i++) {
                part += row[i] * x[at + i];
            }
            sums[j] += fxp_add_dot8(part, row, pairs, eights);
        }
    }
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
