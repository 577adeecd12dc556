/* ---- updates with momentum ------------------------------------------------------------------ */

#define FXP_HEADROOM 5 /* fraction bits of the velocity of a weight of 16 bits beyond its own */

/* v[i] = kept * v[i] + m * x[i] / 2, 15 bits shorter, and w[i] += v[i] without its headroom; both
 * saturated, and rounded by dithers. `kept` has 15 fraction bits. */
static FXP_OUTLINE void fxp_momentum_row16(int16_t *w, int16_t *v, const int16_t *x, int n,
                                           int32_t m, int32_t kept, uint32_t dither_v,
                                           uint32_t dither_w)
{
#if FXP_MVE
    if (n >= 8) { /* a loop of n elements would cut products of an odd n */
        __asm__ volatile("vdup.16 q4, %[m]\n\t"
                         "vdup.16 q5, %[kept]\n\t"
                         "dls lr, %[eights]\n"
                         "1:\n\t"
                         "vldrh.u16 q0, [%[x]], #16\n\t"
                         "vldrh.u16 q1, [%[v]]\n\t"
                         "vmullb.s16 q2, q0, q4\n\t"
                         "vmullt.s16 q3, q0, q4\n\t"
                         "vshr.s32 q2, q2, #1\n\t"
                         "vshr.s32 q3, q3, #1\n\t"
                         "vmullb.s16 q0, q1, q5\n\t"
                         "vmullt.s16 q1, q1, q5\n\t"
                         "vadd.i32 q2, q2, q0\n\t"
                         "vadd.i32 q3, q3, q1\n\t"
                         "vadd.i32 q2, q2, %[dither_v]\n\t"
                         "vadd.i32 q3, q3, %[dither_v]\n\t"
                         "vshr.s32 q2, q2, #15\n\t" /* binutils 2.40 would round in VQSHRNB */
                         "vshr.s32 q3, q3, #15\n\t"
                         "vqmovnb.s32 q2, q2\n\t"
                         "vqmovnt.s32 q2, q3\n\t"
                         "vstrh.16 q2, [%[v]], #16\n\t"
                         "vhadd.s16 q2, q2, %[dither_w]\n\t"
                         "vshr.s16 q2, q2, #4\n\t"
                         "vldrh.u16 q0, [%[w]]\n\t"
                         "vqadd.s16 q0, q0, q2\n\t"
                         "vstrh.16 q0, [%[w]], #16\n\t"
                         "le lr, 1b"
                         : [w] "+r"(w), [v] "+r"(v), [x] "+r"(x)
                         : [eights] "r"(n >> 3), [m] "r"(m), [kept] "r"(kept),
                           [dither_v] "r"(dither_v), [dither_w] "r"(dither_w)
                         : "lr", "q0", "q1", "q2", "q3", "q4", "q5", "memory");
        n &= 7;
    }
#elif FXP_DSP
    /* Two pairs at once; r3 has m below `kept`. Half of a sum and its dither, which needs a bit
     * more, is taken first. */
    if (fxp_are_words(w, x) && fxp_are_words(v, v)) {
        register int16_t *r0 __asm__("r0") = w;
        register const int16_t *r1 __asm__("r1") = x;
        register int16_t *r2 __asm__("r2") = v;
        register uint32_t r3 __asm__("r3") = (uint32_t)kept << 16 | (uint16_t)m;
        register uint32_t r4 __asm__("r4") = dither_v;
        register uint32_t r5 __asm__("r5") = dither_w * 0x10001u;
        register int lr __asm__("lr") = n & ~3;
        /* clang-format off */
#define FXP_MOVE_2(v, x)                                                                           \
    "smulbb r11, " x ", r3\n\t"                                                                    \
    "smultb " x ", " x ", r3\n\t"                                                                 \
    "smlabt r12, " v ", r3, r4\n\t"                                                               \
    "smlatt " v ", " v ", r3, r4\n\t"                                                             \
    "add r12, r12, r11, asr #1\n\t"                                                                \
    "add " v ", " v ", " x ", asr #1\n\t"                                                         \
    "ssat r12, #16, r12, asr #15\n\t"                                                              \
    "ssat " v ", #16, " v ", asr #15\n\t"                                                         \
    "pkhbt " v ", r12, " v ", lsl #16\n\t"
#define FXP_CHANGE_2(change, v)                                                                    \
    "shadd16 " change ", " v ", r5\n\t"                                                           \
    "sbfx r11, " change ", #4, #12\n\t"                                                            \
    "asr " change ", " change ", #4\n\t"                                                           \
    "pkhbt " change ", r11, " change "\n\t"
        if (n >= 4) {
            __asm__ volatile("1:\n\t"
                             "ldrd r6, r8, [r1], #8\n\t"
                             "ldrd r9, r10, [r2]\n\t" FXP_MOVE_2("r9", "r6")
                             FXP_MOVE_2("r10", "r8") "strd r9, r10, [r2], #8\n\t"
                             FXP_CHANGE_2("r6", "r9") FXP_CHANGE_2("r8", "r10")
                             "ldrd r11, r12, [r0]\n\t"
                             "qadd16 r11, r11, r6\n\t"
                             "qadd16 r12, r12, r8\n\t"
                             "strd r11, r12, [r0], #8\n\t"
                             "subs lr, lr, #4\n\t"
                             "bgt 1b"
                             : "+r"(r0), "+r"(r1), "+r"(r2), "+r"(lr)
                             : "r"(r3), "r"(r4), "r"(r5)
                             : "r6", "r8", "r9", "r10", "r11", "r12", "cc", "memory");
        }
        /* clang-format on */
#undef FXP_MOVE_2
#undef FXP_CHANGE_2
        w = r0;
        x = r1;
        v = r2;
        n &= 3;
    }
#elif FXP_SMALL_THUMB
    /* clang-format off */
#define FXP_SATURATE(v, t)                                                                         \
    "sxth " t ", " v "\n\t"                                                                        \
    "cmp " t ", " v "\n\t"                                                                         \
    "beq 2f\n\t"                                                                                   \
    "asrs " v ", " v ", #31\n\t"                                                                   \
    "movs " t ", #1\n\t"                                                                          \
    "lsls " t ", " t ", #15\n\t"                                                                   \
    "subs " t ", #1\n\t"                                                                          \
    "eors " v ", " t "\n"                                                                          \
    "2:\n\t"
    if (n > 0) {
        register int16_t *r0 __asm__("r0") = w;
        register int16_t *r1 __asm__("r1") = v;
        register const int16_t *r2 __asm__("r2") = x;
        register int32_t r3 __asm__("r3") = m;
        register int32_t r4 __asm__("r4") = kept;
        register uint32_t r8 __asm__("r8") = dither_v;
        register uint32_t r9 __asm__("r9") = dither_w;
        register const int16_t *r10 __asm__("r10") = x + n;
        __asm__ volatile(".syntax unified\n"
                         "1:\n\t"
                         "movs r5, #0\n\t"
                         "ldrsh r6, [r1, r5]\n\t"
                         "muls r6, r4, r6\n\t"
                         "ldrsh r5, [r2, r5]\n\t"
                         "muls r5, r3, r5\n\t"
                         "asrs r5, r5, #1\n\t"
                         "add r5, r8\n\t"
                         "adds r5, r5, r6\n\t"
                         "asrs r5, r5, #15\n\t" FXP_SATURATE("r5", "r6")
                         "strh r5, [r1]\n\t"
                         "add r5, r9\n\t"
                         "asrs r5, r5, #5\n\t"
                         "movs r6, #0\n\t"
                         "ldrsh r6, [r0, r6]\n\t"
                         "adds r5, r5, r6\n\t" FXP_SATURATE("r5", "r6")
                         "strh r5, [r0]\n\t"
                         "adds r0, r0, #2\n\t"
                         "adds r1, r1, #2\n\t"
                         "adds r2, r2, #2\n\t"
                         "cmp r2, r10\n\t"
                         "bne 1b"
                         : "+r"(r0), "+r"(r1), "+r"(r2)
                         : "r"(r3), "r"(r4), "r"(r8), "r"(r9), "r"(r10)
                         : "r5", "r6", "cc", "memory");
    }
    n = 0;
    /* clang-format on */
#undef FXP_SATURATE
#endif
    FXP_UNROLL(4)
    for (int i = 0; i < n; i++) {
        const int32_t sum = v[i] * kept + ((m * x[i]) >> 1) + (int32_t)dither_v;
        v[i] = fxp_sat16(sum >> 15);
        w[i] = fxp_sat16(w[i] + ((v[i] + (int32_t)dither_w) >> FXP_HEADROOM));
    }
}
#undef FXP_HEADROOM
