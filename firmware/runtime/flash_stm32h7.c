/* flash_stm32h7.c: memory for checkpoints in the flash of STM32H74x and H75x.
 *
 * Words of 32 bytes; pages are sectors of 131072 bytes, all in one bank; the linker script gives the
 * first one the name checkpoint_area. Best in bank 2: code that runs from bank 1 goes on meanwhile.
 * A sector takes 1 to 4 s to erase, a word some 200 us to program. Power of 2.7 V or more (PSIZE
 * as after reset). Where the data cache is on, the area must not be cached (MPU).
 *
 * This flash corrects errors: a word that a power cut has torn may read as a bus fault. So reads
 * ignore bus faults (FAULTMASK and BFHFNMIGN, Armv7-M Architecture Reference Manual, B1.5.5), and
 * what cannot be corrected reads as zeros. Registers: RM0433, chapter "Embedded flash memory".
 */
#include "checkpoint.h"

#define KEYR (*bank_register(0x04u))
#define CR (*bank_register(0x0Cu))
#define SR (*bank_register(0x10u))
#define CCR (*bank_register(0x14u)) /* ones clear bits of SR */
#define SCB_CCR (*(volatile uint32_t *)0xE000ED14u)

#define KEY1 0x45670123u
#define KEY2 0xCDEF89ABu

#define SR_BUSY (7u << 0) /* BSY, WBNE, QW */
#define SR_EOP (1u << 16)
#define SR_ERRORS (7u << 17 | 3u << 21) /* WRPERR, PGSERR, STRBERR; INCERR, OPERR */
#define SR_DBECCERR (1u << 26)
#define CR_LOCK (1u << 0)
#define CR_PG (1u << 1)
#define CR_SER (1u << 2)
#define CR_PSIZE (3u << 4) /* 64 bits at once */
#define CR_START (1u << 7)
#define CR_SNB(sector) ((uint32_t)(sector) << 8)
#define SCB_CCR_BFHFNMIGN (1u << 8)

enum { WORD = 32, SECTOR = 131072 };

extern uint8_t checkpoint_area[];

/* Banks have 1 MiB each, and registers 256 bytes apart. */
static volatile uint32_t *bank_register(uint32_t offset)
{
    const uint32_t second = ((uint32_t)(uintptr_t)checkpoint_area >> 20) & 1u;
    return (volatile uint32_t *)(uintptr_t)(0x52002000u + 0x100u * second + offset);
}

static void wait(void)
{
    __asm volatile("dsb" ::: "memory");
    while ((SR & SR_BUSY) != 0) {
    }
}

static void begin(uint32_t mode)
{
    wait();
    if ((CR & CR_LOCK) != 0) {
        KEYR = KEY1;
        KEYR = KEY2;
    }
    CCR = SR_ERRORS | SR_EOP;
    CR = mode | CR_PSIZE;
}

/* Waits for the end, and locks. */
static int end(void)
{
    wait();
    CR = CR_LOCK | CR_PSIZE;
    return (SR & SR_ERRORS) != 0;
}

int checkpoint_flash_erase(uint32_t offset)
{
    const uint32_t place = (uint32_t)(uintptr_t)checkpoint_area + offset;
    const uint32_t mode = CR_SER | CR_SNB(place / SECTOR % 8u);
    begin(mode);
    CR = mode | CR_PSIZE | CR_START;
    return end();
}

int checkpoint_flash_program(uint32_t offset, const uint8_t *word)
{
    volatile uint32_t *const to = (volatile uint32_t *)(uintptr_t)&checkpoint_area[offset];
    begin(CR_PG);
    for (int i = 0; i < WORD; i += 4) {
        to[i / 4] = (uint32_t)word[i] | (uint32_t)word[i + 1] << 8 | (uint32_t)word[i + 2] << 16 |
                    (uint32_t)word[i + 3] << 24;
    }
    return end();
}

/* Bytes of one word. */
static void read_some(uint32_t offset, uint8_t *data, uint32_t bytes)
{
    const volatile uint8_t *const from = &checkpoint_area[offset];
    for (uint32_t i = 0; i < bytes; i++) {
        data[i] = from[i];
    }
    __asm volatile("dsb" ::: "memory");
    if ((SR & SR_DBECCERR) != 0) {
        CCR = SR_DBECCERR;
        for (uint32_t i = 0; i < bytes; i++) {
            data[i] = 0;
        }
    }
}

void checkpoint_flash_read(uint32_t offset, uint8_t *data, uint32_t bytes)
{
    uint32_t masked;
    __asm volatile("mrs %0, faultmask\n\tcpsid f" : "=r"(masked)::"memory");
    SCB_CCR |= SCB_CCR_BFHFNMIGN;
    __asm volatile("dsb\n\tisb" ::: "memory");
    while (bytes > 0) {
        const uint32_t left = WORD - offset % WORD, some = bytes < left ? bytes : left;
        read_some(offset, data, some);
        offset += some;
        data += some;
        bytes -= some;
    }
    SCB_CCR &= ~SCB_CCR_BFHFNMIGN;
    __asm volatile("msr faultmask, %0\n\tisb" ::"r"(masked) : "memory");
}
