/* table.h -- the label table of a private index: label -> slot, in memory.
 *
 * Open addressing with linear probing, 16 bytes a place, at most 7 of 10 taken; a removal moves the
 * places behind it up, so there are no tombstones.  A larger array is filled before it is swapped
 * in: a fork() in the middle leaves the child a whole table.
 *
 * Over a sealed file the table begins as that file's label section, sorted, searched in place by
 * bisection and never changed; the places hold what is different by now.  So opening costs nothing
 * per label.  The entries come from a file: who uses one checks its slot.
 */
#ifndef NAVMAP_STORAGE_TABLE_H
#define NAVMAP_STORAGE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

struct table_entry {
    uint64_t label;
    uint32_t slot; /* 0 = the place is empty; TABLE_GONE = the base's entry is no more */
    uint32_t gen;
};
#define TABLE_GONE UINT32_MAX

struct table {
    struct table_entry *places;
    uint64_t cap;                   /* a power of two, or 0 */
    uint64_t n_places;              /* taken */
    const struct table_entry *base; /* rising by label; somebody else's memory */
    uint64_t n_base;
    uint64_t n;     /* labels */
    uint64_t max;   /* the largest label, if max_known and n > 0 */
    bool max_known; /* false once the largest was removed */
};

void table_free(struct table *t);
/* The table of a sealed file, before the first change. */
void table_over(struct table *t, const struct table_entry *base, uint64_t n_base);
/* Room for `more` further labels: then that many table_put() and as many table_remove() cannot
 * fail. */
navmap_status table_reserve(struct table *t, uint64_t more) NAVMAP_MUST_USE;
static inline uint64_t table_places(const struct table *t, uint64_t more)
{
    return t->n_places + (t->n_base > 0 ? 2 * more : more); /* TABLE_GONE takes one, too */
}
static inline bool table_room(const struct table *t, uint64_t more)
{
    return table_places(t, more) * 10 <= t->cap * 7;
}
/* NULL when the label is absent.  Valid until the next change. */
const struct table_entry *table_get(const struct table *t, uint64_t label);
/* Add or change; room was reserved. */
void table_put(struct table *t, uint64_t label, uint32_t slot, uint32_t gen);
/* Over a sealed file room was reserved, in the sense of table_reserve(). */
void table_remove(struct table *t, uint64_t label);
/* The largest label; false in an empty table.  O(1), or O(labels) once after its removal. */
bool table_last(struct table *t, uint64_t *ret_label);

#endif
