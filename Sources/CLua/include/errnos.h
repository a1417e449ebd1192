/* Names of errnos. Constant tables, any thread. */
#pragma once
#include <stddef.h>

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
