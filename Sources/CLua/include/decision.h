/* What is to happen to one IO, and the IO as a script sees it. Flat data. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The ublk operations, numbered as the driver numbers them (UBLK_IO_OP_*). */
enum us_op {
    US_OP_READ = 0,
    US_OP_WRITE = 1,
    US_OP_FLUSH = 2,
    US_OP_DISCARD = 3,
    US_OP_WRITE_ZEROES = 5,
    US_OP_COUNT = 6,
};

/* How the IO ends, once its delay and its hang are over. */
enum us_outcome {
    US_OUTCOME_PASS = 0, /* the backing does it */
    US_OUTCOME_FAIL,     /* complete with -error, the backing sees nothing */
    US_OUTCOME_DROP,     /* acknowledge, store nothing; not for reads */
    US_OUTCOME_ZERO,     /* a read returns zeroes, a write stores zeroes */
    US_OUTCOME_REDIRECT, /* the backing does it at to_offset instead */
    US_OUTCOME_DONE,     /* the script has done it itself; a read's data is in its buffer */
    US_OUTCOME_COUNT,
};

enum us_corrupt_mode {
    US_CORRUPT_NOT = 0,
    US_CORRUPT_FLIP,    /* so many bits, anywhere */
    US_CORRUPT_SET,     /* every byte gets the value */
    US_CORRUPT_GARBAGE, /* every byte is random */
    US_CORRUPT_STUCK,   /* one bit of each sector is stuck at the value */
    US_CORRUPT_BYTE,    /* one byte, anywhere, becomes another */
    US_CORRUPT_SWAB,    /* the two bytes of each pair change places */
    US_CORRUPT_PATCH,   /* as the handler said by io:flip() and io:patch() */
    US_CORRUPT_COUNT,
};

/* What a read returns, or a write stores, other than it should; effects.h. */
struct us_corruption {
    uint8_t mode;    /* enum us_corrupt_mode */
    uint8_t sticky;  /* sector by sector, the same every time; for rules only sectors in the rule's range */
    uint8_t value;
    uint8_t bit;     /* 0 ... 7 */
    uint32_t bits;
    uint32_t at;     /* first byte, of the IO or, when sticky, of each sector */
    uint32_t length; /* bytes from there on; 0: all */
};

enum us_store_keep {
    US_STORE_NORMAL = 0, /* all; nothing when the IO fails */
    US_STORE_ALL,
    US_STORE_NONE,
    US_STORE_PREFIX,
    US_STORE_SUFFIX,
    US_STORE_MIDDLE,
    US_STORE_RANDOM, /* units here and there, in at most US_LEGS_MAX pieces */
    US_STORE_COUNT,
};

/* What a write leaves on the medium, whether it succeeds or fails. */
struct us_store {
    uint8_t keep; /* enum us_store_keep */
    uint32_t unit;  /* bytes */
    uint32_t units; /* kept; 0: by chance, at least one, not all */
};

/* Backings of a device: its own, number 0, and those that a script makes. */
enum { US_BACKINGS_MAX = 16 };

/* A part of what a redirected IO does: length bytes from the IO's byte at on stand at offset of a backing. */
struct us_leg {
    uint64_t offset, at, length; /* length 0: to the end of the IO */
    uint32_t backing;
};

enum { US_LEGS_MAX = 8 };

struct us_decision {
    uint64_t delay_ns;  /* service time to add; adds up over rules and handler */
    uint64_t hang_ns;   /* with hangs: how long; 0 = until released */
    uint64_t to_offset; /* US_OUTCOME_REDIRECT without legs: the whole IO, bytes */
    int32_t error;      /* US_OUTCOME_FAIL: a positive errno of the block layer's */
    uint8_t outcome;    /* enum us_outcome */
    uint8_t hangs;      /* hold it (after the delay) before the outcome */
    uint8_t is_relative; /* US_OUTCOME_REDIRECT: to_offset is a distance, modulo 2^64 */
    uint8_t has_data;    /* US_OUTCOME_DONE: with data, for a read */
    uint8_t ignores_fua; /* a write marked FUA is stored as any other */
    uint8_t leg_count;  /* US_OUTCOME_REDIRECT: so many legs, which follow the decision where a script made it */
    uint32_t to_backing; /* US_OUTCOME_REDIRECT without legs */
    struct us_corruption corrupt;
    struct us_store store;
    uintptr_t corrupt_range; /* address of the registry's us_ranges which a sticky corruption keeps to; 0: everywhere */
    uint64_t corrupt_seed, store_seed; /* of what they choose by chance */
};

/* Bits of enum us_op: the operations that can end as the decision says. */
uint32_t us_decision_ops(const struct us_decision *decision);

/* A later decision takes over what an earlier one does to the data, unless it does such a thing itself. */
static inline void us_decision_inherit(struct us_decision *later, const struct us_decision *earlier) {
    later->ignores_fua |= earlier->ignores_fua;
    if (later->corrupt.mode == US_CORRUPT_NOT) {
        later->corrupt = earlier->corrupt;
        later->corrupt_seed = earlier->corrupt_seed;
        later->corrupt_range = earlier->corrupt_range;
    }
    if (later->store.keep == US_STORE_NORMAL) {
        later->store = earlier->store;
        later->store_seed = earlier->store_seed;
    }
}

/* The decision ends as another one does; its delay and what it does to data stay. */
static inline void us_decision_settle(struct us_decision *decision, const struct us_decision *end) {
    decision->outcome = end->outcome;
    decision->error = end->error;
    decision->to_offset = end->to_offset;
    decision->to_backing = end->to_backing;
    decision->leg_count = end->leg_count;
    decision->is_relative = end->is_relative;
    decision->hangs = end->hangs;
    decision->hang_ns = end->hang_ns;
}

/* True when the IO goes on as if nobody had been asked. */
bool us_decides_nothing(const struct us_decision *decision);

/* The name of an outcome, as the ledger has it; NULL: there is no such outcome. Any thread. */
const char *us_outcome_name(unsigned outcome);

/* Writes a decision as a script would, cut at size, NUL-terminated. Any thread. */
void us_decision_text(const struct us_decision *decision, char *text, size_t size);

/* Flags of an IO; the driver's bits of op_flags (UBLK_IO_F_*). */
enum us_io_flag {
    US_IO_FAILFAST = (1 << 8) | (1 << 9) | (1 << 10),
    US_IO_META = 1 << 11,
    US_IO_FUA = 1 << 13,
    US_IO_NOUNMAP = 1 << 15,
    US_IO_SWAP = 1 << 16,
};

/* One per tag, owned by the queue, at a fixed address while the script lives. */
struct us_io {
    uint64_t offset; /* bytes */
    uint64_t length; /* bytes */
    uint64_t sequence; /* the queue's count of IOs, from 1 */
    uint32_t flags;  /* enum us_io_flag */
    uint16_t tag;
    uint16_t queue;
    uint8_t op;      /* enum us_op */
    uint8_t live;    /* between fetch and commit; a script's use outside of it raises */
    uint8_t reserved[6];
};

/* True when the decision changes what becomes of the IO: FUA can be ignored only where it is asked for. */
static inline bool us_decision_acts_on(const struct us_decision *decision, const struct us_io *io) {
    return decision->outcome != US_OUTCOME_PASS || decision->hangs || decision->delay_ns != 0
        || decision->corrupt.mode != US_CORRUPT_NOT || decision->store.keep != US_STORE_NORMAL
        || (decision->ignores_fua && (io->flags & US_IO_FUA) != 0);
}

/* True when all that the decision says is where the IO's data is: to() a place, done(), or a read of zeroes. */
static inline bool us_decision_maps(const struct us_decision *decision, const struct us_io *io) {
    if (decision->hangs || decision->delay_ns != 0 || decision->ignores_fua)
        return false;
    if (decision->corrupt.mode != US_CORRUPT_NOT || decision->store.keep != US_STORE_NORMAL)
        return false;
    switch (decision->outcome) {
    case US_OUTCOME_REDIRECT: return !decision->is_relative;
    case US_OUTCOME_DONE: return true;
    case US_OUTCOME_ZERO: return io->op == US_OP_READ;
    default: return false;
    }
}
