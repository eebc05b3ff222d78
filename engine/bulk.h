/* bulk.h -- a large addition to an empty or much smaller directory index: built in memory, without
 * a log, and put in force as a new generation.
 */
#ifndef NAVMAP_ENGINE_BULK_H
#define NAVMAP_ENGINE_BULK_H

#include "engine/index.h"

/* Is it worth it for n more items, and is there memory for it?  Reads a few words, and where it may
 * well be worth it some small files of the system. */
bool bulk_suits(navmap_index *ix, uint64_t n);
/* Between store_rebuild_begin() and store_rebuild_end(): a private index with what the index has,
 * to be added to.  Released by bulk_end() or navmap_close(). */
navmap_status bulk_begin(navmap_index *ix, uint64_t n, navmap_index **ret_to) NAVMAP_MUST_USE;
/* What `to` has is what the index has from now on, durably; or nothing has changed.  `to` is gone
 * in any case. */
navmap_status bulk_end(navmap_index *ix, navmap_index *to) NAVMAP_MUST_USE;

#endif
