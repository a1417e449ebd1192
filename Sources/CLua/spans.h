/* The intervals of one set in two levels: a directory of leaves. Who may look and who may edit: ranges.c. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct us_ranges;

struct us_span {
    uint64_t start, end; /* [start, end), never empty */
};

enum {
    US_LEAF_MAX = 1024, /* near what makes leaf and directory of a million intervals cost the same to copy */
    US_BLOCK = 32,
};

struct us_leaves;

/* Neighbouring intervals, at least one. A search in it touches its head and one block: with a million intervals most
 * of the set is in no cache, so what costs is how often it waits for memory, not how much it compares. */
struct us_leaf {
    struct us_leaves *owner; /* leaves.h; NULL: malloc */
    size_t count, capacity;
    uint64_t marks[US_LEAF_MAX / US_BLOCK]; /* the end of the last interval of each block of US_BLOCK, as far as used */
    struct us_span at[];
};

/* The directory; NULL stands for that of an empty set. Readers see it only complete. Several may name one leaf: the
 * current one and retired ones. */
struct us_spans {
    size_t count; /* intervals in all leaves */
    uint64_t bytes;
    size_t leaf_count, capacity;
    size_t dead_first, dead_end; /* set when it is replaced: the leaves that its successor does not name */
    uint64_t retired_at;         /* shared.c: the epoch of its replacement */
    struct us_spans *next;       /* shared.c: in the list of retired ones */
    struct us_leaf_entry {
        uint64_t end; /* of the leaf's last interval: a search touches no leaf but the one that it ends in */
        struct us_leaf *leaf;
    } at[];
};

/* A place in a directory. Behind the last interval it is {leaf_count, 0}; never behind the last of a leaf. */
struct us_place {
    size_t leaf, index;
};

/* What is put in the place of the intervals [first, last). */
struct us_edit {
    struct us_place first, last;
    struct us_span pieces[2];
    size_t piece_count;
};

/* Under the lock. False: no memory, or too many intervals in the registry; the set is as it was. */
bool us_spans_edit(struct us_ranges *set, const struct us_edit *edit);
/* The directory and its dead leaves. */
void us_spans_free(struct us_spans *spans);
/* The directory, NULL too, and all its leaves. */
void us_spans_free_all(struct us_spans *spans);
