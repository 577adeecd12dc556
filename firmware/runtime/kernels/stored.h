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
                     "ldr.w pc, [sp, #32]\n"
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
                     "ldr.w pc, [sp, #24]\n"
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
                     "ldr.w pc, [sp, #32]\n"
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
