/* System calls that Swift's Glibc module lacks (GNU-only, variadic, or macros). Each returns a negative errno. */
#pragma once
#include <semaphore.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

uint64_t sys_monotonic_ns(void);
uint64_t sys_thread_cpu_ns(void);
void sys_timestamp(char *text, size_t size); /* "2026-11-21T11:00:00.123Z" */

/* Marks the calling thread, and those it starts later, as ones whose memory allocations must not wait for IO
 * (PR_SET_IO_FLUSHER): they serve a block device, and reclaim could be waiting for that very device. */
int sys_set_io_flusher(void);
bool sys_is_io_flusher(void);

/* A mount namespace of the calling thread's own, a copy; and nothing propagates from and to it any more. */
int sys_unshare_mounts(void);
int sys_make_mounts_private(void);
int sys_detach_mount(const char *path);

/* Pins the calling thread. mask: bytes of a CPU bitmap, as GET_QUEUE_AFFINITY answers. */
int sys_set_affinity(const uint8_t *mask, size_t bytes);
int sys_set_thread_name(const char *name);
int sys_cpu_count(void); /* configured CPUs: the bits a CPU bitmap needs */

/* False when it was not posted in that time, or a signal came first. */
bool sys_semaphore_wait(sem_t *semaphore, uint64_t nanoseconds);

int sys_eventfd(void);
int sys_pipe(int ends[2]);  /* neither end waits, both close-on-exec */
int sys_accept(int socket); /* a connection that does not wait, close-on-exec */
int sys_signalfd(const int *signals, size_t count); /* also blocks them in this thread and its children */
int sys_take_signal(int signalfd); /* the number of one that is waiting */

int sys_block_device_size(int fd, uint64_t *bytes);
int sys_rescan_partitions(int fd);

/* The magic number of the filesystem that an open file is on (fstatfs); -1: it does not tell. */
int64_t sys_filesystem_type(int fd);
/* What is free on it, bytes; -1: there is no limit, or it does not tell. */
int64_t sys_free_bytes(int fd);

/* A piece of a file, where it lies on its filesystem's device; bytes. */
struct sys_extent {
    uint64_t logical, physical, length;
    bool has_place; /* false: inline, compressed, or not placed yet */
    bool is_last;
};
/* The pieces of a file from a byte on, written back first (FS_IOC_FIEMAP); how many of at most 256. */
int sys_file_extents(int fd, uint64_t from, struct sys_extent *extents, unsigned capacity);

/* fallocate modes, which are macros. */
int sys_fallocate_punch(void);
int sys_fallocate_zero(void);
/* Deallocates bytes of a file, which read as zeroes then. */
int sys_punch_hole(int fd, uint64_t offset, uint64_t bytes);

/* A file in a folder that has no name and ends with its last descriptor (O_TMPFILE); gives it one. */
int sys_unnamed_file(const char *folder);
int sys_name_file(int fd, const char *path);

/* Closes every file from that number on in programs started from here. */
int sys_close_from_on_exec(unsigned first);
/* No limit on address space and CPU time any more, where that is allowed. */
void sys_lift_limits(void);

/* What of this process is in memory stays there, now and later (mlockall, MCL_ONFAULT). */
int sys_lock_memory(void);
uint64_t sys_locked_memory_limit(void); /* bytes, for who lacks CAP_IPC_LOCK */
/* Has pages in memory before they are used; what is private is a copy of this process's own, for writing. */
int sys_populate(void *first, size_t bytes, bool for_writing);
/* Whole pages of anonymous memory are zeroes, locked or not. */
int sys_forget(void *first, size_t bytes);
int sys_rwf_dsync(void);


/* What has that name, found but not opened (O_PATH): no fifo waits, no device does anything. */
int sys_find_file(const char *path);

/* Locks a byte of a file for all who want it (F_OFD_SETLK); ends with the open file. Of a byte that others have so. */
int sys_lock_byte(int fd, int64_t at);
bool sys_is_byte_locked(int fd, int64_t at);

/* A file that is nothing but memory; the descriptor. */
int sys_memory_file(const char *name);
/* The same with so many bytes, all of them there, whose size nobody can change any more. */
int sys_sealed_memory_file(const char *name, int64_t bytes);

/* "ENODATA" for 61, NULL for a number that has no name. */
const char *sys_errno_name(int number);
