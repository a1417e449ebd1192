/* Sizes, times and names as people write them (Config/QuantityText.swift, NameText.swift). Pure functions. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What rules, ranges, counters, buckets, dicts, marks and states may be called. */
#define US_NAME_RULE "a name of 1 to 64 bytes of text without blanks and control characters"
enum { US_NAME_FLAW_MAX = 64 };

struct us_unit_functions {
    /* "4096", "4K", "8s" (512-byte sectors). False for anything else. */
    bool (*bytes)(const char *text, size_t length, uint64_t *bytes);
    /* "10ns", "1.5s", "1h", and "0". False as above. */
    bool (*time)(const char *text, size_t length, uint64_t *nanoseconds);
    /* True: it is no such name, and `flaw` says why, as in "byte 2 is a blank". */
    bool (*name_flaw)(const char *name, size_t length, char flaw[US_NAME_FLAW_MAX]);
    /* How many bytes of text are one character of UTF-8; 0: they are none. left: at least 1. */
    size_t (*utf8_length)(const char *text, size_t left);
};
