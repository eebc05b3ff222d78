/* test_distance.c -- every level that this machine has, against a double-precision reference and
 * against the definition, bit for bit.
 *
 *     kernel-distance --time    how long each level takes instead (time_distance.c)
 */
#include "engine/distance/distance.h"

#include <float.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "storage/layout.h"
#include "tests/kernel/time_distance.h"
#include "tests/support/engine.h"

#define DIM_MAX 1536u
#define MANY_MAX 17u
#define OFFSETS 16u /* every place in a line that a float may have */
#define STRIDE (DIM_MAX + OFFSETS)

static const struct distance_kernels *levels[DISTANCE_LEVELS_MAX];
static uint32_t n_levels;

static const uint32_t dims_large[] = {384, 768, 960, DIM_MAX};

/* 1..130 and the large ones. */
static uint32_t dim_at(uint32_t i)
{
    return i < 130 ? i + 1 : dims_large[i - 130];
}
#define DIMS (130u + sizeof dims_large / sizeof *dims_large)

static const float values_small[] = {0.0f,    -0.0f,  FLT_TRUE_MIN, -FLT_TRUE_MIN, 1e-40f, FLT_MIN,
                                     -1e-20f, 1e-19f, 1.0f,         -1.0f,         3e15f,  -1e18f};
static const float values_extreme[] = {0.0f,     -0.0f,  FLT_MAX, -FLT_MAX, FLT_TRUE_MIN, 1e19f,
                                       INFINITY, -2e19f, 1.0f,    -1.0f,    -INFINITY,    NAN};
#define N_VALUES 12u

static void fill(struct rng *r, float *v, size_t n, const float *values, uint32_t n_values)
{
    for (size_t i = 0; i < n; i++)
        v[i] = values ? values[rng_below(r, n_values)] : rng_normal(r);
}

/* Bit for bit; of NaN, that it is one. */
static bool same(float a, float b)
{
    return memcmp(&a, &b, sizeof a) == 0 || (isnan(a) && isnan(b));
}

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

/* All levels, each by itself and through `many` with one vector. */
static void check_bits(const float *a, const float *b, uint32_t dim)
{
    for (uint32_t level = 0; level < n_levels; level++)
        for (int ip = 0; ip < 2; ip++) {
            const struct distance_kernels *k = levels[level];
            float want = definition(ip, a, b, dim), got = (ip ? k->ip : k->l2)(a, b, dim), one;
            const void *stored = b;
            (ip ? k->ip_many : k->l2_many)(a, &stored, 1, dim, &one);
            if (!same(got, want) || !same(one, want))
                fail_msg("%s %s dim %u: %a, as many %a, by definition %a", k->name,
                         ip ? "ip" : "l2", dim, (double)got, (double)one, (double)want);
        }
}

static void check_pair(const float *a, const float *b, uint32_t dim)
{
    check_bits(a, b, dim);
    for (int ip = 0; ip < 2; ip++) {
        double scale, want = reference(ip, a, b, dim, &scale);
        float got = (ip ? distance_scalar.ip : distance_scalar.l2)(a, b, dim);
        /* One rounding of each term (three for a difference squared), then the sums. */
        double bound = scale * FLT_EPSILON * (dim / 16 + 9) + 2 * dim * FLT_TRUE_MIN;
        if (!(fabs((double)got - want) <= bound))
            fail_msg("%s dim %u: %.9g, expected %.17g +- %.3g", ip ? "ip" : "l2", dim, (double)got,
                     want, bound);
    }
}

/* Many at once are what each is singly, and nothing behind the n-th result is written. */
static void check_many(const float *q, const void *const *stored, uint32_t n, uint32_t dim)
{
    for (uint32_t level = 0; level < n_levels; level++)
        for (int ip = 0; ip < 2; ip++) {
            const struct distance_kernels *k = levels[level];
            float got[MANY_MAX + 1];
            got[n] = 12345.0f;
            (ip ? k->ip_many : k->l2_many)(q, stored, n, dim, got);
            assert_true(got[n] == 12345.0f);
            for (uint32_t i = 0; i < n; i++) {
                float want = (ip ? distance_scalar.ip : distance_scalar.l2)(q, stored[i], dim);
                if (!same(got[i], want))
                    fail_msg("%s %s dim %u, %u of %u: %a, singly %a", k->name, ip ? "ip" : "l2",
                             dim, i, n, (double)got[i], (double)want);
            }
        }
}

static void test_against_reference(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float a[STRIDE], b[STRIDE];
    for (uint32_t i = 0; i < DIMS; i++) {
        fill(&r, a, STRIDE, NULL, 0);
        fill(&r, b, STRIDE, NULL, 0);
        for (uint32_t shift = 0; shift < OFFSETS; shift++)
            check_pair(a + shift, b + (shift * 7 + i) % OFFSETS, dim_at(i));
    }
}

static void test_largest_dimension(void **state)
{
    (void)state;
    struct rng r = test_rng();
    enum { DIM = 65536, ROWS = 6 };
    float *v = random_vectors(&r, ROWS, DIM);
    const void *rows[ROWS];
    for (uint32_t i = 0; i < ROWS; i++)
        rows[i] = v + (size_t)i * DIM;
    check_pair(v, v + DIM, DIM);
    check_pair(v + 2 * DIM + 1, v + 3 * DIM + 1, DIM - 1);
    check_many(v, rows, ROWS, DIM);
    free(v);
}

static void test_values_at_the_edges(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float a[DIM_MAX], b[DIM_MAX];
    for (uint32_t i = 0; i < DIMS; i++) {
        fill(&r, a, DIM_MAX, values_small, N_VALUES);
        fill(&r, b, DIM_MAX, values_small, N_VALUES);
        check_pair(a, b, dim_at(i));
        /* Overflow, infinities and NaN: from few, so that a sum is not always spoiled, to all. */
        for (uint32_t n = 6; n <= N_VALUES; n += 2) {
            fill(&r, a, DIM_MAX, values_extreme, n);
            fill(&r, b, DIM_MAX, values_extreme, n);
            check_bits(a, b, dim_at(i));
        }
    }
}

static void test_many(void **state)
{
    (void)state;
    struct rng r = test_rng();
    float q[STRIDE], *pool = malloc(sizeof *pool * STRIDE * MANY_MAX);
    assert_non_null(pool);
    for (uint32_t i = 0; i < DIMS; i++) {
        bool edge = i % 4 == 3;
        fill(&r, q, STRIDE, edge ? values_extreme : NULL, N_VALUES - 2);
        fill(&r, pool, (size_t)STRIDE * MANY_MAX, edge ? values_extreme : NULL, N_VALUES - 2);
        for (uint32_t n = 0; n <= MANY_MAX; n++)
            for (uint32_t shift = 0; shift < OFFSETS; shift++) {
                const void *stored[MANY_MAX];
                for (uint32_t j = 0; j < n; j++)
                    stored[j] = pool + (size_t)rng_below(&r, MANY_MAX) * STRIDE + (shift + j) % 16;
                check_many(q + (shift * 5 + n) % OFFSETS, stored, n, dim_at(i));
            }
    }
    free(pool);
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
    assert_int_equal(distance_choose(NAVMAP_L2, LAYOUT_F32, 64, &l2), 0);
    assert_int_equal(distance_choose(NAVMAP_IP, LAYOUT_F32, 64, &ip), 0);
    assert_int_equal(distance_choose(3, LAYOUT_F32, 64, &l2), -1);
    for (uint32_t level = 0; level < n_levels; level++) {
        l2.fn = levels[level]->l2;
        ip.fn = levels[level]->ip;
        assert_true(isinf(l2.fn(big, zero, 64)));
        assert_true(isnan(ip.fn(big, opposite, 64))); /* inf - inf */
        assert_true(distance_hint(&l2, big, zero) == FLT_MAX);
        assert_true(distance_hint(&ip, big, opposite) == FLT_MAX);
        assert_true(distance_hint(&l2, zero, nan) == FLT_MAX);
        assert_true(distance_hint(&ip, big, big) < -FLT_MAX); /* as near as can be */
    }
}

/* A page that may be used between two that may not. */
static char *guarded_page(size_t page)
{
    char *p = mmap(NULL, 3 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(p != MAP_FAILED);
    assert_int_equal(mprotect(p + page, page, PROT_READ | PROT_WRITE), 0);
    return p + page;
}

/* A query and five vectors (four at once and one singly), each with forbidden memory right behind
 * its last float, then right before its first. */
static void test_reads_nothing_beyond(void **state)
{
    (void)state;
    enum { ROWS = 6 };
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    page = (DIM_MAX * sizeof(float) + page - 1) / page * page;
    char *pages[ROWS];
    for (int i = 0; i < ROWS; i++)
        pages[i] = guarded_page(page);
    struct rng r = test_rng();
    for (uint32_t i = 0; i < 2 * DIMS; i++) {
        uint32_t dim = dim_at(i / 2);
        float *rows[ROWS];
        for (int j = 0; j < ROWS; j++) {
            rows[j] = (float *)(void *)(pages[j] + (i % 2 ? 0 : page - dim * sizeof(float)));
            fill(&r, rows[j], dim, NULL, 0);
        }
        check_pair(rows[0], rows[1], dim);
        check_many(rows[0], (const void *const *)rows + 1, ROWS - 1, dim);
        assert_int_equal(distance_first_unfinite(rows[0], dim), dim);
        distance_normalise(rows[0], dim, rows[1]);
    }
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(munmap(pages[i] - page, 3 * page), 0);
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

/* The level holds for a process, so each case has one of its own; it answers 0, or says which
 * line was not satisfied. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            print_error("line %d: %s\n", __LINE__, #condition);                                    \
            return 1;                                                                              \
        }                                                                                          \
    } while (0)

static int child_names_a_level(const char *name, const char *expected)
{
    struct navmap_options o = {.struct_size = sizeof o, .dim = 3};
    navmap_index *ix = NULL;
    EXPECT((name ? setenv("NAVMAP_SIMD", name, 1) : unsetenv("NAVMAP_SIMD")) == 0);
    EXPECT(strcmp(navmap_simd(), expected) == 0);
    EXPECT(navmap_create(test_path, &o, &ix) == NAVMAP_OK);
    EXPECT(setenv("NAVMAP_SIMD", "too late", 1) == 0);
    EXPECT(strcmp(navmap_simd(), expected) == 0);
    EXPECT(navmap_close(ix) == NAVMAP_OK);
    EXPECT(navmap_open(test_path, NAVMAP_READ, NULL, &ix) == NAVMAP_OK);
    EXPECT(navmap_close(ix) == NAVMAP_OK);
    return 0;
}

static int child_names_none(const char *name, const char *unused)
{
    (void)unused;
    struct navmap_options o = {.struct_size = sizeof o, .dim = 3};
    navmap_index *ix = NULL;
    EXPECT(setenv("NAVMAP_SIMD", name, 1) == 0);
    EXPECT(strcmp(navmap_simd(), "scalar") == 0);
    EXPECT(navmap_create(test_path, &o, &ix) == NAVMAP_EINVAL);
    EXPECT(strstr(navmap_error_detail(), name) != NULL);
    for (uint32_t i = 0; i < n_levels; i++)
        EXPECT(strstr(navmap_error_detail(), levels[i]->name) != NULL);
    EXPECT(access(test_path, F_OK) != 0); /* nothing was made */
    EXPECT(navmap_open(test_path, NAVMAP_READ, NULL, &ix) == NAVMAP_EINVAL);
    return child_names_a_level("scalar", "scalar"); /* a refusal settles nothing */
}

static void in_child(int (*run)(const char *, const char *), const char *name, const char *expected)
{
    void *none = NULL;
    assert_int_equal(make_dir(&none), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(run(name, expected));
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(remove_dir(&none), 0);
    if (how != 0)
        fail_msg("NAVMAP_SIMD=%s: status %#x", name ? name : "(unset)", (unsigned)how);
}

static void test_environment(void **state)
{
    (void)state;
    static const char *const unknown[] = {"sse9", "AVX2", "scalar ", "avx", "0"};
    static const char *const all[] = {"avx512vnni", "avx512", "avx2", "neondot", "neon", "scalar"};
    in_child(child_names_a_level, NULL, levels[0]->name);
    in_child(child_names_a_level, "", levels[0]->name);
    for (uint32_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        in_child(child_names_none, unknown[i], NULL);
    for (uint32_t i = 0; i < sizeof all / sizeof *all; i++) {
        bool here = false;
        for (uint32_t j = 0; j < n_levels; j++)
            here |= strcmp(levels[j]->name, all[i]) == 0;
        in_child(here ? child_names_a_level : child_names_none, all[i], all[i]);
    }
}

int main(int argc, char **argv)
{
    n_levels = distance_levels(levels);
    for (uint32_t i = 0; i < n_levels; i++)
        print_message("level %s\n", levels[i]->name);
    if (argc > 1 && strcmp(argv[1], "--time") == 0)
        return time_levels(levels, n_levels);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_reference),
        cmocka_unit_test(test_largest_dimension),
        cmocka_unit_test(test_values_at_the_edges),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_overflow_orders_last),
        cmocka_unit_test(test_reads_nothing_beyond),
        cmocka_unit_test(test_normalise),
        cmocka_unit_test(test_unfinite),
        cmocka_unit_test(test_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
