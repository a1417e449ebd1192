/* What a script can see: an allow-list of Lua's own globals, and the guards that keep it one.
 *
 * Left out is what reaches outside (io, os, package, load ...), and what could outlive a kill: xpcall and
 * __gc run code with hooks off, a coroutine has its own hook. Metatables of ours and of strings are protected.
 * A few library functions loop in C without an end in sight when they are told a huge count; hooks do not reach
 * them, so they are wrapped by ones that refuse counts no script can mean. Set up once, per state. */
#define _GNU_SOURCE /* memmem */
#include "script_state.h"
#include <string.h>

enum { PCALLS_MAX = 100 };

/* Elements that a library function may fetch or store through metatables: each may be 2000 tables in a row. */
enum { CHAINED_MAX = 10000 };

/* More elements than any memory limit in practice holds: a table slot takes 16 bytes. */
#define ELEMENTS_MAX ((lua_Integer)1 << 26)

static const char *const allowed_globals[] = {"_G", "_VERSION", "assert", "error", "getmetatable", "ipairs", "next",
    "pairs", "pcall", "rawequal", "rawget", "rawlen", "rawset", "select", "tonumber", "tostring", "type", NULL};

static bool is_listed(const char *const *list, const char *name) {
    for (; *list != NULL; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

/* ---- guards ---- */

static int guarded_setmetatable(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "setmetatable: the metatable is protected");
    lua_settop(L, 2);
    if (lua_istable(L, 2)) {
        /* Looking now is enough: Lua marks an object for finalization when the metatable is set, or never. */
        lua_pushliteral(L, "__gc");
        if (lua_rawget(L, 2) != LUA_TNIL)
            return luaL_error(L, "setmetatable: __gc is not available");
        lua_settop(L, 2);
    }
    lua_setmetatable(L, 1);
    return 1;
}

/* Goes on as the original, the first upvalue, in the guard's own frame: so its messages name the right function
 * and line. The library functions that are guarded have no upvalues of their own. */
static int call_original(lua_State *L) {
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* string.rep of nothing, a billion times, is nothing. */
static int guarded_rep(lua_State *L) {
    size_t length, separator = 0;
    luaL_checklstring(L, 1, &length);
    luaL_optlstring(L, 3, "", &separator);
    if (length + separator == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    return call_original(L);
}

/* Functions over the elements 1 to #t: __len may claim any number of them. */
static int guarded_by_length(lua_State *L) {
    if (lua_type(L, 1) == LUA_TTABLE && luaL_getmetafield(L, 1, "__len") != LUA_TNIL)
        return luaL_error(L, "table functions do not take a table with __len");
    return call_original(L);
}

static void check_span(lua_State *L, int first, int last) {
    lua_Integer from = luaL_optinteger(L, first, 1);
    lua_Integer to = lua_isnoneornil(L, last) ? 0 : luaL_checkinteger(L, last);
    /* Unsigned, so that it cannot overflow; what it says about an empty span does not matter. */
    if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from > (lua_Unsigned)ELEMENTS_MAX)
        luaL_error(L, "too many elements");
}

/* How many elements a library function looks for from argument `first` to argument `last`, if the table at that index
 * does not hold all of them itself. */
static void check_chain(lua_State *L, int table, int first, int last, const char *event) {
    if (lua_type(L, table) != LUA_TTABLE)
        return;
    int kind = luaL_getmetafield(L, table, event);
    if (kind == LUA_TNIL)
        return;
    lua_pop(L, 1);
    if (kind == LUA_TFUNCTION) /* a call, which hooks see */
        return;
    lua_Integer from = luaL_optinteger(L, first, 1);
    lua_Integer to = lua_isnoneornil(L, last) ? (lua_Integer)lua_rawlen(L, table) : luaL_checkinteger(L, last);
    if (to >= from && (lua_Unsigned)to - (lua_Unsigned)from >= (lua_Unsigned)CHAINED_MAX)
        luaL_error(L, "too many elements of a table with %s: %d at a time", event, CHAINED_MAX);
}

static int guarded_concat(lua_State *L) {
    check_span(L, 3, 4);
    check_chain(L, 1, 3, 4, "__index");
    return guarded_by_length(L);
}

static int guarded_unpack(lua_State *L) {
    check_chain(L, 1, 2, 3, "__index");
    return guarded_by_length(L);
}

static int guarded_move(lua_State *L) {
    check_span(L, 2, 3);
    check_chain(L, 1, 2, 3, "__index");
    check_chain(L, lua_istable(L, 5) ? 5 : 1, 2, 3, "__newindex");
    return call_original(L);
}

static int is_less(lua_State *L) {
    lua_pushboolean(L, lua_compare(L, 1, 2, LUA_OPLT));
    return 1;
}

/* The comparison is a call, so that hooks can end a sort of long strings. */
static int guarded_sort(lua_State *L) {
    if (lua_istable(L, 1) && lua_isnoneornil(L, 2)) {
        lua_settop(L, 1);
        lua_pushcfunction(L, is_less);
    }
    return guarded_by_length(L);
}

/* Where `text` has a character that means something in a pattern. */
static bool is_pattern(const char *text, size_t length) {
    for (size_t i = 0; i < length; i++)
        if (text[i] != '\0' && strchr("^$*+?.([%-", text[i]) != NULL)
            return true;
    return false;
}

/* A search for plain text takes time in proportion to both, not to their product. */
static int guarded_find(lua_State *L) {
    size_t length, sought;
    const char *text = luaL_checklstring(L, 1, &length), *what = luaL_checklstring(L, 2, &sought);
    if (!lua_toboolean(L, 4) && is_pattern(what, sought))
        return call_original(L);
    lua_Integer start = luaL_optinteger(L, 3, 1);
    if (start < 0)
        start = (lua_Unsigned)-start > length ? 1 : (lua_Integer)length + start + 1;
    if (start == 0)
        start = 1;
    const char *found = NULL;
    if ((lua_Unsigned)start <= length + 1)
        found = memmem(text + start - 1, length - (size_t)start + 1, what, sought);
    if (found == NULL) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, found - text + 1);
    lua_pushinteger(L, found - text + (lua_Integer)sought);
    return 2;
}

/* Ends a pcall, at once or after a read of the handler's. */
static int finish_pcall(lua_State *L, int status, lua_KContext depth) {
    us_script_of(L)->pcall_depth = (unsigned)depth;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L);
    lua_pushboolean(L, false);
    lua_pushvalue(L, -2);
    return 2;
}

/* In a coroutine Lua itself bounds how deep pcalls nest by memory only. A kill is caught by each of them, and each
 * catch looks at the whole stack, so thousands would take seconds to be stopped. */
static int guarded_pcall(lua_State *L) {
    struct us_script *script = us_script_of(L);
    luaL_checkany(L, 1);
    unsigned depth = script->pcall_depth;
    if (depth == PCALLS_MAX)
        return luaL_error(L, "pcall: nested more than %d deep", PCALLS_MAX);
    script->pcall_depth++;
    lua_pushboolean(L, true);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, (lua_KContext)depth, finish_pcall);
    return finish_pcall(L, status, (lua_KContext)depth);
}

/* ---- globals after the load phase ---- */

static void check_new_global(lua_State *L) {
    if (us_script_of(L)->phase != US_PHASE_LOAD)
        luaL_error(L, "assigning the new global %s after the load phase; declare it at the top of the script",
            us_describe(L, 2));
}

static int new_global(lua_State *L) {
    check_new_global(L);
    lua_rawset(L, 1);
    return 0;
}

/* Globals are no way around new_global. */
static int guarded_rawset(lua_State *L) {
    lua_pushglobaltable(L);
    bool is_of_globals = lua_rawequal(L, 1, -1);
    lua_pop(L, 1);
    if (is_of_globals && lua_gettop(L) >= 2) {
        lua_pushvalue(L, 2);
        if (lua_rawget(L, 1) == LUA_TNIL)
            check_new_global(L);
        lua_pop(L, 1);
    }
    return call_original(L);
}

/* ---- set-up ---- */

static void open_library(lua_State *L, const char *name, lua_CFunction open) {
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    lua_setglobal(L, name);
}

/* Puts a guard around a function of the table on top of the stack. */
static void guard(lua_State *L, const char *name, lua_CFunction guard) {
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, guard, 1);
    lua_setfield(L, -2, name);
}

static void remove_field(lua_State *L, const char *name) {
    lua_pushnil(L);
    lua_setfield(L, -2, name);
}

static void keep_allowed_globals(lua_State *L) {
    lua_pushglobaltable(L);
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING || !is_listed(allowed_globals, lua_tostring(L, -1))) {
            lua_pushvalue(L, -1);
            lua_pushnil(L);
            lua_rawset(L, -4); /* allowed while lua_next goes on: the key exists */
        }
    }
    lua_pop(L, 1);
}

static void guard_libraries(lua_State *L) {
    lua_getglobal(L, LUA_STRLIBNAME);
    remove_field(L, "dump");
    guard(L, "rep", guarded_rep);
    guard(L, "find", guarded_find);
    lua_pop(L, 1);
    lua_getglobal(L, LUA_MATHLIBNAME);
    remove_field(L, "randomseed");
    lua_pop(L, 1);
    lua_getglobal(L, LUA_TABLIBNAME);
    guard(L, "insert", guarded_by_length);
    guard(L, "remove", guarded_by_length);
    guard(L, "sort", guarded_sort);
    guard(L, "unpack", guarded_unpack);
    guard(L, "concat", guarded_concat);
    guard(L, "move", guarded_move);
    lua_pop(L, 1);
    lua_pushliteral(L, "");
    lua_getmetatable(L, -1);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
}

void us_open_sandbox(lua_State *L) {
    static const luaL_Reg global_metatable[] = {{"__newindex", new_global}, {NULL, NULL}};
    lua_pushcfunction(L, luaopen_base);
    lua_call(L, 0, 0);
    keep_allowed_globals(L);
    lua_pushcfunction(L, guarded_setmetatable);
    lua_setglobal(L, "setmetatable");
    lua_pushcfunction(L, guarded_pcall);
    lua_setglobal(L, "pcall");
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    open_library(L, LUA_UTF8LIBNAME, luaopen_utf8);
    guard_libraries(L);
    lua_pushglobaltable(L);
    guard(L, "rawset", guarded_rawset);
    us_push_metatable(L, "globals", global_metatable);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}
