/* source.c -- opening a file by somebody else's name for it; see source.h. */
#include "storage/source.h"

#include <fcntl.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/io.h"
#include "storage/layout.h"

static const char refused[] = "Index seems to be corrupted or unsupported";

bool source_at(const char *path)
{
    struct io_info info;
    return io_stat(path, &info) == NAVMAP_OK && info.regular;
}

navmap_status source_of_fd(int fd, const char *path, struct source *ret_source)
{
    struct io_info info;
    TRY(io_fstat(fd, path, &info));
    if (info.directory)
        return fail(NAVMAP_EINVAL,
                    "%s: %s is a directory: open it with navmap_open(), in Python navmap.open()",
                    refused, path);
    if (!info.regular)
        return fail(NAVMAP_EINVAL, "%s: %s is no regular file", refused, path);
    *ret_source = (struct source){fd, path, info.bytes};
    return NAVMAP_OK;
}

navmap_status source_open(const char *path, struct source *ret_source)
{
    int fd = -1;
    /* NONBLOCK: a named pipe that nobody writes to would be waited for. */
    TRY(io_open(path, O_RDONLY | O_NONBLOCK, 0, &fd));
    navmap_status status = source_of_fd(fd, path, ret_source);
    if (status != NAVMAP_OK)
        io_close(fd);
    return status;
}

void source_close(struct source *source)
{
    io_close(source->fd);
    source->fd = -1;
}

navmap_status source_read(const struct source *source, uint64_t off, void *ret_bytes, uint64_t len)
{
    return io_pread(source->fd, source->path, ret_bytes, len, off);
}

navmap_status source_is_ours(const struct source *source, bool *ret_ours)
{
    uint8_t head[sizeof layout_magic];
    *ret_ours = false;
    if (source->bytes < sizeof head)
        return NAVMAP_OK;
    TRY(source_read(source, 0, head, sizeof head));
    *ret_ours = memcmp(head, layout_magic, sizeof head) == 0;
    return NAVMAP_OK;
}
