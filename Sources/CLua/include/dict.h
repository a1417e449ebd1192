/* Named tables that the queues of a device share and that outlive a script (SharedDict.swift). */
#pragma once
#include "quotas.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct us_dict;
struct us_shared;

enum us_value_type { US_VALUE_NONE, US_VALUE_BOOL, US_VALUE_INTEGER, US_VALUE_NUMBER, US_VALUE_TEXT };

/* A key (integer or text) or a value. */
struct us_value {
    enum us_value_type type;
    int64_t integer; /* US_VALUE_BOOL: 0 or 1 */
    double number;
    const char *text;
    size_t length;
};

struct us_dict_functions {
    /* The table of that name, made when there is none; NULL: over US_OBJECTS_MAX, or the name is too long. */
    struct us_dict *(*named)(struct us_shared *shared, const char *name, size_t length);
    /* False: it is not there. Text is copied to text, which has room for US_DICT_TEXT_MAX bytes. */
    bool (*get)(struct us_dict *dict, const struct us_value *key, struct us_value *value, char *text);
    /* US_VALUE_NONE removes. False: no memory, or over US_DICT_BYTES_MAX. */
    bool (*set)(struct us_dict *dict, const struct us_value *key, const struct us_value *value);
    /* Adds to an integer, 0 when there is none; false: as set, or what is there is no integer. */
    bool (*add)(struct us_dict *dict, const struct us_value *key, int64_t amount, int64_t *sum);
    size_t (*count)(struct us_dict *dict);
    void (*clear)(struct us_dict *dict);
};
