/* label_set.h -- a set of labels: a bit each where they lie close together, else a hash table.
 *
 * Filled once, then read only.  A bitmap over the range of the labels is taken when it is no larger
 * than the list itself, or small: labels that were numbered in turn, the usual case, then cost a
 * pass and no hashing.
 */
#ifndef NAVMAP_ENGINE_LABEL_SET_H
#define NAVMAP_ENGINE_LABEL_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

struct label_set {
    uint64_t *words;
    uint64_t base, span; /* bits, the first of them label `base`; span 0 = a hash table */
    uint64_t mask;       /* entries of the table - 1; an empty one holds 0 */
    uint64_t n;          /* different labels */
    bool zero;           /* the label 0, which the table cannot show */
};

/* In any order, repeated or not.  NAVMAP_ENOMEM; then there is nothing to free. */
navmap_status label_set_fill(struct label_set *set, const uint64_t *labels,
                             uint64_t n) NAVMAP_MUST_USE;
void label_set_free(struct label_set *set);
/* Its memory, in bytes. */
uint64_t label_set_bytes(const struct label_set *set);

static inline uint64_t label_mixed(uint64_t x)
{
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

static inline bool label_set_has(const struct label_set *set, uint64_t label)
{
    if (set->span != 0) {
        uint64_t at = label - set->base;
        return at < set->span && (set->words[at >> 6] >> (at & 63) & 1) != 0;
    }
    if (label == 0)
        return set->zero;
    for (uint64_t i = label_mixed(label) & set->mask; set->words[i] != 0; i = (i + 1) & set->mask)
        if (set->words[i] == label)
            return true;
    return false;
}

#endif
