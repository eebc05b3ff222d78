/* test_engine_places.c -- a large addition lies by what is near, and is the same graph. */
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 1000u
#define CLUSTERS 40u
#define ROWS 2000u /* codes of 1,008 or 1,024 bytes: 1,041 rows are large, ... */
#define FEW 500u   /* ... and these are not */

static struct rng rng;
static float *vectors; /* row i is near centre i % CLUSTERS */

static int make_vectors(void **state)
{
    (void)state;
    float *centres = random_vectors(&rng, CLUSTERS, DIM);
    vectors = random_vectors(&rng, ROWS, DIM);
    for (uint32_t i = 0; i < ROWS; i++)
        for (uint32_t j = 0; j < DIM; j++)
            vectors[i * DIM + j] = centres[i % CLUSTERS * DIM + j] + 0.3f * vectors[i * DIM + j];
    free(centres);
    return 0;
}

static int free_vectors(void **state)
{
    (void)state;
    free(vectors);
    return 0;
}

static struct navmap_options options_of(uint32_t space, uint32_t codes)
{
    return (struct navmap_options){.struct_size = sizeof(struct navmap_options),
                                   .dim = DIM,
                                   .space = space,
                                   .M = 5,
                                   .ef_construction = 20,
                                   .codes = codes};
}

static navmap_index *make(uint32_t space, uint32_t codes)
{
    const struct navmap_options o = options_of(space, codes);
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    return ix;
}

static uint64_t add(navmap_index *ix, uint32_t from, uint32_t n,
                    const struct navmap_add_options *options, navmap_status expected)
{
    uint64_t labels[ROWS], added;
    for (uint32_t i = 0; i < n; i++)
        labels[i] = from + i;
    assert_status(navmap_add(ix, n, vectors + (size_t)from * DIM, labels, options, &added),
                  expected);
    return added;
}

/* The row of each label on level 0 as labels, where nobody is ROWS. */
static uint64_t *rows_by_label(navmap_index *ix)
{
    struct view *v;
    assert_ok(store_view_begin(ix->store, &v));
    const uint32_t M0 = v->layout.M0, nslots = extent_slots(store_root(ix->store).extent);
    uint64_t *rows = malloc((size_t)ROWS * M0 * sizeof *rows);
    for (uint32_t slot = 1; slot < nslots; slot++) {
        const uint64_t label = view_tag_label(v, slot);
        assert_true(label < ROWS);
        for (uint32_t i = 0; i < M0; i++) {
            const uint32_t id = view_row(v, slot)[i];
            rows[label * M0 + i] = id ? view_tag_label(v, id) : ROWS;
        }
    }
    store_view_end(ix->store, v);
    return rows;
}

/* Of 1,999 pairs of neighbours in the file, how many are of one cluster?  By chance 50. */
static uint32_t pairs(navmap_index *ix)
{
    struct view *v;
    uint32_t count = 0;
    assert_ok(store_view_begin(ix->store, &v));
    for (uint32_t slot = 1; slot < ROWS; slot++)
        count += view_tag_label(v, slot) % CLUSTERS == view_tag_label(v, slot + 1) % CLUSTERS;
    store_view_end(ix->store, v);
    return count;
}

static void test_same_graph(void **state)
{
    (void)state;
    for (uint32_t space = NAVMAP_L2; space <= NAVMAP_COSINE; space++)
        for (uint32_t codes = NAVMAP_CODES_I8; codes <= NAVMAP_CODES_NONE; codes++) {
            navmap_index *a = make(space, codes), *b = make(space, codes);
            assert_int_equal(add(a, 0, ROWS, NULL, NAVMAP_OK), ROWS);
            for (uint32_t from = 0; from < ROWS; from += codes == NAVMAP_CODES_I8 ? FEW : FEW / 4)
                add(b, from, codes == NAVMAP_CODES_I8 ? FEW : FEW / 4, NULL, NAVMAP_OK);
            const struct navmap_stats s = stats_of(a);
            assert_int_equal(s.n_live, ROWS);
            assert_int_equal(s.n_free, 0);
            assert_int_equal(s.nslots, ROWS + 1);
            assert_true(pairs(a) > ROWS / 2);
            assert_true(pairs(b) < ROWS / 10);
            uint64_t *p = rows_by_label(a), *q = rows_by_label(b);
            assert_memory_equal(p, q, (size_t)ROWS * a->layout->M0 * sizeof *p);
            free(p);
            free(q);
            assert_ok(navmap_close(a));
            assert_ok(navmap_close(b));
        }
}

/* With M = 5 levels from 3 on are high. */
static void test_high_levels_first(void **state)
{
    (void)state;
    struct view *v;
    navmap_index *ix = make(NAVMAP_L2, NAVMAP_CODES_I8);
    add(ix, 0, ROWS, NULL, NAVMAP_OK);
    assert_ok(store_view_begin(ix->store, &v));
    uint32_t high = 0, slot = 1;
    for (; TAG_LEVEL(view_tag_up(v, slot)) >= 3; slot++)
        high++;
    assert_true(high > 0 && high < ROWS / 64);
    for (; slot <= ROWS; slot++)
        assert_true(TAG_LEVEL(view_tag_up(v, slot)) < 3);
    store_view_end(ix->store, v);
    assert_ok(navmap_close(ix));
}

static int stop_after_some(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    (void)total;
    return done > 0;
}

/* What no row came for is FREE, and the next rows get it.  With so wide a beam the rows take long
 * enough for the progress function to be called, which is some 20 ms apart. */
static void test_stopped(void **state)
{
    (void)state;
    const struct navmap_add_options o = {.struct_size = sizeof o, .progress = stop_after_some};
    struct navmap_options options = options_of(NAVMAP_L2, NAVMAP_CODES_I8);
    navmap_index *ix = NULL;
    options.ef_construction = 400;
    assert_ok(navmap_new(&options, &ix));
    const uint32_t n = (uint32_t)add(ix, 0, ROWS, &o, NAVMAP_EINTERRUPTED);
    assert_true(n > 0 && n < ROWS);
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, n);
    assert_int_equal(s.n_free, ROWS - n);
    assert_int_equal(s.nslots, ROWS + 1);
    assert_true(recall_of(ix, vectors, n < 20 ? n : 20, n < 5 ? n : 5, 50) > 0.9);
    for (uint32_t from = n; from < ROWS; from += 100)
        add(ix, from, ROWS - from < 100 ? ROWS - from : 100, NULL, NAVMAP_OK);
    s = stats_of(ix);
    assert_int_equal(s.n_live, ROWS);
    assert_int_equal(s.n_free, 0);
    assert_int_equal(s.nslots, ROWS + 1);
    assert_true(recall_of(ix, vectors, 100, 5, 100) > 0.9);
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
    assert_ok(navmap_close(ix));
}

/* Updates take what the sweep frees, about as they do in small batches. */
static void test_updates(void **state)
{
    (void)state;
    uint64_t nslots[2];
    for (uint32_t whole = 0; whole < 2; whole++) {
        navmap_index *ix = make(NAVMAP_L2, NAVMAP_CODES_I8);
        add(ix, 0, ROWS, NULL, NAVMAP_OK);
        for (uint32_t round = 0; round < 3; round++)
            for (uint32_t from = 0; from < ROWS; from += whole ? ROWS : FEW)
                add(ix, from, whole ? ROWS : FEW, NULL, NAVMAP_OK);
        assert_int_equal(stats_of(ix).n_live, ROWS);
        nslots[whole] = stats_of(ix).nslots;
        assert_ok(navmap_close(ix));
    }
    assert_true(nslots[1] < nslots[0] + ROWS / 16);
}

/* Slots, too, are the same with any number of threads. */
static void test_reproducible(void **state)
{
    (void)state;
    uint64_t *first = NULL;
    for (uint32_t threads = 1; threads <= 3; threads++) {
        const struct navmap_add_options o = {
            .struct_size = sizeof o, .num_threads = threads, .reproducible = 1};
        navmap_index *ix = make(NAVMAP_COSINE, NAVMAP_CODES_I8);
        uint64_t labels[ROWS], n;
        add(ix, 0, ROWS, &o, NAVMAP_OK);
        assert_ok(navmap_labels(ix, false, ROWS, labels, &n));
        assert_int_equal(n, ROWS);
        assert_true(pairs(ix) > ROWS / 2);
        if (!first) {
            first = malloc(sizeof labels);
            memcpy(first, labels, sizeof labels);
        }
        assert_memory_equal(labels, first, sizeof labels);
        assert_ok(navmap_close(ix));
    }
    free(first);
}

/* A directory's bulk load is a private index first. */
static void test_directory(void **state)
{
    (void)state;
    const uint32_t n = 9000; /* 36 MB */
    float *v = malloc((size_t)n * DIM * sizeof *v);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < DIM; j++)
            v[(size_t)i * DIM + j] = vectors[i % ROWS * DIM + j] + 0.1f * rng_normal(&rng);
    const struct navmap_options o = options_of(NAVMAP_L2, NAVMAP_CODES_I8);
    navmap_index *ix = NULL;
    assert_ok(navmap_create(test_path, &o, &ix));
    add_range(ix, v, 0, n);
    assert_int_equal(stats_of(ix).generation, 2);
    assert_true(pairs(ix) > ROWS / 2);
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
    rng = test_rng();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_graph),
        cmocka_unit_test(test_high_levels_first),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_updates),
        cmocka_unit_test(test_reproducible),
        cmocka_unit_test_setup_teardown(test_directory, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, make_vectors, free_vectors);
}
