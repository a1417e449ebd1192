/* What has happened to each 4 KiB of a device: how often it was accessed, or when it was written last.
 *
 * One table for all queues, in pages of memory that come as places are touched. Any thread, no lock: each unit is an
 * atomic of its own, so two queues that touch the same one at a time both count. */
#pragma once
#include "ranges.h"

struct us_history;

enum { US_HISTORY_UNIT_BYTES = 4096 };

/* The table of that name (at most 64 bytes), made when there is none yet; lives as long as the registry.
 * is_new: forgets what it has. NULL: no memory. */
struct us_history *us_shared_counts(
    struct us_shared *shared, const char *name, size_t length, uint64_t device_bytes, bool is_new);
struct us_history *us_shared_times(struct us_shared *shared, const char *name, size_t length, uint64_t device_bytes);

/* Counts an access to every unit the bytes touch, up to 255 for each. True when it is the nth of one of them. */
bool us_history_count(struct us_history *counts, uint64_t offset, uint64_t length, uint8_t nth);

/* They were written at that time on the device's clock. */
void us_history_write(struct us_history *times, uint64_t offset, uint64_t length, uint64_t now);
/* How long ago the unit was written that was so first; a unit that never was counts from the start of the clock. */
uint64_t us_history_age(const struct us_history *times, uint64_t offset, uint64_t length, uint64_t now);
