/* order.h -- in which order items are numbered, so that a walk finds near each other what it looks
 * at together.
 */
#ifndef NAVMAP_ENGINE_ORDER_H
#define NAVMAP_ENGINE_ORDER_H

#include <stdint.h>

#include "storage/status.h"

/* A graph of n nodes, 0 to n-1: `width` words a node, neighbour + 1, packed, then 0. */
struct order_graph {
    uint32_t n, width;
    const uint32_t *rows;
    uint32_t entry;        /* node that walks begin at; any below n */
    const uint8_t *levels; /* the highest of each node; NULL = all are on level 0 only */
    navmap_status (*tick)(void *ctx, uint32_t done); /* nodes since the last call; NULL = none */
    void *ctx;
};

/* ret_nodes[i] = the node that becomes number i; every node once.  NAVMAP_ENOMEM, or what the tick
 * returned. */
navmap_status order_nodes(const struct order_graph *g, uint32_t *ret_nodes) NAVMAP_MUST_USE;

#endif
