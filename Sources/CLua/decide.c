/* The io phase and the ctl phase: from an IO to a decision, from words to an answer.
 *
 * Owner: the queue's thread. A decision makes no system call and, if the handler makes no objects, no allocation;
 * what it touches per IO is the handler's and the io object's place in the registry. Between calls the Lua stack is
 * empty. A handler's result is judged here, outside of lua_pcall, by functions that cannot raise. */
#include "include/dist.h"
#include "script_state.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULT_MAX = 64 * 1024 };

/* Sets the error "FILE:LINE: why" with the place where the handler of op begins. */
static enum us_status __attribute__((cold)) refuse(struct us_script *script, unsigned op, const char *why) {
    lua_Debug at;
    lua_rawgeti(script->lua, LUA_REGISTRYINDEX, script->handler[op]);
    lua_getinfo(script->lua, ">S", &at);
    if (at.linedefined > 0)
        us_set_error(script, "%s:%d: %s", at.short_src, at.linedefined, why);
    else
        us_set_error(script, "%s:?: %s", script->chunk_name, why);
    return US_RUNTIME;
}

static enum us_status __attribute__((cold)) refuse_type(struct us_script *script, unsigned op) {
    char why[160];
    snprintf(why, sizeof why, "%s returned a %s; a verdict (fail, delay, ...) or nil is expected", us_op_name(op),
        luaL_typename(script->lua, -1));
    return refuse(script, op, why);
}

static enum us_status __attribute__((cold)) refuse_outcome(
    struct us_script *script, unsigned op, const struct us_decision *verdict) {
    char why[256], text[96];
    us_decision_text(verdict, text, sizeof text);
    snprintf(why, sizeof why, "%s returned %s, which a %s cannot do", us_op_name(op), text, us_op_name(op));
    return refuse(script, op, why);
}

static enum us_status __attribute__((cold)) refuse_place(
    struct us_script *script, unsigned op, uint64_t to, unsigned backing) {
    char why[160], where[32] = "the device";
    if (backing != 0)
        snprintf(where, sizeof where, "backing %u", backing);
    snprintf(why, sizeof why, "to(%llu): offset + length is past the end of %s (%llu bytes)", (unsigned long long)to,
        where, (unsigned long long)script->backing_size[backing]);
    return refuse(script, op, why);
}

static enum us_status __attribute__((cold)) refuse_part(
    struct us_script *script, const struct us_io *io, const struct us_leg *leg) {
    char why[160];
    snprintf(why, sizeof why, "to(): bytes %llu to %llu are asked for of an IO of %llu", (unsigned long long)leg->at,
        (unsigned long long)(leg->at + leg->length), (unsigned long long)io->length);
    return refuse(script, io->op, why);
}

/* Every place a verdict sends an IO to exists, and every part of the IO that it names. */
static enum us_status __attribute__((noinline)) check_places(
    struct us_script *script, const struct us_io *io, const struct us_decision *verdict) {
    if (verdict->is_relative)
        return US_OK;
    struct us_leg whole = {.offset = verdict->to_offset, .backing = verdict->to_backing};
    unsigned count = verdict->leg_count > 0 ? verdict->leg_count : 1;
    for (unsigned i = 0; i < count; i++) {
        const struct us_leg *leg = verdict->leg_count > 0 ? &us_legs_of(verdict)[i] : &whole;
        if (leg->at >= io->length || leg->length > io->length - leg->at)
            return refuse_part(script, io, leg);
        uint64_t length = leg->length > 0 ? leg->length : io->length - leg->at;
        uint64_t size = script->backing_size[leg->backing];
        if (size != 0 && (length > size || leg->offset > size - length))
            return refuse_place(script, io->op, leg->offset, leg->backing);
    }
    return US_OK;
}

static void __attribute__((noinline)) add_drawn_delay(
    struct us_script *script, struct us_decision *decision, const struct us_dist *dist) {
    uint64_t drawn = us_dist_sample(dist, &script->random);
    decision->delay_ns += drawn < INT64_MAX - decision->delay_ns ? drawn : INT64_MAX - decision->delay_ns;
}

/* The decision for what the handler of io->op has left on the stack. */
static inline enum us_status judge(
    struct us_script *script, const struct us_io *io, struct us_decision *decision, struct us_leg *legs) {
    lua_State *L = script->lua;
    const struct us_verdict_object *object = us_object_at(L, -1, US_KIND_VERDICT);
    if (object == NULL) {
        if (!lua_isnil(L, -1))
            return refuse_type(script, io->op);
        memset(decision, 0, sizeof *decision);
        return US_OK;
    }
    const struct us_decision *verdict = &object->decision;
    unsigned effects = verdict->corrupt.mode | verdict->store.keep;
    if (verdict->outcome > US_OUTCOME_FAIL || effects != 0) {
        if ((us_decision_ops(verdict) & (1u << io->op)) == 0)
            return refuse_outcome(script, io->op, verdict);
        if (verdict->outcome == US_OUTCOME_REDIRECT) {
            enum us_status status = check_places(script, io, verdict);
            if (status != US_OK)
                return status;
        }
    }
    *decision = *verdict;
    if (verdict->leg_count > 0)
        memcpy(legs, us_legs_of(verdict), verdict->leg_count * sizeof *legs);
    if (verdict->corrupt.mode != US_CORRUPT_NOT)
        decision->corrupt_seed = verdict->corrupt.sticky ? script->options.seed : us_random_next(&script->random);
    if (verdict->store.keep != US_STORE_NORMAL)
        decision->store_seed = us_random_next(&script->random);
    if (object->dist != NULL)
        add_drawn_delay(script, decision, object->dist);
    return US_OK;
}

enum us_status us_script_decide(
    struct us_script *script, const struct us_io *io, struct us_decision *decision, struct us_leg *legs) {
    if (io->op >= US_OP_COUNT || (script->handlers & (1u << io->op)) == 0) {
        memset(decision, 0, sizeof *decision);
        return US_OK;
    }
    if (io->tag >= script->io_count || script->io[io->tag] == LUA_NOREF) {
        us_set_error(script, "%s: tag %d is not bound", script->chunk_name, io->tag);
        return US_RUNTIME;
    }
    lua_State *L = script->lua;
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->handler[io->op]);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->io[io->tag]);
    lua_pushinteger(L, (lua_Integer)io->offset);
    lua_pushinteger(L, (lua_Integer)io->length);
    enum us_status status = us_run(script, 3, 1);
    if (__builtin_expect(status == US_OK, 1))
        status = judge(script, io, decision, legs);
    lua_settop(L, 0);
    return status;
}

/* ---- ctl ---- */

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
