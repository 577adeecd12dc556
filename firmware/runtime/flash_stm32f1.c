/* flash_stm32f1.c: memory for checkpoints in the flash of STM32F1.
 *
 * Words of 2 bytes; pages of 1024 bytes (low and medium density) or 2048 (high density). Goes with
 * flash_mapped.c; the linker script gives the first page the name checkpoint_area, at a place that
 * is really flash: 0x08000000 and up. The internal clock (HSI) must be on. A page takes 20 to 40 ms
 * to erase, a word 40 to 70 us to program; code that runs from flash stands still meanwhile.
 * Registers: PM0075, "STM32F10xxx Flash memory microcontrollers".
 */
#include "checkpoint.h"

#define FLASH_KEYR (*(volatile uint32_t *)0x40022004u)
#define FLASH_SR (*(volatile uint32_t *)0x4002200Cu)
#define FLASH_CR (*(volatile uint32_t *)0x40022010u)
#define FLASH_AR (*(volatile uint32_t *)0x40022014u)

#define KEY1 0x45670123u
#define KEY2 0xCDEF89ABu

#define SR_BSY (1u << 0)
#define SR_PGERR (1u << 2)
#define SR_WRPRTERR (1u << 4)
#define SR_EOP (1u << 5)
#define CR_PG (1u << 0)
#define CR_PER (1u << 1)
#define CR_STRT (1u << 6)
#define CR_LOCK (1u << 7)

extern volatile uint16_t checkpoint_area[];

static void begin(uint32_t mode)
{
    if ((FLASH_CR & CR_LOCK) != 0) {
        FLASH_KEYR = KEY1;
        FLASH_KEYR = KEY2;
    }
    FLASH_SR = SR_PGERR | SR_WRPRTERR | SR_EOP; /* writing ones clears them */
    FLASH_CR = mode;
}

/* Waits for the end, and locks. */
static int end(void)
{
    while ((FLASH_SR & SR_BSY) != 0) {
    }
    FLASH_CR = CR_LOCK;
    return (FLASH_SR & (SR_PGERR | SR_WRPRTERR)) != 0;
}

int checkpoint_flash_erase(uint32_t offset)
{
    begin(CR_PER);
    FLASH_AR = (uint32_t)(uintptr_t)checkpoint_area + offset;
    FLASH_CR = CR_PER | CR_STRT;
    return end();
}

int checkpoint_flash_program(uint32_t offset, const uint8_t *word)
{
    begin(CR_PG);
    checkpoint_area[offset / 2] = (uint16_t)(word[0] | word[1] << 8);
    return end();
}
