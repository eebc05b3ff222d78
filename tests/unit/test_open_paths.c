/* test_open_paths.c -- the ways through an open that need somebody else at the right moment, or a
 * system call that fails just there.
 */
#include "tests/unit/open_tools.h"

#include <errno.h>
#include <signal.h>

/* Another process that holds W: as a writer, or the bare lock of one that has not got further. */
static pid_t holder(bool whole, long ms)
{
    int ready[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        struct store *s = NULL;
        struct lock lock;
        bool got = true;
        if (whole ? store_open(path, STORE_WRITE, &full, &s) != NAVMAP_OK
                  : lock_open(path, false, &lock) != NAVMAP_OK ||
                        lock_writer_try(&lock, &got) != NAVMAP_OK || !got)
            _exit(1);
        if (write(ready[1], "h", 1) != 1)
            _exit(2);
        (void)usleep((useconds_t)ms * 1000);
        _exit(0); /* as if killed */
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(close(ready[0]) | close(ready[1]), 0);
    return pid;
}

static void end(pid_t pid)
{
    int how;
    (void)kill(pid, SIGKILL);
    assert_int_equal(waitpid(pid, &how, 0), pid);
}

static void test_who_holds_it(void **state)
{
    (void)state;
    char text[40];
    const uint32_t nobody = 0;
    create_closed();
    pid_t pid = holder(true, 60000);
    (void)snprintf(text, sizeof text, "by pid %d", (int)pid);
    refused(STORE_WRITE, NAVMAP_ELOCKED, text);
    end(pid);
    struct store *s = open_as(STORE_WRITE, &full);
    assert_int_equal(store_close(s), NAVMAP_OK);
    bytes_of(DATA, LAYOUT_LIVE_OFFSET + offsetof(struct disk_live, writer_pid),
             (void *)(uintptr_t)&nobody, sizeof nobody, true);
    pid = holder(false, 60000);
    refused(STORE_WRITE, NAVMAP_ELOCKED, "by another process");
    end(pid);
}

/* Waiting for W: long enough, and for ever. */
static void test_waiting_for_w(void **state)
{
    (void)state;
    const double timeouts[] = {20.0, -1.0};
    create_closed();
    for (int i = 0; i < 2; i++) {
        const struct store_options patient = {.durability = STORE_FULL, .timeout_s = timeouts[i]};
        pid_t pid = holder(true, 150);
        struct store *s = open_as(STORE_WRITE, &patient);
        assert_int_equal(store_close(s), NAVMAP_OK);
        end(pid);
    }
}

static void test_paths_that_are_none(void **state)
{
    (void)state;
    assert_int_equal(symlink(path, path), 0); /* to itself */
    refused(STORE_WRITE, NAVMAP_EIO, path);
    refused(STORE_READ, NAVMAP_EIO, path);
    assert_int_equal(unlink(path), 0);
    refused(STORE_READ, NAVMAP_ENOINDEX, path);
}

/* Beside a writer whose data file is gone. */
static void test_no_data_beside_a_writer(void **state)
{
    (void)state;
    create_closed();
    pid_t pid = holder(true, 60000);
    remove_file(DATA);
    refused(STORE_READ, NAVMAP_ENOINDEX, "no data file");
    end(pid);
}

/* A LOCK that may be read only: R cannot be taken for itself. */
static void test_lock_without_permission(void **state)
{
    (void)state;
    char name[160];
    int how;
    if (geteuid() != 0)
        skip();
    create_closed();
    data_file(name, "LOCK");
    assert_int_equal(chmod(name, 0444) | chmod(path, 0777) | chmod(dir, 0755), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *s = NULL;
        if (setgid(65534) != 0 || setuid(65534) != 0)
            _exit(9);
        _exit(store_open(path, STORE_WRITE, &full, &s) == NAVMAP_EREADONLY ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_int_equal(how, 0);
}

/* The n-th call of a kind fails; an open says so, and the next one succeeds. */
static struct {
    enum io_kind kind;
    uint32_t nth, seen;
} failing;

static int fail_nth(void *ctx, const struct io_event *e)
{
    (void)ctx;
    return e->kind == failing.kind && ++failing.seen == failing.nth ? EIO : 0;
}

static void test_failing_calls(void **state)
{
    (void)state;
    static const struct io_hooks hooks = {.before = fail_nth};
    const enum io_kind kinds[] = {IO_PREAD, IO_OPEN, IO_MMAP};
    create_closed();
    io_hooks = &hooks;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        for (int mode = STORE_READ; mode <= STORE_WRITE; mode++)
            for (failing.nth = 1;; failing.nth++) {
                struct store *s = NULL;
                failing.kind = kinds[i];
                failing.seen = 0;
                navmap_status status = store_open(path, (enum store_mode)mode, &full, &s);
                bool fired = failing.seen >= failing.nth;
                failing.nth = fired ? failing.nth : 0;
                /* Who the writer is, for others' messages, is told without its boot's name. */
                assert_true(status == NAVMAP_OK || (fired && status == NAVMAP_EIO));
                if (status == NAVMAP_OK) {
                    check_vector(s, 1000, 0);
                    assert_int_equal(store_close(s), NAVMAP_OK);
                }
                if (!fired)
                    break;
            }
}

/* A reader is about to recover, and somebody else becomes the writer first: it looks again, and
 * finds W held. */
static struct lock thief;

static int steal_w(void *ctx, const struct io_event *e)
{
    uint32_t *asked = ctx;
    bool got = false;
    if (e->kind == IO_FSTATFS && ++*asked == 2) { /* the second open is the one that recovers */
        assert_int_equal(lock_open(path, false, &thief), NAVMAP_OK);
        assert_int_equal(lock_writer_try(&thief, &got), NAVMAP_OK);
        assert_true(got);
    }
    return 0;
}

static void test_somebody_else_recovers(void **state)
{
    (void)state;
    static uint32_t asked;
    static const struct io_hooks hooks = {.ctx = &asked, .before = steal_w};
    create_closed();
    crash(5, 1);
    thief.fd = -1;
    io_hooks = &hooks;
    struct store *s = open_as(STORE_READ, &full);
    assert_int_equal(asked, 2);
    check_vector(s, 3, 1); /* what was applied is there */
    assert_int_equal(store_close(s), NAVMAP_OK);
    lock_close(&thief);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_who_holds_it),
        CASE(test_waiting_for_w),
        CASE(test_paths_that_are_none),
        CASE(test_no_data_beside_a_writer),
        CASE(test_lock_without_permission),
        CASE(test_failing_calls),
        CASE(test_somebody_else_recovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
