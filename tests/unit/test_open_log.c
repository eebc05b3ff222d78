/* test_open_log.c -- what a replay believes of the log that a crash left, when it is cut (O5..O8).
 */
#include "tests/unit/open_tools.h"

#include <errno.h>
#include <lmdb.h>

#include "storage/record.h"

/* The log (O6) --------------------------------------------------------------------------------- */

static void edit_log(void (*edit)(MDB_txn *txn, MDB_dbi log, uint64_t last), uint64_t last)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi log;
    char name[160];
    data_file(name, "wal.mdb");
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_open(env, name, MDB_NOSUBDIR, 0644), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_dbi_open(txn, "wal", 0, &log), 0);
    edit(txn, log, last);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
}

static void frame_key(uint8_t key[12], uint64_t lsn, uint32_t seq)
{
    for (int i = 0; i < 8; i++)
        key[i] = (uint8_t)(lsn >> (56 - 8 * i));
    for (int i = 0; i < 4; i++)
        key[8 + i] = (uint8_t)(seq >> (24 - 8 * i));
}

static void drop_frame(MDB_txn *txn, MDB_dbi log, uint64_t last)
{
    uint8_t name[12];
    MDB_val key = {sizeof name, name};
    frame_key(name, last - 1, 1); /* the last record is a mark, of one frame */
    assert_int_equal(mdb_del(txn, log, &key, NULL), 0);
}

static void test_missing_frame(void **state)
{
    (void)state;
    create_closed();
    crash(60, 1);
    edit_log(drop_frame, 3);
    refused(STORE_WRITE, NAVMAP_ECORRUPT, "out of order");
}

/* A record in another one's place: its sum holds, for its own lsn. */
static void repeat_record(MDB_txn *txn, MDB_dbi log, uint64_t last)
{
    uint8_t from[12], to[12], bytes[4096];
    MDB_val key = {sizeof from, from}, value;
    frame_key(from, last - 1, 0);
    frame_key(to, last, 0);
    assert_int_equal(mdb_get(txn, log, &key, &value), 0);
    assert_true(value.mv_size <= sizeof bytes);
    memcpy(bytes, value.mv_data, value.mv_size);
    value.mv_data = bytes;
    key.mv_data = to;
    assert_int_equal(mdb_put(txn, log, &key, &value, 0), 0);
}

static void test_repeated_record(void **state)
{
    (void)state;
    create_closed();
    crash(1, 1);
    edit_log(repeat_record, 3);
    refused(STORE_WRITE, NAVMAP_ECORRUPT, "lsn: expected");
}

/* All is checked before anything is stored. */
static void test_nothing_is_stored_of_a_bad_log(void **state)
{
    (void)state;
    create_closed();
    crash(60, 1000000); /* direct payloads */
    struct layout l;
    struct disk_header h;
    int read_only;
    char name[160];
    struct stat st;
    bytes_of(DATA, 0, &h, sizeof h, false);
    data_file(name, DATA);
    assert_int_equal(stat(name, &st), 0);
    assert_int_equal(layout_read_header(&h, (uint64_t)st.st_size, DATA, &l, &read_only), NAVMAP_OK);
    float wrong = 77;
    uint32_t lost = 0;
    bytes_of(DATA, layout_vec_off(&l, 30), &wrong, sizeof wrong, true);
    bytes_of(DATA, layout_state_off(&l, 20), &lost, sizeof lost, true); /* a replay would mend it */
    refused(STORE_WRITE, NAVMAP_ECORRUPT, "slot 30");
    bytes_of(DATA, layout_state_off(&l, 20), &lost, sizeof lost, false);
    assert_int_equal(lost, 0);
}

/* A record that is whole, and says what no writer would have: one cell, or two. */
static void put_record(const struct disk_root *root, uint32_t payload_slot, uint64_t lsn)
{
    struct cells cells = {0};
    struct disk_header h;
    struct layout l;
    struct wal *w;
    struct wal_txn t;
    struct wal_state log;
    uint8_t *bytes, payload[512] = {0};
    size_t nbytes;
    int read_only;
    bytes_of(DATA, 0, &h, sizeof h, false);
    assert_int_equal(layout_read_header(&h, 1 << 20, DATA, &l, &read_only), NAVMAP_OK);
    assert_true(layout_payload_bytes(&l) <= sizeof payload);
    struct disk_root summed = *root;
    if (summed.sum == 0)
        summed.sum = layout_root_sum(&summed, l.uuid_low);
    assert_int_equal(cells_add(&cells, CELL_ROOT, 0, &summed), NAVMAP_OK);
    if (payload_slot != 0)
        assert_int_equal(cells_add(&cells, CELL_PAYLOAD, payload_slot, payload), NAVMAP_OK);
    assert_int_equal(cells_sort(&cells), NAVMAP_OK);
    assert_int_equal(record_write(&l, &cells, lsn, &bytes, &nbytes), NAVMAP_OK);
    assert_int_equal(wal_acquire(path, true, &w), NAVMAP_OK);
    assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
    assert_int_equal(wal_put_record(&t, lsn, bytes, nbytes), NAVMAP_OK);
    assert_int_equal(wal_get_state(&t, &log), NAVMAP_OK);
    log.last_lsn = lsn;
    assert_int_equal(wal_put_state(&t, &log), NAVMAP_OK);
    assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
    wal_release(w);
    cells_free(&cells);
    free(bytes);
}

static void test_records_that_lie(void **state)
{
    struct disk_root sound, root;
    const struct {
        uint64_t lsn, extent, entry, sum;
        uint32_t payload;
        const char *why;
    } cases[] = {
        {2, EXTENT(1, 2), 1, 77, 0, "no sound root"},
        {3, EXTENT(1, 2), 1, 0, 0, "no sound root"}, /* of another lsn than its record's */
        {2, EXTENT(0, 2), 1, 0, 0, "0 chunks"},
        {2, EXTENT(1u << 28, 2), 1, 0, 0, "chunks, at most"},
        {2, EXTENT(1, 17), 1, 0, 0, "17 slots in use, room for 16"},
        {2, EXTENT(1, 0), 0, 0, 0, "0 slots in use"},
        {2, EXTENT(1, 2), 16, 0, 0, "entry point slot 16"},
        {2, EXTENT(1, 2), ENTRY(32, 1), 0, 0, "level 32"},
        {2, EXTENT(1, 2), 1, 0, 1, "without its state or row"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        create_closed();
        bytes_of(DATA, LAYOUT_ROOT_OFFSET, &sound, sizeof sound, false);
        root = sound;
        root.lsn = cases[i].lsn;
        root.extent = cases[i].extent;
        root.entry = cases[i].entry;
        root.sum = cases[i].sum;
        put_record(&root, cases[i].payload, 2);
        refused(STORE_WRITE, NAVMAP_ECORRUPT, cases[i].why);
        assert_int_equal(teardown(state), 0);
        assert_int_equal(setup(state), 0);
    }
    create_closed(); /* and one that does not */
    root = sound;
    root.lsn = 2;
    root.sum = 0;
    bytes_of(DATA, LAYOUT_ROOT_OFFSET, &sound, sizeof sound, false);
    root.extent = sound.extent;
    put_record(&root, 0, 2);
    struct store *s = open_as(STORE_WRITE, &full);
    check_vector(s, 1000, 0);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* Failing syncs of an open: it says so, keeps the log, and the next one begins anew. */
static uint32_t sync_to_fail, syncs;

static int fail_sync(void *ctx, const struct io_event *e)
{
    (void)ctx;
    if (e->kind != IO_FDATASYNC && e->kind != IO_FSYNC)
        return 0;
    return ++syncs == sync_to_fail ? EIO : 0;
}

static void test_failed_syncs(void **state)
{
    (void)state;
    static const struct io_hooks hooks = {.before = fail_sync};
    struct wal_id id;
    struct wal_state log;
    create_closed();
    crash(20, 1);
    io_hooks = &hooks;
    for (sync_to_fail = 1;; sync_to_fail++) {
        struct store *s = NULL;
        syncs = 0;
        navmap_status status = store_open(path, STORE_WRITE, &full, &s);
        if (syncs < sync_to_fail) {
            assert_int_equal(status, NAVMAP_OK);
            assert_int_equal(store_close(s), NAVMAP_OK);
            break;
        }
        assert_int_equal(status, NAVMAP_EIO);
        assert_int_equal(wal_peek(path, &id, &log), NAVMAP_OK);
        assert_true(log.ckpt_lsn < log.last_lsn);
    }
    assert_true(sync_to_fail > 1);
    io_hooks = NULL;
    struct store *s = open_as(STORE_READ, &full);
    for (uint64_t label = 1; label < 20; label++)
        check_vector(s, label, 1);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* P0: whatever LIVE holds after a crash, the counters rise above both. */
static void counters_rise(bool with_log)
{
    uint64_t end = 1000, begin = 0;
    create_closed();
    if (with_log)
        crash(5, 1);
    bytes_of(DATA, LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, apply_end), &end, 8, true);
    struct store *s = open_as(STORE_WRITE, &full);
    bytes_of(DATA, LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, apply_begin), &begin, 8, false);
    bytes_of(DATA, LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, apply_end), &end, 8, false);
    assert_true(begin > 1000);
    assert_int_equal(end, begin);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

static void test_counters(void **state)
{
    counters_rise(true);
    assert_int_equal(teardown(state), 0);
    assert_int_equal(setup(state), 0);
    counters_rise(false);
}

/* O5: a ROOT that was not written back, in a file that was not made longer: the log has both. */
static void test_short_file(void **state)
{
    (void)state;
    struct disk_root root;
    char name[160];
    struct stat st;
    create_closed();
    bytes_of(DATA, LAYOUT_ROOT_OFFSET, &root, sizeof root, false);
    data_file(name, DATA);
    assert_int_equal(stat(name, &st), 0);
    crash(200, 1);
    bytes_of(DATA, LAYOUT_ROOT_OFFSET, &root, sizeof root, true);
    assert_int_equal(truncate(name, st.st_size), 0);
    struct store *s = open_as(STORE_WRITE, &full);
    for (uint64_t label = 1; label < 200; label++)
        check_vector(s, label, 1);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* O8: what recovery stored is a checkpoint as soon as the index is open. */
static void test_recovery_cuts_the_log(void **state)
{
    (void)state;
    struct wal_id id;
    struct wal_state log;
    create_closed();
    crash(5, 1);
    struct store *s = open_as(STORE_WRITE, &full);
    assert_int_equal(wal_peek(path, &id, &log), NAVMAP_OK);
    assert_int_equal(log.ckpt_lsn, log.last_lsn);
    assert_int_equal(log.wal_bytes, 0);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_missing_frame),
        CASE(test_repeated_record),
        CASE(test_nothing_is_stored_of_a_bad_log),
        CASE(test_records_that_lie),
        CASE(test_failed_syncs),
        CASE(test_counters),
        CASE(test_short_file),
        CASE(test_recovery_cuts_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
