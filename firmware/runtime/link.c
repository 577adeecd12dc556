/* link.c: frames and messages; link.h is the manual. */
#include "link.h"

#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "link.c is for little-endian cores"
#endif

#define HEAD 2 /* bytes before the data: message or status, tag */
#define CRC 2  /* and after them */
#define BLOCK 254
#define FACTS 18

enum { RECEIVING, SKIPPING, READY, SENDING };

/* CRC-16/CCITT; 0 for bytes that end with their own. */
static uint16_t crc16(const uint8_t *data, uint16_t bytes)
{
    uint16_t crc = 0xFFFF;
    while (bytes-- > 0) {
        crc ^= (uint16_t)((uint16_t)*data++ << 8);
        for (uint8_t bit = 0; bit < 8; bit++) {
            crc = (uint16_t)((uint16_t)(crc << 1) ^ ((crc & 0x8000u) != 0 ? 0x1021u : 0u));
        }
    }
    return crc;
}

static void listen(link_state *link)
{
    link->count = 0;
    link->code = 0;
    link->left = 0;
    link->phase = RECEIVING;
}

void link_init(link_state *link, void *params, void *work, uint16_t *buffer, uint16_t bytes)
{
    memset(link, 0, sizeof *link);
    link->params = params;
    link->work = work;
    link->buffer = (uint8_t *)buffer;
    link->size = bytes;
}

/* ---- bytes in --------------------------------------------------------------------------------- */

static void store(link_state *link, uint8_t byte)
{
    if (link->count < link->size) {
        link->buffer[link->count++] = byte;
    } else {
        link->phase = SKIPPING;
    }
}

static void end_frame(link_state *link)
{
    const int whole = link->left == 0 && link->count >= HEAD + CRC && link->phase == RECEIVING;
    if (whole) {
        link->phase = READY;
    } else {
        link->statistics.dropped += link->code != 0 ? 1u : 0u;
        listen(link);
    }
}

void link_receive(link_state *link, uint8_t byte)
{
    if (link->phase >= READY) {
        return;
    }
    if (byte == 0) {
        end_frame(link);
    } else if (link->left > 0) {
        store(link, byte);
        link->left--;
    } else {
        if (link->code != 0 && link->code <= BLOCK) {
            store(link, 0);
        }
        link->code = byte;
        link->left = (uint8_t)(byte - 1);
    }
}

/* ---- messages --------------------------------------------------------------------------------- */

/* A request, which its answer overwrites. */
typedef struct {
    uint8_t message;
    uint8_t tag;
    uint8_t *data;
    uint16_t bytes; /* of data: of the request, then of the answer */
} request;

static uint32_t get32(const uint8_t *data)
{
    uint32_t value;
    memcpy(&value, data, sizeof value);
    return value;
}

static void answer(request *r, const void *data, uint16_t bytes)
{
    memcpy(r->data, data, bytes);
    r->bytes = bytes;
}

/* Data that have the bytes of inputs behind so many others. */
static int has_inputs(const request *r, uint16_t before)
{
    const uint32_t inputs = (uint32_t)link_network.inputs * link_network.input_bytes;
    return r->bytes == before + inputs;
}

static int hello(link_state *link, request *r)
{
    link->greeted = 1;
    r->data[0] = LINK_VERSION;
    r->data[1] = 0;
    memcpy(&r->data[2], &link_network, FACTS);
    memcpy(&r->data[2 + FACTS], &link->size, sizeof link->size);
    r->bytes = 4 + FACTS;
    return LINK_OK;
}

/* The label or all scores. */
static int predict(link_state *link, request *r)
{
    if (!has_inputs(r, 0)) {
        return LINK_LENGTH;
    }
    if (r->message == LINK_SCORES) {
        link_network_scores(link->params, link->work, r->data, (void *)r->data);
        r->bytes = (uint16_t)(2 * link_network.outputs);
    } else {
        const int16_t label = link_network_predict(link->params, link->work, r->data);
        answer(r, &label, sizeof label);
    }
    return LINK_OK;
}

/* A step, unless it is the one that was done last. */
static int train(link_state *link, request *r)
{
    const int again = link->message == r->message && link->tag == r->tag;
    const uint16_t target = (uint16_t)(link_network.labels ? 2 : 2 * link_network.outputs);
    if (!has_inputs(r, target)) {
        return LINK_LENGTH;
    }
    if (!again) {
        link->loss = link_network_train(link->params, link->work, (const void *)r->data,
                                        &r->data[target]);
        if (link->loss >= 0) {
            link->statistics.trained++;
            link->statistics.loss += link->loss;
        }
    }
    if (link->loss < 0) {
        return LINK_VALUE;
    }
    answer(r, &link->loss, sizeof link->loss);
    return LINK_OK;
}

/* Parameters out or in. */
static int transfer(link_state *link, request *r)
{
    const int reads = r->message == LINK_READ;
    uint16_t count = (uint16_t)(r->bytes - 4u);
    if (reads ? r->bytes != 6 : r->bytes < 4) {
        return LINK_LENGTH;
    }
    if (reads) {
        memcpy(&count, &r->data[4], sizeof count);
    }
    const uint32_t offset = get32(r->data);
    const uint32_t size = link_network.params_bytes;
    if (offset > size || count > size - offset || count > link->size - (HEAD + CRC)) {
        return LINK_LENGTH;
    }
    uint8_t *const place = (uint8_t *)link->params + offset;
    if (reads) {
        answer(r, place, count);
    } else {
        memcpy(place, &r->data[4], count);
        r->bytes = 0;
    }
    return LINK_OK;
}

static int save_or_load(link_state *link, const request *r)
{
    int code;
    if (r->message == LINK_LOAD) {
        code = link_load(link->params);
    } else if (link_network_is_between_batches(link->params)) {
        code = link_save(link->params);
    } else {
        return LINK_MID_BATCH;
    }
    return code == 0 ? LINK_OK : LINK_CHECKPOINT + code;
}

static int set_rate(link_state *link, request *r)
{
    if (r->bytes != sizeof(uint32_t)) {
        return LINK_LENGTH;
    }
    link_network_set_rate(link->params, get32(r->data));
    r->bytes = 0;
    return LINK_OK;
}

/* A message without data. */
static int plain(link_state *link, request *r)
{
    if (r->bytes != 0) {
        return LINK_LENGTH;
    }
    switch (r->message) {
    case LINK_HELLO:
        return hello(link, r);
    case LINK_STATISTICS:
        answer(r, &link->statistics, sizeof link->statistics);
        return LINK_OK;
    default:
        return save_or_load(link, r);
    }
}

/* Does it, writes the data of the answer, and returns the status. */
static int handle(link_state *link, request *r)
{
    if (r->message != LINK_HELLO && !link->greeted) {
        return LINK_GREET_FIRST;
    }
    switch (r->message) {
    case LINK_HELLO:
    case LINK_STATISTICS:
    case LINK_SAVE:
    case LINK_LOAD:
        return plain(link, r);
    case LINK_PREDICT:
    case LINK_SCORES:
        return predict(link, r);
    case LINK_TRAIN:
        return train(link, r);
    case LINK_RATE:
        return set_rate(link, r);
    case LINK_READ:
    case LINK_WRITE:
        return transfer(link, r);
    default:
        return LINK_UNKNOWN;
    }
}

void link_run(link_state *link)
{
    uint8_t *const frame = link->buffer;
    if (link->phase != READY) {
        return;
    }
    if (crc16(frame, link->count) != 0) {
        link->statistics.dropped++;
        listen(link);
        return;
    }
    request r = {frame[0], frame[1], &frame[HEAD], (uint16_t)(link->count - HEAD - CRC)};
    const int status = handle(link, &r);
    const uint16_t bytes = status == LINK_OK ? (uint16_t)(HEAD + r.bytes) : HEAD;
    link->message = status == LINK_OK || status == LINK_VALUE ? r.message : 0;
    link->tag = r.tag;
    link->statistics.answered++;
    frame[0] = (uint8_t)(0x80 + status);
    const uint16_t crc = crc16(frame, bytes);
    frame[bytes] = (uint8_t)(crc >> 8);
    frame[bytes + 1] = (uint8_t)crc;
    link->count = (uint16_t)(bytes + CRC);
    link->at = 0;
    link->code = 0;
    link->left = 0;
    link->phase = SENDING;
}

/* ---- bytes out -------------------------------------------------------------------------------- */

/* The code of the next block, or the zero behind the last one. */
static uint8_t next_block(link_state *link)
{
    const uint8_t *const frame = link->buffer;
    const int first = link->code == 0, full = link->code > BLOCK;
    if (!first && link->at == link->count) {
        listen(link);
        return 0;
    }
    link->at = (uint16_t)(link->at + (first || full ? 0 : 1)); /* the zero that the block implied */
    uint8_t length = 0;
    while (length < BLOCK && link->at + length < link->count && frame[link->at + length] != 0) {
        length++;
    }
    link->left = length;
    link->code = (uint8_t)(length + 1);
    return link->code;
}

int link_transmit(link_state *link)
{
    if (link->phase != SENDING) {
        return -1;
    }
    if (link->left > 0) {
        link->left--;
        return link->buffer[link->at++];
    }
    return next_block(link);
}
