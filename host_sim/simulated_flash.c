/* The memory of checkpoint.h on this machine, with power that fails when a test wants it to.
 *
 * NOR flash (FLASH_PAGE > 0): an erase sets a page to ones, a program clears bits, and no word is
 * programmed twice between two erases (words below 4 bytes may be, to zeros). EEPROM (FLASH_PAGE
 * 0): a program stores any value. What breaks these rules is counted in flash_violations.
 */
#include "checkpoint.h"
#include "simulated_flash.h"

#include <string.h>

#define BYTES (FLASH_SLOT * FLASH_SLOTS)

enum { NOTHING, ALL, SOME_BITS, LOOSE_BITS, FIRST_HALF }; /* what a cut operation did */

extern uint8_t flash_memory[BYTES];
extern uint8_t flash_loose[BYTES];
extern uint8_t flash_programmed[BYTES];
extern uint32_t flash_operations, flash_cut, flash_tear, flash_random, flash_violations;
extern uint32_t flash_worn;
void flash_boot(void);

const checkpoint_geometry checkpoint_memory = {FLASH_SLOT, FLASH_PAGE, FLASH_WORD, FLASH_SLOTS};

uint8_t flash_memory[BYTES];
uint8_t flash_loose[BYTES];      /* bits that read differently at every start */
uint8_t flash_programmed[BYTES]; /* since the last erase */
uint32_t flash_operations;       /* since the last start */
uint32_t flash_cut = UINT32_MAX; /* the operation during which power fails */
uint32_t flash_tear;             /* and how */
uint32_t flash_random = 1;
uint32_t flash_violations;
uint32_t flash_worn = UINT32_MAX; /* the byte whose lowest bit cannot be cleared any more */

static uint8_t draw(void)
{
    flash_random ^= flash_random << 13;
    flash_random ^= flash_random >> 17;
    flash_random ^= flash_random << 5;
    return (uint8_t)(flash_random >> 11);
}

/* Power comes on: loose bits settle at random. */
void flash_boot(void)
{
    flash_operations = 0;
    flash_cut = UINT32_MAX;
    for (uint32_t i = 0; i < BYTES; i++) {
        flash_memory[i] ^= (uint8_t)(flash_loose[i] & draw());
    }
}

/* One byte on its way from what it is to `goal`. */
static void change(uint32_t at, uint8_t goal, int first_half)
{
    const uint8_t moving = (uint8_t)((flash_memory[at] ^ goal) | flash_loose[at]);
    uint8_t done = 0xFF, loose = 0;
    if (flash_operations == flash_cut) {
        done = flash_tear == ALL || (flash_tear == FIRST_HALF && first_half) ? 0xFF : 0;
        if (flash_tear == SOME_BITS || flash_tear == LOOSE_BITS) {
            /* a cell of EEPROM is erased on its way */
            done = draw();
            goal = FLASH_PAGE > 0 ? goal : (uint8_t)(goal | draw());
        }
        loose = flash_tear == LOOSE_BITS ? moving : (uint8_t)(flash_loose[at] & ~done);
    }
    flash_memory[at] = (uint8_t)((goal & done) | (flash_memory[at] & ~done));
    flash_loose[at] = loose;
}

/* Nothing changes any more once power has failed. */
static int is_on(void)
{
    return flash_operations <= flash_cut;
}

/* What flash without error correction takes a second time. */
static int is_zero(const uint8_t *word)
{
    uint8_t any = 0;
    for (uint32_t i = 0; i < FLASH_WORD; i++) {
        any |= word[i];
    }
    return any == 0 && FLASH_WORD < 4;
}

int checkpoint_flash_erase(uint32_t offset)
{
#if FLASH_PAGE > 0
    if (offset % FLASH_PAGE == 0 && offset < BYTES) {
        for (uint32_t i = 0; i < FLASH_PAGE && is_on(); i++) {
            change(offset + i, 0xFF, 2 * i + 1 < FLASH_PAGE);
            flash_programmed[offset + i] = flash_operations == flash_cut;
        }
        flash_operations += is_on() ? 1u : 0u;
        return 0;
    }
#endif
    (void)offset;
    flash_violations++;
    return 1;
}

int checkpoint_flash_program(uint32_t offset, const uint8_t *word)
{
    if (offset % FLASH_WORD != 0 || offset + FLASH_WORD > BYTES) {
        flash_violations++;
        return 1;
    }
    if (is_on()) {
        flash_violations += FLASH_PAGE > 0 && flash_programmed[offset] && !is_zero(word) ? 1u : 0u;
        for (uint32_t i = 0; i < FLASH_WORD; i++) {
            const uint8_t goal = FLASH_PAGE > 0 ? flash_memory[offset + i] & word[i] : word[i];
            change(offset + i, (uint8_t)(goal | (offset + i == flash_worn)),
                   2 * i + 1 < FLASH_WORD);
            flash_programmed[offset + i] = 1;
        }
        flash_operations++;
    }
    return 0;
}

void checkpoint_flash_read(uint32_t offset, uint8_t *data, uint32_t bytes)
{
    if (offset > BYTES || bytes > BYTES - offset) {
        flash_violations++;
        return;
    }
    memcpy(data, &flash_memory[offset], bytes);
}
