/* commit.c -- C1..C7: the stage becomes one durable, visible state.
 *
 *   C1  images of all changed cells, one lsn       C2  direct payloads synced
 *   C3  frames, labels, meta.state in one LMDB transaction
 *   C4  its commit: THE COMMIT POINT               C5  apply
 *   C6  applied_lsn, stage cleared                 C7  checkpoint when the log is long
 *
 * Before C4 a failure changes nothing and the stage is kept: a retry is a fresh transaction that
 * writes everything anew.  A failure of C4 that is not plain lack of space has an unknown outcome
 * and poisons the handle; the next open decides it.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/handle.h"
#include "storage/io.h"
#include "storage/labels.h"

/* C2: one msync per run of touched chunks.  The payload area of a chunk holds nothing but payload;
 * a run is merged over a chunk border when the chunk behind it was never used before, so no row is
 * written early on its behalf. */
static navmap_status sync_stretch(struct store *s, uint32_t first, uint32_t last)
{
    const struct layout *l = &s->view->layout;
    uint64_t from = layout_chunk_off(l, first) + l->off_tag;
    uint64_t to = layout_chunk_off(l, last) + l->chunk_bytes;
    STORE_KILL_POINT(C2_MSYNC_BEFORE);
    TRY(io_msync(s->view->fd, s->view->path, s->view->wbase + from, from, to - from));
    STORE_KILL_POINT(C2_MSYNC);
    return NAVMAP_OK;
}

static navmap_status sync_direct(struct store *s, const struct cells *cells)
{
    const struct layout *l = &s->view->layout;
    uint32_t fresh = (extent_slots(view_root(s->view)->extent) + l->slots_per_chunk - 1) >>
                     l->slot_shift; /* the first chunk that no commit has used */
    uint32_t first = 0, last = 0;
    bool open = false;
    for (uint32_t i = cells->start[CELL_DIRECT]; i < cells->start[CELL_DIRECT + 1]; i++) {
        uint32_t chunk = cells->cell[i].index >> l->slot_shift;
        if (open && (chunk == last || (chunk == last + 1 && chunk >= fresh))) {
            last = chunk;
            continue;
        }
        if (open)
            TRY(sync_stretch(s, first, last));
        first = last = chunk;
        open = true;
    }
    return open ? sync_stretch(s, first, last) : NAVMAP_OK;
}

static int by_label(const void *a, const void *b)
{
    uint64_t x = ((const struct stage_label *)a)->label, y = ((const struct stage_label *)b)->label;
    return x < y ? -1 : x > y;
}

/* Sorted copy: insertion order must stay, the stage's hash points into it until it is cleared. */
static struct stage_label *sorted_labels(const struct stage *e)
{
    struct stage_label *sorted = malloc((e->n_labels + 1) * sizeof *sorted);
    if (sorted) {
        memcpy(sorted, e->labels, e->n_labels * sizeof *sorted);
        qsort(sorted, e->n_labels, sizeof *sorted, by_label);
    }
    return sorted;
}

struct commit {
    struct cells cells;
    struct stage_label *labels;
    uint8_t *record;
    size_t nbytes;
    uint64_t lsn;
    struct wal_state next;
};

/* Upper bound of the pages that C3 makes dirty: a frame each and the tree above them, a leaf per
 * label and its splits, and some for LMDB's own lists. */
static uint64_t pages_needed(const struct store *s, const struct commit *c)
{
    uint64_t frames = c->nbytes / wal_frame_bytes(s->wal) + 1;
    uint64_t labels = s->stage.n_labels;
    uint64_t leaves = (s->stage.root.n_live + s->stage.root.n_deleted) / 32 + labels / 32 + 1;
    return frames + frames / 32 + (labels < leaves ? labels : leaves) + labels / 32 +
           WAL_SLACK_PAGES;
}

/* C3: fill the transaction. */
static navmap_status fill(struct store *s, struct commit *c, struct wal_txn *t)
{
    TRY(store_check_log(s, t));
    TRY(wal_put_record(t, c->lsn, c->record, c->nbytes));
    TRY(labels_change(t, s->state.generation, s->uuid_low, c->labels, s->stage.n_labels));
    c->next = s->state;
    c->next.last_lsn = c->lsn;
    c->next.wal_bytes += c->nbytes;
    TRY(wal_put_state(t, &c->next));
    STORE_KILL_POINT(C3);
    return NAVMAP_OK;
}

/* May the call be repeated, with nothing changed? */
static bool harmless(navmap_status status)
{
    return status == NAVMAP_OK || status == NAVMAP_ENOSPC || status == NAVMAP_ENOMEM;
}

/* C3 and C4, again with a larger map as often as it is full.  The env lock is held. */
static navmap_status commit_point(struct store *s, struct commit *c)
{
    TRY(wal_make_room(s->wal, pages_needed(s, c)));
    for (;;) {
        struct wal_txn t;
        TRY(wal_txn_write(s->wal, &t));
        navmap_status status = fill(s, c, &t);
        if (status == NAVMAP_OK)
            status = wal_txn_commit(&t);
        else
            wal_txn_abort(&t);
        if (!t.full)
            return status;
        TRY(wal_enlarge(s->wal));
    }
}

/* A file without a name is gone when it is closed: nothing is acknowledged that only it has. */
const char *store_what_was_removed(const struct store *s)
{
    return lock_removed(&s->lock)     ? "its LOCK file was removed"
           : io_unlinked(s->view->fd) ? "its data file was removed"
           : wal_removed(s->wal)      ? "its log, " WAL_FILE ", was removed"
                                      : NULL;
}

/* C1, after which nothing of the stage changes until C6. */
static navmap_status prepare(struct store *s, struct commit *c)
{
    const char *removed = store_what_was_removed(s);
    if (removed)
        return store_poison(s, removed);
    c->lsn = s->state.last_lsn + 1;
    s->stage.root.lsn = c->lsn;
    s->stage.root.sum = layout_root_sum(&s->stage.root, s->uuid_low);
    TRY(cells_from_stage(&s->stage, &c->cells));
    c->labels = sorted_labels(&s->stage);
    if (!c->labels)
        return fail(NAVMAP_ENOMEM, "%s: no memory to commit %u labels", s->path, s->stage.n_labels);
    TRY(record_write(&s->view->layout, &c->cells, c->lsn, &c->record, &c->nbytes));
    STORE_KILL_POINT(C1);
    return NAVMAP_OK;
}

static navmap_status make_durable(struct store *s, struct commit *c)
{
    navmap_status status = sync_direct(s, &c->cells);
    if (status != NAVMAP_OK)
        return store_poison(s, navmap_error_detail());
    STORE_KILL_POINT(C2);
    if (s->observer)
        s->observer(s->observer_ctx, s, c->lsn);
    wal_lock(s->wal);
    status = commit_point(s, c);
    if (status == NAVMAP_OK) {
        s->state = c->next;
        s->log_bytes_total += c->nbytes;
    }
    wal_unlock(s->wal);
    if (!harmless(status))
        return store_poison(s, navmap_error_detail());
    return status;
}

static navmap_status commit(struct store *s, struct commit *c)
{
    TRY(prepare(s, c));
    TRY(make_durable(s, c));
    STORE_KILL_POINT(C4);
    apply_cells(s->view, &c->cells, c->lsn);
    STORE_KILL_POINT(C5);
    atomic_store(&s->applied_lsn, c->lsn);
    stage_clear(&s->stage);
    store_sweep_committed(s);
    STORE_KILL_POINT(C6);
    return NAVMAP_OK;
}

navmap_status store_commit_locked(struct store *s)
{
    TRY(store_check_writable(s));
    if (s->in_memory || stage_empty(&s->stage))
        return NAVMAP_OK;
    STORE_KILL_POINT(C1_BEFORE);
    struct commit c = {.lsn = 0};
    navmap_status status = commit(s, &c);
    cells_free(&c.cells);
    free(c.labels);
    free(c.record);
    return status;
}

navmap_status store_settle(struct store *s)
{
    if (s->in_memory)
        return NAVMAP_OK; /* written through already */
    if (s->options.durability == STORE_MANUAL)
        return store_checkpoint_if_long(s, 2);
    TRY(store_check_aside(s));
    (void)pthread_rwlock_wrlock(&s->write_lock);
    /* Another thread's commit may have taken ours along: then there is nothing left to do. */
    navmap_status status = store_commit_locked(s);
    (void)pthread_rwlock_unlock(&s->write_lock);
    TRY(status);
    return store_checkpoint_if_long(s, 2);
}

navmap_status store_flush(struct store *s)
{
    TRY(store_check_process(s));
    TRY(store_check_aside(s));
    if (s->in_memory)
        return NAVMAP_OK;
    (void)pthread_rwlock_wrlock(&s->write_lock);
    navmap_status status = store_commit_locked(s);
    (void)pthread_rwlock_unlock(&s->write_lock);
    TRY(status);
    return store_checkpoint(s);
}

void store_observe_commits(struct store *s, store_commit_observer *observer, void *ctx)
{
    s->observer = observer;
    s->observer_ctx = ctx;
}
