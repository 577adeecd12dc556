/* uart.h: a serial line. Part of mcugrad's runtime; each uart_*.c is one kind of peripheral.
 *
 * 8 data bits, no parity, 1 stop bit. Nothing here uses interrupts.
 */
#ifndef UART_H
#define UART_H

#include <stdint.h>

/* To be called once; clocks and pins are ready (board_init). */
void uart_init(void);

/* The byte that came, or -1. */
int uart_read(void);

/* Waits for room, which takes at most as long as a byte is on the line. */
void uart_write(uint8_t byte);

#endif
