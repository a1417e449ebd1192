/* The tables of vocabulary.h as data. */
#include "include/vocabulary.h"

#define COUNT(list) (sizeof(list) / sizeof *(list))

const char *us_op_name(unsigned op) {
#define LINE(constant, number, word) [number] = word,
    static const char *const names[] = {US_OPS(LINE)};
#undef LINE
    return op < COUNT(names) ? names[op] : NULL;
}

const struct us_flag_facts *us_flag_at(size_t index) {
#define LINE(constant, word, bits) {word, bits},
    static const struct us_flag_facts facts[] = {US_IO_FLAGS(LINE)};
#undef LINE
    return index < COUNT(facts) ? &facts[index] : NULL;
}

const struct us_outcome_facts *us_outcome_at(unsigned outcome) {
#define LINE(constant, word, key, counter, ops, adds, media, maps) {word, key, counter, ops, maps, adds, media},
    static const struct us_outcome_facts facts[] = {US_OUTCOMES(LINE)};
#undef LINE
    return outcome < COUNT(facts) ? &facts[outcome] : NULL;
}

const char *us_release_order_name(unsigned order) {
#define LINE(constant, word) word,
    static const char *const names[] = {US_RELEASE_ORDERS(LINE)};
#undef LINE
    return order < COUNT(names) ? names[order] : NULL;
}
