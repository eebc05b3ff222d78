/* test_flat.c -- a flat index, many threads: adders, removers, markers, searchers, getters.
 *
 * Slots are free the moment their item is gone and are used again at once, so a search meets reuse
 * all the time.  Every answer is checked (versions.h): its distance must be that of some version
 * (V2), no label is there twice (V5), rows are sorted, and what nobody touches is always found
 * (V7).  Run it under ThreadSanitizer.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "storage/layout.h"
#include "tests/race/versions.h"

#define SETTLED 100u /* labels below are never touched */
#define CHURNED 300u /* labels below come and go */
#define K 10u
#define ROWS 10u

static navmap_index *ix;
static _Atomic bool stop;
static _Atomic uint32_t searches, missed, got, adds, removals;

static int is_even(void *ctx, uint64_t label)
{
    (void)ctx;
    return label % 2 == 0;
}

static void check_row(const float *query, const uint64_t *labels, const float *distances,
                      uint64_t target, uint32_t kind)
{
    if (labels[0] != target)
        atomic_fetch_add(&missed, 1);
    for (uint32_t i = 0; i < K; i++) {
        expect(distance_exists(query, labels[i], distances[i]));
        expect(i == 0 || distances[i] >= distances[i - 1]);
        expect(kind == 0 || labels[i] % 2 == 0);
        for (uint32_t j = 0; j < i; j++)
            expect(labels[j] != labels[i]);
    }
}

/* All labels, a list of half of them, and a function that lets the same half through, in turn. */
static void *search(void *ctx)
{
    struct rng r = {seed + 77 + *(const uint32_t *)ctx};
    uint64_t even[CHURNED / 2];
    for (uint32_t i = 0; i < CHURNED / 2; i++)
        even[i] = 2ull * i;
    for (uint32_t kind = 0; !atomic_load(&stop); kind = (kind + 1) % 3) {
        struct navmap_search_options o = {.struct_size = sizeof o,
                                          .num_threads = 1 + rng_below(&r, 2),
                                          .filter = kind == 2 ? is_even : NULL,
                                          .allowed = kind == 1 ? even : NULL,
                                          .n_allowed = kind == 1 ? CHURNED / 2 : 0};
        uint64_t labels[ROWS * K], targets[ROWS];
        float queries[ROWS * DIM], distances[ROWS * K];
        for (uint32_t i = 0; i < ROWS; i++) {
            targets[i] = rng_below(&r, SETTLED / 2) * 2ull;
            vector_of(targets[i], 0, queries + (size_t)i * DIM);
        }
        expect(navmap_search(ix, ROWS, queries, K, &o, labels, distances, NULL) == NAVMAP_OK);
        for (uint32_t i = 0; i < ROWS; i++)
            check_row(queries + (size_t)i * DIM, labels + (size_t)i * K, distances + (size_t)i * K,
                      targets[i], kind);
        atomic_fetch_add(&searches, ROWS);
    }
    return NULL;
}

static uint64_t churned(struct rng *r)
{
    return SETTLED + rng_below(r, CHURNED - SETTLED);
}

/* New labels and updates, as it comes; labels may be there twice. */
static void *add(void *ctx)
{
    struct rng r = {seed + 99 + *(const uint32_t *)ctx};
    while (!atomic_load(&stop)) {
        float v[16 * DIM];
        uint64_t labels[16];
        for (uint32_t i = 0; i < 16; i++) {
            labels[i] = churned(&r);
            vector_of(labels[i], rng_below(&r, VERSIONS), v + (size_t)i * DIM);
        }
        struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = 1 + adds % 3};
        expect(navmap_add(ix, 16, v, labels, &o, NULL) == NAVMAP_OK);
        atomic_fetch_add(&adds, 16);
    }
    return NULL;
}

static void *take_away(void *ctx)
{
    struct rng r = {seed + 55 + *(const uint32_t *)ctx};
    while (!atomic_load(&stop)) {
        navmap_status s = navmap_remove(ix, churned(&r));
        expect(s == NAVMAP_OK || s == NAVMAP_ENOTFOUND);
        atomic_fetch_add(&removals, s == NAVMAP_OK);
        (void)sched_yield(); /* else a slice of time is enough to remove all there is */
    }
    return NULL;
}

static void *mark(void *ctx)
{
    struct rng r = {seed + 33 + *(const uint32_t *)ctx};
    while (!atomic_load(&stop)) {
        uint64_t label = churned(&r);
        navmap_status s = navmap_delete(ix, label);
        expect(s == NAVMAP_OK || s == NAVMAP_EDELETED || s == NAVMAP_ENOTFOUND);
        s = navmap_undelete(ix, label);
        expect(s == NAVMAP_OK || s == NAVMAP_ENOTDELETED || s == NAVMAP_ENOTFOUND);
    }
    return NULL;
}

static void *get(void *ctx)
{
    struct rng r = {seed + 11 + *(const uint32_t *)ctx};
    uint64_t labels[2 * CHURNED], n = 0;
    while (!atomic_load(&stop)) {
        uint64_t label = churned(&r), settled = rng_below(&r, SETTLED);
        float v[DIM], own[DIM];
        bool there = false;
        navmap_status s = navmap_get(ix, 1, &label, v);
        expect(s == NAVMAP_ENOTFOUND || (s == NAVMAP_OK && distance_exists(v, label, 0)));
        atomic_fetch_add(&got, s == NAVMAP_OK);
        vector_of(settled, 0, own);
        expect(navmap_get(ix, 1, &settled, v) == NAVMAP_OK);
        expect(memcmp(v, own, sizeof v) == 0);
        expect(navmap_contains(ix, settled, &there) == NAVMAP_OK && there);
        expect(navmap_labels(ix, true, 2 * CHURNED, labels, &n) == NAVMAP_OK && n >= SETTLED);
        for (uint64_t i = 0; i < n && i < 2 * CHURNED; i++)
            expect(labels[i] < CHURNED);
    }
    return NULL;
}

static void *look(void *ctx)
{
    (void)ctx;
    while (!atomic_load(&stop)) {
        struct navmap_check_result check = {.struct_size = sizeof check};
        struct navmap_stats stats = {.struct_size = sizeof stats};
        expect(navmap_check(ix, NULL, NULL, &check) == NAVMAP_OK && check.damaged == 0);
        expect(navmap_get_stats(ix, &stats) == NAVMAP_OK);
        (void)usleep(2000);
    }
    return NULL;
}

static void test_all_at_once(void **state)
{
    (void)state;
    void *(*const roles[])(void *) = {search,    search,    search, add, add, add,
                                      take_away, take_away, mark,   get, get, look};
    enum { N = sizeof roles / sizeof *roles };
    pthread_t threads[N];
    uint32_t numbers[N];
    struct rng r = test_rng();
    seed = rng_next(&r);
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .max_elements =
                                   CHURNED + 64, /* two adders may want room for one label */
                               .bounded = 1,
                               .slot_shift = 5,
                               .flat = 1};
    float *v = malloc(sizeof *v * DIM * SETTLED);
    for (uint32_t label = 0; label < SETTLED; label++)
        vector_of(label, 0, v + (size_t)label * DIM);
    assert_ok(navmap_new(&o, &ix));
    add_range(ix, v, 0, SETTLED);
    free(v);
    assert_int_equal(distance_choose(NAVMAP_L2, LAYOUT_F32, DIM, &metric), 0);
    for (uint32_t i = 0; i < N; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, roles[i], &numbers[i]), 0);
    }
    const char *tier = getenv("NAVMAP_TIER");
    sleep(getenv("NAVMAP_SHORT") ? 3 : tier && strcmp(tier, "test") != 0 ? 60 : 4);
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < N; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    struct navmap_stats s = stats_of(ix);
    print_message(
        "%u searches, %u missed, %u got, %u added, %u removed, %llu slots for %llu items\n",
        atomic_load(&searches), atomic_load(&missed), atomic_load(&got), atomic_load(&adds),
        atomic_load(&removals), (unsigned long long)s.nslots,
        (unsigned long long)(s.n_live + s.n_deleted));
    assert_int_equal(atomic_load(&wrong), 0);
    assert_int_equal(atomic_load(&missed), 0);
    assert_true(atomic_load(&searches) > 0 && atomic_load(&got) > 0);
    assert_true(atomic_load(&adds) > 10 * CHURNED && atomic_load(&removals) > 10);
    assert_int_equal(s.n_dead, 0);
    assert_true(s.nslots <= CHURNED + 16); /* and an item of each thread's under way */
    struct navmap_check_result check = {.struct_size = sizeof check};
    assert_ok(navmap_check(ix, NULL, NULL, &check));
    assert_int_equal(check.damaged + check.warnings, 0);
    assert_ok(navmap_close(ix));
}

/* On the first question about label 0 it moves to a slot that the scan has yet to come to, as a
 * new item, which by itself counts in nothing that a search looks at: its removal has to. */
static int move_ahead(void *ctx, uint64_t label)
{
    bool *moved = ctx;
    float v[DIM];
    if (label == 0 && !*moved) {
        *moved = true;
        vector_of(0, 0, v);
        expect(navmap_remove(ix, 0) == NAVMAP_OK);
        expect(navmap_remove(ix, SETTLED - 1) == NAVMAP_OK); /* whose slot is the next to be used */
        expect(navmap_add(ix, 1, v, &label, NULL, NULL) == NAVMAP_OK);
    }
    return 1;
}

static void test_met_twice(void **state)
{
    (void)state;
    bool moved = false;
    struct navmap_options o = {.struct_size = sizeof o, .dim = DIM, .flat = 1};
    struct navmap_search_options so = {
        .struct_size = sizeof so, .filter = move_ahead, .filter_ctx = &moved};
    float v[SETTLED * DIM], distances[3];
    uint64_t labels[3];
    for (uint32_t label = 0; label < SETTLED; label++)
        vector_of(label, 0, v + (size_t)label * DIM);
    atomic_store(&wrong, 0);
    assert_ok(navmap_new(&o, &ix));
    add_range(ix, v, 0, SETTLED);
    assert_ok(navmap_remove(ix, 50)); /* from here on the newest free slot is used first */
    add_range(ix, v + 50 * DIM, 50, 1);
    assert_ok(navmap_search(ix, 1, v, 3, &so, labels, distances, NULL));
    assert_int_equal(atomic_load(&wrong), 0);
    assert_true(moved && labels[0] == 0 && distances[0] == 0);
    assert_true(labels[1] != 0 && labels[2] != 0 && labels[1] != labels[2]);
    assert_ok(navmap_close(ix));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_met_twice),
        cmocka_unit_test(test_all_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
