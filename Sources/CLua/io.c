/* io: one IO as a script sees it.
 *
 * One object per tag, made when the queue binds its us_io and used again for every IO of that tag. It only points
 * to the us_io, so reading a field costs no copy and a script that keeps the object past the end of the IO is
 * told so (`live`) instead of reading the next one's fields. Field names are found by the address of the string:
 * Lua keeps one copy of each short string, and the registry keeps ours alive. */
#include "script_state.h"
#include "userdata.h"
#include <stdlib.h>
#include <string.h>

enum { METHOD_COUNT = US_IO_NAME_COUNT - US_IO_FIELD_COUNT };

#define FLAG(constant, word, bits) constant,
/* The commonest first: a name is looked for from the front. */
enum field { OP, OFFSET, LENGTH, US_IO_FLAGS(FLAG) SEQ, TAG, QUEUE };
#undef FLAG
#define FLAG(constant, word, bits) [constant] = word,
static const char *const field_names[US_IO_FIELD_COUNT] = {
    [OP] = "op",
    [OFFSET] = "offset",
    [LENGTH] = "length",
    US_IO_FLAGS(FLAG)
    [SEQ] = "seq",
    [TAG] = "tag",
    [QUEUE] = "queue",
};
#undef FLAG
_Static_assert(QUEUE + 1 == US_IO_FIELD_COUNT, "each field has a name");

/* ---- fields ---- */

static int refuse_field(lua_State *L) {
#define FLAG(constant, word, bits) " " word
    return luaL_error(L,
        "io has no field %s; it has op offset length" US_IO_FLAGS(FLAG) " queue tag seq, and the methods "
        "byte u16 u32 u64 data hash flip patch",
        us_describe(L, 2));
#undef FLAG
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
#define FLAG(constant, word, bits) \
    case constant:                 \
        return push_flag(L, io, bits);
        US_IO_FLAGS(FLAG)
#undef FLAG
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
 * the names of the operations, then the methods. */
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
        for (int method = 0; method < METHOD_COUNT; method++)
            if (script->io_field[US_IO_FIELD_COUNT + method] == name) {
                lua_pushvalue(L, lua_upvalueindex(1 + US_OP_COUNT + method));
                return 1;
            }
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
    if (tag < script->tag_count)
        return true;
    size_t count = script->tag_count * 2 > tag + 1u ? script->tag_count * 2 : tag + 1u;
    struct us_tag *more = realloc(script->tags, count * sizeof *more);
    if (more == NULL)
        return false;
    for (size_t i = script->tag_count; i < count; i++)
        more[i] = (struct us_tag){.reference = LUA_NOREF};
    script->tags = more;
    script->tag_count = count;
    return true;
}

/* Below lua_pcall; its argument is the us_tag that gets the object. */
static int make_object(lua_State *L) {
    struct us_tag *tag = lua_touserdata(L, 1);
    struct us_io_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    object->kind = US_KIND_IO;
    object->io = NULL;
    lua_rawgeti(L, LUA_REGISTRYINDEX, us_script_of(L)->io_metatable);
    lua_setmetatable(L, -2);
    tag->reference = luaL_ref(L, LUA_REGISTRYINDEX);
    tag->object = object;
    return 0;
}

bool us_script_bind_io(
    struct us_script *script, uint16_t number, struct us_io *io, void *data, struct us_patches *patches) {
    lua_State *L = script->lua;
    if (number >= US_TAG_COUNT || !make_room(script, number))
        return false;
    struct us_tag *tag = &script->tags[number];
    if (tag->reference == LUA_NOREF) {
        lua_pushcfunction(L, make_object);
        lua_pushlightuserdata(L, tag);
        bool made = lua_pcall(L, 1, 0, 0) == LUA_OK;
        lua_settop(L, 0);
        if (!made)
            return false;
    }
    tag->object->io = io;
    tag->object->data = data;
    tag->object->patches = patches;
    return true;
}

void us_script_set_puller(struct us_script *script, struct us_puller puller) {
    script->puller = puller;
}

/* ---- set-up ---- */

static void keep_field_names(lua_State *L) {
    struct us_script *script = us_script_of(L);
    for (int field = 0; field < US_IO_NAME_COUNT; field++) {
        script->io_field[field] = field < US_IO_FIELD_COUNT
            ? lua_pushstring(L, field_names[field])
            : us_push_native_name(L, &us_io_methods[field - US_IO_FIELD_COUNT]);
        luaL_ref(L, LUA_REGISTRYINDEX);
    }
}

void us_open_io(lua_State *L) {
    static const luaL_Reg metatable[] = {{"__newindex", set_field}, {"__tostring", to_text}, {NULL, NULL}};
    keep_field_names(L);
    us_push_metatable(L, "io", metatable);
    for (unsigned op = 0; op < US_OP_COUNT; op++)
        lua_pushstring(L, us_op_name(op)); /* nil for a number that is none */
    for (int method = 0; method < METHOD_COUNT; method++)
        us_push_native(L, &us_io_methods[method], US_METHOD, 0);
    lua_pushcclosure(L, get_field, US_OP_COUNT + METHOD_COUNT);
    lua_setfield(L, -2, "__index");
    us_script_of(L)->io_metatable = luaL_ref(L, LUA_REGISTRYINDEX);
}
