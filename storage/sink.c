/* sink.c -- one buffer in front of a file; see sink.h. */
#include "storage/sink.h"

#include "storage/blocks.h"
#include "storage/handle.h"

struct sink {
    struct blocks out;
};

navmap_status sink_put(struct sink *sink, const void *bytes, uint64_t n)
{
    return blocks_put(&sink->out, bytes, n, sink->out.to);
}

struct filling {
    sink_fill *fill;
    void *ctx;
};

static navmap_status fill_file(void *ctx, int fd, const char *path)
{
    const struct filling *f = ctx;
    struct sink sink;
    TRY(blocks_begin(&sink.out, fd, path, 0));
    navmap_status status = f->fill(f->ctx, &sink);
    if (status == NAVMAP_OK)
        status = blocks_flush(&sink.out);
    blocks_free(&sink.out);
    return status;
}

navmap_status sink_save(const char *path, sink_fill *fill, void *ctx)
{
    struct filling f = {fill, ctx};
    return store_save_file(path, fill_file, &f);
}
