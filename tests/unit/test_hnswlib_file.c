/* test_hnswlib_file.c -- the importer on files made by hand: what is taken over, exactly. */
#include "storage/handle.h"
#include "tests/unit/hnswlib_load.h"

static bool marked(const struct hnswlib_image *im, uint32_t id)
{
    return im->bytes[hnswlib_image_element(im, id) + 2] == 1;
}

/* Every slot is its element, bit for bit and link for link. */
static void assert_same(navmap_index *ix, const struct hnswlib_image *im)
{
    const struct stage *e = store_edit(ix->store);
    for (uint32_t id = 0; id < im->plan.count; id++) {
        uint32_t slot = id + 1, state = edit_state(e, slot);
        assert_int_equal(STATE_STATUS(state), marked(im, id) ? SLOT_DELETED : SLOT_LIVE);
        assert_int_equal(edit_tag(e, slot)->label, 3 * id + 7);
        assert_memory_equal(edit_vec(e, slot), im->bytes + hnswlib_image_vector(im, id),
                            4 * im->plan.dim);
        assert_int_equal(TAG_LEVEL(edit_up(e, slot)), im->levels[id]);
        for (uint32_t level = 0; level <= im->levels[id]; level++) {
            const _Atomic uint32_t *row = level ? edit_upper(e, slot, level) : edit_row(e, slot);
            uint64_t at = hnswlib_image_list(im, id, level), n = hnswlib_image_get(im, at, 2);
            for (uint32_t i = 0; i < (level ? im->plan.M : 2 * im->plan.M); i++)
                assert_int_equal(row[i],
                                 i < n ? hnswlib_image_get(im, at + 4 + 4ull * i, 4) + 1 : 0);
        }
    }
}

/* The index goes on as any other. */
static void assert_works(navmap_index *ix, uint32_t dim)
{
    struct navmap_stats before = stats_of(ix);
    struct rng r = {before.nslots};
    float *v = random_vectors(&r, 20, dim), d;
    uint64_t label = 1u << 30, found;
    assert_ok(navmap_resize(ix, before.n_live + before.n_deleted + 20));
    for (uint32_t i = 0; i < 20; i++, label++) {
        assert_ok(navmap_add(ix, 1, v + (size_t)i * dim, &label, NULL, NULL));
        assert_ok(navmap_search_exact(ix, 1, v + (size_t)i * dim, 1, NULL, &found, &d, NULL));
        assert_true(found == label || before.space != NAVMAP_L2);
    }
    assert_status(navmap_add(ix, 1, v, &label, NULL, NULL), NAVMAP_EFULL);
    assert_ok(navmap_delete(ix, label - 1));
    assert_int_equal(stats_of(ix).inserted, before.inserted + 20);
    free(v);
}

static void test_graph(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 12; i++) {
        struct hnswlib_plan plan = seeded(usual);
        plan.seed += i;
        plan.M = i % 3 == 0 ? 2 : 3 + 4 * i;
        plan.dim = 1 + 13 * i;
        plan.count = i == 5 ? 1 : 100 + 35 * i;
        struct hnswlib_image im;
        hnswlib_image_make(&plan, &im);
        struct navmap_load_options o = wish(i % 3);
        navmap_index *ix = load(&im, &o);
        struct navmap_stats s = stats_of(ix);
        assert_same(ix, &im);
        assert_sound(ix);
        assert_int_equal(s.M, plan.M);
        assert_int_equal(s.ef_construction, plan.M > 40 ? plan.M : 40);
        assert_int_equal(s.dim, plan.dim);
        assert_int_equal(s.space, i % 3);
        assert_int_equal(s.max_elements, plan.capacity);
        assert_int_equal(s.in_memory + s.bounded, 2);
        assert_int_equal(s.inserted, plan.count);
        assert_int_equal(s.n_live + s.n_deleted, plan.count);
        assert_int_equal(s.entry_slot, im.entry + 1);
        assert_int_equal(s.entry_level, im.levels[im.entry]);
        /* A beam as wide as the graph finds what a scan finds: all links lead somewhere. */
        struct rng r = {plan.seed};
        float *q = random_vectors(&r, 20, plan.dim);
        uint32_t k = s.n_live < 10 ? (uint32_t)s.n_live : 10;
        if (k > 0 && plan.dim > 4)
            assert_true(recall_of(ix, q, 20, k, plan.count) == 1);
        assert_works(ix, plan.dim);
        assert_sound(ix);
        assert_ok(navmap_close(ix));
        hnswlib_image_free(&im);
        free(q);
    }
}

static void test_capacity(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    struct hnswlib_image im;
    hnswlib_image_make(&plan, &im);
    static const uint64_t wanted[][2] = {
        {0, 500}, {399, 500}, {400, 400}, {450, 450}, {9999, 9999}};
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        struct navmap_load_options o = wish(NAVMAP_L2);
        o.max_elements = wanted[i][0];
        o.allow_replace_deleted = i & 1;
        navmap_index *ix = load(&im, &o);
        assert_int_equal(stats_of(ix).max_elements, wanted[i][1]);
        assert_int_equal(stats_of(ix).allow_replace_deleted, i & 1);
        assert_ok(navmap_close(ix));
    }
    hnswlib_image_free(&im);
    plan.count = 0;
    hnswlib_image_make(&plan, &im);
    assert_int_equal(im.n, HNSWLIB_HEAD_BYTES);
    for (uint64_t most = 0; most < 4; most += 3) {
        struct navmap_load_options o = wish(NAVMAP_COSINE);
        o.max_elements = most;
        navmap_index *ix = load(&im, &o);
        struct navmap_stats s = stats_of(ix);
        assert_int_equal(s.max_elements, most ? most : 500);
        assert_int_equal(s.nslots, 1);
        assert_int_equal(s.entry_slot, 0);
        assert_sound(ix);
        assert_works(ix, plan.dim);
        assert_sound(ix);
        assert_ok(navmap_close(ix));
    }
    hnswlib_image_free(&im);
    plan.capacity = 0; /* a limit also when it is 0 */
    hnswlib_image_make(&plan, &im);
    struct navmap_load_options o = wish(NAVMAP_L2);
    navmap_index *ix = load(&im, &o);
    assert_status(navmap_add(ix, 1, (float[16]){0}, NULL, NULL, NULL), NAVMAP_EFULL);
    assert_ok(navmap_close(ix));
    hnswlib_image_free(&im);
}

/* Of elements of one label the last one is it, the others are dead and linked to. */
static void test_twins(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    plan.twins = 4;
    struct hnswlib_image im;
    hnswlib_image_make(&plan, &im);
    struct navmap_load_options o = wish(NAVMAP_L2);
    o.max_elements = plan.count;
    navmap_index *ix = load(&im, &o);
    const struct stage *e = store_edit(ix->store);
    uint32_t dead = 0, deleted = 0;
    for (uint32_t id = 0; id < plan.count; id++) {
        uint64_t label = hnswlib_image_get(&im, hnswlib_image_label(&im, id), 8);
        bool later = id + 1 < plan.count &&
                     hnswlib_image_get(&im, hnswlib_image_label(&im, id + 1), 8) == label;
        enum slot_status expected = later ? SLOT_DEAD : marked(&im, id) ? SLOT_DELETED : SLOT_LIVE;
        assert_int_equal(STATE_STATUS(edit_state(e, id + 1)), expected);
        dead += later;
        deleted += expected == SLOT_DELETED;
        float got[64];
        if (expected == SLOT_LIVE) {
            assert_ok(navmap_get(ix, 1, &label, got));
            assert_memory_equal(got, im.bytes + hnswlib_image_vector(&im, id), 4 * plan.dim);
        }
    }
    assert_true(dead > 50);
    assert_int_equal(stats_of(ix).n_dead, dead);
    assert_int_equal(stats_of(ix).n_deleted, deleted);
    assert_int_equal(stats_of(ix).n_live, plan.count - dead - deleted);
    assert_sound(ix);
    assert_works(ix, plan.dim);
    assert_sound(ix);
    assert_ok(navmap_close(ix));
    hnswlib_image_free(&im);
}

/* More levels than there are cells for: fewer levels, the highest is the entry, no link dangles. */
static void test_low(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    plan.M = 16;
    plan.every = 3;
    for (uint32_t last = 0; last < 2; last++) { /* the entry the first one, and the last of all */
        struct hnswlib_image im;
        struct navmap_load_options o = wish(NAVMAP_L2);
        plan.top = last ? 3 : 4;
        hnswlib_image_make(&plan, &im);
        if (last)
            hnswlib_image_put(&im, 52, plan.count - 1, 4);
        navmap_index *ix = load(&im, &o);
        struct navmap_check_result r = {.struct_size = sizeof r};
        assert_ok(navmap_check(ix, NULL, NULL, &r));
        assert_int_equal(r.damaged, 0);
        assert_true(r.levels[0] > plan.count / 2 && r.levels[3] > 5);
        assert_int_equal(stats_of(ix).entry_level, r.max_level);
        assert_int_equal(r.reachable, r.live);
        assert_works(ix, plan.dim);
        assert_sound(ix);
        assert_ok(navmap_close(ix));
        hnswlib_image_free(&im);
    }
}

static void test_flat(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    struct hnswlib_image im;
    hnswlib_image_make_flat(&plan, &im);
    for (uint32_t space = 0; space <= NAVMAP_COSINE; space++) {
        struct navmap_load_options o = wish(space);
        navmap_index *ix = NULL;
        assert_status(load_part(&im, im.n, &o, &ix), NAVMAP_EINVAL);
        o.flat = 1;
        o.dim = plan.dim;
        ix = load(&im, &o);
        struct navmap_stats s = stats_of(ix);
        assert_int_equal(s.n_live, plan.count);
        assert_int_equal(s.max_elements, plan.capacity);
        for (uint32_t id = 0; id < plan.count; id++) {
            uint64_t label = 3 * id + 7;
            float got[64];
            assert_ok(navmap_get(ix, 1, &label, got));
            assert_memory_equal(got, im.bytes + hnswlib_image_vector(&im, id), 4 * plan.dim);
        }
        if (s.flat) { /* else there are live items and no entry, which only there is sound */
            assert_sound(ix);
            assert_works(ix, plan.dim);
            assert_sound(ix);
        }
        assert_ok(navmap_close(ix));
    }
    hnswlib_image_free(&im);
}

static void test_options(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    struct hnswlib_image im;
    hnswlib_image_make(&plan, &im);
    struct navmap_load_options o = wish(NAVMAP_L2);
    navmap_index *ix = NULL;
    o.dim = 12;
    assert_status(load_part(&im, im.n, &o, &ix), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), WORDS "dim expected 12, found 11"));
    o.dim = 11;
    o.has_space = 0;
    assert_status(load_part(&im, im.n, &o, &ix), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), WORDS "no space given"));
    o.has_space = 1;
    o.space = 3;
    assert_status(load_part(&im, im.n, &o, &ix), NAVMAP_EINVAL);
    o.space = NAVMAP_L2;
    o.allow_replace_deleted = 2;
    assert_status(load_part(&im, im.n, &o, &ix), NAVMAP_EINVAL);
    assert_null(ix);
    o.allow_replace_deleted = 1;
    ix = load(&im, &o);
    assert_ok(navmap_close(ix));
    hnswlib_image_free(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_graph), cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_twins), cmocka_unit_test(test_low),
        cmocka_unit_test(test_flat),  cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
