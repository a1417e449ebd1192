/* Sampling: one uniform number or two for each kind, by inversion or Box-Muller, so that how many numbers a
 * sample takes does not depend on what they are. */
#include "dist_state.h"
#include <math.h>

static const double longest = 366.0 * 86400.0 * 1e9;

/* Standard normal. 1 - u is never 0. */
static double normal(struct us_random *stream) {
    double radius = sqrt(-2.0 * log(1.0 - us_random_unit(stream)));
    return radius * cos(2.0 * 3.14159265358979323846 * us_random_unit(stream));
}

/* The first part whose upto is above u. */
static const struct us_dist_part *choose(const struct us_dist *dist, double u) {
    size_t low = 0, high = dist->part_count - 1;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (dist->parts[middle].upto > u)
            high = middle;
        else
            low = middle + 1;
    }
    return &dist->parts[low];
}

static double sample(const struct us_dist *dist, struct us_random *stream) {
    const struct us_dist_part *part;
    switch (dist->kind) {
    case US_DIST_CONST:
        return dist->a;
    case US_DIST_UNIFORM:
        return dist->a + (dist->b - dist->a) * us_random_unit(stream);
    case US_DIST_NORMAL:
        return dist->a + dist->b * normal(stream);
    case US_DIST_LOGNORMAL:
        return dist->a * exp(dist->b * normal(stream));
    case US_DIST_PARETO:
        return dist->a * pow(1.0 - us_random_unit(stream), -1.0 / dist->b);
    case US_DIST_EXPONENTIAL:
        return dist->a - dist->b * log(1.0 - us_random_unit(stream));
    case US_DIST_PARTS:
        part = choose(dist, us_random_unit(stream));
        if (part->dist != NULL)
            return sample(part->dist, stream);
        return part->low + (part->high - part->low) * us_random_unit(stream);
    }
    return 0;
}

uint64_t us_dist_sample(const struct us_dist *dist, struct us_random *stream) {
    double time = sample(dist, stream);
    if (!(time > 0)) /* NaN too */
        return 0;
    return (uint64_t)(time < longest ? time + 0.5 : longest);
}
