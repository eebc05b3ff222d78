/* test_engine_presort.c -- vectors in an order in which near ones lie together: complete, the same
 * however many threads and whatever the instructions, and an end on any content. */
#include "engine/presort.h"

#include <float.h>

#include "storage/layout.h"
#include "tests/support/engine.h"

#define STRIDE 256u

static struct rng rng;

static struct distance distance_of(uint32_t space, uint32_t dim)
{
    struct distance d;
    assert_int_equal(distance_choose(space, LAYOUT_F32, dim, &d), 0);
    return d;
}

static uint32_t *sorted(const float *v, uint32_t n, uint32_t dim, uint32_t space)
{
    const struct distance d = distance_of(space, dim);
    uint32_t *order = malloc(n * sizeof *order);
    const struct presort p = {.n = n, .vectors = v, .distance = &d, .stride = STRIDE};
    assert_ok(presort(&p, order));
    assert_permutation(order, n);
    return order;
}

/* How many changes of cluster there are from one place to the next. */
static uint32_t changes(const uint32_t *order, uint32_t n, uint32_t clusters)
{
    uint32_t count = 0;
    for (uint32_t i = 1; i < n; i++)
        count += order[i] % clusters != order[i - 1] % clusters;
    return count;
}

/* Vector i is near centre i % clusters. */
static float *near_centres(uint32_t n, uint32_t dim, uint32_t clusters)
{
    float *centres = random_vectors(&rng, clusters, dim), *v = random_vectors(&rng, n, dim);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < dim; j++)
            v[i * dim + j] = centres[i % clusters * dim + j] + 0.05f * v[i * dim + j];
    free(centres);
    return v;
}

static void test_near_ones_together(void **state)
{
    (void)state;
    const uint32_t dim = 12, clusters = 60, n = clusters * 64;
    float *v = near_centres(n, dim, clusters);
    for (uint32_t space = NAVMAP_L2; space <= NAVMAP_COSINE; space += 2) {
        uint32_t *order = sorted(v, n, dim, space);
        /* At best one for each cluster but the last; as they come n - 1, by chance nearly so many.
         */
        assert_true(changes(order, n, clusters) < n / 10);
        free(order);
    }
    free(v);
}

/* Lengths by chance, from one to a million, do not matter to cosine. */
static void test_lengths(void **state)
{
    (void)state;
    const uint32_t dim = 12, clusters = 20, n = clusters * 64;
    float *v = near_centres(n, dim, clusters);
    for (uint32_t i = 0; i < n; i++) {
        const float length = powf(10, (float)rng_below(&rng, 7));
        for (uint32_t j = 0; j < dim; j++)
            v[i * dim + j] *= length;
    }
    uint32_t *order = sorted(v, n, dim, NAVMAP_COSINE);
    assert_true(changes(order, n, clusters) < n / 10);
    free(order);
    free(v);
}

/* Copies, zeros, the largest numbers, lengths that double: it ends, and nobody is lost. */
static void test_any_content(void **state)
{
    (void)state;
    const uint32_t dim = 5, n = 3000;
    float *v = random_vectors(&rng, n, dim);
    for (uint32_t n_few = 1; n_few < 40; n_few++)
        free(sorted(v, n_few, dim, NAVMAP_L2));
    for (uint32_t kind = 0; kind < 5; kind++) {
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < dim; j++) {
                const float some[] = {0, (float)(i % 2), i % 3 ? FLT_MAX : -FLT_MAX,
                                      ldexpf(1, (int)(i % 250) - 125), i < 2000 ? 1 : v[j]};
                v[i * dim + j] = some[kind];
            }
        for (uint32_t space = NAVMAP_L2; space <= NAVMAP_COSINE; space += 2)
            free(sorted(v, n, dim, space));
    }
    free(v);
}

static void test_same_everywhere(void **state)
{
    (void)state;
    const uint32_t dim = 19, n = scaled(40000, 2); /* more than one thread takes as a whole */
    float *v = clustered_vectors(&rng, n, dim, 100);
    const struct distance_kernels *levels[DISTANCE_LEVELS_MAX];
    const uint32_t n_levels = distance_levels(levels);
    struct crew *crew = crew_new();
    uint32_t *first = sorted(v, n, dim, NAVMAP_L2), *order = malloc(n * sizeof *order);
    for (uint32_t i = 0; i < n_levels; i++) {
        struct distance d = distance_of(NAVMAP_L2, dim);
        d.fn = levels[i]->l2;
        d.many = levels[i]->l2_many;
        for (uint32_t threads = 1; threads <= 4; threads++) {
            const struct presort p = {.n = n,
                                      .vectors = v,
                                      .distance = &d,
                                      .stride = STRIDE,
                                      .crew = crew,
                                      .threads = threads};
            assert_ok(presort(&p, order));
            assert_memory_equal(order, first, n * sizeof *order);
        }
    }
    crew_free(crew);
    free(first);
    free(order);
    free(v);
}

static uint32_t ticks;

static navmap_status stop_at_third(void *ctx)
{
    (void)ctx;
    return ++ticks < 3 ? NAVMAP_OK : NAVMAP_EINTERRUPTED;
}

static void test_tick(void **state)
{
    (void)state;
    const uint32_t dim = 4, n = 60000;
    float *v = random_vectors(&rng, n, dim);
    uint32_t *order = malloc(n * sizeof *order);
    const struct distance d = distance_of(NAVMAP_L2, dim);
    const struct presort p = {
        .n = n, .vectors = v, .distance = &d, .stride = STRIDE, .tick = stop_at_third};
    assert_status(presort(&p, order), NAVMAP_EINTERRUPTED);
    assert_int_equal(ticks, 3);
    free(order);
    free(v);
}

int main(void)
{
    rng = test_rng();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_near_ones_together),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_any_content),
        cmocka_unit_test(test_same_everywhere),
        cmocka_unit_test(test_tick),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
