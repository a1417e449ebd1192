/* Random streams: the same (seed, queue, stream) gives the same numbers on every machine.
 * SplitMix64 (Steele, Lea, Flood 2014): eight bytes of state, passes BigCrush. One thread per stream. */
#pragma once
#include <stdint.h>

struct us_random {
    uint64_t state;
};

static inline uint64_t us_random_next(struct us_random *stream) {
    uint64_t z = (stream->state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* Stream 0 is the script's random(); rule n has stream n (from 1). */
static inline struct us_random us_random_stream(uint64_t seed, uint32_t queue, uint32_t stream) {
    struct us_random r = {seed ^ ((uint64_t)queue << 32) ^ stream};
    r.state = us_random_next(&r);
    return r;
}

/* How many numbers a stream has given whose state was start. Each adds the same odd number to the state; this is its
 * inverse modulo 2^64. */
static inline uint64_t us_random_draws(uint64_t start, uint64_t state) {
    return (state - start) * 0xf1de83e19937733du;
}

/* Uniform in [0, 1), 53 bits. */
static inline double us_random_unit(struct us_random *stream) {
    return (double)(us_random_next(stream) >> 11) * 0x1.0p-53;
}
