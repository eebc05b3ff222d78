/* test_verify.c -- damage planted in a closed index, one kind at a time: verify finds each, in the
 * right section, slot and place, and finds nothing in a sound one.
 *
 * Where a checksum stands before a check, the sum is made good again, so that it is the check
 * that has to speak.  `alone` says that nothing else may be reported.
 */
#include "tests/unit/planted_case.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ROOT_AT(field) (LAYOUT_ROOT_OFFSET + offsetof(struct disk_root, field))

/* Write the image, verify in full, expect; leave the image restored. */
static void expect(const char *section, uint32_t slot, uint64_t offset, bool alone)
{
    planted_write(&planted, planted.data_bytes);
    run(false);
    expect_here(section, slot, offset, alone);
    memcpy(planted.data, planted.data_sound, planted.data_bytes);
}

static void expect_sound(bool quick)
{
    run(quick);
    if (report.n != 0)
        planted_print(&report);
    assert_int_equal(report.n, 0);
    assert_int_equal(report.result.damaged, 0);
    assert_int_equal(report.result.warnings, 0);
}

static void test_sound(void **state)
{
    (void)state;
    const struct disk_root *root = planted_root(&planted);
    /* The index has what the other tests need. */
    assert_true(root->n_live > 0 && root->n_deleted > 0 && root->n_dead > 0 && root->n_free > 0);
    expect_sound(true);
    assert_int_equal(report.result.slots, 0);
    expect_sound(false);
    assert_int_equal(report.result.slots, planted_nslots(&planted) - 1);
    assert_int_equal(report.result.rows, planted_nslots(&planted) - 1);
    assert_int_equal(report.result.payloads, report.result.slots - root->n_free);
    assert_int_equal(report.result.labels, PLANTED_ITEMS);
    assert_int_equal(report.result.reachable, root->n_live);
    assert_true(report.result.uppers > 0);
    assert_int_equal(report.result.log_records, 0);
}

static void test_header(void **state)
{
    (void)state;
    struct disk_header *h = planted_header(&planted);
    h->dim ^= 1;
    expect("header", 0, 0, true);
    h->row_stride += 64;
    planted_sum_header(&planted);
    expect("header", 0, 0, true);
    h->magic[0] ^= 1;
    expect("header", 0, 0, true);
    h->major = 2; /* LMDB knows better */
    expect("header", 0, 0, true);
    h->reserved1[77] = 1;
    planted_sum_header(&planted);
    expect("header", 0, 0, true);
    h->instance ^= 1;
    planted_sum_header(&planted);
    expect("meta", 0, 32, true);
}

static void test_newer_version(void **state)
{
    (void)state;
    planted_header(&planted)->major = 2;
    planted_sum_header(&planted);
    planted_write(&planted, planted.data_bytes);
    planted_verify(planted.path, false, &report);
    assert_int_equal(report.status, NAVMAP_EVERSION);
}

static void test_root(void **state)
{
    (void)state;
    struct disk_root *root = planted_root(&planted);
    uint32_t nslots = planted_nslots(&planted), nchunks = extent_chunks(root->extent);
    root->n_live ^= 4;
    planted_write(&planted, planted.data_bytes);
    run(true); /* quick sees it as well */
    expect_here("root", 0, ROOT_AT(sum), true);
    expect("root", 0, ROOT_AT(sum), false);

    root->curve_ef[1][0] = 1; /* of no items */
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(curve_ef), true);
    root->curve_items = 5;
    root->curve_ef[1][2] = 7; /* after a 0 */
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(curve_ef), true);
    root->lsn++;
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(lsn), true);
    root->lsn = 0;
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(lsn), true);
    root->extent = EXTENT(nchunks + 1000, nslots);
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(extent), true);
    root->extent = EXTENT(nchunks, (nchunks << planted.layout.slot_shift) + 1);
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(extent), true);
    root->nuppers = (uint64_t)nchunks * planted.layout.uppers_per_chunk + 1;
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(nuppers), true);
}

static void test_entry(void **state)
{
    (void)state;
    struct disk_root *root = planted_root(&planted);
    uint32_t nslots = planted_nslots(&planted);
    root->entry = ENTRY(0, nslots);
    planted_sum_root(&planted);
    expect("root", nslots, ROOT_AT(entry), true);
    root->entry = ENTRY(0, 0);
    planted_sum_root(&planted);
    expect("root", 0, ROOT_AT(entry), true);
    uint32_t free_slot = planted_find(&planted, SLOT_FREE, 0, 0);
    root->entry = ENTRY(0, free_slot);
    planted_sum_root(&planted);
    expect("root", free_slot, ROOT_AT(entry), true);
    uint32_t slot = planted_find(&planted, SLOT_LIVE, 0, 0);
    root->entry = ENTRY(TAG_LEVEL(planted_tag(&planted, slot)->up) + 1, slot);
    planted_sum_root(&planted);
    expect("root", slot, ROOT_AT(entry), true);
}

static void test_counters(void **state)
{
    (void)state;
    struct disk_root *root = planted_root(&planted);
    const uint64_t fields[] = {ROOT_AT(n_live), ROOT_AT(n_deleted), ROOT_AT(n_dead),
                               ROOT_AT(n_free)};
    for (size_t i = 0; i < 4; i++) {
        uint64_t *counter = (uint64_t *)(void *)(planted.data + fields[i]);
        *counter += 1;
        planted_sum_root(&planted);
        expect("counters", 0, fields[i], true);
    }
    root->n_apart = (uint32_t)root->n_deleted + 1;
    planted_sum_root(&planted);
    expect("counters", 0, ROOT_AT(n_apart), true);
    root->max_elements = root->n_live + root->n_deleted - 1;
    planted_sum_root(&planted);
    expect("counters", 0, ROOT_AT(max_elements), true);
    root->inserted = root->n_live;
    planted_sum_root(&planted);
    expect("counters", 0, ROOT_AT(inserted), true);
}

static void test_live_and_padding(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    planted_live(&planted)->superseded = 1;
    expect("live", 0, LAYOUT_LIVE_OFFSET, true);
    uint64_t in_chunk = layout_chunk_off(l, 1) + 4 * (uint64_t)l->slots_per_chunk;
    uint64_t behind = layout_chunk_off(l, 2) + l->off_vec + l->slots_per_chunk * l->vec_stride;
    const uint64_t places[] = {
        LAYOUT_ROOT_OFFSET + 128, LAYOUT_LIVE_OFFSET + 4092, 12288, 65532, in_chunk, behind};
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        planted.data[places[i] + 1] = 0x40;
        expect("padding", 0, places[i], true);
    }
}

static void test_state(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    uint32_t live = planted_find(&planted, SLOT_LIVE, 0, 5);
    *planted_state(&planted, live) += STATE_WORD(1, 0);
    expect("state", live, layout_state_off(l, live), false);
    *planted_state(&planted, 0) = STATE_WORD(0, SLOT_LIVE);
    expect("state", 0, layout_state_off(l, 0), true);
    /* A status that changed shows in the counters, and where somebody relies on the slot. */
    *planted_state(&planted, live) &= ~3u;
    expect("counters", 0, ROOT_AT(n_live), false);
    planted_root(&planted)->n_live--;
    planted_root(&planted)->n_free++;
    planted_sum_root(&planted);
    *planted_state(&planted, live) &= ~3u;
    expect("labels", live, layout_tag_off(l, live), false);
    uint32_t dead = planted_find(&planted, SLOT_DEAD, 0, 0);
    *planted_state(&planted, dead) = (*planted_state(&planted, dead) & ~3u) | SLOT_LIVE;
    expect("labels", dead, layout_tag_off(l, dead), false);
}

static void test_tag(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    uint32_t slot = planted_find(&planted, SLOT_LIVE, 1, 3);
    uint64_t tag_at = layout_tag_off(l, slot);
    struct disk_tag *tag = planted_tag(&planted, slot);
    uint32_t level = TAG_LEVEL(tag->up);

    tag->gen++;
    expect("tag", slot, tag_at + 20, true);
    tag->reserved = 1;
    expect("tag", slot, tag_at + 24, true);
    tag->label ^= 1;
    expect("payload", slot, tag_at, true);
    tag->vsum ^= 1;
    expect("payload", slot, tag_at, true);
    tag->up ^= 1;
    expect("payload", slot, tag_at, true);

    tag->up = TAG_UP(planted_root(&planted)->nuppers, level);
    planted_sum_payload(&planted, slot);
    expect("tag", slot, tag_at + 16, true);
    tag->up = TAG_UP(l->uppers_per_chunk - 1, 2);
    planted_sum_payload(&planted, slot);
    expect("tag", slot, tag_at + 16, true);
    assert_non_null(strstr(report.finding[0].message, "in one chunk"));
    tag->up = TAG_UP(3, 0);
    planted_sum_payload(&planted, slot);
    expect("tag", slot, tag_at + 16, true);
    uint32_t other = planted_find(&planted, SLOT_LIVE, 1, 2); /* lower, so it claims first */
    tag->up = TAG_UP(TAG_CELL(planted_tag(&planted, other)->up), 1);
    planted_sum_payload(&planted, slot);
    expect("tag", slot, tag_at + 16, true);

    uint32_t free_slot = planted_find(&planted, SLOT_FREE, 0, 0);
    planted_tag(&planted, free_slot)->up = TAG_UP(planted_root(&planted)->nuppers, 3);
    expect("tag", free_slot, layout_tag_off(l, free_slot) + 16, true);
}

static void test_vector(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    const enum slot_status statuses[] = {SLOT_LIVE, SLOT_DELETED, SLOT_DEAD};
    for (size_t i = 0; i < 3; i++) {
        uint32_t slot = planted_find(&planted, statuses[i], 0, 1);
        planted_vec(&planted, slot)[4 * i + 2] ^= 0x10;
        expect("payload", slot, layout_tag_off(l, slot), true);
    }
    uint32_t slot = planted_find(&planted, SLOT_LIVE, 0, 9);
    planted_vec(&planted, slot)[4 * PLANTED_DIM + 1] = 1;
    planted_sum_payload(&planted, slot);
    expect("payload", slot, layout_vec_off(l, slot) + 4 * PLANTED_DIM + 1, true);
    uint32_t free_slot = planted_find(&planted, SLOT_FREE, 0, 0);
    planted_vec(&planted, free_slot)[0] ^= 0xff; /* unpublished: any bytes are legal */
    planted_write(&planted, planted.data_bytes);
    expect_sound(false);
}

static void test_row(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    uint32_t slot = planted_find(&planted, SLOT_LIVE, 0, 12);
    uint32_t n = planted_links(&planted, slot), *row = planted_row(&planted, slot);
    uint64_t at = layout_row_off(l, slot);
    assert_true(n >= 3);
    row[1] = planted_nslots(&planted);
    expect("row", slot, at + 4, true);
    row[1] = UINT32_MAX;
    expect("row", slot, at + 4, true);
    row[2] = slot;
    expect("row", slot, at + 8, true);
    row[2] = row[0];
    expect("row", slot, at + 8, true);
    row[0] = 0;
    expect("row", slot, at + 4, true);
    row[l->M0] = 1;
    expect("row", slot, at + 4 * l->M0, true);
    row[0] = planted_find(&planted, SLOT_FREE, 0, 0);
    expect("row", slot, at, true);
    uint32_t dead = planted_find(&planted, SLOT_DEAD, 0, 1);
    planted_row(&planted, dead)[0] = planted_nslots(&planted) + 7;
    expect("row", dead, layout_row_off(l, dead), true);
}

static void test_upper(void **state)
{
    (void)state;
    const struct layout *l = &planted.layout;
    uint32_t slot = planted_find(&planted, SLOT_LIVE, 2, 0);
    uint32_t cell = TAG_CELL(planted_tag(&planted, slot)->up) + 1; /* of level 2 */
    uint32_t *ids = planted_upper(&planted, cell);
    uint64_t at = layout_upper_off(l, cell);
    assert_true(ids[0] != 0);
    uint32_t low = 1; /* a published slot of level 0 */
    while (STATE_STATUS(*planted_state(&planted, low)) == SLOT_FREE ||
           TAG_LEVEL(planted_tag(&planted, low)->up) > 0)
        low++;
    ids[0] = low;
    expect("upper", slot, at, true);
    ids[0] = planted_nslots(&planted);
    expect("upper", slot, at, true);
    ids[0] = slot;
    expect("upper", slot, at, true);
    ids[l->M] = low;
    expect("upper", slot, at + 4 * l->M, true);
}

static void test_file_size(void **state)
{
    (void)state;
    /* Of the chunks: the rest of a last huge page may be behind them. */
    const uint32_t nchunks = extent_chunks(planted_root(&planted)->extent);
    planted_write(&planted, layout_file_bytes(&planted.layout, nchunks) - 1);
    run(true);
    assert_int_equal(report.result.damaged, 1);
    expect_here("root", 0, ROOT_AT(extent), true);
    planted_write(&planted, LAYOUT_CHUNK0_OFFSET + 100);
    run(false);
    assert_int_equal(report.result.damaged, 1);
    planted_write(&planted, 100);
    run(false);
    assert_int_equal(report.result.damaged, 1);
    planted_write(&planted, 0);
    run(false);
    assert_int_equal(report.result.damaged, 1);
    assert_int_equal(unlink(planted.data_path), 0);
    run(false);
    assert_int_equal(report.result.damaged, 1);
}

/* Reachability and random flips ----------------------------------------------------------------*/

/* Take every link to `slot` out of the level-0 rows. */
static void cut_off(uint32_t slot)
{
    for (uint32_t s = 1; s < planted_nslots(&planted); s++) {
        uint32_t *row = planted_row(&planted, s), kept = 0;
        for (uint32_t i = 0; i < planted.layout.M0; i++)
            if (row[i] != slot)
                row[kept++] = row[i];
        memset(row + kept, 0, (planted.layout.M0 - kept) * sizeof(*row));
    }
}

static void test_unreachable(void **state)
{
    (void)state;
    uint64_t live = planted_root(&planted)->n_live;
    uint32_t slot = 1;
    do { /* whose going takes no other with it */
        slot++;
        while (STATE_STATUS(*planted_state(&planted, slot)) != SLOT_LIVE ||
               TAG_LEVEL(planted_tag(&planted, slot)->up) > 0)
            slot++;
        memcpy(planted.data, planted.data_sound, planted.data_bytes);
        cut_off(slot);
        planted_write(&planted, planted.data_bytes);
        run(false);
        assert_int_equal(report.result.damaged, 0);
        assert_int_equal(report.result.warnings, 1);
        assert_string_equal(report.finding[0].section, "graph");
        assert_true(report.result.reachable < live);
    } while (report.result.reachable != live - 1);
    assert_int_equal(report.finding[0].slot, slot);
}

/* One bit anywhere under a checksum: header, ROOT, or a published payload. */
static void test_random_bits(void **state)
{
    (void)state;
    uint64_t random = planted_seed();
    const struct layout *l = &planted.layout;
    for (int round = 0; round < 150; round++) {
        uint32_t kind = (uint32_t)(planted_random(&random) % 4), slot = 0;
        uint64_t at = 0, expected = 0;
        const char *section = "header";
        if (kind == 0) {
            at = planted_random(&random) % 4096;
        } else if (kind == 1) {
            section = "root";
            at = LAYOUT_ROOT_OFFSET + planted_random(&random) % 128;
            expected = ROOT_AT(sum);
        } else {
            do
                slot = 1 + (uint32_t)(planted_random(&random) % (planted_nslots(&planted) - 1));
            while (STATE_STATUS(*planted_state(&planted, slot)) == SLOT_FREE);
            section = "payload";
            expected = layout_tag_off(l, slot);
            at = kind == 2 ? expected + planted_random(&random) % 20 /* not gen, not reserved */
                           : layout_vec_off(l, slot) + planted_random(&random) % l->vec_stride;
        }
        uint8_t bit = (uint8_t)(1u << planted_random(&random) % 8);
        planted.data[at] ^= bit;
        planted_write(&planted, planted.data_bytes);
        run(false);
        if (!planted_has(&report, section, slot, expected)) {
            planted_print(&report);
            fail_msg("round %d: byte %llu, mask %02x: no damage in %s, slot %u, offset %llu", round,
                     (unsigned long long)at, bit, section, slot, (unsigned long long)expected);
        }
        planted.data[at] ^= bit;
    }
}

static void test_no_index(void **state)
{
    (void)state;
    planted_verify("/nonexistent/index", false, &report);
    assert_int_equal(report.status, NAVMAP_ENOINDEX);
    planted_verify(planted.data_path, false, &report); /* with a hint at its directory */
    assert_int_equal(report.status, NAVMAP_EINVAL);
    planted_verify(planted.dir, false, &report);
    assert_int_equal(report.status, NAVMAP_ENOINDEX);
    struct navmap_verify_result result;
    assert_int_equal(navmap_verify(NULL, false, NULL, NULL, &result), NAVMAP_EINVAL);
    assert_int_equal(navmap_verify(planted.path, false, NULL, NULL, &result), NAVMAP_OK);
    assert_int_equal(result.damaged, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_sound, restore_index),
        cmocka_unit_test_setup(test_header, restore_index),
        cmocka_unit_test_setup(test_newer_version, restore_index),
        cmocka_unit_test_setup(test_root, restore_index),
        cmocka_unit_test_setup(test_entry, restore_index),
        cmocka_unit_test_setup(test_counters, restore_index),
        cmocka_unit_test_setup(test_live_and_padding, restore_index),
        cmocka_unit_test_setup(test_state, restore_index),
        cmocka_unit_test_setup(test_tag, restore_index),
        cmocka_unit_test_setup(test_vector, restore_index),
        cmocka_unit_test_setup(test_row, restore_index),
        cmocka_unit_test_setup(test_upper, restore_index),
        cmocka_unit_test_setup(test_file_size, restore_index),
        cmocka_unit_test_setup(test_unreachable, restore_index),
        cmocka_unit_test_setup(test_random_bits, restore_index),
        cmocka_unit_test_setup(test_no_index, restore_index),
    };
    return cmocka_run_group_tests(tests, make_index, free_index);
}
