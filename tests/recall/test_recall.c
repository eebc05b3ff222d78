/* test_recall.c -- does the graph find what an exact scan finds?
 *
 * Clustered vectors, each metric, several beam widths; then the same after a third of the items
 * were given new vectors and others were deleted, enough for the sweep to have run.  The graph
 * depends only on the seed and the data, so the figures of one seed repeat exactly; the floors lie
 * below the worst of eight seeds.
 */
#include "tests/support/engine.h"

#define DIM 32u
#define ITEMS 10000u
#define CLUSTERS 10u /* a thousand items each: a beam does not hold a cluster whole */
#define QUERIES 200u
#define K 10u

struct floor {
    uint32_t ef;
    double recall;
};

struct answers {
    uint64_t labels[QUERIES * K];
    float distances[QUERIES * K];
};

/* Share of the exact neighbours that the graph found.  One at the distance of the last exact one
 * counts too: which of equals is meant is nobody's business. */
static double recall(const struct answers *got, const struct answers *exact)
{
    uint32_t hits = 0;
    for (uint32_t q = 0; q < QUERIES; q++) {
        const float last = exact->distances[q * K + K - 1];
        for (uint32_t i = 0; i < K; i++)
            hits += got->distances[q * K + i] <= last;
    }
    return (double)hits / (QUERIES * K);
}

/* Labels are there, once each, in order, not among the deleted. */
static void check_rows(const struct answers *a, const bool *deleted, uint32_t n)
{
    for (uint32_t at = 0; at < QUERIES * K; at++) {
        assert_true(a->labels[at] < n);
        assert_false(deleted[a->labels[at]]);
        if (at % K != 0)
            assert_true(a->distances[at - 1] <= a->distances[at]);
        for (uint32_t before = at - at % K; before < at; before++)
            assert_true(a->labels[before] != a->labels[at]);
    }
}

static void check_recall(navmap_index *ix, const char *what, const float *queries,
                         const bool *deleted, uint32_t n, const struct floor *floors,
                         uint32_t n_floors)
{
    static struct answers exact, got;
    assert_ok(
        navmap_search_exact(ix, QUERIES, queries, K, NULL, exact.labels, exact.distances, NULL));
    check_rows(&exact, deleted, n);
    for (uint32_t i = 0; i < n_floors; i++) {
        struct navmap_search_options o = {.struct_size = sizeof o, .ef = floors[i].ef};
        assert_ok(navmap_search(ix, QUERIES, queries, K, &o, got.labels, got.distances, NULL));
        check_rows(&got, deleted, n);
        double found = recall(&got, &exact);
        print_message("%s ef %u: recall@%u %.4f, at least %.3f\n", what, o.ef, K, found,
                      floors[i].recall);
        assert_true(found >= floors[i].recall);
    }
}

/* About 30 % of the labels get a vector of the same clusters, every tenth of the others is deleted.
 * Enough die for a sweep to begin and end. */
static void churn(navmap_index *ix, struct rng *r, float *vectors, const float *spare,
                  bool *deleted, uint32_t n)
{
    uint32_t updates = 0;
    for (uint64_t label = 0; label < n; label++) {
        uint32_t dice = rng_below(r, 100);
        const float *fresh = spare + label * DIM;
        if (dice < 30) {
            memcpy(vectors + label * DIM, fresh, DIM * sizeof *fresh);
            assert_ok(navmap_add(ix, 1, fresh, &label, NULL, NULL));
            updates++;
        } else if (dice < 37) {
            assert_ok(navmap_delete(ix, label));
            deleted[label] = true;
        }
    }
    if (n == ITEMS)
        assert_true(stats_of(ix).n_dead < updates); /* it has freed some */
}

static void run_space(enum navmap_space space, const char *name, const struct floor *built,
                      const struct floor *churned, uint32_t n_floors)
{
    struct rng r = test_rng();
    uint32_t n = scaled(ITEMS, 10);
    /* One draw, so that queries and new vectors come from the clusters of the items. */
    float *all = clustered_vectors(&r, 2ull * n + QUERIES, DIM, CLUSTERS);
    float *spare = all + (size_t)n * DIM, *queries = spare + (size_t)n * DIM;
    bool *deleted = calloc(n, sizeof *deleted);
    char what[64];
    assert_non_null(deleted);

    navmap_index *ix = create_index(DIM, space, 16, NAVMAP_MANUAL);
    assert_ok(navmap_add(ix, n, all, NULL, NULL, NULL));
    assert_ok(navmap_flush(ix));
    (void)snprintf(what, sizeof what, "%s, built", name);
    check_recall(ix, what, queries, deleted, n, built, n_floors);

    churn(ix, &r, all, spare, deleted, n);
    assert_ok(navmap_flush(ix));
    (void)snprintf(what, sizeof what, "%s, updated and deleted", name);
    check_recall(ix, what, queries, deleted, n, churned, n_floors);

    assert_ok(navmap_close(ix));
    free(deleted);
    free(all);
}

#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof *(a)))

static void recall_l2(void **state)
{
    (void)state;
    static const struct floor built[] = {{10, 0.77}, {50, 0.985}, {100, 0.995}, {200, 0.998}};
    static const struct floor churned[] = {{10, 0.77}, {50, 0.985}, {100, 0.995}, {200, 0.998}};
    run_space(NAVMAP_L2, "l2", built, churned, COUNT(built));
}

static void recall_ip(void **state)
{
    (void)state;
    static const struct floor built[] = {{10, 0.92}, {50, 0.955}, {100, 0.965}, {200, 0.975}};
    static const struct floor churned[] = {{10, 0.87}, {50, 0.935}, {100, 0.955}, {200, 0.965}};
    run_space(NAVMAP_IP, "ip", built, churned, COUNT(built));
}

static void recall_cosine(void **state)
{
    (void)state;
    static const struct floor built[] = {{10, 0.77}, {50, 0.985}, {100, 0.995}, {200, 0.998}};
    static const struct floor churned[] = {{10, 0.77}, {50, 0.985}, {100, 0.995}, {200, 0.998}};
    run_space(NAVMAP_COSINE, "cosine", built, churned, COUNT(built));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(recall_l2, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(recall_ip, make_dir, remove_dir),
        cmocka_unit_test_setup_teardown(recall_cosine, make_dir, remove_dir),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
