/* table.c -- a hash table of labels; see table.h. */
#include "storage/table.h"

#include <stdlib.h>

#include "storage/fail.h"

#define CAP_LEAST 64u

/* Labels are often 0, 1, 2, ...: multiplied, their upper bits are spread. */
static uint64_t home(uint64_t cap, uint64_t label)
{
    uint64_t h = label * UINT64_C(0x9E3779B97F4A7C15);
    return (h ^ h >> 32) & (cap - 1);
}

void table_free(struct table *t)
{
    free(t->places);
    *t = (struct table){0};
}

/* Where the label is, or the empty place where it would go.  cap > 0. */
static uint64_t place(const struct table_entry *places, uint64_t cap, uint64_t label)
{
    uint64_t i = home(cap, label);
    while (places[i].slot != 0 && places[i].label != label)
        i = (i + 1) & (cap - 1);
    return i;
}

navmap_status table_reserve(struct table *t, uint64_t more)
{
    uint64_t cap = t->cap ? t->cap : CAP_LEAST;
    while ((t->n + more) * 10 > cap * 7)
        cap *= 2;
    if (cap == t->cap)
        return NAVMAP_OK;
    struct table_entry *places = calloc(cap, sizeof *places);
    if (!places)
        return fail(NAVMAP_ENOMEM, "no memory for a table of %llu labels",
                    (unsigned long long)(t->n + more));
    for (uint64_t i = 0; i < t->cap; i++)
        if (t->places[i].slot != 0)
            places[place(places, cap, t->places[i].label)] = t->places[i];
    struct table_entry *old = t->places;
    t->places = places;
    t->cap = cap;
    free(old);
    return NAVMAP_OK;
}

const struct table_entry *table_get(const struct table *t, uint64_t label)
{
    if (t->n == 0)
        return NULL;
    const struct table_entry *e = &t->places[place(t->places, t->cap, label)];
    return e->slot != 0 ? e : NULL;
}

void table_put(struct table *t, uint64_t label, uint32_t slot, uint32_t gen)
{
    struct table_entry *e = &t->places[place(t->places, t->cap, label)];
    if (e->slot == 0) {
        if (t->n == 0 || (t->max_known && label > t->max)) {
            t->max = label;
            t->max_known = true;
        }
        t->n++;
    }
    *e = (struct table_entry){label, slot, gen};
}

void table_remove(struct table *t, uint64_t label)
{
    if (t->n == 0)
        return;
    uint64_t hole = place(t->places, t->cap, label), mask = t->cap - 1;
    if (t->places[hole].slot == 0)
        return;
    if (t->max_known && label == t->max)
        t->max_known = false;
    t->n--;
    /* Whoever stands behind the hole and is not at home between it and himself moves into it. */
    for (uint64_t i = (hole + 1) & mask; t->places[i].slot != 0; i = (i + 1) & mask) {
        uint64_t h = home(t->cap, t->places[i].label);
        if (((i - h) & mask) < ((i - hole) & mask))
            continue;
        t->places[hole] = t->places[i];
        hole = i;
    }
    t->places[hole].slot = 0;
}

bool table_last(struct table *t, uint64_t *ret_label)
{
    if (t->n == 0)
        return false;
    if (!t->max_known) {
        t->max = 0;
        for (uint64_t i = 0; i < t->cap; i++)
            if (t->places[i].slot != 0 && t->places[i].label > t->max)
                t->max = t->places[i].label;
        t->max_known = true;
    }
    *ret_label = t->max;
    return true;
}
