/* test_record.c -- commit records: what is written is read back, what is damaged is refused. */
#include "storage/record.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h" /* before cmocka.h, which makes fail() a macro */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct layout layout;

static int setup(void **state)
{
    (void)state;
    struct layout_params p = {.dim = 4, .M = 5, .ef_construction = 8, .slot_shift = 4};
    if (layout_compute(&p, &layout) != NAVMAP_OK)
        return -1;
    layout.uuid_low = 77;
    layout.generation = 3;
    return 0;
}

/* One cell of each kind, added out of order; bytes are numbered so that a mix-up shows. */
static void fill(struct cells *c, uint8_t bytes[CELL_KINDS][1024])
{
    static const struct {
        uint32_t kind, index;
    } order[] = {{CELL_UPPER, 0}, {CELL_ROW, 9},     {CELL_STATE, 9}, {CELL_DIRECT, 4},
                 {CELL_STATE, 4}, {CELL_PAYLOAD, 9}, {CELL_ROOT, 0}};
    memset(c, 0, sizeof *c);
    for (int kind = 0; kind < CELL_KINDS; kind++)
        for (int i = 0; i < 1024; i++)
            bytes[kind][i] = (uint8_t)(kind * 31 + i);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        assert_int_equal(cells_add(c, order[i].kind, order[i].index, bytes[order[i].kind]),
                         NAVMAP_OK);
    assert_int_equal(cells_sort(c), NAVMAP_OK);
}

static navmap_status collect(void *ctx, const struct cell *c)
{
    struct cells *into = ctx;
    return cells_add(into, c->kind, c->index, c->bytes);
}

static void test_round_trip(void **state)
{
    (void)state;
    static uint8_t bytes[CELL_KINDS][1024];
    struct cells c, back = {0};
    uint8_t *record;
    size_t n;
    fill(&c, bytes);
    assert_int_equal(record_write(&layout, &c, 12, &record, &n), NAVMAP_OK);
    struct record_bounds b = {.lsn = 12, .slots = 16, .cells = 4, .path = "test"};
    assert_int_equal(record_read(&layout, record, n, &b, collect, &back), NAVMAP_OK);
    assert_int_equal(back.n, c.n);
    for (uint32_t i = 0; i < c.n; i++) {
        assert_int_equal(back.cell[i].kind, c.cell[i].kind);
        assert_int_equal(back.cell[i].index, c.cell[i].index);
        assert_memory_equal(back.cell[i].bytes, c.cell[i].bytes,
                            cell_bytes(&layout, c.cell[i].kind));
    }
    cells_free(&back);
    cells_free(&c);
    free(record);
}

static void test_find(void **state)
{
    (void)state;
    static uint8_t bytes[CELL_KINDS][1024];
    struct cells c;
    fill(&c, bytes);
    assert_non_null(cells_find(&c, CELL_STATE, 4));
    assert_non_null(cells_find(&c, CELL_STATE, 9));
    assert_null(cells_find(&c, CELL_STATE, 5));
    assert_null(cells_find(&c, CELL_ROW, 4));
    assert_non_null(cells_find(&c, CELL_DIRECT, 4));
    assert_ptr_equal(cells_find(&c, CELL_ROOT, 0)->bytes, bytes[CELL_ROOT]);
    cells_free(&c);
}

static navmap_status ignore(void *ctx, const struct cell *c)
{
    (void)ctx;
    (void)c;
    return NAVMAP_OK;
}

/* Every single bit of a record matters. */
static void test_each_bit(void **state)
{
    (void)state;
    static uint8_t bytes[CELL_KINDS][1024];
    struct cells c;
    uint8_t *record;
    size_t n;
    fill(&c, bytes);
    assert_int_equal(record_write(&layout, &c, 12, &record, &n), NAVMAP_OK);
    struct record_bounds b = {.lsn = 12, .path = "test"};
    for (size_t bit = 0; bit < n * 8; bit++) {
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(record_read(&layout, record, n, &b, ignore, NULL), NAVMAP_ECORRUPT);
        record[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    for (size_t shorter = 0; shorter < n; shorter++)
        assert_int_equal(record_read(&layout, record, shorter, &b, ignore, NULL), NAVMAP_ECORRUPT);
    assert_int_equal(record_read(&layout, record, n, &b, ignore, NULL), NAVMAP_OK);
    cells_free(&c);
    free(record);
}

/* A record whose sum holds but that belongs elsewhere, or whose indexes lead outside. */
static void test_bounds(void **state)
{
    (void)state;
    static uint8_t bytes[CELL_KINDS][1024];
    struct cells c;
    uint8_t *record;
    size_t n;
    fill(&c, bytes);
    assert_int_equal(record_write(&layout, &c, 12, &record, &n), NAVMAP_OK);
    static const struct record_bounds refused[] = {
        {.lsn = 13, .slots = 16, .cells = 4, .path = "another lsn"},
        {.lsn = 12, .slots = 9, .cells = 4, .path = "slot 9 of 9"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(record_read(&layout, record, n, &refused[i], ignore, NULL),
                         NAVMAP_ECORRUPT);
    struct layout other = layout;
    other.generation++;
    struct record_bounds b = {.lsn = 12, .slots = 16, .cells = 4, .path = "another generation"};
    assert_int_equal(record_read(&other, record, n, &b, ignore, NULL), NAVMAP_ECORRUPT);
    other = layout;
    other.uuid_low++;
    b.path = "another index";
    assert_int_equal(record_read(&other, record, n, &b, ignore, NULL), NAVMAP_ECORRUPT);
    cells_free(&c);
    free(record);
    struct cells zero = {0};
    assert_int_equal(cells_add(&zero, CELL_STATE, 0, bytes[0]), NAVMAP_OK);
    assert_int_equal(cells_sort(&zero), NAVMAP_OK);
    assert_int_equal(record_write(&layout, &zero, 12, &record, &n), NAVMAP_OK);
    b.path = "slot 0";
    assert_int_equal(record_read(&layout, record, n, &b, ignore, NULL), NAVMAP_ECORRUPT);
    cells_free(&zero);
    free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_each_bit),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
