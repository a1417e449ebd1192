/* How much a script may have: native memory is outside of a Lua state's own limit, so a load phase that runs away meets
 * one of these. Each is for a device, over all its queues. */
#pragma once

enum {
    US_NAME_BYTES_MAX = 64,
    US_OBJECTS_MAX = 1 << 16,     /* of each kind: sets, cells, buckets, dicts */
    US_INTERVALS_MAX = 1 << 24,   /* in all sets: 256 MiB, and the room that leaves keep */
    US_DICT_TEXT_MAX = 4096,      /* bytes of a key or value */
    US_DICT_BYTES_MAX = 64 << 20, /* in all dicts, with what it takes to keep them */
};
