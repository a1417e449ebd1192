/* The data of an IO, for its handler: what a write brings, and changes to what is written or read.
 *
 * Nothing is copied unless a script asks for it. Changes are noted with the tag and made later by the queue, to a write
 * before it is stored, to a read before it is answered. Positions are bytes from the IO's first one, 0. */
#include "include/effects.h"
#include "script_state.h"
#include "userdata.h"
#include <string.h>

enum { DATA_MAX = 64 * 1024, PATCH_BYTES = sizeof((struct us_patch *)0)->bytes };

static struct us_io_object *check_io(lua_State *L, const char *method) {
    struct us_io_object *object = us_object_at(L, 1, US_KIND_IO);
    if (object == NULL)
        luaL_error(L, "an io is expected before the colon, as in io:%s(...); got %s", method, us_describe(L, 1));
    if (!object->io->live)
        luaL_error(L, "this io is over: an io may be used only until it completes");
    return object;
}

static void pull_data(lua_State *L, const char *method, struct us_io *io) {
    const struct us_puller *puller = &us_script_of(L)->puller;
    int error = puller->pull == NULL ? 0 : puller->pull(puller->context, io->tag, io->length);
    if (error != 0) {
        io->pull_error = (uint8_t)error;
        luaL_error(L, "io:%s: the driver does not give the data of this write", method);
    }
    io->has_data = 1;
}

/* The length bytes of a write from the position in argument 2 on. */
static const unsigned char *check_data(lua_State *L, const char *method, uint64_t at, uint64_t length) {
    const struct us_io_object *object = check_io(L, method);
    if (object->io->op == US_OP_READ)
        luaL_error(L, "io:%s: a read has no data before it is done; backing():read(offset, length) reads what is stored",
            method);
    if (object->io->op != US_OP_WRITE)
        luaL_error(L, "io:%s: a %s has no data", method, us_op_name(object->io->op));
    if (length > object->io->length || at > object->io->length - length)
        luaL_error(L, "io:%s: bytes %I to %I are asked for of an IO of %I", method, (LUAI_UACINT)at,
            (LUAI_UACINT)(at + length), (LUAI_UACINT)object->io->length);
    if (!object->io->has_data)
        pull_data(L, method, object->io);
    return object->data + at;
}

/* ---- looking ---- */

/* Little-endian, as most formats on disk are. */
static int push_number(lua_State *L, const char *method, unsigned bytes) {
    const unsigned char *data = check_data(L, method, us_check_bytes(L, 2, "position"), bytes);
    uint64_t number = 0;
    for (unsigned i = bytes; i > 0; i--)
        number = number << 8 | data[i - 1];
    lua_pushinteger(L, (lua_Integer)number);
    return 1;
}

static int byte(lua_State *L) {
    return push_number(L, "byte", 1);
}

static int u16(lua_State *L) {
    return push_number(L, "u16", 2);
}

static int u32(lua_State *L) {
    return push_number(L, "u32", 4);
}

static int u64(lua_State *L) {
    return push_number(L, "u64", 8);
}

/* The optional arguments (position, length): without them all of the IO. */
static const unsigned char *check_span(lua_State *L, const char *method, uint64_t *length) {
    const struct us_io_object *object = check_io(L, method);
    uint64_t at = lua_isnoneornil(L, 2) ? 0 : us_check_bytes(L, 2, "position");
    uint64_t rest = at < object->io->length ? object->io->length - at : 0;
    *length = lua_isnoneornil(L, 3) ? rest : us_check_bytes(L, 3, "length");
    return check_data(L, method, at, *length);
}

static int data(lua_State *L) {
    uint64_t length;
    const unsigned char *bytes = check_span(L, "data", &length);
    if (length > DATA_MAX)
        return luaL_error(L, "io:data: %I bytes; at most %d at a time", (LUAI_UACINT)length, DATA_MAX);
    lua_pushlstring(L, (const char *)bytes, length);
    return 1;
}

static int hash(lua_State *L) {
    uint64_t length;
    const unsigned char *bytes = check_span(L, "hash", &length);
    lua_pushinteger(L, (lua_Integer)us_objects.hash(bytes, length));
    return 1;
}

/* ---- changing ---- */

/* Room for the changes to length bytes from a position on, all of them or none. */
static struct us_patches *check_room(lua_State *L, const char *method, uint64_t at, size_t length) {
    struct us_io_object *object = check_io(L, method);
    if (object->io->op != US_OP_READ && object->io->op != US_OP_WRITE)
        luaL_error(L, "io:%s: a %s has no data", method, us_op_name(object->io->op));
    if (length > object->io->length || at > object->io->length - length)
        luaL_error(L, "io:%s: byte %I is past the end of an IO of %I", method, (LUAI_UACINT)(at + length - 1),
            (LUAI_UACINT)object->io->length);
    struct us_patches *patches = object->patches;
    if (patches->sequence != object->io->sequence) { /* of the tag's last IO */
        patches->sequence = object->io->sequence;
        patches->count = 0;
    }
    if ((length + PATCH_BYTES - 1) / PATCH_BYTES > US_PATCHES_MAX - patches->count)
        luaL_error(L, "io:%s: an IO can have %d changes of up to %d bytes", method, US_PATCHES_MAX, PATCH_BYTES);
    us_script_of(L)->any_patches = true;
    return patches;
}

static int flip(lua_State *L) {
    uint64_t at = us_check_bytes(L, 2, "position");
    lua_Integer bit = luaL_checkinteger(L, 3);
    if (bit < 0 || bit > 7)
        return luaL_error(L, "io:flip: bit %I; 0 to 7 is expected", (LUAI_UACINT)bit);
    struct us_patches *patches = check_room(L, "flip", at, 1);
    patches->list[patches->count++] =
        (struct us_patch){.at = (uint32_t)at, .length = 1, .is_flip = 1, .bytes = {(uint8_t)(1u << bit)}};
    return 0;
}

static int patch(lua_State *L) {
    uint64_t at = us_check_bytes(L, 2, "position");
    size_t length;
    const char *bytes = luaL_checklstring(L, 3, &length);
    struct us_patches *patches = check_room(L, "patch", at, length);
    for (size_t done = 0; done < length; done += PATCH_BYTES) {
        size_t rest = length - done;
        struct us_patch *part = &patches->list[patches->count++];
        *part = (struct us_patch){.at = (uint32_t)(at + done)};
        part->length = (uint8_t)(rest < PATCH_BYTES ? rest : PATCH_BYTES);
        memcpy(part->bytes, bytes + done, part->length);
    }
    return 0;
}

const struct us_native us_io_methods[] = {
    {"io:byte(position)", byte}, {"io:u16(position)", u16}, {"io:u32(position)", u32}, {"io:u64(position)", u64},
    {"io:data(position, length)", data}, {"io:hash(position, length)", hash}, {"io:flip(position, bit)", flip},
    {"io:patch(position, bytes)", patch},
};
