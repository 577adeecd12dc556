/* ---- sums that are stored at once ------------------------------------------------------------ */

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
/* Such rows by a store whose shift is not usual, or where the others take no such rows. */
static FXP_OUTLINE void fxp_stored_rows16_any(fxp_store *store, const fxp_layer *layer,
                                              const int16_t *w, const int16_t *x, int n, int how,
                                              int16_t *out, const int16_t *y)
{
    for (int j = 0; j < layer->rows; j++, w += n) {
        int32_t q = 0;
        if (how != FXP_AS_MASKED || y[j] > 0) {
            int64_t sum = layer->b == NULL ? 0 : (int64_t)layer->b[j] * layer->factor;
            sum = layer->factor < 0 ? (((int64_t)1 << 31) - sum) >> 32 : sum;
            for (int i = n & 1; i < n; i += 2) {
                sum = __smlald(fxp_pair(&w[i]), fxp_pair(&x[i]), sum);
            }
            sum += (n & 1) != 0 ? (int32_t)*w * *x : 0;
            if (how != FXP_AS_POSITIVE || sum > 0) {
                q = fxp_settle16_any(store, sum);
                q = q == 0 && how == FXP_AS_POSITIVE ? 1 : q;
            }
        }
        out[j] = (int16_t)q;
    }
}

/* clang-format off */
/* The magnitude of a sum is joined to the peak. */
#define FXP_JOIN_SUM(low, high, peak_low, peak_high, t)                                            \
    "eor " t ", " low ", " high ", asr #31\n\t"                                                    \
    "orr " peak_low ", " peak_low ", " t "\n\t"                                                    \
    "eor " t ", " high ", " high ", asr #31\n\t"                                                   \
    "orr " peak_high ", " peak_high ", " t "\n\t"
/* A sum is rounded; `up` is 32 less the shift. The bit that a shift loses last is its carry. */
#define FXP_ROUND_SUM(q, low, high, shift, up, t)                                                  \
    "lsrs " q ", " low ", " shift "\n\t"                                                           \
    "lsl " t ", " high ", " up "\n\t"                                                              \
    "adcs " q ", " q ", " t "\n\t"
/* What became 0 and is more becomes 1, where bit 8 of the mode tells that sums are positive. */
#define FXP_KEEP_ROW(q, mode, t)                                                                   \
    "lsls " t ", " mode ", #23\n\t"                                                                \
    "bpl 5b\n\t"                                                                                   \
    "cmp r12, #0\n\t"                                                                              \
    "it ne\n\t"                                                                                    \
    "movne " q ", #1\n\t"                                                                          \
    "b 5b\n"
/* clang-format on */

/* Biases, or without any what lies in w, which is as many words at least; its factor is 0. */
static FXP_INLINE const int32_t *fxp_biases_of(const fxp_layer *layer, const int16_t *w)
{
    return layer->b == NULL ? (const int32_t *)(const void *)w : layer->b;
}

FXP_ASSERT(a_store_has_its_shift_at_12, __builtin_offsetof(fxp_store, shift) == 12);

/* As fxp_stored_rows16 where nothing is masked. */
static FXP_OUTLINE void fxp_stored_rows16_many(fxp_store *store, const fxp_layer *layer,
                                               const int16_t *w, const int16_t *x, int n, int how,
                                               int16_t *out)
{
    const int rows = layer->rows;
    if (store->half == 0 || n < 2) {
        fxp_stored_rows16_any(store, layer, w, x, n, how, out, out);
        return;
    }
    /* r7 counts up to 0. Where products begin tells the lower bit that this is Thumb code. */
    const int32_t *const b = fxp_biases_of(layer, w);
    const int eights = fxp_row_eights(n) + FXP_ROW_PAIRS_BYTES + 5;
    int entry = 1;
    if (fxp_are_rows_at_words(w, x, n) && layer->factor >= 0) {
        entry = (n & 7) == 0 ? eights : 5;
    }
    register const int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register const int16_t *r2 __asm__("r2") = x + n;
    register const int32_t *r3 __asm__("r3") = b;
    register int32_t r4 __asm__("r4") = layer->factor;
    register int r5 __asm__("r5") = rows;
    register int r6 __asm__("r6") = how;
    register const fxp_store *r8 __asm__("r8") = store;
    register int16_t *r9 __asm__("r9") = out;
    register uint32_t r10 __asm__("r10");
    register uint32_t r11 __asm__("r11");
    register int r12 __asm__("r12") = entry;
    register int lr __asm__("lr") = eights;
    /* clang-format off */
    /* A store has its peak first and its shift at 12. The stack has the registers that are loaded
     * behind a row, then where its products and its eights begin. A sum below 0 is seen when it is
     * joined. */
    __asm__ volatile("push {r7}\n\t"
                     "add r3, r3, r5, lsl #2\n\t"
                     "add r9, r9, r5, lsl #1\n\t"
                     "lsls r7, r5, #1\n\t"
                     "rsbs r7, r7, #0\n\t"
                     "ldrd r10, r11, [r8]\n\t"
                     "ldr r5, [r8, #12]\n\t"
                     "orr r6, r5, r6, lsl #8\n\t"
                     "rsb r8, r5, #32\n\t"
                     "adr.w r5, 2f\n\t"
                     "add r12, r12, r5\n\t"
                     "add lr, lr, r5\n\t"
                     "push {r1, r3, r4, r6, r8, r9, r10, r11, r12, lr}\n"
                     "1:\n\t"
                     "ldr r3, [r3, r7, lsl #1]\n\t"
                     "smull r12, lr, r3, r4\n\t"
                     "ldr.w pc, [sp, #32]\n\t"
                     ".p2align 2\n" /* places count from a word */
                     "2:\n\t"
                     "b.w 7f\n\t"
                     FXP_ROW_AT_WORDS("ldr.w pc, [sp, #36]\n")
                     "4:\n\t"
                     "ldm sp, {r1, r3, r4, r6, r8, r9, r10, r11}\n\t"
                     "orrs r5, r11, lr\n\t"
                     "bmi 6f\n\t"
                     "orr r10, r10, r12\n"
                     "3:\n\t"
                     "strd r10, r5, [sp, #24]\n\t"
                     FXP_ROUND_SUM("r5", "r12", "lr", "r6", "r8", "lr")
                     "beq 8f\n\t"
                     "ssat r5, #16, r5\n"
                     "5:\n\t"
                     "strh r5, [r9, r7]\n\t"
                     "adds r7, r7, #2\n\t"
                     "bne 1b\n\t"
                     "b 9f\n"
                     "6:\n\t"
                     "lsls r5, r6, #23\n\t" /* 16 bits are 0 */
                     "bmi 5b\n\t"
                     "orn r5, r11, lr\n\t"
                     "orn r10, r10, r12\n\t"
                     "b 3b\n"
                     "8:\n\t"
                     FXP_KEEP_ROW("r5", "r6", "r8")
                     "7:\n\t" /* a row that begins anywhere; its bias may have to be shortened */
                     "cmp r4, #0\n\t"
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
                     "ldrd r10, r11, [sp, #24]\n\t"
                     "add sp, sp, #40\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r8),
                       "+r"(r9), "=r"(r10), "=r"(r11), "+r"(r12), "+r"(lr)
                     : "r"(r2)
                     : "cc", "memory");
    /* clang-format on */
    store->peak = ((uint64_t)r11 << 32) | r10;
}

/* The same for an odd n from 3 to 9, as first convolutions of one channel have it: x stays in
 * registers. */
static FXP_OUTLINE void fxp_stored_rows16_few(fxp_store *store, const fxp_layer *layer,
                                              const int16_t *w, const int16_t *x, int n, int how,
                                              int16_t *out)
{
    const int rows = layer->rows;
    if (store->half == 0 || layer->factor < 0) {
        fxp_stored_rows16_any(store, layer, w, x, n, how, out, out);
        return;
    }
    const int32_t *const b = fxp_biases_of(layer, w);
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
    register int r8 __asm__("r8") = how;
    register int r9 __asm__("r9") = 37 - 4 * n; /* bytes of the products that n has not, and 1 */
    register fxp_store *r10 __asm__("r10") = store;
    register uintptr_t r11 __asm__("r11") = (uintptr_t)rows;
    register int16_t *r12 __asm__("r12") = out;
    register const int32_t *lr __asm__("lr") = b;
    /* clang-format off */
    /* The stack has r8 to r12 and lr, and where products begin. */
    __asm__ volatile("push {r7}\n\t"
                     "adr.w r7, 2f\n\t"
                     "add r9, r7\n\t"
                     "push {r9}\n\t"
                     "add r12, r12, r11, lsl #1\n\t"
                     "add lr, lr, r11, lsl #2\n\t"
                     "lsl r7, r11, #1\n\t"
                     "rsbs r7, r7, #0\n\t"
                     "ldr r9, [r10, #12]\n\t"
                     "orr r8, r9, r8, lsl #8\n\t"
                     "rsb r9, r9, #32\n\t"
                     "ldrd r10, r11, [r10]\n\t"
                     "push {r8, r9, r10, r11, r12, lr}\n\t"
                     "mov r9, lr\n"
                     "1:\n\t"
                     "ldr r9, [r9, r7, lsl #1]\n\t"
                     "smull r12, lr, r9, r4\n\t"
                     "ldr.w pc, [sp, #24]\n\t"
                     ".p2align 2\n"
                     "2:\n\t"
                     FXP_FEW_PRODUCTS("r9")
                     "ldm sp, {r8, r9, r10, r11}\n\t"
                     "orrs r11, r11, lr\n\t"
                     "bmi 6f\n\t"
                     "orr r10, r10, r12\n"
                     "3:\n\t"
                     "strd r10, r11, [sp, #8]\n\t"
                     FXP_ROUND_SUM("r10", "r12", "lr", "r8", "r9", "lr")
                     "beq 8f\n\t"
                     "ssat r10, #16, r10\n"
                     "5:\n\t"
                     "ldrd r8, r9, [sp, #16]\n\t"
                     "strh r10, [r8, r7]\n\t"
                     "adds r7, r7, #2\n\t"
                     "bne 1b\n\t"
                     "b 9f\n"
                     "6:\n\t"
                     "lsls r10, r8, #23\n\t" /* 16 bits are 0 */
                     "bmi 5b\n\t"
                     "ldrd r10, r11, [sp, #8]\n\t"
                     "orn r11, r11, lr\n\t"
                     "orn r10, r10, r12\n\t"
                     "b 3b\n"
                     "8:\n\t"
                     FXP_KEEP_ROW("r10", "r8", "r9")
                     "9:\n\t"
                     "ldrd r10, r11, [sp, #8]\n\t"
                     "add sp, sp, #28\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r8), "+r"(r9), "+r"(r10), "+r"(r11), "+r"(r12), "+r"(lr)
                     : "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5), "r"(r6)
                     : "cc", "memory");
    /* clang-format on */
    store->peak = ((uint64_t)r11 << 32) | (uintptr_t)r10;
}

/* The same where rows are masked: sums of those that are are not computed. There are no biases. */
static FXP_OUTLINE void fxp_stored_rows16_masked(fxp_store *store, const fxp_layer *layer,
                                                 const int16_t *w, const int16_t *x, int n,
                                                 int16_t *out, const int16_t *y)
{
    const int rows = layer->rows;
    if (store->half == 0 || !fxp_are_rows_at_words(w, x, n)) {
        fxp_stored_rows16_any(store, layer, w, x, n, FXP_AS_MASKED, out, y);
        return;
    }
    const int entry = fxp_row_entry(n) + 1;
    const int eights = fxp_row_eights(n) + FXP_ROW_PAIRS_BYTES + 1;
    register const int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register const int16_t *r2 __asm__("r2") = x + n;
    register int16_t *r3 __asm__("r3") = out + rows;
    register const int16_t *r4 __asm__("r4") = y + rows;
    register int r5 __asm__("r5") = -2 * rows;
    register int r6 __asm__("r6") = store->shift;
    register int r8 __asm__("r8") = 2 * n;
    register int r9 __asm__("r9") = 32 - store->shift;
    register uint32_t r10 __asm__("r10") = (uint32_t)store->peak;
    register uint32_t r11 __asm__("r11") = (uint32_t)(store->peak >> 32);
    register int r12 __asm__("r12") = entry;
    register int lr __asm__("lr") = eights;
    /* clang-format off */
    /* The stack is as above. */
    __asm__ volatile("push {r7}\n\t"
                     "mov r7, r5\n\t"
                     "adr.w r5, 2f\n\t"
                     "add r12, r12, r5\n\t"
                     "add lr, lr, r5\n\t"
                     "push {r1, r3, r4, r6, r8, r9, r10, r11, r12, lr}\n"
                     "1:\n\t"
                     "ldrsh r5, [r4, r7]\n\t"
                     "cmp r5, #0\n\t"
                     "ble 6f\n\t"
                     "mov r12, #0\n\t"
                     "mov lr, #0\n\t"
                     "ldr.w pc, [sp, #32]\n\t"
                     ".p2align 2\n" /* places count from a word */
                     "2:\n\t"
                     FXP_ROW_AT_WORDS("ldr.w pc, [sp, #36]\n")
                     "ldm sp, {r1, r3, r4, r6, r8, r9, r10, r11}\n\t"
                     FXP_JOIN_SUM("r12", "lr", "r10", "r11", "r5")
                     "strd r10, r11, [sp, #24]\n\t"
                     FXP_ROUND_SUM("r5", "r12", "lr", "r6", "r9", "lr")
                     "ssat r5, #16, r5\n"
                     "5:\n\t"
                     "strh r5, [r3, r7]\n\t"
                     "adds r7, r7, #2\n\t"
                     "bne 1b\n\t"
                     "b 9f\n"
                     "6:\n\t" /* masked */
                     "add r0, r0, r8\n\t"
                     "movs r5, #0\n\t"
                     "b 5b\n"
                     "9:\n\t"
                     "ldrd r10, r11, [sp, #24]\n\t"
                     "add sp, sp, #40\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r8),
                       "+r"(r9), "+r"(r10), "+r"(r11), "+r"(r12), "+r"(lr)
                     : "r"(r2)
                     : "cc", "memory");
    /* clang-format on */
    store->peak = ((uint64_t)r11 << 32) | r10;
}
#undef FXP_KEEP_ROW
/* of rows.h */
#undef FXP_FEW_PRODUCTS
#undef FXP_FEW_2
#undef FXP_ROW_BEGIN
#undef FXP_ROW_END
#undef FXP_ROW_2
#undef FXP_ROW_8
#undef FXP_ROW_PAIRS_BYTES
#undef FXP_ROW_8_BYTES
#undef FXP_ROW_AT_WORDS
#undef FXP_ROW_ANYWHERE
#endif

#if FXP_SSE2
/* Magnitudes of numbers of 16, or of 32, bits, one less below zero. */
static FXP_INLINE __m128i fxp_sizes(__m128i v)
{
    return _mm_xor_si128(v, _mm_srai_epi16(v, 15));
}

static FXP_INLINE __m128i fxp_sizes32(__m128i v)
{
    return _mm_xor_si128(v, _mm_srai_epi32(v, 31));
}

/* Four sums of magnitudes of n < 2^16 numbers: the first one has those of 0, 1, 8, 9, ... */
static FXP_INLINE __m128i fxp_sum_sizes(const int16_t *x, int n)
{
    const __m128i ones = _mm_set1_epi16(1);
    __m128i sums = _mm_setzero_si128();
    if (n < 8) {
        int16_t few[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        for (int i = 0; i < n && i < 8; i++) {
            few[i] = x[i];
        }
        return _mm_madd_epi16(fxp_sizes(fxp_eight(few)), ones);
    }
    for (int i = 0; i + 8 <= n; i += 8) {
        sums = _mm_add_epi32(sums, _mm_madd_epi16(fxp_sizes(fxp_eight(&x[i])), ones));
    }
    if (n % 8 != 0) {
        sums = _mm_add_epi32(sums, _mm_madd_epi16(fxp_sizes(fxp_rest(x, n)), ones));
    }
    return sums;
}

/* Whether magnitudes of n < 2^16 numbers add up to less than 2^16: then 32 bits hold every sum of
 * products with them. Each is at most one more than what is summed here. */
static FXP_INLINE int fxp_are_small(const int16_t *x, int n)
{
    __m128i sums = fxp_sum_sizes(x, n);
    sums = _mm_add_epi32(sums, _mm_unpackhi_epi64(sums, sums));
    sums = _mm_add_epi32(sums, _mm_shuffle_epi32(sums, 1));
    return (uint32_t)_mm_cvtsi128_si32(sums) < (uint32_t)(65536 - n);
}

/* Whether that holds for each fourth of them that a vector sums apart. */
static FXP_INLINE int fxp_are_fourths_small(const int16_t *x, int n)
{
    const __m128i most = _mm_set1_epi32(65535 - 2 * ((n + 7) / 8));
    return _mm_movemask_epi8(_mm_cmpgt_epi32(fxp_sum_sizes(x, n), most)) == 0;
}

/* Four sums: their low words, and all but their lower 23 bits. */
typedef struct {
    __m128i low, upper;
} fxp_split;

/* As fxp_keep. */
static FXP_INLINE void fxp_keep_split(fxp_split *sums, int are_small)
{
    __asm__("" : "+x"(sums->low));
    if (!are_small) {
        __asm__("" : "+x"(sums->upper));
    }
}

/* Adds products of eight numbers to the sums of some rows. */
static FXP_INLINE void fxp_add_split(const int16_t *w, int n, __m128i x, int are_small, int rows,
                                     fxp_split *sums)
{
    for (int j = 0; j < rows; j++, w += n) {
        const __m128i pairs = _mm_madd_epi16(fxp_eight(w), x);
        sums[j].low = _mm_add_epi32(sums[j].low, pairs);
        if (!are_small) {
            sums[j].upper = _mm_add_epi32(sums[j].upper, _mm_srai_epi32(pairs, 23));
        }
        fxp_keep_split(&sums[j], are_small);
    }
}

/* Adds fourths of the sums of two or four rows. */
static FXP_INLINE void fxp_split_some_rows(const int16_t *w, const int16_t *x, int n, int are_small,
                                           int rows, fxp_split *sums)
{
    for (int i = 0; i + 8 <= n; i += 8) {
        fxp_add_split(&w[i], n, fxp_eight(&x[i]), are_small, rows, sums);
    }
    if (n % 8 != 0) {
        fxp_add_split(&w[n - 8], n, fxp_rest(x, n), are_small, rows, sums);
    }
    for (int j = 0; j < rows && are_small; j++) {
        sums[j].upper = _mm_srai_epi32(sums[j].low, 23);
    }
}

/* Sums of four rows of 8 <= n <= 512 products with numbers above -2^15, of which the upper part is
 * too small by less than 2^8. Where the fourths are small 32 bits hold what a vector sums. */
static FXP_INLINE fxp_split fxp_split_rows(const int16_t *w, const int16_t *x, int n, int are_small)
{
    const __m128i ones = _mm_set1_epi16(1);
    const __m128i zero = _mm_setzero_si128();
    fxp_split sums[4] = {{zero, zero}, {zero, zero}, {zero, zero}, {zero, zero}};
    if (n <= 64) { /* no loop is left, and registers have most of x */
        fxp_split_some_rows(w, x, n, are_small, 2, sums);
        fxp_split_some_rows(w + 2 * n, x, n, are_small, 2, sums + 2);
    } else {
        fxp_split_some_rows(w, x, n, are_small, 4, sums);
    }
    /* Upper parts have 15 bits, and those of pairs of them 16. */
    const __m128i first = _mm_packs_epi32(sums[0].upper, sums[1].upper);
    const __m128i second = _mm_packs_epi32(sums[2].upper, sums[3].upper);
    const __m128i both = _mm_packs_epi32(_mm_madd_epi16(first, ones), _mm_madd_epi16(second, ones));
    const fxp_split all = {fxp_sum_each(sums[0].low, sums[1].low, sums[2].low, sums[3].low),
                           _mm_madd_epi16(both, ones)};
    return all;
}

/* Adds biases with `up` more fraction bits than they have, for 0 <= up <= 22. */
static FXP_INLINE void fxp_add_four_biases(fxp_split *sums, const int32_t *b, int up)
{
    const __m128i biases = _mm_loadu_si128((const void *)b);
    const __m128i upper = _mm_sra_epi32(biases, _mm_cvtsi32_si128(23 - up));
    sums->low = _mm_add_epi32(sums->low, _mm_sll_epi32(biases, _mm_cvtsi32_si128(up)));
    sums->upper = _mm_add_epi32(sums->upper, upper);
}

/* The upper words of sums whose upper parts are too small by less than 2^9: how often 2^32 makes up
 * for what their last 9 bits differ in. */
static FXP_INLINE __m128i fxp_upper_words(fxp_split sums)
{
    const __m128i more = _mm_sub_epi32(sums.upper, _mm_srli_epi32(sums.low, 23));
    return _mm_srai_epi32(_mm_add_epi32(more, _mm_set1_epi32(511)), 9);
}

/* Numbers of 32 bits as at most 31, rounded. */
static FXP_INLINE __m128i fxp_half32(__m128i v)
{
    return _mm_srai_epi32(_mm_sub_epi32(v, _mm_set1_epi32(-1)), 1);
}

/* How far the second four of rows is from the first one, where the others are four apart: they may
 * overlap. */
static FXP_INLINE int fxp_to_second_four(int rows)
{
    return rows % 4 == 0 ? 4 : rows % 4;
}

/* Sums of at least four rows, by fours: low words, and upper parts. */
static FXP_INLINE void fxp_split_fours(const int16_t *w, const int16_t *x, int n, int rows,
                                       int are_small, int32_t *low, int32_t *upper)
{
    int32_t *const end = low + rows;
    FXP_UNROLL(1)
    for (int step = fxp_to_second_four(rows); low < end; step = 4) {
        const fxp_split sums = fxp_split_rows(w, x, n, are_small);
        _mm_storeu_si128((void *)low, sums.low);
        _mm_storeu_si128((void *)upper, sums.upper);
        w += step * n;
        low += step;
        upper += step;
    }
}

/* Four sums, in low and upper words, rounded to 32 bits; those below 0 may become 0. Their
 * magnitudes are joined to the peak; `any` is 0 where they are. */
static FXP_INLINE __m128i fxp_settle_split(fxp_split sums, int shift, int is_positive,
                                           fxp_split *peak, __m128i *any)
{
    const __m128i signs = _mm_srai_epi32(sums.upper, 31);
    fxp_split sizes;
    if (is_positive) {
        sums.low = _mm_andnot_si128(signs, sums.low);
        sums.upper = _mm_andnot_si128(signs, sums.upper);
        sizes = sums;
    } else {
        sizes.low = _mm_xor_si128(sums.low, signs);
        sizes.upper = _mm_xor_si128(sums.upper, signs);
    }
    peak->low = _mm_or_si128(peak->low, sizes.low);
    peak->upper = _mm_or_si128(peak->upper, sizes.upper);
    fxp_keep_split(peak, 0);
    *any = _mm_or_si128(sums.low, sums.upper);
    const __m128i low = _mm_srl_epi32(sums.low, _mm_cvtsi32_si128(shift - 1));
    const __m128i upper = _mm_sll_epi32(sums.upper, _mm_cvtsi32_si128(33 - shift));
    return fxp_half32(_mm_or_si128(low, upper));
}

/* As fxp_stored_rows16 for 4 <= rows <= `most` usual ones; returns whether they are. */
static FXP_INLINE int fxp_stored_fours16(fxp_store *store, const int16_t *w, const int16_t *x,
                                         int n, const int32_t *b, int f, int rows, int is_positive,
                                         int16_t *out, int64_t *sums)
{
    const int up = f - FXP_BIAS_FRACTION;
    const int are_biases_usual = b == NULL || (up >= 0 && up <= 22);
    if (rows < 4 || n < 8 || n > 512 || store->half == 0 || !are_biases_usual ||
        fxp_has_least(x, n)) {
        return 0;
    }
    int32_t *const lows = (int32_t *)(void *)sums, *const uppers = lows + rows;
    if (n <= 32 && fxp_are_fourths_small(x, n)) { /* those of more are hardly ever */
        fxp_split_fours(w, x, n, rows, 1, lows, uppers);
    } else {
        fxp_split_fours(w, x, n, rows, 0, lows, uppers);
    }
    const __m128i zero = _mm_setzero_si128(), ones = _mm_set1_epi16(1);
    fxp_split peak = {zero, zero};
    const int width = rows % 8 == 0 ? 8 : 4;
    FXP_UNROLL(1)
    for (size_t j = 0, step = width == 8 ? 8 : (size_t)fxp_to_second_four(rows); j < (size_t)rows;
         j += step, step = (size_t)width) {
        __m128i any[2] = {zero, zero}, q[2] = {zero, zero};
        for (size_t k = 0; k < (size_t)width / 4; k++) {
            const size_t at = j + 4 * k;
            fxp_split four = {_mm_loadu_si128((const void *)&lows[at]),
                              _mm_loadu_si128((const void *)&uppers[at])};
            if (b != NULL) {
                fxp_add_four_biases(&four, &b[at], up);
            }
            four.upper = fxp_upper_words(four);
            q[k] = fxp_settle_split(four, store->shift, is_positive, &peak, &any[k]);
        }
        __m128i words = _mm_packs_epi32(q[0], q[1]);
        if (is_positive) { /* those above 0 are at least 1 */
            const __m128i is_zero = _mm_cmpeq_epi16(_mm_packs_epi32(any[0], any[1]), zero);
            words = _mm_max_epi16(words, _mm_add_epi16(is_zero, ones));
        }
        if (width == 8) {
            _mm_storeu_si128((void *)&out[j], words);
        } else {
            _mm_storel_epi64((void *)&out[j], words);
        }
    }
    const __m128i both = _mm_or_si128(_mm_unpacklo_epi32(peak.low, peak.upper),
                                      _mm_unpackhi_epi32(peak.low, peak.upper));
    store->peak |= (uint64_t)_mm_cvtsi128_si64(_mm_or_si128(both, _mm_unpackhi_epi64(both, both)));
    return 1;
}

#define FXP_FEW_ERRORS 32

/* As fxp_masked_columns16 for eights of columns with few small errors; returns how many columns
 * they are. */
static FXP_INLINE int fxp_masked_eights16(fxp_store *store, const int16_t *w, const int16_t *e,
                                          const fxp_walk *walk, int columns, int16_t *out,
                                          const int16_t *y)
{
    const int n = walk->n, pairs = (n + 1) / 2;
    __m128i errors[FXP_FEW_ERRORS / 2];
    if (columns < 8 || store->half == 0 || n > FXP_FEW_ERRORS || !fxp_are_small(e, n)) {
        return 0;
    }
    for (int i = 0; i < pairs; i++) {
        uint32_t both = (uint16_t)e[2 * i];
        if (2 * i + 1 < n) {
            memcpy(&both, &e[2 * i], sizeof both);
        }
        errors[i] = _mm_set1_epi32((int)both);
    }
    const __m128i down = _mm_cvtsi32_si128(store->shift - 1);
    __m128i peak = _mm_setzero_si128();
    int j = 0;
    FXP_UNROLL(1)
    for (; j + 8 <= columns; j += 8) {
        __m128i first = _mm_setzero_si128(), second = first;
        const int16_t *row = &w[j];
        for (int i = 0; i < pairs; i++, row += 2 * walk->step) {
            __m128i a = fxp_eight(row);
            __m128i b = 2 * i + 1 < n ? fxp_eight(row + walk->step) : a; /* times 0 */
            __asm__("" : "+x"(a), "+x"(b));                              /* as fxp_keep does */
            first = _mm_add_epi32(first, _mm_madd_epi16(_mm_unpacklo_epi16(a, b), errors[i]));
            second = _mm_add_epi32(second, _mm_madd_epi16(_mm_unpackhi_epi16(a, b), errors[i]));
            __asm__("" : "+x"(first), "+x"(second));
        }
        const __m128i is_open = _mm_cmpgt_epi16(fxp_eight(&y[j]), _mm_setzero_si128());
        first = _mm_and_si128(first, _mm_unpacklo_epi16(is_open, is_open));
        second = _mm_and_si128(second, _mm_unpackhi_epi16(is_open, is_open));
        peak = _mm_or_si128(peak, _mm_or_si128(fxp_sizes32(first), fxp_sizes32(second)));
        first = fxp_half32(_mm_sra_epi32(first, down));
        second = fxp_half32(_mm_sra_epi32(second, down));
        _mm_storeu_si128((void *)&out[j], _mm_packs_epi32(first, second));
    }
    peak = _mm_or_si128(peak, _mm_unpackhi_epi64(peak, peak));
    peak = _mm_or_si128(peak, _mm_shuffle_epi32(peak, 1));
    store->peak |= (uint32_t)_mm_cvtsi128_si32(peak);
    return j;
}
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
        int are_stored = 0;
#if FXP_SSE2
        are_stored = how != FXP_AS_MASKED && fxp_stored_fours16(store, w, x, n, b, layer->f, rows,
                                                                how == FXP_AS_POSITIVE, out, sums);
#endif
        if (!are_stored) {
            fxp_rows16(w, x, n, b, layer->f, rows, sums);
            if (how == FXP_AS_MASKED) {
                fxp_settle_masked16(store, sums, rows, out, y);
                y += rows;
            } else if (how == FXP_AS_POSITIVE) {
                fxp_settle_positive16(store, sums, rows, out);
            } else {
                fxp_settle_sums16(store, sums, rows, out);
            }
        }
        w += rows * n;
        out += rows;
        b = b == NULL ? NULL : b + rows;
    }
#endif
}

#if FXP_DSP
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

#endif

#if FXP_DSP && !FXP_MVE
/* Four neighbouring columns of which none is masked are summed together, where rows begin at words;
 * of others, those that are not masked wait until they are three. All registers are needed. On the
 * stack lie: at 0 and 4, the shift and 32 less that; 8, where products are entered; 12, the peak;
 * 20, the place in y; 24, where on the stack the next place will wait; 28, where fours end; 32, how
 * far from y the output is; 36, two ones; 40, how far from y the weights are; 44 and 48, what
 * products are added from; 52, where y ends; 56 to 76, places in y of those that wait, and room for
 * what is written before it is known whether it is one. Halves of r0 and r1 are 4, the bytes of a
 * place, or 0 for a column that is masked.
 *
 * `fours` adds products to r4 to r11, with weights from r0 on; `threes` to r4 to r9, with weights
 * also r1 and r2 further on. Both have the same places where they are entered. */
/* clang-format off */
#define FXP_MASKED_COLUMNS_OF(begin, end, entry, fours, threes)                                    \
    const int are_fours = (((uintptr_t)w | 2 * (uintptr_t)walk->step) & 3u) == 0;                  \
    register fxp_store *r0 __asm__("r0") = store;                                                  \
    register int r2 __asm__("r2") = entry;                                                         \
    register const int16_t *r5 __asm__("r5") = y;                                                  \
    register const int16_t *r6 __asm__("r6") = y + (are_fours ? columns & ~3 : 0);                 \
    register int16_t *r8 __asm__("r8") = out;                                                      \
    register const int16_t *r10 __asm__("r10") = w;                                                \
    register uintptr_t r11 __asm__("r11") = begin;                                                 \
    register uintptr_t r12 __asm__("r12") = end;                                                   \
    register const int16_t *lr __asm__("lr") = y + columns;                                        \
    __asm__ volatile("push {r7}\n\t"                                                               \
                     "mov r7, r6\n\t"                                                              \
                     "ldrd r3, r4, [r0]\n\t"                                                       \
                     "ldr r0, [r0, #12]\n\t"                                                       \
                     "rsb r1, r0, #32\n\t"                                                         \
                     "movs r6, #56\n\t"                                                            \
                     "sub r8, r8, r5\n\t"                                                          \
                     "mov r9, #0x10001\n\t"                                                        \
                     "sub r10, r10, r5\n\t"                                                        \
                     "sub sp, #24\n\t"                                                             \
                     "push {r0-r12, lr}\n"                                                         \
                     "1:\n\t"                                                                      \
                     "ldm sp, {r0-r10, r12, lr}\n\t"                                               \
                     "cmp r5, r7\n\t"                                                              \
                     "bhs 2f\n\t"                                                                  \
                     "ldr r0, [r5]\n\t"                                                            \
                     "ldr r1, [r5, #4]\n\t"                                                        \
                     "qsub16 r0, r0, r9\n\t"                                                       \
                     "qsub16 r1, r1, r9\n\t"                                                       \
                     "orr r11, r0, r1\n\t"                                                         \
                     "ands r3, r11, #0x80008000\n\t"                                               \
                     "beq 5f\n\t"                                                                  \
                     "mov r11, #0x40004\n\t"                                                       \
                     "bic r0, r11, r0, lsr #13\n\t"                                                \
                     "bic r1, r11, r1, lsr #13\n\t"                                                \
                     "movs r2, #0\n\t"                                                             \
                     "add r8, r5\n\t"                                                              \
                     "str r2, [r8]\n\t"                                                            \
                     "str r2, [r8, #4]\n\t"                                                        \
                     FXP_MAY_WAIT("uxtah r6, r6, r0")                                              \
                     FXP_MAY_WAIT("add r6, r6, r0, lsr #16")                                       \
                     FXP_MAY_WAIT("uxtah r6, r6, r1")                                              \
                     FXP_MAY_WAIT("add r6, r6, r1, lsr #16")                                       \
                     "3:\n\t"                                                                      \
                     "strd r5, r6, [sp, #20]\n\t"                                                  \
                     "cmp r6, #68\n\t"                                                             \
                     "blo 1b\n"                                                                    \
                     "6:\n\t" /* three columns */                                                  \
                     "add r0, sp, #56\n\t"                                                         \
                     "ldm r0, {r0-r2}\n\t"                                                         \
                     "subs r1, r0\n\t"                                                             \
                     "subs r2, r0\n\t"                                                             \
                     "add r3, sp, #40\n\t"                                                         \
                     "ldm r3, {r3, r10, r11}\n\t"                                                  \
                     "add r0, r3\n\t"                                                              \
                     "movs r3, #0\n\t"                                                             \
                     FXP_NO_SUMS                                                                   \
                     "ldr r3, [sp, #8]\n\t"                                                        \
                     "add pc, r3\n\t"                                                              \
                     "nop\n\t"                                                                     \
                     threes                                                                        \
                     "ldm sp, {r0-r3, r12}\n\t"                                                    \
                     "mov lr, #0\n\t"                                                              \
                     "b 7f\n"                                                                      \
                     "2:\n\t" /* one column */                                                     \
                     "ldr r0, [sp, #52]\n\t"                                                       \
                     "cmp r5, r0\n\t"                                                              \
                     "beq 4f\n\t"                                                                  \
                     "ldrsh r0, [r5]\n\t"                                                          \
                     "movs r2, #0\n\t"                                                             \
                     "strh r2, [r5, r8]\n\t"                                                       \
                     "str r5, [sp, r6]\n\t"                                                        \
                     "adds r5, #2\n\t"                                                             \
                     "cmp r0, #0\n\t"                                                              \
                     "it gt\n\t"                                                                   \
                     "addgt r6, #4\n\t"                                                            \
                     "b 3b\n"                                                                      \
                     "4:\n\t" /* those that wait become three: one is taken again */               \
                     "cmp r6, #56\n\t"                                                             \
                     "beq 9f\n\t"                                                                  \
                     "ldr r0, [sp, #56]\n\t"                                                       \
                     "add r6, sp\n\t"                                                              \
                     "strd r0, r0, [r6]\n\t"                                                       \
                     "movs r6, #68\n\t"                                                            \
                     "str r6, [sp, #24]\n\t"                                                       \
                     "b 6b\n"                                                                      \
                     "5:\n\t" /* four columns */                                                   \
                     "add r0, r10, r5\n\t"                                                         \
                     "adds r5, #8\n\t"                                                             \
                     "str r5, [sp, #20]\n\t"                                                       \
                     FXP_NO_SUMS                                                                   \
                     "umull r10, r11, r3, r3\n\t"                                                  \
                     "add pc, r2\n\t"                                                              \
                     "nop\n\t"                                                                     \
                     fours                                                                         \
                     "ldm sp, {r0-r3, r12, lr}\n\t"                                                \
                     FXP_STORE_SUM("r10", "r11")                                                   \
                     "7:\n\t"                                                                      \
                     FXP_STORE_SUM("r8", "r9") FXP_STORE_SUM("r6", "r7") FXP_STORE_SUM("r4", "r5") \
                     "strd r3, r12, [sp, #12]\n\t"                                                 \
                     "ldr r7, [sp, #32]\n\t"                                                       \
                     "cmp lr, #0\n\t"                                                              \
                     "beq 8f\n\t"                                                                  \
                     "add r7, lr\n\t"                                                              \
                     "strh r4, [r7, #-8]\n\t"                                                      \
                     "strh r6, [r7, #-6]\n\t"                                                      \
                     "strh r8, [r7, #-4]\n\t"                                                      \
                     "strh r10, [r7, #-2]\n\t"                                                     \
                     "b 1b\n"                                                                      \
                     "8:\n\t"                                                                      \
                     "add r0, sp, #56\n\t"                                                         \
                     "ldm r0, {r0-r3, r5}\n\t"                                                     \
                     "strh r4, [r0, r7]\n\t"                                                       \
                     "strh r6, [r1, r7]\n\t"                                                       \
                     "strh r8, [r2, r7]\n\t"                                                       \
                     "strd r3, r5, [sp, #56]\n\t"                                                  \
                     "ldr r0, [sp, #24]\n\t"                                                       \
                     "subs r0, #12\n\t"                                                            \
                     "str r0, [sp, #24]\n\t"                                                       \
                     "b 1b\n"                                                                      \
                     "9:\n\t"                                                                      \
                     "ldrd r10, r11, [sp, #12]\n\t"                                                \
                     "add sp, #80\n\t"                                                             \
                     "pop {r7}"                                                                    \
                     : "+r"(r0), "+r"(r2), "+r"(r5), "+r"(r6), "+r"(r8), "+r"(r10), "+r"(r11),     \
                       "+r"(r12), "+r"(lr)                                                         \
                     :                                                                             \
                     : "r1", "r3", "r4", "r9", "cc", "memory");                                    \
    store->peak = ((uint64_t)r11 << 32) | (uintptr_t)r10
#define FXP_MAY_WAIT(advance) "str r5, [sp, r6]\n\t" advance "\n\tadds r5, #2\n\t"
/* r3 is 0. */
#define FXP_NO_SUMS                                                                                \
    "umull r4, r5, r3, r3\n\t"                                                                     \
    "umull r6, r7, r3, r3\n\t"                                                                     \
    "umull r8, r9, r3, r3\n\t"
/* A sum is joined to r3 and r12, and rounded to r0 bits less; r1 is 32 less r0. */
#define FXP_STORE_SUM(low, high)                                                                   \
    FXP_JOIN_SUM(low, high, "r3", "r12", "r2")                                                     \
    FXP_ROUND_SUM(low, low, high, "r0", "r1", high) "ssat " low ", #16, " low "\n\t"

/* Products of a row with an error in the lower ("b") or upper ("t") half of a register, in 24
 * bytes. The rows are so far apart as the lower half of lr, or of r11, says. Above is their number
 * less 1, and two more where it is one or two more than a multiple of four: then the first pass
 * through the loop begins late. Where it is odd that begins with one error. */
#define FXP_ROW_OF_FOUR(half)                                                                      \
    "ldrd r1, r2, [r0]\n\t"                                                                        \
    "smlalb" half " r4, r5, r1, r3\n\t"                                                            \
    "smlalt" half " r6, r7, r1, r3\n\t"                                                            \
    "smlalb" half " r8, r9, r2, r3\n\t"                                                            \
    "smlalt" half " r10, r11, r2, r3\n\t"                                                          \
    "uxtah r0, r0, lr\n\t"
#define FXP_ROW_OF_THREE(half)                                                                     \
    "ldrh.w r3, [r0]\n\t"                                                                          \
    "smlalb" half " r4, r5, r3, r12\n\t"                                                           \
    "ldrh r3, [r0, r1]\n\t"                                                                        \
    "smlalb" half " r6, r7, r3, r12\n\t"                                                           \
    "ldrh r3, [r0, r2]\n\t"                                                                        \
    "smlalb" half " r8, r9, r3, r12\n\t"                                                           \
    "uxtah r0, r0, r11\n\t"
#define FXP_ROWS_OF(row, rows, errors, at)                                                         \
    "ldrh " errors ", [" at "], #2\n\t"                                                            \
    "lsl.w " errors ", " errors ", #16\n\t"                                                        \
    "b 11f\n\t"                                                                                    \
    "ldrh " errors ", [" at "], #2\n\t"                                                            \
    "lsl.w " errors ", " errors ", #16\n\t"                                                        \
    "b 13f\n"                                                                                      \
    "10:\n\t"                                                                                      \
    "ldr " errors ", [" at "], #4\n\t" row("b")                                                    \
    "11:\n\t" row("t")                                                                             \
    "12:\n\t"                                                                                      \
    "ldr " errors ", [" at "], #4\n\t" row("b")                                                    \
    "13:\n\t" row("t")                                                                             \
    "subs " rows ", #0x40000\n\t"                                                                  \
    "bge 10b\n\t"
#define FXP_ROWS_ENTRY(n) ((int)(0x00480A14u >> 8 * ((unsigned)(n) & 3u) & 0xFFu))

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
    "ldrh.w r3, [r0]\n\t"                                                                          \
    "smlalbt r4, r5, r3, " e "\n\t"                                                                \
    "ldrh r3, [r0, r1]\n\t"                                                                        \
    "smlalbt r6, r7, r3, " e "\n\t"                                                                \
    "ldrh r3, [r0, r2]\n\t"                                                                        \
    "smlalbt r8, r9, r3, " e "\n\t"
#define FXP_ENTRIES_OF(list, e, entry, check)                                                      \
    "11:\n\t"                                                                                      \
    "ldm " list "!, {" e ", lr}\n\t" entry(e) entry("lr")                                          \
    "ldm " list "!, {" e ", lr}\n\t" entry(e) entry("lr") check                                    \
    "bne 11b\n\t"
#define FXP_ENTRIES_ENTRY(n) (((n) & 2) != 0 ? 52 : 0)
/* clang-format on */
#define FXP_MASKED_COLUMNS FXP_OUTLINE
#else
#define FXP_MASKED_COLUMNS FXP_INLINE
#endif

#if FXP_MVE
/* As fxp_masked_columns16 for fours of columns with at most 16 errors, in q0 and q1; q2 and q3 have
 * the places of their rows. A row that is none is the last one, times 0. The stack has the errors,
 * both shifts and the places of the output and of the mask; q6 and q7 join magnitudes. */
#define FXP_FEW_ERRORS 16
/* clang-format off */
#define FXP_COLUMN_OF_16(sum, w)                                                                   \
    FXP_GATHER16("q4", w, "q2") "vmlaldav.s16 " sum ", q0, q4\n\t"                                 \
    FXP_GATHER16("q5", w, "q3") "vmlaldava.s16 " sum ", q1, q5\n\t"
static FXP_OUTLINE void fxp_masked_fours16(fxp_store *store, const int16_t *w, const int16_t *e,
                                           const fxp_walk *walk, int fours, int16_t *out,
                                           const int16_t *y)
{
    register const int16_t *r0 __asm__("r0") = e;
    register int r1 __asm__("r1") = walk->n;
    register int r2 __asm__("r2") = walk->step;
    register int r4 __asm__("r4") = -store->shift;
    register int r5 __asm__("r5") = 32 - store->shift;
    register int16_t *r6 __asm__("r6") = out;
    register const int16_t *r8 __asm__("r8") = w;
    register const int16_t *r12 __asm__("r12") = y;
    register int lr __asm__("lr") = fours;
    __asm__ volatile("push {r7}\n\t"
                     "sub sp, sp, #48\n\t"
                     "strd r4, r5, [sp, #32]\n\t"
                     "strd r6, r12, [sp, #40]\n\t"
                     "vctp.16 r1\n\t"
                     "vpst\n\t"
                     "vldrht.u16 q0, [r0]\n\t"
                     "subs r1, r1, #8\n\t"
                     "bic r3, r1, r1, asr #31\n\t"
                     "vctp.16 r3\n\t"
                     "vpst\n\t"
                     "vldrht.u16 q1, [r0, #16]\n\t"
                     "mov r4, #0\n\t"
                     "vidup.u16 q2, r4, #1\n\t"
                     "vmul.i16 q2, q2, r2\n\t"
                     "lsl r4, r2, #3\n\t"
                     "vadd.i16 q3, q2, r4\n\t"
                     "adds r1, r1, #7\n\t"
                     "muls r1, r2, r1\n\t"
                     "vdup.16 q4, r1\n\t"
                     "vmin.u16 q2, q2, q4\n\t"
                     "vmin.u16 q3, q3, q4\n\t"
                     "vstmia sp, {d0-d3}\n\t"
                     "add r9, r8, #2\n\t"
                     "add r10, r8, #4\n\t"
                     "add r11, r8, #6\n\t"
                     "vmov.i32 q6, #0\n\t"
                     "vmov.i32 q7, #0\n\t"
                     "mov r12, #4\n\t"
                     "dls lr, lr\n"
                     "1:\n\t"
                     "vldmia sp, {d0-d3}\n\t"
                     FXP_COLUMN_OF_16("r0, r1", "r8") FXP_COLUMN_OF_16("r2, r3", "r9")
                     FXP_COLUMN_OF_16("r4, r5", "r10") FXP_COLUMN_OF_16("r6, r7", "r11")
                     "vmov q0[2], q0[0], r0, r4\n\t"
                     "vmov q0[3], q0[1], r2, r6\n\t"
                     "vmov q1[2], q1[0], r1, r5\n\t"
                     "vmov q1[3], q1[1], r3, r7\n\t"
                     "vshr.s32 q4, q1, #31\n\t"
                     "veor q5, q4, q0\n\t"
                     "veor q4, q4, q1\n\t"
                     "ldrd r0, r1, [sp, #32]\n\t"
                     "ldrd r2, r3, [sp, #40]\n\t"
                     "vrshl.u32 q0, r0\n\t"
                     "vshl.u32 q1, r1\n\t"
                     "vadd.i32 q0, q0, q1\n\t"
                     "vqmovnb.s32 q0, q0\n\t"
                     "vldrh.s32 q1, [r3], #8\n\t"
                     "vptte.s32 gt, q1, zr\n\t"
                     "vorrt q6, q6, q5\n\t"
                     "vorrt q7, q7, q4\n\t"
                     "vmove.i32 q0, #0\n\t"
                     "vstrh.32 q0, [r2], #8\n\t"
                     "strd r2, r3, [sp, #40]\n\t"
                     "vadd.i16 q2, q2, r12\n\t"
                     "vadd.i16 q3, q3, r12\n\t"
                     "le lr, 1b\n\t"
                     "vmov r0, r1, q6[2], q6[0]\n\t"
                     "vmov r2, r3, q6[3], q6[1]\n\t"
                     "orr r0, r0, r1\n\t"
                     "orr r2, r2, r3\n\t"
                     "orr r0, r0, r2\n\t"
                     "vmov r1, r2, q7[2], q7[0]\n\t"
                     "vmov r3, r9, q7[3], q7[1]\n\t"
                     "orr r1, r1, r2\n\t"
                     "orr r3, r3, r9\n\t"
                     "orr r1, r1, r3\n\t"
                     "add sp, sp, #48\n\t"
                     "pop {r7}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r8),
                       "+r"(r12), "+r"(lr)
                     :
                     : "r3", "r9", "r10", "r11", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",
                       "cc", "memory");
    store->peak |= ((uint64_t)(uint32_t)r1 << 32) | (uintptr_t)r0;
}
/* clang-format on */
#undef FXP_COLUMN_OF_16
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
    const uint32_t rows = (uint32_t)((walk->n - 1) | 2) << 16 | (uint32_t)walk->step << 1;
    FXP_MASKED_COLUMNS_OF((uintptr_t)e, rows, FXP_ROWS_ENTRY(walk->n),
                          FXP_ROWS_OF(FXP_ROW_OF_FOUR, "lr", "r3", "r12"),
                          FXP_ROWS_OF(FXP_ROW_OF_THREE, "r11", "r12", "r10"));
#else
    int64_t sums[FXP_COLUMNS];
    int first = 0;
#if FXP_SSE2
    first = fxp_masked_eights16(store, w, e, walk, columns, out, y);
#elif FXP_MVE
    if (walk->n <= FXP_FEW_ERRORS && (FXP_FEW_ERRORS - 1) * walk->step + columns <= UINT16_MAX) {
        if (columns >= 4 && store->half != 0) {
            first = columns & ~3;
            fxp_masked_fours16(store, w, e, walk, first >> 2, out, y);
        }
        if (first < columns) {
            fxp_masked_columns16_any(store, &w[first], e, walk, columns - first, &out[first],
                                     &y[first]);
        }
        return;
    }
#endif
    for (; first < columns; first += FXP_COLUMNS) {
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
    FXP_MASKED_COLUMNS_OF((uintptr_t)list, (uintptr_t)last, FXP_ENTRIES_ENTRY(last - list),
                          FXP_ENTRIES_OF("r12", "r1", FXP_ENTRY_OF_FOUR,
                                         "ldr r2, [sp, #48]\n\t"
                                         "cmp r12, r2\n\t"),
                          FXP_ENTRIES_OF("r10", "r12", FXP_ENTRY_OF_THREE, "cmp r10, r11\n\t"));
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
#undef FXP_JOIN_SUM
#undef FXP_ROUND_SUM
#undef FXP_ROW_OF_FOUR
#undef FXP_ROW_OF_THREE
#undef FXP_ROWS_OF
#undef FXP_ROWS_ENTRY
#undef FXP_ENTRY_OF_FOUR
#undef FXP_ENTRY_OF_THREE
#undef FXP_ENTRIES_OF
#undef FXP_ENTRIES_ENTRY
#endif
#undef FXP_MASKED_COLUMNS
