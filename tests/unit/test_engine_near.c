/* test_engine_near.c -- what compaction is for beside room: neighbours on few pages, whatever the
 * number of threads, and links from cluster to cluster that outlast those who had them. */
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 48u
#define N 6000u
#define CLUSTERS 120u /* item i is in cluster i % CLUSTERS: insertion order has none together */
#define PAGE 4096u

static struct rng rng;

static navmap_index *make(void)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .M = 8,
                               .ef_construction = 60,
                               .codes = NAVMAP_CODES_I8};
    struct navmap_add_options add = {.struct_size = sizeof add, .num_threads = 1};
    navmap_index *ix = NULL;
    float *v = malloc(N * DIM * sizeof *v);
    float centre[CLUSTERS][DIM];
    for (uint32_t i = 0; i < CLUSTERS * DIM; i++)
        centre[i / DIM][i % DIM] = 2 * rng_normal(&rng);
    for (uint32_t i = 0; i < N * DIM; i++)
        v[i] = centre[i / DIM % CLUSTERS][i % DIM] + rng_normal(&rng);
    assert_ok(navmap_new(&o, &ix));
    assert_ok(navmap_add(ix, N, v, NULL, &add, NULL));
    free(v);
    return ix;
}

struct spread {
    double pages;   /* that the codes of a row and its own lie on */
    double outward; /* links of a row to other clusters */
};

static struct spread spread_of(navmap_index *ix)
{
    struct view *v;
    uint64_t pages = 0, outward = 0, rows = 0;
    assert_ok(store_view_begin(ix->store, &v));
    uint64_t *seen = calloc((size_t)view_slots(v), sizeof *seen);
    for (uint32_t slot = 1; slot < view_slots(v); slot++) {
        uint32_t at[65] = {slot}, n = 1;
        if (STATE_STATUS(*view_state(v, slot)) != SLOT_LIVE)
            continue;
        for (uint32_t i = 0; i < v->layout.M0 && view_row(v, slot)[i] != 0; i++)
            at[n++] = view_row(v, slot)[i];
        rows++;
        for (uint32_t i = 0; i < n; i++) {
            uint64_t page = layout_code_off(&v->layout, at[i]) / PAGE;
            page -= layout_code_off(&v->layout, 0) / PAGE;
            assert_true(page < view_slots(v)); /* one chunk */
            pages += seen[page] != slot;
            seen[page] = slot;
            outward += view_tag_label(v, at[i]) % CLUSTERS != view_tag_label(v, slot) % CLUSTERS;
        }
    }
    free(seen);
    store_view_end(ix->store, v);
    return (struct spread){(double)pages / (double)rows, (double)outward / (double)rows};
}

static navmap_index *compacted(navmap_index *ix, const char *name, uint32_t threads,
                               uint32_t keep_order, uint32_t refine)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s.%s", test_path, name);
    struct navmap_compact_options o = {.struct_size = sizeof o,
                                       .num_threads = threads,
                                       .keep_order = keep_order,
                                       .refine = refine,
                                       .output = path};
    navmap_index *made = NULL;
    assert_ok(navmap_compact(ix, &o, NULL));
    assert_ok(navmap_load(path, NULL, &made));
    return made;
}

static void test_pages(void **state)
{
    (void)state;
    navmap_index *ix = make();
    navmap_index *kept = compacted(ix, "kept", 1, 1, 0), *near = compacted(ix, "near", 1, 0, 0);
    struct spread before = spread_of(kept), after = spread_of(near);
    print_message("pages of a row: %.2f, ordered %.2f\n", before.pages, after.pages);
    assert_true(after.pages < before.pages / 2);
    assert_true(after.outward == before.outward); /* the graph is the same */
    assert_ok(navmap_close(kept));
    assert_ok(navmap_close(near));
    assert_ok(navmap_close(ix));
}

/* Slot by slot, what is on level 0. */
static void assert_same(navmap_index *a, navmap_index *b)
{
    struct view *v, *w;
    assert_ok(store_view_begin(a->store, &v));
    assert_ok(store_view_begin(b->store, &w));
    assert_int_equal(view_slots(v), view_slots(w));
    for (uint32_t slot = 1; slot < view_slots(v); slot++) {
        assert_int_equal(view_tag_label(v, slot), view_tag_label(w, slot));
        assert_int_equal(view_tag_up(v, slot), view_tag_up(w, slot));
        for (uint32_t i = 0; i < v->layout.M0; i++)
            assert_int_equal(view_row(v, slot)[i], view_row(w, slot)[i]);
    }
    store_view_end(a->store, v);
    store_view_end(b->store, w);
}

static void test_threads(void **state)
{
    (void)state;
    navmap_index *ix = make();
    for (uint64_t label = 0; label < N; label += 3)
        assert_ok(navmap_delete(ix, label));
    for (uint32_t refine = 0; refine < 2; refine++) {
        navmap_index *one = compacted(ix, refine ? "one+" : "one", 1, 0, refine);
        navmap_index *four = compacted(ix, refine ? "four+" : "four", 4, 0, refine);
        assert_same(one, four);
        assert_ok(navmap_close(one));
        assert_ok(navmap_close(four));
    }
    assert_ok(navmap_close(ix));
}

/* A third of all are gone: rows lead to other clusters as often as before. */
static void test_outward(void **state)
{
    (void)state;
    navmap_index *ix = make();
    struct spread before = spread_of(ix);
    for (uint64_t i = 0; i < N / 3; i++)
        assert_ok(navmap_delete(ix, i * 3 + rng_below(&rng, 3)));
    navmap_index *made = compacted(ix, "mended", 1, 0, 0);
    struct spread after = spread_of(made);
    print_message("links to other clusters: %.2f, mended %.2f\n", before.outward, after.outward);
    assert_true(after.outward > before.outward);
    assert_ok(navmap_close(made));
    assert_ok(navmap_close(ix));
}

static int begin(void **state)
{
    (void)state;
    rng = test_rng();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pages, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_threads, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_outward, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
