/* dict(): shared tables as objects of a script. Made in the load phase, used in any. */
#include "script_state.h"
#include "userdata.h"
#include <string.h>

static struct us_dict *check_dict(lua_State *L) {
    const struct us_dict_object *object = us_object_at(L, 1, US_KIND_DICT);
    if (object == NULL)
        luaL_error(L, "a dict is expected before the colon, as in d:get(key); got %s", us_describe(L, 1));
    return object->dict;
}

static void check_length(lua_State *L, const char *what, size_t length) {
    if (length > US_DICT_TEXT_MAX)
        luaL_error(L, "dict: a %s of %I bytes; at most %d", what, (LUAI_UACINT)length, US_DICT_TEXT_MAX);
}

static struct us_value check_key(lua_State *L) {
    struct us_value key = {.type = US_VALUE_INTEGER};
    if (lua_type(L, 2) == LUA_TSTRING) {
        key.type = US_VALUE_TEXT;
        key.text = lua_tolstring(L, 2, &key.length);
        check_length(L, "key", key.length);
    } else if (lua_isinteger(L, 2)) {
        key.integer = lua_tointeger(L, 2);
    } else {
        luaL_error(L, "dict: bad key %s: text or a whole number is expected", us_describe(L, 2));
    }
    return key;
}

static struct us_value check_value(lua_State *L) {
    struct us_value value = {.type = US_VALUE_NONE};
    switch (lua_type(L, 3)) {
    case LUA_TNIL:
    case LUA_TNONE:
        break;
    case LUA_TBOOLEAN:
        value.type = US_VALUE_BOOL;
        value.integer = lua_toboolean(L, 3);
        break;
    case LUA_TNUMBER:
        value.type = lua_isinteger(L, 3) ? US_VALUE_INTEGER : US_VALUE_NUMBER;
        value.integer = lua_tointeger(L, 3);
        value.number = lua_tonumber(L, 3);
        break;
    case LUA_TSTRING:
        value.type = US_VALUE_TEXT;
        value.text = lua_tolstring(L, 3, &value.length);
        check_length(L, "value", value.length);
        break;
    default:
        luaL_error(L, "dict: bad value %s: nil, true, false, a number or text is expected", us_describe(L, 3));
    }
    return value;
}

static int get(lua_State *L) {
    char text[US_DICT_TEXT_MAX];
    struct us_value value, key;
    struct us_dict *dict = check_dict(L);
    key = check_key(L);
    if (!us_objects.dict.get(dict, &key, &value, text)) {
        lua_pushnil(L);
        return 1;
    }
    switch (value.type) {
    case US_VALUE_BOOL:
        lua_pushboolean(L, value.integer != 0);
        break;
    case US_VALUE_INTEGER:
        lua_pushinteger(L, value.integer);
        break;
    case US_VALUE_NUMBER:
        lua_pushnumber(L, value.number);
        break;
    default:
        lua_pushlstring(L, value.text, value.length);
    }
    return 1;
}

static int refuse_memory(lua_State *L) {
    return luaL_error(L, "dict: out of memory; all dicts of a device hold at most %d MiB", US_DICT_BYTES_MAX >> 20);
}

static int set(lua_State *L) {
    struct us_dict *dict = check_dict(L);
    struct us_value key = check_key(L), value = check_value(L);
    return us_objects.dict.set(dict, &key, &value) ? 0 : refuse_memory(L);
}

static int add(lua_State *L) {
    struct us_dict *dict = check_dict(L);
    struct us_value key = check_key(L), old;
    char text[US_DICT_TEXT_MAX];
    int64_t sum;
    if (us_objects.dict.add(dict, &key, luaL_optinteger(L, 3, 1), &sum)) {
        lua_pushinteger(L, sum);
        return 1;
    }
    if (us_objects.dict.get(dict, &key, &old, text) && old.type != US_VALUE_INTEGER)
        return luaL_error(L, "dict: add to %s, which holds no whole number", us_describe(L, 2));
    return refuse_memory(L);
}

static int count(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)us_objects.dict.count(check_dict(L)));
    return 1;
}

static int clear(lua_State *L) {
    us_objects.dict.clear(check_dict(L));
    return 0;
}

static int dict(lua_State *L) {
    size_t length = 0;
    us_require_phase(L, "dict", US_PHASE_LOAD);
    const char *name = us_check_name(L, 1, "dict", &length);
    struct us_dict *made = us_objects.dict.named(us_script_of(L)->options.shared, name, length);
    if (made == NULL)
        return luaL_error(L, "dict: out of memory, or too many tables");
    struct us_dict_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    object->kind = US_KIND_DICT;
    object->dict = made;
    lua_pushvalue(L, us_own_upvalue(1));
    lua_setmetatable(L, -2);
    return 1;
}

void us_open_dict(lua_State *L) {
    static const struct us_native methods[] = {{"dict:get(key)", get}, {"dict:set(key, value)", set},
        {"dict:add(key, number)", add}, {"dict:count()", count}, {"dict:clear()", clear}, {NULL, NULL}};
    static const struct us_native function = {"dict(name)", dict};
    static const luaL_Reg metatable[] = {{"__len", count}, {NULL, NULL}};
    us_push_metatable(L, "dict", metatable);
    lua_newtable(L);
    us_set_natives(L, methods, US_METHOD);
    lua_setfield(L, -2, "__index");
    us_register_native(L, &function, 1);
}
