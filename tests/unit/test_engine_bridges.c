/* test_engine_bridges.c -- what a slot leaves behind that is marked or dies: its neighbours name
 * each other, most links to it are gone before any sweep, rows do not fill up with links that are
 * worth little, and nobody is named by fewer (ways.h, W2; repair.c, R1).
 */
#include "engine/index.h"
#include "engine/navmap_vacuum.h"
#include "tests/support/engine.h"

#define DIM 16u
#define LINKS 12u

/* Of the links on level 0 between slots in use that are not DELETED or DEAD. */
struct links {
    uint64_t live, n, to_gone, mutual, few; /* few: live slots that less than half of M name */
};

static bool names(const struct view *v, uint32_t slot, uint32_t id, uint32_t width)
{
    for (uint32_t i = 0; i < width; i++)
        if (view_row(v, slot)[i] == id)
            return true;
    return false;
}

static bool lives(const struct view *v, uint32_t slot)
{
    return STATE_STATUS(*view_state(v, slot)) == SLOT_LIVE;
}

static struct links count_links(navmap_index *ix)
{
    struct links c = {0};
    struct view *v;
    assert_ok(store_view_begin(ix->store, &v));
    const uint32_t nslots = extent_slots(view_root(v)->extent), width = ix->layout->M0;
    uint32_t *in = calloc(nslots, sizeof *in);
    assert_non_null(in);
    for (uint32_t slot = 1; slot < nslots; slot++)
        for (uint32_t i = 0; lives(v, slot) && i < width; i++) {
            const uint32_t id = view_row(v, slot)[i];
            if (id == 0)
                continue;
            assert_int_not_equal(id, slot);
            for (uint32_t j = 0; j < i; j++)
                assert_int_not_equal(view_row(v, slot)[j], id);
            c.n++;
            c.to_gone += !lives(v, id);
            c.mutual += lives(v, id) && names(v, id, slot, width);
            in[id]++;
        }
    for (uint32_t slot = 1; slot < nslots; slot++) {
        c.live += lives(v, slot);
        c.few += lives(v, slot) && in[slot] < ix->layout->M / 2;
    }
    free(in);
    store_view_end(ix->store, v);
    return c;
}

static void assert_all_reached(navmap_index *ix)
{
    struct navmap_check_result c = {.struct_size = sizeof c};
    assert_ok(navmap_check(ix, NULL, NULL, &c));
    assert_int_equal(c.damaged, 0);
    assert_int_equal(c.reachable, c.live);
    assert_int_equal(c.no_in_links, 0);
}

/* No longer rows than the heuristic makes, and not much shorter ones. */
static void assert_links_as_before(const struct links *before, const struct links *after)
{
    assert_true(after->n * before->live <= before->n * after->live);
    assert_true((after->n - after->to_gone) * before->live * 20 > before->n * after->live * 17);
}

static void say(const char *what, const struct links *c)
{
    print_message("%s: %.2f links, %.1f %% to what is gone, %.1f %% of the others both ways, %llu "
                  "of %llu named by few\n",
                  what, (double)c->n / (double)c->live, 100.0 * (double)c->to_gone / (double)c->n,
                  100.0 * (double)c->mutual / (double)(c->n - c->to_gone),
                  (unsigned long long)c->few, (unsigned long long)c->live);
}

static navmap_index *make(bool shared, const float *v, uint32_t n)
{
    const struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = LINKS, .space = NAVMAP_L2};
    navmap_index *ix = NULL;
    if (shared)
        ix = create_index(DIM, NAVMAP_L2, LINKS, NAVMAP_MANUAL);
    else
        assert_ok(navmap_new(&o, &ix));
    add_range(ix, v, 0, n);
    return ix;
}

static void settle(navmap_index *ix, bool shared)
{
    if (shared)
        assert_ok(navmap_flush(ix));
}

/* Three of ten. */
static void marked(bool shared)
{
    struct rng r = test_rng();
    const uint32_t n = scaled(3000, 2);
    float *v = clustered_vectors(&r, n, DIM, 30);
    navmap_index *ix = make(shared, v, n);
    settle(ix, shared);
    const struct links before = count_links(ix);
    for (uint64_t label = 0; label < n; label++)
        if (label % 10 < 3)
            assert_ok(navmap_delete(ix, label));
    settle(ix, shared);
    const struct links after = count_links(ix);
    say("marked", &after);
    assert_all_reached(ix);
    assert_true(after.to_gone * 10 < after.n);
    assert_links_as_before(&before, &after);
    for (uint64_t label = 0; label < n; label++)
        if (label % 10 < 3)
            assert_ok(navmap_undelete(ix, label));
    settle(ix, shared);
    const struct links again = count_links(ix);
    say("back", &again);
    assert_all_reached(ix);
    assert_true(recall_of(ix, v, 100, 10, 60) > 0.97);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_marked(void **state)
{
    (void)state;
    marked(false);
}

static void test_marked_shared(void **state)
{
    (void)state;
    marked(true);
}

/* What a vacuum fills rows up with goes both ways, as far as there is room. */
static void test_filled(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(3000, 2);
    float *v = clustered_vectors(&r, n, DIM, 30);
    navmap_index *ix = make(false, v, n);
    for (uint64_t label = 0; label < n; label++)
        if (label % 4 == 0)
            assert_ok(navmap_delete(ix, label));
    struct navmap_vacuum_result result = {.struct_size = sizeof result};
    assert_ok(navmap_vacuum(ix, NULL, &result));
    assert_int_equal(result.linked_anew, 0);
    const struct links c = count_links(ix);
    say("filled", &c);
    assert_all_reached(ix);
    assert_int_equal(c.to_gone, 0);
    assert_true(c.mutual * 100 > c.n * 87);
    assert_ok(navmap_close(ix));
    free(v);
}

/* As many as die before a sweep begins. */
static void test_updated(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = 3000;
    float *v = clustered_vectors(&r, n, DIM, 30);
    navmap_index *ix = make(false, v, n);
    for (uint64_t label = 0; label < 1000; label++)
        assert_ok(navmap_add(ix, 1, v + label * DIM, &label, NULL, NULL));
    assert_int_equal(stats_of(ix).n_dead, 1000);
    const struct links c = count_links(ix);
    say("updated", &c);
    assert_all_reached(ix);
    assert_true(c.to_gone * 10 < c.n);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Swept again and again: the number of those whom few name stays what it was. */
static void test_swept(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(4000, 2);
    float *v = clustered_vectors(&r, n, DIM, 30);
    navmap_index *ix = make(false, v, n);
    const struct links before = count_links(ix);
    say("new", &before);
    for (uint32_t turnover = 0; turnover < 4; turnover++)
        for (uint64_t i = 0; i < n; i++) {
            const uint64_t label = (i * 1237) % n;
            assert_ok(navmap_add(ix, 1, v + label * DIM, &label, NULL, NULL));
        }
    const struct links after = count_links(ix);
    say("replaced four times", &after);
    assert_all_reached(ix);
    assert_links_as_before(&before, &after);
    assert_true(after.few <= before.few + n / 50);
    assert_true((after.n - after.to_gone) * 7 < after.mutual * 10);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Rows with more neighbours than are tried, and as many rows changed as an item may. */
static void test_wide_rows(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = 600;
    float *v = random_vectors(&r, n, DIM);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 128, NAVMAP_MANUAL);
    add_range(ix, v, 0, n);
    for (uint64_t label = 0; label < n; label += 3)
        assert_ok(navmap_delete(ix, label));
    for (uint64_t label = 1; label < n; label += 3)
        assert_ok(navmap_add(ix, 1, v + label * DIM, &label, NULL, NULL));
    assert_ok(navmap_flush(ix));
    assert_all_reached(ix);
    assert_true(recall_of(ix, v, 50, 10, 100) > 0.99);
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_marked),  CASE(test_marked_shared), CASE(test_filled),
        CASE(test_updated), CASE(test_swept),         CASE(test_wide_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
