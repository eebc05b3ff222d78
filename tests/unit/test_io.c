/* test_io.c -- the events around each call of io.c, what each failure becomes, reading, writing and
 * mapping; test_io_files.c has growth and names.
 */
#include "tests/unit/io_spy.h"

#include <errno.h>
#include <sys/mman.h>

/* Open, read, write --------------------------------------------------------------------------- */

static void test_open(void **state)
{
    (void)state;
    int fd = -5;
    assert_int_equal(io_open(in_dir("none"), O_RDWR, 0, &fd), NAVMAP_ENOINDEX);
    assert_int_equal(fd, -5);
    assert_non_null(strstr(navmap_error_detail(), "/none: No such file"));
    assert_int_equal(io_open("/proc/version/x", O_RDONLY, 0, &fd), NAVMAP_ENOINDEX); /* ENOTDIR */
    assert_int_equal(io_open(dir, O_RDWR, 0, &fd), NAVMAP_EIO);                      /* EISDIR */

    watch();
    const char *path = in_dir("open");
    assert_int_equal(io_open(path, O_RDWR | O_CREAT | O_EXCL, 0600, &fd), NAVMAP_OK);
    assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(seen.n_after, 1);
    assert_int_equal(seen.after[0].kind, IO_OPEN);
    assert_int_equal(seen.after[0].fd, fd);
    assert_string_equal(seen.after[0].path, path);
    assert_int_equal(io_open(path, O_RDWR | O_CREAT | O_EXCL, 0600, &fd), NAVMAP_EEXIST);
    io_close(fd);
    assert_int_equal(fcntl(fd, F_GETFD), -1);
    io_close(-1);
    inject(IO_OPEN, EROFS, 0, 2);
    assert_int_equal(io_open(path, O_RDWR, 0, &fd), NAVMAP_EREADONLY);
    assert_int_equal(io_open(path, O_RDONLY, 0, &fd), NAVMAP_EIO);
}

static void test_read_and_write(void **state)
{
    (void)state;
    int fd = make_file(in_dir("rw"), "0123456789");
    char bytes[16] = {0};
    assert_int_equal(io_pread(fd, "rw", bytes, 4, 3), NAVMAP_OK);
    assert_memory_equal(bytes, "3456", 4);
    assert_int_equal(io_pread(fd, "rw", bytes, 11, 0), NAVMAP_ECORRUPT);
    assert_string_equal(navmap_error_detail(), "rw: file ends at byte 10, expected 11 bytes at 0");
    assert_int_equal(io_pread(fd, "rw", bytes, 1, 10), NAVMAP_ECORRUPT);
    assert_int_equal(io_pread(fd, "rw", bytes, 0, 99), NAVMAP_OK);

    watch();
    assert_int_equal(io_pwrite(fd, "rw", "AB", 2, 9), NAVMAP_OK);
    assert_int_equal(seen.n_after, 1);
    assert_int_equal(seen.after[0].kind, IO_PWRITE);
    assert_int_equal(seen.after[0].off, 9);
    assert_int_equal(seen.after[0].len, 2);
    assert_memory_equal(seen.after[0].bytes, "AB", 2);
    io_hooks = NULL;
    assert_int_equal(io_pread(fd, "rw", bytes, 11, 0), NAVMAP_OK);
    assert_memory_equal(bytes, "012345678AB", 11);
    assert_int_equal(io_pread(-1, "rw", bytes, 1, 0), NAVMAP_EIO);
    assert_int_equal(io_pwrite(-1, "rw", bytes, 1, 0), NAVMAP_EIO);
    assert_int_equal(io_file_size(-1, "rw", &(uint64_t){0}), NAVMAP_EIO);
    io_close(fd);
}

static void test_read_text(void **state)
{
    (void)state;
    char text[16];
    io_close(make_file(in_dir("text"), "0123456789"));
    assert_true(io_read_text(in_dir("text"), text, sizeof text));
    assert_string_equal(text, "0123456789");
    assert_true(io_read_text(in_dir("text"), text, 5));
    assert_string_equal(text, "0123");
    assert_true(io_read_text("/proc/self/comm", text, sizeof text)); /* its size is said to be 0 */
    assert_true(strlen(text) > 1);

    assert_int_equal(io_pread(-1, "before", text, 1, 0), NAVMAP_EIO);
    char sentence[512];
    snprintf(sentence, sizeof(sentence), "%s", navmap_error_detail());
    assert_false(io_read_text(in_dir("none"), text, sizeof text));
    assert_false(io_read_text(dir, text, sizeof text)); /* opens, and cannot be read */
    assert_string_equal(navmap_error_detail(), sentence);
    inject(IO_PREAD, EINTR, 0, 3);
    assert_true(io_read_text(in_dir("text"), text, sizeof text));
    assert_string_equal(text, "0123456789");
    inject(IO_PREAD, EIO, 1, 1);
    assert_false(io_read_text(in_dir("text"), text, sizeof text));
    io_hooks = NULL;
}

static void test_file_identity(void **state)
{
    (void)state;
    int a = make_file(in_dir("id"), "x"), b = make_file(in_dir("id2"), "x");
    uint64_t dev[3], ino[3];
    assert_int_equal(io_file_id(a, "id", &dev[0], &ino[0]), NAVMAP_OK);
    assert_int_equal(io_file_id(b, "id2", &dev[1], &ino[1]), NAVMAP_OK);
    assert_int_equal(rename(in_dir("id"), in_dir("id3")), 0);
    int c = open(in_dir("id3"), O_RDONLY | O_CLOEXEC);
    assert_int_equal(io_file_id(c, "id3", &dev[2], &ino[2]), NAVMAP_OK);
    assert_true(dev[0] == dev[2] && ino[0] == ino[2]);
    assert_true(dev[0] != dev[1] || ino[0] != ino[1]);
    assert_int_equal(io_file_id(-1, "x", &dev[0], &ino[0]), NAVMAP_EIO);
    io_close(a);
    io_close(b);
    io_close(c);
}

/* Injection ----------------------------------------------------------------------------------- */

/* One call of each kind, by number.  The file is 64 KiB, mapped at `map`. */
struct subject {
    int fd;
    void *map;
    char here[512], there[512];
};

static navmap_status call(struct subject *s, enum io_kind kind)
{
    char byte = 'x';
    void *p = NULL;
    int fd = -1;
    navmap_status status;
    switch (kind) {
    case IO_OPEN:
        status = io_open(s->here, O_RDWR, 0, &fd);
        io_close(fd);
        return status;
    case IO_PREAD:
        return io_pread(s->fd, "f", &byte, 1, 0);
    case IO_PWRITE:
        return io_pwrite(s->fd, "f", &byte, 1, 0);
    case IO_FALLOCATE:
        return io_grow(s->fd, "f", 65536, 131072);
    case IO_FSYNC:
        return io_fsync(s->fd, "f");
    case IO_FDATASYNC:
        return io_fdatasync(s->fd, "f");
    case IO_MSYNC:
        return io_msync(s->fd, "f", s->map, 0, 100);
    case IO_MMAP:
        status = io_mmap(NULL, 4096, PROT_READ, MAP_SHARED, s->fd, 0, "f", &p);
        if (status == NAVMAP_OK)
            munmap(p, 4096);
        return status;
    case IO_RENAME:
        status = io_rename(s->here, s->there, 1);
        if (status == NAVMAP_OK)
            assert_int_equal(rename(s->there, s->here), 0);
        return status;
    case IO_UNLINK:
        assert_int_equal(link(s->here, s->there), 0);
        status = io_unlink(s->there);
        if (status != NAVMAP_OK)
            assert_int_equal(unlink(s->there), 0);
        return status;
    case IO_MKDIR:
        status = io_mkdir(s->there);
        if (status == NAVMAP_OK)
            assert_int_equal(rmdir(s->there), 0);
        return status;
    case IO_FSTATFS:
        return io_check_fs(dir);
    case IO_STORE:
    case IO_KINDS:
        break;
    }
    return NAVMAP_OK;
}

static bool is_sync(enum io_kind kind)
{
    return kind == IO_FSYNC || kind == IO_FDATASYNC || kind == IO_MSYNC;
}

static void test_injected_failures(void **state)
{
    (void)state;
    struct subject s;
    snprintf(s.here, sizeof(s.here), "%s/here", dir);
    snprintf(s.there, sizeof(s.there), "%s/there", dir);
    s.fd = make_file(s.here, "x");
    assert_int_equal(ftruncate(s.fd, 65536), 0);
    s.map = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, s.fd, 0);
    assert_true(s.map != MAP_FAILED);

    for (int kind = 0; kind < IO_KINDS; kind++) {
        if (kind == IO_STORE)
            continue;
        watch(); /* sound: exactly one event, before and after */
        assert_int_equal(call(&s, kind), NAVMAP_OK);
        assert_int_equal(seen.n_before, 1);
        assert_int_equal(seen.n_after, 1);
        assert_int_equal(seen.after[0].kind, kind);
        assert_int_equal(seen.error[0], 0);

        inject(kind, EIO, 0, 1); /* vetoed: no effect, so no `after`, and no second attempt */
        assert_int_equal(call(&s, kind), NAVMAP_EIO);
        assert_int_equal(seen.n_before, 1);
        assert_int_equal(seen.n_after, 0);
        assert_non_null(strstr(navmap_error_detail(), "Input/output error"));
        assert_int_equal(call(&s, kind), NAVMAP_OK);

        inject(kind, ENOSPC, 0, 1); /* even "disk full" is fatal when a sync says it */
        assert_int_equal(call(&s, kind), is_sync(kind) ? NAVMAP_EIO : NAVMAP_ENOSPC);

        inject(kind, EINTR, 0, 3);
        if (is_sync(kind)) {
            assert_int_equal(call(&s, kind), NAVMAP_EIO);
            assert_int_equal(seen.vetoed, 1);
        } else {
            assert_int_equal(call(&s, kind), NAVMAP_OK);
            assert_int_equal(seen.vetoed, 3);
            assert_int_equal(seen.n_after, 1);
        }
    }
    io_hooks = NULL;
    munmap(s.map, 65536);
    io_close(s.fd);
}

static void test_kill_points_and_stores(void **state)
{
    (void)state;
    STORE_KILL_POINT(C4); /* without hooks: nothing */
    watch();
    STORE_KILL_POINT(O8_SYNCED);
    assert_int_equal(seen.last_point, KP_O8_SYNCED);
    assert_string_equal(io_kill_point_names[KP_O8_SYNCED], "O8_SYNCED");
    assert_string_equal(io_kill_point_names[0], "CREATE_DIR");
    for (int i = 0; i < KP_COUNT; i++) {
        assert_non_null(io_kill_point_names[i]);
        for (int j = 0; j < i; j++)
            assert_string_not_equal(io_kill_point_names[i], io_kill_point_names[j]);
    }
    io_stored(7, 4096, "abc", 3);
    assert_int_equal(seen.n_before, 0);
    assert_int_equal(seen.n_after, 1);
    assert_int_equal(seen.after[0].kind, IO_STORE);
    assert_int_equal(seen.after[0].fd, 7);
    assert_int_equal(seen.after[0].off, 4096);
    assert_int_equal(seen.after[0].len, 3);

    /* Hooks with holes in them. */
    static const struct io_hooks nothing;
    io_hooks = &nothing;
    STORE_KILL_POINT(C4);
    io_stored(7, 0, "abc", 3);
    assert_int_equal(io_check_fs(dir), NAVMAP_OK);
}

/* Mapping ------------------------------------------------------------------------------------- */

static void test_msync_whole_pages(void **state)
{
    (void)state;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    int fd = make_file(in_dir("msync"), "");
    assert_int_equal(ftruncate(fd, (off_t)(8 * page)), 0);
    char *map = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    watch();
    assert_int_equal(io_msync(fd, "msync", map + page + 7, page + 7, page), NAVMAP_OK);
    assert_int_equal(seen.after[0].off, page);
    assert_int_equal(seen.after[0].len, 2 * page);
    watch();
    assert_int_equal(io_msync(fd, "msync", map + 2 * page, 2 * page, page), NAVMAP_OK);
    assert_int_equal(seen.after[0].off, 2 * page);
    assert_int_equal(seen.after[0].len, page);
    watch();
    assert_int_equal(io_msync(fd, "msync", map, 0, 0), NAVMAP_OK);
    assert_int_equal(seen.n_before, 0);
    munmap(map, 8 * page);
    assert_int_equal(io_msync(fd, "msync", map, 0, page), NAVMAP_EIO); /* ENOMEM of a sync */
    io_close(fd);
}

static void test_fixed_map_that_fails(void **state)
{
    (void)state;
    int fd = make_file(in_dir("mmap"), "file");
    char *area = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(area != MAP_FAILED);
    strcpy(area, "area");
    void *got = NULL;
    inject(IO_MMAP, ENOMEM, 0, 1);
    assert_int_equal(io_mmap(area, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0, "mmap", &got),
                     NAVMAP_ENOMEM);
    assert_null(got);
    assert_string_equal(area, "area"); /* what was there stays */
    assert_int_equal(io_mmap(area, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0, "mmap", &got),
                     NAVMAP_OK);
    assert_ptr_equal(got, area);
    assert_memory_equal(area, "file", 4);
    munmap(area, 65536);
    io_close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_open, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_read_and_write, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_read_text, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_file_identity, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_injected_failures, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_kill_points_and_stores, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_msync_whole_pages, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_fixed_map_that_fails, NULL, unhook),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
