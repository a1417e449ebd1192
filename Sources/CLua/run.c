/* Running a script and stopping it.
 *
 * Nothing is armed while a script runs; a run costs two stores to `sequence` and two to a thread-local pointer.
 * The watchdog reads `sequence` now and then. When it shows the same odd number as before, the watchdog asks that
 * very run for a sign of life: it writes the number to `asked` and signals the thread, whose handler counts an answer.
 * Only time between answers is held against a run, for where a host takes the CPU of a virtual machine away, all clocks
 * go on and nothing executes, a signal handler neither.
 *
 * A run that was seen at work for its whole budget is late, and what Lua executes is looked at from then on: the
 * handler sets a hook that adds up what passes between some instructions or calls (meter.h); lua_sethook is made to be
 * called from there. When that is over the allowance too, the hook raises, on every instruction and call from then on,
 * so a pcall of the script's can catch it once but not go on. It does not reach a script that sits in one long C
 * function: a process that must not wait for that has to exit. */
#include "script_state.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* How many instructions pass between two looks at the clock; of the load phase calls, too. */
enum { STEP = 1000 };

/* The script that this thread is running. Initial-exec: a signal handler must not make the C library allocate it. */
static _Thread_local struct us_script *volatile running __attribute__((tls_model("initial-exec")));

static int ask_signal(void) {
    return SIGRTMIN + 3; /* no constant: the C library keeps the first ones to itself */
}

/* ---- the hooks ---- */

/* Each instruction, and each call: library functions that loop may call C functions only, which have none. */
enum { KILL_EVENTS = LUA_MASKCOUNT | LUA_MASKCALL };

static void kill_hook(lua_State *L, lua_Debug *at) {
    (void)at;
    struct us_script *script = us_script_of(L);
    if (!script->interrupted) { /* later calls only unwind what caught the first */
        script->interrupted = true;
        snprintf(script->interrupted_at, sizeof script->interrupted_at, "%s:%d: interrupted: over its time budget%s",
            script->chunk_name, us_current_line(L), script->phase == US_PHASE_LOAD ? " (load phase)" : "");
    }
    lua_pushstring(L, script->interrupted_at);
    lua_error(L);
}

static uint64_t cpu_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* How much of the time since the last look a late run has surely worked: it is in a long C function if it has answered
 * meanwhile. The first answer may be to a question from before. */
static uint64_t known_work(const struct us_script *script) {
    uint32_t answers = us_script_answers(script) - script->late_answers;
    return answers > 1 ? (answers - 1) * atomic_load_explicit(&script->tick, memory_order_relaxed) : 0;
}

/* The hook of a late run. */
static void late_hook(lua_State *L, lua_Debug *at) {
    struct us_script *script = us_script_of(L);
    script->late_looks = true; /* the signal handler keeps away from the meter */
    atomic_signal_fence(memory_order_seq_cst);
    bool is_over = us_meter_look(&script->late_meter, cpu_now(), known_work(script));
    script->late_answers = us_script_answers(script);
    atomic_signal_fence(memory_order_seq_cst);
    script->late_looks = false;
    if (!is_over)
        return;
    lua_sethook(L, kill_hook, KILL_EVENTS, 1);
    kill_hook(L, at);
}

void us_check_load_limit(struct us_script *script) {
    if (script->load_meter.limit != 0 && us_meter_look(&script->load_meter, cpu_now(), 0))
        lua_sethook(script->lua, kill_hook, KILL_EVENTS, 1);
}

static void load_hook(lua_State *L, lua_Debug *at) {
    if (at->event != LUA_HOOKCOUNT && ++us_script_of(L)->load_calls % STEP != 0)
        return;
    us_check_load_limit(us_script_of(L));
    if (lua_gethook(L) == kill_hook)
        kill_hook(L, at);
}

/* ---- a run ---- */

static inline void enter(struct us_script *script, lua_State *L) {
    uint64_t sequence = atomic_load_explicit(&script->sequence, memory_order_relaxed);
    script->active = L;
    running = script; /* first: whoever sees the odd number can interrupt */
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&script->sequence, sequence + 1, memory_order_release);
}

static inline void leave(struct us_script *script) {
    uint64_t sequence = atomic_load_explicit(&script->sequence, memory_order_relaxed);
    running = NULL; /* from here on the handler sets no hook, and what it has set goes away */
    atomic_signal_fence(memory_order_seq_cst);
    if (__builtin_expect(atomic_load_explicit(&script->late, memory_order_relaxed) == sequence, 0))
        lua_sethook(script->active, NULL, 0, 0);
    script->active = script->lua; /* a coroutine may be collected */
    atomic_store_explicit(&script->sequence, sequence + 1, memory_order_release);
}

/* Apart from us_run to keep that short. An interrupted run has failed even if a pcall of the script's swallowed
 * the error and had no instruction left to meet the next one. */
static enum us_status __attribute__((noinline, cold)) failed(struct us_script *script, lua_State *L, int status) {
    if (script->interrupted) {
        script->interrupted = false;
        us_set_error(script, "%s", script->interrupted_at);
        return US_BUDGET;
    }
    if (status == LUA_ERRMEM)
        return us_fail_memory(script);
    us_keep_error(script, L);
    return US_RUNTIME;
}

enum us_status us_run(struct us_script *script, int arguments, int results) {
    script->pcall_depth = 0;
    enter(script, script->lua);
    int status = lua_pcall(script->lua, arguments, results, 0);
    leave(script);
    if (__builtin_expect(status == LUA_OK && !script->interrupted, 1))
        return US_OK;
    return failed(script, script->lua, status);
}

enum us_status us_resume(struct us_script *script, lua_State *coroutine, int arguments, int *results) {
    enter(script, coroutine);
    int status = lua_resume(coroutine, script->lua, arguments, results);
    leave(script);
    if (__builtin_expect(status == LUA_OK && !script->interrupted, 1))
        return US_OK;
    if (status == LUA_YIELD && !script->interrupted)
        return US_WAITS;
    return failed(script, coroutine, status);
}

bool us_reset(struct us_script *script, lua_State *coroutine) {
    enter(script, coroutine);
    lua_resetthread(coroutine);
    leave(script);
    lua_settop(coroutine, 0);
    bool interrupted = script->interrupted;
    script->interrupted = false; /* its IO has an end already */
    return !interrupted;
}

enum us_status us_run_limited(struct us_script *script, int arguments, int results, uint64_t limit_ns) {
    if (limit_ns > 0) {
        script->load_meter = us_meter_start(limit_ns, cpu_now());
        lua_sethook(script->lua, load_hook, LUA_MASKCOUNT | LUA_MASKCALL, STEP);
    }
    enum us_status status = us_run(script, arguments, results);
    lua_sethook(script->lua, NULL, 0, 0);
    script->load_meter.limit = 0;
    return status;
}

/* ---- the watchdog ---- */

/* In the signal handler: the run's time is over. */
static void press(struct us_script *script) {
    lua_Hook hook = lua_gethook(script->active);
    if (hook == NULL) {
        uint64_t allowance = atomic_load_explicit(&script->allowance, memory_order_relaxed);
        script->late_meter = us_meter_start(allowance, cpu_now());
        script->late_answers = us_script_answers(script);
        lua_sethook(script->active, late_hook, KILL_EVENTS, STEP);
    } else if (hook == late_hook && !script->late_looks) {
        /* One long C function may be all that the rest of the run is: then this is the only look. */
        struct us_meter meter = script->late_meter;
        if (us_meter_look(&meter, cpu_now(), known_work(script)))
            lua_sethook(script->active, kill_hook, KILL_EVENTS, 1);
    }
}

static void on_signal(int number) {
    (void)number;
    struct us_script *script = running;
    if (script == NULL)
        return;
    /* Compared here and not only by the sender: the run it meant may be over and the next one innocent. */
    uint64_t sequence = atomic_load_explicit(&script->sequence, memory_order_relaxed);
    if ((sequence & 1) == 0)
        return;
    if (atomic_load_explicit(&script->asked, memory_order_acquire) == sequence)
        atomic_fetch_add_explicit(&script->answers, 1, memory_order_release);
    if (atomic_load_explicit(&script->late, memory_order_acquire) == sequence)
        press(script);
}

void us_script_bind_thread(struct us_script *script) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(ask_signal(), &action, NULL);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, ask_signal());
    pthread_sigmask(SIG_UNBLOCK, &signals, NULL);
    script->thread = pthread_self();
    atomic_store_explicit(&script->bound, true, memory_order_release);
}

uint64_t us_script_cpu_ns(const struct us_script *script) {
    clockid_t clock;
    struct timespec used;
    if (!atomic_load_explicit(&script->bound, memory_order_acquire) ||
        pthread_getcpuclockid(script->thread, &clock) != 0 || clock_gettime(clock, &used) != 0)
        return 0;
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

uint64_t us_script_sequence(const struct us_script *script) {
    return atomic_load_explicit(&script->sequence, memory_order_acquire);
}

uint32_t us_script_answers(const struct us_script *script) {
    return atomic_load_explicit(&script->answers, memory_order_acquire);
}

bool us_script_ask(struct us_script *script, uint64_t sequence, uint64_t tick_ns, uint64_t allowance_ns) {
    if ((sequence & 1) == 0 || us_script_sequence(script) != sequence)
        return false;
    if (!atomic_load_explicit(&script->bound, memory_order_acquire))
        return false;
    atomic_store_explicit(&script->tick, tick_ns, memory_order_relaxed);
    atomic_store_explicit(&script->asked, sequence, memory_order_release);
    if (allowance_ns != 0) {
        atomic_store_explicit(&script->allowance, allowance_ns, memory_order_relaxed);
        atomic_store_explicit(&script->late, sequence, memory_order_release);
    }
    return pthread_kill(script->thread, ask_signal()) == 0;
}
