/* ---- powers of scores ----------------------------------------------------------------------- */

#if FXP_THUMB2
/* clang-format off */
/* A distance with 26 fraction bits, in r4, times log2(e), which is 1 and r12 * 2^-32, rounded; the
 * upper half of a product of numbers of 31 bits; r5 and that of r7 * (43691 << 14). What the lower
 * byte of that factor has changes nothing there: it is what a power is shortened by. */
#if FXP_DSP
#define FXP_TIMES_LOG2_E "smmlar r4, r4, r12, r4\n\t"
#define FXP_UPPER_HALF(d, a, b, lost) "smmul " d ", " a ", " b "\n\t"
#define FXP_ADD_SIXTH "smmla r5, r7, lr, r5\n\t"
#define FXP_SHORTER_BY "lr"
/* The lower half of a reciprocal has a sign here, of which the upper half knows. */
#define FXP_ADD_SHARE "smmlar %[share], %[power], %[low], %[share]\n\t"
#define FXP_ABOVE(reciprocal) ((uint32_t)(((reciprocal) + 0x80000000u) >> 32))
#else
#define FXP_TIMES_LOG2_E                                                                           \
    "umull r5, r6, r4, r12\n\t"                                                                    \
    "lsls r5, r5, #1\n\t"                                                                          \
    "adcs r4, r4, r6\n\t"
#define FXP_UPPER_HALF(d, a, b, lost) "umull " lost ", " d ", " a ", " b "\n\t"
#define FXP_ADD_SIXTH                                                                              \
    "ldr r6, [sp, #4]\n\t"                                                                         \
    "umull lr, r7, r7, r6\n\t"                                                                     \
    "adds r5, r5, r7\n\t"
#define FXP_SHORTER_BY "r6"
#define FXP_ADD_SHARE                                                                              \
    "mov r12, #0x80000000\n\t"                                                                     \
    "umlal r12, %[share], %[power], %[low]\n\t"
#define FXP_ABOVE(reciprocal) ((uint32_t)((reciprocal) >> 32))
#endif
/* clang-format on */
#endif

#if FXP_SSE2
/* As fxp_powers for pairs of scores; returns how many scores they are. All that fxp_exp2 rounds
 * down is computed as there, in 64 bits. What becomes 0 there would be 1 here if it were 2^31, but
 * no score is a whole number of octaves below the largest. */
static FXP_INLINE int fxp_pairs_of_powers(const FXP_FLASH uint32_t table[32], const int16_t *x,
                                          int n, int f, int16_t largest, int fraction,
                                          int8_t *powers, uint32_t *total)
{
    if (f < 0 || f > 27) {
        return 0;
    }
    /* Farther ones are 0, too. */
    const int farthest = f < 10 ? 64 << f : 65535;
    const uint64_t half = (uint64_t)1 << (f + 3), log2_e = 1549082005;
    const __m128i zero = _mm_setzero_si128(), down = _mm_cvtsi32_si128(f + 4);
    const __m128i lift = _mm_set1_epi16((int16_t)(uint16_t)(65535 - (int32_t)largest));
    const __m128i near = _mm_set1_epi16((int16_t)(uint16_t)(65535 - farthest));
    const __m128i last = _mm_set1_epi64x((int64_t)((uint64_t)farthest * log2_e + half));
    const __m128i twice = _mm_cvtsi32_si128(62 - fraction); /* one bit more, to round */
    __m128i sum = zero;
    int i = 0;
    for (; i + 2 <= n; i += 2) {
        int32_t two;
        memcpy(&two, &x[i], 4);
        /* How much nearer than the farthest they are. */
        __m128i v = _mm_subs_epu16(_mm_add_epi16(_mm_cvtsi32_si128(two), lift), near);
        v = _mm_unpacklo_epi32(_mm_unpacklo_epi16(v, zero), zero);
        v = _mm_mul_epu32(v, _mm_set1_epi64x((int64_t)log2_e));
        const __m128i t = _mm_srl_epi64(_mm_sub_epi64(last, v), down);
        const __m128i places = _mm_and_si128(_mm_srli_epi64(t, 21), _mm_set1_epi64x(31));
        const __m128i whole = _mm_unpacklo_epi64(
            _mm_cvtsi32_si128((int32_t)table[_mm_extract_epi16(places, 0)]),
            _mm_cvtsi32_si128((int32_t)table[_mm_extract_epi16(places, 4)]));
        __m128i z = _mm_and_si128(t, _mm_set1_epi64x(0x1FFFFF));
        z = _mm_srli_epi64(_mm_mul_epu32(z, _mm_set1_epi64x(2977044472)), 26);
        const __m128i z2 = _mm_srli_epi64(_mm_mul_epu32(z, z), 32);
        __m128i z3 = _mm_srli_epi64(_mm_mul_epu32(z2, z), 32);
        z3 = _mm_srli_epi64(_mm_mul_epu32(z3, _mm_set1_epi64x(43691)), 18);
        const __m128i lost = _mm_add_epi64(_mm_sub_epi64(z, _mm_srli_epi64(z2, 1)), z3);
        __m128i power = _mm_sub_epi64(_mm_slli_epi64(whole, 32), _mm_mul_epu32(whole, lost));
        power = _mm_srl_epi64(power, twice);
        const __m128i octaves = _mm_srli_epi64(t, 26);
        const __m128i second = _mm_srl_epi64(power, _mm_unpackhi_epi64(octaves, octaves));
        power = _mm_unpacklo_epi64(_mm_srl_epi64(power, octaves),
                                   _mm_unpackhi_epi64(second, second));
        power = _mm_srli_epi64(_mm_sub_epi64(power, _mm_set1_epi64x(-1)), 1);
        power = _mm_shuffle_epi32(power, _MM_SHUFFLE(3, 1, 2, 0));
        _mm_storel_epi64((void *)&powers[4 * i], power);
        sum = _mm_add_epi32(sum, power);
        __asm__("" : "+x"(sum)); /* as fxp_keep does */
    }
    const uint64_t both = (uint64_t)_mm_cvtsi128_si64(sum);
    *total += (uint32_t)both + (uint32_t)(both >> 32);
    return i;
}
#endif

/* 2^-t of each score with `fraction` fraction bits, at most 28, and their sum; t is how far a score
 * with f fraction bits is below the largest, as fxp_exponent tells. Powers lie at words. */
static inline uint32_t fxp_powers(const FXP_FLASH uint32_t table[32], const int16_t *x, int n,
                                  int f, int16_t largest, int fraction, int8_t *powers)
{
#if !FXP_THUMB2
    uint32_t total = 0;
#endif
#if FXP_MVE
    /* Four at once. A distance times 2^(27 - f), saturated, times 2^5 * log2(e) without its lower
     * word is t; that is fxp_exp2, where what is lost of 2^32 may be nothing. */
    if (f <= 27) {
        /* clang-format off */
        __asm__ volatile("vdup.32 q7, %[largest]\n\t"
                         "vdup.32 q6, %[log2_e]\n\t"
                         "vdup.32 q5, %[ln_2]\n\t"
                         "vdup.32 q4, %[down]\n\t"
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
                         "vsub.i32 q1, q2, q1\n\t"
                         "vsub.i32 q1, q1, q3\n\t" /* 2^32 less what is lost */
                         "vshl.i32 q2, q0, #6\n\t"
                         "vshr.u32 q2, q2, #27\n\t"
                         "vldrw.u32 q3, [%[table], q2, uxtw #2]\n\t"
                         "vpt.i32 ne, q1, zr\n\t"
                         "vmulht.u32 q3, q3, q1\n\t"
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
                         : "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc", "memory");
        /* clang-format on */
        return total;
    }
#elif FXP_THUMB2
    /* Of distances with more than 26 fraction bits exponents are computed first. Others than those
     * leave nothing beyond the longest; up to it, with 26 fraction bits, they have 31 bits. The
     * lower byte of r10 shifts them, what is above selects bits of their exponents. */
    const int up = 26 - f;
    for (int i = 0; up < 0 && i < n; i++) {
        const uint32_t t = (uint32_t)fxp_exponent_apart((uint32_t)((int32_t)largest - x[i]), f);
        memcpy(&powers[4 * i], &t, 4);
    }
    const uint32_t longest = (uint32_t)((((uint64_t)fraction + 1) * 2977044471u - 20) >> 6);
    register const int16_t *r0 __asm__("r0") = x;
    register int8_t *r1 __asm__("r1") = powers;
    register int r2 __asm__("r2") = n;
    register uint32_t r3 __asm__("r3") = 0;
    register int r4 __asm__("r4") = up;
    register uint32_t r8 __asm__("r8") = (uint32_t)largest + ((uint32_t)up & 0x80000000u);
    register uint32_t r9 __asm__("r9") = longest;
    register uint32_t r10 __asm__("r10") = 0x1FFFFF00;
    register const uint32_t *r11 __asm__("r11") = table;
    register uint32_t r12 __asm__("r12") = 1901360724;
    register uint32_t lr __asm__("lr") = (43691u << 14) + 31 - (uint32_t)fraction;
    /* clang-format off */
    __asm__ volatile("push {r7, lr}\n\t"
                     "usat r4, #5, r4\n\t" /* of 31 bits 31 shifts leave nothing */
                     "lsr r9, r9, r4\n\t"
                     "orr r10, r10, r4\n"
                     "1:\n\t"
                     "ldrsh r4, [r0], #2\n\t"
                     "sub r4, r8, r4\n\t"
                     "cmp r4, r9\n\t"
                     "bhi 4f\n\t"
                     "lsl r4, r4, r10\n\t"
                     FXP_TIMES_LOG2_E /* t */
                     "2:\n\t"
                     "and r5, r10, r4, lsl #8\n\t"
                     "ldr r6, 8f\n\t"
                     FXP_UPPER_HALF("r5", "r5", "r6", "r7") /* z */
                     FXP_UPPER_HALF("r6", "r5", "r5", "r7")
                     FXP_UPPER_HALF("r7", "r6", "r5", "lr")
                     "sub r5, r5, r6, lsr #1\n\t"
                     FXP_ADD_SIXTH /* lost */
                     "ubfx r7, r4, #21, #5\n\t"
                     "add r4, " FXP_SHORTER_BY ", r4, lsr #26\n\t"
                     "ldr r6, [r11, r7, lsl #2]\n\t"
                     "umull r7, r5, r6, r5\n\t"
                     "rsbs r7, r7, #0\n\t"
                     "sbcs r6, r6, r5\n\t"
                     "lsrs r6, r4\n\t" /* its carry rounds */
                     "adc r6, r6, #0\n"
                     "3:\n\t"
                     "stmia r1!, {r6}\n\t"
                     "adds r3, r3, r6\n\t"
                     "subs r2, r2, #1\n\t"
                     "bne 1b\n\t"
                     "b 9f\n"
                     "4:\n\t"
                     "movs r6, #0\n\t"
                     "cmp r4, #0\n\t"
                     "bge 3b\n\t"
                     "ldr r4, [r1]\n\t"
                     "b 2b\n\t"
                     ".p2align 2\n"
                     "8:\n\t"
                     ".word 744261118\n" /* ln(2) * 2^30 */
                     "9:\n\t"
                     "pop {r7, lr}"
                     : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(r3), "+r"(r4), "+r"(r9), "+r"(r10)
                     : "r"(r8), "r"(r11), "r"(r12), "r"(lr)
                     : "r5", "r6", "cc", "memory");
    /* clang-format on */
    return r3;
#endif
#if !FXP_THUMB2
    int i = 0;
#if FXP_SSE2
    i = fxp_pairs_of_powers(table, x, n, f, largest, fraction, powers, &total);
#endif
    for (; i < n; i++) {
        const uint32_t distance = (uint32_t)((int32_t)largest - x[i]);
        const uint32_t power = fxp_exp2(table, fxp_exponent32(distance, f), fraction);
        memcpy(&powers[4 * i], &power, 4);
        total += power;
    }
    return total;
#endif
}

/* power * reciprocal * 2^-32, rounded half up, as 32 bits; power < 2^31 */
static inline int32_t fxp_share_of(uint32_t power, uint64_t reciprocal)
{
#if FXP_THUMB2 && FXP_DSP
    uint32_t share = power * FXP_ABOVE(reciprocal);
    __asm__(FXP_ADD_SHARE
            : [share] "+r"(share)
            : [power] "r"(power), [low] "r"((uint32_t)reciprocal));
    return (int32_t)share;
#else
    const uint64_t below = fxp_product32(power, (uint32_t)reciprocal) + ((uint64_t)1 << 31);
    const uint32_t above = power * (uint32_t)(reciprocal >> 32);
    return (int32_t)(above + (uint32_t)(below >> 32));
#endif
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
                     "vmla.u32 q2, q0, %[high]\n\t"
                     "vidup.u32 q3, %[index], #1\n\t"
                     "vpt.i32 eq, q3, %[t]\n\t"
                     "vsubt.i32 q2, q2, %[one]\n\t"
                     "vshr.s32 q0, q2, #31\n\t"
                     "veor q0, q0, q2\n\t"
                     "vorr q4, q4, q0\n\t"
                     "vstrw.32 q2, [%[powers]], #16\n\t"
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
#elif FXP_THUMB2
    /* The one of index t comes last. Without it all are at least 0. */
    int8_t *const end = powers + 4 * n, *const place = powers + 4 * t;
    const uint32_t none = 0;
    uint32_t own, power, share;
    memcpy(&own, place, 4);
    memcpy(place, &none, 4);
    /* clang-format off */
    __asm__ volatile("1:\n\t"
                     "ldr %[power], [%[powers]]\n\t"
                     "mul %[share], %[power], %[high]\n\t"
                     FXP_ADD_SHARE
                     "orrs %[peak], %[peak], %[share]\n\t"
                     "stmia %[powers]!, {%[share]}\n\t"
                     "cmp %[powers], %[end]\n\t"
                     "bne 1b"
                     : [powers] "+l"(powers), [peak] "+l"(peak), [power] "=&l"(power),
                       [share] "=&l"(share)
                     : [low] "r"((uint32_t)reciprocal), [high] "r"(FXP_ABOVE(reciprocal)),
                       [end] "r"(end)
                     : "r12", "cc", "memory");
    /* clang-format on */
    const int32_t acc = fxp_share_of(own, reciprocal) - ((int32_t)1 << 30);
    memcpy(place, &acc, 4);
    return peak | fxp_magnitude32(acc);
#elif FXP_SSE2
    /* Shares are not negative, but the one that 1 is taken from, which waits. */
    const __m128i low = _mm_set1_epi64x((int64_t)(reciprocal & UINT32_MAX));
    const __m128i high = _mm_set1_epi64x((int64_t)(reciprocal >> 32));
    const __m128i half = _mm_set1_epi64x((int64_t)1 << 31), zero = _mm_setzero_si128();
    const int is_one = (unsigned)t < (unsigned)n;
    uint32_t one = 0, none = 0;
    if (is_one) {
        memcpy(&one, &powers[4 * t], 4);
        memcpy(&powers[4 * t], &none, 4);
    }
    __m128i all = zero;
    for (int i = 0; i < n; i += 2) {
        const int is_pair = i + 1 < n;
        int32_t last;
        memcpy(&last, &powers[4 * i], 4);
        __m128i v = is_pair ? _mm_loadl_epi64((const void *)&powers[4 * i])
                            : _mm_cvtsi32_si128(last);
        v = _mm_unpacklo_epi32(v, v);
        const __m128i below = _mm_srli_epi64(_mm_add_epi64(_mm_mul_epu32(v, low), half), 32);
        v = _mm_add_epi32(below, _mm_mul_epu32(v, high));
        v = _mm_shuffle_epi32(v, _MM_SHUFFLE(3, 1, 2, 0));
        all = _mm_or_si128(all, v);
        if (is_pair) {
            _mm_storel_epi64((void *)&powers[4 * i], v);
        } else {
            last = _mm_cvtsi128_si32(v);
            memcpy(&powers[4 * i], &last, 4);
        }
    }
    const uint64_t both = (uint64_t)_mm_cvtsi128_si64(all);
    peak = (uint32_t)both | (uint32_t)(both >> 32);
    if (is_one) {
        const int32_t acc = fxp_share_of(one, reciprocal) - ((int32_t)1 << 30);
        peak |= fxp_magnitude32(acc);
        memcpy(&powers[4 * t], &acc, 4);
    }
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
#elif FXP_THUMB2
    if (shift > 0) { /* its carry is the bit that is lost last */
        int32_t acc;
        __asm__ volatile("1:\n\t"
                         "ldmia %[errors]!, {%[acc]}\n\t"
                         "asrs %[acc], %[shift]\n\t"
                         "adc %[acc], %[acc], #0\n\t"
                         "ssat %[acc], #16, %[acc]\n\t"
                         "strh %[acc], [%[out]], #2\n\t"
                         "subs %[n], %[n], #1\n\t"
                         "bne 1b"
                         : [errors] "+l"(errors), [out] "+r"(out), [n] "+l"(n), [acc] "=&l"(acc)
                         : [shift] "l"(shift)
                         : "cc", "memory");
        return;
    }
    for (int i = 0; i < n; i++) {
        uint32_t acc;
        memcpy(&acc, &errors[4 * i], 4);
        out[i] = (int16_t)(acc << -shift);
    }
#else
#if FXP_SSE2
    if (n >= 4) { /* the last four may overlap others */
        const __m128i down = _mm_cvtsi32_si128(shift - 1), up = _mm_cvtsi32_si128(-shift);
        for (int i = 0;; i = i + 4 <= n - 4 ? i + 4 : n - 4) {
            __m128i v = _mm_loadu_si128((const void *)&errors[4 * i]);
            if (shift > 0) {
                const __m128i twice = _mm_sra_epi32(v, down);
                v = _mm_srai_epi32(_mm_sub_epi32(twice, _mm_set1_epi32(-1)), 1);
            } else {
                v = _mm_sll_epi32(v, up);
            }
            _mm_storel_epi64((void *)&out[i], _mm_packs_epi32(v, v));
            if (i == n - 4) {
                return;
            }
        }
    }
#endif
    FXP_STORE_ERRORS(16);
#endif
}

static inline void fxp_store_errors8(int8_t *out, const int8_t *errors, int n, int shift)
{
    FXP_STORE_ERRORS(8);
}
#undef FXP_STORE_ERRORS
#if FXP_THUMB2
#undef FXP_TIMES_LOG2_E
#undef FXP_UPPER_HALF
#undef FXP_ADD_SIXTH
#undef FXP_SHORTER_BY
#undef FXP_ADD_SHARE
#undef FXP_ABOVE
#endif
