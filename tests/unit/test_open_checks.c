/* test_open_checks.c -- what an open checks before it believes, and whom it waits for (O1..O8, and
 * the reader's way in).
 */
#include "tests/unit/store_tools.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "storage/checksum.h"
#include "storage/io.h"
#include "storage/lock.h"
#include "storage/wal.h"

#define DATA "data-00000001.navmap"

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
}

static int unhook(void **state)
{
    io_hooks = NULL;
    return teardown(state);
}

static void copy_file(const char *from, const char *to)
{
    char text[400];
    (void)snprintf(text, sizeof text, "cp %s/%s %s/%s", path, from, path, to);
    assert_int_equal(system(text), 0);
}

static void refused(enum store_mode mode, navmap_status expected, const char *why)
{
    struct store *s = NULL;
    navmap_status status = store_open(path, mode, &full, &s);
    if (status != expected || !strstr(navmap_error_detail(), why))
        print_message("%s: %s\n", navmap_strerror(status), navmap_error_detail());
    assert_int_equal(status, expected);
    assert_non_null(strstr(navmap_error_detail(), why));
}

/* An index with a log: a child dies without closing. */
static void crash(uint64_t labels, uint64_t batch)
{
    pid_t child = fork();
    if (child == 0) {
        struct store *w = NULL;
        if (store_open(path, STORE_WRITE, &full, &w) != NAVMAP_OK)
            _exit(1);
        if (store_write_begin(w, batch) != NAVMAP_OK)
            _exit(2);
        for (uint64_t label = 0; label < labels; label++)
            if (stage_item(w, label, 1, 0) != NAVMAP_OK)
                _exit(3);
        store_write_end(w);
        if (store_settle(w) != NAVMAP_OK || mark(w, 0, true) != NAVMAP_OK)
            _exit(4);
        _exit(0);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
}

static void create_closed(void)
{
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1000, 0, 1), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

static void data_file(char name[160], const char *file)
{
    (void)snprintf(name, 160, "%s/%s", path, file);
}

static void remove_file(const char *file)
{
    char name[160];
    data_file(name, file);
    assert_int_equal(unlink(name), 0);
}

/* Read or write `n` bytes of a file of the index. */
static void bytes_of(const char *file, uint64_t off, void *bytes, size_t n, bool write)
{
    char name[160];
    data_file(name, file);
    int fd = open(name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(write ? pwrite(fd, bytes, n, (off_t)off) : pread(fd, bytes, n, (off_t)off), n);
    assert_int_equal(close(fd), 0);
}

/* Locks ---------------------------------------------------------------------------------------- */

static struct {
    struct lock lock;
    uint32_t steps, r_free, w_free;
    bool creating;
} watched;

/* At each step of an open: can somebody else be opening, or writing? */
static void watch_locks(void *ctx, enum kill_point point)
{
    (void)ctx;
    bool held = false, open = point >= KP_O1 && point <= KP_O8;
    if (watched.creating && point == KP_CREATE_RENAMED) {
        assert_int_equal(lock_open(path, false, &watched.lock), NAVMAP_OK);
        open = true;
    }
    if (!open || watched.lock.fd < 0)
        return;
    watched.steps++;
    if (lock_opening_shared(&watched.lock, 0) == NAVMAP_OK) {
        watched.r_free++;
        lock_opening_release(&watched.lock);
    }
    assert_int_equal(lock_writer_held(&watched.lock, &held), NAVMAP_OK);
    watched.w_free += !held;
}

static void test_locks_while_opening(void **state)
{
    (void)state;
    static const struct io_hooks hooks = {.kill_point = watch_locks};
    memset(&watched, 0, sizeof watched);
    create_closed();
    crash(5, 1);
    assert_int_equal(lock_open(path, false, &watched.lock), NAVMAP_OK);
    io_hooks = &hooks;
    struct store *s = open_as(STORE_WRITE, &full);
    assert_true(watched.steps >= 8);
    assert_int_equal(watched.r_free, 0);
    assert_int_equal(watched.w_free, 0);
    assert_int_equal(lock_opening_shared(&watched.lock, 0), NAVMAP_OK); /* and then it is free */
    lock_close(&watched.lock);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

static void test_locks_while_creating(void **state)
{
    (void)state;
    static const struct io_hooks hooks = {.kill_point = watch_locks};
    memset(&watched, 0, sizeof watched);
    watched.lock.fd = -1;
    watched.creating = true;
    io_hooks = &hooks;
    struct store *s = create(0, &full);
    assert_true(watched.steps >= 1);
    assert_int_equal(watched.r_free, 0);
    assert_int_equal(watched.w_free, 0);
    lock_close(&watched.lock);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

struct opening {
    enum store_mode mode;
    _Atomic bool done;
    navmap_status status;
    struct store *s;
    char detail[256];
};

static void *opens(void *ctx)
{
    struct opening *o = ctx;
    o->status = store_open(path, o->mode, &full, &o->s);
    (void)snprintf(o->detail, sizeof o->detail, "%s", navmap_error_detail());
    atomic_store(&o->done, true);
    return NULL;
}

/* Somebody holds R, shared or not; the open waits.  `removes` LOCK meanwhile. */
static void waits(enum store_mode mode, bool exclusive, bool removes, navmap_status expected)
{
    struct opening o = {.mode = mode};
    struct lock lock;
    pthread_t thread;
    assert_int_equal(lock_open(path, false, &lock), NAVMAP_OK);
    assert_int_equal(exclusive ? lock_opening_exclusive(&lock, 0) : lock_opening_shared(&lock, 0),
                     NAVMAP_OK);
    assert_int_equal(pthread_create(&thread, NULL, opens, &o), 0);
    sleep_ms(150);
    bool early = atomic_load(&o.done);
    if (removes)
        remove_file("LOCK");
    lock_close(&lock);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_false(early);
    if (o.status != expected)
        print_message("%s\n", o.detail);
    assert_int_equal(o.status, expected);
    if (o.status == NAVMAP_OK)
        assert_int_equal(store_close(o.s), NAVMAP_OK);
}

static void test_waiting_for_r(void **state)
{
    (void)state;
    create_closed();
    waits(STORE_WRITE, false, false, NAVMAP_OK);
    waits(STORE_WRITE, true, false, NAVMAP_OK);
    waits(STORE_READ, true, false, NAVMAP_OK);
    waits(STORE_WRITE, true, true, NAVMAP_ENOINDEX);
}

static void test_one_writer(void **state)
{
    (void)state;
    struct store *s = create(0, &full);
    refused(STORE_WRITE, NAVMAP_ELOCKED, "this process");
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* Whose files ---------------------------------------------------------------------------------- */

static int remote(void *ctx, const struct io_event *e)
{
    (void)ctx;
    return e->kind == IO_FSTATFS ? EREMOTE : 0;
}

static void test_network(void **state)
{
    (void)state;
    static const struct io_hooks hooks = {.before = remote};
    const struct layout_params p = {.dim = DIM, .M = 4, .ef_construction = 8};
    struct store *s = NULL;
    create_closed();
    io_hooks = &hooks;
    refused(STORE_WRITE, NAVMAP_EFSTYPE, "");
    refused(STORE_READ, NAVMAP_EFSTYPE, "");
    char other[128];
    (void)snprintf(other, sizeof other, "%s-other", path);
    assert_int_equal(store_create(other, &p, 0, &full, &s), NAVMAP_EFSTYPE);
}

static void test_identity(void **state)
{
    (void)state;
    char text[400];
    create_closed();
    (void)snprintf(text, sizeof text, "mv %s %s-other", path, path);
    assert_int_equal(system(text), 0);
    create_closed();
    (void)snprintf(text, sizeof text, "cp %s-other/" DATA " %s/" DATA, path, path);
    assert_int_equal(system(text), 0);
    refused(STORE_WRITE, NAVMAP_ECORRUPT, "another index");
    refused(STORE_READ, NAVMAP_ECORRUPT, "another index");
}

static void test_older_data_for_a_reader(void **state)
{
    (void)state;
    char text[400];
    create_closed();
    (void)snprintf(text, sizeof text, "cp %s/" DATA " %s/old", path, dir);
    assert_int_equal(system(text), 0);
    struct store *s = open_as(STORE_WRITE, &full);
    assert_int_equal(add(s, 2, 0, 1), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
    (void)snprintf(text, sizeof text, "cp %s/old %s/" DATA, dir, path);
    assert_int_equal(system(text), 0);
    refused(STORE_READ, NAVMAP_ECORRUPT, "root lsn");
}

static void edit_header(const char *file, void (*edit)(struct disk_header *))
{
    struct disk_header h;
    bytes_of(file, 0, &h, sizeof h, false);
    edit(&h);
    h.sum = checksum64(&h, offsetof(struct disk_header, sum), 0);
    bytes_of(file, 0, &h, sizeof h, true);
}

static void unknown_ro_compat(struct disk_header *h)
{
    h->feat_ro_compat = 1u << 31;
}

static void test_read_only_features(void **state)
{
    (void)state;
    create_closed();
    edit_header(DATA, unknown_ro_compat);
    refused(STORE_WRITE, NAVMAP_EREADONLY, "features");
    struct store *s = open_as(STORE_READ, &full);
    check_vector(s, 1000, 0);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* Leftovers of generations (O4) ---------------------------------------------------------------- */

static void second_generation(struct disk_header *h)
{
    h->generation = 2;
}

/* The index as after a swap that was interrupted before its end: the log names generation 2, whose
 * labels are empty. */
static void swap_generations(void)
{
    struct wal *w;
    struct wal_txn t;
    struct wal_state log;
    struct store *s = create(0, &full);
    assert_int_equal(store_close(s), NAVMAP_OK);
    copy_file(DATA, "data-00000002.navmap");
    copy_file(DATA, "data-00000003.navmap");
    edit_header("data-00000002.navmap", second_generation);
    assert_int_equal(wal_acquire(path, true, &w), NAVMAP_OK);
    assert_int_equal(wal_txn_write(w, &t), NAVMAP_OK);
    assert_int_equal(wal_get_state(&t, &log), NAVMAP_OK);
    log.generation = 2;
    assert_int_equal(wal_put_state(&t, &log), NAVMAP_OK);
    assert_int_equal(wal_txn_commit(&t), NAVMAP_OK);
    wal_release(w);
}

static void test_leftovers(void **state)
{
    (void)state;
    char name[160];
    uint32_t superseded = 0;
    swap_generations();
    data_file(name, DATA);
    int old = open(name, O_RDONLY); /* a reader that is still there */
    assert_true(old >= 0);
    struct store *s = open_as(STORE_WRITE, &full);
    assert_int_equal(store_layout(s)->generation, 2);
    assert_int_not_equal(access(name, F_OK), 0);
    assert_int_equal(pread(old, &superseded, sizeof superseded, LAYOUT_LIVE_OFFSET), 4);
    assert_int_equal(superseded, 1);
    assert_int_equal(close(old), 0);
    data_file(name, "data-00000003.navmap");
    assert_int_not_equal(access(name, F_OK), 0);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

/* Beside a writer a reader takes the lowest file that is not superseded. */
static void test_superseded_file(void **state)
{
    (void)state;
    uint32_t superseded = 1;
    swap_generations();
    copy_file(DATA, "kept");
    struct store *s = open_as(STORE_WRITE, &full);
    copy_file("kept", DATA);
    bytes_of(DATA, LAYOUT_LIVE_OFFSET, &superseded, sizeof superseded, true);
    struct store *reader = open_as(STORE_READ, &full);
    assert_int_equal(store_layout(reader)->generation, 2);
    assert_int_equal(store_close(reader), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

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

/* O2: readers that were killed hold no place and no page any longer. */
static void test_killed_readers_are_cleared(void **state)
{
    (void)state;
    int ready[2], how, dead = -1;
    char name[160];
    create_closed();
    pid_t readers[2];
    assert_int_equal(pipe(ready), 0);
    for (int i = 0; i < 2; i++) {
        readers[i] = fork();
        if (readers[i] == 0) {
            struct wal *w;
            struct wal_txn t;
            if (wal_acquire(path, false, &w) != NAVMAP_OK || wal_txn_read(w, &t) != NAVMAP_OK ||
                write(ready[1], "r", 1) != 1)
                _exit(1);
            for (;;)
                (void)pause();
        }
        char byte;
        assert_int_equal(read(ready[0], &byte, 1), 1);
    }
    assert_int_equal(kill(readers[0], SIGKILL), 0); /* the other one keeps the table in being */
    assert_int_equal(waitpid(readers[0], &how, 0), readers[0]);
    struct store *s = open_as(STORE_WRITE, &full);
    pid_t child = fork();
    if (child == 0) {
        MDB_env *env;
        data_file(name, "wal.mdb");
        if (mdb_env_create(&env) != 0 || mdb_env_set_maxdbs(env, 4) != 0 ||
            mdb_env_open(env, name, MDB_NOSUBDIR, 0644) != 0 || mdb_reader_check(env, &dead) != 0)
            _exit(100);
        _exit(dead);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
    assert_int_equal(kill(readers[1], SIGKILL), 0);
    assert_int_equal(waitpid(readers[1], &how, 0), readers[1]);
    assert_int_equal(store_close(s), NAVMAP_OK);
    assert_int_equal(close(ready[0]) | close(ready[1]), 0);
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

/* A reader that may not write cannot recover, and says so. */
static void test_reader_without_permission(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    create_closed();
    crash(5, 1);
    assert_int_equal(chmod(dir, 0755), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *s = NULL;
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(9);
        navmap_status status = store_open(path, STORE_READ, &full, &s);
        _exit(status == NAVMAP_ENEEDSRECOVERY ? 0 : 1);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, unhook)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_locks_while_opening),
        CASE(test_locks_while_creating),
        CASE(test_waiting_for_r),
        CASE(test_one_writer),
        CASE(test_network),
        CASE(test_identity),
        CASE(test_older_data_for_a_reader),
        CASE(test_read_only_features),
        CASE(test_leftovers),
        CASE(test_superseded_file),
        CASE(test_missing_frame),
        CASE(test_repeated_record),
        CASE(test_nothing_is_stored_of_a_bad_log),
        CASE(test_short_file),
        CASE(test_killed_readers_are_cleared),
        CASE(test_recovery_cuts_the_log),
        CASE(test_reader_without_permission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
