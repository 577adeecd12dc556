/* ---- storing neighbouring sums -------------------------------------------------------------- */

#if FXP_SSE2
/* For a vector of two numbers of 64 bits: -1 where one is below 0, else 0. */
static FXP_INLINE __m128i fxp_signs(__m128i v)
{
    return _mm_srai_epi32(_mm_shuffle_epi32(v, _MM_SHUFFLE(3, 3, 1, 1)), 31);
}

/* Four sums rounded to 16 bits, in the lower half. */
static FXP_INLINE __m128i fxp_settle_four(const fxp_store *store, fxp_four sums)
{
    const __m128i half = _mm_set1_epi64x(store->half), shift = _mm_cvtsi32_si128(store->shift);
    const __m128i a = _mm_srl_epi64(_mm_add_epi64(sums.first, half), shift);
    const __m128i b = _mm_srl_epi64(_mm_add_epi64(sums.second, half), shift);
    const __m128 words = _mm_shuffle_ps(_mm_castsi128_ps(a), _mm_castsi128_ps(b), 0x88);
    return _mm_packs_epi32(_mm_castps_si128(words), _mm_setzero_si128());
}

static FXP_INLINE __m128i fxp_magnitudes(fxp_four sums)
{
    return _mm_or_si128(_mm_xor_si128(sums.first, fxp_signs(sums.first)),
                        _mm_xor_si128(sums.second, fxp_signs(sums.second)));
}

/* Of four sums as FXP_SETTLE has them, what is stored; their magnitudes are joined to the peak. */
static FXP_INLINE __m128i fxp_four_sums(const fxp_store *store, fxp_four sums, const int16_t *y,
                                        __m128i *peak)
{
    (void)y;
    *peak = _mm_or_si128(*peak, fxp_magnitudes(sums));
    return fxp_settle_four(store, sums);
}

static FXP_INLINE __m128i fxp_four_positive(const fxp_store *store, fxp_four sums, const int16_t *y,
                                            __m128i *peak)
{
    const __m128i zero = _mm_setzero_si128();
    const __m128i a = fxp_signs(_mm_sub_epi64(zero, sums.first));
    const __m128i b = fxp_signs(_mm_sub_epi64(zero, sums.second));
    const __m128i least = _mm_srli_epi16(_mm_packs_epi32(_mm_packs_epi32(a, b), zero), 15);
    (void)y;
    sums.first = _mm_and_si128(sums.first, a);
    sums.second = _mm_and_si128(sums.second, b);
    *peak = _mm_or_si128(*peak, _mm_or_si128(sums.first, sums.second));
    return _mm_max_epi16(fxp_settle_four(store, sums), least);
}

static FXP_INLINE __m128i fxp_four_masked(const fxp_store *store, fxp_four sums, const int16_t *y,
                                          __m128i *peak)
{
    __m128i mask = _mm_cmpgt_epi16(_mm_loadl_epi64((const void *)y), _mm_setzero_si128());
    mask = _mm_unpacklo_epi16(mask, mask);
    sums.first = _mm_and_si128(sums.first, _mm_unpacklo_epi32(mask, mask));
    sums.second = _mm_and_si128(sums.second, _mm_unpackhi_epi32(mask, mask));
    *peak = _mm_or_si128(*peak, fxp_magnitudes(sums));
    return fxp_settle_four(store, sums);
}

#define FXP_FOURS(how, y)                                                                          \
    __m128i peak = _mm_setzero_si128();                                                            \
    for (; count >= 4; count -= 4, sums += 4, out += 4) {                                          \
        const fxp_four four = fxp_four_at(sums);                                                   \
        _mm_storel_epi64((void *)out, fxp_four_##how(&own, four, y, &peak));                       \
    }                                                                                              \
    peak = _mm_or_si128(peak, _mm_unpackhi_epi64(peak, peak));                                     \
    own.peak |= (uint64_t)_mm_cvtsi128_si64(peak)
#else
#define FXP_FOURS FXP_NO_FOURS
#endif

/* fxp_settle_sums rounds each sum. fxp_settle_positive rounds those above 0, but not to 0, as the
 * mask of backward is y > 0; the others become 0. fxp_settle_masked rounds those where y > 0; the
 * others become 0. `settle` rounds one; `unless` leaves to others what it cannot; `fours` may round
 * the first ones. */
#define FXP_SETTLE(bits, name, store_type, total, settle, unless, fours)                           \
    static FXP_OUTLINE void fxp_settle_sums##name(store_type *store, const total *sums, int count, \
                                                  int##bits##_t *out)                              \
    {                                                                                              \
        store_type own = *store;                                                                   \
        unless(fxp_settle_sums##bits##_any, (store, sums, count, out));                            \
        fours(sums, NULL);                                                                         \
        for (; count > 0; count--) {                                                               \
            *out++ = (int##bits##_t)settle(&own, *sums++);                                         \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
                                                                                                   \
    static FXP_OUTLINE void fxp_settle_positive##name(store_type *store, const total *sums,        \
                                                      int count, int##bits##_t *out)               \
    {                                                                                              \
        store_type own = *store;                                                                   \
        unless(fxp_settle_positive##bits##_any, (store, sums, count, out));                        \
        fours(positive, NULL);                                                                     \
        for (; count > 0; count--) {                                                               \
            const total sum = *sums++;                                                             \
            int32_t q = 0;                                                                         \
            if (sum > 0) {                                                                         \
                q = settle(&own, sum);                                                             \
                q = q == 0 ? 1 : q;                                                                \
            }                                                                                      \
            *out++ = (int##bits##_t)q;                                                             \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
                                                                                                   \
    static FXP_OUTLINE void fxp_settle_masked##name(store_type *store, const total *sums,          \
                                                    int count, int##bits##_t *out,                 \
                                                    const int##bits##_t *y)                        \
    {                                                                                              \
        store_type own = *store;                                                                   \
        unless(fxp_settle_masked##bits##_any, (store, sums, count, out, y));                       \
        fours(masked, (y += 4) - 4);                                                               \
        for (; count > 0; count--, sums++) {                                                       \
            *out++ = *y++ > 0 ? (int##bits##_t)settle(&own, *sums) : 0;                            \
        }                                                                                          \
        store->peak = own.peak;                                                                    \
    }                                                                                              \
    FXP_ASSERT(a_sum_is_longer_than_##name, sizeof(total) > sizeof(int##bits##_t))

#define FXP_NO_FOURS(how, y) (void)0
#define FXP_NEVER(others, arguments) (void)0
#define FXP_UNUSUAL(others, arguments)                                                             \
    if (!fxp_is_usual(&own)) {                                                                     \
        others arguments;                                                                          \
        return;                                                                                    \
    }                                                                                              \
    (void)0

FXP_SETTLE(16, 16_any, fxp_store, int64_t, fxp_settle16_any, FXP_NEVER, FXP_NO_FOURS);
FXP_SETTLE(8, 8_any, fxp_store, int64_t, fxp_settle8_any, FXP_NEVER, FXP_NO_FOURS);
#if FXP_DSP && !FXP_MVE
/* The loop in assembly: r8 and r9 join the magnitudes of the accumulators, in r10 and r11. `take`
 * may leave for 2, where 0 is stored; `join` and `check` are what the others differ in. */
/* clang-format off */
#define FXP_SETTLE_16(own, take, join, check)                                                      \
    register const int64_t *r0 __asm__("r0") = sums;                                               \
    register int r1 __asm__("r1") = count;                                                         \
    register int16_t *r2 __asm__("r2") = out;                                                      \
    register uint32_t r4 __asm__("r4") = own->half;                                                \
    register int r5 __asm__("r5") = own->shift;                                                    \
    register int r6 __asm__("r6") = 32 - own->shift;                                               \
    register uint32_t r8 __asm__("r8") = (uint32_t)own->peak;                                      \
    register uint32_t r9 __asm__("r9") = (uint32_t)(own->peak >> 32);                              \
    __asm__ volatile("cmp %[n], #0\n\t"                                                            \
                     "ble 4f\n"                                                                    \
                     "1:\n\t"                                                                      \
                     "ldrd r10, r11, [%[sums]], #8\n\t" take join                                  \
                     "adds r10, r10, %[half]\n\t"                                                  \
                     "adc r11, r11, #0\n\t"                                                        \
                     "lsr r10, r10, %[shift]\n\t"                                                  \
                     "lsl r11, r11, %[up]\n\t"                                                     \
                     "orrs r10, r10, r11\n\t" check                                                \
                     "ssat r10, #16, r10\n"                                                        \
                     "3:\n\t"                                                                      \
                     "subs %[n], %[n], #1\n\t"                                                     \
                     "strh r10, [%[out]], #2\n\t"                                                  \
                     "bgt 1b\n\t"                                                                  \
                     "b 4f\n"                                                                      \
                     "2:\n\t"                                                                      \
                     "mov r10, #0\n\t"                                                             \
                     "b 3b\n"                                                                      \
                     "4:"                                                                          \
                     : [sums] "+r"(r0), [n] "+r"(r1), [out] "+r"(r2), "+r"(r3), [low] "+r"(r8),    \
                       [high] "+r"(r9)                                                             \
                     : [half] "r"(r4), [shift] "r"(r5), [up] "r"(r6)                               \
                     : "r10", "r11", "r12", "cc", "memory");                                       \
    own->peak = ((uint64_t)r9 << 32) | r8
#define FXP_JOIN                                                                                   \
    "eor r12, r10, r11, asr #31\n\t"                                                               \
    "orr %[low], %[low], r12\n\t"                                                                  \
    "eor r12, r11, r11, asr #31\n\t"                                                               \
    "orr %[high], %[high], r12\n\t"

#define FXP_SETTLE_SUMS                                                                            \
    register int r3 __asm__("r3") = 0;                                                             \
    FXP_SETTLE_16(store, "", FXP_JOIN, "")
#define FXP_SETTLE_POSITIVE                                                                        \
    register int r3 __asm__("r3") = 0;                                                             \
    FXP_SETTLE_16(store, "rsbs r12, r10, #0\n\tsbcs r12, %3, r11\n\tbge 2f\n\t",                   \
                  "orr %[low], %[low], r10\n\torr %[high], %[high], r11\n\t",                      \
                  "it eq\n\tmoveq r10, #1\n\t")
#define FXP_SETTLE_MASKED                                                                          \
    register const int16_t *r3 __asm__("r3") = y;                                                  \
    FXP_SETTLE_16(store, "ldrsh r12, [%3], #2\n\tcmp r12, #0\n\tble 2f\n\t", FXP_JOIN, "")
/* clang-format on */
#elif FXP_MVE
/* Four accumulators at once: q5 has where they lie, q0 their lower words, q1 the upper ones, q3 and
 * q4 join their magnitudes. What is rounded fits 32 bits, so that both words are shifted apart and
 * added. `begin` comes first, `take` before the loads, `join` after them, `check` after the sum. */
/* clang-format off */
#define FXP_SETTLE_16(begin, take, t, join, check)                                                 \
    uint32_t low = (uint32_t)store->peak, high = (uint32_t)(store->peak >> 32);                    \
    if (count > 0) {                                                                               \
        __asm__ volatile(begin "sub r4, %[sums], #32\n\t"                                          \
                         "vidup.u32 q5, r4, #8\n\t"                                                \
                         "vmov.i32 q3, #0\n\t"                                                     \
                         "vmov.i32 q4, #0\n\t"                                                     \
                         "dlstp.32 lr, %[n]\n"                                                     \
                         "1:\n\t" take                                                             \
                         "vldrw" t ".u32 q0, [q5, #32]!\n\t"                                       \
                         "vldrw" t ".u32 q1, [q5, #4]\n\t"                                         \
                         "vshr.s32 q2, q1, #31\n\t" join                                           \
                         "vrshl.u32 q0, %[down]\n\t"                                               \
                         "vshl.u32 q1, %[up]\n\t"                                                  \
                         "vadd.i32 q0, q0, q1\n\t" check                                           \
                         "vqmovnb.s32 q0, q0\n\t"                                                  \
                         "vstrh.32 q0, [%[out]], #8\n\t"                                           \
                         "letp lr, 1b\n\t"                                                         \
                         "vmov r4, r5, q3[2], q3[0]\n\t"                                           \
                         "orr %[low], %[low], r4\n\t"                                              \
                         "orr %[low], %[low], r5\n\t"                                              \
                         "vmov r4, r5, q3[3], q3[1]\n\t"                                           \
                         "orr %[low], %[low], r4\n\t"                                              \
                         "orr %[low], %[low], r5\n\t"                                              \
                         "vmov r4, r5, q4[2], q4[0]\n\t"                                           \
                         "orr %[high], %[high], r4\n\t"                                            \
                         "orr %[high], %[high], r5\n\t"                                            \
                         "vmov r4, r5, q4[3], q4[1]\n\t"                                           \
                         "orr %[high], %[high], r4\n\t"                                            \
                         "orr %[high], %[high], r5"                                                \
                         : [out] "+&l"(out), [y] "+&l"(y), [low] "+&r"(low), [high] "+&r"(high)    \
                         : [n] "r"(count), [down] "r"(-store->shift), [up] "r"(32 - store->shift), \
                           [sums] "r"(sums)                                                        \
                         : "r4", "r5", "lr", "q0", "q1", "q2", "q3", "q4", "q5", "q6", "q7",       \
                           "cc", "memory");                                                        \
    }                                                                                              \
    store->peak = ((uint64_t)high << 32) | low
#define FXP_JOIN                                                                                   \
    "veor q6, q2, q0\n\t"                                                                          \
    "vorr q3, q3, q6\n\t"                                                                          \
    "veor q6, q2, q1\n\t"                                                                          \
    "vorr q4, q4, q6\n\t"

#define FXP_SETTLE_SUMS                                                                            \
    const int16_t *y = out;                                                                        \
    FXP_SETTLE_16("", "", "", FXP_JOIN, "")
#define FXP_SETTLE_POSITIVE                                                                        \
    const int16_t *y = out;                                                                        \
    FXP_SETTLE_16("vmov.i32 q7, #1\n\t", "", "",                                                   \
                  "vbic q0, q0, q2\n\t"                                                            \
                  "vbic q1, q1, q2\n\t"                                                            \
                  "vorr q3, q3, q0\n\t"                                                            \
                  "vorr q4, q4, q1\n\t"                                                            \
                  "vorr q2, q0, q1\n\t",                                                           \
                  "vpt.i32 ne, q2, zr\n\t"                                                         \
                  "vmaxt.s32 q0, q0, q7\n\t")
/* What y masks is loaded as 0. */
#define FXP_SETTLE_MASKED                                                                          \
    FXP_SETTLE_16("",                                                                              \
                  "vldrh.s32 q2, [%[y]], #8\n\t"                                                   \
                  "vptt.s32 gt, q2, zr\n\t",                                                       \
                  "t", FXP_JOIN, "")
/* clang-format on */
#endif

#if FXP_DSP
static FXP_OUTLINE void fxp_settle_sums16(fxp_store *store, const int64_t *sums, int count,
                                          int16_t *out)
{
    if (store->half == 0) {
        fxp_settle_sums16_any(store, sums, count, out);
        return;
    }
    FXP_SETTLE_SUMS;
}

static FXP_OUTLINE void fxp_settle_positive16(fxp_store *store, const int64_t *sums, int count,
                                              int16_t *out)
{
    if (store->half == 0) {
        fxp_settle_positive16_any(store, sums, count, out);
        return;
    }
    FXP_SETTLE_POSITIVE;
}

static FXP_OUTLINE void fxp_settle_masked16(fxp_store *store, const int64_t *sums, int count,
                                            int16_t *out, const int16_t *y)
{
    if (store->half == 0) {
        fxp_settle_masked16_any(store, sums, count, out, y);
        return;
    }
    FXP_SETTLE_MASKED;
}
#undef FXP_SETTLE_16
#undef FXP_JOIN
#undef FXP_SETTLE_SUMS
#undef FXP_SETTLE_POSITIVE
#undef FXP_SETTLE_MASKED
#else
FXP_SETTLE(16, 16, fxp_store, int64_t, fxp_settle16_usual, FXP_UNUSUAL, FXP_FOURS);
#endif
FXP_SETTLE(8, 8, fxp_store, int64_t, fxp_settle8_usual, FXP_UNUSUAL, FXP_NO_FOURS);
#if FXP_SMALL_THUMB
FXP_SETTLE(16, 16_of32_any, fxp_store32, int32_t, fxp_settle16_of32, FXP_NEVER, FXP_NO_FOURS);
/* clang-format off */
/* The loop in assembly for shifts from 1 to 31, whose carry is the bit that rounds. `take` may
 * leave for 2, where 0 is stored; `join` and `check` are what the others differ in. */
#define FXP_SETTLE_16(y, take, join, check, others)                                                \
    if (count < 1 || store->shift < 1 || store->shift > 31) {                                      \
        others;                                                                                    \
        return;                                                                                    \
    }                                                                                              \
    register const int32_t *r0 __asm__("r0") = sums;                                               \
    register int16_t *r1 __asm__("r1") = out + count;                                              \
    register const int16_t *r2 __asm__("r2") = y + count;                                          \
    register int r3 __asm__("r3") = store->shift;                                                  \
    register uint32_t r4 __asm__("r4") = store->peak;                                              \
    register int32_t r5 __asm__("r5") = -2 * (int32_t)count;                                       \
    __asm__ volatile(".syntax unified\n\t"                                                         \
                     "push {r7}\n"                                                                 \
                     "1:\n\t"                                                                      \
                     "ldmia r0!, {r6}\n\t" take join                                               \
                     "asrs r6, r3\n\t"                                                             \
                     "bcc 3f\n\t"                                                                  \
                     "adds r6, r6, #1\n"                                                           \
                     "3:\n\t" check                                                                \
                     "sxth r7, r6\n\t"                                                             \
                     "cmp r7, r6\n\t"                                                              \
                     "bne 5f\n"                                                                    \
                     "4:\n\t"                                                                      \
                     "strh r6, [r1, r5]\n\t"                                                       \
                     "adds r5, r5, #2\n\t"                                                         \
                     "bne 1b\n\t"                                                                  \
                     "b 6f\n"                                                                      \
                     "2:\n\t"                                                                      \
                     "movs r6, #0\n\t"                                                             \
                     "strh r6, [r1, r5]\n\t"                                                       \
                     "adds r5, r5, #2\n\t"                                                         \
                     "bne 1b\n\t"                                                                  \
                     "b 6f\n"                                                                      \
                     "5:\n\t"                                                                      \
                     "asrs r6, r6, #31\n\t"                                                        \
                     "movs r7, #1\n\t"                                                             \
                     "lsls r7, r7, #15\n\t"                                                        \
                     "subs r7, r7, #1\n\t"                                                         \
                     "eors r6, r7\n\t"                                                             \
                     "b 4b\n"                                                                      \
                     "6:\n\t"                                                                      \
                     "pop {r7}"                                                                    \
                     : "+r"(r0), "+r"(r4), "+r"(r5)                                                \
                     : "r"(r1), "r"(r2), "r"(r3)                                                   \
                     : "r6", "cc", "memory");                                                      \
    store->peak = r4
#define FXP_JOIN "asrs r7, r6, #31\n\teors r7, r6\n\torrs r4, r7\n\t"

static FXP_OUTLINE void fxp_settle_sums16_of32(fxp_store32 *store, const int32_t *sums, int count,
                                               int16_t *out)
{
    FXP_SETTLE_16(out, "", FXP_JOIN, "", fxp_settle_sums16_of32_any(store, sums, count, out));
}

static FXP_OUTLINE void fxp_settle_positive16_of32(fxp_store32 *store, const int32_t *sums,
                                                   int count, int16_t *out)
{
    FXP_SETTLE_16(out, "cmp r6, #0\n\tble 2f\n\t", "orrs r4, r6\n\t",
                  "bne 3f\n\tadds r6, r6, #1\n3:\n\t",
                  fxp_settle_positive16_of32_any(store, sums, count, out));
}

static FXP_OUTLINE void fxp_settle_masked16_of32(fxp_store32 *store, const int32_t *sums,
                                                 int count, int16_t *out, const int16_t *y)
{
    FXP_SETTLE_16(y, "ldrsh r7, [r2, r5]\n\tcmp r7, #0\n\tble 2f\n\t", FXP_JOIN, "",
                  fxp_settle_masked16_of32_any(store, sums, count, out, y));
}
/* clang-format on */
#undef FXP_SETTLE_16
#undef FXP_JOIN
#else
FXP_SETTLE(16, 16_of32, fxp_store32, int32_t, fxp_settle16_of32, FXP_NEVER, FXP_NO_FOURS);
#endif
FXP_SETTLE(8, 8_of32, fxp_store32, int32_t, fxp_settle8_of32, FXP_NEVER, FXP_NO_FOURS);
#undef FXP_SETTLE
#undef FXP_NO_FOURS
#undef FXP_FOURS
#undef FXP_NEVER
#undef FXP_UNUSUAL
