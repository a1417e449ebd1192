/* The ctl phase: from words to an answer. Owner: the queue's thread, between two IOs. */
#include "script_state.h"
#include <stdlib.h>
#include <string.h>

enum { RESULT_MAX = 64 * 1024 };

struct ctl_call {
    size_t argc;
    const char *const *argv;
};

static void append(struct us_script *script, const char *text, size_t length) {
    size_t room = RESULT_MAX - script->result_length;
    if (length > room)
        length = room;
    memcpy(script->result + script->result_length, text, length);
    script->result_length += length;
    script->result[script->result_length] = '\0';
}

/* The whole of a ctl call, results to text included: __tostring is script code too. */
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
    for (int i = 1; i <= results; i++) {
        size_t length;
        const char *text = luaL_tolstring(L, i, &length);
        if (i > 1)
            append(script, "\t", 1);
        append(script, text, length);
        lua_pop(L, 1);
    }
    return 0;
}

enum us_status us_script_ctl(
    struct us_script *script, size_t argc, const char *const *argv, const char **result, size_t *result_length) {
    if (script->ctl == LUA_NOREF) {
        us_set_error(script, "the script has no ctl function");
        return US_RUNTIME;
    }
    if (script->result == NULL && (script->result = malloc(RESULT_MAX + 1)) == NULL)
        return us_fail_memory(script);
    script->result[0] = '\0';
    script->result_length = 0;
    struct ctl_call call = {argc, argv};
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
