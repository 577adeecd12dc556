/* uart_cmsdk.c: UART of Arm's Cortex-M System Design Kit, as MPS2 and MPS3 boards have it.
 *
 * board.h has UART_BASE and UART_BAUD, the value of register BAUDDIV: clock / baud rate, at least
 * 16. Registers: DDI 0479, "APB UART".
 */
#include "board.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint32_t *)(UART_BASE + (offset)))
#define DATA REGISTER(0x00u)
#define STATE REGISTER(0x04u)
#define CTRL REGISTER(0x08u)
#define BAUDDIV REGISTER(0x10u)

#define STATE_TX_FULL (1u << 0)
#define STATE_RX_FULL (1u << 1)
#define CTRL_TX (1u << 0)
#define CTRL_RX (1u << 1)

void uart_init(void)
{
    BAUDDIV = UART_BAUD;
    CTRL = CTRL_TX | CTRL_RX;
}

int uart_read(void)
{
    return (STATE & STATE_RX_FULL) != 0 ? (int)(DATA & 0xFFu) : -1;
}

void uart_write(uint8_t byte)
{
    while ((STATE & STATE_TX_FULL) != 0) {
    }
    DATA = byte;
}
