/* generation.c -- the next data file of an index: written whole, and put in force at one instant.
 *
 *   G1  nobody changes anything from here to G6 (store_rebuild_begin)
 *   G2  data-<g+1> is written by plain writes, not logged      G3  fsync of it and of the directory
 *   G4  labels.<(g+1) mod 2> is emptied, if need be, and filled, in transactions of its own
 *   G5  R(ex); one transaction: meta.state names g+1.  ITS COMMIT IS THE SWAP
 *   G6  the old file says "superseded", the new view is published, the old file is unlinked; R
 *   G7  the old label table and the old log are emptied in slices, and if it is asked for, the
 *       log's file is replaced by a copy without what was emptied (wal_shrink.c)
 *
 * Before G5 a crash leaves a file of a higher number, behind it one of a lower number: recovery
 * removes either (O4), and the table that is not in force is emptied by whoever fills it next.
 * Queries finish on the view that they have; the next one of each handle takes the new one
 * (read.c, move.c).  No change is acknowledged between G5 and G6, so a reader that is still on the
 * old generation misses nothing.
 *
 * G8  The log needs no checkpoint before: until the swap the old file and the old log are what
 *     they were, behind it no record of the log counts (ckpt_lsn = last_lsn).
 * G9  LIVE.apply_end goes on from the old file's: two moments with one number would let a filter
 *     take bits of the old slots for those of the new ones (engine/filter.c).
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/blocks.h"
#include "storage/files.h"
#include "storage/handle.h"
#include "storage/io.h"
#include "storage/renumber.h"

#define LABELS_A_TXN 32768u
#define SWAP_TIMEOUT_S 30.0 /* others hold R for milliseconds */

struct building {
    struct store *s;
    struct renumber p;
    struct renumbering c;
    char *path;
    int fd;
    uint8_t *bytes; /* a chunk */
    struct blocks out;
    struct view *view;
    struct stage stage; /* for what comes after the swap: nothing behind it may fail */
    bool created, staged;
    bool done; /* the new file is in force, or may be */
    uint64_t lsn;
};

/* G1 --------------------------------------------------------------------------------------------*/

static _Thread_local const struct store *aside;

void store_aside_begin(const struct store *s)
{
    aside = s;
}

void store_aside_end(void)
{
    aside = NULL;
}

navmap_status store_check_aside(const struct store *s)
{
    if (__builtin_expect(aside == s, 0))
        return fail(NAVMAP_EINVAL,
                    "%s: called by the progress function of a call that rewrites the index: it "
                    "cannot be changed meanwhile",
                    s->path);
    return NAVMAP_OK;
}

navmap_status store_rebuild_begin(struct store *s)
{
    store_enter(s);
    TRY(store_check_writable(s));
    (void)pthread_mutex_lock(&s->checkpoint_lock);
    (void)pthread_rwlock_wrlock(&s->write_lock);
    navmap_status status = store_check_writable(s);
    if (status == NAVMAP_OK)
        status = store_commit_locked(s);
    if (status != NAVMAP_OK)
        store_rebuild_end(s);
    return status;
}

void store_rebuild_end(struct store *s)
{
    (void)pthread_rwlock_unlock(&s->write_lock);
    (void)pthread_mutex_unlock(&s->checkpoint_lock);
}

/* G2, G3 ----------------------------------------------------------------------------------------*/

/* The names of the next generation, in what renumber_make() has laid out. */
static navmap_status name_layout(const struct store *s, struct layout *l)
{
    struct layout fresh = *l;
    TRY(store_name_layout(&fresh));
    l->created_ns = fresh.created_ns;
    l->instance = s->layout.instance;
    l->generation = s->state.generation + 1;
    memcpy(l->uuid, s->layout.uuid, sizeof l->uuid);
    l->uuid_low = s->layout.uuid_low;
    return NAVMAP_OK;
}

static navmap_status create_file(struct building *b)
{
    struct io_info old;
    b->path = files_data_path(b->s->path, b->p.l.generation);
    if (!b->path)
        return fail(NAVMAP_ENOMEM, "%s: no memory for a new generation", b->s->path);
    struct io_info left;
    if (io_stat(b->path, &left) == NAVMAP_OK) /* of an attempt whose cleaning up failed */
        TRY(io_unlink(b->path));
    TRY(io_open(b->path, O_RDWR | O_CREAT | O_EXCL, 0644, &b->fd));
    b->created = true;
    TRY(io_fstat(b->s->view->fd, b->s->view->path, &old));
    io_resemble(b->fd, &old); /* whoever may read the one may read the other */
    STORE_KILL_POINT(GEN_CREATED);
    return io_grow(b->fd, b->path, 0, view_file_room(&b->p.l, b->p.nchunks));
}

static navmap_status write_chunk(struct building *b)
{
    const struct layout *l = &b->p.l;
    const uint64_t at = layout_chunk_off(l, b->c.number);
    struct layout_array arrays[LAYOUT_ARRAYS];
    memset(b->bytes, 0, l->chunk_bytes);
    TRY(renumbering_chunk(&b->c, b->bytes));
    layout_arrays(l, arrays);
    for (uint32_t i = 0; i < LAYOUT_ARRAYS; i++) {
        const uint8_t *bytes = b->bytes + arrays[i].offset;
        TRY(blocks_put(&b->out, bytes, renumbering_used(bytes, arrays[i].used),
                       at + arrays[i].offset));
    }
    STORE_KILL_POINT(GEN_CHUNK);
    return NAVMAP_OK;
}

static navmap_status write_head(const struct building *b)
{
    const struct disk_live *old = view_live(b->s->view);
    struct disk_header header;
    struct disk_root root = renumbering_root(&b->c);
    uint64_t applies = view_load64(&old->apply_end, memory_order_relaxed) + 1; /* G9 */
    const struct disk_live live = {
        .apply_begin = applies, .apply_end = applies, .applied_lsn = b->lsn};
    root.lsn = b->lsn;
    root.sum = layout_root_sum(&root, b->p.l.uuid_low);
    layout_write_header(&b->p.l, &header);
    TRY(io_pwrite(b->fd, b->path, &live, sizeof live, LAYOUT_LIVE_OFFSET));
    TRY(io_pwrite(b->fd, b->path, &root, sizeof root, LAYOUT_ROOT_OFFSET));
    return io_pwrite(b->fd, b->path, &header, sizeof header, LAYOUT_HEADER_OFFSET);
}

static navmap_status write_file(struct building *b)
{
    TRY(create_file(b));
    b->bytes = malloc(b->p.l.chunk_bytes);
    if (!b->bytes)
        return fail(NAVMAP_ENOMEM, "%s: no memory for a new generation", b->s->path);
    TRY(blocks_begin(&b->out, b->fd, b->path, LAYOUT_CHUNK_ALIGN));
    TRY(renumbering_begin(&b->c, &b->p));
    for (uint32_t i = 0; i < b->p.nchunks; i++)
        TRY(write_chunk(b));
    TRY(blocks_flush(&b->out));
    TRY(renumbering_sort(&b->c));
    TRY(write_head(b));
    STORE_KILL_POINT(GEN_WRITTEN);
    TRY(io_fsync(b->fd, b->path));
    STORE_KILL_POINT(GEN_SYNCED);
    TRY(io_fsync_dir(b->s->path));
    STORE_KILL_POINT(GEN_NAMED);
    return NAVMAP_OK;
}

/* Transactions ----------------------------------------------------------------------------------*/

/* What one transaction does; *ret_more: there is more to do, for another one. */
typedef navmap_status in_txn(struct store *s, struct wal_txn *t, const void *ctx, bool *ret_more);

/* One transaction with room for `pages`; again with a larger map if it was full.  The env lock is
 * held. */
static navmap_status one_txn(struct store *s, uint64_t pages, in_txn *step, const void *ctx,
                             bool *ret_more)
{
    TRY(wal_make_room(s->wal, pages + WAL_SLACK_PAGES));
    for (;;) {
        struct wal_txn t;
        TRY(wal_txn_write(s->wal, &t));
        *ret_more = false;
        navmap_status status = store_check_log(s, &t);
        if (status == NAVMAP_OK)
            status = step(s, &t, ctx, ret_more);
        if (status == NAVMAP_OK)
            status = wal_txn_commit(&t);
        else
            wal_txn_abort(&t);
        if (!t.full)
            return status;
        TRY(wal_enlarge(s->wal));
    }
}

static bool harmless(navmap_status status)
{
    return status == NAVMAP_OK || status == NAVMAP_ENOSPC || status == NAVMAP_ENOMEM;
}

/* Until there is no more to do.  The env lock is free between two of them. */
static navmap_status in_txns(struct store *s, uint64_t pages, in_txn *step, const void *ctx)
{
    navmap_status status = NAVMAP_OK;
    for (bool more = true; more && status == NAVMAP_OK;) {
        wal_lock(s->wal);
        status = one_txn(s, pages, step, ctx, &more);
        wal_unlock(s->wal);
    }
    return harmless(status) ? status : store_poison(s, navmap_error_detail());
}

/* G4, G7: the table of another parity than the generation in force has nothing that counts. */
static navmap_status clear_labels(struct store *s, struct wal_txn *t, const void *ctx,
                                  bool *ret_more)
{
    (void)ctx;
    TRY(labels_clear(t, s->state.generation + 1, LABELS_A_TXN, ret_more));
    STORE_KILL_POINT(CLEAR_LABELS);
    return NAVMAP_OK;
}

struct filling {
    const struct sealed_label *labels;
    uint64_t n;
};

static navmap_status fill_labels(struct store *s, struct wal_txn *t, const void *ctx,
                                 bool *ret_more)
{
    const struct filling *f = ctx;
    (void)ret_more;
    TRY(labels_append(t, s->state.generation + 1, s->uuid_low, f->labels, f->n));
    STORE_KILL_POINT(GEN_LABELS);
    return NAVMAP_OK;
}

static navmap_status write_labels(const struct building *b)
{
    const uint64_t n = b->p.what->n;
    TRY(in_txns(b->s, WAL_SLACK_PAGES, clear_labels, NULL));
    for (uint64_t i = 0; i < n; i += LABELS_A_TXN) {
        const struct filling part = {b->c.labels + i, n - i < LABELS_A_TXN ? n - i : LABELS_A_TXN};
        TRY(in_txns(b->s, part.n / 64, fill_labels, &part));
    }
    STORE_KILL_POINT(GEN_LABELLED);
    return NAVMAP_OK;
}

/* G5, G6 ----------------------------------------------------------------------------------------*/

/* All that could fail behind the swap. */
static navmap_status prepare(struct building *b)
{
    TRY(view_map(b->fd, b->path, &b->p.l, b->p.nchunks, true, &b->view));
    b->fd = -1; /* the view's now */
    TRY(stage_open(&b->stage, b->view));
    b->staged = true;
    apply_live_writer(b->view);
    return NAVMAP_OK;
}

static navmap_status name_generation(struct store *s, struct wal_txn *t, const void *ctx,
                                     bool *ret_more)
{
    (void)s;
    (void)ret_more;
    TRY(wal_put_state(t, ctx));
    STORE_KILL_POINT(SWAP_BEFORE);
    return NAVMAP_OK;
}

void store_forget_slots(struct store *s)
{
    s->n_free_slots = s->n_deleted_slots = 0;
    s->free_scanned = s->deleted_scanned = false;
    store_sweep_forget(s);
}

void store_publish(struct store *s, struct view *view)
{
    (void)pthread_mutex_lock(&s->view_lock);
    struct view *old = s->view;
    store_follow_layout(&s->layout, &view->layout);
    s->view = view;
    (void)pthread_mutex_unlock(&s->view_lock);
    view_unref(old);
}

static void ignore(navmap_status status)
{
    (void)status;
}

/* G6.  Cannot fail: a file that is not unlinked now will be by the next open. */
static void publish(struct building *b)
{
    struct store *s = b->s;
    char *old = files_data_path(s->path, s->state.generation - 1);
    apply_live_supersede(s->view);
    STORE_KILL_POINT(SWAP_MARKED);
    struct stage stage = s->stage;
    s->stage = b->stage;
    b->stage = stage;
    s->room_items = stage_items(&s->stage);
    store_forget_slots(s);
    atomic_store(&s->applied_lsn, b->lsn);
    store_publish(s, b->view);
    b->view = NULL;
    STORE_KILL_POINT(SWAP_PUBLISHED);
    if (old)
        ignore(io_unlink(old));
    free(old);
    STORE_KILL_POINT(SWAP_UNLINKED);
}

/* The env lock covers the transaction and memory's copy of what it says (A2). */
static navmap_status swap_point(struct building *b)
{
    struct store *s = b->s;
    const struct wal_state next = {
        .generation = b->p.l.generation, .ckpt_lsn = b->lsn, .last_lsn = b->lsn};
    bool more;
    wal_lock(s->wal);
    navmap_status status = one_txn(s, 0, name_generation, &next, &more);
    if (status == NAVMAP_OK) {
        STORE_KILL_POINT(SWAP);
        s->state = next;
    }
    wal_unlock(s->wal);
    return status;
}

/* R is held exclusively. */
static navmap_status swap_alone(struct building *b)
{
    struct store *s = b->s;
    STORE_KILL_POINT(SWAP_ALONE);
    if (s->observer) {
        s->coming = b->view;
        s->observer(s->observer_ctx, s, b->lsn);
        s->coming = NULL;
    }
    navmap_status status = swap_point(b);
    if (status == NAVMAP_OK) {
        b->done = true;
        publish(b);
        return NAVMAP_OK;
    }
    if (harmless(status))
        return status;
    b->done = true; /* or not: neither file is removed */
    return store_poison(s, navmap_error_detail());
}

static navmap_status swap(struct building *b)
{
    struct store *s = b->s;
    const char *removed = store_what_was_removed(s);
    if (removed)
        return store_poison(s, removed);
    TRY(lock_opening_exclusive(&s->lock, SWAP_TIMEOUT_S));
    navmap_status status = swap_alone(b);
    lock_opening_release(&s->lock);
    return status;
}

static navmap_status build_and_swap(struct building *b, struct store *from,
                                    const struct sealing *what)
{
    const uint32_t flags = from->layout.flags & HEADER_ALLOW_REPLACE_DELETED;
    TRY(renumber_make(&b->p, from, what, flags));
    TRY(name_layout(b->s, &b->p.l));
    TRY(write_file(b));
    TRY(write_labels(b));
    TRY(prepare(b));
    return swap(b);
}

static void release(struct building *b)
{
    if (b->staged)
        stage_close(&b->stage);
    view_unref(b->view);
    io_close(b->fd);
    renumbering_end(&b->c);
    renumber_free(&b->p);
    free(b->bytes);
    blocks_free(&b->out);
    free(b->path);
}

navmap_status store_generation_put(struct store *s, struct store *from, const struct sealing *what)
{
    struct building b = {.s = s, .fd = -1, .lsn = s->state.last_lsn + 1};
    TRY(store_check_writable(s));
    navmap_status status = build_and_swap(&b, from, what);
    if (status != NAVMAP_OK && b.created && !b.done) {
        char why[512]; /* cleaning up must not replace the reason */
        (void)snprintf(why, sizeof why, "%s", navmap_error_detail());
        ignore(io_unlink(b.path)); /* else the next open does it */
        status = fail(status, "%s", why);
    }
    release(&b);
    return status;
}

/* G7, G8 ----------------------------------------------------------------------------------------*/

static navmap_status clear_log(struct store *s, struct wal_txn *t, const void *ctx, bool *ret_more)
{
    (void)ctx;
    TRY(wal_delete_upto(t, s->state.ckpt_lsn, WAL_SLICE_FRAMES, ret_more));
    STORE_KILL_POINT(CLEAR_LOG);
    return NAVMAP_OK;
}

/* Nobody else has the environment open: not in this process (wal_shrink asks), not in another, who
 * would have opened it under R. */
static navmap_status shrink_alone(struct store *s, bool *ret_shrunk)
{
    TRY(lock_opening_exclusive(&s->lock, SWAP_TIMEOUT_S));
    wal_lock(s->wal);
    navmap_status status = wal_shrink(s->wal, s->path, ret_shrunk);
    wal_unlock(s->wal);
    lock_opening_release(&s->lock);
    return harmless(status) || status == NAVMAP_EIO ? status
                                                    : store_poison(s, navmap_error_detail());
}

navmap_status store_generation_clear(struct store *s, bool shrink, bool *ret_shrunk)
{
    *ret_shrunk = false;
    TRY(store_check_writable(s));
    (void)pthread_mutex_lock(&s->checkpoint_lock);
    navmap_status status = in_txns(s, WAL_SLACK_PAGES, clear_labels, NULL);
    if (status == NAVMAP_OK)
        status = in_txns(s, WAL_SLACK_PAGES, clear_log, NULL);
    if (status == NAVMAP_OK && shrink) {
        (void)pthread_rwlock_wrlock(&s->write_lock);
        status = shrink_alone(s, ret_shrunk);
        (void)pthread_rwlock_unlock(&s->write_lock);
    }
    (void)pthread_mutex_unlock(&s->checkpoint_lock);
    return status;
}
