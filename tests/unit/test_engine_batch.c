/* test_engine_batch.c -- batches: among threads, ended by a filter function, and with one that
 * calls the library again or changes the index meanwhile.
 */
#include "tests/unit/filter_world.h"

static void test_stop(void **state)
{
    (void)state;
    struct world w = make_world(1000);
    static uint64_t labels[NQ * K];
    static float distances[NQ * K];
    list_chosen(&w, 1000);
    for (uint32_t threads = 1; threads <= 4; threads += 3)
        for (uint64_t after = 1; after < 1000; after = after * 3 + 1)
            for (int how = 0; how < 3; how++) {
                struct asking a = {.permille = how == 1 ? 0 : 800, .stop_after = after};
                struct navmap_search_options o = options(20);
                o.filter = ask;
                o.filter_ctx = &a;
                o.num_threads = threads;
                o.allowed = how == 2 ? w.list : NULL;
                o.n_allowed = how == 2 ? 30 : 0; /* planned as a scan */
                assert_status(navmap_search(w.ix, NQ, w.q, K, &o, labels, distances, NULL),
                              NAVMAP_EINTERRUPTED);
                assert_non_null(strstr(navmap_error_detail(), "asked to stop"));
                assert_true(atomic_load(&a.asked) <= after + threads); /* nobody was asked again */
                atomic_store(&a.asked, 0);
                assert_status(navmap_search_exact(w.ix, NQ, w.q, K, &o, labels, distances, NULL),
                              NAVMAP_EINTERRUPTED);
            }
    free_world(&w);
}

/* A row that fails ends the others' work too, though they would not fail by themselves. */
static int stop_once(void *ctx, uint64_t label)
{
    (void)label;
    if (atomic_fetch_add((_Atomic uint32_t *)ctx, 1) == 0)
        return -1;
    usleep(1000);
    return 1;
}
static void test_one_failure_ends_all(void **state)
{
    (void)state;
    struct world w = make_world(1000);
    static uint64_t labels[NQ * K], found[NQ];
    static float distances[NQ * K];
    _Atomic uint32_t calls = 0;
    struct navmap_search_options o = options(20);
    o.filter = stop_once;
    o.filter_ctx = &calls;
    o.num_threads = 4;
    memset(found, 0xff, sizeof found);
    assert_status(navmap_search(w.ix, NQ, w.q, K, &o, labels, distances, found),
                  NAVMAP_EINTERRUPTED);
    assert_non_null(strstr(navmap_error_detail(), "asked to stop"));
    uint32_t written = 0;
    for (uint32_t i = 0; i < NQ; i++)
        written += found[i] != UINT64_MAX;
    assert_true(written < NQ / 2);
    free_world(&w);
}

/* The function may use the handle that is asking it. */
struct reentrant {
    struct world *w;
    uint32_t calls;
    uint64_t deleted;
};
static int ask_the_index(void *ctx, uint64_t label)
{
    struct reentrant *r = ctx;
    struct navmap_search_options o = options(20);
    uint64_t nearest[3];
    float distances[3];
    r->calls++;
    if (navmap_search(r->w->ix, 1, r->w->v + label * DIM, 3, &o, nearest, distances, NULL) !=
        NAVMAP_OK)
        return -1;
    if (label % 5 == 0) {
        r->deleted += navmap_delete(r->w->ix, label) == NAVMAP_OK;
        return 0;
    }
    return nearest[0] == label;
}
static void test_reentrant(void **state)
{
    (void)state;
    struct world w = make_world(1000);
    struct reentrant r = {.w = &w};
    struct navmap_search_options o = options(50);
    uint64_t labels[K];
    float distances[K];
    o.filter = ask_the_index;
    o.filter_ctx = &r;
    for (uint32_t i = 0; i < 5; i++) {
        assert_ok(navmap_search(w.ix, 1, w.q + (size_t)i * DIM, K, &o, labels, distances, NULL));
        for (uint32_t j = 0; j < K; j++)
            assert_true(labels[j] % 5 != 0);
    }
    assert_true(r.calls > 5 * K && r.deleted > 0);
    assert_int_equal(stats_of(w.ix).n_live + r.deleted, 1000);
    free_world(&w);
}

/* F2: a label of the list that gets a new slot during the call is found by the rows that follow. */
struct mover {
    struct world *w;
    uint64_t label;
    uint32_t calls;
};
static int move_and_pass(void *ctx, uint64_t label)
{
    struct mover *m = ctx;
    if (m->calls++ == 0 &&
        navmap_add(m->w->ix, 1, m->w->q + DIM, &m->label, NULL, NULL) != NAVMAP_OK)
        return -1;
    return label != UINT64_MAX;
}
static void test_label_that_moves(void **state)
{
    (void)state;
    struct world w = make_world(1000);
    for (uint32_t permille = 10; permille <= 900; permille += 890) { /* a scan, and a walk */
        list_chosen(&w, permille);
        struct mover m = {.w = &w, .label = w.list[3 + permille % 4]};
        struct navmap_search_options o = options(20);
        uint64_t labels[2 * K];
        float distances[2 * K];
        o.filter = move_and_pass;
        o.filter_ctx = &m;
        o.allowed = w.list;
        o.n_allowed = w.n_list;
        o.allow_fewer = 1;
        assert_ok(navmap_search(w.ix, 2, w.q, K, &o, labels, distances, NULL));
        uint32_t times = 0;
        for (uint32_t j = 0; j < K; j++)
            times += labels[K + j] == m.label && distances[K + j] == 0;
        assert_int_equal(times, 1);
    }
    free_world(&w);
}

/* Q3: what a batch gives does not depend on the number of threads. */
static void test_threads(void **state)
{
    (void)state;
    enum { ROWS = 300 };
    struct world w = make_world(scaled(3000, 3));
    struct rng r = {5};
    float *q = clustered_vectors(&r, ROWS, DIM, 20);
    uint64_t *labels[2], *found[2];
    float *distances[2];
    for (int i = 0; i < 2; i++) {
        labels[i] = malloc(ROWS * K * sizeof **labels);
        distances[i] = malloc(ROWS * K * sizeof **distances);
        found[i] = malloc(ROWS * sizeof **found);
        assert_true(labels[i] && distances[i] && found[i]);
    }
    struct asking a = {.permille = 300};
    list_chosen(&w, 300);
    for (int how = 0; how < 4; how++) {
        struct navmap_search_options o = options(40);
        o.filter = how & 1 ? ask : NULL;
        o.filter_ctx = &a;
        o.allowed = how & 2 ? w.list : NULL;
        o.n_allowed = how & 2 ? w.n_list : 0;
        for (uint32_t threads = 1; threads <= 8; threads++) {
            int i = threads > 1;
            o.num_threads = threads;
            assert_ok(navmap_search(w.ix, ROWS, q, K, &o, labels[i], distances[i], found[i]));
            if (i == 0)
                continue;
            assert_memory_equal(labels[0], labels[1], ROWS * K * sizeof **labels);
            assert_memory_equal(distances[0], distances[1], ROWS * K * sizeof **distances);
            assert_memory_equal(found[0], found[1], ROWS * sizeof **found);
        }
    }
    /* The lowest row that comes short is named, whoever found it. */
    a.permille = 2;
    for (uint32_t threads = 1; threads <= 8; threads += 7) {
        struct navmap_search_options o = options(40);
        o.filter = ask;
        o.filter_ctx = &a;
        o.num_threads = threads;
        memset(found[0], 0xff, ROWS * sizeof **found);
        assert_status(navmap_search(w.ix, ROWS, q, K, &o, labels[0], distances[0], found[0]),
                      NAVMAP_EFEWER);
        assert_non_null(strstr(navmap_error_detail(), "row 0: k is 10"));
        for (uint32_t i = 0; i < ROWS; i++)
            assert_true(found[0][i] < K); /* all rows are written */
    }
    for (int i = 0; i < 2; i++) {
        free(labels[i]);
        free(distances[i]);
        free(found[i]);
    }
    free(q);
    free_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_stop, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_one_failure_ends_all, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_reentrant, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_label_that_moves, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_threads, make_dir, remove_dir),
    };
    return run_on_both_forms(tests, sizeof tests / sizeof *tests);
}
