/* test_stage.c -- the overlay: falls through to the map, answers with what was staged, forgets. */
#include "storage/stage.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

/* Of each record the row is on cache lines of its own, and no record lies in another. */
static void test_rows_on_lines(void **state)
{
    (void)state;
    const uint32_t width = view->layout.M0;
    for (uint32_t slot = 1; slot < 8; slot++) {
        struct stage_slot *r = stage_slot_get(&stage, slot);
        assert_int_equal((uintptr_t)r->row % 64, 0);
        for (uint32_t i = 0; i < width; i++)
            r->row[i] = slot;
        assert_ptr_equal(edit_row(&stage, slot), view_row(view, slot)); /* not announced yet */
        stage_slot_flag(&stage, r, STAGE_ROW);
    }
    for (uint32_t slot = 1; slot < 8; slot++) {
        stage_slot_state(&stage, stage_slot_get(&stage, slot), STATE_WORD(7, SLOT_LIVE));
        const _Atomic uint32_t *row = edit_row(&stage, slot);
        assert_ptr_equal(row, edit_record(&stage, slot)->row);
        for (uint32_t i = 0; i < width; i++)
            assert_int_equal(row[i], slot);
        assert_int_equal(edit_record(&stage, slot)->slot, slot);
    }
    stage_clear(&stage);
    assert_ptr_equal(edit_row(&stage, 1), view_row(view, 1));
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

/* Each of the limits by itself. */
static void test_limits(void **state)
{
    (void)state;
    struct stage e = stage;
    assert_true(stage_room(&e, 1, 1) && stage_room_rows(&e, 1));
    e.n_slots = (uint32_t)e.slots_cap;
    assert_false(stage_room(&e, 1, 1) || stage_room_rows(&e, 1));
    e = stage;
    e.n_uppers = (uint32_t)e.uppers_cap;
    assert_false(stage_room(&e, 1, 1) || stage_room_rows(&e, 1));
    e = stage;
    e.n_labels = STAGE_LABELS_MAX;
    assert_false(stage_room(&e, 1, 1));
    e = stage;
    e.logged_bytes = STAGE_CELL_BYTES_MAX;
    assert_false(stage_room(&e, 1, 1) || stage_room_rows(&e, 1));
}

/* Any change is one to commit. */
static void test_empty(void **state)
{
    (void)state;
    assert_true(stage_empty(&stage));
    (void)stage_upper_get(&stage, 1, NULL);
    assert_false(stage_empty(&stage));
    stage_upper_pop(&stage);
    (void)stage_label_add(&stage, 9, 0, 0);
    assert_false(stage_empty(&stage));
    stage_label_pop(&stage);
    stage.root_changed = true;
    assert_false(stage_empty(&stage));
    stage_clear(&stage);
    assert_true(stage_empty(&stage));
}

/* A stage that stages nothing follows its view all the same. */
static void test_through(void **state)
{
    (void)state;
    struct stage e;
    stage_open_through(&e, view);
    assert_int_equal(stage_follow(&e, view), NAVMAP_OK);
    assert_ptr_equal(e.view, view);
}

static rlim_t address_space(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu", &pages), 1);
    assert_int_equal(fclose(f), 0);
    return pages * (rlim_t)sysconf(_SC_PAGESIZE);
}

static navmap_status open_within(rlim_t more, const struct view *small, const struct view *large)
{
    struct rlimit was, now;
    struct stage e;
    assert_int_equal(getrlimit(RLIMIT_AS, &was), 0);
    now = was;
    now.rlim_cur = address_space() + more;
    assert_int_equal(setrlimit(RLIMIT_AS, &now), 0);
    navmap_status status = stage_open(&e, small);
    if (status == NAVMAP_OK) {
        status = stage_follow(&e, large);
        stage_close(&e);
    }
    assert_int_equal(setrlimit(RLIMIT_AS, &was), 0);
    return status;
}

/* Address space for some of its arrays, but not for the others; of a large index. */
static void test_address_space(void **state)
{
    (void)state;
    const rlim_t mib = 1 << 20;
    struct layout l;
    struct layout_params p = {.dim = 1, .M = 4, .ef_construction = 8, .slot_shift = 16};
    struct view *small, *large;
    if (getenv("NAVMAP_SHORT"))
        skip(); /* a sanitizer reserves what it likes */
    assert_int_equal(layout_compute(&p, &l), NAVMAP_OK);
    assert_int_equal(view_anonymous(&l, 1, 1, &small), NAVMAP_OK);
    assert_int_equal(view_anonymous(&l, 16, 16, &large), NAVMAP_OK);
    rlim_t refused = 0, enough = 1024 * mib;
    assert_int_equal(open_within(refused, small, large), NAVMAP_ENOMEM);
    assert_int_equal(open_within(enough, small, large), NAVMAP_OK);
    for (rlim_t more = 0; more < enough; more += mib) {
        navmap_status status = open_within(more, small, large);
        assert_true(status == NAVMAP_ENOMEM || status == NAVMAP_OK);
        if (status == NAVMAP_OK)
            break;
        refused = more;
    }
    assert_true(refused > 0);
    for (rlim_t more = refused; more < refused + mib; more += 16384)
        if (open_within(more, small, large) == NAVMAP_OK)
            break;
    view_unref(small);
    view_unref(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_falls_through), cmocka_unit_test(test_staged_wins),
        cmocka_unit_test(test_rows_on_lines), cmocka_unit_test(test_labels),
        cmocka_unit_test(test_room),          cmocka_unit_test(test_limits),
        cmocka_unit_test(test_empty),         cmocka_unit_test(test_through),
        cmocka_unit_test(test_address_space),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
