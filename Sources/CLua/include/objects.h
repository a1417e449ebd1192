/* What the Lua functions here call of the objects that Swift has (Rules/): one table, handed over once, before the
 * first Lua state is made. None of these functions calls Lua, so no Swift frame is ever below a longjmp. */
#pragma once
#include "bucket.h"
#include "cells.h"
#include "dict.h"
#include "dist.h"
#include "random.h"
#include "ranges.h"
#include "units.h"

struct us_object_functions {
    struct us_random_functions random;
    uint64_t (*hash)(const void *data, uint64_t length); /* DataHash.swift */
    struct us_dist_functions dist;
    struct us_cell_functions cell;
    struct us_bucket_functions bucket;
    struct us_dict_functions dict;
    struct us_ranges_functions ranges;
    struct us_unit_functions unit;
};

/* Copies it. */
void us_use_objects(const struct us_object_functions *functions);
