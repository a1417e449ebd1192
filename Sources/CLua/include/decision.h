/* What is to happen to one IO, and the IO as a script sees it. Flat data, no pointers into Lua. */
#pragma once
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
};

struct us_decision {
    uint64_t delay_ns;  /* service time to add; adds up over rules and handler */
    uint64_t hang_ns;   /* with hangs: how long; 0 = until released */
    uint64_t to_offset; /* US_OUTCOME_REDIRECT: bytes */
    int32_t error;      /* US_OUTCOME_FAIL: a positive errno of the block layer's */
    uint8_t outcome;    /* enum us_outcome */
    uint8_t hangs;      /* hold it (after the delay) before the outcome */
    uint16_t reserved;
};

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
