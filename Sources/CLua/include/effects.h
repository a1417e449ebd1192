/* What a decision does to data: bytes that change on the way, and writes of which only a part arrives.
 *
 * Plain data in, plain data out: the same decision on the same IO does the same to it. No allocation. Any thread. */
#pragma once
#include "decision.h"
#include "ranges.h"
#include <stdint.h>

/* Media corrupt sector by sector, whatever the device's block size is. */
enum { US_SECTOR_BYTES = 512 };

/* A change to the data of one IO, as a handler noted it. */
struct us_patch {
    uint32_t at;    /* byte of the IO */
    uint8_t length; /* of bytes */
    uint8_t is_flip; /* bytes are bits to flip, rather than to store */
    uint8_t bytes[16];
};

enum { US_PATCHES_MAX = 16 };

struct us_patches {
    uint64_t sequence; /* of the IO they are for */
    uint32_t count;
    struct us_patch list[US_PATCHES_MAX];
};

/* Changes the length bytes at data, which belong at that offset of the device. A sticky corruption changes only
 * sectors in corrupt_range, each the same way every time. length is whole sectors.
 * patches: of the IO, for US_CORRUPT_PATCH. */
void us_corrupt(const struct us_decision *decision, const struct us_patches *patches, uint64_t offset, void *data,
    uint64_t length);

/* Which bytes of a write of that length are stored: [*from, *to). Not for US_STORE_RANDOM. */
void us_stored_part(const struct us_decision *decision, uint64_t length, uint64_t *from, uint64_t *to);

/* The same for US_STORE_RANDOM: one leg for each piece, to the own place of a write at that offset. How many. */
unsigned us_stored_pieces(
    const struct us_decision *decision, uint64_t offset, uint64_t length, struct us_leg legs[US_LEGS_MAX]);

/* Where an IO goes that is redirected: to_offset, or so much further than its own place. What would not fit the device
 * goes as far the other way, or stays where it is. */
uint64_t us_redirected(const struct us_decision *decision, uint64_t offset, uint64_t length, uint64_t device_size);
