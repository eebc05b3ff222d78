/* test_engine_copies.c -- equal vectors, zero vectors, one hot label: data that graphs choke on. */
#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 8u

/* Live slots that level 0 does not lead to from the entry. */
static uint32_t unreachable(navmap_index *ix)
{
    struct view *v;
    assert_ok(store_view_begin(ix->store, &v));
    uint32_t nslots = view_slots(v), M0 = ix->layout->M0, n = 0, live = 0, met = 0;
    uint8_t *seen = calloc(nslots, 1);
    uint32_t *stack = malloc(nslots * sizeof *stack);
    stack[n++] = (uint32_t)view_load64(&view_root(v)->entry, memory_order_relaxed);
    seen[stack[0]] = 1;
    while (n > 0) {
        uint32_t slot = stack[--n];
        met += STATE_STATUS(*view_state(v, slot)) == SLOT_LIVE;
        for (uint32_t i = 0; i < M0; i++) {
            uint32_t id = view_row(v, slot)[i];
            if (id != 0 && !seen[id]) {
                seen[id] = 1;
                stack[n++] = id;
            }
        }
    }
    for (uint32_t slot = 1; slot < nslots; slot++)
        live += STATE_STATUS(*view_state(v, slot)) == SLOT_LIVE;
    free(seen);
    free(stack);
    store_view_end(ix->store, v);
    return live - met;
}

static void check_only_copies(enum navmap_space space, float value)
{
    uint32_t n = scaled(3000, 4);
    float *v = malloc((size_t)n * DIM * sizeof *v), distances[200];
    uint64_t labels[200];
    for (uint32_t i = 0; i < n * DIM; i++)
        v[i] = value;
    navmap_index *ix = create_index(DIM, space, 8, NAVMAP_FULL);
    add_range(ix, v, 0, n);
    assert_int_equal(unreachable(ix), 0); /* A6 of engine/insert.c */
    assert_ok(navmap_search(ix, 1, v, 200, NULL, labels, distances, NULL));
    for (uint32_t i = 1; i < 200; i++) {
        assert_true(distances[i] == distances[0]);
        assert_true(labels[i] > labels[i - 1]);
    }
    assert_ok(navmap_search_exact(ix, 1, v, 200, NULL, labels, distances, NULL));
    for (uint32_t i = 0; i < 200; i++)
        assert_int_equal(labels[i], i); /* ties by label */
    assert_ok(navmap_close(ix));
    free(v);
}

static void test_copies_l2(void **state)
{
    (void)state;
    check_only_copies(NAVMAP_L2, 0.3f);
}
static void test_copies_ip(void **state)
{
    (void)state;
    check_only_copies(NAVMAP_IP, 0.3f);
}
static void test_zero_vectors_cosine(void **state)
{
    (void)state;
    check_only_copies(NAVMAP_COSINE, 0.0f);
}

/* Half copies of one vector in the midst, half others: neither shuts the other out. */
static void test_copies_among_others(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(6000, 3), lost = 0, asked = 0;
    float *v = random_vectors(&r, n, DIM), d[100];
    uint64_t labels[100];
    uint8_t *copy = calloc(n, 1);
    for (uint32_t i = 0; i < n; i++)
        if ((copy[i] = rng_next(&r) % 2)) /* NOLINT: assignment meant */
            memset(v + (size_t)i * DIM, 0, DIM * sizeof *v);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 16, NAVMAP_FULL);
    add_range(ix, v, 0, n);
    float zero[DIM] = {0};
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 100};
    assert_ok(navmap_search(ix, 1, zero, 100, &o, labels, d, NULL));
    assert_true(d[99] == 0);
    for (uint32_t i = 0; i < n; i += 3) {
        if (copy[i])
            continue;
        assert_ok(navmap_search(ix, 1, v + (size_t)i * DIM, 1, &o, labels, d, NULL));
        asked++;
        lost += labels[0] != i;
    }
    print_message("%u of %u others not found, %u of %u unreachable\n", lost, asked, unreachable(ix),
                  n);
    assert_true(lost * 20 < asked); /* hnswlib loses nearly all of them */
    assert_true(unreachable(ix) * 50 < n);
    assert_ok(navmap_close(ix));
    free(copy);
    free(v);
}

static void test_zero_vector_has_distance_one(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 50, DIM), zero[DIM] = {0}, d[51], got[DIM];
    uint64_t labels[51], label = 50;
    navmap_index *ix = create_index(DIM, NAVMAP_COSINE, 8, NAVMAP_FULL);
    add_range(ix, v, 0, 50);
    assert_ok(navmap_add(ix, 1, zero, &label, NULL, NULL));
    assert_ok(navmap_get(ix, 1, &label, got));
    assert_memory_equal(got, zero, sizeof got);
    assert_ok(navmap_search(ix, 1, zero, 51, NULL, labels, d, NULL));
    for (uint32_t i = 0; i < 51; i++) {
        assert_true(d[i] == 1.0f);
        assert_int_equal(labels[i], i);
    }
    assert_ok(navmap_close(ix));
    free(v);
}

/* The only label, updated again and again: each version is found, and slots are used again. */
static void test_hot_label(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float *v = random_vectors(&r, 64, DIM), d;
    uint64_t label = 5, got;
    uint32_t updates = scaled(8000, 4);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 4, NAVMAP_MANUAL);
    for (uint32_t i = 0; i < updates; i++) {
        assert_ok(navmap_add(ix, 1, v + i % 64 * DIM, &label, NULL, NULL));
        if (i % 500 != 0)
            continue;
        assert_ok(navmap_flush(ix));
        assert_ok(navmap_search(ix, 1, v + i % 64 * DIM, 1, NULL, &got, &d, NULL));
        assert_int_equal(got, label);
        assert_true(d == 0);
    }
    assert_ok(navmap_flush(ix));
    struct navmap_stats s = stats_of(ix);
    assert_int_equal(s.n_live, 1);
    assert_true(s.nslots < 3500); /* 1024 may lie dead before a sweep begins */
    assert_ok(navmap_close(ix));
    free(v);
}

/* The same beside other items, which must stay reachable while the neighbourhood dies. */
static void test_hot_label_among_others(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = 500, updates = scaled(6000, 4), lost = 0;
    float *v = random_vectors(&r, n, DIM), near[DIM], d;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 6, NAVMAP_MANUAL);
    add_range(ix, v, 0, n);
    uint64_t label = 1000, got;
    for (uint32_t i = 0; i < updates; i++) {
        for (uint32_t j = 0; j < DIM; j++)
            near[j] = v[j] + 0.001f * rng_normal(&r);
        assert_ok(navmap_add(ix, 1, near, &label, NULL, NULL));
    }
    assert_ok(navmap_flush(ix));
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 50};
    assert_ok(navmap_search(ix, 1, near, 1, &o, &got, &d, NULL));
    assert_int_equal(got, label);
    for (uint32_t i = 0; i < n; i++) {
        assert_ok(navmap_search(ix, 1, v + (size_t)i * DIM, 1, &o, &got, &d, NULL));
        lost += got != i;
    }
    assert_true(lost <= 2);
    assert_int_equal(unreachable(ix), 0);
    assert_ok(navmap_close(ix));
    free(v);
}

/* Delete all, refill; three times. */
static void test_delete_all_then_refill(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint32_t n = scaled(1200, 2);
    float *v = random_vectors(&r, n, DIM), d[10];
    uint64_t labels[10], found;
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 6, NAVMAP_MANUAL);
    for (uint32_t round = 0; round < 3; round++) {
        add_range(ix, v, 0, n); /* from the second round on: undeletes and updates */
        assert_ok(navmap_flush(ix));
        assert_true(recall_of(ix, v, 100, 10, 100) > 0.95);
        for (uint64_t label = 0; label < n; label++)
            assert_ok(navmap_delete(ix, label));
        assert_ok(navmap_flush(ix));
        struct navmap_search_options o = {.struct_size = sizeof o, .allow_fewer = 1};
        assert_ok(navmap_search(ix, 1, v, 10, &o, labels, d, &found));
        assert_int_equal(found, 0);
        assert_status(navmap_search(ix, 1, v, 1, NULL, labels, d, &found), NAVMAP_EFEWER);
    }
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_copies_l2),
        CASE(test_copies_ip),
        CASE(test_zero_vectors_cosine),
        CASE(test_copies_among_others),
        CASE(test_zero_vector_has_distance_one),
        CASE(test_hot_label),
        CASE(test_hot_label_among_others),
        CASE(test_delete_all_then_refill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
