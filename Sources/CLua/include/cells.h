/* Named numbers that all queues of a device share: counters, marks, and the state of its state machine.
 *
 * A cell is one atomic number at a fixed address that lives as long as the registry, so a rule keeps the pointer and
 * looks at it without a lock or a search. Any thread. */
#pragma once
#include "ranges.h"
#include <stddef.h>
#include <stdint.h>

enum us_cell_kind {
    US_CELL_COUNTER,    /* counter("name") */
    US_CELL_MARK,       /* how often mark("name") was called */
    US_CELL_STATE,      /* one of them, named "": the number of the state's name, 0 at first */
    US_CELL_STATE_NAME, /* only its number counts */
};

struct us_cell {
    int64_t value;   /* by the functions below only */
    uint64_t time;   /* of a mark: when it was set last, on the device's clock */
    uint32_t number; /* among the cells of its kind, from 1 in the order they were made */
    uint32_t kind;
    struct us_cell *next;
    char name[];
};

/* The cell of that kind and name (at most 64 bytes), made with 0 when there is none yet. NULL: no memory, or over 2^16
 * cells. */
struct us_cell *us_shared_cell(struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length);
/* The same, but never made: NULL when there is none. */
struct us_cell *us_shared_find_cell(
    struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length);
/* The cell of that kind and number, NULL when there is none. */
struct us_cell *us_shared_cell_at(struct us_shared *shared, enum us_cell_kind kind, uint32_t number);

/* NUL-terminated. */
static inline const char *us_cell_name(const struct us_cell *cell) {
    return cell->name;
}

static inline int64_t us_cell_get(const struct us_cell *cell) {
    return __atomic_load_n(&cell->value, __ATOMIC_RELAXED);
}

static inline void us_cell_set(struct us_cell *cell, int64_t value) {
    __atomic_store_n(&cell->value, value, __ATOMIC_RELAXED);
}

/* Sets a mark: counts it, and notes when. */
static inline int64_t us_cell_mark(struct us_cell *cell, uint64_t now) {
    __atomic_store_n(&cell->time, now, __ATOMIC_RELAXED);
    return __atomic_add_fetch(&cell->value, 1, __ATOMIC_RELAXED);
}

static inline uint64_t us_cell_time(const struct us_cell *cell) {
    return __atomic_load_n(&cell->time, __ATOMIC_RELAXED);
}

/* The new value; wraps around. */
static inline int64_t us_cell_add(struct us_cell *cell, int64_t value) {
    return (int64_t)__atomic_add_fetch((uint64_t *)&cell->value, (uint64_t)value, __ATOMIC_RELAXED);
}
