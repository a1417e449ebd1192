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
    struct us_sets *shared;
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

struct us_sets {
    unsigned queues;
    bool started; /* under the lock: some queue went online once, so sets may have readers at any time */
    pthread_mutex_t lock;
    size_t set_count, interval_count;
    struct us_ranges *sets;
    struct us_names set_names;
    struct us_ranges **anonymous; /* the first of each bank and queue */
    struct us_spans *retired; /* newest first */
    struct us_leaves leaves;
    _Atomic uint64_t epoch;   /* from 1 */
    _Atomic uint64_t growths; /* ranges.c */
    struct us_reader *readers;
};

/* Excludes edits. Nothing to do with one queue. */
void us_sets_lock(struct us_sets *shared);
void us_sets_unlock(struct us_sets *shared);
/* Under the lock: makes spans what readers see from now on and frees the old directory, with its dead leaves, once
 * nobody can see them. */
void us_sets_publish(struct us_ranges *set, struct us_spans *spans);
/* Copies at most capacity intervals, consistently; returns how many there are. */
size_t us_ranges_copy(const struct us_ranges *set, struct us_span *to, size_t capacity);

/* Under the lock: nobody can be looking at a set, it may be edited in place. */
static inline bool us_sets_exclusive(const struct us_sets *shared) {
    return shared->queues == 1 || !shared->started;
}
