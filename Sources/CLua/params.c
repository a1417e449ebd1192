/* params{}: what a script lets the command line say, with the defaults. And what it says about device{}.
 *
 * Load phase only, once. The command line's key=value are kept as text in the registry before the script is
 * loaded; a value becomes what its default is: a number, a boolean or text. Keys that no parameter has are refused
 * in Swift, which also knows the keys of device{} and keeps the two apart. */
#include "script_state.h"
#include <ctype.h>
#include <math.h>
#include <string.h>

/* Their addresses are the keys of two tables in the registry: arguments for params{}, and for device{}. */
static const char arguments_key, settings_key;

/* ---- the command line's side ---- */

struct argument {
    const char *key, *value;
    const void *table;
};

static int keep_argument(lua_State *L) {
    const struct argument *argument = lua_touserdata(L, 1);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, argument->table) != LUA_TTABLE) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, argument->table);
    }
    lua_pushstring(L, argument->value);
    lua_setfield(L, -2, argument->key);
    return 0;
}

bool us_script_set_argument(struct us_script *script, const char *key, const char *value, bool is_of_device) {
    lua_State *L = script->lua;
    struct argument argument = {key, value, is_of_device ? &settings_key : &arguments_key};
    lua_pushcfunction(L, keep_argument);
    lua_pushlightuserdata(L, &argument);
    bool kept = lua_pcall(L, 1, 0, 0) == LUA_OK;
    lua_settop(L, 0);
    return kept;
}

/* ---- the script's side ---- */

static void check_parameter(lua_State *L, const struct us_field *field) {
    bool is_name = field->key[0] != '\0';
    for (const char *c = field->key; *c != '\0'; c++)
        is_name = is_name && (isalnum((unsigned char)*c) || *c == '_');
    if (!is_name)
        luaL_error(
            L, "params: bad name \"%s\": letters, digits and _ are expected, as in params { p = 0.5 }", field->key);
    switch (field->type) {
    case US_FIELD_BOOL:
    case US_FIELD_INTEGER:
    case US_FIELD_NUMBER:
    case US_FIELD_STRING:
        return;
    default:
        luaL_error(L, "params: the default of %s is a number, true, false or text", field->key);
    }
}

/* The value on top of the stack, text of the command line, becomes what the default is. */
static void convert(lua_State *L, const struct us_field *field) {
    const char *text = lua_tostring(L, -1);
    switch (field->type) {
    case US_FIELD_BOOL:
        if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0)
            luaL_error(L, "params: %s = %s: true or false is expected", field->key, us_describe(L, -1));
        lua_pushboolean(L, strcmp(text, "true") == 0);
        break;
    case US_FIELD_INTEGER:
    case US_FIELD_NUMBER:
        if (lua_stringtonumber(L, text) != strlen(text) + 1 || !isfinite(lua_tonumber(L, -1))) {
            lua_pushstring(L, text);
            luaL_error(L, "params: %s = %s: a number is expected", field->key, us_describe(L, -1));
        }
        break;
    default:
        return;
    }
    lua_replace(L, -2);
}

static int params(lua_State *L) {
    struct us_script *script = us_script_of(L);
    struct us_declaration declaration = us_read_declaration(L, "params", US_DECLARES_PARAMS);
    if (script->params_line != 0)
        return luaL_error(L, "params: they are declared already, on line %d", script->params_line);
    for (size_t i = 0; i < declaration.field_count; i++)
        check_parameter(L, &declaration.fields[i]);
    lua_newtable(L);
    bool has_arguments = lua_rawgetp(L, LUA_REGISTRYINDEX, &arguments_key) == LUA_TTABLE;
    for (size_t i = 0; i < declaration.field_count; i++) {
        const struct us_field *field = &declaration.fields[i];
        if (has_arguments && lua_getfield(L, -1, field->key) == LUA_TSTRING)
            convert(L, field);
        else
            lua_getfield(L, 1, field->key);
        lua_setfield(L, 2, field->key);
        lua_settop(L, 3);
    }
    us_append_declaration(L, &declaration);
    script->params_line = declaration.line;
    lua_settop(L, 2);
    return 1;
}

static void copy_fields(lua_State *L, int from, int to) {
    lua_pushnil(L);
    while (lua_next(L, from) != 0) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, to);
    }
}

void us_push_settings(lua_State *L, int table) {
    lua_newtable(L);
    int settings = lua_gettop(L);
    copy_fields(L, table, settings);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &settings_key) == LUA_TTABLE)
        copy_fields(L, settings + 1, settings);
    lua_settop(L, settings);
}

void us_open_params(lua_State *L) {
    static const struct us_native function = {"params{...}", params};
    us_register_native(L, &function, 0);
}
