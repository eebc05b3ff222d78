/* open.c -- O1 and the reader's way in: who may hold what while an index is being opened.
 *
 * A writer takes R exclusively, then W, recovers, then drops R.  A reader takes R shared and looks
 * at W: held means that the writer's recovery is over and the data file can be mapped as it is,
 * without LMDB; free means that nobody can change anything while R is held, so the log is asked
 * whether it is empty.  A reader that finds work in the log becomes the writer for a moment, if it
 * may, and starts over.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storage/files.h"
#include "storage/handle.h"
#include "storage/io.h"

#define READER_TIMEOUT_S 30.0 /* recovery is bounded; others hold R for milliseconds */
#define READER_ROUNDS 100

static double now_s(void)
{
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static navmap_status check_directory(const char *path)
{
    struct io_info info;
    navmap_status status = io_stat(path, &info);
    if (status == NAVMAP_ENOINDEX)
        return fail(NAVMAP_ENOINDEX, "%s: no such index", path);
    TRY(status);
    if (!info.directory)
        return fail(NAVMAP_ENOINDEX, "%s: a navmap index is a directory, this is a file", path);
    return io_check_fs(path);
}

static navmap_status say_locked(const char *path, const struct lock *lock)
{
    if (lock_writer_here(lock->dev, lock->ino))
        return fail(NAVMAP_ELOCKED, "%s: the index is open for writing by this process", path);
    uint32_t pid = files_writer_pid(path);
    if (pid == 0)
        return fail(NAVMAP_ELOCKED, "%s: the index is open for writing by another process", path);
    return fail(NAVMAP_ELOCKED, "%s: the index is open for writing by pid %u", path, pid);
}

/* O1.  R(ex) and W, within the timeout. */
static navmap_status take_writer(const char *path, struct lock *lock, double timeout_s)
{
    double until = now_s() + timeout_s;
    for (;;) {
        bool got = false;
        /* R is held briefly by others, so it is waited for even with no timeout for W. */
        TRY(lock_opening_exclusive(lock, timeout_s < 0 ? -1.0 : READER_TIMEOUT_S));
        navmap_status status = lock_writer_try(lock, &got);
        if (status == NAVMAP_OK && got)
            return NAVMAP_OK;
        lock_opening_release(lock);
        TRY(status);
        if (timeout_s >= 0 && now_s() >= until)
            return say_locked(path, lock);
        const struct timespec pause = {0, 5000000};
        (void)nanosleep(&pause, NULL);
    }
}

navmap_status store_open_locked(const char *path, struct lock *lock,
                                const struct store_options *options, struct store **ret_store)
{
    struct store *s = store_new(path, STORE_WRITE, options);
    if (!s)
        return fail(NAVMAP_ENOMEM, "opening %s: out of memory", path);
    s->lock = *lock;
    STORE_KILL_POINT(O1);
    navmap_status status = store_recover(s);
    if (status == NAVMAP_OK)
        status = stage_open(&s->stage, s->view);
    if (status == NAVMAP_OK)
        status = store_locks_make(s);
    if (status == NAVMAP_OK) {
        s->layout = s->view->layout;
        s->room_items = stage_items(&s->stage);
    }
    if (status != NAVMAP_OK) {
        if (s->wal && status == NAVMAP_EIO)
            wal_retire(s->wal); /* the next open begins with a new environment and a new sync */
        *lock = s->lock;
        s->lock.fd = -1;
        store_destroy(s);
        return status;
    }
    lock_opening_release(&s->lock);
    *ret_store = s;
    return NAVMAP_OK;
}

static navmap_status open_writer(const char *path, const struct store_options *options,
                                 struct store **ret_store)
{
    struct lock lock = {.fd = -1};
    TRY(check_directory(path));
    TRY(lock_open(path, false, &lock));
    navmap_status status = access(path, W_OK) == 0
                               ? take_writer(path, &lock, options->timeout_s)
                               : fail_errno(errno, 1, "opening for writing", path);
    if (status == NAVMAP_OK && lock_removed(&lock))
        status =
            fail(NAVMAP_ENOINDEX, "%s: its LOCK file was removed while it was being opened", path);
    if (status == NAVMAP_OK)
        status = store_open_locked(path, &lock, options, ret_store);
    if (status != NAVMAP_OK)
        lock_close(&lock);
    return status;
}

/* Reader --------------------------------------------------------------------------------------*/

/* The chunk count of a file that may be growing: one word, read until two reads agree. */
static navmap_status read_chunks(int fd, const char *path, uint32_t *ret_nchunks)
{
    uint64_t a = 0, b = 1;
    const uint64_t off = LAYOUT_ROOT_OFFSET + offsetof(struct disk_root, extent);
    while (a != b) {
        TRY(io_pread(fd, path, &a, sizeof a, off));
        TRY(io_pread(fd, path, &b, sizeof b, off));
    }
    *ret_nchunks = extent_chunks(a);
    return NAVMAP_OK;
}

/* `log`: what LMDB says, or NULL beside a writer. */
struct log_view {
    struct wal_id id;
    struct wal_state state;
};

static navmap_status check_against_log(const struct store *s, const struct view *v,
                                       const struct log_view *log)
{
    TRY(store_check_root(s, v, log != NULL));
    if (!log)
        return NAVMAP_OK;
    TRY(store_check_identity(s, &log->id, &v->layout, v->path));
    uint64_t lsn = view_load64(&view_root(v)->lsn, memory_order_relaxed);
    if (lsn != log->state.last_lsn)
        return fail(NAVMAP_ECORRUPT, "%s: root lsn: expected %llu, found %llu", v->path,
                    (unsigned long long)log->state.last_lsn, (unsigned long long)lsn);
    return NAVMAP_OK;
}

/* A handle that has a view already takes another one of the same index only, and one that its
 * searches can go on with. */
static navmap_status admit(struct store *s, const struct layout *l)
{
    const struct layout *ours = &s->layout;
    if (!s->view) {
        s->uuid_low = l->uuid_low;
        return NAVMAP_OK;
    }
    if (memcmp(l->uuid, ours->uuid, sizeof l->uuid) != 0 || l->instance != ours->instance ||
        l->dim != ours->dim || l->space != ours->space || l->flags != ours->flags ||
        l->M != ours->M || l->code_stride != ours->code_stride || l->scalar != ours->scalar)
        return fail(NAVMAP_ESTALE, "%s: the index was made anew; open it again", s->path);
    return NAVMAP_OK;
}

static navmap_status map_reader(struct store *s, uint64_t generation, const struct log_view *log,
                                struct view **ret_view)
{
    struct layout l;
    struct view *v = NULL;
    int fd = -1, read_only = 0;
    char *path = NULL;
    uint32_t nchunks = 0;
    TRY(files_open_data(s->path, generation, O_RDONLY, &fd, &path, &l, &read_only));
    navmap_status status = admit(s, &l);
    if (status == NAVMAP_OK)
        status = read_chunks(fd, path, &nchunks);
    if (status == NAVMAP_OK)
        status = view_map(fd, path, &l, nchunks, false, &v);
    if (status != NAVMAP_OK)
        io_close(fd);
    free(path);
    if (status == NAVMAP_OK)
        status = check_against_log(s, v, log);
    if (status != NAVMAP_OK)
        view_unref(v);
    else
        *ret_view = v;
    return status;
}

/* One look under R(sh).  *ret_recover: the log has work and nobody is writing. */
static navmap_status look(struct store *s, const struct lock *lock, struct view **ret_view,
                          bool *ret_recover)
{
    bool held;
    struct log_view log;
    uint64_t generation;
    TRY(lock_writer_held(lock, &held));
    if (held) {
        TRY(files_current(s->path, &generation));
        return map_reader(s, generation, NULL, ret_view);
    }
    TRY(wal_peek(s->path, &log.id, &log.state));
    *ret_recover = log.state.ckpt_lsn != log.state.last_lsn;
    return *ret_recover ? NAVMAP_OK : map_reader(s, log.state.generation, &log, ret_view);
}

/* Be the writer just long enough to recover. */
static navmap_status recover_for_reader(const char *path, const struct store_options *options)
{
    struct store_options brief = *options;
    struct store *writer = NULL;
    brief.timeout_s = 0;
    navmap_status status = open_writer(path, &brief, &writer);
    if (status == NAVMAP_ELOCKED)
        return NAVMAP_OK; /* somebody else recovers, or writes: look again */
    if (status == NAVMAP_EREADONLY)
        return fail(
            NAVMAP_ENEEDSRECOVERY,
            "%s: the last writer did not close it; its log must be replayed by a process that "
            "may write there",
            path);
    TRY(status);
    return store_close(writer);
}

navmap_status store_attach(struct store *s, struct lock *lock, struct view **ret_view)
{
    for (int round = 0;; round++) {
        bool recover = false;
        TRY(lock_opening_shared(lock, READER_TIMEOUT_S));
        navmap_status status = look(s, lock, ret_view, &recover);
        lock_opening_release(lock);
        if (status != NAVMAP_OK || !recover)
            return status;
        if (round == READER_ROUNDS)
            return fail(NAVMAP_ELOCKED, "%s: other processes keep recovering it", s->path);
        TRY(recover_for_reader(s->path, &s->options));
    }
}

static navmap_status open_reader(const char *path, const struct store_options *options,
                                 struct store **ret_store)
{
    TRY(check_directory(path));
    struct store *s = store_new(path, STORE_READ, options);
    if (!s)
        return fail(NAVMAP_ENOMEM, "opening %s: out of memory", path);
    navmap_status status = lock_open(path, false, &s->lock);
    struct view *v = NULL;
    if (status == NAVMAP_OK)
        status = store_attach(s, &s->lock, &v);
    if (status != NAVMAP_OK) {
        store_destroy(s);
        return status;
    }
    s->view = v;
    s->layout = v->layout;
    store_look_later(s);
    *ret_store = s;
    return NAVMAP_OK;
}

navmap_status store_open(const char *path, enum store_mode mode,
                         const struct store_options *options, struct store **ret_store)
{
    return mode == STORE_WRITE ? open_writer(path, options, ret_store)
                               : open_reader(path, options, ret_store);
}
