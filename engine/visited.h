/* visited.h -- which slots a search has met: one bit each, cleared by the words it touched.
 *
 * A bitmap stays in the second-level cache where an array of epochs does not.  Clearing it whole
 * would cost more than a small search, so the words that became nonzero are noted; when more are
 * than the note holds, clearing whole is the cheaper way anyway.
 */
#ifndef NAVMAP_ENGINE_VISITED_H
#define NAVMAP_ENGINE_VISITED_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

struct visited {
    uint64_t *words;
    uint32_t *touched; /* numbers of nonzero words, in order of touching */
    uint64_t n_words;
    uint32_t n_touched, cap_touched;
    bool overflow; /* more words are nonzero than `touched` names */
};

/* Room for slot ids below `nslots`; grows by half at least.  All bits are clear afterwards. */
navmap_status visited_reserve(struct visited *v, uint64_t nslots) NAVMAP_MUST_USE;
void visited_free(struct visited *v);
void visited_clear(struct visited *v);

/* Set the bit; was it set before?  `id` must be below the reserved bound. */
static inline bool visited_test_set(struct visited *v, uint32_t id)
{
    uint64_t bit = UINT64_C(1) << (id & 63), word = v->words[id >> 6];
    if (word & bit)
        return true;
    if (word == 0) {
        if (v->n_touched < v->cap_touched)
            v->touched[v->n_touched++] = id >> 6;
        else
            v->overflow = true;
    }
    v->words[id >> 6] = word | bit;
    return false;
}

#endif
