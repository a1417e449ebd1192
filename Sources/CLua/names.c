#include "names.h"
#include <stdlib.h>
#include <string.h>

struct us_name {
    void *object; /* NULL: an empty slot */
    const char *name;
    size_t length;
    uint64_t hash;
    unsigned kind;
};

/* FNV-1a. */
static uint64_t us_hash(const char *name, size_t length) {
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

static uint64_t hash_of(unsigned kind, const char *name, size_t length) {
    return us_hash(name, length) + kind;
}

/* The name's slot, or the empty one where it would be. There is an empty one. */
static struct us_name *slot_of(
    const struct us_names *names, uint64_t hash, unsigned kind, const char *name, size_t length) {
    size_t place = hash & (names->capacity - 1);
    for (;; place = (place + 1) & (names->capacity - 1)) {
        struct us_name *slot = &names->slots[place];
        if (slot->object == NULL || (slot->hash == hash && slot->kind == kind && slot->length == length
                                        && memcmp(slot->name, name, length) == 0))
            return slot;
    }
}

void *us_names_find(const struct us_names *names, unsigned kind, const char *name, size_t length) {
    if (names->capacity == 0)
        return NULL;
    return slot_of(names, hash_of(kind, name, length), kind, name, length)->object;
}

bool us_names_reserve(struct us_names *names) {
    if (names->count < names->capacity / 2)
        return true;
    struct us_names more = {.count = names->count, .capacity = names->capacity == 0 ? 16 : names->capacity * 2};
    more.slots = calloc(more.capacity, sizeof *more.slots);
    if (more.slots == NULL)
        return false;
    for (size_t i = 0; i < names->capacity; i++) {
        const struct us_name *slot = &names->slots[i];
        if (slot->object != NULL)
            *slot_of(&more, slot->hash, slot->kind, slot->name, slot->length) = *slot;
    }
    free(names->slots);
    *names = more;
    return true;
}

void us_names_add(struct us_names *names, unsigned kind, const char *name, size_t length, void *object) {
    uint64_t hash = hash_of(kind, name, length);
    struct us_name entry = {object, name, length, hash, kind};
    *slot_of(names, hash, kind, name, length) = entry;
    names->count++;
}

void us_names_free(struct us_names *names) {
    free(names->slots);
}
