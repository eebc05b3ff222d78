/* engine.h -- what tests of the engine share: a directory, a seed, vectors, a checked call.
 *
 * Include it last: cmocka makes fail() a macro.  NAVMAP_SEED sets the seed; it is printed.
 */
#ifndef NAVMAP_TESTS_SUPPORT_ENGINE_H
#define NAVMAP_TESTS_SUPPORT_ENGINE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/navmap.h"
#include "storage/fail.h"

/* cmocka wants these before it, in this order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define UNUSED __attribute__((unused))

/* The call is to succeed; if it does not, its sentence is in the report. */
#define assert_ok(call) assert_status(call, NAVMAP_OK)
#define assert_status(call, expected)                                                              \
    do {                                                                                           \
        navmap_status got_ = (call);                                                               \
        if (got_ != (expected))                                                                    \
            fail_msg("%s: %s, expected %s; detail: %s", #call, navmap_strerror(got_),              \
                     navmap_strerror(expected), navmap_error_detail());                            \
    } while (0)

/* splitmix64: small, and the same everywhere. */
struct rng {
    uint64_t state;
};
static UNUSED uint64_t rng_next(struct rng *r)
{
    uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}
static UNUSED uint32_t rng_below(struct rng *r, uint32_t n)
{
    return (uint32_t)(rng_next(r) % n);
}
/* Near normal, mean 0, deviation 1. */
static UNUSED float rng_normal(struct rng *r)
{
    float sum = 0;
    for (int i = 0; i < 12; i++)
        sum += (float)(rng_next(r) >> 40) * 0x1p-24f;
    return sum - 6.0f;
}

static UNUSED struct rng test_rng(void)
{
    const char *text = getenv("NAVMAP_SEED");
    struct rng r = {text ? strtoull(text, NULL, 0) : 20240229};
    print_message("NAVMAP_SEED=%llu\n", (unsigned long long)r.state);
    return r;
}

/* NAVMAP_SHORT: a sanitizer runs; do a part of the work. */
static UNUSED uint32_t scaled(uint32_t n, uint32_t divisor)
{
    return getenv("NAVMAP_SHORT") ? n / divisor : n;
}

static UNUSED float *random_vectors(struct rng *r, uint64_t n, uint32_t dim)
{
    float *v = malloc(n * dim * sizeof *v);
    assert_non_null(v);
    for (uint64_t i = 0; i < n * dim; i++)
        v[i] = rng_normal(r);
    return v;
}
/* Points around `clusters` centres: data that a graph can get wrong. */
static UNUSED float *clustered_vectors(struct rng *r, uint64_t n, uint32_t dim, uint32_t clusters)
{
    float *centres = random_vectors(r, clusters, dim), *v = random_vectors(r, n, dim);
    for (uint64_t i = 0; i < n; i++) {
        const float *c = centres + (size_t)rng_below(r, clusters) * dim;
        for (uint32_t j = 0; j < dim; j++)
            v[i * dim + j] = c[j] + 0.4f * v[i * dim + j];
    }
    free(centres);
    return v;
}

/* Each of 0 to n-1 once. */
static UNUSED void assert_permutation(const uint32_t *items, uint32_t n)
{
    uint8_t *seen = calloc(n + 1, 1);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(items[i] < n);
        assert_false(seen[items[i]]);
        seen[items[i]] = 1;
    }
    free(seen);
}

/* A directory of the test's own, removed at its end; `test_path` is where an index may be. */
static char test_dir[64];
static UNUSED char test_path[96];

static UNUSED int make_dir(void **state)
{
    (void)state;
    const char *base = access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(test_dir, sizeof test_dir, "%s/navmap-test-XXXXXX", base);
    if (!mkdtemp(test_dir))
        return -1;
    (void)snprintf(test_path, sizeof test_path, "%s/index", test_dir);
    return 0;
}
static UNUSED int remove_dir(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", test_dir);
    return system(command);
}

static UNUSED navmap_index *create_index(uint32_t dim, enum navmap_space space, uint32_t M,
                                         enum navmap_durability durability)
{
    struct navmap_options o = {
        .struct_size = sizeof o, .dim = dim, .space = space, .M = M, .durability = durability};
    navmap_index *ix = NULL;
    assert_ok(navmap_create(test_path, &o, &ix));
    return ix;
}
static UNUSED navmap_index *open_index(enum navmap_mode mode)
{
    navmap_index *ix = NULL;
    assert_ok(navmap_open(test_path, mode, NULL, &ix));
    return ix;
}
/* n vectors under labels first, first + 1, ... */
static UNUSED void add_range(navmap_index *ix, const float *vectors, uint64_t first, uint64_t n)
{
    uint64_t *labels = malloc((n ? n : 1) * sizeof *labels), added;
    assert_non_null(labels);
    for (uint64_t i = 0; i < n; i++)
        labels[i] = first + i;
    assert_ok(navmap_add(ix, n, vectors, labels, NULL, &added));
    assert_int_equal(added, n);
    free(labels);
}
static UNUSED struct navmap_stats stats_of(navmap_index *ix)
{
    struct navmap_stats s = {.struct_size = sizeof s};
    assert_ok(navmap_get_stats(ix, &s));
    return s;
}

/* Share of the true k nearest (by navmap_search_exact) that a search of width ef finds. */
static UNUSED double recall_of(navmap_index *ix, const float *queries, uint32_t nq, uint32_t k,
                               uint32_t ef)
{
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = ef};
    size_t n = (size_t)nq * k;
    uint64_t *truth = malloc(n * sizeof *truth), *labels = malloc(n * sizeof *labels), hits = 0;
    float *distances = malloc(n * sizeof *distances);
    assert_ok(navmap_search_exact(ix, nq, queries, k, NULL, truth, distances, NULL));
    assert_ok(navmap_search(ix, nq, queries, k, &o, labels, distances, NULL));
    for (uint32_t q = 0; q < nq; q++)
        for (uint32_t i = 0; i < k; i++)
            for (uint32_t j = 0; j < k; j++)
                hits += labels[q * k + i] == truth[q * k + j];
    free(truth);
    free(labels);
    free(distances);
    return (double)hits / (double)n;
}

#endif
