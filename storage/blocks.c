/* blocks.c -- a buffer of one block in front of a file; see blocks.h. */
#include "storage/blocks.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/handle.h"
#include "storage/io.h"

navmap_status blocks_begin(struct blocks *b, int fd, const char *path, uint64_t gap)
{
    *b = (struct blocks){.fd = fd, .path = path, .gap = gap, .bytes = malloc(BLOCK_BYTES)};
    return b->bytes ? NAVMAP_OK : fail(NAVMAP_ENOMEM, "%s: no memory to write it", path);
}

void blocks_free(struct blocks *b)
{
    free(b->bytes);
    b->bytes = NULL;
}

navmap_status blocks_flush(struct blocks *b)
{
    const uint64_t n = b->to - b->from;
    if (n > 0)
        TRY(io_pwrite(b->fd, b->path, b->bytes + b->from % BLOCK_BYTES, n, b->from));
    b->from = b->to;
    return NAVMAP_OK;
}

/* The next n bytes; zeros when there are none to copy. */
static navmap_status append(struct blocks *b, const uint8_t *bytes, uint64_t n)
{
    while (n > 0) {
        const uint64_t at = b->to % BLOCK_BYTES, room = BLOCK_BYTES - at,
                       some = n < room ? n : room;
        if (bytes)
            memcpy(b->bytes + at, bytes, some);
        else
            memset(b->bytes + at, 0, some);
        b->to += some;
        bytes = bytes ? bytes + some : NULL;
        n -= some;
        if (some == room)
            TRY(blocks_flush(b));
    }
    return NAVMAP_OK;
}

navmap_status blocks_put(struct blocks *b, const void *bytes, uint64_t n, uint64_t off)
{
    if (n == 0)
        return NAVMAP_OK;
    if (off - b->to <= b->gap)
        TRY(append(b, NULL, off - b->to));
    else {
        TRY(blocks_flush(b));
        b->from = b->to = off;
    }
    return append(b, bytes, n);
}
