/* after() and every(): functions of a script that run at a time. Owner: the queue's thread, between two IOs.
 *
 * Times are on the device's clock. Timers are few, so the next one is found by looking at all. Those of the load phase
 * belong to queue 0, as ctl does; a timer that is made later belongs to the queue that made it. */
#include "script_state.h"
#include <stdlib.h>

enum { TIMERS_MAX = 1000 };

/* Shorter periods would be all that a queue does. */
#define PERIOD_MIN ((uint64_t)100000)

struct us_timer {
    uint64_t due, period; /* period 0: once */
    int function;         /* registry reference */
};

static void find_next(struct us_script *script) {
    script->timer_due = UINT64_MAX;
    for (size_t i = 0; i < script->timer_count; i++)
        if (script->timers[i].due < script->timer_due)
            script->timer_due = script->timers[i].due;
}

static int start(lua_State *L, const char *function, bool repeats) {
    struct us_script *script = us_script_of(L);
    us_require_phase(L, function, ~(unsigned)US_PHASE_TEST);
    uint64_t time = us_check_time(L, 1);
    if (lua_type(L, 2) != LUA_TFUNCTION)
        return luaL_error(L, "%s: a function is expected, as in %s(\"5s\", function() ... end); got %s", function, function,
            us_describe(L, 2));
    if (repeats && time < PERIOD_MIN)
        return luaL_error(L, "%s: %s: at least 100us is expected", function, us_describe(L, 1));
    if (script->phase == US_PHASE_LOAD && script->options.queue != 0)
        return 0;
    if (script->timer_count == TIMERS_MAX)
        return luaL_error(L, "%s: there are %d timers already, the most there can be", function, TIMERS_MAX);
    struct us_timer *more = realloc(script->timers, (script->timer_count + 1) * sizeof *more);
    if (more == NULL)
        return luaL_error(L, "%s: out of memory", function);
    script->timers = more;
    lua_settop(L, 2);
    int reference = luaL_ref(L, LUA_REGISTRYINDEX);
    if (time == 0)
        time = 1; /* a function that asks for itself again at once lets the queue go on between */
    uint64_t due = time < UINT64_MAX - script->now ? script->now + time : UINT64_MAX - 1;
    script->timers[script->timer_count++] = (struct us_timer){due, repeats ? time : 0, reference};
    find_next(script);
    return 0;
}

static int after(lua_State *L) {
    return start(L, "after", false);
}

static int every(lua_State *L) {
    return start(L, "every", true);
}

uint64_t us_script_next_timer(const struct us_script *script) {
    return script->timer_due;
}

static void drop(struct us_script *script, size_t index) {
    luaL_unref(script->lua, LUA_REGISTRYINDEX, script->timers[index].function);
    script->timers[index] = script->timers[--script->timer_count];
}

/* A timer that could not keep up goes on from now. */
static void put_off(struct us_timer *timer, uint64_t now) {
    timer->due = now - timer->due < timer->period ? timer->due + timer->period : now + timer->period;
}

enum us_status us_script_run_timer(struct us_script *script) {
    size_t index = 0;
    while (script->timers[index].due != script->timer_due)
        index++;
    int function = script->timers[index].function;
    bool repeats = script->timers[index].period != 0;
    lua_rawgeti(script->lua, LUA_REGISTRYINDEX, function);
    if (repeats)
        put_off(&script->timers[index], script->now);
    else
        drop(script, index);
    find_next(script);
    script->phase = US_PHASE_TIMER;
    enum us_status status = us_run(script, 0, 1);
    script->phase = US_PHASE_IO;
    /* every() ends when its function returns false, or raises. */
    if (repeats && (status != US_OK || (lua_isboolean(script->lua, -1) && !lua_toboolean(script->lua, -1)))) {
        for (index = 0; script->timers[index].function != function;)
            index++;
        drop(script, index);
        find_next(script);
    }
    lua_settop(script->lua, 0);
    return status;
}

void us_open_timers(lua_State *L) {
    us_script_of(L)->timer_due = UINT64_MAX;
    static const struct us_native functions[]
        = {{"after(time, function)", after}, {"every(time, function)", every}, {NULL, NULL}};
    us_register_natives(L, functions);
}
