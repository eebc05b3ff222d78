/* test_half.c -- halves: what rounds to what, and distances to stored ones at every level, which
 * are bit for bit those to the same numbers as floats.
 */
#include "storage/half.h"

#include <float.h>
#include <sys/mman.h>

#include "engine/distance/distance.h"
#include "storage/layout.h"
#include "tests/support/engine.h"

#define DIM_MAX 1536u
#define MANY_MAX 9u
#define OFFSETS 32u /* every place in a line that a half may have */
#define STRIDE (DIM_MAX + OFFSETS)

static const struct distance_kernels *levels[DISTANCE_LEVELS_MAX];
static uint32_t n_levels;

static const uint32_t dims_large[] = {384, 784, 960, DIM_MAX};
static uint32_t dim_at(uint32_t i)
{
    return i < 130 ? i + 1 : dims_large[i - 130];
}
#define DIMS (130u + sizeof dims_large / sizeof *dims_large)

/* Rounding -------------------------------------------------------------------------------------*/

/* By the standard's words. */
static double value_of(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 1023;
    double v = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    if (exponent == 31)
        v = fraction ? NAN : INFINITY;
    return half & 0x8000 ? -v : v;
}

static float float_of(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static void test_all_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h <= 0xffff; h++) {
        float f = half_to_float((uint16_t)h), again[1];
        double v = value_of((uint16_t)h);
        assert_true(isnan(v) ? isnan(f) : (double)f == v && !signbit(f) == !signbit(v));
        assert_true(isnan(v) ? isnan(half_to_float(half_of_float(f))) : half_of_float(f) == h);
        uint16_t stored = (uint16_t)h;
        distance_widen(&stored, 1, again);
        assert_true(isnan(v) ? isnan(again[0]) : memcmp(&f, again, sizeof f) == 0);
    }
}

/* The half below a positive float that is no larger than the largest, by bisection. */
static uint16_t below(double v)
{
    uint16_t low = 0, high = 0x7c00;
    while (high - low > 1) {
        uint16_t mid = (uint16_t)((low + high) / 2);
        if (value_of(mid) <= v)
            low = mid;
        else
            high = mid;
    }
    return low;
}

static void check_rounding(float f)
{
    double v = fabs((double)f);
    uint16_t low = below(v), expected = low, got = half_of_float(f);
    double step = (low == 0x7bff ? 65536.0 : value_of((uint16_t)(low + 1))) - value_of(low);
    double over = v - value_of(low);
    if (over > step / 2 || (over == step / 2 && (low & 1) != 0))
        expected++;
    if (signbit(f))
        expected |= 0x8000;
    if (got != expected)
        fail_msg("%a rounds to %04x, not to %04x", (double)f, got, expected);
}

static void test_rounding(void **state)
{
    (void)state;
    struct rng r = test_rng();
    for (uint32_t h = 0; h < 0x7c00; h++) { /* halves, the middle behind each, and beside it */
        float f = half_to_float((uint16_t)h);
        double next = h == 0x7bff ? 65536.0 : value_of((uint16_t)(h + 1));
        float middle = (float)(((double)f + next) / 2);
        check_rounding(f);
        check_rounding(middle);
        check_rounding(nextafterf(middle, 0));
        check_rounding(nextafterf(middle, INFINITY));
        check_rounding(-middle);
    }
    for (uint32_t i = 0; i < 200000; i++) {
        float f = float_of((uint32_t)rng_next(&r));
        if (fabsf(f) <= HALF_MOST)
            check_rounding(f);
    }
    assert_int_equal(half_of_float(HALF_MOST), 0x7bff);
    assert_int_equal(half_of_float(65519.99f), 0x7bff);
    assert_int_equal(half_of_float(65520.0f), 0x7c00);
    assert_int_equal(half_of_float(-INFINITY), 0xfc00);
    assert_true(isnan(half_to_float(half_of_float(NAN))));
}

/* Widening in place, as store_get() does. */
static void test_in_place(void **state)
{
    (void)state;
    struct rng r = test_rng();
    for (uint32_t n = 1; n < 70; n++) {
        float wide[70], expected[70];
        uint16_t halves[70];
        for (uint32_t i = 0; i < n; i++) {
            expected[i] = rng_normal(&r);
            halves[i] = half_of_float(expected[i]);
            expected[i] = half_to_float(halves[i]);
        }
        memcpy((uint8_t *)wide + 2 * n, halves, 2 * n);
        half_widen((uint8_t *)wide + 2 * n, n, wide);
        assert_memory_equal(wide, expected, n * sizeof *wide);
    }
}

/* Distances ------------------------------------------------------------------------------------*/

/* Ordinary numbers, or any at all: subnormal, infinite, NaN. */
static void fill(struct rng *r, uint16_t *halves, float *wide, size_t n, bool any)
{
    for (size_t i = 0; i < n; i++) {
        halves[i] = any ? (uint16_t)rng_next(r) : half_of_float(rng_normal(r));
        if (any && rng_below(r, 4) != 0)
            halves[i] &= 0x83ff; /* subnormal, and zeros of both signs */
        wide[i] = half_to_float(halves[i]);
    }
}

static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

/* `wide` are the numbers of `stored`. */
static void check(const float *q, const void *const *stored, const void *const *wide, uint32_t n,
                  uint32_t dim)
{
    for (uint32_t level = 0; level < n_levels; level++)
        for (int ip = 0; ip < 2; ip++) {
            const struct distance_kernels *k = levels[level];
            float got[MANY_MAX + 1];
            got[n] = 12345.0f;
            (ip ? k->ip_half_many : k->l2_half_many)(q, stored, n, dim, got);
            assert_true(got[n] == 12345.0f);
            for (uint32_t i = 0; i < n; i++) {
                float one = (ip ? k->ip_half : k->l2_half)(q, stored[i], dim);
                float want = (ip ? distance_scalar.ip : distance_scalar.l2)(q, wide[i], dim);
                if (!same(got[i], want) || !same(one, want))
                    fail_msg("%s %s dim %u, %u of %u: %a, singly %a, of floats %a", k->name,
                             ip ? "ip" : "l2", dim, i, n, (double)got[i], (double)one,
                             (double)want);
            }
        }
}

static void test_distances(void **state)
{
    (void)state;
    struct rng r = test_rng();
    uint16_t *halves = malloc(sizeof *halves * STRIDE * MANY_MAX);
    float *wide = malloc(sizeof *wide * STRIDE * MANY_MAX), q[STRIDE];
    assert_true(halves && wide);
    for (uint32_t i = 0; i < DIMS; i++) {
        fill(&r, halves, wide, (size_t)STRIDE * MANY_MAX, i % 3 == 2);
        for (uint32_t j = 0; j < STRIDE; j++)
            q[j] = rng_normal(&r);
        for (uint32_t shift = 0; shift < OFFSETS; shift++) {
            const void *stored[MANY_MAX], *floats[MANY_MAX];
            uint32_t n = shift % (MANY_MAX + 1);
            for (uint32_t j = 0; j < n; j++) {
                size_t at = (size_t)rng_below(&r, MANY_MAX) * STRIDE + (shift + j) % OFFSETS;
                stored[j] = halves + at;
                floats[j] = wide + at;
            }
            check(q + shift % 16, stored, floats, n, dim_at(i));
        }
    }
    free(halves);
    free(wide);
}

static void test_largest_dimension(void **state)
{
    (void)state;
    struct rng r = test_rng();
    enum { DIM = 65536, ROWS = 5 };
    uint16_t *halves = malloc(sizeof *halves * DIM * ROWS);
    float *wide = malloc(sizeof *wide * DIM * ROWS);
    const void *stored[ROWS], *floats[ROWS];
    assert_true(halves && wide);
    fill(&r, halves, wide, (size_t)DIM * ROWS, false);
    for (uint32_t i = 0; i < ROWS; i++) {
        stored[i] = halves + (size_t)i * DIM;
        floats[i] = wide + (size_t)i * DIM;
    }
    check(wide, stored, floats, ROWS, DIM);
    free(halves);
    free(wide);
}

/* Forbidden memory right behind the last half, then right before the first. */
static void test_reads_nothing_beyond(void **state)
{
    (void)state;
    enum { ROWS = 5 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *maps[ROWS];
    float wide[ROWS][DIM_MAX], q[DIM_MAX];
    struct rng r = test_rng();
    for (int i = 0; i < ROWS; i++) {
        maps[i] = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        assert_true(maps[i] != MAP_FAILED);
        assert_int_equal(mprotect(maps[i] + page, page, PROT_READ | PROT_WRITE), 0);
    }
    for (uint32_t i = 0; i < DIM_MAX; i++)
        q[i] = rng_normal(&r);
    for (uint32_t i = 0; i < 2 * DIMS; i++) {
        uint32_t dim = dim_at(i / 2);
        const void *stored[ROWS], *floats[ROWS];
        for (int j = 0; j < ROWS; j++) {
            void *at = maps[j] + page + (i % 2 ? 0 : page - dim * sizeof(uint16_t));
            fill(&r, at, wide[j], dim, false);
            stored[j] = at;
            floats[j] = wide[j];
        }
        check(q, stored, floats, ROWS, dim);
    }
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(munmap(maps[i], 3 * page), 0);
}

static void test_chosen(void **state)
{
    (void)state;
    static const uint32_t spaces[] = {NAVMAP_L2, NAVMAP_IP, NAVMAP_COSINE};
    for (uint32_t i = 0; i < 3; i++) {
        struct distance floats, halves;
        assert_int_equal(distance_choose(spaces[i], LAYOUT_F32, 100, &floats), 0);
        assert_int_equal(distance_choose(spaces[i], LAYOUT_F16, 100, &halves), 0);
        assert_int_equal(floats.bytes, 400);
        assert_int_equal(halves.bytes, 200);
        assert_true(halves.fn != floats.fn && halves.many != floats.many);
        assert_true(halves.codes == floats.codes && halves.normalise == floats.normalise);
    }
}

int main(void)
{
    n_levels = distance_levels(levels);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_halves),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_distances),
        cmocka_unit_test(test_largest_dimension),
        cmocka_unit_test(test_reads_nothing_beyond),
        cmocka_unit_test(test_chosen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
