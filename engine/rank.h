/* rank.h -- the best k answers, by exact distance and then by label.
 *
 * What leaves the library passes through here: hits with their label, exact distance and the slot
 * and state word they were read under.  A max-heap while hits come in, ascending at the end.
 */
#ifndef NAVMAP_ENGINE_RANK_H
#define NAVMAP_ENGINE_RANK_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

struct hit {
    uint64_t label;
    float dist; /* a number: NaN was made +inf */
    uint32_t slot, word;
};

struct rank {
    struct hit *hits;
    uint64_t cap; /* allocated */
    uint64_t max; /* kept at most */
    uint64_t n;
};

navmap_status rank_reserve(struct rank *r, uint64_t max) NAVMAP_MUST_USE;
void rank_free(struct rank *r);
/* Empty, to keep the best `max` (at least 1, at most what was reserved). */
void rank_reset(struct rank *r, uint64_t max);
/* Would a hit at this distance be kept (if its label is small enough)? */
static inline bool rank_wants(const struct rank *r, float dist)
{
    return r->n < r->max || dist <= r->hits[0].dist;
}
void rank_offer(struct rank *r, const struct hit *hit);
/* Ascending by (distance, label).  No offers after it until the next reset. */
void rank_sort(struct rank *r);
/* Keep the nearest of several hits with one label, then sort. */
void rank_unique(struct rank *r);

#endif
