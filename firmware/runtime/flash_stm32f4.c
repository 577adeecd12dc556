/* flash_stm32f4.c: memory for checkpoints in the flash of STM32F4.
 *
 * A page is a sector: 16 KiB (sectors 1 to 3; sector 0 has the vectors) or 128 KiB (sectors 5 to
 * 11). All pages of checkpoints are of one size: compile with -DCHECKPOINT_SECTOR=1 (the default),
 * the first of them, to which the linker script gives the name checkpoint_area. Goes with
 * flash_mapped.c. Words are of 1, 2 or 4 bytes; 4 needs a supply of 2.7 V or more, 2 needs 2.1 V.
 * A sector of 16 KiB takes 250 to 500 ms to erase, a word 16 to 100 us to program; code that runs
 * from flash stands still meanwhile.
 * Registers: RM0090 and RM0390, chapter "Embedded Flash memory interface".
 */
#include "checkpoint.h"

#ifndef CHECKPOINT_SECTOR
#define CHECKPOINT_SECTOR 1u
#endif

#define FLASH_ACR (*(volatile uint32_t *)0x40023C00u)
#define FLASH_KEYR (*(volatile uint32_t *)0x40023C04u)
#define FLASH_SR (*(volatile uint32_t *)0x40023C0Cu)
#define FLASH_CR (*(volatile uint32_t *)0x40023C10u)

#define KEY1 0x45670123u
#define KEY2 0xCDEF89ABu

#define ACR_DCEN (1u << 10)
#define ACR_DCRST (1u << 12)
#define SR_ERRORS (1u << 1 | 0xFu << 4) /* OPERR; WRPERR, PGAERR, PGPERR, PGSERR */
#define SR_BSY (1u << 16)
#define CR_PG (1u << 0)
#define CR_SER (1u << 1)
#define CR_SNB(sector) ((uint32_t)(sector) << 3)
#define CR_PSIZE(halves) ((uint32_t)(halves) << 8) /* 0: bytes, 1: half words, 2: words */
#define CR_STRT (1u << 16)
#define CR_LOCK (1u << 31)

extern uint8_t checkpoint_area[];

/* How many bytes are programmed at once, as PSIZE has it. */
static uint32_t parallelism(void)
{
    return CR_PSIZE(checkpoint_memory.word_bytes / 2u);
}

static void begin(uint32_t mode)
{
    while ((FLASH_SR & SR_BSY) != 0) {
    }
    if ((FLASH_CR & CR_LOCK) != 0) {
        FLASH_KEYR = KEY1;
        FLASH_KEYR = KEY2;
    }
    FLASH_SR = SR_ERRORS; /* writing ones clears them */
    FLASH_CR = mode;
}

/* Waits for the end, and locks. */
static int end(void)
{
    while ((FLASH_SR & SR_BSY) != 0) {
    }
    FLASH_CR = CR_LOCK;
    return (FLASH_SR & SR_ERRORS) != 0;
}

/* The data cache does not notice an erase. */
static void forget_cached_data(void)
{
    if ((FLASH_ACR & ACR_DCEN) != 0) {
        FLASH_ACR &= ~ACR_DCEN;
        FLASH_ACR |= ACR_DCRST;
        FLASH_ACR &= ~ACR_DCRST;
        FLASH_ACR |= ACR_DCEN;
    }
}

int checkpoint_flash_erase(uint32_t offset)
{
    const uint32_t sector = CHECKPOINT_SECTOR + offset / checkpoint_memory.page_bytes;
    begin(CR_SER | CR_SNB(sector) | parallelism());
    FLASH_CR |= CR_STRT;
    const int failed = end();
    forget_cached_data();
    return failed;
}

int checkpoint_flash_program(uint32_t offset, const uint8_t *word)
{
    volatile uint8_t *const to = &checkpoint_area[offset];
    begin(CR_PG | parallelism());
    if (checkpoint_memory.word_bytes == 4) {
        *(volatile uint32_t *)to = (uint32_t)word[0] | (uint32_t)word[1] << 8 |
                                   (uint32_t)word[2] << 16 | (uint32_t)word[3] << 24;
    } else if (checkpoint_memory.word_bytes == 2) {
        *(volatile uint16_t *)to = (uint16_t)(word[0] | word[1] << 8);
    } else {
        *to = word[0];
    }
    return end();
}
