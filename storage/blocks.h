/* blocks.h -- bytes of a new file, written in large aligned blocks.
 *
 * The system keeps in its cache what a file gets in pages as large as what it was given at once.  A
 * search jumps about in a large index, and misses in the page table more often than in the cache
 * when those pages are small: at 1,000,000 x 128 it is a third slower, until the file has left the
 * cache and was read again.  Where the system has no large pages for files nothing is lost.
 */
#ifndef NAVMAP_STORAGE_BLOCKS_H
#define NAVMAP_STORAGE_BLOCKS_H

#include <stdint.h>

#include "storage/status.h"

#define BLOCK_BYTES (2u << 20) /* of the largest pages of x86-64, and of AArch64 with small ones */

struct blocks {
    int fd;
    const char *path;  /* for messages */
    uint8_t *bytes;    /* BLOCK_BYTES */
    uint64_t gap;      /* the longest that is written */
    uint64_t from, to; /* in the file: what is in `bytes` and not yet written, all of one block */
};

/* From the start of the file.  To be freed in any case. */
navmap_status blocks_begin(struct blocks *b, int fd, const char *path,
                           uint64_t gap) NAVMAP_MUST_USE;
void blocks_free(struct blocks *b);
/* n bytes at `off`, which does not lie before the end of what was put before.  What is between is
 * zeros: written up to `gap`, else left as it is in the file.  What fails may be told by a
 * later call. */
navmap_status blocks_put(struct blocks *b, const void *bytes, uint64_t n,
                         uint64_t off) NAVMAP_MUST_USE;
/* All that was put is written. */
navmap_status blocks_flush(struct blocks *b) NAVMAP_MUST_USE;

#endif
