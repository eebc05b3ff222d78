/* hops.h -- a walk over the nodes that pass, by way of those that do not where few neighbours do.
 *
 * The beam holds nothing but what passes, and nothing else is measured.  Of a node's neighbours
 * those that pass are taken; for those that do not, theirs are, until a row's worth is together
 * (ACORN-1: Patel et al. 2024, section 5; Lucene's and Qdrant's filtered searches do likewise).
 * It begins at nodes that pass, drawn from all over the index beside those that are known already,
 * so it gets to where what passes is, however far from the query that may be; and it draws more of
 * them whenever it comes to an end with too little.
 *
 * B1  It ends on any content: each id is met at most once, and draws are bounded.
 * B2  It gives up when it has cost what its plan allows: a scan is the safer way from there.
 */
#ifndef NAVMAP_ENGINE_HOPS_H
#define NAVMAP_ENGINE_HOPS_H

#include "engine/filter.h"
#include "engine/graph.h"
#include "engine/plan.h"

#define HOPS_SEEDS 16u /* known ones that are used at most */

struct hops {
    const struct graph *g;
    struct scratch *s;
    const struct target *to;   /* with a code */
    const struct sieve *sieve; /* `by_slot`; NULL: what is LIVE passes */
    const struct plan *plan;
    double node_ns;                      /* plan_node_ns() */
    uint32_t enough;                     /* results without which it goes on drawing */
    uint32_t seeds[HOPS_SEEDS], n_seeds; /* near the query; whether they pass is looked at */
};

/* The results are in s->pool, reserved for plan->beam, each a result (pool.h, `plain`); they may be
 * fewer than `enough`. */
void hops_walk(struct hops *h);

#endif
