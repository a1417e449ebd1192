/* The intervals of a set: sorted, disjoint, not even adjacent; so both starts and ends ascend and a search by end
 * finds a place, first among the leaves and then in one (spans.h). Every edit replaces the intervals [first, last) by
 * at most two new ones (spans.c).
 *
 * Readers: any queue between online and offline, without a lock. Editors: one at a time, under the registry's
 * lock. While nobody can be reading (one queue, or none has started) edits are made in place; afterwards each
 * publishes a new directory. */
#include "shared_state.h"
#include <string.h>

static const struct us_spans empty;

static const struct us_spans *look(const struct us_ranges *set) {
    const struct us_spans *spans = atomic_load_explicit(&set->spans, memory_order_seq_cst);
    return spans != NULL ? spans : &empty;
}

/* How many of the leading ones end at offset or before. Few are counted, not halved: the processor does not wait for
 * one comparison, or one cache line, to know the next. */
static size_t ended_leaves(const struct us_leaf_entry *at, size_t count, uint64_t offset) {
    size_t ended = 0;
    while (count > US_BLOCK) {
        size_t half = count / 2;
        ended += at[ended + half - 1].end <= offset ? half : 0;
        count -= half;
    }
    for (size_t first = ended, i = 0; i < count; i++)
        ended += at[first + i].end <= offset;
    return ended;
}

static size_t ended_blocks(const uint64_t *marks, size_t count, uint64_t offset) {
    size_t ended = 0;
    for (size_t i = 0; i < count; i++)
        ended += marks[i] <= offset;
    return ended;
}

static size_t ended_spans(const struct us_span *at, size_t count, uint64_t offset) {
    size_t ended = 0;
    for (size_t i = 0; i < count; i++)
        ended += at[i].end <= offset;
    return ended;
}

/* The first interval that ends after offset; behind the last when there is none. */
static struct us_place first_ending_after(const struct us_spans *spans, uint64_t offset) {
    struct us_place place = {ended_leaves(spans->at, spans->leaf_count, offset), 0};
    if (place.leaf == spans->leaf_count)
        return place;
    const struct us_leaf *leaf = spans->at[place.leaf].leaf;
    /* The leaf's last ends after it, so one does in the block that is found. */
    place.index = ended_blocks(leaf->marks, (leaf->count + US_BLOCK - 1) / US_BLOCK, offset) * US_BLOCK;
    size_t left = leaf->count - place.index;
    place.index += ended_spans(leaf->at + place.index, left < US_BLOCK ? left : US_BLOCK, offset);
    return place;
}

static const struct us_span *span_at(const struct us_spans *spans, struct us_place place) {
    return &spans->at[place.leaf].leaf->at[place.index];
}

/* The first interval that starts at offset or after it: the first that ends after it, or its successor. */
static struct us_place first_starting_from(const struct us_spans *spans, uint64_t offset) {
    struct us_place place = first_ending_after(spans, offset);
    if (place.leaf < spans->leaf_count && span_at(spans, place)->start < offset
        && ++place.index == spans->at[place.leaf].leaf->count)
        place = (struct us_place){place.leaf + 1, 0};
    return place;
}

bool us_ranges_overlaps(const struct us_ranges *set, uint64_t offset, uint64_t length) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end))
        end = UINT64_MAX;
    const struct us_spans *spans = look(set);
    struct us_place place = first_ending_after(spans, offset);
    return length > 0 && place.leaf < spans->leaf_count && span_at(spans, place)->start < end;
}

bool us_ranges_hull(const struct us_ranges *set, uint64_t *start, uint64_t *end) {
    const struct us_spans *spans = look(set);
    if (spans->count == 0)
        return false;
    *start = spans->at[0].leaf->at[0].start;
    *end = spans->at[spans->leaf_count - 1].end;
    return true;
}

uint64_t us_sets_growths(const struct us_sets *shared) {
    return atomic_load_explicit(&shared->growths, memory_order_acquire);
}

/* The last interval in front of a place that is not the first. */
static const struct us_span *span_before(const struct us_spans *spans, struct us_place place) {
    if (place.index > 0)
        return span_at(spans, place) - 1;
    const struct us_leaf *leaf = spans->at[place.leaf - 1].leaf;
    return &leaf->at[leaf->count - 1];
}

static bool is_before(struct us_place left, struct us_place right) {
    return left.leaf < right.leaf || (left.leaf == right.leaf && left.index < right.index);
}

static bool add_locked(struct us_ranges *set, uint64_t start, uint64_t end) {
    const struct us_spans *spans = look(set);
    struct us_place none = {spans->leaf_count, 0};
    /* Neighbours that only touch are taken in too: from the first that ends at start or later ... */
    struct us_place first = first_ending_after(spans, start > 0 ? start - 1 : 0);
    /* ... to the last that starts at end or before. */
    struct us_place last = end < UINT64_MAX ? first_starting_from(spans, end + 1) : none;
    struct us_span whole = {start, end};
    if (is_before(first, last)) {
        const struct us_span *left = span_at(spans, first), *right = span_before(spans, last);
        if (left->start <= start && left->end >= end)
            return true;
        whole.start = left->start < start ? left->start : start;
        whole.end = right->end > end ? right->end : end;
    }
    uint64_t lowest, highest;
    bool grows = !us_ranges_hull(set, &lowest, &highest) || whole.start < lowest || whole.end > highest;
    if (!us_spans_edit(set, &(struct us_edit){first, last, {whole}, 1}))
        return false;
    if (grows) /* after the set is published: who sees the count sees the set */
        atomic_fetch_add_explicit(&set->shared->growths, 1, memory_order_release);
    return true;
}

static bool remove_locked(struct us_ranges *set, uint64_t start, uint64_t end) {
    const struct us_spans *spans = look(set);
    struct us_edit edit = {first_ending_after(spans, start), first_starting_from(spans, end), {{0, 0}}, 0};
    if (!is_before(edit.first, edit.last))
        return true;
    const struct us_span *left = span_at(spans, edit.first), *right = span_before(spans, edit.last);
    if (left->start < start)
        edit.pieces[edit.piece_count++] = (struct us_span){left->start, start};
    if (right->end > end)
        edit.pieces[edit.piece_count++] = (struct us_span){end, right->end};
    return us_spans_edit(set, &edit);
}

bool us_ranges_add(struct us_ranges *set, uint64_t offset, uint64_t length) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end))
        return false;
    if (length == 0)
        return true;
    us_sets_lock(set->shared);
    bool done = add_locked(set, offset, end);
    us_sets_unlock(set->shared);
    return done;
}

bool us_ranges_remove(struct us_ranges *set, uint64_t offset, uint64_t length) {
    uint64_t end;
    if (__builtin_add_overflow(offset, length, &end))
        return false;
    if (length == 0)
        return true;
    us_sets_lock(set->shared);
    bool done = remove_locked(set, offset, end);
    us_sets_unlock(set->shared);
    return done;
}

bool us_ranges_clear(struct us_ranges *set) {
    us_sets_lock(set->shared);
    bool done = us_spans_edit(set, &(struct us_edit){.last = {look(set)->leaf_count, 0}});
    us_sets_unlock(set->shared);
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
    size_t leaf = 0;
    for (; index >= spans->at[leaf].leaf->count; leaf++)
        index -= spans->at[leaf].leaf->count;
    const struct us_span *span = &spans->at[leaf].leaf->at[index];
    *offset = span->start;
    *length = span->end - span->start;
    return true;
}

size_t us_ranges_copy(const struct us_ranges *set, struct us_span *to, size_t capacity) {
    us_sets_lock(set->shared);
    const struct us_spans *spans = look(set);
    size_t done = 0;
    for (size_t i = 0; i < spans->leaf_count && done < capacity; i++) {
        const struct us_leaf *leaf = spans->at[i].leaf;
        size_t count = leaf->count < capacity - done ? leaf->count : capacity - done;
        memcpy(to + done, leaf->at, count * sizeof *to);
        done += count;
    }
    size_t count = spans->count;
    us_sets_unlock(set->shared);
    return count;
}
