/* Sizes, times and errno names. Pure functions without state; any thread.
 *
 * A quantity is digits, perhaps a fraction, and a unit. It is computed in integers: the fraction is kept as
 * digits over a power of ten and must come out whole in the base unit (bytes, nanoseconds), so nothing is
 * ever rounded behind the user's back. */
#include "include/units.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* More digits of fraction than this cannot come out whole in any unit that fits 63 bits of practice. */
enum { MAX_FRACTION_DIGITS = 18 };

struct unit {
    const char *name;
    uint64_t factor;
};

static const struct unit time_units[] = {
    {"ns", 1},
    {"us", 1000},
    {"ms", 1000000},
    {"s", 1000000000},
    {"sec", 1000000000},
    {"m", 60 * UINT64_C(1000000000)},
    {"min", 60 * UINT64_C(1000000000)},
    {"h", 3600 * UINT64_C(1000000000)},
};

/* A number split at its decimal point: whole + fraction / scale. */
struct decimal {
    uint64_t whole;
    uint64_t fraction;
    uint64_t scale;
    size_t used; /* characters read */
};

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static bool read_whole(const char *text, size_t length, struct decimal *out) {
    size_t i = 0;
    for (; i < length && is_digit(text[i]); i++) {
        if (__builtin_mul_overflow(out->whole, UINT64_C(10), &out->whole)
            || __builtin_add_overflow(out->whole, (uint64_t)(text[i] - '0'), &out->whole))
            return false;
    }
    out->used = i;
    return i > 0;
}

/* Reads what follows the decimal point; zeroes at its end say nothing and may be many. */
static bool read_fraction(const char *text, size_t length, struct decimal *out) {
    size_t first = out->used + 1, end = first;
    while (end < length && is_digit(text[end]))
        end++;
    if (end == first)
        return false;
    out->used = end;
    while (end > first && text[end - 1] == '0')
        end--;
    if (end - first > MAX_FRACTION_DIGITS)
        return false;
    for (size_t i = first; i < end; i++) {
        out->fraction = out->fraction * 10 + (uint64_t)(text[i] - '0');
        out->scale *= 10;
    }
    return true;
}

static bool read_decimal(const char *text, size_t length, struct decimal *out) {
    *out = (struct decimal){.scale = 1};
    if (!read_whole(text, length, out))
        return false;
    if (out->used < length && text[out->used] == '.')
        return read_fraction(text, length, out);
    return true;
}

static bool scale_decimal(const struct decimal *number, uint64_t factor, uint64_t *result) {
    unsigned __int128 part = (unsigned __int128)number->fraction * factor;
    if (part % number->scale != 0)
        return false;
    unsigned __int128 total = (unsigned __int128)number->whole * factor + part / number->scale;
    if (total > INT64_MAX)
        return false;
    *result = (uint64_t)total;
    return true;
}

static bool same(const char *text, size_t length, const char *name) {
    return strlen(name) == length && memcmp(text, name, length) == 0;
}

/* Prefixes in either case, alone or as "KiB"; "s" only in lower case, as dmsetup and sfdisk write sectors. */
static bool byte_unit(const char *unit, size_t length, uint64_t *factor) {
    static const char prefixes[] = {'K', 'M', 'G', 'T', 'P'};
    if (length == 0 || same(unit, length, "s")) {
        *factor = length == 0 ? 1 : 512;
        return true;
    }
    if (length != 1 && !(length == 3 && unit[1] == 'i' && unit[2] == 'B'))
        return false;
    char upper = unit[0] >= 'a' && unit[0] <= 'z' ? (char)(unit[0] - 'a' + 'A') : unit[0];
    for (size_t i = 0; i < sizeof prefixes; i++) {
        if (upper == prefixes[i]) {
            *factor = UINT64_C(1) << (10 * (i + 1));
            return true;
        }
    }
    return false;
}

bool us_parse_bytes(const char *text, size_t length, uint64_t *bytes) {
    struct decimal number;
    uint64_t factor;
    return read_decimal(text, length, &number) && byte_unit(text + number.used, length - number.used, &factor)
        && scale_decimal(&number, factor, bytes);
}

bool us_parse_time(const char *text, size_t length, uint64_t *nanoseconds) {
    struct decimal number;
    if (!read_decimal(text, length, &number))
        return false;
    if (number.used == length && number.whole == 0 && number.fraction == 0) {
        *nanoseconds = 0;
        return true;
    }
    for (size_t i = 0; i < sizeof time_units / sizeof *time_units; i++)
        if (same(text + number.used, length - number.used, time_units[i].name))
            return scale_decimal(&number, time_units[i].factor, nanoseconds);
    return false;
}

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
        if (same(name, length, errnos[i].name))
            return &errnos[i];
    return NULL;
}

const struct us_errno *us_errno_by_number(int number) {
    for (size_t i = 0; i < us_errno_count(); i++)
        if (errnos[i].number == number)
            return &errnos[i];
    return NULL;
}

/* How many bytes of text are one character of UTF-8; 0: they are none. */
size_t us_utf8_length(const unsigned char *text, size_t left) {
    if (text[0] < 0x80)
        return 1;
    size_t length = text[0] >= 0xf0 && text[0] < 0xf5 ? 4 : text[0] >= 0xe0 ? 3 : text[0] >= 0xc2 ? 2 : 0;
    if (length == 0 || text[0] >= 0xf5 || length > left)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* Overlong, a surrogate, or past the last character. */
    bool is_wrong = (text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] > 0x9f)
        || (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] > 0x8f);
    return is_wrong ? 0 : length;
}

/* ---- names ---- */

enum { NAME_BYTES_MAX = 64 };

/* What the character that begins there is, in a name; NULL: nothing that a name may not have. */
static const char *flaw_of(const unsigned char *text, size_t length) {
    if (text[0] == ' ')
        return "a blank";
    if (text[0] < ' ' || text[0] == 0x7f || (text[0] == 0xc2 && text[1] < 0xa0)) /* C1, in UTF-8 */
        return "a control character";
    if (length == 3 && memcmp(text, "\xef\xbf\xbd", 3) == 0) /* what Swift makes of bytes that are no text */
        return "no UTF-8";
    /* No-break space, the spaces and line ends of U+2000 to U+202F, the ideographic one. */
    bool is_space = (length == 2 && text[0] == 0xc2 && text[1] == 0xa0)
        || (length == 3 && text[0] == 0xe2 && text[1] == 0x80 && (text[2] <= 0x8f || (text[2] >= 0xa8 && text[2] <= 0xaf)))
        || (length == 3 && text[0] == 0xe3 && text[1] == 0x80 && text[2] == 0x80);
    return is_space ? "a blank" : NULL;
}

bool us_name_flaw(const char *name, size_t length, char *flaw, size_t size) {
    if (length == 0 || length > NAME_BYTES_MAX) {
        snprintf(flaw, size, "it has %zu bytes", length);
        return true;
    }
    for (size_t at = 0; at < length;) {
        const unsigned char *text = (const unsigned char *)name + at;
        size_t bytes = us_utf8_length(text, length - at);
        const char *what = bytes == 0 ? "no UTF-8" : flaw_of(text, bytes);
        if (what != NULL) {
            snprintf(flaw, size, "byte %zu is %s", at + 1, what);
            return true;
        }
        at += bytes;
    }
    return false;
}
