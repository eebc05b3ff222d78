/* label_set.c -- filling a set of labels; see label_set.h. */
#include "engine/label_set.h"

#include <stdlib.h>

#include "storage/fail.h"

#define SMALL_BITMAP 4096u /* words that are not worth a table */

static void put_bit(struct label_set *set, uint64_t label)
{
    uint64_t at = label - set->base, bit = UINT64_C(1) << (at & 63);
    set->n += (set->words[at >> 6] & bit) == 0;
    set->words[at >> 6] |= bit;
}

static void put_entry(struct label_set *set, uint64_t label)
{
    if (label == 0) {
        set->n += !set->zero;
        set->zero = true;
        return;
    }
    uint64_t i = label_mixed(label) & set->mask;
    while (set->words[i] != 0 && set->words[i] != label)
        i = (i + 1) & set->mask;
    set->n += set->words[i] == 0;
    set->words[i] = label;
}

static uint64_t words_of(const struct label_set *set)
{
    return set->span != 0 ? (set->span - 1) / 64 + 1 : set->mask + 1;
}

navmap_status label_set_fill(struct label_set *set, const uint64_t *labels, uint64_t n)
{
    uint64_t low = UINT64_MAX, high = 0, words = 64;
    for (uint64_t i = 0; i < n; i++) {
        low = labels[i] < low ? labels[i] : low;
        high = labels[i] > high ? labels[i] : high;
    }
    *set = (struct label_set){.base = low};
    if (n != 0 && (high - low) / 64 < n + SMALL_BITMAP) {
        set->span = high - low + 1; /* no overflow: a list of 2^57 labels has no room */
    } else {
        while (words < n + n / 2)
            words *= 2;
        set->mask = words - 1;
    }
    set->words = calloc(words_of(set), sizeof *set->words);
    if (!set->words)
        return fail(NAVMAP_ENOMEM, "filter: no memory for a list of %llu labels",
                    (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        if (set->span != 0)
            put_bit(set, labels[i]);
        else
            put_entry(set, labels[i]);
    }
    return NAVMAP_OK;
}

void label_set_free(struct label_set *set)
{
    free(set->words);
    *set = (struct label_set){0};
}

uint64_t label_set_bytes(const struct label_set *set)
{
    return words_of(set) * sizeof *set->words;
}
