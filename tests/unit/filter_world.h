/* filter_world.h -- an index, queries and a rule about labels, for tests of filtered searches. */
#ifndef NAVMAP_TESTS_UNIT_FILTER_WORLD_H
#define NAVMAP_TESTS_UNIT_FILTER_WORLD_H

#include <stdatomic.h>

#include "engine/filter.h"
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 12u
#define K 10u
#define NQ 40u

static bool world_in_memory; /* which form of index the tests that run are about */

static UNUSED struct navmap_search_options options(uint32_t ef)
{
    return (struct navmap_search_options){.struct_size = sizeof(struct navmap_search_options),
                                          .ef = ef};
}

/* True for `permille` of all labels; of equal numbers, the same ones. */
static UNUSED bool chosen(uint64_t label, uint32_t permille)
{
    struct rng r = {label};
    return rng_next(&r) % 1000 < permille;
}

struct asking {
    uint32_t permille;
    _Atomic uint64_t asked;
    uint64_t stop_after; /* answers, then -1; 0 = never */
};
static UNUSED int ask(void *ctx, uint64_t label)
{
    struct asking *a = ctx;
    uint64_t n = atomic_fetch_add(&a->asked, 1) + 1;
    if (a->stop_after != 0 && n > a->stop_after)
        return -1;
    return chosen(label, a->permille) ? 7 : 0;
}

struct world {
    navmap_index *ix;
    float *v, *q;
    uint32_t n;
    uint64_t *list; /* of a filter */
    uint64_t n_list;
};

static UNUSED struct world make_world(uint32_t n)
{
    struct rng r = test_rng();
    struct world w = {.n = n};
    w.v = clustered_vectors(&r, n, DIM, 20);
    w.q = clustered_vectors(&r, NQ, DIM, 20);
    w.list = malloc((n + 1) * sizeof *w.list);
    assert_non_null(w.list);
    struct navmap_options o = {.struct_size = sizeof o, .dim = DIM, .M = 8};
    if (world_in_memory)
        assert_ok(navmap_new(&o, &w.ix));
    else
        assert_ok(navmap_create(test_path, &o, &w.ix));
    add_range(w.ix, w.v, 0, n);
    return w;
}
static UNUSED void free_world(struct world *w)
{
    assert_ok(navmap_close(w->ix));
    free(w->v);
    free(w->q);
    free(w->list);
}
static UNUSED void list_chosen(struct world *w, uint32_t permille)
{
    w->n_list = 0;
    for (uint64_t i = 0; i < w->n; i++)
        if (chosen(i, permille))
            w->list[w->n_list++] = i;
}

static UNUSED int run_on_both_forms(const struct CMUnitTest *tests, size_t n)
{
    int failed = 0;
    for (int form = 0; form < 2; form++) {
        world_in_memory = form == 1;
        print_message("%s index\n", world_in_memory ? "private" : "shared");
        failed += _cmocka_run_group_tests("tests", tests, n, NULL, NULL);
    }
    return failed;
}

#endif
