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

#if FXP_DSP && !FXP_MVE
/* clang-format off */
/* Two weights, and eight. */
#define FXP_UPDATE_2(w, x)                                                                         \
    "smlabb r12, " x ", r2, lr\n\t"                                                                \
    "smlatb " x ", " x ", r2, lr\n\t"                                                              \
    "pkhtb " x ", " x ", r12, asr #16\n\t"                                                         \
    "qadd16 " w ", " w ", " x "\n\t"
#define FXP_UPDATE_8                                                                               \
    "ldmia.w r0, {r3, r4, r5, r6}\n\t"                                                             \
    "ldmia.w r1!, {r8, r9, r10, r11}\n\t"                                                          \
    FXP_UPDATE_2("r3", "r8") FXP_UPDATE_2("r4", "r9") FXP_UPDATE_2("r5", "r10")                    \
        FXP_UPDATE_2("r6", "r11") "stmia.w r0!, {r3, r4, r5, r6}\n\t"
/* clang-format on */
#endif

/* w[i] += (m * x[i] + dither) >> 16, saturated; m has 16 bits and a sign, 0 <= dither < 2^16. */
static FXP_OUTLINE void fxp_update16(int16_t *w, const int16_t *x, int n, int32_t m, int32_t dither)
{
#if FXP_SSE2
    const int done = n & ~7;
    fxp_update_eights(w, x, n, _mm_set1_epi16((int16_t)m), _mm_set1_epi16((int16_t)dither), 0);
    w += done;
    x += done;
    n -= done;
#elif FXP_MVE
    if (n >= 8) { /* a loop of n elements would cut products of an odd n */
        __asm__ volatile("vdup.16 q3, %[m]\n\t"
                         "dls lr, %[eights]\n"
                         "1:\n\t"
                         "vldrh.u16 q2, [%[x]], #16\n\t"
                         "vmullb.s16 q0, q2, q3\n\t"
                         "vmullt.s16 q1, q2, q3\n\t"
                         "vadd.i32 q0, q0, %[dither]\n\t"
                         "vadd.i32 q1, q1, %[dither]\n\t"
                         "vshrnb.i32 q0, q0, #16\n\t"
                         "vshrnt.i32 q0, q1, #16\n\t"
                         "vldrh.u16 q1, [%[w]]\n\t"
                         "vqadd.s16 q1, q1, q0\n\t"
                         "vstrh.16 q1, [%[w]], #16\n\t"
                         "le lr, 1b"
                         : [w] "+r"(w), [x] "+r"(x)
                         : [eights] "r"(n >> 3), [m] "r"(m), [dither] "r"(dither)
                         : "lr", "q0", "q1", "q2", "q3", "memory");
        n &= 7;
    }
#elif FXP_DSP
    if (n >= 8 && fxp_are_words(w, x)) {
        register int16_t *r0 __asm__("r0") = w;
        register const int16_t *r1 __asm__("r1") = x;
        register int32_t r2 __asm__("r2") = m;
        register int r3 __asm__("r3") = n & ~7;
        register int32_t lr __asm__("lr") = dither;
        __asm__ volatile("push {r7}\n\t"
                         "mov r7, r3\n"
                         "1:\n\t" FXP_UPDATE_8 "subs r7, r7, #8\n\t"
                         "bgt 1b\n\t"
                         "pop {r7}"
                         : "+r"(r0), "+r"(r1), "+r"(r3)
                         : "r"(r2), "r"(lr)
                         : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "cc", "memory");
        w = r0;
        x = r1;
        n &= 7;
    }
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
    for (; n >= 4; n -= 4, w += 4, x += 4) {
        w[0] = fxp_sat16(w[0] + ((m * x[0] + dither) >> 16));
        w[1] = fxp_sat16(w[1] + ((m * x[1] + dither) >> 16));
        w[2] = fxp_sat16(w[2] + ((m * x[2] + dither) >> 16));
        w[3] = fxp_sat16(w[3] + ((m * x[3] + dither) >> 16));
    }
    for (; n > 0; n--, w++, x++) {
        *w = fxp_sat16(*w + ((m * *x + dither) >> 16));
    }
#endif
}

#if FXP_DSP
/* Of four numbers of 8 bits, the even and the odd ones as 16 bits, times 256. */
typedef struct {
    int16x2_t even;
    int16x2_t odd;
} fxp_lifted;

static inline fxp_lifted fxp_lift_four(const int8_t *x)
{
    const uint32_t quad = (uint32_t)fxp_quad(x);
    const fxp_lifted four = {(int16x2_t)((quad << 8) & 0xFF00FF00u),
                             (int16x2_t)(quad & 0xFF00FF00u)};
    return four;
}
#endif

/* The same for x[i] * 256. */
static FXP_OUTLINE void fxp_update16x8(int16_t *w, const int8_t *x, int n, int32_t m,
                                       int32_t dither)
{
#if FXP_DSP
    for (; n >= 4; n -= 4, w += 4, x += 4) {
        const fxp_lifted four = fxp_lift_four(x);
        const int16x2_t first = fxp_upper(__smlabb(four.even, m, dither),
                                          __smlabb(four.odd, m, dither));
        const int16x2_t second = fxp_upper(__smlatb(four.even, m, dither),
                                           __smlatb(four.odd, m, dither));
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

/* The dither of a row whose rate is folded: the lower half of the draw that fxp_fold made, or of
 * one more where that made none. It has no bit in common with what folded up to k = 16, and beyond
 * only bits that matter once in 2^16 rows. */
static FXP_INLINE int32_t fxp_dither(int k, uint32_t *random)
{
    return (int32_t)((k < 1 ? fxp_draw(random) : *random) & 0xFFFFu);
}

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
/* The first 16 bits of a vector in all eight places. */
#define FXP_EACH(v) _mm_shuffle_epi32(_mm_shufflelo_epi16(v, 0), 0)

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
        const __m128i factor = _mm_cvtsi32_si128(m);
        const uint32_t second = is_nearest ? 0x8000u : draw;
        const __m128i dither = _mm_cvtsi32_si128((int32_t)second);
        fxp_update_eights(w, x, n, FXP_EACH(_mm_packs_epi32(factor, factor)), FXP_EACH(dither),
                          is_aligned);
        if (n % 8 != 0) {
            const int done = n & ~7;
            fxp_update16(w + done, x + done, n % 8, fxp_sat16(m), (int32_t)(second & 0xFFFFu));
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
    "eor " v ", " v ", " v ", lsl #13\n\t"                                                         \
    "eor " v ", " v ", " v ", lsr #17\n\t"                                                         \
    "eor " v ", " v ", " v ", lsl #5\n\t"
/* clang-format on */
#endif

#if FXP_SSE2 || FXP_DSP || FXP_SMALL_THUMB
/* Whether nothing changes, and nothing is drawn, whatever the errors are. */
static inline int fxp_is_idle(fxp_rate rate, int k)
{
    return k > 30 || (k < 1 && rate.m == 0);
}

/* A rate whose products lose no bits where k < 1. With 8 bits more even that of an error of 1
 * saturates. */
static inline int32_t fxp_rate_before(fxp_rate rate, int k)
{
    return k < 1 ? (int32_t)rate.m << (k > -8 ? -k : 8) : rate.m;
}
#endif

/* What a row that changes takes; as many wait for each other, where rows share work. */
#define FXP_CHANGES 8
typedef struct {
    int16_t *end;
    int32_t m;
    int32_t dither;
} fxp_row_change;

#if FXP_SSE2 || FXP_SMALL_THUMB || (FXP_DSP && !FXP_MVE)
#if FXP_DSP
/* clang-format off */
#define FXP_EIGHT_BYTES 76 /* of the code of FXP_UPDATE_8: instructions of four bytes each */
/* The stack has what a row begins with, r1 to r12, the bytes of a row and the r7 of the caller. */
#define FXP_LEARN_ROWS(always, dither)                                                             \
    __asm__ volatile("push {r2, r7}\n\t" always                                                    \
                     "mov r7, r11\n\t"                                                             \
                     "adr.w r12, 3f\n\t"                                                           \
                     "cmp r10, #0\n\t"                                                             \
                     "blt 4f\n\t"                                                                  \
                     "adr.w r12, 2f\n\t"                                                           \
                     "add r12, r12, r10\n"                                                         \
                     "4:\n\t"                                                                      \
                     "push {r1, r3, r4, r5, r6, r7, r8, r9, r12}\n\t"                              \
                     "b 1f\n\t"                                                                    \
                     ".p2align 2\n" /* places count from a word */                                 \
                     "2:\n\t" FXP_UPDATE_8 FXP_UPDATE_8 FXP_UPDATE_8 FXP_UPDATE_8                  \
                     "subs r7, r7, #32\n\t"                                                        \
                     "bgt 2b\n\t"                                                                  \
                     "bne 6f\n"                                                                    \
                     "1:\n\t" /* the next row */                                                   \
                     "ldm sp, {r1, r3, r4, r5, r6, r7, r8, r9, r12}\n\t"                           \
                     "cmp r3, r5\n\t"                                                              \
                     "beq 9f\n\t"                                                                  \
                     "ldrsh r2, [r3], #2\n\t"                                                      \
                     "cbz r2, 7f\n\t" FXP_DRAW("r4")                                               \
                     "lsr r10, r4, r9\n\t"                                                         \
                     "mla r2, r2, r6, r10\n\t"                                                     \
                     "asrs r2, r2, r8\n\t"                                                         \
                     "beq 7f\n\t"                                                                  \
                     "ssat r2, #16, r2\n\t" dither                                                 \
                     "strd r3, r4, [sp, #4]\n\t"                                                   \
                     "mov pc, r12\n"                                                               \
                     "7:\n\t" /* nothing changes */                                                \
                     "strd r3, r4, [sp, #4]\n\t"                                                   \
                     "ldr r10, [sp, #36]\n\t"                                                      \
                     "add r0, r0, r10\n\t"                                                         \
                     "b 1b\n"                                                                      \
                     "6:\n\t"                                                                      \
                     "adds r7, r7, #8\n"                                                           \
                     "3:\n\t" /* pairs at any address */                                           \
                     "subs r7, r7, #2\n\t"                                                         \
                     "blt 5f\n"                                                                    \
                     "4:\n\t"                                                                      \
                     "ldr r3, [r0]\n\t"                                                            \
                     "ldr r8, [r1], #4\n\t" FXP_UPDATE_2("r3", "r8")                               \
                     "str r3, [r0], #4\n\t"                                                        \
                     "subs r7, r7, #2\n\t"                                                         \
                     "bge 4b\n"                                                                    \
                     "5:\n\t"                                                                      \
                     "lsls r3, r7, #31\n\t"                                                        \
                     "bpl 1b\n\t"                                                                  \
                     "ldrh r3, [r0]\n\t"                                                           \
                     "ldrsh r8, [r1]\n\t"                                                          \
                     "smlabb r8, r8, r2, lr\n\t"                                                   \
                     "asr r8, r8, #16\n\t"                                                         \
                     "qadd16 r3, r3, r8\n\t"                                                       \
                     "strh r3, [r0], #2\n\t"                                                       \
                     "b 1b\n"                                                                      \
                     "9:\n\t"                                                                      \
                     "add sp, sp, #40\n\t"                                                         \
                     "pop {r7}"                                                                    \
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
                                       int32_t m, int k, uint32_t *random)
{
#define FXP_DRAW                                                                                   \
    "lsls r6, r2, #13\n\t"                                                                         \
    "eors r2, r6\n\t"                                                                              \
    "lsrs r6, r2, #17\n\t"                                                                         \
    "eors r2, r6\n\t"                                                                              \
    "lsls r6, r2, #5\n\t"                                                                          \
    "eors r2, r6\n\t"
    register const int16_t *r0 __asm__("r0") = *dy;
    register int r1 __asm__("r1") = *rows;
    register uint32_t r2 __asm__("r2") = *random;
    register int r3 __asm__("r3") = 32 - k;
    register int r4 __asm__("r4") = k;
    register int32_t r5 __asm__("r5") = m;
    register int16_t *r9 __asm__("r9") = *w;
    register int32_t r10 __asm__("r10") = step;
    __asm__ volatile(".syntax unified\n\t"
                     "mov r8, r5\n"
                     "1:\n\t"
                     "movs r5, #0\n\t"
                     "subs r1, r1, #1\n\t"
                     "blt 2f\n\t"
                     "ldrsh r5, [r0, r5]\n\t"
                     "adds r0, r0, #2\n\t"
                     "add r9, r10\n\t"
                     "cmp r5, #0\n\t"
                     "beq 1b\n\t" FXP_DRAW
                     "mov r6, r8\n\t"
                     "muls r5, r6, r5\n\t"
                     "movs r6, r2\n\t"
                     "lsrs r6, r3\n\t"
                     "subs r5, r6, r5\n\t"
                     "asrs r5, r4\n\t"
                     "beq 1b\n\t"
                     "sxth r6, r5\n\t"
                     "cmp r6, r5\n\t"
                     "beq 2f\n\t"
                     "asrs r5, r5, #31\n\t"
                     "movs r6, #1\n\t"
                     "lsls r6, r6, #15\n\t"
                     "subs r6, r6, #1\n\t"
                     "eors r5, r6\n"
                     "2:"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r5), "+r"(r9)
                     : "r"(r3), "r"(r4), "r"(r10)
                     : "r6", "r8", "cc", "memory");
#undef FXP_DRAW
    *dy = r0;
    *w = r9;
    *rows = r1;
    *random = r2;
    return r5;
}

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

/* Factors are m * dy[o], with 0 <= k <= 30 bits less. Returns the last draw. */
static FXP_INLINE uint32_t fxp_learn_rows16(int16_t *w, const int16_t *x, int n, const int16_t *dy,
                                            int rows, int32_t m, int k, uint32_t draw,
                                            int is_nearest)
{
#if FXP_SSE2
    const int64_t scale = -(int64_t)((uint64_t)m << (32 - k));
    if ((uintptr_t)w % 16 == 0 && n % 8 == 0) {
        return fxp_learn_eights(w, x, n, dy, rows, scale, draw, is_nearest, 1);
    }
    return fxp_learn_eights(w, x, n, dy, rows, scale, draw, is_nearest, 0);
#elif FXP_SMALL_THUMB
    const int is_sparse = fxp_are_sparse(x, n);
    const int32_t step = 2 * (int32_t)n;
    fxp_row_change changes[FXP_CHANGES];
    int count = 0;
    while (rows > 0) {
        const int32_t factor = fxp_next_row(&dy, &w, step, &rows, m, k, &draw);
        const int32_t dither = is_nearest ? 0x8000 : (int32_t)(draw & 0xFFFFu);
        if (!is_sparse) {
            if (factor != 0) {
                fxp_update16(w - n, x, n, factor, dither);
            }
            continue;
        }
        if (factor != 0) {
            changes[count].end = w;
            changes[count].m = factor;
            changes[count++].dither = dither;
        }
        if (count == FXP_CHANGES || rows <= 0) {
            fxp_change_rows(changes, count, x, n);
            count = 0;
        }
    }
    return draw;
#else
    /* The loop of a row takes four times eight weights and is entered where the eights that are
     * left over begin. */
    const int eights = fxp_are_words(w, x) && (n & 1) == 0 ? n >> 3 : 0;
    register int16_t *r0 __asm__("r0") = w;
    register const int16_t *r1 __asm__("r1") = x;
    register int r2 __asm__("r2") = 2 * n;
    register const int16_t *r3 __asm__("r3") = dy;
    register uint32_t r4 __asm__("r4") = draw;
    register const int16_t *r5 __asm__("r5") = dy + rows;
    register int32_t r6 __asm__("r6") = -m;
    register int r8 __asm__("r8") = k;
    register int r9 __asm__("r9") = 32 - k;
    register int r10 __asm__("r10") = eights == 0 ? -1 : FXP_EIGHT_BYTES * (-eights & 3);
    register int r11 __asm__("r11") = eights == 0 ? n : ((eights + 3) >> 2) * 32 - (-n & 7);
    if (is_nearest) {
        FXP_LEARN_ROWS("mov lr, #0x8000\n\t", "");
    } else {
        FXP_LEARN_ROWS("", "uxth lr, r4\n\t");
    }
    return r4;
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
        if (fxp_is_idle(rate, k)) {                                                                \
            return;                                                                                \
        }                                                                                          \
        const uint32_t draw = fxp_learn_rows16(w, x, n, dy, rows, fxp_rate_before(rate, k),        \
                                               k < 1 ? 0 : k, *random, is_nearest);                \
        if (!is_nearest || k > 0) { /* otherwise what was drawn has rounded nothing */             \
            *random = draw;                                                                        \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)
FXP_LEARN_BY_ROWS(fxp_learn16, 0);
FXP_LEARN_BY_ROWS(fxp_learn16_nearest, 1);
#undef FXP_LEARN_BY_ROWS
#elif FXP_MVE
/* Four rows at once. First the rates go into the errors of FXP_FOLDED rows: where something is
 * left, the place of the row and a pair, its factor m and its dither - 2^15, go onto the stack.
 * Twice the product of such a pair and (x[i], 1) is cut to 16 bits; half of that, rounded, is the
 * change, as ((m * x[i] + dither - 2^15) >> 15) + 1 >> 1 is (m * x[i] + dither) >> 16. q0 has pairs
 * (x[i], 1) for even i, q1 has (1, x[i]) for odd ones. Where rows begin at words, sixteen weights
 * of each row learn before the next sixteen, and one instruction loads them. Rows that are left
 * over wait for the next ones; in the end rows that change nothing fill up. The stack has what the
 * folding begins with, where the sixteens of x end, x, how many weights of a row are no sixteen,
 * and where the pairs end. */
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
    "vldm " w ", {d12-d15}\n\t"                                                                    \
    FXP_CHANGE("q0", "q1", "q4", "q5") "vqrdmlah.s16 q6, q5, r10\n\t"                              \
    FXP_CHANGE("q2", "q3", "q4", "q5") "vqrdmlah.s16 q7, q5, r10\n\t"                              \
    "vstm " w "!, {d12-d15}\n\t"
#define FXP_PAIR_WITH_1(even, odd)                                                                 \
    "vmovnb.i32 " even ", " odd "\n\t"                                                             \
    "vsri.32 " odd ", " even ", #16\n\t"
/* Of a factor in r3: the pair of it and a dither, of the draw or 2^15. */
#define FXP_STOCHASTIC "pkhbt r3, r3, r1, lsl #16\n\t" "eor r3, r3, #0x80000000\n\t"
#define FXP_NEAREST "uxth r3, r3\n\t"
#define FXP_STOCHASTIC_FOUR "vsli.32 q5, q7, #16\n\tveor q5, q5, q2\n\t"
#define FXP_NEAREST_FOUR "vmovlb.u16 q5, q5\n\t"
#define FXP_DRAW_NEXT(v, last)                                                                     \
    "eor " v ", " last ", " last ", lsl #13\n\t"                                                   \
    "eor " v ", " v ", " v ", lsr #17\n\t"                                                         \
    "eor " v ", " v ", " v ", lsl #5\n\t"
/* The same for four rows at once, up to an error of 0: q4 has their places, q5 what becomes their
 * pairs. A row of which nothing is left learns with a factor of 0. */
#define FXP_FOLD_FOURS(load, pair)                                                                 \
    "mov lr, #0\n\t"                                                                               \
    "vidup.u32 q4, lr, #1\n\t"                                                                     \
    "vmul.i32 q4, q4, r7\n\t"                                                                      \
    "vadd.i32 q4, q4, r2\n\t"                                                                      \
    "lsl r3, r7, #2\n\t"                                                                           \
    "vdup.32 q3, r3\n\t"                                                                           \
    "sub r3, r5, #32\n\t"                                                                          \
    "vdup.32 q1, r3\n\t"                                                                           \
    "rsb r3, r5, #0\n\t"                                                                           \
    "vdup.32 q0, r3\n\t"                                                                           \
    "vmov.i32 q2, #0x80000000\n\t"                                                                 \
    "mvn r3, #0\n\t"                                                                               \
    "dls lr, r12\n"                                                                                \
    "6:\n\t" load("q6", "r0")                                                                      \
    "vminav.s32 r3, q6\n\t"                                                                        \
    "cbz r3, 7f\n\t"                                                                               \
    FXP_DRAW_NEXT("r12", "r1") FXP_DRAW_NEXT("r9", "r12")                                          \
    FXP_DRAW_NEXT("r2", "r9") FXP_DRAW_NEXT("r1", "r2")                                            \
    "vmov q7[2], q7[0], r12, r2\n\t"                                                               \
    "vmov q7[3], q7[1], r9, r1\n\t"                                                                \
    "vshl.u32 q5, q7, q1\n\t"                                                                      \
    "vmla.s32 q5, q6, r4\n\t"                                                                      \
    "vshl.s32 q5, q5, q0\n\t"                                                                      \
    "vqmovnb.s32 q5, q5\n\t" pair                                                                  \
    "vst20.32 {q4, q5}, [r11]\n\t"                                                                 \
    "vst21.32 {q4, q5}, [r11]!\n\t"                                                                \
    "vadd.i32 q4, q4, q3\n\t"                                                                      \
    "le lr, 6b\n\t"
#define FXP_LEARN_MVE(name, bits, load_x, pair, is_nearest)                                        \
    static FXP_OUTLINE void name(int16_t *w, const int##bits##_t *x, int n,                        \
                                 const int##bits##_t *dy, int rows, fxp_rate rate, int k,          \
                                 uint32_t *random)                                                 \
    {                                                                                              \
        int32_t m = rate.m;                                                                        \
        int shift = k;                                                                             \
        if (rows < 1 || k > 30) {                                                                  \
            return;                                                                                \
        }                                                                                          \
        if (k < 1) { /* which is rare */                                                           \
            if (fxp_is_idle(rate, k)) {                                                            \
                return;                                                                            \
            }                                                                                      \
            m = fxp_rate_before(rate, k);                                                          \
            shift = 0;                                                                             \
            __asm__("" : "+r"(m));                                                                 \
        }                                                                                          \
        const int sixteens = (((uintptr_t)w | (uintptr_t)n << 1) & 3u) == 0 ? n & ~15 : 0;         \
        register const int##bits##_t *r0 __asm__("r0") = dy;                                       \
        register uint32_t r1 __asm__("r1") = *random;                                              \
        register int16_t *r2 __asm__("r2") = w;                                                    \
        register int r3 __asm__("r3") = rows;                                                      \
        register int32_t r4 __asm__("r4") = -m;                                                    \
        register int r5 __asm__("r5") = shift;                                                     \
        register int r6 __asm__("r6") = n;                                                         \
        register const int##bits##_t *r8 __asm__("r8") = x + sixteens;                             \
        register const int##bits##_t *r9 __asm__("r9") = x;                                        \
        register int r10 __asm__("r10") = 0x4000;                                                  \
        register int r11 __asm__("r11") = n - sixteens;                                            \
        __asm__ volatile("push {r7}\n\t"                                                           \
                         "sub sp, #(48 + 8 * (" FXP_TEXT(FXP_FOLDED) " + 6))\n\t"                  \
                         "lsl r7, r6, #1\n\t"                                                      \
                         "rsb r6, r5, #32\n\t"                                                     \
                         "stm sp, {r0-r9, r11}\n\t"                                                \
                         "add r11, sp, #48\n"                                                      \
                         "1:\n\t"                                                                  \
                         "subs r3, #" FXP_TEXT(FXP_FOLDED) "\n\t"                                  \
                         "and lr, r3, r3, asr #31\n\t"                                             \
                         "sub r3, lr\n\t"                                                          \
                         "add lr, #" FXP_TEXT(FXP_FOLDED) "\n\t"                                   \
                         "str r3, [sp, #12]\n\t"                                                   \
                         "and r8, lr, #3\n\t"                                                      \
                         "lsrs r12, lr, #2\n\t"                                                    \
                         "beq 8f\n\t"                                                              \
                         FXP_FOLD_FOURS(FXP_FOUR##bits, pair##_FOUR)                               \
                         "vmov.32 r2, q4[0]\n\t"                                                   \
                         "b 8f\n"                                                                  \
                         "7:\n\t" /* an error of 0 draws nothing: from it on one by one */         \
                         "sub r0, #(4 * " #bits " / 8)\n\t"                                        \
                         "vmov.32 r2, q4[0]\n\t"                                                   \
                         "add r8, r8, lr, lsl #2\n"                                                \
                         "8:\n\t"                                                                  \
                         "wls lr, r8, 6f\n"                                                        \
                         "2:\n\t" FXP_ONE##bits("r3", "r0")                                        \
                         "cbz r3, 3f\n\t" FXP_DRAW("r1")                                           \
                         "lsr r12, r1, r6\n\t"                                                     \
                         "mla r3, r3, r4, r12\n\t"                                                 \
                         "asrs r3, r5\n\t"                                                         \
                         "beq 3f\n\t"                                                              \
                         "ssat r3, #16, r3\n\t" pair                                               \
                         "strd r2, r3, [r11], #8\n"                                                \
                         "3:\n\t"                                                                  \
                         "add r2, r7\n\t"                                                          \
                         "le lr, 2b\n"                                                             \
                         "6:\n\t"                                                                  \
                         "stm sp, {r0, r1, r2}\n\t"                                                \
                         "ldr r3, [sp, #12]\n\t"                                                   \
                         "cbnz r3, 4f\n\t"                                                         \
                         "sub r2, r7\n\t"                                                          \
                         "mov r3, #0x80000000\n\t"                                                 \
                         "strd r2, r3, [r11], #8\n\t"                                              \
                         "strd r2, r3, [r11], #8\n\t"                                              \
                         "strd r2, r3, [r11], #8\n"                                                \
                         "4:\n\t"                                                                  \
                         "add r12, sp, #48\n\t"                                                    \
                         "sub lr, r11, r12\n\t"                                                    \
                         "str r11, [sp, #44]\n\t"                                                  \
                         "lsrs r11, lr, #5\n\t"                                                    \
                         "beq 9f\n\t"                                                              \
                         "vmov.i32 q0, #0x10000\n\t"                                               \
                         "vmov.i32 q2, #0x10000\n\t"                                               \
                         "ldrd r8, r9, [sp, #32]\n\t"                                              \
                         "cmp r9, r8\n\t"                                                          \
                         "beq 7f\n"                                                                \
                         "5:\n\t" /* sixteen weights of all rows */                                \
                         FXP_TWO_EIGHTS##bits FXP_PAIR_WITH_1("q0", "q1")                          \
                         FXP_PAIR_WITH_1("q2", "q3")                                               \
                         "add r12, sp, #48\n\t"                                                    \
                         "dls lr, r11\n"                                                           \
                         "6:\n\t"                                                                  \
                         "ldm r12, {r0-r7}\n\t"                                                    \
                         FXP_LEARN_16("r0", "r1") FXP_LEARN_16("r2", "r3")                         \
                         FXP_LEARN_16("r4", "r5") FXP_LEARN_16("r6", "r7")                         \
                         "stm r12!, {r0-r7}\n\t"                                                   \
                         "le lr, 6b\n\t"                                                           \
                         "cmp r9, r8\n\t"                                                          \
                         "bne 5b\n"                                                                \
                         "7:\n\t" /* what is left of the rows */                                   \
                         "ldr r3, [sp, #40]\n\t"                                                   \
                         "cmp r3, #0\n\t"                                                          \
                         "beq 9f\n\t"                                                              \
                         "add r12, sp, #48\n"                                                      \
                         "7:\n\t"                                                                  \
                         "ldm r12!, {r0-r7}\n\t"                                                   \
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
                         "subs r11, #1\n\t"                                                        \
                         "bne 7b\n"                                                                \
                         "9:\n\t"                                                                  \
                         "ldr r3, [sp, #12]\n\t"                                                   \
                         "cbz r3, 9f\n\t"                                                          \
                         "ldr r11, [sp, #44]\n\t"                                                  \
                         "ldm r12, {r0-r5}\n\t"                                                    \
                         "add lr, sp, #48\n\t"                                                     \
                         "stm lr, {r0-r5}\n\t"                                                     \
                         "sub r11, r12\n\t"                                                        \
                         "add r11, lr\n\t"                                                         \
                         "ldm sp, {r0-r7}\n\t"                                                     \
                         "b 1b\n"                                                                  \
                         "9:\n\t"                                                                  \
                         "ldr r1, [sp, #4]\n\t"                                                    \
                         "add sp, #(48 + 8 * (" FXP_TEXT(FXP_FOLDED) " + 6))\n\t"                  \
                         "pop {r7}"                                                                \
                         : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6),   \
                           "+r"(r8), "+r"(r9), "+r"(r11)                                           \
                         : "r"(r10)                                                                \
                         : "r12", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc",      \
                           "memory");                                                              \
        *random = is_nearest && k < 1 ? *random : r1;                                              \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)
#define FXP_TEXT_OF(number) #number
#define FXP_TEXT(number) FXP_TEXT_OF(number)
#define FXP_ONE16(v, at) "ldrsh " v ", [" at "], #2\n\t"
#define FXP_ONE8(v, at) "ldrsb " v ", [" at "], #1\n\t"
#define FXP_TWO_EIGHTS16 FXP_EIGHT16("q1", "r9") FXP_EIGHT16("q3", "r9")
#define FXP_TWO_EIGHTS8                                                                            \
    "mov r7, r9\n\t" FXP_EIGHT8_HIGH("q1", "r7") FXP_EIGHT8_HIGH("q3", "r7") "mov r9, r7\n\t"
#define FXP_FOUR16(q, at) "vldrh.s32 " q ", [" at "], #8\n\t"
#define FXP_FOUR8(q, at) "vldrb.s32 " q ", [" at "], #4\n\t"
FXP_LEARN_MVE(fxp_learn16, 16, FXP_EIGHT16, FXP_STOCHASTIC, 0);
FXP_LEARN_MVE(fxp_learn16_nearest, 16, FXP_EIGHT16, FXP_NEAREST, 1);
FXP_LEARN_MVE(fxp_learn16x8, 8, FXP_EIGHT8_HIGH, FXP_STOCHASTIC, 0);
FXP_LEARN_MVE(fxp_learn16x8_nearest, 8, FXP_EIGHT8_HIGH, FXP_NEAREST, 1);
/* clang-format on */
#undef FXP_FOLDED
#undef FXP_CHANGE
#undef FXP_LEARN_8
#undef FXP_LEARN_16
#undef FXP_PAIR_WITH_1
#undef FXP_STOCHASTIC
#undef FXP_STOCHASTIC_FOUR
#undef FXP_NEAREST
#undef FXP_NEAREST_FOUR
#undef FXP_DRAW_NEXT
#undef FXP_FOLD_FOURS
#undef FXP_LEARN_MVE
#undef FXP_TEXT_OF
#undef FXP_TEXT
#undef FXP_ONE16
#undef FXP_ONE8
#undef FXP_TWO_EIGHTS16
#undef FXP_TWO_EIGHTS8
#undef FXP_FOUR16
#undef FXP_FOUR8
#else
FXP_LEARN(fxp_learn16, int16_t, fxp_update16, fxp_dither(k, random));
FXP_LEARN(fxp_learn16_nearest, int16_t, fxp_update16, fxp_nearest());
#endif
#if FXP_DSP && !FXP_MVE
/* n numbers of 8 bits as 16 bits, times 256 */
static FXP_OUTLINE void fxp_widen_up(int16_t *out, const int8_t *from, int n)
{
    for (; n >= 4; n -= 4, out += 4, from += 4) {
        const fxp_lifted four = fxp_lift_four(from);
        const int16x2_t first = fxp_lower(four.even, four.odd);
        const int16x2_t second = fxp_upper(four.even, four.odd);
        memcpy(out, &first, 4);
        memcpy(out + 2, &second, 4);
    }
    for (; n > 0; n--) {
        *out++ = (int16_t)(*from++ * 256);
    }
}

/* Numbers are widened once for rows that wait for each other. */
#define FXP_LEARN_WIDENED(name, rounding)                                                          \
    static FXP_OUTLINE void name(int16_t *w, const int8_t *x, int n, const int8_t *dy, int rows,   \
                                 fxp_rate rate, int k, uint32_t *random)                           \
    {                                                                                              \
        int16_t wide[FXP_WIDENED];                                                                 \
        fxp_row_change changes[FXP_CHANGES];                                                       \
        while (rows > 0) {                                                                         \
            int count = 0;                                                                         \
            for (; rows > 0 && count < FXP_CHANGES; rows--) {                                      \
                const int32_t m = fxp_fold(*dy++, rate, k, random);                                \
                w += n;                                                                            \
                if (m != 0) {                                                                      \
                    changes[count].end = w;                                                        \
                    changes[count].m = m;                                                          \
                    changes[count++].dither = rounding;                                            \
                }                                                                                  \
            }                                                                                      \
            for (int at = 0; at < n && count > 0; at += FXP_WIDENED) {                             \
                const int part = fxp_part(n - at, FXP_WIDENED);                                    \
                fxp_widen_up(wide, x + at, part);                                                  \
                for (int j = 0; j < count; j++) {                                                  \
                    int16_t *const row = changes[j].end - n;                                       \
                    fxp_update16(row + at, wide, part, changes[j].m, changes[j].dither);           \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)
FXP_LEARN_WIDENED(fxp_learn16x8, fxp_dither(k, random));
FXP_LEARN_WIDENED(fxp_learn16x8_nearest, fxp_nearest());
#undef FXP_LEARN_WIDENED
#elif !FXP_MVE
FXP_LEARN(fxp_learn16x8, int8_t, fxp_update16x8, fxp_dither(k, random));
FXP_LEARN(fxp_learn16x8_nearest, int8_t, fxp_update16x8, fxp_nearest());
#endif
#undef FXP_CHANGES
#undef FXP_WIDENED
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
/* Where m fits with 31 - shift bits more, one instruction does all of it; beyond 31 nothing is left
 * of a change. */
/* clang-format off */
#define FXP_UPDATE_BIASES(bits, load_dy)                                                           \
    static FXP_OUTLINE void fxp_update_biases##bits(int32_t *b, const int##bits##_t *dy, int n,    \
                                                    uint8_t m, int shift)                          \
    {                                                                                              \
        if (shift >= 8) {                                                                          \
            const int32_t part = shift > 31 ? 0 : -((int32_t)m << (31 - shift));                   \
            __asm__ volatile("dlstp.32 lr, %[n]\n"                                                 \
                             "1:\n\t" load_dy                                                      \
                             "vldrw.u32 q1, [%[b]]\n\t"                                            \
                             "vqrdmlah.s32 q1, q0, %[part]\n\t"                                    \
                             "vstrw.32 q1, [%[b]], #16\n\t"                                        \
                             "letp lr, 1b"                                                         \
                             : [b] "+r"(b), [dy] "+l"(dy)                                          \
                             : [n] "r"(n), [part] "r"(part)                                        \
                             : "lr", "q0", "q1", "memory");                                        \
            return;                                                                                \
        }                                                                                          \
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
                const int32_t step = fxp_limited((half - *gradient++) >> k, 24);                   \
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
        const int32_t first = fxp_limited((half - gradient[0]) >> k, 24) * m + dither;             \
        const int32_t second = fxp_limited((half - gradient[1]) >> k, 24) * m + dither;            \
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
