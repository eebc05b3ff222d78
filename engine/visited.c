/* visited.c -- growing and clearing the bitmap of visited.h. */
#include "engine/visited.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

navmap_status visited_reserve(struct visited *v, uint64_t nslots)
{
    uint64_t need = (nslots + 63) / 64;
    if (need <= v->n_words)
        return NAVMAP_OK;
    uint64_t n = v->n_words + v->n_words / 2;
    if (n < need)
        n = need;
    if (n < 64)
        n = 64;
    /* 16 bytes of words for each of note, and room for a row, behind which some may be written in
     * vain. */
    uint64_t cap = n / 8 + VISITED_ROW;
    uint64_t *words = calloc(n, sizeof *words);
    uint32_t *met = malloc((cap + VISITED_COPY) * sizeof *met);
    if (!words || !met) {
        free(words);
        free(met);
        return fail(NAVMAP_ENOMEM, "visited set: no memory for %llu slots",
                    (unsigned long long)nslots);
    }
    visited_free(v);
    v->words = words;
    v->met = met;
    v->n_words = n;
    v->cap_met = (uint32_t)cap;
    v->words[0] = 1;
    return NAVMAP_OK;
}

void visited_free(struct visited *v)
{
    free(v->words);
    free(v->met);
    *v = (struct visited){0};
}

void visited_clear(struct visited *v)
{
    if (!v->words)
        return;
    if (v->overflow)
        memset(v->words, 0, v->n_words * sizeof *v->words);
    else
        for (uint32_t i = 0; i < v->n_met; i++)
            v->words[v->met[i] >> 6] = 0;
    v->n_met = 0;
    v->overflow = false;
    v->words[0] = 1;
}
