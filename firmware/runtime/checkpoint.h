/* checkpoint.h: what a network learnt survives resets and power cuts. Part of mcugrad's runtime.
 *
 *     static const uint8_t network[8] = DIGITS_HASH;
 *     if (checkpoint_load(network, &params, sizeof params) != CHECKPOINT_OK) {
 *         digits_init(&params);
 *     }
 *     ...
 *     checkpoint_save(network, &params, sizeof params);
 *
 * What it guarantees. Power may fail at any moment, during a save, during a load, again and again:
 * the next load finds the state of the last save that returned CHECKPOINT_OK, or that of the save
 * that was cut, complete, and never a mixture; what a load has once returned is not taken back.
 * `<net>_params` holds everything that training changes (weights, exponents, velocities, random
 * state, step count), so training goes on as if nothing had happened.
 *
 * What it assumes. A word that was being programmed, or a page that was being erased, when power
 * failed may hold anything that lies between its old and its new content, and may read differently
 * at every start; all other words keep what they have. A damaged state is told by its CRC-32, which
 * would miss 1 in 4 294 967 296. That a save was completed is not left to the CRC.
 *
 * How. Memory is divided into slots, each of whole pages. A save takes the slot after the newest
 * one, erases it, and writes
 *
 *     version, sequence number, length, hash of the network     20 bytes
 *     state                                                     `bytes` bytes
 *     commit: CRC-32 of all that, never all ones                4 bytes, from the next whole word
 *     seal: zeros                                               4 bytes, from the next whole word
 *
 * The commit makes the save count; the seal says that the commit is not one that power left half
 * programmed. A load that finds a commit without a seal writes that slot again before it returns,
 * and a load that finds a later state without a commit erases that.
 * Every word is read back after it was programmed, and programmed once between two erases, as memory
 * with error correction wants it. (Words of 1 or 2 bytes: those of a torn seal twice, to zeros.)
 *
 * The trade. It needs twice the memory, and no variables: every call reads the slots anew and
 * computes their CRC bit by bit, some 100 cycles a byte, which erasing and programming exceed. It
 * takes less than 256 bytes of stack. A save wears one slot: with n slots and memory good for
 * 10 000 erases, 10 000 * n saves. A slot that no longer takes what is written is passed over where
 * there are others beside the newest.
 *
 * Limits. 2 to 254 slots; words of 1, 2, 4, 8, 16 or 32 bytes; slots below 2 GiB together; the
 * sequence number ends after 4 294 967 295 saves. Erased memory reads as ones (a driver for memory
 * that erases to zeros inverts what it programs and reads). One caller at a time. A core whose
 * bytes are little-endian or not: memory is not carried from one to the other. A network that
 * learns in batches keeps sums of gradients in `<net>_work`, which are not saved: save it when
 * `params.batch_count` is 0.
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Layout of the memory. Header and commit keep their places in every version. */
#define CHECKPOINT_VERSION 1

#define CHECKPOINT_OK 0
#define CHECKPOINT_NOTHING_SAVED 1 /* no complete state in memory */
#define CHECKPOINT_OTHER_NETWORK 2 /* the newest state is of a network with another hash */
#define CHECKPOINT_OTHER_VERSION 3 /* the newest state was written by another version of this */
#define CHECKPOINT_FLASH_ERROR 4   /* the memory does not hold what was written */
#define CHECKPOINT_NO_ROOM 5       /* the state does not fit into a slot, or slots < 2 */

/* Bytes of a slot that holds `bytes` bytes of state, for memory of this word and page. */
#define CHECKPOINT_WORDS(bytes, word) (((bytes) + (word) - 1) / (word) * (word))
#define CHECKPOINT_SLOT(bytes, word, page)                                                         \
    CHECKPOINT_WORDS(CHECKPOINT_WORDS(20 + (bytes), word) + 2 * CHECKPOINT_WORDS(4, word),         \
                     (page) > 0 ? (page) : (word))

/* Newest state into `state`; to be called once after every start, before the first save.
 * On an error `state` is as it was; only after CHECKPOINT_FLASH_ERROR it is the newest state, which
 * a power cut had left in doubt and which could not be made firm. */
int checkpoint_load(const uint8_t hash[8], void *state, uint32_t bytes);

/* `state` becomes the newest state. After an error that is still the one before, or this one. */
int checkpoint_save(const uint8_t hash[8], const void *state, uint32_t bytes);

/* ---- what the user supplies: the memory ------------------------------------------------------
 *
 * Functions with fixed names, not pointers to functions: a device has one such memory, the linker
 * says when one is missing, a compiler may inline them, and on AVR nothing of it is in RAM but
 * these bytes of geometry. Drivers are in flash_*.c; each says what it needs.
 */
typedef struct {
    uint32_t slot_bytes; /* whole pages, at least CHECKPOINT_SLOT(sizeof(<net>_params), ...) */
    uint32_t page_bytes; /* what one erase erases, whole words; 0: memory that needs no erase */
    uint8_t word_bytes;  /* what one call programs, 1 to 32 */
    uint8_t slots;       /* 2 to 254 */
} checkpoint_geometry;

extern const checkpoint_geometry checkpoint_memory;

/* Offsets count from the first byte of the first slot. A result other than 0 is an error. */

/* Sets the page that begins at `offset` to ones. Never called where page_bytes is 0. */
int checkpoint_flash_erase(uint32_t offset);

/* Programs one word (word_bytes bytes, at a multiple of word_bytes), and waits until it is done. */
int checkpoint_flash_program(uint32_t offset, const uint8_t *word);

/* Reads any number of bytes from anywhere. */
void checkpoint_flash_read(uint32_t offset, uint8_t *data, uint32_t bytes);

#ifdef __cplusplus
}
#endif

#endif
