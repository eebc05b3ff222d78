/* code_scan.h -- the codes of all that pass, compared: the way of a query when few do.
 *
 * Where the next rows lie is known beforehand, so they are asked for while others are measured, and
 * no row of links is read: a row costs a third of what a node of a walk costs.
 */
#ifndef NAVMAP_ENGINE_CODE_SCAN_H
#define NAVMAP_ENGINE_CODE_SCAN_H

#include "engine/filter.h"
#include "engine/graph.h"

/* The `m` nearest to `to`, which has a code, into s->pool, reserved for as many; each counts as a
 * result (pool.h, `plain`).  With a sieve the slots that its marks name (it is `by_slot`), without
 * one those that are LIVE.  The pool's distances are hints. */
void code_scan(const struct graph *g, struct scratch *s, const struct target *to,
               const struct sieve *sieve, uint32_t m);

#endif
