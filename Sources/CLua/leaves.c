/* Places are cut from aligned chunks of 2 MiB, for which the kernel is asked to give huge pages where its setting
 * (transparent_hugepage/enabled) leaves that to programs. */
#include "leaves.h"
#include <stdlib.h>
#include <sys/mman.h>

enum { CHUNK_BYTES = 2 << 20, LINE_BYTES = 64 };

struct us_leaf_chunk {
    struct us_leaf_chunk *next;
};

struct us_leaf_place {
    struct us_leaf_place *next;
};

static size_t place_bytes(void) {
    size_t bytes = sizeof(struct us_leaf) + US_LEAF_MAX * sizeof(struct us_span);
    return (bytes + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES;
}

static bool add_chunk(struct us_leaves *leaves) {
    struct us_leaf_chunk *chunk = aligned_alloc(CHUNK_BYTES, CHUNK_BYTES);
    if (chunk == NULL)
        return false;
    madvise(chunk, CHUNK_BYTES, MADV_HUGEPAGE); /* slower without, that is all */
    chunk->next = leaves->chunks;
    leaves->chunks = chunk;
    /* The first one is given out first. */
    size_t bytes = place_bytes(), count = (CHUNK_BYTES - LINE_BYTES) / bytes;
    for (size_t i = count; i-- > 0;) {
        struct us_leaf_place *place = (struct us_leaf_place *)((char *)chunk + LINE_BYTES + i * bytes);
        place->next = leaves->free;
        leaves->free = place;
    }
    return true;
}

struct us_leaf *us_leaf_new(struct us_leaves *leaves, size_t capacity) {
    struct us_leaf *leaf;
    if (leaves == NULL) {
        leaf = malloc(sizeof *leaf + capacity * sizeof *leaf->at);
    } else {
        if (leaves->free == NULL && !add_chunk(leaves))
            return NULL;
        struct us_leaf_place *place = leaves->free;
        leaves->free = place->next;
        leaf = (struct us_leaf *)place;
        capacity = US_LEAF_MAX;
    }
    if (leaf != NULL) {
        leaf->owner = leaves;
        leaf->count = 0;
        leaf->capacity = capacity;
    }
    return leaf;
}

void us_leaf_free(struct us_leaf *leaf) {
    struct us_leaves *leaves = leaf != NULL ? leaf->owner : NULL;
    if (leaves == NULL) {
        free(leaf);
        return;
    }
    struct us_leaf_place *place = (struct us_leaf_place *)leaf;
    place->next = leaves->free;
    leaves->free = place;
}

void us_leaves_free(struct us_leaves *leaves) {
    while (leaves->chunks != NULL) {
        struct us_leaf_chunk *next = leaves->chunks->next;
        free(leaves->chunks);
        leaves->chunks = next;
    }
    leaves->free = NULL;
}
