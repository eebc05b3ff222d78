/* table.h -- the label table of a private index: label -> slot, in memory.
 *
 * Open addressing with linear probing, 16 bytes a place, at most 7 of 10 taken; a removal moves the
 * places behind it up, so there are no tombstones.  A larger array is filled before it is swapped
 * in: a fork() in the middle leaves the child a whole table.
 */
#ifndef NAVMAP_STORAGE_TABLE_H
#define NAVMAP_STORAGE_TABLE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

struct table_entry {
    uint64_t label;
    uint32_t slot; /* 0 = the place is empty */
    uint32_t gen;
};

struct table {
    struct table_entry *places;
    uint64_t cap; /* a power of two, or 0 */
    uint64_t n;
    uint64_t max;   /* the largest label, if max_known and n > 0 */
    bool max_known; /* false once the largest was removed */
};

void table_free(struct table *t);
/* Room for `more` further labels: then that many table_put() cannot fail. */
navmap_status table_reserve(struct table *t, uint64_t more) NAVMAP_MUST_USE;
static inline bool table_room(const struct table *t, uint64_t more)
{
    return (t->n + more) * 10 <= t->cap * 7;
}
/* NULL when the label is absent.  Valid until the next change. */
const struct table_entry *table_get(const struct table *t, uint64_t label);
/* Add or change. */
void table_put(struct table *t, uint64_t label, uint32_t slot, uint32_t gen);
void table_remove(struct table *t, uint64_t label);
/* The largest label; false in an empty table.  O(1), or O(cap) once after its removal. */
bool table_last(struct table *t, uint64_t *ret_label);

#endif
