/* warm.c -- which parts of a mapped index are to be in memory, and how the rest is fetched.
 *
 * A walk jumps about in states, rows, upper rows and codes; tags and vectors are looked at for what
 * it ends with only.  So an index that is larger than memory is fast as long as the former are in
 * it: they can be read in beforehand, and locked.  Of the latter a search then asks for all pages
 * that it is about to look at before it looks at the first (view_ask_payload()).
 *
 * mlock() by itself would write to each page of a private mapping, so that every process that loads
 * a saved file had a copy of its own.  So a range is first told to be locked as it comes, and then
 * read.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "storage/fail.h"
#include "storage/handle.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22 /* Linux 5.14 */
#endif

static navmap_status refused(const struct view *v, uint64_t bytes, int error)
{
    struct rlimit limit = {0, 0};
    (void)getrlimit(RLIMIT_MEMLOCK, &limit);
    return fail(error == ENOMEM || error == EPERM || error == EAGAIN ? NAVMAP_ENOMEM : NAVMAP_EIO,
                "%s: %" PRIu64 " bytes could not be locked (error %d); RLIMIT_MEMLOCK is %llu",
                v->path, bytes, error, (unsigned long long)limit.rlim_cur);
}

/* Bytes [from, to) of the file, whole pages. */
static navmap_status warm_range(const struct view *v, uint64_t from, uint64_t to, bool lock)
{
    void *at = (void *)(uintptr_t)(v->base + from);
    if (from == to)
        return NAVMAP_OK;
    if (lock && mlock2(at, to - from, MLOCK_ONFAULT) != 0)
        return refused(v, to - from, errno);
    if (madvise(at, to - from, MADV_POPULATE_READ) == 0)
        return NAVMAP_OK;
    if (lock && mlock(at, to - from) != 0)
        return refused(v, to - from, errno);
    if (!lock)
        (void)madvise(at, to - from, MADV_WILLNEED); /* a hint */
    return NAVMAP_OK;
}

/* The arrays of a chunk stand in the order state, row, upper, tag, code, vec, each on a page of its
 * own. */
static navmap_status warm_chunk(const struct view *v, uint32_t chunk, bool vectors, bool lock)
{
    const struct layout *l = &v->layout;
    uint64_t at = layout_chunk_off(l, chunk);
    TRY(warm_range(v, at, at + l->off_tag, lock));
    TRY(warm_range(v, at + l->off_code, at + l->off_vec, lock));
    if (!vectors)
        return NAVMAP_OK;
    TRY(warm_range(v, at + l->off_tag, at + l->off_code, lock));
    return warm_range(v, at + l->off_vec, at + l->chunk_bytes, lock);
}

navmap_status store_warm(struct store *s, bool vectors, bool lock, bool ask)
{
    struct view *v;
    navmap_status status = NAVMAP_OK;
    TRY(store_view_begin(s, &v));
    uint32_t nchunks = view_slots(v) >> v->layout.slot_shift;
    atomic_store_explicit(&v->asks, ask, memory_order_relaxed);
    /* Of a file larger than memory a huge page would be read for each vector, and pushed out. */
    if (ask)
        (void)madvise((void *)(uintptr_t)v->base, layout_file_bytes(&v->layout, nchunks),
                      MADV_NOHUGEPAGE);
    for (uint32_t chunk = 0; chunk < nchunks && status == NAVMAP_OK; chunk++)
        status = warm_chunk(v, chunk, vectors, lock);
    store_view_end(s, v);
    return status;
}

static void ask_page(const struct view *v, uint64_t from, uint64_t bytes)
{
    uint64_t first = from / LAYOUT_PAGE * LAYOUT_PAGE;
    (void)madvise((void *)(uintptr_t)(v->base + first), from + bytes - first, MADV_WILLNEED);
}

void view_ask_payload(const struct view *v, uint32_t slot)
{
    const struct layout *l = &v->layout;
    ask_page(v, layout_tag_off(l, slot), l->tag_stride);
    ask_page(v, layout_vec_off(l, slot), l->vec_stride);
}
