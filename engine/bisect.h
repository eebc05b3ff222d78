/* bisect.h -- an order of items in which sets of them lie on few pages.
 *
 * Recursive bisection: L. Dhulipala et al., "Compressing graphs and indexes with recursive graph
 * bisection", KDD 2016.  A part of the items is cut in two halves, and items change sides in pairs
 * as long as that gathers sets on one side; then the same is done with each half, down to a page.
 *
 * I1  The order depends on the input alone: parts are cut independently of each other, each by one
 *     thread, in integers.
 * I2  Memory is bounded: 12 bytes for each id in a set and some tens for each item and set.
 */
#ifndef NAVMAP_ENGINE_BISECT_H
#define NAVMAP_ENGINE_BISECT_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/crew.h"
#include "storage/status.h"

/* n sets: `width` words each, packed, then 0: an item + 1, or what `number` makes such a one of. */
struct bisect_sets {
    const uint32_t *words;
    uint64_t n;
    uint32_t width;
    const uint32_t *number; /* NULL = the words are it */
    bool own;               /* set i has item i too */
};

struct bisection {
    uint32_t n;
    const struct bisect_sets *sets;
    uint32_t n_sets;
    /* Items that are not to be mixed with others: items[0] to items[parts[0] - 1], and so on. */
    const uint32_t *parts;
    uint32_t n_parts;
    uint32_t first;    /* place of the first item where they are kept */
    uint32_t stride;   /* bytes of each there, not 0: cuts are made where pages begin */
    struct crew *crew; /* NULL = this thread alone */
    uint32_t threads;
    navmap_status (*tick)(void *ctx, uint32_t done); /* items since the last call; NULL = none */
    void *ctx;
};

/* `items`: each of 0 to n-1 once, part by part; ordered within the parts.  NAVMAP_ENOMEM, or what
 * the tick returned. */
navmap_status bisect(const struct bisection *b, uint32_t *items) NAVMAP_MUST_USE;

#endif
