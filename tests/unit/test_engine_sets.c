/* test_engine_sets.c -- the visited bitmap, the ranked hits and the shelf of working memory. */
#include "engine/rank.h"
#include "engine/scratch.h"
#include "engine/visited.h"

#include "tests/support/engine.h"

static void check_visited(struct visited *v, struct rng *r, uint32_t nslots, uint32_t sets)
{
    uint8_t *seen = calloc(nslots, 1);
    seen[0] = 1; /* "no neighbour" */
    assert_ok(visited_reserve(v, nslots));
    visited_clear(v);
    for (uint32_t i = 0; i < sets; i++) {
        uint32_t id = rng_below(r, nslots);
        assert_int_equal(visited_test_set(v, id), seen[id]);
        seen[id] = 1;
    }
    visited_clear(v);
    for (uint64_t i = 0; i < v->n_words; i++)
        assert_int_equal(v->words[i], i == 0);
    free(seen);
}

static void test_visited(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct visited v = {0};
    check_visited(&v, &r, 1, 3);
    check_visited(&v, &r, 64, 200);
    check_visited(&v, &r, 65, 200);
    for (uint32_t round = 0; round < 20; round++) {
        check_visited(&v, &r, 100000, 50);    /* fewer words than the note holds */
        check_visited(&v, &r, 100000, 20000); /* more */
        check_visited(&v, &r, 1000 + 9999 * round, 300);
    }
    visited_free(&v);
    visited_free(&v);
}

static int compare_hits(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    if (x->dist != y->dist)
        return (x->dist > y->dist) - (x->dist < y->dist);
    return (x->label > y->label) - (x->label < y->label);
}

static void check_rank(struct rank *rank, struct rng *r, uint32_t max, uint32_t n, bool unique)
{
    struct hit *all = malloc(n * sizeof *all);
    assert_ok(rank_reserve(rank, max));
    rank_reset(rank, max);
    for (uint32_t i = 0; i < n; i++) {
        /* Few distances, so that labels decide; a label comes up several times in `unique`. */
        all[i] = (struct hit){unique ? rng_below(r, n / 2 + 1) : n - i, (float)rng_below(r, 9) - 4,
                              i + 1, 0};
        if (rank_wants(rank, all[i].dist))
            rank_offer(rank, &all[i]);
    }
    qsort(all, n, sizeof *all, compare_hits);
    if (!unique) {
        rank_sort(rank);
        assert_int_equal(rank->n, n < max ? n : max);
        for (uint32_t i = 0; i < rank->n; i++)
            assert_int_equal(rank->hits[i].slot, all[i].slot);
    } else {
        rank_unique(rank);
        uint32_t kept = 0; /* of the max best, the first of each label */
        for (uint32_t i = 0; i < n && i < max; i++) {
            bool seen = false;
            for (uint32_t j = 0; j < i; j++)
                seen |= all[j].label == all[i].label;
            if (seen)
                continue;
            assert_true(kept < rank->n);
            assert_int_equal(rank->hits[kept].label, all[i].label);
            assert_true(rank->hits[kept].dist == all[i].dist);
            kept++;
        }
        assert_int_equal(rank->n, kept);
    }
    free(all);
}

static void test_rank(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct rank rank = {0};
    for (uint32_t max = 1; max < 60; max += 1 + max / 3)
        for (uint32_t n = 1; n < 200; n = n * 2 + 1) {
            check_rank(&rank, &r, max, n, false);
            check_rank(&rank, &r, max, n, true);
        }
    rank_free(&rank);
}

static void test_shelf(void **state)
{
    (void)state;
    const struct layout l = {.dim = 7, .M = 4, .M0 = 8, .vec_stride = 32};
    struct shelf shelf = {{NULL}};
    struct scratch *taken[SCRATCH_SHELF + 3], *again;
    for (uint32_t i = 0; i < SCRATCH_SHELF + 3; i++) {
        assert_ok(scratch_take(&shelf, &l, &taken[i]));
        for (uint32_t j = 0; j < i; j++)
            assert_ptr_not_equal(taken[i], taken[j]);
        assert_ok(scratch_reserve(taken[i], 10, 100));
        assert_ok(scratch_reserve_build(taken[i], &l, 20));
        memset(taken[i]->vector, 1, 7 * sizeof(float));
        memset(taken[i]->ids, 1, 8 * sizeof(uint32_t));
        memset(taken[i]->row, 1, 9 * sizeof(struct near));
        memset(taken[i]->chosen, 1, (LAYOUT_LEVEL_MAX + 1) * 8 * sizeof(struct near));
    }
    for (uint32_t i = 0; i < SCRATCH_SHELF + 3; i++)
        scratch_give(&shelf, taken[i]); /* three find no place and are freed */
    assert_ok(scratch_take(&shelf, &l, &again));
    assert_ptr_equal(again, taken[0]);
    float *vector = again->vector;
    struct near *near = again->near;
    assert_ok(scratch_reserve(again, 5, 50)); /* nothing new for less than before */
    assert_ok(scratch_reserve_build(again, &l, 10));
    assert_ptr_equal(again->vector, vector);
    assert_ptr_equal(again->near, near);
    scratch_give(&shelf, again);
    scratch_give(&shelf, NULL);
    scratch_clear(&shelf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_visited),
        cmocka_unit_test(test_rank),
        cmocka_unit_test(test_shelf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
