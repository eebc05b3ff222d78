/* test_engine_ways.c -- the ways of plan.h: each one, whatever the planner would say, gives k
 * results and good ones, whether what passes is drawn by chance or lies in one region; and what the
 * planner says.
 */
#include <math.h>

#include "engine/query.h"
#include "tests/unit/filter_world.h"

#define EF 60u

static bool near_corner(const struct world *w, uint64_t label, float limit)
{
    return w->v[label * DIM] > limit;
}

/* A list of those that pass: by chance, or on one side of a plane. */
static void choose(struct world *w, uint32_t permille, bool region)
{
    if (!region) {
        list_chosen(w, permille);
        return;
    }
    float low = -1000, high = 1000;
    for (int i = 0; i < 50; i++) {
        const float limit = (low + high) / 2;
        w->n_list = 0;
        for (uint64_t label = 0; label < w->n; label++)
            if (near_corner(w, label, limit))
                w->list[w->n_list++] = label;
        *(w->n_list > w->n * permille / 1000 ? &low : &high) = limit;
    }
}

struct outcome {
    uint32_t hits, wanted, ways[PLAN_SCAN + 1];
};

static void ask_one(const struct world *w, struct scratch *s, const struct filter *f,
                    const float *query, enum plan_way way, struct outcome *sum)
{
    uint64_t truth[K];
    assert_ok(index_scan(w->ix, s, f, query, K));
    const uint64_t n = s->rank.n;
    for (uint64_t i = 0; i < n; i++)
        truth[i] = s->rank.hits[i].label;
    struct query q = {.ix = w->ix, .s = s, .filter = f, .vector = query, .k = K, .ef = EF};
    if (way != PLAN_NONE)
        q.plan = (struct plan){.way = way, .beam = way == PLAN_EVERY ? 6 * EF : EF, .budget = 1e9};
    assert_ok(query_finish(&q, true));
    assert_int_equal(s->rank.n, n); /* k results whenever k pass */
    for (uint64_t i = 0; i < n; i++) {
        const uint64_t label = s->rank.hits[i].label;
        assert_true(!f || filter_lists(f, label));
        for (uint64_t j = 0; j < i; j++)
            assert_true(s->rank.hits[j].label != label);
        for (uint64_t j = 0; j < n; j++)
            sum->hits += truth[j] == label;
    }
    sum->wanted += (uint32_t)n;
    sum->ways[q.plan.way]++;
}

static struct outcome ask_all(const struct world *w, const struct filter *f, enum plan_way way)
{
    struct outcome sum = {0};
    struct scratch *s;
    assert_ok(scratch_take(&w->ix->shelf, w->ix->layout, &s));
    for (uint32_t i = 0; i < NQ; i++)
        ask_one(w, s, f, w->q + (size_t)i * DIM, way, &sum);
    scratch_give(&w->ix->shelf, s);
    return sum;
}

static void expect_recall(const struct outcome *o, double least, const char *what, uint32_t way)
{
    if ((double)o->hits < least * o->wanted)
        fail_msg("%s, way %u: %u of %u", what, way, o->hits, o->wanted);
}

/* Hops alone are no way where next to nothing passes; the planner knows that. */
static double least_of(uint32_t way)
{
    return way == PLAN_SCAN ? 1.0 : way == PLAN_HOPS ? 0.75 : 0.95;
}

static void test_every_way_with_filters(void **state)
{
    (void)state;
    static const uint32_t permilles[] = {1000, 500, 200, 50, 5};
    struct world w = make_world(scaled(3000, 2));
    for (uint32_t i = 0; i < sizeof permilles / sizeof *permilles; i++)
        for (int region = 0; region < 2; region++) {
            struct navmap_search_options o = options(EF);
            struct filter f;
            choose(&w, permilles[i], region);
            o.allowed = w.list;
            o.n_allowed = w.n_list;
            assert_ok(filter_prepare(w.ix->store, &o, w.n, &f));
            for (uint32_t way = PLAN_NONE; way <= PLAN_SCAN; way++) {
                struct outcome sum = ask_all(&w, &f, way);
                expect_recall(&sum, least_of(way), region ? "region" : "chance", way);
                assert_int_equal(sum.ways[PLAN_NONE], 0);
            }
            filter_release(&f);
        }
    free_world(&w);
}

static void test_every_way_among_deleted(void **state)
{
    (void)state;
    for (int region = 0; region < 2; region++)
        for (uint32_t permille = 500; permille >= 100; permille /= 5) {
            struct world w = make_world(world_in_memory ? scaled(4000, 3) : 600);
            bool *stays = calloc(w.n, sizeof *stays);
            assert_non_null(stays);
            choose(&w, permille, region);
            for (uint64_t i = 0; i < w.n_list; i++)
                stays[w.list[i]] = true;
            for (uint64_t label = 0; label < w.n; label++)
                if (!stays[label])
                    assert_ok(navmap_delete(w.ix, label));
            for (uint32_t way = PLAN_NONE; way <= PLAN_SCAN; way++) {
                struct outcome sum = ask_all(&w, NULL, way);
                expect_recall(&sum, least_of(way), region ? "deleted region" : "deleted", way);
            }
            free(stays);
            free_world(&w);
            assert_int_equal(remove_dir(NULL) | make_dir(NULL), 0);
        }
}

/* A hint gone wrong: marks of slots that hold nothing lead nowhere, and to no false label. */
static void test_marks_of_nothing(void **state)
{
    (void)state;
    struct world w = make_world(scaled(2000, 2));
    struct navmap_search_options o = options(EF);
    struct filter f;
    list_chosen(&w, 300);
    o.allowed = w.list;
    o.n_allowed = w.n_list;
    assert_ok(filter_prepare(w.ix->store, &o, w.n, &f));
    for (uint32_t i = 0; i < MARKS_SLOTS / 64; i++)
        atomic_store(&f.marks->blocks[0]->bits[i], UINT64_MAX);
    for (uint32_t way = PLAN_NONE; way <= PLAN_SCAN; way++)
        (void)ask_all(&w, &f, way);
    filter_release(&f);
    free_world(&w);
}

/* A function is asked; hops and scans are not for it, whatever was planned. */
static void test_functions(void **state)
{
    (void)state;
    struct world w = make_world(scaled(2000, 2));
    for (uint32_t permille = 1000; permille >= 1; permille /= 10) {
        struct asking a = {.permille = permille};
        struct navmap_search_options o = options(EF);
        struct filter f;
        o.filter = ask;
        o.filter_ctx = &a;
        assert_ok(filter_prepare(w.ix->store, &o, w.n, &f));
        struct outcome sum = ask_all(&w, &f, PLAN_NONE);
        expect_recall(&sum, 0.95, "function", PLAN_NONE);
        assert_int_equal(sum.ways[PLAN_PASSING], NQ);
        filter_release(&f);
    }
    free_world(&w);
}

/* The planner ---------------------------------------------------------------------------------*/

static struct plan_case a_case(uint64_t nodes, double share)
{
    return (struct plan_case){.k = 10,
                              .ef = 170,
                              .nslots = nodes,
                              .nodes = nodes,
                              .pass = (uint64_t)((double)nodes * share),
                              .code_stride = 128,
                              .filtered = true,
                              .marked = true};
}

static void test_plans(void **state)
{
    (void)state;
    struct plan_case all = a_case(1000000, 1), half = a_case(1000000, 0.5),
                     few = a_case(1000000, 0.001);
    assert_int_equal(plan_first(&all).way, PLAN_EVERY);
    assert_int_equal(plan_first(&all).beam, 170);
    assert_int_equal(plan_first(&half).way, PLAN_EVERY);
    assert_in_range(plan_first(&half).beam, 190, 230); /* L1 */
    assert_int_equal(plan_first(&few).way, PLAN_SCAN);
    few.pass = 5; /* fewer than k */
    assert_int_equal(plan_first(&few).way, PLAN_SCAN);
    few.pass = 0;
    assert_int_equal(plan_first(&few).way, PLAN_SCAN);
    /* The beam is never narrower for less that passes, and never wider than the index. */
    uint32_t before = 0;
    for (double share = 1; share > 1e-6; share *= 0.7) {
        struct plan_case c = a_case(50000, share);
        uint32_t beam = plan_beam(&c, 10 / share);
        assert_true(beam >= before && beam <= 50000);
        before = beam;
    }
    half.asks = true;
    half.marked = false;
    assert_int_equal(plan_first(&half).way, PLAN_PASSING);
    struct plan_case uncoded = a_case(1000000, 0.5); /* hnswlib's graph, hnswlib's answers */
    uncoded.code_stride = 0;
    uncoded.filtered = uncoded.marked = false;
    assert_int_equal(plan_first(&uncoded).way, PLAN_PASSING);
    /* Whatever the file says: no counter makes it stumble. */
    struct plan_case none = {.k = 10, .ef = 10, .nslots = 64, .code_stride = 64};
    assert_true(plan_first(&none).beam <= 64);
    none.pass = 100;
    assert_true(plan_first(&none).beam <= 64);
}

static void test_second_plans(void **state)
{
    (void)state;
    struct plan_case half = a_case(1000000, 0.5), tenth = a_case(20000, 0.1);
    struct plan p = plan_first(&half);
    assert_false(plan_again(&half, &p, 60, 22)); /* as it was to be expected */
    assert_true(plan_again(&half, &p, 12, 200)); /* few here: wider */
    assert_int_equal(p.way, PLAN_EVERY);
    assert_true(p.beam > 400);
    assert_false(plan_again(&half, &p, 30, 200)); /* it is wide enough now */
    p = plan_first(&half);
    assert_true(plan_again(&half, &p, 0, 0)); /* none here: where are they? */
    assert_int_equal(p.way, PLAN_HOPS);
    assert_false(plan_again(&half, &p, 20, 10));
    assert_true(plan_again(&half, &p, 3, 0));
    assert_int_equal(p.way, PLAN_SCAN);
    assert_false(plan_again(&half, &p, 3, 0)); /* that was all */
    p = (struct plan){.way = PLAN_EVERY, .beam = 170};
    assert_true(plan_again(&tenth, &p, 0, 0)); /* 2,000 are scanned sooner than hopped over */
    assert_int_equal(p.way, PLAN_SCAN);
    half.marked = false;
    p = (struct plan){.way = PLAN_EVERY, .beam = 170};
    assert_true(plan_again(&half, &p, 0, 0));
    assert_int_equal(p.way, PLAN_PASSING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_way_with_filters, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_every_way_among_deleted, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_marks_of_nothing, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(test_functions, make_dir, remove_dir),
        cmocka_unit_test(test_plans),
        cmocka_unit_test(test_second_plans),
    };
    return run_on_both_forms(tests, sizeof tests / sizeof *tests);
}
