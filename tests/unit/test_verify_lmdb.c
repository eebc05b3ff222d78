/* test_verify_lmdb.c -- damage planted in LMDB: labels that lead astray, meta records, a log that
 * lies, a file that was cut off. */
#include "tests/unit/planted_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "storage/labels.h"

#define NONE UINT64_MAX

static void change_labels(const struct stage_label *changes, uint32_t n, uint64_t sum_seed)
{
    struct wal *wal;
    struct wal_txn t;
    assert_int_equal(wal_acquire(planted.path, true, &wal), NAVMAP_OK);
    assert_int_equal(wal_txn_write(wal, &t), NAVMAP_OK);
    assert_int_equal(labels_change(&t, 1, sum_seed, changes, n), NAVMAP_OK);
    assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
    wal_release(wal);
}

static void change_state(uint64_t more_last_lsn)
{
    struct wal *wal;
    struct wal_txn t;
    struct wal_state state;
    assert_int_equal(wal_acquire(planted.path, true, &wal), NAVMAP_OK);
    assert_int_equal(wal_txn_write(wal, &t), NAVMAP_OK);
    assert_int_equal(wal_get_state(&t, &state), NAVMAP_OK);
    state.last_lsn += more_last_lsn;
    assert_int_equal(wal_put_state(&t, &state), NAVMAP_OK);
    assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
    wal_release(wal);
}

static void test_labels(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    uint32_t slot = planted_find(&planted, SLOT_LIVE, 0, 4);
    uint32_t other = planted_find(&planted, SLOT_DEAD, 0, 0);
    const struct disk_tag *tag = planted_tag(&planted, slot);
    struct stage_label change = {tag->label, slot, tag->gen, 0, 0};

    change_labels(&change, 1, l->uuid_low); /* gone */
    run(false);
    expect_here("labels", slot, layout_tag_off(l, slot), true);

    planted_restore(&planted);
    change.new_slot = other; /* leads elsewhere */
    change.new_gen = planted_tag(&planted, other)->gen;
    change_labels(&change, 1, l->uuid_low);
    run(false);
    expect_here("labels", other, layout_tag_off(l, other), false);
    expect_here("labels", slot, layout_tag_off(l, slot), false);
    assert_int_equal(report.result.damaged, 2);

    planted_restore(&planted);
    change.new_slot = planted_nslots(&planted); /* out of range */
    change_labels(&change, 1, l->uuid_low);
    run(false);
    expect_here("labels", planted_nslots(&planted), NONE, false);

    planted_restore(&planted);
    change = (struct stage_label){99, 0, 0, slot, tag->gen}; /* a second label for one slot */
    change_labels(&change, 1, l->uuid_low);
    run(false);
    expect_here("labels", slot, layout_tag_off(l, slot), true);

    planted_restore(&planted);
    change = (struct stage_label){99, 0, 0, slot, tag->gen}; /* its own sum does not hold */
    change_labels(&change, 1, l->uuid_low + 1);
    run(false);
    expect_here("labels", 0, NONE, true);
}

/* LMDB keeps former pages about: change the bytes wherever they stand.  `offset`: from the hit. */
static void flip_all(const void *what, size_t n, size_t offset)
{
    uint8_t *from = planted.wal, *end = planted.wal + planted.wal_bytes;
    uint32_t hits = 0;
    for (uint8_t *hit; (hit = memmem(from, (size_t)(end - from), what, n)) != NULL; hits++) {
        hit[offset] ^= 1;
        from = hit + n;
    }
    assert_true(hits > 0);
    planted_write_wal(&planted);
}

static void test_meta(void **state)
{
    (void)state;
    change_state(1); /* a commit that no record tells of */
    run(true);
    expect_here("log", 0, NONE, true);

    planted_restore(&planted);
    flip_all(planted.layout.uuid, 16, 20); /* the instance in meta.id, behind the uuid */
    run(true);
    expect_here("meta", 0, NONE, true);

    planted_restore(&planted);
    assert_int_equal(unlink(planted.wal_path), 0);
    run(true);
    expect_here("meta", 0, NONE, true);

    planted_restore(&planted);
    memset(planted.wal, 0x5a, planted.wal_bytes);
    planted_write_wal(&planted);
    run(true);
    expect_here("meta", 0, NONE, true);
}

/* A cut-off wal.mdb is said, and never touched beyond its end. */
static void test_wal_cut_off(void **state)
{
    (void)state;
    const size_t lengths[] = {16384 + 1, 8192, 4096, 100, 0}; /* below what is in use */
    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        navmap_index *index = NULL;
        planted_restore(&planted);
        assert_int_equal(truncate(planted.wal_path, (off_t)lengths[i]), 0);
        run(false);
        expect_here("meta", 0, NONE, true);
        assert_int_equal(navmap_open(planted.path, NAVMAP_READ, NULL, &index), NAVMAP_ECORRUPT);
        assert_int_equal(navmap_open(planted.path, NAVMAP_WRITE, NULL, &index), NAVMAP_ECORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_labels, restore_index),
        cmocka_unit_test_setup(test_meta, restore_index),
        cmocka_unit_test_setup(test_wal_cut_off, restore_index),
    };
    return cmocka_run_group_tests(tests, make_index, free_index);
}
