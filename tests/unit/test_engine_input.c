/* test_engine_input.c -- bad arguments: a clear refusal, and nothing changed. */
#include <float.h>

#include "tests/support/engine.h"

#define DIM 5u

static navmap_status create_with(struct navmap_options o)
{
    navmap_index *ix = (navmap_index *)(void *)&ix;
    o.struct_size = o.struct_size ? o.struct_size : sizeof o;
    navmap_status status = navmap_create(test_path, &o, &ix);
    if (status == NAVMAP_OK) {
        assert_ok(navmap_close(ix));
        assert_int_equal(remove_dir(NULL), 0);
        assert_int_equal(make_dir(NULL), 0);
    } else {
        assert_ptr_equal(ix, &ix); /* outputs are written on success only */
        assert_int_not_equal(access(test_path, F_OK), 0);
        assert_true(strlen(navmap_error_detail()) > 0);
    }
    return status;
}

static void test_create_options(void **state)
{
    (void)state;
    struct navmap_options good = {.dim = 3}, o;
    assert_ok(create_with(good));
#define REFUSED(field, value)                                                                      \
    do {                                                                                           \
        o = good;                                                                                  \
        o.field = (value);                                                                         \
        assert_status(create_with(o), NAVMAP_EINVAL);                                              \
    } while (0)
#define TAKEN(field, value)                                                                        \
    do {                                                                                           \
        o = good;                                                                                  \
        o.field = (value);                                                                         \
        assert_ok(create_with(o));                                                                 \
    } while (0)
    REFUSED(dim, 0);
    REFUSED(dim, 65537);
    REFUSED(space, 3);
    REFUSED(M, 1);
    REFUSED(M, 513);
    TAKEN(M, 2);
    TAKEN(M, 512);
    REFUSED(ef_construction, (1u << 20) + 1);
    TAKEN(ef_construction, 1);
    REFUSED(durability, 2);
    REFUSED(allow_replace_deleted, 2);
    TAKEN(allow_replace_deleted, 1);
    REFUSED(slot_shift, 3);
    REFUSED(slot_shift, 17);
    TAKEN(slot_shift, 4);
    REFUSED(struct_size, 8);
    navmap_index *ix = NULL;
    assert_status(navmap_create(NULL, &good, &ix), NAVMAP_EINVAL);
    assert_status(navmap_create(test_path, NULL, &ix), NAVMAP_EINVAL);
    assert_status(navmap_create(test_path, &good, NULL), NAVMAP_EINVAL);
}

/* A newer caller's longer structure is taken as long as what is unknown to us is not used. */
static void test_longer_options(void **state)
{
    (void)state;
    struct {
        struct navmap_options known;
        uint64_t unknown;
    } o = {{.struct_size = sizeof o, .dim = 3}, 0};
    navmap_index *ix = NULL;
    o.unknown = 1;
    assert_status(navmap_create(test_path, &o.known, &ix), NAVMAP_EINVAL);
    o.unknown = 0;
    assert_ok(navmap_create(test_path, &o.known, &ix));
    assert_ok(navmap_close(ix));
}

static void test_open_arguments(void **state)
{
    (void)state;
    navmap_index *ix = NULL;
    struct navmap_open_options o = {.struct_size = sizeof o};
    assert_status(navmap_open(test_path, NAVMAP_READ, NULL, &ix), NAVMAP_ENOINDEX);
    assert_status(navmap_open(test_dir, NAVMAP_WRITE, NULL, &ix), NAVMAP_ENOINDEX);
    assert_status(navmap_open(NULL, NAVMAP_READ, NULL, &ix), NAVMAP_EINVAL);
    assert_status(navmap_open(test_path, (enum navmap_mode)2, NULL, &ix), NAVMAP_EINVAL);
    o.durability = 2;
    assert_status(navmap_open(test_path, NAVMAP_WRITE, &o, &ix), NAVMAP_EINVAL);
    o = (struct navmap_open_options){.struct_size = sizeof o, .timeout = NAN};
    assert_status(navmap_open(test_path, NAVMAP_WRITE, &o, &ix), NAVMAP_EINVAL);
    assert_null(ix);
    ix = create_index(DIM, NAVMAP_L2, 4, NAVMAP_FULL);
    struct navmap_options again = {.struct_size = sizeof again, .dim = 3};
    navmap_index *second = NULL;
    assert_status(navmap_create(test_path, &again, &second), NAVMAP_EEXIST);
    assert_status(navmap_open(test_path, NAVMAP_WRITE, NULL, &second), NAVMAP_ELOCKED);
    assert_null(second);
    assert_ok(navmap_close(ix));
    assert_ok(navmap_close(NULL));
}

/* What a refused call must leave as it was. */
static void assert_unchanged(navmap_index *ix, struct navmap_stats before)
{
    struct navmap_stats after = stats_of(ix);
    assert_int_equal(after.last_lsn, before.last_lsn);
    assert_int_equal(after.inserted, before.inserted);
    assert_int_equal(after.n_live, before.n_live);
    assert_int_equal(after.pending, before.pending);
}

static void test_add_arguments(void **state)
{
    (void)state;
    struct rng r = test_rng();
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float *v = random_vectors(&r, 100, DIM);
    uint64_t added, labels[100];
    for (uint64_t i = 0; i < 100; i++)
        labels[i] = i / 2; /* updates and new ones */
    navmap_index *ix = create_index(DIM, NAVMAP_COSINE, 4, NAVMAP_FULL);
    add_range(ix, v, 0, 20);
    struct navmap_stats before = stats_of(ix);
    for (uint32_t i = 0; i < 100 * DIM; i += 41) {
        float saved = v[i];
        char where[64];
        v[i] = bad[i % 3];
        added = 9;
        assert_status(navmap_add(ix, 100, v, labels, NULL, &added), NAVMAP_EINVAL);
        assert_int_equal(added, 0);
        (void)snprintf(where, sizeof where, "row %u, column %u", i / DIM, i % DIM);
        assert_non_null(strstr(navmap_error_detail(), where));
        assert_unchanged(ix, before);
        v[i] = saved;
    }
    assert_status(navmap_add(ix, 3, NULL, labels, NULL, &added), NAVMAP_EINVAL);
    assert_status(navmap_add(ix, UINT64_MAX / 2, v, labels, NULL, &added), NAVMAP_EINVAL);
    assert_status(navmap_add(NULL, 1, v, labels, NULL, &added), NAVMAP_EINVAL);
    struct navmap_add_options o = {.struct_size = 4};
    assert_status(navmap_add(ix, 1, v, labels, &o, &added), NAVMAP_EINVAL);
    assert_ok(navmap_add(ix, 0, NULL, NULL, NULL, &added));
    assert_int_equal(added, 0);
    assert_unchanged(ix, before);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_search_arguments(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 20, DIM), distances[40];
    uint64_t labels[40], found[2];
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 4, NAVMAP_FULL);
    typedef navmap_status searcher(navmap_index *, uint64_t, const float *, uint64_t,
                                   const struct navmap_search_options *, uint64_t *, float *,
                                   uint64_t *);
    searcher *both[] = {navmap_search, navmap_search_exact};
    for (int i = 0; i < 2; i++) {
        searcher *search = both[i];
        found[0] = 7;
        assert_status(search(ix, 1, v, 1, NULL, labels, distances, found), NAVMAP_EFEWER);
        assert_int_equal(found[0], 7); /* at once, nothing written */
        struct navmap_search_options o = {.struct_size = sizeof o, .allow_fewer = 1};
        assert_ok(search(ix, 2, v, 3, &o, labels, distances, found)); /* empty index */
        assert_int_equal(found[0], 0);
        for (int j = 0; j < 6; j++) {
            assert_int_equal(labels[j], UINT64_MAX);
            assert_true(isinf(distances[j]) && distances[j] > 0);
        }
        assert_ok(search(ix, 2, v, 0, NULL, NULL, NULL, found));
        assert_int_equal(found[1], 0);
        assert_ok(search(ix, 0, NULL, 3, NULL, NULL, NULL, NULL));
    }
    add_range(ix, v, 0, 20);
    for (int i = 0; i < 2; i++) {
        searcher *search = both[i];
        struct navmap_search_options few = {.struct_size = sizeof few, .allow_fewer = 1};
        struct navmap_search_options o = {.struct_size = sizeof o, .ef = UINT32_MAX};
        assert_ok(search(ix, 2, v, 20, &o, labels, distances, found));
        assert_int_equal(found[0], 20);
        assert_status(search(ix, 1, v, 21, &o, labels, distances, found), NAVMAP_EFEWER);
        assert_status(search(ix, 1, v, UINT64_MAX / 16, &o, labels, distances, found),
                      NAVMAP_EFEWER);
        assert_status(search(ix, 9, v, UINT64_MAX / 16, &o, labels, distances, found),
                      NAVMAP_EINVAL);
        assert_ok(search(ix, 1, v, 40, &few, labels, distances, found));
        assert_int_equal(found[0], 20);
        assert_int_equal(labels[20], UINT64_MAX);
        assert_int_not_equal(labels[19], UINT64_MAX);
        assert_ok(search(ix, 1, v, 20, NULL, labels, distances, NULL));
        float saved = v[DIM + 2];
        v[DIM + 2] = NAN;
        assert_status(search(ix, 2, v, 1, NULL, labels, distances, found), NAVMAP_EINVAL);
        assert_non_null(strstr(navmap_error_detail(), "row 1, column 2"));
        v[DIM + 2] = saved;
        assert_status(search(ix, 1, NULL, 1, NULL, labels, distances, found), NAVMAP_EINVAL);
        assert_status(search(ix, 1, v, 1, NULL, NULL, distances, found), NAVMAP_EINVAL);
        assert_status(search(ix, 1, v, 1, NULL, labels, NULL, found), NAVMAP_EINVAL);
        assert_status(search(NULL, 1, v, 1, NULL, labels, distances, found), NAVMAP_EINVAL);
    }
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_get_arguments(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 3, DIM), out[3 * DIM], untouched[3 * DIM];
    uint64_t labels[] = {0, 1, 7}, n = 5;
    bool has = true;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 4, NAVMAP_FULL);
    add_range(ix, v, 0, 3);
    memset(out, 0x5a, sizeof out);
    memcpy(untouched, out, sizeof out);
    assert_status(navmap_get(ix, 3, labels, out), NAVMAP_ENOTFOUND);
    assert_non_null(strstr(navmap_error_detail(), "7"));
    assert_memory_equal(out, untouched, sizeof out);
    labels[2] = 2;
    assert_ok(navmap_get(ix, 3, labels, out));
    assert_memory_equal(out, v, sizeof out);
    assert_ok(navmap_get(ix, 0, NULL, NULL));
    assert_status(navmap_get(ix, 1, NULL, out), NAVMAP_EINVAL);
    assert_status(navmap_get(ix, 1, labels, NULL), NAVMAP_EINVAL);
    assert_status(navmap_get(ix, UINT64_MAX / 8, labels, out), NAVMAP_ENOMEM);
    assert_ok(navmap_contains(ix, 9, &has));
    assert_false(has);
    assert_status(navmap_contains(ix, 9, NULL), NAVMAP_EINVAL);
    assert_status(navmap_labels(ix, true, 1, NULL, &n), NAVMAP_EINVAL);
    assert_status(navmap_labels(ix, true, 0, NULL, NULL), NAVMAP_EINVAL);
    struct navmap_stats s = {.struct_size = 8};
    assert_status(navmap_get_stats(ix, &s), NAVMAP_EINVAL);
    assert_status(navmap_get_stats(ix, NULL), NAVMAP_EINVAL);
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_read_only_handle(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 3, DIM);
    uint64_t added, label = 1;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 4, NAVMAP_FULL);
    add_range(ix, v, 0, 3);
    assert_ok(navmap_close(ix));
    ix = open_index(NAVMAP_READ);
    assert_status(navmap_add(ix, 1, v, NULL, NULL, &added), NAVMAP_EREADONLY);
    assert_status(navmap_delete(ix, label), NAVMAP_EREADONLY);
    assert_status(navmap_undelete(ix, label), NAVMAP_EREADONLY);
    assert_status(navmap_flush(ix), NAVMAP_EREADONLY);
    assert_int_equal(stats_of(ix).mode, NAVMAP_READ);
    assert_int_equal(stats_of(ix).n_live, 3);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Finite vectors whose distances are not: they come last, and nothing else suffers. */
static void test_overflowing_distances(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 200, DIM), distances[200];
    uint64_t labels[200], found;
    for (uint32_t i = 0; i < 200 * DIM; i++)
        if (i / DIM % 4 == 3)
            v[i] = rng_next(&r) % 2 ? FLT_MAX : -FLT_MAX;
    for (int space = NAVMAP_L2; space <= NAVMAP_COSINE; space++) {
        navmap_index *ix = create_index(DIM, (enum navmap_space)space, 8, NAVMAP_FULL);
        add_range(ix, v, 0, 200);
        for (uint32_t q = 0; q < 200; q += 17) {
            assert_ok(
                navmap_search(ix, 1, v + (size_t)q * DIM, 200, NULL, labels, distances, &found));
            assert_int_equal(found, 200);
            for (uint32_t i = 0; i < 200; i++)
                assert_false(isnan(distances[i]));
            for (uint32_t i = 1; i < 200; i++)
                assert_true(distances[i - 1] <= distances[i]);
        }
        assert_ok(navmap_close(ix));
        assert_int_equal(remove_dir(NULL), 0);
        assert_int_equal(make_dir(NULL), 0);
    }
    free(v);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_create_options),   CASE(test_longer_options),        CASE(test_open_arguments),
        CASE(test_add_arguments),    CASE(test_search_arguments),      CASE(test_get_arguments),
        CASE(test_read_only_handle), CASE(test_overflowing_distances),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
