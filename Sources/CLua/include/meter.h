/* How long something has worked, as far as it can be known from looks at its thread's CPU clock.
 *
 * That clock cannot be believed for long: where a host takes a virtual CPU away, a guest's clocks go on, so one
 * interval between two looks may be almost nothing but that. Each interval therefore counts a tenth of the limit at
 * most, and what the thread is known to have done in it otherwise. Whoever is over the limit has been seen at work
 * ten times. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct us_meter {
    uint64_t at;    /* the clock at the last look, ns */
    uint64_t used;  /* ns */
    uint64_t limit; /* ns */
};

static inline struct us_meter us_meter_start(uint64_t limit, uint64_t now) {
    struct us_meter meter = {now, 0, limit};
    return meter;
}

/* A look. known: how much of the time since the last one was surely work. True: over the limit. */
static inline bool us_meter_look(struct us_meter *meter, uint64_t now, uint64_t known) {
    uint64_t passed = now > meter->at ? now - meter->at : 0;
    uint64_t most = meter->limit / 10 + known;
    meter->at = now;
    meter->used += passed < most ? passed : most;
    return meter->used >= meter->limit;
}
