/* counter(), mark() and state(): the cells of the registry as a script uses them.
 *
 * Counters are objects, looked up once in the load phase. Marks and states are named where they happen; a name that is
 * not known yet is made there, which allocates once per name. */
#include "script_state.h"
#include "userdata.h"
#include <string.h>

static struct us_cell *check_cell(lua_State *L, const char *function, enum us_cell_kind kind) {
    size_t length;
    const char *name = us_check_name(L, 1, function, &length);
    struct us_cell *cell = us_objects.cell.of(us_script_of(L)->options.shared, kind, name, length);
    if (cell == NULL)
        luaL_error(L, "%s: out of memory, or too many names", function);
    return cell;
}

/* ---- counters ---- */

static struct us_cell *check_counter(lua_State *L) {
    const struct us_counter_object *object = us_object_at(L, 1, US_KIND_COUNTER);
    if (object == NULL)
        luaL_error(L, "a counter is expected before the colon, as in c:add(1); got %s", us_describe(L, 1));
    return object->cell;
}

static int push_count(lua_State *L, int64_t value) {
    lua_pushinteger(L, value);
    return 1;
}

static int counter_add(lua_State *L) {
    struct us_cell *cell = check_counter(L);
    int64_t number = luaL_optinteger(L, 2, 1);
    return push_count(L, us_objects.cell.add(cell, us_has_happened(L) ? 0 : number));
}

static int counter_get(lua_State *L) {
    return push_count(L, us_objects.cell.value(check_counter(L)));
}

static int counter_set(lua_State *L) {
    struct us_cell *cell = check_counter(L);
    int64_t value = luaL_checkinteger(L, 2);
    if (!us_has_happened(L))
        us_objects.cell.set(cell, value);
    lua_settop(L, 1);
    return 1;
}

static int counter_text(lua_State *L) {
    const struct us_cell *cell = check_counter(L);
    lua_pushfstring(
        L, "counter(\"%s\") %I", us_objects.cell.name(cell), (LUAI_UACINT)us_objects.cell.value(cell));
    return 1;
}

/* The metatable is the own upvalue. */
static int counter(lua_State *L) {
    us_require_phase(L, "counter", US_PHASE_LOAD);
    struct us_cell *cell = check_cell(L, "counter", US_CELL_COUNTER);
    struct us_counter_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    *object = (struct us_counter_object){US_KIND_COUNTER, cell};
    lua_pushvalue(L, us_own_upvalue(1));
    lua_setmetatable(L, -2);
    return 1;
}

/* ---- marks and the state ---- */

static int mark(lua_State *L) {
    us_require_phase(L, "mark", US_PHASE_IO | US_PHASE_CTL | US_PHASE_TIMER);
    return push_count(L, us_objects.cell.mark(check_cell(L, "mark", US_CELL_MARK), us_script_of(L)->now));
}

static int state(lua_State *L) {
    struct us_shared *shared = us_script_of(L)->options.shared;
    struct us_cell *current = us_objects.cell.of(shared, US_CELL_STATE, "", 0);
    if (current == NULL)
        return luaL_error(L, "state: out of memory");
    if (!lua_isnoneornil(L, 1)) {
        const struct us_cell *wanted = check_cell(L, "state", US_CELL_STATE_NAME);
        if (!us_has_happened(L))
            us_objects.cell.set(current, us_objects.cell.number(wanted));
    }
    const struct us_cell *name =
        us_objects.cell.at(shared, US_CELL_STATE_NAME, (uint32_t)us_objects.cell.value(current));
    if (name != NULL)
        lua_pushstring(L, us_objects.cell.name(name));
    else
        lua_pushnil(L);
    return 1;
}

void us_open_cells(lua_State *L) {
    static const luaL_Reg metatable[] = {{"__tostring", counter_text}, {NULL, NULL}};
    static const struct us_native methods[] = {{"counter:add(number)", counter_add}, {"counter:get()", counter_get},
        {"counter:set(number)", counter_set}, {NULL, NULL}};
    static const struct us_native function = {"counter(name)", counter};
    static const struct us_native functions[] = {{"mark(name)", mark}, {"state(name)", state}, {NULL, NULL}};
    us_push_metatable(L, "counter", metatable);
    lua_newtable(L);
    us_set_natives(L, methods, US_METHOD);
    lua_setfield(L, -2, "__index");
    us_register_native(L, &function, 1);
    us_register_natives(L, functions);
}
