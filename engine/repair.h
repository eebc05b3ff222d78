/* repair.h -- the sweep, in portions; see repair.c for R1..R5. */
#ifndef NAVMAP_ENGINE_REPAIR_H
#define NAVMAP_ENGINE_REPAIR_H

#include "engine/index.h"

/* Begin one, in the place of one that is running.  `vacuum`: DELETED slots are taken out of rows
 * too, and the walk is made even when nothing is DEAD (R5).  Write lock held exclusively, in
 * both. */
navmap_status repair_begin(navmap_index *ix, bool vacuum) NAVMAP_MUST_USE;
/* Go on by `slots` slots; behind the last one the sweep ends. */
navmap_status repair_portion(navmap_index *ix, struct scratch *s, uint64_t slots) NAVMAP_MUST_USE;

#endif
