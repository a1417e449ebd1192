/* release(): a script lets go of what is held on its queue.
 *
 * The function only notes the wish; the queue's thread carries it out between two IOs (us_script_take_release), as a
 * handler's own IO is not held yet. Of several wishes in one turn of the queue those for the same order and errno add
 * up; else the last one counts. */
#include "include/errnos.h"
#include "script_state.h"
#include <string.h>

static enum us_release_order check_order(lua_State *L, int index) {
#define WORD(constant, word) word,
    static const char *const words[] = {US_RELEASE_ORDERS(WORD) NULL};
#undef WORD
    for (unsigned order = 0; order < US_RELEASE_ORDER_COUNT; order++)
        if (us_is_text(L, index, words[order]))
            return (enum us_release_order)order;
    const char *given = us_describe(L, index);
    luaL_error(L, "release: bad order %s: %s is expected", given, us_push_choice(L, words));
    return US_RELEASE_FIFO;
}

static int32_t check_errno(lua_State *L, int index) {
    size_t length = 0;
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &length) : "";
    const struct us_errno *known = us_errno_by_name(name, length);
    if (known == NULL)
        luaL_error(L, "release: bad errno %s: one of those of fail() is expected", us_describe(L, index));
    return known->number;
}

/* release(order, count, errno), each of which may be nil. */
static int release(lua_State *L) {
    us_require_phase(L, "release", US_PHASE_IO | US_PHASE_CTL | US_PHASE_TIMER);
    struct us_release wish = {.is_wanted = true, .order = US_RELEASE_FIFO, .count = UINT64_MAX};
    if (!lua_isnoneornil(L, 1))
        wish.order = check_order(L, 1);
    if (!lua_isnoneornil(L, 2)) {
        lua_Integer count = luaL_checkinteger(L, 2);
        if (count < US_RELEASE_COUNT_MIN)
            return luaL_error(L, "release: bad count %s: %d or more is expected", us_describe(L, 2), US_RELEASE_COUNT_MIN);
        wish.count = (uint64_t)count;
    }
    if (!lua_isnoneornil(L, 3))
        wish.error = check_errno(L, 3);
    struct us_release *old = &us_script_of(L)->release;
    if (old->is_wanted && old->order == wish.order && old->error == wish.error
        && __builtin_add_overflow(old->count, wish.count, &wish.count))
        wish.count = UINT64_MAX;
    *old = wish;
    return 0;
}

bool us_script_wants_release(const struct us_script *script) {
    return script->release.is_wanted;
}

struct us_release us_script_take_release(struct us_script *script) {
    struct us_release wish = script->release;
    script->release.is_wanted = false;
    return wish;
}

void us_open_release(lua_State *L) {
    static const struct us_native function = {"release(order, count, errno)", release};
    us_register_native(L, &function, 0);
}
