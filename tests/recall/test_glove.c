/* test_glove.c -- recall@10 on real word vectors (glove-100, cosine) against exact search.
 *
 * NAVMAP_GLOVE names a directory with base.npy and queries.npy; without it
 * ../shared/data/glove-100 beside the source root is tried, and the test skipped when it is absent.
 * The graph depends on seed and data only, so figures repeat; the thresholds lie a little below.
 */
#include <time.h>

#include "tests/support/engine.h"

#define K 10u

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

struct threshold {
    uint32_t ef;
    double recall;
};

/* The rows of a two-dimensional .npy file of 4-byte items, or NULL. */
static void *read_npy(const char *dir, const char *name, uint64_t max_rows, uint64_t *ret_rows,
                      uint64_t *ret_columns)
{
    char path[512], header[256] = {0};
    unsigned long long rows = 0, columns = 0;
    void *data = NULL;
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    if (fread(header, 1, 128, f) == 128) {
        const char *shape = strstr(header + 10, "'shape': (");
        if (shape && sscanf(shape, "'shape': (%llu, %llu)", &rows, &columns) == 2) {
            rows = rows < max_rows ? rows : max_rows;
            data = malloc(rows * columns * 4);
            if (data && fread(data, 4 * columns, rows, f) != rows) {
                free(data);
                data = NULL;
            }
        }
    }
    (void)fclose(f);
    *ret_rows = rows;
    *ret_columns = columns;
    return data;
}

static void test_glove(void **state)
{
    (void)state;
    const char *root = getenv("NAVMAP_SOURCE_ROOT"), *dir = getenv("NAVMAP_GLOVE");
    char beside[512];
    uint64_t n, nq, dim, dim_q;
    (void)snprintf(beside, sizeof beside, "%s/../shared/data/glove-100", root ? root : ".");
    dir = dir ? dir : beside;
    float *v = read_npy(dir, "base.npy", scaled(20000, 5), &n, &dim);
    float *q = read_npy(dir, "queries.npy", 300, &nq, &dim_q);
    if (!v || !q) {
        print_message("no data at %s\n", dir);
        free(v);
        free(q);
        skip();
    }
    assert_int_equal(dim, dim_q);
    static const struct threshold t[] = {{10, 0.57}, {50, 0.86}, {200, 0.97}, {400, 0.99}};
    navmap_index *ix = create_index((uint32_t)dim, NAVMAP_COSINE, 16, NAVMAP_MANUAL);
    double start = now();
    add_range(ix, v, 0, n);
    assert_ok(navmap_flush(ix));
    print_message("%llu x %llu added in %.1f s\n", (unsigned long long)n, (unsigned long long)dim,
                  now() - start);
    for (uint32_t i = 0; i < sizeof t / sizeof *t; i++) {
        double recall = recall_of(ix, q, (uint32_t)nq, K, t[i].ef);
        print_message("ef %u: recall@%u %.4f, at least %.3f\n", t[i].ef, K, recall, t[i].recall);
        assert_true(recall >= t[i].recall);
    }
    assert_ok(navmap_close(ix));
    free(v);
    free(q);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_glove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
