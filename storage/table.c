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

void table_over(struct table *t, const struct table_entry *base, uint64_t n_base)
{
    *t = (struct table){.base = base, .n_base = n_base, .n = n_base};
}

navmap_status table_reserve(struct table *t, uint64_t more)
{
    const uint64_t need = table_places(t, more);
    uint64_t cap = t->cap ? t->cap : CAP_LEAST;
    while (need * 10 > cap * 7)
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

/* The base's entry, whatever became of it; one without a slot is none. */
static const struct table_entry *in_base(const struct table *t, uint64_t label)
{
    uint64_t low = 0, high = t->n_base;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (t->base[middle].label < label)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == t->n_base)
        return NULL; /* and there may be no base to point into */
    const struct table_entry *e = &t->base[low];
    return e->label == label && e->slot != 0 && e->slot != TABLE_GONE ? e : NULL;
}

const struct table_entry *table_get(const struct table *t, uint64_t label)
{
    if (t->n_places > 0) {
        const struct table_entry *e = &t->places[place(t->places, t->cap, label)];
        if (e->slot != 0)
            return e->slot != TABLE_GONE ? e : NULL;
    }
    return in_base(t, label);
}

void table_put(struct table *t, uint64_t label, uint32_t slot, uint32_t gen)
{
    struct table_entry *e = &t->places[place(t->places, t->cap, label)];
    bool had = e->slot != 0 ? e->slot != TABLE_GONE : in_base(t, label) != NULL;
    if (!had) {
        if (t->n == 0 || (t->max_known && label > t->max)) {
            t->max = label;
            t->max_known = true;
        }
        t->n++;
    }
    t->n_places += e->slot == 0;
    *e = (struct table_entry){label, slot, gen};
}

/* Whoever stands behind the hole and is not at home between it and himself moves into it. */
static void close_hole(struct table *t, uint64_t hole)
{
    const uint64_t mask = t->cap - 1;
    for (uint64_t i = (hole + 1) & mask; t->places[i].slot != 0; i = (i + 1) & mask) {
        uint64_t h = home(t->cap, t->places[i].label);
        if (((i - h) & mask) < ((i - hole) & mask))
            continue;
        t->places[hole] = t->places[i];
        hole = i;
    }
    t->places[hole].slot = 0;
    t->n_places--;
}

void table_remove(struct table *t, uint64_t label)
{
    if (!table_get(t, label))
        return;
    if (t->max_known && label == t->max)
        t->max_known = false;
    t->n--;
    const uint64_t at = t->cap ? place(t->places, t->cap, label) : 0;
    if (!in_base(t, label)) {
        close_hole(t, at);
        return;
    }
    t->n_places += t->places[at].slot == 0;
    t->places[at] = (struct table_entry){label, TABLE_GONE, 0};
}

bool table_last(struct table *t, uint64_t *ret_label)
{
    if (t->n == 0)
        return false;
    if (!t->max_known) {
        uint64_t i = t->n_base;
        while (i > 0 && !table_get(t, t->base[i - 1].label))
            i--;
        t->max = i > 0 ? t->base[i - 1].label : 0;
        for (i = 0; i < t->cap; i++)
            if (t->places[i].slot != 0 && t->places[i].slot != TABLE_GONE &&
                t->places[i].label > t->max)
                t->max = t->places[i].label;
        t->max_known = true;
    }
    *ret_label = t->max;
    return true;
}
