/* What is to happen to one IO, and the IO as a script sees it. Flat data. */
#pragma once
#include "vocabulary.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a read returns, or a write stores, other than it should; Corruption.swift. */
struct us_corruption {
    uint8_t mode;    /* enum us_corrupt_mode */
    uint8_t sticky;  /* sector by sector, the same every time; for rules only sectors in the rule's range */
    uint8_t value;
    uint8_t bit;     /* 0 ... 7 */
    uint32_t bits;
    uint32_t at;     /* first byte, of the IO or, when sticky, of each sector */
    uint32_t length; /* bytes from there on; 0: all */
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
struct us_segment {
    uint64_t offset, at, length; /* length 0: to the end of the IO */
    uint32_t backing;
};

enum {
    US_SEGMENTS_MAX = 8,
    US_TRANSFERS_MAX = US_BACKINGS_MAX, /* of one IO: a flush goes to each backing */
    US_HANG_NS_MIN = 1,                 /* of a hang that ends by itself: 0 stands for one that does not */
};
_Static_assert(US_SEGMENTS_MAX <= US_TRANSFERS_MAX, "each segment is a transfer");

/* The sum of two times, each of at most 63 bits, as all times are; capped, so that it is one, too. */
static inline uint64_t us_time_sum(uint64_t left, uint64_t right) {
    uint64_t sum = left + right;
    return sum > INT64_MAX ? INT64_MAX : sum;
}

/* The bytes of an IO of so many that a segment has end here. */
static inline uint64_t us_segment_end(const struct us_segment *segment, uint64_t io_length) {
    return segment->length != 0 ? segment->at + segment->length : io_length;
}

/* length bytes at offset are in a device or backing of so many. */
static inline bool us_fits(uint64_t offset, uint64_t length, uint64_t size) {
    return length <= size && offset <= size - length;
}

struct us_decision {
    uint64_t delay_ns;  /* service time to add; adds up over rules and handler */
    uint64_t hang_ns;   /* with hangs: how long; 0 = until released */
    uint64_t to_offset; /* US_OUTCOME_REDIRECT without segments: the whole IO, bytes */
    int32_t error;      /* US_OUTCOME_FAIL: a positive errno of the block layer's */
    uint8_t outcome;    /* enum us_outcome */
    uint8_t hangs;      /* not 0: hold it (after the delay) before the outcome; RuleSet.swift knows whose it is */
    uint8_t is_relative; /* US_OUTCOME_REDIRECT: to_offset is a distance, modulo 2^64 */
    uint8_t has_data;    /* US_OUTCOME_DONE: with data, for a read */
    uint8_t ignores_fua; /* a write marked FUA is stored as any other */
    uint8_t segment_count;  /* US_OUTCOME_REDIRECT: so many segments, which follow the decision where a script made it */
    uint32_t to_backing; /* US_OUTCOME_REDIRECT without segments */
    struct us_corruption corrupt;
    struct us_store store;
    uintptr_t corrupt_range; /* address of the registry's us_ranges which a sticky corruption keeps to; 0: everywhere */
    uint64_t corrupt_seed, store_seed; /* of what they choose by chance */
};

/* Whether a decision with these fields says what happens to data, other than by its outcome. By value for Swift, which
 * would copy the whole decision to pass its address. */
static inline bool us_changes_data(unsigned corrupt_mode, unsigned store_keep, unsigned ignores_fua) {
    return (corrupt_mode | store_keep | ignores_fua) != 0;
}

static inline bool us_decision_changes_data(const struct us_decision *decision) {
    return us_changes_data(decision->corrupt.mode, decision->store.keep, decision->ignores_fua);
}

/* Bits of enum us_op: the operations that can do what the decision says. */
uint32_t us_decision_ops(const struct us_decision *decision);

/* Bits of enum us_op: the operations whose data the decision makes, changes, or puts together from segments. */
uint32_t us_decision_data_ops(const struct us_decision *decision);

/* The sum gets what the other decision says, too: how verdicts, and the keys of a rule, are put together. Legs are left
 * to the caller, who lets two that redirect have the segments of both; distributions as well. False, and nothing done:
 * they contradict each other; flaw says how, as in "a verdict cannot hang twice". */
bool us_decision_add(struct us_decision *sum, const struct us_decision *other, char *flaw, size_t size);

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
    decision->segment_count = end->segment_count;
    decision->is_relative = end->is_relative;
    decision->hangs = end->hangs;
    decision->hang_ns = end->hang_ns;
}

/* True when the IO goes on as if nobody had been asked. */
bool us_decides_nothing(const struct us_decision *decision);

/* Writes a decision as a script would, cut at size, NUL-terminated. Any thread. */
void us_decision_text(const struct us_decision *decision, char *text, size_t size);

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
    uint8_t has_data; /* the data of a write is in the tag's buffer; else a handler that looks at it has it pulled */
    uint8_t pull_error; /* the errno of a handler's pull that failed; 0: none did */
    uint8_t reserved[4];
};

/* True when the decision changes what becomes of the IO: FUA can be ignored only where it is asked for. */
static inline bool us_decision_acts_on(const struct us_decision *decision, const struct us_io *io) {
    return decision->outcome != US_OUTCOME_PASS || decision->hangs || decision->delay_ns != 0
        || decision->corrupt.mode != US_CORRUPT_NOT || decision->store.keep != US_STORE_NORMAL
        || (decision->ignores_fua && (io->flags & US_IO_FUA) != 0);
}

/* True when all that the decision says is where the IO's data is: to() an offset, done(), or a read of zeroes. */
static inline bool us_decision_maps(const struct us_decision *decision, const struct us_io *io) {
    if (decision->hangs || decision->delay_ns != 0 || decision->is_relative || us_decision_changes_data(decision))
        return false;
    const struct us_outcome_facts *facts = us_outcome_at(decision->outcome);
    return facts != NULL && (facts->mapped_ops & (1u << io->op)) != 0;
}
