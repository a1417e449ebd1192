/* The scripts of scripts/faults and scripts/targets as text inside the program, so that they are there without being
 * installed. Constant; any thread. */
#pragma once
#include <stddef.h>

struct us_shipped {
    const char *folder; /* "faults", "targets" */
    const char *name;   /* without the ending */
    const char *text; /* NUL-terminated */
};

size_t us_shipped_count(void);
const struct us_shipped *us_shipped_at(size_t index); /* by folder, then name; index is below the count */
