/* Sets of byte ranges, which all queues of a device share (RangeSet.swift). */
#pragma once
#include "quotas.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct us_ranges;
struct us_shared;

struct us_span {
    uint64_t start, end; /* [start, end), never empty */
};

struct us_ranges_functions {
    /* The set of that name (1 to US_NAME_BYTES_MAX bytes), made empty when there is none yet. NULL: over
     * US_OBJECTS_MAX. */
    struct us_ranges *(*named)(struct us_shared *shared, const char *name, size_t length);
    /* The nth without a name of the script of that queue, empty, or with what it has (is_kept). A reload takes those of
     * the other bank, so that the running script keeps its own until the next one. NULL: no memory, or over
     * US_OBJECTS_MAX. */
    struct us_ranges *(*anonymous)(
        struct us_shared *shared, uint32_t bank, uint32_t queue, uint32_t number, bool is_kept);
    /* offset + length must not overflow (checked: false). False: no memory, or over US_INTERVALS_MAX; the set is as it
     * was. */
    bool (*add)(struct us_ranges *set, uint64_t offset, uint64_t length);
    bool (*remove)(struct us_ranges *set, uint64_t offset, uint64_t length);
    bool (*clear)(struct us_ranges *set);
    /* is_online: the caller's queue is, as it is in the io phase; then these look without a lock. length 0 overlaps
     * nothing. */
    bool (*overlaps)(const struct us_ranges *set, uint64_t offset, uint64_t length, bool is_online);
    size_t (*count)(const struct us_ranges *set, bool is_online); /* intervals */
    uint64_t (*bytes)(const struct us_ranges *set, bool is_online);
    /* Copies at most capacity intervals, consistently; returns how many there are. */
    size_t (*copy)(const struct us_ranges *set, struct us_span *to, size_t capacity);
    const char *(*name)(const struct us_ranges *set); /* "" for an anonymous one */
};
