/* uart_avr.c: USART0 of ATmega.
 *
 * board.h has UART_BAUD, the value of register UBRR0 at double speed: clock / (8 * baud rate) - 1.
 */
#include "board.h"
#include "uart.h"

#include <avr/io.h>

void uart_init(void)
{
    UBRR0 = (uint16_t)UART_BAUD;
    UCSR0A = 1 << U2X0;
    UCSR0C = 1 << UCSZ01 | 1 << UCSZ00;
    UCSR0B = 1 << RXEN0 | 1 << TXEN0;
}

int uart_read(void)
{
    return (UCSR0A & 1 << RXC0) != 0 ? UDR0 : -1;
}

void uart_write(uint8_t byte)
{
    while ((UCSR0A & 1 << UDRE0) == 0) {
    }
    UDR0 = byte;
}
