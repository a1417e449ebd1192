/* The buckets of a registry: made under its lock, never removed; taking is a compare and swap. */
#include "include/bucket.h"
#include "shared_state.h"
#include <stdlib.h>
#include <string.h>

enum { BUCKETS_MAX = 1 << 16 };

struct us_bucket {
    struct us_bucket *next;
    _Atomic uint64_t full_at; /* nanoseconds on the device's clock */
    _Atomic uint64_t rate;    /* tokens a second */
    _Atomic uint64_t burst;   /* tokens */
    atomic_bool counts_ios;
    char name[US_NAME_MAX + 1];
};

struct us_bucket *us_shared_bucket(
    struct us_shared *shared, const char *name, size_t length, uint64_t rate, uint64_t burst, bool counts_ios) {
    if (length > US_NAME_MAX || rate == 0 || burst == 0)
        return NULL;
    us_shared_lock(shared);
    struct us_bucket *bucket = length > 0 ? us_names_find(&shared->bucket_names, 0, name, length) : NULL;
    if (bucket == NULL && shared->bucket_count < BUCKETS_MAX && us_names_reserve(&shared->bucket_names)
        && (bucket = calloc(1, sizeof *bucket)) != NULL) {
        memcpy(bucket->name, name, length);
        if (length > 0)
            us_names_add(&shared->bucket_names, 0, bucket->name, length, bucket);
        bucket->next = shared->buckets;
        shared->buckets = bucket;
        shared->bucket_count++;
    }
    if (bucket != NULL) {
        atomic_store_explicit(&bucket->counts_ios, counts_ios, memory_order_relaxed);
        us_bucket_set_rate(bucket, rate, burst);
        /* One without a name of its own is new to each script that is loaded. */
        if (bucket->name[0] == '\1')
            atomic_store_explicit(&bucket->full_at, 0, memory_order_relaxed);
    }
    us_shared_unlock(shared);
    return bucket;
}

/* Nanoseconds in which so many tokens come, at most 2^62. */
static uint64_t time_of(uint64_t tokens, uint64_t rate) {
    unsigned __int128 time = (unsigned __int128)tokens * 1000000000u / rate;
    return time < ((uint64_t)1 << 62) ? (uint64_t)time : (uint64_t)1 << 62;
}

uint64_t us_bucket_take(struct us_bucket *bucket, uint64_t tokens, uint64_t now) {
    uint64_t rate = atomic_load_explicit(&bucket->rate, memory_order_relaxed);
    uint64_t burst = time_of(atomic_load_explicit(&bucket->burst, memory_order_relaxed), rate);
    uint64_t cost = time_of(tokens, rate);
    uint64_t old = atomic_load_explicit(&bucket->full_at, memory_order_relaxed), new;
    do {
        uint64_t from = old > now ? old : now;
        new = from < ((uint64_t)1 << 62) ? from + cost : from;
    } while (!atomic_compare_exchange_weak_explicit(
        &bucket->full_at, &old, new, memory_order_relaxed, memory_order_relaxed));
    /* An empty bucket is full again after the time of a whole burst; what takes longer has to wait for the rest. */
    return new - now > burst ? new - now - burst : 0;
}

uint64_t us_bucket_cost(const struct us_bucket *bucket, uint64_t length) {
    return atomic_load_explicit(&bucket->counts_ios, memory_order_relaxed) ? 1 : length;
}

void us_bucket_set_rate(struct us_bucket *bucket, uint64_t rate, uint64_t burst) {
    atomic_store_explicit(&bucket->rate, rate, memory_order_relaxed);
    atomic_store_explicit(&bucket->burst, burst, memory_order_relaxed);
}

uint64_t us_bucket_rate(const struct us_bucket *bucket) {
    return atomic_load_explicit(&bucket->rate, memory_order_relaxed);
}

void us_shared_free_buckets(struct us_shared *shared) {
    while (shared->buckets != NULL) {
        struct us_bucket *next = shared->buckets->next;
        free(shared->buckets);
        shared->buckets = next;
    }
}
