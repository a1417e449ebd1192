/* The registry of sets and the reclaiming of what readers may still see (QSBR).
 *
 * Owner: the device; threads: all of its queues. Readers never lock. A queue announces the epoch in which it
 * goes online; every replaced directory carries the epoch that began with its replacement. It is freed, with the
 * leaves that went with it, once no queue is online with an older epoch: such a queue went online before the
 * replacement and may hold it.
 *
 * Memory order. A reader stores `seen`, then loads `spans`; an editor stores `spans`, then loads `seen`. One of
 * the two must see the other's store, which only sequential consistency gives; so these four are seq_cst (the
 * loads cost nothing on x86 and an ldar on arm64). Going offline is a release that the editor's load
 * acquires: all looks at the directory and its leaves happen before they are freed. */
#include "shared_state.h"
#include <stdlib.h>
#include <string.h>

struct us_sets *us_sets_new(unsigned queues) {
    struct us_sets *shared = calloc(1, sizeof *shared);
    if (shared == NULL)
        return NULL;
    shared->queues = queues == 0 ? 1 : queues;
    atomic_init(&shared->epoch, 1);
    if (shared->queues > 1) {
        size_t bytes = shared->queues * sizeof *shared->readers;
        shared->readers = aligned_alloc(_Alignof(struct us_reader), bytes);
        if (shared->readers == NULL) {
            free(shared);
            return NULL;
        }
        memset((void *)shared->readers, 0, bytes);
    }
    shared->anonymous = calloc(2 * (size_t)shared->queues, sizeof *shared->anonymous);
    if (shared->anonymous == NULL) {
        free(shared->readers);
        free(shared);
        return NULL;
    }
    pthread_mutex_init(&shared->lock, NULL);
    return shared;
}

static void free_retired(struct us_spans *list) {
    while (list != NULL) {
        struct us_spans *next = list->next;
        us_spans_free(list);
        list = next;
    }
}

void us_sets_free(struct us_sets *shared) {
    if (shared == NULL)
        return;
    free_retired(shared->retired);
    while (shared->sets != NULL) {
        struct us_ranges *set = shared->sets;
        shared->sets = set->next;
        us_spans_free_all(atomic_load_explicit(&set->spans, memory_order_relaxed));
        free(set);
    }
    us_leaves_free(&shared->leaves);
    us_names_free(&shared->set_names);
    pthread_mutex_destroy(&shared->lock);
    free(shared->anonymous);
    free(shared->readers);
    free(shared);
}

void us_sets_lock(struct us_sets *shared) {
    if (shared->queues > 1)
        pthread_mutex_lock(&shared->lock);
}

void us_sets_unlock(struct us_sets *shared) {
    if (shared->queues > 1)
        pthread_mutex_unlock(&shared->lock);
}

void us_sets_online(struct us_sets *shared, unsigned queue) {
    if (shared->queues == 1 || queue >= shared->queues)
        return;
    struct us_reader *reader = &shared->readers[queue];
    if (!reader->started) {
        /* Once per queue: waits for an edit in place to end, and none begins afterwards. */
        us_sets_lock(shared);
        shared->started = true;
        us_sets_unlock(shared);
        reader->started = true;
    }
    uint64_t epoch = atomic_load_explicit(&shared->epoch, memory_order_seq_cst);
    atomic_store_explicit(&reader->seen, epoch, memory_order_seq_cst);
}

void us_sets_offline(struct us_sets *shared, unsigned queue) {
    if (shared->queues == 1 || queue >= shared->queues)
        return;
    atomic_store_explicit(&shared->readers[queue].seen, 0, memory_order_release);
}

/* The oldest epoch that an online queue may still be in. */
static uint64_t oldest_reader(struct us_sets *shared) {
    uint64_t oldest = UINT64_MAX;
    for (unsigned i = 0; i < shared->queues; i++) {
        uint64_t seen = atomic_load_explicit(&shared->readers[i].seen, memory_order_seq_cst);
        if (seen != 0 && seen < oldest)
            oldest = seen;
    }
    return oldest;
}

/* The list is newest first, so everything from the first free one on is free. */
static void reclaim(struct us_sets *shared) {
    if (shared->retired == NULL)
        return;
    uint64_t oldest = oldest_reader(shared);
    struct us_spans **link = &shared->retired;
    while (*link != NULL && (*link)->retired_at > oldest)
        link = &(*link)->next;
    struct us_spans *list = *link;
    *link = NULL;
    free_retired(list);
}

void us_sets_publish(struct us_ranges *set, struct us_spans *spans) {
    struct us_sets *shared = set->shared;
    struct us_spans *old = atomic_load_explicit(&set->spans, memory_order_relaxed);
    atomic_store_explicit(&set->spans, spans, memory_order_seq_cst);
    if (old == NULL || old == spans)
        return;
    if (us_sets_exclusive(shared)) {
        us_spans_free(old);
        return;
    }
    old->retired_at = atomic_fetch_add_explicit(&shared->epoch, 1, memory_order_seq_cst) + 1;
    old->next = shared->retired;
    shared->retired = old;
    reclaim(shared);
}

static struct us_ranges *find(struct us_sets *shared, const char *name, size_t length) {
    return length > 0 ? us_names_find(&shared->set_names, 0, name, length) : NULL;
}

static struct us_ranges *make(struct us_sets *shared, const char *name, size_t length) {
    if (length > US_NAME_MAX || shared->set_count == US_SETS_MAX)
        return NULL;
    if (length > 0 && !us_names_reserve(&shared->set_names))
        return NULL;
    struct us_ranges *set = calloc(1, sizeof *set);
    if (set == NULL)
        return NULL;
    set->shared = shared;
    atomic_init(&set->spans, NULL);
    if (length > 0) {
        memcpy(set->name, name, length);
        us_names_add(&shared->set_names, 0, set->name, length, set);
    }
    set->next = shared->sets;
    shared->sets = set;
    shared->set_count++;
    return set;
}

struct us_ranges *us_sets_ranges(struct us_sets *shared, const char *name, size_t length) {
    us_sets_lock(shared);
    struct us_ranges *set = find(shared, name, length);
    if (set == NULL)
        set = make(shared, name, length);
    us_sets_unlock(shared);
    return set;
}

struct us_ranges *us_sets_anonymous(
    struct us_sets *shared, unsigned bank, unsigned queue, struct us_ranges *last) {
    struct us_ranges **first = &shared->anonymous[bank % 2 * shared->queues + queue % shared->queues];
    struct us_ranges **link = last != NULL ? &last->next_anonymous : first;
    if (*link != NULL)
        return us_ranges_clear(*link) ? *link : NULL;
    us_sets_lock(shared);
    *link = make(shared, "", 0);
    us_sets_unlock(shared);
    return *link;
}

struct us_ranges *us_sets_find_ranges(struct us_sets *shared, const char *name, size_t length) {
    us_sets_lock(shared);
    struct us_ranges *set = find(shared, name, length);
    us_sets_unlock(shared);
    return set;
}

size_t us_sets_named_ranges(struct us_sets *shared, struct us_ranges **to, size_t capacity) {
    us_sets_lock(shared);
    size_t count = 0, place = 0;
    for (struct us_ranges *set = shared->sets; set != NULL; set = set->next)
        count += set->name[0] != '\0';
    for (struct us_ranges *set = shared->sets; set != NULL; set = set->next)
        if (set->name[0] != '\0' && count - ++place < capacity)
            to[count - place] = set;
    us_sets_unlock(shared);
    return count;
}

const char *us_ranges_name(const struct us_ranges *set) {
    return set->name;
}
