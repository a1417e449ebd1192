/* What scripts hand to native functions: checking it and saying what is wrong with it.
 *
 * Every function here may raise, so it runs on the script's thread below lua_pcall only. Values are described
 * without calling __tostring: a message about a bad value must not run more of the script. */
#include "script_state.h"
#include "userdata.h"
#include <stdio.h>
#include <string.h>

static const char *kind_name(enum us_kind kind) {
    switch (kind) {
    case US_KIND_IO:
        return "an io";
    case US_KIND_VERDICT:
        return "a verdict";
    case US_KIND_RANGES:
        return "a ranges object";
    case US_KIND_COUNTER:
        return "a counter";
    case US_KIND_DIST:
        return "a distribution";
    case US_KIND_BUCKET:
        return "a bucket";
    case US_KIND_BACKING:
        return "a backing";
    case US_KIND_DICT:
        return "a dict";
    case US_KIND_DISK:
        return "a disk";
    }
    return "an object";
}

enum { SHOWN_MAX = 40 }; /* bytes of a text */

/* In quotes, cut when it is long; control characters, NUL too, as \xNN. */
static const char *quote(lua_State *L, const char *text, size_t length) {
    char shown[4 * SHOWN_MAX + 1];
    size_t at = 0;
    for (size_t i = 0; i < length && i < SHOWN_MAX; i++) {
        unsigned char byte = (unsigned char)text[i];
        if (byte < ' ' || byte == 0x7f)
            at += (size_t)snprintf(shown + at, sizeof shown - at, "\\x%02x", byte);
        else
            shown[at++] = text[i];
    }
    shown[at] = '\0';
    return lua_pushfstring(L, length > SHOWN_MAX ? "\"%s...\"" : "\"%s\"", shown);
}

const char *us_describe(lua_State *L, int index) {
    size_t length;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
    case LUA_TNONE:
        return "nil";
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? "true" : "false";
    case LUA_TNUMBER:
        lua_pushvalue(L, index); /* lua_tolstring changes the value in its place */
        return lua_tostring(L, -1);
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &length);
        return quote(L, text, length);
    case LUA_TUSERDATA:
        return kind_name(*(const enum us_kind *)lua_touserdata(L, index));
    default:
        return lua_pushfstring(L, "a %s", luaL_typename(L, index));
    }
}

bool us_is_text(lua_State *L, int index, const char *text) {
    size_t length = 0;
    const char *given = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &length) : NULL;
    return given != NULL && length == strlen(text) && memcmp(given, text, length) == 0;
}

const char *us_push_choice(lua_State *L, const char *const *words) {
    luaL_Buffer choice;
    luaL_buffinit(L, &choice);
    for (size_t i = 0; words[i] != NULL; i++) {
        luaL_addstring(&choice, i == 0 ? "\"" : words[i + 1] != NULL ? ", \"" : " or \"");
        luaL_addstring(&choice, words[i]);
        luaL_addchar(&choice, '"');
    }
    luaL_pushresult(&choice);
    return lua_tostring(L, -1);
}

const char *us_check_name(lua_State *L, int index, const char *function, size_t *length) {
    char flaw[US_NAME_FLAW_MAX];
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, length) : NULL;
    if (name == NULL)
        luaL_error(L, "%s: bad name %s: " US_NAME_RULE " is expected", function, us_describe(L, index));
    else if (us_objects.unit.name_flaw(name, *length, flaw))
        luaL_error(
            L, "%s: bad name %s (%s): " US_NAME_RULE " is expected", function, us_describe(L, index), flaw);
    return name;
}

/* A whole number from 0 to 2^63 - 1, whichever way Lua keeps it. */
static bool whole_number(lua_State *L, int index, uint64_t *value) {
    int whole;
    lua_Integer number = lua_tointegerx(L, index, &whole);
    *value = (uint64_t)number;
    return whole && number >= 0;
}

uint64_t us_check_bytes(lua_State *L, int index, const char *what) {
    uint64_t value;
    int type = lua_type(L, index);
    if (type == LUA_TNUMBER && whole_number(L, index, &value))
        return value;
    if (type == LUA_TSTRING) {
        size_t length;
        const char *text = lua_tolstring(L, index, &length);
        if (us_objects.unit.bytes(text, length, &value))
            return value;
    }
    luaL_error(L, "bad %s %s: a number of bytes or text such as \"4K\", \"1M\", \"2G\", \"8s\" (sectors) is expected",
        what, us_describe(L, index));
    return 0;
}

uint64_t us_check_time(lua_State *L, int index) {
    uint64_t value;
    if (lua_type(L, index) == LUA_TSTRING) {
        size_t length;
        const char *text = lua_tolstring(L, index, &length);
        if (us_objects.unit.time(text, length, &value))
            return value;
    } else if (lua_type(L, index) == LUA_TNUMBER) {
        if (whole_number(L, index, &value))
            return value;
        lua_Number number = lua_tonumber(L, index);
        if (number >= 0 && number < 0x1p62) /* NaN compares false */
            return (uint64_t)(number + 0.5);
    }
    luaL_error(L,
        "bad time %s: a number of nanoseconds such as 50*ms or text such as \"50ms\", \"1.5s\", \"2min\" is expected",
        us_describe(L, index));
    return 0;
}

static const char *phase_name(enum us_phase phase) {
    switch (phase) {
    case US_PHASE_LOAD:
        return "load";
    case US_PHASE_IO:
        return "io";
    case US_PHASE_CTL:
        return "ctl";
    case US_PHASE_TIMER:
        return "timer";
    case US_PHASE_TEST:
        return "test";
    }
    return "?";
}

void us_require_phase(lua_State *L, const char *function, unsigned phases) {
    enum us_phase phase = us_script_of(L)->phase;
    if ((phases & phase) == 0)
        luaL_error(L, "%s is not available in the %s phase", function, phase_name(phase));
}

bool us_has_happened(lua_State *L) {
    const struct us_script *script = us_script_of(L);
    return script->options.goes_on && script->phase == US_PHASE_LOAD;
}

/* __newindex of every object that has none of its own. */
static int refuse_field(lua_State *L) {
    return luaL_error(L, "the fields of %s cannot be assigned to: %s", us_describe(L, 1), us_describe(L, 2));
}

void us_push_metatable(lua_State *L, const char *name, const luaL_Reg *functions) {
    lua_newtable(L);
    lua_pushcfunction(L, refuse_field);
    lua_setfield(L, -2, "__newindex");
    luaL_setfuncs(L, functions, 0);
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__name"); /* what luaL_tolstring and Lua's own messages call it */
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
}
