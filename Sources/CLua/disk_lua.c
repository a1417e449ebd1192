/* The disk of a test: its methods make requests of their arguments. See include/tests.h.
 *
 * Each method yields what it asks for, and goes on with what came of it. A request's result is a table that the script
 * holds from the moment of sending. Those of requests that are not over are in the registry, from number to table and
 * from table to number. */
#include "include/tests.h"
#include "script_state.h"
#include "userdata.h"
#include <string.h>

enum { WORDS_MAX = 1000, SIZE_TEXT_MAX = 512, STAMP = 16 };

/* The largest max_io there is. */
#define DATA_MAX_BYTES ((uint64_t)32 << 20)

/* Their addresses are keys of the registry: of the requests in flight, and of the disk's metatable. */
static const char requests_key, disk_key;

/* ---- from arguments to what is wanted ---- */

/* Continuation of a method that has yielded: returns the values that were pushed for it. */
static int go_on(lua_State *L, int status, lua_KContext results) {
    (void)status;
    const struct us_tests *tests = &us_script_of(L)->tests;
    if (tests->refusal != NULL)
        return luaL_error(L, "%s", tests->refusal);
    if (tests->answer == NULL)
        return (int)results;
    lua_pushlstring(L, tests->answer, tests->answer_length);
    return 1;
}

static struct us_test_want *begin_want(lua_State *L, const char *method, enum us_test_step step) {
    if (us_object_at(L, 1, US_KIND_DISK) == NULL)
        luaL_error(L, "a disk is expected before the colon, as in disk:%s(...); got %s", method, us_describe(L, 1));
    if (!lua_isyieldable(L))
        luaL_error(L, "disk:%s: not inside of a sort, gsub or metamethod", method);
    struct us_test_want *want = &us_script_of(L)->tests.want;
    *want = (struct us_test_want){.step = step};
    return want;
}

static int wait_for_it(lua_State *L, int results) {
    return lua_yieldk(L, 0, results, go_on);
}

static uint32_t check_flags(lua_State *L, const char *method, int first) {
#define WORD(constant, word, bits) ", \"" word "\""
    static const char *const words = &US_IO_FLAGS(WORD)[2]; /* without the first comma */
#undef WORD
    uint32_t flags = 0;
    for (int index = first; index <= lua_gettop(L); index++) {
        uint32_t bits = 0;
        const struct us_flag_facts *flag;
        for (size_t i = 0; (flag = us_flag_at(i)) != NULL; i++)
            if (us_is_text(L, index, flag->word))
                bits = flag->bits;
        if (bits == 0)
            luaL_error(L, "disk:%s: flag %s: one of %s is expected", method, us_describe(L, index), words);
        flags |= bits;
    }
    return flags;
}

/* Pushes data that differs between offsets and between writes: the offset and the request's number, repeated. */
static void push_stamps(lua_State *L, const struct us_test_want *want) {
    luaL_Buffer buffer;
    char *at = luaL_buffinitsize(L, &buffer, (size_t)want->length);
    for (uint64_t done = 0; done < want->length; done += STAMP) {
        uint64_t stamp[2] = {want->offset + done, want->number};
        memcpy(at + done, stamp, want->length - done < STAMP ? want->length - done : STAMP);
    }
    luaL_pushresultsize(&buffer, (size_t)want->length);
}

/* The data of a write: text that is at least a sector is the data, everything else says how much. Left on top of the
 * stack. */
static void check_data(lua_State *L, struct us_test_want *want, int index) {
    if (lua_type(L, index) == LUA_TSTRING && lua_rawlen(L, index) >= SIZE_TEXT_MAX) {
        want->length = lua_rawlen(L, index);
        lua_pushvalue(L, index);
    } else {
        want->length = us_check_bytes(L, index, "length");
        if (want->length > DATA_MAX_BYTES)
            luaL_error(L, "disk:write: %s: at most 32M at a time", us_describe(L, index));
        push_stamps(L, want);
    }
    want->data = lua_tostring(L, -1);
}

/* Sends a request of which the arguments begin at `first`. Returns its result. */
static int send_request(lua_State *L, const char *method, enum us_op op, int first, bool waits) {
    struct us_tests *tests = &us_script_of(L)->tests;
    struct us_test_want *want = begin_want(L, method, US_TEST_SEND);
    int arguments = op == US_OP_FLUSH ? 0 : 2;
    want->op = (uint8_t)op;
    want->waits = waits;
    want->number = tests->sent + 1;
    want->flags = check_flags(L, method, first + arguments);
    if (arguments > 0)
        want->offset = us_check_bytes(L, first, "offset");
    if (op == US_OP_WRITE)
        check_data(L, want, first + 1);
    else if (arguments > 0)
        want->length = us_check_bytes(L, first + 1, "length");
    tests->sent++;
    lua_createtable(L, 0, 4);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "done");
    if (op == US_OP_WRITE) {
        lua_pushvalue(L, -2);
        lua_setfield(L, -2, "data");
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &requests_key);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)want->number);
    lua_pushvalue(L, -2);
    lua_pushinteger(L, (lua_Integer)want->number);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return wait_for_it(L, 1);
}

static int disk_read(lua_State *L) {
    return send_request(L, "read", US_OP_READ, 2, true);
}

static int disk_write(lua_State *L) {
    return send_request(L, "write", US_OP_WRITE, 2, true);
}

static int disk_flush(lua_State *L) {
    return send_request(L, "flush", US_OP_FLUSH, 2, true);
}

static int disk_discard(lua_State *L) {
    return send_request(L, "discard", US_OP_DISCARD, 2, true);
}

static int disk_write_zeroes(lua_State *L) {
    return send_request(L, "write_zeroes", US_OP_WRITE_ZEROES, 2, true);
}

/* disk:send("read", offset, length): the same without waiting. */
static int disk_send(lua_State *L) {
    for (unsigned op = 0; op < US_OP_COUNT; op++)
        if (us_op_name(op) != NULL && us_is_text(L, 2, us_op_name(op)))
            return send_request(L, "send", op, 3, false);
    return luaL_error(L,
        "disk:send: %s: one of \"read\", \"write\", \"flush\", \"discard\", \"write_zeroes\" is expected",
        us_describe(L, 2));
}

/* disk:wait(time), or disk:wait(result of a send) */
static int disk_wait(lua_State *L) {
    struct us_test_want *want = begin_want(L, "wait", US_TEST_ADVANCE);
    if (!lua_istable(L, 2)) {
        want->time_ns = us_check_time(L, 2);
        return wait_for_it(L, 0);
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &requests_key);
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    want->number = (uint64_t)lua_tointeger(L, -1);
    want->step = US_TEST_FINISH;
    lua_settop(L, 2);
    if (want->number != 0)
        return wait_for_it(L, 1);
    lua_pushliteral(L, "done");
    if (lua_rawget(L, 2) != LUA_TBOOLEAN)
        return luaL_error(L, "disk:wait: a time such as \"5s\", or what disk:send() returned, is expected");
    lua_settop(L, 2);
    return 1;
}

static int disk_ctl(lua_State *L) {
    struct us_test_want *want = begin_want(L, "ctl", US_TEST_CTL);
    int count = lua_gettop(L) - 1;
    if (count < 1 || count > WORDS_MAX)
        return luaL_error(L, "disk:ctl: 1 to %d words are expected", WORDS_MAX);
    luaL_checkstack(L, 4, NULL);
    const char **words = lua_newuserdatauv(L, (size_t)count * sizeof *words, 0);
    for (int i = 0; i < count; i++) {
        size_t length;
        if (lua_type(L, i + 2) != LUA_TSTRING && lua_type(L, i + 2) != LUA_TNUMBER)
            return luaL_error(L, "disk:ctl: word %d is %s; text is expected", i + 1, us_describe(L, i + 2));
        words[i] = lua_tolstring(L, i + 2, &length);
        if (strlen(words[i]) != length)
            return luaL_error(L, "disk:ctl: word %d holds a zero byte", i + 1);
    }
    want->words = words;
    want->word_count = (size_t)count;
    return wait_for_it(L, 0);
}

/* ---- from the driver to the results ---- */

struct ended {
    uint64_t number, time_ns;
    const char *errno_name;
    const void *data;
    size_t length;
};

/* No code of the script's runs here: the table is the script's, but is set without metamethods. */
static int fill_result(lua_State *L) {
    const struct ended *ended = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &requests_key);
    lua_rawgeti(L, 2, (lua_Integer)ended->number);
    lua_pushliteral(L, "done");
    lua_pushboolean(L, true);
    lua_rawset(L, 3);
    lua_pushliteral(L, "time");
    lua_pushinteger(L, (lua_Integer)ended->time_ns);
    lua_rawset(L, 3);
    if (ended->errno_name != NULL) {
        lua_pushliteral(L, "errno");
        lua_pushstring(L, ended->errno_name);
        lua_rawset(L, 3);
    }
    if (ended->data != NULL) {
        lua_pushliteral(L, "data");
        lua_pushlstring(L, ended->data, ended->length);
        lua_rawset(L, 3);
    }
    lua_pushvalue(L, 3);
    lua_pushnil(L);
    lua_rawset(L, 2);
    lua_pushnil(L);
    lua_rawseti(L, 2, (lua_Integer)ended->number);
    return 0;
}

enum us_status us_script_test_ended(struct us_script *script, uint64_t number, uint64_t time_ns,
    const char *errno_name, const void *data, size_t length) {
    struct ended ended = {number, time_ns, errno_name, data, length};
    /* Not us_run: the depth of the test's own pcalls stays as it is. */
    lua_pushcfunction(script->lua, fill_result);
    lua_pushlightuserdata(script->lua, &ended);
    int status = lua_pcall(script->lua, 1, 0, 0);
    lua_settop(script->lua, 0);
    if (status == LUA_OK)
        return US_OK;
    script->over_memory_line = us_current_line(script->tests.coroutine); /* where the test waits */
    return us_fail_memory(script);
}

/* ---- set-up ---- */

static void set_field(lua_State *L, const char *name, uint64_t value) {
    lua_pushinteger(L, (lua_Integer)value);
    lua_setfield(L, -2, name);
}

void us_push_disk(lua_State *L, const struct us_test_disk *disk) {
    enum us_kind *object = lua_newuserdatauv(L, sizeof *object, 0);
    *object = US_KIND_DISK;
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &requests_key);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &disk_key);
    lua_getfield(L, -1, "__index");
    set_field(L, "size", disk->size);
    set_field(L, "block", disk->block);
    set_field(L, "max_io", disk->max_io);
    lua_pop(L, 1);
    lua_setmetatable(L, -2);
}

void us_open_disk(lua_State *L) {
    static const luaL_Reg metatable[] = {{NULL, NULL}};
    static const struct us_native methods[] = {{"disk:read(offset, length, ...)", disk_read},
        {"disk:write(offset, data, ...)", disk_write}, {"disk:flush(...)", disk_flush},
        {"disk:discard(offset, length, ...)", disk_discard},
        {"disk:write_zeroes(offset, length, ...)", disk_write_zeroes}, {"disk:send(operation, ...)", disk_send},
        {"disk:wait(time)", disk_wait}, {"disk:ctl(...)", disk_ctl}, {NULL, NULL}};
    us_push_metatable(L, "disk", metatable);
    lua_newtable(L);
    us_set_natives(L, methods, US_METHOD);
    lua_setfield(L, -2, "__index");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &disk_key);
}
