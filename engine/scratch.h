/* scratch.h -- the memory of one running query or insertion, kept for the next one.
 *
 * A handle keeps a few; a call takes one, reserves what it needs (an allocation only when it never
 * was as large), and puts it back.  The shelf is an array of atomic pointers and not a list under a
 * lock: a child of fork() must never find a lock held by a thread it does not have.  What such a
 * thread had taken is lost in the child, nothing else.
 *
 * pairing "scratch": exchange-acquire in take, compare-exchange-release in give; whoever takes an
 * object sees all that its former user did to it.
 */
#ifndef NAVMAP_ENGINE_SCRATCH_H
#define NAVMAP_ENGINE_SCRATCH_H

#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "engine/distance/codes.h"
#include "engine/pool.h"
#include "engine/rank.h"
#include "engine/visited.h"
#include "storage/layout.h"

#define SCRATCH_SHELF 32u

/* A neighbour to be, with its distance to the node in question. */
struct near {
    float dist;
    uint32_t id;
};

/* The neighbours of one node that were not met before: M0 + 1 of each, and HOP_SPARE, since vectors
 * of them are read and written. */
#define HOP_SPARE 16u
struct hop {
    uint32_t n;
    uint32_t asked; /* what asks.tail was when the last of them had been put there */
    uint32_t *ids;
    const uint8_t **codes; /* where their code rows are, or, without codes, ... */
    const void **vectors;  /* ... their vectors */
};

/* Rows to be fetched into the cache that were not asked for yet, by fours; first come, first
 * served. */
struct asks {
    const uint8_t *(*rows)[4]; /* a ring */
    uint32_t mask;             /* its size less one */
    uint32_t head, tail;       /* numbers of the next to be asked for, and of the next to come */
};
#define ASKS_HOPS 4u /* widest hops that a ring has room for */

/* Where the i-th four after the last is to be put. */
static inline const uint8_t **asks_put(struct asks *asks, uint32_t i)
{
    return asks->rows[(asks->tail + i) & asks->mask];
}

/* Kernels take rows by fours: where behind the last of a hop more are read, there are some. */
static inline void hop_pad(struct hop *hop)
{
    for (uint32_t i = hop->n; i < hop->n + 3; i++)
        hop->codes[i] = hop->codes[0];
}

static inline void asks_put_hop(struct asks *asks, struct hop *hop)
{
    hop_pad(hop);
    for (uint32_t i = 0; i < hop->n; i += 4)
        memcpy(asks_put(asks, i / 4), hop->codes + i, sizeof asks->rows[0]);
}

/* What walks did with this memory since it was made. */
struct tally {
    uint64_t measured;           /* distances on the way, of codes or of vectors */
    uint64_t expanded;           /* rows read on level 0 */
    uint64_t exact;              /* vectors measured at the end */
    uint64_t scanned;            /* codes or vectors measured by scans */
    uint64_t walks, hops, scans; /* ways that were gone to the end, or given up (plan.h) */
};

struct scratch {
    struct tally tally;
    float stop; /* of the call under way: navmap_search_options.stop, as pool_stop() takes it */
    struct visited visited;
    struct pool pool;
    struct rank rank;
    float *vector;    /* the query or the new vector, normalised for cosine, then zeros: a row */
    uint16_t *halves; /* the new vector's row where halves are stored, else NULL */
    uint8_t *code;    /* its code row; NULL without codes */
    /* The code as a query, and another one's (graph.h).  Without codes: room for a vector where
     * halves are stored, else NULL. */
    struct codes_query *query;
    struct codes_query *pair;
    struct hop hops[2];
    struct asks asks;
    float *dists;  /* M0 + 1: of a hop's */
    uint32_t *ids; /* 2 (M0 + 1): adding, repairing and hops */
    /* Adding and repairing only: */
    struct near *near;   /* candidates of a selection */
    struct near *aside;  /* select.c: copies put aside */
    struct near *row;    /* M0 + 1: a row being rebuilt */
    struct near *chosen; /* one row of M0 for each level of the new node */
    uint32_t cap_near;
};

struct shelf {
    struct scratch *_Atomic slots[SCRATCH_SHELF];
};

/* From the shelf or new, with room for dim, codes and M0 of `layout`. */
navmap_status scratch_take(struct shelf *shelf, const struct layout *layout,
                           struct scratch **ret_scratch) NAVMAP_MUST_USE;
void scratch_give(struct shelf *shelf, struct scratch *scratch);
/* Free all that is on the shelf: at close. */
void scratch_clear(struct shelf *shelf);

/* Room for a beam of `ef` over slot ids below `nslots`. */
navmap_status scratch_reserve(struct scratch *s, uint32_t ef, uint64_t nslots) NAVMAP_MUST_USE;
/* Room for selecting among `candidates`, and for a new node's rows. */
navmap_status scratch_reserve_build(struct scratch *s, const struct layout *layout,
                                    uint32_t candidates) NAVMAP_MUST_USE;

#endif
