/* code_scan.h -- the codes of all that pass, compared: the way of a query when few do.
 *
 * Where the next rows lie is known beforehand, so they are asked for while others are measured, and
 * no row of links is read: a row costs half of what a node of a walk costs.  Most of that is the
 * wait for memory, so several queries share a scan.
 */
#ifndef NAVMAP_ENGINE_CODE_SCAN_H
#define NAVMAP_ENGINE_CODE_SCAN_H

#include "engine/graph.h"
#include "engine/marks.h"

#define CODE_SCAN_MOST 4u

/* One query of a scan. */
struct code_scan {
    struct scratch *s;
    const struct target *to; /* with a code */
    uint32_t m;              /* how many are to be found; s->pool is reserved for them */
};

/* The m nearest of each query into its pool, where each counts as a result (pool.h, `plain`).  With
 * marks the slots that they name, without (NULL) those that are LIVE.  Distances are hints. */
void code_scan(const struct graph *g, const struct marks *marks, const struct code_scan *queries,
               uint32_t n);

#endif
