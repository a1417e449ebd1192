/* A script's own tests, test("name", function(disk) ... end): run one at a time, each in a state of its own that has
 * loaded the same script. What a test asks of its disk comes out here; whoever drives it does it and goes on.
 * One thread, the one that runs the script. */
#pragma once
#include "script.h"

enum us_test_step {
    US_TEST_SEND,    /* a request; with waits: until it is over */
    US_TEST_FINISH,  /* until the request of that number is over */
    US_TEST_ADVANCE, /* until so much time has passed */
    US_TEST_CTL,     /* the words of a ctl */
};

/* What a test that waits asks for. Pointers are valid until it goes on. */
struct us_test_want {
    enum us_test_step step;
    bool waits;
    uint8_t op;      /* enum us_op */
    uint32_t flags;  /* enum us_io_flag */
    uint64_t number; /* of a request, from 1 */
    uint64_t offset, length, time_ns;
    const void *data; /* of a write, length bytes */
    size_t word_count;
    const char *const *words;
};

/* What a script that was loaded with keeps_tests declares, in file order. */
size_t us_script_test_count(const struct us_script *script);
const char *us_script_test_name(const struct us_script *script, size_t index);
int us_script_test_line(const struct us_script *script, size_t index);
/* "key=value", in no particular order; NULL: there is no further one. */
const char *us_script_test_setting(const struct us_script *script, size_t index, size_t setting);

/* What a test is told of its disk, in bytes. */
struct us_test_disk {
    uint64_t size, block, max_io;
};

/* Begins a test, once per state. US_OK: it has passed. US_WAITS: us_script_test_wanted() is to be done, then
 * us_script_test_resume() called. Otherwise it has failed, and us_script_error() says where and why. */
enum us_status us_script_test_begin(struct us_script *script, size_t index, const struct us_test_disk *disk);
struct us_test_want us_script_test_wanted(const struct us_script *script);

/* A request is over: its result, which the test holds, is filled in. Between two steps of the test.
 * errno_name: NULL for success. data: of a read that succeeded, or NULL. US_OK or US_MEMORY. */
enum us_status us_script_test_ended(struct us_script *script, uint64_t number, uint64_t time_ns,
    const char *errno_name, const void *data, size_t length);

/* Goes on with the test. refusal: what the call that waits raises, or NULL. answer: of a ctl, or NULL. */
enum us_status us_script_test_resume(
    struct us_script *script, const char *refusal, const char *answer, size_t answer_length);
