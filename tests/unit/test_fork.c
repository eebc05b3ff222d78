/* test_fork.c -- what a forked child must not inherit: locks, descriptors, handles. */
#include "tests/unit/lock_tools.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>

#include "storage/io.h"

/* In the child of a process that holds `mine`. */
static int child_checks(struct lock *mine)
{
    bool flag = false;
    if (fcntl(mine->fd, F_GETFD) != -1 || errno != EBADF)
        return 1; /* the inherited descriptor is not closed */
    if (lock_writer_here(mine->dev, mine->ino))
        return 2;
    if (lock_writer_try(mine, &flag) != NAVMAP_EFORKED)
        return 3;
    if (lock_writer_held(mine, &flag) != NAVMAP_EFORKED)
        return 4;
    if (lock_opening_shared(mine, 0) != NAVMAP_EFORKED)
        return 5;
    if (lock_removed(mine))
        return 6;
    /* The number may be somebody else's by now: closing the inherited lock must not touch it. */
    int other = open("/dev/null", O_RDONLY);
    if (other != mine->fd && dup2(other, mine->fd) < 0)
        return 7;
    int number = mine->fd;
    lock_writer_release(mine);
    lock_opening_release(mine);
    lock_close(mine);
    if (mine->fd != -1 || fcntl(number, F_GETFD) == -1)
        return 8;
    /* A handle opened here works: it sees the parent's W. */
    struct lock own;
    if (lock_open(dir, false, &own) != NAVMAP_OK)
        return 9;
    if (lock_writer_held(&own, &flag) != NAVMAP_OK || !flag)
        return 10;
    if (lock_writer_try(&own, &flag) != NAVMAP_OK || flag)
        return 11;
    lock_close(&own);
    return 0;
}

static void test_fork_closes_and_parent_keeps(void **state)
{
    (void)state;
    struct lock lock = must_open();
    assert_true(try_writer(&lock));
    assert_int_equal(lock_opening_exclusive(&lock, 0), NAVMAP_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(child_checks(&lock));
    assert_int_equal(exit_code(child), 0);
    assert_true(lock_writer_here(lock.dev, lock.ino));
    assert_false(writer_free());
    struct lock other = must_open();
    assert_int_equal(lock_opening_shared(&other, 0), NAVMAP_ELOCKED);
    lock_close(&other);
    lock_close(&lock);
    assert_true(writer_free());
}

/* `holder` takes W in a process of its own, has a child, and ends before it: W must be free. */
static void child_outlives_holder(void (*holder)(int report, int hold))
{
    int report[2], hold[2];
    assert_int_equal(pipe(report), 0);
    assert_int_equal(pipe(hold), 0);
    pid_t middle = fork();
    assert_true(middle >= 0);
    if (middle == 0) {
        close(hold[1]); /* else the grandchild would never see its end */
        close(report[0]);
        holder(report[1], hold[0]);
        _exit(1);
    }
    close(report[1]);
    assert_int_equal(exit_code(middle), 0);
    char grandchild_lives = 0;
    assert_int_equal(read(report[0], &grandchild_lives, 1), 1);
    assert_int_equal(grandchild_lives, 1);
    assert_true(writer_free());
    close(hold[1]); /* lets the grandchild go; its end of `report` tells when it has */
    assert_int_equal(read(report[0], &grandchild_lives, 1), 0);
    close(report[0]);
    close(hold[0]);
}

static void live_until_told(int report, int hold)
{
    char byte = 1;
    if (write(report, &byte, 1) == 1)
        (void)!read(hold, &byte, 1);
    _exit(0);
}

static void holder_forks_later(int report, int hold)
{
    struct lock lock = must_open();
    if (!try_writer(&lock))
        _exit(2);
    if (fork() == 0)
        live_until_told(report, hold);
    _exit(0); /* without unlocking */
}

static void test_child_does_not_keep_the_lock(void **state)
{
    (void)state;
    child_outlives_holder(holder_forks_later);
}

/* T3: a fork between open() and the entry in the fork table, as another thread may do it. */
static int fork_report, fork_hold;
static _Atomic int forks_left;

static void fork_after_open(void *ctx, const struct io_event *event, int error)
{
    (void)ctx;
    if (event->kind != IO_OPEN || error != 0 || strstr(event->path, "/LOCK") == NULL)
        return;
    if (atomic_fetch_sub(&forks_left, 1) > 0 && fork() == 0)
        live_until_told(fork_report, fork_hold);
}

static const struct io_hooks fork_hooks = {.after = fork_after_open};

static void holder_forks_while_opening(int report, int hold)
{
    fork_report = report;
    fork_hold = hold;
    atomic_store(&forks_left, 1);
    io_hooks = &fork_hooks;
    struct lock lock = must_open();
    io_hooks = NULL;
    if (atomic_load(&forks_left) > 0 || !try_writer(&lock))
        _exit(2);
    _exit(0);
}

static void test_fork_while_opening(void **state)
{
    (void)state;
    child_outlives_holder(holder_forks_while_opening);
}

/* Many threads open, lock, close; another one forks all the time.  Nothing hangs in a child. */
static _Atomic bool stop;

static void *open_and_close(void *arg)
{
    _Atomic unsigned *rounds = arg;
    while (!atomic_load(&stop)) {
        struct lock lock;
        bool got;
        if (lock_open(dir, true, &lock) != NAVMAP_OK)
            return (void *)1;
        if (lock_writer_try(&lock, &got) != NAVMAP_OK)
            return (void *)2;
        if (got != lock.writer || (got && !lock_writer_here(lock.dev, lock.ino)))
            return (void *)3;
        lock_close(&lock);
        atomic_fetch_add(rounds, 1);
    }
    return NULL;
}

static void test_fork_among_threads(void **state)
{
    (void)state;
    enum { THREADS = 3 };
    pthread_t thread[THREADS];
    _Atomic unsigned rounds = 0;
    atomic_store(&stop, false);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&thread[i], NULL, open_and_close, &rounds), 0);
    int failures = 0;
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(20);
            struct lock lock;
            bool held;
            if (lock_open(dir, true, &lock) != NAVMAP_OK ||
                lock_writer_held(&lock, &held) != NAVMAP_OK)
                _exit(1);
            lock_close(&lock);
            _exit(0);
        }
        failures += exit_code(child) != 0;
    }
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        void *failed = NULL;
        assert_int_equal(pthread_join(thread[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(failures, 0);
    assert_true(atomic_load(&rounds) > 0);
    assert_true(writer_free());
}

static void *epoch_of_thread(void *arg)
{
    *(uint64_t *)arg = fork_epoch();
    return NULL;
}

/* Ask a child, made with or without the handlers of fork(), for its epoch; and its child's. */
static void child_epochs(bool with_handlers, uint64_t ret[2])
{
    int out[2];
    assert_int_equal(pipe(out), 0);
    pid_t child = with_handlers ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
    assert_true(child >= 0);
    if (child == 0) {
        uint64_t mine[2] = {fork_epoch(), 0};
        if (with_handlers) {
            int inner[2];
            if (pipe(inner) != 0)
                _exit(1);
            if (fork() == 0) {
                mine[0] = fork_epoch();
                _exit(write(inner[1], mine, 8) != 8);
            }
            if (read(inner[0], &mine[1], 8) != 8)
                _exit(1);
        }
        _exit(fork_epoch() == mine[0] && write(out[1], mine, 16) == 16 ? 0 : 1);
    }
    assert_int_equal(exit_code(child), 0);
    assert_int_equal(read(out[0], ret, 16), 16);
    close(out[0]);
    close(out[1]);
}

static void test_epoch(void **state)
{
    (void)state;
    uint64_t mine = fork_epoch(), thread_epoch = 0, children[2], raw[2];
    assert_true(mine != 0);
    assert_true(fork_epoch() == mine);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, epoch_of_thread, &thread_epoch), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(thread_epoch == mine);

    child_epochs(true, children);
    assert_true(children[0] != 0 && children[0] != mine);
    assert_true(children[1] != 0 && children[1] != mine && children[1] != children[0]);
    child_epochs(false, raw); /* MADV_WIPEONFORK alone, Linux 4.14 */
    assert_true(raw[0] != 0 && raw[0] != mine && raw[0] != children[0]);
    assert_true(fork_epoch() == mine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork_closes_and_parent_keeps),
        cmocka_unit_test(test_child_does_not_keep_the_lock),
        cmocka_unit_test(test_fork_while_opening),
        cmocka_unit_test(test_fork_among_threads),
        cmocka_unit_test(test_epoch),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
