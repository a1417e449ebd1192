/* The functions that a script can call, with their signatures.
 *
 * A signature is what messages show, and says what the function is called and how many arguments it takes:
 * "ranges:add(offset, length)", "now()", "log(...)" with any number, "rule{...}" with one. What a script gives beyond
 * that it meant to matter, so it is refused, here and for all of them, as an unknown key of a table is. */
#include "natives.h"
#include <limits.h>
#include <string.h>

/* The first upvalue of a native; its own are behind it (us_own_upvalue). One, as each call reads it. */
struct bound {
    const struct us_native *native;
    int most; /* values on the stack */
};
enum { BOUND = US_NATIVE_UPVALUES };

/* How many arguments a signature has. */
static int count_arguments(const char *signature) {
    const char *open = strpbrk(signature, "({");
    if (*open == '{')
        return 1;
    if (open[1] == ')')
        return 0;
    if (strstr(open, "...") != NULL)
        return INT_MAX;
    int count = 1;
    for (; *open != ')'; open++)
        count += *open == ',';
    return count;
}

/* Raises when there is more than nil behind the last argument. */
static void __attribute__((noinline, cold)) check_rest(lua_State *L, const struct us_native *native, int most) {
    int objects = most - count_arguments(native->signature);
    for (int index = most + 1; index <= lua_gettop(L); index++)
        if (!lua_isnil(L, index))
            luaL_error(L, "%s: argument %d is of no use: %s", native->signature, index - objects, us_describe(L, index));
    lua_settop(L, most);
}

static int call(lua_State *L) {
    const struct bound *bound = lua_touserdata(L, lua_upvalueindex(BOUND));
    if (__builtin_expect(lua_gettop(L) > bound->most, 0))
        check_rest(L, bound->native, bound->most);
    return bound->native->function(L);
}

void us_push_native(lua_State *L, const struct us_native *native, enum us_native_kind kind, int own) {
    int count = count_arguments(native->signature);
    struct bound *bound = lua_newuserdatauv(L, sizeof *bound, 0);
    bound->native = native;
    bound->most = count < INT_MAX && kind == US_METHOD ? count + 1 : count;
    lua_insert(L, -1 - own);
    lua_pushcclosure(L, call, BOUND + own);
}

const char *us_push_native_name(lua_State *L, const struct us_native *native) {
    const char *end = strpbrk(native->signature, "({"), *name = end;
    while (name > native->signature && strchr(".:", name[-1]) == NULL)
        name--;
    return lua_pushlstring(L, name, (size_t)(end - name));
}

void us_set_native(lua_State *L, int table, const struct us_native *native, enum us_native_kind kind, int own) {
    us_push_native(L, native, kind, own);
    us_push_native_name(L, native);
    lua_insert(L, -2);
    lua_rawset(L, table);
}

void us_set_natives(lua_State *L, const struct us_native *list, enum us_native_kind kind) {
    for (int table = lua_gettop(L); list->signature != NULL; list++)
        us_set_native(L, table, list, kind, 0);
}

void us_register_natives(lua_State *L, const struct us_native *list) {
    lua_pushglobaltable(L);
    us_set_natives(L, list, US_FUNCTION);
    lua_pop(L, 1);
}

void us_register_native(lua_State *L, const struct us_native *native, int own) {
    lua_pushglobaltable(L);
    lua_insert(L, -1 - own);
    us_set_native(L, lua_gettop(L) - own, native, US_FUNCTION, own);
    lua_pop(L, 1);
}
