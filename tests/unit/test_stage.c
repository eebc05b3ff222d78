/* test_stage.c -- the overlay: falls through to the map, answers with what was staged, forgets. */
#include "storage/stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/fail.h" /* before cmocka.h, which makes fail() a macro */
#include "storage/io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct view *view;
static struct stage stage;

static int setup(void **state)
{
    (void)state;
    char path[] = "/tmp/navmap-stage-XXXXXX";
    struct layout l;
    struct layout_params p = {.dim = 4, .M = 4, .ef_construction = 8, .slot_shift = 4};
    int fd = mkstemp(path);
    if (fd < 0 || unlink(path) != 0 || layout_compute(&p, &l) != NAVMAP_OK ||
        ftruncate(fd, (off_t)layout_file_bytes(&l, 2)) != 0)
        return -1;
    const uint32_t word = STATE_WORD(7, SLOT_LIVE), id = 3;
    if (pwrite(fd, &word, 4, (off_t)layout_state_off(&l, 5)) != 4 ||
        pwrite(fd, &id, 4, (off_t)layout_row_off(&l, 5)) != 4)
        return -1;
    if (view_map(fd, path, &l, 2, false, &view) != NAVMAP_OK)
        return -1;
    return stage_open(&stage, view) == NAVMAP_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    stage_close(&stage);
    view_unref(view);
    return 0;
}

static void test_falls_through(void **state)
{
    (void)state;
    assert_true(stage_empty(&stage));
    assert_int_equal(edit_state(&stage, 5), STATE_WORD(7, SLOT_LIVE));
    assert_int_equal(edit_row(&stage, 5)[0], 3);
    assert_int_equal(edit_state(&stage, 31), 0);
}

static void test_staged_wins(void **state)
{
    (void)state;
    struct stage_slot *r = stage_slot_get(&stage, 5);
    assert_int_equal(edit_state(&stage, 5),
                     STATE_WORD(7, SLOT_LIVE)); /* a record without a state */
    assert_int_equal(edit_row(&stage, 5)[0], 3);
    r->row[0] = 9;
    stage_slot_flag(&stage, r, STAGE_ROW);
    stage_slot_state(&stage, r, STATE_WORD(7, SLOT_DEAD));
    assert_int_equal(edit_status(&stage, 5), SLOT_DEAD);
    assert_int_equal(edit_state(&stage, 5), STATE_WORD(7, SLOT_DEAD));
    assert_int_equal(edit_row(&stage, 5)[0], 9);
    assert_ptr_equal(stage_slot_get(&stage, 5), r);
    struct stage_upper *u = stage_upper_get(&stage, 2, view_upper(view, 2));
    assert_ptr_equal(stage_upper_get(&stage, 2, view_upper(view, 2)), u);
    assert_false(stage_empty(&stage));
    stage_clear(&stage);
    assert_true(stage_empty(&stage));
    for (uint64_t i = 0; i < stage.ov_slots; i++)
        assert_int_equal(stage.ov[i], 0); /* S3 */
    for (uint64_t i = 0; i < stage.ov_cells; i++)
        assert_int_equal(stage.ov_upper[i], 0);
    assert_int_equal(edit_row(&stage, 5)[0], 3);
}

/* The label table against a plain array, through many fills, pops and clears. */
static void test_labels(void **state)
{
    (void)state;
    uint64_t seed = 88172645463325252ull;
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < 5000; i++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            uint64_t label = i % 3 ? seed : seed & 0xFFF; /* spread, and crowded */
            if (stage_label_find(&stage, label))
                continue;
            struct stage_label *c = stage_label_add(&stage, label, i, round);
            assert_int_equal(c->new_slot, i);
            if (i % 5 == 0) {
                stage_label_pop(&stage);
                assert_null(stage_label_find(&stage, label));
            }
        }
        for (uint32_t i = 0; i < stage.n_labels; i++)
            assert_ptr_equal(stage_label_find(&stage, stage.labels[i].label), &stage.labels[i]);
        uint64_t any = stage.labels[17].label;
        stage_clear(&stage);
        assert_null(stage_label_find(&stage, any));
    }
}

/* S2: what room promises is the most an item can take, and the bound on bytes holds. */
static void test_room(void **state)
{
    (void)state;
    assert_true(stage_room(&stage, 1, layout_level_most(&view->layout)));
    uint32_t rows = 0;
    while (stage_room_rows(&stage, 1) && rows < 31) {
        struct stage_slot *r = stage_slot_get(&stage, ++rows);
        r->flags = STAGE_STATE | STAGE_ROW;
    }
    assert_true(stage_bytes(&stage) >= rows * (16u + 8 + 16 + 4 * view->layout.M0));
    assert_true(stage_bytes(&stage) < STAGE_CELL_BYTES_MAX);
    stage.n_labels = STAGE_LABELS_MAX;
    assert_false(stage_room(&stage, 1, 0));
    stage.n_labels = 0;
    stage_clear(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_falls_through),
        cmocka_unit_test(test_staged_wins),
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
