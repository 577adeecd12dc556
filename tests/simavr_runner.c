/* An AVR with USART0 at standard input and output: runner MCU HZ FILE.elf; it runs until the input ends. */
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>

static int has_room = 1; /* in the queue of the UART */

static void send(struct avr_irq_t *irq, uint32_t value, void *param)
{
    const uint8_t byte = (uint8_t)value;
    (void)irq;
    (void)param;
    if (write(1, &byte, 1) != 1) {
        exit(1);
    }
}

static void room(struct avr_irq_t *irq, uint32_t value, void *param)
{
    (void)irq;
    (void)value;
    has_room = param != NULL;
}

int main(int count, char **words)
{
    elf_firmware_t firmware;
    memset(&firmware, 0, sizeof firmware);
    if (count != 4 || elf_read_firmware(words[3], &firmware) != 0) {
        return 2;
    }
    avr_t *const avr = avr_make_mcu_by_name(words[1]);
    avr_init(avr);
    avr->log = LOG_ERROR;
    avr_load_firmware(avr, &firmware);
    avr->frequency = (uint32_t)atol(words[2]);
    uint32_t flags = 0; /* nothing is printed, nothing sleeps */
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_t *const uart = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), 0);
    avr_irq_register_notify(uart + UART_IRQ_OUTPUT, send, NULL);
    avr_irq_register_notify(uart + UART_IRQ_OUT_XON, room, &has_room);
    avr_irq_register_notify(uart + UART_IRQ_OUT_XOFF, room, NULL);
    for (uint32_t step = 0; avr->state != cpu_Done && avr->state != cpu_Crashed; step++) {
        struct pollfd input = {0, POLLIN, 0};
        if (step % 500 == 0 && has_room && poll(&input, 1, 0) == 1) {
            uint8_t byte;
            if (read(0, &byte, 1) != 1) {
                return 0;
            }
            avr_raise_irq(uart + UART_IRQ_INPUT, byte);
        }
        avr_run(avr);
    }
    return 3;
}
