/* test_engine_reshape.c -- navmap_compact with another M or other codes, in place and elsewhere. */
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 24u
#define N 1500u
#define NQ 50u
#define K 10u

static void vector_of(uint64_t label, float v[DIM])
{
    struct rng r = {label * 7919 + 3};
    struct rng cluster = {label % 23};
    for (uint32_t i = 0; i < DIM; i++)
        v[i] = 2 * rng_normal(&cluster) + rng_normal(&r);
}

static void add(navmap_index *ix, uint64_t from, uint64_t n)
{
    float v[DIM];
    for (uint64_t label = from; label < from + n; label++) {
        vector_of(label, v);
        assert_ok(navmap_add(ix, 1, v, &label, NULL, NULL));
    }
}

/* Labels 0..N-1, each fifth one deleted. */
static navmap_index *make(bool private, uint32_t codes)
{
    const struct navmap_options o = {.struct_size = sizeof o,
                                     .dim = DIM,
                                     .M = 8,
                                     .ef_construction = 60,
                                     .durability = NAVMAP_MANUAL,
                                     .codes = codes};
    navmap_index *ix = NULL;
    if (private)
        assert_ok(navmap_new(&o, &ix));
    else
        assert_ok(navmap_create(test_path, &o, &ix));
    add(ix, 0, N);
    for (uint64_t label = 0; label < N; label += 5)
        assert_ok(navmap_delete(ix, label));
    assert_ok(navmap_flush(ix));
    return ix;
}

struct answers {
    uint64_t labels[NQ * K];
    float distances[NQ * K];
};

static void ask(navmap_index *ix, bool exact, struct answers *ret)
{
    static float q[NQ * DIM];
    const struct navmap_search_options o = {.struct_size = sizeof o, .ef = 60};
    for (uint32_t i = 0; i < NQ; i++)
        vector_of(1000000 + i, q + (size_t)i * DIM);
    assert_ok((exact ? navmap_search_exact : navmap_search)(ix, NQ, q, K, &o, ret->labels,
                                                            ret->distances, NULL));
}

static double recall(navmap_index *ix)
{
    static struct answers a, b;
    uint32_t hits = 0;
    ask(ix, false, &a);
    ask(ix, true, &b);
    for (uint32_t i = 0; i < NQ * K; i++)
        for (uint32_t j = i / K * K; j < (i / K + 1) * K; j++)
            hits += a.labels[i] == b.labels[j];
    return hits / (double)(NQ * K);
}

static void assert_whole(navmap_index *ix, uint32_t M, uint32_t codes, bool with_deleted)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.M, M);
    assert_int_equal(s.codes, codes);
    assert_int_equal(s.n_live, N - N / 5);
    assert_int_equal(s.n_deleted, with_deleted ? N / 5 : 0);
    assert_int_equal(s.n_dead + s.n_free, 0);
    assert_true(codes == NAVMAP_CODES_I8 ? s.code_bytes > 0 : s.code_bytes == 0);
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
    assert_int_equal(r.reachable, N - N / 5);
    assert_true(recall(ix) > 0.95);
    for (uint64_t label = 0; label < N; label++) {
        float expected[DIM], found[DIM];
        if (label % 5 == 0)
            continue;
        vector_of(label, expected);
        assert_ok(navmap_get(ix, 1, &label, found));
        assert_memory_equal(expected, found, sizeof found);
    }
}

/* It goes on as any other. */
static void live_on(navmap_index *ix)
{
    float q[DIM], d;
    uint64_t label;
    add(ix, N, 100);
    assert_ok(navmap_flush(ix));
    for (uint64_t i = N; i < N + 100; i++) {
        vector_of(i, q);
        assert_ok(navmap_search(ix, 1, q, 1, NULL, &label, &d, NULL));
        assert_int_equal(label, i);
        assert_true(d == 0);
    }
    assert_ok(navmap_delete(ix, N + 1));
    assert_ok(navmap_undelete(ix, N + 1));
    for (uint64_t i = N; i < N + 100; i++)
        assert_ok(navmap_delete(ix, i));
    assert_ok(navmap_compact(ix, NULL, NULL));
}

static void assert_verified(const char *path)
{
    struct navmap_verify_result v;
    assert_ok(navmap_verify(path, false, NULL, NULL, &v));
    assert_int_equal(v.damaged, 0);
}

/* In place; a reader that is open is told, one that is opened afterwards is not. */
static void in_place(bool private, uint32_t had, uint32_t M, uint32_t codes, bool keep_deleted)
{
    const struct navmap_compact_options o = {.struct_size = sizeof o,
                                             .num_threads = 2,
                                             .M = M,
                                             .codes = codes,
                                             .keep_deleted = keep_deleted};
    struct navmap_compact_result r = {.struct_size = sizeof r};
    navmap_index *ix = make(private, had), *reader = NULL;
    static struct answers a;
    if (!private)
        assert_ok(navmap_open(test_path, NAVMAP_READ, NULL, &reader));
    assert_ok(navmap_compact(ix, &o, &r));
    assert_int_equal(r.forgotten, keep_deleted ? 0 : N / 5);
    assert_whole(ix, M ? M : 8, codes ? codes : had, keep_deleted);
    if (reader) {
        float q[DIM] = {0};
        assert_status(navmap_search(reader, 1, q, 1, NULL, a.labels, a.distances, NULL),
                      NAVMAP_ESTALE);
        assert_ok(navmap_close(reader));
    }
    if (!keep_deleted) {
        live_on(ix);
        assert_whole(ix, M ? M : 8, codes ? codes : had, false);
    }
    assert_ok(navmap_close(ix));
    if (private)
        return;
    assert_verified(test_path);
    assert_ok(navmap_open(test_path, NAVMAP_WRITE, NULL, &ix));
    assert_whole(ix, M ? M : 8, codes ? codes : had, keep_deleted);
    assert_ok(navmap_close(ix));
}

static void test_codes_gone(void **state)
{
    (void)state;
    in_place(false, NAVMAP_CODES_I8, 0, NAVMAP_CODES_NONE, false);
}

static void test_codes_new(void **state)
{
    (void)state;
    in_place(false, NAVMAP_CODES_NONE, 0, NAVMAP_CODES_I8, true);
}

static void test_codes_new_and_on(void **state)
{
    (void)state;
    in_place(false, NAVMAP_CODES_NONE, 0, NAVMAP_CODES_I8, false);
}

static void test_codes_private(void **state)
{
    (void)state;
    in_place(true, NAVMAP_CODES_I8, 0, NAVMAP_CODES_NONE, false);
    in_place(true, NAVMAP_CODES_NONE, 0, NAVMAP_CODES_I8, false);
}

static void test_M(void **state)
{
    (void)state;
    in_place(false, NAVMAP_CODES_I8, 12, 0, false);
}

static void test_M_private(void **state)
{
    (void)state;
    in_place(true, NAVMAP_CODES_NONE, 5, 0, true);
    in_place(true, NAVMAP_CODES_I8, 20, 0, false);
}

static void test_both(void **state)
{
    (void)state;
    in_place(false, NAVMAP_CODES_I8, 5, NAVMAP_CODES_NONE, true);
}

static void outputs(bool directory, uint32_t M, uint32_t had, uint32_t codes)
{
    char output[256];
    (void)snprintf(output, sizeof output, "%s.out", test_path);
    const struct navmap_compact_options o = {.struct_size = sizeof o,
                                             .output = output,
                                             .output_directory = directory,
                                             .M = M,
                                             .codes = codes};
    navmap_index *ix = make(true, had), *out = NULL;
    assert_ok(navmap_compact(ix, &o, NULL));
    assert_int_equal(stats_of(ix).codes, had);
    assert_int_equal(stats_of(ix).n_deleted, N / 5);
    assert_ok(navmap_close(ix));
    assert_verified(output);
    if (directory)
        assert_ok(navmap_open(output, NAVMAP_WRITE, NULL, &out));
    else
        assert_ok(navmap_load(output, NULL, &out));
    assert_whole(out, M ? M : 8, codes, false);
    live_on(out);
    assert_ok(navmap_close(out));
}

static void test_output_directory(void **state)
{
    (void)state;
    outputs(true, 0, NAVMAP_CODES_NONE, NAVMAP_CODES_I8);
}

static void test_output_file(void **state)
{
    (void)state;
    outputs(false, 0, NAVMAP_CODES_I8, NAVMAP_CODES_NONE);
}

static void test_output_both(void **state)
{
    (void)state;
    outputs(true, 6, NAVMAP_CODES_I8, NAVMAP_CODES_NONE);
}

/* Codes that were dropped and made again are those that adding makes: the same answers. */
static void test_there_and_back(void **state)
{
    static struct answers before, after;
    struct navmap_compact_options o = {.struct_size = sizeof o, .keep_order = 1};
    (void)state;
    navmap_index *ix = make(true, NAVMAP_CODES_I8);
    assert_ok(navmap_compact(ix, &o, NULL));
    ask(ix, false, &before);
    o.codes = NAVMAP_CODES_NONE;
    assert_ok(navmap_compact(ix, &o, NULL));
    o.codes = NAVMAP_CODES_I8;
    assert_ok(navmap_compact(ix, &o, NULL));
    ask(ix, false, &after);
    assert_memory_equal(&before, &after, sizeof before);
    assert_ok(navmap_close(ix));
}

/* Saved as a directory or a file, every link as it was: with the same codes the same answers. */
static void saved(bool private, bool directory, uint32_t had, uint32_t codes)
{
    static struct answers before, after;
    char path[256];
    (void)snprintf(path, sizeof path, "%s.out", test_path);
    const struct navmap_save_options o = {
        .struct_size = sizeof o, .directory = directory, .codes = codes};
    navmap_index *ix = make(private, had), *out = NULL;
    ask(ix, false, &before);
    assert_ok(navmap_save_with(ix, path, &o));
    if (directory)
        assert_status(navmap_save_with(ix, path, &o), NAVMAP_EEXIST);
    assert_ok(navmap_close(ix));
    assert_verified(path);
    if (directory)
        assert_ok(navmap_open(path, NAVMAP_WRITE, NULL, &out));
    else
        assert_ok(navmap_load(path, NULL, &out));
    assert_whole(out, 8, codes ? codes : had, true);
    ask(out, false, &after);
    if (codes == 0 || codes == had)
        assert_memory_equal(&before, &after, sizeof before);
    live_on(out);
    assert_ok(navmap_close(out));
}

static void test_saved_directory(void **state)
{
    (void)state;
    saved(true, true, NAVMAP_CODES_NONE, 0);
    assert_int_equal(remove_dir(state), 0);
    assert_int_equal(make_dir(state), 0);
    saved(false, true, NAVMAP_CODES_I8, 0);
    assert_int_equal(remove_dir(state), 0);
    assert_int_equal(make_dir(state), 0);
    saved(false, true, NAVMAP_CODES_NONE, NAVMAP_CODES_I8);
}

static void test_saved_file(void **state)
{
    (void)state;
    saved(true, false, NAVMAP_CODES_NONE, NAVMAP_CODES_NONE);
    saved(true, false, NAVMAP_CODES_NONE, NAVMAP_CODES_I8);
}

static int enough(void *ctx, uint64_t done, uint64_t total)
{
    (void)total;
    return done > *(const uint64_t *)ctx;
}

/* Stopped, at any time: all is as it was, M and codes too. */
static void test_interrupted(void **state)
{
    (void)state;
    navmap_index *ix = make(false, NAVMAP_CODES_I8);
    uint64_t most;
    struct navmap_compact_options o = {.struct_size = sizeof o,
                                       .M = 4,
                                       .codes = NAVMAP_CODES_NONE,
                                       .progress = enough,
                                       .progress_ctx = &most};
    for (most = 0; most < N; most += N / 3)
        assert_status(navmap_compact(ix, &o, NULL), NAVMAP_EINTERRUPTED);
    assert_int_equal(stats_of(ix).generation, 1);
    assert_whole(ix, 8, NAVMAP_CODES_I8, true);
    assert_ok(navmap_close(ix));
}

static void test_arguments(void **state)
{
    (void)state;
    struct navmap_compact_options o = {.struct_size = sizeof o, .codes = 3};
    const struct navmap_options flat = {.struct_size = sizeof flat, .dim = DIM, .flat = 1};
    navmap_index *ix;
    assert_ok(navmap_new(&flat, &ix));
    assert_status(navmap_compact(ix, &o, NULL), NAVMAP_EINVAL);
    o.codes = NAVMAP_CODES_I8;
    assert_status(navmap_compact(ix, &o, NULL), NAVMAP_EINVAL);
    struct navmap_save_options s = {.struct_size = sizeof s, .directory = 1};
    assert_status(navmap_save_with(ix, test_path, &s), NAVMAP_EINVAL);
    s = (struct navmap_save_options){.struct_size = sizeof s, .codes = 1};
    assert_status(navmap_save_with(ix, test_path, &s), NAVMAP_EINVAL);
    assert_status(navmap_export_hnswlib(ix, test_path, &s), NAVMAP_EINVAL);
    s.codes = 3;
    assert_status(navmap_save_with(ix, test_path, &s), NAVMAP_EINVAL);
    assert_ok(navmap_close(ix));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_codes_gone),
        TEST(test_codes_new),
        TEST(test_codes_new_and_on),
        TEST(test_codes_private),
        TEST(test_M),
        TEST(test_M_private),
        TEST(test_both),
        TEST(test_output_directory),
        TEST(test_output_file),
        TEST(test_output_both),
        TEST(test_there_and_back),
        TEST(test_saved_directory),
        TEST(test_saved_file),
        TEST(test_interrupted),
        TEST(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
