/* Verdicts: fail delay hang drop zero done, and sums of any.
 *
 * A verdict is an immutable us_decision in a userdata. Constructors keep what they made for their argument, so
 * `return fail("EIO")` in a handler allocates nothing from the second time on; how many are kept is bounded,
 * as a script may compute its delays. What operations can do what a verdict says is found out when it is made. */
#include "include/errnos.h"
#include "script_state.h"
#include "userdata.h"
#include <string.h>

/* Of each constructor; fail() cannot have more than there are errnos. */
enum { MEMOISED_MAX = 64 };

/* The own upvalue of every constructor: the verdicts it has made, by argument. */
enum { MEMORY = 1 };

/* ---- making ---- */

struct us_verdict_object *us_push_verdict(
    lua_State *L, const struct us_decision *decision, const struct us_segment *segments) {
    size_t size = decision->segment_count * sizeof *segments;
    struct us_verdict_object *object = lua_newuserdatauv(L, sizeof *object + size, 1); /* the value: data of done() */
    *object = (struct us_verdict_object){
        .kind = US_KIND_VERDICT, .ops = us_decision_ops(decision), .decision = *decision};
    if (size > 0)
        memcpy(object->segments, segments, size);
    lua_rawgeti(L, LUA_REGISTRYINDEX, us_script_of(L)->verdict_metatable);
    lua_setmetatable(L, -2);
    return object;
}

/* The same for a decision without segments. */
static struct us_verdict_object *push(lua_State *L, struct us_decision decision) {
    return us_push_verdict(L, &decision, NULL);
}

/* Pushes the verdict that was kept for the value at index; false, and nothing pushed, when there is none. */
static bool recall(lua_State *L, int index) {
    lua_pushvalue(L, index);
    if (lua_rawget(L, us_own_upvalue(MEMORY)) != LUA_TNIL)
        return true;
    lua_pop(L, 1);
    return false;
}

/* Keeps the verdict on top of the stack for the value at index, which is neither nil nor NaN. */
static void memoise(lua_State *L, int index, unsigned *kept) {
    if (*kept == MEMOISED_MAX)
        return;
    lua_pushvalue(L, index);
    lua_pushvalue(L, -2);
    lua_rawset(L, us_own_upvalue(MEMORY));
    ++*kept;
}

static const struct us_verdict_object *check_verdict(lua_State *L, int index, const char *function) {
    const struct us_verdict_object *object = us_object_at(L, index, US_KIND_VERDICT);
    if (object == NULL) {
        /* Not luaL_error: for "x" + verdict it is Lua's string library that calls us, which has no line. */
        lua_pushfstring(L, "%s:%d: %s: a verdict (fail, delay, ...) is expected, got %s",
            us_script_of(L)->chunk_name, us_current_line(L), function, us_describe(L, index));
        lua_error(L);
    }
    return object;
}

/* ---- adding ---- */

/* Pushes the verdict of both; raises when they contradict each other. */
static int push_sum(lua_State *L, const struct us_decision *left, const struct us_dist *left_dist,
    const struct us_verdict_object *right) {
    if (left_dist != NULL && right->dist != NULL)
        return luaL_error(L, "a verdict can have one distribution only; dist.mix makes one of several");
    char flaw[96];
    struct us_decision sum = *left;
    if (!us_decision_add(&sum, &right->decision, flaw, sizeof flaw))
        return luaL_error(L, "%s", flaw);
    struct us_segment segments[US_SEGMENTS_MAX];
    sum.segment_count = us_both_segments(L, left, &right->decision, segments);
    us_push_verdict(L, &sum, segments)->dist = left_dist != NULL ? left_dist : right->dist;
    if (sum.has_data) /* an argument has it */
        for (int index = 1; index <= 2; index++)
            if (us_object_at(L, index, US_KIND_VERDICT) != NULL) {
                if (lua_getiuservalue(L, index, 1) == LUA_TSTRING)
                    lua_setiuservalue(L, -2, 1);
                else
                    lua_pop(L, 1);
            }
    return 1;
}

static int add(lua_State *L) {
    const struct us_verdict_object *left = check_verdict(L, 1, "+"), *right = check_verdict(L, 2, "+");
    return push_sum(L, &left->decision, left->dist, right);
}

/* ---- constructors ---- */

static void refuse_errno(lua_State *L) {
    const char *bad = us_describe(L, 1);
    luaL_Buffer names;
    luaL_buffinit(L, &names);
    for (size_t i = 0; i < us_errno_count(); i++) {
        if (i > 0)
            luaL_addstring(&names, " ");
        luaL_addstring(&names, us_errno_at(i)->name);
    }
    luaL_pushresult(&names);
    luaL_error(L, "fail: bad errno %s; the block layer knows %s", bad, lua_tostring(L, -1));
}

static int fail(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING) {
        if (recall(L, 1))
            return 1;
        size_t length;
        const char *name = lua_tolstring(L, 1, &length);
        const struct us_errno *known = us_errno_by_name(name, length);
        if (known != NULL) {
            push(L, (struct us_decision){.outcome = US_OUTCOME_FAIL, .error = known->number});
            memoise(L, 1, &us_script_of(L)->kept_fails);
            return 1;
        }
    }
    refuse_errno(L);
    return 0;
}

static int delay(lua_State *L) {
    if (!lua_isnoneornil(L, 1) && recall(L, 1))
        return 1;
    const struct us_dist_object *dist = us_object_at(L, 1, US_KIND_DIST);
    if (dist != NULL)
        push(L, (struct us_decision){.delay_ns = 0})->dist = dist->dist;
    else
        push(L, (struct us_decision){.delay_ns = us_check_time(L, 1)});
    memoise(L, 1, &us_script_of(L)->kept_delays);
    return 1;
}

/* 0 stands for "until released" in a decision, which is not what a script that computes a time means. */
static uint64_t check_hang_time(lua_State *L) {
    uint64_t time = us_check_time(L, 1);
    if (time < US_HANG_NS_MIN)
        luaL_error(L, "hang: a time of 0 is no hang; hang() without a time holds until released");
    return time;
}

static int hang(lua_State *L) {
    struct us_decision hanging = {.hangs = 1};
    if (!lua_isnoneornil(L, 2)) {
        if (!lua_isnil(L, 1))
            hanging.hang_ns = check_hang_time(L);
        return push_sum(L, &hanging, NULL, check_verdict(L, 2, "hang"));
    }
    lua_settop(L, 1);
    if (!lua_isnil(L, 1))
        hanging.hang_ns = check_hang_time(L);
    else
        lua_pushboolean(L, true), lua_replace(L, 1); /* the key under which hang() is kept */
    if (recall(L, 1))
        return 1;
    push(L, hanging);
    memoise(L, 1, &us_script_of(L)->kept_hangs);
    return 1;
}

/* Data of a read goes with the verdict until the handler has returned it. */
static int done(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        push(L, (struct us_decision){.outcome = US_OUTCOME_DONE});
        return 1;
    }
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "done: the data of a read is expected, a string, or nothing; got %s", us_describe(L, 1));
    push(L, (struct us_decision){.outcome = US_OUTCOME_DONE, .has_data = 1});
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* drop(), zero() and ignore_fua(): the verdict itself is the own upvalue. */
static int constant(lua_State *L) {
    lua_pushvalue(L, us_own_upvalue(1));
    return 1;
}

/* ---- as text ---- */

static int to_text(lua_State *L) {
    char text[128];
    const struct us_verdict_object *verdict = check_verdict(L, 1, "tostring");
    us_decision_text(&verdict->decision, text, sizeof text);
    if (verdict->dist == NULL)
        lua_pushstring(L, text);
    else if (us_decides_nothing(&verdict->decision))
        lua_pushliteral(L, "delay(dist)");
    else
        lua_pushfstring(L, "%s + delay(dist)", text);
    return 1;
}

/* ---- set-up ---- */

void us_open_verdict(lua_State *L) {
    static const luaL_Reg metatable[] = {{"__tostring", to_text}, {NULL, NULL}};
    static const struct us_native remembering[]
        = {{"fail(errno)", fail}, {"delay(time)", delay}, {"hang(time, verdict)", hang}};
    static const struct us_native done_function = {"done(data)", done};
    static const struct {
        struct us_native native;
        struct us_decision verdict;
    } constants[] = {{{"drop()", constant}, {.outcome = US_OUTCOME_DROP}},
        {{"zero()", constant}, {.outcome = US_OUTCOME_ZERO}}, {{"ignore_fua()", constant}, {.ignores_fua = 1}}};
    us_push_metatable(L, "verdict", metatable);
    lua_pushvalue(L, -1);
    us_script_of(L)->verdict_metatable = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pushcfunction(L, add);
    lua_setfield(L, -2, "__add");
    for (size_t i = 0; i < sizeof remembering / sizeof *remembering; i++) {
        lua_newtable(L);
        us_register_native(L, &remembering[i], 1);
    }
    us_register_native(L, &done_function, 0);
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        push(L, constants[i].verdict);
        us_register_native(L, &constants[i].native, 1);
    }
    lua_pop(L, 1);
}
