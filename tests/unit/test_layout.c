/* test_layout.c -- the geometry, against figures worked out elsewhere. */

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "storage/layout.h"
#include "tests/support/typical.h"

#define DEFAULT_SEED 20240607u

static uint64_t random_state;

static uint64_t random_next(void)
{
    uint64_t z = (random_state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Computed by a few lines of Python from FORMAT.md, section 7. */
static void test_known_geometries(void **state)
{
    (void)state;
    static const struct {
        uint32_t dim, M, shift, scheme, header, row, upper, code, vec, uppers, off[5];
        uint64_t chunk;
    } known[] = {
        {1, 2, 4, 0, 0, 64, 64, 0, 16, 36, {4096, 8192, 12288, 16384, 16384}, 65536},
        {3, 3, 5, 0, 0, 64, 64, 0, 16, 36, {4096, 8192, 12288, 16384, 16384}, 65536},
        {4, 4, 4, 0, 0, 64, 64, 0, 16, 23, {4096, 8192, 12288, 16384, 16384}, 65536},
        {15, 5, 8, 0, 0, 64, 64, 0, 64, 96, {4096, 20480, 28672, 36864, 36864}, 65536},
        {16, 16, 9, 0, 0, 128, 64, 0, 64, 59, {4096, 69632, 73728, 90112, 90112}, 131072},
        {17, 16, 9, 1, 4, 128, 64, 64, 128, 59, {4096, 69632, 73728, 90112, 122880}, 196608},
        {100, 16, 10, 0, 0, 128, 64, 0, 448, 102, {4096, 135168, 143360, 176128, 176128}, 655360},
        {128,
         16,
         13,
         1,
         12,
         128,
         64,
         192,
         512,
         699,
         {32768, 1081344, 1126400, 1388544, 2961408},
         7208960},
        {768,
         48,
         12,
         1,
         12,
         384,
         192,
         832,
         3072,
         125,
         {16384, 1589248, 1613824, 1744896, 5152768},
         17760256},
        {1536,
         512,
         16,
         0,
         0,
         4096,
         2048,
         0,
         6144,
         177,
         {262144, 268697600, 269062144, 271159296, 271159296},
         673841152},
        {65536,
         512,
         4,
         1,
         65535,
         4096,
         2048,
         131072,
         262144,
         17,
         {4096, 69632, 106496, 110592, 2207744},
         6422528},
        {65536,
         2,
         16,
         0,
         0,
         64,
         64,
         0,
         262144,
         81936,
         {262144, 4456448, 9703424, 11800576, 11800576},
         UINT64_C(17191731200)},
    };
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        const struct layout_params p = {.dim = known[i].dim,
                                        .M = known[i].M,
                                        .ef_construction = 1,
                                        .slot_shift = known[i].shift,
                                        .code_scheme = (uint16_t)known[i].scheme,
                                        .code_header = (uint16_t)known[i].header};
        struct layout l = must_compute(&p);
        assert_int_equal(l.M0, 2 * known[i].M);
        assert_int_equal(l.slots_per_chunk, 1u << known[i].shift);
        assert_int_equal(l.row_stride, known[i].row);
        assert_int_equal(l.upper_stride, known[i].upper);
        assert_int_equal(l.tag_stride, 32);
        assert_int_equal(l.code_stride, known[i].code);
        assert_int_equal(l.vec_stride, known[i].vec);
        assert_int_equal(l.uppers_per_chunk, known[i].uppers);
        assert_int_equal(l.off_state, 0);
        assert_int_equal(l.off_row, known[i].off[0]);
        assert_int_equal(l.off_upper, known[i].off[1]);
        assert_int_equal(l.off_tag, known[i].off[2]);
        assert_int_equal(l.off_code, known[i].off[3]);
        assert_int_equal(l.off_vec, known[i].off[4]);
        assert_true(l.chunk_bytes == known[i].chunk);
    }
}

/* Whatever is chosen: arrays are page aligned, in order, apart, and end inside the chunk; the last
 * element of one chunk lies before the first of the next. */
static void test_arrays_never_overlap(void **state)
{
    (void)state;
    unsigned refused = 0;
    for (int i = 0; i < 20000; i++) {
        const struct layout_params p = {
            .dim = 1 + (uint32_t)(random_next() % (i % 2 ? 65536 : 300)),
            .M = 2 + (uint32_t)(random_next() % 511),
            .ef_construction = 1,
            .slot_shift = 4 + (uint32_t)(random_next() % 13),
            .code_scheme = (uint16_t)(i % 3 == 0),
            .code_header = i % 3 == 0 ? (uint16_t)(random_next() % 100) : 0,
        };
        struct layout l;
        navmap_status status = layout_compute(&p, &l);
        if (status != NAVMAP_OK) { /* only for want of 32-bit offsets */
            uint64_t before_vec = (UINT64_C(1) << p.slot_shift) * (8ull * p.M + p.dim + 1024);
            assert_int_equal(status, NAVMAP_EINVAL);
            assert_non_null(strstr(navmap_error_detail(), "slot_shift"));
            assert_true(before_vec > UINT32_MAX / 2);
            refused++;
            continue;
        }
        uint64_t S = l.slots_per_chunk;
        const uint64_t at[7] = {l.off_state, l.off_row, l.off_upper,  l.off_tag,
                                l.off_code,  l.off_vec, l.chunk_bytes};
        const uint64_t size[6] = {S * 4,
                                  S * l.row_stride,
                                  (uint64_t)l.uppers_per_chunk * l.upper_stride,
                                  S * l.tag_stride,
                                  S * l.code_stride,
                                  S * l.vec_stride};
        for (int a = 0; a < 6; a++) {
            assert_int_equal(at[a] % 4096, 0);
            assert_true(at[a] + size[a] <= at[a + 1]);
        }
        assert_int_equal(l.chunk_bytes % 65536, 0);
        assert_true(l.row_stride >= 4 * l.M0 && l.upper_stride >= 4 * l.M);
        assert_true(l.vec_stride >= 4 * l.dim && l.row_stride % 64 == 0);
        assert_true((double)l.uppers_per_chunk >= 1.25 * (double)S / (l.M - 1) + 16);
        assert_true((double)l.uppers_per_chunk < 1.25 * (double)S / (l.M - 1) + 17.0001);

        uint32_t last = (uint32_t)S - 1, next = (uint32_t)S;
        assert_true(layout_vec_off(&l, last) + l.vec_stride <= layout_state_off(&l, next));
        assert_true(layout_state_off(&l, next) == layout_chunk_off(&l, 1));
        assert_true(layout_row_off(&l, next) == layout_chunk_off(&l, 1) + l.off_row);
        assert_true(layout_upper_off(&l, l.uppers_per_chunk) ==
                    layout_chunk_off(&l, 1) + l.off_upper);
        assert_true(layout_upper_off(&l, l.uppers_per_chunk - 1) + l.upper_stride <=
                    layout_tag_off(&l, 0));
        assert_true(layout_file_bytes(&l, 1) == 65536 + l.chunk_bytes);
    }
    print_message("%u geometries refused\n", refused);
    assert_true(refused > 0 && refused < 1000);
}

/* slot_shift 0: the largest that keeps a chunk within a sixteenth of what is expected. */
static void test_chosen_shift(void **state)
{
    (void)state;
    static const uint32_t dims[] = {1, 4, 25, 100, 784, 3000, 5000, 65536};
    static const uint64_t expected[] = {0, 1, 10000, 100000, 1000000, 100000000, UINT64_MAX};
    for (size_t d = 0; d < 8; d++) {
        for (size_t e = 0; e < 7; e++) {
            struct layout_params p = typical();
            p.dim = dims[d];
            p.slot_shift = 0;
            p.expected_slots = expected[e];
            struct layout chosen = must_compute(&p);

            double slots = (double)(expected[e] < UINT32_MAX ? expected[e] : UINT32_MAX);
            double bytes = slots * (4.0 + 128 + 32 + chosen.vec_stride + 1.25 / 15 * 64) / 16;
            bytes = bytes < 524288 ? 524288 : bytes > 8388608 ? 8388608 : bytes;
            assert_true(chosen.slot_shift == 4 || (double)chosen.chunk_bytes <= bytes + 64);
            if (chosen.slot_shift < 16) {
                p.slot_shift = chosen.slot_shift + 1;
                assert_true((double)must_compute(&p).chunk_bytes > bytes - 64);
            }
            /* The choice is the same geometry as that shift asked for by name. */
            p.slot_shift = chosen.slot_shift;
            struct layout named = must_compute(&p);
            assert_memory_equal(&named, &chosen, sizeof(named));
        }
    }
}

static void refused(struct layout_params p, const char *field)
{
    struct layout l;
    memset(&l, 0x5A, sizeof(l));
    struct layout before = l;
    assert_int_equal(layout_compute(&p, &l), NAVMAP_EINVAL);
    if (strncmp(navmap_error_detail(), field, strlen(field)) != 0)
        fail_msg("expected a sentence about %s, found: %s", field, navmap_error_detail());
    assert_memory_equal(&l, &before, sizeof(l));
}

static void test_limits(void **state)
{
    (void)state;
    struct layout_params p = typical();
#define REFUSED(member, value)                                                                     \
    do {                                                                                           \
        struct layout_params bad = p;                                                              \
        bad.member = (value);                                                                      \
        refused(bad, #member);                                                                     \
    } while (0)
    REFUSED(dim, 0);
    REFUSED(dim, 65537);
    REFUSED(dim, UINT32_MAX);
    REFUSED(M, 0);
    REFUSED(M, 1);
    REFUSED(M, 513);
    REFUSED(M, UINT32_MAX);
    REFUSED(space, 3);
    REFUSED(code_scheme, 3);
    REFUSED(code_header, 1);
    REFUSED(ef_construction, 0);
    REFUSED(flags, HEADER_SEALED);
    REFUSED(flags, HEADER_SECTION_SUMS);
    REFUSED(flags, 32);
    REFUSED(slot_shift, 3);
    REFUSED(slot_shift, 17);
    REFUSED(slot_shift, UINT32_MAX);
#undef REFUSED
    /* 65,536 code rows of 65,600 bytes: the vectors would start beyond 4 GiB. */
    refused((struct layout_params){.dim = 65536,
                                   .M = 2,
                                   .ef_construction = 1,
                                   .slot_shift = 16,
                                   .code_scheme = 1,
                                   .code_header = 8},
            "slot_shift");
    /* Half as many slots of nearly that size do fit. */
    p = (struct layout_params){.dim = 65472,
                               .M = 2,
                               .ef_construction = 1,
                               .slot_shift = 15,
                               .code_scheme = 1,
                               .code_header = 8};
    (void)must_compute(&p);
    p = (struct layout_params){.dim = 65536,
                               .M = 512,
                               .ef_construction = UINT32_MAX,
                               .code_scheme = 1,
                               .code_header = 65535};
    assert_int_equal(must_compute(&p).slot_shift, 4);
    assert_true(must_compute(&p).ef_construction == UINT32_MAX);
}

/* Every slot and cell of the last chunk can be named, and no file is longer than off_t. */
static void test_chunks_max(void **state)
{
    (void)state;
    for (uint32_t shift = 4; shift <= 16; shift++) {
        for (uint32_t M = 2; M <= 512; M += 30) {
            const struct layout_params p = {
                .dim = 8192, .M = M, .ef_construction = 1, .slot_shift = shift};
            struct layout l = must_compute(&p);
            uint64_t n = layout_chunks_max(&l);
            assert_true(n >= 1);
            assert_true(n << shift <= UINT32_MAX);
            assert_true(n * l.uppers_per_chunk <= UINT64_C(1) << 27);
            assert_true(n <= (INT64_MAX - 65536) / l.chunk_bytes);
            n++;
            assert_true(n << shift > UINT32_MAX || n * l.uppers_per_chunk > UINT64_C(1) << 27 ||
                        n > (INT64_MAX - 65536) / l.chunk_bytes);
        }
    }
}

int main(void)
{
    const char *given = getenv("NAVMAP_SEED");
    random_state = given ? strtoull(given, NULL, 0) : DEFAULT_SEED;
    print_message("seed %" PRIu64 "\n", random_state);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_geometries), cmocka_unit_test(test_arrays_never_overlap),
        cmocka_unit_test(test_chosen_shift),     cmocka_unit_test(test_limits),
        cmocka_unit_test(test_chunks_max),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
