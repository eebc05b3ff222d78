/* grow.c -- more chunks: allocated and synced before anything in them may be committed.
 *
 * Steps of max(1 chunk, 12.5 %), at most 1 GiB, or what the running batch needs.  Blocks are
 * really there (no holes), so that a full disk is an error of this call and never a signal later.
 */
#include <string.h>

#include "storage/handle.h"
#include "storage/io.h"

#define STEP_BYTES_MAX ((uint64_t)1 << 30)

/* Map the tail in place, or publish a larger view.  view_lock held. */
static navmap_status map_tail(struct store *s, uint32_t nchunks)
{
    bool fits = false;
    struct view *larger = NULL;
    int fd = -1;
    TRY(view_extend(s->view, nchunks, &fits));
    if (fits)
        return NAVMAP_OK;
    if (s->in_memory) {
        /* Nobody changes the old one while write_lock is held; queries finish on it. */
        TRY(view_anonymous(&s->view->layout, nchunks, nchunks, &larger));
        uint32_t have = atomic_load_explicit(&s->view->nchunks, memory_order_relaxed);
        memcpy(larger->wbase, s->view->base, layout_file_bytes(&s->view->layout, have));
        view_unref(s->view);
        s->view = larger;
        return NAVMAP_OK;
    }
    bool writable = s->mode == STORE_WRITE;
    /* Not by its path, where after a rename there is nothing, or another index. */
    TRY(io_dup(s->view->fd, s->view->path, &fd));
    navmap_status status =
        view_map(fd, s->view->path, &s->view->layout, nchunks, writable, &larger);
    if (status != NAVMAP_OK) {
        io_close(fd);
        return status;
    }
    view_unref(s->view);
    s->view = larger;
    return NAVMAP_OK;
}

navmap_status store_follow(struct store *s, uint32_t nchunks)
{
    (void)pthread_mutex_lock(&s->view_lock);
    navmap_status status = NAVMAP_OK;
    if (atomic_load_explicit(&s->view->nchunks, memory_order_relaxed) < nchunks)
        status = map_tail(s, nchunks);
    (void)pthread_mutex_unlock(&s->view_lock);
    return status;
}

static uint32_t step(const struct store *s, uint32_t have, uint32_t need)
{
    const struct layout *l = &s->view->layout;
    uint64_t most = STEP_BYTES_MAX / l->chunk_bytes;
    uint64_t want = have / 8;
    uint64_t batch = (s->batch_items >> l->slot_shift) + 1; /* the rest of the call, at once */
    if (want < batch)
        want = batch;
    if (want > most)
        want = most;
    if (want < need - have)
        want = need - have;
    uint64_t to = have + want;
    uint64_t max = layout_chunks_max(l);
    return to > max ? (uint32_t)max : (uint32_t)to;
}

/* Blocks for the chunks from `have` on to `to`. */
static navmap_status allocate(const struct view *v, uint32_t have, uint32_t to)
{
    return io_grow(v->fd, v->path, layout_file_bytes(&v->layout, have),
                   view_file_room(&v->layout, to));
}

navmap_status store_grow(struct store *s, uint32_t nchunks)
{
    const struct layout *l = &s->view->layout;
    uint32_t have = atomic_load_explicit(&s->view->nchunks, memory_order_relaxed);
    if (nchunks <= have)
        return NAVMAP_OK;
    if (nchunks > layout_chunks_max(l))
        return fail(
            NAVMAP_EFULL,
            "The number of elements exceeds the specified limit: %s: no slot number is left",
            s->path);
    if (s->in_memory) {
        TRY(store_follow(s, nchunks));
        s->stage.view = s->view;
        s->stage.root.extent = EXTENT(nchunks, extent_slots(s->stage.root.extent));
        store_root_show(s);
        return NAVMAP_OK;
    }
    uint32_t to = step(s, have, nchunks);
    STORE_KILL_POINT(GROW_BEFORE);
    /* The log's room first: a checkpoint must still find pages when the disk is full. */
    TRY(wal_reserve(s->wal, store_ckpt_bytes(s) + store_ckpt_bytes(s) / 4));
    navmap_status status = allocate(s->view, have, to);
    if (status == NAVMAP_ENOSPC && to > nchunks) { /* a smaller step may still fit */
        to = nchunks;
        status = allocate(s->view, have, to);
    }
    TRY(status);
    STORE_KILL_POINT(GROW_ALLOCATED);
    if (io_fsync(s->view->fd, s->view->path) != NAVMAP_OK)
        return store_poison(s, navmap_error_detail());
    STORE_KILL_POINT(GROW_SYNCED);
    TRY(store_follow(s, to));
    TRY(stage_follow(&s->stage, s->view));
    s->stage.root.extent = EXTENT(to, extent_slots(s->stage.root.extent));
    STORE_KILL_POINT(GROW_MAPPED);
    return NAVMAP_OK;
}
