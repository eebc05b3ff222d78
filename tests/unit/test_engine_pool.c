/* test_engine_pool.c -- the beam against a plain list, in both of its shapes. */
#include "engine/pool.h"

#include "tests/support/engine.h"

/* The model: everything offered, in order. */
struct node {
    float dist;
    uint32_t id;
    bool result, expanded;
};
struct model {
    struct node *nodes;
    uint32_t n, ef;
};

static int compare_nodes(const void *a, const void *b)
{
    const struct node *x = a, *y = b;
    return (x->dist > y->dist) - (x->dist < y->dist);
}

/* Distance of the ef-th nearest result so far, or infinity. */
static float model_bound(const struct model *m)
{
    struct node *sorted = malloc((m->n + 1) * sizeof *sorted);
    uint32_t results = 0;
    for (uint32_t i = 0; i < m->n; i++)
        if (m->nodes[i].result)
            sorted[results++] = m->nodes[i];
    qsort(sorted, results, sizeof *sorted, compare_nodes);
    float bound = results >= m->ef ? sorted[m->ef - 1].dist : INFINITY;
    free(sorted);
    return bound;
}

static struct node *model_nearest(const struct model *m)
{
    struct node *best = NULL;
    for (uint32_t i = 0; i < m->n; i++)
        if (!m->nodes[i].expanded && (!best || m->nodes[i].dist < best->dist))
            best = &m->nodes[i];
    return best && best->dist <= model_bound(m) ? best : NULL;
}

static void check_finish(struct pool *p, const struct model *m)
{
    struct node *sorted = malloc((m->n + 1) * sizeof *sorted);
    uint32_t results = 0, n;
    for (uint32_t i = 0; i < m->n; i++)
        if (m->nodes[i].result)
            sorted[results++] = m->nodes[i];
    qsort(sorted, results, sizeof *sorted, compare_nodes);
    const struct pool_entry *found = pool_finish(p, &n);
    assert_int_equal(n, results < m->ef ? results : m->ef);
    for (uint32_t i = 0; i < n; i++) {
        assert_int_equal(found[i].id, sorted[i].id);
        assert_true(found[i].dist == sorted[i].dist);
        assert_int_equal(found[i].word, p->plain ? POOL_WORD : 1 + 4 * sorted[i].id);
    }
    free(sorted);
}

/* `results_in_100`: how many of a hundred nodes count as results. */
static void run(struct pool *p, struct rng *r, uint32_t ef, uint32_t offers,
                uint32_t results_in_100)
{
    struct model m = {malloc(offers * sizeof *m.nodes), 0, ef};
    assert_ok(pool_reserve(p, ef, offers));
    bool plain = results_in_100 >= 100 && rng_below(r, 2) == 0; /* P6 */
    pool_reset(p, ef, plain);
    uint32_t *order = malloc(offers * sizeof *order);
    for (uint32_t i = 0; i < offers; i++)
        order[i] = i;
    for (uint32_t i = offers; i > 1; i--) { /* all distances differ */
        uint32_t j = rng_below(r, i), t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
    for (uint32_t i = 0; i < offers; i++) {
        bool result = rng_below(r, 100) < results_in_100;
        float dist = (float)order[i] - 100.0f;
        pool_offer(p, dist, i + 1, plain ? POOL_WORD : result ? 1 + 4 * (i + 1) : 0);
        /* Beyond the bound nothing is kept, so the model forgets it too. */
        if (dist < model_bound(&m))
            m.nodes[m.n++] = (struct node){dist, i + 1, result, false};
        assert_true(p->bound == model_bound(&m));
        if (rng_below(r, 4) == 0) {
            uint32_t id = 0;
            struct node *want = model_nearest(&m);
            assert_int_equal(pool_next(p, &id), want != NULL);
            if (want) {
                assert_int_equal(id, want->id);
                want->expanded = true;
            }
        }
    }
    float nearest = INFINITY;
    for (uint32_t i = 0; i < offers; i++)
        nearest = (float)order[i] - 100.0f < nearest ? (float)order[i] - 100.0f : nearest;
    assert_true(p->nearest.dist == nearest);
    for (uint32_t id; pool_next(p, &id);) {
        struct node *want = model_nearest(&m);
        assert_non_null(want);
        assert_int_equal(id, want->id);
        want->expanded = true;
    }
    assert_null(model_nearest(&m));
    check_finish(p, &m);
    free(order);
    free(m.nodes);
}

static void test_all_results(void **state)
{
    (void)state;
    static const uint32_t efs[] = {
        1, 2, 3, 10, 100, POOL_LINE_MAX - 1, POOL_LINE_MAX, POOL_LINE_MAX + 1};
    struct rng r = test_rng();
    struct pool p = {0};
    for (uint32_t i = 0; i < sizeof efs / sizeof *efs; i++) {
        run(&p, &r, efs[i], 40, 100);
        run(&p, &r, efs[i], POOL_LINE_MAX + 200, 100);
    }
    pool_free(&p);
}

static void test_few_results(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct pool p = {0};
    bool switched = false;
    for (uint32_t share = 0; share <= 60; share += 20)
        for (uint32_t ef = 1; ef <= 1000; ef = ef * 4 + 1) {
            run(&p, &r, ef, POOL_LINE_MAX * 3 / 2, share);
            switched |= p.heaps && ef <= POOL_LINE_MAX;
        }
    assert_true(switched); /* a line full of nodes that are no results */
    pool_free(&p);
}

/* The results are complete, and then nodes that are none fill the line in front of the last. */
static void test_full_line_of_both(void **state)
{
    (void)state;
    static const uint32_t efs[] = {1, 5, 100, POOL_LINE_MAX - 1, POOL_LINE_MAX};
    enum { FIRST = 4096, NONE = 4096 };
    struct pool p = {0};
    for (uint32_t i = 0; i < sizeof efs / sizeof *efs; i++) {
        uint32_t ef = efs[i], n, got = 0, id;
        assert_ok(pool_reserve(&p, ef, FIRST + NONE));
        pool_reset(&p, ef, false);
        for (uint32_t j = 1; j <= ef; j++)
            pool_offer(&p, 5000.0f + (float)j, j, 1);
        for (uint32_t j = 0; j < NONE; j++)
            pool_offer(&p, (float)(j * 7 % NONE), FIRST + j, 0);
        assert_true(p.heaps);
        assert_true(p.bound == 5000.0f + (float)ef);
        for (float last = -1; pool_next(&p, &id); got++) {
            float dist = id >= FIRST ? (float)((id - FIRST) * 7 % NONE) : 5000.0f + (float)id;
            assert_true(dist > last);
            last = dist;
        }
        assert_int_equal(got, NONE + ef);
        const struct pool_entry *found = pool_finish(&p, &n);
        assert_int_equal(n, ef);
        for (uint32_t j = 0; j < n; j++)
            assert_int_equal(found[j].id, j + 1);
    }
    pool_free(&p);
}

/* P7: what is kept is the nearest results as far as the limit goes, and at least k of them. */
static void stop_at(struct pool *p, struct rng *r, uint32_t ef, uint32_t k, uint32_t offers,
                    uint32_t results_in_100)
{
    const float times = 1.0f + (float)rng_below(r, 100) / 50;
    struct node *nodes = malloc(offers * sizeof *nodes);
    uint32_t n = 0, kept;
    const bool plain = results_in_100 >= 100;
    pool_reset(p, ef, plain);
    pool_stop(p, k, times);
    for (uint32_t i = 0; i < offers; i++) {
        const bool result = rng_below(r, 100) < results_in_100;
        const float dist = (float)rng_below(r, 1u << 20);
        pool_offer(p, dist, i + 1, plain ? POOL_WORD : result);
        if (result)
            nodes[n++] = (struct node){dist, i + 1, true, false};
    }
    qsort(nodes, n, sizeof *nodes, compare_nodes);
    const float limit = n >= k ? nodes[k - 1].dist * times : INFINITY;
    const bool line = !p->heaps;
    const struct pool_entry *found = pool_finish(p, &kept);
    for (uint32_t i = 0; i < kept; i++)
        assert_true(found[i].dist == nodes[i].dist);
    assert_true(kept >= (k < n ? k : n) && kept <= ef);
    if (kept < n && kept < ef)
        assert_true(nodes[kept].dist > limit);
    if (plain && line && kept > k)
        assert_true(found[kept - 1].dist <= limit);
    free(nodes);
}

static void test_stop(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct pool p = {0};
    assert_ok(pool_reserve(&p, POOL_LINE_MAX, 3000));
    for (uint32_t i = 0; i < 3000; i++) {
        const uint32_t ef = 1 + rng_below(&r, POOL_LINE_MAX);
        stop_at(&p, &r, ef, 1 + rng_below(&r, ef < 20 ? ef : 20), 1 + rng_below(&r, 400),
                i % 2 ? 100 : 10 + rng_below(&r, 91));
    }
    pool_reset(&p, 5, true); /* a limit of the last search is none of this one's */
    for (uint32_t i = 1; i <= 5; i++)
        pool_offer(&p, (float)i, i, POOL_WORD);
    assert_int_equal(p.n, 5);
    pool_reset(&p, 5, true); /* distances of codes may be below nothing */
    pool_stop(&p, 2, 1.5f);
    for (uint32_t i = 0; i < 5; i++)
        pool_offer(&p, (float)i - 3, i + 1, POOL_WORD);
    assert_int_equal(p.n, 2);
    pool_free(&p);
}

static void test_equal_distances_keep_their_order(void **state)
{
    (void)state;
    struct pool p = {0};
    uint32_t n, id;
    assert_ok(pool_reserve(&p, 4, 100));
    pool_reset(&p, 4, false);
    for (uint32_t i = 1; i <= 10; i++)
        pool_offer(&p, 7.0f, i, 1);
    for (uint32_t i = 1; i <= 4; i++) {
        assert_true(pool_next(&p, &id));
        assert_int_equal(id, i);
    }
    assert_false(pool_next(&p, &id));
    const struct pool_entry *found = pool_finish(&p, &n);
    assert_int_equal(n, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(found[i].id, i + 1);
    pool_free(&p);
}

/* P4: more wait than fit; the nearer ones stay. */
static void test_frontier_is_cut(void **state)
{
    (void)state;
    struct rng r = test_rng();
    struct pool p = {0};
    uint32_t n = 5000, got = 0, id, last = 0;
    assert_ok(pool_reserve(&p, 600, 0));
    assert_int_equal(p.cap_frontier, POOL_LINE_MAX);
    pool_reset(&p, 600, true);
    uint32_t start = rng_below(&r, n);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t k = (start + i * 2477) % n; /* 2477 and 5000 have no common factor */
        pool_offer(&p, (float)k, k + 1, 0);
    }
    for (; pool_next(&p, &id); got++) {
        assert_true(id > last);
        last = id;
        if (got < POOL_LINE_MAX / 2)
            assert_int_equal(id, got + 1); /* the nearest half was never cut */
    }
    assert_in_range(got, POOL_LINE_MAX / 2, POOL_LINE_MAX);
    pool_free(&p);
}

static void test_empty(void **state)
{
    (void)state;
    struct pool p = {0};
    uint32_t n = 9, id;
    assert_ok(pool_reserve(&p, 1, 1));
    pool_reset(&p, 1, false);
    assert_false(pool_next(&p, &id));
    (void)pool_finish(&p, &n);
    assert_int_equal(n, 0);
    pool_free(&p);
    pool_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_results),
        cmocka_unit_test(test_few_results),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_full_line_of_both),
        cmocka_unit_test(test_equal_distances_keep_their_order),
        cmocka_unit_test(test_frontier_is_cut),
        cmocka_unit_test(test_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
