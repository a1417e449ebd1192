/* dist.*: distributions as objects of a script.
 *
 * Load phase only, so they are few, and each is kept by the registry until the state closes: rules and verdicts
 * hold plain pointers. Calling one, d(), draws a time from the stream of random(). */
#include "include/dist.h"
#include "script_state.h"
#include "userdata.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTS_MAX = 65536, LINE_BYTES_MAX = 128, FILE_BYTES_MAX = 8 << 20 };

/* ---- making ---- */

/* The metatable is the first own upvalue of every constructor. */
static struct us_dist *push_dist(lua_State *L, enum us_dist_kind kind) {
    us_require_phase(L, "dist", US_PHASE_LOAD);
    struct us_dist_object *object = lua_newuserdatauv(L, sizeof *object + sizeof(struct us_dist), 0);
    struct us_dist *dist = (struct us_dist *)(object + 1);
    object->kind = US_KIND_DIST;
    object->dist = dist;
    *dist = (struct us_dist){.kind = kind, .depth = 1};
    lua_pushvalue(L, us_own_upvalue(1));
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    luaL_ref(L, LUA_REGISTRYINDEX);
    return dist;
}

/* Room for count parts, kept by the registry as the dist itself is. */
static struct us_dist_part *make_parts(lua_State *L, size_t count) {
    struct us_dist_part *parts = lua_newuserdatauv(L, count * sizeof *parts, 0);
    luaL_ref(L, LUA_REGISTRYINDEX);
    memset(parts, 0, count * sizeof *parts);
    return parts;
}

static const struct us_dist *check_dist(lua_State *L, int index) {
    const struct us_dist_object *object = us_object_at(L, index, US_KIND_DIST);
    if (object == NULL)
        luaL_error(L, "a distribution (dist.uniform, ...) is expected, got %s", us_describe(L, index));
    return object->dist;
}

/* ---- arguments ---- */

/* Raises unless argument 1 is a table with exactly these two keys. */
static void check_keys(lua_State *L, const char *name, const char *first, const char *second) {
    if (!lua_istable(L, 1))
        luaL_error(L, "dist.%s: dist.%s { %s = ..., %s = ... } is expected", name, name, first, second);
    lua_pushnil(L);
    while (lua_next(L, 1) != 0) {
        lua_pop(L, 1);
        if (!us_is_text(L, -1, first) && !us_is_text(L, -1, second))
            luaL_error(L, "dist.%s: unknown key %s; it has %s and %s", name, us_describe(L, -1), first, second);
    }
    const char *const keys[] = {first, second};
    for (int i = 0; i < 2; i++) {
        if (lua_getfield(L, 1, keys[i]) == LUA_TNIL)
            luaL_error(L, "dist.%s: %s is missing: dist.%s { %s = ..., %s = ... } is expected", name, keys[i], name,
                first, second);
        lua_pop(L, 1);
    }
}

static double time_at(lua_State *L, const char *key) {
    lua_getfield(L, 1, key);
    double time = (double)us_check_time(L, lua_gettop(L));
    lua_pop(L, 1);
    return time;
}

/* A number above 0, of any unit. */
static double number_at(lua_State *L, const char *name, const char *key) {
    lua_getfield(L, 1, key);
    double number = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0;
    if (!(number > 0) || !isfinite(number))
        luaL_error(L, "dist.%s: %s = %s: a number above 0 is expected", name, key, us_describe(L, -1));
    lua_pop(L, 1);
    return number;
}

static int constant(lua_State *L) {
    double time = (double)us_check_time(L, 1);
    push_dist(L, US_DIST_CONST)->a = time;
    return 1;
}

static int uniform(lua_State *L) {
    check_keys(L, "uniform", "min", "max");
    double min = time_at(L, "min"), max = time_at(L, "max");
    if (min > max)
        return luaL_error(L, "dist.uniform: min is above max");
    struct us_dist *dist = push_dist(L, US_DIST_UNIFORM);
    dist->a = min, dist->b = max;
    return 1;
}

static int gaussian(lua_State *L) {
    check_keys(L, "normal", "mean", "sd");
    double mean = time_at(L, "mean"), sd = time_at(L, "sd");
    struct us_dist *dist = push_dist(L, US_DIST_NORMAL);
    dist->a = mean, dist->b = sd;
    return 1;
}

static int lognormal(lua_State *L) {
    static const double z99 = 2.3263478740408408; /* 99 % of a standard normal are below */
    check_keys(L, "lognormal", "median", "p99");
    double median = time_at(L, "median"), p99 = time_at(L, "p99");
    if (!(median > 0) || p99 < median)
        return luaL_error(L, "dist.lognormal: median is above 0 and p99 at least median");
    struct us_dist *dist = push_dist(L, US_DIST_LOGNORMAL);
    dist->a = median, dist->b = log(p99 / median) / z99;
    return 1;
}

static int pareto(lua_State *L) {
    check_keys(L, "pareto", "min", "alpha");
    double min = time_at(L, "min"), alpha = number_at(L, "pareto", "alpha");
    if (!(min > 0))
        return luaL_error(L, "dist.pareto: min is above 0");
    struct us_dist *dist = push_dist(L, US_DIST_PARETO);
    dist->a = min, dist->b = alpha;
    return 1;
}

static int exponential(lua_State *L) {
    check_keys(L, "exponential", "min", "mean");
    double min = time_at(L, "min"), mean = time_at(L, "mean");
    if (mean < min)
        return luaL_error(L, "dist.exponential: mean is at least min");
    struct us_dist *dist = push_dist(L, US_DIST_EXPONENTIAL);
    dist->a = min, dist->b = mean - min;
    return 1;
}

/* ---- of parts ---- */

/* Turns the weights of the parts, which add up to sum, into cumulative chances. */
static void set_chances(struct us_dist *dist, struct us_dist_part *parts, size_t count, double sum) {
    double upto = 0;
    for (size_t i = 0; i < count; i++) {
        upto += parts[i].upto;
        parts[i].upto = upto / sum;
    }
    parts[count - 1].upto = 1;
    dist->parts = parts;
    dist->part_count = count;
}

/* Raises unless the table at index has the items 1 to count and nothing else. */
static void check_items(lua_State *L, int index, lua_Integer count, const char *name) {
    lua_Integer found = 0;
    index = lua_absindex(L, index);
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        found++;
        if (!lua_isinteger(L, -1) || lua_tointeger(L, -1) < 1 || lua_tointeger(L, -1) > count)
            luaL_error(L, "dist.%s: %s is of no use: items 1 to %I are expected", name, us_describe(L, -1),
                (LUAI_UACINT)count);
    }
    if (found != count)
        luaL_error(L, "dist.%s: %I items are expected, got %I", name, (LUAI_UACINT)count, (LUAI_UACINT)found);
}

/* The number of items of the list in argument 1. */
static size_t check_list(lua_State *L, const char *name, const char *example) {
    size_t count = lua_istable(L, 1) ? (size_t)lua_rawlen(L, 1) : 0;
    if (count == 0 || count > PARTS_MAX)
        luaL_error(L, "dist.%s: a list of 1 to %d parts is expected, as in dist.%s { %s }", name, PARTS_MAX, name,
            example);
    check_items(L, 1, (lua_Integer)count, name);
    return count;
}

/* Item 1 or 2 of the part on top of the stack, pushed. */
static double weight_of_part(lua_State *L, const char *name, int item) {
    lua_rawgeti(L, -1, item);
    double weight = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
    if (!(weight > 0) || !isfinite(weight))
        luaL_error(L, "dist.%s: weight %s: a number above 0 is expected", name, us_describe(L, -1));
    lua_pop(L, 1);
    return weight;
}

static int mix(lua_State *L) {
    size_t count = check_list(L, "mix", "{ 0.9, d1 }, { 0.1, d2 }");
    struct us_dist_part *parts = make_parts(L, count);
    double sum = 0;
    unsigned depth = 0;
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        if (!lua_istable(L, -1))
            return luaL_error(L, "dist.mix: a part is { weight, distribution or time }, got %s", us_describe(L, -1));
        check_items(L, -1, 2, "mix");
        sum += parts[i].upto = weight_of_part(L, "mix", 1);
        lua_rawgeti(L, -1, 2);
        if (us_object_at(L, -1, US_KIND_DIST) != NULL)
            parts[i].dist = check_dist(L, -1);
        else
            parts[i].low = parts[i].high = (double)us_check_time(L, lua_gettop(L));
        if (parts[i].dist != NULL && parts[i].dist->depth > depth)
            depth = parts[i].dist->depth;
        lua_pop(L, 2);
    }
    if (depth >= US_DIST_DEPTH_MAX)
        return luaL_error(L, "dist.mix: more than %d of them in one another", US_DIST_DEPTH_MAX);
    struct us_dist *dist = push_dist(L, US_DIST_PARTS);
    dist->depth = depth + 1;
    set_chances(dist, parts, count, sum);
    return 1;
}

/* The time, or { from, to }, in item 1 of the part on top of the stack. */
static void read_times(lua_State *L, struct us_dist_part *part) {
    lua_rawgeti(L, -1, 1);
    if (lua_istable(L, -1)) {
        check_items(L, -1, 2, "empirical");
        lua_rawgeti(L, -1, 1);
        part->low = (double)us_check_time(L, lua_gettop(L));
        lua_rawgeti(L, -2, 2);
        part->high = (double)us_check_time(L, lua_gettop(L));
        lua_pop(L, 2);
    } else {
        part->low = part->high = (double)us_check_time(L, lua_gettop(L));
    }
    lua_pop(L, 1);
    if (part->low > part->high)
        luaL_error(L, "dist.empirical: { from, to } in that order is expected");
}

/* "TIME [WEIGHT]": false for anything else. */
static bool parse_line(const char *line, struct us_dist_part *part) {
    char time[64];
    int used = 0;
    double weight = 1;
    uint64_t nanoseconds;
    if (sscanf(line, " %63s %n", time, &used) != 1 || !us_objects.unit.time(time, strlen(time), &nanoseconds))
        return false;
    if (line[used] != '\0') {
        int end = 0;
        if (sscanf(line + used, "%lf %n", &weight, &end) != 1 || line[used + end] != '\0')
            return false;
    }
    part->low = part->high = (double)nanoseconds;
    part->upto = weight;
    return weight > 0 && isfinite(weight);
}

/* The parts in a file, each with its weight in upto. Closes the file; the number of a line that is bad, 0 without. */
static int read_file(FILE *file, struct us_dist_part *parts, size_t *count) {
    char line[LINE_BYTES_MAX];
    int number = 0, bad = 0;
    while (bad == 0 && fgets(line, sizeof line, file) != NULL) {
        number++;
        if (line[0] == '#' || strspn(line, " \t\r\n") == strlen(line))
            continue;
        if (*count == PARTS_MAX || strchr(line, '\n') == NULL || !parse_line(line, &parts[*count]))
            bad = number;
        ++*count;
    }
    fclose(file);
    return bad;
}

/* The regular file at argument 1, opened without waiting for anybody. Raises. */
static FILE *open_file(lua_State *L) {
    const char *path = lua_tostring(L, 1), *directory = us_script_of(L)->options.directory;
    if (strlen(path) != lua_rawlen(L, 1))
        luaL_error(L, "dist.empirical: cannot read the file %s: no path has a NUL", us_describe(L, 1));
    if (path[0] != '/' && directory != NULL && directory[0] != '\0')
        path = lua_pushfstring(L, "%s/%s", directory, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        luaL_error(L, "dist.empirical: cannot read the file %s: %s", us_describe(L, 1), strerror(errno));
    struct stat status;
    FILE *file = NULL;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size <= FILE_BYTES_MAX)
        file = fdopen(fd, "r");
    if (file == NULL) {
        close(fd);
        luaL_error(L, "dist.empirical: cannot read the file %s: a regular file of at most %d MiB is expected",
            us_describe(L, 1), FILE_BYTES_MAX >> 20);
    }
    return file;
}

static int empirical_file(lua_State *L) {
    struct us_dist_part *parts = make_parts(L, PARTS_MAX);
    FILE *file = open_file(L);
    size_t count = 0;
    int bad = read_file(file, parts, &count);
    if (bad != 0)
        return luaL_error(L, "dist.empirical: %s, line %d: a time such as 50us, and a weight above 0 or nothing, is "
                             "expected; at most %d lines", us_describe(L, 1), bad, PARTS_MAX);
    if (count == 0)
        return luaL_error(L, "dist.empirical: the file %s has no times", us_describe(L, 1));
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += parts[i].upto;
    set_chances(push_dist(L, US_DIST_PARTS), parts, count, sum);
    return 1;
}

static int empirical(lua_State *L) {
    if (lua_type(L, 1) == LUA_TSTRING)
        return empirical_file(L);
    size_t count = check_list(L, "empirical", "{ \"1ms\", 90 }, { { \"5ms\", \"9ms\" }, 10 }");
    struct us_dist_part *parts = make_parts(L, count);
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        if (!lua_istable(L, -1))
            return luaL_error(L, "dist.empirical: a part is { time or { from, to }, weight }, got %s", us_describe(L, -1));
        check_items(L, -1, 2, "empirical");
        read_times(L, &parts[i]);
        sum += parts[i].upto = weight_of_part(L, "empirical", 2);
        lua_pop(L, 1);
    }
    set_chances(push_dist(L, US_DIST_PARTS), parts, count, sum);
    return 1;
}

/* ---- set-up ---- */

static int draw(lua_State *L) {
    const struct us_dist *dist = check_dist(L, 1);
    lua_pushinteger(L, (lua_Integer)us_objects.dist.sample(dist, &us_script_of(L)->random));
    return 1;
}

void us_open_dist(lua_State *L) {
    static const struct us_native drawing = {"d()", draw};
    static const luaL_Reg metatable[] = {{NULL, NULL}};
    static const struct us_native functions[] = {{"dist.const(time)", constant}, {"dist.uniform{...}", uniform},
        {"dist.normal{...}", gaussian}, {"dist.lognormal{...}", lognormal}, {"dist.pareto{...}", pareto},
        {"dist.exponential{...}", exponential}, {"dist.mix{...}", mix}, {"dist.empirical{...}", empirical}};
    lua_newtable(L);
    us_push_metatable(L, "dist", metatable);
    us_push_native(L, &drawing, US_METHOD, 0);
    lua_setfield(L, -2, "__call");
    int table = lua_gettop(L) - 1;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        lua_pushvalue(L, table + 1);
        us_set_native(L, table, &functions[i], US_FUNCTION, 1);
    }
    lua_pop(L, 1);
    lua_setglobal(L, "dist");
}
