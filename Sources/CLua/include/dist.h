/* Distributions of times as dist_lua.c makes and checks them; Distribution.swift samples them.
 *
 * Immutable once made; memory of the script that made it, so it lives as long as that. */
#pragma once
#include "random.h"
#include <stddef.h>

enum us_dist_kind {
    US_DIST_CONST,       /* a */
    US_DIST_UNIFORM,     /* a ... b */
    US_DIST_NORMAL,      /* mean a, standard deviation b; below 0 is 0 */
    US_DIST_LOGNORMAL,   /* median a, sigma b */
    US_DIST_PARETO,      /* at least a, exponent b */
    US_DIST_EXPONENTIAL, /* at least a, b more on average */
    US_DIST_PARTS,       /* one of the parts */
};

/* Chosen with a chance of (upto - the one before's upto). */
struct us_dist_part {
    double upto;                /* of the last one: 1 */
    double low, high;           /* without a dist: uniform between these */
    const struct us_dist *dist; /* NULL: none */
};

struct us_dist {
    enum us_dist_kind kind;
    unsigned depth; /* distributions below one another, from 1; bounded, as sampling recurses */
    double a, b;    /* nanoseconds, but for sigma and exponent */
    size_t part_count;
    struct us_dist_part *parts;
};

enum { US_DIST_DEPTH_MAX = 8 };

struct us_dist_functions {
    /* Nanoseconds, at most 366 days. */
    uint64_t (*sample)(const struct us_dist *dist, struct us_random *stream);
};
