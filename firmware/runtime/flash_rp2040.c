/* flash_rp2040.c: memory for checkpoints in the serial flash of RP2040.
 *
 * Words of 32 bytes (parts of a page of 256, which this flash programs piece by piece); pages are
 * sectors of 4096 bytes. Goes with flash_mapped.c and with boot2_rp2040.c or another second stage
 * that returns to its caller; the linker script gives the first sector the name checkpoint_area. A
 * sector takes 45 to 400 ms to erase, a word 0.4 to 3 ms to program. Meanwhile the flash is not in
 * the address space: what does it runs in RAM, and no interrupt and no second core may need flash.
 * Functions of the ROM: RP2040 Datasheet, chapter "Bootrom", "Flash Access Functions".
 */
#include "checkpoint.h"

enum { FLASH = 0x10000000, STAGE_WORDS = 64, SECTOR = 4096, BLOCK = 65536, BLOCK_ERASE = 0xD8 };
enum { PAGE = 256, WORD = 32 };

extern uint8_t checkpoint_area[];

typedef void (*rom_function)(void);

/* One erase, or with a page to program one of those: all of it lies in RAM or ROM. */
typedef struct {
    rom_function connect;
    rom_function exit_xip;
    void (*erase)(uint32_t offset, uint32_t count, uint32_t block, uint8_t command);
    void (*program)(uint32_t offset, const uint8_t *data, uint32_t count);
    rom_function flush;
    rom_function second_stage;
    uint32_t offset;
    const uint8_t *page;
} operation;

__attribute__((noinline, section(".data.flash_rp2040"))) static void operate(const operation *o)
{
    o->connect();
    o->exit_xip();
    if (o->page != 0) {
        o->program(o->offset, o->page, PAGE);
    } else {
        o->erase(o->offset, SECTOR, BLOCK, BLOCK_ERASE);
    }
    o->flush();
    o->second_stage();
}

/* The ROM keeps addresses of 16 bits: of its table at 0x14, of what looks names up in it at 0x18. */
static uintptr_t rom(char first, char second)
{
    const volatile uint16_t *volatile places = 0;
    const uintptr_t table = places[10], lookup = places[12];
    const uint32_t name = (uint32_t)(uint8_t)first | (uint32_t)(uint8_t)second << 8;
    return ((uintptr_t (*)(uintptr_t, uint32_t))lookup)(table, name);
}

static int run(operation *o)
{
    void (*volatile in_ram)(const operation *) = operate;
    const volatile uint32_t *const stage = (const volatile uint32_t *)(uintptr_t)FLASH;
    uint32_t copy[STAGE_WORDS];
    for (int i = 0; i < STAGE_WORDS; i++) {
        copy[i] = stage[i];
    }
    o->connect = (rom_function)rom('I', 'F');
    o->exit_xip = (rom_function)rom('E', 'X');
    o->erase = (void (*)(uint32_t, uint32_t, uint32_t, uint8_t))rom('R', 'E');
    o->program = (void (*)(uint32_t, const uint8_t *, uint32_t))rom('R', 'P');
    o->flush = (rom_function)rom('F', 'C');
    o->second_stage = (rom_function)((uintptr_t)copy | 1u);
    __asm volatile("" ::: "memory"); /* the copy is complete */
    in_ram(o);
    return 0;
}

int checkpoint_flash_erase(uint32_t offset)
{
    operation o = {0, 0, 0, 0, 0, 0, (uint32_t)(uintptr_t)checkpoint_area - FLASH + offset, 0};
    return run(&o);
}

int checkpoint_flash_program(uint32_t offset, const uint8_t *word)
{
    uint8_t page[PAGE];
    const uint32_t place = (uint32_t)(uintptr_t)checkpoint_area - FLASH + offset;
    operation o = {0, 0, 0, 0, 0, 0, place - place % PAGE, page};
    for (uint32_t i = 0; i < PAGE; i++) {
        const uint32_t inside = i - place % PAGE;
        page[i] = inside < WORD ? word[inside] : 0xFF; /* ones change nothing */
    }
    return run(&o);
}
