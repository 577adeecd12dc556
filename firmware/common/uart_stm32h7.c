/* uart_stm32h7.c: USART of STM32H7 (and F0, F3, F7, G, L4, whose registers are the same).
 *
 * board.h has UART_BASE and UART_BAUD, the value of register BRR: clock / baud rate; board_init
 * gives clock and pins. Registers: RM0433, chapter "USART".
 */
#include "board.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint32_t *)(UART_BASE + (offset)))
#define CR1 REGISTER(0x00u)
#define BRR REGISTER(0x0Cu)
#define ISR REGISTER(0x1Cu)
#define ICR REGISTER(0x20u)
#define RDR REGISTER(0x24u)
#define TDR REGISTER(0x28u)

#define CR1_UE (1u << 0)
#define CR1_RE (1u << 2)
#define CR1_TE (1u << 3)
#define ISR_RXNE (1u << 5)
#define ISR_TXE (1u << 7)
#define ICR_ORECF (1u << 3)

void uart_init(void)
{
    BRR = UART_BAUD;
    CR1 = CR1_UE | CR1_TE | CR1_RE;
}

int uart_read(void)
{
    ICR = ICR_ORECF; /* an overrun would stop reception */
    return (ISR & ISR_RXNE) != 0 ? (int)(RDR & 0xFFu) : -1;
}

void uart_write(uint8_t byte)
{
    while ((ISR & ISR_TXE) == 0) {
    }
    TDR = byte;
}
