/* save.c -- a file at a path that is there as a whole: under a temporary name, synced, renamed.
 *
 * Whoever opens PATH at any moment, after any crash, finds what was there before or the whole new
 * file.  A process that has the old file mapped keeps it: its bytes are another file's.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "storage/handle.h"
#include "storage/io.h"
#include "storage/seal.h"

/* A rename would put a file in the place of whatever is there: a device, say. */
static navmap_status check_target(const char *path, struct io_info *ret_info, bool *ret_there)
{
    navmap_status status = io_stat(path, ret_info);
    *ret_there = status == NAVMAP_OK;
    if (status == NAVMAP_ENOINDEX)
        return NAVMAP_OK;
    TRY(status);
    if (ret_info->directory)
        return fail(NAVMAP_EINVAL, "%s is a directory; save to the path of a file", path);
    if (!ret_info->regular)
        return fail(NAVMAP_EINVAL, "%s is no regular file; save to another path", path);
    return NAVMAP_OK;
}

struct filling {
    store_fill *fill;
    void *ctx;
};

static navmap_status write_temporary(const struct filling *f, const char *temporary,
                                     const struct io_info *old)
{
    int fd = -1;
    TRY(io_open(temporary, O_RDWR | O_CREAT | O_EXCL, 0666, &fd));
    STORE_KILL_POINT(SAVE_OPENED);
    if (old)
        io_resemble(fd, old);
    navmap_status status = f->fill(f->ctx, fd, temporary);
    STORE_KILL_POINT(SAVE_WRITTEN);
    if (status == NAVMAP_OK)
        status = io_fsync(fd, temporary);
    io_close(fd);
    return status;
}

static navmap_status write_and_rename(const struct filling *f, const char *path, const char *parent,
                                      const char *temporary)
{
    struct io_info info;
    bool there = false;
    TRY(check_target(path, &info, &there));
    struct io_info dir;
    if (io_stat(parent, &dir) == NAVMAP_ENOINDEX)
        return fail(NAVMAP_ENOINDEX, "%s: cannot be saved there, %s does not exist", path, parent);
    navmap_status status = write_temporary(f, temporary, there ? &info : NULL);
    if (status == NAVMAP_OK) {
        STORE_KILL_POINT(SAVE_SYNCED);
        status = io_rename(temporary, path, 0);
    }
    if (status == NAVMAP_OK) {
        STORE_KILL_POINT(SAVE_RENAMED);
        return io_fsync_dir(parent);
    }
    char why[512]; /* cleaning up must not replace the reason */
    (void)snprintf(why, sizeof why, "%s", navmap_error_detail());
    if (io_unlink(temporary) != NAVMAP_OK)
        return fail(status, "%s (%s may be left behind)", why, temporary);
    return fail(status, "%s", why);
}

navmap_status store_save_file(const char *path, store_fill *fill, void *ctx)
{
    const struct filling f = {fill, ctx};
    char *parent = store_parent_of(path), *temporary = store_temporary_name(path);
    navmap_status status = parent && temporary
                               ? write_and_rename(&f, path, parent, temporary)
                               : fail(NAVMAP_ENOMEM, "saving %s: out of memory", path);
    free(parent);
    free(temporary);
    return status;
}

struct sealed {
    struct store *s;
    const struct sealing *what;
};

static navmap_status fill_sealed(void *ctx, int fd, const char *path)
{
    const struct sealed *sealed = ctx;
    return seal_write(sealed->s, sealed->what, fd, path);
}

navmap_status seal_save(struct store *s, const struct sealing *what, const char *path)
{
    struct sealed sealed = {s, what};
    return store_save_file(path, fill_sealed, &sealed);
}
