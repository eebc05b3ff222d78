/* order.h -- in which order items are numbered, so that a walk finds on few pages what it looks at.
 *
 * Rows are what is measured when an item is expanded, and walks what is measured for one query: the
 * order has as many of each as can be on few pages (bisect.h).  Before them come the few nodes of
 * the high levels, which every walk passes, level by level.
 */
#ifndef NAVMAP_ENGINE_ORDER_H
#define NAVMAP_ENGINE_ORDER_H

#include "engine/bisect.h"
#include "engine/regraph.h"

#define ORDER_FEW 64u   /* a level is high if at most one node of so many reaches it */
#define ORDER_SHARE 32u /* a walk is made for one item of so many, as many rows wide at most */

/* n items, 0 to n-1, and the sets that are to be on few pages. */
struct order_graph {
    uint32_t n;
    const struct bisect_sets *sets;
    uint32_t n_sets;
    const uint8_t *levels; /* the highest of each node; NULL = all are on level 0 only */
    uint32_t first;        /* slot of the item that comes first */
    uint32_t stride;       /* bytes of an item in what walks read most */
    struct crew *crew;     /* NULL = this thread alone */
    uint32_t threads;
    navmap_status (*tick)(void *ctx, uint32_t done); /* items since the last call; NULL = none */
    void *ctx;
};

/* ret_items[i] = the item that becomes number i; every one once.  It does not depend on the number
 * of threads.  NAVMAP_ENOMEM, or what the tick returned. */
navmap_status order_items(const struct order_graph *g, uint32_t *ret_items) NAVMAP_MUST_USE;

/* order_walks.c: what walks to items by chance would measure in the graph that r->rows are.  The
 * sets are of items, ORDER_SHARE * M0 at most in each; their words are the caller's to free. */
navmap_status order_walks(struct regraph *r, uint32_t threads,
                          struct bisect_sets *ret_sets) NAVMAP_MUST_USE;

#endif
