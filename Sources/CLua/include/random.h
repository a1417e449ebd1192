/* A random stream as C keeps it; SplitMix64.swift makes the numbers. One thread per stream. */
#pragma once
#include <stdint.h>

struct us_random {
    uint64_t state;
};

struct us_random_functions {
    /* Stream 0 is the script's random(); rule n has stream n (from 1). */
    struct us_random (*stream)(uint64_t seed, uint32_t queue, uint32_t stream);
    uint64_t (*next)(struct us_random *stream);
    double (*unit)(struct us_random *stream); /* in [0, 1) */
};
