/* query.h -- one query over one view, in pieces, so that several can be under way in one thread.
 *
 *     query_begin()    q1, q2, which way; a walk's descent and first node, or all of hops
 *     walk_step()      while `walking`, until it says no
 *     query_scan()     where `scanning`
 *     query_end()      q5, q6: the best into s->rank; the view is given back
 *
 * and all of it once more while query_end() says so.
 */
#ifndef NAVMAP_ENGINE_QUERY_H
#define NAVMAP_ENGINE_QUERY_H

#include "engine/index.h"
#include "engine/plan.h"
#include "engine/walk.h"

#define QUERY_SEEDS 16u

struct query {
    navmap_index *ix;
    struct scratch *s;
    const struct filter *filter; /* NULL = none */
    const float *vector;         /* prepared */
    uint64_t k;
    uint32_t ef;
    uint32_t self; /* a slot of level 0 that is no result and not met on a walk, or 0 */
    /* Zero at first, kept from one attempt to the next: */
    struct plan plan;
    uint32_t place; /* in the beam, of the result that `stop` measures by; 0 = not yet known (Q6) */
    uint32_t attempts;
    uint32_t seeds[QUERY_SEEDS], n_seeds; /* that passed, in the beam of an attempt */
    /* set by query_begin(): */
    struct view *view;
    struct graph g;
    struct sieve sieve;
    struct plan_case facts;
    struct target to;
    struct walk walk;
    uint64_t e0;
    uint32_t limit; /* `place`, if this walk may end early by it, else 0 */
    bool scanning;  /* query_scan() is to follow */
    bool walking;   /* there is a walk to go on with */
    bool looked;    /* at the states of what is in s->pool */
    bool pooled;    /* s->pool has the outcome, or will have at the end of the walk */
};

/* Fill in the first fields, then begin.  On failure there is nothing to end. */
navmap_status query_begin(struct query *q) NAVMAP_MUST_USE;
/* Will query_begin() have it scan, as far as can be told? */
bool query_scans(const struct query *q);
/* The scans of n queries, at most CODE_SCAN_MOST, together as far as they are of one filter. */
void query_scan(struct query *const *queries, uint32_t n);
/* *ret_again when it is to be begun again: slots re-used under it left fewer than k, or the plan
 * is another one by now. */
navmap_status query_end(struct query *q, bool *ret_again) NAVMAP_MUST_USE;
/* The rest of a query of which query_end() was called and said `again`: more attempts, and if all
 * came to less than k, an exact scan. */
navmap_status query_finish(struct query *q, bool again) NAVMAP_MUST_USE;

#endif
