/* test_engine_sweep.c -- dead slots are swept: the file bounded, recall high, no link dangling. */
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 16u

/* I5 seen from outside: no row and no entry names a FREE slot; no LIVE node is without a way in. */
static void check_links(navmap_index *ix, uint32_t *ret_orphans)
{
    struct view *v;
    assert_ok(store_view_begin(ix->store, &v));
    const struct layout *l = ix->layout;
    uint32_t nslots = extent_slots(view_root(v)->extent), orphans = 0, entry;
    uint32_t *in = calloc(nslots, sizeof *in);
    for (uint32_t slot = 1; slot < nslots; slot++) {
        enum slot_status status = STATE_STATUS(*view_state(v, slot));
        if (status == SLOT_FREE)
            continue;
        uint32_t up = view_tag(v, slot)->up;
        for (uint32_t level = 0; level <= TAG_LEVEL(up); level++) {
            const _Atomic uint32_t *row =
                level == 0 ? view_row(v, slot) : view_upper(v, TAG_CELL(up) + level - 1);
            for (uint32_t i = 0; i < (level == 0 ? l->M0 : l->M); i++) {
                uint32_t id = row[i];
                if (id == 0)
                    continue;
                assert_true(id < nslots && id != slot);
                assert_int_not_equal(STATE_STATUS(*view_state(v, id)), SLOT_FREE);
                assert_true(TAG_LEVEL(view_tag(v, id)->up) >= level);
                in[id] += level == 0;
            }
        }
    }
    for (uint32_t slot = 1; slot < nslots; slot++)
        orphans += STATE_STATUS(*view_state(v, slot)) == SLOT_LIVE && in[slot] == 0;
    entry = (uint32_t)view_root(v)->entry;
    assert_int_not_equal(STATE_STATUS(*view_state(v, entry)), SLOT_FREE);
    free(in);
    store_view_end(ix->store, v);
    *ret_orphans = orphans;
}

static void test_turnovers(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(2000, 2), orphans;
    float *v = clustered_vectors(&r, n, DIM, 40), *q = clustered_vectors(&r, 100, DIM, 40);
    uint64_t *labels = malloc(n * sizeof *labels);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 12, NAVMAP_MANUAL);
    add_range(ix, v, 0, n);
    assert_ok(navmap_flush(ix));
    double fresh = recall_of(ix, q, 100, 10, 40);
    uint64_t most = 0;
    for (uint32_t round = 0; round < 20; round++) {
        /* In another order each time, each label a little elsewhere in its cluster. */
        for (uint32_t i = 0; i < n; i++)
            labels[i] = i;
        for (uint32_t i = n; i > 1; i--) {
            uint32_t j = rng_below(&r, i);
            uint64_t t = labels[i - 1];
            labels[i - 1] = labels[j];
            labels[j] = t;
        }
        float *moved = malloc((size_t)n * DIM * sizeof *moved);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t j = 0; j < DIM; j++)
                moved[i * DIM + j] = v[labels[i] * DIM + j] + 0.1f * rng_normal(&r);
        for (uint32_t done = 0; done < n; done += 250) {
            assert_ok(navmap_add(ix, 250, moved + (size_t)done * DIM, labels + done, NULL, NULL));
            assert_ok(navmap_flush(ix)); /* what is FREE is not used again before the next call */
            check_links(ix, &orphans);
        }
        free(moved);
        struct navmap_stats s = stats_of(ix);
        most = s.nslots > most ? s.nslots : most;
        assert_int_equal(s.n_live, n);
        assert_int_equal(s.n_live + s.n_deleted + s.n_dead + s.n_free, s.nslots - 1);
        check_links(ix, &orphans);
        assert_true(orphans * 200 < n);
    }
    double churned = recall_of(ix, q, 100, 10, 40);
    print_message("recall@10 at ef 40: fresh %.3f, after 20 turnovers %.3f; %llu slots for %u\n",
                  fresh, churned, (unsigned long long)most, n);
    assert_true(churned > fresh - 0.02);
    assert_true(most < n + 4096); /* 1024 dead begin a sweep, which takes n/16 items to finish */
    assert_ok(navmap_close(ix));
    ix = open_index(NAVMAP_READ);
    assert_true(recall_of(ix, q, 100, 10, 40) == churned);
    assert_ok(navmap_close(ix));
    free(v);
    free(q);
    free(labels);
}

/* One slot at a time and durable: the sweep goes on through many small calls. */
static void test_single_updates(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 300, updates = scaled(6000, 4), orphans;
    float *v = random_vectors(&r, n, DIM);
    navmap_index *ix = create_index(DIM, NAVMAP_COSINE, 8, NAVMAP_MANUAL);
    add_range(ix, v, 0, n);
    for (uint32_t i = 0; i < updates; i++) {
        uint64_t label = rng_below(&r, n);
        assert_ok(navmap_add(ix, 1, v + label * DIM, &label, NULL, NULL));
        if (i % 1000 == 999) {
            assert_ok(navmap_flush(ix));
            check_links(ix, &orphans);
            assert_int_equal(orphans, 0);
        }
    }
    assert_ok(navmap_flush(ix));
    assert_true(stats_of(ix).nslots < 2 * 1024 + 3 * n);
    assert_true(recall_of(ix, v, 50, 10, 50) > 0.98);
    assert_ok(navmap_close(ix));
    free(v);
}

/* A sweep that a reopening cuts short begins anew, and the entry survives its slot's death. */
static void test_reopening_in_between(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 1500, orphans;
    float *v = random_vectors(&r, n, DIM), d;
    uint64_t got;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL);
    add_range(ix, v, 0, n);
    for (uint32_t round = 0; round < 12; round++) {
        add_range(ix, v, round % 3 * 400, 400);
        assert_ok(navmap_close(ix));
        ix = open_index(NAVMAP_WRITE);
        check_links(ix, &orphans);
    }
    assert_true(stats_of(ix).nslots < n + 4096);
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 60};
    uint32_t lost = 0;
    for (uint32_t i = 1200; i < n; i++) { /* never updated */
        assert_ok(navmap_search(ix, 1, v + (size_t)i * DIM, 1, &o, &got, &d, NULL));
        lost += got != i && d > 0;
    }
    print_message("%u of 300 not found by their own vector\n", lost);
    assert_true(lost <= 15); /* 3 to 10 over seeds: rows of M = 8 lose in-links to churn */
    assert_ok(navmap_close(ix));
    free(v);
}

/* Deleting does not make slots dead, so nothing is swept: an undelete finds all slots in place. */
static void test_deleted_are_kept(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 3000;
    float *v = random_vectors(&r, n, 4);
    navmap_index *ix = create_index(4, NAVMAP_L2, 4, NAVMAP_MANUAL);
    add_range(ix, v, 0, n);
    for (uint64_t label = 0; label < n; label++)
        assert_ok(navmap_delete(ix, label));
    for (uint64_t label = 0; label < n; label++)
        assert_ok(navmap_undelete(ix, label));
    assert_ok(navmap_flush(ix));
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, n);
    assert_int_equal(s.n_dead + s.n_free + s.n_deleted, 0);
    assert_true(recall_of(ix, v, 50, 10, 100) > 0.97);
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_turnovers),
        CASE(test_single_updates),
        CASE(test_reopening_in_between),
        CASE(test_deleted_are_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
