/* The ctl phase: from words to an answer. Owner: the queue's thread, between two IOs.
 *
 * The answer is text, values separated by tabs, or a JSON array of them. A table is written as JSON in either: its
 * content, keys in order, without asking metamethods. */
#include "script_state.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULT_MAX = 64 * 1024, DEPTH_MAX = 16 };

struct ctl_call {
    size_t argc;
    const char *const *argv;
    bool as_json;
};

static void append(lua_State *L, const char *text, size_t length) {
    struct us_script *script = us_script_of(L);
    if (length > RESULT_MAX - script->result_length)
        luaL_error(L, "ctl: the answer is longer than %d KiB", RESULT_MAX / 1024);
    memcpy(script->result + script->result_length, text, length);
    script->result_length += length;
    script->result[script->result_length] = '\0';
}

static void append_text(lua_State *L, const char *text) {
    append(L, text, strlen(text));
}

/* ---- JSON ---- */

static void append_quoted(lua_State *L, const char *text, size_t length) {
    append(L, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        size_t bytes = us_objects.unit.utf8_length(text + i, length - i);
        char escaped[8];
        if (c == '"' || c == '\\') {
            snprintf(escaped, sizeof escaped, "\\%c", c);
            append_text(L, escaped);
        } else if (c < ' ' || c == 0x7f) {
            snprintf(escaped, sizeof escaped, "\\u%04x", c);
            append_text(L, escaped);
        } else if (bytes == 0) {
            append_text(L, "\\ufffd"); /* bytes that are no text */
        } else {
            append(L, text + i, bytes);
        }
        i += bytes == 0 ? 1 : bytes;
    }
    append(L, "\"", 1);
}

static void append_number(lua_State *L, int index) {
    char text[64];
    if (lua_isinteger(L, index)) {
        snprintf(text, sizeof text, LUA_INTEGER_FMT, lua_tointeger(L, index));
    } else {
        lua_Number number = lua_tonumber(L, index);
        if (isfinite(number))
            snprintf(text, sizeof text, LUA_NUMBER_FMT, number);
        else
            snprintf(text, sizeof text, "null"); /* JSON has no other word for it */
    }
    append_text(L, text);
}

static void append_value(lua_State *L, int index, int depth);

/* A key of a table, as JSON spells it, and its place in the list of keys. */
struct key {
    const char *text;
    size_t length;
    lua_Integer at;
};

static int compare_keys(const void *a, const void *b) {
    const struct key *x = a, *y = b;
    int order = memcmp(x->text, y->text, x->length < y->length ? x->length : y->length);
    return order != 0 ? order : (x->length > y->length) - (x->length < y->length);
}

static void append_object(lua_State *L, int table, lua_Integer count, int depth) {
    struct key *keys = lua_newuserdatauv(L, (size_t)count * sizeof *keys, 0);
    lua_createtable(L, (int)count, 0); /* the keys */
    lua_createtable(L, (int)count, 0); /* their text, kept while it is looked at */
    int names = lua_gettop(L), originals = names - 1;
    lua_Integer found = 0;
    lua_pushnil(L);
    while (found < count && lua_next(L, table)) {
        lua_pop(L, 1);
        keys[found].at = found + 1;
        lua_pushvalue(L, -1);
        lua_rawseti(L, originals, found + 1);
        keys[found].text = luaL_tolstring(L, -1, &keys[found].length);
        lua_rawseti(L, names, found + 1);
        found++;
    }
    lua_settop(L, names);
    qsort(keys, (size_t)found, sizeof *keys, compare_keys);
    append(L, "{", 1);
    for (lua_Integer i = 0; i < found; i++) {
        if (i > 0)
            append(L, ",", 1);
        append_quoted(L, keys[i].text, keys[i].length);
        append(L, ":", 1);
        lua_rawgeti(L, originals, keys[i].at);
        lua_rawget(L, table);
        append_value(L, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
    }
    append(L, "}", 1);
    lua_settop(L, names - 3);
}

static void append_table(lua_State *L, int table, int depth) {
    if (depth > DEPTH_MAX)
        luaL_error(L, "ctl: tables are in each other, or nest more than %d deep", DEPTH_MAX);
    luaL_checkstack(L, LUA_MINSTACK, "tables nest too deep");
    lua_Integer count = 0, length = (lua_Integer)lua_rawlen(L, table);
    lua_pushnil(L);
    while (lua_next(L, table)) {
        lua_pop(L, 1);
        if (++count > RESULT_MAX)
            luaL_error(L, "ctl: the answer is longer than %d KiB", RESULT_MAX / 1024);
    }
    if (count == 0 || count != length) {
        append_object(L, table, count, depth);
        return;
    }
    append(L, "[", 1);
    for (lua_Integer i = 1; i <= length; i++) {
        if (i > 1)
            append(L, ",", 1);
        lua_rawgeti(L, table, i);
        append_value(L, lua_gettop(L), depth + 1);
        lua_pop(L, 1);
    }
    append(L, "]", 1);
}

static bool is_plain_table(lua_State *L, int index) {
    if (!lua_istable(L, index))
        return false;
    if (luaL_getmetafield(L, index, "__tostring") == LUA_TNIL)
        return true;
    lua_pop(L, 1); /* an object with __tostring is shown as that */
    return false;
}

static void append_value(lua_State *L, int index, int depth) {
    switch (lua_type(L, index)) {
    case LUA_TNIL: append_text(L, "null"); return;
    case LUA_TBOOLEAN: append_text(L, lua_toboolean(L, index) ? "true" : "false"); return;
    case LUA_TNUMBER: append_number(L, index); return;
    default: break;
    }
    if (is_plain_table(L, index)) {
        append_table(L, index, depth);
        return;
    }
    size_t length;
    const char *text = luaL_tolstring(L, index, &length);
    append_quoted(L, text, length);
    lua_pop(L, 1);
}

/* ---- the call ---- */

static void append_as_text(lua_State *L, int index) {
    if (is_plain_table(L, index)) {
        append_table(L, index, 0);
        return;
    }
    size_t length;
    const char *text = luaL_tolstring(L, index, &length);
    append(L, text, length);
    lua_pop(L, 1);
}

/* A whole ctl call below lua_pcall, results to text included, as __tostring is script code, too. */
static int call_ctl(lua_State *L) {
    struct us_script *script = us_script_of(L);
    const struct ctl_call *call = lua_touserdata(L, 1);
    lua_settop(L, 0);
    if (call->argc > 1000)
        return luaL_error(L, "ctl takes at most 1000 words");
    luaL_checkstack(L, (int)call->argc + LUA_MINSTACK, "too many words");
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->ctl);
    for (size_t i = 0; i < call->argc; i++)
        lua_pushstring(L, call->argv[i]);
    lua_call(L, (int)call->argc, LUA_MULTRET);
    luaL_checkstack(L, LUA_MINSTACK, "too many results");
    int results = lua_gettop(L);
    if (call->as_json)
        append(L, "[", 1);
    for (int i = 1; i <= results; i++) {
        if (i > 1)
            append(L, call->as_json ? "," : "\t", 1);
        if (call->as_json)
            append_value(L, i, 0);
        else
            append_as_text(L, i);
    }
    if (call->as_json)
        append(L, "]", 1);
    return 0;
}

enum us_status us_script_ctl(struct us_script *script, size_t argc, const char *const *argv, bool as_json,
    const char **result, size_t *result_length) {
    if (script->ctl == LUA_NOREF) {
        us_set_error(script, "the script has no ctl function");
        return US_RUNTIME;
    }
    if (script->result == NULL && (script->result = malloc(RESULT_MAX + 1)) == NULL)
        return us_fail_memory(script);
    script->result[0] = '\0';
    script->result_length = 0;
    struct ctl_call call = {argc, argv, as_json};
    script->phase = US_PHASE_CTL;
    lua_pushcfunction(script->lua, call_ctl);
    lua_pushlightuserdata(script->lua, &call);
    enum us_status status = us_run(script, 1, 0);
    script->phase = US_PHASE_IO;
    lua_settop(script->lua, 0);
    if (status == US_OK) {
        *result = script->result;
        *result_length = script->result_length;
    }
    return status;
}
