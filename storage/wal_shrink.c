/* wal_shrink.c -- wal.mdb replaced by a copy of itself without the pages that are free in it.
 *
 * LMDB never gives a page back to the file system, and does not clear what was deleted in it: after
 * a compaction the old label table, and the log with its vectors, would still lie there.
 *
 * H1  Both files hold the same state, so a crash on either side of the rename is harmless; a copy
 *     that was not renamed is removed by the next writer's open.
 * H2  Nobody else may have the old file open: who did would go on with an unlinked one.  R is held
 *     exclusively, so nobody opens it now; that nobody has it open is shown by LMDB's own lock on
 *     its lock file, which is granted exclusively only if nobody shares it.
 */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "storage/io.h"
#include "storage/wal.h"
#include "storage/wal_env.h"
#include "storage/wal_guard.h"

static char *beside(const char *path, const char *tail)
{
    char *name = NULL;
    return asprintf(&name, "%s%s", path, tail) < 0 ? NULL : name;
}

static navmap_status copy_env(struct wal *w, const char *copy)
{
    struct io_quiet quiet;
    io_quiet_begin(&quiet);
    navmap_status status =
        wal_fail(NULL, NULL, mdb_env_copy2(w->env, copy, MDB_CP_COMPACT), "copying");
    io_quiet_end(&quiet, status != NAVMAP_OK);
    return status;
}

static navmap_status sync_copy(const char *path, const char *copy)
{
    struct io_info old;
    int fd = -1;
    TRY(io_stat(path, &old));
    TRY(io_open(copy, O_RDWR, 0, &fd));
    io_resemble(fd, &old);
    navmap_status status = io_fsync(fd, copy);
    io_close(fd);
    return status;
}

/* H2.  The environment of this process is closed.  *ret_fd: to be closed, -1 = not granted. */
static navmap_status lock_alone(const char *lock_path, int *ret_fd)
{
    struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    int fd = -1;
    TRY(io_open(lock_path, O_RDWR, 0, &fd));
    if (fcntl(fd, F_SETLK, &all) != 0) {
        io_close(fd);
        fd = -1;
    }
    *ret_fd = fd;
    return NAVMAP_OK;
}

static navmap_status rename_alone(const char *dir, const char *path, const char *copy,
                                  bool *ret_shrunk)
{
    char *lock_path = beside(path, "-lock");
    int fd = -1;
    if (!lock_path)
        return fail(NAVMAP_ENOMEM, "shrinking %s: out of memory", path);
    navmap_status status = lock_alone(lock_path, &fd);
    STORE_KILL_POINT(SHRINK_ALONE);
    if (status == NAVMAP_OK && fd >= 0) {
        status = io_rename(copy, path, 0);
        *ret_shrunk = status == NAVMAP_OK;
        STORE_KILL_POINT(SHRINK_RENAMED);
        if (status == NAVMAP_OK)
            status = io_fsync_dir(dir);
    }
    io_close(fd);
    free(lock_path);
    return status;
}

/* registry_lock is held, and the gate exclusively. */
static navmap_status replace(struct wal *w, const char *dir, const char *copy, bool *ret_shrunk)
{
    struct io_info info;
    TRY(copy_env(w, copy));
    TRY(sync_copy(w->path, copy));
    STORE_KILL_POINT(SHRINK_COPIED);
    wal_env_shut(w);
    navmap_status status = rename_alone(dir, w->path, copy, ret_shrunk);
    navmap_status opened = wal_env_open(w, true);
    if (opened == NAVMAP_OK)
        opened = io_stat(w->path, &info);
    if (opened != NAVMAP_OK)
        return fail(NAVMAP_EPOISONED, "%s could not be opened again: %s", w->path,
                    navmap_error_detail());
    w->dev = info.dev;
    w->ino = info.ino;
    STORE_KILL_POINT(SHRINK_REOPENED);
    return status;
}

/* What stands in the way of a copy, or is left of one. */
static void discard(const char *copy)
{
    struct io_info info;
    if (io_stat(copy, &info) == NAVMAP_OK && io_unlink(copy) != NAVMAP_OK)
        return; /* then the copy fails and says so, or the next open tries again */
}

navmap_status wal_shrink(struct wal *w, const char *dir, bool *ret_shrunk)
{
    navmap_status status = NAVMAP_OK;
    char *copy = beside(w->path, WAL_COPY_TAIL);
    *ret_shrunk = false;
    if (!copy)
        return fail(NAVMAP_ENOMEM, "shrinking %s: out of memory", w->path);
    wal_registry_lock();
    char why[512] = ""; /* cleaning up must not replace the reason */
    if (w->refs == 1 && !atomic_load(&w->broken) && !w->retired) {
        (void)pthread_rwlock_wrlock(&w->gate);
        discard(copy);
        status = WAL_GUARDED(w, replace(w, dir, copy, ret_shrunk));
        (void)pthread_rwlock_unlock(&w->gate);
        (void)snprintf(why, sizeof why, "%s", status != NAVMAP_OK ? navmap_error_detail() : "");
        if (!*ret_shrunk)
            discard(copy);
    }
    wal_registry_unlock();
    free(copy);
    return status == NAVMAP_OK ? NAVMAP_OK : fail(status, "%s", why);
}
