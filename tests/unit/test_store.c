/* test_store.c -- the storage contract as the engine uses it, without any graph. */
#include "tests/unit/store_tools.h"

#include "storage/handle.h"

/* An empty index is small, refuses to be made twice, and opens as both. */
static void test_create(void **state)
{
    (void)state;
    const struct layout_params p = {.dim = DIM, .M = 4, .ef_construction = 8};
    struct store *s = create(0, &full), *again = NULL;
    struct store_stats st;
    assert_int_equal(store_create(path, &p, 0, &full, &again), NAVMAP_EEXIST);
    assert_int_equal(store_open(path, STORE_WRITE, &full, &again), NAVMAP_ELOCKED);
    assert_non_null(strstr(navmap_error_detail(), "this process"));
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    assert_true(st.data_allocated_bytes + st.lmdb_allocated_bytes < 1u << 20);
    assert_int_equal(st.n_live, 0);
    assert_true(st.writer_held);
    assert_int_equal(st.writer_pid, getpid());
    struct store *reader = open_as(STORE_READ, &full);
    assert_int_equal(store_write_begin(reader, 1), NAVMAP_EREADONLY);
    assert_int_equal(store_close(reader), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

static void test_not_an_index(void **state)
{
    (void)state;
    struct store *s = NULL;
    char other[112];
    (void)snprintf(other, sizeof other, "%s/nothing", dir);
    assert_int_equal(store_open(other, STORE_READ, &full, &s), NAVMAP_ENOINDEX);
    assert_int_equal(store_open("/dev/null", STORE_WRITE, &full, &s), NAVMAP_ENOINDEX);
    assert_int_equal(mkdir(other, 0755), 0);
    assert_int_equal(store_open(other, STORE_READ, &full, &s), NAVMAP_ENOINDEX);
    assert_int_equal(store_open(other, STORE_WRITE, &full, &s), NAVMAP_ENOINDEX);
}

/* Adds, updates, marks: seen at once by a reader that was open before, and after reopening. */
static void test_life(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    struct store *reader = open_as(STORE_READ, &full);
    for (uint64_t label = 0; label < 100; label++) {
        assert_int_equal(add(s, label, 0, label % 2 ? 1 : 1000000),
                         NAVMAP_OK); /* logged and direct */
        check_vector(reader, label, 0);
    }
    assert_int_equal(add(s, 7, 1, 1), NAVMAP_OK);
    check_vector(reader, 7, 1);
    assert_int_equal(mark(s, 9, true), NAVMAP_OK);
    check_absent(reader, 9);
    assert_int_equal(mark(s, 9, true), NAVMAP_EDELETED);
    assert_int_equal(mark(s, 10, false), NAVMAP_ENOTDELETED);
    assert_int_equal(mark(s, 12345, true), NAVMAP_ENOTFOUND);
    assert_int_equal(mark(s, 9, false), NAVMAP_OK);
    check_vector(reader, 9, 0);
    assert_int_equal(mark(s, 11, true), NAVMAP_OK);
    assert_int_equal(add(s, 11, 2, 1), NAVMAP_OK); /* undeleted and updated */
    check_vector(reader, 11, 2);
    assert_int_equal(mark(s, 12, true), NAVMAP_OK);
    uint64_t labels[100], n = 0;
    assert_int_equal(store_labels(reader, false, 100, labels, &n), NAVMAP_OK);
    assert_int_equal(n, 99);
    assert_int_equal(store_labels(reader, true, 100, labels, &n), NAVMAP_OK);
    assert_int_equal(n, 100);
    struct store_stats st;
    assert_int_equal(store_stats_read(reader, &st), NAVMAP_OK);
    assert_int_equal(st.n_live, 99);
    assert_int_equal(st.n_deleted, 1);
    assert_int_equal(st.n_dead, 2);
    uint64_t hash = store_state_hash(s, false);
    assert_true(hash == store_state_hash(reader, false));
    assert_int_equal(store_close(s), NAVMAP_OK);
    s = open_as(STORE_WRITE, &full);
    assert_true(hash == store_state_hash(s, false));
    check_vector(s, 7, 1);
    check_absent(s, 12);
    assert_int_equal(store_close(reader), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* Mode manual: nothing is visible before flush, all of it after, and close flushes. */
static void test_manual(void **state)
{
    (void)state;
    struct store *s = create(0, &manual);
    struct store *reader = open_as(STORE_READ, &full);
    struct store_stats st;
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    check_absent(reader, 1);
    check_absent(s, 1);
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    assert_int_equal(st.pending, 1);
    assert_int_equal(add(s, 1, 1, 1), NAVMAP_OK); /* born and dead within one stage */
    assert_int_equal(store_flush(s), NAVMAP_OK);
    check_vector(reader, 1, 1);
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    assert_int_equal(st.pending, 0);
    assert_int_equal(st.n_dead, 1);
    assert_int_equal(st.last_lsn, st.ckpt_lsn);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
    check_vector(reader, 2, 0);
    assert_int_equal(store_close(reader), NAVMAP_OK);
}

static void test_capacity(void **state)
{
    (void)state;
    struct store *s = create(3, &full);
    for (uint64_t label = 0; label < 3; label++)
        assert_int_equal(add(s, label, 0, 1), NAVMAP_OK);
    uint64_t hash = store_state_hash(s, false);
    assert_int_equal(add(s, 3, 0, 1), NAVMAP_EFULL);
    assert_true(hash == store_state_hash(s, false));
    assert_int_equal(mark(s, 0, true), NAVMAP_OK);
    assert_int_equal(add(s, 3, 0, 1), NAVMAP_EFULL); /* deleted labels count */
    assert_int_equal(add(s, 1, 1, 1), NAVMAP_OK);    /* updating a full index works */
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* An item given up leaves no trace, wherever it was taken from. */
static void test_abandon(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    float v[DIM] = {0};
    for (int payload = 0; payload < 2; payload++)
        for (uint64_t batch = 1; batch <= 1000000; batch *= 1000000) {
            struct store_item item;
            assert_int_equal(store_write_begin(s, batch), NAVMAP_OK);
            assert_int_equal(store_item_begin(s, 2, 2, &item), NAVMAP_OK);
            if (payload)
                store_item_payload(s, &item, NULL, v);
            store_item_abandon(s, &item);
            assert_true(stage_empty(store_edit(s)));
            store_write_end(s);
        }
    check_absent(s, 2);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_OK);
    check_vector(s, 2, 0);
    struct store_stats st;
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    assert_int_equal(st.nslots, 3);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* I3, I5: a dead slot comes back with a new generation, in a later commit, with its own level. */
static void test_sweep(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    uint64_t dead = 0;
    for (uint64_t label = 0; label < 40; label++)
        assert_int_equal(add(s, label, 0, 1), NAVMAP_OK);
    for (uint64_t label = 1; label < 40; label++)
        assert_int_equal(add(s, label, 1, 1), NAVMAP_OK);
    struct store_stats st;
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    uint64_t slots = st.nslots;
    assert_int_equal(st.n_dead, 39);
    assert_int_equal(store_write_begin(s, 1), NAVMAP_OK);
    assert_int_equal(store_sweep_begin(s, false, &dead), NAVMAP_OK);
    assert_int_equal(dead, 39);
    assert_true(store_sweep_running(s));
    assert_false(store_sweep_member(s, 1)); /* label 0, the entry, lives */
    assert_true(store_sweep_member(s, 2));
    assert_int_equal(store_sweep_end(s), NAVMAP_OK);
    assert_int_equal(stage_item(s, 500, 0, 0), NAVMAP_OK); /* not into a slot freed just now */
    store_write_end(s);
    assert_int_equal(store_settle(s), NAVMAP_OK);
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    assert_int_equal(st.nslots, slots + 1);
    assert_int_equal(st.n_free, 39);
    for (int reopen = 0; reopen < 2; reopen++) {
        for (uint64_t label = 600; label < 610; label++)
            assert_int_equal(add(s, label + 20u * (unsigned)reopen, 0, 1), NAVMAP_OK);
        assert_int_equal(store_close(s), NAVMAP_OK);
        s = open_as(STORE_WRITE, &full); /* the free list is derived again */
    }
    assert_int_equal(store_stats_read(s, &st), NAVMAP_OK);
    assert_int_equal(st.nslots, slots + 1);
    assert_int_equal(st.n_free, 19);
    for (uint64_t label = 1; label < 40; label++)
        check_vector(s, label, 1);
    for (uint64_t label = 600; label < 610; label++)
        check_vector(s, label, 0);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* Growth is followed by a reader that was open before, a hundredfold. */
static void test_growth(void **state)
{
    (void)state;
    struct store *s = create(0, &manual);
    struct store *reader = open_as(STORE_READ, &full);
    struct store_stats st;
    for (uint64_t label = 0; label < 4000; label++)
        assert_int_equal(add(s, label, 0, label % 3 ? 1 : 4000), NAVMAP_OK);
    assert_int_equal(store_flush(s), NAVMAP_OK);
    for (uint64_t label = 0; label < 4000; label += 37)
        check_vector(reader, label, 0);
    assert_int_equal(store_stats_read(reader, &st), NAVMAP_OK);
    assert_true(st.nchunks > 200);
    assert_int_equal(store_close(reader), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* A child that dies without closing: the next opener finishes its work, reader or writer. */
static void test_recovery(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    assert_int_equal(store_close(s), NAVMAP_OK);
    for (int round = 0; round < 2; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct store *w = NULL;
            if (store_open(path, STORE_WRITE, &full, &w) != NAVMAP_OK)
                _exit(1);
            for (uint64_t label = 0; label < 50; label++)
                if (add(w, label, 1 + (uint32_t)round, label % 2 ? 1 : 1000000) != NAVMAP_OK)
                    _exit(2);
            _exit(0); /* the log is not empty */
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        struct store *after = open_as(round ? STORE_WRITE : STORE_READ, &full);
        for (uint64_t label = 0; label < 50; label++)
            check_vector(after, label, 1 + (uint32_t)round);
        assert_int_equal(store_close(after), NAVMAP_OK);
    }
}

/* The LOCK file removed by a cleaner: the writer stops, reads go on. */
static void test_lock_removed(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    char lock[112];
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    (void)snprintf(lock, sizeof lock, "%s/LOCK", path);
    assert_int_equal(unlink(lock), 0);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_EPOISONED);
    assert_int_equal(add(s, 3, 0, 1), NAVMAP_EPOISONED);
    check_vector(s, 1, 0);
    assert_int_equal(store_close(s), NAVMAP_EPOISONED); /* label 2 was staged and is lost */
}

/* A writer handle is dead in a forked child; a reader handle goes on. */
static void test_fork(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    struct store *reader = open_as(STORE_READ, &full);
    check_vector(reader, 1, 0);
    pid_t child = fork();
    if (child == 0) {
        float found[DIM], expected[DIM];
        vector_of(1, 0, expected);
        int bad = store_write_begin(s, 1) != NAVMAP_EFORKED;
        bad |= store_flush(s) != NAVMAP_EFORKED;
        bad |=
            store_get(reader, 1, found) != NAVMAP_OK || memcmp(found, expected, sizeof found) != 0;
        bad |= store_close(reader) != NAVMAP_OK || store_close(s) != NAVMAP_OK;
        _exit(bad);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_OK); /* the child took nothing away */
    check_vector(reader, 2, 0);
    struct store *second = NULL;
    assert_int_equal(store_open(path, STORE_WRITE, &full, &second), NAVMAP_ELOCKED);
    assert_int_equal(store_close(reader), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* A data file put back from an old backup under a newer log. */
static void test_older_data(void **state)
{
    (void)state;
    char command[400];
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1, 0, 1), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
    (void)snprintf(command, sizeof command, "cp %s/data-00000001.navmap %s/old", path, dir);
    assert_int_equal(system(command), 0);
    s = open_as(STORE_WRITE, &full);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
    (void)snprintf(command, sizeof command, "cp %s/old %s/data-00000001.navmap", dir, path);
    assert_int_equal(system(command), 0);
    struct store *w = NULL;
    assert_int_equal(store_open(path, STORE_WRITE, &full, &w), NAVMAP_ECORRUPT);
    assert_non_null(strstr(navmap_error_detail(), "older than its log"));
}

/* A small file is as long as its chunks; one beyond 4 MiB has whole huge pages. */
static void test_file_room(void **state)
{
    (void)state;
    const struct layout_params p = {.dim = DIM, .M = 4, .ef_construction = 8, .slot_shift = 4};
    const uint64_t mib = UINT64_C(1) << 20;
    struct layout l;
    assert_int_equal(layout_compute(&p, &l), NAVMAP_OK);
    assert_int_equal(l.chunk_bytes, 65536);
    assert_int_equal(view_file_room(&l, 1), 131072);
    assert_int_equal(view_file_room(&l, 62), 4 * mib - 65536);
    assert_int_equal(view_file_room(&l, 63), 4 * mib);
    assert_int_equal(view_file_room(&l, 64), 6 * mib);
    assert_int_equal(view_file_room(&l, 95), 6 * mib);
    assert_int_equal(view_file_room(&l, 96), 8 * mib);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_create),    TEST(test_not_an_index), TEST(test_life),  TEST(test_manual),
        TEST(test_capacity),  TEST(test_abandon),      TEST(test_sweep), TEST(test_growth),
        TEST(test_recovery),  TEST(test_lock_removed), TEST(test_fork),  TEST(test_older_data),
        TEST(test_file_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
