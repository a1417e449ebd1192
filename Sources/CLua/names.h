/* From names to the objects of a registry: a hash table with open addressing, which only grows, as its objects live as
 * long as the registry. The object owns its name. Owner: the registry; its lock. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct us_name;

struct us_names {
    struct us_name *slots;
    size_t count, capacity; /* a power of two, or 0 */
};

/* The object of that kind and name, NULL when there is none. */
void *us_names_find(const struct us_names *names, unsigned kind, const char *name, size_t length);
/* Makes room for one more, which us_names_add() can then put in. False: no memory. */
bool us_names_reserve(struct us_names *names);
/* There is room, and no object of that kind and name. The name stays where it is. */
void us_names_add(struct us_names *names, unsigned kind, const char *name, size_t length, void *object);
void us_names_free(struct us_names *names);
