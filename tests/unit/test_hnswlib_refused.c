/* test_hnswlib_refused.c -- the importer on files with one thing wrong: refused, in which words. */
#include <math.h>

#include "tests/unit/hnswlib_load.h"

static void test_recognised(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    struct rng r = {plan.seed};
    struct hnswlib_image im;
    hnswlib_image_make(&plan, &im);
    assert_true(hnswlib_looks_like(im.bytes, 96, im.n));
    assert_true(hnswlib_looks_like(im.bytes, 96, 96)); /* cut short */
    assert_false(hnswlib_looks_like(im.bytes, 95, im.n));
    assert_false(hnswlib_looks_like(im.bytes, 96, 95));
    assert_false(hnswlib_looks_like_flat(im.bytes, 96, im.n));
    for (uint32_t at = 0; at < 96; at += 8) { /* damaged in one place */
        uint64_t was = hnswlib_image_get(&im, at, 8);
        hnswlib_image_put(&im, at, rng_next(&r), 8);
        assert_true(hnswlib_looks_like(im.bytes, 96, im.n));
        hnswlib_image_put(&im, at, was, 8);
    }
    hnswlib_image_free(&im);
    hnswlib_image_make_flat(&plan, &im);
    assert_true(hnswlib_looks_like_flat(im.bytes, 24, im.n));
    assert_false(hnswlib_looks_like_flat(im.bytes, 24, im.n - 1));
    assert_false(hnswlib_looks_like(im.bytes, 96, im.n));
    hnswlib_image_free(&im);
    uint8_t other[96] = {0};
    assert_false(hnswlib_looks_like(other, 96, 96));
    assert_false(hnswlib_looks_like_flat(other, 96, 96));
    memset(other, 0xff, sizeof other);
    assert_false(hnswlib_looks_like(other, 96, 96));
    assert_false(hnswlib_looks_like_flat(other, 96, 96));
    for (uint32_t i = 0; i < 1000; i++) {
        for (uint32_t j = 0; j < 96; j++)
            other[j] = (uint8_t)rng_next(&r);
        assert_false(hnswlib_looks_like(other, 96, 1u << 20));
        assert_false(hnswlib_looks_like_flat(other, 96, 1u << 20));
    }
}

static void test_length(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    plan.count = 12;
    plan.every = 1;
    struct hnswlib_image im;
    struct navmap_load_options o = wish(NAVMAP_L2);
    navmap_index *ix = NULL;
    hnswlib_image_make(&plan, &im);
    for (uint64_t n = 0; n < im.n; n++) {
        assert_status(load_part(&im, n, &o, &ix), NAVMAP_ECORRUPT);
        assert_memory_equal(navmap_error_detail(), WORDS, strlen(WORDS));
    }
    uint8_t *longer = realloc(im.bytes, im.n + 4);
    assert_non_null(longer);
    im.bytes = longer;
    memset(im.bytes + im.n, 0, 4);
    for (uint64_t n = im.n + 1; n <= im.n + 4; n++) {
        assert_status(load_part(&im, n, &o, &ix), NAVMAP_ECORRUPT);
        assert_non_null(strstr(navmap_error_detail(), "size: expected"));
    }
    assert_null(ix);
    hnswlib_image_free(&im);
}

/* One thing wrong at a time ---------------------------------------------------------------------*/

static void put_double(struct hnswlib_image *im, uint64_t at, double x)
{
    memcpy(im->bytes + at, &x, sizeof x);
}
static void put_float(struct hnswlib_image *im, uint64_t at, float x)
{
    memcpy(im->bytes + at, &x, sizeof x);
}
/* An element of level 0, one of 2 and more that is not the entry: among 400 there is one. */
static uint32_t low_one(const struct hnswlib_image *im)
{
    uint32_t id = 20;
    while (im->levels[id] != 0)
        id++;
    return id;
}
static uint32_t high_one(const struct hnswlib_image *im)
{
    uint32_t id = 20;
    while (im->levels[id] < 2 || id == im->entry)
        id++;
    return id;
}
#define LIST(id, level) hnswlib_image_list(im, id, level)
#define PUT(at, value, width) hnswlib_image_put(im, at, value, width)

/* clang-format off */
#define CASES(X)                                                                                   \
    X(offset_level0, NAVMAP_ECORRUPT, "offsetLevel0 (byte 0): expected 0, found 1", PUT(0, 1, 8))  \
    X(capacity, NAVMAP_ECORRUPT, "expected at most max_elements, 399, found 400", PUT(8, 399, 8))  \
    X(count_more, NAVMAP_ECORRUPT, "", PUT(16, 401, 8); PUT(8, 401, 8))                            \
    X(count_many, NAVMAP_ECORRUPT, "or more for 500 elements", PUT(16, 500, 8))                    \
    X(count_less, NAVMAP_ECORRUPT, "", PUT(16, 399, 8))                                            \
    X(count_none, NAVMAP_ECORRUPT, "size: expected 96 bytes for 0 elements", PUT(16, 0, 8))        \
    X(count_huge, NAVMAP_ECORRUPT, "", PUT(16, UINT64_MAX, 8); PUT(8, UINT64_MAX, 8))              \
    X(count_ids, NAVMAP_ECORRUPT, "below 4294967295", PUT(16, UINT32_MAX, 8);                      \
      PUT(8, UINT64_MAX, 8))                                                                       \
    X(element_bytes, NAVMAP_ECORRUPT, "label_offset (byte 32)", PUT(24, im->element_bytes + 4, 8)) \
    X(element_odd, NAVMAP_ECORRUPT, "size_data_per_element", PUT(24, im->element_bytes + 1, 8))    \
    X(element_none, NAVMAP_ECORRUPT, "size_data_per_element", PUT(24, 52, 8))                      \
    X(element_huge, NAVMAP_EVERSION, "dimensions", PUT(24, UINT64_MAX - 7, 8))                     \
    X(label_offset, NAVMAP_ECORRUPT, "label_offset (byte 32): expected 88, found 84",              \
      PUT(32, 84, 8))                                                                              \
    X(offset_data, NAVMAP_ECORRUPT, "offsetData (byte 40): expected 44, found 40", PUT(40, 40, 8)) \
    X(top_high, NAVMAP_ECORRUPT, "the entry point: level: expected ",                              \
      PUT(48, im->levels[im->entry] + 1, 4))                                                       \
    X(top_low, NAVMAP_ECORRUPT, "level: expected ", PUT(48, im->levels[im->entry] - 1, 4))         \
    X(top_below, NAVMAP_ECORRUPT, ": level: expected at most 0, found ", PUT(48, 0, 4);            \
      PUT(52, low_one(im), 4))                                                                     \
    X(top_none, NAVMAP_ECORRUPT, "maxlevel (byte 48): expected 0 to 31, found -1",                 \
      PUT(48, UINT32_MAX, 4))                                                                      \
    X(top_huge, NAVMAP_ECORRUPT, "maxlevel (byte 48)", PUT(48, 32, 4))                             \
    X(entry_none, NAVMAP_ECORRUPT, "enterpoint (byte 52): expected below 400, found 4294967295",   \
      PUT(52, UINT32_MAX, 4))                                                                      \
    X(entry_beyond, NAVMAP_ECORRUPT, "enterpoint (byte 52)", PUT(52, 400, 4))                      \
    X(entry_low, NAVMAP_ECORRUPT, "the entry point: level: expected ", PUT(52, low_one(im), 4))    \
    X(maxM, NAVMAP_ECORRUPT, "maxM (byte 56): expected 5, found 6", PUT(56, 6, 8))                 \
    X(maxM0, NAVMAP_ECORRUPT, "maxM0 (byte 64): expected 10, found 12", PUT(64, 12, 8))            \
    X(M_one, NAVMAP_EVERSION, "M is 1; navmap has indexes of M 2 to 512", PUT(56, 1, 8);           \
      PUT(64, 2, 8); PUT(72, 1, 8); PUT(40, 12, 8))                                                \
    X(M_large, NAVMAP_EVERSION, "M is 513;", PUT(56, 513, 8); PUT(64, 1026, 8); PUT(72, 513, 8);   \
      PUT(40, 4 + 8 * 513, 8))                                                                     \
    X(M_other, NAVMAP_ECORRUPT, "mult (byte 80): expected 0.558111 for M 6, found 0.621335",       \
      PUT(56, 6, 8); PUT(64, 12, 8); PUT(72, 6, 8))                                                \
    X(mult_nan, NAVMAP_ECORRUPT, "mult (byte 80)", put_double(im, 80, (double)NAN))                \
    X(ef_none, NAVMAP_ECORRUPT, "ef_construction (byte 88)", PUT(88, 0, 8))                        \
    X(ef_huge, NAVMAP_EVERSION, "ef_construction is 1048577", PUT(88, 1048577, 8))                 \
    X(links_many, NAVMAP_ECORRUPT, "element 30, level 0: expected at most 10 links, found 11",     \
      PUT(LIST(30, 0), 11, 2))                                                                     \
    X(links_upper, NAVMAP_ECORRUPT, ", level 2: expected at most 5 links, found 6",                \
      PUT(LIST(high_one(im), 2), 6, 2))                                                            \
    X(flags, NAVMAP_ECORRUPT, "element 30, level 0: flags: expected 0 or 1, found 2",              \
      PUT(LIST(30, 0) + 2, 2, 1))                                                                  \
    X(flags_high, NAVMAP_ECORRUPT, "element 30, level 0: flags", PUT(LIST(30, 0) + 3, 1, 1))       \
    X(flags_upper, NAVMAP_ECORRUPT, ", level 1: flags: expected 0, found 1",                       \
      PUT(LIST(high_one(im), 1) + 2, 1, 2))                                                        \
    X(link_beyond, NAVMAP_ECORRUPT,                                                                \
      "element 30, level 0, link 0: expected an element below 400, found 400",                     \
      PUT(LIST(30, 0) + 4, 400, 4))                                                                \
    X(link_huge, NAVMAP_ECORRUPT, "found 4294967295", PUT(LIST(30, 0) + 4, UINT32_MAX, 4))         \
    X(link_self, NAVMAP_ECORRUPT, "element 30, level 0, link 0: expected another element",         \
      PUT(LIST(30, 0) + 4, 30, 4))                                                                 \
    X(link_twice, NAVMAP_ECORRUPT, "element 30, level 0, link 1: expected each element once, "     \
      "found 31 again", PUT(LIST(30, 0) + 8, 31, 4); PUT(LIST(30, 0), 2, 2))                       \
    X(link_low, NAVMAP_ECORRUPT, ", level 1, link 0: expected an element of that level, found ",   \
      PUT(LIST(high_one(im), 1) + 4, low_one(im), 4))                                              \
    X(link_upper_beyond, NAVMAP_ECORRUPT, ", level 2, link 0: expected an element below 400",      \
      PUT(LIST(high_one(im), 2) + 4, 401, 4))                                                      \
    X(uppers_odd, NAVMAP_ECORRUPT, "element 20: bytes of upper levels: expected a multiple of 24", \
      PUT(im->uppers_at[20], 25, 4))                                                               \
    X(uppers_more, NAVMAP_ECORRUPT, "", PUT(im->uppers_at[low_one(im)], 24, 4))                    \
    X(uppers_huge, NAVMAP_ECORRUPT, "level: expected at most ",                                    \
      PUT(im->uppers_at[low_one(im)], 24 * 100000000ull, 4))                                       \
    X(nan, NAVMAP_ECORRUPT, "element 33 (label 106), column 2: expected a finite number, found "   \
      "NaN", put_float(im, hnswlib_image_vector(im, 33) + 8, NAN))                                 \
    X(infinity, NAVMAP_ECORRUPT, "column 10: expected a finite number, found infinity",            \
      put_float(im, hnswlib_image_vector(im, 33) + 40, -INFINITY))
/* clang-format on */

#define X(name, status, says, damage)                                                              \
    static void damage_##name(struct hnswlib_image *im)                                            \
    {                                                                                              \
        damage;                                                                                    \
    }
CASES(X)
#undef X

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        navmap_status status;
        const char *says;
        void (*damage)(struct hnswlib_image *im);
    } cases[] = {
#define X(name, status, says, damage) {#name, status, says, damage_##name},
        CASES(X)
#undef X
    };
    struct hnswlib_plan plan = seeded(usual);
    struct navmap_load_options o = wish(NAVMAP_L2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct hnswlib_image im;
        navmap_index *ix = NULL;
        hnswlib_image_make(&plan, &im);
        cases[i].damage(&im);
        navmap_status status = load_part(&im, im.n, &o, &ix);
        const char *said = navmap_error_detail();
        if (status != cases[i].status || !strstr(said, cases[i].says) ||
            strncmp(said, WORDS, strlen(WORDS)) != 0)
            fail_msg("%s: %s: %s", cases[i].name, navmap_strerror(status), said);
        assert_null(ix);
        hnswlib_image_free(&im);
    }
}

/* Levels that M 5 never draws: 1/5^23 is below what 53 bits can say. */
static void test_levels(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    struct navmap_load_options o = wish(NAVMAP_L2);
    for (uint32_t level = 22; level <= 23; level++) {
        struct hnswlib_image im;
        navmap_index *ix = NULL;
        plan.count = 1;
        plan.every = plan.top = level;
        hnswlib_image_make(&plan, &im);
        if (level == 22) {
            ix = load(&im, &o);
            assert_int_equal(stats_of(ix).entry_level, 22);
            assert_sound(ix);
            assert_ok(navmap_close(ix));
        } else {
            assert_status(load_part(&im, im.n, &o, &ix), NAVMAP_ECORRUPT);
            assert_non_null(strstr(navmap_error_detail(), "expected at most 22"));
        }
        hnswlib_image_free(&im);
    }
}

static void test_flat(void **state)
{
    (void)state;
    struct hnswlib_plan plan = seeded(usual);
    struct hnswlib_image im;
    hnswlib_image_make_flat(&plan, &im);
    struct navmap_load_options o = wish(NAVMAP_L2);
    navmap_index *ix = NULL;
    o.flat = 1;
    for (uint64_t n = 0; n < im.n; n += n < 40 ? 1 : 97) {
        assert_status(load_part(&im, n, &o, &ix), NAVMAP_ECORRUPT);
        assert_memory_equal(navmap_error_detail(), WORDS, strlen(WORDS));
    }
    static const struct {
        uint64_t at, value;
        navmap_status status;
        const char *says;
    } bad[] = {
        {0, 501, NAVMAP_ECORRUPT, "size: expected 24 bytes and 501 rows of 52, found 26024"},
        {0, 399, NAVMAP_ECORRUPT,
         "cur_element_count (byte 16): expected at most max_elements, 399"},
        {0, UINT64_MAX, NAVMAP_ECORRUPT, "size: "},
        {8, 0, NAVMAP_ECORRUPT, "size_per_element (byte 8)"},
        {8, 8, NAVMAP_ECORRUPT, "size_per_element (byte 8)"},
        {8, 54, NAVMAP_ECORRUPT, "size_per_element (byte 8)"},
        {8, 56, NAVMAP_ECORRUPT, "size: "},
        {8, UINT64_MAX - 3, NAVMAP_EVERSION, "dimensions; navmap has indexes of 1 to 65536"},
        {16, 501, NAVMAP_ECORRUPT, "found 501"},
        {16, 402, NAVMAP_ECORRUPT,
         "element 400 (label 18446744073709551615), column 0: expected a "
         "finite number, found NaN"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        uint64_t was = hnswlib_image_get(&im, bad[i].at, 8);
        hnswlib_image_put(&im, bad[i].at, bad[i].value, 8);
        assert_status(load_part(&im, im.n, &o, &ix), bad[i].status);
        assert_non_null(strstr(navmap_error_detail(), bad[i].says));
        hnswlib_image_put(&im, bad[i].at, was, 8);
    }
    hnswlib_image_free(&im);
    hnswlib_image_make(&plan, &im);
    assert_status(load_part(&im, im.n, &o, &ix), NAVMAP_EINVAL); /* a graph */
    assert_non_null(strstr(navmap_error_detail(), WORDS "the file is of an index with a graph"));
    hnswlib_image_free(&im);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recognised), cmocka_unit_test(test_length),
        cmocka_unit_test(test_refused),    cmocka_unit_test(test_levels),
        cmocka_unit_test(test_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
