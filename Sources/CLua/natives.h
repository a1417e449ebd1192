/* For the files that give functions to scripts: how such a function is made, and how it reads what it is called with.
 * Everything here runs on the thread of its Lua state, below lua_pcall, and may raise; what never does says so. */
#pragma once
#include "include/objects.h"
#include "include/script.h"
#include "lua_api.h"

/* The objects that Swift has, as it has handed them over. objects.c */
extern struct us_object_functions us_objects;

/* When a function may be called. */
enum us_phase { US_PHASE_LOAD = 1, US_PHASE_IO = 2, US_PHASE_CTL = 4, US_PHASE_TIMER = 8, US_PHASE_TEST = 16 };

/* ---- arguments.c: what scripts hand over. All raise. ---- */
uint64_t us_check_bytes(lua_State *L, int index, const char *what);
uint64_t us_check_time(lua_State *L, int index);
/* Text for an error message that shows the value at that index: "4Q" with quotes, -1, a table. */
const char *us_describe(lua_State *L, int index);
/* The value is exactly this text: what a NUL hides counts. Never raises. */
bool us_is_text(lua_State *L, int index, const char *text);
/* Pushes the words for a message, as in "all" or "none"; they end with NULL. */
const char *us_push_choice(lua_State *L, const char *const *words);
/* A name by US_NAME_RULE. */
const char *us_check_name(lua_State *L, int index, const char *function, size_t *length);
/* Raises unless the script is in one of the phases. */
void us_require_phase(lua_State *L, const char *function, unsigned phases);
/* The script loads on objects that have what it would make of them, and what came of that since: it must leave them. */
bool us_has_happened(lua_State *L);
/* Pushes a new metatable that scripts can neither see nor replace. */
void us_push_metatable(lua_State *L, const char *name, const luaL_Reg *functions);

/* The line of the nearest Lua function that is running, 0 when there is none. Never raises or allocates. */
int us_current_line(lua_State *L);

/* ---- natives.c: the functions that scripts call. All raise. ---- */
struct us_native {
    const char *signature; /* "counter(name)" */
    lua_CFunction function;
};
enum us_native_kind { US_FUNCTION, US_METHOD }; /* a method has its object before its arguments */
enum { US_NATIVE_UPVALUES = 1 };
/* Of a native's own upvalues the one with that number, from 1. */
#define us_own_upvalue(number) lua_upvalueindex(US_NATIVE_UPVALUES + (number))
/* Makes a function of it, with so many upvalues of its own, which it pops. */
void us_push_native(lua_State *L, const struct us_native *native, enum us_native_kind kind, int own);
/* The last word of its signature: "add" of "ranges:add(...)". */
const char *us_push_native_name(lua_State *L, const struct us_native *native);
/* Makes the function and puts it into the table at that index, by its name. */
void us_set_native(lua_State *L, int table, const struct us_native *native, enum us_native_kind kind, int own);
/* All of a list, which ends with NULL, into the table on top of the stack. */
void us_set_natives(lua_State *L, const struct us_native *list, enum us_native_kind kind);
/* As globals. */
void us_register_native(lua_State *L, const struct us_native *native, int own);
void us_register_natives(lua_State *L, const struct us_native *list);

/* ---- declare.c. All raise. ---- */
/* Keeps the table in argument 1 of a call of that function, in the load phase, as a declaration. */
void us_declare(lua_State *L, const char *function, enum us_declaration_kind kind);
/* The same in two steps: what was read counts once it is appended. */
struct us_declaration us_read_declaration(lua_State *L, const char *function, enum us_declaration_kind kind);
/* Pushes a copy of device{}'s table with what the command line says, as text, in place of the script's values. */
void us_push_settings(lua_State *L, int table);
void us_append_declaration(lua_State *L, const struct us_declaration *declaration);

/* ---- what each file gives to scripts: sets globals. All raise. ---- */
void us_open_sandbox(lua_State *L);
void us_open_values(lua_State *L);  /* random now log bytes time and constants */
void us_open_declare(lua_State *L); /* device rule */
void us_open_params(lua_State *L);
void us_open_ranges(lua_State *L);
void us_open_dist(lua_State *L);
void us_open_bucket(lua_State *L);
void us_open_cells(lua_State *L);   /* counter mark state */
void us_open_dict(lua_State *L);
void us_open_verdict(lua_State *L);
void us_open_effects(lua_State *L); /* corrupt store misdirect */
void us_open_targets(lua_State *L); /* to backing */
void us_open_release(lua_State *L);
void us_open_timers(lua_State *L);  /* after every */
void us_open_tests(lua_State *L);   /* test expect */
void us_open_disk(lua_State *L);
void us_open_io(lua_State *L);

/* What scripts reach through an io: io.offset, io:data(). */
enum { US_IO_FIELD_COUNT = 11, US_IO_NAME_COUNT = 19 /* fields and methods */ };
extern const struct us_native us_io_methods[US_IO_NAME_COUNT - US_IO_FIELD_COUNT]; /* io_data.c */
