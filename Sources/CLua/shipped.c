/* The scripts of scripts/faults, embedded by the compiler, which also notes that this file depends on them. A tidy
 * test tells when one is missing here. */
#include "include/shipped.h"

#pragma clang diagnostic ignored "-Wc23-extensions" /* #embed */

static const struct us_shipped shipped[] = {
    {"faulty", (const char[]){
#embed "../../scripts/faults/faulty.lua"
        , '\0'}},
};

size_t us_shipped_count(void) {
    return sizeof shipped / sizeof *shipped;
}

const struct us_shipped *us_shipped_at(size_t index) {
    return &shipped[index];
}
