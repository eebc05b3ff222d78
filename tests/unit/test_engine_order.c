/* test_engine_order.c -- the order of a graph's nodes: complete, the same each time, and near. */
#include "engine/order.h"
#include "tests/support/engine.h"

static struct rng rng;

/* Each node once. */
static void assert_permutation(const uint32_t *nodes, uint32_t n)
{
    uint8_t *seen = calloc(n + 1, 1);
    for (uint32_t i = 0; i < n; i++) {
        assert_true(nodes[i] < n);
        assert_false(seen[nodes[i]]);
        seen[nodes[i]] = 1;
    }
    free(seen);
}

static void test_small(void **state)
{
    (void)state;
    uint32_t rows[8] = {0}, nodes[4] = {9, 9, 9, 9};
    struct order_graph g = {.n = 0, .width = 2, .rows = rows};
    assert_ok(order_nodes(&g, nodes));
    assert_int_equal(nodes[0], 9);
    g.n = 1;
    assert_ok(order_nodes(&g, nodes));
    assert_int_equal(nodes[0], 0);
    g.n = 4; /* nobody linked to anybody; the entry is first */
    g.entry = 2;
    assert_ok(order_nodes(&g, nodes));
    assert_permutation(nodes, 4);
    assert_int_equal(nodes[0], 2);
    rows[2 * 2] = 1; /* 2 -> 0 -> 3 -> 1 */
    rows[0] = 4;
    rows[3 * 2] = 2;
    assert_ok(order_nodes(&g, nodes));
    const uint32_t chain[4] = {2, 0, 3, 1};
    assert_memory_equal(nodes, chain, sizeof chain);
}

/* Random graphs, hubs among them, not all of one piece. */
static void test_random(void **state)
{
    (void)state;
    for (int round = 0; round < 60; round++) {
        uint32_t n = 1 + rng_below(&rng, 400), width = 1 + rng_below(&rng, 12);
        uint32_t *rows = calloc((size_t)n * width, sizeof *rows);
        uint32_t *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
        for (uint32_t node = 0; node < n; node++)
            for (uint32_t i = 0, degree = rng_below(&rng, width + 1); i < degree; i++)
                rows[node * width + i] = 1 + (rng_below(&rng, 3) == 0 ? rng_below(&rng, 1 + n / 50)
                                                                      : rng_below(&rng, n));
        const struct order_graph g = {
            .n = n, .width = width, .rows = rows, .entry = rng_below(&rng, n)};
        assert_ok(order_nodes(&g, a));
        assert_ok(order_nodes(&g, b));
        assert_permutation(a, n);
        assert_int_equal(a[0], g.entry);
        assert_memory_equal(a, b, n * sizeof *a);
        free(rows);
        free(a);
        free(b);
    }
}

/* Neighbours that lie within half a page of rows of each other: many more than before. */
static double near_share(const struct order_graph *g, const uint32_t *nodes)
{
    uint32_t *number = malloc(g->n * sizeof *number);
    uint64_t near = 0, links = 0;
    for (uint32_t i = 0; i < g->n; i++)
        number[nodes[i]] = i;
    for (uint32_t node = 0; node < g->n; node++)
        for (uint32_t i = 0; i < g->width; i++) {
            uint32_t other = g->rows[node * g->width + i];
            if (other == 0)
                continue;
            int64_t d = (int64_t)number[node] - (int64_t)number[other - 1];
            near += d >= -16 && d <= 16;
            links++;
        }
    free(number);
    return (double)near / (double)links;
}

/* A grid whose nodes are numbered at random. */
static void test_grid(void **state)
{
    (void)state;
    enum { SIDE = 60, N = SIDE * SIDE };
    uint32_t *name = malloc(N * sizeof *name), *nodes = malloc(N * sizeof *nodes);
    uint32_t *rows = calloc(N * 4, sizeof *rows);
    for (uint32_t i = 0; i < N; i++)
        name[i] = nodes[i] = i;
    for (uint32_t i = N; i > 1; i--) {
        uint32_t j = rng_below(&rng, i), t = name[j];
        name[j] = name[i - 1];
        name[i - 1] = t;
    }
    for (uint32_t y = 0; y < SIDE; y++)
        for (uint32_t x = 0; x < SIDE; x++) {
            uint32_t *row = rows + name[y * SIDE + x] * 4, n = 0;
            if (x > 0)
                row[n++] = name[y * SIDE + x - 1] + 1;
            if (x + 1 < SIDE)
                row[n++] = name[y * SIDE + x + 1] + 1;
            if (y > 0)
                row[n++] = name[(y - 1) * SIDE + x] + 1;
            if (y + 1 < SIDE)
                row[n++] = name[(y + 1) * SIDE + x] + 1;
        }
    const struct order_graph g = {.n = N, .width = 4, .rows = rows, .entry = name[0]};
    double before = near_share(&g, nodes);
    assert_ok(order_nodes(&g, nodes));
    double after = near_share(&g, nodes);
    print_message("near: %.2f, ordered %.2f\n", before, after);
    assert_true(before < 0.02 && after > 0.5);
    free(name);
    free(nodes);
    free(rows);
}

struct ticks {
    uint32_t calls, done, stop_at;
};

static navmap_status count_ticks(void *ctx, uint32_t done)
{
    struct ticks *t = ctx;
    t->done += done;
    return ++t->calls == t->stop_at ? NAVMAP_EINTERRUPTED : NAVMAP_OK;
}

/* Those of the high levels come first, highest foremost, and otherwise the order is what it was. */
static void test_levels(void **state)
{
    (void)state;
    enum { N = 40000, WIDTH = 3 };
    uint32_t *rows = malloc(N * WIDTH * sizeof *rows);
    uint32_t *plain = malloc(N * sizeof *plain), *nodes = malloc(N * sizeof *nodes);
    uint8_t *levels = calloc(N, 1);
    struct ticks t = {0, 0, 0};
    for (uint32_t i = 0; i < N * WIDTH; i++)
        rows[i] = 1 + rng_below(&rng, N);
    struct order_graph g = {.n = N, .width = WIDTH, .rows = rows, .entry = 77};
    assert_ok(order_nodes(&g, plain));
    for (uint32_t i = 0; i < N; i++)
        levels[i] = i % 1000 == 77 ? 3 : i % 300 == 1 ? 2 : i % 20 == 2;
    levels[77] = 255;
    g.levels = levels;
    g.tick = count_ticks;
    g.ctx = &t;
    assert_ok(order_nodes(&g, nodes));
    assert_permutation(nodes, N);
    assert_int_equal(nodes[0], 77);
    assert_int_equal(t.calls, 3);
    assert_int_equal(t.done, N);
    uint32_t at = 0; /* level 1 has a twentieth of all: it stays where it was */
    for (int of = 255; of >= 1; of--)
        for (uint32_t i = 0; i < N; i++)
            if (of > 1 ? levels[plain[i]] == of : levels[plain[i]] <= 1)
                assert_int_equal(nodes[at++], plain[i]);
    assert_int_equal(at, N);
    t = (struct ticks){0, 0, 2};
    assert_int_equal(order_nodes(&g, nodes), NAVMAP_EINTERRUPTED);
    assert_int_equal(t.calls, 2);
    free(rows);
    free(plain);
    free(nodes);
    free(levels);
}

static int begin(void **state)
{
    (void)state;
    rng = test_rng();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_grid),
        cmocka_unit_test(test_levels),
    };
    return cmocka_run_group_tests(tests, begin, NULL);
}
