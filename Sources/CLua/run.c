/* Running a script and stopping it.
 *
 * Nothing is armed while a script runs; a run costs two stores to `sequence` and two to a thread-local pointer.
 * The watchdog reads `sequence` now and then. When it shows the same odd number for too long, the watchdog
 * writes that number to `kill` and signals the thread. The handler, on the script's own thread, sets a Lua hook
 * if that very run is still going on; lua_sethook is made to be called from there. The hook raises on every
 * instruction and call from then on, so a pcall of the script's can catch it once but not go on. It does not reach a
 * script that sits in one long C function: a process that must not wait for that has to exit. */
#include "script_state.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* How many instructions of the load phase, or calls, pass between two looks at the clock. */
enum { LOAD_STEP = 1000 };

/* The script that this thread is running. Initial-exec: a signal handler must not make the C library allocate it. */
static _Thread_local struct us_script *volatile running __attribute__((tls_model("initial-exec")));

static int kill_signal(void) {
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

static uint64_t clock_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

void us_check_load_limit(struct us_script *script) {
    if (script->load_deadline != 0 && clock_now() >= script->load_deadline)
        lua_sethook(script->lua, kill_hook, KILL_EVENTS, 1);
}

static void load_hook(lua_State *L, lua_Debug *at) {
    if (at->event != LUA_HOOKCOUNT && ++us_script_of(L)->load_calls % LOAD_STEP != 0)
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
    if (__builtin_expect(atomic_load_explicit(&script->kill, memory_order_relaxed) == sequence, 0))
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
        uint64_t now = clock_now();
        script->load_deadline = limit_ns < UINT64_MAX - now ? now + limit_ns : UINT64_MAX;
        lua_sethook(script->lua, load_hook, LUA_MASKCOUNT | LUA_MASKCALL, LOAD_STEP);
    }
    enum us_status status = us_run(script, arguments, results);
    lua_sethook(script->lua, NULL, 0, 0);
    script->load_deadline = 0;
    return status;
}

/* ---- the watchdog ---- */

static void on_kill_signal(int number) {
    (void)number;
    struct us_script *script = running;
    if (script == NULL)
        return;
    /* Compared here and not only by the sender: the run it meant may be over and the next one innocent. */
    uint64_t sequence = atomic_load_explicit(&script->sequence, memory_order_relaxed);
    if ((sequence & 1) != 0 && atomic_load_explicit(&script->kill, memory_order_acquire) == sequence)
        lua_sethook(script->active, kill_hook, KILL_EVENTS, 1);
}

void us_script_bind_thread(struct us_script *script) {
    struct sigaction action = {.sa_handler = on_kill_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(kill_signal(), &action, NULL);
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, kill_signal());
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

void us_script_interrupt(struct us_script *script, uint64_t sequence) {
    if ((sequence & 1) == 0 || us_script_sequence(script) != sequence)
        return;
    if (!atomic_load_explicit(&script->bound, memory_order_acquire))
        return;
    atomic_store_explicit(&script->kill, sequence, memory_order_release);
    pthread_kill(script->thread, kill_signal());
}
