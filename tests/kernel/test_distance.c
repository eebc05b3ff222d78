/* test_distance.c -- every kernel against a double-precision reference and its own definition. */
#include <float.h>
#include <sys/mman.h>
#include <time.h>

#include "engine/distance/distance.h"
#include "tests/support/engine.h"

#define DIM_MAX 1536u

static const uint32_t dims_large[] = {384, 768, 1536};

/* 1..130 and the large ones. */
static uint32_t dim_at(uint32_t i)
{
    return i < 130 ? i + 1 : dims_large[i - 130];
}
#define DIMS 133u

static double reference(int ip, const float *a, const float *b, uint32_t dim, double *ret_scale)
{
    double sum = 0, scale = 0;
    for (uint32_t i = 0; i < dim; i++) {
        double d = (double)a[i] - (double)b[i];
        double term = ip ? (double)a[i] * (double)b[i] : d * d;
        sum += term;
        scale += fabs(term);
    }
    *ret_scale = scale + (ip ? 1.0 : 0.0);
    return ip ? 1.0 - sum : sum;
}

/* The definition: float i to accumulator i mod 16, folded by halves.  volatile keeps the compiler
 * from choosing an order of its own. */
static float definition(int ip, const float *a, const float *b, uint32_t dim)
{
    volatile float acc[16] = {0};
    for (uint32_t i = 0; i < dim; i++) {
        volatile float d = a[i] - b[i];
        volatile float term = ip ? a[i] * b[i] : d * d;
        acc[i % 16] = acc[i % 16] + term;
    }
    for (int w = 8; w > 0; w /= 2)
        for (int i = 0; i < w; i++)
            acc[i] = acc[i] + acc[i + w];
    return ip ? 1.0f - acc[0] : acc[0];
}

static void check_pair(const float *a, const float *b, uint32_t dim)
{
    for (int ip = 0; ip < 2; ip++) {
        distance_fn *fn = ip ? distance_scalar.ip : distance_scalar.l2;
        double scale, want = reference(ip, a, b, dim, &scale);
        float got = fn(a, b, dim), same = definition(ip, a, b, dim);
        /* One rounding of each term (three for a difference squared), then the sums. */
        double bound = scale * FLT_EPSILON * (dim / 16 + 9) + 2 * dim * FLT_TRUE_MIN;
        if (!(fabs((double)got - want) <= bound))
            fail_msg("%s dim %u: %.9g, expected %.17g +- %.3g", ip ? "ip" : "l2", dim, (double)got,
                     want, bound);
        if (memcmp(&got, &same, sizeof got) != 0)
            fail_msg("%s dim %u: %.9g, by definition %.9g", ip ? "ip" : "l2", dim, (double)got,
                     (double)same);
    }
}

static void test_against_reference(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float a[DIM_MAX + 8], b[DIM_MAX + 8];
    for (uint32_t i = 0; i < DIMS; i++)
        for (uint32_t shift = 0; shift < 4; shift++) {
            for (uint32_t j = 0; j < DIM_MAX + 8; j++) {
                a[j] = rng_normal(&r);
                b[j] = rng_normal(&r);
            }
            check_pair(a + shift, b + 3 - shift, dim_at(i));
        }
}

static void test_small_and_mixed_values(void **state)
{
    (void)state;
    static const float values[] = {0.0f,    -0.0f,  FLT_TRUE_MIN, -FLT_TRUE_MIN, 1e-40f, FLT_MIN,
                                   -1e-20f, 1e-19f, 1.0f,         -1.0f,         3e15f,  -1e18f};
    struct rng r = test_rng();
    float a[DIM_MAX], b[DIM_MAX];
    for (uint32_t i = 0; i < DIMS; i++) {
        for (uint32_t j = 0; j < DIM_MAX; j++) {
            a[j] = values[rng_below(&r, sizeof values / sizeof *values)];
            b[j] = values[rng_below(&r, sizeof values / sizeof *values)];
        }
        check_pair(a, b, dim_at(i));
    }
}

static void test_overflow_orders_last(void **state)
{
    (void)state;
    float big[64], opposite[64], nan[64], zero[64] = {0};
    for (int i = 0; i < 64; i++) {
        big[i] = i % 2 ? 3e38f : -3e38f;
        opposite[i] = i < 32 ? big[i] : -big[i];
        nan[i] = NAN;
    }
    struct distance l2, ip;
    assert_int_equal(distance_choose(NAVMAP_L2, 64, &l2), 0);
    assert_int_equal(distance_choose(NAVMAP_IP, 64, &ip), 0);
    assert_true(isinf(l2.fn(big, zero, 64)));
    assert_true(isnan(ip.fn(big, opposite, 64))); /* inf - inf */
    assert_true(distance_hint(&l2, big, zero) == FLT_MAX);
    assert_true(distance_hint(&ip, big, opposite) == FLT_MAX);
    assert_true(distance_hint(&l2, zero, nan) == FLT_MAX);
    assert_true(distance_hint(&ip, big, big) < -FLT_MAX); /* as near as can be */
    assert_int_equal(distance_choose(3, 64, &l2), -1);
}

/* A page that may be used between two that may not. */
static char *guarded_page(size_t page)
{
    char *p = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + page, page, PROT_READ | PROT_WRITE), 0);
    return p + page;
}

static void test_reads_nothing_beyond(void **state)
{
    (void)state;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    if (page < 2 * DIM_MAX * sizeof(float))
        page = (2 * DIM_MAX * sizeof(float) + page - 1) / page * page;
    char *one = guarded_page(page), *two = guarded_page(page);
    struct rng r = test_rng();
    for (uint32_t i = 0; i < DIMS; i++) {
        uint32_t dim = dim_at(i);
        size_t bytes = dim * sizeof(float);
        float *starts[] = {(float *)(void *)one, (float *)(void *)(one + page - bytes)};
        float *others[] = {(float *)(void *)(two + page - bytes), (float *)(void *)two};
        for (int end = 0; end < 2; end++) {
            for (uint32_t j = 0; j < dim; j++) {
                starts[end][j] = rng_normal(&r);
                others[end][j] = rng_normal(&r);
            }
            check_pair(starts[end], others[end], dim);
            assert_int_equal(distance_first_unfinite(starts[end], dim), dim);
            distance_normalise(starts[end], dim, others[end]);
        }
    }
    assert_int_equal(munmap(one - page, 3 * page), 0);
    assert_int_equal(munmap(two - page, 3 * page), 0);
}

static void test_normalise(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float v[130], out[130];
    for (uint32_t dim = 1; dim <= 130; dim++) {
        double sum = 0;
        float plain = 0;
        for (uint32_t i = 0; i < dim; i++) {
            v[i] = 10 * rng_normal(&r);
            plain += v[i] * v[i];
        }
        distance_normalise(v, dim, out);
        for (uint32_t i = 0; i < dim; i++) {
            assert_true(out[i] == v[i] * (1.0f / (sqrtf(plain) + 1e-30f)));
            sum += (double)out[i] * (double)out[i];
        }
        assert_true(fabs(sum - 1) < 1e-4);
    }
    memset(v, 0, sizeof v);
    distance_normalise(v, 130, out);
    for (uint32_t i = 0; i < 130; i++)
        assert_true(out[i] == 0);
    for (uint32_t i = 0; i < 130; i++)
        v[i] = i % 3 ? FLT_TRUE_MIN : FLT_MAX; /* the sum is infinite: all become zero */
    distance_normalise(v, 130, out);
    assert_int_equal(distance_first_unfinite(out, 130), 130);
    for (uint32_t i = 0; i < 130; i++)
        v[i] = 2e-23f; /* the squares are lost */
    distance_normalise(v, 130, out);
    assert_int_equal(distance_first_unfinite(out, 130), 130);
}

static void test_unfinite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float v[600];
    for (uint32_t i = 0; i < 600; i++)
        v[i] = i % 2 ? FLT_MAX : FLT_TRUE_MIN;
    assert_int_equal(distance_first_unfinite(v, 600), 600);
    assert_int_equal(distance_first_unfinite(v, 0), 0);
    for (uint32_t i = 0; i < 600; i++) {
        float saved = v[i];
        v[i] = bad[i % 3];
        assert_int_equal(distance_first_unfinite(v, 600), i);
        assert_int_equal(distance_first_unfinite(v, i), i);
        v[i] = saved;
    }
}

static void test_time(void **state)
{
    (void)state;
    static const uint32_t dims[] = {16, 64, 100, 128, 768, 1536};
    struct rng r = test_rng();
    float *v = random_vectors(&r, 65, DIM_MAX), sink = 0;
    for (uint32_t i = 0; i < sizeof dims / sizeof *dims; i++)
        for (int ip = 0; ip < 2; ip++) {
            distance_fn *fn = ip ? distance_scalar.ip : distance_scalar.l2;
            double best = 1e9; /* of five: others use the machine too */
            for (int repeat = 0; repeat < 5; repeat++) {
                uint32_t rounds = scaled(4000000 / dims[i] / 64, 10) + 1;
                struct timespec a, b;
                clock_gettime(CLOCK_MONOTONIC, &a);
                for (uint32_t n = 0; n < rounds; n++)
                    for (uint32_t j = 1; j <= 64; j++)
                        sink += fn(v, v + (size_t)j * DIM_MAX, dims[i]);
                clock_gettime(CLOCK_MONOTONIC, &b);
                double ns = (double)(b.tv_sec - a.tv_sec) * 1e9 + (double)(b.tv_nsec - a.tv_nsec);
                best = ns / rounds / 64 < best ? ns / rounds / 64 : best;
            }
            print_message("%s %s dim %u: %.1f ns\n", distance_scalar.name, ip ? "ip" : "l2",
                          dims[i], best);
        }
    assert_false(isnan(sink));
    free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_small_and_mixed_values),
        cmocka_unit_test(test_overflow_orders_last),
        cmocka_unit_test(test_reads_nothing_beyond),
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_unfinite),
        cmocka_unit_test(test_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
