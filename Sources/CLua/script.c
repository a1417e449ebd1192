/* The life of a state: its memory, loading the text, finding the handlers, keeping errors.
 *
 * Owner: whoever called us_script_new, one thread at a time. A state runs one text once; another text needs a
 * new state. All that Lua holds, and what rule{} and device{} copy, is counted against one limit. */
#include "script_state.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Allocations of at least so many bytes are worth a look at the clock: filling them takes longer than that. */
enum { LARGE_BLOCK = 64 * 1024 };

/* ---- memory ---- */

static bool charge(struct us_script *script, size_t size) {
    if (size > script->options.memory_limit - script->memory_used) {
        script->over_memory = true;
        return false;
    }
    script->memory_used += size;
    return true;
}

/* Lua's allocator. For a new block old_size is a type tag and no size. */
static void *reallocate(void *context, void *block, size_t old_size, size_t new_size) {
    struct us_script *script = context;
    size_t old = block != NULL ? old_size : 0;
    if (new_size == 0) {
        script->memory_used -= old;
        free(block);
        return NULL;
    }
    if (new_size > old && !charge(script, new_size - old)) {
        /* By the time the error arrives the stack that could tell the place is gone. Later versions may be
         * moving the stack at this moment, with its pointers already turned into offsets. */
#if LUA_VERSION_RELEASE_NUM <= 50404
        script->over_memory_line = script->active != NULL ? us_current_line(script->active) : 0;
#endif
        return NULL;
    }
    if (new_size >= LARGE_BLOCK)
        us_check_load_limit(script);
    void *moved = realloc(block, new_size);
    if (new_size > old) {
        if (moved == NULL)
            script->memory_used -= new_size - old;
        return moved;
    }
    /* Lua takes for granted that shrinking works; the old block is large enough. */
    script->memory_used -= old - new_size;
    return moved != NULL ? moved : block;
}

size_t us_script_memory_used(const struct us_script *script) {
    return script->memory_used;
}

/* ---- errors ---- */

int us_current_line(lua_State *L) {
    lua_Debug at;
    for (int level = 0; lua_getstack(L, level, &at); level++)
        if (lua_getinfo(L, "l", &at) && at.currentline > 0)
            return at.currentline;
    return 0;
}

/* The text may come from a script: NULs would cut it, so they become blanks. */
static void set_error_text(struct us_script *script, const char *text, size_t length) {
    if (length > US_ERROR_MAX - 1)
        length = US_ERROR_MAX - 1;
    for (size_t i = 0; i < length; i++)
        script->error[i] = text[i] != '\0' ? text[i] : ' ';
    script->error[length] = '\0';
}

void us_set_error(struct us_script *script, const char *format, ...) {
    va_list list;
    va_start(list, format);
    vsnprintf(script->error, sizeof script->error, format, list);
    va_end(list);
}

void us_keep_error(struct us_script *script, lua_State *L) {
    if (lua_type(L, -1) == LUA_TSTRING) {
        size_t length;
        const char *text = lua_tolstring(L, -1, &length);
        set_error_text(script, text, length);
    } else {
        us_set_error(script, "(error object is a %s value)", luaL_typename(L, -1));
    }
}

enum us_status us_fail_memory(struct us_script *script) {
    size_t limit = script->options.memory_limit;
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB"};
    int unit = 0;
    for (; unit < 3 && limit != 0 && limit % 1024 == 0; unit++)
        limit /= 1024;
    if (script->over_memory && script->over_memory_line > 0)
        us_set_error(script, "%s:%d: out of memory: the script is over its limit of %zu %s", script->chunk_name,
            script->over_memory_line, limit, units[unit]);
    else if (script->over_memory)
        us_set_error(script, "%s: out of memory: the script is over its limit of %zu %s", script->chunk_name, limit,
            units[unit]);
    else
        us_set_error(script, "%s: out of memory", script->chunk_name);
    script->over_memory = false;
    script->over_memory_line = 0;
    return US_MEMORY;
}

const char *us_script_error(const struct us_script *script) {
    return script->error;
}

/* ---- life ---- */

/* Opens the sandbox and all functions for scripts. Runs below lua_pcall, without arguments. */
static int open_all(lua_State *L) {
    us_open_sandbox(L);
    us_open_values(L);
    us_open_declare(L);
    us_open_params(L);
    us_open_ranges(L);
    us_open_cells(L);
    us_open_dict(L);
    us_open_dist(L);
    us_open_bucket(L);
    us_open_verdict(L);
    us_open_effects(L);
    us_open_targets(L);
    us_open_timers(L);
    us_open_release(L);
    us_open_tests(L);
    us_open_io(L);
    return 0;
}

struct us_script *us_script_new(const struct us_script_options *options) {
    struct us_script *script = calloc(1, sizeof *script);
    if (script == NULL)
        return NULL;
    script->options = *options;
    script->options.directory = NULL;
    if (options->directory != NULL && (script->options.directory = strdup(options->directory)) == NULL) {
        free(script);
        return NULL;
    }
    script->now = options->now;
    script->phase = US_PHASE_LOAD;
    script->random = us_objects.random.stream(options->seed, options->queue, 0);
    script->ctl = LUA_NOREF;
    atomic_init(&script->sequence, 0);
    atomic_init(&script->late, 0);
    atomic_init(&script->asked, 0);
    atomic_init(&script->allowance, 0);
    atomic_init(&script->tick, 0);
    atomic_init(&script->answers, 0);
    atomic_init(&script->bound, false);
    for (int op = 0; op < US_OP_COUNT; op++)
        script->handler[op] = LUA_NOREF;
    script->lua = lua_newstate(reallocate, script);
    if (script->lua == NULL) {
        free((char *)script->options.directory);
        free(script);
        return NULL;
    }
    *(struct us_script **)lua_getextraspace(script->lua) = script;
    lua_pushcfunction(script->lua, open_all);
    if (lua_pcall(script->lua, 0, 0, 0) != LUA_OK || !us_make_spare(script)) {
        us_script_free(script);
        return NULL;
    }
    return script;
}

void us_script_free(struct us_script *script) {
    if (script == NULL)
        return;
    lua_close(script->lua);
    free(script->tags);
    free(script->idle);
    free(script->timers);
    free(script->result);
    free((char *)script->options.directory);
    free(script);
}

/* ---- loading ---- */

static void set_chunk_name(struct us_script *script, const char *chunk_name) {
    if (*chunk_name == '@' || *chunk_name == '=')
        chunk_name++;
    snprintf(script->chunk_name, sizeof script->chunk_name, "%s", chunk_name);
}

/* Leaves out a byte order mark and a first line "#!...", as the lua program does; keeps its line end, so that
 * line numbers stay right. */
static void skip_first_line(const char **text, size_t *length) {
    const char *at = *text, *end = *text + *length;
    if (*length >= 3 && memcmp(at, "\xef\xbb\xbf", 3) == 0)
        at += 3;
    if (at < end && *at == '#')
        while (at < end && *at != '\n')
            at++;
    *length -= (size_t)(at - *text);
    *text = at;
}

/* The reference of a handler that the script defined as a global, LUA_NOREF without. */
static int handler_reference(lua_State *L, const char *name) {
    int type = lua_getglobal(L, name);
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        return LUA_NOREF;
    }
    if (type != LUA_TFUNCTION)
        luaL_error(L, "%s: %s must be a function, it is %s", us_script_of(L)->chunk_name, name, us_describe(L, -1));
    return luaL_ref(L, LUA_REGISTRYINDEX);
}

static int find_handlers(lua_State *L) {
    struct us_script *script = us_script_of(L);
    for (unsigned op = 0; op < US_OP_COUNT; op++) {
        if (us_op_name(op) == NULL)
            continue;
        script->handler[op] = handler_reference(L, us_op_name(op));
        if (script->handler[op] != LUA_NOREF)
            script->handlers |= 1u << op;
    }
    script->ctl = handler_reference(L, "ctl");
    return 0;
}

static enum us_status compile(struct us_script *script, const char *text, size_t length, const char *chunk_name) {
    if (length > 0 && text[0] == LUA_SIGNATURE[0]) {
        us_set_error(script, "%s: bytecode is not accepted, only Lua text", script->chunk_name);
        return US_SYNTAX;
    }
    int status = luaL_loadbufferx(script->lua, text, length, chunk_name, "t");
    if (status == LUA_OK)
        return US_OK;
    if (status == LUA_ERRMEM)
        return us_fail_memory(script);
    us_keep_error(script, script->lua);
    return US_SYNTAX;
}

/* Some errors come without a place: "C stack overflow" of too deep nesting, error(text, 0), objects that are no
 * text. */
static void name_script(struct us_script *script) {
    char text[US_ERROR_MAX];
    if (strncmp(script->error, script->chunk_name, strlen(script->chunk_name)) == 0)
        return;
    memcpy(text, script->error, sizeof text);
    us_set_error(script, "%s: %s", script->chunk_name, text);
}

enum us_status us_script_load(struct us_script *script, const char *text, size_t length, const char *chunk_name) {
    lua_State *L = script->lua;
    if (script->loaded) {
        us_set_error(script, "%s: a state loads one script only", script->chunk_name);
        return US_RUNTIME;
    }
    script->loaded = true;
    set_chunk_name(script, chunk_name);
    skip_first_line(&text, &length);
    enum us_status status = compile(script, text, length, chunk_name);
    if (status == US_OK)
        status = us_run_limited(script, 0, 0, script->options.load_limit_ns);
    if (status == US_OK) {
        lua_pushcfunction(L, find_handlers);
        status = us_run(script, 0, 0);
    }
    if (status != US_OK) {
        name_script(script);
        script->handlers = 0;
    }
    lua_settop(L, 0);
    script->phase = US_PHASE_IO;
    return status;
}

size_t us_script_functions(struct us_script *script, struct us_function *list, size_t room) {
    lua_State *L = script->lua;
    size_t count = 0;
    if (!lua_checkstack(L, 8))
        return 0;
    lua_pushglobaltable(L);
    lua_pushnil(L);
    while (count < room && lua_next(L, -2) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING || !lua_isfunction(L, -1) || lua_iscfunction(L, -1)) {
            lua_pop(L, 1);
            continue;
        }
        lua_Debug at;
        lua_getinfo(L, ">S", &at);
        list[count++] = (struct us_function){lua_tostring(L, -1), at.linedefined};
    }
    lua_settop(L, 0);
    return count;
}

uint64_t us_script_random_state(const struct us_script *script) {
    return script->random.state;
}

uint32_t us_script_handlers(const struct us_script *script) {
    return script->handlers;
}

bool us_script_has_ctl(const struct us_script *script) {
    return script->ctl != LUA_NOREF;
}

void us_script_set_backing_size(struct us_script *script, unsigned backing, uint64_t bytes) {
    if (backing < US_BACKINGS_MAX)
        script->backing_size[backing] = bytes;
}

void us_script_set_now(struct us_script *script, uint64_t nanoseconds) {
    script->now = nanoseconds;
}

uint64_t us_script_log_dropped(const struct us_script *script) {
    return script->log_dropped;
}
