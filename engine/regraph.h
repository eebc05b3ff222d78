/* regraph.h -- a graph as it is to be written anew: some items are left out, rows mend around them.
 *
 * For saving and for compaction.  The index itself is not changed.  A save asks for one row after
 * the other; a compaction has several threads make all rows of level 0 first, in memory (4 * M0
 * bytes an item), since the order of the items is chosen by them.
 *
 * B1  A row that names nobody who is left out is taken as it is.  One that does keeps the others,
 *     and what those left out linked to are the candidates for the room, by the heuristic
 *     (FreshDiskANN's consolidation), and then, diverse or not, the nearest behind each of them; if
 *     next to nothing is in sight, a search from the entry finds candidates.
 * B2  Each live item is reached by a walk over level 0 from the entry, as far as that can be had:
 *     one that is not is taken in by the nearest that is, in the place of a link to one that others
 *     name too.
 */
#ifndef NAVMAP_ENGINE_REGRAPH_H
#define NAVMAP_ENGINE_REGRAPH_H

#include "engine/index.h"

/* Work in steps, told to the caller now and then. */
struct toil {
    const struct store *store;
    navmap_progress *progress; /* NULL = none; called on the thread that began it only */
    void *ctx;
    uint64_t total;
    _Atomic uint64_t done;
    _Atomic bool stop; /* somebody failed, or the caller said so: */
    navmap_status status;
    char detail[512];
    double told;
};
/* Between two pieces of work.  NAVMAP_EINTERRUPTED when the progress function asked to stop. */
navmap_status toil_tell(struct toil *t) NAVMAP_MUST_USE;
/* The first failure counts. */
void toil_fail(struct toil *t, navmap_status status);
navmap_status toil_status(const struct toil *t) NAVMAP_MUST_USE;

struct regraph {
    navmap_index *ix;
    struct graph g;
    struct scratch *scratch; /* the calling thread's */
    struct toil *toil;
    uint32_t n;      /* items that stay */
    uint32_t *slots; /* [n] their slots, rising */
    uint32_t *item;  /* [nslots] number of a slot's item + 1; 0 = left out */
    uint32_t *rows;  /* [n * M0] slots, packed, then 0: level 0; NULL before regraph_fill() */
    uint32_t entry;  /* 0 = there is none */
    _Atomic uint32_t next;
};

/* The write lock is held exclusively from here to regraph_end(), which is to be called in any case.
 * `deleted`: those stay too. */
navmap_status regraph_begin(struct regraph *r, navmap_index *ix, bool deleted) NAVMAP_MUST_USE;
void regraph_end(struct regraph *r);
/* All rows of level 0 into r->rows, by `threads` of the handle's crew (B2 is kept only by them). */
navmap_status regraph_fill(struct regraph *r, uint32_t threads, struct toil *toil) NAVMAP_MUST_USE;
/* refine.c: behind it, a second pass over the graph. */
navmap_status regraph_refine(struct regraph *r, uint32_t threads) NAVMAP_MUST_USE;
/* B2, which both do. */
navmap_status regraph_reach(const struct regraph *r) NAVMAP_MUST_USE;
/* The row of a slot at any level: how many, into `ids`, which has room for M0. */
uint32_t regraph_row(const struct regraph *r, struct scratch *s, uint32_t slot, uint32_t level,
                     uint32_t *ids);

/* The same, padded with 0 to M0 or M words, with r->scratch: a seal_row, with r as its context. */
navmap_status regraph_padded_row(void *r, uint32_t slot, uint32_t level,
                                 uint32_t *ret_ids) NAVMAP_MUST_USE;

static inline const uint32_t *regraph_row0(const struct regraph *r, uint32_t item)
{
    return r->rows + (uint64_t)item * r->g.M0;
}
static inline bool regraph_keeps(const struct regraph *r, uint32_t slot)
{
    return slot < r->g.nslots && r->item[slot] != 0;
}

/* What the workers of a crew share out among them: `n` things, `block` at a time. */
struct regraph_share {
    _Atomic uint32_t *next; /* 0 at first */
    uint32_t n, block;
    void (*fn)(void *ctx, struct scratch *s, uint32_t from, uint32_t to);
    void *ctx;
};
/* One worker's part, until nothing is left or the toil has to end; worker 0 tells how far it is.
 * `status`: of taking and reserving `s`, which is given back. */
void regraph_work(const struct regraph *r, const struct regraph_share *share, uint32_t worker,
                  struct scratch *s, navmap_status status);

#endif
