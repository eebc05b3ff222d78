/* pool.h -- the beam of a graph search: nodes still to expand and the best results, in one room.
 *
 * A search offers nodes in any order and asks for the nearest one not yet expanded.  Two shapes:
 *
 *   line    one array sorted by distance that is frontier and result set at once.  For the beams
 *           that people use it beats heaps: one binary search, one short move.
 *   heaps   a min-heap of nodes to expand, a max-heap of results.  Taken when ef is large, or when
 *           so many nodes that are no results (deleted, dead) crowd the line that it is full.
 *
 * P1  A node counts as a result when its word is not zero.  At most ef results are kept, the
 *     nearest; a node farther than the ef-th result is of no use and is not kept.
 * P2  line: sorted by distance; when ef results are in it, the last entry is a result.
 * P3  Every offered distance is a number, at most FLT_MAX, so `bound` = +inf means "anything".
 * P4  Memory is bounded: 1 Mi nodes wait at most; beyond that the farthest are forgotten.
 * P5  line: an id has 31 bits, the 32nd says that it was expanded.  Larger indexes have heaps.
 * P6  line: where every node is a result (`plain`), words are not kept; the word of all is 1.
 * P7  line: with pool_stop(), what is farther than so many times the k-th result is not kept.  The
 *     k-th only comes nearer, so it would not be expanded by a search that ends there.  Among nodes
 *     that are no results the k-th is one a few places behind, which only keeps more.
 */
#ifndef NAVMAP_ENGINE_POOL_H
#define NAVMAP_ENGINE_POOL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "storage/status.h"

#define POOL_LINE_MAX 2048u
#define POOL_ROOM (POOL_LINE_MAX + 64u) /* vectors are read beyond the end */
#define POOL_EXPANDED 0x80000000u
#define POOL_WORD 1u /* P6 */
#define POOL_FRONTIER_MAX (1u << 20)

struct pool_entry {
    float dist;
    uint32_t id;
    uint32_t word; /* the state word kept for a result (storage/store.h, q4); 0 = no result */
};

struct pool {
    float bound; /* only nodes nearer than this are worth offering */
    uint32_t ef;
    uint32_t n;    /* line: entries; heaps: results */
    uint32_t next; /* line: all before it are expanded */
    uint32_t n_results;
    bool heaps;
    struct pool_entry nearest;   /* offered so far, result or not; id 0 = none */
    float *dists;                /* line: POOL_ROOM of these, ... */
    uint32_t *ids;               /* ... of these, P5 ... */
    uint32_t *words;             /* ... and of these, P6 */
    bool plain;                  /* P6 */
    bool wide;                   /* P5 */
    uint32_t stop_at;            /* P7: k, or 0 = there is no such limit */
    float stop;                  /* P7: times its distance */
    struct pool_entry *entries;  /* max-heap of results; at the end those of the line as well */
    struct pool_entry *frontier; /* heaps: min-heap; word is unused */
    uint32_t n_frontier;
    uint32_t cap_entries, cap_frontier;
};

/* Room for a beam of `ef` over `nslots` nodes. */
navmap_status pool_reserve(struct pool *p, uint32_t ef, uint64_t nslots) NAVMAP_MUST_USE;
void pool_free(struct pool *p);
/* Empty it for a search of width ef >= 1, at most what was reserved. */
void pool_reset(struct pool *p, uint32_t ef, bool plain);

/* P7, after a reset: k >= 1 and at most ef, times >= 1.  Heaps take no notice. */
static inline void pool_stop(struct pool *p, uint32_t k, float times)
{
    p->stop_at = k;
    p->stop = times;
}

/* P7: how far away what is kept may be when the k-th is `kth` away; and the next distance after a
 * finite one, which is too far. */
static inline float pool_limit(const struct pool *p, float kth)
{
    return kth > 0 ? kth * p->stop : kth;
}

static inline float pool_above(float limit)
{
    uint32_t bits;
    memcpy(&bits, &limit, sizeof bits);
    bits = limit > 0 ? bits + 1 : limit < 0 ? bits - 1 : 1;
    memcpy(&limit, &bits, sizeof bits);
    return limit;
}

/* P7, on a line: the distances have changed.  Apart, since most searches have no such limit. */
void pool_cut(struct pool *p);

/* Each id at most once per search.  Costs nothing when dist >= bound. */
void pool_offer(struct pool *p, float dist, uint32_t id, uint32_t word);
/* The nearest node not expanded yet, which is expanded now; false when none can matter. */
bool pool_next(struct pool *p, uint32_t *ret_id);
/* The `ahead`-th after it, as things are; a guess, which is all that prefetching needs. */
static inline bool pool_peek(const struct pool *p, uint32_t ahead, uint32_t *ret_id)
{
    if (p->heaps) {
        if (ahead >= p->n_frontier)
            return false;
        *ret_id = p->frontier[ahead].id;
        return true;
    }
    if (p->next + ahead >= p->n)
        return false;
    *ret_id = p->ids[p->next + ahead] & ~POOL_EXPANDED;
    return true;
}
/* End of search: the results, nearest first, equal distances in order of arrival (line).  The pool
 * takes no more offers until it is reset. */
struct pool_entry *pool_finish(struct pool *p, uint32_t *ret_n);

#endif
