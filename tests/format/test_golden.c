/* test_golden.c -- our bytes are the bytes of FORMAT.md: compared with files that another program
 * wrote from that page (make_golden.py), and with a few fields copied from it by hand.
 *
 * A released golden file is never changed; a new version of the format adds its own.
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/navmap.h"
#include "storage/half.h"
#include "storage/layout.h"
#include "storage/record.h"

/* The values that make_golden.py was told. */
static const uint8_t uuid[16] = {0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17,
                                 0x18, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f};
#define UUID_LOW UINT64_C(0x1716151413121110)
#define GENERATION 7u
#define INSTANCE UINT64_C(0x1122334455667788)
#define CREATED_NS UINT64_C(1700000000123456789)

static void golden_read(const char *name, void *ret_bytes, size_t nbytes)
{
    const char *root = getenv("NAVMAP_SOURCE_ROOT");
    char path[4096];
    snprintf(path, sizeof(path), "%s/tests/format/golden/%s", root ? root : ".", name);
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        fail_msg("%s: cannot be opened (run in the source tree or set NAVMAP_SOURCE_ROOT)", path);
    assert_int_equal(fread(ret_bytes, 1, nbytes, f), nbytes);
    assert_int_equal(fgetc(f), EOF);
    fclose(f);
}

static struct layout layout_of(const struct layout_params *params)
{
    struct layout l;
    assert_int_equal(layout_compute(params, &l), NAVMAP_OK);
    memcpy(l.uuid, uuid, sizeof(uuid));
    l.uuid_low = UUID_LOW;
    l.generation = GENERATION;
    l.instance = INSTANCE;
    l.created_ns = CREATED_NS;
    return l;
}

static struct layout plain(void)
{
    return layout_of(&(struct layout_params){.dim = 100,
                                             .space = 2,
                                             .M = 16,
                                             .ef_construction = 200,
                                             .flags = HEADER_ALLOW_REPLACE_DELETED,
                                             .seed = 100,
                                             .slot_shift = 10});
}

static struct layout coded(void)
{
    return layout_of(&(struct layout_params){.dim = 4,
                                             .M = 4,
                                             .ef_construction = 9,
                                             .seed = 100,
                                             .slot_shift = 4,
                                             .code_scheme = 1,
                                             .code_header = 8});
}

static struct layout half(void)
{
    return layout_of(&(struct layout_params){.dim = 101,
                                             .space = 1,
                                             .scalar = LAYOUT_F16,
                                             .M = 16,
                                             .ef_construction = 200,
                                             .seed = 100,
                                             .slot_shift = 10});
}

static void header_is_golden(const struct layout *l, const char *name)
{
    uint8_t golden[4096];
    struct disk_header mine;
    golden_read(name, golden, sizeof(golden));
    layout_write_header(l, &mine);
    assert_memory_equal(&mine, golden, sizeof(golden));

    struct layout back;
    int read_only = 1;
    assert_int_equal(layout_read_header(golden, 65536, name, &back, &read_only), NAVMAP_OK);
    assert_int_equal(read_only, 0);
    assert_memory_equal(&back, l, sizeof(back));
}

static void test_header(void **state)
{
    (void)state;
    struct layout l = plain();
    header_is_golden(&l, "header-1.0.bin");
}

static void test_header_with_codes(void **state)
{
    (void)state;
    struct layout l = coded();
    header_is_golden(&l, "header-coded-1.0.bin");
}

static void test_header_of_held_scales(void **state)
{
    (void)state;
    struct layout l = layout_of(&(struct layout_params){.dim = 128,
                                                        .M = 16,
                                                        .ef_construction = 200,
                                                        .seed = 100,
                                                        .slot_shift = 10,
                                                        .code_scheme = 2});
    assert_int_equal(l.code_stride, 128);
    header_is_golden(&l, "header-held-1.0.bin");
}

static void test_header_of_halves(void **state)
{
    (void)state;
    struct layout l = half();
    assert_int_equal(l.vec_bytes, 202);
    assert_int_equal(l.vec_stride, 256);
    header_is_golden(&l, "header-half-1.0.bin");
}

/* Read off FORMAT.md section 4 by hand: offset, bytes as they stand in the file. */
static void test_header_fields(void **state)
{
    (void)state;
    static const struct {
        unsigned offset, n;
        uint8_t bytes[8];
    } fields[] = {
        {0, 8, {0x89, 0x4E, 0x56, 0x4D, 0x0D, 0x0A, 0x1A, 0x0A}},   /* magic */
        {8, 4, {0x04, 0x03, 0x02, 0x01}},                           /* byte order */
        {12, 4, {0x01, 0x00, 0x00, 0x00}},                          /* version 1.0 */
        {28, 4, {0x00, 0x10, 0x00, 0x00}},                          /* header_bytes 4096 */
        {32, 2, {0x10, 0x11}},                                      /* uuid */
        {48, 8, {0x07}},                                            /* generation */
        {56, 4, {0x64}},                                            /* dim 100 */
        {60, 4, {0x02}},                                            /* cosine, f32 */
        {64, 8, {0x10, 0, 0, 0, 0x20}},                             /* M 16, M0 32 */
        {72, 4, {0xC8}},                                            /* ef_construction 200 */
        {76, 4, {0x01}},                                            /* allow_replace_deleted */
        {80, 8, {0x64}},                                            /* seed */
        {88, 4, {0x0A}},                                            /* slot_shift */
        {92, 4, {0x66}},                                            /* 102 upper cells */
        {96, 8, {0x00, 0x00, 0x0A}},                                /* chunk_bytes 655360 */
        {104, 4, {0xC0, 0x01}},                                     /* vec_stride 448 */
        {108, 4, {0x80}},                                           /* row_stride 128 */
        {112, 4, {0x40}},                                           /* upper_stride 64 */
        {116, 4, {0x20}},                                           /* tag_stride 32 */
        {124, 4, {0x00, 0x10}},                                     /* off_row 4096 */
        {128, 4, {0x00, 0x10, 0x02}},                               /* off_upper 135168 */
        {132, 4, {0x00, 0x30, 0x02}},                               /* off_tag 143360 */
        {140, 4, {0x00, 0xB0, 0x02}},                               /* off_vec 176128 */
        {168, 8, {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11}}, /* instance */
    };
    struct layout l = plain();
    struct disk_header h;
    layout_write_header(&l, &h);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (memcmp((const uint8_t *)&h + fields[i].offset, fields[i].bytes, fields[i].n) != 0)
            fail_msg("field at offset %u differs from FORMAT.md", fields[i].offset);
    }
}

static struct disk_root golden_root(void)
{
    struct disk_root r = {.lsn = UINT64_C(0x0102030405),
                          .entry = ENTRY(3, 17),
                          .extent = EXTENT(1, 23),
                          .nuppers = 5,
                          .max_elements = 1000,
                          .n_live = 18,
                          .n_deleted = 2,
                          .n_dead = 1,
                          .n_free = 1,
                          .n_apart = 2,
                          .inserted = 25,
                          .curve_items = 17,
                          .curve_ef = {{2, 3, 5, 8, 13, 21}, {10, 14, 20, 57, 80}, {107}}};
    r.sum = layout_root_sum(&r, UUID_LOW);
    return r;
}

static void test_root(void **state)
{
    (void)state;
    struct disk_root golden, mine = golden_root();
    golden_read("root-1.0.bin", &golden, sizeof(golden));
    assert_memory_equal(&mine, &golden, sizeof(golden));
}

/* A payload image: tag, code row, vector row. */
struct payload {
    struct disk_tag tag;
    uint8_t code[64];
    float vec[4];
};

static struct payload golden_payload(const struct layout *l)
{
    struct payload p = {
        .tag = {.label = UINT64_C(0xFEEDFACE00C0FFEE), .up = TAG_UP(1, 1), .gen = 2},
        .code = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
        .vec = {0.5f, -1.25f, 3.0f, 1e-3f},
    };
    p.tag.vsum = layout_vsum(l, p.tag.label, 3, p.tag.gen, p.tag.up, p.code, p.vec);
    return p;
}

static void test_payload(void **state)
{
    (void)state;
    struct layout l = coded();
    struct payload golden, mine = golden_payload(&l);
    assert_int_equal(sizeof(golden), layout_payload_bytes(&l));
    golden_read("payload-1.0.bin", &golden, sizeof(golden));
    assert_memory_equal(&mine, &golden, sizeof(golden));
}

static void test_payload_of_halves(void **state)
{
    (void)state;
    struct layout l = layout_of(&(struct layout_params){.dim = 5,
                                                        .scalar = LAYOUT_F16,
                                                        .M = 4,
                                                        .ef_construction = 9,
                                                        .slot_shift = 4,
                                                        .code_scheme = 1,
                                                        .code_header = 8});
    static const float numbers[5] = {0.5f, -1.25f, 65504.0f, 0x1p-24f, -0.0f};
    struct {
        struct disk_tag tag;
        uint8_t code[64];
        uint16_t vec[8];
    } golden, mine = {
                  .tag = {.label = UINT64_C(0xFEEDFACE00C0FFEE), .up = TAG_UP(1, 1), .gen = 2},
                  .code = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13},
              };
    half_narrow(numbers, 5, mine.vec);
    mine.tag.vsum = layout_vsum(&l, mine.tag.label, 3, 2, mine.tag.up, mine.code, mine.vec);
    assert_int_equal(sizeof(golden), layout_payload_bytes(&l));
    golden_read("payload-half-1.0.bin", &golden, sizeof(golden));
    assert_memory_equal(&mine, &golden, sizeof(golden));
}

struct visit {
    const struct cells *expected;
    const struct layout *layout;
    uint32_t n;
};

static navmap_status visit_cell(void *ctx, const struct cell *cell)
{
    struct visit *v = ctx;
    assert_true(v->n < v->expected->n);
    const struct cell *e = &v->expected->cell[v->n++];
    assert_int_equal(cell->kind, e->kind);
    assert_int_equal(cell->index, e->index);
    assert_memory_equal(cell->bytes, e->bytes, cell_bytes(v->layout, cell->kind));
    return NAVMAP_OK;
}

static void test_record(void **state)
{
    (void)state;
    struct layout l = coded();
    struct disk_root root = golden_root();
    struct payload payload = golden_payload(&l);
    const uint32_t live3 = STATE_WORD(2, SLOT_LIVE), live5 = STATE_WORD(4, SLOT_LIVE);
    const uint32_t row3[8] = {5, 1}, row5[8] = {3}, upper1[4] = {0};
    const struct disk_direct direct = {.gen = 4, .vsum = UINT64_C(0x0807060504030201)};
    struct cell cell[] = {
        {CELL_ROOT, 0, &root},   {CELL_PAYLOAD, 3, &payload}, {CELL_STATE, 3, &live3},
        {CELL_STATE, 5, &live5}, {CELL_ROW, 3, row3},         {CELL_ROW, 5, row5},
        {CELL_UPPER, 1, upper1}, {CELL_DIRECT, 5, &direct},
    };
    struct cells cells = {.cell = cell, .n = sizeof(cell) / sizeof(cell[0])};

    uint8_t golden[528], *mine = NULL;
    size_t nbytes = 0;
    golden_read("record-1.0.bin", golden, sizeof(golden));
    assert_int_equal(record_write(&l, &cells, 9, &mine, &nbytes), NAVMAP_OK);
    assert_int_equal(nbytes, sizeof(golden));
    assert_memory_equal(mine, golden, sizeof(golden));
    free(mine);

    struct visit v = {.expected = &cells, .layout = &l};
    const struct record_bounds bounds = {.lsn = 9, .path = "golden"};
    assert_int_equal(record_read(&l, golden, sizeof(golden), &bounds, visit_cell, &v), NAVMAP_OK);
    assert_int_equal(v.n, cells.n);
}

/* Another program's sealed file, whole: loaded, sound, searched. */
static void check_sealed(const char *name, uint16_t scalar)
{
    static const uint64_t live[] = {7, 70, 1000, UINT64_MAX};
    const char *root = getenv("NAVMAP_SOURCE_ROOT");
    const float query[4] = {0.6f, 0.5f, 0.5f, 0.5f};
    char path[4096];
    navmap_index *ix = NULL;
    struct navmap_verify_result result;
    struct navmap_stats s = {.struct_size = sizeof s};
    snprintf(path, sizeof(path), "%s/tests/format/golden/%s", root ? root : ".", name);
    assert_int_equal(navmap_verify(path, false, NULL, NULL, &result), NAVMAP_OK);
    assert_int_equal(result.damaged + result.warnings, 0);
    assert_int_equal(navmap_load(path, NULL, &ix), NAVMAP_OK);
    assert_int_equal(navmap_get_stats(ix, &s), NAVMAP_OK);
    assert_int_equal(s.n_live, 4);
    assert_int_equal(s.n_deleted, 1);
    assert_int_equal(s.max_elements, 9);
    assert_int_equal(s.bounded, 1);
    assert_int_equal(s.inserted, 12);
    assert_int_equal(s.entry_slot, 3);
    assert_int_equal(s.vectors, scalar);
    for (size_t i = 0; i < sizeof(live) / sizeof(live[0]); i++) {
        bool there = false;
        assert_int_equal(navmap_contains(ix, live[i], &there), NAVMAP_OK);
        assert_true(there);
    }
    uint64_t labels[4];
    float distances[4], vector[4];
    assert_int_equal(navmap_search(ix, 1, query, 4, NULL, labels, distances, NULL), NAVMAP_OK);
    assert_int_equal(labels[0], 1000);
    assert_int_equal(labels[1], 70);
    assert_true(fabsf(distances[0] - 0.01f) < 1e-7f);
    assert_int_equal(navmap_undelete(ix, 0), NAVMAP_OK);
    const uint64_t zero = 0;
    assert_int_equal(navmap_get(ix, 1, &zero, vector), NAVMAP_OK);
    assert_true(vector[3] == 1.0f && vector[0] == 0.0f);
    assert_int_equal(navmap_close(ix), NAVMAP_OK);

    struct disk_header expected, made;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fread(&expected, 1, sizeof(expected), f), sizeof(expected));
    fclose(f);
    const struct layout l = layout_of(&(struct layout_params){.dim = 4,
                                                              .scalar = scalar,
                                                              .M = 4,
                                                              .ef_construction = 9,
                                                              .flags = HEADER_BOUNDED,
                                                              .seed = 100,
                                                              .slot_shift = 4});
    struct layout_sealed sealed;
    layout_read_sealed(&expected, &sealed);
    layout_write_sealed(&l, &sealed, &made);
    assert_memory_equal(&made, &expected, sizeof(made));
}

static void test_sealed(void **state)
{
    (void)state;
    check_sealed("sealed-1.0.bin", LAYOUT_F32);
    check_sealed("sealed-half-1.0.bin", LAYOUT_F16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_header),           cmocka_unit_test(test_header_with_codes),
        cmocka_unit_test(test_header_fields),    cmocka_unit_test(test_root),
        cmocka_unit_test(test_payload),          cmocka_unit_test(test_record),
        cmocka_unit_test(test_sealed),           cmocka_unit_test(test_header_of_held_scales),
        cmocka_unit_test(test_header_of_halves), cmocka_unit_test(test_payload_of_halves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
