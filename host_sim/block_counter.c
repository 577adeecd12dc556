/* Counts how often each block of an emulated program runs: a block hook of unicorn. */
#include "block_table.h"

/* `lost` counts what found no room. */
typedef struct {
    uint64_t mask;
    uint64_t lost;
    block *blocks;
} counter;

void count_block(void *emulator, uint64_t address, uint32_t bytes, void *data);

void count_block(void *emulator, uint64_t address, uint32_t bytes, void *data)
{
    counter *const table = data;
    block *const entry = block_of(table->blocks, table->mask, address, bytes);
    (void)emulator;
    if (entry == NULL) {
        table->lost++;
        return;
    }
    entry->runs++;
}
