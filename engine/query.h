/* query.h -- one query over one view, in pieces, so that several can be under way in one thread.
 *
 *     query_begin()    q1, q2, the descent, the first node
 *     walk_step()      until it says no
 *     query_end()      q5, q6: the best into s->rank; the view is given back
 */
#ifndef NAVMAP_ENGINE_QUERY_H
#define NAVMAP_ENGINE_QUERY_H

#include "engine/index.h"
#include "engine/walk.h"

struct query {
    navmap_index *ix;
    struct scratch *s;
    const struct filter *filter; /* NULL = none */
    const float *vector;         /* prepared */
    uint64_t k;
    uint32_t ef;
    uint32_t self; /* a slot of level 0 that is not to be met, or 0 */
    /* set by query_begin(): */
    struct view *view;
    struct graph g;
    struct sieve sieve;
    struct walk walk;
    uint64_t e0;
    bool walking; /* there is a graph to walk */
};

/* Fill in the first fields, then begin.  On failure there is nothing to end. */
navmap_status query_begin(struct query *q) NAVMAP_MUST_USE;
/* *ret_retry when slots re-used under the walk left fewer than k.  A walk that the sieve gave up
 * leaves nothing. */
navmap_status query_end(struct query *q, bool *ret_retry) NAVMAP_MUST_USE;

#endif
