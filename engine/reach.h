/* reach.h -- which slots a search can come to: the walk that navmap_verify and navmap_check share.
 *
 * From the entry point along the links of its level, then from all slots so reached along those of
 * the next level, down to level 0.  A live slot that is not reached is no damage (nothing is lost,
 * and heuristic pruning may cut a node off), but a search cannot return it.
 *
 * R1  Links move while a walk is under way, so one walk proves nothing.  A slot is missing only if
 *     every walk missed it and its state word was the same from before the first to after the last.
 *     The same goes for slots that no row of level 0 names.
 * R2  Ids are followed below nslots, cells below view_cells(): any content can be walked (G1, G2).
 */
#ifndef NAVMAP_ENGINE_REACH_H
#define NAVMAP_ENGINE_REACH_H

#include <stdint.h>

#include "storage/status.h"
#include "storage/view.h"

enum reach_mark {
    REACH_NOW = 1,   /* the last walk came to it */
    REACH_FOUND = 2, /* some walk came to it, or it is no longer what it was */
    REACH_NAMED = 4, /* another slot's row of level 0 named it, or it is no longer what it was */
    REACH_USER = 128 /* the caller's */
};

struct reach {
    const struct view *view; /* may be exchanged between walks for a newer one of the same index */
    uint32_t nslots;
    uint64_t entry;   /* where the last walk began */
    uint32_t *before; /* [nslots] state words before the first walk */
    uint8_t *marks;   /* [nslots] enum reach_mark */
    uint32_t *queue;  /* [nslots] slots reached, in order */
    uint32_t n;
};

/* Room for the slots in use now, and their state words.  NAVMAP_ENOMEM.  Release in any case. */
navmap_status reach_begin(struct reach *r, const struct view *view) NAVMAP_MUST_USE;
void reach_end(struct reach *r);
void reach_walk(struct reach *r);

struct reach_counts {
    uint64_t live;       /* before the first walk; so are the following */
    uint64_t reachable;  /* live, by the last walk */
    uint64_t missing;    /* live, by none (R1) */
    uint64_t unnamed;    /* live, not the entry, in no row */
    uint32_t missing_at; /* the lowest of them; 0 = none */
    uint32_t unnamed_at;
};
void reach_count(const struct reach *r, struct reach_counts *ret_counts);

/* Who is named by how many rows of level 0, of slots in use that are not DEAD; and how many links
 * of slots in use lead to DEAD ones, on level 0.  By the state words before the first walk; beside
 * a writer of no single moment.  NAVMAP_ENOMEM. */
#define REACH_DEGREES 65u
struct reach_degrees {
    uint64_t in[REACH_DEGREES]; /* live slots; the last: so many less one, and more */
    uint64_t dead_links;
};
navmap_status reach_degrees(const struct reach *r, struct reach_degrees *ret) NAVMAP_MUST_USE;

static inline uint32_t reach_state(const struct view *v, uint32_t slot)
{
    return atomic_load_explicit(view_state(v, slot), memory_order_acquire);
}
/* The ids of a slot's row at a level, and how many; 0 where it does not reach that level. */
uint32_t reach_row(const struct view *v, uint32_t slot, uint32_t level,
                   const _Atomic uint32_t **ret_ids);

#endif
