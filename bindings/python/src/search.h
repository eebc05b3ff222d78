/* search.h -- a batch of queries, searched some at a time so that Ctrl-C is heard. */
#ifndef NAVMAP_BINDINGS_SEARCH_H
#define NAVMAP_BINDINGS_SEARCH_H

#include <Python.h>

#include <stdint.h>

#include "engine/navmap.h"

typedef navmap_status search_function(navmap_index *, uint64_t, const float *, uint64_t,
                                      const struct navmap_search_options *, uint64_t *, float *,
                                      uint64_t *);

struct search_call {
    navmap_index *index;
    search_function *search; /* navmap_search or navmap_search_exact */
    struct navmap_search_options options;
    const float *queries; /* rows x dim */
    uint64_t rows, dim, k;
    uint64_t *labels; /* rows x k */
    float *distances; /* rows x k */

    /* The outcome.  After NAVMAP_EFEWER: which row found only how many; UINT64_MAX when the engine
     * saw beforehand that too few items are live. */
    navmap_status status;
    uint64_t row, found;
};

/* Called with the GIL, which is released while the engine works.  0, and `status` says how it
 * went; or -1 with an exception set: by a signal handler, such as KeyboardInterrupt, or for want
 * of memory. */
int search_run(struct search_call *call);

#endif
