/* A number that stands for data: the same for the same, for io:hash() and for rules with content = { hash = ... }. */
#pragma once
#include <stdint.h>
#include <string.h>

/* FNV-1a over 8 bytes at a time, with the halves of the product mixed; not for adversaries. */
static inline uint64_t us_hash(const void *data, uint64_t length) {
    const unsigned char *bytes = data;
    uint64_t hash = 0xcbf29ce484222325u ^ length;
    for (uint64_t i = 0; i < length; i += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + i, length - i < 8 ? length - i : 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
        hash ^= hash >> 32;
    }
    return hash;
}
