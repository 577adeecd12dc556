#if FXP_SMALL_THUMB
/* Neighbouring sums, exact: `low` with a sign, less 2^32 for each of `wraps`, which lie FXP_WRAPS
 * bytes behind. */
#define FXP_RAW 16
#define FXP_WRAPS "#64"
typedef struct {
    int32_t low[FXP_RAW];
    int32_t wraps[FXP_RAW];
} fxp_raw;

static inline void fxp_clear_raw(fxp_raw *raw)
{
    __asm__ volatile(".syntax unified\n\t"
                     "movs r3, #0\n\t"
                     "movs r4, #0\n\t"
                     "movs r5, #0\n\t"
                     "movs r6, #0\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}\n\t"
                     "stmia %[raw]!, {r3, r4, r5, r6}"
                     : [raw] "+l"(raw)
                     :
                     : "r3", "r4", "r5", "r6", "cc", "memory");
}

/* What lies above the low word of one of them. */
static inline uint32_t fxp_above(const fxp_raw *raw, int j)
{
    return (uint32_t)(raw->low[j] >> 31) - (uint32_t)raw->wraps[j];
}

/* One of them as it is. */
static inline int64_t fxp_whole_of(const fxp_raw *raw, int j)
{
    return (int64_t)(((uint64_t)fxp_above(raw, j) << 32) | (uint32_t)raw->low[j]);
}

/* A product goes to a sum; where that overflows, which is seldom, its sign is wrong. r7 is lost. */
#define FXP_ADD_PRODUCT(product, low, wraps)                                                       \
    "adds " low ", " low ", " product "\n\t"                                                       \
    "bvc 9f\n\t"                                                                                   \
    "asrs " product ", " low ", #31\n\t"                                                           \
    "adds " product ", " product ", " product "\n\t"                                               \
    "adds " product ", " product ", #1\n\t"                                                        \
    "add " wraps ", " product "\n"                                                                 \
    "9:\n\t"

/* The sums go to where the pushed r4 points. */
#define FXP_KEEP_TWO                                                                               \
    "pop {r4}\n\t"                                                                                 \
    "str r5, [r4]\n\t"                                                                             \
    "str r6, [r4, #4]\n\t"                                                                         \
    "mov r5, r8\n\t"                                                                               \
    "mov r6, r9\n\t"                                                                               \
    "str r5, [r4, " FXP_WRAPS "]\n\t"                                                              \
    "str r6, [r4, " FXP_WRAPS " + 4]\n\t"

/* clang-format off */
/* A product of each row. */
#define FXP_TWO_PRODUCTS                                                                           \
    "ldrsh r4, [r0, r3]\n\t"                                                                       \
    "ldrsh r7, [r1, r3]\n\t"                                                                       \
    "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT("r7", "r5", "r8")                                        \
    "ldrsh r7, [r2, r3]\n\t"                                                                       \
    "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT("r7", "r6", "r9")                                        \
    "adds r3, r3, #2\n\t"

/* Products of x with two rows of n, of which the sums go to `low` and behind. */
static FXP_OUTLINE void fxp_two_rows16(const int16_t *w, const int16_t *v, const int16_t *x, int n,
                                       int32_t *low)
{
    register const int16_t *r0 __asm__("r0") = x + n;
    register const int16_t *r1 __asm__("r1") = w + n;
    register const int16_t *r2 __asm__("r2") = v + n;
    register int32_t r3 __asm__("r3") = -2 * (int32_t)n;
    register int32_t *r4 __asm__("r4") = low;
    /* All registers are needed, and no compiler finds them all. */
    __asm__ volatile(".syntax unified\n\t"
                     "push {r4, r5, r6, r7}\n\t"
                     "movs r5, #0\n\t"
                     "movs r6, #0\n\t"
                     "mov r8, r5\n\t"
                     "mov r9, r5\n\t"
                     "lsls r4, r3, #30\n\t" /* n is odd */
                     "bne 2f\n\t"
                     "cmp r3, #0\n\t"
                     "beq 3f\n"
                     "1:\n\t" FXP_TWO_PRODUCTS
                     "2:\n\t" FXP_TWO_PRODUCTS
                     "bne 1b\n"
                     "3:\n\t"
                     FXP_KEEP_TWO
                     "pop {r5, r6, r7}"
                     : "+r"(r3), "+r"(r4)
                     : "r"(r0), "r"(r1), "r"(r2)
                     : "r8", "r9", "cc", "memory");
}

/* Numbers that are not 0, negated, each behind how far its place is from a base, in bytes. An even
 * count, as pairs of products are added first: a negated number makes no pair of them exceed 32
 * bits. */
#define FXP_LISTED 40
typedef struct {
    int32_t entries[2 * FXP_LISTED];
} fxp_list;

/* Lists numbers from x + *at bytes up to x, or until the list is full; its end. */
#define FXP_LIST_1                                                                                 \
    "ldrsh r4, [r0, r1]\n\t"                                                                       \
    "rsbs r4, r4, #0\n\t"                                                                          \
    "beq 8f\n\t"                                                                                   \
    "stmia r2!, {r1, r4}\n"                                                                        \
    "8:\n\t"                                                                                       \
    "adds r1, r1, #2\n\t"
static inline int32_t *fxp_list_of(const int16_t *x, int32_t *at, fxp_list *list)
{
    register const int16_t *r0 __asm__("r0") = x;
    register int32_t r1 __asm__("r1") = *at;
    register int32_t *r2 __asm__("r2") = list->entries;
    register int32_t *r3 __asm__("r3") = list->entries + 2 * (FXP_LISTED - 4);
    __asm__ volatile(".syntax unified\n\t"
                     "b 2f\n"
                     "1:\n\t" FXP_LIST_1
                     "2:\n\t"
                     "lsls r4, %[at], #29\n\t" /* they are no fours */
                     "bne 1b\n\t"
                     "cmp %[at], #0\n\t"
                     "beq 4f\n"
                     "3:\n\t" FXP_LIST_1 FXP_LIST_1 FXP_LIST_1 FXP_LIST_1
                     "beq 4f\n\t"
                     "cmp %[end], %[most]\n\t"
                     "bls 3b\n"
                     "4:"
                     : [at] "+l"(r1), [end] "+l"(r2)
                     : [x] "l"(r0), [most] "l"(r3)
                     : "r4", "cc", "memory");
    *at = r1;
    return r2;
}

/* The products of two entries are subtracted from the sum in r6. */
#define FXP_LISTED_2                                                                               \
    "ldmia r0!, {r2, r3, r4, r5}\n\t"                                                              \
    "ldrsh r2, [r1, r2]\n\t"                                                                       \
    "muls r2, r3, r2\n\t"                                                                          \
    "ldrsh r4, [r1, r4]\n\t"                                                                       \
    "muls r4, r5, r4\n\t"                                                                          \
    "adds r2, r2, r4\n\t"                                                                          \
    "subs r6, r6, r2\n\t"                                                                          \
    "bvc 9f\n\t"                                                                                   \
    "asrs r2, r6, #31\n\t"                                                                         \
    "adds r2, r2, r2\n\t"                                                                          \
    "adds r2, r2, #1\n\t"                                                                          \
    "ldr r3, [r7, " FXP_WRAPS "]\n\t"                                                              \
    "adds r3, r3, r2\n\t"                                                                          \
    "str r3, [r7, " FXP_WRAPS "]\n"                                                                \
    "9:\n\t"
#define FXP_LISTED_2_BYTES "#28" /* of its code */

/* What sums of products with listed numbers need. Numbers lie from x + at bytes up to x; `down` is
 * how many bytes are between their weights, the first of which is at w + place, or 0 for neighbours
 * that end at w. The next sum has its weights `step` bytes further on. Where y is not NULL, sums
 * are those where y > 0; `mask` is the next. They end at `end`. */
typedef struct {
    const int16_t *x;
    int32_t at;
    int32_t down;
    int32_t place;
    const int16_t *w;
    int32_t step;
    const int16_t *y;
    const int16_t *mask;
    int32_t *end;
    fxp_raw sums;
    fxp_list list;
} fxp_products;
#define FXP_SUMS_AT "#36"
#define FXP_LIST_AT "#164"
FXP_ASSERT(sums_and_list_are_there, sizeof(fxp_products) == 164 + sizeof(fxp_list));
FXP_ASSERT(a_list_has_room_for_four_entries_there, 8 * (FXP_LISTED - 4) == 2 * 144);

/* Adds products to sums that begin at 0: one list after the other. */
static FXP_OUTLINE void fxp_add_products(fxp_products *products)
{
    register fxp_products *r0 __asm__("r0") = products;
    /* Rows begin where lr points: at 1, if there is a mask, else at 2; the stack has `products`. */
    __asm__ volatile(".syntax unified\n\t"
                     "push {r0, r7}\n\t"
                     "mov r7, r0\n"
                     "10:\n\t"
                     "ldmia r0!, {r1, r2, r3}\n\t"
                     "mov r0, r1\n\t"
                     "mov r1, r2\n\t"
                     "mov r2, r7\n\t"
                     "adds r2, r2, " FXP_LIST_AT "\n\t"
                     "mov r8, r2\n\t"
                     "mov r5, r2\n\t"
                     "adds r5, r5, #144\n\t"
                     "adds r5, r5, #144\n\t"
                     "cmp r3, #0\n\t"
                     "bne 14f\n\t"
                     "mov r3, r5\n\t"
                     "b 12f\n"
                     "11:\n\t" FXP_LIST_1
                     "12:\n\t"
                     "lsls r4, r1, #29\n\t" /* they are no fours */
                     "bne 11b\n\t"
                     "cmp r1, #0\n\t"
                     "beq 17f\n"
                     "13:\n\t" FXP_LIST_1 FXP_LIST_1 FXP_LIST_1 FXP_LIST_1
                     "beq 17f\n\t"
                     "cmp r2, r3\n\t"
                     "bls 13b\n\t"
                     "b 17f\n"
                     "14:\n\t"
                     "mov r6, r3\n\t"
                     "ldr r3, [r7, #12]\n"
                     "15:\n\t"
                     "ldrsh r4, [r0, r1]\n\t"
                     "rsbs r4, r4, #0\n\t"
                     "beq 16f\n\t"
                     "stmia r2!, {r3, r4}\n"
                     "16:\n\t"
                     "adds r3, r3, r6\n\t"
                     "adds r1, r1, #2\n\t"
                     "beq 17f\n\t"
                     "cmp r2, r5\n\t"
                     "bls 15b\n\t"
                     "str r3, [r7, #12]\n"
                     "17:\n\t"
                     "str r1, [r7, #4]\n\t"
                     "mov r0, r8\n\t"
                     "subs r0, r2, r0\n\t"
                     "bne 18f\n\t"
                     "b 4f\n"
                     "18:\n\t"
                     "lsls r3, r0, #28\n\t" /* an odd count */
                     "bpl 18f\n\t"
                     "subs r3, r2, #4\n\t"
                     "subs r3, r3, #4\n\t"
                     "ldr r3, [r3]\n\t"
                     "movs r4, #0\n\t"
                     "stmia r2!, {r3, r4}\n\t"
                     "adds r0, r0, #8\n"
                     "18:\n\t"
                     "mov r12, r2\n\t"
                     "rsbs r0, r0, #0\n\t"
                     "lsls r0, r0, #25\n\t"
                     "lsrs r0, r0, #29\n\t"
                     "movs r1, " FXP_LISTED_2_BYTES "\n\t"
                     "muls r0, r1, r0\n\t"
                     "adr r1, 3f\n\t"
                     "adds r0, r0, r1\n\t"
                     "mov r10, r0\n\t"
                     "mov r0, r7\n\t"
                     "adds r0, r0, #16\n\t"
                     "ldmia r0!, {r1, r2, r3, r4, r5}\n\t"
                     "mov r9, r2\n\t"
                     "mov r11, r5\n\t"
                     "str r3, [r7, #28]\n\t"
                     "adds r7, r7, " FXP_SUMS_AT "\n\t"
                     "adr r0, 2f\n\t"
                     "cmp r3, #0\n\t"
                     "beq 0f\n\t"
                     "adr r0, 1f\n"
                     "0:\n\t"
                     "mov lr, r0\n\t"
                     "mov pc, r0\n\t"
                     ".balign 4\n"
                     "1:\n\t"
                     "ldr r2, [sp]\n\t"
                     "ldr r3, [r2, #28]\n\t"
                     "movs r4, #0\n\t"
                     "ldrsh r4, [r3, r4]\n\t"
                     "adds r3, r3, #2\n\t"
                     "str r3, [r2, #28]\n\t"
                     "cmp r4, #0\n\t"
                     "bgt 2f\n\t"
                     "adds r7, r7, #4\n\t"
                     "add r1, r9\n\t"
                     "cmp r7, r11\n\t"
                     "bne 1b\n\t"
                     "b 4f\n\t"
                     ".balign 4\n"
                     "2:\n\t"
                     "mov r0, r8\n\t"
                     "ldr r6, [r7]\n\t"
                     "mov pc, r10\n\t"
                     ".balign 4\n"
                     "3:\n\t" FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2
                     FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2 FXP_LISTED_2
                     "cmp r0, r12\n\t"
                     "bne 3b\n\t"
                     "stmia r7!, {r6}\n\t"
                     "add r1, r9\n\t"
                     "cmp r7, r11\n\t"
                     "beq 4f\n\t"
                     "mov pc, lr\n"
                     "4:\n\t"
                     "ldr r0, [sp]\n\t"
                     "mov r7, r0\n\t"
                     "ldr r1, [r7, #4]\n\t"
                     "cmp r1, #0\n\t"
                     "beq 5f\n\t"
                     "b 10b\n"
                     "5:\n\t"
                     "pop {r0, r7}"
                     : "+r"(r0)
                     :
                     : "r1", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr",
                       "cc", "memory");
}
#undef FXP_SUMS_AT
#undef FXP_LIST_AT
#undef FXP_LIST_1
#undef FXP_LISTED_2
#undef FXP_LISTED_2_BYTES
/* clang-format on */

/* What sums of two columns need, in bytes: where they are, how far the next row of weights is, the
 * next run of weights from the end of one, and the next of errors; then a run, below 0, and how
 * many there are. */
typedef struct {
    const int16_t *w;
    const int16_t *e;
    int32_t step;
    int32_t w_next;
    int32_t e_next;
    int32_t run;
    int32_t rows;
} fxp_two_columns;

#define FXP_TWO_PRODUCTS_DOWN                                                                      \
    "ldrsh r4, [r1, r3]\n\t"                                                                       \
    "ldrh r7, [r0]\n\t"                                                                            \
    "sxth r7, r7\n\t"                                                                              \
    "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT("r7", "r5", "r8") "ldrsh r7, [r0, r2]\n\t"               \
                                                            "muls r7, r4, r7\n\t" FXP_ADD_PRODUCT( \
                                                                "r7", "r6",                        \
                                                                "r9") "add r0, r12\n\t"            \
                                                                      "adds r3, r3, #2\n\t"

/* Neither a run nor their number is 0. */
static FXP_OUTLINE void fxp_two_columns16(fxp_two_columns *columns, int32_t *low)
{
    register fxp_two_columns *r0 __asm__("r0") = columns;
    register int32_t *r1 __asm__("r1") = low;
    __asm__ volatile(".syntax unified\n\t"
                     "push {r1, r4, r5, r6, r7}\n\t"
                     "mov lr, r0\n\t"
                     "ldr r4, [r0, #8]\n\t"
                     "mov r12, r4\n\t"
                     "movs r5, #0\n\t"
                     "movs r6, #0\n\t"
                     "mov r8, r5\n\t"
                     "mov r9, r5\n\t"
                     "movs r2, #2\n\t"
                     "mov r4, r0\n\t"
                     "ldmia r4!, {r0, r1}\n"
                     "1:\n\t"
                     "mov r4, lr\n\t"
                     "ldr r3, [r4, #20]\n\t"
                     "lsls r4, r3, #30\n\t" /* n is odd */
                     "bne 3f\n"
                     "2:\n\t" FXP_TWO_PRODUCTS_DOWN "3:\n\t" FXP_TWO_PRODUCTS_DOWN "bne 2b\n\t"
                     "mov r4, lr\n\t"
                     "ldr r7, [r4, #12]\n\t"
                     "adds r0, r0, r7\n\t"
                     "ldr r7, [r4, #16]\n\t"
                     "adds r1, r1, r7\n\t"
                     "ldr r7, [r4, #24]\n\t"
                     "subs r7, r7, #1\n\t"
                     "str r7, [r4, #24]\n\t"
                     "bne 1b\n\t" FXP_KEEP_TWO "pop {r4, r5, r6, r7}"
                     : "+r"(r0), "+r"(r1)
                     :
                     : "r2", "r3", "r8", "r9", "r12", "lr", "cc", "memory");
}

/* Those of one column, whose rows are `step` apart, go to the first sum; n > 0. */
static FXP_OUTLINE void fxp_one_column16(const int16_t *w, int step, const int16_t *e, int n,
                                         fxp_raw *raw)
{
    const int16_t *const end = e + n;
    int32_t at = -2 * (int32_t)n, low = raw->low[0], wraps = raw->wraps[0], p, q;
    __asm__ volatile(".syntax unified\n"
                     "1:\n\t"
                     "ldrsh %[q], [%[end], %[at]]\n\t"
                     "ldrh %[p], [%[w]]\n\t"
                     "sxth %[p], %[p]\n\t"
                     "muls %[p], %[q], %[p]\n\t" FXP_ADD_PRODUCT(
                         "%[p]", "%[low]", "%[wraps]") "add %[w], %[step]\n\t"
                                                       "adds %[at], %[at], #2\n\t"
                                                       "bne 1b"
                     : [at] "+l"(at), [w] "+l"(w), [low] "+l"(low), [wraps] "+hr"(wraps),
                       [p] "=&l"(p), [q] "=&l"(q)
                     : [end] "l"(end), [step] "hr"(2 * (int32_t)step)
                     : "cc", "memory");
    raw->low[0] = low;
    raw->wraps[0] = wraps;
}
#undef FXP_ADD_PRODUCT
#undef FXP_TWO_PRODUCTS
#undef FXP_TWO_PRODUCTS_DOWN
#undef FXP_KEEP_TWO
#endif
