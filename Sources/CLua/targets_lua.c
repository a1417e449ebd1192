/* backing{}, b:read() and to(): other places for the bytes of an IO. backing{} in the load phase; to() in any; b:read()
 * in handlers, which wait for the data while the queue goes on.
 *
 * A to() for a whole IO is plain numbers in the decision. Parts of an IO, and sums of several to(), are segments:
 * transfers of the IO's plan. */
#include "include/errnos.h"
#include "script_state.h"
#include "userdata.h"
#include <string.h>

static int push_backing(lua_State *L, unsigned number) {
    struct us_backing_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    object->kind = US_KIND_BACKING;
    object->number = number;
    lua_pushvalue(L, us_own_upvalue(1));
    lua_setmetatable(L, -2);
    return 1;
}

/* Like device{}, a declaration that Swift checks and opens; scripts get its number as an object. Without a table: the
 * device's own. */
static int backing(lua_State *L) {
    struct us_script *script = us_script_of(L);
    us_require_phase(L, "backing", US_PHASE_LOAD);
    if (lua_gettop(L) == 0)
        return push_backing(L, 0);
    if (script->backing_count == US_BACKINGS_MAX - 1)
        return luaL_error(L, "backing: there are %d already, the most there can be", US_BACKINGS_MAX - 1);
    us_declare(L, "backing", US_DECLARES_BACKING);
    return push_backing(L, (unsigned)++script->backing_count);
}

/* The handler goes on: b:read() gives the data, or nil and the name of an errno. */
static int arrived(lua_State *L, int status, lua_KContext length) {
    (void)status;
    const struct us_script *script = us_script_of(L);
    if (script->arrived_error == 0) {
        lua_pushlstring(L, script->arrived, (size_t)length);
        return 1;
    }
    const struct us_errno *known = us_errno_by_number(script->arrived_error);
    lua_pushnil(L);
    lua_pushstring(L, known != NULL ? known->name : "EIO");
    return 2;
}

static int read_backing(lua_State *L) {
    struct us_script *script = us_script_of(L);
    const struct us_backing_object *object = us_object_at(L, 1, US_KIND_BACKING);
    us_require_phase(L, "read", US_PHASE_IO);
    if (object == NULL)
        return luaL_error(L, "a backing is expected before the colon, as in b:read(offset, length); got %s",
            us_describe(L, 1));
    struct us_want want = {us_check_bytes(L, 2, "offset"), us_check_bytes(L, 3, "length"), object->number};
    uint64_t size = script->backing_size[want.backing];
    if (want.length == 0 || want.length > US_READ_MAX)
        return luaL_error(L, "read: length = %s: 1 to %d bytes are expected", us_describe(L, 3), US_READ_MAX);
    if (!us_fits(want.offset, want.length, size))
        return luaL_error(L, "read: offset + length is past the end of the backing (%I bytes)", (LUAI_UACINT)size);
    if (!lua_isyieldable(L))
        return luaL_error(L, "read: not inside of a sort, gsub or metamethod");
    script->want = want;
    return lua_yieldk(L, 0, (lua_KContext)want.length, arrived);
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
    struct us_decision verdict = {.outcome = US_OUTCOME_REDIRECT};
    if (lua_isnoneornil(L, 3) && lua_isnoneornil(L, 4)) {
        verdict.to_offset = offset;
        verdict.to_backing = number;
        us_push_verdict(L, &verdict, NULL);
        return 1;
    }
    uint64_t at = lua_isnoneornil(L, 3) ? 0 : us_check_bytes(L, 3, "place in the IO");
    uint64_t length = lua_isnoneornil(L, 4) ? 0 : us_check_bytes(L, 4, "length");
    if (length == 0 && !lua_isnoneornil(L, 4))
        return luaL_error(L, "to: the length is 0");
    struct us_segment segment = {.offset = offset, .at = at, .length = length, .backing = number};
    verdict.segment_count = 1;
    us_push_verdict(L, &verdict, &segment);
    return 1;
}

static unsigned segment_count(const struct us_decision *decision) {
    return decision->segment_count > 0 || decision->outcome != US_OUTCOME_REDIRECT ? decision->segment_count : 1;
}

static unsigned copy_segments(struct us_segment *to, const struct us_decision *decision) {
    unsigned count = segment_count(decision);
    if (decision->segment_count > 0)
        memcpy(to, us_segments_of(decision), count * sizeof *to);
    else if (count > 0)
        *to = (struct us_segment){.offset = decision->to_offset, .backing = decision->to_backing};
    return count;
}

uint8_t us_both_segments(
    lua_State *L, const struct us_decision *left, const struct us_decision *right,
    struct us_segment segments[US_SEGMENTS_MAX]) {
    bool both = left->outcome == US_OUTCOME_REDIRECT && right->outcome == US_OUTCOME_REDIRECT;
    if (both && (left->is_relative || right->is_relative))
        luaL_error(L, "misdirect cannot be added to another place");
    unsigned total = both ? segment_count(left) + segment_count(right) : left->segment_count + right->segment_count;
    if (total > US_SEGMENTS_MAX)
        luaL_error(L, "a verdict can have %d places at most", US_SEGMENTS_MAX);
    if (total > 0)
        copy_segments(segments + copy_segments(segments, left), right);
    return (uint8_t)total;
}

void us_open_targets(lua_State *L) {
    static const luaL_Reg metatable[] = {{NULL, NULL}};
    static const struct us_native methods[] = {{"backing:read(offset, length)", read_backing}, {NULL, NULL}};
    static const struct us_native function = {"backing{...}", backing};
    static const struct us_native functions[] = {{"to(offset, backing, at, length)", to}, {NULL, NULL}};
    us_push_metatable(L, "backing", metatable);
    lua_newtable(L);
    us_set_natives(L, methods, US_METHOD);
    lua_setfield(L, -2, "__index");
    us_register_native(L, &function, 1);
    us_register_natives(L, functions);
}
