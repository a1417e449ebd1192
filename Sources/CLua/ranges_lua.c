/* ranges(): sets of byte ranges as objects of a script.
 *
 * The object only points to a set of the device, which outlives every state. */
#include "script_state.h"
#include "userdata.h"

static struct us_ranges *check_set(lua_State *L) {
    const struct us_ranges_object *object = us_object_at(L, 1, US_KIND_RANGES);
    if (object == NULL)
        luaL_error(L, "a ranges object is expected before the colon, as in set:add(offset, length); got %s",
            us_describe(L, 1));
    return object->set;
}

struct interval {
    uint64_t offset, length;
};

/* The arguments (set, offset, length). */
static struct interval check_interval(lua_State *L, const char *function) {
    struct interval it = {us_check_bytes(L, 2, "offset"), us_check_bytes(L, 3, "length")};
    if (it.length == 0)
        luaL_error(L, "%s: the length is 0", function);
    if (it.length > (uint64_t)INT64_MAX - it.offset)
        luaL_error(L, "%s: offset + length is past the largest offset there is (2^63)", function);
    return it;
}

/* Ends a method that edits: the set itself, so that calls can be chained. */
static int edited(lua_State *L, bool done, const char *function) {
    if (!done)
        return luaL_error(L, "%s: out of memory, or more than %d intervals in all sets", function, US_INTERVALS_MAX);
    lua_settop(L, 1);
    return 1;
}

static int add(lua_State *L) {
    struct us_ranges *set = check_set(L);
    struct interval it = check_interval(L, "add");
    return edited(L, us_has_happened(L) || us_objects.ranges.add(set, it.offset, it.length), "add");
}

static int remove_interval(lua_State *L) {
    struct us_ranges *set = check_set(L);
    struct interval it = check_interval(L, "remove");
    return edited(L, us_has_happened(L) || us_objects.ranges.remove(set, it.offset, it.length), "remove");
}

static int clear(lua_State *L) {
    struct us_ranges *set = check_set(L);
    return edited(L, us_has_happened(L) || us_objects.ranges.clear(set), "clear");
}

/* In other phases the queue may not be online. */
static bool is_online(lua_State *L) {
    return us_script_of(L)->phase == US_PHASE_IO;
}

/* A length of 0 is no error here: a flush has none, and it overlaps nothing. */
static int has(lua_State *L) {
    struct us_ranges *set = check_set(L);
    uint64_t offset = us_check_bytes(L, 2, "offset");
    uint64_t length = lua_isnoneornil(L, 3) ? 1 : us_check_bytes(L, 3, "length");
    lua_pushboolean(L, us_objects.ranges.overlaps(set, offset, length, is_online(L)));
    return 1;
}

static int count(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)us_objects.ranges.count(check_set(L), is_online(L)));
    return 1;
}

static int bytes(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)us_objects.ranges.bytes(check_set(L), is_online(L)));
    return 1;
}

/* Copies first: making tables can raise, which must not happen under the lock. Others may add meanwhile, so the
 * copy is tried again until it held everything. */
static int list(lua_State *L) {
    struct us_ranges *set = check_set(L);
    size_t number = us_objects.ranges.copy(set, NULL, 0), room;
    struct us_span *spans;
    do {
        lua_settop(L, 1);
        room = number;
        spans = lua_newuserdatauv(L, room * sizeof *spans, 0);
        number = us_objects.ranges.copy(set, spans, room);
    } while (number > room);
    lua_createtable(L, (int)number, 0);
    for (size_t i = 0; i < number; i++) {
        lua_createtable(L, 2, 0);
        lua_pushinteger(L, (lua_Integer)spans[i].start);
        lua_rawseti(L, -2, 1);
        lua_pushinteger(L, (lua_Integer)(spans[i].end - spans[i].start));
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    return 1;
}

static int is_same(lua_State *L) {
    const struct us_ranges_object *left = us_object_at(L, 1, US_KIND_RANGES);
    const struct us_ranges_object *right = us_object_at(L, 2, US_KIND_RANGES);
    lua_pushboolean(L, left != NULL && right != NULL && left->set == right->set);
    return 1;
}

static int to_text(lua_State *L) {
    const char *name = us_objects.ranges.name(check_set(L));
    if (*name != '\0')
        lua_pushfstring(L, "ranges(\"%s\")", name);
    else
        lua_pushliteral(L, "ranges()");
    return 1;
}

/* The metatable is the own upvalue. */
static int ranges(lua_State *L) {
    us_require_phase(L, "ranges", US_PHASE_LOAD);
    const char *name = "";
    size_t length = 0;
    if (!lua_isnoneornil(L, 1))
        name = us_check_name(L, 1, "ranges", &length);
    struct us_script *script = us_script_of(L);
    const struct us_script_options *options = &script->options;
    struct us_ranges_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    object->kind = US_KIND_RANGES;
    object->set = length > 0
        ? us_objects.ranges.named(options->shared, name, length)
        : us_objects.ranges.anonymous(
            options->shared, options->bank, options->queue, ++script->anonymous_sets, us_has_happened(L));
    if (object->set == NULL)
        return luaL_error(L, "ranges: out of memory, or more than %d sets", US_OBJECTS_MAX);
    lua_pushvalue(L, us_own_upvalue(1));
    lua_setmetatable(L, -2);
    return 1;
}

void us_open_ranges(lua_State *L) {
    static const luaL_Reg metatable[]
        = {{"__len", count}, {"__eq", is_same}, {"__tostring", to_text}, {NULL, NULL}};
    static const struct us_native methods[] = {{"ranges:add(offset, length)", add},
        {"ranges:remove(offset, length)", remove_interval}, {"ranges:clear()", clear},
        {"ranges:has(offset, length)", has}, {"ranges:count()", count}, {"ranges:bytes()", bytes},
        {"ranges:list()", list}, {NULL, NULL}};
    static const struct us_native function = {"ranges(name)", ranges};
    us_push_metatable(L, "ranges", metatable);
    lua_newtable(L);
    us_set_natives(L, methods, US_METHOD);
    lua_setfield(L, -2, "__index");
    us_register_native(L, &function, 1);
}
