/* hnswlib_read.h -- a file read from front to back, in pieces, through one bounded buffer.
 *
 * What it holds does not grow with the file, whatever the file says about itself.
 */
#ifndef NAVMAP_ENGINE_HNSWLIB_READ_H
#define NAVMAP_ENGINE_HNSWLIB_READ_H

#include <stdint.h>

#include "storage/source.h"
#include "storage/status.h"

#define HNSWLIB_PIECE (512u << 10) /* bytes that can be asked for at once */

struct hnswlib_reader {
    struct source file;
    uint64_t at; /* where in the file the next piece begins */
    uint8_t *buffer;
    uint64_t begin, end, room; /* what of the buffer is still to be given out */
};

/* `fd` and `path` stay the caller's.  NAVMAP_EINVAL no regular file; NAVMAP_EIO, NAVMAP_ENOMEM. */
navmap_status hnswlib_read_begin(int fd, const char *path,
                                 struct hnswlib_reader *ret_reader) NAVMAP_MUST_USE;
void hnswlib_read_end(struct hnswlib_reader *r); /* zeroed or ended before: nothing to do */
void hnswlib_read_seek(struct hnswlib_reader *r, uint64_t at);
/* The next n <= HNSWLIB_PIECE bytes, valid until the next call, aligned to nothing.
 * NAVMAP_ECORRUPT, in hnswlib's words, when the file ends before; NAVMAP_EIO. */
navmap_status hnswlib_read(struct hnswlib_reader *r, uint64_t n,
                           const uint8_t **ret_bytes) NAVMAP_MUST_USE;

#endif
