/* visited.h -- which slots a search has met: one bit each, cleared by the words it touched.
 *
 * A bitmap stays in the second-level cache where an array of epochs does not.  Clearing it whole
 * would cost more than a small search, so the words that became nonzero are noted; when more are
 * than the note holds, clearing whole is the cheaper way anyway.
 *
 * Of slot 0, which is "no neighbour", the bit is always set.
 */
#ifndef NAVMAP_ENGINE_VISITED_H
#define NAVMAP_ENGINE_VISITED_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

#define VISITED_ROW 1025u /* the widest row (M = 512), and one */

struct visited {
    uint64_t *words;
    uint32_t *touched; /* numbers of nonzero words, in order of touching */
    uint64_t n_words;
    uint32_t n_touched, cap_touched;
    bool overflow; /* more words are nonzero than `touched` names */
};

/* Room for slot ids below `nslots`; grows by half at least.  All bits but that of slot 0 are clear
 * afterwards. */
navmap_status visited_reserve(struct visited *v, uint64_t nslots) NAVMAP_MUST_USE;
void visited_free(struct visited *v);
void visited_clear(struct visited *v);

/* Room in the note for `n` more, at most cap_touched; when it is full, all it says is forgotten. */
static inline void visited_note(struct visited *v, uint32_t n)
{
    if (v->n_touched + n > v->cap_touched) {
        v->overflow = true;
        v->n_touched = 0;
    }
}

/* Set the bit; was it set before?  `id` must be below the reserved bound, and there must be room
 * in the note.  Without a branch: whether a slot was met is what nobody can predict. */
static inline bool visited_set(struct visited *v, uint32_t id)
{
    uint64_t word = v->words[id >> 6], bit = UINT64_C(1) << (id & 63);
    v->touched[v->n_touched] = id >> 6;
    v->n_touched += word == 0;
    v->words[id >> 6] = word | bit;
    return (word & bit) != 0;
}

static inline bool visited_test_set(struct visited *v, uint32_t id)
{
    visited_note(v, 1);
    return visited_set(v, id);
}

#endif
