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
