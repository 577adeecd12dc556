/* How often each block of an emulated program ran: a table with open addressing. */
#include <stddef.h>
#include <stdint.h>

/* A straight run of instructions that the emulator translated as one. */
typedef struct {
    uint64_t address;
    uint64_t runs;
    uint32_t bytes;
    uint32_t used;
} block;

/* The entry of a block, new where there is none; `mask` is the number of entries less one. NULL
 * where the table has no room. */
static block *block_of(block *blocks, uint64_t mask, uint64_t address, uint32_t bytes)
{
    uint64_t probe = address >> 1;
    for (uint64_t tries = 0; tries <= mask; tries++, probe++) {
        block *const entry = &blocks[probe & mask];
        if (entry->used == 0) {
            entry->used = 1;
            entry->address = address;
            entry->bytes = bytes;
        }
        if (entry->address == address && entry->bytes == bytes) {
            return entry;
        }
    }
    return NULL;
}
