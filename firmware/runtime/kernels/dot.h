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

/* n numbers of 8 bits as 16 bits */
static FXP_OUTLINE void fxp_widen(int16_t *out, const int8_t *from, int n)
{
#if FXP_DSP
    /* clang-format off */
    if (fxp_are_words(out, from) && n >= 8) {
        register int16_t *r0 __asm__("r0") = out;
        register const int8_t *r1 __asm__("r1") = from;
        register int r2 __asm__("r2") = n;
#define FXP_WIDEN_4(two, four, t)                                                                  \
    "sxtb16 " t ", " two "\n\t"                                                                    \
    "sxtb16 " four ", " two ", ror #8\n\t"                                                         \
    "pkhbt " two ", " t ", " four ", lsl #16\n\t"                                                  \
    "pkhtb " four ", " four ", " t ", asr #16\n\t"
        __asm__ volatile("subs r2, r2, #8\n"
                         "1:\n\t"
                         "ldr r3, [r1], #4\n\t"
                         "ldr r5, [r1], #4\n\t"
                         FXP_WIDEN_4("r3", "r4", "r12") FXP_WIDEN_4("r5", "r6", "r12")
                         "stm r0!, {r3, r4, r5, r6}\n\t"
                         "subs r2, r2, #8\n\t"
                         "bge 1b\n\t"
                         "adds r2, r2, #8"
                         : "+r"(r0), "+r"(r1), "+r"(r2)
                         :
                         : "r3", "r4", "r5", "r6", "r12", "cc", "memory");
#undef FXP_WIDEN_4
        out = r0;
        from = r1;
        n = r2;
    }
    /* clang-format on */
#endif
    for (; n > 0; n--) {
        *out++ = *from++;
    }
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
