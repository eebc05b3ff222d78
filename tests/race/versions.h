/* versions.h -- the oracle of threads that change one index under each other.
 *
 * The vector of a label is a function of the label and a version, of which there are few, so every
 * answer can be checked: its distance must be, bit for bit, that of some version (V2).
 */
#ifndef NAVMAP_TESTS_RACE_VERSIONS_H
#define NAVMAP_TESTS_RACE_VERSIONS_H

#include <stdatomic.h>

#include "engine/distance/distance.h"
#include "tests/support/engine.h"

#define DIM 12u
#define VERSIONS 4u

static struct distance metric;
static uint64_t seed;
static _Atomic uint32_t wrong;

static inline void vector_of(uint64_t label, uint32_t version, float *ret_v)
{
    struct rng r = {label * VERSIONS + version + seed};
    for (uint32_t i = 0; i < DIM; i++)
        ret_v[i] = rng_normal(&r);
}

/* cmocka's assertions are for the main thread: others count. */
static inline void expect(bool right)
{
    if (!right)
        atomic_fetch_add(&wrong, 1);
}

static inline bool distance_exists(const float *query, uint64_t label, float distance)
{
    float v[DIM];
    for (uint32_t version = 0; version < VERSIONS; version++) {
        vector_of(label, version, v);
        if (metric.fn(query, v, DIM) == distance)
            return true;
    }
    return false;
}

#endif
