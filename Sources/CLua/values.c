/* The small functions of a script: random numbers, time, units, the log, and the constants.
 *
 * random() has one stream per state, made from seed and queue, so a run can be repeated. now() is a number that
 * the queue sets; a script that waits for it waits forever. log() makes one write(2) per line and never waits. */
#include "script_state.h"
#include <string.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 1000 };

/* ---- random ---- */

/* Uniform in 0 ... last, by Lemire's multiplication: take the high half of a 128-bit product, and reject the few
 * low halves that would favour some results. */
static uint64_t random_up_to(struct us_random *stream, uint64_t last) {
    if (last == UINT64_MAX)
        return us_objects.random.next(stream);
    uint64_t count = last + 1;
    uint64_t rejected = (0 - count) % count; /* 2^64 mod count */
    unsigned __int128 product;
    do
        product = (unsigned __int128)us_objects.random.next(stream) * count;
    while ((uint64_t)product < rejected);
    return (uint64_t)(product >> 64);
}

static int push_between(lua_State *L, lua_Integer low, lua_Integer high) {
    if (low > high)
        return luaL_error(L, "random: there is no whole number from %I to %I", (LUAI_UACINT)low, (LUAI_UACINT)high);
    uint64_t offset = random_up_to(&us_script_of(L)->random, (uint64_t)high - (uint64_t)low);
    lua_pushinteger(L, (lua_Integer)((uint64_t)low + offset));
    return 1;
}

static int random_integer(lua_State *L) {
    return push_between(L, luaL_checkinteger(L, 1), luaL_checkinteger(L, 2));
}

static int random_any(lua_State *L) {
    switch (lua_gettop(L)) {
    case 0:
        lua_pushnumber(L, us_objects.random.unit(&us_script_of(L)->random));
        return 1;
    case 1:
        return push_between(L, 1, luaL_checkinteger(L, 1));
    default:
        return random_integer(L);
    }
}

/* ---- time ---- */

static int now(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)us_script_of(L)->now);
    return 1;
}

/* ---- units ---- */

static int bytes(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)us_check_bytes(L, 1, "size"));
    return 1;
}

static int nanoseconds(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)us_check_time(L, 1));
    return 1;
}

/* ---- log ---- */

struct line {
    char text[LOG_LINE_MAX + 1]; /* and the line end */
    size_t length;
};

static bool put(struct line *line, char c) {
    if (line->length == LOG_LINE_MAX)
        return false;
    line->text[line->length++] = c;
    return true;
}

/* One line whatever the text holds: line ends are spelled out, other control characters become question marks. */
static void put_text(struct line *line, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '\n') {
            if (line->length + 2 > LOG_LINE_MAX)
                return;
            put(line, '\\');
            put(line, 'n');
        } else {
            bool is_c1 = c == 0xc2 && i + 1 < length && (unsigned char)text[i + 1] - 0x80u < 0x20;
            if (is_c1)
                i++; /* two bytes, one character that terminals obey as well */
            if (!put(line, (c < ' ' && c != '\t') || c == 0x7f || is_c1 ? '?' : (char)c))
                return;
        }
    }
}

static int log_line(lua_State *L) {
    struct us_script *script = us_script_of(L);
    struct line line = {.length = 0};
    int arguments = lua_gettop(L);
    for (int i = 1; i <= arguments; i++) {
        size_t length;
        const char *text = luaL_tolstring(L, i, &length);
        if (i > 1)
            put(&line, '\t');
        put_text(&line, text, length);
        lua_pop(L, 1);
    }
    /* Every queue runs the load phase, and so does the state of a test; one of them is heard. */
    bool is_heard = script->options.queue == 0 && !script->options.keeps_tests;
    if (script->options.log_fd < 0 || (script->phase == US_PHASE_LOAD && !is_heard))
        return 0;
    line.text[line.length++] = '\n';
    if (write(script->options.log_fd, line.text, line.length) != (ssize_t)line.length)
        script->log_dropped++;
    return 0;
}

/* ---- set-up ---- */

static const struct {
    const char *name;
    lua_Integer value;
} constants[] = {
    {"us", 1000},
    {"ms", 1000000},
    {"sec", 1000000000},
    {"KiB", (lua_Integer)1 << 10},
    {"MiB", (lua_Integer)1 << 20},
    {"GiB", (lua_Integer)1 << 30},
    {"TiB", (lua_Integer)1 << 40},
};

void us_open_values(lua_State *L) {
    static const struct us_native functions[] = {{"random(m, n)", random_any}, {"randint(m, n)", random_integer},
        {"now()", now}, {"bytes(size)", bytes}, {"time(time)", nanoseconds}, {"log(...)", log_line},
        {"print(...)", log_line}, {NULL, NULL}};
    us_register_natives(L, functions);
    lua_getglobal(L, LUA_MATHLIBNAME);
    lua_getglobal(L, "random");
    lua_setfield(L, -2, "random");
    lua_pop(L, 1);
    for (size_t i = 0; i < sizeof constants / sizeof *constants; i++) {
        lua_pushinteger(L, constants[i].value);
        lua_setglobal(L, constants[i].name);
    }
}
