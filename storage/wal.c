/* wal.c -- opening, sharing and closing the LMDB environment; see wal.h for A1..A7.
 *
 * Transactions are in wal_txn.c, the records inside them in wal_records.c, the labels in labels.c.
 */
#include "storage/wal.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "storage/checksum.h"
#include "storage/epoch.h"
#include "storage/io.h"
#include "storage/wal_env.h"
#include "storage/wal_guard.h"
#include "storage/wal_records.h"

#define MAP_BYTES_AT_CREATE ((size_t)1 << 30)
#define MAX_READERS 1022u
#define ENV_FLAGS (MDB_NOSUBDIR | MDB_NOTLS | MDB_NORDAHEAD)

_Thread_local struct wal_guard *wal_guard_top;

static pthread_mutex_t registry_lock = PTHREAD_MUTEX_INITIALIZER;
static struct wal *registry;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;

static void registry_after_fork(void)
{
    /* The parent's environments must not be used, closed or waited for here. */
    registry = NULL;
    (void)pthread_mutex_init(&registry_lock, NULL);
}

static void registry_init(void)
{
    (void)pthread_atfork(NULL, NULL, registry_after_fork);
}

static void on_assert(MDB_env *env, const char *message)
{
    (void)env;
    (void)message;
    if (wal_guard_top)
        longjmp(wal_guard_top->jump, 1);
}

navmap_status wal_broken(struct wal *w)
{
    if (w)
        atomic_store(&w->broken, true);
    return fail(
        NAVMAP_EPOISONED,
        "%s: LMDB found its own file inconsistent; this process must be restarted before it "
        "can use the index again (then run navmap verify)",
        w ? w->path : WAL_FILE);
}

navmap_status wal_fail(struct wal *w, struct wal_txn *t, int rc, const char *what)
{
    const char *path = w ? w->path : WAL_FILE;
    switch (rc) {
    case 0:
        return NAVMAP_OK;
    case MDB_MAP_FULL:
        if (t)
            t->full = true;
        return fail(NAVMAP_ENOSPC, "%s %s: the LMDB map is full", what, path);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_BAD_TXN:
    case MDB_NOTFOUND:
    case MDB_KEYEXIST:
        return fail(NAVMAP_ECORRUPT, "%s %s: %s", what, path, mdb_strerror(rc));
    case MDB_VERSION_MISMATCH:
        return fail(NAVMAP_EVERSION, "%s %s: %s", what, path, mdb_strerror(rc));
    case MDB_PANIC:
        return fail(NAVMAP_EPOISONED, "%s %s: %s", what, path, mdb_strerror(rc));
    case MDB_TXN_FULL:
        return fail(NAVMAP_ENOMEM, "%s %s: %s", what, path, mdb_strerror(rc));
    case EAGAIN:
        return fail(NAVMAP_ELOCKED,
                    "%s %s: a process with the same pid in another pid namespace uses this index",
                    what, path);
    default:
        if (rc > 0)
            return fail_errno(rc, 1, what, path);
        return fail(NAVMAP_EIO, "%s %s: %s", what, path, mdb_strerror(rc));
    }
}

MDB_dbi wal_labels_dbi(const struct wal *w, uint64_t generation)
{
    return w->labels[generation & 1];
}

const char *wal_path(const struct wal *w)
{
    return w->path;
}

MDB_dbi wal_meta_dbi(const struct wal *w)
{
    return w->meta;
}

MDB_dbi wal_log_dbi(const struct wal *w)
{
    return w->log;
}

uint32_t wal_frame_bytes(const struct wal *w)
{
    return w->frame_bytes;
}

static char *wal_file_path(const char *dir)
{
    char *path = NULL;
    if (asprintf(&path, "%s/" WAL_FILE, dir) < 0)
        return NULL;
    return path;
}

/* LMDB maps as many pages as its meta page counts: to touch one that the file lost is a SIGBUS. */
static navmap_status check_length(struct wal *w)
{
    uint64_t need = 0, size = 0;
    TRY(wal_length(w, &need, &size));
    if (size >= need)
        return NAVMAP_OK;
    return fail(NAVMAP_ECORRUPT,
                "%s: file size: expected at least %llu bytes, found %llu: it was cut off", w->path,
                (unsigned long long)need, (unsigned long long)size);
}

/* Open environment and tables.  `create` makes the tables. */
static navmap_status env_open(struct wal *w, unsigned extra_flags, bool create, int mode)
{
    MDB_txn *txn = NULL;
    MDB_stat stat;
    int rc = mdb_env_create(&w->env);
    if (rc != 0)
        return wal_fail(w, NULL, rc, "mdb_env_create");
    (void)mdb_env_set_assert(w->env, on_assert);
    if ((rc = mdb_env_set_maxdbs(w->env, 4)) != 0 ||
        (rc = mdb_env_set_maxreaders(w->env, MAX_READERS)) != 0 ||
        (create && (rc = mdb_env_set_mapsize(w->env, MAP_BYTES_AT_CREATE)) != 0) ||
        (rc = mdb_env_open(w->env, w->path, ENV_FLAGS | extra_flags, (mdb_mode_t)mode)) != 0)
        goto fail;
    int fd = -1;
    if (mdb_env_get_fd(w->env, &fd) == 0)
        io_close_on_exec(fd); /* the only one of its descriptors that LMDB leaves to a child */
    navmap_status status = create ? NAVMAP_OK : check_length(w);
    if (status != NAVMAP_OK) {
        mdb_env_close(w->env);
        w->env = NULL;
        return status;
    }
    unsigned make = create ? MDB_CREATE : 0;
    if ((rc = create ? mdb_txn_begin(w->env, NULL, 0, &txn) : wal_begin_read(w->env, &txn)) != 0 ||
        (rc = mdb_dbi_open(txn, "meta", make, &w->meta)) != 0 ||
        (rc = mdb_dbi_open(txn, "wal", make, &w->log)) != 0 ||
        (rc = mdb_dbi_open(txn, "labels.0", make | MDB_INTEGERKEY, &w->labels[0])) != 0 ||
        (rc = mdb_dbi_open(txn, "labels.1", make | MDB_INTEGERKEY, &w->labels[1])) != 0)
        goto fail;
    rc = mdb_txn_commit(txn);
    txn = NULL;
    if (rc != 0 || (rc = mdb_env_stat(w->env, &stat)) != 0)
        goto fail;
    w->frame_bytes = stat.ms_psize - 16u;
    return NAVMAP_OK;
fail:
    if (txn)
        mdb_txn_abort(txn);
    mdb_env_close(w->env);
    w->env = NULL;
    return wal_fail(w, NULL, rc, "opening");
}

static navmap_status env_open_guarded(struct wal *w, unsigned extra_flags, bool create, int mode)
{
    struct io_quiet quiet;
    io_quiet_begin(&quiet); /* it makes its lock table, and in a new environment its first pages */
    navmap_status status = WAL_GUARDED(w, env_open(w, extra_flags, create, mode));
    io_quiet_end(&quiet, status != NAVMAP_OK);
    return status;
}

static navmap_status create_tables(struct wal *w, struct wal_id *id, const struct wal_state *state)
{
    struct wal_txn t = {.wal = w, .write = true};
    int rc = mdb_txn_begin(w->env, NULL, 0, &t.txn);
    if (rc != 0)
        return wal_fail(w, NULL, rc, "mdb_txn_begin");
    navmap_status status = wal_put_id(&t, id);
    if (status == NAVMAP_OK)
        status = wal_put_state(&t, state);
    if (status != NAVMAP_OK) {
        mdb_txn_abort(t.txn);
        return status;
    }
    return wal_fail(w, NULL, mdb_txn_commit(t.txn), "mdb_txn_commit");
}

navmap_status wal_create(const char *dir, struct wal_id *id, const struct wal_state *state)
{
    struct wal w = {.path = wal_file_path(dir)};
    if (!w.path)
        return fail(NAVMAP_ENOMEM, "creating %s/" WAL_FILE ": out of memory", dir);
    navmap_status status = env_open_guarded(&w, 0, true, 0644);
    if (status == NAVMAP_OK) {
        id->frame_bytes = w.frame_bytes;
        struct io_quiet quiet;
        io_quiet_begin(&quiet);
        status = WAL_GUARDED(&w, create_tables(&w, id, state));
        io_quiet_end(&quiet, status != NAVMAP_OK);
        if (status == NAVMAP_OK)
            status = wal_reserve(&w, WAL_CREATE_BYTES);
        if (!atomic_load(&w.broken))
            mdb_env_close(w.env);
    }
    free(w.path);
    return status;
}

/* A read-only mount makes LMDB run silently without its reader table: refuse that. */
static navmap_status check_lock_table(const char *path)
{
    struct statvfs fs;
    char *lock_path = NULL;
    bool ok = statvfs(path, &fs) == 0 && !(fs.f_flag & ST_RDONLY);
    /* Memory that ran out says nothing about permissions: a save by a reader told of them. */
    if (ok && asprintf(&lock_path, "%s-lock", path) < 0)
        return fail(NAVMAP_ENOMEM, "opening %s: out of memory", path);
    if (ok) {
        ok = access(lock_path, R_OK | W_OK) == 0;
        if (!ok && errno == ENOENT)
            ok = access(path, W_OK) == 0; /* it will be made */
        free(lock_path);
    }
    if (ok)
        return NAVMAP_OK;
    return fail(NAVMAP_EREADONLY, "opening %s: no permission to write LMDB's lock table", path);
}

navmap_status wal_env_open(struct wal *w, bool writer)
{
    TRY(check_lock_table(w->path));
    bool data_writable = access(w->path, W_OK) == 0;
    if (writer && !data_writable)
        return fail_errno(EACCES, 1, "opening", w->path);
    w->read_only = !data_writable;
    return env_open_guarded(w, data_writable ? 0 : MDB_RDONLY, false, 0644);
}

void wal_env_shut(struct wal *w)
{
    for (uint32_t i = 0; i < w->n_pool; i++)
        mdb_txn_abort(w->pool[i]);
    w->n_pool = 0;
    if (w->env)
        mdb_env_close(w->env);
    w->env = NULL;
}

static void wal_free(struct wal *w)
{
    (void)pthread_mutex_destroy(&w->env_lock);
    (void)pthread_mutex_destroy(&w->pool_lock);
    (void)pthread_rwlock_destroy(&w->gate);
    free(w->path);
    free(w);
}

static navmap_status stat_file(const char *path, struct io_info *ret_info)
{
    navmap_status status = io_stat(path, ret_info);
    if (status == NAVMAP_ENOINDEX)
        return fail(NAVMAP_ECORRUPT, "%s is missing", path);
    if (status == NAVMAP_OK && ret_info->bytes == 0) /* which LMDB would take for a new one */
        return fail(NAVMAP_ECORRUPT, "%s is empty", path);
    return status;
}

static struct wal *wal_new(const char *path)
{
    struct wal *w = calloc(1, sizeof *w);
    if (!w || !(w->path = strdup(path))) {
        free(w);
        return NULL;
    }
    (void)pthread_mutex_init(&w->env_lock, NULL);
    (void)pthread_mutex_init(&w->pool_lock, NULL);
    (void)pthread_rwlock_init(&w->gate, NULL);
    w->epoch = fork_epoch();
    w->refs = 1;
    return w;
}

/* Reopen an environment that others of this process may hold too. */
static navmap_status reopen(struct wal *w, bool writer)
{
    (void)pthread_rwlock_wrlock(&w->gate);
    wal_env_shut(w);
    navmap_status status = wal_env_open(w, writer);
    if (status == NAVMAP_OK)
        w->retired = false;
    (void)pthread_rwlock_unlock(&w->gate);
    return status;
}

static navmap_status acquire_locked(const char *path, const struct io_info *st, bool writer,
                                    struct wal **ret_wal)
{
    struct wal *w = registry;
    while (w && (w->dev != st->dev || w->ino != st->ino))
        w = w->next;
    if (w) {
        if (atomic_load(&w->broken))
            return wal_broken(w);
        if (!w->env || (writer && (w->retired || w->read_only)))
            TRY(reopen(w, writer));
        w->refs++;
        *ret_wal = w;
        return NAVMAP_OK;
    }
    w = wal_new(path);
    if (!w)
        return fail(NAVMAP_ENOMEM, "opening %s: out of memory", path);
    w->dev = st->dev;
    w->ino = st->ino;
    navmap_status status = wal_env_open(w, writer);
    if (status != NAVMAP_OK) {
        wal_free(w);
        return status;
    }
    w->next = registry;
    registry = w;
    *ret_wal = w;
    return NAVMAP_OK;
}

static navmap_status acquire(const char *path, bool writer, struct wal **ret_wal)
{
    struct io_info st;
    TRY(stat_file(path, &st));
    (void)pthread_once(&registry_once, registry_init);
    (void)pthread_mutex_lock(&registry_lock);
    navmap_status status = acquire_locked(path, &st, writer, ret_wal);
    (void)pthread_mutex_unlock(&registry_lock);
    return status;
}

navmap_status wal_acquire(const char *dir, bool writer, struct wal **ret_wal)
{
    char *path = wal_file_path(dir);
    if (!path)
        return fail(NAVMAP_ENOMEM, "opening %s/" WAL_FILE ": out of memory", dir);
    navmap_status status = acquire(path, writer, ret_wal);
    free(path);
    return status;
}

static navmap_status peek_open(const char *path, struct wal **ret_wal)
{
    struct io_info st;
    TRY(stat_file(path, &st));
    struct wal *w = wal_new(path);
    if (!w)
        return fail(NAVMAP_ENOMEM, "opening %s: out of memory", path);
    w->read_only = true;
    navmap_status status = env_open_guarded(w, MDB_RDONLY | MDB_NOLOCK, false, 0);
    if (status != NAVMAP_OK) {
        wal_free(w);
        return status;
    }
    *ret_wal = w;
    return NAVMAP_OK;
}

navmap_status wal_peek_open(const char *dir, struct wal **ret_wal)
{
    char *path = wal_file_path(dir);
    if (!path)
        return fail(NAVMAP_ENOMEM, "opening %s/" WAL_FILE ": out of memory", dir);
    navmap_status status = peek_open(path, ret_wal);
    free(path);
    return status;
}

void wal_peek_close(struct wal *w)
{
    if (!w || atomic_load(&w->broken))
        return;
    wal_env_shut(w);
    wal_free(w);
}

navmap_status wal_peek(const char *dir, struct wal_id *ret_id, struct wal_state *ret_state)
{
    struct wal *w;
    struct wal_txn t;
    TRY(wal_peek_open(dir, &w));
    navmap_status status = wal_txn_read(w, &t);
    if (status == NAVMAP_OK) {
        status = wal_get_id(&t, ret_id);
        if (status == NAVMAP_OK)
            status = wal_get_state(&t, ret_state);
        wal_txn_abort(&t);
    }
    wal_peek_close(w);
    return status;
}

void wal_release(struct wal *w)
{
    if (!w || w->epoch != fork_epoch())
        return;
    (void)pthread_mutex_lock(&registry_lock);
    if (--w->refs == 0 && !atomic_load(&w->broken)) {
        struct wal **link = &registry;
        while (*link != w)
            link = &(*link)->next;
        *link = w->next;
        wal_env_shut(w);
        wal_free(w);
    }
    (void)pthread_mutex_unlock(&registry_lock);
}

void wal_registry_lock(void)
{
    (void)pthread_mutex_lock(&registry_lock);
}

void wal_registry_unlock(void)
{
    (void)pthread_mutex_unlock(&registry_lock);
}

void wal_retire(struct wal *w)
{
    (void)pthread_mutex_lock(&registry_lock);
    w->retired = true;
    (void)pthread_mutex_unlock(&registry_lock);
}

navmap_status wal_sync(struct wal *w)
{
    return WAL_GUARDED(w, wal_fail(w, NULL, mdb_env_sync(w->env, 1), "syncing"));
}

navmap_status wal_reader_check(struct wal *w)
{
    int dead = 0;
    return WAL_GUARDED(w,
                       wal_fail(w, NULL, mdb_reader_check(w->env, &dead), "checking readers of"));
}

navmap_status wal_length(const struct wal *w, uint64_t *ret_need, uint64_t *ret_size)
{
    MDB_envinfo info;
    MDB_stat stat;
    int fd = -1;
    TRY(wal_fail(NULL, NULL, mdb_env_info(w->env, &info), "mdb_env_info"));
    TRY(wal_fail(NULL, NULL, mdb_env_stat(w->env, &stat), "mdb_env_stat"));
    TRY(wal_fail(NULL, NULL, mdb_env_get_fd(w->env, &fd), "mdb_env_get_fd"));
    *ret_need = ((uint64_t)info.me_last_pgno + 1) * stat.ms_psize;
    return io_file_size(fd, w->path, ret_size);
}

navmap_status wal_reserve(struct wal *w, uint64_t bytes)
{
    int fd = -1;
    uint64_t size = 0;
    TRY(wal_fail(w, NULL, mdb_env_get_fd(w->env, &fd), "mdb_env_get_fd"));
    TRY(io_file_size(fd, w->path, &size));
    if (size >= bytes)
        return NAVMAP_OK;
    TRY(io_grow(fd, w->path, size, bytes));
    return io_fsync(fd, w->path);
}

bool wal_removed(const struct wal *w)
{
    int fd = -1;
    return mdb_env_get_fd(w->env, &fd) == 0 && io_unlinked(fd);
}

uint64_t wal_allocated(const struct wal *w)
{
    int fd = -1;
    if (mdb_env_get_fd(w->env, &fd) != 0)
        return 0;
    return io_allocated(fd);
}

void wal_lock(struct wal *w)
{
    (void)pthread_mutex_lock(&w->env_lock);
}

void wal_unlock(struct wal *w)
{
    (void)pthread_mutex_unlock(&w->env_lock);
}
