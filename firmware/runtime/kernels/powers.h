/* ---- powers of scores ----------------------------------------------------------------------- */

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
 * with f fraction bits is below the largest, as fxp_exponent tells. */
static inline uint32_t fxp_powers(const FXP_FLASH uint32_t table[32], const int16_t *x, int n,
                                  int f, int16_t largest, int fraction, int8_t *powers)
{
    uint32_t total = 0;
#if FXP_MVE
    /* Four at once. A distance times 2^(27 - f), saturated, times 2^5 * log2(e) without its lower
     * word is t; that is fxp_exp2, whose lower word only tells whether it borrows. */
    if (f <= 27) {
        /* clang-format off */
        __asm__ volatile("vdup.32 q7, %[largest]\n\t"
                         "vdup.32 q6, %[log2_e]\n\t"
                         "vdup.32 q5, %[ln_2]\n\t"
                         "vdup.32 q4, %[down]\n\t"
                         "mov r4, #1\n\t"
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
                         "vsub.i32 q1, q1, q2\n\t"
                         "vadd.i32 q1, q1, q3\n\t" /* lost */
                         "vshl.i32 q2, q0, #6\n\t"
                         "vshr.u32 q2, q2, #27\n\t"
                         "vldrw.u32 q3, [%[table], q2, uxtw #2]\n\t"
                         "vmulh.u32 q2, q3, q1\n\t"
                         "vmul.i32 q1, q3, q1\n\t"
                         "vsub.i32 q3, q3, q2\n\t"
                         "vpt.i32 ne, q1, zr\n\t"
                         "vsubt.i32 q3, q3, r4\n\t"
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
                         : "r4", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7", "cc",
                           "memory");
        /* clang-format on */
        return total;
    }
#endif
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
}

/* power * reciprocal * 2^-32, rounded half up, as 32 bits */
static inline int32_t fxp_share_of(uint32_t power, uint64_t reciprocal)
{
    const uint64_t below = fxp_product32(power, (uint32_t)reciprocal) + ((uint64_t)1 << 31);
    const uint32_t above = power * (uint32_t)(reciprocal >> 32);
    return (int32_t)(above + (uint32_t)(below >> 32));
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
                     "vmul.i32 q0, q0, %[high]\n\t"
                     "vadd.i32 q0, q0, q2\n\t"
                     "vidup.u32 q3, %[index], #1\n\t"
                     "vpt.i32 eq, q3, %[t]\n\t"
                     "vsubt.i32 q0, q0, %[one]\n\t"
                     "vshr.s32 q2, q0, #31\n\t"
                     "veor q2, q2, q0\n\t"
                     "vorr q4, q4, q2\n\t"
                     "vstrw.32 q0, [%[powers]], #16\n\t"
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
