/* test_engine_hostile.c -- rows, tags and vectors full of garbage: wrong answers, but no crash and
 * no endless walk.
 *
 * Opening checks the header and the root; rows are read as they are, so each id is bounds-checked
 * when it is used (W2, W3, G1, G2).  The garbage goes in through a mapping of the test's own.
 */
#include <fcntl.h>
#include <sys/mman.h>

#include "engine/index.h"
#include "tests/support/engine.h"

#define DIM 6u
#define N 1500u

struct file {
    uint8_t *bytes;
    uint64_t size;
};

static struct file map_file(const struct view *v)
{
    struct file f = {NULL, layout_file_bytes(&v->layout, atomic_load(&v->nchunks))};
    int fd = open(v->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    f.bytes = mmap(NULL, f.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(f.bytes != MAP_FAILED);
    close(fd);
    return f;
}

enum garbage { NOISE, IN_BOUNDS, SAME, TAGS, VECTORS, KINDS };

static void spoil(struct rng *r, struct file f, const struct view *v, enum garbage kind)
{
    const struct layout *l = &v->layout;
    for (uint32_t slot = 1; slot < view_slots(v); slot++) {
        uint32_t *row = (uint32_t *)(void *)(f.bytes + layout_row_off(l, slot));
        struct disk_tag *tag = (struct disk_tag *)(void *)(f.bytes + layout_tag_off(l, slot));
        uint32_t *vec = (uint32_t *)(void *)(f.bytes + layout_vec_off(l, slot));
        for (uint32_t i = 0; i < l->M0; i++) {
            if (kind == NOISE)
                row[i] = (uint32_t)rng_next(r);
            else if (kind == IN_BOUNDS)
                row[i] = rng_below(r, view_slots(v) + 2);
            else if (kind == SAME)
                row[i] = slot;
        }
        if (kind == TAGS || kind == NOISE)
            tag->up = (uint32_t)rng_next(r);
        for (uint32_t i = 0; kind == VECTORS && i < DIM; i++)
            vec[i] = (uint32_t)rng_next(r) | (i % 2 ? 0x7f800000u : 0); /* NaN among them */
    }
    for (uint32_t cell = 0; kind <= TAGS && cell < view_cells(v); cell++) {
        uint32_t *ids = (uint32_t *)(void *)(f.bytes + layout_upper_off(l, cell));
        for (uint32_t i = 0; i < l->M; i++)
            ids[i] = kind == NOISE ? (uint32_t)rng_next(r) : rng_below(r, view_slots(v));
    }
}

/* Every query is answered, by labels that exist; where vectors are whole, with true distances. */
static void query_all(navmap_index *ix, const float *v, enum garbage kind)
{
    uint64_t labels[20], found;
    float d[20];
    struct navmap_search_options o = {.struct_size = sizeof o, .ef = 40};
    for (uint32_t q = 0; q < 60; q++) {
        assert_ok(navmap_search(ix, 1, v + (size_t)q * DIM, 20, &o, labels, d, &found));
        assert_int_equal(found, 20);
        for (uint32_t i = 0; i < 20; i++) {
            double sum = 0;
            assert_true(labels[i] < N);
            for (uint32_t j = 0; j < DIM; j++) {
                double x = (double)v[q * DIM + j] - (double)v[labels[i] * DIM + j];
                sum += x * x;
            }
            if (kind != VECTORS)
                assert_true(fabs(sum - (double)d[i]) < 1e-4);
        }
    }
}

static void run(enum garbage kind, bool writer)
{
    struct rng r = test_rng();
    float *v = random_vectors(&r, 2 * N, DIM);
    navmap_index *ix = create_index(DIM, NAVMAP_L2, 6, NAVMAP_FULL);
    struct view *view;
    add_range(ix, v, 0, N);
    if (!writer) {
        assert_ok(navmap_close(ix));
        ix = open_index(NAVMAP_READ);
    }
    assert_ok(store_view_begin(ix->store, &view));
    struct file f = map_file(view);
    spoil(&r, f, view, kind);
    query_all(ix, v, kind);
    if (writer) { /* adds and updates walk over the same garbage */
        for (uint64_t i = 0; i < 150; i++) {
            uint64_t label = i % 2 ? i : N + i;
            assert_ok(navmap_add(ix, 1, v + (N + i) * DIM, &label, NULL, NULL));
        }
        assert_ok(navmap_delete(ix, 4));
    }
    assert_int_equal(munmap(f.bytes, f.size), 0);
    store_view_end(ix->store, view);
    assert_ok(navmap_close(ix));
    free(v);
}

#define GARBAGE(kind)                                                                              \
    static void test_##kind(void **state)                                                          \
    {                                                                                              \
        (void)state;                                                                               \
        run(kind, false);                                                                          \
        assert_int_equal(remove_dir(NULL), 0);                                                     \
        assert_int_equal(make_dir(NULL), 0);                                                       \
        run(kind, true);                                                                           \
    }
GARBAGE(NOISE)
GARBAGE(IN_BOUNDS)
GARBAGE(SAME)
GARBAGE(TAGS)
GARBAGE(VECTORS)

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_dir, remove_dir)
    const struct CMUnitTest tests[] = {
        CASE(test_NOISE), CASE(test_IN_BOUNDS), CASE(test_SAME),
        CASE(test_TAGS),  CASE(test_VECTORS),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
