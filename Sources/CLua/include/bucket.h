/* Token buckets: so many bytes or IOs a second, shared by all queues of a device.
 *
 * A bucket is kept as the time at which it would be full again if nothing more were taken (the generic cell rate
 * algorithm, ITU-T I.371): one atomic number, no refilling, first come first served. Lives as long as the registry.
 * Any thread. */
#pragma once
#include "ranges.h"
#include <stdbool.h>
#include <stdint.h>

struct us_bucket;

/* The bucket of that name (at most 64 bytes), an anonymous one for "". One that exists gets the new rate and keeps what
 * was taken, unless its name begins with \1. rate and burst are above 0. NULL: no memory, or over 2^16 of them. */
struct us_bucket *us_shared_bucket(
    struct us_shared *shared, const char *name, size_t length, uint64_t rate, uint64_t burst, bool counts_ios);

/* Takes tokens and says how many nanoseconds from now on they are there: 0 while the burst lasts. */
uint64_t us_bucket_take(struct us_bucket *bucket, uint64_t tokens, uint64_t now);

/* What an IO of that length takes: its bytes, or 1. */
uint64_t us_bucket_cost(const struct us_bucket *bucket, uint64_t length);

/* From the next IO on. rate is above 0. */
void us_bucket_set_rate(struct us_bucket *bucket, uint64_t rate, uint64_t burst);
uint64_t us_bucket_rate(const struct us_bucket *bucket);
