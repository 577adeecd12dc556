/* start_cortex_m.c: vector table and reset of every Cortex-M. There are no interrupts. */
#include "start.h"

#include <stdint.h>

typedef void (*handler)(void);

extern uint32_t stack_top[];

void Reset_Handler(void);
void reset(void);
static void stop(void);

/* The initial stack pointer, then the 15 exceptions of the core. */
typedef struct {
    uint32_t *stack;
    handler exceptions[15];
} vector_table;

__attribute__((section(".start"), used)) static const vector_table vectors = {
    stack_top,
    {Reset_Handler, stop, stop, stop, stop, stop, stop, 0, 0, 0, stop, stop, 0, stop, stop},
};

/* Any fault ends here: a debugger finds the place in the frame on the stack. */
static void stop(void)
{
    for (;;) {
    }
}

/* Where the core has floating-point or vector registers, compilers use them for integers too, so
 * they are switched on (CPACR) before the first line of C. */
__attribute__((naked, used)) void Reset_Handler(void)
{
    __asm volatile(
#if defined(__ARM_FP) || defined(__ARM_FEATURE_MVE)
        "movw r0, #0xED88\n"
        "movt r0, #0xE000\n"
        "ldr r1, [r0]\n"
        "orr r1, r1, #0xF00000\n"
        "str r1, [r0]\n"
        "dsb\n"
        "isb\n"
#endif
        "bl reset\n");
}

/* A boot loader may have left its own vector table; Cortex-M0 has only the one at 0. */
__attribute__((noreturn)) void reset(void)
{
#if __ARM_ARCH >= 7
    *(volatile uint32_t *)0xE000ED08u = (uint32_t)(uintptr_t)&vectors;
#endif
    start();
    for (;;) {
    }
}
