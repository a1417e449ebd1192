/* The words of the language that more than one file knows: operations, flags, outcomes, corruption modes, what a write
 * stores, orders of release. Each is one line of one table; enums, names, checks and messages are made of the lines, in
 * C and, by the functions below, in Swift.
 *
 * Constant data and pure functions, any thread. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- operations, numbered as the driver numbers them (UBLK_IO_OP_*): constant, number, word ---- */

#define US_OPS(X)             \
    X(READ, 0, "read")        \
    X(WRITE, 1, "write")      \
    X(FLUSH, 2, "flush")      \
    X(DISCARD, 3, "discard")  \
    X(WRITE_ZEROES, 5, "write_zeroes")

#define US_CONSTANT(constant, number, word) US_OP_##constant = number,
enum us_op { US_OPS(US_CONSTANT) US_OP_COUNT };
#undef US_CONSTANT

/* NULL for a number that is no operation. */
const char *us_op_name(unsigned op);

/* ---- flags of an IO, the driver's bits of op_flags (UBLK_IO_F_*): constant, word, bits, any of which counts ---- */

#define US_IO_FLAGS(X)                                         \
    X(META, "meta", 1 << 11)                                   \
    X(FUA, "fua", 1 << 13)                                     \
    X(FAILFAST, "failfast", (1 << 8) | (1 << 9) | (1 << 10))   \
    X(NOUNMAP, "nounmap", 1 << 15)                             \
    X(SWAP, "swap", 1 << 16)

#define US_CONSTANT(constant, word, bits) US_IO_##constant = bits,
enum us_io_flag { US_IO_FLAGS(US_CONSTANT) };
#undef US_CONSTANT

struct us_flag_facts {
    const char *word;
    uint32_t bits;
};
/* NULL: there are not so many. */
const struct us_flag_facts *us_flag_at(size_t index);

/* ---- outcomes: how an IO ends, once its delay and its hang are over ---- */

/* What an IO that ends so does to the media. */
enum us_media {
    US_MEDIA_AS_ASKED,  /* what it asks for, at its own offset or where the decision says */
    US_MEDIA_ZEROES,    /* the same with zeroes for its data */
    US_MEDIA_KEPT,      /* nothing but what store() keeps of a write */
    US_MEDIA_UNTOUCHED, /* nothing, although it succeeds */
    US_MEDIA_DONE,      /* nothing more: the script has done it */
};

/* The data of the IO is made here: what a read returns, or a write stores. */
static inline bool us_media_makes_data(enum us_media media) {
    return media == US_MEDIA_ZEROES;
}

#define US_OP_BIT(op) (1u << US_OP_##op)
#define US_OPS_ALL (~0u)

/* constant, word, key of rule{}, counter, operations that can end so, whether two of them add up in one verdict (else
 * they exclude each other), media, operations of which it only says where the data is. A key or counter of "" is
 * none. A flush has no data and no offset, discard and write_zeroes have no data of their own, and a read must be
 * answered. */
#define US_OUTCOMES(X)                                                                                               \
    X(PASS, "pass", "", "", US_OPS_ALL, true, US_MEDIA_AS_ASKED, 0)                                                  \
    X(FAIL, "fail", "error", "failed", US_OPS_ALL, false, US_MEDIA_KEPT, 0)                                          \
    X(DROP, "drop", "drop", "dropped", ~US_OP_BIT(READ), false, US_MEDIA_UNTOUCHED, 0)                               \
    X(ZERO, "zero", "zero", "zeroed", US_OP_BIT(READ) | US_OP_BIT(WRITE), false, US_MEDIA_ZEROES, US_OP_BIT(READ))   \
    X(REDIRECT, "redirect", "", "redirected", ~US_OP_BIT(FLUSH), true, US_MEDIA_AS_ASKED, US_OPS_ALL)                \
    X(DONE, "done", "", "answered", ~US_OP_BIT(READ), false, US_MEDIA_DONE, US_OPS_ALL)

#define US_CONSTANT(constant, word, key, counter, ops, adds, media, maps) US_OUTCOME_##constant,
enum us_outcome { US_OUTCOMES(US_CONSTANT) US_OUTCOME_COUNT };
#undef US_CONSTANT

struct us_outcome_facts {
    const char *word, *rule_key, *counter;
    uint32_t ops, mapped_ops; /* bits of enum us_op */
    bool adds;
    enum us_media media;
};
/* NULL for a number that is no outcome. */
const struct us_outcome_facts *us_outcome_at(unsigned outcome);

/* ---- corruption modes ---- */

/* Keys of corrupt{} that mean something with some modes only, and what else is special about a mode. */
enum us_corrupt_key {
    US_CORRUPT_BITS = 1,
    US_CORRUPT_VALUE = 2,
    US_CORRUPT_BIT = 4,    /* which makes `value` that of a bit */
    US_CORRUPT_LEN = 8,
    US_CORRUPT_STICKS = 16, /* always sticky */
};

/* constant, word, the word of the ledger, keys */
#define US_CORRUPTIONS(X)                                                                                            \
    X(FLIP, "flip", "flip", US_CORRUPT_BITS | US_CORRUPT_LEN)       /* so many bits, anywhere */                     \
    X(BYTE, "byte", "byte", US_CORRUPT_LEN)                         /* one byte, anywhere, becomes another */        \
    X(SET, "set", "set", US_CORRUPT_VALUE | US_CORRUPT_LEN)         /* every byte gets the value */                  \
    X(ZERO, "zero", "set", US_CORRUPT_LEN)                          /* ... or 0 */                                   \
    X(GARBAGE, "garbage", "garbage", US_CORRUPT_LEN)                /* every byte is random */                       \
    X(SWAB, "swab", "swab", US_CORRUPT_LEN)                         /* the two bytes of each pair change places */   \
    X(STUCK, "stuck", "stuck",                                      /* one bit of each sector has the value */       \
        US_CORRUPT_VALUE | US_CORRUPT_BIT | US_CORRUPT_STICKS)

#define US_CONSTANT(constant, word, text, keys) US_CORRUPT_##constant,
enum us_corrupt_mode {
    US_CORRUPT_NOT = 0,
    US_CORRUPTIONS(US_CONSTANT)
    US_CORRUPT_PATCH, /* as the handler said by io:flip() and io:patch() */
    US_CORRUPT_COUNT,
};
#undef US_CONSTANT

/* ---- what a write stores: constant, word, whether the keys unit and units mean something ---- */

#define US_STORES(X)              \
    X(ALL, "all", false)          \
    X(NONE, "none", false)        \
    X(PREFIX, "prefix", true)     \
    X(SUFFIX, "suffix", true)     \
    X(MIDDLE, "middle", true)     \
    X(RANDOM, "random", true) /* units here and there, in at most US_SEGMENTS_MAX runs */

#define US_CONSTANT(constant, word, has_units) US_STORE_##constant,
enum us_store_keep {
    US_STORE_NORMAL = 0, /* all; nothing when the IO fails */
    US_STORES(US_CONSTANT)
    US_STORE_COUNT,
};
#undef US_CONSTANT

/* ---- orders in which held IOs are released: constant, word ---- */

#define US_RELEASE_ORDERS(X) \
    X(FIFO, "fifo")          \
    X(LIFO, "lifo")          \
    X(RANDOM, "random")

#define US_CONSTANT(constant, word) US_RELEASE_##constant,
enum us_release_order { US_RELEASE_ORDERS(US_CONSTANT) US_RELEASE_ORDER_COUNT };
#undef US_CONSTANT

/* NULL for a number that is no order. */
const char *us_release_order_name(unsigned order);

/* The least of what release is to let go. */
enum { US_RELEASE_COUNT_MIN = 1 };
