/* test_engine_compact.c -- navmap_compact: the same answers from less, in place and elsewhere. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 16u
#define N 3000u

static struct rng rng;

/* Vector of a label: a function of it, so that anybody can check an answer. */
static void vector_of(uint64_t label, uint32_t version, float v[DIM])
{
    struct rng r = {label * 7919 + version};
    struct rng cluster = {label % 37};
    for (uint32_t i = 0; i < DIM; i++)
        v[i] = 2 * rng_normal(&cluster) + rng_normal(&r);
}

static navmap_index *make(bool private, uint32_t space)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .space = space,
                               .M = 8,
                               .ef_construction = 80,
                               .allow_replace_deleted = 1};
    navmap_index *ix = NULL;
    if (private)
        assert_ok(navmap_new(&o, &ix));
    else
        assert_ok(navmap_create(test_path, &o, &ix));
    return ix;
}

static void add(navmap_index *ix, uint64_t from, uint64_t n, uint32_t version)
{
    struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = 2};
    float *v = malloc(n * DIM * sizeof *v);
    uint64_t *labels = malloc(n * sizeof *labels);
    for (uint64_t i = 0; i < n; i++) {
        labels[i] = from + i;
        vector_of(from + i, version, v + i * DIM);
    }
    assert_ok(navmap_add(ix, n, v, labels, &o, NULL));
    free(v);
    free(labels);
}

/* Labels 0..N-1: a third deleted, a third updated. */
static void live_a_little(navmap_index *ix)
{
    add(ix, 0, N, 0);
    for (uint64_t label = 0; label < N; label += 3)
        assert_ok(navmap_delete(ix, label));
    for (uint64_t label = 1; label < N; label += 3)
        add(ix, label, 1, 1);
}

static void assert_sound(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
    assert_int_equal(r.no_in_links, 0);
    assert_int_equal(r.dead_links + r.dangling, 0);
    assert_int_equal(r.reachable, r.live);
}

/* Recall at 10 against exact search. */
static double recall(navmap_index *ix, uint32_t ef)
{
    enum { NQ = 200, K = 10 };
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = ef};
    static uint64_t a[NQ * K], b[NQ * K];
    static float d[NQ * K], q[NQ * DIM];
    uint32_t hits = 0;
    for (uint32_t i = 0; i < NQ; i++)
        vector_of(1000000 + i, 0, q + i * DIM);
    assert_ok(navmap_search(ix, NQ, q, K, &o, a, d, NULL));
    assert_ok(navmap_search_exact(ix, NQ, q, K, &o, b, d, NULL));
    for (uint32_t i = 0; i < NQ; i++)
        for (uint32_t j = 0; j < K; j++)
            for (uint32_t l = 0; l < K; l++)
                hits += a[i * K + j] == b[i * K + l];
    return hits / (double)(NQ * K);
}

static void assert_items(navmap_index *ix, bool l2)
{
    for (uint64_t label = 0; label < N; label++) {
        bool live = false;
        float expected[DIM], found[DIM];
        assert_ok(navmap_contains(ix, label, &live));
        assert_int_equal(live, label % 3 != 0);
        if (!live || !l2)
            continue;
        vector_of(label, label % 3 == 1, expected);
        assert_ok(navmap_get(ix, 1, &label, found));
        assert_memory_equal(expected, found, sizeof found);
    }
}

static void compact(navmap_index *ix, const struct navmap_compact_options *o,
                    struct navmap_compact_result *ret)
{
    ret->struct_size = sizeof *ret;
    assert_ok(navmap_compact(ix, o, ret));
}

static void in_place(bool private, uint32_t space, uint32_t threads)
{
    struct navmap_compact_result r;
    struct navmap_compact_options o = {.struct_size = sizeof o, .num_threads = threads};
    navmap_index *ix = make(private, space);
    live_a_little(ix);
    double before = recall(ix, 40);
    struct navmap_stats was = stats_of(ix);
    compact(ix, &o, &r);
    struct navmap_stats is = stats_of(ix);
    assert_int_equal(r.items, N - N / 3);
    assert_int_equal(r.forgotten, N / 3);
    assert_int_equal(r.dropped, was.n_dead + was.n_free);
    assert_int_equal(r.log_erased, !private);
    assert_true(private || r.bytes_after < r.bytes_before);
    assert_int_equal(is.n_live, N - N / 3);
    assert_int_equal(is.n_deleted + is.n_dead + is.n_free, 0);
    assert_int_equal(is.nslots, is.n_live + 1);
    assert_int_equal(is.generation, was.generation + 1);
    assert_items(ix, space == NAVMAP_L2);
    assert_status(navmap_undelete(ix, 0), NAVMAP_ENOTFOUND);
    assert_sound(ix);
    double after = recall(ix, 40);
    print_message("recall %.3f, compacted %.3f\n", before, after);
    assert_true(after > before - 0.03 && after > 0.9);
    /* It goes on: what was forgotten can be added again. */
    add(ix, 0, 30, 0);
    assert_ok(navmap_delete(ix, 0));
    o.keep_deleted = 1;
    compact(ix, &o, &r);
    assert_int_equal(r.forgotten, 0);
    assert_ok(navmap_undelete(ix, 0));
    assert_sound(ix);
    assert_ok(navmap_close(ix));
}

static void test_directory(void **state)
{
    (void)state;
    in_place(false, NAVMAP_L2, 1);
    struct navmap_verify_result v;
    assert_ok(navmap_verify(test_path, false, NULL, NULL, &v));
    assert_int_equal(v.damaged + v.warnings, 0);
}

static void test_private(void **state)
{
    (void)state;
    in_place(true, NAVMAP_L2, 2);
    in_place(true, NAVMAP_IP, 1);
}

static void test_cosine(void **state)
{
    (void)state;
    in_place(false, NAVMAP_COSINE, 2);
}

/* Empty, one item, everything deleted, flat. */
static void test_small(void **state)
{
    struct navmap_compact_result r;
    (void)state;
    for (int private = 0; private < 2; private ++) {
        navmap_index *ix = make(private != 0, NAVMAP_L2);
        compact(ix, NULL, &r);
        add(ix, 5, 1, 0);
        compact(ix, NULL, &r);
        assert_int_equal(r.items, 1);
        add(ix, 6, 40, 0);
        for (uint64_t label = 5; label < 46; label++)
            assert_ok(navmap_delete(ix, label));
        compact(ix, NULL, &r);
        assert_int_equal(r.items, 0);
        assert_int_equal(r.forgotten, 41);
        add(ix, 0, 100, 0);
        assert_sound(ix);
        assert_ok(navmap_close(ix));
    }
    struct navmap_options o = {.struct_size = sizeof o, .dim = DIM, .flat = 1};
    navmap_index *flat = NULL;
    assert_ok(navmap_new(&o, &flat));
    add(flat, 0, 100, 0);
    for (uint64_t label = 0; label < 50; label++)
        assert_ok(navmap_remove(flat, label));
    compact(flat, NULL, &r);
    assert_int_equal(r.items, 50);
    assert_true(recall(flat, 10) == 1.0);
    assert_ok(navmap_close(flat));
}

/* A sealed file that is mapped: afterwards it does not matter what becomes of the file. */
static void test_mapped(void **state)
{
    struct navmap_compact_result r;
    (void)state;
    navmap_index *ix = make(true, NAVMAP_L2), *loaded = NULL;
    live_a_little(ix);
    assert_ok(navmap_save(ix, test_path));
    assert_ok(navmap_close(ix));
    assert_ok(navmap_load(test_path, NULL, &loaded));
    assert_true(stats_of(loaded).mapped);
    compact(loaded, NULL, &r);
    assert_int_equal(r.items, N - N / 3);
    assert_false(stats_of(loaded).mapped);
    assert_int_equal(truncate(test_path, 100), 0);
    assert_items(loaded, true);
    assert_sound(loaded);
    assert_ok(navmap_close(loaded));
}

/* Somewhere else; the index itself stays as it is. */
static void outputs(bool directory, uint32_t M)
{
    struct navmap_compact_result r;
    char output[256];
    (void)snprintf(output, sizeof output, "%s.out", test_path);
    struct navmap_compact_options o = {.struct_size = sizeof o,
                                       .num_threads = 2,
                                       .output = output,
                                       .output_directory = directory,
                                       .M = M};
    navmap_index *ix = make(false, NAVMAP_L2), *out = NULL;
    live_a_little(ix);
    struct navmap_stats was = stats_of(ix);
    compact(ix, &o, &r);
    if (directory)
        assert_status(navmap_compact(ix, &o, &r), NAVMAP_EEXIST);
    struct navmap_stats is = stats_of(ix);
    assert_int_equal(is.n_deleted, was.n_deleted);
    assert_int_equal(is.generation, was.generation);
    if (directory)
        assert_ok(navmap_open(output, NAVMAP_WRITE, NULL, &out));
    else
        assert_ok(navmap_load(output, NULL, &out));
    struct navmap_stats of = stats_of(out);
    assert_int_equal(of.M, M ? M : was.M);
    assert_int_equal(of.n_live, N - N / 3);
    assert_int_equal(of.n_deleted, 0);
    assert_items(out, true);
    assert_sound(out);
    assert_true(recall(out, 40) > 0.9);
    assert_ok(navmap_close(out));
    assert_ok(navmap_close(ix));
}

static void test_output_file(void **state)
{
    (void)state;
    outputs(false, 0);
}

static void test_output_directory(void **state)
{
    (void)state;
    outputs(true, 0);
}

static void test_output_M(void **state)
{
    (void)state;
    outputs(true, 12);
}

static void test_output_file_M(void **state)
{
    (void)state;
    outputs(false, 5);
}

/* Stopped at any point: nothing has changed. */
static int stop_at(void *ctx, uint64_t done, uint64_t total)
{
    int *calls = ctx;
    (void)done;
    (void)total;
    return --*calls == 0;
}

static void test_interrupted(void **state)
{
    (void)state;
    navmap_index *ix = make(false, NAVMAP_L2);
    live_a_little(ix);
    struct navmap_stats was = stats_of(ix);
    int calls = 1;
    struct navmap_compact_options o = {
        .struct_size = sizeof o, .progress = stop_at, .progress_ctx = &calls};
    navmap_status status = navmap_compact(ix, &o, NULL);
    assert_int_equal(status, NAVMAP_EINTERRUPTED);
    struct navmap_stats is = stats_of(ix);
    assert_int_equal(is.generation, was.generation);
    assert_int_equal(is.n_deleted, was.n_deleted);
    assert_items(ix, true);
    assert_ok(navmap_undelete(ix, 0));
    assert_ok(navmap_close(ix));
}

/* What a progress function may do, and what not. */
struct curious {
    navmap_index *ix;
    uint32_t calls;
};

static int ask(void *ctx, uint64_t done, uint64_t total)
{
    struct curious *c = ctx;
    uint64_t label;
    float v[DIM] = {0}, d;
    assert_true(done <= total);
    c->calls++;
    assert_ok(navmap_search(c->ix, 1, v, 1, NULL, &label, &d, NULL));
    (void)stats_of(c->ix);
    assert_status(navmap_add(c->ix, 1, v, NULL, NULL, NULL), NAVMAP_EINVAL);
    assert_status(navmap_delete(c->ix, 1), NAVMAP_EINVAL);
    assert_status(navmap_flush(c->ix), NAVMAP_EINVAL);
    assert_status(navmap_compact(c->ix, NULL, NULL), NAVMAP_EINVAL);
    return 0;
}

static void test_progress(void **state)
{
    (void)state;
    struct curious c = {.ix = make(false, NAVMAP_L2)};
    live_a_little(c.ix);
    struct navmap_compact_options o = {
        .struct_size = sizeof o, .progress = ask, .progress_ctx = &c};
    assert_ok(navmap_compact(c.ix, &o, NULL));
    assert_true(c.calls > 0);
    assert_ok(navmap_close(c.ix));
}

static void test_arguments(void **state)
{
    (void)state;
    navmap_index *ix = make(false, NAVMAP_L2), *reader = NULL;
    struct navmap_compact_options o = {.struct_size = sizeof o, .output_directory = 1};
    assert_status(navmap_compact(ix, &o, NULL), NAVMAP_EINVAL);
    o = (struct navmap_compact_options){.struct_size = sizeof o, .keep_deleted = 2};
    assert_status(navmap_compact(ix, &o, NULL), NAVMAP_EINVAL);
    o = (struct navmap_compact_options){.struct_size = sizeof o, .ef_construction = 20};
    assert_status(navmap_compact(ix, &o, NULL), NAVMAP_EINVAL);
    o = (struct navmap_compact_options){.struct_size = sizeof o, .M = 1, .output = "x"};
    assert_status(navmap_compact(ix, &o, NULL), NAVMAP_EINVAL);
    assert_ok(navmap_open(test_path, NAVMAP_READ, NULL, &reader));
    assert_status(navmap_compact(reader, NULL, NULL), NAVMAP_EREADONLY);
    assert_ok(navmap_close(reader));
    assert_ok(navmap_close(ix));
}

/* Deleted vectors are in no file of the index any more. */
static bool file_has(const char *name, const void *bytes, size_t n)
{
    char path[320];
    (void)snprintf(path, sizeof path, "%s/%s", test_path, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return false;
    struct stat st;
    assert_int_equal(fstat(fileno(f), &st), 0);
    char *all = malloc((size_t)st.st_size + 1);
    size_t got = fread(all, 1, (size_t)st.st_size, f);
    (void)fclose(f);
    bool has = memmem(all, got, bytes, n) != NULL;
    free(all);
    return has;
}

static void test_erased(void **state)
{
    struct navmap_compact_result r;
    (void)state;
    navmap_index *ix = make(false, NAVMAP_L2);
    add(ix, 0, 200, 0);
    for (uint64_t label = 200; label < 260; label++)
        add(ix, label, 1, 0); /* small commits: through the log */
    float gone[DIM], old[DIM];
    vector_of(230, 0, gone);
    vector_of(240, 0, old);
    assert_ok(navmap_delete(ix, 230));
    add(ix, 240, 1, 1);
    assert_ok(navmap_flush(ix));
    assert_true(file_has("data-00000001.navmap", gone, sizeof gone));
    assert_true(file_has("data-00000001.navmap", old, sizeof old));
    assert_true(file_has("wal.mdb", gone, sizeof gone));
    compact(ix, NULL, &r);
    assert_int_equal(r.log_erased, 1);
    assert_false(file_has("data-00000001.navmap", gone, sizeof gone));
    assert_false(file_has("data-00000002.navmap", gone, sizeof gone));
    assert_false(file_has("data-00000002.navmap", old, sizeof old));
    assert_false(file_has("wal.mdb", gone, sizeof gone));
    assert_false(file_has("wal.mdb", old, sizeof old));
    assert_ok(navmap_close(ix));
}

/* Readers all the while: no error, and every answer is true. */
struct asker {
    navmap_index *ix;
    _Atomic bool stop;
    _Atomic uint64_t asked;
    uint64_t missed; /* the query's own label: a walk finds nearly everything */
    char why[600];
};

static void *keep_asking(void *ctx)
{
    struct asker *a = ctx;
    struct rng r = {99};
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 30, .allow_fewer = 1};
    while (!atomic_load(&a->stop) && a->why[0] == 0) {
        uint64_t labels[5], label = rng_below(&r, N);
        float d[5], q[DIM], v[DIM];
        vector_of(label, label % 3 == 1, q);
        if (navmap_search(a->ix, 1, q, 5, &o, labels, d, NULL) != NAVMAP_OK) {
            (void)snprintf(a->why, sizeof a->why, "search: %s", navmap_error_detail());
            break;
        }
        a->missed += label % 3 != 0 && (labels[0] != label || d[0] != 0.0f);
        for (int i = 0; i < 5 && labels[i] != UINT64_MAX; i++) {
            bool passing = labels[i] >= N; /* there for a moment between two compactions */
            float sum = 0;
            vector_of(labels[i], !passing && labels[i] % 3 == 1, v);
            for (uint32_t j = 0; j < DIM; j++)
                sum += (v[j] - q[j]) * (v[j] - q[j]);
            if ((labels[i] % 3 == 0 && !passing) || fabsf(sum - d[i]) > 1e-3f * (1 + sum))
                (void)snprintf(a->why, sizeof a->why, "label %llu is not at %g",
                               (unsigned long long)labels[i], (double)d[i]);
        }
        if (label % 3 != 0 &&
            (navmap_get(a->ix, 1, &label, v) != NAVMAP_OK || memcmp(v, q, sizeof v) != 0))
            (void)snprintf(a->why, sizeof a->why, "get: %s", navmap_error_detail());
        atomic_fetch_add(&a->asked, 1);
    }
    return NULL;
}

static void readers(bool private)
{
    struct asker a[3] = {{.asked = 0}, {.asked = 0}, {.asked = 0}};
    pthread_t threads[3];
    struct navmap_compact_options o = {.struct_size = sizeof o, .num_threads = 2};
    navmap_index *ix = make(private, NAVMAP_L2);
    live_a_little(ix);
    for (int i = 0; i < 3; i++) {
        a[i].ix = ix;
        if (!private && i > 0)
            assert_ok(navmap_open(test_path, NAVMAP_READ, NULL, &a[i].ix));
        assert_int_equal(pthread_create(&threads[i], NULL, keep_asking, &a[i]), 0);
    }
    for (uint32_t i = 0; i < scaled(12, 4); i++) {
        assert_ok(navmap_compact(ix, &o, NULL));
        add(ix, N + i, 1, 0);
        assert_ok(navmap_delete(ix, N + i));
    }
    for (int i = 0; i < 3; i++)
        atomic_store(&a[i].stop, true);
    for (int i = 0; i < 3; i++) {
        (void)pthread_join(threads[i], NULL);
        if (a[i].why[0] != 0)
            fail_msg("reader %d: %s", i, a[i].why);
        assert_true(a[i].asked > 0);
        assert_true(a[i].missed * 50 <= a[i].asked);
        if (a[i].ix != ix)
            assert_ok(navmap_close(a[i].ix));
    }
    assert_sound(ix);
    assert_ok(navmap_close(ix));
}

static void test_readers(void **state)
{
    (void)state;
    readers(false);
}

static void test_refine(void **state)
{
    (void)state;
    struct navmap_compact_options o = {.struct_size = sizeof o, .num_threads = 2, .refine = 1};
    navmap_index *ix = make(false, NAVMAP_L2);
    live_a_little(ix);
    assert_ok(navmap_compact(ix, &o, NULL));
    assert_items(ix, true);
    assert_sound(ix);
    assert_true(recall(ix, 40) > 0.97);
    assert_ok(navmap_close(ix));
}

static void test_private_readers(void **state)
{
    (void)state;
    readers(true);
}

/* An index in the place of another: readers move, or are told. */
static void test_overwrite(void **state)
{
    (void)state;
    struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 8, .overwrite = 1, .max_elements = 50};
    navmap_index *ix = make(false, NAVMAP_L2), *reader = NULL, *other = NULL;
    o.allow_replace_deleted = 1;
    add(ix, 0, 300, 0);
    assert_ok(navmap_open(test_path, NAVMAP_READ, NULL, &reader));
    assert_status(navmap_create(test_path, &o, &other), NAVMAP_ELOCKED);
    assert_ok(navmap_close(ix));
    assert_ok(navmap_create(test_path, &o, &ix));
    assert_int_equal(stats_of(ix).n_live, 0);
    assert_int_equal(stats_of(ix).max_elements, 50);
    assert_int_equal(stats_of(ix).generation, 2);
    add(ix, 7, 3, 0);
    assert_int_equal(stats_of(reader).n_live, 3);
    assert_ok(navmap_close(ix));
    o.dim = DIM + 1;
    o.space = NAVMAP_COSINE;
    assert_ok(navmap_create(test_path, &o, &ix));
    assert_int_equal(stats_of(ix).dim, DIM + 1);
    uint64_t label;
    float q[DIM] = {0}, d;
    assert_status(navmap_search(reader, 1, q, 1, NULL, &label, &d, NULL), NAVMAP_ESTALE);
    assert_ok(navmap_close(reader));
    assert_ok(navmap_close(ix));
    struct navmap_verify_result v;
    assert_ok(navmap_verify(test_path, false, NULL, NULL, &v));
    assert_int_equal(v.damaged, 0);
    char elsewhere[200];
    (void)snprintf(elsewhere, sizeof elsewhere, "%s.dir", test_path);
    assert_int_equal(mkdir(elsewhere, 0755), 0);
    assert_status(navmap_create(elsewhere, &o, &ix), NAVMAP_EEXIST); /* somebody's directory */
    o.overwrite = 2;
    assert_status(navmap_create(test_path, &o, &ix), NAVMAP_EINVAL);
}

static int begin(void **state)
{
    (void)state;
    rng = test_rng();
    return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_directory),        TEST(test_private),
        TEST(test_cosine),           TEST(test_small),
        TEST(test_mapped),           TEST(test_output_file),
        TEST(test_output_directory), TEST(test_output_M),
        TEST(test_output_file_M),    TEST(test_interrupted),
        TEST(test_progress),         TEST(test_arguments),
        TEST(test_erased),           TEST(test_readers),
        TEST(test_overwrite),        TEST(test_refine),
        TEST(test_private_readers),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
