/* interpose.c -- file system calls under the test's own roof; see interpose.h. */
#undef _FILE_OFFSET_BITS /* else glibc renames open to open64 and both could not be defined */
#undef _FORTIFY_SOURCE
#include "tests/support/interpose.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <lmdb.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_FD 1024
#define MAX_IOV 1024

const char *const sys_kind_names[SYS_KINDS] = {"open",      "close",  "write",     "fsync",
                                               "fdatasync", "msync",  "ftruncate", "fallocate",
                                               "rename",    "unlink", "mkdir"};

static const struct interpose_hooks *_Atomic current;

/* What is known of a followed descriptor.  Written at open and close only. */
static struct followed {
    _Atomic bool on;
    int flags;
    char path[512];
} followed[MAX_FD];

static struct followed *follow(int fd)
{
    if (fd < 0 || fd >= MAX_FD || !atomic_load(&current) || !atomic_load(&followed[fd].on))
        return NULL;
    return &followed[fd];
}

void interpose_set(const struct interpose_hooks *hooks)
{
    atomic_store(&current, hooks);
    if (!hooks) {
        for (int i = 0; i < MAX_FD; i++)
            atomic_store(&followed[i].on, false);
    }
}

static bool below_root(const struct interpose_hooks *h, const char *path)
{
    return h && path && strncmp(path, h->root, strlen(h->root)) == 0;
}

static int ask(const struct interpose_hooks *h, const struct sys_event *e)
{
    return h && h->before ? h->before(h->ctx, e) : 0;
}

/* Report and turn the kernel's answer into libc's. */
static int64_t answer(const struct interpose_hooks *h, const struct sys_event *e, int64_t result)
{
    if (h && h->after) {
        int override = h->after(h->ctx, e, result);
        if (result >= 0 && override > 0)
            result = -override;
    }
    if (result < 0) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

static int64_t kernel(int64_t result)
{
    return result < 0 ? -(int64_t)errno : result;
}

/* A call on a followed fd with nothing to vary: ask, do, report. */
#define SIMPLE_CALL(event, followed_fd, call)                                                      \
    do {                                                                                           \
        const struct interpose_hooks *hooks_ = (followed_fd) ? atomic_load(&current) : NULL;       \
        int veto_ = ask(hooks_, &(event));                                                         \
        if (veto_ > 0) {                                                                           \
            errno = veto_;                                                                         \
            return -1;                                                                             \
        }                                                                                          \
        return (int)answer(hooks_, &(event), kernel(call));                                        \
    } while (0)

static int do_open(int dirfd, const char *path, int flags, mode_t mode)
{
    const struct interpose_hooks *h = atomic_load(&current);
    if (!below_root(h, path))
        return (int)syscall(SYS_openat, dirfd, path, flags, mode);
    struct sys_event e = {.kind = SYS_OPEN, .fd = -1, .flags = flags, .path = path};
    int veto = ask(h, &e);
    if (veto > 0) {
        errno = veto;
        return -1;
    }
    int64_t fd = kernel(syscall(SYS_openat, dirfd, path, flags, mode));
    if (fd >= 0 && fd < MAX_FD && strlen(path) < sizeof followed[fd].path) {
        (void)memcpy(followed[fd].path, path, strlen(path) + 1);
        followed[fd].flags = flags;
        atomic_store(&followed[fd].on, true);
    }
    return (int)answer(h, &e, fd);
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? (mode_t)va_arg(args, int) : 0;
}

#define DEFINE_OPEN(name)                                                                          \
    EXPORT int name(const char *path, int flags, ...);                                             \
    EXPORT int name(const char *path, int flags, ...)                                              \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = mode_of(flags, args);                                                        \
        va_end(args);                                                                              \
        return do_open(AT_FDCWD, path, flags, mode);                                               \
    }
#define DEFINE_OPENAT(name)                                                                        \
    EXPORT int name(int dirfd, const char *path, int flags, ...);                                  \
    EXPORT int name(int dirfd, const char *path, int flags, ...)                                   \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = mode_of(flags, args);                                                        \
        va_end(args);                                                                              \
        return do_open(dirfd, path, flags, mode);                                                  \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

EXPORT int close(int fd)
{
    struct followed *f = follow(fd);
    if (f) {
        const struct interpose_hooks *h = atomic_load(&current);
        struct sys_event e = {.kind = SYS_CLOSE, .fd = fd, .flags = f->flags, .path = f->path};
        if (h && h->after)
            (void)h->after(h->ctx, &e, 0);
        atomic_store(&f->on, false);
    }
    return (int)syscall(SYS_close, fd);
}

/* All writes end here.  `positioned`: at `off`; else at the file position, which moves. */
static ssize_t do_write(int fd, const struct iovec *iov, int iovcnt, off_t off, bool positioned)
{
    struct followed *f = follow(fd);
    const struct interpose_hooks *h = f ? atomic_load(&current) : NULL;
    struct iovec half[MAX_IOV];
    struct sys_event e = {.kind = SYS_WRITE, .fd = fd, .iov = iov, .iovcnt = iovcnt};
    if (h && iovcnt <= MAX_IOV) {
        e.flags = f->flags;
        e.path = f->path;
        e.off = (uint64_t)(positioned ? off : (off_t)syscall(SYS_lseek, fd, 0, SEEK_CUR));
        for (int i = 0; i < iovcnt; i++)
            e.len += iov[i].iov_len;
        int veto = ask(h, &e);
        if (veto > 0) {
            errno = veto;
            return -1;
        }
        if (veto == INTERPOSE_SHORT) {
            size_t left = e.len / 2;
            for (int i = 0; i < iovcnt; i++) {
                half[i] = iov[i];
                if (half[i].iov_len > left)
                    half[i].iov_len = left;
                left -= half[i].iov_len;
            }
            e.iov = half;
        }
    }
    int64_t result;
    if (positioned)
        result = kernel(syscall(SYS_pwritev, fd, e.iov, iovcnt, (long)off, 0L));
    else
        result = kernel(syscall(SYS_writev, fd, e.iov, iovcnt));
    return (ssize_t)answer(h, &e, result);
}

#define DEFINE_PWRITE(name)                                                                        \
    EXPORT ssize_t name(int fd, const void *bytes, size_t n, off_t off);                           \
    EXPORT ssize_t name(int fd, const void *bytes, size_t n, off_t off)                            \
    {                                                                                              \
        struct iovec iov = {(void *)(uintptr_t)bytes, n};                                          \
        return do_write(fd, &iov, 1, off, true);                                                   \
    }
#define DEFINE_PWRITEV(name)                                                                       \
    EXPORT ssize_t name(int fd, const struct iovec *iov, int iovcnt, off_t off);                   \
    EXPORT ssize_t name(int fd, const struct iovec *iov, int iovcnt, off_t off)                    \
    {                                                                                              \
        return do_write(fd, iov, iovcnt, off, true);                                               \
    }
DEFINE_PWRITE(pwrite)
DEFINE_PWRITE(pwrite64)
DEFINE_PWRITEV(pwritev)
DEFINE_PWRITEV(pwritev64)

EXPORT ssize_t write(int fd, const void *bytes, size_t n)
{
    struct iovec iov = {(void *)(uintptr_t)bytes, n};
    return do_write(fd, &iov, 1, 0, false);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int iovcnt)
{
    return do_write(fd, iov, iovcnt, 0, false);
}

static int do_on_fd(struct sys_event *e, long number, long a, long b, long c)
{
    struct followed *f = follow(e->fd);
    if (f) {
        e->flags = f->flags;
        e->path = f->path;
    }
    SIMPLE_CALL(*e, f, syscall(number, e->fd, a, b, c));
}

EXPORT int fsync(int fd)
{
    struct sys_event e = {.kind = SYS_FSYNC, .fd = fd};
    return do_on_fd(&e, SYS_fsync, 0, 0, 0);
}

EXPORT int fdatasync(int fd)
{
    struct sys_event e = {.kind = SYS_FDATASYNC, .fd = fd};
    return do_on_fd(&e, SYS_fdatasync, 0, 0, 0);
}

#define DEFINE_FTRUNCATE(name)                                                                     \
    EXPORT int name(int fd, off_t len) __attribute__((nothrow));                                   \
    EXPORT int name(int fd, off_t len)                                                             \
    {                                                                                              \
        struct sys_event e = {.kind = SYS_FTRUNCATE, .fd = fd, .len = (uint64_t)len};              \
        return do_on_fd(&e, SYS_ftruncate, (long)len, 0, 0);                                       \
    }
DEFINE_FTRUNCATE(ftruncate)
DEFINE_FTRUNCATE(ftruncate64)

#define DEFINE_FALLOCATE(name)                                                                     \
    EXPORT int name(int fd, int how, off_t off, off_t len);                                        \
    EXPORT int name(int fd, int how, off_t off, off_t len)                                         \
    {                                                                                              \
        struct sys_event e = {                                                                     \
            .kind = SYS_FALLOCATE, .fd = fd, .off = (uint64_t)off, .len = (uint64_t)len};          \
        return do_on_fd(&e, SYS_fallocate, how, (long)off, (long)len);                             \
    }
DEFINE_FALLOCATE(fallocate)
DEFINE_FALLOCATE(fallocate64)

EXPORT int msync(void *address, size_t len, int flags)
{
    struct sys_event e = {.kind = SYS_MSYNC, .fd = -1, .len = len};
    SIMPLE_CALL(e, true, syscall(SYS_msync, address, len, flags));
}

EXPORT int rename(const char *from, const char *to)
{
    struct sys_event e = {.kind = SYS_RENAME, .fd = -1, .path = from, .path2 = to};
    SIMPLE_CALL(e, below_root(atomic_load(&current), from),
                syscall(SYS_renameat, AT_FDCWD, from, AT_FDCWD, to));
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned how)
{
    struct sys_event e = {.kind = SYS_RENAME, .fd = -1, .path = from, .path2 = to};
    SIMPLE_CALL(e, below_root(atomic_load(&current), from),
                syscall(SYS_renameat2, from_dir, from, to_dir, to, how));
}

EXPORT int unlink(const char *path)
{
    struct sys_event e = {.kind = SYS_UNLINK, .fd = -1, .path = path};
    SIMPLE_CALL(e, below_root(atomic_load(&current), path),
                syscall(SYS_unlinkat, AT_FDCWD, path, 0));
}

EXPORT int mkdir(const char *path, mode_t mode)
{
    struct sys_event e = {.kind = SYS_MKDIR, .fd = -1, .path = path};
    SIMPLE_CALL(e, below_root(atomic_load(&current), path),
                syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}

/* A miniature LMDB environment: its meta writes and its sync must be seen. */
static int count_lmdb(void *ctx, const struct sys_event *e, int64_t result)
{
    unsigned *seen = ctx;
    if (result >= 0 && e->kind == SYS_WRITE)
        seen[0]++;
    if (result >= 0 && (e->kind == SYS_FDATASYNC || e->kind == SYS_FSYNC))
        seen[1]++;
    return 0;
}

bool interpose_works(const char *dir)
{
    unsigned seen[2] = {0, 0};
    char path[512], lock_path[520];
    const struct interpose_hooks *before = atomic_load(&current);
    const struct interpose_hooks hooks = {seen, dir, NULL, count_lmdb};
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    MDB_dbi dbi;
    MDB_val word = {4, (void *)(uintptr_t) "word"};
    (void)strncpy(path, dir, sizeof path - 16);
    path[sizeof path - 16] = '\0';
    (void)strcat(path, "/seen.mdb");
    (void)strcat(strcpy(lock_path, path), "-lock");
    interpose_set(&hooks);
    bool ok = mdb_env_create(&env) == 0 && mdb_env_open(env, path, MDB_NOSUBDIR, 0644) == 0 &&
              mdb_txn_begin(env, NULL, 0, &txn) == 0 && mdb_dbi_open(txn, NULL, 0, &dbi) == 0 &&
              mdb_put(txn, dbi, &word, &word, 0) == 0 && mdb_txn_commit(txn) == 0;
    mdb_env_close(env);
    interpose_set(before);
    (void)unlink(path);
    (void)unlink(lock_path);
    return ok && seen[0] >= 2 && seen[1] >= 1;
}
