/* test_engine_filter_set.c -- prepared filters: right whatever happens to the index.
 *
 * A model knows which labels live, and what passes each of three filters; items are added, updated,
 * deleted, undeleted, replaced and compacted by chance, and after each step every search must find
 * as many as there are, and none that may not be found.  tests/race/test_filters.c does it beside a
 * writer.
 */
#include "engine/navmap_filter.h"
#include "tests/unit/filter_world.h"

#define LABELS 1500u

static struct {
    navmap_index *ix, *reader; /* the second of a shared index only */
    enum { ABSENT, LIVE, DELETED } is[LABELS];
    struct rng rng;
} model;

enum { FILTERS = 3 };
static const uint32_t permille_of[FILTERS] = {300, 20, 500};

static bool passes(uint32_t filter, uint64_t label)
{
    return chosen(label * 3 + filter, permille_of[filter]) != (filter == 2);
}

static navmap_filter_set *make_set(navmap_index *ix, uint32_t filter)
{
    uint64_t labels[LABELS + 2], n = 0;
    for (uint64_t label = 0; label < LABELS; label++)
        if (chosen(label * 3 + filter, permille_of[filter]))
            labels[n++] = label; /* also those that are not there yet */
    if (filter == 1)
        labels[n++] = UINT64_MAX; /* far off: a table */
    struct navmap_filter_options o = {.struct_size = sizeof o, .deny = filter == 2};
    navmap_filter_set *set = NULL;
    assert_ok(navmap_filter_create(ix, n, labels, filter == 2 ? &o : NULL, &set));
    return set;
}

static uint64_t count_passing(uint32_t filter)
{
    uint64_t n = 0;
    for (uint64_t label = 0; label < LABELS; label++)
        n += model.is[label] == LIVE && passes(filter, label);
    return n;
}

static void check_row(uint32_t filter, const uint64_t *labels, uint64_t found)
{
    uint64_t expected = count_passing(filter);
    assert_int_equal(found, expected < K ? expected : K);
    for (uint64_t i = 0; i < found; i++) {
        assert_true(labels[i] < LABELS);
        assert_int_equal(model.is[labels[i]], LIVE);
        assert_true(passes(filter, labels[i]));
    }
}

/* All filters, one call each and as a filter for each row of one call. */
static void check_searches(navmap_index *ix, navmap_filter_set *const *sets)
{
    enum { ROWS = 2 * FILTERS };
    float queries[ROWS * DIM], distances[ROWS * K];
    uint64_t labels[ROWS * K], found[ROWS];
    navmap_filter_set *rows[ROWS];
    for (uint32_t i = 0; i < ROWS * DIM; i++)
        queries[i] = rng_normal(&model.rng);
    for (uint32_t i = 0; i < ROWS; i++)
        rows[i] = sets[i % FILTERS];
    struct navmap_search_options o = options(20);
    o.allow_fewer = 1;
    o.row_sets = rows;
    o.num_threads = 1 + rng_below(&model.rng, 2);
    assert_ok((rng_below(&model.rng, 4) ? navmap_search : navmap_search_exact)(
        ix, ROWS, queries, K, &o, labels, distances, found));
    for (uint32_t i = 0; i < ROWS; i++)
        check_row(i % FILTERS, labels + (size_t)i * K, found[i]);
    o.row_sets = NULL;
    for (uint32_t f = 0; f < FILTERS; f++) {
        o.set = sets[f];
        assert_ok(navmap_search(ix, 1, queries, K, &o, labels, distances, found));
        check_row(f, labels, found[0]);
        struct navmap_filter_facts facts = {.struct_size = sizeof facts};
        assert_ok(navmap_filter_look(ix, sets[f], &facts));
        assert_int_equal(facts.pass, count_passing(f));
        assert_int_equal(facts.deny, f == 2);
    }
}

static void change(void)
{
    float v[DIM];
    uint64_t label = rng_below(&model.rng, LABELS);
    uint32_t how = rng_below(&model.rng, 8);
    for (uint32_t i = 0; i < DIM; i++)
        v[i] = rng_normal(&model.rng);
    struct navmap_add_options replace = {.struct_size = sizeof replace, .replace_deleted = 1};
    if (how < 2 && model.is[label] == LIVE) {
        assert_ok(navmap_delete(model.ix, label));
        model.is[label] = DELETED;
    } else if (how < 4 && model.is[label] == DELETED) {
        assert_ok(navmap_undelete(model.ix, label));
        model.is[label] = LIVE;
    } else if (how == 4 && model.is[label] == ABSENT) {
        uint64_t deleted = 0, after = 0;
        for (uint64_t i = 0; i < LABELS; i++)
            deleted += model.is[i] == DELETED;
        assert_ok(navmap_add(model.ix, 1, v, &label, &replace, NULL));
        model.is[label] = LIVE;
        for (uint64_t i = 0; i < LABELS; i++) { /* one of them is forgotten */
            bool there = model.is[i] != DELETED;
            if (!there) {
                navmap_status status = navmap_undelete(model.ix, i);
                there = status == NAVMAP_OK;
                if (!there)
                    model.is[i] = ABSENT;
                else
                    assert_ok(navmap_delete(model.ix, i));
            }
            after += model.is[i] == DELETED;
        }
        assert_int_equal(after, deleted ? deleted - 1 : 0);
    } else if (model.is[label] != DELETED) {
        assert_ok(navmap_add(model.ix, 1, v, &label, NULL, NULL));
        model.is[label] = LIVE;
    }
}

static void compact(void)
{
    struct navmap_compact_options o = {.struct_size = sizeof o};
    assert_ok(navmap_compact(model.ix, &o, NULL));
    for (uint32_t i = 0; i < LABELS; i++)
        model.is[i] = model.is[i] == DELETED ? ABSENT : model.is[i];
}

static void test_whatever_happens(void **state)
{
    (void)state;
    memset(&model, 0, sizeof model);
    model.rng = test_rng();
    struct navmap_options o = {.struct_size = sizeof o,
                               .dim = DIM,
                               .M = 6,
                               .ef_construction = 30,
                               .slot_shift = 6,
                               .allow_replace_deleted = 1};
    if (world_in_memory)
        assert_ok(navmap_new(&o, &model.ix));
    else
        assert_ok(navmap_create(test_path, &o, &model.ix));
    navmap_filter_set *sets[FILTERS], *theirs[FILTERS];
    for (uint32_t i = 0; i < FILTERS; i++)
        sets[i] = make_set(model.ix, i); /* of an empty index */
    if (!world_in_memory) {
        model.reader = open_index(NAVMAP_READ);
        for (uint32_t i = 0; i < FILTERS; i++)
            theirs[i] = make_set(model.reader, i);
    }
    const uint32_t steps = scaled(150, 3);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t n = step < 20 ? 1 : 1 + rng_below(&model.rng, 12);
        for (uint32_t i = 0; i < n; i++)
            change();
        if (step % 40 == 39) {
            compact();
            compact(); /* the same states again, of other slots */
        }
        check_searches(model.ix, sets);
        if (model.reader)
            check_searches(model.reader, theirs);
    }
    assert_ok(navmap_close(model.ix));
    for (uint32_t i = 0; i < FILTERS; i++) /* they may outlive it */
        navmap_filter_free(sets[i]);
    if (model.reader) {
        for (uint32_t i = 0; i < FILTERS; i++)
            navmap_filter_free(theirs[i]);
        assert_ok(navmap_close(model.reader));
    }
}

static void test_what_is_refused(void **state)
{
    (void)state;
    struct world w = make_world(300);
    uint64_t labels[K], found[1], list[] = {1, 2, 3};
    float distances[K];
    struct navmap_options no = {.struct_size = sizeof no, .dim = DIM};
    navmap_index *other;
    navmap_filter_set *set = NULL, *foreign = NULL, *rows[1];
    assert_ok(navmap_new(&no, &other));
    assert_status(navmap_filter_create(w.ix, 3, NULL, NULL, &set), NAVMAP_EINVAL);
    assert_null(set);
    assert_ok(navmap_filter_create(w.ix, 3, list, NULL, &set));
    assert_ok(navmap_filter_create(other, 3, list, NULL, &foreign));
    struct navmap_search_options o = options(20);
    o.set = foreign;
    assert_status(navmap_search(w.ix, 1, w.q, 1, &o, labels, distances, found), NAVMAP_EINVAL);
    assert_non_null(strstr(navmap_error_detail(), "another index"));
    rows[0] = foreign;
    o.set = NULL;
    o.row_sets = rows;
    assert_status(navmap_search(w.ix, 1, w.q, 1, &o, labels, distances, found), NAVMAP_EINVAL);
    o.set = set;
    assert_status(navmap_search(w.ix, 1, w.q, 1, &o, labels, distances, found), NAVMAP_EINVAL);
    o.row_sets = NULL;
    o.allowed = list;
    o.n_allowed = 3;
    assert_status(navmap_search(w.ix, 1, w.q, 1, &o, labels, distances, found), NAVMAP_EINVAL);
    o = options(20);
    o.set = set;
    assert_status(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found), NAVMAP_EFEWER);
    const char *detail = navmap_error_detail(); /* asked, found, live, allowed, deleted */
    assert_non_null(strstr(detail, "k is 10, but only 3 items pass the filter"));
    assert_non_null(strstr(detail, "300 are live, 3 of them allowed, 0 deleted"));
    o.allow_fewer = 1;
    assert_ok(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found));
    assert_int_equal(found[0], 3);
    assert_true(labels[3] == UINT64_MAX && isinf(distances[3]));
    /* A function as well, and rows without any. */
    struct asking a = {.permille = 0};
    o.filter = ask;
    o.filter_ctx = &a;
    assert_ok(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found));
    assert_int_equal(found[0], 0);
    o = options(20);
    rows[0] = NULL;
    o.row_sets = rows;
    assert_ok(navmap_search(w.ix, 1, w.q, K, &o, labels, distances, found));
    assert_int_equal(found[0], K);
    struct navmap_filter_facts facts = {0};
    assert_status(navmap_filter_look(w.ix, set, &facts), NAVMAP_EINVAL);
    facts.struct_size = sizeof facts;
    assert_status(navmap_filter_look(w.ix, foreign, &facts), NAVMAP_EINVAL);
    assert_ok(navmap_filter_look(w.ix, set, &facts));
    assert_int_equal(facts.labels, 3);
    navmap_filter_free(NULL);
    navmap_filter_free(set);
    navmap_filter_free(foreign);
    assert_ok(navmap_close(other));
    free_world(&w);
}

/* A flat index has no ways but one. */
static void test_flat(void **state)
{
    (void)state;
    struct navmap_options o = {.struct_size = sizeof o, .dim = DIM, .flat = 1};
    struct rng r = test_rng();
    float *v = clustered_vectors(&r, 500, DIM, 5);
    uint64_t labels[K], found[1], list[] = {7, 77, 400};
    float distances[K];
    navmap_index *ix;
    navmap_filter_set *set;
    assert_ok(navmap_new(&o, &ix));
    add_range(ix, v, 0, 100);
    assert_ok(navmap_filter_create(ix, 3, list, NULL, &set));
    struct navmap_search_options s = options(20);
    s.set = set;
    s.allow_fewer = 1;
    for (uint32_t n = 2; n <= 3; n++) {
        assert_ok(navmap_search(ix, 1, v, K, &s, labels, distances, found));
        assert_int_equal(found[0], n);
        if (n == 2)
            add_range(ix, v + (size_t)100 * DIM, 100, 400);
    }
    assert_ok(navmap_remove(ix, 77));
    assert_ok(navmap_search(ix, 1, v, K, &s, labels, distances, found));
    assert_int_equal(found[0], 2);
    navmap_filter_free(set);
    assert_ok(navmap_close(ix));
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whatever_happens, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_what_is_refused, make_dir, remove_dir),
        cmocka_unit_test(test_flat),
    };
    return run_on_both_forms(tests, sizeof tests / sizeof *tests);
}
