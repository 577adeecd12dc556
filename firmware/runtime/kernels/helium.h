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

/* The same for at least four rows of products of 16 by 16 bits, whose sums need pairs of registers;
 * they begin with a bias times the factor. Where rows begin at words, one instruction loads 32
 * numbers. Of rows that are no fours, the first four and the second one share some. The stack has
 * where these sums end, the place of the next one, then what four rows begin with: the weights, the
 * bytes of a row, the place of the biases, their factor, x, how many times 32 products there are;
 * then how many more, how many bytes are loaded beyond the end of the last row, how many rows are
 * more than fours, and where all sums end. */
#define FXP_32_PRODUCTS(w, sum)                                                                    \
    "vldmia " w "!, {d8-d15}\n\t"                                                                  \
    "vmlaldava.s16 " sum ", q0, q4\n\t"                                                            \
    "vmlaldava.s16 " sum ", q1, q5\n\t"                                                            \
    "vmlaldava.s16 " sum ", q2, q6\n\t"                                                            \
    "vmlaldava.s16 " sum ", q3, q7\n\t"
static inline void fxp_rows_by_four16(const int16_t *w, const int16_t *x, int n, const int32_t *b,
                                      int32_t factor, int rows, int64_t *sums)
{
    register int64_t *r1 __asm__("r1") = sums;
    register const int16_t *r2 __asm__("r2") = w;
    register const int32_t *r4 __asm__("r4") = b;
    register int32_t r5 __asm__("r5") = factor;
    register const int16_t *r6 __asm__("r6") = x;
    register int r9 __asm__("r9") = n;
    register int r11 __asm__("r11") = rows;
    __asm__ volatile("push {r7}\n\t"
                     "lsl r3, r9, #1\n\t"
                     "add r12, r1, r11, lsl #3\n\t"
                     "mov r0, r12\n\t"
                     "ands r11, r11, #3\n\t"
                     "it ne\n\t"
                     "addne r0, r1, #32\n\t"
                     "rsb r10, r3, #0\n\t"
                     "and r10, r10, #15\n\t"
                     "mov r8, #0\n\t"
                     "orr r7, r2, r3\n\t"
                     "orrs r7, r7, r6\n\t"
                     "lsls r7, r7, #30\n\t"
                     "itt eq\n\t"
                     "lsreq r8, r9, #5\n\t"
                     "andeq r9, r9, #31\n\t"
                     "push {r0, r1, r2, r3, r4, r5, r6, r8, r9, r10, r11, r12}\n"
                     "1:\n\t"
                     "ldm sp, {r6, r7, r8, r9, r10, r11, r12, lr}\n\t"
                     "ldm r10!, {r0, r2, r4, r6}\n\t"
                     "str r10, [sp, #16]\n\t"
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
                     "ldr lr, [sp, #32]\n\t"
                     "wlstp.16 lr, lr, 5f\n"
                     "4:\n\t" FXP_EIGHT16("q0", "r12")
                     FXP_EIGHT16("q1", "r8") "vmlaldava.s16 r0, r1, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r9") "vmlaldava.s16 r2, r3, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r10") "vmlaldava.s16 r4, r5, q0, q1\n\t"
                     FXP_EIGHT16("q1", "r11") "vmlaldava.s16 r6, r7, q0, q1\n\t"
                     "letp lr, 4b\n\t"
                     "ldr r12, [sp, #36]\n\t"
                     "sub r11, r11, r12\n"
                     "5:\n\t"
                     "ldrd lr, r12, [sp]\n\t"
                     "stm r12!, {r0, r1, r2, r3, r4, r5, r6, r7}\n\t"
                     "strd r12, r11, [sp, #4]\n\t"
                     "cmp r12, lr\n\t"
                     "bne 1b\n\t"
                     "ldrd r0, lr, [sp, #40]\n\t"
                     "cbz r0, 6f\n\t"
                     "rsb r0, r0, #4\n\t"
                     "ldrd r1, r2, [sp, #12]\n\t"
                     "mls r11, r0, r1, r11\n\t"
                     "sub r12, r12, r0, lsl #3\n\t"
                     "sub r2, r2, r0, lsl #2\n\t"
                     "strd r12, r11, [sp, #4]\n\t"
                     "str r2, [sp, #16]\n\t"
                     "str lr, [sp]\n\t"
                     "movs r0, #0\n\t"
                     "str r0, [sp, #40]\n\t"
                     "b 1b\n"
                     "6:\n\t"
                     "add sp, sp, #48\n\t"
                     "pop {r7}"
                     : "+r"(r1), "+r"(r2), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r9), "+r"(r11)
                     :
                     : "r0", "r3", "r8", "r10", "r12", "lr", "q0", "q1", "q2", "q3", "q4", "q5",
                       "q6", "q7", "cc", "memory");
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
