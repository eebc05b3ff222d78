/* open_tools.h -- an index that was closed, or left by a crash, and its files; for
 * test_open_checks.c and test_open_log.c.
 */
#ifndef NAVMAP_TESTS_UNIT_OPEN_TOOLS_H
#define NAVMAP_TESTS_UNIT_OPEN_TOOLS_H

#include "storage/io.h"
#include "storage/lock.h"
#include "storage/wal.h"
#include "tests/unit/store_tools.h"

#define DATA "data-00000001.navmap"

static inline int unhook(void **state)
{
    io_hooks = NULL;
    return teardown(state);
}

static inline void copy_file(const char *from, const char *to)
{
    char text[400];
    (void)snprintf(text, sizeof text, "cp %s/%s %s/%s", path, from, path, to);
    assert_int_equal(system(text), 0);
}

static inline void refused(enum store_mode mode, navmap_status expected, const char *why)
{
    struct store *s = NULL;
    navmap_status status = store_open(path, mode, &full, &s);
    if (status != expected || !strstr(navmap_error_detail(), why))
        print_message("%s: %s\n", navmap_strerror(status), navmap_error_detail());
    assert_int_equal(status, expected);
    assert_non_null(strstr(navmap_error_detail(), why));
}

/* An index with a log: a child dies without closing. */
static inline void crash(uint64_t labels, uint64_t batch)
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

static inline void create_closed(void)
{
    struct store *s = create(0, &full);
    assert_int_equal(add(s, 1000, 0, 1), NAVMAP_OK);
    assert_int_equal(store_close(s), NAVMAP_OK);
}

static inline void data_file(char name[160], const char *file)
{
    (void)snprintf(name, 160, "%s/%s", path, file);
}

static inline void remove_file(const char *file)
{
    char name[160];
    data_file(name, file);
    assert_int_equal(unlink(name), 0);
}

/* Read or write `n` bytes of a file of the index. */
static inline void bytes_of(const char *file, uint64_t off, void *bytes, size_t n, bool write)
{
    char name[160];
    data_file(name, file);
    int fd = open(name, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(write ? pwrite(fd, bytes, n, (off_t)off) : pread(fd, bytes, n, (off_t)off), n);
    assert_int_equal(close(fd), 0);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, unhook)

#endif
