/* Named numbers that all queues of a device share: counters, marks, and the state of its state machine (Cell.swift). */
#pragma once
#include "quotas.h"
#include <stddef.h>
#include <stdint.h>

enum us_cell_kind {
    US_CELL_COUNTER,    /* counter("name") */
    US_CELL_MARK,       /* how often mark("name") was called */
    US_CELL_STATE,      /* one of them, named "": the number of the state's name, 0 at first */
    US_CELL_STATE_NAME, /* only its number counts */
};

struct us_cell;
struct us_shared;

struct us_cell_functions {
    /* The cell of that kind and name (at most US_NAME_BYTES_MAX bytes), made with 0 when there is none yet. NULL: no
     * memory, or over US_OBJECTS_MAX cells. */
    struct us_cell *(*of)(struct us_shared *shared, enum us_cell_kind kind, const char *name, size_t length);
    /* The cell of that kind and number, NULL when there is none. */
    struct us_cell *(*at)(struct us_shared *shared, enum us_cell_kind kind, uint32_t number);
    int64_t (*value)(const struct us_cell *cell);
    void (*set)(struct us_cell *cell, int64_t value);
    int64_t (*add)(struct us_cell *cell, int64_t value); /* the new value; wraps around */
    int64_t (*mark)(struct us_cell *cell, uint64_t now); /* counts it, and notes when */
    uint32_t (*number)(const struct us_cell *cell); /* among the cells of its kind, from 1 */
    const char *(*name)(const struct us_cell *cell);
};
