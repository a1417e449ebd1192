/* backing{} and to(): other places for the bytes of an IO. backing{} in the load phase; to() in any.
 *
 * A to() for a whole IO is plain numbers in the decision. Parts of an IO, and sums of several to(), are legs: done in
 * the order in which they are written, the first error ends the IO. */
#include "script_state.h"
#include <string.h>

/* Like device{}, a declaration that Swift checks and opens; scripts get its number as an object. */
static int backing(lua_State *L) {
    struct us_script *script = us_script_of(L);
    if (script->backing_count == US_BACKINGS_MAX - 1)
        return luaL_error(L, "backing: there are %d already, the most there can be", US_BACKINGS_MAX - 1);
    us_declare(L, "backing", US_DECLARES_BACKING);
    struct us_backing_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    object->kind = US_KIND_BACKING;
    object->number = (unsigned)++script->backing_count;
    return 1;
}

static unsigned check_backing(lua_State *L, int index) {
    if (lua_isnoneornil(L, index))
        return 0;
    const struct us_backing_object *object = us_object_at(L, index, US_KIND_BACKING);
    if (object == NULL)
        luaL_error(L, "to: %s is no backing; backing{...} makes one", us_describe(L, index));
    return object->number;
}

/* to(offset, backing, at, length) */
static int to(lua_State *L) {
    uint64_t offset = us_check_bytes(L, 1, "offset");
    unsigned number = check_backing(L, 2);
    if (lua_isnoneornil(L, 3) && lua_isnoneornil(L, 4)) {
        struct us_decision *verdict = us_push_verdict(L);
        verdict->outcome = US_OUTCOME_REDIRECT;
        verdict->to_offset = offset;
        verdict->to_backing = number;
        return 1;
    }
    uint64_t at = lua_isnoneornil(L, 3) ? 0 : us_check_bytes(L, 3, "place in the IO");
    uint64_t length = lua_isnoneornil(L, 4) ? 0 : us_check_bytes(L, 4, "length");
    if (length == 0 && !lua_isnoneornil(L, 4))
        return luaL_error(L, "to: the length is 0");
    struct us_verdict_object *object = us_push_legs(L, 1);
    object->decision.outcome = US_OUTCOME_REDIRECT;
    object->legs[0] = (struct us_leg){.offset = offset, .at = at, .length = length, .backing = number};
    return 1;
}

static unsigned leg_count(const struct us_decision *decision) {
    return decision->leg_count > 0 || decision->outcome != US_OUTCOME_REDIRECT ? decision->leg_count : 1;
}

static unsigned copy_legs(struct us_leg *to, const struct us_decision *decision) {
    unsigned count = leg_count(decision);
    if (decision->leg_count > 0)
        memcpy(to, us_legs_of(decision), count * sizeof *to);
    else if (count > 0)
        *to = (struct us_leg){.offset = decision->to_offset, .backing = decision->to_backing};
    return count;
}

struct us_verdict_object *us_push_both_legs(
    lua_State *L, const struct us_decision *left, const struct us_decision *right) {
    bool both = left->outcome == US_OUTCOME_REDIRECT && right->outcome == US_OUTCOME_REDIRECT;
    unsigned total = both ? leg_count(left) + leg_count(right) : left->leg_count + right->leg_count;
    if (both && (left->is_relative || right->is_relative))
        luaL_error(L, "misdirect cannot be added to another place");
    if (total > US_LEGS_MAX)
        luaL_error(L, "a verdict can have %d places at most", US_LEGS_MAX);
    struct us_verdict_object *object = us_push_legs(L, total);
    if (total > 0) {
        unsigned first = copy_legs(object->legs, left);
        copy_legs(object->legs + first, right);
    }
    return object;
}

void us_open_targets(lua_State *L) {
    lua_register(L, "backing", backing);
    lua_register(L, "to", to);
}
