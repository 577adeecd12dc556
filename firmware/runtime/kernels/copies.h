/* ---- copies --------------------------------------------------------------------------------- */

/* A library's memset and memcpy may go byte by byte. */
static FXP_OUTLINE void fxp_zero(void *out, int bytes)
{
#if FXP_DSP
    __asm__ volatile("mov r3, #0\n\t"
                     "subs %[n], %[n], #16\n\t"
                     "blt 2f\n"
                     "1:\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "subs %[n], %[n], #16\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #15\n\t"
                     "blt 4f\n"
                     "3:\n\t"
                     "strb r3, [%[out]], #1\n\t"
                     "subs %[n], %[n], #1\n\t"
                     "bge 3b\n"
                     "4:"
                     : [out] "+r"(out), [n] "+r"(bytes)
                     :
                     : "r3", "cc", "memory");
#elif FXP_SMALL_THUMB
    uint8_t *at = (uint8_t *)out;
    if (((uintptr_t)at & 3u) == 0) {
        __asm__ volatile(".syntax unified\n\t"
                         "movs r3, #0\n\t"
                         "movs r4, #0\n\t"
                         "movs r5, #0\n\t"
                         "movs r6, #0\n\t"
                         "subs %[n], %[n], #16\n\t"
                         "blt 2f\n"
                         "1:\n\t"
                         "stmia %[at]!, {r3, r4, r5, r6}\n\t"
                         "subs %[n], %[n], #16\n\t"
                         "bge 1b\n"
                         "2:\n\t"
                         "adds %[n], %[n], #16"
                         : [at] "+l"(at), [n] "+l"(bytes)
                         :
                         : "r3", "r4", "r5", "r6", "cc", "memory");
    }
    for (; bytes >= 2 && ((uintptr_t)at & 1u) == 0; bytes -= 2, at += 2) {
        const int16_t zero = 0;
        memcpy(__builtin_assume_aligned(at, 2), &zero, 2);
    }
    for (; bytes > 0; bytes--) {
        *at++ = 0;
    }
#else
    memset(out, 0, (size_t)bytes);
#endif
}

static FXP_OUTLINE void fxp_copy(void *out, const void *from, int bytes)
{
#if FXP_MVE
    __asm__ volatile("dlstp.8 lr, %[n]\n"
                     "1:\n\t"
                     "vldrb.u8 q0, [%[from]], #16\n\t"
                     "vstrb.8 q0, [%[out]], #16\n\t"
                     "letp lr, 1b"
                     : [out] "+r"(out), [from] "+r"(from)
                     : [n] "r"(bytes)
                     : "lr", "q0", "memory");
#elif FXP_DSP
    __asm__ volatile("subs %[n], %[n], #16\n\t"
                     "blt 2f\n"
                     "1:\n\t"
                     "ldr r3, [%[from]], #4\n\t"
                     "ldr r4, [%[from]], #4\n\t"
                     "ldr r5, [%[from]], #4\n\t"
                     "ldr r6, [%[from]], #4\n\t"
                     "str r3, [%[out]], #4\n\t"
                     "str r4, [%[out]], #4\n\t"
                     "str r5, [%[out]], #4\n\t"
                     "str r6, [%[out]], #4\n\t"
                     "subs %[n], %[n], #16\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #14\n\t"
                     "blt 4f\n"
                     "3:\n\t"
                     "ldrh r3, [%[from]], #2\n\t"
                     "strh r3, [%[out]], #2\n\t"
                     "subs %[n], %[n], #2\n\t"
                     "bge 3b\n"
                     "4:\n\t"
                     "adds %[n], %[n], #1\n\t"
                     "blt 5f\n\t"
                     "ldrb r3, [%[from]]\n\t"
                     "strb r3, [%[out]]\n"
                     "5:"
                     : [out] "+r"(out), [from] "+r"(from), [n] "+r"(bytes)
                     :
                     : "r3", "r4", "r5", "r6", "cc", "memory");
#elif FXP_SMALL_THUMB
    uint8_t *to = (uint8_t *)out;
    const uint8_t *at = (const uint8_t *)from;
    const uintptr_t places = (uintptr_t)to | (uintptr_t)at;
    if (bytes >= 16 && (places & 3u) == 0) {
        __asm__ volatile(".syntax unified\n\t"
                         "subs %[n], %[n], #16\n"
                         "1:\n\t"
                         "ldmia %[from]!, {r3, r4, r5, r6}\n\t"
                         "stmia %[out]!, {r3, r4, r5, r6}\n\t"
                         "subs %[n], %[n], #16\n\t"
                         "bge 1b\n\t"
                         "adds %[n], %[n], #16"
                         : [out] "+l"(to), [from] "+l"(at), [n] "+l"(bytes)
                         :
                         : "r3", "r4", "r5", "r6", "cc", "memory");
        if (bytes == 0) {
            return;
        }
    }
    if (bytes >= 2 && (places & 1u) == 0) {
        const int odd = bytes & 1;
        int32_t left = odd - bytes;
        to -= left;
        at -= left;
        bytes = odd;
        __asm__ volatile(".syntax unified\n"
                         "1:\n\t"
                         "ldrh r3, [%[from], %[left]]\n\t"
                         "strh r3, [%[out], %[left]]\n\t"
                         "adds %[left], %[left], #2\n\t"
                         "bne 1b"
                         : [left] "+l"(left)
                         : [out] "l"(to), [from] "l"(at)
                         : "r3", "cc", "memory");
    }
    for (; bytes > 0; bytes--) {
        *to++ = *at++;
    }
#else
    memcpy(out, from, (size_t)bytes);
#endif
}

/* A call costs more than it saves where there is no assembly. */
#if FXP_DSP
#define FXP_COPIES FXP_OUTLINE
#else
#define FXP_COPIES inline
#endif

/* Lines of so many bytes; steps from line to line in bytes. */
static FXP_COPIES void fxp_copy_lines(void *out, const void *from, int bytes, int lines,
                                      int out_step, int from_step)
{
    uint8_t *to = (uint8_t *)out;
    const uint8_t *at = (const uint8_t *)from;
#if FXP_DSP && !FXP_MVE
    const uintptr_t places = (uintptr_t)out | (uintptr_t)from;
    const int odd = ((int)places | out_step | from_step) & 3;
    int left;
    /* clang-format off */
    if (lines > 0) {
        __asm__ volatile("1:\n\t"
                         "subs %[left], %[bytes], #16\n\t"
                         "blt 4f\n\t"
                         "cmp %[odd], #0\n\t"
                         "bne 3f\n"
                         "2:\n\t"
                         "ldmia.w %[at]!, {r3, r4, r5, r6}\n\t"
                         "stmia.w %[to]!, {r3, r4, r5, r6}\n\t"
                         "subs %[left], %[left], #16\n\t"
                         "bge 2b\n\t"
                         "b 4f\n"
                         "3:\n\t"
                         "ldr r3, [%[at]], #4\n\t"
                         "ldr r4, [%[at]], #4\n\t"
                         "ldr r5, [%[at]], #4\n\t"
                         "ldr r6, [%[at]], #4\n\t"
                         "str r3, [%[to]], #4\n\t"
                         "str r4, [%[to]], #4\n\t"
                         "str r5, [%[to]], #4\n\t"
                         "str r6, [%[to]], #4\n\t"
                         "subs %[left], %[left], #16\n\t"
                         "bge 3b\n"
                         "4:\n\t" /* carry and sign are bits of what is left */
                         "lsls r3, %[left], #29\n\t"
                         "bcc 5f\n\t"
                         "ldr r4, [%[at]], #4\n\t"
                         "ldr r5, [%[at]], #4\n\t"
                         "str r4, [%[to]], #4\n\t"
                         "str r5, [%[to]], #4\n"
                         "5:\n\t"
                         "bpl 6f\n\t"
                         "ldr r4, [%[at]], #4\n\t"
                         "str r4, [%[to]], #4\n"
                         "6:\n\t"
                         "lsls r3, %[left], #31\n\t"
                         "bcc 7f\n\t"
                         "ldrh r4, [%[at]], #2\n\t"
                         "strh r4, [%[to]], #2\n"
                         "7:\n\t"
                         "bpl 8f\n\t"
                         "ldrb r4, [%[at]], #1\n\t"
                         "strb r4, [%[to]], #1\n"
                         "8:\n\t"
                         "add %[to], %[to], %[gap]\n\t"
                         "add %[at], %[at], %[skip]\n\t"
                         "subs %[lines], %[lines], #1\n\t"
                         "bgt 1b"
                         : [to] "+r"(to), [at] "+r"(at), [lines] "+r"(lines), [left] "=&r"(left)
                         : [bytes] "r"(bytes), [odd] "r"(odd), [gap] "r"(out_step - bytes),
                           [skip] "r"(from_step - bytes)
                         : "r3", "r4", "r5", "r6", "cc", "memory");
    }
    /* clang-format on */
#else
    for (; lines > 0; lines--, to += out_step, at += from_step) {
        fxp_copy(to, at, bytes);
    }
#endif
}

/* n elements that are `step` apart */
static FXP_COPIES void fxp_gather16(int16_t *out, const int16_t *from, int step, int n)
{
    /* clang-format off */
#if FXP_MVE
    if (step <= FXP_FAR && n > 0) {
        __asm__ volatile("mov r12, #0\n\t"
                         "vidup.u16 q0, r12, #1\n\t"
                         "vmul.i16 q0, q0, %[step]\n\t"
                         "dlstp.16 lr, %[n]\n"
                         "1:\n\t"
                         "vldrh.u16 q1, [%[from], q0, uxtw #1]\n\t"
                         "add %[from], %[from], %[step], lsl #4\n\t"
                         "vstrh.16 q1, [%[out]], #16\n\t"
                         "letp lr, 1b"
                         : [out] "+l"(out), [from] "+r"(from)
                         : [step] "r"(step), [n] "r"(n)
                         : "r12", "lr", "q0", "q1", "cc", "memory");
        return;
    }
#endif
#if FXP_DSP && !FXP_MVE
    int u, v;
    __asm__ volatile("subs %[n], %[n], #2\n\t"
                     "blt 2f\n"
                     "1:\n\t"
                     "ldrh %[u], [%[from]]\n\t"
                     "ldrh %[v], [%[from], %[step]]\n\t"
                     "add %[from], %[from], %[step], lsl #1\n\t"
                     "orr %[u], %[u], %[v], lsl #16\n\t"
                     "str %[u], [%[out]], #4\n\t"
                     "subs %[n], %[n], #2\n\t"
                     "bge 1b\n"
                     "2:\n\t"
                     "adds %[n], %[n], #1\n\t"
                     "blt 3f\n\t"
                     "ldrh %[u], [%[from]]\n\t"
                     "strh %[u], [%[out]]\n"
                     "3:"
                     : [out] "+r"(out), [from] "+r"(from), [n] "+r"(n), [u] "=&r"(u), [v] "=&r"(v)
                     : [step] "r"(2 * step)
                     : "cc", "memory");
    /* clang-format on */
#else
    for (const int16_t *const end = out + n; out < end; from += step) {
        *out++ = *from;
    }
#endif
}
