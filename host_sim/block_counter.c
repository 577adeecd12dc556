/* Counts how often each block of an emulated program runs: a block hook of unicorn. */
#include <stdint.h>

/* A straight run of instructions that the emulator translated as one. */
typedef struct {
    uint64_t address;
    uint64_t runs;
    uint32_t bytes;
    uint32_t used;
} block;

/* Open addressing; `mask` is the number of entries less one, `lost` counts what found no room. */
typedef struct {
    uint64_t mask;
    uint64_t lost;
    block *blocks;
} counter;

void count_block(void *emulator, uint64_t address, uint32_t bytes, void *data);

void count_block(void *emulator, uint64_t address, uint32_t bytes, void *data)
{
    counter *const table = data;
    uint64_t probe = address >> 1;
    (void)emulator;
    for (uint64_t tries = 0; tries <= table->mask; tries++, probe++) {
        block *const entry = &table->blocks[probe & table->mask];
        if (entry->used == 0) {
            entry->used = 1;
            entry->address = address;
            entry->bytes = bytes;
        }
        if (entry->address == address && entry->bytes == bytes) {
            entry->runs++;
            return;
        }
    }
    table->lost++;
}
