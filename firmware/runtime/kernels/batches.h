/* ---- gradients that a batch adds up --------------------------------------------------------- */

#if FXP_MVE
/* Whole eights of such a row, by any shift. Returns how many they are. */
/* clang-format off */
#define FXP_ACCUMULATE_EIGHTS(name, x_type, load)                                                  \
    static FXP_INLINE int name(int16_t *out, const x_type *x, int n, int32_t error, int shift)     \
    {                                                                                              \
        if (n >= 8) {                                                                              \
            __asm__ volatile("vdup.16 q3, %[error]\n\t"                                            \
                             "dls lr, %[eights]\n"                                                 \
                             "1:\n\t" load("q2", "%[x]")                                           \
                             "vmullb.s16 q0, q2, q3\n\t"                                           \
                             "vmullt.s16 q1, q2, q3\n\t"                                           \
                             "vqrshl.s32 q0, %[up]\n\t"                                            \
                             "vqrshl.s32 q1, %[up]\n\t"                                            \
                             "vqmovnb.s32 q0, q0\n\t"                                              \
                             "vqmovnt.s32 q0, q1\n\t"                                              \
                             "vldrh.u16 q1, [%[out]]\n\t"                                          \
                             "vqadd.s16 q1, q1, q0\n\t"                                            \
                             "vstrh.16 q1, [%[out]], #16\n\t"                                      \
                             "le lr, 1b"                                                           \
                             : [out] "+r"(out), [x] "+l"(x)                                        \
                             : [eights] "r"(n >> 3), [error] "r"(error),                           \
                               [up] "r"(-fxp_near_shift(shift))                                    \
                             : "lr", "q0", "q1", "q2", "q3", "memory");                            \
        }                                                                                          \
        return n & ~7;                                                                             \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)
/* clang-format on */
FXP_ACCUMULATE_EIGHTS(fxp_accumulate_eights, int16_t, FXP_EIGHT16);
FXP_ACCUMULATE_EIGHTS(fxp_accumulate_eights8, int8_t, FXP_EIGHT8);
#undef FXP_ACCUMULATE_EIGHTS
#elif FXP_DSP
/* Whole eights of such a row at words; 1 <= shift <= 30, and what is added has 16 bits, or `cut` to
 * them. r2 has the error above the shift. Returns how many they are. */
/* clang-format off */
#define FXP_ACCUMULATE_2(out, x, cut)                                                              \
    "smlabt r12, " x ", r2, lr\n\t"                                                               \
    "smlatt " x ", " x ", r2, lr\n\t"                                                             \
    "asr r12, r12, r2\n\t"                                                                         \
    "asr " x ", " x ", r2\n\t" cut("r12") cut(x)                                                  \
    "pkhbt " x ", r12, " x ", lsl #16\n\t"                                                         \
    "qadd16 " out ", " out ", " x "\n\t"
#define FXP_ACCUMULATE_EIGHTS(name, cut)                                                           \
    static FXP_INLINE int name(int16_t *out, const int16_t *x, int n, int32_t error, int shift)    \
    {                                                                                              \
        const int done = fxp_are_words(out, x) ? n & ~7 : 0;                                       \
        register int16_t *r0 __asm__("r0") = out;                                                  \
        register const int16_t *r1 __asm__("r1") = x;                                              \
        register uint32_t r2 __asm__("r2") = (uint32_t)error << 16 | (uint32_t)shift;              \
        register int r3 __asm__("r3") = done;                                                      \
        register int32_t lr __asm__("lr") = (int32_t)1 << (shift - 1);                             \
        if (done > 0) {                                                                            \
            __asm__ volatile("push {r7}\n\t"                                                       \
                             "mov r7, r3\n"                                                        \
                             "1:\n\t"                                                              \
                             "ldm r0, {r3, r4, r5, r6}\n\t"                                        \
                             "ldm r1!, {r8, r9, r10, r11}\n\t"                                     \
                             FXP_ACCUMULATE_2("r3", "r8", cut) FXP_ACCUMULATE_2("r4", "r9", cut)   \
                             FXP_ACCUMULATE_2("r5", "r10", cut)                                    \
                             FXP_ACCUMULATE_2("r6", "r11", cut)                                    \
                             "stm r0!, {r3, r4, r5, r6}\n\t"                                       \
                             "subs r7, r7, #8\n\t"                                                 \
                             "bgt 1b\n\t"                                                          \
                             "pop {r7}"                                                            \
                             : "+r"(r0), "+r"(r1), "+r"(r3)                                        \
                             : "r"(r2), "r"(lr)                                                    \
                             : "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "cc", "memory"); \
        }                                                                                          \
        return done;                                                                               \
    }                                                                                              \
    FXP_ASSERT(name##_is_a_function, 1)
/* clang-format on */
#define FXP_CUT(v) "ssat " v ", #16, " v "\n\t"
#define FXP_KEEP(v)
FXP_ACCUMULATE_EIGHTS(fxp_accumulate_eights, FXP_CUT);
FXP_ACCUMULATE_EIGHTS(fxp_accumulate_small_eights, FXP_KEEP);
#undef FXP_CUT
#undef FXP_KEEP
#undef FXP_ACCUMULATE_2
#undef FXP_ACCUMULATE_EIGHTS
#endif

/* out[i] += error * x[i], `shift` bits less of it, both saturated. */
static FXP_INLINE void fxp_accumulate_row16(int16_t *out, const int16_t *x, int n, int32_t error,
                                            int shift)
{
    int i = 0;
#if FXP_MVE
    i = fxp_accumulate_eights(out, x, n, error, shift);
#else
    if (shift >= 1 && shift <= 30) {
#if FXP_DSP
        i = shift > 15 ? fxp_accumulate_small_eights(out, x, n, error, shift)
                       : fxp_accumulate_eights(out, x, n, error, shift);
#else
        if (shift <= 16 && fxp_magnitude32(error) >> (shift - 1) == 0) { /* 16 bits with more */
            fxp_update16(out, x, n, error * ((int32_t)1 << (16 - shift)), 0x8000);
            return;
        }
#endif
        for (const int32_t half = (int32_t)1 << (shift - 1); i < n; i++) {
            out[i] = fxp_sat16((int32_t)out[i] + fxp_sat16((error * x[i] + half) >> shift));
        }
    }
#endif
    for (; i < n; i++) {
        out[i] = fxp_sat16(out[i] + fxp_shorten32(error * x[i], shift, 16));
    }
}

static FXP_INLINE void fxp_accumulate_row8(int16_t *out, const int8_t *x, int n, int32_t error,
                                           int shift)
{
    int i = 0;
#if FXP_MVE
    i = fxp_accumulate_eights8(out, x, n, error, shift);
#else
    const int up = 8 - shift;
    if (up >= 0 && up <= 15 && fxp_magnitude32(error) >> (15 - up) == 0) { /* 16 bits with more */
        fxp_update16x8(out, x, n, error * ((int32_t)1 << up), 0x8000);
        return;
    }
#endif
    for (; i < n; i++) {
        out[i] = fxp_sat16(out[i] + fxp_shorten32(error * x[i], shift, 16));
    }
}

/* An outer product, row after row: what lies at out, `rows` times n sums, takes dy[o] * x[i] with
 * `shift` bits less, rounded to nearest. */
#define FXP_ACCUMULATE(bits)                                                                       \
    static FXP_OUTLINE void fxp_accumulate##bits(int16_t *out, const int##bits##_t *x, int n,      \
                                                 const int##bits##_t *dy, int rows, int shift)     \
    {                                                                                              \
        for (; rows > 0; rows--, out += n) {                                                       \
            const int32_t error = *dy++;                                                           \
            if (error != 0) {                                                                      \
                fxp_accumulate_row##bits(out, x, n, error, shift);                                 \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    FXP_ASSERT(fxp_accumulate##bits##_is_a_function, 1)
FXP_ACCUMULATE(16);
FXP_ACCUMULATE(8);
#undef FXP_ACCUMULATE

/* w[i] -= m * g[i], which is k + 16 bits shorter and rounded by the dither. */
static FXP_OUTLINE void fxp_descend_row16(int16_t *w, const int16_t *g, int n, int k, int32_t m,
                                          int32_t dither)
{
    if (k <= 0 && k >= -7) {
        fxp_update16(w, g, n, -m * ((int32_t)1 << -k), dither);
        return;
    }
    for (int i = 0; i < n; i++) {
        w[i] = fxp_sat16(w[i] + ((fxp_step24(g[i], k) * m + dither) >> 16));
    }
}
