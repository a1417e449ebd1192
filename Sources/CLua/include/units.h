/* Sizes, times and errno names as people write them.
 * Pure functions, any thread. Scripts, rules and the command line all come through here. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "4096", "4K", "4KiB", "4k", "1.5M", "2G", "1T", "1P", "8s" (512-byte sectors). K, M, ... are powers of
 * 1024; a fraction must come out as whole bytes. False for anything else: signs, blanks, empty, overflow
 * of 63 bits, trailing text. */
bool us_parse_bytes(const char *text, size_t length, uint64_t *bytes);

/* "10ns", "50us", "50ms", "1.5s", "2sec", "3m", "3min", "1h", and "0". A bare number other than 0 has no
 * unit and is refused. False as above. */
bool us_parse_time(const char *text, size_t length, uint64_t *nanoseconds);

/* What rules, ranges, counters, buckets, dicts, marks and states may be called: a word, as it can be written in a line
 * of a workload, a label of the ledger and on a terminal. */
#define US_NAME_RULE "a name of 1 to 64 bytes of text without blanks and control characters"
enum { US_NAME_FLAW_MAX = 64 };
/* True: it is no such name, and `flaw` says why, as in "byte 2 is a blank". */
bool us_name_flaw(const char *name, size_t length, char *flaw, size_t size);

/* How many bytes of text are one character of UTF-8; 0: they are none. left: at least 1. */
size_t us_utf8_length(const unsigned char *text, size_t left);

/* The errnos that the block layer tells apart (block/blk-core.c, blk_errors[]); every other one
 * reaches the application as EIO, so it is not offered. EREMCHG is left out: it is device mapper's own. */
struct us_errno {
    const char *name;
    int number;
    const char *meaning; /* the block layer's word for it, as the kernel log prints it */
};
size_t us_errno_count(void);
const struct us_errno *us_errno_at(size_t index);
/* "ENODATA" (length 7) -> its entry, NULL when unknown. */
const struct us_errno *us_errno_by_name(const char *name, size_t length);
/* 61 -> its entry, NULL when it is not one of the block layer's. */
const struct us_errno *us_errno_by_number(int number);
