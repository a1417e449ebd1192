/* io: one IO as a script sees it.
 *
 * One object per tag, made when the queue binds its us_io and used again for every IO of that tag. It only points
 * to the us_io, so reading a field costs no copy and a script that keeps the object past the end of the IO is
 * told so (`live`) instead of reading the next one's fields. Field names are found by the address of the string:
 * Lua keeps one copy of each short string, and the registry keeps ours alive. */
#include "script_state.h"
#include <stdlib.h>
#include <string.h>

static const char *const op_names[US_OP_COUNT] = {
    [US_OP_READ] = "read",
    [US_OP_WRITE] = "write",
    [US_OP_FLUSH] = "flush",
    [US_OP_DISCARD] = "discard",
    [US_OP_WRITE_ZEROES] = "write_zeroes",
};

/* The commonest first: a name is looked for from the front. */
enum field { OP, OFFSET, LENGTH, FUA, META, FAILFAST, NOUNMAP, SWAP, SEQ, TAG, QUEUE };

static const char *const field_names[US_IO_FIELD_COUNT] = {
    [OP] = "op",
    [OFFSET] = "offset",
    [LENGTH] = "length",
    [FUA] = "fua",
    [META] = "meta",
    [FAILFAST] = "failfast",
    [NOUNMAP] = "nounmap",
    [SWAP] = "swap",
    [SEQ] = "seq",
    [TAG] = "tag",
    [QUEUE] = "queue",
};

const char *us_op_name(unsigned op) {
    return op < US_OP_COUNT ? op_names[op] : NULL;
}

/* ---- fields ---- */

static int refuse_field(lua_State *L) {
    return luaL_error(L,
        "io has no field %s; it has op offset length fua meta failfast nounmap swap queue tag seq", us_describe(L, 2));
}

static int push_flag(lua_State *L, const struct us_io *io, uint32_t flag) {
    lua_pushboolean(L, (io->flags & flag) != 0);
    return 1;
}

static int push_number(lua_State *L, uint64_t number) {
    lua_pushinteger(L, (lua_Integer)number);
    return 1;
}

static int push_field(lua_State *L, const struct us_io *io, enum field field) {
    switch (field) {
    case OP:
        lua_pushvalue(L, lua_upvalueindex(1 + io->op));
        return 1;
    case OFFSET:
        return push_number(L, io->offset);
    case LENGTH:
        return push_number(L, io->length);
    case FUA:
        return push_flag(L, io, US_IO_FUA);
    case META:
        return push_flag(L, io, US_IO_META);
    case FAILFAST:
        return push_flag(L, io, US_IO_FAILFAST);
    case NOUNMAP:
        return push_flag(L, io, US_IO_NOUNMAP);
    case SWAP:
        return push_flag(L, io, US_IO_SWAP);
    case SEQ:
        return push_number(L, io->sequence);
    case TAG:
        return push_number(L, io->tag);
    case QUEUE:
        return push_number(L, io->queue);
    }
    return refuse_field(L);
}

/* __index(io, name). Scripts cannot get hold of it (__metatable), so its first argument is an io. The upvalues are
 * the names of the operations. */
static int get_field(lua_State *L) {
    const struct us_io_object *object = lua_touserdata(L, 1);
    if (!object->io->live)
        return luaL_error(L, "this io is over: an io may be used only until it completes");
    if (lua_type(L, 2) == LUA_TSTRING) {
        const char *name = lua_tostring(L, 2);
        const struct us_script *script = us_script_of(L);
        for (int field = 0; field < US_IO_FIELD_COUNT; field++)
            if (script->io_field[field] == name)
                return push_field(L, object->io, (enum field)field);
    }
    return refuse_field(L);
}

static int set_field(lua_State *L) {
    return luaL_error(L, "the fields of an io cannot be assigned to; return a verdict to change what happens");
}

static int to_text(lua_State *L) {
    const struct us_io *io = ((const struct us_io_object *)lua_touserdata(L, 1))->io;
    if (!io->live || us_op_name(io->op) == NULL)
        lua_pushliteral(L, "io (over)");
    else
        lua_pushfstring(L, "io (%s %I+%I)", us_op_name(io->op), (LUAI_UACINT)io->offset, (LUAI_UACINT)io->length);
    return 1;
}

/* ---- binding ---- */

static bool make_room(struct us_script *script, uint16_t tag) {
    if (tag < script->io_count)
        return true;
    size_t count = script->io_count * 2 > tag + 1u ? script->io_count * 2 : tag + 1u;
    int *more = realloc(script->io, count * sizeof *more);
    if (more == NULL)
        return false;
    for (size_t i = script->io_count; i < count; i++)
        more[i] = LUA_NOREF;
    script->io = more;
    script->io_count = count;
    return true;
}

/* Below lua_pcall; its argument is the us_io, its result a reference. */
static int make_object(lua_State *L) {
    const struct us_io *io = lua_touserdata(L, 1);
    struct us_io_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    object->kind = US_KIND_IO;
    object->io = io;
    lua_rawgeti(L, LUA_REGISTRYINDEX, us_script_of(L)->io_metatable);
    lua_setmetatable(L, -2);
    lua_pushinteger(L, luaL_ref(L, LUA_REGISTRYINDEX));
    return 1;
}

bool us_script_bind_io(struct us_script *script, uint16_t tag, struct us_io *io) {
    lua_State *L = script->lua;
    if (tag >= US_TAG_COUNT || !make_room(script, tag))
        return false;
    if (script->io[tag] != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, script->io[tag]);
        ((struct us_io_object *)lua_touserdata(L, -1))->io = io;
        lua_settop(L, 0);
        return true;
    }
    lua_pushcfunction(L, make_object);
    lua_pushlightuserdata(L, io);
    bool made = lua_pcall(L, 1, 1, 0) == LUA_OK;
    if (made)
        script->io[tag] = (int)lua_tointeger(L, -1);
    lua_settop(L, 0);
    return made;
}

/* ---- set-up ---- */

static void keep_field_names(lua_State *L) {
    struct us_script *script = us_script_of(L);
    for (int field = 0; field < US_IO_FIELD_COUNT; field++) {
        script->io_field[field] = lua_pushstring(L, field_names[field]);
        luaL_ref(L, LUA_REGISTRYINDEX);
    }
}

void us_open_io(lua_State *L) {
    static const luaL_Reg metatable[] = {{"__newindex", set_field}, {"__tostring", to_text}, {NULL, NULL}};
    keep_field_names(L);
    us_push_metatable(L, "io", metatable);
    for (unsigned op = 0; op < US_OP_COUNT; op++)
        lua_pushstring(L, us_op_name(op)); /* nil for a number that is none */
    lua_pushcclosure(L, get_field, US_OP_COUNT);
    lua_setfield(L, -2, "__index");
    us_script_of(L)->io_metatable = luaL_ref(L, LUA_REGISTRYINDEX);
}
