/* flash_mapped.c: reads checkpoints from flash that lies in the address space of the core.
 *
 * Goes with flash_nvmc.c, flash_rp2040.c, flash_stm32f1.c and flash_stm32f4.c. The linker script
 * gives the first page the name checkpoint_area.
 */
#include "checkpoint.h"

extern const volatile uint8_t checkpoint_area[];

void checkpoint_flash_read(uint32_t offset, uint8_t *data, uint32_t bytes)
{
    const volatile uint8_t *from = &checkpoint_area[offset];
    while (bytes-- > 0) {
        *data++ = *from++;
    }
}
