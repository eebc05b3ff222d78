/* test_lock.c -- W and R between handles and processes; fork() is in test_fork.c. */
#include "tests/unit/lock_tools.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static void test_open(void **state)
{
    (void)state;
    struct lock lock;
    assert_int_equal(lock_open(dir, false, &lock), NAVMAP_ENOINDEX);
    lock = must_open();
    assert_true(lock.fd >= 0);
    assert_false(lock.writer);
    assert_int_equal(fcntl(lock.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    int fd = lock.fd;
    lock_close(&lock);
    assert_int_equal(lock.fd, -1);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    lock_close(&lock);
    assert_int_equal(lock_opening_shared(&lock, 0), NAVMAP_ECLOSED);
    assert_int_equal(lock_open(dir, false, &lock), NAVMAP_OK);
    lock_close(&lock);

    char *name = malloc(5000);
    memset(name, 'a', 4999);
    name[4999] = '\0';
    assert_int_equal(lock_open(name, true, &lock), NAVMAP_EINVAL);
    free(name);
}

static void test_two_handles_of_one_process(void **state)
{
    (void)state;
    struct lock a = must_open(), b = must_open();
    assert_false(writer_held(&a));
    assert_false(lock_writer_here(a.dev, a.ino));
    assert_true(try_writer(&a));
    assert_true(a.writer);
    assert_false(try_writer(&b));
    assert_false(b.writer);
    assert_true(writer_held(&a) && writer_held(&b));
    assert_true(lock_writer_here(a.dev, a.ino));
    assert_false(lock_writer_here(a.dev, a.ino + 1));
    assert_false(lock_writer_here(a.dev + 1, a.ino));

    /* Not lost when some other descriptor of the file is closed, as a POSIX lock would be. */
    struct lock c = must_open();
    lock_close(&c);
    assert_false(try_writer(&b));

    lock_writer_release(&a);
    assert_false(a.writer);
    assert_false(lock_writer_here(a.dev, a.ino));
    assert_true(try_writer(&b));
    lock_close(&b); /* releases */
    assert_false(lock_writer_here(a.dev, a.ino));
    assert_true(try_writer(&a));
    lock_close(&a);
    assert_true(writer_free());
}

static void test_opening_lock(void **state)
{
    (void)state;
    struct lock a = must_open(), b = must_open(), c = must_open();
    assert_int_equal(lock_opening_shared(&a, 0), NAVMAP_OK);
    assert_int_equal(lock_opening_shared(&b, 0), NAVMAP_OK);
    assert_int_equal(lock_opening_exclusive(&c, 0), NAVMAP_ELOCKED);
    assert_true(try_writer(&c)); /* W and R are apart */
    lock_opening_release(&a);
    assert_int_equal(lock_opening_exclusive(&c, 0), NAVMAP_ELOCKED);
    lock_opening_release(&b);
    assert_int_equal(lock_opening_exclusive(&c, 0), NAVMAP_OK);
    assert_int_equal(lock_opening_shared(&a, 0), NAVMAP_ELOCKED);

    double start = now();
    assert_int_equal(lock_opening_shared(&a, 0.08), NAVMAP_ELOCKED);
    double waited = now() - start;
    assert_true(waited >= 0.08 && waited < 5);
    assert_non_null(strstr(navmap_error_detail(), "0.080 s"));
    assert_int_equal(lock_opening_shared(&a, __builtin_nan("")), NAVMAP_ELOCKED);

    lock_close(&c); /* releases both */
    assert_int_equal(lock_opening_shared(&a, 0), NAVMAP_OK);
    assert_false(writer_held(&a));
    lock_close(&a);
    lock_close(&b);
}

static void *release_later(void *arg)
{
    sleep_ms(60);
    lock_opening_release(arg);
    return NULL;
}

static void test_waiting_ends_with_the_holder(void **state)
{
    (void)state;
    struct lock a = must_open(), b = must_open();
    const double timeouts[] = {-1, 30};
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        assert_int_equal(lock_opening_exclusive(&a, 0), NAVMAP_OK);
        double start = now();
        assert_int_equal(pthread_create(&thread, NULL, release_later, &a), 0);
        assert_int_equal(lock_opening_exclusive(&b, timeouts[i]), NAVMAP_OK);
        double waited = now() - start;
        assert_true(waited >= 0.055 && waited < 10);
        assert_int_equal(pthread_join(thread, NULL), 0);
        lock_opening_release(&b);
    }
    lock_close(&a);
    lock_close(&b);
}

static void test_holder_killed(void **state)
{
    (void)state;
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct lock lock;
        bool got = false;
        char ok = lock_open(dir, true, &lock) == NAVMAP_OK &&
                  lock_writer_try(&lock, &got) == NAVMAP_OK && got &&
                  lock_opening_exclusive(&lock, 0) == NAVMAP_OK;
        if (write(ready[1], &ok, 1) == 1)
            pause();
        _exit(1);
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, 1);
    struct lock lock = must_open();
    assert_true(writer_held(&lock));
    assert_false(lock_writer_here(lock.dev, lock.ino)); /* held, but not by us */
    assert_false(try_writer(&lock));
    assert_int_equal(lock_opening_shared(&lock, 0), NAVMAP_ELOCKED);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(exit_code(child), -SIGKILL);
    assert_true(try_writer(&lock)); /* nothing to repair */
    assert_int_equal(lock_opening_exclusive(&lock, 0), NAVMAP_OK);
    lock_close(&lock);
    close(ready[0]);
    close(ready[1]);
}

static void test_removed(void **state)
{
    (void)state;
    struct lock lock = must_open();
    assert_false(lock_removed(&lock));
    char path[300];
    snprintf(path, sizeof(path), "%s/LOCK", dir);
    assert_int_equal(unlink(path), 0);
    assert_true(lock_removed(&lock));
    struct lock fresh = must_open(); /* another file, another lock */
    assert_true(try_writer(&lock) && try_writer(&fresh));
    assert_false(lock_removed(&fresh));
    lock_close(&lock);
    lock_close(&fresh);
}

/* A reader needs no write permission on LOCK. */
static int as_nobody(void)
{
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
        return 77;
    struct lock lock;
    bool flag = false;
    if (lock_open(dir, false, &lock) != NAVMAP_OK)
        return 1;
    if (lock_writer_held(&lock, &flag) != NAVMAP_OK || !flag)
        return 2;
    if (lock_opening_shared(&lock, 0) != NAVMAP_OK)
        return 3;
    lock_opening_release(&lock);
    if (lock_opening_exclusive(&lock, 0) != NAVMAP_EREADONLY)
        return 4;
    if (lock_writer_try(&lock, &flag) != NAVMAP_EREADONLY)
        return 5;
    lock_close(&lock);
    return 0;
}

static void test_read_only_lock_file(void **state)
{
    (void)state;
    struct lock lock = must_open();
    assert_true(try_writer(&lock));
    assert_int_equal(chmod(dir, 0755), 0);
    assert_int_equal(fchmod(lock.fd, 0444), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(as_nobody());
    int code = exit_code(child);
    assert_int_equal(fchmod(lock.fd, 0644), 0);
    lock_close(&lock);
    if (code == 77)
        skip();
    assert_int_equal(code, 0);
}

static void test_table_is_finite(void **state)
{
    (void)state;
    struct rlimit limit, more;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    more = limit;
    more.rlim_cur = limit.rlim_max < 2000 ? limit.rlim_max : 2000;
    if (more.rlim_cur < 1100 || setrlimit(RLIMIT_NOFILE, &more) != 0)
        skip();
    static struct lock many[1024];
    for (int i = 0; i < 1024; i++)
        many[i] = must_open();
    struct lock extra;
    int before = open("/dev/null", O_RDONLY);
    close(before);
    assert_int_equal(lock_open(dir, true, &extra), NAVMAP_ENOMEM);
    int after = open("/dev/null", O_RDONLY);
    close(after);
    assert_int_equal(before, after); /* the refused descriptor was closed */
    assert_true(try_writer(&many[1023]));
    pid_t child = fork(); /* all of them are closed in a child */
    assert_true(child >= 0);
    if (child == 0) {
        for (int i = 0; i < 1024; i++) {
            if (fcntl(many[i].fd, F_GETFD) != -1)
                _exit(1);
        }
        _exit(0);
    }
    assert_int_equal(exit_code(child), 0);
    for (int i = 0; i < 1024; i++)
        lock_close(&many[i]);
    extra = must_open();
    lock_close(&extra);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_two_handles_of_one_process),
        cmocka_unit_test(test_opening_lock),
        cmocka_unit_test(test_waiting_ends_with_the_holder),
        cmocka_unit_test(test_holder_killed),
        cmocka_unit_test(test_removed),
        cmocka_unit_test(test_read_only_lock_file),
        cmocka_unit_test(test_table_is_finite),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
