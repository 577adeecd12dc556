/* uart_16550.c: the UART that PCs have (16550), with registers of 1 byte.
 *
 * board.h has UART_BASE and UART_BAUD, the divisor: clock / (16 * baud rate).
 */
#include "board.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint8_t *)(UART_BASE + (offset)))
#define DATA REGISTER(0)       /* low half of the divisor while LCR_DLAB is set */
#define INTERRUPTS REGISTER(1) /* its high half */
#define FIFO REGISTER(2)
#define LCR REGISTER(3)
#define LSR REGISTER(5)

#define FIFO_ON 1
#define LCR_8_BITS 3
#define LCR_DLAB 0x80
#define LSR_READY (1u << 0)
#define LSR_ROOM (1u << 5)

void uart_init(void)
{
    INTERRUPTS = 0;
    LCR = LCR_DLAB;
    DATA = (uint8_t)(UART_BAUD & 0xFFu);
    INTERRUPTS = (uint8_t)(UART_BAUD >> 8);
    LCR = LCR_8_BITS;
    FIFO = FIFO_ON;
}

int uart_read(void)
{
    return (LSR & LSR_READY) != 0 ? DATA : -1;
}

void uart_write(uint8_t byte)
{
    while ((LSR & LSR_ROOM) == 0) {
    }
    DATA = byte;
}
