/* bucket{}: token buckets as objects of a script. Load phase; taking and changing the rate in any. */
#include "script_state.h"
#include "userdata.h"

static struct us_bucket *check_bucket(lua_State *L) {
    const struct us_bucket_object *object = us_object_at(L, 1, US_KIND_BUCKET);
    if (object == NULL)
        luaL_error(L, "a bucket is expected before the colon, as in b:take(1); got %s", us_describe(L, 1));
    return object->bucket;
}

static int take(lua_State *L) {
    struct us_bucket *bucket = check_bucket(L);
    uint64_t tokens = us_check_bytes(L, 2, "number of tokens");
    lua_pushinteger(L, (lua_Integer)us_objects.bucket.take(bucket, tokens, us_script_of(L)->now));
    return 1;
}

/* A number of tokens above 0: a size in bytes, or a number of IOs. */
static uint64_t check_tokens(lua_State *L, int index, const char *what) {
    uint64_t tokens = us_check_bytes(L, index, what);
    if (tokens == 0)
        luaL_error(L, "bucket: %s is above 0", what);
    return tokens;
}

/* A tenth of a second's tokens: short enough to be a limit, long enough not to cut every burst. */
static uint64_t usual_burst(uint64_t rate) {
    return rate < 10 ? 1 : rate / 10;
}

static int rate(lua_State *L) {
    struct us_bucket *bucket = check_bucket(L);
    if (!lua_isnoneornil(L, 2)) {
        uint64_t tokens = check_tokens(L, 2, "rate");
        uint64_t burst = lua_isnoneornil(L, 3) ? usual_burst(tokens) : check_tokens(L, 3, "burst");
        us_objects.bucket.set_rate(bucket, tokens, burst);
    }
    lua_pushinteger(L, (lua_Integer)us_objects.bucket.rate(bucket));
    return 1;
}

/* The field of the table in argument 1, on top of the stack; false, and nothing pushed, when it is nil. */
static bool get(lua_State *L, const char *key) {
    if (lua_getfield(L, 1, key) != LUA_TNIL)
        return true;
    lua_pop(L, 1);
    return false;
}

static void check_keys(lua_State *L) {
    if (!lua_istable(L, 1))
        luaL_error(L, "bucket: bucket { rate = \"1M\", burst = \"256K\" } or bucket { iops = 200 } is expected");
    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        static const char *const known[] = {"rate", "iops", "burst", "name"};
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found = found || us_is_text(L, -2, known[i]);
        if (!found)
            luaL_error(L, "bucket: unknown key %s; it has rate, iops, burst and name", us_describe(L, -2));
        lua_pop(L, 1);
    }
}

/* The metatable is the own upvalue. */
static int bucket(lua_State *L) {
    us_require_phase(L, "bucket", US_PHASE_LOAD);
    check_keys(L);
    bool has_rate = get(L, "rate");
    bool has_iops = get(L, "iops");
    if (has_rate == has_iops)
        return luaL_error(L, "bucket: rate (bytes a second) or iops is expected, and only one of them");
    uint64_t tokens = check_tokens(L, lua_gettop(L), has_iops ? "iops" : "rate");
    uint64_t burst = get(L, "burst") ? check_tokens(L, lua_gettop(L), "burst") : usual_burst(tokens);
    size_t length = 0;
    const char *name = get(L, "name") ? us_check_name(L, lua_gettop(L), "bucket", &length) : "";
    struct us_script *script = us_script_of(L);
    const struct us_script_options *options = &script->options;
    struct us_bucket_rate rate = {tokens, burst, has_iops};
    struct us_bucket_object *object = lua_newuserdatauv(L, sizeof *object, 0);
    object->kind = US_KIND_BUCKET;
    object->bucket = length > 0
        ? us_objects.bucket.named(options->shared, name, length, &rate)
        : us_objects.bucket.anonymous(
            options->shared, options->bank, options->queue, ++script->anonymous_buckets, &rate);
    if (object->bucket == NULL)
        return luaL_error(L, "bucket: out of memory, or too many buckets");
    lua_pushvalue(L, us_own_upvalue(1));
    lua_setmetatable(L, -2);
    return 1;
}

void us_open_bucket(lua_State *L) {
    static const luaL_Reg metatable[] = {{NULL, NULL}};
    static const struct us_native methods[]
        = {{"bucket:take(tokens)", take}, {"bucket:rate(rate, burst)", rate}, {NULL, NULL}};
    static const struct us_native function = {"bucket{...}", bucket};
    us_push_metatable(L, "bucket", metatable);
    lua_newtable(L);
    us_set_natives(L, methods, US_METHOD);
    lua_setfield(L, -2, "__index");
    us_register_native(L, &function, 1);
}
