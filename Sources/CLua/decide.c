/* The io phase: from an IO to a decision.
 *
 * Owner: the queue's thread. A decision makes no system call and, if the handler makes no objects, no allocation;
 * what it touches per IO is the handler's and the io object's place in the registry. Handlers run in coroutines, one
 * that is used again and again, so that one which reads from a backing can wait for the data: its coroutine stays
 * with the tag, and the next handler gets another. Between calls the stacks of those that do not wait are empty. A
 * handler's result is judged here, outside of lua_resume, by functions that cannot raise. */
#include "script_state.h"
#include "userdata.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static enum us_status __attribute__((cold)) refuse_type(struct us_script *script, unsigned op, const char *type) {
    char why[160];
    snprintf(why, sizeof why, "%s returned a %s; a verdict (fail, delay, ...) or nil is expected", us_op_name(op), type);
    return refuse(script, op, why);
}

/* A second value would be a part of the verdict that nobody looks at. */
static enum us_status __attribute__((noinline, cold)) check_single(
    struct us_script *script, lua_State *L, int results, unsigned op) {
    char why[160];
    for (int index = lua_gettop(L) - results + 2; index <= lua_gettop(L); index++)
        if (!lua_isnil(L, index)) {
            snprintf(why, sizeof why, "%s returned %d values; one verdict is expected, as in fail(\"EIO\") + delay(\"1s\")",
                us_op_name(op), results);
            return refuse(script, op, why);
        }
    return US_OK;
}

static enum us_status __attribute__((cold)) refuse_outcome(
    struct us_script *script, unsigned op, const struct us_decision *verdict) {
    char why[256], text[96];
    us_decision_text(verdict, text, sizeof text);
    snprintf(why, sizeof why, "%s returned %s, which a %s cannot do", us_op_name(op), text, us_op_name(op));
    return refuse(script, op, why);
}

static enum us_status __attribute__((cold)) refuse_target(
    struct us_script *script, unsigned op, uint64_t to, unsigned backing) {
    char why[160], where[32] = "the device";
    if (backing != 0)
        snprintf(where, sizeof where, "backing %u", backing);
    snprintf(why, sizeof why, "to(%llu): offset + length is past the end of %s (%llu bytes)", (unsigned long long)to,
        where, (unsigned long long)script->backing_size[backing]);
    return refuse(script, op, why);
}

static enum us_status __attribute__((cold)) refuse_segment(
    struct us_script *script, const struct us_io *io, const struct us_segment *segment) {
    char why[160];
    snprintf(why, sizeof why, "to(): bytes %llu to %llu are asked for of an IO of %llu", (unsigned long long)segment->at,
        (unsigned long long)(segment->at + segment->length), (unsigned long long)io->length);
    return refuse(script, io->op, why);
}

/* Whether every target of the verdict exists, and each segment lies within the IO. */
static enum us_status __attribute__((noinline)) check_segments(
    struct us_script *script, const struct us_io *io, const struct us_decision *verdict) {
    if (verdict->is_relative)
        return US_OK;
    struct us_segment whole = {.offset = verdict->to_offset, .backing = verdict->to_backing};
    unsigned count = verdict->segment_count > 0 ? verdict->segment_count : 1;
    for (unsigned i = 0; i < count; i++) {
        const struct us_segment *segment = verdict->segment_count > 0 ? &us_segments_of(verdict)[i] : &whole;
        uint64_t length = us_segment_end(segment, io->length) - segment->at;
        if (segment->at >= io->length || !us_fits(segment->at, length, io->length))
            return refuse_segment(script, io, segment);
        uint64_t size = script->backing_size[segment->backing];
        if (size != 0 && !us_fits(segment->offset, length, size))
            return refuse_target(script, io->op, segment->offset, segment->backing);
    }
    return US_OK;
}

static void __attribute__((noinline)) add_drawn_delay(
    struct us_script *script, struct us_decision *decision, const struct us_dist *dist) {
    decision->delay_ns = us_time_sum(decision->delay_ns, us_objects.dist.sample(dist, &script->random));
}

/* done(data): copies the data to the buffer that the driver takes a read's data from. */
static enum us_status __attribute__((noinline)) copy_data(
    struct us_script *script, lua_State *L, int index, const struct us_io *io) {
    size_t length = 0;
    if (!lua_checkstack(L, 1))
        return us_fail_memory(script);
    lua_getiuservalue(L, index, 1);
    const char *data = lua_tolstring(L, -1, &length);
    if (length != io->length) {
        char why[160];
        snprintf(why, sizeof why, "done(): %zu bytes for a read of %llu", length, (unsigned long long)io->length);
        return refuse(script, io->op, why);
    }
    memcpy(script->tags[io->tag].object->data, data, length);
    return US_OK;
}

/* The handler has noted changes to the data: the decision says so. */
static enum us_status __attribute__((noinline)) add_patches(
    struct us_script *script, const struct us_io *io, struct us_decision *decision) {
    const struct us_patches *patches = script->tags[io->tag].object->patches;
    if (patches->sequence != io->sequence || patches->count == 0)
        return US_OK;
    if (decision->corrupt.mode != US_CORRUPT_NOT)
        return refuse(script, io->op, "corrupt() and io:flip() or io:patch() exclude each other");
    decision->corrupt.mode = US_CORRUPT_PATCH;
    return US_OK;
}

/* Checks the verdict at index against the IO, and does the part of it that cannot wait. */
static inline enum us_status check(struct us_script *script, lua_State *L, int index, const struct us_io *io,
    const struct us_verdict_object *object) {
    if ((object->ops & (1u << io->op)) == 0)
        return refuse_outcome(script, io->op, &object->decision);
    if (object->decision.outcome == US_OUTCOME_REDIRECT)
        return check_segments(script, io, &object->decision);
    return object->decision.has_data ? copy_data(script, L, index, io) : US_OK;
}

/* Makes the decision of what the handler of io->op has returned: the value at index; index 0: nothing. */
static inline enum us_status judge(struct us_script *script, lua_State *L, int index, const struct us_io *io,
    struct us_decision *decision, struct us_segment *segments) {
    const struct us_verdict_object *object = index != 0 ? us_object_at(L, index, US_KIND_VERDICT) : NULL;
    if (object == NULL) {
        if (index != 0 && !lua_isnil(L, index))
            return refuse_type(script, io->op, luaL_typename(L, index));
        memset(decision, 0, sizeof *decision);
    } else {
        const struct us_decision *verdict = &object->decision;
        enum us_status status = check(script, L, index, io, object);
        if (status != US_OK)
            return status;
        *decision = *verdict;
        if (verdict->segment_count > 0)
            memcpy(segments, us_segments_of(verdict), verdict->segment_count * sizeof *segments);
        if (verdict->corrupt.mode != US_CORRUPT_NOT)
            decision->corrupt_seed = verdict->corrupt.sticky ? script->options.seed : us_objects.random.next(&script->random);
        if (verdict->store.keep != US_STORE_NORMAL)
            decision->store_seed = us_objects.random.next(&script->random);
        if (object->dist != NULL)
            add_drawn_delay(script, decision, object->dist);
    }
    return script->any_patches ? add_patches(script, io, decision) : US_OK;
}

/* ---- coroutines ---- */

/* Recurses, so that Lua allocates what it keeps for each level of calls before the first IO. */
static int warm_up(lua_State *L) {
    lua_Integer depth = lua_tointeger(L, 1);
    if (depth > 0) {
        lua_pushcfunction(L, warm_up);
        lua_pushinteger(L, depth - 1);
        lua_call(L, 1, 0);
    }
    return 0;
}

/* Below lua_pcall. */
static int make_coroutine(lua_State *L) {
    struct us_script *script = us_script_of(L);
    lua_State *coroutine = lua_newthread(L);
    int results;
    lua_pushcfunction(coroutine, warm_up);
    lua_pushinteger(coroutine, 8);
    if (lua_resume(coroutine, L, 1, &results) != LUA_OK)
        return luaL_error(L, "no memory for a coroutine");
    lua_rawsetp(L, LUA_REGISTRYINDEX, coroutine); /* or it would be collected */
    script->spare = coroutine;
    return 0;
}

bool us_make_spare(struct us_script *script) {
    if (script->idle_count > 0) {
        script->spare = script->idle[--script->idle_count];
        return true;
    }
    /* Room for all of them to be idle at once. */
    lua_State **more = realloc(script->idle, (script->coroutine_count + 1) * sizeof *more);
    if (more == NULL)
        return false;
    script->idle = more;
    lua_pushcfunction(script->lua, make_coroutine);
    bool made = lua_pcall(script->lua, 0, 0, 0) == LUA_OK;
    lua_settop(script->lua, 0);
    if (made)
        script->coroutine_count++;
    return made;
}

/* Takes back the coroutine of a handler that has returned. */
static inline void give_back(struct us_script *script, lua_State *coroutine) {
    lua_settop(coroutine, 0);
    if (coroutine != script->spare)
        script->idle[script->idle_count++] = coroutine;
}

/* Takes back the coroutine of a handler that has raised. One that was interrupted is left to the collector: the
 * hook's error leaves Lua with hooks switched off in it, so it could not be interrupted again. */
static void __attribute__((noinline, cold)) clear_up(
    struct us_script *script, lua_State *coroutine, bool was_interrupted) {
    if (!was_interrupted && us_reset(script, coroutine)) {
        give_back(script, coroutine);
        return;
    }
    lua_pushnil(script->lua);
    lua_rawsetp(script->lua, LUA_REGISTRYINDEX, coroutine);
    script->coroutine_count--;
    if (coroutine == script->spare) {
        script->spare = NULL;
        us_make_spare(script); /* or it is tried again for the next IO */
    }
}

/* The handler reads: its coroutine stays with the tag. */
static enum us_status __attribute__((noinline)) wait(
    struct us_script *script, lua_State *coroutine, const struct us_io *io) {
    if (coroutine == script->spare && !us_make_spare(script)) {
        clear_up(script, coroutine, false);
        return us_fail_memory(script);
    }
    script->tags[io->tag].waiting = coroutine;
    script->tags[io->tag].pcall_depth = script->pcall_depth;
    return US_WAITS;
}

static inline enum us_status go_on(struct us_script *script, lua_State *coroutine, int arguments,
    const struct us_io *io, struct us_decision *decision, struct us_segment *segments) {
    int results;
    enum us_status status = us_resume(script, coroutine, arguments, &results);
    if (__builtin_expect(status == US_WAITS, 0))
        return wait(script, coroutine, io);
    if (__builtin_expect(status != US_OK, 0)) {
        clear_up(script, coroutine, status == US_BUDGET);
        return status;
    }
    if (__builtin_expect(results > 1, 0))
        status = check_single(script, coroutine, results, io->op);
    if (__builtin_expect(status == US_OK, 1))
        status = judge(script, coroutine, results > 0 ? lua_gettop(coroutine) - results + 1 : 0, io, decision, segments);
    give_back(script, coroutine);
    return status;
}

enum us_status us_script_decide(
    struct us_script *script, const struct us_io *io, struct us_decision *decision, struct us_segment *segments) {
    if (io->op >= US_OP_COUNT || (script->handlers & (1u << io->op)) == 0) {
        memset(decision, 0, sizeof *decision);
        return US_OK;
    }
    if (io->tag >= script->tag_count || script->tags[io->tag].reference == LUA_NOREF) {
        us_set_error(script, "%s: tag %d is not bound", script->chunk_name, io->tag);
        return US_RUNTIME;
    }
    const struct us_tag *tag = &script->tags[io->tag];
    lua_State *L = script->spare;
    if (__builtin_expect(L == NULL, 0)) {
        if (!us_make_spare(script))
            return us_fail_memory(script);
        L = script->spare;
    }
    script->pcall_depth = 0;
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->handler[io->op]);
    lua_rawgeti(L, LUA_REGISTRYINDEX, tag->reference);
    lua_pushinteger(L, (lua_Integer)io->offset);
    lua_pushinteger(L, (lua_Integer)io->length);
    return go_on(script, L, 3, io, decision, segments);
}

struct us_want us_script_wanted(const struct us_script *script) {
    return script->want;
}

enum us_status us_script_resume(struct us_script *script, const struct us_io *io, int error, const void *data,
    struct us_decision *decision, struct us_segment *segments) {
    struct us_tag *tag = &script->tags[io->tag];
    lua_State *coroutine = tag->waiting;
    tag->waiting = NULL;
    script->arrived = data;
    script->arrived_error = error;
    script->pcall_depth = tag->pcall_depth;
    return go_on(script, coroutine, 0, io, decision, segments);
}

void us_script_forget(struct us_script *script, uint16_t tag) {
    lua_State *coroutine = script->tags[tag].waiting;
    if (coroutine == NULL)
        return;
    script->tags[tag].waiting = NULL;
    clear_up(script, coroutine, false);
}
