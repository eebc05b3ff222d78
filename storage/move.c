/* move.c -- a reader follows the index to a new generation, or to where its files are by now.
 *
 * Asked before each query (q1 of store.h); nearly always it is two loads.
 *
 * V1  LIVE.superseded of the mapped file is 1: a newer generation is in force, and this one gets no
 *     further change.  The query attaches to it as an open does; others of the handle wait
 *     meanwhile.  If the index is no longer to be found at its path, or is another one, that is
 *     NAVMAP_ESTALE: what is mapped is known to be of the past.
 * V2  Once a second LOCK's path is looked at.  If it names another file than was opened (LOCK was
 *     removed and made anew, or an overlay copied the files up), the index is attached to again,
 *     if it is the same one.  If not, or if there is nothing, the handle goes on with what it has:
 *     nobody said that it is of the past.
 *
 * The writer's own handle does neither: it publishes its view itself.  A private index has no file
 * to be moved.
 */
#include <stdio.h>
#include <time.h>

#include "storage/files.h"
#include "storage/handle.h"
#include "storage/io.h"

static uint32_t second(void)
{
    struct timespec t = {0, 0};
    (void)clock_gettime(CLOCK_MONOTONIC_COARSE, &t); /* no system call */
    return (uint32_t)t.tv_sec;
}

static bool superseded(const struct view *v)
{
    return view_load32(&view_live(v)->superseded, memory_order_acquire) != 0;
}

/* V2.  Nothing at the path, or no permission to look, is no reason to move. */
static bool lock_replaced(const struct store *s)
{
    struct io_info info;
    char path[4096]; /* a query allocates nothing, and takes no lock for this */
    return snprintf(path, sizeof path, "%s/LOCK", s->path) < (int)sizeof path &&
           io_stat(path, &info) == NAVMAP_OK &&
           (info.dev != atomic_load(&s->lock_dev) || info.ino != atomic_load(&s->lock_ino));
}

bool store_has_moved(struct store *s, const struct view *v)
{
    if (s->mode != STORE_READ || s->stays)
        return false;
    if (superseded(v))
        return true;
    const uint32_t now = second();
    return atomic_load_explicit(&s->looked_s, memory_order_relaxed) != now &&
           atomic_exchange_explicit(&s->looked_s, now, memory_order_relaxed) != now &&
           lock_replaced(s);
}

void store_look_later(struct store *s)
{
    atomic_store(&s->lock_dev, s->lock.dev);
    atomic_store(&s->lock_ino, s->lock.ino);
    atomic_store(&s->looked_s, second());
}

/* The lock is the handle's from now on; in a forked child it is closed with the call, since the
 * handle is the parent's. */
static void keep_lock(struct store *s, struct lock *lock)
{
    struct lock old = *lock;
    if (s->epoch == fork_epoch() && (lock->dev != s->lock.dev || lock->ino != s->lock.ino)) {
        old = s->lock;
        s->lock = *lock;
    }
    atomic_store(&s->lock_dev, lock->dev);
    atomic_store(&s->lock_ino, lock->ino);
    lock_close(&old);
}

static navmap_status attach_again(struct store *s)
{
    struct lock lock = {.fd = -1};
    struct view *v = NULL;
    TRY(lock_open(s->path, false, &lock));
    navmap_status status = store_attach(s, &lock, &v);
    if (status != NAVMAP_OK) {
        lock_close(&lock);
        return status;
    }
    keep_lock(s, &lock);
    store_publish(s, v);
    return NAVMAP_OK;
}

/* wal_lock is held: one thread moves, and nobody else has R of this handle.  `v`: what the caller
 * found to be of the past. */
static navmap_status move(struct store *s, const struct view *v)
{
    const bool must = superseded(v);
    if (s->view != v)
        return NAVMAP_OK; /* somebody was faster */
    navmap_status status = attach_again(s);
    if (!must)
        return NAVMAP_OK; /* V2 */
    if (status == NAVMAP_ENOINDEX)
        return fail(NAVMAP_ESTALE,
                    "%s: a new generation of the index was made, and its directory was renamed or "
                    "removed; open it again",
                    s->path);
    return status;
}

navmap_status store_move(struct store *s, const struct view *v)
{
    (void)pthread_mutex_lock(&s->wal_lock);
    navmap_status status = move(s, v);
    (void)pthread_mutex_unlock(&s->wal_lock);
    return status;
}
