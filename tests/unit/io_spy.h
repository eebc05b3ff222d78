/* io_spy.h -- hooks that note every event and fail a chosen one, and a directory to work in; for
 * test_io.c and test_io_files.c.
 */
#ifndef NAVMAP_TESTS_UNIT_IO_SPY_H
#define NAVMAP_TESTS_UNIT_IO_SPY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "storage/io.h"

static char dir[256];
static char path_buffers[4][512];

static inline const char *in_dir(const char *name)
{
    static unsigned n;
    char *path = path_buffers[n++ % 4];
    snprintf(path, sizeof(path_buffers[0]), "%s/%s", dir, name);
    return path;
}

/* Hooks: record all, and fail `times` calls of one kind after `skip` of them. */
static struct {
    struct io_event before[64], after[64];
    int error[64];
    unsigned n_before, n_after;
    enum io_kind kind;
    int fail_with;
    unsigned skip, times, vetoed;
    enum kill_point last_point;
} seen;

static inline int spy_before(void *ctx, const struct io_event *event)
{
    assert_ptr_equal(ctx, &seen);
    if (seen.n_before < 64)
        seen.before[seen.n_before] = *event;
    seen.n_before++;
    if (seen.fail_with == 0 || event->kind != seen.kind)
        return 0;
    if (seen.skip > 0) {
        seen.skip--;
        return 0;
    }
    if (seen.times == 0)
        return 0;
    seen.times--;
    seen.vetoed++;
    return seen.fail_with;
}

static inline void spy_after(void *ctx, const struct io_event *event, int error)
{
    assert_ptr_equal(ctx, &seen);
    if (seen.n_after < 64) {
        seen.after[seen.n_after] = *event;
        seen.error[seen.n_after] = error;
    }
    seen.n_after++;
}

static inline void spy_point(void *ctx, enum kill_point point)
{
    assert_ptr_equal(ctx, &seen);
    seen.last_point = point;
}

static const struct io_hooks spy = {&seen, spy_before, spy_after, spy_point};

static inline void watch(void)
{
    memset(&seen, 0, sizeof(seen));
    io_hooks = &spy;
}

static inline void inject(enum io_kind kind, int err, unsigned skip, unsigned times)
{
    watch();
    seen.kind = kind;
    seen.fail_with = err;
    seen.skip = skip;
    seen.times = times;
}

static inline int make_file(const char *path, const char *text)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

static inline uint64_t size_of(int fd)
{
    uint64_t bytes = 0;
    assert_int_equal(io_file_size(fd, "f", &bytes), NAVMAP_OK);
    return bytes;
}

static inline int setup(void **state)
{
    (void)state;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof(dir), "%s/navmap-io-XXXXXX", tmp ? tmp : "/tmp");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static inline int teardown(void **state)
{
    (void)state;
    io_hooks = NULL;
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command) == 0 ? 0 : -1;
}

static inline int unhook(void **state)
{
    (void)state;
    io_hooks = NULL;
    return 0;
}

#endif
