/* The changes to data that a handler has noted. Plain data; Corruption.swift makes them. */
#pragma once
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
