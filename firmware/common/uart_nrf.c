/* uart_nrf.c: UART of nRF51 and nRF52 (there without DMA), with a queue of 6 bytes for input.
 *
 * board.h has UART_BASE and UART_BAUD, the value of register BAUDRATE; board_init chooses the pins.
 * Registers: nRF51 Series Reference Manual, chapter "UART".
 */
#include "board.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint32_t *)(UART_BASE + (offset)))
#define TASKS_STARTRX REGISTER(0x000u)
#define TASKS_STARTTX REGISTER(0x008u)
#define EVENTS_RXDRDY REGISTER(0x108u)
#define EVENTS_TXDRDY REGISTER(0x11Cu)
#define ENABLE REGISTER(0x500u)
#define RXD REGISTER(0x518u)
#define TXD REGISTER(0x51Cu)
#define BAUDRATE REGISTER(0x524u)

void uart_init(void)
{
    BAUDRATE = UART_BAUD;
    ENABLE = 4;
    EVENTS_RXDRDY = 0;
    TASKS_STARTRX = 1;
    TASKS_STARTTX = 1;
}

int uart_read(void)
{
    if (EVENTS_RXDRDY == 0) {
        return -1;
    }
    EVENTS_RXDRDY = 0; /* before the byte is taken: the next one sets it again */
    return (int)(RXD & 0xFFu);
}

void uart_write(uint8_t byte)
{
    EVENTS_TXDRDY = 0;
    TXD = byte;
    while (EVENTS_TXDRDY == 0) {
    }
}
