/* test_engine_reproducible.c -- one graph, whatever the number of threads and the instructions. */
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 20u

static struct rng rng;
static const uint32_t THREADS[] = {1, 2, 3, 5};
#define N_THREADS (sizeof THREADS / sizeof *THREADS)

static navmap_index *make(const char *path, uint32_t space, uint32_t codes)
{
    const struct navmap_options o = {.struct_size = sizeof o,
                                     .dim = DIM,
                                     .space = space,
                                     .M = 6,
                                     .ef_construction = 50,
                                     .allow_replace_deleted = 1,
                                     .codes = codes};
    navmap_index *ix = NULL;
    if (path)
        assert_ok(navmap_create(path, &o, &ix));
    else
        assert_ok(navmap_new(&o, &ix));
    return ix;
}

static void add(navmap_index *ix, uint64_t n, const float *v, const uint64_t *labels,
                uint32_t threads, bool replace)
{
    const struct navmap_add_options o = {.struct_size = sizeof o,
                                         .num_threads = threads,
                                         .replace_deleted = replace,
                                         .reproducible = 1};
    uint64_t added;
    assert_ok(navmap_add(ix, n, v, labels, &o, &added));
    assert_int_equal(added, n);
}

static void assert_sound(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
    assert_int_equal(r.dangling, 0);
    assert_true(r.no_in_links <= r.live / 500);
    assert_true(r.reachable >=
                r.live - r.live / 150); /* with M = 6, adding one by one has as many */
}

/* Root, states, rows, upper cells, codes, vectors and labels of both, byte for byte. */
static void assert_same(navmap_index *a, navmap_index *b)
{
    struct view *v, *w;
    struct disk_root p = store_root(a->store), q = store_root(b->store);
    p.lsn = q.lsn = p.sum = q.sum = 0;
    assert_memory_equal(&p, &q, sizeof p);
    assert_ok(store_view_begin(a->store, &v));
    assert_ok(store_view_begin(b->store, &w));
    const struct layout *l = &v->layout;
    for (uint32_t slot = 1; slot < extent_slots(p.extent); slot++) {
        assert_int_equal(*view_state(v, slot), *view_state(w, slot));
        assert_memory_equal((const void *)view_row(v, slot), (const void *)view_row(w, slot),
                            l->row_stride);
        assert_memory_equal(view_code(v, slot), view_code(w, slot), l->code_stride);
        assert_memory_equal(view_vec(v, slot), view_vec(w, slot), l->vec_stride);
        assert_int_equal(view_tag_label(v, slot), view_tag_label(w, slot));
        assert_int_equal(view_tag_up(v, slot), view_tag_up(w, slot));
    }
    for (uint32_t cell = 0; cell < p.nuppers; cell++)
        assert_memory_equal((const void *)view_upper(v, cell), (const void *)view_upper(w, cell),
                            l->upper_stride);
    store_view_end(a->store, v);
    store_view_end(b->store, w);
}

/* The first of several against the others; closes all. */
static void compare(navmap_index **ix, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        assert_sound(ix[i]);
    for (uint32_t i = 1; i < n; i++)
        assert_same(ix[0], ix[i]);
    for (uint32_t i = 0; i < n; i++)
        assert_ok(navmap_close(ix[i]));
}

/* In two calls, with many copies of one vector among them. */
static void build(uint32_t space, uint32_t codes)
{
    const uint32_t n = scaled(4000, 4);
    float *v = clustered_vectors(&rng, n, DIM, 40);
    navmap_index *ix[N_THREADS];
    for (uint32_t i = n / 2; i < n / 2 + n / 8; i++)
        memcpy(v + (size_t)i * DIM, v, DIM * sizeof *v);
    for (uint32_t i = 0; i < N_THREADS; i++) {
        ix[i] = make(NULL, space, codes);
        add(ix[i], n / 3, v, NULL, THREADS[i], false);
        add(ix[i], n - n / 3, v + (size_t)(n / 3) * DIM, NULL, THREADS[i], false);
    }
    assert_true(recall_of(ix[0], v, 200, 10, 80) > 0.9);
    compare(ix, N_THREADS);
    free(v);
}

static void test_l2(void **state)
{
    (void)state;
    build(NAVMAP_L2, NAVMAP_CODES_I8);
}

static void test_cosine(void **state)
{
    (void)state;
    build(NAVMAP_COSINE, NAVMAP_CODES_I8);
}

static void test_ip_without_codes(void **state)
{
    (void)state;
    build(NAVMAP_IP, NAVMAP_CODES_NONE);
}

/* Labels that are there already, some of them twice in the call, deleted ones, a sweep, and items
 * that replace others. */
static void test_updates(void **state)
{
    (void)state;
    const uint32_t n = 1500;
    float *v = random_vectors(&rng, 3ull * n, DIM);
    uint64_t *labels = malloc(2ull * n * sizeof *labels);
    navmap_index *ix[N_THREADS];
    for (uint32_t i = 0; i < 2 * n; i++)
        labels[i] = rng_below(&rng, 2 * n) + 100;
    for (uint32_t i = 0; i < N_THREADS; i++) {
        ix[i] = make(NULL, NAVMAP_L2, NAVMAP_CODES_I8);
        add(ix[i], n, v, NULL, THREADS[i], false);
        add(ix[i], 2 * n, v + (size_t)n * DIM, labels, THREADS[i], false);
        for (uint64_t label = 0; label < 100; label++)
            assert_ok(navmap_delete(ix[i], label));
        add(ix[i], 150, v, NULL, THREADS[i], true);
    }
    compare(ix, N_THREADS);
    free(labels);
    free(v);
}

/* A bulk load, and a few more afterwards. */
static void test_directory(void **state)
{
    (void)state;
    const uint64_t payload = 32 + 64 + 128, n = (32u << 20) / payload + 1000;
    navmap_index *ix[2];
    if (getenv("NAVMAP_SHORT"))
        skip();
    float *v = random_vectors(&rng, n + 300, DIM);
    for (uint32_t i = 0; i < 2; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, "%s-%u", test_path, i);
        ix[i] = make(path, NAVMAP_L2, NAVMAP_CODES_I8);
        add(ix[i], n, v, NULL, i == 0 ? 1 : 2, false);
        assert_int_equal(stats_of(ix[i]).generation, 2);
        add(ix[i], 300, v + n * DIM, NULL, i == 0 ? 1 : 3, false);
    }
    compare(ix, 2);
    free(v);
}

static int stop(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *seen = ctx;
    assert_true(done >= *seen && done <= total);
    *seen = done;
    return done > total / 2;
}

/* Stopped, or full: whole rows only, and the caller knows how many. */
static void test_stopped(void **state)
{
    (void)state;
    const uint32_t n = scaled(12000, 3);
    float *v = random_vectors(&rng, n, DIM);
    uint64_t added, seen = 0;
    navmap_index *ix = make(NULL, NAVMAP_L2, NAVMAP_CODES_I8);
    const struct navmap_add_options o = {.struct_size = sizeof o,
                                         .num_threads = 2,
                                         .reproducible = 1,
                                         .progress = stop,
                                         .progress_ctx = &seen};
    assert_status(navmap_add(ix, n, v, NULL, &o, &added), NAVMAP_EINTERRUPTED);
    assert_true(added > n / 2 && added < n);
    assert_int_equal(stats_of(ix).n_live, added);
    assert_sound(ix);
    assert_ok(navmap_resize(ix, n - 1));
    assert_status(navmap_add(ix, n - added, v, NULL, &o, &added), NAVMAP_EFULL);
    assert_int_equal(added, 0);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Rows so wide that few items fit into a troop. */
static void test_wide(void **state)
{
    (void)state;
    const struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 300, .ef_construction = 300};
    const uint32_t n = scaled(900, 2);
    float *v = random_vectors(&rng, n, DIM);
    navmap_index *ix[2];
    for (uint32_t i = 0; i < 2; i++) {
        assert_ok(navmap_new(&o, &ix[i]));
        add(ix[i], n, v, NULL, i + 1, false);
    }
    compare(ix, 2);
    free(v);
}

static void test_refused(void **state)
{
    (void)state;
    const struct navmap_add_options o = {.struct_size = sizeof o, .reproducible = 2};
    float v[DIM] = {0};
    navmap_index *ix = make(NULL, NAVMAP_L2, 0);
    assert_status(navmap_add(ix, 1, v, NULL, &o, NULL), NAVMAP_EINVAL);
    assert_ok(navmap_close(ix));
}

int main(void)
{
    rng = test_rng();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_l2),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_ip_without_codes),
        cmocka_unit_test(test_updates),
        cmocka_unit_test_setup_teardown(test_directory, make_dir, remove_dir),
        cmocka_unit_test(test_stopped),
        cmocka_unit_test(test_wide),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
