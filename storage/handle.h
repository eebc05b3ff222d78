/* handle.h -- struct store, for the rooms of storage only; the engine sees store.h.
 *
 * Locks, outermost first (engine/CONCURRENCY.md):
 *   checkpoint_lock -> label lock -> write_lock -> env lock (wal.h), entry_lock
 *   -> node lock, item_lock, view_lock
 * The last three are leaves.  view_lock is held for a pointer load and an increment, or while the
 * map grows.
 *
 * J1  write_lock is held shared from the beginning to the end of an item, and exclusively by who
 *     must find whole items only: a commit, growth, a mark, a portion of the sweep.  What several
 *     adders share beside rows is changed under item_lock, or with write_lock held exclusively.
 * J2  The label of an item is locked while it is under way, so that two adders of one label follow
 *     each other.  A replaced item's own label is not: its slot is claimed by being the old_slot of
 *     an item in flight, and its label gone from the table or stage, in one hold of item_lock.
 */
#ifndef NAVMAP_STORAGE_HANDLE_H
#define NAVMAP_STORAGE_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "storage/epoch.h"
#include "storage/fail.h"
#include "storage/io.h"
#include "storage/labels.h"
#include "storage/lock.h"
#include "storage/record.h"
#include "storage/store.h"
#include "storage/table.h"
#include "storage/wal.h"

#define NODE_LOCKS 4096u
#define LABEL_LOCKS 1024u

struct sweep {
    _Atomic bool running; /* changed under write_lock held exclusively; asked by anybody */
    uint32_t cursor;      /* next slot whose rows are to be looked at */
    uint64_t *member;     /* bitmap of D */
    uint32_t slots;       /* bits in it */
    uint32_t *freed;      /* staged as FREE, to join the free list when committed */
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
    bool stays;        /* it keeps the view that it was given: what inspects writes nothing */
    _Atomic uint32_t looked_s;           /* second of the last look at LOCK's path (move.c, V2), */
    _Atomic uint64_t lock_dev, lock_ino; /* which is to be this file's */
    const struct view *coming; /* of the generation that is about to take over, for the observer */

    pthread_mutex_t wal_lock; /* readers open the environment when they first need it */
    struct wal *wal;
    bool wal_refused; /* a reader that may not register: look-ups by scan */

    /* the writer's (J1) */
    bool in_memory; /* a private index: no file, no log; the table below has the labels */
    bool bounded;   /* private: max_elements counts even when it is 0 */
    struct table table;
    int ground_fd;         /* private over a sealed file (sealed.c): that file; else -1 */
    struct io_info ground; /* as it was when last found sound; under view_lock */
    uint64_t ground_sum;
    struct layout_sealed sealed_at;
    uint32_t file_flags; /* enum header_flag; of the handle's own layout some differ */
    _Atomic bool ground_is_lost, ground_is_left;
    void *labels_at; /* its label section, the table's base */
    uint64_t labels_bytes;
    pthread_rwlock_t write_lock;
    pthread_mutex_t entry_lock, item_lock;
    pthread_mutex_t *node_locks, *label_locks; /* NODE_LOCKS, LABEL_LOCKS; NULL on a reader */
    struct store_item *in_flight;              /* a list of the callers' items */
    uint32_t n_in_flight, n_new_in_flight;     /* items begun; those that bring a new label */
    uint32_t room_items;                       /* for how many items room is made at a time */
    struct stage stage;
    struct wal_state state; /* memory's copy of meta.state; changed under the env lock (A2) */
    uint32_t *free_slots;   /* FREE, committed and applied */
    uint32_t n_free_slots, cap_free_slots;
    bool free_scanned;
    uint32_t *deleted_slots; /* those to replace: all DELETED ones, and some that no longer are */
    uint32_t n_deleted_slots, cap_deleted_slots;
    bool deleted_scanned;
    struct sweep sweep;
    uint64_t batch_items;       /* of the call that holds the write lock exclusively */
    struct disk_root item_root; /* the root before the item under way, for abandon */

    pthread_mutex_t checkpoint_lock;
    _Atomic uint64_t applied_lsn; /* set in C6 */
    uint64_t log_bytes_total;     /* appended by this handle so far, under the env lock */

    _Atomic bool poisoned;
    char poison_reason[256];

    store_commit_observer *observer;
    void *observer_ctx;
};

/* commit.c: everything staged, one lsn.  write_lock held exclusively.  An empty stage is
 * NAVMAP_OK. */
navmap_status store_commit_locked(struct store *s) NAVMAP_MUST_USE;
/* checkpoint.c: K1..K3. No lock but checkpoint_lock may be held. */
navmap_status store_checkpoint(struct store *s) NAVMAP_MUST_USE;
/* When the log is so many times as long as the trigger: 1 between the items of a call, where other
 * threads go on meanwhile, 2 where everybody waits. */
navmap_status store_checkpoint_if_long(struct store *s, uint64_t times) NAVMAP_MUST_USE;
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
/* grow.c: at least `nchunks` chunks allocated and mapped.  write_lock held exclusively. */
navmap_status store_grow(struct store *s, uint32_t nchunks) NAVMAP_MUST_USE;
/* Follow a file that somebody else grew (readers). */
navmap_status store_follow(struct store *s, uint32_t nchunks) NAVMAP_MUST_USE;
/* open.c: attach to what is in force, for a reader; `s` has no view yet, or is to get another one
 * of the same index (NAVMAP_ESTALE when it is another).  `lock` is an open LOCK. */
navmap_status store_attach(struct store *s, struct lock *lock,
                           struct view **ret_view) NAVMAP_MUST_USE;
/* move.c: does the view of a reader belong to the past, or is it time to ask whether it does? */
bool store_has_moved(struct store *s, const struct view *v);
navmap_status store_move(struct store *s, const struct view *v) NAVMAP_MUST_USE;
/* A reader was opened: the next look is due in a second. */
void store_look_later(struct store *s);
/* generation.c: the lists of slots and the sweep knew others than there are now. */
void store_forget_slots(struct store *s);
/* The handle's view from now on; its reference passes. */
void store_publish(struct store *s, struct view *view);
/* NAVMAP_EINVAL on a thread that is between store_aside_begin() and store_aside_end() of `s`. */
navmap_status store_check_aside(const struct store *s) NAVMAP_MUST_USE;
/* commit.c: a file without a name is gone when it is closed; NULL = all have theirs. */
const char *store_what_was_removed(const struct store *s);
/* store.c */
/* The write lock, shared, of a thread that may hold it exclusively itself (a progress function of
 * a rewriting call that asks for statistics): false if so, and then there is nothing to release. */
bool store_lock_shared(struct store *s);
void store_unlock_shared(struct store *s, bool locked);
/* What a new generation may change of a layout; everything else is the same, and is read by
 * searches at any time.  All of it where M or codes are others: then nobody searches. */
void store_follow_layout(struct layout *to, const struct layout *from);
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
/* The stripes, for a handle that adds. */
navmap_status store_locks_make(struct store *s) NAVMAP_MUST_USE;
/* slots.c; item_lock held, or write_lock exclusively. */
navmap_status store_free_add(struct store *s, uint32_t slot) NAVMAP_MUST_USE;
navmap_status store_free_scan(struct store *s) NAVMAP_MUST_USE; /* make the list */
/* In a flat index: a DEAD slot becomes FREE.  It stays DEAD at the last generation only. */
void store_free_dead(struct store *s, uint32_t slot);
static inline bool store_flat(const struct store *s)
{
    return (s->layout.flags & HEADER_FLAT) != 0;
}
/* A slot is there to be taken by each item in flight and one more? */
bool store_slot_room(const struct store *s);
/* Give the item a FREE slot, or the next one, and cells. */
navmap_status store_slot_take(struct store *s, uint32_t want_level,
                              struct store_item *item) NAVMAP_MUST_USE;
/* A DELETED slot that nobody else is about to replace or update; 0 when there is none. */
navmap_status store_deleted_take(struct store *s, uint32_t *ret_slot) NAVMAP_MUST_USE;
/* The slot was marked deleted: it may be replaced. */
void store_deleted_add(struct store *s, uint32_t slot);
/* items.c.  Private: around what makes a slot DEAD (P0, P5). */
void store_apply_begins(struct store *s);
void store_apply_ends(struct store *s);
/* The state word, staged or in the map.  Takes the node's lock. */
void store_state_set(struct store *s, uint32_t slot, uint32_t gen, enum slot_status status);
/* One DELETED slot more or less.  One that goes is taken for one of those that are apart: so there
 * are never thought to be more of them than there are. */
static inline void store_count_deleted(struct disk_root *root, int by)
{
    root->n_deleted += (uint64_t)(int64_t)by;
    if (by < 0 && root->n_apart > 0)
        root->n_apart--;
}
/* root.c.  Private: what readers see of the root. */
void store_root_show(struct store *s);
/* find.c */
/* The label as LMDB has it.  No lock of ours is needed. */
navmap_status store_label_committed(struct store *s, uint64_t label,
                                    struct label_entry *ret_entry) NAVMAP_MUST_USE;
/* What a label means now, given what LMDB says.  item_lock held, or write_lock exclusively. */
struct label_entry store_label_now(const struct store *s, uint64_t label,
                                   struct label_entry committed);
/* Is the entry one that a slot confirms?  NAVMAP_ECORRUPT. */
navmap_status store_label_check(const struct store *s, uint64_t label, struct label_entry entry,
                                struct store_found *ret_found) NAVMAP_MUST_USE;
/* sweep.c */
void store_sweep_committed(struct store *s);
void store_sweep_close(struct store *s);
void store_sweep_forget(struct store *s); /* the slots are others by now */
/* create.c: a fresh uuid, instance and time; generation 1. */
navmap_status store_name_layout(struct layout *l) NAVMAP_MUST_USE;
/* "DIR" of "DIR/NAME", and "PATH.tmp-" with a random number; malloc'd, NULL when out of memory. */
char *store_parent_of(const char *path);
char *store_temporary_name(const char *path);

/* save.c: a file at `path` as a whole or not at all (sink.h); `fill` gets it open and empty. */
typedef navmap_status store_fill(void *ctx, int fd, const char *path);
navmap_status store_save_file(const char *path, store_fill *fill, void *ctx) NAVMAP_MUST_USE;
/* open.c: R(ex) and W are held by `lock`, which passes to the store, but on failure stays the
 * caller's, as it is. */
navmap_status store_open_locked(const char *path, struct lock *lock,
                                const struct store_options *options,
                                struct store **ret_store) NAVMAP_MUST_USE;

/* apply.c: the only storer of published cells (P0..P5).  Cannot fail. */
void apply_cells(struct view *view, struct cells *cells, uint64_t lsn);
/* LIVE as a writer's open leaves it when the log was empty. */
void apply_live_reset(struct view *view);
/* A newer generation is in force: whoever maps this one is to look for it. */
void apply_live_supersede(struct view *view);
/* Who the writer is, for others' messages. */
void apply_live_writer(struct view *view);
/* payload.c: bytes of a FREE slot, straight into the file. */
void payload_store(struct view *view, uint32_t slot, const struct disk_tag *tag,
                   const void *code_row, const void *vec_row);

#endif
