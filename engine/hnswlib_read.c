/* hnswlib_read.c -- pieces of hnswlib's file; see hnswlib_read.h. */
#include "engine/hnswlib_read.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/hnswlib_parse.h"
#include "storage/fail.h"

navmap_status hnswlib_read_begin(int fd, const char *path, struct hnswlib_reader *ret_reader)
{
    struct hnswlib_reader r = {.at = 0};
    TRY(source_of_fd(fd, path, &r.file));
    r.room = r.file.bytes < HNSWLIB_PIECE ? r.file.bytes : HNSWLIB_PIECE;
    r.buffer = malloc(r.room ? r.room : 1);
    if (!r.buffer)
        return fail(NAVMAP_ENOMEM, "%s: no memory to read it", path);
    *ret_reader = r;
    return NAVMAP_OK;
}

void hnswlib_read_end(struct hnswlib_reader *r)
{
    free(r->buffer);
    *r = (struct hnswlib_reader){.at = 0};
}

void hnswlib_read_seek(struct hnswlib_reader *r, uint64_t at)
{
    r->at = at;
    r->begin = r->end = 0;
}

/* At least n bytes into the buffer, and as many more as it has room for. */
static navmap_status fill(struct hnswlib_reader *r, uint64_t n)
{
    uint64_t bytes = r->file.bytes, kept = r->end - r->begin, from = r->at + kept;
    if (r->at > bytes || n > bytes - r->at || n > r->room)
        return fail(NAVMAP_ECORRUPT,
                    HNSWLIB_REFUSED ": %s: file ends at byte %" PRIu64 ", expected %" PRIu64
                                    " bytes at %" PRIu64,
                    r->file.path, bytes, n, r->at);
    uint64_t more = r->room - kept;
    if (more > bytes - from)
        more = bytes - from;
    memmove(r->buffer, r->buffer + r->begin, kept);
    r->begin = r->end = 0; /* in case it cannot be read */
    navmap_status status = source_read(&r->file, from, r->buffer + kept, more);
    if (status == NAVMAP_ECORRUPT) /* it got shorter */
        return fail(status, HNSWLIB_REFUSED ": %s", navmap_error_detail());
    TRY(status);
    r->end = kept + more;
    return NAVMAP_OK;
}

navmap_status hnswlib_read(struct hnswlib_reader *r, uint64_t n, const uint8_t **ret_bytes)
{
    if (r->end - r->begin < n)
        TRY(fill(r, n));
    *ret_bytes = r->buffer + r->begin;
    r->begin += n;
    r->at += n;
    return NAVMAP_OK;
}
