/* One script: what script.h hides, and what the C files of this target share.
 *
 * The state belongs to the thread that runs the script. Only `sequence`, `late`, `bound`, `thread` and what the
 * watchdog and the script say to each other (`asked` to `answers`) are touched by another one, the watchdog's; the
 * signal handler that it triggers runs on the script's own thread.
 * Functions that take a lua_State may raise (longjmp) and run below lua_pcall only; the others never do. */
#pragma once
#include "include/meter.h"
#include "include/objects.h"
#include "include/script.h"
#include "include/tests.h"
#include "lua_api.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    US_ERROR_MAX = 1024,
    US_CHUNK_NAME_MAX = 256,
    US_TAG_COUNT = 4096,
    US_IO_FIELD_COUNT = 11,
    US_IO_NAME_COUNT = 19, /* fields and methods */
};

/* What a state knows of a tag. */
struct us_tag {
    int reference;                /* of its io object; LUA_NOREF: not bound */
    struct us_io_object *object;  /* which the reference keeps */
    lua_State *waiting;           /* the coroutine of a handler that reads; NULL: none */
    unsigned pcall_depth;         /* of that one */
};

enum us_phase { US_PHASE_LOAD = 1, US_PHASE_IO = 2, US_PHASE_CTL = 4, US_PHASE_TIMER = 8, US_PHASE_TEST = 16 };

/* tests_lua.c: the test that runs. */
struct us_tests {
    lua_State *coroutine;
    uint64_t sent;            /* requests */
    struct us_test_want want; /* of the test that has just yielded */
    const char *refusal;      /* what it gets instead */
    const char *answer;
    size_t answer_length;
};

struct us_io_object;

/* The objects that Swift has, as it has handed them over. */
extern struct us_object_functions us_objects;

struct us_script {
    /* What a decision touches comes first. */
    lua_State *lua;
    lua_State *spare;           /* the coroutine that the next handler runs in; NULL: there was no memory for one */
    lua_State *volatile active; /* what runs, for the signal handler */
    _Atomic uint64_t sequence; /* odd while a script runs */
    _Atomic uint64_t late;     /* the run whose time is over */
    enum us_phase phase;
    unsigned pcall_depth; /* of what runs */
    bool interrupted; /* the kill hook raised in this run; whatever pcall made of it */
    uint32_t handlers; /* bit per enum us_op */
    int handler[US_OP_COUNT]; /* registry references */
    struct us_tag *tags; /* by tag */
    size_t tag_count;
    bool any_patches; /* some handler has noted changes to data once */
    uint64_t backing_size[US_BACKINGS_MAX];
    uint64_t now;
    struct us_random random;
    const char *io_field[US_IO_NAME_COUNT]; /* the strings of this state, compared by address */
    int io_metatable, verdict_metatable; /* registry references */

    struct us_release release; /* release_lua.c */
    struct us_timer *timers;   /* timers.c */
    size_t timer_count;
    uint64_t timer_due;      /* of the next one; UINT64_MAX: none */
    struct us_want want;      /* of the handler that has just yielded */
    const void *arrived;      /* what it gets */
    int arrived_error;
    lua_State **idle;         /* coroutines without a handler, besides the spare one */
    size_t idle_count, coroutine_count;
    struct us_script_options options;
    size_t memory_used;
    bool over_memory;     /* the allocator refused, rather than the system */
    int over_memory_line; /* where, 0: not in a Lua function */
    unsigned char *arena; /* declare.c: the rest of the newest block of copies */
    size_t arena_left;
    struct us_declaration *declarations;
    size_t declaration_count, declaration_capacity, rule_count, backing_count;
    unsigned anonymous_buckets, anonymous_sets; /* that this load has taken */
    bool has_device;
    int device_line; /* of device{} */
    int params_line; /* of params{}; 0: none */
    int ctl;         /* registry reference */
    bool loaded;
    unsigned kept_fails, kept_delays, kept_hangs; /* verdicts kept for their arguments */
    uint64_t log_dropped;
    struct us_tests tests;
    struct us_meter load_meter; /* limit 0: not in the load phase, or none */
    unsigned load_calls;        /* of functions */
    _Atomic uint64_t asked;     /* the run that is to answer the watchdog's signal */
    _Atomic uint64_t allowance; /* of the late run, ns; set before `late` */
    _Atomic uint64_t tick;      /* between two questions, ns */
    _Atomic uint32_t answers;
    struct us_meter late_meter;  /* of the late run, from its first answer on */
    uint32_t late_answers;       /* at the last look */
    volatile bool late_looks;    /* a look is under way */
    char *result;           /* of ctl */
    size_t result_length;
    atomic_bool bound;
    pthread_t thread;
    char interrupted_at[US_ERROR_MAX / 2]; /* the whole message of the interruption */
    char chunk_name[US_CHUNK_NAME_MAX];    /* as people write it, without the @ */
    char error[US_ERROR_MAX];
};

static inline struct us_script *us_script_of(lua_State *L) {
    return *(struct us_script **)lua_getextraspace(L);
}

/* ---- objects: every full userdata that a script can hold is made here and begins with its kind, which is
 * cheaper to check than a metatable. Nothing else hands userdata to scripts. ---- */

enum us_kind {
    US_KIND_IO = 0x75736901,
    US_KIND_VERDICT,
    US_KIND_RANGES,
    US_KIND_COUNTER,
    US_KIND_DIST,
    US_KIND_BUCKET,
    US_KIND_BACKING,
    US_KIND_DICT,
    US_KIND_DISK,
};

struct us_io_object {
    enum us_kind kind;
    const struct us_io *io;
    unsigned char *data; /* the tag's buffer */
    struct us_patches *patches;
};

struct us_verdict_object {
    enum us_kind kind;
    uint32_t ops; /* us_decision_ops() */
    const struct us_dist *dist; /* NULL: none; each IO is delayed by a time drawn from it, too */
    struct us_decision decision;
    struct us_segment segments[]; /* decision.segment_count, right behind it */
};
_Static_assert(offsetof(struct us_verdict_object, segments)
        == offsetof(struct us_verdict_object, decision) + sizeof(struct us_decision),
    "segments follow the decision");

/* The segments of a decision that a script made. */
static inline const struct us_segment *us_segments_of(const struct us_decision *decision) {
    return (const struct us_segment *)(decision + 1);
}

struct us_ranges_object {
    enum us_kind kind;
    struct us_ranges *set;
};

struct us_dist_object {
    enum us_kind kind;
    const struct us_dist *dist;
};

struct us_bucket_object {
    enum us_kind kind;
    struct us_bucket *bucket;
};

struct us_dict_object {
    enum us_kind kind;
    struct us_dict *dict;
};

struct us_backing_object {
    enum us_kind kind;
    unsigned number; /* 0 (the device's own) ... US_BACKINGS_MAX - 1 */
};

struct us_counter_object {
    enum us_kind kind;
    struct us_cell *cell;
};

/* The object at that index, NULL if it is anything else. Never raises. */
static inline void *us_object_at(lua_State *L, int index, enum us_kind kind) {
    if (lua_type(L, index) != LUA_TUSERDATA)
        return NULL;
    enum us_kind *object = lua_touserdata(L, index);
    return *object == kind ? object : NULL;
}

/* ---- script.c ---- */
void us_set_error(struct us_script *script, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Keeps the error object on top of the stack as text. Runs no script code. */
void us_keep_error(struct us_script *script, lua_State *L);
enum us_status us_fail_memory(struct us_script *script);

/* ---- run.c ---- */
/* lua_pcall between the two ends of a run, so that the watchdog sees it. The error is kept. */
enum us_status us_run(struct us_script *script, int arguments, int results);
/* The same for a coroutine, with lua_resume. US_WAITS: it yielded. */
enum us_status us_resume(struct us_script *script, lua_State *coroutine, int arguments, int *results);
/* Empties a coroutine whose handler has raised, or is to go no further. Runs the __close of what it left open. False:
 * that was interrupted, and the coroutine must not be used again. */
bool us_reset(struct us_script *script, lua_State *coroutine);
/* The same below a limit on the load phase. */
enum us_status us_run_limited(struct us_script *script, int arguments, int results, uint64_t limit_ns);
/* For the allocator: a few instructions of the load phase can spend seconds in large strings. */
void us_check_load_limit(struct us_script *script);

/* The line of the nearest Lua function that is running, 0 when there is none. Never raises or allocates. */
int us_current_line(lua_State *L);

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
/* Pushes a new metatable that scripts can neither see nor replace. */
void us_push_metatable(lua_State *L, const char *name, const luaL_Reg *functions);

/* ---- natives.c: the functions that scripts call. All raise. ---- */
struct us_native {
    const char *signature; /* "counter(name)" */
    lua_CFunction function;
};
enum us_native_kind { US_FUNCTION, US_METHOD }; /* a method has its object before its arguments */
enum { US_NATIVE_UPVALUES = 2 };
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
extern const struct us_native us_io_methods[US_IO_NAME_COUNT - US_IO_FIELD_COUNT]; /* io_data.c */

/* Pushes the disk of a test. Raises. disk_lua.c */
void us_push_disk(lua_State *L, const struct us_test_disk *disk);

/* False: no memory. decide.c */
bool us_make_spare(struct us_script *script);

/* Pushes a new verdict, with as many segments as the decision says. Raises. verdict.c */
struct us_verdict_object *us_push_verdict(
    lua_State *L, const struct us_decision *decision, const struct us_segment *segments);
/* The segments of the sum of two verdicts, in this order; how many. Raises when they cannot be added. targets_lua.c */
uint8_t us_both_segments(
    lua_State *L, const struct us_decision *left, const struct us_decision *right, struct us_segment segments[US_SEGMENTS_MAX]);
