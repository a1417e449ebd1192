/* One Lua state: load a script, run its handlers, stop it when it runs away.
 * A state belongs to one thread at a time (it may be handed over); only us_script_sequence and
 * us_script_ask and us_script_answers may be called from another one, the watchdog's. */
#pragma once
#include "decision.h"
#include "effects.h"
#include "objects.h"
#include "ranges.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct us_script;

enum us_status {
    US_OK = 0,
    US_SYNTAX,  /* the text is not Lua, or it is bytecode */
    US_RUNTIME, /* the script raised, or gave back something that is not a verdict */
    US_MEMORY,  /* over its memory limit */
    US_BUDGET,  /* over its time budget, interrupted */
    US_WAITS,   /* a handler reads from a backing and goes on when the data is there */
};

struct us_script_options {
    size_t memory_limit;      /* bytes the Lua state may hold */
    uint64_t load_limit_ns;   /* how long the load phase may run; 0: no limit */
    uint64_t seed;            /* of random() */
    uint32_t queue;
    uint32_t bank; /* 0 or 1: where objects without a name are, in turn from one load to the next on this registry */
    uint64_t now;  /* on the device's clock, for the load phase */
    int log_fd;               /* log() writes one line there; -1: dropped. Never blocks if the fd does not */
    bool keeps_tests;         /* test() keeps its function; tests.h */
    bool goes_on;             /* the objects have what the load phase and all since has made of them: it changes none */
    struct us_shared *shared; /* outlives the script */
    const char *directory;    /* what relative paths of the script are relative to; copied. NULL or "": the process's */
};

/* NULL: no memory. */
struct us_script *us_script_new(const struct us_script_options *options);
void us_script_free(struct us_script *script);

/* A key=value of the command line, for params{} or for what device{} gives back. Before us_script_load; both are
 * copied. A later one of the same key replaces it. False: no memory. */
bool us_script_set_argument(struct us_script *script, const char *key, const char *value, bool is_of_device);

/* Runs the text as the load phase. chunk_name as Lua wants it: "@faulty.lua". Once per state. */
enum us_status us_script_load(struct us_script *script, const char *text, size_t length, const char *chunk_name);

/* What went wrong in the last call that failed: "faulty.lua:3: ...". Valid until the next call. */
const char *us_script_error(const struct us_script *script);

/* ---- what the load phase declared: device{}, rule{} and params{} as plain data, in file order ---- */

enum us_field_type {
    US_FIELD_BOOL,
    US_FIELD_INTEGER,
    US_FIELD_NUMBER,
    US_FIELD_STRING,
    US_FIELD_RANGES,
    US_FIELD_DIST,
    US_FIELD_BUCKET,
    US_FIELD_VERDICT,
    US_FIELD_BACKING,
    US_FIELD_TABLE,
};

/* One key of a table, or (key "") one array item. */
struct us_field {
    const char *key;
    enum us_field_type type;
    int64_t integer;                /* US_FIELD_BOOL (0 or 1), US_FIELD_INTEGER, US_FIELD_BACKING (its number) */
    double number;                  /* US_FIELD_NUMBER (not a whole number) */
    const char *string;             /* US_FIELD_STRING; NUL-terminated, may hold NULs before length */
    size_t length;
    struct us_ranges *ranges;       /* US_FIELD_RANGES */
    const struct us_dist *dist;     /* US_FIELD_DIST; of a US_FIELD_VERDICT, or NULL. Lives as long as the script */
    const struct us_decision *verdict; /* US_FIELD_VERDICT; as long */
    struct us_bucket *bucket;       /* US_FIELD_BUCKET; as long as the registry */
    const struct us_field *fields;  /* US_FIELD_TABLE, one level deep */
    size_t field_count;
};

enum us_declaration_kind {
    US_DECLARES_DEVICE,
    US_DECLARES_RULE,
    US_DECLARES_BACKING,
    US_DECLARES_PARAMS, /* the defaults: booleans, numbers and strings */
};

struct us_declaration {
    enum us_declaration_kind kind;
    int line;
    const struct us_field *fields; /* array items first in order, then keys sorted by name */
    size_t field_count;
};

size_t us_script_declaration_count(const struct us_script *script);
/* Valid while the script lives. */
const struct us_declaration *us_script_declaration(const struct us_script *script, size_t index);

/* A global function of the script's, and its line. */
struct us_function {
    const char *name; /* valid while the script lives */
    int line;
};
/* Fills the list with at most room of them, in any order; how many there are in it. After us_script_load. */
size_t us_script_functions(struct us_script *script, struct us_function *list, size_t room);

/* ---- the io phase ---- */

/* Bit n set: there is a handler for enum us_op n. */
uint32_t us_script_handlers(const struct us_script *script);
/* The script defines ctl(). */
bool us_script_has_ctl(const struct us_script *script);

/* Tells the state which us_io belongs to a tag (0 ... 4095), where its data is, and where changes to it are noted.
 * False: no memory. */
bool us_script_bind_io(
    struct us_script *script, uint16_t tag, struct us_io *io, void *data, struct us_patches *patches);

/* Where the data of a write comes from when a handler looks at it and it is not there (has_data of us_io): pull copies
 * so many bytes into the tag's buffer, and gives 0 or an errno. It calls no Lua, and context outlives the state. */
struct us_puller {
    int (*pull)(void *context, uint16_t tag, uint64_t bytes);
    void *context;
};
void us_script_set_puller(struct us_script *script, struct us_puller puller);

/* Size of a backing, which to() and b:read() are checked against; 0 (the default): not checked by to(). */
void us_script_set_backing_size(struct us_script *script, unsigned backing, uint64_t bytes);

/* What now() answers, nanoseconds on the clock of the queue; 0 in the load phase. */
void us_script_set_now(struct us_script *script, uint64_t nanoseconds);

/* Runs the handler of io->op. US_OK: *decision is filled, and its segments, for which there is room for
 * US_SEGMENTS_MAX. US_WAITS: us_script_wanted() is to be read for us_script_resume(), or us_script_forget() called.
 * Otherwise *decision is untouched. */
enum us_status us_script_decide(
    struct us_script *script, const struct us_io *io, struct us_decision *decision, struct us_segment *segments);

/* What a handler that waits wants to read. */
struct us_want {
    uint64_t offset, length; /* bytes; length 1 ... US_READ_MAX */
    uint32_t backing;
};

enum { US_READ_MAX = 64 * 1024 };

struct us_want us_script_wanted(const struct us_script *script);
/* Goes on with the handler that waits in io's tag. error: 0, or a positive errno instead of the data. As
 * us_script_decide() otherwise; it may wait again. */
enum us_status us_script_resume(struct us_script *script, const struct us_io *io, int error, const void *data,
    struct us_decision *decision, struct us_segment *segments);
/* Ends a handler that waits: its IO is decided about otherwise. */
void us_script_forget(struct us_script *script, uint16_t tag);

/* When the next timer is due, on the clock of us_script_set_now(); UINT64_MAX: there is none. */
uint64_t us_script_next_timer(const struct us_script *script);
/* Runs the function of the next timer. There is one. */
enum us_status us_script_run_timer(struct us_script *script);

/* ---- release(): what the script wants to be let go of ---- */

struct us_release {
    bool is_wanted;
    enum us_release_order order; /* by arrival */
    uint64_t count;              /* at most; US_RELEASE_COUNT_MIN or more */
    int32_t error;               /* an errno for them; 0: they end as scripted */
};

bool us_script_wants_release(const struct us_script *script);
/* The wish, which is done with then. */
struct us_release us_script_take_release(struct us_script *script);

/* Runs ctl(argv...). US_OK: *result holds what it returned as text, values separated by tabs ("" for none), or as
 * a JSON array, valid until the next call. */
enum us_status us_script_ctl(struct us_script *script, size_t argc, const char *const *argv, bool as_json,
    const char **result, size_t *result_length);

/* The state of the stream of random(), for records of what it decided. */
uint64_t us_script_random_state(const struct us_script *script);
size_t us_script_memory_used(const struct us_script *script);
/* How many lines of log() were lost because log_fd did not take them. */
uint64_t us_script_log_dropped(const struct us_script *script);

/* ---- the watchdog's side ---- */

/* Call on the thread that will run handlers, before the watchdog starts. Installs the signal handler. */
void us_script_bind_thread(struct us_script *script);
/* Odd while a script runs; changes with each entry and exit. Any thread. */
uint64_t us_script_sequence(const struct us_script *script);
/* CPU time that the bound thread has used, 0 if it cannot be told. Any thread while the bound one lives. */
uint64_t us_script_cpu_ns(const struct us_script *script);
/* Asks the run that has that sequence number for a sign of life, by a signal to its thread; us_script_answers()
 * tells when it came. A no-op when the run is over.
 * tick_ns: the time between two such questions.
 * allowance_ns: 0, or the run's time is over, and it is stopped once it has worked for that long from now on.
 * False: there was no asking. Any thread while the bound one lives. */
bool us_script_ask(struct us_script *script, uint64_t sequence, uint64_t tick_ns, uint64_t allowance_ns);
/* How many questions its runs have answered: each a moment at which the thread executed something. Any thread. */
uint32_t us_script_answers(const struct us_script *script);
