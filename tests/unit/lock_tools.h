/* lock_tools.h -- handles of one LOCK file in a fresh directory; for test_lock.c and test_fork.c.
 */
#ifndef NAVMAP_TESTS_UNIT_LOCK_TOOLS_H
#define NAVMAP_TESTS_UNIT_LOCK_TOOLS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "storage/epoch.h"
#include "storage/lock.h"

static char dir[256];

static inline double now(void)
{
    struct timespec t;
    assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline void sleep_ms(long ms)
{
    const struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

static inline struct lock must_open(void)
{
    struct lock lock;
    if (lock_open(dir, true, &lock) != NAVMAP_OK)
        fail_msg("%s", navmap_error_detail());
    return lock;
}

static inline bool try_writer(struct lock *lock)
{
    bool got = false;
    if (lock_writer_try(lock, &got) != NAVMAP_OK)
        fail_msg("%s", navmap_error_detail());
    return got;
}

static inline bool writer_held(const struct lock *lock)
{
    bool held = false;
    if (lock_writer_held(lock, &held) != NAVMAP_OK)
        fail_msg("%s", navmap_error_detail());
    return held;
}

/* Could another handle become the writer now? */
static inline bool writer_free(void)
{
    struct lock lock = must_open();
    bool got = try_writer(&lock);
    lock_close(&lock);
    return got;
}

static inline int exit_code(pid_t child)
{
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline int setup(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/navmap-lock-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static inline int teardown(void **state)
{
    (void)state;
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : -1;
}

#endif
