/* interpose.h -- every file system call of the program, liblmdb's included, seen and refusable.
 *
 * interpose.c defines pwrite, fdatasync, open ... in the test program itself.  The dynamic linker
 * looks there first, so that liblmdb.so's calls arrive here as well as our own static code's; no
 * LD_PRELOAD is needed.  The calls then go to the kernel directly.  Sanitizers keep working: they
 * lose their own wrappers of these few functions and nothing else.
 *
 * Only files below `root` are reported: the fd is followed from open to close.
 */
#ifndef NAVMAP_TESTS_SUPPORT_INTERPOSE_H
#define NAVMAP_TESTS_SUPPORT_INTERPOSE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

enum sys_kind {
    SYS_OPEN,      /* path, flags; after: result is the fd */
    SYS_CLOSE,     /* fd */
    SYS_WRITE,     /* fd, off, iov: write, writev, pwrite and pwritev alike */
    SYS_FSYNC,     /* fd */
    SYS_FDATASYNC, /* fd */
    SYS_MSYNC,     /* len; no fd: the recorder takes ranges from io_hooks */
    SYS_FTRUNCATE, /* fd, len */
    SYS_FALLOCATE, /* fd, off, len */
    SYS_RENAME,    /* path, path2 */
    SYS_UNLINK,    /* path */
    SYS_MKDIR,     /* path */
    SYS_KINDS
};
extern const char *const sys_kind_names[SYS_KINDS];

struct sys_event {
    enum sys_kind kind;
    int fd;
    int flags;         /* of open, also for every later call on the fd: O_DSYNC, O_DIRECTORY, ... */
    uint64_t off, len; /* SYS_WRITE: all bytes of iov */
    const struct iovec *iov;
    int iovcnt;
    const char *path, *path2; /* path: also for calls on a followed fd */
};

#define INTERPOSE_SHORT (-1) /* write only the first half */

struct interpose_hooks {
    void *ctx;
    const char *root; /* prefix of the paths to report */
    /* 0 = do it, > 0 = fail with this errno, doing nothing, INTERPOSE_SHORT.  May be NULL. */
    int (*before)(void *ctx, const struct sys_event *event);
    /* `result` as the kernel gave it; < 0 = -errno.  For a short or partial write, what was
     * written.  Returns 0, or an errno to report in spite of the call's success.  May be NULL. */
    int (*after)(void *ctx, const struct sys_event *event, int64_t result);
};

/* One at a time; NULL ends it.  Files that are open already are not followed. */
void interpose_set(const struct interpose_hooks *hooks);
/* Do calls made inside shared libraries arrive here?  (A failing writev of LMDB would tell too, but
 * a test should know before it believes what it recorded.) */
bool interpose_works(const char *dir);

#endif
