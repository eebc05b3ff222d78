/* test_engine_vacuum.c -- navmap_vacuum: nothing that is gone is linked to, all that lives is
 * found, and what was deleted can come back.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "engine/index.h"
#include "engine/navmap_vacuum.h"
#include "engine/repair.h"
#include "tests/support/engine.h"

#define DIM 16u

static navmap_index *make(bool shared, uint32_t n, uint32_t M)
{
    if (shared)
        return create_index(DIM, NAVMAP_L2, M, NAVMAP_FULL);
    const struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = M, .max_elements = n, .allow_replace_deleted = 1};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    return ix;
}

static struct navmap_vacuum_result vacuum(navmap_index *ix)
{
    struct navmap_vacuum_result r = {.struct_size = sizeof r};
    assert_ok(navmap_vacuum(ix, NULL, &r));
    return r;
}

/* Links of LIVE slots that lead to a slot which is not LIVE, on all levels. */
static uint64_t links_to_gone(navmap_index *ix)
{
    struct view *v;
    uint64_t n = 0;
    assert_ok(store_view_begin(ix->store, &v));
    const struct layout *l = ix->layout;
    uint32_t nslots = extent_slots(view_root(v)->extent);
    for (uint32_t slot = 1; slot < nslots; slot++) {
        if (STATE_STATUS(*view_state(v, slot)) != SLOT_LIVE)
            continue;
        uint32_t up = view_tag(v, slot)->up;
        for (uint32_t level = 0; level <= TAG_LEVEL(up); level++) {
            const _Atomic uint32_t *row =
                level == 0 ? view_row(v, slot) : view_upper(v, TAG_CELL(up) + level - 1);
            for (uint32_t i = 0; i < (level == 0 ? l->M0 : l->M); i++)
                n += row[i] != 0 && STATE_STATUS(*view_state(v, row[i])) != SLOT_LIVE;
        }
    }
    uint32_t entry = (uint32_t)view_root(v)->entry;
    n += entry != 0 && STATE_STATUS(*view_state(v, entry)) != SLOT_LIVE;
    store_view_end(ix->store, v);
    return n;
}

/* Sound, and every live item is reached and named. */
static void assert_sound(navmap_index *ix)
{
    struct navmap_check_result c = {.struct_size = sizeof c};
    assert_ok(navmap_check(ix, NULL, NULL, &c));
    assert_int_equal(c.damaged, 0);
    assert_int_equal(c.reachable, c.live);
    assert_int_equal(c.no_in_links, 0);
}

static void delete_share(navmap_index *ix, struct rng *r, uint32_t n, uint32_t percent, bool *gone)
{
    for (uint64_t label = 0; label < n; label++)
        if (!gone[label] && rng_below(r, 100) < percent) {
            assert_ok(navmap_delete(ix, label));
            gone[label] = true;
        }
}

/* Of the living; each is its own nearest. */
static void assert_all_found(navmap_index *ix, const float *v, uint32_t n, const bool *gone)
{
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 60};
    uint32_t lost = 0, living = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint64_t got;
        float d;
        if (gone[i])
            continue;
        living++;
        assert_ok(navmap_search(ix, 1, v + (size_t)i * DIM, 1, &o, &got, &d, NULL));
        lost += got != i;
    }
    assert_true(lost * 200 <= living);
}

/* What share of them goes: few, so that rows are repaired, and many, so that they are made anew. */
static void go_away(bool shared, uint32_t percent, bool anew)
{
    struct rng r = test_rng();
    uint32_t n = scaled(3000, 3), living = 0;
    float *v = clustered_vectors(&r, n, DIM, 30), *q = clustered_vectors(&r, 100, DIM, 30);
    bool *gone = calloc(n, sizeof *gone);
    navmap_index *ix = make(shared, n, 12), *fresh = make(false, n, 12);
    add_range(ix, v, 0, n);
    delete_share(ix, &r, n, percent, gone);
    for (uint64_t label = 0; label < n; label++) {
        living += !gone[label];
        if (!gone[label])
            assert_ok(navmap_add(fresh, 1, v + label * DIM, &label, NULL, NULL));
    }
    assert_true(links_to_gone(ix) > 0);
    struct navmap_vacuum_result result = vacuum(ix);
    assert_int_equal(result.linked_anew, anew);
    assert_true(result.rows_repaired > 0);
    assert_int_equal(links_to_gone(ix), 0);
    assert_sound(ix);
    assert_all_found(ix, v, n, gone);
    double after = recall_of(ix, q, 100, 10, 30), of_fresh = recall_of(fresh, q, 100, 10, 30);
    print_message("%u %% gone: recall@10 at ef 30 %.3f, built anew %.3f\n", percent, after,
                  of_fresh);
    assert_true(after > of_fresh - 0.015);
    /* Nothing is left to do. */
    result = vacuum(ix);
    assert_int_equal(result.rows_repaired, 0);
    assert_int_equal(result.linked_anew, 0);
    assert_int_equal(stats_of(ix).n_live, living);

    /* All of them come back, are found by themselves, and linked by others. */
    for (uint64_t label = 0; label < n; label++)
        if (gone[label])
            assert_ok(navmap_undelete(ix, label));
    memset(gone, 0, n * sizeof *gone);
    assert_sound(ix);
    assert_all_found(ix, v, n, gone);
    assert_true(recall_of(ix, q, 100, 10, 30) > of_fresh - 0.03);
    assert_ok(navmap_close(ix));
    assert_ok(navmap_close(fresh));
    free(v);
    free(q);
    free(gone);
}

static void test_few_go(void **state)
{
    (void)state;
    go_away(false, 15, false);
}
static void test_many_go(void **state)
{
    (void)state;
    go_away(false, 90, true);
}
static void test_few_go_shared(void **state)
{
    (void)state;
    go_away(true, 15, false);
}
static void test_many_go_shared(void **state)
{
    (void)state;
    go_away(true, 60, true);
}

/* Slots of updated items are free, and used again: no more of them than before. */
static void test_slots_are_freed(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(2000, 2);
    float *v = clustered_vectors(&r, n, DIM, 30);
    for (int shared = 0; shared < 2; shared++) {
        navmap_index *ix = make(shared, n, 8);
        add_range(ix, v, 0, n);
        uint64_t most = 0;
        for (uint32_t round = 0; round < 6; round++) {
            add_range(ix, v, 0, 500);
            uint64_t dead = stats_of(ix).n_dead;
            struct navmap_vacuum_result result = vacuum(ix);
            assert_int_equal(result.slots_freed, dead);
            assert_int_equal(stats_of(ix).n_dead, 0);
            assert_int_equal(links_to_gone(ix), 0);
            assert_sound(ix);
            most = round == 0 ? stats_of(ix).nslots : most;
            assert_int_equal(stats_of(ix).nslots, most);
        }
        assert_ok(navmap_close(ix));
    }
    free(v);
}

/* Nothing live at all, then everything again; with a reopening in between. */
static void test_all_go(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 400;
    float *v = random_vectors(&r, n, DIM), d;
    uint64_t got;
    bool *gone = calloc(n, sizeof *gone);
    navmap_index *ix = make(true, n, 8);
    add_range(ix, v, 0, n);
    delete_share(ix, &r, n, 100, gone);
    vacuum(ix);
    const struct navmap_search_options o = {.struct_size = sizeof o};
    assert_status(navmap_search(ix, 1, v, 1, &o, &got, &d, NULL), NAVMAP_EFEWER);
    assert_ok(navmap_close(ix));
    ix = open_index(NAVMAP_WRITE);
    for (uint64_t label = 0; label < n; label++) {
        assert_ok(navmap_undelete(ix, label));
        gone[label] = false;
        if (label % 100 == 0)
            assert_sound(ix);
    }
    assert_sound(ix);
    assert_all_found(ix, v, n, gone);
    assert_ok(navmap_close(ix));
    free(v);
    free(gone);
}

/* ROOT says how many deleted items searches need not reckon with, and never too many. */
static void assert_apart(navmap_index *ix, const float *v, uint32_t n)
{
    const struct navmap_compact_options o = {.struct_size = sizeof o};
    for (uint64_t label = 0; label < 100; label++)
        assert_ok(navmap_delete(ix, label));
    assert_int_equal(store_root(ix->store).n_apart, 0);
    vacuum(ix);
    assert_int_equal(store_root(ix->store).n_apart, 100);
    assert_ok(navmap_undelete(ix, 7));
    assert_ok(navmap_delete(ix, n - 1));
    assert_int_equal(store_root(ix->store).n_apart, 99);
    uint64_t label = 8;
    assert_ok(navmap_add(ix, 1, v, &label, NULL, NULL));
    assert_int_equal(store_root(ix->store).n_apart, 98);
    assert_ok(navmap_compact(ix, &o, NULL));
    assert_int_equal(store_root(ix->store).n_apart, 0);
    assert_sound(ix);
}

/* Deleted items that nobody names, through a save, a load and a compaction. */
static void test_other_forms(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(2000, 2);
    char file[128];
    float *v = clustered_vectors(&r, n, DIM, 30);
    bool *gone = calloc(n, sizeof *gone);
    navmap_index *ix = make(true, n, 8), *loaded = NULL;
    add_range(ix, v, 0, n);
    delete_share(ix, &r, n, 50, gone);
    vacuum(ix);
    (void)snprintf(file, sizeof file, "%s/saved", test_dir);
    assert_ok(navmap_save(ix, file));
    const struct navmap_load_options lo = {.struct_size = sizeof lo};
    assert_ok(navmap_load(file, &lo, &loaded));
    const struct navmap_compact_options co = {.struct_size = sizeof co, .keep_deleted = 1};
    assert_ok(navmap_compact(ix, &co, NULL));
    assert_int_equal(links_to_gone(ix), 0);
    navmap_index *both[2] = {ix, loaded};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(links_to_gone(both[i]), 0);
        assert_sound(both[i]);
        assert_int_equal(store_root(both[i]->store).n_apart, 0); /* nobody looked */
        bool all[4000] = {false};
        for (uint64_t label = 0; label < n; label++)
            if (gone[label])
                assert_ok(navmap_undelete(both[i], label));
        assert_sound(both[i]);
        assert_all_found(both[i], v, n, all);
        assert_apart(both[i], v, n);
        assert_ok(navmap_close(both[i]));
    }
    free(v);
    free(gone);
}

static int stop_after(void *ctx, uint64_t done, uint64_t total)
{
    (void)total;
    return done > 0 && --*(int *)ctx < 0;
}

/* Whenever it is stopped: what is there is sound, and the next one ends the work. */
static void test_stopped(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(6000, 2);
    float *v = clustered_vectors(&r, n, DIM, 30);
    for (uint32_t percent = 10; percent < 100; percent += 60) {
        bool *gone = calloc(n, sizeof *gone);
        navmap_index *ix = make(false, n, 4);
        add_range(ix, v, 0, n);
        delete_share(ix, &r, n, percent, gone);
        int left = 0;
        const struct navmap_vacuum_options o = {
            .struct_size = sizeof o, .progress = stop_after, .progress_ctx = &left};
        navmap_status status = navmap_vacuum(ix, &o, NULL); /* quick ones are never asked */
        assert_true(status == NAVMAP_EINTERRUPTED || status == NAVMAP_OK);
        struct navmap_check_result c = {.struct_size = sizeof c};
        assert_ok(navmap_check(ix, NULL, NULL, &c));
        assert_int_equal(c.damaged, 0);
        vacuum(ix);
        assert_int_equal(links_to_gone(ix), 0);
        assert_sound(ix);
        assert_all_found(ix, v, n, gone);
        assert_ok(navmap_close(ix));
        free(gone);
    }
    free(v);
}

struct beside {
    navmap_index *ix;
    const float *v;
    uint32_t n;
    _Atomic bool end;
    _Atomic uint64_t failed, searches, added;
};

static void *search_beside(void *ctx)
{
    struct beside *b = ctx;
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 40};
    for (uint32_t i = 0; !b->end; i = (i + 7) % b->n) {
        uint64_t got[10];
        float d[10];
        b->failed += navmap_search(b->ix, 1, b->v + (size_t)i * DIM, 10, &o, got, d, NULL) != 0;
        b->searches++;
    }
    return NULL;
}

static void *add_beside(void *ctx)
{
    struct beside *b = ctx;
    for (uint64_t label = 0; !b->end; label = (label + 1) % (b->n / 4)) {
        b->failed += navmap_add(b->ix, 1, b->v + label * DIM, &label, NULL, NULL) != 0;
        b->added++;
    }
    return NULL;
}

/* Searches and updates go on beside it; two vacuums at once do no harm either. */
static void test_beside_others(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(4000, 4), rounds = scaled(8, 4);
    float *v = clustered_vectors(&r, n, DIM, 30);
    for (int shared = 0; shared < 2; shared++) {
        navmap_index *ix = make(shared, n, 8);
        bool *gone = calloc(n, sizeof *gone);
        add_range(ix, v, 0, n);
        struct beside b[2] = {{.ix = ix, .v = v, .n = n}, {.ix = ix, .v = v, .n = n}};
        pthread_t threads[2];
        assert_int_equal(pthread_create(&threads[0], NULL, search_beside, &b[0]), 0);
        assert_int_equal(pthread_create(&threads[1], NULL, add_beside, &b[1]), 0);
        while (b[0].searches == 0 || b[1].added == 0)
            (void)usleep(1000);
        for (uint32_t round = 0; round < rounds; round++) {
            for (uint64_t label = n / 4; label < n; label++)
                if (rng_below(&r, 10) == 0) {
                    gone[label] = !gone[label];
                    assert_ok(gone[label] ? navmap_delete(ix, label) : navmap_undelete(ix, label));
                }
            vacuum(ix);
        }
        b[0].end = b[1].end = true;
        for (int i = 0; i < 2; i++) {
            assert_int_equal(pthread_join(threads[i], NULL), 0);
            assert_int_equal(b[i].failed, 0);
        }
        vacuum(ix);
        assert_int_equal(links_to_gone(ix), 0);
        assert_sound(ix);
        assert_all_found(ix, v, n, gone);
        assert_ok(navmap_close(ix));
        (void)remove_dir(NULL);
        (void)make_dir(NULL);
        free(gone);
    }
    free(v);
}

static void test_refused(void **state)
{
    (void)state;
    float v[DIM] = {1};
    uint64_t label = 3;
    struct navmap_vacuum_result result = {.struct_size = 4};
    const struct navmap_vacuum_options o = {.struct_size = 4};
    assert_status(navmap_vacuum(NULL, NULL, NULL), NAVMAP_EINVAL);
    navmap_index *ix = make(true, 10, 8);
    assert_ok(navmap_vacuum(ix, NULL, NULL)); /* empty */
    assert_ok(navmap_add(ix, 1, v, &label, NULL, NULL));
    assert_status(navmap_vacuum(ix, &o, NULL), NAVMAP_EINVAL);
    assert_status(navmap_vacuum(ix, NULL, &result), NAVMAP_EINVAL);
    assert_ok(navmap_close(ix));
    ix = open_index(NAVMAP_READ);
    assert_status(navmap_vacuum(ix, NULL, NULL), NAVMAP_EREADONLY);
    assert_ok(navmap_close(ix));
    const struct navmap_options flat = {.struct_size = sizeof flat, .dim = DIM, .flat = 1};
    assert_ok(navmap_new(&flat, &ix));
    assert_ok(navmap_add(ix, 1, v, &label, NULL, NULL));
    assert_int_equal(vacuum(ix).rows_repaired, 0);
    assert_ok(navmap_close(ix));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_few_go),         CASE(test_many_go), CASE(test_few_go_shared),
        CASE(test_many_go_shared), CASE(test_all_go),  CASE(test_slots_are_freed),
        CASE(test_other_forms),    CASE(test_stopped), CASE(test_beside_others),
        CASE(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
