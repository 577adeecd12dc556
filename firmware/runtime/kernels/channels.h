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
