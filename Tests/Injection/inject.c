/* inject: runs a command and has one system call of it, or of the processes it starts, fail or come up short, once.
 *
 *   inject [-t THREAD] [-n N] [-e ERRNO | -s BYTES] -o LOG SYSCALL COMMAND [ARG...]
 *   inject -l -o LOG COMMAND [ARG...]
 *
 * -t counts only the calls of a thread: the first argument of its process, as "serve", and "serve/ublk-q0" for one
 *    that is not the first of its process
 * -n which of the calls it is (1), over all threads that count; those that load libraries do not
 * -e it fails with that error and is not made
 * -s it is made for at most so many bytes
 * -l has none fail; LOG gets a line "COUNT THREAD SYSCALL" for each kind of call when all processes have ended
 *
 * It ends with the command's status when the command ends. A process of its own stays until the last process that the
 * command started has ended, and writes to LOG, a line each: "tracer PID" at the beginning, "hit THREAD SYSCALL N",
 * "crash THREAD SIGNAL" for a process that does not survive its own mistake, and "end". When it is killed they all die.
 *
 * strace can inject, too, but counts the calls of each thread by itself: then a call fails once in every thread, and a
 * server's second thread is never reached with the first one unharmed. A seccomp filter stops the calls that are
 * looked for and no others, so that the rest runs at full speed. x86-64. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef __x86_64__
#error "the registers of other processors are not known here"
#endif

static const struct {
    const char *name;
    int number;
} calls[] = {
#define CALL(name) {#name, SYS_##name}
    CALL(accept), CALL(accept4), CALL(access), CALL(bind), CALL(brk), CALL(chdir), CALL(chroot), CALL(clone), CALL(clone3),
    CALL(close), CALL(close_range), CALL(connect), CALL(dup2), CALL(eventfd2), CALL(execve), CALL(faccessat),
    CALL(faccessat2), CALL(fallocate), CALL(fchdir), CALL(fchmod), CALL(fcntl), CALL(fdatasync), CALL(flock), CALL(fstat),
    CALL(fsync), CALL(ftruncate), CALL(getdents64), CALL(getrandom), CALL(getsockopt), CALL(ioctl), CALL(io_uring_enter),
    CALL(io_uring_register), CALL(io_uring_setup), CALL(kill), CALL(listen), CALL(lseek), CALL(lstat), CALL(madvise),
    CALL(memfd_create), CALL(mkdir), CALL(mlock), CALL(mmap), CALL(mount), CALL(mprotect), CALL(mremap), CALL(munmap),
    CALL(newfstatat), CALL(open), CALL(openat), CALL(pipe), CALL(pipe2), CALL(poll), CALL(ppoll), CALL(prctl), CALL(pread64),
    CALL(prlimit64), CALL(pwrite64), CALL(pwritev2), CALL(read), CALL(readlink), CALL(readlinkat), CALL(recvfrom),
    CALL(recvmsg), CALL(rename), CALL(sched_getaffinity), CALL(sched_setaffinity), CALL(sendmsg), CALL(sendto), CALL(setsid),
    CALL(setsockopt), CALL(shutdown), CALL(signalfd4), CALL(socket), CALL(socketpair), CALL(stat), CALL(statfs),
    CALL(statx), CALL(symlink), CALL(tgkill), CALL(timerfd_create), CALL(timerfd_settime), CALL(umount2), CALL(unlink),
    CALL(unshare), CALL(vfork), CALL(wait4), CALL(write), CALL(writev),
};
enum { CALLS = sizeof calls / sizeof *calls, LABEL_BYTES = 64, KINDS_MAX = 1024 };

static const char *thread;
static long wanted = 1, error, bytes = -1;
static int chosen = -1; /* index of the call; -1: all are counted */
static const char *log_path;

static struct {
    char label[LABEL_BYTES];
    int call;
    long count;
} kinds[KINDS_MAX];
static int kinds_used;

static void die(const char *what) {
    fprintf(stderr, "inject: %s: %s\n", what, strerror(errno));
    exit(125);
}

static void usage(const char *why, const char *what) {
    fprintf(stderr, "inject: %s%s\nusage: inject [-t THREAD] [-n N] [-e ERRNO | -s BYTES] -o LOG SYSCALL COMMAND...\n"
        "       inject -l -o LOG COMMAND...\n", why, what);
    exit(125);
}

static void note(const char *format, ...) {
    static int log = -1;
    if (log < 0) log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log < 0) die(log_path);
    va_list arguments;
    va_start(arguments, format);
    vdprintf(log, format, arguments);
    va_end(arguments);
}

static long read_file(char *text, size_t size, const char *format, int id) {
    char path[64];
    snprintf(path, sizeof path, format, id);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return -1;
    long got = read(file, text, size - 1);
    close(file);
    text[got < 0 ? 0 : got] = 0;
    return got;
}

/* What a thread is called here. */
static void label(int id, char *text) {
    char words[512], status[512], name[32];
    const char *word = "?";
    if (read_file(words, sizeof words, "/proc/%d/cmdline", id) > 0) {
        const char *second = words + strlen(words) + 1;
        word = second < words + sizeof words && *second ? second : words;
    }
    snprintf(text, LABEL_BYTES, "%.30s", word);
    if (read_file(status, sizeof status, "/proc/%d/status", id) <= 0) return;
    const char *group = strstr(status, "\nTgid:");
    if (!group || atoi(group + 6) == id) return;
    if (read_file(name, sizeof name, "/proc/%d/comm", id) <= 0) return;
    name[strcspn(name, "\n")] = 0;
    snprintf(text + strlen(text), LABEL_BYTES - strlen(text), "/%s", name);
}

/* A program's libraries are loaded before it runs, by code that ends it when it cannot: no call of that counts. */
static int is_of_loader(int id, unsigned long place) {
    enum { LOADER_BYTES = 0x40000 };
    unsigned long pairs[64] = {0};
    char *text = (char *)pairs;
    read_file(text, sizeof pairs, "/proc/%d/auxv", id);
    for (size_t i = 0; i + 1 < sizeof pairs / sizeof *pairs && pairs[i] != AT_NULL; i += 2)
        if (pairs[i] == AT_BASE) return place - pairs[i + 1] < LOADER_BYTES;
    return 0;
}

static int call_of(const char *name) {
    for (int i = 0; i < CALLS; i++)
        if (strcmp(calls[i].name, name) == 0) return i;
    return -1;
}

static int errno_of(const char *name) {
    for (int i = 1; i < 134; i++) {
        const char *known = strerrorname_np(i);
        if (known && strcmp(known, name) == 0) return i;
    }
    usage("there is no error ", name);
    return 0;
}

/* Has the calls that are looked for stop, in this process and all that come of it. */
static void filter(void) {
    struct sock_filter program[2 * CALLS + 2];
    int used = 0;
    program[used++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < CALLS; i++) {
        if (chosen >= 0 && i != chosen) continue;
        program[used++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i].number, 0, 1);
        program[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    }
    program[used++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog all = {.len = (unsigned short)used, .filter = program};
    /* Without the right to filter a process must have given up others; root keeps what it has. */
    if (geteuid() != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) die("PR_SET_NO_NEW_PRIVS");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) != 0) die("PR_SET_SECCOMP");
}

static void count(const char *who, int call) {
    int i = 0;
    while (i < kinds_used && (kinds[i].call != call || strcmp(kinds[i].label, who) != 0)) i++;
    if (i == KINDS_MAX) return;
    if (i == kinds_used) {
        kinds_used++;
        kinds[i].call = call;
        strcpy(kinds[i].label, who);
    }
    kinds[i].count++;
}

/* A thread is about to make one of the calls. */
static void at_call(int id) {
    static long calls_seen;
    char who[LABEL_BYTES];
    struct user_regs_struct registers;
    if (chosen >= 0 && calls_seen >= wanted) return;
    label(id, who);
    if (thread && strcmp(thread, who) != 0) return;
    if (ptrace(PTRACE_GETREGS, id, NULL, &registers) != 0 || is_of_loader(id, registers.rip)) return;
    if (chosen < 0) {
        for (int i = 0; i < CALLS; i++)
            if (calls[i].number == (int)registers.orig_rax) count(who, i);
        return;
    }
    if (++calls_seen != wanted) return;
    if (bytes >= 0) {
        if ((long)registers.rdx > bytes) registers.rdx = (unsigned long)bytes;
    } else {
        registers.orig_rax = (unsigned long)-1;
        registers.rax = (unsigned long)-error;
    }
    if (ptrace(PTRACE_SETREGS, id, NULL, &registers) != 0) die("PTRACE_SETREGS");
    note("hit %s %s %ld\n", who, calls[chosen].name, wanted);
}

static int is_fatal(int signal) {
    static const int fatal[] = {SIGSEGV, SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGTRAP, SIGSYS};
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        if (fatal[i] == signal) return 1;
    return 0;
}

/* Lets a stopped thread go on. */
static void go_on(int id, int status) {
    char who[LABEL_BYTES];
    int signal = WSTOPSIG(status), event = status >> 16;
    if (event == PTRACE_EVENT_SECCOMP) at_call(id);
    if (event == PTRACE_EVENT_STOP && signal != SIGTRAP) { /* SIGSTOP and its like hold it */
        ptrace(PTRACE_LISTEN, id, NULL, NULL);
        return;
    }
    if (event == 0 && is_fatal(signal)) {
        label(id, who);
        note("crash %s SIG%s\n", who, sigabbrev_np(signal));
    }
    ptrace(PTRACE_CONT, id, NULL, event ? 0L : (long)signal);
}

static void trace(int first, int result) {
    int status, id, null = open("/dev/null", O_RDWR);
    for (int fd = 0; fd < 3; fd++) dup2(null, fd); /* whoever reads our output waits for its end */
    while ((id = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
        if (id > 0 && WIFSTOPPED(status)) go_on(id, status);
        if (id == first && !WIFSTOPPED(status)) {
            if (write(result, &status, sizeof status) < 0) note("nobody waits for the status\n");
            close(result);
        }
    }
    for (int i = 0; i < kinds_used; i++) note("%ld %s %s\n", kinds[i].count, kinds[i].label, calls[kinds[i].call].name);
    note("end\n");
    _exit(0);
}

static void run(char **command) {
    int result[2], start[2], status;
    char byte = 0;
    if (pipe2(result, O_CLOEXEC) != 0 || pipe2(start, O_CLOEXEC) != 0) die("pipe");
    int tracer = fork();
    if (tracer < 0) die("fork");
    if (tracer > 0) {
        close(result[1]);
        if (read(result[0], &status, sizeof status) != sizeof status) usage("the tracer ended", "");
        exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    int first = fork();
    if (first < 0) die("fork");
    if (first == 0) {
        if (read(start[0], &byte, 1) != 1) _exit(125);
        filter();
        execvp(command[0], command);
        die(command[0]);
    }
    setsid();
    long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |
        PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SEIZE, first, NULL, options) != 0) die("PTRACE_SEIZE");
    note("tracer %d\n", getpid());
    if (write(start[1], &byte, 1) != 1) die("write");
    trace(first, result[1]);
}

int main(int count, char **words) {
    int option, lists = 0;
    while ((option = getopt(count, words, "+t:n:e:s:o:l")) != -1) {
        switch (option) {
        case 't': thread = optarg; break;
        case 'n': wanted = atol(optarg); break;
        case 'e': error = errno_of(optarg); break;
        case 's': bytes = atol(optarg); break;
        case 'o': log_path = optarg; break;
        case 'l': lists = 1; break;
        default: usage("", "");
        }
    }
    if (!log_path) usage("no LOG", "");
    if (!lists) {
        if (optind >= count) usage("no SYSCALL", "");
        if ((error != 0) == (bytes >= 0)) usage("either -e or -s is needed", "");
        chosen = call_of(words[optind]);
        if (chosen < 0) usage("this call is not known here: ", words[optind]);
        optind++;
    }
    if (optind >= count) usage("no COMMAND", "");
    run(words + optind);
}
