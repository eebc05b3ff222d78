/* visited.h -- which slots a search has met: one bit each, cleared by the slots it met.
 *
 * A bitmap stays in the second-level cache where an array of epochs does not.  Clearing it whole
 * would cost more than a small search, so the slots are noted; when they are more than the note
 * holds, clearing whole is the cheaper way anyway.
 *
 * Of slot 0, which is "no neighbour", the bit is always set.
 */
#ifndef NAVMAP_ENGINE_VISITED_H
#define NAVMAP_ENGINE_VISITED_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "storage/status.h"

#define VISITED_ROW 1025u /* the widest row (M = 512), and one */
#define VISITED_COPY 8u   /* slots that are noted at once, the last of them perhaps in vain */

struct visited {
    uint64_t *words;
    uint32_t *met; /* slots whose bits are set */
    uint64_t n_words;
    uint32_t n_met, cap_met;
    bool overflow; /* more are set than `met` names */
};

/* Room for slot ids below `nslots`; grows by half at least.  All bits but that of slot 0 are clear
 * afterwards. */
navmap_status visited_reserve(struct visited *v, uint64_t nslots) NAVMAP_MUST_USE;
void visited_free(struct visited *v);
void visited_clear(struct visited *v);

/* Room in the note for `n` more, at most VISITED_ROW; when it is full, all it says is forgotten. */
static inline void visited_room(struct visited *v, uint32_t n)
{
    if (v->n_met + n > v->cap_met) {
        v->overflow = true;
        v->n_met = 0;
    }
}

/* Set the bit; was it set before?  `id` must be below the reserved bound, and there must be room
 * in the note.  Without a branch: whether a slot was met is what nobody can predict. */
static inline bool visited_set(struct visited *v, uint32_t id)
{
    uint64_t word = v->words[id >> 6], bit = UINT64_C(1) << (id & 63);
    v->met[v->n_met] = id;
    v->n_met += (word & bit) == 0;
    v->words[id >> 6] = word | bit;
    return (word & bit) != 0;
}

/* Note `n` slots whose bits were set without a note; from `ids` whole VISITED_COPY are read. */
static inline void visited_note(struct visited *v, const uint32_t *ids, uint32_t n)
{
    visited_room(v, n);
    for (uint32_t i = 0; i < n; i += VISITED_COPY)
        memcpy(v->met + v->n_met + i, ids + i, VISITED_COPY * sizeof *ids);
    v->n_met += n;
}

static inline bool visited_test_set(struct visited *v, uint32_t id)
{
    visited_room(v, 1);
    return visited_set(v, id);
}

#endif
