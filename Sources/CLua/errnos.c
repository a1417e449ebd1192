#include "include/errnos.h"
#include <errno.h>
#include <string.h>

static const struct us_errno errnos[] = {
    {"EIO", EIO, "I/O"},
    {"ENODATA", ENODATA, "critical medium"},
    {"EILSEQ", EILSEQ, "protection"},
    {"ETIMEDOUT", ETIMEDOUT, "timeout"},
    {"ETIME", ETIME, "duration limit exceeded"},
    {"ENOLINK", ENOLINK, "recoverable transport"},
    {"EREMOTEIO", EREMOTEIO, "critical target"},
    {"EBADE", EBADE, "reservation conflict"},
    {"ENOSPC", ENOSPC, "critical space allocation"},
    {"EOPNOTSUPP", EOPNOTSUPP, "operation not supported"},
    {"ENODEV", ENODEV, "device offline"},
    {"ENOMEM", ENOMEM, "kernel resource"},
    {"EBUSY", EBUSY, "device resource"},
    {"EAGAIN", EAGAIN, "nonblocking retry"},
    {"ETOOMANYREFS", ETOOMANYREFS, "open zones exceeded"},
    {"EOVERFLOW", EOVERFLOW, "active zones exceeded"},
    {"EINVAL", EINVAL, "invalid"},
};

size_t us_errno_count(void) {
    return sizeof errnos / sizeof *errnos;
}

const struct us_errno *us_errno_at(size_t index) {
    return index < us_errno_count() ? &errnos[index] : NULL;
}

const struct us_errno *us_errno_by_name(const char *name, size_t length) {
    for (size_t i = 0; i < us_errno_count(); i++)
        if (strlen(errnos[i].name) == length && memcmp(name, errnos[i].name, length) == 0)
            return &errnos[i];
    return NULL;
}

const struct us_errno *us_errno_by_number(int number) {
    for (size_t i = 0; i < us_errno_count(); i++)
        if (errnos[i].number == number)
            return &errnos[i];
    return NULL;
}
