/* Sets of byte ranges, which all queues of a device share.
 *
 * A set is sorted, disjoint, non-adjacent [start, end) intervals in leaves of some hundreds below one directory, so
 * a lookup is O(log n) and an edit moves a leaf and seldom the directory (spans.h).
 * With one queue everything happens on its thread and leaves are edited in place.
 * With several queues readers never lock: an edit (under a mutex) makes a new leaf and a new directory, which it
 * publishes by one atomic store; what they replace is freed when every queue has passed a quiescent point since
 * (us_sets_online / us_sets_offline; QSBR, as in userspace RCU). Until the first queue goes online there are no
 * readers to spare and edits are in place too. Edits need not be online. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct us_sets;
struct us_ranges;

/* queues: how many threads will use it, 1 or more; each names itself by its index. NULL: no memory. */
struct us_sets *us_sets_new(unsigned queues);
void us_sets_free(struct us_sets *shared); /* when no queue uses it any more */

/* The queue's thread calls online after each wait and offline before it (a sleeping queue must not hold back
 * frees). Between the two it may look at sets. No cost with one queue. */
void us_sets_online(struct us_sets *shared, unsigned queue);
void us_sets_offline(struct us_sets *shared, unsigned queue);

/* The set of that name (at most 64 bytes), made empty when there is none yet; an empty name always makes a new
 * anonymous one, which lives as long as the registry. NULL: no memory, or over 2^16 sets. */
struct us_ranges *us_sets_ranges(struct us_sets *shared, const char *name, size_t length);

/* The anonymous sets of a script that is loaded, one after the other: the one after `last` (NULL: the first) of that
 * queue, empty. A reload takes those of the other bank, so that the running script keeps its own until the next one:
 * however often a script is loaded, there are no more of them than it has twice. NULL: as above. */
struct us_ranges *us_sets_anonymous(
    struct us_sets *shared, unsigned bank, unsigned queue, struct us_ranges *last);

/* The set of that name, NULL when there is none. */
struct us_ranges *us_sets_find_ranges(struct us_sets *shared, const char *name, size_t length);
/* Copies at most capacity pointers to the sets that have names, oldest first; returns how many there are. */
size_t us_sets_named_ranges(struct us_sets *shared, struct us_ranges **to, size_t capacity);

/* Lock-free. length 0 overlaps nothing. */
bool us_ranges_overlaps(const struct us_ranges *set, uint64_t offset, uint64_t length);
/* offset + length must not overflow (checked: false). False: no memory, or over 2^24 intervals in all sets of the
 * registry; the set is as it was. */
bool us_ranges_add(struct us_ranges *set, uint64_t offset, uint64_t length);
bool us_ranges_remove(struct us_ranges *set, uint64_t offset, uint64_t length);
bool us_ranges_clear(struct us_ranges *set);
/* The first byte of a set and the one behind its last; false when it is empty. Lock-free. */
bool us_ranges_hull(const struct us_ranges *set, uint64_t *start, uint64_t *end);
/* Counts edits after which a set reaches further to either side than before. While it stands still, every set lies
 * within the hull it had, so what was known to miss all hulls still does. Lock-free. */
uint64_t us_sets_growths(const struct us_sets *shared);
size_t us_ranges_count(const struct us_ranges *set); /* intervals */
uint64_t us_ranges_bytes(const struct us_ranges *set);
/* The interval with that index, for listings: it counts through the leaves. False past the end. */
bool us_ranges_at(const struct us_ranges *set, size_t index, uint64_t *offset, uint64_t *length);
/* Its name, "" for an anonymous one. */
const char *us_ranges_name(const struct us_ranges *set);
