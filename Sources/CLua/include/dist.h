/* Distributions of times, as dist.* makes them in a script.
 *
 * Immutable once made; memory of the script that made it, so it lives as long as that. Sampling makes no allocation and
 * cannot fail. The numbers come from the caller's stream, so the same stream gives the same times; exp, log and cos are
 * the C library's, whose last digit may differ between versions. */
#pragma once
#include "random.h"

struct us_dist;

/* Nanoseconds, at most 366 days. */
uint64_t us_dist_sample(const struct us_dist *dist, struct us_random *stream);
