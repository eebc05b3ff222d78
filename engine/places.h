/* places.h -- which slots the rows of a large addition get: near ones near each other (presort.h),
 * and before all others those of the high levels, which every walk passes.
 *
 * Rows are added in the order in which they come, as ever, and the graph is the same; only where
 * they lie is another matter.  For a private index, and so for a directory's bulk load (bulk.h).
 */
#ifndef NAVMAP_ENGINE_PLACES_H
#define NAVMAP_ENGINE_PLACES_H

#include "engine/index.h"

struct places {
    uint64_t n;
    const float *vectors; /* n * dim, finite */
    struct crew *crew;
    uint32_t threads;
    navmap_status (*tick)(void *ctx); /* now and then, on the calling thread */
    void *ctx;
};

/* The next n rows that are added get their slots by that, if it pays.  Where there is no memory for
 * it, or the index is none for it, nothing has changed and all is well.  What the tick returned, or
 * NAVMAP_EPOISONED and the like, of taking the write lock. */
navmap_status places_choose(navmap_index *ix, const struct places *what) NAVMAP_MUST_USE;

#endif
