/* test() and expect(): declaring tests, and running one. See include/tests.h.
 *
 * A test is a coroutine of a state in which nothing else runs: each method of its disk (disk_lua.c) yields what it
 * asks for, and the driver, no Lua below it, does it and resumes. Where tests are not wanted (keeps_tests is off)
 * test() checks its arguments and keeps nothing, so a device pays nothing for them. */
#include "include/tests.h"
#include "script_state.h"
#include "userdata.h"
#include <string.h>

enum { NAME_MAX_BYTES = 200, SHOWN_MAX = 40 };

/* The items of a test in the list. */
enum { NAME = 1, SETTINGS, FUNCTION, LINE, PARTS = LINE };

/* Its address is the key of the registry's list of tests. */
static const char tests_key;

/* ---- declaring ---- */

/* Pushes the settings in argument 2 as a list of texts "key=value". */
static void push_settings(lua_State *L) {
    lua_newtable(L);
    int list = lua_gettop(L);
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING)
            luaL_error(L, "test: setting %s: names are expected, as in { p = 1 }", us_describe(L, -2));
        int type = lua_type(L, -1);
        if (type != LUA_TSTRING && type != LUA_TNUMBER && type != LUA_TBOOLEAN)
            luaL_error(L, "test: %s = %s: text, a number, true or false is expected", lua_tostring(L, -2),
                us_describe(L, -1));
        const char *value = luaL_tolstring(L, -1, NULL);
        lua_pushfstring(L, "%s=%s", lua_tostring(L, -3), value);
        lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
        lua_pop(L, 2);
    }
}

static void check_name(lua_State *L) {
    size_t length = 0;
    const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &length) : NULL;
    if (length == 0 || length > NAME_MAX_BYTES)
        luaL_error(L, "test: name %s: text of 1 to %d bytes is expected, as in test(\"name\", function(disk) end)",
            us_describe(L, 1), NAME_MAX_BYTES);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ')
            luaL_error(L, "test: the name has a control character; one line of text is expected");
}

static void append_test(lua_State *L) {
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &tests_key) != LUA_TTABLE) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &tests_key);
    }
    int list = lua_gettop(L);
    lua_createtable(L, PARTS, 0);
    lua_pushinteger(L, us_current_line(L));
    lua_rawseti(L, -2, LINE);
    for (int part = NAME; part <= FUNCTION; part++) {
        lua_pushvalue(L, part);
        lua_rawseti(L, -2, part);
    }
    lua_rawseti(L, list, (lua_Integer)lua_rawlen(L, list) + 1);
}

/* test(name, function), test(name, settings, function) */
static int test(lua_State *L) {
    us_require_phase(L, "test", US_PHASE_LOAD);
    check_name(L);
    if (!lua_istable(L, 2)) {
        lua_newtable(L);
        lua_insert(L, 2);
    }
    if (lua_type(L, 3) != LUA_TFUNCTION || lua_gettop(L) != 3)
        return luaL_error(L, "test: a function is expected at the end, as in test(\"name\", function(disk) end); got %s",
            us_describe(L, 3));
    push_settings(L);
    lua_replace(L, 2);
    if (us_script_of(L)->options.keeps_tests)
        append_test(L);
    return 0;
}

size_t us_script_test_count(const struct us_script *script) {
    size_t count = 0;
    if (lua_rawgetp(script->lua, LUA_REGISTRYINDEX, &tests_key) == LUA_TTABLE)
        count = lua_rawlen(script->lua, -1);
    lua_settop(script->lua, 0);
    return count;
}

/* Pushes one part of a test. It and its list stay reachable, so text of it stays valid. */
static void push_part(lua_State *L, size_t index, int part) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &tests_key);
    lua_rawgeti(L, -1, (lua_Integer)index + 1);
    lua_rawgeti(L, -1, part);
}

const char *us_script_test_name(const struct us_script *script, size_t index) {
    push_part(script->lua, index, NAME);
    const char *name = lua_tostring(script->lua, -1);
    lua_settop(script->lua, 0);
    return name;
}

int us_script_test_line(const struct us_script *script, size_t index) {
    push_part(script->lua, index, LINE);
    int line = (int)lua_tointeger(script->lua, -1);
    lua_settop(script->lua, 0);
    return line;
}

const char *us_script_test_setting(const struct us_script *script, size_t index, size_t setting) {
    push_part(script->lua, index, SETTINGS);
    lua_rawgeti(script->lua, -1, (lua_Integer)setting + 1);
    const char *text = lua_tostring(script->lua, -1);
    lua_settop(script->lua, 0);
    return text;
}

/* ---- expect ---- */

static const char *hex(unsigned char byte, char digits[3]) {
    digits[0] = "0123456789abcdef"[byte >> 4];
    digits[1] = "0123456789abcdef"[byte & 15];
    digits[2] = '\0';
    return digits;
}

/* Two texts of which one is too long to be shown. */
static const char *describe_difference(lua_State *L) {
    char digits[2][3];
    size_t actual_length, expected_length, at = 0;
    const unsigned char *actual = (const unsigned char *)lua_tolstring(L, 1, &actual_length);
    const unsigned char *expected = (const unsigned char *)lua_tolstring(L, 2, &expected_length);
    if (actual_length != expected_length)
        return lua_pushfstring(
            L, "expected %I bytes, got %I", (LUAI_UACINT)expected_length, (LUAI_UACINT)actual_length);
    while (actual[at] == expected[at])
        at++;
    return lua_pushfstring(L, "of %I bytes number %I is the first that differs: expected 0x%s, got 0x%s",
        (LUAI_UACINT)actual_length, (LUAI_UACINT)at, hex(expected[at], digits[0]), hex(actual[at], digits[1]));
}

/* expect(actual, expected, what) */
static int expect(lua_State *L) {
    us_require_phase(L, "expect", US_PHASE_TEST);
    if (lua_gettop(L) < 2)
        return luaL_error(L, "expect: what came and what is expected are expected, as in expect(r.errno, \"EIO\")");
    if (lua_rawequal(L, 1, 2))
        return 0;
    lua_settop(L, 3);
    bool both_text = lua_type(L, 1) == LUA_TSTRING && lua_type(L, 2) == LUA_TSTRING;
    const char *text;
    if (both_text && (lua_rawlen(L, 1) > SHOWN_MAX || lua_rawlen(L, 2) > SHOWN_MAX)) {
        text = describe_difference(L);
    } else {
        const char *expected = us_describe(L, 2);
        text = lua_pushfstring(L, "expected %s, got %s", expected, us_describe(L, 1));
    }
    if (lua_type(L, 3) == LUA_TSTRING)
        text = lua_pushfstring(L, "%s: %s", lua_tostring(L, 3), text);
    return luaL_error(L, "%s", text);
}

/* ---- running ---- */

struct beginning {
    size_t index;
    const struct us_test_disk *disk;
};

/* Makes the coroutine of a test, with the test's function and disk on its stack. */
static int begin_test(lua_State *L) {
    const struct beginning *beginning = lua_touserdata(L, 1);
    lua_State *coroutine = lua_newthread(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, coroutine); /* or it would be collected */
    push_part(L, beginning->index, FUNCTION);
    us_push_disk(L, beginning->disk);
    lua_xmove(L, coroutine, 2);
    us_script_of(L)->tests.coroutine = coroutine;
    return 0;
}

/* The error of a test says where it was raised, also where the test did not: error(text, 0), assert(x, "text"). */
static void name_place(struct us_script *script) {
    char text[US_ERROR_MAX];
    size_t length = strlen(script->chunk_name);
    if (strncmp(script->error, script->chunk_name, length) == 0 && script->error[length] == ':')
        return;
    memcpy(text, script->error, sizeof text);
    us_set_error(script, "%s:%d: %s", script->chunk_name, us_current_line(script->tests.coroutine), text);
}

static enum us_status go(struct us_script *script, int arguments) {
    int results;
    enum us_status status = us_resume(script, script->tests.coroutine, arguments, &results);
    if (status == US_RUNTIME)
        name_place(script);
    return status;
}

enum us_status us_script_test_begin(struct us_script *script, size_t index, const struct us_test_disk *disk) {
    struct beginning beginning = {index, disk};
    script->phase = US_PHASE_TEST;
    lua_pushcfunction(script->lua, begin_test);
    lua_pushlightuserdata(script->lua, &beginning);
    enum us_status status = us_run(script, 1, 0);
    lua_settop(script->lua, 0);
    return status == US_OK ? go(script, 1) : status;
}

struct us_test_want us_script_test_wanted(const struct us_script *script) {
    return script->tests.want;
}

enum us_status us_script_test_resume(
    struct us_script *script, const char *refusal, const char *answer, size_t answer_length) {
    script->tests.refusal = refusal;
    script->tests.answer = answer;
    script->tests.answer_length = answer_length;
    return go(script, 0);
}

void us_open_tests(lua_State *L) {
    us_open_disk(L);
    static const struct us_native functions[]
        = {{"test(name, settings, function)", test}, {"expect(actual, expected, what)", expect}, {NULL, NULL}};
    us_register_natives(L, functions);
}
