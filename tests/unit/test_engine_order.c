/* test_engine_order.c -- the order of items: complete, the same however many threads, and on few
 * pages. */
#include "engine/order.h"
#include "tests/support/engine.h"

#define STRIDE 128u
#define PER_PAGE (4096u / STRIDE)

static struct rng rng;

/* A graph as the order's sets: rows of items + 1. */
static struct order_graph graph_of(uint32_t n, const struct bisect_sets *rows)
{
    return (struct order_graph){.n = n, .sets = rows, .n_sets = 1, .first = 1, .stride = STRIDE};
}

static void test_small(void **state)
{
    (void)state;
    uint32_t words[16] = {0}, items[8] = {9, 9, 9, 9, 9, 9, 9, 9};
    const struct bisect_sets rows = {.words = words, .n = 8, .width = 2, .own = true};
    struct order_graph g = graph_of(0, &rows);
    assert_ok(order_items(&g, items));
    assert_int_equal(items[0], 9);
    const struct bisect_sets none = {.words = words, .n = 0, .width = 2};
    g = graph_of(1, &none);
    assert_ok(order_items(&g, items));
    assert_int_equal(items[0], 0);
    g = graph_of(8, &rows); /* nobody linked to anybody; one page, two, eight */
    for (g.stride = 64; g.stride <= 8192; g.stride *= 4) {
        assert_ok(order_items(&g, items));
        assert_permutation(items, 8);
    }
    const uint32_t sets[2][4] = {{1, 2, 3, 8}, {4, 5, 6, 7}}; /* items + 1 */
    const struct bisect_sets two = {.words = sets[0], .n = 2, .width = 4};
    g.sets = &two;
    g.stride = 1024;
    g.first = 0;
    assert_ok(order_items(&g, items));
    assert_permutation(items, 8);
    for (uint32_t i = 0; i < 4; i++)
        assert_true(items[i] < 3 || items[i] == 7);
}

/* Random graphs, hubs among them, not all of one piece; numbered by another table in every other
 * round. */
static void test_random(void **state)
{
    (void)state;
    struct crew *crew = crew_new();
    for (int round = 0; round < 60; round++) {
        uint32_t n = 1 + rng_below(&rng, 900), width = 1 + rng_below(&rng, 12);
        uint32_t *words = calloc((size_t)n * width, sizeof *words);
        uint32_t *number = malloc((n + 1) * sizeof *number);
        uint32_t *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
        for (uint32_t i = 0; i <= n; i++)
            number[i] = round & 1 && i > 0 ? n + 1 - i : i;
        for (uint32_t node = 0; node < n; node++)
            for (uint32_t i = 0, degree = rng_below(&rng, width + 1); i < degree; i++)
                words[node * width + i] =
                    number[1 + (rng_below(&rng, 3) == 0 ? rng_below(&rng, 1 + n / 50)
                                                        : rng_below(&rng, n))];
        struct bisect_sets rows = {.words = words, .n = n, .width = width, .own = true};
        rows.number = round & 1 ? number : NULL;
        struct order_graph g = graph_of(n, &rows);
        g.stride = 1 + rng_below(&rng, 6000);
        g.first = rng_below(&rng, 100);
        assert_ok(order_items(&g, a));
        g.crew = crew;
        g.threads = 3;
        assert_ok(order_items(&g, b));
        assert_permutation(a, n);
        assert_memory_equal(a, b, n * sizeof *a);
        if (round & 1) { /* the same sets by their own numbers */
            for (uint32_t i = 0; i < n * width; i++)
                words[i] = number[words[i]];
            rows.number = NULL;
            assert_ok(order_items(&g, b));
            assert_memory_equal(a, b, n * sizeof *a);
        }
        free(words);
        free(number);
        free(a);
        free(b);
    }
    crew_free(crew);
}

/* Pages that an item and its row lie on, all counted together. */
static double pages_per_row(const struct bisect_sets *rows, uint32_t n, const uint32_t *items)
{
    uint32_t *page = malloc(n * sizeof *page), *seen = calloc(n, sizeof *seen), pages = 0;
    for (uint32_t i = 0; i < n; i++)
        page[items[i]] = (1 + i) / PER_PAGE;
    for (uint32_t node = 0; node < n; node++)
        for (uint32_t i = 0; i <= rows->width; i++) {
            uint32_t word = i == 0 ? node + 1 : rows->words[node * rows->width + i - 1];
            if (word != 0 && seen[page[word - 1]] != node + 1) {
                seen[page[word - 1]] = node + 1;
                pages++;
            }
        }
    free(page);
    free(seen);
    return (double)pages / n;
}

/* A grid whose nodes are numbered at random: a page is to be a patch of it, some 6 x 6.  It is
 * large enough for several parts at once. */
static void test_grid(void **state)
{
    (void)state;
    enum { SIDE = 150, N = SIDE * SIDE };
    uint32_t *name = malloc(N * sizeof *name), *items = malloc(N * sizeof *items);
    uint32_t *again = malloc(N * sizeof *again), *words = calloc(N * 4, sizeof *words);
    struct crew *crew = crew_new();
    for (uint32_t i = 0; i < N; i++)
        name[i] = items[i] = i;
    for (uint32_t i = N; i > 1; i--) {
        uint32_t j = rng_below(&rng, i), t = name[j];
        name[j] = name[i - 1];
        name[i - 1] = t;
    }
    for (uint32_t y = 0; y < SIDE; y++)
        for (uint32_t x = 0; x < SIDE; x++) {
            uint32_t *row = words + name[y * SIDE + x] * 4, n = 0;
            if (x > 0)
                row[n++] = name[y * SIDE + x - 1] + 1;
            if (x + 1 < SIDE)
                row[n++] = name[y * SIDE + x + 1] + 1;
            if (y > 0)
                row[n++] = name[(y - 1) * SIDE + x] + 1;
            if (y + 1 < SIDE)
                row[n++] = name[(y + 1) * SIDE + x] + 1;
        }
    const struct bisect_sets rows = {.words = words, .n = N, .width = 4, .own = true};
    struct order_graph g = graph_of(N, &rows);
    double before = pages_per_row(&rows, N, items);
    assert_ok(order_items(&g, items));
    double after = pages_per_row(&rows, N, items);
    print_message("pages of a row: %.2f, ordered %.2f\n", before, after);
    assert_permutation(items, N);
    assert_true(before > 4.5 && after < 2.5);
    g.crew = crew;
    for (g.threads = 2; g.threads <= 5; g.threads += 3) {
        assert_ok(order_items(&g, again));
        assert_memory_equal(items, again, N * sizeof *items);
    }
    crew_free(crew);
    free(name);
    free(items);
    free(again);
    free(words);
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

/* Those of the high levels come first, highest foremost; a level that many reach stays among the
 * others.  Progress adds up, and can stop it. */
static void test_levels(void **state)
{
    (void)state;
    enum { N = 40000, WIDTH = 3 };
    uint32_t *words = malloc(N * WIDTH * sizeof *words), *items = malloc(N * sizeof *items);
    uint8_t *levels = calloc(N, 1);
    struct ticks t = {0, 0, 0};
    for (uint32_t i = 0; i < N * WIDTH; i++)
        words[i] = 1 + rng_below(&rng, N);
    const struct bisect_sets rows = {.words = words, .n = N, .width = WIDTH, .own = true};
    for (uint32_t i = 0; i < N; i++)
        levels[i] = i % 1000 == 77 ? 3 : i % 300 == 1 ? 2 : i % 20 == 2;
    levels[77] = 255;
    struct order_graph g = graph_of(N, &rows);
    g.levels = levels;
    g.tick = count_ticks;
    g.ctx = &t;
    assert_ok(order_items(&g, items));
    assert_permutation(items, N);
    assert_int_equal(items[0], 77);
    assert_true(t.calls > 2);
    assert_int_equal(t.done, N);
    uint32_t high = 0;
    for (uint32_t i = 0; i < N; i++)
        high += levels[i] > 1;
    for (uint32_t i = 0; i < N; i++)
        assert_true(i < high ? levels[items[i]] > 1 : levels[items[i]] <= 1);
    for (uint32_t i = 1; i < high; i++)
        assert_true(levels[items[i]] <= levels[items[i - 1]]);
    for (uint32_t stop_at = 1; stop_at <= 3; stop_at += 2) {
        t = (struct ticks){0, 0, stop_at};
        assert_int_equal(order_items(&g, items), NAVMAP_EINTERRUPTED);
        assert_int_equal(t.calls, stop_at);
    }
    free(words);
    free(items);
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
