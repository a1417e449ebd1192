/* Token buckets: so many bytes or IOs a second, shared by all queues of a device (TokenBucket.swift). */
#pragma once
#include "quotas.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct us_bucket;
struct us_shared;

struct us_bucket_rate {
    uint64_t rate, burst; /* tokens a second, tokens; above 0 */
    bool counts_ios;
};

struct us_bucket_functions {
    /* The bucket of that name (at most US_NAME_BYTES_MAX bytes); one that exists gets the new rate and keeps what was
     * taken. NULL: over US_OBJECTS_MAX. */
    struct us_bucket *(*named)(
        struct us_shared *shared, const char *name, size_t length, const struct us_bucket_rate *rate);
    /* The nth without a name of the script of that queue, full. A reload takes those of the other bank. */
    struct us_bucket *(*anonymous)(struct us_shared *shared, uint32_t bank, uint32_t queue, uint32_t number,
        const struct us_bucket_rate *rate);
    /* Takes tokens and says how many nanoseconds from now on they are there: 0 while the burst lasts. */
    uint64_t (*take)(struct us_bucket *bucket, uint64_t tokens, uint64_t now);
    void (*set_rate)(struct us_bucket *bucket, uint64_t rate, uint64_t burst); /* from the next IO on */
    uint64_t (*rate)(const struct us_bucket *bucket);
};
