/* Tables of the registry, one anonymous mapping each: the kernel gives pages where something is stored, and a page
 * that nobody wrote reads as zeroes. */
#include "include/history.h"
#include "shared_state.h"
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct us_history {
    struct us_history *next;
    uint64_t units;
    size_t bytes; /* of the mapping */
    union {
        void *mapping;
        _Atomic uint8_t *counts;
        _Atomic uint64_t *times;
    };
    char name[US_NAME_MAX + 1];
};

static struct us_history *make(const char *name, size_t length, uint64_t units, size_t unit_bytes) {
    struct us_history *table = calloc(1, sizeof *table);
    if (table == NULL)
        return NULL;
    memcpy(table->name, name, length);
    table->units = units;
    if (__builtin_mul_overflow(units, unit_bytes, &table->bytes)) {
        free(table);
        return NULL;
    }
    table->mapping =
        mmap(NULL, table->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (table->mapping == MAP_FAILED) {
        free(table);
        return NULL;
    }
    return table;
}

static struct us_history *find_or_make(struct us_shared *shared, const char *name, size_t length,
    uint64_t device_bytes, size_t unit_bytes, bool is_new) {
    uint64_t units = device_bytes / US_HISTORY_UNIT_BYTES + (device_bytes % US_HISTORY_UNIT_BYTES != 0);
    if (length > US_NAME_MAX || units == 0)
        return NULL;
    us_shared_lock(shared);
    struct us_history *table = us_names_find(&shared->history_names, 0, name, length);
    if (table == NULL && us_names_reserve(&shared->history_names)
        && (table = make(name, length, units, unit_bytes)) != NULL) {
        us_names_add(&shared->history_names, 0, table->name, length, table);
        table->next = shared->histories;
        shared->histories = table;
    } else if (table != NULL && is_new) {
        madvise(table->mapping, table->bytes, MADV_DONTNEED); /* zeroes again */
    }
    us_shared_unlock(shared);
    return table;
}

struct us_history *us_shared_counts(
    struct us_shared *shared, const char *name, size_t length, uint64_t device_bytes, bool is_new) {
    return find_or_make(shared, name, length, device_bytes, sizeof(uint8_t), is_new);
}

struct us_history *us_shared_times(struct us_shared *shared, const char *name, size_t length, uint64_t device_bytes) {
    return find_or_make(shared, name, length, device_bytes, sizeof(uint64_t), false);
}

void us_shared_free_histories(struct us_shared *shared) {
    while (shared->histories != NULL) {
        struct us_history *next = shared->histories->next;
        munmap(shared->histories->mapping, shared->histories->bytes);
        free(shared->histories);
        shared->histories = next;
    }
}

/* The first unit that the bytes touch, and in *end the one behind the last. */
static uint64_t units_of(const struct us_history *table, uint64_t offset, uint64_t length, uint64_t *end) {
    uint64_t last = offset + length - 1; /* an IO is inside of its device */
    *end = length == 0 ? 0 : last / US_HISTORY_UNIT_BYTES + 1;
    if (*end > table->units)
        *end = table->units;
    return offset / US_HISTORY_UNIT_BYTES;
}

bool us_history_count(struct us_history *counts, uint64_t offset, uint64_t length, uint8_t nth) {
    uint64_t end, unit = units_of(counts, offset, length, &end);
    bool is_nth = false;
    for (; unit < end; unit++) {
        uint8_t old = atomic_load_explicit(&counts->counts[unit], memory_order_relaxed);
        while (old != UINT8_MAX
               && !atomic_compare_exchange_weak_explicit(
                   &counts->counts[unit], &old, old + 1, memory_order_relaxed, memory_order_relaxed))
            ;
        is_nth |= old != UINT8_MAX && old + 1 == nth;
    }
    return is_nth;
}

void us_history_write(struct us_history *times, uint64_t offset, uint64_t length, uint64_t now) {
    uint64_t end, unit = units_of(times, offset, length, &end);
    for (; unit < end; unit++)
        atomic_store_explicit(&times->times[unit], now, memory_order_relaxed);
}

uint64_t us_history_age(const struct us_history *times, uint64_t offset, uint64_t length, uint64_t now) {
    uint64_t end, unit = units_of(times, offset, length, &end), first = now;
    for (; unit < end; unit++) {
        uint64_t written = atomic_load_explicit(&times->times[unit], memory_order_relaxed);
        first = written < first ? written : first;
    }
    return now - first;
}
