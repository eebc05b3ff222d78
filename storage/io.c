/* io.c -- the one door to the file system: system calls between two hooks, whole or failed.
 *
 * Callers never see EINTR, a short transfer or errno.  A failed sync is the one thing that is
 * never tried again, not even after EINTR: the kernel reports a lost write once per descriptor and
 * then considers the page clean, so a second call could succeed without the bytes.
 */
#include "storage/io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "storage/fail.h"

const struct io_hooks *io_hooks;

const char *const io_kill_point_names[KP_COUNT] = {
#define X(name) #name,
    IO_KILL_POINTS(X)
#undef X
};

static int hook_before(const struct io_event *event)
{
    if (__builtin_expect(io_hooks != NULL, 0) && io_hooks->before)
        return io_hooks->before(io_hooks->ctx, event);
    return 0;
}

static void hook_after(const struct io_event *event, int error)
{
    if (__builtin_expect(io_hooks != NULL, 0) && io_hooks->after)
        io_hooks->after(io_hooks->ctx, event, error);
}

/* One system call between its hooks; `call` is negative when it failed.  A vetoed call has no
 * effect and therefore no `after`. */
#define ATTEMPT_ONCE(err, event, call)                                                             \
    do {                                                                                           \
        (err) = hook_before(event);                                                                \
        if ((err) == 0) {                                                                          \
            (err) = (call) < 0 ? errno : 0;                                                        \
            hook_after(event, err);                                                                \
        }                                                                                          \
    } while (0)

/* The same, started over when a signal (or an injector) interrupted it. */
#define ATTEMPT(err, event, call)                                                                  \
    do                                                                                             \
        ATTEMPT_ONCE(err, event, call);                                                            \
    while ((err) == EINTR)

void io_quiet_begin(struct io_quiet *q)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &set, &q->old_mask);
    sigemptyset(&set);
    q->was_pending = sigpending(&set) == 0 && sigismember(&set, SIGXFSZ) == 1;
}

void io_quiet_end(const struct io_quiet *q, bool raised)
{
    if (raised && !q->was_pending) {
        const struct timespec now = {0, 0};
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGXFSZ);
        while (sigtimedwait(&set, NULL, &now) < 0 && errno == EINTR)
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &q->old_mask, NULL);
}

uint64_t io_size_limit(void)
{
    struct rlimit limit;
    return getrlimit(RLIMIT_FSIZE, &limit) == 0 ? (uint64_t)limit.rlim_cur : UINT64_MAX;
}

/* fail_errno() for calls that name a path: nothing there is not an input/output error. */
static navmap_status fail_path(int err, int writing, const char *what, const char *path)
{
    navmap_status code = fail_errno(err, writing, what, path);
    if (err == ENOENT || err == ENOTDIR)
        return NAVMAP_ENOINDEX;
    return code;
}

static int open_between_hooks(const char *path, int flags, int mode, int *ret_fd)
{
    struct io_event e = {.kind = IO_OPEN, .fd = -1, .off = (uint64_t)flags, .path = path};
    int err;
    ATTEMPT(err, &e, e.fd = open(path, flags | O_CLOEXEC, (mode_t)mode));
    if (err == 0)
        *ret_fd = e.fd;
    return err;
}

navmap_status io_open(const char *path, int flags, int mode, int *ret_fd)
{
    int err = open_between_hooks(path, flags, mode, ret_fd);
    if (err == EEXIST)
        return fail(NAVMAP_EEXIST, "open %s: something is there already", path);
    if (err != 0)
        return fail_path(err, (flags & O_ACCMODE) != O_RDONLY || (flags & O_CREAT), "open", path);
    return NAVMAP_OK;
}

void io_close(int fd)
{
    if (fd >= 0)
        (void)close(fd); /* Linux frees the number even on EINTR: closing again could hit another */
}

navmap_status io_pread(int fd, const char *path, void *ret_bytes, uint64_t len, uint64_t off)
{
    uint64_t done = 0;
    while (done < len) {
        struct io_event e = {
            .kind = IO_PREAD, .fd = fd, .off = off + done, .len = len - done, .path = path};
        ssize_t n = 0;
        int err;
        ATTEMPT(err, &e,
                (n = pread(fd, (char *)ret_bytes + done, len - done, (off_t)(off + done))));
        if (err != 0)
            return fail_errno(err, 0, "read", path);
        if (n == 0)
            return fail(NAVMAP_ECORRUPT,
                        "%s: file ends at byte %" PRIu64 ", expected %" PRIu64 " bytes at %" PRIu64,
                        path, off + done, len, off);
        done += (uint64_t)n;
    }
    return NAVMAP_OK;
}

bool io_read_text(const char *path, char *ret_text, uint64_t room)
{
    int fd = -1;
    if (open_between_hooks(path, O_RDONLY, 0, &fd) != 0)
        return false;
    uint64_t done = 0;
    ssize_t n = 0;
    int err = 0;
    do {
        struct io_event e = {
            .kind = IO_PREAD, .fd = fd, .off = done, .len = room - 1 - done, .path = path};
        ATTEMPT(err, &e, (n = pread(fd, ret_text + done, e.len, (off_t)done)));
        done += err == 0 ? (uint64_t)n : 0;
    } while (err == 0 && n > 0 && done < room - 1);
    io_close(fd);
    ret_text[done] = 0;
    return err == 0;
}

/* The loop of io_pwrite(); returns an errno. */
static int write_all(int fd, const char *path, const void *bytes, uint64_t len, uint64_t off)
{
    uint64_t done = 0;
    while (done < len) {
        struct io_event e = {.kind = IO_PWRITE,
                             .fd = fd,
                             .off = off + done,
                             .len = len - done,
                             .bytes = (const char *)bytes + done,
                             .path = path};
        ssize_t n = 0;
        int err;
        /* `after` is told what was written, not what was asked for. */
        ATTEMPT(err, &e,
                (n = pwrite(fd, e.bytes, e.len, (off_t)e.off)) < 0 ? -1 : (e.len = (uint64_t)n, 0));
        if (err != 0)
            return err;
        if (n == 0)
            return EIO;
        done += (uint64_t)n;
    }
    return 0;
}

navmap_status io_pwrite(int fd, const char *path, const void *bytes, uint64_t len, uint64_t off)
{
    struct io_quiet q;
    io_quiet_begin(&q);
    int err = write_all(fd, path, bytes, len, off);
    io_quiet_end(&q, err == EFBIG);
    return err == 0 ? NAVMAP_OK : fail_errno(err, 1, "write", path);
}

/* For file systems without fallocate: real zeros, from the end of the file on, never over bytes
 * that exist. */
static int grow_by_writing(int fd, const char *path, uint64_t new_size)
{
    static const char zeros[65536];
    struct stat st;
    if (fstat(fd, &st) != 0)
        return errno;
    uint64_t at = (uint64_t)st.st_size;
    while (at < new_size) {
        uint64_t n = sizeof(zeros) - at % sizeof(zeros);
        if (n > new_size - at)
            n = new_size - at;
        int err = write_all(fd, path, zeros, n, at);
        if (err != 0)
            return err;
        at += n;
    }
    return 0;
}

navmap_status io_grow(int fd, const char *path, uint64_t old_size, uint64_t new_size)
{
    if (new_size <= old_size)
        return NAVMAP_OK;
    if (new_size > (uint64_t)INT64_MAX)
        return fail_errno(EFBIG, 1, "grow", path);
    struct io_event e = {
        .kind = IO_FALLOCATE, .fd = fd, .off = old_size, .len = new_size - old_size, .path = path};
    struct io_quiet q;
    int err;
    io_quiet_begin(&q);
    ATTEMPT(err, &e, fallocate(fd, 0, (off_t)e.off, (off_t)e.len));
    if (err == EOPNOTSUPP || err == ENOSYS)
        err = grow_by_writing(fd, path, new_size);
    io_quiet_end(&q, err == EFBIG);
    return err == 0 ? NAVMAP_OK : fail_errno(err, 1, "grow", path);
}

/* Whatever errno says, a failed sync is not "free some space and repeat the call". */
static navmap_status fail_sync(int err, const char *what, const char *path)
{
    (void)fail_errno(err, 1, what, path);
    return NAVMAP_EIO;
}

navmap_status io_fsync(int fd, const char *path)
{
    struct io_event e = {.kind = IO_FSYNC, .fd = fd, .path = path};
    int err;
    ATTEMPT_ONCE(err, &e, fsync(fd));
    return err == 0 ? NAVMAP_OK : fail_sync(err, "fsync", path);
}

navmap_status io_fdatasync(int fd, const char *path)
{
    struct io_event e = {.kind = IO_FDATASYNC, .fd = fd, .path = path};
    int err;
    ATTEMPT_ONCE(err, &e, fdatasync(fd));
    return err == 0 ? NAVMAP_OK : fail_sync(err, "fdatasync", path);
}

navmap_status io_fsync_dir(const char *path)
{
    int fd = -1;
    int err = open_between_hooks(path, O_RDONLY | O_DIRECTORY, 0, &fd);
    if (err != 0)
        return fail_errno(err, 0, "open directory", path);
    navmap_status status = io_fsync(fd, path);
    io_close(fd);
    return status;
}

navmap_status io_msync(int fd, const char *path, void *address, uint64_t off, uint64_t len)
{
    if (len == 0)
        return NAVMAP_OK;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t lead = (uint64_t)(uintptr_t)address % page;
    uint64_t bytes = (lead + len + page - 1) / page * page;
    struct io_event e = {.kind = IO_MSYNC, .fd = fd, .off = off - lead, .len = bytes, .path = path};
    int err;
    ATTEMPT_ONCE(err, &e, msync((char *)address - lead, bytes, MS_SYNC));
    return err == 0 ? NAVMAP_OK : fail_sync(err, "msync", path);
}

navmap_status io_mmap(void *address, uint64_t len, int prot, int flags, int fd, uint64_t off,
                      const char *path, void **ret_address)
{
    struct io_event e = {.kind = IO_MMAP, .fd = fd, .off = off, .len = len, .path = path};
    void *p = MAP_FAILED;
    int err;
    ATTEMPT(err, &e, (p = mmap(address, len, prot, flags, fd, (off_t)off)) == MAP_FAILED ? -1 : 0);
    if (err != 0)
        return fail_errno(err, 0, "mmap", path);
    *ret_address = p;
    return NAVMAP_OK;
}

/* Where renameat2 has no RENAME_NOREPLACE, look first: not atomic, but the name we give away is
 * one that nobody else should be making at this moment. */
static int rename_no_replace(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != ENOSYS && errno != EINVAL)
        return -1;
    struct stat st;
    if (lstat(to, &st) == 0) {
        errno = EEXIST;
        return -1;
    }
    return errno == ENOENT ? rename(from, to) : -1;
}

navmap_status io_rename(const char *from, const char *to, int no_replace)
{
    struct io_event e = {.kind = IO_RENAME, .fd = -1, .path = from, .path2 = to};
    int err;
    ATTEMPT(err, &e, no_replace ? rename_no_replace(from, to) : rename(from, to));
    if (err == EEXIST || err == ENOTEMPTY)
        return fail(NAVMAP_EEXIST, "rename %s to %s: something is there already", from, to);
    return err == 0 ? NAVMAP_OK : fail_errno(err, 1, "rename to", to);
}

navmap_status io_unlink(const char *path)
{
    struct io_event e = {.kind = IO_UNLINK, .fd = -1, .path = path};
    int err;
    ATTEMPT(err, &e, unlink(path));
    return err == 0 ? NAVMAP_OK : fail_errno(err, 1, "unlink", path);
}

navmap_status io_mkdir(const char *path)
{
    struct io_event e = {.kind = IO_MKDIR, .fd = -1, .path = path};
    int err;
    ATTEMPT(err, &e, mkdir(path, 0777));
    if (err == EEXIST)
        return fail(NAVMAP_EEXIST, "mkdir %s: something is there already", path);
    return err == 0 ? NAVMAP_OK : fail_errno(err, 1, "mkdir", path);
}

navmap_status io_rmdir(const char *path)
{
    return rmdir(path) == 0 ? NAVMAP_OK : fail_errno(errno, 1, "rmdir", path);
}

navmap_status io_list(const char *path, io_visit *visit, void *ctx)
{
    DIR *dir = opendir(path);
    if (!dir)
        return fail_errno(errno, 0, "reading directory", path);
    navmap_status status = NAVMAP_OK;
    for (struct dirent *e; status == NAVMAP_OK && (e = readdir(dir)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            status = visit(ctx, e->d_name);
    (void)closedir(dir);
    return status;
}

static struct io_info info_of(const struct stat *st)
{
    return (struct io_info){.directory = S_ISDIR(st->st_mode),
                            .regular = S_ISREG(st->st_mode),
                            .mode = st->st_mode & 07777,
                            .uid = st->st_uid,
                            .gid = st->st_gid,
                            .dev = (uint64_t)st->st_dev,
                            .ino = (uint64_t)st->st_ino,
                            .bytes = (uint64_t)st->st_size,
                            .modified_ns = (uint64_t)st->st_mtim.tv_sec * 1000000000u +
                                           (uint64_t)st->st_mtim.tv_nsec};
}

navmap_status io_stat(const char *path, struct io_info *ret_info)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return fail(NAVMAP_ENOINDEX, "%s: nothing is there", path);
        return fail_errno(errno, 0, "stat", path);
    }
    *ret_info = info_of(&st);
    return NAVMAP_OK;
}

navmap_status io_fstat(int fd, const char *path, struct io_info *ret_info)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_errno(errno, 0, "fstat", path);
    *ret_info = info_of(&st);
    return NAVMAP_OK;
}

void io_resemble(int fd, const struct io_info *other)
{
    bool grouped = fchown(fd, other->uid, other->gid) == 0 ||
                   fchown(fd, (uid_t)-1, other->gid) == 0; /* a member may, who is not root */
    /* Set-id bits are worth nothing on data, and a group that is not the same gets nothing. */
    (void)!fchmod(fd, grouped ? other->mode & 0777 : other->mode & 0707);
}

navmap_status io_dup(int fd, const char *path, int *ret_fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0)
        return fail_errno(errno, 0, "dup", path);
    *ret_fd = copy;
    return NAVMAP_OK;
}

navmap_status io_file_size(int fd, const char *path, uint64_t *ret_bytes)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_errno(errno, 0, "fstat", path);
    *ret_bytes = (uint64_t)st.st_size;
    return NAVMAP_OK;
}

navmap_status io_file_id(int fd, const char *path, uint64_t *ret_dev, uint64_t *ret_ino)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return fail_errno(errno, 0, "fstat", path);
    *ret_dev = (uint64_t)st.st_dev;
    *ret_ino = (uint64_t)st.st_ino;
    return NAVMAP_OK;
}

void io_close_on_exec(int fd)
{
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

bool io_unlinked(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && st.st_nlink == 0;
}

uint64_t io_allocated(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* A shared mapping on these is not coherent between hosts, and their locks are not ours. */
static const struct {
    uint32_t magic;
    const char *name;
} refused_fs[] = {
    {0x00006969u, "NFS"},  {0x0000517Bu, "SMB"},  {0xFF534D42u, "CIFS"},   {0xFE534D42u, "SMB2"},
    {0x01021997u, "9p"},   {0x00C36400u, "Ceph"}, {0x0BD00BD0u, "Lustre"}, {0x5346414Fu, "AFS"},
    {0x6B414653u, "kAFS"}, {0x65735546u, "FUSE"}, {0x73757245u, "Coda"},   {0x0000564Cu, "NCP"},
};

navmap_status io_check_fs(const char *path)
{
    struct io_event e = {.kind = IO_FSTATFS, .fd = -1, .path = path};
    struct statfs fs = {0};
    int err;
    ATTEMPT(err, &e, statfs(path, &fs));
    const char *name = err == EREMOTE ? "a network file system" : NULL;
    for (size_t i = 0; err == 0 && i < sizeof(refused_fs) / sizeof(refused_fs[0]); i++) {
        if ((uint32_t)fs.f_type == refused_fs[i].magic)
            name = refused_fs[i].name;
    }
    if (name != NULL)
        return fail(NAVMAP_EFSTYPE,
                    "%s lies on %s, which cannot be shared safely; use a local file system", path,
                    name);
    return err == 0 ? NAVMAP_OK : fail_path(err, 0, "statfs", path);
}
