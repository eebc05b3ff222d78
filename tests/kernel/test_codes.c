/* test_codes.c -- codes and their kernels: against the definition, and every level of this machine
 * against plain C, bit for bit.
 */
#include "engine/distance/codes.h"

#include "engine/distance/codes_levels.h"
#include "engine/distance/distance.h"
#include "tests/support/engine.h"

#define MANY 13u

static const struct distance_kernels *levels[DISTANCE_LEVELS_MAX];
static uint32_t n_levels;

static const uint32_t dims[] = {1,   2,   3,   7,   8,   55,  56,  57,  63,  64,  65,  96,   100,
                                119, 120, 121, 128, 200, 256, 384, 512, 768, 784, 960, 1024, 1536};
#define DIMS (sizeof dims / sizeof *dims)

/* Rows have their scale in front, or, where that costs a line, in their codes. */
static bool held;

static uint32_t stride_of(uint32_t dim)
{
    const uint32_t header = held ? codes_header(dim) : CODES_HEADER;
    return (dim + header + CODES_LINE - 1) / CODES_LINE * CODES_LINE;
}

static uint32_t first_code(uint32_t dim)
{
    return stride_of(dim) < dim + CODES_HEADER ? 0 : CODES_HEADER;
}

static void *lines(size_t bytes)
{
    void *p = aligned_alloc(CODES_LINE, bytes);
    assert_non_null(p);
    return p;
}

static float float_of(const uint8_t *row, uint32_t i)
{
    float f;
    memcpy(&f, row + 4 * i, sizeof f);
    return f;
}

static float scale_of(const uint8_t *row, uint32_t dim)
{
    uint32_t bits = 0;
    float scale;
    if (first_code(dim) > 0)
        return float_of(row, 0);
    for (uint32_t i = 0; i < 16; i++)
        bits |= (uint32_t)(row[i] & 1) << (15 + i);
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

static double norm_of(const uint8_t *row, uint32_t dim)
{
    double norm = 0, scale = scale_of(row, dim);
    if (first_code(dim) > 0)
        return float_of(row, 1);
    for (uint32_t i = 0; i < dim; i++)
        norm += scale * scale * (int8_t)row[i] * (int8_t)row[i];
    return norm;
}

/* Each code is the nearest to the scaled element, of those with its bit of the scale where it holds
 * one, and the header says scale and norm. */
static void check_row(const float *v, uint32_t dim, const uint8_t *row)
{
    const uint32_t first = first_code(dim);
    float most = 0, scale = scale_of(row, dim);
    double norm = 0;
    for (uint32_t i = 0; i < dim; i++)
        most = fabsf(v[i]) > most ? fabsf(v[i]) : most;
    if (first > 0)
        assert_true(scale == most / 127.0f);
    else
        assert_true(scale >= most / 127.0f && scale <= most / 127.0f * (1 + 0x1p-8f));
    for (uint32_t i = 0; i < dim; i++) {
        int8_t c = (int8_t)row[first + i];
        double off = fabs((double)v[i] / scale - c);
        assert_true(c >= -127);
        if (first > 0 || i >= 16)
            assert_true(off <= 0.5 + 1e-4);
        else
            assert_true(off <= 1 + 1e-4);
        norm += (double)scale * scale * c * c;
    }
    assert_true(fabs(norm - norm_of(row, dim)) <= 1e-5 * norm);
    for (uint32_t i = dim + first; i < stride_of(dim); i++)
        assert_int_equal(row[i], 0);
}

static void test_rows(void **state)
{
    (void)state;
    struct rng r = test_rng();
    for (uint32_t d = 0; d < DIMS; d++) {
        float v[1536];
        uint8_t *row = lines(stride_of(dims[d]));
        for (uint32_t i = 0; i < dims[d]; i++)
            v[i] = rng_normal(&r) * (d % 3 == 0 ? 1e-15f : d % 3 == 1 ? 1.0f : 1e15f);
        memset(row, 0xff, stride_of(dims[d]));
        codes_encode(v, dims[d], stride_of(dims[d]), row);
        check_row(v, dims[d], row);
        free(row);
    }
}

/* Zero, and what is as good as zero, has no direction: every other is equally far by ip. */
static void test_zero(void **state)
{
    (void)state;
    float zero[10] = {0}, tiny[10] = {1e-38f, -1e-36f}, one[10] = {1, 2, 3};
    uint8_t *rows[3];
    struct codes_query *q = lines(codes_query_bytes(64));
    for (uint32_t i = 0; i < 3; i++)
        rows[i] = lines(64);
    codes_encode(zero, 10, 64, rows[0]);
    codes_encode(tiny, 10, 64, rows[1]);
    codes_encode(one, 10, 64, rows[2]);
    assert_memory_equal(rows[0], rows[1], 64);
    for (uint32_t space = NAVMAP_L2; space <= NAVMAP_COSINE; space++) {
        float d[3];
        codes_prepare(space, rows[0], 10, 64, q);
        codes_many_scalar(q, (const uint8_t *const *)rows, 3, d);
        assert_true(d[0] == (space == NAVMAP_L2 ? 0.0f : 1.0f));
        assert_true(d[2] == (space == NAVMAP_L2 ? float_of(rows[2], 1) : 1.0f));
    }
    for (uint32_t i = 0; i < 3; i++)
        free(rows[i]);
    free(q);
}

/* The distance of the coded vectors, in double precision. */
static double reference(uint32_t space, const uint8_t *a, const uint8_t *b, uint32_t dim,
                        double *ret_size)
{
    const uint32_t first = first_code(dim);
    double dot = 0, x = scale_of(a, dim), y = scale_of(b, dim);
    for (uint32_t i = 0; i < dim; i++)
        dot += (int8_t)a[first + i] * (int8_t)b[first + i];
    double base = space == NAVMAP_L2 ? norm_of(a, dim) + norm_of(b, dim) : 1.0;
    double product = (space == NAVMAP_L2 ? 2.0 : 1.0) * x * y * dot;
    *ret_size = base + fabs(product);
    return base - product;
}

static void check_levels(uint32_t space, const uint8_t *const *rows, uint32_t n, uint32_t dim,
                         struct codes_query *q)
{
    uint32_t stride = stride_of(dim);
    float want[MANY], got[MANY + 1];
    codes_prepare(space, rows[0], dim, stride, q);
    codes_many_scalar(q, rows, n, want);
    for (uint32_t i = 0; i < n; i++) {
        double size, exact = reference(space, rows[0], rows[i], dim, &size);
        assert_true(fabs(exact - want[i]) <= 4e-7 * size);
    }
    for (uint32_t level = 0; level < n_levels; level++) {
        got[n] = 12345.0f;
        levels[level]->codes(q, rows, n, got);
        assert_true(got[n] == 12345.0f);
        for (uint32_t i = 0; i < n; i++)
            if (memcmp(&got[i], &want[i], sizeof got[i]) != 0)
                fail_msg("%s space %u dim %u, %u of %u: %a, plain C %a", levels[level]->name, space,
                         dim, i, n, (double)got[i], (double)want[i]);
    }
}

static void test_levels(void **state)
{
    (void)state;
    struct rng r = test_rng();
    for (uint32_t d = 0; d < DIMS; d++) {
        uint32_t dim = dims[d], stride = stride_of(dim);
        uint8_t *rows[MANY];
        struct codes_query *q = lines(codes_query_bytes(stride));
        for (uint32_t i = 0; i < MANY; i++) {
            float v[1536];
            for (uint32_t j = 0; j < dim; j++) /* all codes at their limits, too */
                v[j] = i % 3 == 0 ? (rng_below(&r, 2) ? 1.0f : -1.0f) : rng_normal(&r);
            rows[i] = lines(stride);
            codes_encode(v, dim, stride, rows[i]);
        }
        for (uint32_t space = NAVMAP_L2; space <= NAVMAP_COSINE; space++)
            for (uint32_t n = 1; n <= MANY; n++)
                check_levels(space, (const uint8_t *const *)rows, n, dim, q);
        for (uint32_t i = 0; i < MANY; i++)
            free(rows[i]);
        free(q);
    }
}

/* 65,536 products of the greatest size fit, and a row that begins anywhere can be measured. */
static void test_largest(void **state)
{
    (void)state;
    enum { DIM = 65536 };
    uint32_t stride = stride_of(DIM);
    float *v = malloc(DIM * sizeof *v), want, got;
    uint8_t *row = lines(stride + CODES_LINE), *odd = row + 20;
    struct codes_query *q = lines(codes_query_bytes(stride));
    for (uint32_t sign = 0; sign < 2; sign++) {
        for (uint32_t i = 0; i < DIM; i++)
            v[i] = 1.0f;
        codes_encode(v, DIM, stride, row);
        codes_prepare(NAVMAP_IP, row, DIM, stride, q);
        for (uint32_t i = 0; i < DIM && sign; i++)
            v[i] = -1.0f;
        codes_encode(v, DIM, stride, odd);
        codes_many_scalar(q, (const uint8_t *const *)&odd, 1, &want);
        /* A scale of 16 bits may be a 256th too large. */
        assert_true(fabsf(want - (sign ? 65537.0f : -65535.0f)) < (held ? 600.0f : 1.0f));
        for (uint32_t level = 0; level < n_levels; level++) {
            levels[level]->codes(q, (const uint8_t *const *)&odd, 1, &got);
            assert_memory_equal(&got, &want, sizeof got);
        }
    }
    free(v);
    free(row);
    free(q);
}

/* Of distances by codes: how much they are off, in the doubt that codes_doubt() tells. */
static double off_by(uint32_t space, uint32_t dim, struct rng *r, double *ret_worst)
{
    enum { PAIRS = 300 };
    const uint32_t stride = stride_of(dim);
    uint8_t *row = lines(stride);
    struct codes_query *q = lines(codes_query_bytes(stride));
    double squares = 0;
    for (uint32_t pair = 0; pair < PAIRS; pair++) {
        float a[784], b[784], got;
        double exact = space == NAVMAP_L2 ? 0 : 1;
        for (uint32_t i = 0; i < dim; i++) {
            a[i] = rng_normal(r);
            b[i] = a[i] + 0.5f * rng_normal(r);
            double difference = (double)a[i] - b[i];
            exact += space == NAVMAP_L2 ? difference * difference : -(double)a[i] * b[i];
        }
        codes_encode(a, dim, stride, row);
        codes_prepare(space, row, dim, stride, q);
        codes_encode(b, dim, stride, row);
        codes_many_scalar(q, (const uint8_t *const *)&row, 1, &got);
        double off = fabs(got - exact) / (double)codes_doubt(q, row, got);
        squares += off * off / PAIRS;
        *ret_worst = off > *ret_worst ? off : *ret_worst;
    }
    free(row);
    free(q);
    return sqrt(squares);
}

static void test_doubt(void **state)
{
    (void)state;
    static const uint32_t some[] = {8, 64, 100, 128, 784};
    struct rng r = test_rng();
    for (uint32_t d = 0; d < 5; d++)
        for (uint32_t space = NAVMAP_L2; space <= NAVMAP_IP; space++) {
            double worst = 0, usual = off_by(space, some[d], &r, &worst);
            if (!(usual > 0.7 && usual < 1.4 && worst < 5))
                fail_msg("dim %u, space %u: usually %.2f, at worst %.2f", some[d], space, usual,
                         worst);
        }
    uint8_t *row = lines(64);
    struct codes_query *q = lines(codes_query_bytes(64));
    codes_encode((const float[4]){1, 2, 3, 4}, 4, 64, row);
    codes_prepare(NAVMAP_L2, row, 4, 64, q);
    assert_true(codes_doubt(q, row, -1e-7f) == 0.0f); /* what rounding may make of nothing */
    free(row);
    free(q);
}

static int hold(void **state)
{
    (void)state;
    held = true;
    return 0;
}

static int hold_not(void **state)
{
    (void)state;
    held = false;
    return 0;
}

/* Which rows are made, and which are known. */
static void test_schemes(void **state)
{
    (void)state;
    assert_int_equal(codes_header(56), 8);
    assert_int_equal(codes_header(57), 0);
    assert_int_equal(codes_header(64), 0);
    assert_int_equal(codes_header(65), 8);
    assert_int_equal(codes_scheme(100), 1);
    assert_int_equal(codes_scheme(128), 2);
    assert_true(codes_known(128, 1, 8)); /* as they were once made */
    assert_true(codes_known(128, 2, 0));
    assert_false(codes_known(100, 2, 0));
    assert_false(codes_known(128, 2, 8));
    assert_false(codes_known(128, 1, 0));
    assert_false(codes_known(128, 3, 0));
    assert_false(codes_held(128, 192));
    assert_true(codes_held(128, 128));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schemes),
        cmocka_unit_test(test_zero),
        cmocka_unit_test(test_rows),
        cmocka_unit_test_setup_teardown(test_rows, hold, hold_not),
        cmocka_unit_test(test_levels),
        cmocka_unit_test_setup_teardown(test_levels, hold, hold_not),
        cmocka_unit_test(test_largest),
        cmocka_unit_test_setup_teardown(test_largest, hold, hold_not),
        cmocka_unit_test(test_doubt),
        cmocka_unit_test_setup_teardown(test_doubt, hold, hold_not),
    };
    n_levels = distance_levels(levels);
    for (uint32_t i = 0; i < n_levels; i++)
        print_message("level %s\n", levels[i]->name);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
