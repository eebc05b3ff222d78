/* io.h -- every effect that navmap itself has on the file system passes through here.
 *
 * One door means that tests can stand in it: a recorder sees each effect in order, an injector
 * makes the n-th call of a kind fail, a kill point ends the process at a named step.  LMDB writes
 * by system calls of its own; the tests interpose those (tests/support).  In production
 * `io_hooks` is NULL and a hook costs one predictable branch, none of them on the search path.
 */
#ifndef NAVMAP_STORAGE_IO_H
#define NAVMAP_STORAGE_IO_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/status.h"

enum io_kind {
    IO_OPEN,      /* path; off = the flags; afterwards fd */
    IO_PREAD,     /* fd, off, len */
    IO_PWRITE,    /* fd, off, len, bytes */
    IO_FALLOCATE, /* fd, off, len: extends the file to off+len */
    IO_FSYNC,     /* fd */
    IO_FDATASYNC, /* fd */
    IO_MSYNC,     /* fd, off, len: offsets in the file */
    IO_MMAP,      /* fd, off, len */
    IO_STORE,     /* fd, off, len, bytes: a store through the shared mapping, after the fact */
    IO_RENAME,    /* path -> path2 */
    IO_UNLINK,    /* path */
    IO_MKDIR,     /* path */
    IO_FSTATFS,   /* path: a hook may return EREMOTE to pretend a network file system */
    IO_KINDS
};

struct io_event {
    enum io_kind kind;
    int fd;
    uint64_t off, len;
    const void *bytes;
    const char *path, *path2;
};

/* Named steps of the protocol.  Tests iterate over them; a name is frozen once a test cites it. */
/* clang-format off */
#define IO_KILL_POINTS(X)                                                                          \
    X(CREATE_DIR) X(CREATE_DATA) X(CREATE_LMDB) X(CREATE_SYNCED) X(CREATE_RENAMED)                 \
    X(PAYLOAD_TAG) X(PAYLOAD_CODE) X(PAYLOAD_VEC)                                                  \
    X(GROW_BEFORE) X(GROW_ALLOCATED) X(GROW_SYNCED) X(GROW_MAPPED)                                 \
    X(C1_BEFORE) X(C1) X(C2_MSYNC_BEFORE) X(C2_MSYNC) X(C2) X(C3_FRAME) X(C3_LABEL) X(C3)          \
    X(C4) X(P0) X(P1_PAYLOAD) X(P1_STATE) X(P1) X(P2_OWN) X(P2_FENCE) X(P2_OTHER) X(P2)            \
    X(P3_EXTENT) X(P3_ENTRY) X(P3) X(P4_STATE) X(P4) X(C5) X(C6) X(C7)                             \
    X(K1) X(K2) X(K3_BEFORE) X(K3) X(K3_SLICE)                                                     \
    X(O1) X(O2) X(O3) X(O4) X(O5) X(O6_READ) X(O6_CHECKED) X(O6) X(O7) X(O8_SYNCED) X(O8)          \
    X(SAVE_OPENED) X(SAVE_WRITTEN) X(SAVE_SYNCED) X(SAVE_RENAMED)                                 \
    X(GEN_CREATED) X(GEN_CHUNK) X(GEN_WRITTEN) X(GEN_SYNCED) X(GEN_NAMED) X(GEN_LABELS)            \
    X(GEN_LABELLED) X(SWAP_ALONE) X(SWAP_BEFORE) X(SWAP) X(SWAP_MARKED) X(SWAP_PUBLISHED)          \
    X(SWAP_UNLINKED) X(CLEAR_LABELS) X(CLEAR_LOG) X(SHRINK_COPIED) X(SHRINK_ALONE)                 \
    X(SHRINK_RENAMED) X(SHRINK_REOPENED)                                                           \
    X(CLOSE)
/* clang-format on */

enum kill_point {
#define X(name) KP_##name,
    IO_KILL_POINTS(X)
#undef X
        KP_COUNT
};
extern const char *const io_kill_point_names[KP_COUNT];

struct io_hooks {
    void *ctx;
    /* Before the effect: 0 = go on, else an errno to fail with instead of doing it.
     * NULL = always go on.  Not called for IO_STORE. */
    int (*before)(void *ctx, const struct io_event *event);
    /* After the effect, with its outcome (0 or errno); not after a veto by `before`.  A transfer
     * that was cut short is told as what was written, then continued as an event of its own. */
    void (*after)(void *ctx, const struct io_event *event, int error);
    void (*kill_point)(void *ctx, enum kill_point point);
};

/* Set by tests, before any handle is open.  The library itself never sets it. */
extern const struct io_hooks *io_hooks;

static inline void io_kill_point(enum kill_point point)
{
    if (__builtin_expect(io_hooks != NULL, 0) && io_hooks->kill_point)
        io_hooks->kill_point(io_hooks->ctx, point);
}
#define STORE_KILL_POINT(name) io_kill_point(KP_##name)

/* Report a store that has just been made through the shared mapping (apply, payload_store,
 * LIVE).  `off` is the file offset. */
static inline void io_stored(int fd, uint64_t off, const void *bytes, uint64_t len)
{
    if (__builtin_expect(io_hooks != NULL, 0) && io_hooks->after) {
        struct io_event e = {IO_STORE, fd, off, len, bytes, NULL, NULL};
        io_hooks->after(io_hooks->ctx, &e, 0);
    }
}

/* A write beyond RLIMIT_FSIZE raises SIGXFSZ, which kills by default.  Between these two it is
 * EFBIG and nothing else; no signal is left behind that the caller did not have pending before.
 * For calls of others that write (LMDB's); ours below do it themselves.  `raised`: it may be. */
struct io_quiet {
    sigset_t old_mask;
    bool was_pending;
};
void io_quiet_begin(struct io_quiet *q);
void io_quiet_end(const struct io_quiet *q, bool raised);
/* RLIMIT_FSIZE: no byte can be written from there on. */
uint64_t io_size_limit(void);

/* All return a status with a full sentence (operation, path, errno text).  EINTR is retried, short
 * reads and writes are continued.  A failed sync is never tried again and always NAVMAP_EIO: the
 * handle is to be poisoned.  `path` is for the message only where an fd is given.  Nothing at a
 * path: NAVMAP_ENOINDEX from io_open and io_check_fs, else NAVMAP_EIO.  Something there already:
 * NAVMAP_EEXIST. */
navmap_status io_open(const char *path, int flags, int mode, int *ret_fd) NAVMAP_MUST_USE;
void io_close(int fd); /* -1 is allowed */
navmap_status io_pread(int fd, const char *path, void *ret_bytes, uint64_t len, uint64_t off)
    NAVMAP_MUST_USE; /* NAVMAP_ECORRUPT when the file ends before off+len */
/* A file of /proc or /sys, whose length nobody knows: its first room - 1 bytes at most, and a 0.
 * False when it cannot be read, which for such files is no error: no sentence is left. */
bool io_read_text(const char *path, char *ret_text, uint64_t room);
navmap_status io_pwrite(int fd, const char *path, const void *bytes, uint64_t len,
                        uint64_t off) NAVMAP_MUST_USE;
/* Make [0, new_size) exist with blocks behind it, zeros beyond the old end.  fallocate(2); on
 * EOPNOTSUPP zeros are written beyond EOF only.  Existing bytes never change.  SIGXFSZ is blocked
 * around the call.  NAVMAP_ENOSPC: the file may be longer, which is harmless. */
navmap_status io_grow(int fd, const char *path, uint64_t old_size,
                      uint64_t new_size) NAVMAP_MUST_USE;
navmap_status io_fsync(int fd, const char *path) NAVMAP_MUST_USE;
navmap_status io_fdatasync(int fd, const char *path) NAVMAP_MUST_USE;
navmap_status io_fsync_dir(const char *path) NAVMAP_MUST_USE;
/* msync(MS_SYNC) of a mapped file range; address and len are widened to pages of the system. */
navmap_status io_msync(int fd, const char *path, void *address, uint64_t off,
                       uint64_t len) NAVMAP_MUST_USE;
/* mmap; with MAP_FIXED in flags `address` must lie in a reservation of ours. */
navmap_status io_mmap(void *address, uint64_t len, int prot, int flags, int fd, uint64_t off,
                      const char *path, void **ret_address) NAVMAP_MUST_USE;
navmap_status io_rename(const char *from, const char *to, int no_replace) NAVMAP_MUST_USE;
navmap_status io_unlink(const char *path) NAVMAP_MUST_USE;
navmap_status io_mkdir(const char *path) NAVMAP_MUST_USE;
navmap_status io_rmdir(const char *path) NAVMAP_MUST_USE; /* it must be empty */
/* Each name in a directory but "." and ".."; what `visit` returns ends the walk unless it is OK. */
typedef navmap_status io_visit(void *ctx, const char *name);
navmap_status io_list(const char *path, io_visit *visit, void *ctx) NAVMAP_MUST_USE;
/* What a path names; NAVMAP_ENOINDEX when there is nothing. */
struct io_info {
    bool directory, regular;
    uint32_t mode, uid, gid; /* permission bits and owner */
    uint64_t dev, ino, bytes, modified_ns;
};
navmap_status io_stat(const char *path, struct io_info *ret_info) NAVMAP_MUST_USE;
navmap_status io_fstat(int fd, const char *path, struct io_info *ret_info) NAVMAP_MUST_USE;
/* Give a file that was just made the owner and permissions of the one that it is to replace, as far
 * as the system lets us; never more permissions than that one has. */
void io_resemble(int fd, const struct io_info *other);
/* A second descriptor of the same open file. */
navmap_status io_dup(int fd, const char *path, int *ret_fd) NAVMAP_MUST_USE;
navmap_status io_file_size(int fd, const char *path, uint64_t *ret_bytes) NAVMAP_MUST_USE;
/* NAVMAP_EFSTYPE when `path` lies on NFS, SMB/CIFS, 9p, Ceph, Lustre, AFS, or FUSE. */
navmap_status io_check_fs(const char *path) NAVMAP_MUST_USE;
/* Device and inode of an open file: what tells two files apart whatever they are called. */
navmap_status io_file_id(int fd, const char *path, uint64_t *ret_dev,
                         uint64_t *ret_ino) NAVMAP_MUST_USE;
/* A descriptor that somebody else opened is closed by exec, as ours are. */
void io_close_on_exec(int fd);
/* Has the open file lost its last name? */
bool io_unlinked(int fd);
/* Allocated bytes (st_blocks * 512) of an open file; 0 on any error. */
uint64_t io_allocated(int fd);

#endif
