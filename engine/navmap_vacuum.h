/* navmap_vacuum.h -- after many deletions and updates: the graph without what is gone. */
#ifndef NAVMAP_ENGINE_NAVMAP_VACUUM_H
#define NAVMAP_ENGINE_NAVMAP_VACUUM_H

#include "engine/navmap.h"

#ifdef __cplusplus
extern "C" {
#endif

struct navmap_vacuum_options {
    uint32_t struct_size;      /* sizeof(struct navmap_vacuum_options) */
    uint32_t num_threads;      /* 0 or 1 = the calling one; more: where links are made anew */
    navmap_progress *progress; /* NULL = none; on the calling thread.  It must not change the index
                                  (NAVMAP_EINVAL, or another thread waits); searches are welcome */
    void *progress_ctx;
};
struct navmap_vacuum_result {
    uint32_t struct_size;   /* set by the caller */
    uint32_t linked_anew;   /* 1 = so much was gone that all links were made anew */
    uint64_t slots_freed;   /* of items that were replaced or updated */
    uint64_t rows_repaired; /* that named something gone */
    uint64_t ways_given;    /* live items that no walk came to, and that have a way in now */
};
/* Take everything that is gone out of the graph, so that searches are as quick and find as much as
 * in an index newly built of what is live: links to slots of items that were replaced or updated,
 * which are then free to be used again, and links to items that are marked deleted.  Those stay:
 * navmap_undelete() finds them, and gives them new links.  Files and memory keep their size;
 * navmap_compact() makes them smaller.
 * While less than a third of what has links is gone, rows are repaired in portions of some
 * milliseconds, and other calls get their turn between them.  Beyond that all links are made anew,
 * in memory, and put in when they are ready: changes wait meanwhile.  Searches go on throughout,
 * in other processes too.
 * A flat index has nothing to do.  What was done so far stays when the call is stopped or fails,
 * and the rest is done by later changes or another call.  `options` and `ret_result` may be NULL.
 *   NAVMAP_EINTERRUPTED the progress function said so;  NAVMAP_EREADONLY
 *   NAVMAP_ENOMEM, NAVMAP_ENOSPC, NAVMAP_EIO, NAVMAP_EPOISONED
 * Cost: O(slots), some microseconds for each row that names something gone; beyond the third, and
 * in memory, as of adding all live items to a new index. */
NAVMAP_API navmap_status navmap_vacuum(navmap_index *index,
                                       const struct navmap_vacuum_options *options,
                                       struct navmap_vacuum_result *ret_result) NAVMAP_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
