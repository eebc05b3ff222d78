/* save.c -- navmap_save and what goes with it: by whom an index is written as one file.
 *
 * Who writes to a directory saves it himself.  A handle that is open for reading cannot hold the
 * writer still, so it has to be the writer for as long as it takes.
 */
#include <stdio.h>
#include <string.h>

#include "engine/index.h"
#include "storage/fail.h"

static navmap_status rewrite_by_reader(navmap_index *ix, const struct rewrite *to)
{
    navmap_index *writer;
    TRY(navmap_open(store_path(ix->store), NAVMAP_WRITE, NULL, &writer));
    const struct layout *ours = ix->layout, *there = writer->layout;
    navmap_status status;
    if (memcmp(ours->uuid, there->uuid, sizeof ours->uuid) == 0 &&
        ours->instance == there->instance)
        status = index_rewrite(writer, to);
    else
        status = fail(NAVMAP_ESTALE, "%s: another index is there by now; open it again",
                      store_path(ix->store));
    char why[512]; /* closing must not replace the reason */
    (void)snprintf(why, sizeof why, "%s", status != NAVMAP_OK ? navmap_error_detail() : "");
    navmap_status closed = navmap_close(writer);
    return status != NAVMAP_OK ? fail(status, "%s", why) : closed;
}

static navmap_status rewrite(navmap_index *ix, const char *what, const struct rewrite *to)
{
    TRY(index_check(ix, what));
    return store_is_writer(ix->store) ? index_rewrite(ix, to) : rewrite_by_reader(ix, to);
}

static navmap_status save(navmap_index *ix, const char *what, const char *path, bool hnswlib,
                          const struct navmap_save_options *options)
{
    struct navmap_save_options o;
    TRY(index_copy_options(options, sizeof o, "navmap_save_options", &o));
    if (!path || path[0] == 0)
        return fail(NAVMAP_EINVAL, "%s: path is required", what);
    if (o.directory > 1 || o.codes > NAVMAP_CODES_NONE ||
        (hnswlib && (o.directory != 0 || o.codes != 0)))
        return fail(NAVMAP_EINVAL,
                    "%s: directory is 0 or 1, codes 0 to 2, and neither is for "
                    "hnswlib's format",
                    what);
    return rewrite(ix, what,
                   &(struct rewrite){.path = path,
                                     .hnswlib = hnswlib,
                                     .directory = o.directory != 0,
                                     .codes = o.codes,
                                     .progress = o.progress,
                                     .progress_ctx = o.progress_ctx});
}

navmap_status navmap_save(navmap_index *index, const char *path)
{
    return save(index, "navmap_save", path, false, NULL);
}

navmap_status navmap_save_with(navmap_index *index, const char *path,
                               const struct navmap_save_options *options)
{
    return save(index, "navmap_save_with", path, false, options);
}

navmap_status navmap_export_hnswlib(navmap_index *index, const char *path,
                                    const struct navmap_save_options *options)
{
    return save(index, "navmap_export_hnswlib", path, true, options);
}

navmap_status navmap_save_fd(navmap_index *index, int fd)
{
    return rewrite(index, "navmap_save_fd", &(struct rewrite){.fd = fd});
}

navmap_status navmap_file_bytes(navmap_index *index, uint64_t *ret_bytes)
{
    if (!ret_bytes)
        return fail(NAVMAP_EINVAL, "navmap_file_bytes: ret_bytes is required");
    return rewrite(index, "navmap_file_bytes", &(struct rewrite){.ret_bytes = ret_bytes});
}
