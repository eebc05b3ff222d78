/* swap.h -- a workload's index made anew: the next generation with the same items, at a random
 * order, or a private copy of it.
 */
#ifndef NAVMAP_TESTS_SUPPORT_SWAP_H
#define NAVMAP_TESTS_SUPPORT_SWAP_H

#include "storage/rewriting.h"
#include "tests/support/workload.h"

/* LIVE and DELETED slots in an order drawn from the rng, rows as they are.  Write lock held. */
struct swap_order {
    struct store *store;
    struct sealing what;
    uint32_t *slots;
};
void swap_order_make(struct swap_order *o, struct store *s, struct rng *rng);
void swap_order_free(struct swap_order *o);

/* One new generation, told to the oracle, and the old one's leavings cleared. */
navmap_status swap_step(struct workload *w, bool shrink, bool *ret_shrunk);

#endif
