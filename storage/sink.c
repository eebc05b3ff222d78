/* sink.c -- one buffer in front of a file; see sink.h. */
#include "storage/sink.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/handle.h"
#include "storage/io.h"

#define SINK_BYTES (512u << 10)

struct sink {
    int fd;
    const char *path; /* for messages */
    uint64_t at;      /* where the buffer goes */
    uint8_t *buffer;
    uint64_t used;
};

static navmap_status flush(struct sink *sink)
{
    TRY(io_pwrite(sink->fd, sink->path, sink->buffer, sink->used, sink->at));
    sink->at += sink->used;
    sink->used = 0;
    return NAVMAP_OK;
}

navmap_status sink_put(struct sink *sink, const void *bytes, uint64_t n)
{
    const uint8_t *from = bytes;
    while (n > 0) {
        if (sink->used == SINK_BYTES)
            TRY(flush(sink));
        uint64_t some = n < SINK_BYTES - sink->used ? n : SINK_BYTES - sink->used;
        memcpy(sink->buffer + sink->used, from, some);
        sink->used += some;
        from += some;
        n -= some;
    }
    return NAVMAP_OK;
}

struct filling {
    sink_fill *fill;
    void *ctx;
};

static navmap_status fill_file(void *ctx, int fd, const char *path)
{
    const struct filling *f = ctx;
    struct sink sink = {.fd = fd, .path = path, .buffer = malloc(SINK_BYTES)};
    if (!sink.buffer)
        return fail(NAVMAP_ENOMEM, "%s: no memory to write it", path);
    navmap_status status = f->fill(f->ctx, &sink);
    if (status == NAVMAP_OK)
        status = flush(&sink);
    free(sink.buffer);
    return status;
}

navmap_status sink_save(const char *path, sink_fill *fill, void *ctx)
{
    struct filling f = {fill, ctx};
    return store_save_file(path, fill_file, &f);
}
