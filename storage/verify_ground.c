/* verify_ground.c -- what a check stands on, and noticing when it moves; see verify.h, G1..G4.
 *
 * Opening goes as a reader's does: R shared, look whether W is held, find the data file, map it,
 * drop R.  Unlike a reader the check never recovers; a log that nobody has replayed is replayed
 * into memory of its own (verify_replay.c).
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/fail.h"
#include "storage/files.h"
#include "storage/io.h"
#include "storage/verify.h"

/* A recovery holds R for a second at most; a new generation's swap for less. */
#define OPENING_TIMEOUT_S 30.0
/* How long R may be kept for one read transaction: an opener that waits polls every 20 ms. */
#define TXN_KEEP_NS 20000000L

/* LMDB ------------------------------------------------------------------------------------------*/

void verify_txn_end(struct verify *v)
{
    if (v->txn_open)
        wal_txn_abort(&v->txn);
    v->txn_open = false;
    if (v->ground != GROUND_LIVE && v->wal != NULL) {
        wal_peek_close(v->wal);
        v->wal = NULL;
        lock_opening_release(&v->lock);
    }
}

/* No writer: hold R, so that none can start, and read past LMDB's lock table, whose idea of the
 * last transaction may be stale after a kill. */
static navmap_status peek(struct verify *v, bool *ret_changed)
{
    bool held = false;
    TRY(lock_opening_shared(&v->lock, OPENING_TIMEOUT_S));
    navmap_status status = lock_writer_held(&v->lock, &held);
    uint64_t begin = view_load64(&view_live(v->file)->apply_begin, memory_order_acquire);
    if (status != NAVMAP_OK || held || begin != v->begin) {
        lock_opening_release(&v->lock);
        *ret_changed = true;
        return status;
    }
    status = wal_peek_open(v->path, &v->wal);
    if (status != NAVMAP_OK) {
        v->wal = NULL;
        lock_opening_release(&v->lock);
        return status;
    }
    (void)clock_gettime(CLOCK_MONOTONIC, &v->txn_since);
    *ret_changed = false;
    return NAVMAP_OK;
}

static bool txn_is_young(const struct verify *v)
{
    struct timespec now = v->txn_since;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = (int64_t)(now.tv_sec - v->txn_since.tv_sec) * 1000000000 +
                 (now.tv_nsec - v->txn_since.tv_nsec);
    return ns >= 0 && ns < TXN_KEEP_NS;
}

navmap_status verify_txn(struct verify *v, bool *ret_changed)
{
    *ret_changed = false;
    if (v->ground != GROUND_LIVE && v->txn_open && txn_is_young(v))
        return NAVMAP_OK;
    verify_txn_end(v);
    if (v->ground != GROUND_LIVE) {
        TRY(peek(v, ret_changed));
        if (*ret_changed)
            return NAVMAP_OK;
    }
    navmap_status status = wal_txn_read(v->wal, &v->txn);
    v->txn_open = status == NAVMAP_OK;
    if (status != NAVMAP_OK)
        verify_txn_end(v);
    return status;
}

/* The data file --------------------------------------------------------------------------------*/

/* Another major version keeps its sum where it likes, so layout_read_header looks at the version
 * first.  But if LMDB says that this index is of our version, it is the header that changed. */
static bool header_was_ours(const struct verify *v, uint64_t generation)
{
    static _Thread_local struct disk_header page;
    if (!v->have_state || v->id.format_major != LAYOUT_MAJOR)
        return false;
    char *path = files_data_path(v->path, generation);
    int fd = -1;
    bool broken = false;
    if (path != NULL && io_open(path, O_RDONLY, 0, &fd) == NAVMAP_OK) {
        broken = io_pread(fd, path, &page, sizeof(page), LAYOUT_HEADER_OFFSET) == NAVMAP_OK &&
                 checksum64(&page, offsetof(struct disk_header, sum), 0) != page.sum;
        io_close(fd);
    }
    free(path);
    return broken;
}

/* Map every whole chunk that the file has; ROOT's claims are checked against that. */
static navmap_status map_whole(int fd, const char *path, const struct layout *layout,
                               struct view **ret_view)
{
    uint64_t size = 0;
    TRY(io_file_size(fd, path, &size));
    uint64_t nchunks = (size - LAYOUT_CHUNK0_OFFSET) / layout->chunk_bytes;
    if (nchunks > layout_chunks_max(layout))
        nchunks = layout_chunks_max(layout);
    if (nchunks == 0)
        return fail(NAVMAP_ECORRUPT,
                    "%s: file size: expected at least %" PRIu64
                    " bytes for one chunk, found %" PRIu64,
                    path, layout_file_bytes(layout, 1), size);
    return view_map(fd, path, layout, (uint32_t)nchunks, false, ret_view);
}

static navmap_status map_file(struct verify *v, uint64_t generation, struct view **ret_view)
{
    int fd = -1, read_only = 0;
    char *path = NULL;
    struct layout layout;
    navmap_status status =
        files_open_data(v->path, generation, O_RDONLY, &fd, &path, &layout, &read_only);
    if (status == NAVMAP_ENOINDEX || (status == NAVMAP_EVERSION && header_was_ours(v, generation)))
        status = fail(NAVMAP_ECORRUPT,
                      "data file of generation %" PRIu64
                      ": the header does not look like one: magic, version or byte order",
                      generation);
    TRY(status);
    if (v->view != NULL && (layout.instance != v->view->layout.instance ||
                            layout.generation != v->view->layout.generation)) {
        status = fail(NAVMAP_ESTALE, "%s: the index was replaced while it was checked; run again",
                      v->path);
    } else {
        status = map_whole(fd, path, &layout, ret_view);
    }
    if (status != NAVMAP_OK)
        io_close(fd);
    free(path);
    return status;
}

/* Do header and LMDB belong together? */
static void check_id(struct verify *v, const struct layout *l)
{
    struct finding f = {.moving = false};
    if (memcmp(v->id.uuid, l->uuid, sizeof(l->uuid)) != 0 || v->id.instance != l->instance)
        (void)finding_bad(&f, "meta", 0, offsetof(struct disk_header, uuid),
                          "meta.id: uuid and instance (%016" PRIx64
                          ") differ from the header's (%016" PRIx64
                          "): data file and log are of different indexes",
                          v->id.instance, l->instance);
    else if (v->id.format_major != LAYOUT_MAJOR || v->id.frame_bytes != wal_frame_bytes(v->wal))
        (void)finding_bad(&f, "meta", 0, UINT64_MAX,
                          "meta.id: expected format %u with frames of %" PRIu32
                          " bytes, found %" PRIu32 " with %" PRIu32,
                          LAYOUT_MAJOR, wal_frame_bytes(v->wal), v->id.format_major,
                          v->id.frame_bytes);
    else
        return;
    verify_emit(v, false, &f);
    v->stop = true;
}

static void ground_leave(struct verify *v)
{
    verify_txn_end(v);
    if (v->wal != NULL)
        wal_release(v->wal); /* LIVE */
    v->wal = NULL;
}

/* Opening --------------------------------------------------------------------------------------*/

static navmap_status read_meta(struct verify *v)
{
    bool changed = false;
    if (v->ground == GROUND_LIVE) {
        TRY(verify_txn(v, &changed));
    } else {
        TRY(wal_txn_read(v->wal, &v->txn));
        v->txn_open = true;
    }
    TRY(wal_get_id(&v->txn, &v->id));
    return wal_get_state(&v->txn, &v->state);
}

/* Beside a writer LMDB is opened as everybody does; where that is not permitted, labels and log
 * stay unread. */
static navmap_status open_live_lmdb(struct verify *v)
{
    navmap_status status = wal_acquire(v->path, false, &v->wal);
    if (status != NAVMAP_OK)
        v->wal = NULL;
    else
        status = read_meta(v);
    v->have_state = status == NAVMAP_OK;
    if (status != NAVMAP_EREADONLY && status != NAVMAP_ELOCKED)
        return verify_damage(v, status, "meta", UINT64_MAX);
    (void)snprintf(v->unread, sizeof(v->unread), "labels and log were not checked: %s",
                   navmap_error_detail());
    ground_leave(v);
    return NAVMAP_OK;
}

static navmap_status open_live(struct verify *v, struct view **ret_view)
{
    uint64_t generation = 0;
    v->ground = GROUND_LIVE;
    TRY(open_live_lmdb(v));
    if (v->stop)
        return NAVMAP_OK;
    TRY(files_current(v->path, &generation));
    TRY(verify_damage(v, map_file(v, generation, ret_view), "header", 0));
    if (!v->stop && v->have_state)
        check_id(v, &(*ret_view)->layout);
    return NAVMAP_OK;
}

static navmap_status open_still(struct verify *v, struct view **ret_view)
{
    v->ground = GROUND_STILL;
    navmap_status status = wal_peek_open(v->path, &v->wal);
    if (status != NAVMAP_OK)
        v->wal = NULL;
    else
        status = read_meta(v);
    TRY(verify_damage(v, status, "meta", UINT64_MAX));
    if (v->stop)
        return NAVMAP_OK;
    v->have_state = true;
    TRY(verify_damage(v, map_file(v, v->state.generation, ret_view), "header", 0));
    if (!v->stop)
        check_id(v, &(*ret_view)->layout);
    return NAVMAP_OK;
}

/* With R held. */
static navmap_status open_held(struct verify *v)
{
    struct view *file = NULL, *view = NULL;
    bool held = false;
    TRY(lock_writer_held(&v->lock, &held));
    TRY(held ? open_live(v, &file) : open_still(v, &file));
    if (v->stop) {
        view_unref(file);
        return NAVMAP_OK;
    }
    v->begin = view_load64(&view_live(file)->apply_begin, memory_order_acquire);
    if (!held && v->state.last_lsn != v->state.ckpt_lsn) {
        v->ground = GROUND_REPLAYED;
        navmap_status status = verify_damage(v, verify_replay(v, file, &view), "log", UINT64_MAX);
        if (status != NAVMAP_OK || v->stop) {
            view_unref(file);
            return status;
        }
    } else {
        view = file;
        view_ref(file);
    }
    view_unref(v->view);
    view_unref(v->file);
    v->file = file;
    v->view = view;
    return NAVMAP_OK;
}

static void report_unread(struct verify *v)
{
    struct finding f = {.moving = false};
    if (v->unread[0] == 0)
        return;
    (void)finding_bad(&f, "labels", 0, UINT64_MAX, "%s", v->unread);
    v->unread[0] = 0;
    verify_emit(v, true, &f);
}

navmap_status verify_ground_open(struct verify *v)
{
    ground_leave(v);
    TRY(lock_opening_shared(&v->lock, OPENING_TIMEOUT_S));
    v->have_state = false;
    navmap_status status = open_held(v);
    if (v->ground != GROUND_LIVE)
        verify_txn_end(v); /* and R */
    else if (v->txn_open)
        wal_txn_abort(&v->txn);
    v->txn_open = false;
    lock_opening_release(&v->lock);
    if (status == NAVMAP_OK)
        report_unread(v);
    return status;
}

void verify_ground_close(struct verify *v)
{
    ground_leave(v);
    view_unref(v->view);
    view_unref(v->file);
    v->view = v->file = NULL;
}

/* Moments --------------------------------------------------------------------------------------*/

static void *grown(void *old, size_t from, size_t to, size_t size)
{
    uint8_t *bytes = realloc(old, (to > 0 ? to : 1) * size);
    if (bytes != NULL && to > from)
        memset(bytes + from * size, 0, (to - from) * size);
    return bytes;
}

#define GROW(array, from, to)                                                                      \
    do {                                                                                           \
        void *grown_ = grown(array, from, to, sizeof(*(array)));                                   \
        if (grown_ == NULL)                                                                        \
            return fail(NAVMAP_ENOMEM, "%s: no memory to check %" PRIu32 " slots", v->path,        \
                        slots);                                                                    \
        (array) = grown_;                                                                          \
    } while (0)

navmap_status verify_room(struct verify *v)
{
    uint32_t slots = view_slots(v->view), cells = view_cells(v->view);
    if (v->owner != NULL && slots <= v->slots && cells <= v->cells)
        return NAVMAP_OK;
    GROW(v->owner, v->cells, cells);
    v->cells = cells;
    GROW(v->stamp, v->slots, slots);
    GROW(v->bad, (v->slots + 63) / 64, ((size_t)slots + 63) / 64);
    GROW(v->labelled, (v->slots + 63) / 64, ((size_t)slots + 63) / 64);
    v->slots = slots;
    return NAVMAP_OK;
}

/* The writer grew the file.  A claim that the file does not bear out is left to
 * check_root_bounds. */
static navmap_status follow(struct verify *v)
{
    uint32_t nchunks =
        extent_chunks(view_load64(&view_root(v->file)->extent, memory_order_acquire));
    bool fits = true;
    navmap_status status = view_extend(v->file, nchunks, &fits);
    if (status == NAVMAP_OK && !fits) {
        struct view *larger = NULL;
        TRY(map_file(v, v->file->layout.generation, &larger));
        view_unref(v->view);
        view_unref(v->file);
        view_ref(larger);
        v->file = v->view = larger;
    }
    return status == NAVMAP_ECORRUPT ? NAVMAP_OK : status;
}

static navmap_status ground_changed(const struct verify *v, bool *ret_changed)
{
    bool held = false;
    *ret_changed = false;
    if (v->ground != GROUND_LIVE && v->txn_open)
        return NAVMAP_OK; /* R is ours: nobody can have come */
    TRY(lock_writer_held(&v->lock, &held));
    *ret_changed = v->ground == GROUND_LIVE ? !held
                                            : held || view_load64(&view_live(v->file)->apply_begin,
                                                                  memory_order_acquire) != v->begin;
    return NAVMAP_OK;
}

navmap_status verify_moment_begin(struct verify *v, struct moment *ret_moment)
{
    bool changed = false;
    TRY(ground_changed(v, &changed));
    if (changed) {
        TRY(verify_ground_open(v));
        if (v->stop)
            return NAVMAP_OK;
    }
    ret_moment->held = false;
    ret_moment->begin = v->begin;
    if (v->ground == GROUND_LIVE) {
        const struct disk_live *live = view_live(v->file);
        if (view_load32(&live->superseded, memory_order_relaxed) != 0)
            return fail(NAVMAP_ESTALE,
                        "%s: a new generation took the index's place while it was "
                        "checked; run again",
                        v->path);
        ret_moment->begin = view_load64(&live->apply_end, memory_order_acquire);
        ret_moment->held =
            view_load64(&live->apply_begin, memory_order_acquire) != ret_moment->begin;
        TRY(follow(v));
    }
    return verify_room(v);
}

bool verify_moment_held(const struct verify *v, const struct moment *moment)
{
    atomic_thread_fence(memory_order_acquire);
    return view_load64(&view_live(v->file)->apply_begin, memory_order_relaxed) == moment->begin;
}
