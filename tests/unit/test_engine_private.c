/* test_engine_private.c -- an index in memory: life, limits, replacement, growth, fork, threads. */
#include <sys/stat.h>
#include <sys/wait.h>

#include "engine/index.h"
#include "storage/handle.h"
#include "tests/support/engine.h"

#define DIM 16u

static navmap_index *new_index(uint64_t max_elements, bool bounded, bool replace)
{
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .M = 8,
                               .ef_construction = 80,
                               .max_elements = max_elements,
                               .bounded = bounded,
                               .allow_replace_deleted = replace};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    return ix;
}

static navmap_status add_one(navmap_index *ix, uint64_t label, const float *v, bool replace)
{
    struct navmap_add_options o = {.struct_size = sizeof o, .replace_deleted = replace};
    return navmap_add(ix, 1, v, &label, &o, NULL);
}

static bool contains(navmap_index *ix, uint64_t label)
{
    bool yes = false;
    assert_ok(navmap_contains(ix, label, &yes));
    return yes;
}

/* The structure of the whole index. */
static void assert_sound(navmap_index *ix)
{
    struct navmap_check_result r = {.struct_size = sizeof r};
    assert_ok(navmap_check(ix, NULL, NULL, &r));
    assert_int_equal(r.damaged, 0);
}

static void assert_nearest(navmap_index *ix, const float *query, uint64_t label)
{
    uint64_t found;
    float distance;
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 200};
    assert_ok(navmap_search(ix, 1, query, 1, &o, &found, &distance, NULL));
    assert_int_equal(found, label);
    assert_true(distance == 0);
}

static void test_life(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(4000, 4);
    float *v = random_vectors(&r, n, DIM), got[DIM];
    navmap_index *ix = new_index(0, false, false);
    assert_status(navmap_search(ix, 1, v, 1, NULL, &(uint64_t){0}, got, NULL), NAVMAP_EFEWER);
    add_range(ix, v, 0, n);
    assert_true(recall_of(ix, v, 100, 10, 100) > 0.95);
    for (uint32_t i = 0; i < n; i += 97) {
        uint64_t label = i;
        assert_nearest(ix, v + (size_t)i * DIM, label);
        assert_ok(navmap_get(ix, 1, &label, got));
        assert_memory_equal(got, v + (size_t)i * DIM, sizeof got);
    }
    assert_ok(navmap_delete(ix, 5));
    assert_status(navmap_delete(ix, 5), NAVMAP_EDELETED);
    assert_status(navmap_undelete(ix, 6), NAVMAP_ENOTDELETED);
    assert_status(navmap_delete(ix, n + 5), NAVMAP_ENOTFOUND);
    assert_false(contains(ix, 5));
    assert_ok(navmap_undelete(ix, 5));
    assert_nearest(ix, v + 5 * DIM, 5);
    assert_ok(add_one(ix, 5, v, false)); /* an update: now a copy of the first */
    uint64_t label = 5;
    assert_ok(navmap_get(ix, 1, &label, got));
    assert_memory_equal(got, v, sizeof got);
    assert_ok(navmap_flush(ix));
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.in_memory, 1);
    assert_int_equal(s.mode, NAVMAP_WRITE);
    assert_int_equal(s.n_live, n);
    assert_int_equal(s.n_dead, 1);
    assert_int_equal(s.data_file_bytes + s.wal_bytes + s.pending, 0);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_limits(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 64, DIM);
    navmap_index *ix = new_index(0, true, false);
    assert_status(add_one(ix, 1, v, false), NAVMAP_EFULL);
    assert_non_null(
        strstr(navmap_error_detail(), "The number of elements exceeds the specified limit"));
    assert_ok(navmap_resize(ix, 10));
    add_range(ix, v, 0, 10);
    assert_status(navmap_add(ix, 1, v, NULL, NULL, NULL), NAVMAP_EFULL);
    /* A batch of old and new labels: refused as a whole. */
    const uint64_t mixed[] = {0, 1, 99};
    assert_status(navmap_add(ix, 3, v + 20 * DIM, mixed, NULL, NULL), NAVMAP_EFULL);
    assert_nearest(ix, v, 0);
    for (uint32_t round = 0; round < 400; round++) /* updates need no room, however many */
        assert_ok(add_one(ix, round % 10, v + (size_t)(round % 64) * DIM, false));
    assert_ok(navmap_delete(ix, 3));
    assert_status(add_one(ix, 77, v, false), NAVMAP_EFULL); /* a deleted one keeps its place */
    assert_ok(add_one(ix, 3, v, false));                    /* and comes back with an update */
    assert_true(contains(ix, 3));
    assert_status(navmap_resize(ix, 9), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), "Cannot resize, max element is less than the "
                                                  "current number of elements"));
    assert_ok(navmap_resize(ix, 11));
    assert_ok(add_one(ix, 77, v, false));
    assert_status(add_one(ix, 78, v, false), NAVMAP_EFULL);
    assert_int_equal(stats_of(ix).max_elements, 11);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_replacement(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 300, DIM);
    navmap_index *ix = new_index(100, true, false);
    add_range(ix, v, 0, 10);
    assert_status(add_one(ix, 20, v, true), NAVMAP_EREPLACE);
    assert_non_null(strstr(navmap_error_detail(),
                           "Replacement of deleted elements is disabled in constructor"));
    assert_false(contains(ix, 20));
    assert_ok(navmap_close(ix));

    ix = new_index(100, true, true);
    add_range(ix, v, 0, 100);
    assert_status(add_one(ix, 100, v, true), NAVMAP_EFULL); /* nothing to replace */
    for (uint64_t label = 0; label < 50; label++)
        assert_ok(navmap_delete(ix, label));
    assert_status(add_one(ix, 7, v, false), NAVMAP_EREPLACE); /* deleted: only by replacement */
    const uint64_t mixed[] = {60, 7};
    assert_status(navmap_add(ix, 2, v + 200 * DIM, mixed, NULL, NULL), NAVMAP_EREPLACE);
    assert_nearest(ix, v + 60 * DIM, 60);
    assert_status(add_one(ix, 100, v, false), NAVMAP_EFULL);
    /* Fifty go in, and no more; a deleted label of the batch comes back in its own place. */
    uint64_t labels[51];
    labels[0] = 7;
    for (uint64_t i = 1; i < 51; i++)
        labels[i] = 100 + i;
    struct navmap_add_options o = {.struct_size = sizeof o, .replace_deleted = 1, .num_threads = 3};
    assert_status(navmap_add(ix, 52, v + 100 * DIM, NULL, &o, NULL), NAVMAP_EFULL);
    assert_ok(navmap_add(ix, 50, v + 100 * DIM, labels, &o, NULL));
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, 100);
    assert_int_equal(s.n_deleted, 0);
    for (uint64_t i = 0; i < 50; i++) {
        assert_true(contains(ix, labels[i]));
        assert_nearest(ix, v + (100 + i) * DIM, labels[i]);
        if (i != 7)
            assert_status(navmap_undelete(ix, i), NAVMAP_ENOTFOUND); /* forgotten */
    }
    assert_ok(add_one(ix, 60, v + 250 * DIM, true)); /* live: an update, no label twice */
    assert_int_equal(stats_of(ix).n_live, 100);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Turned over many times: slots are swept and used again, memory does not grow for ever. */
static void test_turnover(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = 500, rounds = scaled(40, 4);
    float *v = clustered_vectors(&r, n, DIM, 12);
    navmap_index *ix = new_index(n, true, true);
    add_range(ix, v, 0, n);
    for (uint32_t round = 1; round <= rounds; round++) {
        float *next = clustered_vectors(&r, n, DIM, 12);
        uint64_t *labels = malloc(n * sizeof *labels);
        for (uint32_t i = 0; i < n; i++) {
            labels[i] = (uint64_t)round % 2 == 0 ? round * n + i : (round - 1) * n + i;
            if (round % 2 == 0) {
                assert_ok(navmap_delete(ix, (round - 2) * n + i));
            }
        }
        struct navmap_add_options o = {
            .struct_size = sizeof o, .replace_deleted = 1, .num_threads = 2};
        assert_ok(navmap_add(ix, n, next, labels, &o, NULL));
        free(labels);
        free(v);
        v = next;
    }
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, n);
    assert_true(s.nslots < 4 * 1024 + n);
    assert_true(recall_of(ix, v, 100, 10, 100) > 0.95);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Many chunks, and a reservation that is spent: the view is replaced under a search. */
static void test_growth(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(3000, 2);
    float *v = random_vectors(&r, n, DIM);
    struct navmap_options o = {
        .struct_size = sizeof o, .dim = DIM, .M = 8, .ef_construction = 40, .slot_shift = 4};
    navmap_index *ix = NULL;
    assert_ok(navmap_new(&o, &ix));
    add_range(ix, v, 0, n / 2);
    struct view *before;
    assert_ok(store_view_begin(ix->store, &before));
    before->reserved = layout_file_bytes(ix->layout, (uint32_t)atomic_load(&before->nchunks));
    add_range(ix, v + (size_t)n / 2 * DIM, n / 2, n / 2);
    struct view *after;
    assert_ok(store_view_begin(ix->store, &after));
    assert_ptr_not_equal(before, after);
    store_view_end(ix->store, after);
    before->reserved = UINT64_C(1) << 30; /* what it really is */
    store_view_end(ix->store, before);
    for (uint32_t i = 0; i < n; i += 31)
        assert_nearest(ix, v + (size_t)i * DIM, i);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_fork(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 200, DIM);
    navmap_index *ix = new_index(0, false, false);
    add_range(ix, v, 0, 100);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) { /* a copy of its own, wholly usable */
        struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = 2};
        uint64_t label;
        float d;
        int bad = navmap_add(ix, 100, v + 100 * DIM, NULL, &o, NULL) != NAVMAP_OK;
        bad |= navmap_search(ix, 1, v + 150 * DIM, 1, NULL, &label, &d, NULL) != NAVMAP_OK;
        bad |= label != 150 || d != 0;
        bad |= navmap_delete(ix, 3) != NAVMAP_OK || navmap_close(ix) != NAVMAP_OK;
        _exit(bad);
    }
    int status = -1;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(stats_of(ix).n_live, 100);
    assert_nearest(ix, v + 3 * DIM, 3);
    add_range(ix, v + 100 * DIM, 100, 100);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    free(v);
}

/* A batch by several threads: everything in, everything found, nothing twice. */
static void test_many_threads(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(6000, 6);
    float *v = clustered_vectors(&r, n, DIM, 40);
    for (uint32_t threads = 2; threads <= 8; threads += 3) {
        navmap_index *ix = new_index(n, true, false);
        struct navmap_add_options o = {.struct_size = sizeof o, .num_threads = threads};
        uint64_t added = 0, *labels = malloc(n * sizeof *labels), count = 0;
        assert_ok(navmap_add(ix, n, v, NULL, &o, &added));
        assert_int_equal(added, n);
        assert_int_equal(stats_of(ix).n_live, n);
        assert_ok(navmap_labels(ix, true, n, labels, &count));
        assert_int_equal(count, n);
        assert_true(recall_of(ix, v, 200, 10, 100) > 0.95);
        /* A label that is there twice: the later row counts, whatever the number of threads. */
        for (uint32_t i = 0; i < 200; i++)
            labels[i] = i % 100;
        assert_ok(navmap_add(ix, 200, v + (size_t)(n - 200) * DIM, labels, &o, NULL));
        float got[DIM];
        for (uint64_t label = 0; label < 100; label++) {
            assert_ok(navmap_get(ix, 1, &label, got));
            assert_memory_equal(got, v + (size_t)(n - 100 + label) * DIM, sizeof got);
        }
        assert_sound(ix);
        free(labels);
        assert_ok(navmap_close(ix));
    }
    free(v);
}

/* One thread and one seed give one graph: rows, levels, entry and all.  (A directory's is another
 * once slots are used again: those that a sweep freed wait for a commit there.) */
static void test_reproducible(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(3000, 3);
    float *v = clustered_vectors(&r, n, DIM, 20);
    uint64_t hash[4];
    for (int i = 0; i < 4; i++) {
        struct navmap_options o = {.struct_size = sizeof o,
                                   .dim = DIM,
                                   .M = 8,
                                   .ef_construction = 80,
                                   .slot_shift = 8,
                                   .durability = NAVMAP_MANUAL};
        navmap_index *ix = NULL;
        assert_ok(i < 2 ? navmap_new(&o, &ix) : navmap_create(test_path, &o, &ix));
        add_range(ix, v, 0, n);
        add_range(ix, v, n / 2, n / 2); /* enough dead for a sweep */
        for (uint64_t label = 0; label < n; label += 3)
            assert_ok(navmap_delete(ix, label));
        assert_ok(navmap_flush(ix));
        /* Sums and roots know the index they belong to; the graph itself must be the same. */
        const struct disk_root root = store_root(ix->store);
        const struct stage *e = store_edit(ix->store);
        hash[i] = root.entry ^ root.inserted << 32 ^ root.n_dead << 48;
        for (uint32_t slot = 1; slot < extent_slots(root.extent); slot++) {
            hash[i] = hash[i] * 31 + edit_state(e, slot);
            hash[i] = hash[i] * 31 + edit_up(e, slot);
            for (uint32_t l = 0; l <= TAG_LEVEL(edit_up(e, slot)); l++)
                for (uint32_t j = 0; j < (l ? 8u : 16u); j++)
                    hash[i] = hash[i] * 31 + (l ? edit_upper(e, slot, l) : edit_row(e, slot))[j];
        }
        assert_ok(navmap_close(ix));
        if (i == 2)
            assert_int_equal(remove_dir(state) | mkdir(test_dir, 0700), 0);
    }
    assert_int_equal(hash[0], hash[1]);
    assert_int_equal(hash[2], hash[3]);
    free(v);
}

/* What each level of instructions builds is the same, byte for byte. */
static void test_same_at_every_level(void **state)
{
    (void)state;
    struct rng r = test_rng();
    const uint32_t n = scaled(1500, 3);
    float *v = random_vectors(&r, n, DIM + 3);
    const struct distance_kernels *levels[DISTANCE_LEVELS_MAX];
    uint32_t n_levels = distance_levels(levels);
    uint64_t first = 0;
    for (uint32_t i = 0; i < n_levels; i++) {
        struct navmap_options o = {
            .struct_size = sizeof o, .dim = DIM + 3, .M = 8, .space = NAVMAP_COSINE};
        navmap_index *ix = NULL;
        assert_ok(navmap_new(&o, &ix));
        ix->distance.fn = levels[i]->ip;
        ix->distance.many = levels[i]->ip_many;
        add_range(ix, v, 0, n);
        const struct stage *e = store_edit(ix->store);
        uint64_t hash = 1;
        for (uint32_t slot = 1; slot <= n; slot++)
            for (uint32_t j = 0; j < 16; j++)
                hash = hash * 31 + edit_row(e, slot)[j];
        assert_true(first == 0 || hash == first);
        first = hash;
        assert_ok(navmap_close(ix));
    }
    free(v);
}

static void test_refused(void **state)
{
    (void)state;
    navmap_index *ix = NULL;
    struct navmap_options o = {.struct_size = sizeof o, .dim = 0};
    assert_status(navmap_new(&o, &ix), NAVMAP_EINVAL);
    o.dim = 4;
    o.bounded = 2;
    assert_status(navmap_new(&o, &ix), NAVMAP_EINVAL);
    assert_status(navmap_new(NULL, &ix), NAVMAP_EINVAL);
    assert_status(navmap_new(&o, NULL), NAVMAP_EINVAL);
    o.bounded = 1;
    assert_status(navmap_create("/tmp/never", &o, &ix), NAVMAP_EINVAL);
    assert_null(ix);
    o.dim = 65536; /* the widest vectors: chunks get fewer slots */
    o.max_elements = 1000000;
    assert_ok(navmap_new(&o, &ix));
    assert_ok(navmap_close(ix));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_life),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_replacement),
        cmocka_unit_test(test_turnover),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_many_threads),
        cmocka_unit_test_setup_teardown(test_reproducible, make_dir, remove_dir),
        cmocka_unit_test(test_same_at_every_level),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
