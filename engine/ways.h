/* ways.h -- ways in: a live node that no row names is found by nobody.
 *
 * All of it is about level 0.  Whether a node has a way in is asked of its own neighbours only,
 * which mostly link back; so the answer costs one or two rows, and a node that others name as well
 * is at worst given a link too many.
 *
 * W1  A row that is thinned keeps an id which none of that node's own neighbours names.
 * W2  A slot that is marked deleted, or that dies, is bridged: each LIVE one that its row names,
 *     and the nearest of the others that it does not name and that is diverse beside what it names
 *     (select.h), name each other from then on, in the place of the slot where they named that.
 *     Who has none such among the nearest few names one less, unless that leaves its row less than
 *     half full.  So most of the links to the slot are gone at once and not with the sweep, links
 *     are about as many and lead as far as in a new graph, and most go both ways.  Who is named by
 *     nobody even so gets a link from a neighbour.  Links of DEAD slots count for nothing, so when
 *     the sweep takes them away nobody loses the last way in.  The slot's own row keeps only what
 *     is LIVE, if anything is: who comes to it still is led back.
 * W3  A DELETED slot needs no way in, since nobody looks for it.  Before it is LIVE again it is
 *     linked anew as a new item is (remove.c).
 *     (Two threads at once may each count on what the other takes away, and two nodes that name
 *     each other alone have a way in each: those the vacuum finds, by a walk over everything.)
 */
#ifndef NAVMAP_ENGINE_WAYS_H
#define NAVMAP_ENGINE_WAYS_H

#include "engine/index.h"

/* Does a linkable neighbour of `id`, other than `but`, link back to it? */
bool ways_named(const struct graph *g, struct scratch *s, uint32_t id, uint32_t but,
                uint32_t level);
/* W1: the `n` ids in s->row are to be the row of `slot` in the place of `row`.  Adds what has to be
 * kept behind them, or, when there is no room, in the place of the last that can be done without.
 * Returns how many there are then. */
uint32_t ways_keep(const struct graph *g, struct scratch *s, uint32_t slot,
                   const _Atomic uint32_t *row, uint32_t width, uint32_t level, uint32_t n);
/* Give `id` a link from a neighbour, or from the nearest that a walk from the entry comes to; at
 * most one row is changed.  False when nobody has room for it.  Within an item, or with the write
 * lock held exclusively; the scratch is reserved for a beam of M. */
bool ways_give(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t id);
/* The same from the nearest that a walk comes to, whoever names it already. */
bool ways_reach(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t id);
/* W2: before g->dying is DEAD, or when it has become DELETED.  `again`: it was bridged when it was
 * marked, so only those that still name it matter.  At most M0 + M + 1 rows are changed.  The
 * scratch is reserved for M0 + 1 candidates. */
void ways_bridge(navmap_index *ix, struct scratch *s, const struct graph *g, bool again);

#endif
