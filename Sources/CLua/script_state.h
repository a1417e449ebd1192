/* One script: what script.h hides, for the files that load, run and interrupt it, or keep something of theirs in it.
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
#include "natives.h"
#include <pthread.h>
#include <stdatomic.h>

enum {
    US_ERROR_MAX = 1024,
    US_CHUNK_NAME_MAX = 256,
    US_TAG_COUNT = 4096,
};

/* What a state knows of a tag. */
struct us_tag {
    int reference;                /* of its io object; LUA_NOREF: not bound */
    struct us_io_object *object;  /* which the reference keeps */
    lua_State *waiting;           /* the coroutine of a handler that reads; NULL: none */
    unsigned pcall_depth;         /* of that one */
};

/* tests_lua.c: the test that runs. */
struct us_tests {
    lua_State *coroutine;
    uint64_t sent;            /* requests */
    struct us_test_want want; /* of the test that has just yielded */
    const char *refusal;      /* what it gets instead */
    const char *answer;
    size_t answer_length;
};

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
    struct us_puller puller; /* pull is NULL: data is always there */
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

/* False: no memory. decide.c */
bool us_make_spare(struct us_script *script);
