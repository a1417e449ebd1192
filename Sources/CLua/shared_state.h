/* Inside of the registry and of its sets: shared.c owns memory and its reclaiming, ranges.c the intervals. */
#pragma once
#include "include/ranges.h"
#include "leaves.h"
#include "names.h"
#include "spans.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    US_NAME_MAX = 64,
    /* Native memory is outside of a script's own limit, so a runaway load phase must meet one here. */
    US_SETS_MAX = 1 << 16,
    US_INTERVALS_MAX = 1 << 24, /* in all sets of a registry: 256 MiB, and the room that leaves keep */
};

struct us_ranges {
    struct us_shared *shared;
    struct us_ranges *next;
    _Atomic(struct us_spans *) spans;
    struct us_ranges *next_anonymous; /* of the same bank and queue */
    char name[US_NAME_MAX + 1];
};

/* Each on its own cache line: a queue writes it once per turn. */
struct us_reader {
    _Alignas(64) _Atomic uint64_t seen; /* the epoch when it went online; 0 = offline */
    bool started;                       /* touched by its own thread only */
};

struct us_shared {
    unsigned queues;
    bool started; /* under the lock: some queue went online once, so sets may have readers at any time */
    pthread_mutex_t lock;
    size_t set_count, interval_count;
    struct us_ranges *sets;
    struct us_names set_names, cell_names, bucket_names, dict_names;
    struct us_ranges **anonymous; /* the first of each bank and queue */
    struct us_spans *retired; /* newest first */
    struct us_leaves leaves;
    struct us_cell *cells;    /* cells.c, newest first */
    size_t cell_count;
    struct us_cell **numbered[4]; /* by enum us_cell_kind: the cell with number n at n - 1 */
    struct us_bucket *buckets; /* bucket.c, newest first */
    size_t bucket_count;
    struct us_dict *dicts; /* dict.c, newest first */
    size_t dict_count;
    _Atomic size_t dict_bytes;
    uint32_t cell_numbers[4]; /* by enum us_cell_kind: the last number given */
    _Atomic uint64_t epoch;   /* from 1 */
    _Atomic uint64_t growths; /* ranges.c */
    struct us_reader *readers;
};

/* Excludes edits. Nothing to do with one queue. */
void us_shared_lock(struct us_shared *shared);
void us_shared_unlock(struct us_shared *shared);
/* Under the lock: makes spans what readers see from now on and frees the old directory, with its dead leaves, once
 * nobody can see them. */
void us_shared_publish(struct us_ranges *set, struct us_spans *spans);
/* cells.c: the cells go with the registry. */
void us_shared_free_cells(struct us_shared *shared);
void us_shared_free_buckets(struct us_shared *shared); /* bucket.c */
void us_shared_free_dicts(struct us_shared *shared);   /* dict.c */
/* Copies at most capacity intervals, consistently; returns how many there are. */
size_t us_ranges_copy(const struct us_ranges *set, struct us_span *to, size_t capacity);

/* Under the lock: nobody can be looking at a set, it may be edited in place. */
static inline bool us_shared_exclusive(const struct us_shared *shared) {
    return shared->queues == 1 || !shared->started;
}
