/* simavr_board.c: a firmware on an AVR that simavr emulates.
 *
 *     simavr_board MCU CLOCK_HZ FIRMWARE.elf SERIAL [eeprom=FILE] [cut=N]
 *         [count=FUNCTION] [report=FILE]
 *
 * SERIAL is stdio, or pty for a terminal of its own, whose name is told on standard output. The
 * EEPROM is read from and written to a file. The power fails during write number N to it, counted
 * from 1: that byte is erased but not written. At the end, which is that of standard input or a
 * request to terminate, the report says how many cycles ran, bytes of stack, writes to EEPROM,
 * calls of FUNCTION and their cycles.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <simavr/avr_eeprom.h>
#include <simavr/avr_uart.h>
#include <simavr/sim_avr.h>
#include <simavr/sim_elf.h>

enum {
    SPL = 0x5D,
    SPH = 0x5E,
    EEARL = 0x41,
    EEARH = 0x42,
    WRITE = 0x9AF9, /* sbi EECR, EEPE: a byte is written to the EEPROM */
    SLICE = 500     /* instructions from one look for input to the next */
};

static int in_file = STDIN_FILENO, out_file = STDOUT_FILENO;
static int may_send = 1, has_ended;

static void silent(avr_t *avr, const int level, const char *format, va_list ap)
{
    (void)avr;
    if (level <= LOG_ERROR) {
        vfprintf(stderr, format, ap);
    }
}

static void end(int signal)
{
    (void)signal;
    has_ended = 1;
}

static void sent(avr_irq_t *irq, uint32_t value, void *param)
{
    const uint8_t byte = (uint8_t)value;
    (void)irq;
    (void)param;
    if (write(out_file, &byte, 1) != 1) {
        has_ended = 1;
    }
}

static void room(avr_irq_t *irq, uint32_t value, void *param)
{
    (void)irq;
    (void)value;
    may_send = param != NULL;
}

static void open_terminal(void)
{
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    if (terminal < 0 || grantpt(terminal) != 0 || unlockpt(terminal) != 0) {
        perror("pty");
        exit(1);
    }
    printf("char device redirected to %s (label serial0)\n", ptsname(terminal));
    fflush(stdout);
    in_file = out_file = terminal;
}

/* One byte to the device, where there is one and room for it. */
static void receive(avr_irq_t *line)
{
    struct pollfd ready = {in_file, POLLIN, 0};
    uint8_t byte;
    if (!may_send || poll(&ready, 1, 0) <= 0) {
        return;
    }
    if (read(in_file, &byte, 1) == 1) {
        avr_raise_irq(line, byte);
    } else if (in_file == STDIN_FILENO) {
        has_ended = 1;
    }
}

static void eeprom(avr_t *avr, const char *file, int is_write)
{
    avr_eeprom_desc_t all = {NULL, 0, avr->e2end + 1u};
    uint8_t *const bytes = malloc(all.size);
    FILE *const stream = fopen(file, is_write ? "wb" : "rb");
    all.ee = bytes;
    if (is_write) {
        avr_ioctl(avr, AVR_IOCTL_EEPROM_GET, &all);
        fwrite(all.ee, 1, all.size, stream);
    } else if (stream != NULL && fread(bytes, 1, all.size, stream) == all.size) {
        avr_ioctl(avr, AVR_IOCTL_EEPROM_SET, &all);
    }
    if (stream != NULL) {
        fclose(stream);
    }
    free(bytes);
}

static unsigned stack_pointer(const avr_t *avr)
{
    return avr->data[SPL] | (unsigned)avr->data[SPH] << 8;
}

static void erase_byte(avr_t *avr)
{
    uint8_t erased = 0xFF;
    avr_eeprom_desc_t one = {&erased, (uint16_t)(avr->data[EEARL] | avr->data[EEARH] << 8), 1};
    avr_ioctl(avr, AVR_IOCTL_EEPROM_SET, &one);
}

/* The value of a word `key=value`, or nothing. */
static const char *option(int count, char **words, const char *key)
{
    const size_t length = strlen(key);
    for (int i = 5; i < count; i++) {
        if (strncmp(words[i], key, length) == 0 && words[i][length] == '=') {
            return words[i] + length + 1;
        }
    }
    return NULL;
}

static uint32_t address_of(const elf_firmware_t *firmware, const char *function)
{
    for (uint32_t i = 0; function != NULL && i < firmware->symbolcount; i++) {
        if (strcmp(firmware->symbol[i]->symbol, function) == 0) {
            return firmware->symbol[i]->addr;
        }
    }
    return UINT32_MAX;
}

int main(int count, char **words)
{
    elf_firmware_t firmware;
    uint32_t flags = 0;
    unsigned lowest = 0xFFFF, writes = 0, slice = 0, calls = 0, entered_at = 0;
    uint64_t inside = 0, entered = 0;
    if (count < 5) {
        fputs("usage: simavr_board MCU CLOCK_HZ FIRMWARE.elf SERIAL [KEY=VALUE ...]\n", stderr);
        return 2;
    }
    const char *const file = option(count, words, "eeprom");
    const char *const report = option(count, words, "report");
    const char *const power = option(count, words, "cut");
    const unsigned cut = power == NULL ? 0 : (unsigned)strtoul(power, NULL, 10);
    memset(&firmware, 0, sizeof firmware);
    avr_global_logger_set(silent);
    if (elf_read_firmware(words[3], &firmware) != 0) {
        return 1;
    }
    const uint32_t function = address_of(&firmware, option(count, words, "count"));
    avr_t *const avr = avr_make_mcu_by_name(words[1]);
    if (avr == NULL) {
        return 1;
    }
    avr_init(avr);
    avr_load_firmware(avr, &firmware);
    avr->frequency = (uint32_t)strtoul(words[2], NULL, 10);
    if (file != NULL) {
        eeprom(avr, file, 0);
    }
    if (strcmp(words[4], "pty") == 0) {
        open_terminal();
    }
    avr_ioctl(avr, AVR_IOCTL_UART_GET_FLAGS('0'), &flags);
    flags &= ~(uint32_t)(AVR_UART_FLAG_STDIO | AVR_UART_FLAG_POLL_SLEEP);
    avr_ioctl(avr, AVR_IOCTL_UART_SET_FLAGS('0'), &flags);
    avr_irq_t *const uart = avr_io_getirq(avr, AVR_IOCTL_UART_GETIRQ('0'), 0);
    avr_irq_register_notify(uart + UART_IRQ_OUTPUT, sent, NULL);
    avr_irq_register_notify(uart + UART_IRQ_OUT_XON, room, avr);
    avr_irq_register_notify(uart + UART_IRQ_OUT_XOFF, room, NULL);
    signal(SIGTERM, end);
    signal(SIGPIPE, end);
    while (!has_ended) {
        if (avr->pc == function && entered_at == 0) {
            entered = avr->cycle;
            entered_at = stack_pointer(avr);
            calls++;
        }
        if ((avr->flash[avr->pc] | avr->flash[avr->pc + 1] << 8) == WRITE && ++writes == cut) {
            erase_byte(avr);
            break;
        }
        const int state = avr_run(avr);
        if (state == cpu_Done || state == cpu_Crashed) {
            break;
        }
        const unsigned sp = stack_pointer(avr);
        lowest = sp != 0 && sp < lowest ? sp : lowest;
        if (entered_at != 0 && sp > entered_at) { /* it has returned */
            inside += avr->cycle - entered;
            entered_at = 0;
        }
        if (++slice == SLICE) {
            slice = 0;
            receive(uart + UART_IRQ_INPUT);
        }
    }
    if (file != NULL) {
        eeprom(avr, file, 1);
    }
    if (report != NULL) {
        FILE *const stream = fopen(report, "w");
        fprintf(stream, "cycles %llu stack %u writes %u calls %u inside %llu\n",
                (unsigned long long)avr->cycle, avr->ramend - lowest, writes, calls,
                (unsigned long long)inside);
        fclose(stream);
    }
    return 0;
}
