/* together.h -- items that are added together, so that the graph does not depend on threads. */
#ifndef NAVMAP_ENGINE_TOGETHER_H
#define NAVMAP_ENGINE_TOGETHER_H

#include "engine/index.h"

/* Items of a call, in their order. */
struct together {
    navmap_index *ix;  /* a private one */
    struct crew *crew; /* of the handle that was called */
    uint32_t threads;
    uint64_t n; /* rows of the whole call */
    const float *vectors;
    const uint64_t *labels; /* NULL: first_label, first_label + 1, ... */
    uint64_t first_label;
    _Atomic uint64_t *promised; /* as in struct insert */
    struct troop *troop;        /* working memory, from together_begin() */
};

navmap_status together_begin(struct together *t) NAVMAP_MUST_USE;
void together_end(struct together *t);
/* Add some of the rows from `row` on, at least one, unless the label of that row is present: then
 * *ret_added is 0, and it is the caller's.  On failure *ret_added rows are in, whole.  Takes the
 * write lock exclusively. */
navmap_status together_add(struct together *t, uint64_t row, uint64_t *ret_added) NAVMAP_MUST_USE;

#endif
