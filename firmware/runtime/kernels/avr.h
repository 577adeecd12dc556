#ifdef __AVR__
/* p = the product of r21:r20 and r19:r18, which have signs. Afterwards r1 is not 0; `zero` is. */
#define FXP_AVR_PRODUCT                                                                            \
    "muls r21, r19\n\t"                                                                            \
    "movw %C[p], r0\n\t"                                                                           \
    "mul r20, r18\n\t"                                                                             \
    "movw %A[p], r0\n\t"                                                                           \
    "mulsu r21, r18\n\t"                                                                           \
    "sbc %D[p], %[zero]\n\t"                                                                       \
    "add %B[p], r0\n\t"                                                                            \
    "adc %C[p], r1\n\t"                                                                            \
    "adc %D[p], %[zero]\n\t"                                                                       \
    "mulsu r19, r20\n\t"                                                                           \
    "sbc %D[p], %[zero]\n\t"                                                                       \
    "add %B[p], r0\n\t"                                                                            \
    "adc %C[p], r1\n\t"                                                                            \
    "adc %D[p], %[zero]\n\t"

/* Adds products of n numbers from X, 2 + `gap` bytes apart, and from Z to `low` and `high`. They
 * are lifted by 2^31, so that they have no sign; what that adds is taken off first. */
#define FXP_AVR_SUM(a, b, n)                                                                       \
    uint32_t low = (n) & 1 ? 0x80000000u : 0;                                                      \
    int16_t high = (int16_t)-(((n) + 1) >> 1);                                                     \
    int32_t p;                                                                                     \
    register const int16_t *x __asm__("r26") = a;                                                  \
    register const int16_t *z __asm__("r30") = b;                                                  \
    register int count __asm__("r24") = n;                                                         \
    if (count > 0) {                                                                               \
        __asm__ volatile("1:\n\t"                                                                  \
                         "ld r20, X+\n\t"                                                          \
                         "ld r21, X+\n\t"                                                          \
                         "add r26, %A[gap]\n\t"                                                    \
                         "adc r27, %B[gap]\n\t"                                                    \
                         "ld r18, Z+\n\t"                                                          \
                         "ld r19, Z+\n\t" FXP_AVR_PRODUCT "add %D[p], %[lift]\n\t"                 \
                         "add %A[low], %A[p]\n\t"                                                  \
                         "adc %B[low], %B[p]\n\t"                                                  \
                         "adc %C[low], %C[p]\n\t"                                                  \
                         "adc %D[low], %D[p]\n\t"                                                  \
                         "adc %A[high], %[zero]\n\t"                                               \
                         "adc %B[high], %[zero]\n\t"                                               \
                         "sbiw r24, 1\n\t"                                                         \
                         "brne 1b\n\t"                                                             \
                         "clr r1"                                                                  \
                         : "+r"(x), "+r"(z),                                                       \
                           "+r"(count), [low] "+r"(low), [high] "+r"(high), [p] "=&r"(p)           \
                         : [gap] "r"(gap), [zero] "r"((uint8_t)0), [lift] "r"((uint8_t)128)        \
                         : "r18", "r19", "r20", "r21", "memory");                                  \
    }

/* sum of a * b[i] over n numbers a that are 2 + `gap` bytes apart, exact */
static FXP_OUTLINE int64_t fxp_avr_dot16(const int16_t *a, int gap, const int16_t *b, int n)
{
    FXP_AVR_SUM(a, b, n)
    register int64_t sum __asm__("r18");
    __asm__("movw r18, %A[low]\n\t"
            "movw r20, %C[low]\n\t"
            "movw r22, %A[high]\n\t"
            "mov r24, r23\n\t"
            "lsl r24\n\t"
            "sbc r24, r24\n\t"
            "mov r25, r24"
            : "=&r"(sum)
            : [low] "r"(low), [high] "r"(high));
    return sum;
}

/* The same rounded to 32 bits. */
static FXP_OUTLINE int32_t fxp_avr_dot16_short(const int16_t *a, int gap, const int16_t *b, int n,
                                               int shift)
{
    FXP_AVR_SUM(a, b, n)
    if (shift > 0) {
        __asm__("dec %A[n]\n\t"
                "rjmp 2f\n"
                "1:\n\t"
                "mov %A[low], %B[low]\n\t"
                "mov %B[low], %C[low]\n\t"
                "mov %C[low], %D[low]\n\t"
                "mov %D[low], %A[high]\n\t"
                "mov %A[high], %B[high]\n\t"
                "lsl %B[high]\n\t"
                "sbc %B[high], %B[high]\n"
                "2:\n\t"
                "subi %A[n], 8\n\t"
                "brcc 1b\n\t"
                "subi %A[n], 247\n\t" /* 1 to 8 are left; the last one that is lost rounds */
                "cpi %A[n], 5\n\t"
                "brlo 3f\n\t"
                "rjmp 5f\n" /* rather to the left, and a byte to the right */
                "4:\n\t"
                "lsl %A[low]\n\t"
                "rol %B[low]\n\t"
                "rol %C[low]\n\t"
                "rol %D[low]\n\t"
                "rol %A[high]\n\t"
                "inc %A[n]\n"
                "5:\n\t"
                "cpi %A[n], 8\n\t"
                "brne 4b\n\t"
                "lsl %A[low]\n\t"
                "mov %A[low], %B[low]\n\t"
                "mov %B[low], %C[low]\n\t"
                "mov %C[low], %D[low]\n\t"
                "mov %D[low], %A[high]\n\t"
                "rjmp 6f\n"
                "3:\n\t"
                "asr %B[high]\n\t"
                "ror %A[high]\n\t"
                "ror %D[low]\n\t"
                "ror %C[low]\n\t"
                "ror %B[low]\n\t"
                "ror %A[low]\n\t"
                "dec %A[n]\n\t"
                "brne 3b\n"
                "6:\n\t"
                "adc %A[low], __zero_reg__\n\t"
                "adc %B[low], __zero_reg__\n\t"
                "adc %C[low], __zero_reg__\n\t"
                "adc %D[low], __zero_reg__"
                : [low] "+r"(low), [high] "+r"(high), [n] "+d"(shift));
    }
    return (int32_t)low;
}
#undef FXP_AVR_SUM

/* *sum += v */
static inline void fxp_avr_add(int64_t *sum, int64_t v)
{
    register int64_t addend __asm__("r18") = v;
#define FXP_AVR_ADD(add, byte)                                                                     \
    "ld __tmp_reg__, Z\n\t" add " __tmp_reg__, " byte "\n\t"                                       \
    "st Z+, __tmp_reg__\n\t"
    __asm__ volatile(FXP_AVR_ADD("add", "r18") FXP_AVR_ADD("adc", "r19") FXP_AVR_ADD("adc", "r20")
                         FXP_AVR_ADD("adc", "r21") FXP_AVR_ADD("adc", "r22")
                             FXP_AVR_ADD("adc", "r23") FXP_AVR_ADD("adc", "r24")
                                 FXP_AVR_ADD("adc", "r25")
                     : "+z"(sum)
                     : "r"(addend)
                     : "memory");
#undef FXP_AVR_ADD
}
#endif
