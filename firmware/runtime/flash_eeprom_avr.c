/* flash_eeprom_avr.c: memory for checkpoints in the EEPROM of AVR (Arduino Uno: 1 KiB, Mega: 4 KiB).
 *
 * Words of 1 byte, page_bytes 0: no erase. The slots begin at byte CHECKPOINT_EEPROM (default 0).
 * A byte takes 3.4 ms to write; one that has its value already is left alone. Below the voltage at
 * which the brown-out detector should be set (fuse BODLEVEL), a write may hit another byte.
 */
#include "checkpoint.h"

#include <avr/eeprom.h>

#ifndef CHECKPOINT_EEPROM
#define CHECKPOINT_EEPROM 0
#endif

static uint8_t *place(uint32_t offset)
{
    return (uint8_t *)(uint16_t)(CHECKPOINT_EEPROM + offset);
}

int checkpoint_flash_erase(uint32_t offset)
{
    (void)offset;
    return 1; /* never called */
}

int checkpoint_flash_program(uint32_t offset, const uint8_t *word)
{
    eeprom_update_byte(place(offset), *word);
    eeprom_busy_wait();
    return 0;
}

void checkpoint_flash_read(uint32_t offset, uint8_t *data, uint32_t bytes)
{
    eeprom_read_block(data, place(offset), (uint16_t)bytes);
}
