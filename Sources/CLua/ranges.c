/* The intervals of a set: sorted, disjoint, not even adjacent; so both starts and ends ascend and one binary
 * search finds a place. Every edit replaces the intervals [first, last) by at most two new ones.
 *
 * Readers: any queue between online and offline, without a lock. Editors: one at a time, under the registry's
 * lock. While nobody can be reading (one queue, or none has started) the array is edited in place and grows by
 * doubling, so a load phase may add a million intervals; afterwards an edit copies the array and publishes it. */
#include "shared_state.h"
#include <stdlib.h>
#include <string.h>

static const struct us_spans empty;

static const struct us_spans *look(const struct us_ranges *set) {
    const struct us_spans *spans = atomic_load_explicit(&set->spans, memory_order_seq_cst);
    return spans != NULL ? spans : &empty;
}

/* Index of the first interval that ends after offset. */
static size_t first_ending_after(const struct us_spans *spans, uint64_t offset) {
    size_t low = 0, high = spans->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spans->at[middle].end > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Index of the first interval that starts at offset or after it. */
static size_t first_starting_from(const struct us_spans *spans, uint64_t offset) {
    size_t low = 0, high = spans->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spans->at[middle].start >= offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool us_ranges_overlaps(const struct us_ranges *set, uint64_t offset, uint64_t length) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end))
        end = UINT64_MAX;
    const struct us_spans *spans = look(set);
    size_t i = first_ending_after(spans, offset);
    return length > 0 && i < spans->count && spans->at[i].start < end;
}

bool us_ranges_hull(const struct us_ranges *set, uint64_t *start, uint64_t *end) {
    const struct us_spans *spans = look(set);
    if (spans->count == 0)
        return false;
    *start = spans->at[0].start;
    *end = spans->at[spans->count - 1].end;
    return true;
}

uint64_t us_shared_growths(const struct us_shared *shared) {
    return atomic_load_explicit(&shared->growths, memory_order_acquire);
}

/* What an edit puts in the place of the intervals [first, last). */
struct edit {
    size_t first, last;
    struct us_span pieces[2];
    size_t piece_count;
};

static void move_spans(struct us_span *to, const struct us_span *from, size_t count) {
    if (count > 0)
        memmove(to, from, count * sizeof *to);
}

static uint64_t bytes_of(const struct us_span *spans, size_t count) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += spans[i].end - spans[i].start;
    return bytes;
}

/* The array that the edit is written to: the old one with room enough, or a new one. NULL: no memory. */
static struct us_spans *target(struct us_ranges *set, struct us_spans *old, size_t count) {
    bool exclusive = us_shared_exclusive(set->shared);
    if (exclusive && old != NULL && count <= old->capacity)
        return old;
    size_t capacity = exclusive ? count + count / 2 + 4 : count;
    struct us_spans *new = malloc(sizeof *new + capacity * sizeof *new->at);
    if (new != NULL)
        *new = (struct us_spans){.capacity = capacity};
    return new;
}

static bool apply(struct us_ranges *set, const struct edit *edit) {
    struct us_spans *old = atomic_load_explicit(&set->spans, memory_order_relaxed);
    const struct us_spans *from = old != NULL ? old : &empty;
    size_t count = from->count - (edit->last - edit->first) + edit->piece_count;
    size_t in_all = set->shared->interval_count - from->count + count;
    if (count > from->count && in_all > US_INTERVALS_MAX)
        return false;
    struct us_spans *to = count > 0 ? target(set, old, count) : NULL;
    if (count > 0 && to == NULL)
        return false;
    if (to != NULL) {
        uint64_t bytes = from->bytes - bytes_of(from->at + edit->first, edit->last - edit->first)
            + bytes_of(edit->pieces, edit->piece_count);
        if (to != old)
            move_spans(to->at, from->at, edit->first);
        move_spans(to->at + edit->first + edit->piece_count, from->at + edit->last, from->count - edit->last);
        move_spans(to->at + edit->first, edit->pieces, edit->piece_count);
        to->count = count;
        to->bytes = bytes;
    }
    set->shared->interval_count = in_all;
    us_shared_publish(set, to);
    return true;
}

static bool add_locked(struct us_ranges *set, uint64_t start, uint64_t end) {
    const struct us_spans *spans = look(set);
    /* Neighbours that only touch are taken in too: from the first that ends at start or later ... */
    size_t first = start > 0 ? first_ending_after(spans, start - 1) : 0;
    /* ... to the last that starts at end or before. */
    size_t last = end < UINT64_MAX ? first_starting_from(spans, end + 1) : spans->count;
    struct us_span whole = {start, end};
    if (first < last) {
        const struct us_span *left = &spans->at[first], *right = &spans->at[last - 1];
        if (left->start <= start && left->end >= end)
            return true;
        whole.start = left->start < start ? left->start : start;
        whole.end = right->end > end ? right->end : end;
    }
    bool grows = spans->count == 0 || whole.start < spans->at[0].start || whole.end > spans->at[spans->count - 1].end;
    if (!apply(set, &(struct edit){first, last, {whole}, 1}))
        return false;
    if (grows) /* after the set is published: who sees the count sees the set */
        atomic_fetch_add_explicit(&set->shared->growths, 1, memory_order_release);
    return true;
}

static bool remove_locked(struct us_ranges *set, uint64_t start, uint64_t end) {
    const struct us_spans *spans = look(set);
    struct edit edit = {first_ending_after(spans, start), first_starting_from(spans, end), {{0, 0}}, 0};
    if (edit.first >= edit.last)
        return true;
    if (spans->at[edit.first].start < start)
        edit.pieces[edit.piece_count++] = (struct us_span){spans->at[edit.first].start, start};
    if (spans->at[edit.last - 1].end > end)
        edit.pieces[edit.piece_count++] = (struct us_span){end, spans->at[edit.last - 1].end};
    return apply(set, &edit);
}

bool us_ranges_add(struct us_ranges *set, uint64_t offset, uint64_t length) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end))
        return false;
    if (length == 0)
        return true;
    us_shared_lock(set->shared);
    bool done = add_locked(set, offset, end);
    us_shared_unlock(set->shared);
    return done;
}

bool us_ranges_remove(struct us_ranges *set, uint64_t offset, uint64_t length) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end))
        return false;
    if (length == 0)
        return true;
    us_shared_lock(set->shared);
    bool done = remove_locked(set, offset, end);
    us_shared_unlock(set->shared);
    return done;
}

bool us_ranges_clear(struct us_ranges *set) {
    us_shared_lock(set->shared);
    bool done = apply(set, &(struct edit){0, look(set)->count, {{0, 0}}, 0});
    us_shared_unlock(set->shared);
    return done;
}

size_t us_ranges_count(const struct us_ranges *set) {
    return look(set)->count;
}

uint64_t us_ranges_bytes(const struct us_ranges *set) {
    return look(set)->bytes;
}

bool us_ranges_at(const struct us_ranges *set, size_t index, uint64_t *offset, uint64_t *length) {
    const struct us_spans *spans = look(set);
    if (index >= spans->count)
        return false;
    *offset = spans->at[index].start;
    *length = spans->at[index].end - spans->at[index].start;
    return true;
}

size_t us_ranges_copy(const struct us_ranges *set, struct us_span *to, size_t capacity) {
    us_shared_lock(set->shared);
    const struct us_spans *spans = look(set);
    size_t count = spans->count;
    move_spans(to, spans->at, count < capacity ? count : capacity);
    us_shared_unlock(set->shared);
    return count;
}
