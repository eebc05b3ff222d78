/* warm.c -- navmap_warm: see storage/warm.c for what is read and why. */
#include "engine/index.h"

#include "storage/fail.h"

#define KNOWN                                                                                      \
    ((uint32_t)NAVMAP_WARM_VECTORS | (uint32_t)NAVMAP_WARM_LOCK | (uint32_t)NAVMAP_WARM_ASK)

navmap_status navmap_warm(navmap_index *index, uint32_t flags)
{
    TRY(index_check(index, "navmap_warm"));
    if ((flags & ~KNOWN) != 0)
        return fail(NAVMAP_EINVAL,
                    "navmap_warm: flags is %u, must be of 1 (vectors), 2 (lock), 4 (ask)", flags);
    return store_warm(index->store, (flags & NAVMAP_WARM_VECTORS) != 0,
                      (flags & NAVMAP_WARM_LOCK) != 0, (flags & NAVMAP_WARM_ASK) != 0);
}
