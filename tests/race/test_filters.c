/* test_filters.c -- filtered searches on one handle beside a writer that moves labels all the time.
 *
 * The vector of a label is a function of the label and a version, of which there are few: an answer
 * must be, bit for bit, the distance of some version of a label that passes (V2).  Slots are used
 * again meanwhile, so a filter that believes what it knew of a slot lets others' labels through,
 * and one that only knows old slots loses those that moved.  Run it under ThreadSanitizer.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "engine/index.h"
#include "engine/navmap_filter.h"
#include "tests/support/engine.h"

#define DIM 12u
#define K 10u
#define MOVING 400u
#define VERSIONS 4u

static struct {
    navmap_index *ix;
    _Atomic bool stop;
    _Atomic uint32_t wrong, updates, searches, missed;
    uint64_t odd[MOVING / 2];
    navmap_filter_set *sets[2]; /* of the odd ones, allowed, and of the even ones, denied */
} race;

static void moving_vector(uint64_t label, uint32_t version, float *ret_v)
{
    struct rng r = {label * VERSIONS + version + 1};
    for (uint32_t i = 0; i < DIM; i++)
        ret_v[i] = rng_normal(&r);
}
static void expect(bool right)
{
    if (!right)
        atomic_fetch_add(&race.wrong, 1);
}
static int odd_only(void *ctx, uint64_t label)
{
    (void)ctx;
    expect(label < MOVING); /* F3: never a half of one */
    return label % 2 == 1;
}

static void *move_labels(void *ctx)
{
    struct rng r = {*(const uint64_t *)ctx};
    while (!atomic_load(&race.stop)) {
        float v[16 * DIM];
        uint64_t labels[16];
        for (uint32_t i = 0; i < 16; i++) { /* label 1 stays where it is */
            labels[i] = 2 + rng_below(&r, MOVING - 2);
            moving_vector(labels[i], rng_below(&r, VERSIONS), v + (size_t)i * DIM);
        }
        expect(navmap_add(race.ix, 16, v, labels, NULL, NULL) == NAVMAP_OK);
        atomic_fetch_add(&race.updates, 16);
    }
    return NULL;
}

static void check_moving(const float *query, const uint64_t *labels, const float *distances)
{
    for (uint32_t i = 0; i < K; i++) {
        bool exists = false;
        expect(labels[i] < MOVING && labels[i] % 2 == 1);
        for (uint32_t version = 0; version < VERSIONS && labels[i] < MOVING; version++) {
            float v[DIM];
            moving_vector(labels[i], version, v);
            exists = exists || race.ix->distance.fn(query, v, DIM) == distances[i];
        }
        expect(exists); /* V2, as that label */
        for (uint32_t j = 0; j < i; j++)
            expect(labels[j] != labels[i]); /* V5 */
    }
}

static void *search_odd(void *ctx)
{
    struct rng r = {*(const uint64_t *)ctx};
    while (!atomic_load(&race.stop)) {
        enum { ROWS = 12 };
        uint32_t how = rng_below(&r, 9);
        uint64_t labels[ROWS * K];
        float queries[ROWS * DIM], distances[ROWS * K];
        struct navmap_search_options o = {.struct_size = sizeof o, .ef = how < 2 ? 5 : 30};
        for (uint32_t i = 0; i < ROWS; i++)
            moving_vector(1, 0, queries + (size_t)i * DIM);
        navmap_filter_set *rows[ROWS];
        for (uint32_t i = 0; i < ROWS; i++)
            rows[i] = race.sets[i % 2];
        if (how >= 8)
            o.row_sets = rows;
        else if (how >= 6)
            o.set = race.sets[how % 2];
        else if (how % 3 != 0) {
            o.allowed = race.odd;
            o.n_allowed = MOVING / 2;
        }
        o.filter = how < 6 && how % 3 != 1 ? odd_only : NULL;
        o.num_threads = 1 + rng_below(&r, 2); /* 12 rows are enough for two */
        expect((how == 5 ? navmap_search_exact : navmap_search)(
                   race.ix, ROWS, queries, K, &o, labels, distances, NULL) == NAVMAP_OK);
        for (uint32_t i = 0; i < ROWS; i++) {
            check_moving(queries + (size_t)i * DIM, labels + (size_t)i * K,
                         distances + (size_t)i * K);
            atomic_fetch_add(&race.missed, labels[i * K] != 1);
            atomic_fetch_add(&race.searches, 1);
        }
    }
    return NULL;
}

static void run(bool in_memory)
{
    struct rng r = test_rng();
    struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 8, .ef_construction = 60, .slot_shift = 5};
    float v[MOVING * DIM];
    memset(&race, 0, sizeof race);
    for (uint32_t i = 0; i < MOVING; i++) {
        moving_vector(i, 0, v + (size_t)i * DIM);
        if (i % 2 == 1)
            race.odd[i / 2] = i;
    }
    if (in_memory)
        assert_ok(navmap_new(&o, &race.ix));
    else
        assert_ok(navmap_create(test_path, &o, &race.ix));
    add_range(race.ix, v, 0, MOVING);
    const struct navmap_filter_options deny = {.struct_size = sizeof deny, .deny = 1};
    uint64_t even[MOVING / 2];
    for (uint32_t i = 0; i < MOVING / 2; i++)
        even[i] = 2ull * i;
    assert_ok(navmap_filter_create(race.ix, MOVING / 2, race.odd, NULL, &race.sets[0]));
    assert_ok(navmap_filter_create(race.ix, MOVING / 2, even, &deny, &race.sets[1]));
    void *(*const roles[])(void *) = {search_odd, search_odd, move_labels};
    enum { THREADS = sizeof roles / sizeof *roles };
    pthread_t threads[THREADS];
    uint64_t seeds[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        seeds[i] = rng_next(&r);
        assert_int_equal(pthread_create(&threads[i], NULL, roles[i], &seeds[i]), 0);
    }
    /* Long enough for the slots to be used again: 1,024 die before a sweep begins. */
    uint32_t least = scaled(6000, 2), tenths = 0;
    while (tenths < 200 && (tenths < scaled(40, 2) || atomic_load(&race.updates) < least)) {
        usleep(100000);
        tenths++;
    }
    atomic_store(&race.stop, true);
    for (uint32_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    struct navmap_stats s = stats_of(race.ix);
    print_message("%u searches, %u missed, %u updates, %llu slots\n", atomic_load(&race.searches),
                  atomic_load(&race.missed), atomic_load(&race.updates),
                  (unsigned long long)s.nslots);
    assert_int_equal(atomic_load(&race.wrong), 0);
    assert_true(s.nslots < MOVING + atomic_load(&race.updates)); /* some were used again */
    assert_true(atomic_load(&race.missed) <= atomic_load(&race.searches) / 50);
    navmap_filter_free(race.sets[0]);
    assert_ok(navmap_close(race.ix));
    navmap_filter_free(race.sets[1]);
}

static void test_shared(void **state)
{
    (void)state;
    run(false);
}
static void test_private(void **state)
{
    (void)state;
    run(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shared, make_dir, remove_dir),
        cmocka_unit_test(test_private),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
