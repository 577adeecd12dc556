/* start_riscv.c: the first instructions of a RISC-V core. There are no interrupts. */
#include "start.h"

__attribute__((section(".start"), naked, used)) void Reset_Handler(void);
void Reset_Handler(void)
{
    __asm volatile(".option push\n"
                   ".option norelax\n"
                   "la gp, __global_pointer$\n"
                   ".option pop\n"
                   "la sp, stack_top\n"
                   "j start\n");
}
