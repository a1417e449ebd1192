/* Decisions: what can be applied to which operation, how two are put together, how one is written. No Lua, no state. */
#include "include/decision.h"
#include "include/errnos.h"
#include <stdarg.h>
#include <stdio.h>

uint32_t us_decision_ops(const struct us_decision *decision) {
    const struct us_outcome_facts *facts = us_outcome_at(decision->outcome);
    uint32_t ops = decision->has_data ? US_OP_BIT(READ) : facts != NULL ? facts->ops : 0;
    if (decision->corrupt.mode != US_CORRUPT_NOT)
        ops &= US_OP_BIT(READ) | US_OP_BIT(WRITE);
    if (decision->store.keep != US_STORE_NORMAL)
        ops &= US_OP_BIT(WRITE);
    if (decision->ignores_fua)
        ops &= US_OP_BIT(WRITE) | US_OP_BIT(WRITE_ZEROES);
    return ops;
}

uint32_t us_decision_data_ops(const struct us_decision *decision) {
    const struct us_outcome_facts *facts = us_outcome_at(decision->outcome);
    if (decision->corrupt.mode != US_CORRUPT_NOT || (facts != NULL && us_media_makes_data(facts->media)))
        return US_OP_BIT(READ) | US_OP_BIT(WRITE);
    return decision->segment_count != 0 ? US_OP_BIT(READ) : 0; /* what no segment covers is zero */
}

/* ---- adding ---- */

/* The sum has the outcome that one of the two gives. False: flaw says why there is none. */
static bool add_outcome(struct us_decision *sum, const struct us_decision *other, char *flaw, size_t size) {
    const struct us_outcome_facts *own = us_outcome_at(sum->outcome), *others = us_outcome_at(other->outcome);
    if (other->outcome == US_OUTCOME_PASS)
        return true;
    if (sum->outcome == other->outcome && own->adds)
        return true; /* their segments are the caller's */
    if (sum->outcome == other->outcome)
        return snprintf(flaw, size, "a verdict cannot %s twice", own->word), false;
    if (sum->outcome != US_OUTCOME_PASS)
        return snprintf(flaw, size, "a verdict cannot both %s and %s", own->word, others->word), false;
    sum->outcome = other->outcome;
    sum->error = other->error;
    sum->has_data = other->has_data;
    sum->to_offset = other->to_offset;
    sum->to_backing = other->to_backing;
    sum->segment_count = other->segment_count;
    sum->is_relative = other->is_relative;
    return true;
}

bool us_decision_add(struct us_decision *sum, const struct us_decision *other, char *flaw, size_t size) {
    if (sum->hangs && other->hangs)
        return snprintf(flaw, size, "a verdict cannot hang twice"), false;
    struct us_decision both = *sum;
    if (!add_outcome(&both, other, flaw, size))
        return false;
    if (sum->corrupt.mode != US_CORRUPT_NOT && other->corrupt.mode != US_CORRUPT_NOT)
        return snprintf(flaw, size, "a verdict cannot corrupt twice"), false;
    if (sum->store.keep != US_STORE_NORMAL && other->store.keep != US_STORE_NORMAL)
        return snprintf(flaw, size, "a verdict cannot say twice what is stored"), false;
    both.delay_ns = us_time_sum(sum->delay_ns, other->delay_ns);
    if (other->hangs) {
        both.hangs = 1;
        both.hang_ns = other->hang_ns;
    }
    both.ignores_fua |= other->ignores_fua;
    if (other->corrupt.mode != US_CORRUPT_NOT)
        both.corrupt = other->corrupt;
    if (other->store.keep != US_STORE_NORMAL)
        both.store = other->store;
    *sum = both;
    return true;
}

/* ---- as text ---- */

struct text {
    char *at;
    size_t size, length;
};

static void __attribute__((format(printf, 2, 3))) print(struct text *text, const char *format, ...) {
    if (text->length >= text->size)
        return;
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text->at + text->length, text->size - text->length, format, list);
    va_end(list);
    if (length > 0)
        text->length += (size_t)length;
}

/* In the largest unit that divides it. */
static void print_time(struct text *text, const char *function, uint64_t ns) {
    static const struct {
        uint64_t factor;
        const char *name;
    } units[] = {{1000000000, "s"}, {1000000, "ms"}, {1000, "us"}, {1, "ns"}};
    size_t unit = 0;
    while (ns % units[unit].factor != 0)
        unit++;
    print(text, "%s(%llu%s)", function, (unsigned long long)(ns / units[unit].factor), units[unit].name);
}

static void print_outcome(struct text *text, const struct us_decision *verdict) {
    if (verdict->outcome == US_OUTCOME_FAIL) {
        const struct us_errno *known = us_errno_by_number(verdict->error);
        print(text, "fail(\"%s\")", known != NULL ? known->name : "?");
    } else if (verdict->outcome == US_OUTCOME_REDIRECT && verdict->is_relative) {
        print(text, "misdirect(%lld)", (long long)verdict->to_offset);
    } else if (verdict->outcome == US_OUTCOME_REDIRECT && verdict->segment_count > 0) {
        print(text, "to(%u places)", verdict->segment_count);
    } else if (verdict->outcome == US_OUTCOME_REDIRECT && verdict->to_backing > 0) {
        print(text, "to(%llu, backing %u)", (unsigned long long)verdict->to_offset, verdict->to_backing);
    } else if (verdict->outcome == US_OUTCOME_REDIRECT) {
        print(text, "to(%llu)", (unsigned long long)verdict->to_offset);
    } else if (us_outcome_at(verdict->outcome) == NULL) {
        print(text, "outcome %u", verdict->outcome);
    } else if (verdict->outcome != US_OUTCOME_PASS) {
        print(text, "%s()", us_outcome_at(verdict->outcome)->word);
    }
}

static void print_effect(struct text *text, const char *function, const char *name, unsigned number) {
    print(text, text->length > 0 ? " + %s(" : "%s(", function);
    if (name != NULL)
        print(text, "\"%s\")", name);
    else
        print(text, "%u)", number);
}

#define NAME(names, number) ((number) < sizeof(names) / sizeof *(names) ? (names)[number] : NULL)

static void print_effects(struct text *text, const struct us_decision *verdict) {
#define MODE(constant, word, text, keys) [US_CORRUPT_##constant] = text,
#define KEEP(constant, word, has_units) [US_STORE_##constant] = word,
    static const char *const modes[] = {US_CORRUPTIONS(MODE)[US_CORRUPT_PATCH] = "patch"};
    static const char *const keeps[] = {US_STORES(KEEP)};
#undef MODE
#undef KEEP
    if (verdict->corrupt.mode != US_CORRUPT_NOT)
        print_effect(text, "corrupt", NAME(modes, verdict->corrupt.mode), verdict->corrupt.mode);
    if (verdict->ignores_fua)
        print(text, "%signore_fua()", text->length > 0 ? " + " : "");
    if (verdict->store.keep != US_STORE_NORMAL)
        print_effect(text, "store", NAME(keeps, verdict->store.keep), verdict->store.keep);
}

void us_decision_text(const struct us_decision *verdict, char *text, size_t size) {
    struct text to = {text, size, 0};
    text[0] = '\0';
    print_outcome(&to, verdict);
    print_effects(&to, verdict);
    if (verdict->delay_ns > 0 || (!verdict->hangs && to.length == 0)) {
        if (to.length > 0)
            print(&to, " + ");
        print_time(&to, "delay", verdict->delay_ns);
    }
    if (verdict->hangs) {
        if (to.length > 0)
            print(&to, " + ");
        if (verdict->hang_ns > 0)
            print_time(&to, "hang", verdict->hang_ns);
        else
            print(&to, "hang()");
    }
}

bool us_decides_nothing(const struct us_decision *decision) {
    return decision->outcome == US_OUTCOME_PASS && !decision->hangs && decision->delay_ns == 0
        && decision->corrupt.mode == US_CORRUPT_NOT && decision->store.keep == US_STORE_NORMAL
        && !decision->ignores_fua;
}
