/* link.h: a network that learns over a serial line. Part of mcugrad's runtime.
 *
 *     static uint16_t buffer[LINK_BUFFER(DIGITS_INPUTS * sizeof(int16_t), DIGITS_OUTPUTS)];
 *     static link_state link;
 *
 *     link_init(&link, &params, &work, buffer, sizeof buffer);
 *     for (;;) {
 *         if (uart_has_byte()) {
 *             link_receive(&link, uart_read());
 *         }
 *         link_run(&link);
 *         if (uart_can_write()) {
 *             const int byte = link_transmit(&link);
 *             if (byte >= 0) {
 *                 uart_write((uint8_t)byte);
 *             }
 *         }
 *     }
 *
 * Nothing here waits. `link_receive` may be called from an interrupt; `link_run` computes (a whole
 * step of training) and `link_transmit` belongs beside it. The buffer holds one frame, either way:
 * what arrives before the answer has been sent is lost, and whoever sent it asks again.
 *
 * A frame is COBS (no zeros inside), and a zero behind it: after any noise the next zero starts
 * afresh. Decoded, at most as long as the buffer:
 *
 *     request   message, tag, data, CRC          answer   0x80 + status, tag, data, CRC
 *
 * of one byte, one byte, the data below, and two bytes: CRC-16/CCITT (polynomial 0x1021, from
 * 0xFFFF), high byte first. What has a wrong CRC is dropped and counted, never answered. The answer
 * has the tag of its request. Who gets none sends the request again with the same tag: a step of
 * training that was done already is then answered, not done twice. A new request has a new tag.
 *
 * Data are little-endian, as the core must be:
 *
 *     message           request                          answer
 *     LINK_HELLO        -                                u8 LINK_VERSION, u8 0, link_facts
 *                                                        (18 bytes), u16 bytes of the buffer
 *     LINK_PREDICT      inputs                           i16 index of the largest score
 *     LINK_SCORES       inputs                           i16 scores
 *     LINK_TRAIN        i16 label or targets, inputs     i32 loss, 20 fraction bits
 *     LINK_RATE         u32 rate, 24 fraction bits       -
 *     LINK_STATISTICS   -                                link_statistics (24 bytes)
 *     LINK_SAVE         -                                -
 *     LINK_LOAD         -                                -
 *     LINK_READ         u32 offset, u16 count            bytes of the parameters
 *     LINK_WRITE        u32 offset, bytes                -
 *
 * Until it has been greeted, after every start, a device answers LINK_GREET_FIRST: so no host goes
 * on with a device that has forgotten what it learnt. LINK_WRITE is for parameters that a device or
 * the simulator has had before: they are bounded, but taken as they are.
 */
#ifndef LINK_H
#define LINK_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LINK_VERSION 1

/* Messages. */
#define LINK_HELLO 1
#define LINK_PREDICT 2
#define LINK_SCORES 3
#define LINK_TRAIN 4
#define LINK_RATE 5
#define LINK_STATISTICS 6
#define LINK_SAVE 7
#define LINK_LOAD 8
#define LINK_READ 9
#define LINK_WRITE 10

/* Status of an answer; an answer with another status than LINK_OK has no data. */
#define LINK_OK 0
#define LINK_UNKNOWN 1     /* no such message */
#define LINK_LENGTH 2      /* another length than the message has, or not in the parameters */
#define LINK_GREET_FIRST 3 /* the device has been started since it was greeted */
#define LINK_VALUE 4       /* a label out of range: nothing was learnt */
#define LINK_MID_BATCH 5   /* in the middle of a batch nothing is saved */
#define LINK_CHECKPOINT 8  /* and above: 8 + what checkpoint_save or checkpoint_load returned */
#define LINK_NO_MEMORY 15  /* the device has no memory for checkpoints */

/* Elements of a buffer of 16-bit words that holds every message. */
#define LINK_BUFFER(input_bytes, outputs) ((40 + (input_bytes)) / 2 + (outputs))

typedef struct {
    uint32_t answered; /* since the start, as all of these */
    uint32_t dropped;  /* frames that were damaged */
    uint32_t trained;  /* steps */
    uint32_t unused;
    int64_t loss; /* of these steps, 20 fraction bits */
} link_statistics;

/* Private. */
typedef struct {
    void *params;
    void *work;
    uint8_t *buffer;
    uint16_t size;
    uint16_t count; /* bytes of the frame */
    uint16_t at;    /* that has been sent so far */
    volatile uint8_t phase;
    uint8_t code; /* of the block of COBS, 0 before the first */
    uint8_t left; /* bytes of it to come */
    uint8_t greeted;
    uint8_t message; /* the last one, and its tag */
    uint8_t tag;
    int32_t loss; /* of the last step */
    link_statistics statistics;
} link_state;

/* buffer: `bytes` bytes, as many as LINK_BUFFER says; it and all the rest stay the caller's. */
void link_init(link_state *link, void *params, void *work, uint16_t *buffer, uint16_t bytes);

/* Takes one byte from the line. */
void link_receive(link_state *link, uint8_t byte);

/* Does what a complete frame asks for. */
void link_run(link_state *link);

/* The next byte for the line, or -1. */
int link_transmit(link_state *link);

/* ---- the network, in <net>_link.c, which mcugrad generates ------------------------------------ */

typedef struct {
    uint8_t hash[8];
    uint32_t params_bytes;
    uint16_t inputs;
    uint16_t outputs;
    uint8_t input_bytes; /* of one input */
    uint8_t labels;      /* 1: trained on labels, 0: on targets */
} link_facts;

extern const link_facts link_network;

int16_t link_network_predict(const void *params, void *work, const void *x);
/* scores may be the memory of x. */
void link_network_scores(const void *params, void *work, const void *x, int16_t *scores);
/* target: the label, or all targets. Returns the loss, or -1 and nothing was learnt. */
int32_t link_network_train(void *params, void *work, const int16_t *target, const void *x);
void link_network_set_rate(void *params, uint32_t rate);
/* Whether the parameters are all that learning needs to go on. */
int link_network_is_between_batches(const void *params);

/* ---- memory, in link_checkpoint.c or link_no_checkpoint.c ------------------------------------- */

int link_save(const void *params);
int link_load(void *params);

#ifdef __cplusplus
}
#endif

#endif
