/* Edits of a set's intervals. They lie in leaves of at most US_LEAF_MAX, found by a directory (spans.h), so an edit
 * moves or copies one leaf and, where leaves come or go or readers may be looking, the directory: 11 KiB and 23 KiB
 * with 1,000,000 intervals in random order, where one sorted array would be 16 MiB.
 *
 * Owner: the set; under the registry's lock. While nobody can be reading a leaf is edited in place and has room to
 * grow. Else nothing that readers may see is written: new leaves and a new directory are made and published, and the
 * old directory carries what it alone still names into its retirement.
 *
 * A leaf that gets small joins a neighbour when both fit in one with room to spare, so of two neighbours never both
 * are small and the directory stays in proportion to what is in the set, not to what once was. */
#include "shared_state.h"
#include <stdlib.h>
#include <string.h>

enum {
    US_LEAF_SMALL = US_LEAF_MAX / 4,
    US_LEAF_JOINED = US_LEAF_MAX * 3 / 4, /* more than two small ones: a joined leaf is not soon split again */
    US_LEAVES_MANY = 64, /* from so many on they are in huge pages: the set is larger than the caches */
};

static const struct us_spans empty;

struct run {
    const struct us_span *at;
    size_t count;
};

/* What becomes of the leaves [first, end) of a directory: the runs, in order, in at most two new leaves. */
struct rebuild {
    size_t first, end;
    struct run runs[5]; /* all of the leaf before, what stays in front, the pieces, what stays behind, the leaf after */
    size_t total;
    struct us_leaf *leaves[2];
    size_t leaf_count;
};

enum { LEAF_BEFORE, IN_FRONT, PIECES, BEHIND, LEAF_AFTER };

static void move_spans(struct us_span *to, const struct us_span *from, size_t count) {
    if (count > 0)
        memmove(to, from, count * sizeof *to);
}

static void move_entries(struct us_leaf_entry *to, const struct us_leaf_entry *from, size_t count) {
    if (count > 0)
        memmove(to, from, count * sizeof *to);
}

static uint64_t bytes_of(const struct us_span *spans, size_t count) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += spans[i].end - spans[i].start;
    return bytes;
}

/* Sets the marks from the block on that has the interval index. */
static void mark(struct us_leaf *leaf, size_t index) {
    for (size_t block = index / US_BLOCK, first; (first = block * US_BLOCK) < leaf->count; block++)
        leaf->marks[block] = leaf->at[leaf->count - first < US_BLOCK ? leaf->count - 1 : first + US_BLOCK - 1].end;
}

/* How many intervals the edit takes out, and their bytes. */
static size_t taken_out(const struct us_spans *from, const struct us_edit *edit, uint64_t *bytes) {
    size_t count = 0;
    *bytes = 0;
    for (size_t i = edit->first.leaf; i < from->leaf_count && i <= edit->last.leaf; i++) {
        const struct us_leaf *leaf = from->at[i].leaf;
        size_t first = i == edit->first.leaf ? edit->first.index : 0;
        size_t end = i == edit->last.leaf ? edit->last.index : leaf->count;
        *bytes += bytes_of(leaf->at + first, end - first);
        count += end - first;
    }
    return count;
}

/* True when the small rest and that leaf are better one. */
static bool joins(const struct rebuild *rebuild, const struct us_leaf *leaf) {
    return rebuild->total < US_LEAF_SMALL && rebuild->total + leaf->count <= US_LEAF_JOINED;
}

static void add_run(struct rebuild *rebuild, int place, const struct us_span *at, size_t count) {
    rebuild->runs[place] = (struct run){at, count};
    rebuild->total += count;
}

static struct rebuild plan(const struct us_spans *from, const struct us_edit *edit) {
    struct us_place first = edit->first, last = edit->last;
    if (first.leaf == from->leaf_count && first.leaf > 0) { /* behind all: the last leaf goes on */
        first.leaf--;
        first.index = from->at[first.leaf].leaf->count;
    }
    struct rebuild rebuild = {.first = first.leaf, .end = last.leaf + (last.index > 0)};
    if (rebuild.end == rebuild.first && rebuild.end < from->leaf_count)
        rebuild.end++; /* in front of a leaf's first */
    add_run(&rebuild, PIECES, edit->pieces, edit->piece_count);
    if (rebuild.first < rebuild.end) {
        const struct us_leaf *left = from->at[rebuild.first].leaf, *right = from->at[rebuild.end - 1].leaf;
        size_t behind = last.leaf < rebuild.end ? last.index : right->count;
        add_run(&rebuild, IN_FRONT, left->at, first.index);
        add_run(&rebuild, BEHIND, right->at + behind, right->count - behind);
    }
    if (rebuild.end < from->leaf_count && joins(&rebuild, from->at[rebuild.end].leaf)) {
        const struct us_leaf *leaf = from->at[rebuild.end++].leaf;
        add_run(&rebuild, LEAF_AFTER, leaf->at, leaf->count);
    }
    if (rebuild.first > 0 && joins(&rebuild, from->at[rebuild.first - 1].leaf)) {
        const struct us_leaf *leaf = from->at[--rebuild.first].leaf;
        add_run(&rebuild, LEAF_BEFORE, leaf->at, leaf->count);
    }
    return rebuild;
}

/* With one leaf that has room, and nobody looking: no new one. */
static bool edit_in_place(struct us_spans *spans, const struct rebuild *rebuild) {
    if (rebuild->end - rebuild->first != 1 || rebuild->total == 0)
        return false;
    struct us_leaf_entry *entry = &spans->at[rebuild->first];
    struct us_leaf *leaf = entry->leaf;
    if (rebuild->total > leaf->capacity)
        return false;
    const struct run *pieces = &rebuild->runs[PIECES], *behind = &rebuild->runs[BEHIND];
    struct us_span *place = leaf->at + rebuild->runs[IN_FRONT].count;
    move_spans(place + pieces->count, behind->at, behind->count);
    move_spans(place, pieces->at, pieces->count);
    leaf->count = rebuild->total;
    mark(leaf, rebuild->runs[IN_FRONT].count);
    entry->end = leaf->at[leaf->count - 1].end;
    return true;
}

static void free_leaves(const struct rebuild *rebuild) {
    for (size_t i = 0; i < rebuild->leaf_count; i++)
        us_leaf_free(rebuild->leaves[i]);
}

/* Room for that many, and for more when it will be edited in place. */
static struct us_leaf *make_leaf(struct us_leaves *leaves, size_t count, bool exclusive) {
    size_t capacity = exclusive ? count + count / 2 + 4 : count;
    return us_leaf_new(leaves, capacity < US_LEAF_MAX ? capacity : US_LEAF_MAX);
}

static bool make_leaves(struct rebuild *rebuild, struct us_leaves *leaves, bool exclusive, bool at_end) {
    size_t sizes[2] = {rebuild->total, 0};
    if (rebuild->total > US_LEAF_MAX) /* halves; but what is filled in ascending order shall be full */
        sizes[0] = at_end ? US_LEAF_MAX : rebuild->total / 2;
    sizes[1] = rebuild->total - sizes[0];
    for (; rebuild->leaf_count < 2 && sizes[rebuild->leaf_count] > 0; rebuild->leaf_count++) {
        struct us_leaf *leaf = make_leaf(leaves, sizes[rebuild->leaf_count], exclusive);
        if (leaf == NULL)
            return false;
        rebuild->leaves[rebuild->leaf_count] = leaf;
    }
    size_t i = 0;
    for (struct run *run = rebuild->runs; run < rebuild->runs + 5; run++) {
        for (size_t done = 0; done < run->count;) {
            struct us_leaf *leaf = rebuild->leaves[i];
            size_t left = run->count - done, room = sizes[i] - leaf->count;
            size_t count = left < room ? left : room;
            move_spans(leaf->at + leaf->count, run->at + done, count);
            leaf->count += count;
            done += count;
            i += leaf->count == sizes[i];
        }
    }
    return true;
}

/* The directory that the edit is written to: the old one with room enough, or a new one. NULL: no memory. */
static struct us_spans *target(struct us_spans *old, size_t leaf_count, bool exclusive) {
    if (exclusive && old != NULL && leaf_count <= old->capacity)
        return old;
    size_t capacity = exclusive ? leaf_count + leaf_count / 2 : leaf_count;
    struct us_spans *new = malloc(sizeof *new + capacity * sizeof *new->at);
    if (new != NULL)
        *new = (struct us_spans){.capacity = capacity};
    return new;
}

/* Writes the entries of the leaves; from is to, or stays as it is. */
static void write_entries(struct us_spans *to, const struct us_spans *from, const struct rebuild *rebuild) {
    size_t rest = from->leaf_count - rebuild->end;
    struct us_leaf_entry *place = to->at + rebuild->first;
    if (to != from)
        move_entries(to->at, from->at, rebuild->first);
    move_entries(place + rebuild->leaf_count, from->at + rebuild->end, rest);
    for (size_t i = 0; i < rebuild->leaf_count; i++) {
        struct us_leaf *leaf = rebuild->leaves[i];
        mark(leaf, 0);
        place[i] = (struct us_leaf_entry){leaf->at[leaf->count - 1].end, leaf};
    }
    to->leaf_count = rebuild->first + rebuild->leaf_count + rest;
}

/* Puts new leaves in the place of old ones. *to becomes the directory that has them, NULL when there are none. */
static bool replace_leaves(
    struct us_sets *shared, struct us_spans **to, struct us_spans *old, struct rebuild *rebuild) {
    const struct us_spans *from = old != NULL ? old : &empty;
    bool exclusive = us_sets_exclusive(shared);
    struct us_leaves *leaves = from->leaf_count >= US_LEAVES_MANY ? &shared->leaves : NULL;
    if (!make_leaves(rebuild, leaves, exclusive, rebuild->end == from->leaf_count && rebuild->runs[BEHIND].count == 0)) {
        free_leaves(rebuild);
        return false;
    }
    *to = NULL;
    size_t leaf_count = from->leaf_count - (rebuild->end - rebuild->first) + rebuild->leaf_count;
    if (leaf_count > 0 && (*to = target(old, leaf_count, exclusive)) == NULL) {
        free_leaves(rebuild);
        return false;
    }
    if (*to != NULL && *to == old)
        for (size_t i = rebuild->first; i < rebuild->end; i++)
            us_leaf_free(old->at[i].leaf);
    else if (old != NULL) {
        old->dead_first = rebuild->first;
        old->dead_end = rebuild->end;
    }
    if (*to != NULL)
        write_entries(*to, from, rebuild);
    return true;
}

bool us_spans_edit(struct us_ranges *set, const struct us_edit *edit) {
    struct us_spans *old = atomic_load_explicit(&set->spans, memory_order_relaxed), *to = old;
    const struct us_spans *from = old != NULL ? old : &empty;
    bool exclusive = us_sets_exclusive(set->shared);
    uint64_t bytes_out;
    size_t count_out = taken_out(from, edit, &bytes_out);
    size_t count = from->count - count_out + edit->piece_count;
    size_t in_all = set->shared->interval_count - from->count + count;
    if (count > from->count && in_all > US_INTERVALS_MAX)
        return false;
    uint64_t bytes = from->bytes - bytes_out + bytes_of(edit->pieces, edit->piece_count);
    struct rebuild rebuild = plan(from, edit);
    if (!(exclusive && edit_in_place(old, &rebuild)) && !replace_leaves(set->shared, &to, old, &rebuild))
        return false;
    if (to != NULL) {
        to->count = count;
        to->bytes = bytes;
    }
    set->shared->interval_count = in_all;
    us_sets_publish(set, to);
    return true;
}

void us_spans_free(struct us_spans *spans) {
    for (size_t i = spans->dead_first; i < spans->dead_end; i++)
        us_leaf_free(spans->at[i].leaf);
    free(spans);
}

void us_spans_free_all(struct us_spans *spans) {
    if (spans == NULL)
        return;
    spans->dead_first = 0;
    spans->dead_end = spans->leaf_count;
    us_spans_free(spans);
}
