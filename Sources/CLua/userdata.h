/* What scripts hold of ours. Every full userdata is made in this target and begins with its kind, which is cheaper to
 * check than a metatable; nothing else hands userdata to scripts. Each belongs to the Lua state that made it. */
#pragma once
#include "include/decision.h"
#include "include/dist.h"
#include "include/script.h"
#include "include/tests.h"
#include "lua_api.h"

enum us_kind {
    US_KIND_IO = 0x75736901,
    US_KIND_VERDICT,
    US_KIND_RANGES,
    US_KIND_COUNTER,
    US_KIND_DIST,
    US_KIND_BUCKET,
    US_KIND_BACKING,
    US_KIND_DICT,
    US_KIND_DISK,
};

struct us_io_object {
    enum us_kind kind;
    struct us_io *io;
    unsigned char *data; /* the tag's buffer */
    struct us_patches *patches;
};

struct us_verdict_object {
    enum us_kind kind;
    uint32_t ops; /* us_decision_ops() */
    const struct us_dist *dist; /* NULL: none; each IO is delayed by a time drawn from it, too */
    struct us_decision decision;
    struct us_segment segments[]; /* decision.segment_count, right behind it */
};
_Static_assert(offsetof(struct us_verdict_object, segments)
        == offsetof(struct us_verdict_object, decision) + sizeof(struct us_decision),
    "segments follow the decision");

/* The segments of a decision that a script made. */
static inline const struct us_segment *us_segments_of(const struct us_decision *decision) {
    return (const struct us_segment *)(decision + 1);
}

struct us_ranges_object {
    enum us_kind kind;
    struct us_ranges *set;
};

struct us_dist_object {
    enum us_kind kind;
    const struct us_dist *dist;
};

struct us_bucket_object {
    enum us_kind kind;
    struct us_bucket *bucket;
};

struct us_dict_object {
    enum us_kind kind;
    struct us_dict *dict;
};

struct us_backing_object {
    enum us_kind kind;
    unsigned number; /* 0 (the device's own) ... US_BACKINGS_MAX - 1 */
};

struct us_counter_object {
    enum us_kind kind;
    struct us_cell *cell;
};

/* The object at that index, NULL if it is anything else. Never raises. */
static inline void *us_object_at(lua_State *L, int index, enum us_kind kind) {
    if (lua_type(L, index) != LUA_TUSERDATA)
        return NULL;
    enum us_kind *object = lua_touserdata(L, index);
    return *object == kind ? object : NULL;
}

/* Pushes the disk of a test. Raises. disk_lua.c */
void us_push_disk(lua_State *L, const struct us_test_disk *disk);

/* Pushes a new verdict, with as many segments as the decision says. Raises. verdict.c */
struct us_verdict_object *us_push_verdict(
    lua_State *L, const struct us_decision *decision, const struct us_segment *segments);
/* The segments of the sum of two verdicts, in this order; how many. Raises when they cannot be added. targets_lua.c */
uint8_t us_both_segments(
    lua_State *L, const struct us_decision *left, const struct us_decision *right,
    struct us_segment segments[US_SEGMENTS_MAX]);
