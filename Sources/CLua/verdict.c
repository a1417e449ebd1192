/* Verdicts: fail delay hang drop zero done, and sums of any.
 *
 * A verdict is an immutable us_decision in a userdata. Constructors keep what they made for their argument, so
 * `return fail("EIO")` in a handler allocates nothing from the second time on; how many are kept is bounded,
 * as a script may compute its delays. Whether an operation can do what a verdict says is judged in decide.c. */
#include "include/units.h"
#include "script_state.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Of each constructor; fail() cannot have more than there are errnos. */
enum { MEMOISED_MAX = 64 };

/* The own upvalue of every constructor: the verdicts it has made, by argument. */
enum { MEMORY = 1 };

/* ---- making ---- */

struct us_verdict_object *us_push_legs(lua_State *L, unsigned legs) {
    size_t size = sizeof(struct us_verdict_object) + legs * sizeof(struct us_leg);
    struct us_verdict_object *object = lua_newuserdatauv(L, size, 1); /* the value: data of done() */
    memset(object, 0, size);
    object->kind = US_KIND_VERDICT;
    object->decision.leg_count = (uint8_t)legs;
    lua_rawgeti(L, LUA_REGISTRYINDEX, us_script_of(L)->verdict_metatable);
    lua_setmetatable(L, -2);
    return object;
}

static struct us_verdict_object *push_object(lua_State *L) {
    return us_push_legs(L, 0);
}

struct us_decision *us_push_verdict(lua_State *L) {
    return &push_object(L)->decision;
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

#define NAME(names, number) ((number) < sizeof(names) / sizeof *(names) ? (names)[number] : NULL)

const char *us_outcome_name(unsigned outcome) {
    static const char *const names[] = {"pass", "fail", "drop", "zero", "redirect", "done"};
    _Static_assert(sizeof names / sizeof *names == US_OUTCOME_COUNT, "each outcome has a name");
    return NAME(names, outcome);
}

static uint64_t add_saturating(uint64_t left, uint64_t right) {
    uint64_t sum;
    return __builtin_add_overflow(left, right, &sum) || sum > INT64_MAX ? INT64_MAX : sum;
}

/* What both together say; raises when they contradict. */
static struct us_decision combine(lua_State *L, const struct us_decision *left, const struct us_decision *right) {
    if (left->hangs && right->hangs)
        luaL_error(L, "a verdict cannot hang twice");
    bool both_redirect = left->outcome == US_OUTCOME_REDIRECT && right->outcome == US_OUTCOME_REDIRECT;
    if (left->outcome != US_OUTCOME_PASS && left->outcome == right->outcome && !both_redirect)
        luaL_error(L, "a verdict cannot %s twice", us_outcome_name(left->outcome));
    if (left->outcome != US_OUTCOME_PASS && right->outcome != US_OUTCOME_PASS && !both_redirect)
        luaL_error(
            L, "a verdict cannot both %s and %s", us_outcome_name(left->outcome), us_outcome_name(right->outcome));
    if (left->corrupt.mode != US_CORRUPT_NOT && right->corrupt.mode != US_CORRUPT_NOT)
        luaL_error(L, "a verdict cannot corrupt twice");
    if (left->store.keep != US_STORE_NORMAL && right->store.keep != US_STORE_NORMAL)
        luaL_error(L, "a verdict cannot say twice what is stored");
    const struct us_decision *end = left->outcome != US_OUTCOME_PASS ? left : right;
    return (struct us_decision){
        .delay_ns = add_saturating(left->delay_ns, right->delay_ns),
        .hang_ns = left->hangs ? left->hang_ns : right->hang_ns,
        .hangs = left->hangs || right->hangs,
        .outcome = end->outcome,
        .error = end->error,
        .has_data = end->has_data,
        .to_offset = end->to_offset,
        .to_backing = end->to_backing,
        .leg_count = end->leg_count,
        .is_relative = end->is_relative,
        .ignores_fua = left->ignores_fua | right->ignores_fua,
        .corrupt = left->corrupt.mode != US_CORRUPT_NOT ? left->corrupt : right->corrupt,
        .store = left->store.keep != US_STORE_NORMAL ? left->store : right->store,
    };
}

/* Pushes the verdict of both. */
static int push_sum(lua_State *L, const struct us_decision *left, const struct us_dist *left_dist,
    const struct us_verdict_object *right) {
    if (left_dist != NULL && right->dist != NULL)
        return luaL_error(L, "a verdict can have one distribution only; dist.mix makes one of several");
    struct us_decision sum = combine(L, left, &right->decision);
    const struct us_dist *dist = left_dist != NULL ? left_dist : right->dist;
    struct us_verdict_object *object = us_push_both_legs(L, left, &right->decision);
    sum.leg_count = object->decision.leg_count;
    object->decision = sum;
    object->dist = dist;
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
            struct us_decision *verdict = us_push_verdict(L);
            verdict->outcome = US_OUTCOME_FAIL;
            verdict->error = known->number;
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
    if (dist != NULL) {
        push_object(L)->dist = dist->dist;
    } else {
        uint64_t time = us_check_time(L, 1);
        us_push_verdict(L)->delay_ns = time;
    }
    memoise(L, 1, &us_script_of(L)->kept_delays);
    return 1;
}

/* 0 would mean for ever, which nobody who computed a time wants. */
static uint64_t check_hang_time(lua_State *L) {
    uint64_t time = us_check_time(L, 1);
    if (time == 0)
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
    *us_push_verdict(L) = hanging;
    memoise(L, 1, &us_script_of(L)->kept_hangs);
    return 1;
}

/* Data of a read goes with the verdict until the handler has returned it. */
static int done(lua_State *L) {
    if (lua_isnoneornil(L, 1)) {
        us_push_verdict(L)->outcome = US_OUTCOME_DONE;
        return 1;
    }
    if (lua_type(L, 1) != LUA_TSTRING)
        return luaL_error(L, "done: the data of a read is expected, a string, or nothing; got %s", us_describe(L, 1));
    struct us_decision *verdict = us_push_verdict(L);
    verdict->outcome = US_OUTCOME_DONE;
    verdict->has_data = 1;
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

struct text {
    char *at;
    size_t size, length;
};

static void __attribute__((format(printf, 2, 3))) print(struct text *text, const char *format, ...) {
    if (text->length >= text->size)
        return;
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text->at + text->length, text->size - text->length, format, list);
    va_end(list);
    if (length > 0)
        text->length += (size_t)length;
}

/* In the largest unit that divides it. */
static void print_time(struct text *text, const char *function, uint64_t ns) {
    static const struct {
        uint64_t factor;
        const char *name;
    } units[] = {{1000000000, "s"}, {1000000, "ms"}, {1000, "us"}, {1, "ns"}};
    size_t unit = 0;
    while (ns % units[unit].factor != 0)
        unit++;
    print(text, "%s(%llu%s)", function, (unsigned long long)(ns / units[unit].factor), units[unit].name);
}

static void print_outcome(struct text *text, const struct us_decision *verdict) {
    if (verdict->outcome == US_OUTCOME_FAIL) {
        const struct us_errno *known = us_errno_by_number(verdict->error);
        print(text, "fail(\"%s\")", known != NULL ? known->name : "?");
    } else if (verdict->outcome == US_OUTCOME_REDIRECT && verdict->is_relative) {
        print(text, "misdirect(%lld)", (long long)verdict->to_offset);
    } else if (verdict->outcome == US_OUTCOME_REDIRECT && verdict->leg_count > 0) {
        print(text, "to(%u places)", verdict->leg_count);
    } else if (verdict->outcome == US_OUTCOME_REDIRECT && verdict->to_backing > 0) {
        print(text, "to(%llu, backing %u)", (unsigned long long)verdict->to_offset, verdict->to_backing);
    } else if (verdict->outcome == US_OUTCOME_REDIRECT) {
        print(text, "to(%llu)", (unsigned long long)verdict->to_offset);
    } else if (us_outcome_name(verdict->outcome) == NULL) {
        print(text, "outcome %u", verdict->outcome);
    } else if (verdict->outcome != US_OUTCOME_PASS) {
        print(text, "%s()", us_outcome_name(verdict->outcome));
    }
}

static void print_effect(struct text *text, const char *function, const char *name, unsigned number) {
    print(text, text->length > 0 ? " + %s(" : "%s(", function);
    if (name != NULL)
        print(text, "\"%s\")", name);
    else
        print(text, "%u)", number);
}

static void print_effects(struct text *text, const struct us_decision *verdict) {
    static const char *const modes[] = {"", "flip", "set", "garbage", "stuck", "byte", "swab", "patch"};
    static const char *const keeps[] = {"", "all", "none", "prefix", "suffix", "middle", "random"};
    _Static_assert(sizeof modes / sizeof *modes == US_CORRUPT_COUNT, "each way to corrupt has a name");
    _Static_assert(sizeof keeps / sizeof *keeps == US_STORE_COUNT, "each way to store has a name");
    if (verdict->corrupt.mode != US_CORRUPT_NOT)
        print_effect(text, "corrupt", NAME(modes, verdict->corrupt.mode), verdict->corrupt.mode);
    if (verdict->ignores_fua)
        print(text, "%signore_fua()", text->length > 0 ? " + " : "");
    if (verdict->store.keep != US_STORE_NORMAL)
        print_effect(text, "store", NAME(keeps, verdict->store.keep), verdict->store.keep);
}

void us_decision_text(const struct us_decision *verdict, char *text, size_t size) {
    struct text to = {text, size, 0};
    text[0] = '\0';
    print_outcome(&to, verdict);
    print_effects(&to, verdict);
    if (verdict->delay_ns > 0 || (!verdict->hangs && to.length == 0)) {
        if (to.length > 0)
            print(&to, " + ");
        print_time(&to, "delay", verdict->delay_ns);
    }
    if (verdict->hangs) {
        if (to.length > 0)
            print(&to, " + ");
        if (verdict->hang_ns > 0)
            print_time(&to, "hang", verdict->hang_ns);
        else
            print(&to, "hang()");
    }
}

bool us_decides_nothing(const struct us_decision *decision) {
    return decision->outcome == US_OUTCOME_PASS && !decision->hangs && decision->delay_ns == 0
        && decision->corrupt.mode == US_CORRUPT_NOT && decision->store.keep == US_STORE_NORMAL
        && !decision->ignores_fua;
}

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
        *us_push_verdict(L) = constants[i].verdict;
        us_register_native(L, &constants[i].native, 1);
    }
    lua_pop(L, 1);
}
