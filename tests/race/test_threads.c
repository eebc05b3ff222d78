/* test_threads.c -- one handle, many threads: adders, updaters, markers, replacers, savers.
 *
 * The same on a directory and in memory, where items are written through beside the searches.
 *
 * Every answer is checked (versions.h): its distance must be that of some version (V2), no label is
 * there twice (V5), rows are sorted.  Of items nobody touches 98 % must be found (V7).  Slots are
 * reused all the while: updates are many enough for several sweeps.  Run it under ThreadSanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "storage/layout.h"
#include "tests/race/versions.h"

#define SETTLED 300u /* labels below are never touched */
#define CHURNED 600u /* labels below are updated and marked */
#define K 10u
#define BATCH 150u   /* more than one thread of a call takes between two looks at the log */
#define REPLACED 64u /* items that a replacer turns over at a time */

static navmap_index *ix;
static _Atomic bool stop;
static _Atomic uint32_t searches, saves, missed, updates, appended;

static void *search(void *ctx)
{
    struct rng r = {seed + 77 + *(const uint32_t *)ctx};
    while (!atomic_load(&stop)) {
        struct navmap_search_options o = {.struct_size = sizeof o, .ef = 80};
        uint64_t labels[K], target = rng_below(&r, SETTLED);
        float query[DIM], distances[K];
        vector_of(target, 0, query);
        expect(navmap_search(ix, 1, query, K, &o, labels, distances, NULL) == NAVMAP_OK);
        /* The walk is approximate: churn can take a node's last in-links, so misses are counted. */
        if (labels[0] != target)
            atomic_fetch_add(&missed, 1);
        else
            expect(distances[0] == 0);
        for (uint32_t i = 0; i < K; i++) {
            expect(distance_exists(query, labels[i], distances[i]));
            expect(i == 0 || distances[i] >= distances[i - 1]);
            for (uint32_t j = 0; j < i; j++)
                expect(labels[j] != labels[i]);
        }
        float got[DIM];
        expect(navmap_get(ix, 1, &target, got) == NAVMAP_OK);
        expect(memcmp(got, query, sizeof got) == 0);
        atomic_fetch_add(&searches, 1);
    }
    return NULL;
}

static void *update(void *ctx)
{
    struct rng r = {seed + 99 + *(const uint32_t *)ctx};
    while (!atomic_load(&stop)) {
        float v[16 * DIM];
        uint64_t labels[16];
        for (uint32_t i = 0; i < 16; i++) {
            labels[i] = SETTLED + rng_below(&r, CHURNED - SETTLED);
            vector_of(labels[i], rng_below(&r, VERSIONS), v + (size_t)i * DIM);
        }
        /* By threads of the handle every other time; labels may be there twice. */
        struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = updates % 2 ? 3 : 1};
        expect(navmap_add(ix, 16, v, labels, &o, NULL) == NAVMAP_OK);
        atomic_fetch_add(&updates, 16);
    }
    return NULL;
}

static void *mark(void *ctx)
{
    struct rng r = {seed + 55 + *(const uint32_t *)ctx};
    while (!atomic_load(&stop)) {
        uint64_t label = SETTLED + rng_below(&r, CHURNED - SETTLED);
        navmap_status s = navmap_delete(ix, label);
        expect(s == NAVMAP_OK || s == NAVMAP_EDELETED);
        s = navmap_undelete(ix, label); /* an update may have done it before */
        expect(s == NAVMAP_OK || s == NAVMAP_ENOTDELETED);
        struct navmap_stats stats = {.struct_size = sizeof stats};
        expect(navmap_get_stats(ix, &stats) == NAVMAP_OK);
    }
    return NULL;
}

/* Without labels, in several slices each: two calls must never be given one number. */
static void *append(void *ctx)
{
    (void)ctx;
    float v[BATCH * DIM];
    for (uint32_t i = 0; i < 12 && !atomic_load(&stop); i++) {
        for (uint32_t j = 0; j < BATCH * DIM; j++)
            v[j] = 50.0f + (float)(j % 97); /* far from everybody's queries */
        expect(navmap_add(ix, BATCH, v, NULL, NULL, NULL) == NAVMAP_OK);
        atomic_fetch_add(&appended, BATCH);
        expect(navmap_flush(ix) == NAVMAP_OK);
    }
    return NULL;
}

/* A saved file holds whole items as they were at one moment, whoever else is at it. */
static void *save(void *ctx)
{
    struct rng r = {seed + 11 + *(const uint32_t *)ctx};
    char path[128];
    (void)snprintf(path, sizeof path, "%s.saved", test_path);
    while (!atomic_load(&stop)) {
        navmap_index *saved = NULL;
        struct navmap_check_result check = {.struct_size = sizeof check};
        expect(navmap_save(ix, path) == NAVMAP_OK);
        if (navmap_load(path, NULL, &saved) != NAVMAP_OK) {
            expect(false);
            break;
        }
        expect(navmap_check(saved, NULL, NULL, &check) == NAVMAP_OK && check.damaged == 0);
        for (uint32_t i = 0; i < 20; i++) {
            uint64_t label = rng_below(&r, SETTLED);
            float v[DIM], got[DIM];
            vector_of(label, 0, v);
            expect(navmap_get(saved, 1, &label, got) == NAVMAP_OK && !memcmp(v, got, sizeof v));
        }
        expect(navmap_close(saved) == NAVMAP_OK);
        atomic_fetch_add(&saves, 1);
        (void)nanosleep(&(struct timespec){0, 20000000}, NULL);
    }
    return NULL;
}

static void run(void *(*const *roles)(void *), uint32_t n)
{
    pthread_t threads[32];
    uint32_t numbers[32];
    atomic_store(&stop, false);
    for (uint32_t i = 0; i < n; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, roles[i], &numbers[i]), 0);
    }
    const char *tier = getenv("NAVMAP_TIER");
    sleep(getenv("NAVMAP_SHORT") ? 3 : tier && strcmp(tier, "test") != 0 ? 60 : 4);
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

/* An index of CHURNED items. */
static void make_index(bool in_memory, bool replace)
{
    struct rng r = test_rng();
    seed = rng_next(&r);
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .M = 8,
                               .ef_construction = 60,
                               .slot_shift = 5,
                               .allow_replace_deleted = replace};
    float *v = malloc(sizeof *v * DIM * CHURNED);
    for (uint32_t label = 0; label < CHURNED; label++)
        vector_of(label, 0, v + (size_t)label * DIM);
    assert_ok(in_memory ? navmap_new(&o, &ix) : navmap_create(test_path, &o, &ix));
    add_range(ix, v, 0, CHURNED);
    free(v);
    assert_int_equal(distance_choose(NAVMAP_L2, LAYOUT_F32, DIM, &metric), 0);
    atomic_store(&searches, 0);
    atomic_store(&saves, 0);
    atomic_store(&missed, 0);
    atomic_store(&updates, 0);
    atomic_store(&appended, 0);
    atomic_store(&wrong, 0);
}

static void all_at_once(bool in_memory)
{
    void *(*const roles[])(void *) = {search, search, search, search, update, update, update, mark,
                                      mark,   append, append, append, search, update, save};
    make_index(in_memory, false);
    run(roles, sizeof roles / sizeof *roles);
    struct navmap_stats s = stats_of(ix);
    print_message("%u searches, %u missed, %u updates, %llu slots for %llu items\n",
                  atomic_load(&searches), atomic_load(&missed), atomic_load(&updates),
                  (unsigned long long)s.nslots, (unsigned long long)s.n_live);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_true(atomic_load(&missed) <= atomic_load(&searches) / 50);
    assert_true(atomic_load(&searches) > 0 && atomic_load(&updates) > 0);
    assert_true(atomic_load(&saves) > 0);
    assert_int_equal(s.n_live + s.n_deleted, CHURNED + atomic_load(&appended)); /* numbers once */
    struct navmap_check_result check = {.struct_size = sizeof check};
    assert_ok(navmap_check(ix, NULL, NULL, &check));
    assert_int_equal(check.damaged, 0);
    assert_ok(navmap_close(ix));
}

static void test_directory(void **state)
{
    (void)state;
    all_at_once(false);
}

static void test_memory(void **state)
{
    (void)state;
    all_at_once(true);
}

/* Deletes some items of its own and puts new ones in the places of any that are deleted, beside
 * others that do the same. */
static void *replace(void *ctx)
{
    uint32_t number = *(const uint32_t *)ctx;
    struct rng r = {seed + 33 + number};
    uint64_t first = (uint64_t)(number + 1) << 32, labels[REPLACED];
    float v[REPLACED * DIM];
    for (bool begun = false; !atomic_load(&stop); begun = true) {
        struct navmap_add_options o = {
            .struct_size = sizeof o, .num_threads = 2, .replace_deleted = begun};
        for (uint32_t i = 0; begun && i < REPLACED; i++) {
            expect(navmap_delete(ix, first + i) == NAVMAP_OK);
        }
        first += begun ? REPLACED : 0;
        for (uint32_t i = 0; i < REPLACED; i++) {
            labels[i] = first + i;
            vector_of(labels[i], rng_below(&r, VERSIONS), v + (size_t)i * DIM);
        }
        expect(navmap_add(ix, REPLACED, v, labels, &o, NULL) == NAVMAP_OK);
        for (uint32_t i = 0; i < REPLACED; i++) {
            bool there = false;
            expect(navmap_contains(ix, labels[i], &there) == NAVMAP_OK && there);
        }
        atomic_fetch_add(&updates, REPLACED);
    }
    return NULL;
}

static void replacing(bool in_memory)
{
    void *(*const roles[])(void *) = {search,  replace, search, replace,
                                      replace, replace, search, save};
    make_index(in_memory, true);
    run(roles, sizeof roles / sizeof *roles);
    struct navmap_stats s = stats_of(ix);
    print_message("%u searches, %u missed, %u replaced, %llu slots for %llu items\n",
                  atomic_load(&searches), atomic_load(&missed), atomic_load(&updates),
                  (unsigned long long)s.nslots, (unsigned long long)s.n_live);
    assert_int_equal(atomic_load(&wrong), 0);
    assert_true(atomic_load(&searches) > 0 && atomic_load(&updates) > 4 * REPLACED);
    /* Every label took the place of one that was deleted, but for the four first batches. */
    assert_int_equal(s.n_live, CHURNED + 4 * REPLACED);
    assert_int_equal(s.n_deleted, 0);
    struct navmap_check_result check = {.struct_size = sizeof check};
    assert_ok(navmap_check(ix, NULL, NULL, &check));
    assert_int_equal(check.damaged, 0);
    assert_ok(navmap_close(ix));
}

static void test_replacing_directory(void **state)
{
    (void)state;
    replacing(false);
}

static void test_replacing_memory(void **state)
{
    (void)state;
    replacing(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_directory, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_memory, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_replacing_directory, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_replacing_memory, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
