/* ---- largest numbers of windows ------------------------------------------------------------- */

/* The places of a window that lie inside of the input: distances in elements, the number of the
 * first one, and by how much a row is further than the one above; columns are neighbours. */
typedef struct {
    int rows;
    int columns;
    int row_step;
    int column_step;
    int place;
    int pitch;
} fxp_window;

/* Numbers that are taken at once. */
#define FXP_NUMBERS 8

/* A call of memset would cost more. */
static inline void fxp_clear_numbers(int32_t sums[FXP_NUMBERS])
{
    sums[0] = sums[1] = sums[2] = sums[3] = 0;
    sums[4] = sums[5] = sums[6] = sums[7] = 0;
}

/* Four channels at a time, two in a word. */
#define FXP_TAKE_PLACES                                                                            \
    places[0] = (uint8_t)low_at;                                                                   \
    places[1] = (uint8_t)(low_at >> 16);                                                           \
    places[2] = (uint8_t)high_at;                                                                  \
    places[3] = (uint8_t)(high_at >> 16);                                                          \
    places += 4
#if FXP_DSP && !FXP_MVE
/* A difference tells by the flags GE which halves of `most` are not less than those of v; the
 * others become v, and their places become this one. */
#define FXP_TAKE(most, at, v)                                                                      \
    __asm__("ssub16 r12, %[m], %[n]\n\t"                                                           \
            "sel %[a], %[a], %[h]\n\t"                                                             \
            "sel %[m], %[m], %[n]"                                                                 \
            : [m] "+r"(most), [a] "+r"(at)                                                         \
            : [n] "r"(v), [h] "r"(here)                                                            \
            : "r12", "cc")
#define FXP_LARGEST_FOURS(take_fours)                                                              \
    for (; count >= 4; count -= 4, x += 4) {                                                       \
        const int16_t *row = x;                                                                    \
        uint32_t first = (uint32_t)window->place * 0x10001u, low_at = first, high_at = first;      \
        int32_t low = INT32_MIN + 0x8000, high = low;                                              \
        for (int i = window->rows; i > 0; i--, row += window->row_step) {                          \
            const int16_t *from = row;                                                             \
            uint32_t here = first;                                                                 \
            for (int j = window->columns; j > 0; j--, from += window->column_step) {               \
                const int16x2_t two = fxp_pair(from), more = fxp_pair(from + 2);                   \
                FXP_TAKE(low, low_at, two);                                                        \
                FXP_TAKE(high, high_at, more);                                                     \
                here += 0x10001u;                                                                  \
            }                                                                                      \
            first += (uint32_t)window->pitch * 0x10001u;                                           \
        }                                                                                          \
        largest[0] = (int16_t)low;                                                                 \
        largest[1] = low >> 16;                                                                    \
        largest[2] = (int16_t)high;                                                                \
        largest[3] = high >> 16;                                                                   \
        largest += 4;                                                                              \
        take_fours;                                                                                \
    }                                                                                              \
    if (count == 0) {                                                                              \
        return;                                                                                    \
    }                                                                                              \
    (void)0
#else
#define FXP_LARGEST_FOURS FXP_NONE_OF_FOURS
#endif
#define FXP_NONE_OF_FOURS(take_fours) (void)0

/* largest[j] is the largest x[j] of a window, places[j] the number of the first place that has it,
 * for j < count. */
#define FXP_LARGEST(name, x_type, least, place_type, fours)                                        \
    static FXP_OUTLINE void fxp_largest_of##name(const x_type *x, const fxp_window *window,        \
                                                 int count, int32_t *largest)                      \
    {                                                                                              \
        fours((void)0);                                                                            \
        FXP_EACH_PLACE(least, (void)0, (void)0);                                                   \
    }                                                                                              \
                                                                                                   \
    static FXP_OUTLINE void fxp_first_largest_of##name(const x_type *x, const fxp_window *window,  \
                                                       int count, int32_t *largest,                \
                                                       place_type *places)                         \
    {                                                                                              \
        fours(FXP_TAKE_PLACES);                                                                    \
        FXP_EACH_PLACE(least, places[j] = (place_type)window->place,                               \
                       places[j] = (place_type)place);                                             \
    }                                                                                              \
    FXP_ASSERT(windows_of_##name, 1)
#define FXP_EACH_PLACE(least, begin, take)                                                         \
    for (int j = 0; j < count; j++) {                                                              \
        largest[j] = least;                                                                        \
        begin;                                                                                     \
    }                                                                                              \
    int place = window->place;                                                                     \
    for (int row = window->rows; row > 0; row--, x += window->row_step) {                          \
        for (int column = 0; column < window->columns; column++, place++) {                        \
            for (int j = 0; j < count; j++) {                                                      \
                const int32_t v = x[column * window->column_step + j];                             \
                if (v > largest[j]) {                                                              \
                    largest[j] = v;                                                                \
                    take;                                                                          \
                }                                                                                  \
            }                                                                                      \
        }                                                                                          \
        place += window->pitch - window->columns;                                                  \
    }                                                                                              \
    (void)0
FXP_LARGEST(16, int16_t, INT16_MIN, uint8_t, FXP_LARGEST_FOURS);
FXP_LARGEST(8, int8_t, INT8_MIN, uint8_t, FXP_NONE_OF_FOURS);
/* Where windows have more than 256 places. */
FXP_LARGEST(16_of_many, int16_t, INT16_MIN, uint16_t, FXP_NONE_OF_FOURS);
FXP_LARGEST(8_of_many, int8_t, INT8_MIN, uint16_t, FXP_NONE_OF_FOURS);
#undef FXP_LARGEST
#undef FXP_EACH_PLACE
#undef FXP_LARGEST_FOURS
#undef FXP_NONE_OF_FOURS
#undef FXP_TAKE_PLACES
#if FXP_DSP && !FXP_MVE
#undef FXP_TAKE
#endif
