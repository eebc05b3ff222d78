/* navmap_filter.h -- filters that are prepared once and used by many searches.
 *
 * A filter is a set of labels, of those that may be returned or of those that may not, together
 * with a bit for each slot of one index.  It goes in struct navmap_search_options as `set`, or as
 * one of `row_sets`.  A list in the options, `allowed`, is prepared anew in every call; this is
 * not.
 *
 * It stays right whatever is done to the index: labels that are added later, also those that did
 * not exist when it was made, pass or not by the set; deleted items are never returned.  A search
 * that looks at what passes only first brings the bits up to date if the index has changed, which
 * reads 4 bytes for each slot and the labels of regions that changed; others do not need them.
 *
 * Threads: any number of threads may search with one filter at once, beside others that change the
 * index.  navmap_filter_free() must not run beside a search with it.
 * fork(): a filter goes on in the child with the handle that it was made for.
 */
#ifndef NAVMAP_ENGINE_NAVMAP_FILTER_H
#define NAVMAP_ENGINE_NAVMAP_FILTER_H

#include "engine/navmap.h"

#ifdef __cplusplus
extern "C" {
#endif

struct navmap_filter_options {
    uint32_t struct_size; /* sizeof(struct navmap_filter_options) */
    uint32_t deny;        /* 1 = the labels are those that may not be returned */
};

/* Prepare `n` labels for searches of `index`, this handle and no other.  Labels in any order;
 * unknown and repeated ones do no harm.  They are copied.  `options` may be NULL.
 *   NAVMAP_EINVAL  labels are NULL and n is not 0;  NAVMAP_ENOMEM
 * Cost: one pass over the labels and one over the slots of the index, some 10 ns each.
 * Memory: a bit a slot, and a bit for each number between the least and the largest label, or 12 to
 * 24 bytes a label if that is less.
 * Release with navmap_filter_free(), also after navmap_close(). */
NAVMAP_API navmap_status navmap_filter_create(navmap_index *index, uint64_t n,
                                              const uint64_t *labels,
                                              const struct navmap_filter_options *options,
                                              navmap_filter_set **ret_filter) NAVMAP_MUST_USE;
/* NULL allowed. */
NAVMAP_API void navmap_filter_free(navmap_filter_set *filter);

struct navmap_filter_facts {
    uint32_t struct_size; /* set by the caller */
    uint32_t deny;
    uint64_t labels; /* different ones in the set */
    uint64_t pass;   /* live items of the index that pass, as it was when last looked at */
    uint64_t bytes;  /* of memory */
};
/* Bring the bits up to date, and tell.  NAVMAP_EINVAL: made for another handle; NAVMAP_ENOMEM. */
NAVMAP_API navmap_status navmap_filter_look(navmap_index *index, navmap_filter_set *filter,
                                            struct navmap_filter_facts *ret_facts) NAVMAP_MUST_USE;

#ifdef __cplusplus
}
#endif
#endif
