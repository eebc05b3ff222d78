/* walk.h -- beam search on one level of the graph, as steps that can be interleaved.
 *
 * A step has two halves: it takes the nearest node that was not expanded yet, reads its row and
 * asks for what is needed of the neighbours that were not met before; then it measures those of the
 * node before, which were asked for a step ago, and offers the near ones to the beam.  So what is
 * asked for has the time of half a step to come from memory, and more when the steps of other
 * walks, a batch of queries, lie between.
 *
 * K1  A node is thus expanded before the one in front of it was measured, which might have put it
 *     off; by far the most would have been expanded anyway.
 * K2  Each walk ends on any content: each id is met at most once (graph.h, G2).
 * K3  `all_live`: every node counts, and state words are not looked at on the way.  The committed
 *     graph's reader asks for them at the end (query.c, Q5), in a beam that is wider where not all
 *     that rows name is LIVE and passes (plan.h); the writer's walks are so while
 *     few slots are DEAD, which it sorts out when they have ended (insert.c, A10); slots that die
 *     while its item is in hand are in no sweep (A3).
 * K4  Without codes a node is measured before the next one is taken, at the price of waiting for
 *     memory: the order is then the paper's and hnswlib's, and a graph of hnswlib's gives the
 *     answers that it gives there (hnswlib_file.c), which is what its users compare.
 *
 * Malkov and Yashunin 2018, algorithm 2, in the order of memory accesses that faiss, glass and
 * Manticore use: first all ids of a row, then all distances.
 */
#ifndef NAVMAP_ENGINE_WALK_H
#define NAVMAP_ENGINE_WALK_H

#include "engine/graph.h"

/* Where rows and codes of the mapping are: chunk * chunk_bytes + place * stride behind these. */
struct walk_place {
    const uint8_t *rows, *codes;
    uint64_t chunk_bytes;
    uint32_t shift, mask, row_stride, code_stride;
    uint32_t gap; /* from the end of a chunk's codes to the next one's, in KiB */
};
#define WALK_GAP_SHIFT 10 /* a chunk's bytes, and its codes, 16 lines at least, are whole KiB */

struct walk;
typedef bool walk_step_fn(struct walk *w);

struct walk {
    const struct graph *g;
    struct scratch *s;
    struct target to;
    uint32_t level;
    uint32_t turn;     /* of s->hops, the one that was gathered and is to be measured */
    bool more;         /* there is one */
    struct asks *asks; /* the scratch's, or one that walks side by side share */
    walk_step_fn *step;
    struct walk_place place; /* of a fast one (walk_fast.inc) */
};

/* Begin at `slot` with a beam of `ef`; s->visited and s->pool must be reserved. */
void walk_begin(struct walk *w, const struct graph *g, struct scratch *s, const struct target *to,
                uint32_t slot, uint32_t level, uint32_t ef);
/* Put what is to be asked for into a ring that other walks of the thread use as well, to be called
 * after walk_begin(); it must be one of an index with rows as wide, and outlive the walk. */
void walk_share(struct walk *w, struct asks *asks);
/* False when the walk has come to its end: the results are in s->pool (pool_finish), and
 * s->pool.nearest. */
static inline bool walk_step(struct walk *w)
{
    return w->step(w);
}

/* All of it. */
void walk_search(const struct graph *g, struct scratch *s, const struct target *to, uint32_t slot,
                 uint32_t level, uint32_t ef);

#endif
