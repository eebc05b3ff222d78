/* wal_txn.c -- transactions on the LMDB environment, read ones from a pool; see wal.h for A2..A6.
 *
 * Each holds the gate shared from begin to end: LMDB remaps only when none is open.
 */
#include "storage/wal.h"

#include <errno.h>
#include <string.h>

#include "storage/fail.h"
#include "storage/io.h"
#include "storage/wal_env.h"
#include "storage/wal_guard.h"

/* Follow another process that enlarged the map: no transaction may be open here.  LMDB unmaps its
 * file before it maps it anew: when there is no address space for that, the environment is of no
 * use any longer.  It is closed, readers scan, and the next open begins with another one. */
static navmap_status set_mapsize(struct wal *w, size_t bytes)
{
    (void)pthread_rwlock_wrlock(&w->gate);
    int rc = w->env ? mdb_env_set_mapsize(w->env, bytes) : ENOMEM;
    if (rc != 0 && w->env)
        wal_env_shut(w);
    (void)pthread_rwlock_unlock(&w->gate);
    if (rc == 0)
        return NAVMAP_OK;
    return fail(NAVMAP_EPOISONED, "enlarging the map of %s: %s", w->path, strerror(rc));
}

navmap_status wal_enlarge(struct wal *w)
{
    MDB_envinfo info;
    TRY(wal_fail(w, NULL, mdb_env_info(w->env, &info), "mdb_env_info"));
    return WAL_GUARDED(w, set_mapsize(w, info.me_mapsize * 2));
}

static navmap_status no_environment(const struct wal *w)
{
    return fail(NAVMAP_EIO, "%s: the environment could not be reopened", w->path);
}

int wal_begin_read(MDB_env *env, MDB_txn **ret_txn)
{
    int dead = 0, rc = mdb_txn_begin(env, NULL, MDB_RDONLY, ret_txn);
    if (rc == MDB_READERS_FULL && mdb_reader_check(env, &dead) == 0 && dead > 0)
        rc = mdb_txn_begin(env, NULL, MDB_RDONLY, ret_txn);
    return rc;
}

/* A transaction from the pool, or a new one.  gate held shared. */
static int pool_take(struct wal *w, MDB_txn **ret_txn)
{
    MDB_txn *txn = NULL;
    (void)pthread_mutex_lock(&w->pool_lock);
    if (w->n_pool > 0)
        txn = w->pool[--w->n_pool];
    (void)pthread_mutex_unlock(&w->pool_lock);
    if (!txn)
        return wal_begin_read(w->env, ret_txn);
    int rc = mdb_txn_renew(txn);
    if (rc != 0)
        mdb_txn_abort(txn);
    else
        *ret_txn = txn;
    return rc;
}

static void pool_give(struct wal *w, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    (void)pthread_mutex_lock(&w->pool_lock);
    if (w->n_pool < WAL_READ_POOL) {
        w->pool[w->n_pool++] = txn;
        txn = NULL;
    }
    (void)pthread_mutex_unlock(&w->pool_lock);
    if (txn)
        mdb_txn_abort(txn);
}

static navmap_status txn_begin(struct wal *w, bool write, struct wal_txn *ret_txn)
{
    for (int attempt = 0;; attempt++) {
        MDB_txn *txn = NULL;
        (void)pthread_rwlock_rdlock(&w->gate);
        if (!w->env) {
            (void)pthread_rwlock_unlock(&w->gate);
            return no_environment(w);
        }
        int rc = write ? mdb_txn_begin(w->env, NULL, 0, &txn) : pool_take(w, &txn);
        if (rc == 0) {
            *ret_txn = (struct wal_txn){.wal = w, .txn = txn, .write = write};
            return NAVMAP_OK;
        }
        (void)pthread_rwlock_unlock(&w->gate);
        if (rc != MDB_MAP_RESIZED || attempt == 3)
            return wal_fail(w, NULL, rc, "mdb_txn_begin");
        TRY(set_mapsize(w, 0));
    }
}

navmap_status wal_txn_write(struct wal *w, struct wal_txn *ret_txn)
{
    if (atomic_load(&w->broken))
        return wal_broken(w);
    return WAL_GUARDED(w, txn_begin(w, true, ret_txn));
}

navmap_status wal_txn_read(struct wal *w, struct wal_txn *ret_txn)
{
    if (atomic_load(&w->broken))
        return wal_broken(w);
    return WAL_GUARDED(w, txn_begin(w, false, ret_txn));
}

/* Free pages that the next write transaction may use: not those that the last one freed. */
static navmap_status count_free(struct wal_txn *t, uint64_t *ret_pages)
{
    const MDB_dbi free_dbi = 0;
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    uint64_t pages = 0, newest = mdb_txn_id(t->txn);
    TRY(wal_fail(t->wal, t, mdb_cursor_open(t->txn, free_dbi, &cursor), "counting free pages of"));
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        size_t freed_by, n;
        if (key.mv_size != sizeof freed_by || value.mv_size < sizeof n)
            break;
        memcpy(&freed_by, key.mv_data, sizeof freed_by);
        memcpy(&n, value.mv_data, sizeof n);
        if (freed_by >= newest)
            break;
        pages += n;
    }
    mdb_cursor_close(cursor);
    *ret_pages = pages;
    return NAVMAP_OK;
}

static navmap_status count_free_guarded(struct wal_txn *t, uint64_t *ret_pages)
{
    return WAL_GUARDED(t->wal, count_free(t, ret_pages));
}

navmap_status wal_make_room(struct wal *w, uint64_t pages)
{
    struct wal_txn t;
    MDB_envinfo info;
    uint64_t free_pages = 0, page = wal_frame_bytes(w) + 16u;
    TRY(wal_txn_read(w, &t)); /* LMDB shows its list of free pages to read transactions only */
    navmap_status status = count_free_guarded(&t, &free_pages);
    wal_txn_abort(&t);
    TRY(status);
    TRY(wal_fail(w, NULL, mdb_env_info(w->env, &info), "mdb_env_info"));
    pages = free_pages < pages ? pages - free_pages : 0;
    if (pages < WAL_SLACK_PAGES) /* also where LMDB counts a page that it never writes */
        pages = WAL_SLACK_PAGES;
    uint64_t need = (info.me_last_pgno + 1 + pages) * page;
    /* Also of a file that is longer already: the write would be short, and its outcome unknown. */
    if (need > io_size_limit())
        return fail_errno(EFBIG, 1, "making room in", w->path);
    /* In steps, so that a growing log does not pay for a sync of its own with every commit. */
    status = wal_reserve(w, (need + WAL_CREATE_BYTES - 1) / WAL_CREATE_BYTES * WAL_CREATE_BYTES);
    return status == NAVMAP_ENOSPC ? wal_reserve(w, need) : status;
}

/* A page that a transaction took from the file's end and gave back is counted, but never written.
 * The file reaches to its last page all the same: else it would look cut off to the next open. */
static void cover_last_page(struct wal *w)
{
    uint64_t need = 0, size = 0;
    navmap_status status = wal_length(w, &need, &size);
    if (status == NAVMAP_OK && size < need)
        status = wal_reserve(w, need);
    (void)status; /* the commit stands; the next one tries again */
}

navmap_status wal_txn_commit(struct wal_txn *t)
{
    struct wal *w = t->wal;
    MDB_txn *txn = t->txn;
    struct io_quiet quiet;
    t->txn = NULL;
    io_quiet_begin(&quiet);
    navmap_status status = WAL_GUARDED(w, wal_fail(w, t, mdb_txn_commit(txn), "committing to"));
    io_quiet_end(&quiet, status != NAVMAP_OK);
    if (status == NAVMAP_OK)
        cover_last_page(w);
    (void)pthread_rwlock_unlock(&w->gate);
    return status;
}

static navmap_status txn_end(struct wal_txn *t, MDB_txn *txn)
{
    if (t->write)
        mdb_txn_abort(txn);
    else
        pool_give(t->wal, txn);
    return NAVMAP_OK;
}

void wal_txn_abort(struct wal_txn *t)
{
    if (!t->txn)
        return;
    MDB_txn *txn = t->txn;
    t->txn = NULL;
    if (!atomic_load(&t->wal->broken))
        (void)WAL_GUARDED(t->wal, txn_end(t, txn));
    (void)pthread_rwlock_unlock(&t->wal->gate);
}
