/* test_engine_recall.c -- the recall curve: how it is read, measured and kept. */
#include <pthread.h>

#include "engine/curve.h"
#include "engine/navmap_recall.h"
#include "tests/support/engine.h"

#define DIM 16u
#define NQ 300u

static struct rng rng;

/* The curve itself ----------------------------------------------------------------------------*/

/* Beams that miss 2/ef: what is between the rungs comes out as if it had been tried. */
static void test_climb(void **state)
{
    (void)state;
    static const uint16_t expected[LAYOUT_CURVE_POINTS] = {10, 20, 40, 100, 200, 2000};
    struct curve_climb c = {0};
    uint16_t ef[LAYOUT_CURVE_POINTS] = {0};
    double rung = 7;
    while (curve_climb(&c, rung, 2 / rung, ef))
        rung *= 1.7;
    assert_memory_equal(ef, expected, sizeof ef);
    assert_in_range((uint64_t)rung, 2000, 3400);
}

/* A beam that finds less than a narrower one did counts for as much; what the first one reaches it
 * reaches; what none reaches stays 0. */
static void test_climb_uneven(void **state)
{
    (void)state;
    static const uint16_t expected[LAYOUT_CURVE_POINTS] = {10, 10, 40, 0, 0, 0};
    struct curve_climb c = {0};
    uint16_t ef[LAYOUT_CURVE_POINTS] = {0};
    assert_true(curve_climb(&c, 10, 0.08, ef));
    assert_true(curve_climb(&c, 20, 0.09, ef));
    assert_true(curve_climb(&c, 40, 0.05, ef));
    assert_true(curve_climb(&c, 80, 0.05, ef));
    assert_memory_equal(ef, expected, sizeof ef);
}

static void test_between(void **state)
{
    (void)state;
    const struct disk_root r = {.curve_items = 9,
                                .curve_ef = {{4, 8, 16, 40, 80, 800},
                                             {16, 32, 64, 160, 320, 3200},
                                             {160, 320, 640, 1600, 3200, 0}}};
    assert_int_equal(curve_ef(&r, 10, 0.95), 64);
    assert_int_equal(curve_ef(&r, 10, 0.5), 16);
    assert_int_equal(curve_ef(&r, 1, 0.999), 800);
    assert_int_equal(curve_ef(&r, 100, 0.99), 3200);
    assert_int_equal(curve_ef(&r, 100, 0.999), 0);
    assert_int_equal(curve_ef(&r, 50, 0.999), 0);
    assert_int_equal(curve_ef(&r, 1000, 0.95), 6400);
    uint32_t before = 0;
    for (uint64_t k = 1; k < 300; k++) {
        uint32_t ef = curve_ef(&r, k, 0.95);
        assert_true(ef >= before);
        before = ef;
    }
    before = 0;
    for (double recall = 0.01; recall < 0.999; recall += 0.001) {
        uint32_t ef = curve_ef(&r, 10, recall);
        assert_true(ef >= before && ef <= 3200);
        before = ef;
    }
}

/* R1: whatever a file holds, and k and recall at their ends. */
static void test_any_curve(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        struct disk_root r = {.curve_items = 1};
        for (uint32_t j = 0; j < LAYOUT_CURVES; j++)
            for (uint32_t l = 0; l < LAYOUT_CURVE_POINTS; l++)
                r.curve_ef[j][l] = (uint16_t)(rng_next(&rng) >> (rng_next(&rng) % 17 + 47));
        const uint64_t k = 1 + (rng_next(&rng) >> rng_next(&rng) % 64) % UINT64_MAX;
        (void)curve_ef(&r, k, 1e-300);
        (void)curve_ef(&r, k, 0.93);
        (void)curve_ef(&r, k, NAVMAP_RECALL_MAX);
    }
}

static void test_sound(void **state)
{
    (void)state;
    struct disk_root r = {0};
    assert_true(layout_curve_sound(&r));
    r.curve_items = 1;
    assert_true(layout_curve_sound(&r));
    r.curve_ef[2][0] = r.curve_ef[2][1] = 7;
    assert_true(layout_curve_sound(&r));
    r.curve_items = 0;
    assert_false(layout_curve_sound(&r));
    r.curve_items = 1;
    r.curve_ef[2][1] = 6;
    assert_false(layout_curve_sound(&r));
    r.curve_ef[2][1] = 0;
    r.curve_ef[2][5] = 9;
    assert_false(layout_curve_sound(&r));
}

/* Measured ------------------------------------------------------------------------------------*/

static navmap_index *make(const char *path, uint32_t space, uint32_t codes)
{
    const struct navmap_options o = {.struct_size = sizeof o,
                                     .dim = DIM,
                                     .space = space,
                                     .M = 6,
                                     .ef_construction = 40,
                                     .codes = codes};
    navmap_index *ix = NULL;
    if (path)
        assert_ok(navmap_create(path, &o, &ix));
    else
        assert_ok(navmap_new(&o, &ix));
    return ix;
}

static void fill(navmap_index *ix, const float *v, uint64_t n)
{
    const struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = 2};
    assert_ok(navmap_add(ix, n, v, NULL, &o, NULL));
}

static struct navmap_calibration calibrate(navmap_index *ix, uint32_t threads, uint32_t samples)
{
    const struct navmap_calibrate_options o = {
        .struct_size = sizeof o, .num_threads = threads, .samples = samples};
    struct navmap_calibration found = {.struct_size = sizeof found};
    assert_ok(navmap_calibrate(ix, &o, &found));
    return found;
}

static struct navmap_calibration calibration(navmap_index *ix)
{
    struct navmap_calibration found = {.struct_size = sizeof found};
    assert_ok(navmap_get_calibration(ix, &found));
    return found;
}

static double reached(navmap_index *ix, const float *q, uint64_t k, double target)
{
    const struct navmap_search_options o = {.struct_size = sizeof o, .target_recall = target};
    uint64_t *a = malloc(NQ * k * sizeof *a), *b = malloc(NQ * k * sizeof *b), hits = 0;
    float *d = malloc(NQ * k * sizeof *d);
    assert_ok(navmap_search(ix, NQ, q, k, &o, a, d, NULL));
    assert_ok(navmap_search_exact(ix, NQ, q, k, NULL, b, d, NULL));
    for (uint64_t i = 0; i < NQ; i++)
        for (uint64_t j = 0; j < k; j++)
            for (uint64_t l = 0; l < k; l++)
                hits += a[i * k + j] == b[i * k + l];
    free(a);
    free(b);
    free(d);
    return (double)hits / (double)(NQ * k);
}

/* Queries that the index never saw reach what was asked for, as near as 500 samples and 300
 * queries can tell; and a target does not cost more than it takes. */
static void aim(uint32_t space, uint32_t codes)
{
    const uint32_t n = scaled(8000, 4);
    float *v = random_vectors(&rng, n + NQ, DIM);
    navmap_index *ix = make(NULL, space, codes);
    fill(ix, v, n);
    struct navmap_calibration c = calibrate(ix, 2, 0);
    assert_int_equal(c.items, n);
    for (uint32_t k = 1; k <= 100; k *= 10)
        for (double target = 0.90; target < 1; target += 0.09 * 0.5) {
            double found = reached(ix, v + (size_t)n * DIM, k, target);
            print_message("space %u k %u: %.3f -> %.4f\n", space, k, target, found);
            assert_true(found > target - (k == 1 ? 0.045 : 0.025));
        }
    double found = reached(ix, v + (size_t)n * DIM, 10, 0.90);
    assert_true(found < 0.955);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_l2(void **state)
{
    (void)state;
    aim(NAVMAP_L2, NAVMAP_CODES_I8);
}

static void test_cosine(void **state)
{
    (void)state;
    aim(NAVMAP_COSINE, NAVMAP_CODES_NONE);
}

/* The same curve from any number of threads, and of deleted items nothing. */
static void test_threads(void **state)
{
    (void)state;
    const uint32_t n = scaled(2000, 4);
    float *v = clustered_vectors(&rng, n, DIM, 20);
    navmap_index *ix = make(NULL, NAVMAP_IP, 0);
    fill(ix, v, n);
    for (uint64_t label = 0; label < n; label += 3)
        assert_ok(navmap_delete(ix, label));
    struct navmap_calibration one = calibrate(ix, 1, 100);
    assert_int_equal(one.items, n - (n + 2) / 3);
    for (uint32_t threads = 2; threads < 6; threads++) {
        struct navmap_calibration some = calibrate(ix, threads, 100);
        assert_memory_equal(&one, &some, sizeof one);
    }
    assert_ok(navmap_close(ix));
    free(v);
}

static void *add_more(void *arg)
{
    navmap_index *ix = arg;
    struct rng r = {5};
    float *v = random_vectors(&r, 600, DIM);
    fill(ix, v, 600);
    for (uint64_t label = 0; label < 300; label++)
        assert_ok(navmap_delete(ix, label));
    fill(ix, v, 100);
    free(v);
    return NULL;
}

static void test_beside_changes(void **state)
{
    (void)state;
    float *v = random_vectors(&rng, 1500, DIM);
    navmap_index *ix = make(NULL, NAVMAP_L2, 0);
    pthread_t thread;
    fill(ix, v, 1500);
    assert_int_equal(pthread_create(&thread, NULL, add_more, ix), 0);
    (void)calibrate(ix, 2, 200);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(calibrate(ix, 2, 200).items, 1900);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_few(void **state)
{
    (void)state;
    float *v = random_vectors(&rng, NQ, DIM);
    navmap_index *ix = make(NULL, NAVMAP_L2, 0);
    assert_status(navmap_calibrate(ix, NULL, NULL), NAVMAP_EINVAL);
    fill(ix, v, 1);
    assert_status(navmap_calibrate(ix, NULL, NULL), NAVMAP_EINVAL);
    assert_int_equal(calibration(ix).items, 0);
    fill(ix, v + DIM, 59);
    assert_int_equal(calibrate(ix, 1, 0).items, 60);
    assert_true(reached(ix, v, 5, 0.80) > 0.80);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Refused -------------------------------------------------------------------------------------*/

static void test_refused(void **state)
{
    (void)state;
    float *v = random_vectors(&rng, 500, DIM), d[4];
    uint64_t labels[4];
    uint32_t ef;
    navmap_index *ix = make(NULL, NAVMAP_L2, 0);
    fill(ix, v, 500);
    struct navmap_search_options o = {.struct_size = sizeof o, .target_recall = 0.9};
    assert_status(navmap_search(ix, 1, v, 4, &o, labels, d, NULL), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), "calibrate"));
    (void)calibrate(ix, 1, 0);
    assert_ok(navmap_search(ix, 1, v, 4, &o, labels, d, NULL));
    static const double wrong[] = {-0.1, 1e9, 1.0, 0.9995, NAN, INFINITY};
    for (uint32_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.target_recall = wrong[i];
        assert_status(navmap_search(ix, 1, v, 4, &o, labels, d, NULL), NAVMAP_EINVAL);
        assert_status(navmap_ef_for_recall(ix, 4, wrong[i], &ef), NAVMAP_EINVAL);
    }
    assert_status(navmap_ef_for_recall(ix, 4, 0, &ef), NAVMAP_EINVAL);
    o.target_recall = 0.9;
    o.ef = 20;
    assert_status(navmap_search(ix, 1, v, 4, &o, labels, d, NULL), NAVMAP_EINVAL);
    struct navmap_calibration small = {.struct_size = 8};
    assert_status(navmap_get_calibration(ix, &small), NAVMAP_EINVAL);
    assert_status(navmap_calibrate(ix, NULL, &small), NAVMAP_EINVAL);
    assert_ok(navmap_close(ix));
    const struct navmap_options flat = {.struct_size = sizeof flat, .dim = DIM, .flat = 1};
    assert_ok(navmap_new(&flat, &ix));
    fill(ix, v, 100);
    assert_status(navmap_calibrate(ix, NULL, NULL), NAVMAP_EINVAL);
    o.ef = 0;
    assert_ok(navmap_search(ix, 1, v, 4, &o, labels, d, NULL));
    assert_ok(navmap_close(ix));
    free(v);
}

/* Kept ----------------------------------------------------------------------------------------*/

/* A beam that is told when to stop finds nearly as much for fewer distances. */
static void test_stop(void **state)
{
    (void)state;
    const uint32_t n = scaled(8000, 4);
    float *v = random_vectors(&rng, n + NQ, DIM), d[NQ * 10];
    static uint64_t labels[NQ * 10], truth[NQ * 10];
    struct navmap_search_counts plain = {0}, early = {0};
    navmap_index *ix = make(NULL, NAVMAP_COSINE, 0);
    fill(ix, v, n);
    const float *q = v + (size_t)n * DIM;
    assert_ok(navmap_search_exact(ix, NQ, q, 10, NULL, truth, d, NULL));
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 200, .ret_counts = &plain};
    uint32_t hits[2] = {0};
    for (uint32_t turn = 0; turn < 2; turn++) {
        assert_ok(navmap_search(ix, NQ, q, 10, &o, labels, d, NULL));
        for (uint32_t i = 0; i < NQ * 10; i++)
            for (uint32_t j = i / 10 * 10; j < i / 10 * 10 + 10; j++)
                hits[turn] += labels[i] == truth[j];
        o.stop = 0.25;
        o.ret_counts = &early;
    }
    print_message("%u and %u found, %llu and %llu measured\n", hits[0], hits[1],
                  (unsigned long long)plain.measured, (unsigned long long)early.measured);
    assert_true(hits[1] + NQ / 10 > hits[0] && early.measured < plain.measured * 4 / 5);
    static const double wrong[] = {-0.1, 1e7, NAN, INFINITY};
    for (uint32_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        o.stop = wrong[i];
        assert_status(navmap_search(ix, 1, q, 1, &o, labels, d, NULL), NAVMAP_EINVAL);
    }
    assert_ok(navmap_close(ix));
    ix = make(NULL, NAVMAP_IP, 0);
    fill(ix, v, 10);
    o.stop = 0.1;
    assert_status(navmap_search(ix, 1, q, 1, &o, labels, d, NULL), NAVMAP_EINVAL);
    assert_ok(navmap_close(ix));
    free(v);
}

static int stop(void *ctx, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    ++*(uint32_t *)ctx;
    return 1;
}

static void test_interrupted(void **state)
{
    (void)state;
    const uint32_t n = scaled(20000, 5);
    float *v = random_vectors(&rng, n, DIM);
    uint32_t asked = 0;
    navmap_index *ix = make(NULL, NAVMAP_L2, 0);
    fill(ix, v, n);
    struct navmap_calibration before = calibrate(ix, 2, 50);
    const struct navmap_calibrate_options o = {.struct_size = sizeof o,
                                               .samples = 2000,
                                               .num_threads = 2,
                                               .progress = stop,
                                               .progress_ctx = &asked};
    assert_status(navmap_calibrate(ix, &o, NULL), NAVMAP_EINTERRUPTED);
    assert_int_equal(asked, 1);
    struct navmap_calibration after = calibration(ix);
    assert_memory_equal(&before, &after, sizeof before);
    assert_ok(navmap_close(ix));
    free(v);
}

static void assert_keeps(navmap_index *ix, const struct navmap_calibration *expected)
{
    struct navmap_calibration found = calibration(ix);
    assert_memory_equal(&found, expected, sizeof found);
}

static void test_kept(void **state)
{
    (void)state;
    float *v = clustered_vectors(&rng, 2000, DIM, 30);
    char sealed[128];
    (void)snprintf(sealed, sizeof sealed, "%s-sealed", test_path);
    navmap_index *ix = make(test_path, NAVMAP_L2, 0), *reader, *loaded;
    assert_ok(navmap_open(test_path, NAVMAP_READ, NULL, &reader));
    fill(ix, v, 2000);
    struct navmap_calibration c = calibrate(ix, 2, 100);
    assert_keeps(reader, &c);
    assert_status(navmap_calibrate(reader, NULL, NULL), NAVMAP_EREADONLY);
    assert_ok(navmap_close(ix));
    assert_ok(navmap_open(test_path, NAVMAP_WRITE, NULL, &ix));
    assert_keeps(ix, &c);

    assert_ok(navmap_save(ix, sealed));
    assert_ok(navmap_load(sealed, NULL, &loaded));
    assert_keeps(loaded, &c);
    assert_ok(navmap_close(loaded));
    struct navmap_compact_options o = {.struct_size = sizeof o, .output = sealed};
    assert_ok(navmap_compact(ix, &o, NULL));
    assert_ok(navmap_load(sealed, NULL, &loaded));
    assert_keeps(loaded, &c);
    assert_ok(navmap_close(loaded));
    o.M = 4; /* another graph */
    assert_ok(navmap_compact(ix, &o, NULL));
    assert_ok(navmap_load(sealed, NULL, &loaded));
    assert_int_equal(calibration(loaded).items, 0);
    assert_ok(navmap_close(loaded));

    for (uint64_t label = 0; label < 500; label++)
        assert_ok(navmap_delete(ix, label));
    assert_ok(navmap_compact(ix, NULL, NULL)); /* measures anew */
    assert_int_equal(calibration(ix).items, 1500);
    assert_int_equal(calibration(reader).items, 1500);
    assert_ok(navmap_close(reader));
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
    rng = test_rng();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_climb),
        cmocka_unit_test(test_climb_uneven),
        cmocka_unit_test(test_between),
        cmocka_unit_test(test_any_curve),
        cmocka_unit_test(test_sound),
        cmocka_unit_test(test_l2),
        cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_beside_changes),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_interrupted),
        cmocka_unit_test_setup_teardown(test_kept, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
