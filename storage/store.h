/* store.h -- the contract between storage and engine: slots, rows, payloads, labels, commits.
 *
 * Storage knows bytes and promises; it never says distance or neighbour.  The engine knows graphs
 * and never says fsync, page or LMDB.  The engine includes this header (and through it view.h
 * and stage.h, of which it uses the view_ and edit_ accessors only).
 *
 * The protocol, its proof and its invariants I1..I6 and V1..V7 are in FORMAT.md and
 * CONCURRENCY.md.  In short: the writer stages, commits all changed cells in one LMDB transaction,
 * applies them to the shared map, and checkpoints later.  Readers never write anything.
 */
#ifndef NAVMAP_STORAGE_STORE_H
#define NAVMAP_STORAGE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/stage.h"
#include "storage/status.h"
#include "storage/view.h"

struct store;

enum store_mode { STORE_READ, STORE_WRITE };
enum store_durability {
    STORE_FULL,  /* store_settle() commits: durable and visible when it returns */
    STORE_MANUAL /* commits at store_flush(), close, or when the stage is full */
};

struct store_options {
    enum store_durability durability;
    double timeout_s;    /* how long to wait for the writer lock; 0 = not at all, < 0 = for ever */
    uint64_t ckpt_bytes; /* log bytes that trigger a checkpoint; 0 = clamp(data/4, 1, 128 MiB) */
};

/* Create a directory index at `path` (which must not exist) and hold it as the writer. */
navmap_status store_create(const char *path, const struct layout_params *params,
                           uint64_t max_elements, const struct store_options *options,
                           struct store **ret_store) NAVMAP_MUST_USE;
/* A private index: in memory, no file, no log, no lock file.  `bounded`: max_elements counts even
 * when it is 0.  The writer of itself; store_settle() and store_flush() have nothing to do. */
navmap_status store_new_private(const struct layout_params *params, uint64_t max_elements,
                                bool bounded, struct store **ret_store) NAVMAP_MUST_USE;
/* A private index over a sealed file (sealed.c), mapped in O(1), or read into memory. */
struct store_load {
    uint64_t max_elements;      /* labels allowed; below the number in the file: as stored */
    bool allow_replace_deleted; /* whatever the file says */
    bool has_space, copy;
    uint16_t space; /* with has_space: whatever the file says */
};
/* `fd` stays the caller's.  NAVMAP_EINVAL: the data file of a directory. */
navmap_status store_load_sealed(int fd, const char *path, const struct store_load *how,
                                struct store **ret_store) NAVMAP_MUST_USE;
/* Is max_elements a limit?  Write lock held. */
bool store_bounded(const struct store *s);
/* Open.  A writer recovers first; a reader recovers if the log is not empty, nobody writes and it
 * has permission, else NAVMAP_ENEEDSRECOVERY. */
navmap_status store_open(const char *path, enum store_mode mode,
                         const struct store_options *options,
                         struct store **ret_store) NAVMAP_MUST_USE;
/* Commit what is staged (writer), checkpoint, release everything.  The handle is gone whatever is
 * returned; a failure means that staged, unacknowledged changes may be lost.  NULL allowed. */
navmap_status store_close(struct store *s);

const struct layout *store_layout(const struct store *s);
bool store_is_writer(const struct store *s);
bool store_in_memory(const struct store *s); /* a private index */
const char *store_path(const struct store *s);
/* Before each call: NAVMAP_ECORRUPT when the file under a private index was cut short or
 * overwritten (sealed.c, X1).  One fstat() where there is such a file, else nothing. */
navmap_status store_check_ground(struct store *s) NAVMAP_MUST_USE;
/* NAVMAP_EFORKED for a writer handle used in a forked child; NAVMAP_OK else.  No system call. */
navmap_status store_check_process(const struct store *s) NAVMAP_MUST_USE;

/* Reading -------------------------------------------------------------------------------------
 *
 * q1  store_view_begin() takes a reference to the current view and follows growth.  Between it and
 *     store_view_end() the view cannot move or vanish.  No system call unless the file grew.
 * q2  e0 = load-acquire view_live(v)->apply_end; entry = load-acquire view_root(v)->entry.
 *     Every id read from the file is used only if 0 < id < view_slots(v) (taken once per query).
 * q3  Copy a row's ids by relaxed loads, then fence(acquire).
 * q4  A slot may enter the result set only if g = load-acquire state has status LIVE; keep g.
 * q5  Re-rank: label and vector -> distance; fence(acquire); reload the state word: if its
 *     generation differs from g's, or it is FREE, drop the slot.  Compare with the KEPT word.
 * q6  fence(acquire); if view_live(v)->apply_begin != e0 remove duplicate labels (keep the smaller
 *     distance); if drops left fewer than k, run again (at most 3 times).
 */
navmap_status store_view_begin(struct store *s, struct view **ret_view) NAVMAP_MUST_USE;
/* warm.c: read the current view's states, rows, upper rows and codes into memory, and tags and
 * vectors with `vectors`; `lock` keeps them there.  `ask`: see view_ask_payload().
 * NAVMAP_ENOMEM when they may not be locked; some may be then. */
navmap_status store_warm(struct store *s, bool vectors, bool lock, bool ask) NAVMAP_MUST_USE;
void store_view_end(struct store *s, struct view *view);

/* The committed vector of a live label: `dim` floats, whatever it is stored as, vsum checked,
 * generation checked.  NAVMAP_ENOTFOUND for unknown and for deleted labels. */
navmap_status store_get(struct store *s, uint64_t label, float *ret_vector) NAVMAP_MUST_USE;
/* Is the label committed?  *ret_status is SLOT_LIVE or SLOT_DELETED, SLOT_FREE when absent. */
navmap_status store_contains(struct store *s, uint64_t label,
                             enum slot_status *ret_status) NAVMAP_MUST_USE;
/* The slots that n labels live in, 0 for those that are not live, by one read transaction: so n is
 * to be some hundreds at most.  *ret_sure = false: the label table cannot be asked, or is ahead of
 * the map; the slots themselves have to be looked through, and ret_slots means nothing. */
navmap_status store_slots(struct store *s, const struct view *v, uint32_t n, const uint64_t *labels,
                          uint32_t *ret_slots, bool *ret_sure) NAVMAP_MUST_USE;
/* What the label table itself says, for holding it against the slots of a view. */
struct store_where {
    uint32_t slot, gen; /* slot 0 = the label is absent */
    bool asked;         /* false: this process cannot ask the table; the rest is nothing */
    bool current;       /* the table is at the view's commit: the two can be compared */
};
/* In a private index `current` is true always, and holds while the write lock is held exclusively.
 * NAVMAP_ECORRUPT: the label's entry is damaged; NAVMAP_EPOISONED: the table is. */
navmap_status store_where(struct store *s, const struct view *view, uint64_t label,
                          struct store_where *ret_where) NAVMAP_MUST_USE;
/* The same, and how many labels the table has.  Cost: O(labels), some 50 ns each. */
navmap_status store_where_all(struct store *s, const struct view *view, uint64_t *ret_n,
                              struct store_where *ret_where) NAVMAP_MUST_USE;
/* Committed labels in slot order, at most `cap` of them; *ret_n is how many there are. */
navmap_status store_labels(struct store *s, bool include_deleted, uint64_t cap,
                           uint64_t *ret_labels, uint64_t *ret_n) NAVMAP_MUST_USE;

/* Writing ------------------------------------------------------------------------------------
 *
 * The write lock is held exclusively between store_write_begin() and store_write_end(), and shared
 * by each item from store_item_enter() to its end; so several threads add at once, and whoever
 * holds it exclusively finds whole items only.  Items are whole: everything that can fail happens
 * before store_item_payload().  After the last item a mutating call ends with store_settle(), which
 * makes it durable in mode full (threads that wait together are committed together).
 */
/* `batch_items`: how many items the call will add in all (chooses logged or direct payloads).
 * NAVMAP_EREADONLY, NAVMAP_EPOISONED, NAVMAP_EFORKED. */
navmap_status store_write_begin(struct store *s, uint64_t batch_items) NAVMAP_MUST_USE;
void store_write_end(struct store *s);
/* For the edit_ accessors: inside an item, or with the write lock held. */
const struct stage *store_edit(const struct store *s);

struct store_found {
    uint32_t slot;  /* 0 = unknown label */
    uint32_t state; /* word */
};
/* What a label means now, staged changes included. */
navmap_status store_find(struct store *s, uint64_t label,
                         struct store_found *ret_found) NAVMAP_MUST_USE;
/* Largest label present (staged included); *ret_any = false when there is none. */
navmap_status store_label_max(struct store *s, bool *ret_any, uint64_t *ret_label) NAVMAP_MUST_USE;

struct store_item {
    /* set by the caller before store_item_enter(), the rest zero: */
    uint64_t label;
    uint64_t batch_items; /* as for store_write_begin() */
    bool replace;         /* a new label takes the place of a deleted item, if there is one */
    /* from store_item_enter(): */
    bool shared;
    uint64_t number; /* of the insertion: feeds the level draw, so no generator state is stored */
    /* from store_item_take(): */
    uint32_t slot, gen;
    uint32_t up;       /* tag.up: first upper cell and level */
    uint32_t level;    /* may be lower than wanted (cell pool), or a reused slot's own */
    uint32_t old_slot; /* the label's former slot, or the replaced item's: DEAD at the end; or 0 */
    uint32_t old_state;
    bool is_new; /* brings a label more */
    bool direct;
    bool fresh; /* slot was never published */
    bool published;
    struct store_item *next; /* storage's */
};
/* Begin an item: lock its label, take the write lock shared, and see that there is room for it in
 * stage and file (committing a full stage, growing the file).  NAVMAP_EPOISONED, NAVMAP_ENOSPC...
 * On success the item is ended by store_item_end() or store_item_abandon(). */
navmap_status store_item_enter(struct store *s, struct store_item *item) NAVMAP_MUST_USE;
/* Decide where it goes: resolve the label (new, or an update of a live or deleted one), check
 * max_elements (NAVMAP_EFULL, hnswlib's sentence first), take a FREE slot or the next one.  On
 * failure nothing is changed; the item is to be abandoned. */
navmap_status store_item_take(struct store *s, uint32_t want_level,
                              struct store_item *item) NAVMAP_MUST_USE;
/* A private index gets room for `items` items, so that none of them makes it move.  Write lock held
 * exclusively.  NAVMAP_ENOMEM, NAVMAP_EFULL: no slot number is left. */
navmap_status store_write_room(struct store *s, uint32_t items) NAVMAP_MUST_USE;
/* The next `n` items of a private index that take a slot get ones that were never used, the i-th of
 * them the one places[i] behind the first; places: each of 0 to n-1 once.  Those that no item comes
 * for stay FREE, for others.  Write lock held exclusively.  NAVMAP_ENOMEM, NAVMAP_EFULL: nothing
 * but the room has changed. */
navmap_status store_slots_order(struct store *s, const uint32_t *places,
                                uint32_t n) NAVMAP_MUST_USE;
/* Both in one, for who holds the write lock exclusively; on failure nothing is left to abandon. */
navmap_status store_item_begin(struct store *s, uint64_t label, uint32_t want_level,
                               struct store_item *ret_item) NAVMAP_MUST_USE;
/* Write tag, code row (NULL when code_scheme is 0) and vector row (vec_stride bytes: dim numbers of
 * the layout's scalar, then zeros).  Afterwards edit_vec(slot) and edit_tag(slot) answer for it,
 * and its rows are empty.  Cannot fail. */
void store_item_payload(struct store *s, struct store_item *item, const void *code,
                        const void *vec_row);
/* A row to be changed: level 0 has M0 ids, upper levels M.  0 = no id; ids are packed first.  Words
 * are stored relaxed: others read them at any time.  At most 2*M0 + level*M rows other than the
 * item's own per item.  Cannot fail.  `level` must be <= the slot's own level.  The slot's node
 * lock is held, or the write lock exclusively, or the slot is the item's own and not yet
 * published. */
_Atomic uint32_t *store_row_edit(struct store *s, uint32_t slot, uint32_t level);
/* Serialise changes of a slot's rows.  One at a time; a leaf. */
void store_node_lock(struct store *s, uint32_t slot);
void store_node_unlock(struct store *s, uint32_t slot);
/* LIVE, for other adders and, in a private index, for searches: after its own rows, before any link
 * to it.  store_item_end() does it if it was not done. */
void store_item_publish(struct store *s, struct store_item *item);
/* Label -> slot, the old slot DEAD, counters; the locks of a shared item are released. */
void store_item_end(struct store *s, struct store_item *item);
/* Give it up.  A shared item: before store_item_payload(), after a failure of store_item_take() or
 * instead of it.  An exclusive one: before the first store_row_edit(). */
void store_item_abandon(struct store *s, struct store_item *item);

/* The next root: counters as staged, and the entry point, level<<32 | slot; 0 = empty graph.
 * Inside an item or with the write lock held; the other for who is neither. */
struct disk_root store_root(struct store *s);
struct disk_root store_root_between(struct store *s);
/* Under the entry lock, or with the write lock held exclusively. */
void store_entry_set(struct store *s, uint32_t slot, uint32_t level);
/* So many DELETED slots are named by no row of a LIVE one: searches need not reckon with them.
 * Write lock held exclusively. */
void store_apart_set(struct store *s, uint64_t n);
/* One thread at a time decides what the entry is.  Taken inside an item, before any node's lock. */
void store_entry_lock(struct store *s);
void store_entry_unlock(struct store *s);

/* LIVE <-> DELETED.  Write lock held exclusively.
 * NAVMAP_ENOTFOUND, NAVMAP_EDELETED, NAVMAP_ENOTDELETED. */
navmap_status store_mark(struct store *s, uint64_t label, bool deleted) NAVMAP_MUST_USE;
/* Forget a live label and free its slot, in a flat index.  Write lock held exclusively.
 * NAVMAP_ENOTFOUND, NAVMAP_ENOMEM. */
navmap_status store_remove(struct store *s, uint64_t label) NAVMAP_MUST_USE;
/* Set max_elements.  Write lock held exclusively.  NAVMAP_EINVAL: fewer than there are labels. */
navmap_status store_resize(struct store *s, uint64_t max_elements) NAVMAP_MUST_USE;
/* The recall curve of `curve`, whose other fields are not used.  Write lock held exclusively. */
navmap_status store_curve_set(struct store *s, const struct disk_root *curve) NAVMAP_MUST_USE;

/* Durable and visible?  Mode full: commits everything staged up to now (or joins the commit of
 * another thread) and checkpoints when the log is long.  Mode manual: returns at once.
 * Write lock not held. */
navmap_status store_settle(struct store *s) NAVMAP_MUST_USE;
/* Between the items of a long call, no lock held: a checkpoint when the log is long.  A full disk
 * is not yet a failure: the commit will say so if it comes to that. */
navmap_status store_relieve(struct store *s) NAVMAP_MUST_USE;
/* Commit, then checkpoint, in any mode. */
navmap_status store_flush(struct store *s) NAVMAP_MUST_USE;

/* Sweep: DEAD -> FREE(gen+1), when no row and no entry names the slot any more ---------------
 *
 * store_sweep_begin() fixes D, the slots DEAD at this commit boundary (commits the stage first).
 * The engine then walks slots [store_sweep_cursor, nslots) in portions, rewrites by
 * store_row_edit() every row that names a member, moves the entry off D, and advances the cursor.
 * When the cursor has passed the last slot, store_sweep_end() frees D in the next commit (at once
 * in a private index).  Write lock held exclusively in all of them.  A crash loses only the
 * cursor. */
/* With `even_if_none` the walk is made although D is empty. */
navmap_status store_sweep_begin(struct store *s, bool even_if_none,
                                uint64_t *ret_dead) NAVMAP_MUST_USE;
bool store_sweep_running(const struct store *s);
bool store_sweep_member(const struct store *s, uint32_t slot);
/* The same as a bitmap over *ret_slots slots; good until the sweep ends. */
const uint64_t *store_sweep_members(const struct store *s, uint32_t *ret_slots);
uint32_t store_sweep_cursor(const struct store *s);
void store_sweep_advance(struct store *s, uint32_t next_slot);
/* Room for editing the rows of one slot at all its levels; commits when the stage is full. */
navmap_status store_sweep_room(struct store *s, uint32_t rows) NAVMAP_MUST_USE;
navmap_status store_sweep_end(struct store *s) NAVMAP_MUST_USE;

/* Facts ---------------------------------------------------------------------------------------*/
struct store_stats {
    uint64_t generation, last_lsn, ckpt_lsn, applied_lsn; /* lsns: 0 on a reader beside a writer */
    uint64_t n_live, n_deleted, n_dead, n_free, nslots, nchunks, nuppers;
    uint64_t max_elements, inserted;
    uint32_t entry_slot, entry_level, slots_per_chunk;
    uint64_t pending;    /* staged items (writer) */
    uint64_t wal_bytes;  /* log not yet checkpointed */
    uint64_t ckpt_bytes; /* the trigger */
    uint64_t data_file_bytes, data_allocated_bytes, lmdb_allocated_bytes;
    uint64_t state_bytes, row_bytes, upper_bytes, tag_bytes, code_bytes, vec_bytes; /* mapped */
    bool writer_held;    /* somebody holds W */
    uint32_t writer_pid; /* 0 = unknown */
    bool poisoned;
    bool in_memory;      /* a private index: all else about files and logs is 0 */
    bool bounded;        /* max_elements is a limit */
    bool mapped;         /* a private index over a sealed file: data_ bytes are that file's ... */
    uint32_t file_flags; /* ... and so is this, enum header_flag */
};
navmap_status store_stats_read(struct store *s, struct store_stats *ret_stats) NAVMAP_MUST_USE;

/* One finding of verify.  `section` is e.g. "header", "root", "state", "row", "upper", "payload",
 * "labels", "log", "counters"; slot 0 and offset UINT64_MAX mean "not of one slot / one offset". */
struct store_finding {
    bool warning;
    const char *section;
    uint32_t slot;
    uint64_t offset;
    const char *message;
};
typedef void store_report(void *ctx, const struct store_finding *finding);
struct store_verify_counts {
    uint64_t slots, rows, uppers, payloads, labels, log_records; /* looked at */
    uint64_t damaged, warnings;
};
/* Check an index from outside, beside a live writer if there is one.  quick: what open checks.
 * Nothing is recovered or written; if a crash left a log, the state that its replay will make is
 * checked.  NAVMAP_OK when the check ran (look at counts->damaged), else why it could not. */
navmap_status store_verify(const char *path, bool quick, store_report *report, void *ctx,
                           struct store_verify_counts *ret_counts) NAVMAP_MUST_USE;
/* The same; at the end of a full check that got so far, `look` sees the mapping that was checked:
 * every slot, row and upper cell in its bounds is sound or was reported.  Beside a writer it
 * changes meanwhile; `look` is called again when the ground changed under it. */
typedef void store_look(void *ctx, const struct view *view);
/* How far it is: `done` of `total`, now and then; nonzero = stop, NAVMAP_EINTERRUPTED. */
typedef int store_progress(void *ctx, uint64_t done, uint64_t total);
struct store_verify_how {
    bool quick;
    store_report *report; /* these two with ctx; NULL allowed */
    store_look *look;
    void *ctx;
    store_progress *progress; /* NULL allowed */
    void *progress_ctx;
};
navmap_status store_verify_look(const char *path, const struct store_verify_how *how,
                                struct store_verify_counts *ret_counts) NAVMAP_MUST_USE;
/* All sums of a sealed file, over a store that store_load_sealed() has just made of it, mapped and
 * not yet changed.  Fills damaged, slots and payloads. */
navmap_status store_verify_sealed(struct store *s, const struct store_verify_how *how,
                                  struct store_verify_counts *ret_counts) NAVMAP_MUST_USE;
/* The facts of an index from outside, as store_verify sees it: nothing is opened for good,
 * recovered or written.  NAVMAP_ECORRUPT when what every open checks does not hold. */
navmap_status store_inspect(const char *path, struct layout *ret_layout,
                            struct store_stats *ret_stats) NAVMAP_MUST_USE;

/* Tests and torture ---------------------------------------------------------------------------*/
/* Called with the write lock held, just before C3, with the lsn about to be committed. */
typedef void store_commit_observer(void *ctx, struct store *s, uint64_t lsn);
void store_observe_commits(struct store *s, store_commit_observer *observer, void *ctx);
/* xxh3 over all published cells (and so the label map).  `staged`: as it will be after the commit
 * that is about to happen (observer), else as it is in the view. */
uint64_t store_state_hash(struct store *s, bool staged);
uint64_t store_last_lsn(const struct store *s);

#endif
