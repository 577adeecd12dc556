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

/* Gradients of a filter from lists. One of a single row is made once, for all columns: offsets tell
 * which errors a piece meets. */
static inline void fxp_gradient_of_lists16(const int16_t *dy, const int16_t *x,
                                           const fxp_windows *windows, const fxp_piece *piece,
                                           int narrowing, uint32_t *list, int32_t *tile)
{
    const int is_row = windows->rows == 1;
    const int step = 2 * (is_row ? windows->column_step : windows->row_step);
    const uint32_t *end = is_row ? fxp_list16(dy, windows, 0, windows->columns, list) : list;
    for (int n = 0; n < windows->pieces; n++, piece++) {
        int low, high;
        if (is_row) {
            low = piece->c0 * step;
            high = piece->r1 > 0 ? piece->c1 * step : low;
        } else {
            if (n == 0 || piece->c0 != piece[-1].c0 || piece->c1 != piece[-1].c1) {
                end = fxp_list16(dy, windows, piece->c0, piece->c1, list);
            }
            low = piece->r0 * step;
            high = piece->r1 * step;
        }
        const uint32_t *first = list, *last = end;
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
