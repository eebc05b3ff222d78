/* test_engine_select.c -- the neighbour heuristic against its definition, copies or not. */
#include "engine/select.h"

#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 3u

static float between(const struct graph *g, uint32_t a, uint32_t b)
{
    const struct target to = graph_target_node(g, a, g->pair);
    return graph_distance(g, &to, b);
}

/* Candidates of `slot`: all other slots, nearest first. */
static uint32_t candidates(const struct graph *g, uint32_t slot, uint32_t n, struct near *ret)
{
    uint32_t m = 0;
    for (uint32_t id = 1; id <= n; id++)
        if (id != slot)
            ret[m++] = (struct near){between(g, slot, id), id};
    select_sort(ret, m);
    return m;
}

static bool chosen_has(const struct near *chosen, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (chosen[i].id == id)
            return true;
    return false;
}

/* Each candidate's verdict follows from those chosen before it; copies but the first come last. */
static void check_choice(const struct graph *g, uint32_t slot, const struct near *near, uint32_t n,
                         uint32_t max, const struct near *chosen, uint32_t taken)
{
    uint32_t diverse = 0, copies = 0, chosen_copies = 0, aside = 0, share = (max + 7) / 8;
    float self = between(g, slot, slot);
    assert_true(taken <= max);
    for (uint32_t i = 0; i < n; i++)
        aside += near[i].dist == self;
    aside -= aside > 0;
    uint32_t limit = max - (aside < share ? aside : share);
    for (uint32_t i = 0; i < n && diverse < limit; i++) {
        bool nearer = false;
        for (uint32_t j = 0; j < diverse; j++)
            nearer |= between(g, near[i].id, chosen[j].id) < near[i].dist;
        if (near[i].dist == self && copies++ > 0)
            continue;
        if (nearer) {
            assert_false(chosen_has(chosen, taken, near[i].id));
        } else {
            assert_int_equal(chosen[diverse].id, near[i].id);
            diverse++;
        }
    }
    for (uint32_t i = diverse; i < taken; i++) {
        assert_true(chosen[i].dist == self);
        chosen_copies++;
    }
    assert_int_equal(chosen_copies, aside < max - diverse ? aside : max - diverse);
}

static void run(navmap_index *ix, uint32_t n)
{
    struct graph g;
    struct near near[400], aside[400], chosen[400];
    assert_ok(store_write_begin(ix->store, 0));
    struct scratch *s = NULL;
    assert_ok(scratch_take(&ix->shelf, ix->layout, &s));
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    for (uint32_t slot = 1; slot <= n; slot += 7)
        for (uint32_t max = 1; max <= 40; max += 3) {
            uint32_t m = candidates(&g, slot, n, near);
            uint32_t taken = select_diverse(&g, slot, near, m, 0, max, aside, chosen);
            check_choice(&g, slot, near, m, max, chosen, taken);
            /* S3: the choice as it was, then the nearest of the others, as many as it takes. */
            struct near more[400];
            uint32_t least = max - max / 4;
            uint32_t filled = select_diverse(&g, slot, near, m, least, max, aside, more);
            assert_int_equal(filled, taken > least || m < max ? taken : least);
            assert_memory_equal(more, chosen, taken * sizeof *more);
            for (uint32_t i = taken, j = 0; i < filled; i++, j++) {
                while (chosen_has(chosen, taken, near[j].id))
                    j++;
                assert_int_equal(more[i].id, near[j].id);
            }
            uint32_t few = select_diverse(&g, slot, near, max - 1, 0, max, aside, chosen);
            assert_int_equal(few, max - 1); /* fewer than max: all */
            uint32_t again = select_diverse(&g, slot, near, m, 0, max, aside, near); /* in place */
            assert_int_equal(again, taken);
        }
    scratch_give(&ix->shelf, s);
    store_write_end(ix->store);
}

static void test_random(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 300, DIM);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL);
    add_range(ix, v, 0, 300);
    run(ix, 300);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Points of a small lattice: copies and equal distances everywhere. */
static void test_copies(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float v[300 * DIM];
    for (uint32_t i = 0; i < 300 * DIM; i++)
        v[i] = (float)rng_below(&r, 4);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 8, NAVMAP_FULL);
    add_range(ix, v, 0, 300);
    run(ix, 300);
    assert_ok(navmap_close(ix));
}

/* Inner products: a few long vectors are everybody's nearest, and each other's.  The short ones are
 * found all the same, since rows are filled (S3). */
static void test_inner_products(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 1000, DIM), *q = random_vectors(&r, 100, DIM);
    for (uint32_t i = 0; i < 1000 * DIM; i++)
        v[i] = fabsf(v[i]);
    for (uint32_t i = 0; i < 100 * DIM; i++)
        q[i] = fabsf(q[i]);
    navmap_index *ix = create_index(DIM, NAVMAP_IP, 16, NAVMAP_MANUAL);
    add_range(ix, v, 0, 1000);
    assert_ok(navmap_flush(ix));
    assert_true(recall_of(ix, q, 100, 10, 200) > 0.995);
    assert_ok(navmap_close(ix));
    free(v);
    free(q);
}

/* A row with room for four: copies of the node itself do not push the one other direction out. */
static void test_copies_do_not_absorb(void **state)
{
    (void)state;
    float v[40 * DIM] = {0};
    v[39 * DIM] = 1; /* slot 40 lies apart */
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 2, NAVMAP_FULL);
    add_range(ix, v, 0, 40);
    struct graph g;
    struct near near[40], aside[40], chosen[40];
    assert_ok(store_write_begin(ix->store, 0));
    struct scratch *s = NULL;
    assert_ok(scratch_take(&ix->shelf, ix->layout, &s));
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    uint32_t m = candidates(&g, 1, 40, near);
    uint32_t taken = select_diverse(&g, 1, near, m, 0, 4, aside, chosen);
    assert_int_equal(taken, 4);
    assert_true(chosen_has(chosen, taken, 40));
    scratch_give(&ix->shelf, s);
    store_write_end(ix->store);
    assert_ok(navmap_close(ix));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_copies, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_copies_do_not_absorb, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_inner_products, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
