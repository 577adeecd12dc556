/* uart_pl011.c: the UART of Arm (PL011), as RP2040 has it.
 *
 * board.h has UART_BASE and UART_BAUD: 64 * clock / (16 * baud rate); board_init gives clock and
 * pins. Registers: RP2040 Datasheet, chapter "UART".
 */
#include "board.h"
#include "uart.h"

#define REGISTER(offset) (*(volatile uint32_t *)(UART_BASE + (offset)))
#define DATA REGISTER(0x00u)
#define FLAGS REGISTER(0x18u)
#define BAUD_WHOLE REGISTER(0x24u)
#define BAUD_64THS REGISTER(0x28u)
#define LINE REGISTER(0x2Cu) /* takes the baud rate over, so it is written after it */
#define CONTROL REGISTER(0x30u)

#define FLAGS_NOTHING_CAME (1u << 4)
#define FLAGS_NO_ROOM (1u << 5)
#define LINE_FIFO (1u << 4)
#define LINE_8_BITS (3u << 5)
#define CONTROL_ON (1u << 0)
#define CONTROL_TX (1u << 8)
#define CONTROL_RX (1u << 9)

void uart_init(void)
{
    BAUD_WHOLE = UART_BAUD / 64u;
    BAUD_64THS = UART_BAUD % 64u;
    LINE = LINE_8_BITS | LINE_FIFO;
    CONTROL = CONTROL_ON | CONTROL_TX | CONTROL_RX;
}

int uart_read(void)
{
    return (FLAGS & FLAGS_NOTHING_CAME) == 0 ? (int)(DATA & 0xFFu) : -1;
}

void uart_write(uint8_t byte)
{
    while ((FLAGS & FLAGS_NO_ROOM) != 0) {
    }
    DATA = byte;
}
