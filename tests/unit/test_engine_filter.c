/* test_engine_filter.c -- searches that may return some labels only: lists, functions and both.
 *
 * Who passes is decided by a hash of the label, so that the truth can be had by looking at every
 * vector here.  tests/unit/test_engine_batch.c has stopping, calling back and threads,
 * tests/race/test_filters.c the same beside a writer.
 */
#include "tests/unit/filter_world.h"

static int by_distance(const void *a, const void *b)
{
    const struct hit *x = a, *y = b;
    return x->dist != y->dist ? (x->dist > y->dist) - (x->dist < y->dist)
                              : (x->label > y->label) - (x->label < y->label);
}

/* All live labels that are chosen, nearest first, by the kernel that the index uses. */
static uint32_t truth_of(const struct world *w, const float *query, uint32_t permille,
                         const bool *gone, struct hit *ret_hits)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->n; i++)
        if (chosen(i, permille) && !(gone && gone[i]))
            ret_hits[n++] =
                (struct hit){i, w->ix->distance.fn(query, w->v + (size_t)i * DIM, DIM), 0, 0};
    qsort(ret_hits, n, sizeof *ret_hits, by_distance);
    return n;
}

/* Both searches under `o`; the exact one must be the truth, and the other one near it. */
static void check_against_truth(const struct world *w, struct navmap_search_options o,
                                uint32_t permille, const bool *gone, double least)
{
    static uint64_t labels[NQ * K], found[NQ];
    static float distances[NQ * K];
    struct hit *truth = malloc(w->n * sizeof *truth);
    uint32_t hits = 0, expected = 0;
    assert_non_null(truth);
    o.allow_fewer = 1;
    for (int exact = 0; exact < 2; exact++) {
        assert_ok((exact ? navmap_search_exact : navmap_search)(w->ix, NQ, w->q, K, &o, labels,
                                                                distances, found));
        for (uint32_t i = 0; i < NQ; i++) {
            uint32_t n = truth_of(w, w->q + (size_t)i * DIM, permille, gone, truth);
            n = n < K ? n : K;
            assert_int_equal(found[i], n);
            for (uint32_t j = 0; j < K; j++) {
                uint64_t label = labels[i * K + j];
                if (j >= n) {
                    assert_true(label == UINT64_MAX && isinf(distances[i * K + j]));
                    continue;
                }
                assert_true(label < w->n && chosen(label, permille) && !(gone && gone[label]));
                if (exact) {
                    assert_int_equal(label, truth[j].label);
                    assert_true(distances[i * K + j] == truth[j].dist);
                }
                for (uint32_t t = 0; !exact && t < n; t++)
                    hits += labels[i * K + j] == truth[t].label;
            }
            expected += exact ? 0 : n;
        }
    }
    assert_true((double)hits >= least * (double)expected);
    free(truth);
}

/* Does the planner give the first query to a scan? */
static bool scans(const struct world *w, struct navmap_search_options o)
{
    uint64_t labels[K];
    float distances[K];
    struct navmap_search_counts counts = {0};
    o.ret_counts = &counts;
    o.allow_fewer = 1;
    assert_ok(navmap_search(w->ix, 1, w->q, K, &o, labels, distances, NULL));
    return counts.scans != 0 || counts.walks + counts.hops == 0;
}

static const uint32_t permilles[] = {1000, 500, 100, 10, 1, 0};

static void test_recall(void **state)
{
    (void)state;
    struct world w = make_world(scaled(3000, 3));
    for (uint32_t i = 0; i < sizeof permilles / sizeof *permilles; i++) {
        struct asking a = {.permille = permilles[i]};
        list_chosen(&w, permilles[i]);
        for (uint32_t ef = 10; ef <= 100; ef += 90) {
            struct navmap_search_options f = options(ef), l = options(ef), both = options(ef);
            f.filter = both.filter = ask;
            f.filter_ctx = both.filter_ctx = &a;
            l.allowed = both.allowed = w.list;
            l.n_allowed = both.n_allowed = w.n_list;
            check_against_truth(&w, f, permilles[i], NULL, ef == 10 ? 0.8 : 0.95);
            /* What the planner gives to a scan is exact. */
            struct filter prepared;
            assert_ok(filter_prepare(w.ix->store, &l, w.n, &prepared));
            assert_int_equal(filter_pass(&prepared), w.n_list);
            filter_release(&prepared);
            bool scanned = scans(&w, l);
            assert_true(scanned || permilles[i] > 10);
            assert_false(scanned && permilles[i] == 1000 && ef == 10);
            check_against_truth(&w, l, permilles[i], NULL, scanned ? 1.0 : 0.8);
            w.list[w.n_list] = UINT64_MAX; /* one far off makes the set a table */
            both.n_allowed = w.n_list + 1;
            check_against_truth(&w, both, permilles[i], NULL, scanned ? 1.0 : 0.8);
        }
    }
    free_world(&w);
}

/* A wide list beside a narrow beam: a walk, and the walk alone is to be good. */
static void test_walk_with_a_list(void **state)
{
    (void)state;
    struct world w = make_world(scaled(6000, 3));
    list_chosen(&w, 900);
    struct navmap_search_options o = options(getenv("NAVMAP_SHORT") ? 20 : 50);
    o.allowed = w.list;
    o.n_allowed = w.n_list;
    assert_false(scans(&w, o));
    check_against_truth(&w, o, 900, NULL, 0.95);
    free_world(&w);
}

/* A function is asked about live items only, by a walk not about one twice. */
static uint8_t times_asked[3000];
static int ask_and_note(void *ctx, uint64_t label)
{
    const bool *gone = ctx;
    if (label < sizeof times_asked && !gone[label] && times_asked[label] < 255)
        times_asked[label]++;
    else
        times_asked[0] = 255;
    return 1;
}
static void test_whom_it_asks(void **state)
{
    (void)state;
    struct world w = make_world(scaled(3000, 3));
    bool *gone = calloc(w.n, sizeof *gone);
    assert_non_null(gone);
    for (uint64_t i = 0; i < w.n; i += 3) {
        assert_ok(navmap_delete(w.ix, i));
        gone[i] = true;
    }
    struct navmap_search_options o = options(50);
    o.filter = ask_and_note;
    o.filter_ctx = gone;
    for (uint32_t i = 0; i < NQ; i++) {
        uint64_t labels[K];
        float distances[K];
        memset(times_asked, 0, sizeof times_asked);
        assert_ok(navmap_search(w.ix, 1, w.q + (size_t)i * DIM, K, &o, labels, distances, NULL));
        uint32_t most = 0;
        for (uint32_t j = 0; j < w.n; j++)
            most = times_asked[j] > most ? times_asked[j] : most;
        assert_int_equal(most, 1);
        for (uint32_t j = 0; j < K; j++)
            assert_int_equal(times_asked[labels[j]], 1);
    }
    /* Deleted ones may be in a list, and are not returned. */
    list_chosen(&w, 500);
    o = options(50);
    o.allowed = w.list;
    o.n_allowed = w.n_list;
    check_against_truth(&w, o, 500, gone, 0.95);
    list_chosen(&w, 10);
    o.n_allowed = w.n_list;
    check_against_truth(&w, o, 10, gone, 1.0);
    free(gone);
    free_world(&w);
}

static void test_odd_lists(void **state)
{
    (void)state;
    struct world w = make_world(1000);
    uint64_t labels[K], found[1];
    float distances[K];
    struct navmap_search_options o = options(50);
    /* Unknown ones, the ends of the range, duplicates, no order; in a table, then in a bitmap. */
    uint64_t odd[] = {UINT64_MAX, 7, 5, UINT64_MAX - 1, 7, 0, 123456789, 0, 5, UINT64_C(1) << 63};
    uint64_t dense[] = {7, 999, 5, 1001, 7, 0, 1500, 0, 5};
    for (int i = 0; i < 2; i++) {
        o.allowed = i ? dense : odd;
        o.n_allowed = i ? sizeof dense / sizeof *dense : sizeof odd / sizeof *odd;
        uint32_t n = i ? 4 : 3;
        o.allow_fewer = 1;
        assert_ok(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found));
        assert_int_equal(found[0], n);
        for (uint32_t j = 0; j < n; j++)
            assert_true(labels[j] == 0 || labels[j] == 5 || labels[j] == 7 || labels[j] == 999);
        o.allow_fewer = 0;
        found[0] = 99;
        assert_status(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found), NAVMAP_EFEWER);
        assert_non_null(strstr(navmap_error_detail(), "k is 10"));
        assert_non_null(strstr(navmap_error_detail(), "1000 are live"));
        assert_non_null(strstr(navmap_error_detail(), i ? "4 of them" : "3 of them"));
        assert_int_equal(found[0], 99); /* at once, nothing written */
        assert_ok(navmap_search(w.ix, 1, w.q, n, &o, labels, distances, found));
        assert_ok(navmap_search_exact(w.ix, 1, w.q, n, &o, labels, distances, found));
    }
    /* Nobody. */
    o.n_allowed = 0;
    assert_status(navmap_search(w.ix, 1, w.q, 1, &o, labels, distances, found), NAVMAP_EFEWER);
    assert_ok(navmap_search(w.ix, 1, w.q, 0, &o, labels, distances, found));
    assert_ok(navmap_search(w.ix, 0, w.q, 1, &o, labels, distances, found));
    o.allow_fewer = 1;
    assert_ok(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found));
    assert_int_equal(found[0], 0);
    assert_true(labels[0] == UINT64_MAX && isinf(distances[0]));
    o.allowed = NULL;
    o.n_allowed = 3;
    assert_status(navmap_search(w.ix, 1, w.q, 1, &o, labels, distances, found), NAVMAP_EINVAL);
    /* Labels at the ends, living. */
    uint64_t ends[] = {UINT64_MAX, UINT64_C(1) << 63};
    assert_ok(navmap_add(w.ix, 2, w.v, ends, NULL, NULL));
    o.allowed = odd;
    o.n_allowed = sizeof odd / sizeof *odd;
    assert_ok(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found));
    assert_int_equal(found[0], 5);
    free_world(&w);
}

/* A list is found in the index by the label table or by looking through: both see the same. */
static void test_both_ways_to_the_slots(void **state)
{
    (void)state;
    struct world w = make_world(2000);
    for (uint64_t i = 0; i < w.n; i += 2)
        assert_ok(navmap_delete(w.ix, i));
    for (uint64_t i = 1; i < w.n; i += 10) /* to new slots */
        assert_ok(navmap_add(w.ix, 1, w.v, &i, NULL, NULL));
    struct view *v;
    assert_ok(store_view_begin(w.ix->store, &v));
    for (uint32_t n = 1; n < 600; n += 7) {
        uint64_t labels[600];
        uint32_t slots[600];
        bool sure;
        struct rng r = {n};
        for (uint32_t i = 0; i < n; i++)
            labels[i] = rng_below(&r, 3000);
        struct navmap_search_options o = options(50);
        o.allowed = labels;
        o.n_allowed = n;
        struct filter f;
        assert_ok(filter_prepare(w.ix->store, &o, w.n, &f));
        assert_true(f.sure);
        assert_ok(store_slots(w.ix->store, v, n, labels, slots, &sure));
        assert_true(sure);
        uint64_t found = 0;
        for (uint32_t i = 0; i < n; i++) {
            bool live = labels[i] < w.n && labels[i] % 2 == 1, first = true;
            assert_int_equal(slots[i] != 0, live);
            for (uint32_t j = 0; j < i; j++)
                first = first && labels[j] != labels[i];
            found += live && first;
            if (live)
                assert_true(marks_has(f.marks, slots[i]));
            assert_true(filter_lists(&f, labels[i]));
        }
        assert_int_equal(filter_pass(&f), found);
        filter_release(&f);
    }
    store_view_end(w.ix->store, v);
    free_world(&w);
}

/* F1: bits that tell of other labels than the slots hold let none of those through. */
static void test_bits_are_hints(void **state)
{
    (void)state;
    struct world w = make_world(1000);
    struct navmap_search_options o = options(20);
    struct scratch *s;
    struct filter f;
    list_chosen(&w, 500);
    o.allowed = w.list;
    o.n_allowed = w.n_list;
    assert_ok(filter_prepare(w.ix->store, &o, w.n, &f));
    /* As if every slot had been used again. */
    for (uint32_t i = 0; i < MARKS_SLOTS / 64; i++)
        atomic_store(&f.marks->blocks[0]->bits[i], UINT64_MAX);
    assert_ok(scratch_take(&w.ix->shelf, w.ix->layout, &s));
    for (int walk = 0; walk < 2; walk++) {
        atomic_store(&f.marks->n_pass, 1000);
        assert_ok(walk ? index_walk(w.ix, s, &f, w.q, K, 20) : index_scan(w.ix, s, &f, w.q, K));
        assert_true(s->rank.n > 0);
        for (uint32_t i = 0; i < s->rank.n; i++)
            assert_true(chosen(s->rank.hits[i].label, 500));
    }
    scratch_give(&w.ix->shelf, s);
    filter_release(&f);
    free_world(&w);
}

/* F3, and what a sieve that is done with costs: one row of links is the most that is still met. */
static void test_sieve(void **state)
{
    (void)state;
    struct world w = make_world(3000);
    struct asking a = {.permille = 1000};
    struct filter f = {.ask = ask, .ctx = &a, .n_live = w.n};
    struct sieve sieve;
    struct view *v;
    struct scratch *s;
    assert_ok(store_view_begin(w.ix->store, &v));
    sieve_begin(&sieve, &f, v, 1);
    uint32_t word = atomic_load(view_state(v, 7));
    uint32_t other = STATE_WORD(STATE_GEN(word) + 1, SLOT_LIVE);
    assert_true(sieve_admits(&sieve, 7, word));
    assert_int_equal(atomic_load(&a.asked), 1);
    assert_false(sieve_admits(&sieve, 7, other)); /* used again: not asked */
    assert_int_equal(atomic_load(&a.asked), 1);
    a.stop_after = 2;
    assert_true(sieve_admits(&sieve, 8, atomic_load(view_state(v, 8))));
    assert_false(sieve_admits(&sieve, 9, atomic_load(view_state(v, 9))));
    assert_true(sieve.stopped && sieve.halt);
    sieve_begin(&sieve, &f, v, 1);
    a.stop_after = 0;
    for (uint64_t budget = sieve.budget; budget > 0; budget--)
        assert_true(sieve_admits(&sieve, 7, word));
    assert_false(sieve_admits(&sieve, 7, word));
    assert_true(sieve.spent && sieve.halt && !sieve.stopped);
    store_view_end(w.ix->store, v);

    assert_ok(scratch_take(&w.ix->shelf, w.ix->layout, &s));
    atomic_store(&a.asked, 0);
    a.stop_after = 1;
    assert_status(index_walk(w.ix, s, &f, w.q, K, 20), NAVMAP_EINTERRUPTED);
    assert_true(s->visited.n_met <= w.ix->layout->M0 + 1);
    scratch_give(&w.ix->shelf, s);
    free_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_recall, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_walk_with_a_list, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_whom_it_asks, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_odd_lists, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_both_ways_to_the_slots, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_bits_are_hints, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_sieve, make_dir, remove_dir),
    };
    return run_on_both_forms(tests, sizeof tests / sizeof *tests);
}
