/* test_wal.c -- the LMDB room: identity, state, frames, labels, sharing within a process. */
#include "storage/wal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fail.h" /* before cmocka.h, which makes fail() a macro */
#include "storage/labels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char dir[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/navmap-wal-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    struct wal_id id = {.uuid = {1, 2, 3}, .instance = 9, .format_major = 1};
    const struct wal_state first = {.generation = 1};
    return wal_create(dir, &id, &first) == NAVMAP_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static struct wal *acquire(void)
{
    struct wal *w = NULL;
    assert_int_equal(wal_acquire(dir, true, &w), NAVMAP_OK);
    return w;
}

static void test_identity(void **state)
{
    (void)state;
    struct wal_id id;
    struct wal_state st;
    struct stat file;
    assert_int_equal(wal_peek(dir, &id, &st), NAVMAP_OK);
    assert_int_equal(id.uuid[2], 3);
    assert_int_equal(id.instance, 9);
    assert_int_equal(st.generation, 1);
    assert_int_equal(st.last_lsn, 0);
    struct wal *w = acquire(), *again = acquire();
    assert_ptr_equal(w, again); /* A1: one environment a process */
    assert_int_equal(id.frame_bytes, wal_frame_bytes(w));
    assert_true(wal_allocated(w) >= WAL_CREATE_BYTES);
    wal_release(again);
    wal_release(w);
    char path[96];
    (void)snprintf(path, sizeof path, "%s/" WAL_FILE, dir);
    assert_int_equal(stat(path, &file), 0);
    assert_true(file.st_size <= WAL_CREATE_BYTES);
}

static void put(struct wal *w, uint64_t lsn, const uint8_t *bytes, size_t n)
{
    struct wal_txn t;
    struct wal_state st;
    wal_lock(w);
    assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
    assert_int_equal(wal_get_state(&t, &st), NAVMAP_OK);
    assert_int_equal(wal_put_record(&t, lsn, bytes, n), NAVMAP_OK);
    st.last_lsn = lsn;
    assert_int_equal(wal_put_state(&t, &st), NAVMAP_OK);
    assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
    wal_unlock(w);
}

/* Records of every length around a frame come back whole, and only they. */
static void test_frames(void **state)
{
    (void)state;
    struct wal *w = acquire();
    size_t frame = wal_frame_bytes(w);
    const size_t sizes[] = {1, frame - 1, frame, frame + 1, 3 * frame, 5 * frame + 7};
    const uint64_t count = sizeof sizes / sizeof *sizes;
    uint8_t *bytes = malloc(6 * frame);
    assert_non_null(bytes);
    for (size_t i = 0; i < 6 * frame; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    for (uint64_t lsn = 1; lsn <= count; lsn++)
        put(w, lsn, bytes + lsn, sizes[lsn - 1]);
    struct wal_txn t;
    assert_int_equal(wal_txn_read(w, &t), NAVMAP_OK);
    for (uint64_t lsn = count; lsn > 0; lsn--) {
        uint8_t *found = NULL;
        size_t n = 0;
        assert_int_equal(wal_get_record(&t, lsn, 1 << 20, &found, &n), NAVMAP_OK);
        assert_int_equal(n, sizes[lsn - 1]);
        assert_memory_equal(found, bytes + lsn, n);
        free(found);
        assert_int_equal(wal_get_record(&t, lsn, n - 1, &found, &n), NAVMAP_ECORRUPT);
    }
    uint8_t *none = NULL;
    size_t n = 0;
    assert_int_equal(wal_get_record(&t, count + 1, 1 << 20, &none, &n), NAVMAP_ECORRUPT);
    wal_txn_abort(&t);
    free(bytes);
    wal_release(w);
}

/* Cutting in slices takes the oldest frames first and never one above the lsn. */
static void test_cut(void **state)
{
    (void)state;
    struct wal *w = acquire();
    struct wal_txn t;
    bool more = true;
    int slices = 0;
    while (more) {
        wal_lock(w);
        assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
        assert_int_equal(wal_delete_upto(&t, 4, 2, &more), NAVMAP_OK);
        assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
        wal_unlock(w);
        slices++;
    }
    assert_int_equal(slices, 3); /* lsn 1..4 are 1 + 1 + 1 + 2 frames */
    assert_int_equal(wal_txn_read(w, &t), NAVMAP_OK);
    uint8_t *found = NULL;
    size_t n = 0;
    assert_int_equal(wal_get_record(&t, 4, 1 << 20, &found, &n), NAVMAP_ECORRUPT);
    assert_int_equal(wal_get_record(&t, 5, 1 << 20, &found, &n), NAVMAP_OK);
    free(found);
    wal_txn_abort(&t);
    wal_release(w);
}

static void test_labels(void **state)
{
    (void)state;
    struct wal *w = acquire();
    struct wal_txn t;
    struct label_entry entry;
    bool any = true;
    uint64_t last = 0;
    assert_int_equal(wal_txn_read(w, &t), NAVMAP_OK);
    assert_int_equal(labels_last(&t, 1, &any, &last), NAVMAP_OK);
    assert_false(any);
    wal_txn_abort(&t);
    const struct stage_label add[] = {
        {5, 0, 0, 11, 0}, {9, 0, 0, 12, 3}, {UINT64_MAX, 0, 0, 13, 1}};
    const struct stage_label change[] = {{5, 11, 0, 14, 2}, {9, 12, 3, 0, 0}};
    const struct stage_label wrong[] = {{5, 11, 0, 15, 2}};
    wal_lock(w);
    assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
    assert_int_equal(labels_change(&t, 1, 42, add, 3), NAVMAP_OK);
    assert_int_equal(labels_change(&t, 1, 42, change, 2), NAVMAP_OK);
    assert_int_equal(labels_change(&t, 1, 42, wrong, 1), NAVMAP_EPOISONED); /* A3 */
    assert_int_equal(labels_get(&t, 1, 42, 5, &entry), NAVMAP_OK);
    assert_int_equal(entry.slot, 14);
    assert_int_equal(entry.gen, 2);
    assert_int_equal(labels_get(&t, 1, 42, 9, &entry), NAVMAP_OK);
    assert_int_equal(entry.slot, 0);
    assert_int_equal(labels_get(&t, 1, 43, 5, &entry), NAVMAP_ECORRUPT); /* another index' */
    assert_int_equal(labels_last(&t, 1, &any, &last), NAVMAP_OK);
    assert_true(any && last == UINT64_MAX);
    assert_int_equal(labels_get(&t, 2, 42, 5, &entry),
                     NAVMAP_OK); /* the other generation's table */
    assert_int_equal(entry.slot, 0);
    wal_txn_abort(&t);
    wal_unlock(w);
    wal_release(w);
}

/* A full map is enlarged between transactions, also with pooled readers about. */
static void test_enlarge(void **state)
{
    (void)state;
    struct wal *w = acquire();
    struct wal_txn t;
    assert_int_equal(wal_txn_read(w, &t), NAVMAP_OK);
    wal_txn_abort(&t);
    assert_int_equal(wal_enlarge(w), NAVMAP_OK);
    struct wal_state st;
    assert_int_equal(wal_txn_read(w, &t), NAVMAP_OK);
    assert_int_equal(wal_get_state(&t, &st), NAVMAP_OK);
    wal_txn_abort(&t);
    wal_release(w);
}

static void test_missing(void **state)
{
    (void)state;
    struct wal *w = NULL;
    struct wal_id id;
    struct wal_state st;
    assert_int_equal(wal_acquire("/tmp/navmap-there-is-no-such", true, &w), NAVMAP_ECORRUPT);
    assert_int_not_equal(wal_peek("/tmp/navmap-there-is-no-such", &id, &st), NAVMAP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity), cmocka_unit_test(test_frames),
        cmocka_unit_test(test_cut),      cmocka_unit_test(test_labels),
        cmocka_unit_test(test_enlarge),  cmocka_unit_test(test_missing),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
