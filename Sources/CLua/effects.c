/* Effects: chance comes from the decision's seed only, drawn once when the IO was decided about. */
#include "include/effects.h"
#include "include/random.h"
#include <string.h>

static uint64_t below(struct us_random *stream, uint64_t count) {
    return (uint64_t)(((unsigned __int128)us_random_next(stream) * count) >> 64);
}

/* One stretch of bytes: the whole IO, or one sector of it. */
static void change(const struct us_corruption *what, struct us_random *stream, unsigned char *data, uint64_t length) {
    uint64_t first = what->at < length ? what->at : length;
    uint64_t count = what->length != 0 && what->length < length - first ? what->length : length - first;
    if (count == 0)
        return;
    data += first;
    switch (what->mode) {
    case US_CORRUPT_FLIP:
        for (uint32_t i = 0; i < what->bits; i++) {
            uint64_t bit = below(stream, count * 8);
            data[bit / 8] ^= (unsigned char)(1u << (bit % 8));
        }
        break;
    case US_CORRUPT_SET:
    case US_CORRUPT_ZERO:
        memset(data, what->value, count);
        break;
    case US_CORRUPT_GARBAGE:
        for (uint64_t i = 0; i < count; i += 8) {
            uint64_t noise = us_random_next(stream);
            memcpy(data + i, &noise, count - i < 8 ? count - i : 8);
        }
        break;
    case US_CORRUPT_BYTE:
        data[below(stream, count)] ^= (unsigned char)(1 + below(stream, 255));
        break;
    case US_CORRUPT_SWAB:
        for (uint64_t i = 0; i + 1 < count; i += 2) {
            unsigned char first_byte = data[i];
            data[i] = data[i + 1];
            data[i + 1] = first_byte;
        }
        break;
    case US_CORRUPT_STUCK:
        if (what->value != 0)
            data[0] |= (unsigned char)(1u << what->bit);
        else
            data[0] &= (unsigned char)~(1u << what->bit);
        break;
    }
}

static void apply(const struct us_patches *patches, unsigned char *data, uint64_t length) {
    for (uint32_t i = 0; i < patches->count; i++) {
        const struct us_patch *patch = &patches->list[i];
        for (unsigned b = 0; b < patch->length && patch->at + b < length; b++)
            data[patch->at + b] = patch->is_flip ? data[patch->at + b] ^ patch->bytes[b] : patch->bytes[b];
    }
}

void us_corrupt(const struct us_decision *decision, const struct us_patches *patches, uint64_t offset, void *data,
    uint64_t length) {
    const struct us_corruption *what = &decision->corrupt;
    if (what->mode == US_CORRUPT_PATCH) {
        apply(patches, data, length);
        return;
    }
    if (!what->sticky) {
        struct us_random stream = {decision->corrupt_seed};
        change(what, &stream, data, length);
        return;
    }
    const struct us_ranges *range = (const struct us_ranges *)decision->corrupt_range;
    for (uint64_t at = 0; at < length; at += US_SECTOR_BYTES) {
        if (range != NULL && !us_ranges_overlaps(range, offset + at, US_SECTOR_BYTES))
            continue;
        struct us_random stream = {decision->corrupt_seed ^ (offset + at) * 0x9e3779b97f4a7c15u};
        stream.state = us_random_next(&stream);
        change(what, &stream, (unsigned char *)data + at, US_SECTOR_BYTES);
    }
}

/* At least one unit is lost, and one kept: the rest would be no torn write. */
static uint64_t kept_units(const struct us_store *store, uint64_t units, struct us_random *stream) {
    uint64_t kept = store->units != 0 ? store->units : units > 1 ? 1 + below(stream, units - 1) : 0;
    return kept < units ? kept : units;
}

void us_stored_part(const struct us_decision *decision, uint64_t length, uint64_t *from, uint64_t *to) {
    const struct us_store *store = &decision->store;
    struct us_random stream = {decision->store_seed};
    uint64_t units = (length + store->unit - 1) / store->unit;
    uint64_t kept = kept_units(store, units, &stream);
    uint64_t first = 0;
    switch (store->keep) {
    case US_STORE_ALL:
        kept = units;
        break;
    case US_STORE_NONE:
        kept = 0;
        break;
    case US_STORE_SUFFIX:
        first = units - kept;
        break;
    case US_STORE_MIDDLE:
        first = below(&stream, units - kept + 1);
        break;
    }
    /* The last unit may be a short one. */
    *from = first * store->unit < length ? first * store->unit : length;
    *to = (first + kept) * store->unit < length ? (first + kept) * store->unit : length;
}

/* The pieces of one write, as they are found. */
struct pieces {
    uint64_t unit, offset, length; /* of the write */
    struct us_leg *legs;
    unsigned count;
};

/* Units [first, first + count) are kept; behind those before. */
static void keep(struct pieces *pieces, uint64_t first, uint64_t count) {
    if (count == 0)
        return;
    uint64_t at = first * pieces->unit, end = (first + count) * pieces->unit;
    if (end > pieces->length) /* the last unit may be a short one */
        end = pieces->length;
    struct us_leg *last = pieces->count > 0 ? &pieces->legs[pieces->count - 1] : NULL;
    if (last != NULL && last->at + last->length == at)
        last->length = end - last->at;
    else
        pieces->legs[pieces->count++] =
            (struct us_leg){.offset = pieces->offset + at, .at = at, .length = end - at};
}

/* Every choice of so many units is equally likely: Knuth, TAOCP 2, 3.4.2, algorithm S. */
static void keep_any(struct pieces *pieces, uint64_t units, uint64_t kept, struct us_random *stream) {
    for (uint64_t unit = 0; unit < units && kept > 0; unit++)
        if (below(stream, units - unit) < kept) {
            keep(pieces, unit, 1);
            kept--;
        }
}

/* Where a stretch is cut into count + 1 parts, ascending. */
static void cut(uint64_t *cuts, unsigned count, uint64_t length, struct us_random *stream) {
    for (unsigned i = 0; i < count; i++) {
        uint64_t new = below(stream, length + 1);
        unsigned place = i;
        for (; place > 0 && cuts[place - 1] > new; place--)
            cuts[place] = cuts[place - 1];
        cuts[place] = new;
    }
}

/* More than there are legs for: as many pieces as there are, of any length, with gaps of any length. */
static void keep_runs(struct pieces *pieces, uint64_t units, uint64_t kept, struct us_random *stream) {
    uint64_t ends[US_LEGS_MAX], gaps[US_LEGS_MAX], done = 0;
    cut(ends, US_LEGS_MAX - 1, kept, stream);
    ends[US_LEGS_MAX - 1] = kept;
    cut(gaps, US_LEGS_MAX, units - kept, stream);
    for (unsigned i = 0; i < US_LEGS_MAX; done = ends[i++])
        keep(pieces, gaps[i] + done, ends[i] - done);
}

unsigned us_stored_pieces(
    const struct us_decision *decision, uint64_t offset, uint64_t length, struct us_leg legs[US_LEGS_MAX]) {
    const struct us_store *store = &decision->store;
    struct us_random stream = {decision->store_seed};
    uint64_t units = (length + store->unit - 1) / store->unit, kept = kept_units(store, units, &stream);
    uint64_t most = kept < units - kept + 1 ? kept : units - kept + 1; /* pieces */
    struct pieces pieces = {store->unit, offset, length, legs, 0};
    if (most <= US_LEGS_MAX)
        keep_any(&pieces, units, kept, &stream);
    else
        keep_runs(&pieces, units, kept, &stream);
    return pieces.count;
}

uint64_t us_redirected(const struct us_decision *decision, uint64_t offset, uint64_t length, uint64_t device_size) {
    if (!decision->is_relative)
        return decision->to_offset;
    uint64_t there = offset + decision->to_offset, other = offset - decision->to_offset; /* modulo 2^64 */
    if (us_fits(there, length, device_size))
        return there;
    return us_fits(other, length, device_size) ? other : offset;
}
