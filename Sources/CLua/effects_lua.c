/* corrupt(), store() and misdirect(): verdicts about data. Any phase; made at the top of a script they cost nothing
 * later.
 *
 * Each takes a word or a table; tables are read key by key, and a key that is not known is refused. */
#include "include/effects.h"
#include "natives.h"
#include "userdata.h"
#include <string.h>

/* ---- reading tables ---- */

struct reader {
    lua_State *L;
    const char *function;
    const char *keys; /* for messages */
    int left;         /* keys not read yet */
};

/* Argument 1 becomes a table: a word stands for { mode = word }. */
static struct reader begin(lua_State *L, const char *function, const char *first, const char *keys) {
    if (lua_type(L, 1) != LUA_TSTRING && !lua_istable(L, 1))
        luaL_error(L, "%s: a word or a table with %s is expected", function, keys);
    if (!lua_istable(L, 1)) {
        lua_createtable(L, 0, 1);
        lua_pushvalue(L, 1);
        lua_setfield(L, -2, first);
        lua_replace(L, 1);
    }
    struct reader reader = {L, function, keys, 0};
    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        reader.left++;
        lua_pop(L, 1);
    }
    return reader;
}

/* Pushes the value of a key; false, and nothing pushed, when there is none. */
static bool get(struct reader *reader, const char *key) {
    if (lua_getfield(reader->L, 1, key) != LUA_TNIL) {
        reader->left--;
        return true;
    }
    lua_pop(reader->L, 1);
    return false;
}

static void end(struct reader *reader) {
    if (reader->left != 0)
        luaL_error(reader->L, "%s: unknown key; it has %s", reader->function, reader->keys);
}

/* Raises when there is a key that means nothing beside what the word says. */
static void refuse_key(struct reader *reader, const char *key, bool is_meant, const char *word) {
    if (!is_meant && get(reader, key))
        luaL_error(reader->L, "%s: %s = %s is of no use with \"%s\"", reader->function, key,
            us_describe(reader->L, -1), word);
}

/* The number of the word that the key has; words end with NULL. */
static unsigned get_word(struct reader *reader, const char *key, const char *const *words) {
    unsigned found = 0;
    if (!get(reader, key))
        luaL_error(reader->L, "%s: %s is missing: %s is expected", reader->function, key,
            us_push_choice(reader->L, words));
    while (words[found] != NULL && !us_is_text(reader->L, -1, words[found]))
        found++;
    if (words[found] == NULL) {
        const char *given = us_describe(reader->L, lua_gettop(reader->L));
        luaL_error(reader->L, "%s: %s = %s: %s is expected", reader->function, key, given,
            us_push_choice(reader->L, words));
    }
    lua_pop(reader->L, 1);
    return found;
}

static uint64_t get_number(struct reader *reader, const char *key, uint64_t low, uint64_t high, uint64_t otherwise) {
    if (!get(reader, key))
        return otherwise;
    uint64_t number = us_check_bytes(reader->L, lua_gettop(reader->L), key);
    if (number < low || number > high)
        luaL_error(reader->L, "%s: %s = %s: %I to %I is expected", reader->function, key, us_describe(reader->L, -1),
            (LUAI_UACINT)low, (LUAI_UACINT)high);
    lua_pop(reader->L, 1);
    return number;
}

static bool get_bool(struct reader *reader, const char *key, bool otherwise) {
    if (!get(reader, key))
        return otherwise;
    if (!lua_isboolean(reader->L, -1))
        luaL_error(reader->L, "%s: %s = %s: true or false is expected", reader->function, key,
            us_describe(reader->L, -1));
    bool value = lua_toboolean(reader->L, -1);
    lua_pop(reader->L, 1);
    return value;
}

/* ---- constructors ---- */

enum { AREA_MAX = 32 << 20, BITS_MAX = 4096 };

static int corrupt(lua_State *L) {
#define WORD(constant, word, text, keys) word,
#define KEYS(constant, word, text, keys) keys,
    static const char *const modes[] = {US_CORRUPTIONS(WORD) NULL};
    static const uint8_t keys_of[] = {US_CORRUPTIONS(KEYS)};
#undef WORD
#undef KEYS
    struct reader reader = begin(L, "corrupt", "mode", "mode, bits, value, bit, at, len and sticky");
    unsigned mode = get_word(&reader, "mode", modes), keys = keys_of[mode];
    bool has_bit = keys & US_CORRUPT_BIT, sticks = keys & US_CORRUPT_STICKS;
    refuse_key(&reader, "bits", keys & US_CORRUPT_BITS, modes[mode]);
    refuse_key(&reader, "value", keys & US_CORRUPT_VALUE, modes[mode]);
    refuse_key(&reader, "bit", has_bit, modes[mode]);
    refuse_key(&reader, "len", keys & US_CORRUPT_LEN, modes[mode]);
    struct us_corruption what = {
        .mode = (uint8_t)(US_CORRUPT_NOT + 1 + mode),
        .sticky = get_bool(&reader, "sticky", sticks),
        .bits = (uint32_t)get_number(&reader, "bits", 1, BITS_MAX, 1),
        .value = (uint8_t)get_number(&reader, "value", 0, has_bit ? 1 : 255, 0),
        .bit = (uint8_t)get_number(&reader, "bit", 0, 7, 0),
    };
    if (sticks && !what.sticky)
        return luaL_error(L, "corrupt: sticky = false is of no use with \"%s\"", modes[mode]);
    uint64_t most = what.sticky ? US_SECTOR_BYTES : AREA_MAX;
    what.at = (uint32_t)get_number(&reader, "at", 0, most - 1, 0);
    what.length = (uint32_t)get_number(&reader, "len", 1, most, 0);
    end(&reader);
    us_push_verdict(L, &(struct us_decision){.corrupt = what}, NULL);
    return 1;
}

static int store(lua_State *L) {
#define WORD(constant, word, has_units) word,
#define HAS_UNITS(constant, word, has_units) has_units,
    static const char *const words[] = {US_STORES(WORD) NULL};
    static const bool has_units[] = {US_STORES(HAS_UNITS)};
#undef WORD
#undef HAS_UNITS
    struct reader reader = begin(L, "store", "keep", "keep, unit and units");
    unsigned keep = get_word(&reader, "keep", words);
    refuse_key(&reader, "unit", has_units[keep], words[keep]);
    refuse_key(&reader, "units", has_units[keep], words[keep]);
    struct us_store what = {
        .keep = (uint8_t)(US_STORE_NORMAL + 1 + keep),
        .unit = (uint32_t)get_number(&reader, "unit", 1, AREA_MAX, US_SECTOR_BYTES),
        .units = (uint32_t)get_number(&reader, "units", 1, UINT32_MAX, 0),
    };
    end(&reader);
    if (what.unit % US_SECTOR_BYTES != 0)
        return luaL_error(L, "store: unit = %I: a multiple of %d is expected", (LUAI_UACINT)what.unit, US_SECTOR_BYTES);
    us_push_verdict(L, &(struct us_decision){.store = what}, NULL);
    return 1;
}

static int misdirect(lua_State *L) {
    bool back = lua_type(L, 1) == LUA_TSTRING && lua_tostring(L, 1)[0] == '-';
    if (back)
        lua_pushstring(L, lua_tostring(L, 1) + 1), lua_replace(L, 1);
    else if (lua_isinteger(L, 1) && lua_tointeger(L, 1) < 0 && lua_tointeger(L, 1) != LUA_MININTEGER)
        back = true, lua_pushinteger(L, -lua_tointeger(L, 1)), lua_replace(L, 1);
    uint64_t distance = us_check_bytes(L, 1, "distance");
    if (distance == 0 || distance % US_SECTOR_BYTES != 0)
        return luaL_error(L, "misdirect: a distance of whole sectors (%d bytes) is expected, not 0", US_SECTOR_BYTES);
    struct us_decision verdict = {
        .outcome = US_OUTCOME_REDIRECT, .is_relative = 1, .to_offset = back ? 0 - distance : distance};
    us_push_verdict(L, &verdict, NULL);
    return 1;
}

void us_open_effects(lua_State *L) {
    static const struct us_native functions[] = {
        {"corrupt{...}", corrupt}, {"store{...}", store}, {"misdirect(distance)", misdirect}, {NULL, NULL}};
    us_register_natives(L, functions);
}
