/* test_io_files.c -- growth, the size limit, renaming, directories, and kinds of file system. */
#include "tests/unit/io_spy.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>

/* Growth -------------------------------------------------------------------------------------- */

static void expect_zeros(int fd, uint64_t from, uint64_t to)
{
    char *bytes = malloc(to - from);
    assert_int_equal(io_pread(fd, "grow", bytes, to - from, from), NAVMAP_OK);
    for (uint64_t i = 0; i < to - from; i++)
        assert_int_equal(bytes[i], 0);
    free(bytes);
}

static void grow_keeps_bytes(bool fallback)
{
    int fd = make_file(in_dir("grow"), "precious");
    if (fallback)
        inject(IO_FALLOCATE, EOPNOTSUPP, 0, 99);
    assert_int_equal(io_grow(fd, "grow", 8, 200000), NAVMAP_OK);
    assert_int_equal(size_of(fd), 200000);
    char bytes[8];
    assert_int_equal(io_pread(fd, "grow", bytes, 8, 0), NAVMAP_OK);
    assert_memory_equal(bytes, "precious", 8);
    expect_zeros(fd, 8, 200000);
    assert_int_equal(fsync(fd), 0); /* delayed allocation counts blocks late */
    assert_true(io_allocated(fd) >= 196608);

    /* The file may be longer than its owner knew: nothing of it is rewritten. */
    assert_int_equal(io_pwrite(fd, "grow", "tail", 4, 199996), NAVMAP_OK);
    assert_int_equal(io_grow(fd, "grow", 8, 300000), NAVMAP_OK);
    assert_int_equal(io_pread(fd, "grow", bytes, 4, 199996), NAVMAP_OK);
    assert_memory_equal(bytes, "tail", 4);
    expect_zeros(fd, 200000, 300000);
    assert_int_equal(io_grow(fd, "grow", 8, 1000), NAVMAP_OK);
    assert_int_equal(size_of(fd), 300000);

    unsigned events = seen.n_before;
    assert_int_equal(io_grow(fd, "grow", 300000, 300000), NAVMAP_OK);
    assert_int_equal(io_grow(fd, "grow", 300000, 5), NAVMAP_OK);
    assert_int_equal(seen.n_before, events);
    io_hooks = NULL;
    io_close(fd);
}

static void test_grow(void **state)
{
    (void)state;
    watch();
    grow_keeps_bytes(false);
    int fd = make_file(in_dir("grow"), "");
    assert_int_equal(io_allocated(fd), 0);
    watch();
    assert_int_equal(io_grow(fd, "grow", 0, 65536), NAVMAP_OK);
    assert_int_equal(seen.n_after, 1);
    assert_int_equal(seen.after[0].off, 0);
    assert_int_equal(seen.after[0].len, 65536);
    io_hooks = NULL;
    assert_true(io_allocated(fd) >= 65536); /* blocks, not a hole */
    assert_int_equal(io_grow(fd, "grow", 65536, UINT64_MAX), NAVMAP_ENOSPC);
    assert_int_equal(io_allocated(-1), 0);
    io_close(fd);
}

static void test_grow_without_fallocate(void **state)
{
    (void)state;
    grow_keeps_bytes(true);
    int fd = make_file(in_dir("grow"), "x");
    inject(IO_FALLOCATE, ENOSYS, 0, 99);
    assert_int_equal(io_grow(fd, "grow", 1, 65537), NAVMAP_OK);
    for (unsigned i = 0; i < seen.n_after; i++) { /* zeros go beyond the end only */
        assert_int_equal(seen.after[i].kind, IO_PWRITE);
        assert_true(seen.after[i].off >= 1);
    }
    io_hooks = NULL;
    io_close(fd);
}

static uint64_t limit_file_size(uint64_t bytes)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    uint64_t old = limit.rlim_cur;
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    return old;
}

static bool xfsz_pending(void)
{
    sigset_t set;
    assert_int_equal(sigpending(&set), 0);
    return sigismember(&set, SIGXFSZ);
}

/* SIGXFSZ has its default action here: one that got through would end this program. */
static void test_size_limit(void **state)
{
    (void)state;
    assert_true(signal(SIGXFSZ, SIG_DFL) != SIG_ERR);
    int fd = make_file(in_dir("limit"), "0123456789");
    uint64_t old = limit_file_size(100000);
    char bytes[300] = {0};

    assert_int_equal(io_grow(fd, "limit", 10, 200000), NAVMAP_ENOSPC);
    assert_non_null(strstr(navmap_error_detail(), "limit: File too large"));
    assert_false(xfsz_pending());

    inject(IO_FALLOCATE, EOPNOTSUPP, 0, 1); /* the fallback: writes up to the limit, then fails */
    assert_int_equal(io_grow(fd, "limit", 10, 200000), NAVMAP_ENOSPC);
    assert_int_equal(size_of(fd), 100000);
    assert_false(xfsz_pending());

    /* A short write is told as what it wrote, then continued. */
    watch();
    assert_int_equal(io_pwrite(fd, "limit", bytes, 300, 99900), NAVMAP_ENOSPC);
    assert_int_equal(seen.n_after, 2);
    assert_int_equal(seen.after[0].len, 100);
    assert_int_equal(seen.error[0], 0);
    assert_int_equal(seen.after[1].off, 100000);
    assert_int_equal(seen.error[1], EFBIG);
    assert_false(xfsz_pending());
    io_hooks = NULL;

    /* The caller's own pending signal and mask stay as they were. */
    sigset_t set, now;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    assert_int_equal(raise(SIGXFSZ), 0);
    assert_int_equal(io_grow(fd, "limit", 10, 200000), NAVMAP_ENOSPC);
    assert_true(xfsz_pending());
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    assert_true(sigismember(&now, SIGXFSZ));
    assert_int_equal(sigtimedwait(&set, NULL, &(struct timespec){0, 0}), SIGXFSZ);
    assert_int_equal(pthread_sigmask(SIG_UNBLOCK, &set, NULL), 0);
    assert_int_equal(io_grow(fd, "limit", 10, 200000), NAVMAP_ENOSPC);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, NULL, &now), 0);
    assert_false(sigismember(&now, SIGXFSZ));

    limit_file_size(old);
    assert_int_equal(io_grow(fd, "limit", 10, 200000), NAVMAP_OK);
    assert_int_equal(io_pread(fd, "limit", bytes, 10, 0), NAVMAP_OK);
    assert_memory_equal(bytes, "0123456789", 10);
    io_close(fd);
}

/* Names --------------------------------------------------------------------------------------- */

static void test_rename(void **state)
{
    (void)state;
    io_close(make_file(in_dir("from"), "new"));
    io_close(make_file(in_dir("to"), "old"));
    assert_int_equal(io_rename(in_dir("from"), in_dir("to"), 1), NAVMAP_EEXIST);
    assert_int_equal(access(in_dir("from"), F_OK), 0);
    watch();
    assert_int_equal(io_rename(in_dir("from"), in_dir("to"), 0), NAVMAP_OK);
    assert_non_null(strstr(seen.after[0].path, "/from"));
    assert_non_null(strstr(seen.after[0].path2, "/to"));
    assert_int_equal(access(in_dir("from"), F_OK), -1);
    assert_int_equal(io_rename(in_dir("from"), in_dir("to2"), 0), NAVMAP_EIO);

    assert_int_equal(io_mkdir(in_dir("d1")), NAVMAP_OK);
    assert_int_equal(io_mkdir(in_dir("d1")), NAVMAP_EEXIST);
    assert_int_equal(io_mkdir(in_dir("d2")), NAVMAP_OK);
    assert_int_equal(io_mkdir(in_dir("no/d3")), NAVMAP_EIO);
    assert_int_equal(io_rename(in_dir("d1"), in_dir("d2"), 1), NAVMAP_EEXIST); /* even when empty */
    io_close(make_file(in_dir("d2/file"), ""));
    assert_int_equal(io_rename(in_dir("d1"), in_dir("d2"), 0), NAVMAP_EEXIST); /* ENOTEMPTY */
    assert_int_equal(io_unlink(in_dir("d2/file")), NAVMAP_OK);
    assert_int_equal(io_unlink(in_dir("d2/file")), NAVMAP_EIO);
}

/* A file system or a kernel without RENAME_NOREPLACE, played by a system call filter. */
static int rename_without_support(int err)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_renameat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 77;
    if (io_rename(in_dir("n1"), in_dir("n2"), 1) != NAVMAP_EEXIST)
        return 1;
    if (io_rename(in_dir("n1"), in_dir("n3"), 1) != NAVMAP_OK)
        return 2;
    if (access(in_dir("n3"), F_OK) != 0 || access(in_dir("n1"), F_OK) == 0)
        return 3;
    return rename(in_dir("n3"), in_dir("n1")) == 0 ? 0 : 4;
}

static void test_rename_fallback(void **state)
{
    (void)state;
    io_close(make_file(in_dir("n1"), "new"));
    io_close(make_file(in_dir("n2"), "old"));
    const int errors[] = {ENOSYS, EINVAL};
    for (int i = 0; i < 2; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(rename_without_support(errors[i]));
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 77)
            skip(); /* no system call filters here */
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

static void test_fsync_dir(void **state)
{
    (void)state;
    watch();
    assert_int_equal(io_fsync_dir(dir), NAVMAP_OK);
    assert_int_equal(seen.n_after, 2);
    assert_int_equal(seen.after[0].kind, IO_OPEN);
    assert_int_equal(seen.after[1].kind, IO_FSYNC);
    assert_string_equal(seen.after[1].path, dir);
    assert_int_equal(fcntl(seen.after[1].fd, F_GETFD), -1); /* closed again */
    inject(IO_FSYNC, EIO, 0, 1);
    assert_int_equal(io_fsync_dir(dir), NAVMAP_EIO);
    assert_int_equal(io_fsync_dir(in_dir("none")), NAVMAP_EIO);
    io_close(make_file(in_dir("plain"), ""));
    assert_int_equal(io_fsync_dir(in_dir("plain")), NAVMAP_EIO);
}

/* Stands before the C library's, so that any file system can be pretended. */
static uint32_t pretended_magic;

int statfs(const char *path, struct statfs *ret)
{
    long rc = syscall(SYS_statfs, path, ret);
    if (rc == 0 && pretended_magic != 0)
        ret->f_type = (int32_t)pretended_magic; /* sign-extended, as kernels have done */
    return (int)rc;
}

static void test_network_file_systems(void **state)
{
    (void)state;
    static const uint32_t refused[] = {0x6969,     0x517B,     0xFF534D42, 0xFE534D42,
                                       0x01021997, 0x00C36400, 0x0BD00BD0, 0x5346414F,
                                       0x6B414653, 0x65735546, 0x73757245, 0x564C};
    static const uint32_t accepted[] = {0xEF53 /* ext4 */,      0x58465342 /* xfs */,
                                        0x01021994 /* tmpfs */, 0xF2F52010 /* f2fs */,
                                        0x9123683E /* btrfs */, 0x794C7630 /* overlay */};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        pretended_magic = refused[i];
        assert_int_equal(io_check_fs(dir), NAVMAP_EFSTYPE);
    }
    for (size_t i = 0; i < sizeof(accepted) / sizeof(accepted[0]); i++) {
        pretended_magic = accepted[i];
        assert_int_equal(io_check_fs(dir), NAVMAP_OK);
    }
    pretended_magic = 0;
    assert_int_equal(io_check_fs(dir), NAVMAP_OK);
    inject(IO_FSTATFS, EREMOTE, 0, 1);
    assert_int_equal(io_check_fs(dir), NAVMAP_EFSTYPE);
    assert_non_null(strstr(navmap_error_detail(), dir));
    io_hooks = NULL;
    assert_int_equal(io_check_fs(in_dir("none")), NAVMAP_ENOINDEX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_grow, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_grow_without_fallocate, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_size_limit, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_rename, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_rename_fallback, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_fsync_dir, NULL, unhook),
        cmocka_unit_test_setup_teardown(test_network_file_systems, NULL, unhook),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
