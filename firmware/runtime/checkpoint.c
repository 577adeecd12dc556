/* checkpoint.c: saves and loads the state of a network; checkpoint.h is the manual. */
#include "checkpoint.h"

#define MAGIC 0x6D670000u /* marks a checkpoint; the lower half is the version */
#define LONGEST 32        /* bytes of a word */
#define NONE 255          /* no slot */
#define UNSEALED UINT32_MAX

/* The first bytes of a slot. */
typedef struct {
    uint32_t version;
    uint32_t sequence;
    uint32_t bytes;
    uint8_t hash[8];
} header;

typedef char header_has_no_gaps[sizeof(header) == 20 ? 1 : -1];

/* The newest complete state, and a later one that was cut. */
typedef struct {
    header head;
    uint32_t seal;
    uint32_t torn_sequence;
    uint8_t slot;
    uint8_t torn;
} newest;

/* Programs bytes word by word. */
typedef struct {
    uint32_t at;
    uint8_t word[LONGEST];
    uint8_t fill;
    int failed;
} writer;

/* CRC-32 (reflected, polynomial 0xEDB88320): one byte more, before the final inversion. */
static uint32_t crc_add(uint32_t crc, uint8_t byte)
{
    crc ^= byte;
    for (uint8_t bit = 0; bit < 8; bit++) {
        crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xEDB88320u : 0);
    }
    return crc;
}

/* The commit: the CRC, but never what erased memory reads as. */
static uint32_t crc_end(uint32_t crc)
{
    return crc == 0 ? 0 : ~crc;
}

static uint32_t whole_words(uint32_t bytes)
{
    const uint32_t rest = checkpoint_memory.word_bytes - 1u;
    return (bytes + rest) & ~rest;
}

/* Bytes of commit and seal. */
static uint32_t tail_bytes(void)
{
    return 2 * whole_words(4);
}

/* Where in a slot the commit is; 0 where a state of so many bytes does not fit. */
static uint32_t commit_at(uint32_t bytes)
{
    const uint32_t room = checkpoint_memory.slot_bytes;
    if (bytes > room) {
        return 0;
    }
    const uint32_t at = whole_words(sizeof(header) + bytes);
    return at + tail_bytes() <= room ? at : 0;
}

/* Whether the state that begins at `base` has its commit at `at`. */
static int complete(uint32_t base, uint32_t at, uint32_t bytes)
{
    uint32_t crc = UINT32_MAX, commit;
    for (uint32_t i = 0; i < sizeof(header) + bytes; i++) {
        uint8_t byte;
        checkpoint_flash_read(base + i, &byte, 1);
        crc = crc_add(crc, byte);
    }
    checkpoint_flash_read(base + at, (uint8_t *)&commit, sizeof commit);
    return commit == crc_end(crc);
}

static newest find_newest(void)
{
    newest found = {{0, 0, 0, {0}}, 0, 0, NONE, NONE};
    for (uint8_t slot = 0; slot < checkpoint_memory.slots; slot++) {
        const uint32_t base = slot * checkpoint_memory.slot_bytes;
        header head;
        checkpoint_flash_read(base, (uint8_t *)&head, sizeof head);
        const uint32_t at = commit_at(head.bytes);
        if ((head.version & 0xFFFF0000u) != MAGIC || at == 0 ||
            head.sequence <= found.head.sequence) {
            continue;
        }
        if (complete(base, at, head.bytes)) {
            found.head = head;
            found.slot = slot;
            checkpoint_flash_read(base + at + whole_words(4), (uint8_t *)&found.seal, 4);
        } else if (head.sequence > found.torn_sequence) {
            found.torn_sequence = head.sequence;
            found.torn = slot;
        }
    }
    return found;
}

/* One byte more; programs the word that it completes, and reads it back. */
static void put(writer *w, uint8_t byte)
{
    if (w->failed) {
        return;
    }
    w->word[w->fill++] = byte;
    if (w->fill < checkpoint_memory.word_bytes) {
        return;
    }
    w->failed = checkpoint_flash_program(w->at, w->word) != 0;
    for (uint8_t i = 0; i < w->fill; i++) {
        uint8_t back;
        checkpoint_flash_read(w->at + i, &back, 1);
        w->failed |= back != w->word[i];
    }
    w->at += w->fill;
    w->fill = 0;
}

/* Completes a word with ones. */
static void pad(writer *w)
{
    while (w->fill > 0) {
        put(w, 0xFF);
    }
}

/* Makes room in a slot. Memory that needs no erase keeps all but the words at `tail`. */
static void clear(writer *w, uint32_t tail)
{
    const uint32_t base = w->at;
    if (checkpoint_memory.page_bytes == 0) {
        w->at = base + tail;
        for (uint32_t i = tail_bytes(); i > 0; i--) {
            put(w, 0xFF);
        }
    } else {
        for (uint32_t i = 0; i < checkpoint_memory.slot_bytes; i += checkpoint_memory.page_bytes) {
            w->failed |= checkpoint_flash_erase(base + i) != 0;
        }
    }
    w->at = base;
}

/* Fills a slot. 0 where all of it reads as it was meant. */
static int write_slot(uint8_t slot, const header *head, const uint8_t *state)
{
    writer w = {slot * checkpoint_memory.slot_bytes, {0}, 0, 0};
    uint32_t crc = UINT32_MAX;
    clear(&w, commit_at(head->bytes));
    for (uint32_t i = 0; i < sizeof(header) + head->bytes; i++) {
        const uint8_t *const from = (const uint8_t *)head;
        const uint8_t byte = i < sizeof(header) ? from[i] : state[i - sizeof(header)];
        crc = crc_add(crc, byte);
        put(&w, byte);
    }
    pad(&w);
    const uint32_t tail[2] = {crc_end(crc), 0}; /* commit, seal */
    for (uint8_t i = 0; i < sizeof tail; i++) {
        put(&w, ((const uint8_t *)tail)[i]);
        if (i % 4 == 3) {
            pad(&w);
        }
    }
    return w.failed;
}

/* Makes sure that no later start finds the newest state gone: 0 where that worked. */
static int settle(const newest *found, const uint8_t *state)
{
    if (found->seal == UNSEALED) {
        return write_slot(found->slot, &found->head, state);
    }
    writer w = {found->slot * checkpoint_memory.slot_bytes, {0}, 0, 0};
    w.at += commit_at(found->head.bytes) + whole_words(4);
    for (uint8_t i = 0; i < 4 && found->seal != 0 && checkpoint_memory.word_bytes < 4; i++) {
        put(&w, 0); /* its first word may be a torn one that later reads as ones */
    }
    return w.failed;
}

int checkpoint_load(const uint8_t hash[8], void *state, uint32_t bytes)
{
    const newest found = find_newest();
    if (found.torn_sequence > found.head.sequence) {
        /* Its commit could read as right at a later start: without a header it is nothing. */
        writer w = {found.torn * checkpoint_memory.slot_bytes, {0}, 0, 0};
        clear(&w, 0);
    }
    if (found.slot == NONE) {
        return CHECKPOINT_NOTHING_SAVED;
    }
    if (found.head.version != (MAGIC | CHECKPOINT_VERSION)) {
        return CHECKPOINT_OTHER_VERSION;
    }
    int differs = found.head.bytes != bytes;
    for (uint8_t i = 0; i < sizeof found.head.hash; i++) {
        differs |= found.head.hash[i] != hash[i];
    }
    if (differs) {
        return CHECKPOINT_OTHER_NETWORK;
    }
    checkpoint_flash_read(found.slot * checkpoint_memory.slot_bytes + sizeof(header), state, bytes);
    return settle(&found, state) == 0 ? CHECKPOINT_OK : CHECKPOINT_FLASH_ERROR;
}

int checkpoint_save(const uint8_t hash[8], const void *state, uint32_t bytes)
{
    const newest found = find_newest();
    header head = {MAGIC | CHECKPOINT_VERSION, found.head.sequence + 1, bytes, {0}};
    for (uint8_t i = 0; i < sizeof head.hash; i++) {
        head.hash[i] = hash[i];
    }
    const int slots = checkpoint_memory.slots;
    if (slots < 2 || commit_at(bytes) == 0) {
        return CHECKPOINT_NO_ROOM;
    }
    int slot = found.slot == NONE ? slots - 1 : found.slot;
    for (int tries = found.slot == NONE ? slots : slots - 1; tries > 0; tries--) {
        slot = slot + 1 < slots ? slot + 1 : 0;
        if (write_slot((uint8_t)slot, &head, state) == 0) {
            return CHECKPOINT_OK;
        }
    }
    return CHECKPOINT_FLASH_ERROR;
}
