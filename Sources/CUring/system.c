/* GNU-only and variadic system calls for Swift; see system.h. */
#define _GNU_SOURCE
#include "system.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED 24
#endif

#ifndef PR_SET_IO_FLUSHER
#define PR_SET_IO_FLUSHER 57
#define PR_GET_IO_FLUSHER 58
#endif

static uint64_t clock_ns(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t sys_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
uint64_t sys_thread_cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }

void sys_timestamp(char *text, size_t size) {
    struct timespec now;
    struct tm parts;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &parts);
    size_t used = strftime(text, size, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text + used, size - used, ".%03dZ", (int)(now.tv_nsec / 1000000));
}

static int negative_errno(int result) { return result < 0 ? -errno : result; }

int sys_set_io_flusher(void) { return negative_errno(prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0)); }

bool sys_is_io_flusher(void) { return prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) == 1; }

int sys_unshare_mounts(void) { return negative_errno(unshare(CLONE_NEWNS)); }
int sys_make_mounts_private(void) { return negative_errno(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL)); }

int sys_detach_mount(const char *path) { return negative_errno(umount2(path, MNT_DETACH)); }

int sys_set_affinity(const uint8_t *mask, size_t bytes) {
    size_t bits = bytes * 8;
    cpu_set_t *set = CPU_ALLOC(bits);
    if (!set) return -ENOMEM;
    size_t size = CPU_ALLOC_SIZE(bits);
    CPU_ZERO_S(size, set);
    /* The driver's bitmap is an array of longs in native order; by bytes that is right on little endian, and on
     * big endian each group of eight is turned round. */
    for (size_t bit = 0; bit < bits; bit++) {
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        size_t byte = (bit / 64) * 8 + (7 - (bit % 64) / 8);
#else
        size_t byte = bit / 8;
#endif
        if (mask[byte] & (1u << (bit % 8))) CPU_SET_S(bit, size, set);
    }
    int result = negative_errno(sched_setaffinity(0, size, set));
    CPU_FREE(set);
    return result;
}

int sys_set_thread_name(const char *name) { return -pthread_setname_np(pthread_self(), name); }

int sys_cpu_count(void) {
    long count = sysconf(_SC_NPROCESSORS_CONF);
    return count < 1 ? 1 : (int)count;
}

bool sys_semaphore_wait(sem_t *semaphore, uint64_t nanoseconds) {
    uint64_t end = sys_monotonic_ns() + nanoseconds;
    struct timespec deadline = {(time_t)(end / 1000000000u), (long)(end % 1000000000u)};
    return sem_clockwait(semaphore, CLOCK_MONOTONIC, &deadline) == 0;
}

int sys_eventfd(void) { return negative_errno(eventfd(0, EFD_CLOEXEC)); }
int sys_pipe(int ends[2]) { return negative_errno(pipe2(ends, O_NONBLOCK | O_CLOEXEC)); }
int sys_accept(int socket) { return negative_errno(accept4(socket, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)); }

int sys_signalfd(const int *signals, size_t count) {
    sigset_t set;
    sigemptyset(&set);
    for (size_t i = 0; i < count; i++) sigaddset(&set, signals[i]);
    int result = pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (result) return -result;
    return negative_errno(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

int sys_take_signal(int fd) {
    struct signalfd_siginfo info;
    ssize_t got = read(fd, &info, sizeof info);
    return got == sizeof info ? (int)info.ssi_signo : -EAGAIN;
}

int sys_block_device_size(int fd, uint64_t *bytes) { return negative_errno(ioctl(fd, BLKGETSIZE64, bytes)); }
int sys_rescan_partitions(int fd) { return negative_errno(ioctl(fd, BLKRRPART)); }

int sys_fallocate_punch(void) { return FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE; }
int sys_fallocate_zero(void) { return FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE; }

int sys_punch_hole(int fd, uint64_t offset, uint64_t bytes) {
    return negative_errno(fallocate(fd, sys_fallocate_punch(), (off_t)offset, (off_t)bytes));
}

int sys_unnamed_file(const char *folder) { return negative_errno(open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600)); }

int sys_name_file(int fd, const char *path) {
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return negative_errno(linkat(AT_FDCWD, link, AT_FDCWD, path, AT_SYMLINK_FOLLOW));
}

int sys_close_from_on_exec(unsigned first) {
    return negative_errno((int)syscall(SYS_close_range, first, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */));
}

void sys_lift_limits(void) {
    static const int limits[] = {RLIMIT_AS, RLIMIT_CPU};
    struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) setrlimit(limits[i], &none);
}

int sys_lock_memory(void) {
    static const struct rlimit none = {RLIM_INFINITY, RLIM_INFINITY};
    setrlimit(RLIMIT_MEMLOCK, &none); /* as far as that is allowed */
    return negative_errno(mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
}

int sys_populate(void *first, size_t bytes, bool for_writing) {
    return negative_errno(madvise(first, bytes, for_writing ? MADV_POPULATE_WRITE : MADV_POPULATE_READ));
}

int sys_forget(void *first, size_t bytes) {
    /* the plain one refuses what is locked, the other one is of kernel 5.18 */
    if (madvise(first, bytes, MADV_DONTNEED_LOCKED) == 0)
        return 0;
    return negative_errno(madvise(first, bytes, MADV_DONTNEED));
}

uint64_t sys_locked_memory_limit(void) {
    struct rlimit limit = {0, 0};
    getrlimit(RLIMIT_MEMLOCK, &limit);
    return limit.rlim_cur;
}

int sys_rwf_dsync(void) { return RWF_DSYNC; }

const char *sys_errno_name(int number) { return strerrorname_np(number); }

int64_t sys_filesystem_type(int fd) {
    struct statfs filesystem;
    return fstatfs(fd, &filesystem) == 0 ? (int64_t)filesystem.f_type : -1;
}

int64_t sys_free_bytes(int fd) {
    struct statfs filesystem;
    if (fstatfs(fd, &filesystem) != 0 || filesystem.f_blocks == 0)
        return -1;
    return (int64_t)filesystem.f_bavail * (int64_t)filesystem.f_bsize;
}

int sys_file_extents(int fd, uint64_t from, struct sys_extent *extents, unsigned capacity) {
    enum { EXTENTS_MAX = 256 };
    static const uint32_t no_place = FIEMAP_EXTENT_UNKNOWN | FIEMAP_EXTENT_DELALLOC | FIEMAP_EXTENT_ENCODED |
        FIEMAP_EXTENT_NOT_ALIGNED | FIEMAP_EXTENT_DATA_INLINE | FIEMAP_EXTENT_DATA_TAIL;
    size_t room = sizeof(struct fiemap) + EXTENTS_MAX * sizeof(struct fiemap_extent);
    struct fiemap *map = calloc(1, room);
    if (map == NULL)
        return -ENOMEM;
    map->fm_start = from;
    map->fm_length = FIEMAP_MAX_OFFSET - from;
    map->fm_flags = FIEMAP_FLAG_SYNC;
    map->fm_extent_count = capacity < EXTENTS_MAX ? capacity : EXTENTS_MAX;
    int result = negative_errno(ioctl(fd, FS_IOC_FIEMAP, map));
    if (result >= 0)
        result = (int)map->fm_mapped_extents;
    for (int i = 0; i < result; i++) {
        const struct fiemap_extent *extent = &map->fm_extents[i];
        extents[i] = (struct sys_extent){
            .logical = extent->fe_logical,
            .physical = extent->fe_physical,
            .length = extent->fe_length,
            .has_place = (extent->fe_flags & no_place) == 0,
            .is_last = (extent->fe_flags & FIEMAP_EXTENT_LAST) != 0,
        };
    }
    free(map);
    return result;
}

int sys_find_file(const char *path) {
    int fd = open(path, O_PATH | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

static struct flock byte_lock(short kind, int64_t at) {
    return (struct flock){.l_type = kind, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
}

int sys_lock_byte(int fd, int64_t at) {
    struct flock lock = byte_lock(F_RDLCK, at);
    return negative_errno(fcntl(fd, F_OFD_SETLK, &lock));
}

bool sys_is_byte_locked(int fd, int64_t at) {
    struct flock lock = byte_lock(F_WRLCK, at);
    /* flock of others is a lock of the whole file where the filesystem has nothing else (NFS) */
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_start == at && lock.l_len == 1;
}

static int memory_file(const char *name, unsigned flags) {
    int fd = memfd_create(name, MFD_CLOEXEC | flags);
    if (fd >= 0 && fd < 10) { /* not one of those that a child gets something else as */
        int low = fd;
        fd = fcntl(low, F_DUPFD_CLOEXEC, 10);
        close(low);
    }
    return fd < 0 ? -errno : fd;
}

int sys_memory_file(const char *name) { return memory_file(name, 0); }

int sys_sealed_memory_file(const char *name, int64_t bytes) {
    int fd = memory_file(name, MFD_ALLOW_SEALING);
    if (fd < 0) return fd;
    int problem = posix_fallocate(fd, 0, bytes);
    if (problem == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) problem = errno;
    if (problem == 0) return fd;
    close(fd);
    return -problem;
}
