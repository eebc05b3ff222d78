/* checkpoint.c -- K1..K3: what was applied becomes permanent, and the log is cut up to there.
 *
 *   K1  L = applied_lsn, sampled BEFORE K2: an apply that runs beside K2 is not covered by it.
 *   K2  fdatasync of the data file.  A failure poisons; the log is kept; it is never retried.
 *   K3  ckpt_lsn = L and the first slice of frames in one transaction, further slices in theirs.
 *
 * Commits go on meanwhile.  Slices bound the size of LMDB's freelist record; frames that are left
 * over when the process dies have lsn <= ckpt_lsn and are ignored until the next checkpoint.
 */
#include "storage/handle.h"
#include "storage/io.h"

#define MIB ((uint64_t)1 << 20)

uint64_t store_ckpt_bytes(struct store *s)
{
    if (s->options.ckpt_bytes > 0)
        return s->options.ckpt_bytes;
    (void)pthread_mutex_lock(&s->view_lock); /* the view may be replaced beside us */
    uint32_t nchunks = atomic_load_explicit(&s->view->nchunks, memory_order_relaxed);
    uint64_t quarter = layout_file_bytes(&s->view->layout, nchunks) / 4;
    (void)pthread_mutex_unlock(&s->view_lock);
    return quarter < MIB ? MIB : quarter > 128 * MIB ? 128 * MIB : quarter;
}

/* One slice of K3, in a transaction of its own.  Env lock held. */
static navmap_status cut_once(struct store *s, uint64_t lsn, const struct wal_state *next,
                              struct wal_txn *t, bool *ret_more)
{
    TRY(store_check_log(s, t));
    TRY(wal_put_state(t, next));
    return wal_delete_upto(t, lsn, WAL_SLICE_FRAMES, ret_more);
}

static navmap_status cut(struct store *s, uint64_t lsn, uint64_t bytes_covered, bool *ret_more)
{
    wal_lock(s->wal);
    navmap_status status;
    for (;;) {
        struct wal_state next = s->state;
        next.ckpt_lsn = lsn;
        next.wal_bytes = s->log_bytes_total - bytes_covered;
        struct wal_txn t;
        if ((status = wal_make_room(s->wal, WAL_SLACK_PAGES)) != NAVMAP_OK ||
            (status = wal_txn_write(s->wal, &t)) != NAVMAP_OK)
            break;
        status = cut_once(s, lsn, &next, &t, ret_more);
        if (status == NAVMAP_OK)
            status = wal_txn_commit(&t);
        else
            wal_txn_abort(&t);
        if (status == NAVMAP_OK) {
            s->state.ckpt_lsn = next.ckpt_lsn;
            s->state.wal_bytes = next.wal_bytes;
        }
        if (!t.full || (status = wal_enlarge(s->wal)) != NAVMAP_OK)
            break;
    }
    wal_unlock(s->wal);
    return status;
}

static navmap_status checkpoint(struct store *s)
{
    TRY(store_check_writable(s));
    /* K1.  Bytes are sampled with the lsn: what is appended later stays in the log. */
    (void)pthread_rwlock_rdlock(&s->write_lock);
    uint64_t lsn = atomic_load(&s->applied_lsn);
    uint64_t bytes = s->log_bytes_total;
    bool clean = s->state.ckpt_lsn == lsn;
    struct view *v = s->view;
    view_ref(v);
    (void)pthread_rwlock_unlock(&s->write_lock);
    if (clean) {
        view_unref(v);
        return NAVMAP_OK;
    }
    STORE_KILL_POINT(K1);
    navmap_status status = io_fdatasync(v->fd, v->path); /* K2 */
    view_unref(v);
    if (status != NAVMAP_OK)
        return store_poison(s, navmap_error_detail());
    STORE_KILL_POINT(K2);
    status = wal_reader_check(s->wal);
    if (status != NAVMAP_OK)
        return store_poison(s, navmap_error_detail());
    STORE_KILL_POINT(K3_BEFORE);
    for (bool more = true; more;) {
        status = cut(s, lsn, bytes, &more);
        if (status != NAVMAP_OK && status != NAVMAP_ENOSPC && status != NAVMAP_ENOMEM)
            return store_poison(s, navmap_error_detail());
        TRY(status);
        STORE_KILL_POINT(K3_SLICE);
    }
    STORE_KILL_POINT(K3);
    return NAVMAP_OK;
}

navmap_status store_checkpoint(struct store *s)
{
    (void)pthread_mutex_lock(&s->checkpoint_lock);
    navmap_status status = checkpoint(s);
    (void)pthread_mutex_unlock(&s->checkpoint_lock);
    return status;
}

static bool is_long(struct store *s, uint64_t times)
{
    wal_lock(s->wal);
    bool longer = s->state.wal_bytes / times > store_ckpt_bytes(s);
    wal_unlock(s->wal);
    return longer;
}

/* C7.  Whoever waited for another one's checkpoint finds that there is nothing left to do. */
navmap_status store_checkpoint_if_long(struct store *s, uint64_t times)
{
    navmap_status status = NAVMAP_OK;
    if (s->in_memory)
        return NAVMAP_OK;
    STORE_KILL_POINT(C7);
    if (!is_long(s, times))
        return NAVMAP_OK;
    (void)pthread_mutex_lock(&s->checkpoint_lock);
    if (is_long(s, times))
        status = checkpoint(s);
    (void)pthread_mutex_unlock(&s->checkpoint_lock);
    return status;
}
