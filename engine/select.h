/* select.h -- which of the near ones become neighbours: the diversity heuristic.
 *
 * Malkov and Yashunin 2018, algorithm 4, without extended candidates and with the comparison as
 * hnswlib has it: going outwards from the node, a candidate is taken unless it is strictly nearer
 * to one already taken than to the node itself.
 *
 * S1  Copies.  A candidate as near to the node as the node is to itself has the same vector.  One
 *     copy is taken like any candidate; the others get what the diverse ones leave, but an
 *     eighth of the row at least.  Taken in order, as the comparison alone has it, thousands of
 *     equal vectors fill each other's rows and shut the rest of the graph out; without their share
 *     they would lose each other.
 * S2  Among the copies the choice is by a hash of the two slots, not by order: they then form a
 *     random graph, which hangs together, and not a star around the first of them.
 * S3  A new node gets three quarters of a row at least: what the comparison leaves empty is filled
 *     with the nearest that it passed over.  (The paper's keepPrunedConnections, in part.)  Where
 *     nearness is no metric, as with inner products, or lengths differ much, a few long vectors
 *     else are everybody's only neighbours, and most of the others have no way in.  Rows that are
 *     thinned later are not filled: that gained little and made adding slower.
 */
#ifndef NAVMAP_ENGINE_SELECT_H
#define NAVMAP_ENGINE_SELECT_H

#include "engine/graph.h"

/* Ascending by distance; equal ones keep their order. */
void select_sort(struct near *near, uint32_t n);

/* Is the candidate at least as near to the node as to every one taken? */
bool select_is_diverse(const struct graph *g, struct near c, const struct near *taken, uint32_t n);

/* Choose at most `max`, and where there are as many at least `least` (S3), of the n candidates of
 * `slot` (ascending, writer's graph) into ret_chosen, which may be the candidates' own array.  All
 * of them when n < max.  `aside` is room for n.  Returns how many. */
uint32_t select_diverse(const struct graph *g, uint32_t slot, const struct near *near, uint32_t n,
                        uint32_t least, uint32_t max, struct near *aside, struct near *ret_chosen);

/* The row of `slot` at `level` has no room for `newcomer`: its ids and the newcomer, without those
 * that are not linkable, thinned to `width` into s->row.  Returns how many. */
uint32_t select_shrink(const struct graph *g, struct scratch *s, uint32_t slot,
                       const _Atomic uint32_t *row, uint32_t width, uint32_t level,
                       struct near newcomer);

/* The row of g->self, of which s->row has `kept` ids: take candidates s->near, nearest first, that
 * are no nearer to one in the row so far than to the node, up to `width`; of its copies one is
 * enough (S1), unless nothing else fills the row.  Those taken have id 0 in s->near then.  Returns
 * how many the row has. */
uint32_t select_fill(const struct graph *g, struct scratch *s, uint32_t n, uint32_t kept,
                     uint32_t width);

#endif
