/* test_beam.c -- what a hop brings into the line of the beam together, with AVX-512
 * (engine/walk_wide.inc), beside the same offered one after the other (engine/pool.c).
 */
#include "engine/pool.h"

#include "tests/support/engine.h"

#if defined(__x86_64__)

#include "engine/graph_inline.h"
#include "engine/walk.h"

#define WALK_TARGET __attribute__((target("avx2,bmi,bmi2,avx512f,avx512bw")))
#define WALK_WIDE
#include "engine/walk_vectors.inc"

#include "engine/walk_wide.inc"

#define HOP_MOST 64u

/* `hops` groups of up to `most` newcomers, of few different distances or many, into both. */
WALK_TARGET static void fill(struct pool *wide, struct pool *plain, struct rng *r, uint32_t hops,
                             uint32_t most, uint32_t distances)
{
    struct fresh fresh;
    uint32_t id = 0;
    for (uint32_t hop = 0; hop < hops; hop++) {
        const uint32_t n = rng_below(r, most + 1);
        uint32_t ids[HOP_MOST + 16] = {0};
        fast_begin(&fresh);
        for (uint32_t i = 0; i < n; i += 4) {
            float four[4] = {0}; /* what lies behind the last counts for nothing */
            for (uint32_t j = 0; j < 4 && i + j < n; j++) {
                four[j] = (float)rng_below(r, distances) - (float)(distances / 8);
                ids[i + j] = ++id;
                pool_offer(plain, four[j], id, POOL_WORD);
            }
            fast_keep(wide, &fresh, ids, n, i, _mm_loadu_ps(four));
        }
        fast_settle(wide, &fresh);
        uint32_t a = 0, b = 0;
        if (rng_below(r, 3) > 0)
            assert_int_equal(pool_next(wide, &a), pool_next(plain, &b));
        assert_int_equal(a, b);
        assert_int_equal(wide->n, plain->n);
        assert_int_equal(wide->n_results, plain->n_results);
        assert_int_equal(wide->next, plain->next);
        assert_true(wide->bound == plain->bound);
        assert_int_equal(wide->nearest.id, plain->nearest.id);
        assert_memory_equal(wide->dists, plain->dists, plain->n * sizeof *plain->dists);
        assert_memory_equal(wide->ids, plain->ids, plain->n * sizeof *plain->ids);
    }
}

static void test_together_is_one_by_one(void **state)
{
    (void)state;
    static const uint32_t efs[] = {
        1, 2, 3, 15, 16, 17, 31, 48, 64, 65, 100, 200, 500, POOL_LINE_MAX - 1, POOL_LINE_MAX};
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw")) {
        print_message("this processor has no AVX-512\n");
        skip();
    }
    struct rng r = test_rng();
    struct pool wide = {0}, plain = {0};
    assert_ok(pool_reserve(&wide, POOL_LINE_MAX, 100000));
    assert_ok(pool_reserve(&plain, POOL_LINE_MAX, 100000));
    for (uint32_t i = 0; i < sizeof efs / sizeof *efs; i++)
        for (uint32_t round = 0; round < 60; round++) {
            const uint32_t ef = efs[i], most = 1 + rng_below(&r, HOP_MOST);
            const uint32_t distances = round % 3 == 0 ? 2 + rng_below(&r, 40) : 1u << 24;
            pool_reset(&wide, ef, true);
            pool_reset(&plain, ef, true);
            if (round % 2 == 1) {
                const uint32_t k = 1 + rng_below(&r, ef < 20 ? ef : 20);
                const float times = 1.0f + (float)rng_below(&r, 64) / 32;
                pool_stop(&wide, k, times);
                pool_stop(&plain, k, times);
            }
            fill(&wide, &plain, &r, 10 + 4 * ef / most, most, distances);
        }
    pool_free(&wide);
    pool_free(&plain);
}

#else

static void test_together_is_one_by_one(void **state)
{
    (void)state;
    print_message("not an x86-64\n");
    skip();
}

#endif

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_together_is_one_by_one)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
