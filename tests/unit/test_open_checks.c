/* test_open_checks.c -- whom an open waits for, whose files it takes, and what it leaves of those
 * that nobody needs (O1..O4, and the reader's way in).
 */
#include "tests/unit/open_tools.h"

#include <errno.h>
#include <lmdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "storage/checksum.h"

static void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    (void)nanosleep(&t, NULL);
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
        CASE(test_killed_readers_are_cleared),
        CASE(test_reader_without_permission),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
