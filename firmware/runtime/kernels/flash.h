/* ---- the same for weights in program memory ------------------------------------------------- */

/* Weights that do not learn have 8 bits; their biases are there too, or (_w) in RAM, or none. */
#ifdef __FLASH
static inline int64_t fxp_dot16x8_flash(const int16_t *a, const FXP_FLASH int8_t *b, int n)
{
    FXP_SUM_BLOCKS;
}

static inline int64_t fxp_dot8_flash(const FXP_FLASH int8_t *a, const int8_t *b, int n)
{
    FXP_SUM_BLOCKS;
}

#define FXP_FLASH_ROWS(width, x_type, memory, b_memory, dot)                                       \
    static FXP_OUTLINE void fxp_rows##width##memory(const FXP_FLASH int8_t *w, const x_type *x,    \
                                                    int n, const b_memory int32_t *b, int f,       \
                                                    int rows, int64_t *sums)                       \
    {                                                                                              \
        FXP_SUM_ROWS(dot);                                                                         \
    }                                                                                              \
    static FXP_OUTLINE void fxp_rows##width##_short##memory(                                       \
        const FXP_FLASH int8_t *w, const x_type *x, int n, const b_memory int32_t *b, int f,       \
        int rows, int shift, int32_t *sums)                                                        \
    {                                                                                              \
        FXP_SUM_ROWS_SHORT(dot);                                                                   \
    }

FXP_FLASH_ROWS(8x16, int16_t, _flash, FXP_FLASH, fxp_dot16x8_flash(x, w, n))
FXP_FLASH_ROWS(8x16, int16_t, _flash_w, , fxp_dot16x8_flash(x, w, n))
FXP_FLASH_ROWS(8, int8_t, _flash, FXP_FLASH, fxp_dot8_flash(w, x, n))
FXP_FLASH_ROWS(8, int8_t, _flash_w, , fxp_dot8_flash(w, x, n))
#undef FXP_FLASH_ROWS

static FXP_OUTLINE void fxp_columns8x16_flash(const FXP_FLASH int8_t *w, const int16_t *e,
                                              const fxp_walk *walk, int columns,
                                              int64_t sums[FXP_COLUMNS])
{
    FXP_SUM_COLUMNS(FXP_FLASH int8_t, int16_t);
}

static FXP_OUTLINE void fxp_columns8_flash(const FXP_FLASH int8_t *w, const int8_t *e,
                                           const fxp_walk *walk, int columns,
                                           int64_t sums[FXP_COLUMNS])
{
    FXP_SUM_COLUMNS(FXP_FLASH int8_t, int8_t);
}

FXP_SHORT_COLUMNS(fxp_columns8x16_short_flash, fxp_columns8x16_flash, FXP_FLASH int8_t, int16_t)
FXP_SHORT_COLUMNS(fxp_columns8_short_flash, fxp_columns8_flash, FXP_FLASH int8_t, int8_t)
#else
#define fxp_rows8x16_flash fxp_rows8x16
#define fxp_rows8x16_flash_w fxp_rows8x16
#define fxp_rows8_flash fxp_rows8
#define fxp_rows8_flash_w fxp_rows8
#define fxp_rows8x16_short_flash fxp_rows8x16_short
#define fxp_rows8x16_short_flash_w fxp_rows8x16_short
#define fxp_rows8_short_flash fxp_rows8_short
#define fxp_rows8_short_flash_w fxp_rows8_short
#define fxp_columns8x16_flash fxp_columns8x16
#define fxp_columns8_flash fxp_columns8
#define fxp_columns8x16_short_flash fxp_columns8x16_short
#define fxp_columns8_short_flash fxp_columns8_short
#endif
#undef FXP_SUM_BLOCKS
#undef FXP_SUM_ROWS
#undef FXP_SUM_ROWS_SHORT
#undef FXP_SUM_COLUMNS
#undef FXP_SHORT_COLUMNS
