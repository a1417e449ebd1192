/* device{} and rule{}, and for params.c: copies of their tables as plain data, for Swift to validate and compile.
 *
 * Load phase only. Nothing is judged here but what a field can hold. Copies live in an arena of blocks that Lua
 * allocates and the registry keeps until the state closes: they count against the script's memory limit, and an
 * error half-way through a table leaves nothing to free. A declaration joins the list when it is complete. */
#include "script_state.h"
#include "userdata.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RULES_MAX = 10000, ARENA_BLOCK = 8192, KEY_MAX = 64 };

/* ---- the arena ---- */

static void *allocate(lua_State *L, size_t size) {
    struct us_script *script = us_script_of(L);
    size = (size + 7) & ~(size_t)7;
    if (size > script->arena_left) {
        size_t block_size = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        unsigned char *block = lua_newuserdatauv(L, block_size, 0);
        luaL_ref(L, LUA_REGISTRYINDEX);
        script->arena = block;
        script->arena_left = block_size;
    }
    void *memory = script->arena;
    script->arena += size;
    script->arena_left -= size;
    return memory;
}

static const char *copy_text(lua_State *L, const char *text, size_t length) {
    char *copy = allocate(L, length + 1);
    memcpy(copy, text, length);
    copy[length] = '\0';
    return copy;
}

/* ---- one table ---- */

/* Where in a declaration we are, for messages. */
struct place {
    const char *function; /* "rule" */
    const char *outer;    /* the key of the nested table, NULL on the outside */
};

/* Raises "rule: key "op" holds ...", for the value on top of the stack. */
static void refuse_value(lua_State *L, const struct place *place, const char *key) {
    const char *outer = place->outer != NULL ? place->outer : "";
    const char *dot = *outer != '\0' && *key != '[' ? "." : "";
    if (lua_istable(L, -1))
        luaL_error(L, "%s: key \"%s%s%s\" holds a table inside a table; one level is accepted", place->function, outer,
            dot, key);
    luaL_error(L, "%s: key \"%s%s%s\" holds %s; a string, number, boolean, table, ranges, distribution, bucket, "
        "verdict or backing is expected",
        place->function, outer, dot, key, us_describe(L, -1));
}

static void copy_table(lua_State *L, const struct place *place, const struct us_field **fields, size_t *count);

static void copy_number(lua_State *L, struct us_field *field) {
    int whole;
    field->integer = lua_tointegerx(L, -1, &whole);
    field->type = whole ? US_FIELD_INTEGER : US_FIELD_NUMBER;
    if (!whole)
        field->number = lua_tonumber(L, -1);
}

/* False: an object that a declaration cannot hold. */
static bool copy_object(lua_State *L, struct us_field *field) {
    const struct us_ranges_object *ranges = us_object_at(L, -1, US_KIND_RANGES);
    const struct us_dist_object *dist = us_object_at(L, -1, US_KIND_DIST);
    const struct us_bucket_object *bucket = us_object_at(L, -1, US_KIND_BUCKET);
    if (ranges != NULL) {
        field->type = US_FIELD_RANGES;
        field->ranges = ranges->set;
    } else if (dist != NULL) {
        field->type = US_FIELD_DIST;
        field->dist = dist->dist;
    } else if (bucket != NULL) {
        field->type = US_FIELD_BUCKET;
        field->bucket = bucket->bucket;
    }
    const struct us_verdict_object *verdict = us_object_at(L, -1, US_KIND_VERDICT);
    if (verdict != NULL && verdict->decision.has_data)
        luaL_error(L, "done(data) is for handlers: a rule has no data");
    if (verdict != NULL) {
        size_t size = sizeof(struct us_decision) + verdict->decision.segment_count * sizeof(struct us_segment);
        struct us_decision *copy = allocate(L, size);
        memcpy(copy, &verdict->decision, size);
        field->type = US_FIELD_VERDICT;
        field->verdict = copy;
        field->dist = verdict->dist;
    }
    const struct us_backing_object *backing = us_object_at(L, -1, US_KIND_BACKING);
    if (backing != NULL) {
        field->type = US_FIELD_BACKING;
        field->integer = backing->number;
    }
    return ranges != NULL || dist != NULL || bucket != NULL || verdict != NULL || backing != NULL;
}

/* Fills the field from the value on top of the stack. key is its name in messages: "op", or "[1]" for an item. */
static void copy_value(lua_State *L, const struct place *place, const char *key, struct us_field *field) {
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        field->type = US_FIELD_BOOL;
        field->integer = lua_toboolean(L, -1);
        return;
    case LUA_TNUMBER:
        copy_number(L, field);
        return;
    case LUA_TSTRING:
        field->type = US_FIELD_STRING;
        field->string = lua_tolstring(L, -1, &field->length);
        field->string = copy_text(L, field->string, field->length);
        return;
    case LUA_TTABLE:
        if (place->outer != NULL)
            break;
        field->type = US_FIELD_TABLE;
        copy_table(L, &(struct place){place->function, key}, &field->fields, &field->field_count);
        return;
    case LUA_TUSERDATA:
        if (!copy_object(L, field))
            break;
        return;
    }
    refuse_value(L, place, key);
}

/* Raises unless the key on the stack is one that can be declared; true: it names something. */
static bool check_key(lua_State *L, int key, lua_Integer items, const char *function) {
    if (lua_type(L, key) == LUA_TSTRING) {
        size_t length;
        const char *text = lua_tolstring(L, key, &length);
        if (length == 0 || length > KEY_MAX || strlen(text) != length)
            luaL_error(
                L, "%s: bad key %s: a name of 1 to %d bytes is expected", function, us_describe(L, key), KEY_MAX);
        return true;
    }
    lua_Integer index = lua_isinteger(L, key) ? lua_tointeger(L, key) : 0;
    if (index < 1 || index > items)
        luaL_error(L, "%s: bad key %s: names, and items 1, 2, 3 ... without a gap, are accepted", function,
            us_describe(L, key));
    return false;
}

static size_t count_names(lua_State *L, int table, lua_Integer items, const char *function) {
    size_t names = 0;
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        lua_pop(L, 1);
        if (check_key(L, lua_gettop(L), items, function))
            names++;
    }
    return names;
}

static int compare_keys(const void *left, const void *right) {
    return strcmp(((const struct us_field *)left)->key, ((const struct us_field *)right)->key);
}

/* Copies the table on top of the stack: items in order, then names sorted, because the order that lua_next gives
 * differs from run to run. Leaves fields and count alone when there is nothing. */
static void copy_table(lua_State *L, const struct place *place, const struct us_field **fields, size_t *count) {
    luaL_checkstack(L, 8, NULL);
    int table = lua_gettop(L);
    lua_Integer items = (lua_Integer)lua_rawlen(L, table);
    size_t names = count_names(L, table, items, place->function), all = (size_t)items + names;
    if (place->outer != NULL && items > 0 && names > 0)
        luaL_error(L, "%s: key \"%s\" holds a table with names and with items without: one or the other is expected",
            place->function, place->outer);
    if (all == 0)
        return;
    struct us_field *copies = allocate(L, all * sizeof *copies);
    memset(copies, 0, all * sizeof *copies);
    for (lua_Integer i = 0; i < items; i++) {
        char name[24];
        snprintf(name, sizeof name, "[%lld]", (long long)i + 1);
        lua_rawgeti(L, table, i + 1);
        copies[i].key = "";
        copy_value(L, place, name, &copies[i]);
        lua_pop(L, 1);
    }
    size_t next = (size_t)items;
    lua_pushnil(L);
    while (lua_next(L, table) != 0) {
        if (lua_type(L, -2) == LUA_TSTRING) {
            size_t length;
            const char *key = lua_tolstring(L, -2, &length);
            struct us_field *field = &copies[next++];
            field->key = copy_text(L, key, length);
            copy_value(L, place, field->key, field);
        }
        lua_pop(L, 1);
    }
    qsort(copies + items, all - (size_t)items, sizeof *copies, compare_keys);
    *fields = copies;
    *count = all;
}

/* ---- declarations ---- */

void us_append_declaration(lua_State *L, const struct us_declaration *declaration) {
    struct us_script *script = us_script_of(L);
    if (script->declaration_count == script->declaration_capacity) {
        size_t capacity = script->declaration_capacity * 2 + 16;
        struct us_declaration *more = allocate(L, capacity * sizeof *more);
        if (script->declaration_count > 0)
            memcpy(more, script->declarations, script->declaration_count * sizeof *more);
        script->declarations = more;
        script->declaration_capacity = capacity;
    }
    script->declarations[script->declaration_count++] = *declaration;
}

struct us_declaration us_read_declaration(lua_State *L, const char *function, enum us_declaration_kind kind) {
    us_require_phase(L, function, US_PHASE_LOAD);
    if (!lua_istable(L, 1))
        luaL_error(L, "%s: one table is expected, as in %s{...}", function, function);
    struct us_declaration declaration = {.kind = kind, .line = us_current_line(L)};
    copy_table(L, &(struct place){function, NULL}, &declaration.fields, &declaration.field_count);
    return declaration;
}

void us_declare(lua_State *L, const char *function, enum us_declaration_kind kind) {
    struct us_declaration declaration = us_read_declaration(L, function, kind);
    us_append_declaration(L, &declaration);
}

static int device(lua_State *L) {
    struct us_script *script = us_script_of(L);
    us_require_phase(L, "device", US_PHASE_LOAD);
    if (script->has_device)
        return luaL_error(L, "device: it is declared already, on line %d", script->device_line);
    us_declare(L, "device", US_DECLARES_DEVICE);
    script->has_device = true;
    script->device_line = script->declarations[script->declaration_count - 1].line;
    us_push_settings(L, 1);
    return 1;
}

static int rule(lua_State *L) {
    struct us_script *script = us_script_of(L);
    if (script->rule_count == RULES_MAX)
        return luaL_error(L, "rule: there are %d rules already, the most there can be", RULES_MAX);
    us_declare(L, "rule", US_DECLARES_RULE);
    script->rule_count++;
    return 0;
}

size_t us_script_declaration_count(const struct us_script *script) {
    return script->declaration_count;
}

const struct us_declaration *us_script_declaration(const struct us_script *script, size_t index) {
    return index < script->declaration_count ? &script->declarations[index] : NULL;
}

void us_open_declare(lua_State *L) {
    static const struct us_native functions[] = {{"device{...}", device}, {"rule{...}", rule}, {NULL, NULL}};
    us_register_natives(L, functions);
}
