/* Where leaves of large sets come from: places of one size in huge pages. A search in a set that no cache holds waits
 * for memory, and with small pages for their addresses, too: of a million intervals that was 7 % of a decision. */
#pragma once
#include "spans.h"

/* One a registry; used under its lock. Zeroes are an empty one. */
struct us_leaves {
    struct us_leaf_chunk *chunks;
    struct us_leaf_place *free;
};

/* Empty, with room for that many. leaves: NULL for memory of its own (malloc), else it gets US_LEAF_MAX.
 * NULL: no memory. */
struct us_leaf *us_leaf_new(struct us_leaves *leaves, size_t capacity);
/* NULL too. A place is used again and goes with the registry. */
void us_leaf_free(struct us_leaf *leaf);
/* When no leaf is in use. */
void us_leaves_free(struct us_leaves *leaves);
