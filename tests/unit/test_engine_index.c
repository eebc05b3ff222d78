/* test_engine_index.c -- adding, searching, updating, deleting, reading back through navmap.h. */
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 12u
#define K 10u

/* What the distances must be, in double precision. */
static double expected_distance(enum navmap_space space, const float *a, const float *b)
{
    double l2 = 0, dot = 0, aa = 0, bb = 0;
    for (uint32_t i = 0; i < DIM; i++) {
        double x = (double)a[i], y = (double)b[i];
        l2 += (x - y) * (x - y);
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    if (space == NAVMAP_L2)
        return l2;
    if (space == NAVMAP_IP)
        return 1 - dot;
    return aa == 0 || bb == 0 ? 1 : 1 - dot / sqrt(aa * bb);
}

static void check_answers(navmap_index *ix, enum navmap_space space, const float *v, uint32_t n,
                          const float *queries, uint32_t nq)
{
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 100};
    uint64_t labels[K], exact[K], found;
    float distances[K], exact_distances[K];
    for (uint32_t q = 0; q < nq; q++) {
        const float *query = queries + (size_t)q * DIM;
        assert_ok(navmap_search(ix, 1, query, K, &o, labels, distances, &found));
        assert_int_equal(found, K);
        assert_ok(navmap_search_exact(ix, 1, query, K, NULL, exact, exact_distances, &found));
        assert_int_equal(found, K);
        for (uint32_t i = 0; i < K; i++) {
            assert_true(labels[i] < n);
            double want = expected_distance(space, query, v + labels[i] * DIM);
            assert_true(fabs((double)distances[i] - want) < 1e-4);
            if (i > 0)
                assert_true(distances[i - 1] < distances[i] ||
                            (distances[i - 1] == distances[i] && labels[i - 1] < labels[i]));
            assert_true(distances[i] >= exact_distances[i]);
        }
        /* Exact: nobody is nearer than the last, but those before it. */
        uint32_t nearer = 0;
        for (uint32_t i = 0; i < n; i++)
            nearer += expected_distance(space, query, v + (size_t)i * DIM) <
                      (double)exact_distances[K - 1] - 1e-4;
        assert_true(nearer <= K - 1);
    }
}

static void run_space(enum navmap_space space)
{
    struct rng r = test_rng();
    uint32_t n = 2000;
    float *v = clustered_vectors(&r, n, DIM, 20), *q = clustered_vectors(&r, 50, DIM, 20);
    navmap_index *ix = create_index(DIM, space, 8, NAVMAP_FULL);
    add_range(ix, v, 0, n);
    check_answers(ix, space, v, n, q, 50);
    double recall = recall_of(ix, q, 50, K, 200);
    print_message("recall@%u %.3f\n", K, recall);
    assert_true(recall > (space == NAVMAP_IP ? 0.9 : 0.98)); /* ip has hubs */
    assert_ok(navmap_close(ix));
    ix = open_index(NAVMAP_READ);
    check_answers(ix, space, v, n, q, 50);
    float got[DIM];
    for (uint64_t label = 0; label < n; label += 97) {
        float want[DIM];
        memcpy(want, v + label * DIM, sizeof want);
        if (space == NAVMAP_COSINE)
            distance_normalise(v + label * DIM, DIM, want);
        assert_ok(navmap_get(ix, 1, &label, got));
        assert_memory_equal(got, want, sizeof got);
    }
    assert_ok(navmap_close(ix));
    free(v);
    free(q);
}

static void test_l2(void **state)
{
    (void)state;
    run_space(NAVMAP_L2);
}
static void test_ip(void **state)
{
    (void)state;
    run_space(NAVMAP_IP);
}
static void test_cosine(void **state)
{
    (void)state;
    run_space(NAVMAP_COSINE);
}

/* The nearest label to a vector, and whether it is the vector itself. */
static uint64_t nearest(navmap_index *ix, const float *query, float *ret_distance)
{
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 100};
    uint64_t label;
    assert_ok(navmap_search(ix, 1, query, 1, &o, &label, ret_distance, NULL));
    return label;
}

/* Slot 201 + i was born when 1 .. i + 1 were dead or dying: it must name none of them (A3). */
static void check_no_link_to_the_dead(navmap_index *ix)
{
    struct view *v;
    assert_ok(store_view_begin(ix->store, &v));
    for (uint32_t i = 0; i < 200; i++)
        for (uint32_t j = 0; j < ix->layout->M0; j++) {
            uint32_t id = view_row(v, 201 + i)[j];
            assert_true(id == 0 || id > i + 1);
        }
    store_view_end(ix->store, v);
}

static void test_update_moves_a_label(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 400, DIM), d, got[DIM];
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL);
    add_range(ix, v, 0, 200);
    for (uint64_t label = 0; label < 200; label++) {
        const float *after = v + (200 + label) * DIM;
        assert_ok(navmap_add(ix, 1, after, &label, NULL, NULL));
        assert_int_equal(nearest(ix, after, &d), label);
        assert_true(d == 0);
        assert_ok(navmap_get(ix, 1, &label, got));
        assert_memory_equal(got, after, sizeof got);
        (void)nearest(ix, v + label * DIM, &d);
        assert_true(d > 0); /* the old vector is nobody's */
    }
    check_no_link_to_the_dead(ix);
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, 200);
    assert_int_equal(s.n_dead, 200);
    assert_int_equal(s.inserted, 400);
    /* Twice in a batch: the later row. */
    uint64_t twice[] = {7, 300, 7};
    assert_ok(navmap_add(ix, 3, v, twice, NULL, NULL));
    assert_ok(navmap_get(ix, 1, twice, got));
    assert_memory_equal(got, v + 2 * DIM, sizeof got);
    assert_int_equal(stats_of(ix).n_live, 201);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_delete_and_undelete(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 301, DIM), d, got[DIM];
    uint64_t labels[300], n;
    bool has;
    navmap_index *ix = create_index(DIM, NAVMAP_COSINE, 8, NAVMAP_FULL);
    add_range(ix, v, 1000, 300);
    for (uint64_t label = 1000; label < 1300; label += 2) {
        assert_ok(navmap_delete(ix, label));
        assert_status(navmap_delete(ix, label), NAVMAP_EDELETED);
        assert_int_not_equal(nearest(ix, v + (label - 1000) * DIM, &d), label);
        assert_ok(navmap_contains(ix, label, &has));
        assert_false(has);
        assert_status(navmap_get(ix, 1, &label, got), NAVMAP_ENOTFOUND);
    }
    assert_ok(navmap_labels(ix, false, 300, labels, &n));
    assert_int_equal(n, 150);
    for (uint64_t i = 0; i < n; i++)
        assert_true(labels[i] % 2 == 1);
    assert_ok(navmap_labels(ix, true, 300, labels, &n));
    assert_int_equal(n, 300);
    assert_ok(navmap_labels(ix, true, 0, NULL, &n));
    assert_int_equal(n, 300);
    for (uint64_t label = 1000; label < 1100; label += 2) {
        assert_ok(navmap_undelete(ix, label));
        assert_status(navmap_undelete(ix, label), NAVMAP_ENOTDELETED);
        assert_int_equal(nearest(ix, v + (label - 1000) * DIM, &d), label);
    }
    /* A deleted label that is added again is live, with the new vector. */
    uint64_t label = 1298;
    assert_ok(navmap_add(ix, 1, v + 300 * DIM, &label, NULL, NULL));
    assert_int_equal(nearest(ix, v + 300 * DIM, &d), label);
    assert_status(navmap_undelete(ix, label), NAVMAP_ENOTDELETED);
    assert_status(navmap_delete(ix, 999), NAVMAP_ENOTFOUND);
    assert_status(navmap_undelete(ix, 1300), NAVMAP_ENOTFOUND);
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, 201);
    assert_int_equal(s.n_deleted, 99);
    assert_int_equal(s.n_dead, 1);
    assert_ok(navmap_close(ix));
    free(v);
}

/* q5: a result is believed only under the generation that it was found with. */
static void test_stale_hits_are_dropped(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 20, DIM);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL);
    struct view *view;
    struct hit hit;
    add_range(ix, v, 70, 20);
    assert_ok(store_view_begin(ix->store, &view));
    uint32_t word = *view_state(view, 4), unused = *view_state(view, 21);
    assert_true(index_read_hit(ix, view, v + 3 * DIM, 4, word, &hit));
    assert_int_equal(hit.label, 73);
    assert_true(hit.dist == 0);
    assert_false(index_read_hit(ix, view, v, 4, word + STATE_WORD(1, 0), &hit));
    assert_false(index_read_hit(ix, view, v, 4, word - STATE_WORD(1, 0), &hit));
    assert_int_equal(STATE_STATUS(unused), SLOT_FREE);
    assert_false(index_read_hit(ix, view, v, 21, STATE_WORD(STATE_GEN(unused), SLOT_LIVE), &hit));
    assert_ok(navmap_delete(ix, 73)); /* deleted meanwhile: it was live when the query began */
    assert_true(index_read_hit(ix, view, v + 3 * DIM, 4, word, &hit));
    store_view_end(ix->store, view);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Everything deleted but a few: they are found by walking over the deleted. */
static void test_few_survivors(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 2000, DIM), distances[20];
    uint64_t labels[20], found;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 6, NAVMAP_MANUAL);
    add_range(ix, v, 0, 2000);
    for (uint64_t label = 0; label < 2000; label++)
        if (label % 100 != 0)
            assert_ok(navmap_delete(ix, label));
    assert_ok(navmap_flush(ix));
    for (uint32_t q = 0; q < 100; q++) {
        assert_ok(navmap_search(ix, 1, v + (size_t)q * DIM, 20, NULL, labels, distances, &found));
        assert_int_equal(found, 20);
        for (uint32_t i = 0; i < 20; i++)
            assert_true(labels[i] % 100 == 0);
    }
    assert_status(navmap_search(ix, 1, v, 21, NULL, labels, distances, NULL), NAVMAP_EFEWER);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_implicit_labels(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 10, DIM);
    uint64_t labels[40], n, big = 5000, last = UINT64_MAX - 3;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_MANUAL);
    assert_ok(navmap_add(ix, 10, v, NULL, NULL, NULL));
    assert_ok(navmap_add(ix, 10, v, NULL, NULL, NULL)); /* staged ones count too */
    assert_ok(navmap_add(ix, 1, v, &big, NULL, NULL));
    assert_ok(navmap_delete(ix, big)); /* a deleted label is still taken */
    assert_ok(navmap_add(ix, 2, v, NULL, NULL, NULL));
    assert_ok(navmap_flush(ix));
    assert_ok(navmap_labels(ix, true, 40, labels, &n));
    assert_int_equal(n, 23);
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(labels[i], i);
    assert_int_equal(labels[21], 5001);
    assert_int_equal(labels[22], 5002);
    assert_ok(navmap_add(ix, 1, v, &last, NULL, NULL));
    assert_status(navmap_add(ix, 3, v, NULL, NULL, NULL), NAVMAP_EINVAL);
    assert_ok(navmap_add(ix, 2, v, NULL, NULL, NULL));
    assert_status(navmap_add(ix, 1, v, NULL, NULL, NULL), NAVMAP_EINVAL);
    assert_int_equal(stats_of(ix).n_live + stats_of(ix).pending, 22 + 3 + 0);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Manual: nothing is seen before flush(), everything after it and after close. */
static void test_manual_durability(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 30, DIM), d;
    uint64_t label;
    bool has;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_MANUAL);
    add_range(ix, v, 0, 10);
    assert_int_equal(stats_of(ix).pending, 10);
    assert_status(navmap_search(ix, 1, v, 1, NULL, &label, &d, NULL), NAVMAP_EFEWER);
    assert_ok(navmap_contains(ix, 3, &has));
    assert_false(has);
    assert_ok(navmap_flush(ix));
    assert_int_equal(stats_of(ix).pending, 0);
    assert_int_equal(stats_of(ix).n_live, 10);
    assert_int_equal(nearest(ix, v + 3 * DIM, &d), 3);
    add_range(ix, v + 10 * DIM, 10, 20);
    assert_ok(navmap_delete(ix, 3));
    assert_int_equal(nearest(ix, v + 3 * DIM, &d), 3);
    assert_ok(navmap_close(ix));
    ix = open_index(NAVMAP_READ);
    assert_int_equal(stats_of(ix).n_live, 29);
    assert_int_not_equal(nearest(ix, v + 3 * DIM, &d), 3);
    assert_int_equal(nearest(ix, v + 25 * DIM, &d), 25);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_growth_and_reopening(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(6000, 4);
    float *v = random_vectors(&r, n, DIM), d;
    struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 6, .ef_construction = 40, .slot_shift = 4};
    navmap_index *ix = NULL;
    assert_ok(navmap_create(test_path, &o, &ix));
    assert_int_equal(stats_of(ix).nchunks, 1);
    for (uint32_t done = 0, step = 1; done < n; done += step, step = step * 3 + 1) {
        step = step < n - done ? step : n - done;
        add_range(ix, v + (size_t)done * DIM, done, step);
        assert_int_equal(nearest(ix, v + (size_t)(done + step - 1) * DIM, &d), done + step - 1);
        assert_ok(navmap_close(ix));
        ix = open_index(NAVMAP_WRITE);
        assert_int_equal(stats_of(ix).n_live, done + step);
    }
    assert_true(stats_of(ix).nchunks > n / 16 - 1);
    uint32_t right = 0;
    for (uint32_t i = 0; i < n; i++)
        right += nearest(ix, v + (size_t)i * DIM, &d) == i;
    print_message("found at once: %u of %u\n", right, n);
    assert_true(right > n * 0.99);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Capacity counts labels, not slots: a full index can be updated, and frees nothing by deleting. */
static void test_capacity(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 40, DIM);
    struct navmap_options o = {.struct_size = sizeof o, .dim = DIM, .M = 4, .max_elements = 20};
    uint64_t added, labels[] = {3, 90, 90, 91, 4}, label = 90, before;
    navmap_index *ix = NULL;
    assert_ok(navmap_create(test_path, &o, &ix));
    assert_status(navmap_add(ix, 21, v, NULL, NULL, &added), NAVMAP_EFULL);
    assert_int_equal(added, 0);
    add_range(ix, v, 0, 19);
    assert_status(navmap_add(ix, 5, v, labels, NULL, &added), NAVMAP_EFULL); /* 90 and 91 */
    assert_int_equal(added, 0);
    assert_non_null(
        strstr(navmap_error_detail(), "The number of elements exceeds the specified limit"));
    assert_int_equal(stats_of(ix).inserted, 19);
    assert_ok(navmap_add(ix, 3, v, labels, NULL, &added)); /* 3, and 90 twice */
    assert_int_equal(added, 3);
    add_range(ix, v + 5 * DIM, 0, 19);
    label = 91;
    assert_status(navmap_add(ix, 1, v, &label, NULL, &added), NAVMAP_EFULL);
    assert_ok(navmap_delete(ix, 5));
    assert_status(navmap_add(ix, 1, v, &label, NULL, &added), NAVMAP_EFULL);
    uint64_t both[] = {3, 91}; /* the first would pass: refused as a whole all the same */
    before = stats_of(ix).inserted;
    assert_status(navmap_add(ix, 2, v, both, NULL, &added), NAVMAP_EFULL);
    assert_int_equal(added, 0);
    assert_int_equal(stats_of(ix).inserted, before);
    label = 5;
    assert_ok(navmap_add(ix, 1, v, &label, NULL, &added));
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, 20);
    assert_int_equal(s.max_elements, 20);
    assert_ok(navmap_close(ix));
    free(v);
}

struct progress {
    uint64_t calls, last, stop_at;
};
static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct progress *p = ctx;
    p->calls++;
    assert_true(done >= p->last && done <= total);
    p->last = done;
    return p->stop_at != 0 && done >= p->stop_at;
}

static void test_progress_and_interruption(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 3000, dim = 64;
    float *v = random_vectors(&r, n, dim), d;
    struct progress p = {0, 0, 0};
    struct navmap_add_options o = {
        .struct_size = sizeof o, .progress = on_progress, .progress_ctx = &p};
    uint64_t added;
    navmap_index *ix = create_index(dim, NAVMAP_L2, 16, NAVMAP_FULL);
    p.stop_at = 100;
    assert_status(navmap_add(ix, n, v, NULL, &o, &added), NAVMAP_EINTERRUPTED);
    assert_in_range(added, 100, n - 1);
    assert_int_equal(added, p.last);
    assert_int_equal(stats_of(ix).n_live, added); /* durable, whole, and no other */
    assert_int_equal(nearest(ix, v + (added - 1) * dim, &d), added - 1);
    p = (struct progress){0, 0, 0};
    uint64_t rest = n - added, before = added;
    assert_ok(navmap_add(ix, rest, v + added * dim, NULL, &o, &added)); /* implicit ids go on */
    assert_int_equal(added, rest);
    assert_int_equal(p.last, rest); /* called at the end */
    assert_true(p.calls >= 2);
    assert_int_equal(stats_of(ix).n_live, n);
    assert_int_equal(nearest(ix, v + before * dim, &d), before);
    assert_ok(navmap_close(ix));
    free(v);
}

/* One thread and one seed: the same graph, word for word. */
static void test_reproducible(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 1500, words = 0;
    float *v = clustered_vectors(&r, n, DIM, 10);
    uint32_t *rows[3] = {NULL};
    uint64_t entries[3];
    for (uint32_t run = 0; run < 3; run++) {
        struct navmap_options o = {.struct_size = sizeof o,
                                   .dim = DIM,
                                   .M = 5,
                                   .durability = run == 1 ? NAVMAP_MANUAL : NAVMAP_FULL,
                                   .random_seed = run == 2 ? 7 : 0};
        navmap_index *ix = NULL;
        struct view *view;
        assert_ok(navmap_create(test_path, &o, &ix));
        for (uint32_t i = 0; i < n; i += 500)
            add_range(ix, v + (size_t)i * DIM, i, 500);
        add_range(ix, v, 100, 50); /* some updates */
        assert_ok(navmap_flush(ix));
        assert_ok(store_view_begin(ix->store, &view));
        words = ix->layout->M0 * (n + 50);
        rows[run] = malloc(words * sizeof **rows);
        for (uint32_t i = 0; i < words; i++)
            rows[run][i] = view_row(view, 1 + i / ix->layout->M0)[i % ix->layout->M0];
        entries[run] = view_load64(&view_root(view)->entry, memory_order_relaxed);
        store_view_end(ix->store, view);
        assert_ok(navmap_close(ix));
        assert_int_equal(remove_dir(NULL), 0);
        assert_int_equal(make_dir(NULL), 0);
    }
    assert_memory_equal(rows[0], rows[1], words * sizeof **rows);
    assert_int_equal(entries[0], entries[1]);
    assert_int_not_equal(entries[0], entries[2]); /* another seed, other levels */
    for (uint32_t run = 0; run < 3; run++)
        free(rows[run]);
    free(v);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_l2),
        CASE(test_ip),
        CASE(test_cosine),
        CASE(test_update_moves_a_label),
        CASE(test_delete_and_undelete),
        CASE(test_stale_hits_are_dropped),
        CASE(test_few_survivors),
        CASE(test_implicit_labels),
        CASE(test_manual_durability),
        CASE(test_growth_and_reopening),
        CASE(test_capacity),
        CASE(test_progress_and_interruption),
        CASE(test_reproducible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
