/* start.c: variables get their values, then main runs. The linker script has the names. */
#include "start.h"

#include <stdint.h>

extern const uint32_t data_load[];
extern uint32_t data_start[], data_end[], bss_start[], bss_end[];

int main(void);

void start(void)
{
    const uint32_t *from = data_load;
    for (uint32_t *to = data_start; to < data_end; to++) {
        *to = *from++;
    }
    for (uint32_t *to = bss_start; to < bss_end; to++) {
        *to = 0;
    }
    (void)main();
    for (;;) {
    }
}
