/* flash_nvmc.c: memory for checkpoints in the flash of nRF51 and nRF52 (micro:bit v1 and v2).
 *
 * Words of 4 bytes; pages of 1024 bytes (nRF51) or 4096 (nRF52). Goes with flash_mapped.c; the
 * linker script gives the first page the name checkpoint_area. A page takes some 20 to 90 ms to
 * erase, a word some 50 us to program; the core stands still meanwhile.
 * Registers: nRF51 Series Reference Manual, chapter "Non-Volatile Memory Controller".
 */
#include "checkpoint.h"

#define NVMC_READY (*(const volatile uint32_t *)0x4001E400u)
#define NVMC_CONFIG (*(volatile uint32_t *)0x4001E504u)
#define NVMC_ERASEPAGE (*(volatile uint32_t *)0x4001E508u)

enum { READ_ONLY, WRITE_ENABLE, ERASE_ENABLE };

extern volatile uint32_t checkpoint_area[];

static void wait(void)
{
    while ((NVMC_READY & 1u) == 0) {
    }
}

static void configure(uint32_t mode)
{
    NVMC_CONFIG = mode;
    wait();
}

int checkpoint_flash_erase(uint32_t offset)
{
    configure(ERASE_ENABLE);
    NVMC_ERASEPAGE = (uint32_t)(uintptr_t)checkpoint_area + offset;
    wait();
    configure(READ_ONLY);
    return 0;
}

int checkpoint_flash_program(uint32_t offset, const uint8_t *word)
{
    const uint32_t value = (uint32_t)word[0] | (uint32_t)word[1] << 8 | (uint32_t)word[2] << 16 |
                           (uint32_t)word[3] << 24;
    configure(WRITE_ENABLE);
    checkpoint_area[offset / 4] = value;
    wait();
    configure(READ_ONLY);
    return 0;
}
