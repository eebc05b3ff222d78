/* handle.h -- struct store, for the rooms of storage only; the engine sees store.h.
 *
 * Locks, outermost first (engine/CONCURRENCY.md):
 *   checkpoint_lock -> write_lock -> env lock (wal.h) -> view_lock
 * view_lock is a leaf, held for a pointer load and an increment, or while the map grows.
 */
#ifndef NAVMAP_STORAGE_HANDLE_H
#define NAVMAP_STORAGE_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "storage/epoch.h"
#include "storage/fail.h"
#include "storage/lock.h"
#include "storage/record.h"
#include "storage/store.h"
#include "storage/wal.h"

struct sweep {
    bool running;
    uint32_t cursor;  /* next slot whose rows are to be looked at */
    uint64_t *member; /* bitmap of D */
    uint32_t slots;   /* bits in it */
    uint32_t *freed;  /* staged as FREE, to join the free list when committed */
    uint32_t n_freed, cap_freed;
};

struct store {
    char *path;
    enum store_mode mode;
    struct store_options options;
    struct lock lock;
    uint64_t epoch;              /* fork_epoch() at open */
    _Atomic uint64_t lock_epoch; /* of the process whose locks these are; see store_enter */
    uint64_t uuid_low;
    struct layout layout; /* a copy that outlives any view */

    pthread_mutex_t view_lock;
    struct view *view; /* current; one reference is ours */

    pthread_mutex_t wal_lock; /* readers open the environment when they first need it */
    struct wal *wal;
    bool wal_refused; /* a reader that may not register: look-ups by scan */

    /* the writer's, under write_lock */
    pthread_mutex_t write_lock;
    struct stage stage;
    struct wal_state state; /* memory's copy of meta.state; changed under the env lock (A2) */
    uint32_t *free_slots;   /* FREE, committed and applied */
    uint32_t n_free_slots, cap_free_slots;
    bool free_scanned;
    struct sweep sweep;
    uint64_t batch_items;       /* of the call that holds the write lock */
    struct disk_root item_root; /* the root before the item under way, for abandon */

    pthread_mutex_t checkpoint_lock;
    _Atomic uint64_t applied_lsn; /* set in C6 */
    uint64_t log_bytes_total;     /* appended by this handle so far, under the env lock */

    _Atomic bool poisoned;
    char poison_reason[256];

    store_commit_observer *observer;
    void *observer_ctx;
};

/* commit.c: everything staged, one lsn.  write_lock held.  An empty stage is NAVMAP_OK. */
navmap_status store_commit_locked(struct store *s) NAVMAP_MUST_USE;
/* checkpoint.c: K1..K3. No lock but checkpoint_lock may be held. */
navmap_status store_checkpoint(struct store *s) NAVMAP_MUST_USE;
navmap_status store_checkpoint_if_long(struct store *s) NAVMAP_MUST_USE;
uint64_t store_ckpt_bytes(struct store *s);
/* recover.c: O2..O8 of the open sequence; R is held exclusively and W is ours.  Leaves s->view
 * mapped writable, s->wal and s->state set. */
navmap_status store_recover(struct store *s) NAVMAP_MUST_USE;
/* O7, and what every open asks of a root; its sum only where no writer may be storing it. */
navmap_status store_check_root(const struct store *s, const struct view *v,
                               bool sum) NAVMAP_MUST_USE;
/* The log and the data file of one index. */
navmap_status store_check_identity(const struct store *s, const struct wal_id *id,
                                   const struct layout *l, const char *path) NAVMAP_MUST_USE;
/* grow.c: at least `nchunks` chunks allocated and mapped.  write_lock held. */
navmap_status store_grow(struct store *s, uint32_t nchunks) NAVMAP_MUST_USE;
/* Follow a file that somebody else grew (readers). */
navmap_status store_follow(struct store *s, uint32_t nchunks) NAVMAP_MUST_USE;
/* store.c */
/* Before any lock of the handle: a forked child must not wait for what a thread of its parent
 * held, so the first call there makes the locks anew. */
void store_enter(struct store *s);
/* A3: meta.state, read again in a write transaction, is what memory says; else poison. */
navmap_status store_check_log(const struct store *s, struct wal_txn *t) NAVMAP_MUST_USE;
navmap_status store_poison(struct store *s, const char *reason);
navmap_status store_check_writable(const struct store *s) NAVMAP_MUST_USE;
struct store *store_new(const char *path, enum store_mode mode,
                        const struct store_options *options);
void store_destroy(struct store *s);
/* slots.c */
navmap_status store_free_add(struct store *s, uint32_t slot) NAVMAP_MUST_USE;
/* sweep.c */
void store_sweep_committed(struct store *s);
void store_sweep_close(struct store *s);
/* open.c: `lock` passes to the store. */
navmap_status store_open_locked(const char *path, struct lock *lock,
                                const struct store_options *options,
                                struct store **ret_store) NAVMAP_MUST_USE;

/* apply.c: the only storer of published cells (P0..P5).  Cannot fail. */
void apply_cells(struct view *view, struct cells *cells, uint64_t lsn);
/* LIVE as a writer's open leaves it when the log was empty. */
void apply_live_reset(struct view *view);
/* Who the writer is, for others' messages. */
void apply_live_writer(struct view *view);
/* payload.c: bytes of a FREE slot, straight into the file. */
void payload_store(struct view *view, uint32_t slot, const struct disk_tag *tag,
                   const void *code_row, const void *vec_row);

#endif
