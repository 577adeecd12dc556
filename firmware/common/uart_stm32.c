/* uart_stm32.c: USART of STM32F1 and STM32F4.
 *
 * board.h has UART_BASE and UART_BAUD, the value of register BRR: clock / baud rate; board_init
 * gives clock and pins. Registers: RM0041 and RM0390, chapter "USART".
 */
#include "board.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint32_t *)(UART_BASE + (offset)))
#define SR REGISTER(0x00u)
#define DR REGISTER(0x04u)
#define BRR REGISTER(0x08u)
#define CR1 REGISTER(0x0Cu)

#define SR_RXNE (1u << 5)
#define SR_TXE (1u << 7)
#define CR1_RE (1u << 2)
#define CR1_TE (1u << 3)
#define CR1_UE (1u << 13)

void uart_init(void)
{
    BRR = UART_BAUD;
    CR1 = CR1_UE | CR1_TE | CR1_RE;
}

int uart_read(void)
{
    return (SR & SR_RXNE) != 0 ? (int)(DR & 0xFFu) : -1; /* reading DR clears an overrun too */
}

void uart_write(uint8_t byte)
{
    while ((SR & SR_TXE) == 0) {
    }
    DR = byte;
}
