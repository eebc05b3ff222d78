/* test_engine_hard.c -- data and histories that graphs decay of: whatever was done, a search gives
 * as many items as there are, and the index does not grow without bound.
 */
#include "engine/navmap_vacuum.h"
#include "tests/support/engine.h"

#define DIM 8u

static navmap_index *make(uint32_t M, uint64_t max_elements)
{
    const struct navmap_options o = {.struct_size = sizeof o,
                                     .dim = DIM,
                                     .M = M,
                                     .ef_construction = 40,
                                     .max_elements = max_elements,
                                     .allow_replace_deleted = 1};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    return ix;
}

static void add_one(navmap_index *ix, uint64_t label, const float *v, bool replace)
{
    const struct navmap_add_options o = {.struct_size = sizeof o, .replace_deleted = replace};
    assert_ok(navmap_add(ix, 1, v, &label, &o, NULL));
}

/* k results, none twice, for k = all that live and for less. */
static void assert_complete(navmap_index *ix, const float *query)
{
    uint64_t live = stats_of(ix).n_live, ks[] = {1, 10, live / 2 + 1, live};
    uint64_t *labels = malloc((live + 10) * sizeof *labels);
    float *distances = malloc((live + 10) * sizeof *distances);
    for (int i = 0; i < 4; i++) {
        if (ks[i] == 0 || ks[i] > live)
            continue;
        const struct navmap_search_options o = {.struct_size = sizeof o, .ef = 20};
        assert_ok(navmap_search(ix, 1, query, ks[i], &o, labels, distances, NULL));
        for (uint64_t j = 1; j < ks[i]; j++)
            assert_true(distances[j - 1] < distances[j] ||
                        (distances[j - 1] == distances[j] && labels[j - 1] < labels[j]));
    }
    free(labels);
    free(distances);
}

static void assert_sound(navmap_index *ix)
{
    struct navmap_check_result c = {.struct_size = sizeof c};
    assert_ok(navmap_check(ix, NULL, NULL, &c));
    assert_int_equal(c.damaged, 0);
    assert_int_equal(c.no_in_links, 0);
}

/* The living: reached, all of them, after a vacuum. */
static void assert_vacuumed(navmap_index *ix, const float *query)
{
    struct navmap_check_result c = {.struct_size = sizeof c};
    assert_ok(navmap_vacuum(ix, NULL, NULL));
    assert_ok(navmap_check(ix, NULL, NULL, &c));
    assert_int_equal(c.damaged, 0);
    assert_int_equal(c.reachable, c.live);
    assert_int_equal(c.dead, 0);
    assert_complete(ix, query);
}

/* Thousands of the same vector, a zero vector among them, others beside; half of them go. */
static void same_vectors(const float *v, uint32_t n)
{
    struct rng r = test_rng();
    navmap_index *ix = make(8, n);
    for (uint64_t label = 0; label < n; label++)
        add_one(ix, label, label % 10 == 0 ? v + label % n * DIM : v, false);
    assert_complete(ix, v);
    for (uint64_t label = 0; label < n; label++)
        if (rng_below(&r, 2) == 0)
            assert_ok(navmap_delete(ix, label));
    assert_complete(ix, v);
    assert_vacuumed(ix, v);
    for (uint64_t label = 0; label < n; label++) /* once more in other slots */
        if (label % 3 == 0) {
            bool live;
            assert_ok(navmap_contains(ix, label, &live));
            if (live)
                add_one(ix, label, v, false);
        }
    assert_complete(ix, v);
    assert_vacuumed(ix, v);
    assert_ok(navmap_close(ix));
}

static void test_copies(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(3000, 3);
    float *v = random_vectors(&r, n, DIM);
    same_vectors(v, n);
    free(v);
}

static void test_zero_vectors(void **state)
{
    (void)state;
    uint32_t n = scaled(2000, 2);
    float *v = calloc((size_t)n * DIM, sizeof *v);
    same_vectors(v, n);
    free(v);
}

/* Clusters a millionth as wide as they are apart, each updated over and over. */
static void test_tight_clusters(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(2000, 2);
    float *v = malloc((size_t)n * DIM * sizeof *v);
    navmap_index *ix = make(8, n);
    for (uint32_t round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < n * DIM; i++)
            v[i] = (float)(i / DIM % 20) * 100.0f + 1e-4f * rng_normal(&r);
        add_range(ix, v, 0, n);
        assert_complete(ix, v);
    }
    assert_sound(ix);
    assert_vacuumed(ix, v);
    assert_ok(navmap_close(ix));
    free(v);
}

/* One label gets a new vector again and again, near by or far away. */
static void test_hot_label(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 200, updates = scaled(100000, 20);
    float *v = random_vectors(&r, n, DIM), hot[DIM];
    navmap_index *ix = make(8, n);
    add_range(ix, v, 0, n);
    uint64_t most = 0;
    for (uint32_t i = 0; i < updates; i++) {
        for (uint32_t j = 0; j < DIM; j++)
            hot[j] = i % 2 ? v[j] : rng_normal(&r);
        add_one(ix, 7, hot, false);
        if (i % 5000 == 0) {
            struct navmap_stats s = stats_of(ix);
            most = s.nslots > most ? s.nslots : most;
            assert_int_equal(s.n_live, n);
            assert_complete(ix, hot);
        }
    }
    assert_true(most < n + 4096);
    assert_sound(ix);
    assert_vacuumed(ix, hot);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Full, and each add takes the place of one that was just deleted: no label twice, none stale. */
static void test_full_capacity(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 500, turns = scaled(10000, 10);
    float *v = random_vectors(&r, n, DIM);
    uint64_t *labels = malloc(n * sizeof *labels), *there = malloc(n * sizeof *there), count;
    navmap_index *ix = make(8, n);
    add_range(ix, v, 0, n);
    for (uint32_t i = 0; i < n; i++)
        labels[i] = i;
    for (uint64_t next = n; next < n + turns; next++) {
        uint32_t at = rng_below(&r, n);
        assert_ok(navmap_delete(ix, labels[at]));
        add_one(ix, next, v + next % n * DIM, true);
        labels[at] = next;
        if (next % 1000 == 0)
            assert_complete(ix, v);
    }
    assert_ok(navmap_labels(ix, true, n, there, &count));
    assert_int_equal(count, n);
    for (uint32_t i = 0; i < n; i++) {
        bool live;
        assert_ok(navmap_contains(ix, labels[i], &live));
        assert_true(live);
    }
    assert_true(stats_of(ix).nslots < n + 4096);
    assert_sound(ix);
    assert_vacuumed(ix, v);
    assert_ok(navmap_close(ix));
    free(v);
    free(labels);
    free(there);
}

/* All deleted, then filled again in their places; with a vacuum in between or without. */
static void test_refilled(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(1500, 3);
    float *v = random_vectors(&r, n, DIM);
    navmap_index *ix = make(8, n);
    uint64_t first = 0;
    add_range(ix, v, first, n);
    for (uint32_t round = 0; round < 4; round++) {
        for (uint64_t i = 0; i < n; i++)
            assert_ok(navmap_delete(ix, first + i));
        assert_complete(ix, v);
        if (round % 2)
            assert_ok(navmap_vacuum(ix, NULL, NULL));
        first += n;
        for (uint64_t i = 0; i < n; i++) {
            add_one(ix, first + i, v + i * DIM, true);
            if (i % 300 == 0)
                assert_complete(ix, v);
        }
        assert_int_equal(stats_of(ix).n_live, n);
        assert_complete(ix, v);
        assert_true(recall_of(ix, v, 50, 10, 60) > 0.95);
        assert_true(stats_of(ix).nslots < 2u * n + 4096);
    }
    assert_sound(ix);
    assert_vacuumed(ix, v);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Whoever is the entry point is deleted, or replaced: until there is nobody left. */
static void test_entry_goes(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 300;
    float *v = random_vectors(&r, n, DIM);
    for (uint32_t way = 0; way < 3; way++) {
        navmap_index *ix = make(4, n);
        add_range(ix, v, 0, n);
        for (uint32_t turn = 0; turn < n; turn++) {
            /* The entry is moved to a slot that lives by the vacuum only: find its label. */
            struct navmap_stats s = stats_of(ix);
            assert_true(s.entry_slot > 0 && s.entry_slot < s.nslots);
            uint64_t label = way == 2 ? turn : s.entry_slot - 1; /* slots were given in order */
            bool live;
            assert_ok(navmap_contains(ix, label, &live));
            if (!live)
                break;
            if (way == 1)
                add_one(ix, label, v + (size_t)rng_below(&r, n) * DIM, false);
            else
                assert_ok(navmap_delete(ix, label));
            if (way != 1)
                assert_ok(navmap_vacuum(ix, NULL, NULL));
            if (turn % 20 == 0) {
                assert_complete(ix, v);
                assert_sound(ix);
            }
        }
        assert_complete(ix, v);
        assert_ok(navmap_close(ix));
    }
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),         cmocka_unit_test(test_zero_vectors),
        cmocka_unit_test(test_tight_clusters), cmocka_unit_test(test_hot_label),
        cmocka_unit_test(test_full_capacity),  cmocka_unit_test(test_refilled),
        cmocka_unit_test(test_entry_goes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
