/* verify.h -- what the files of the check share: the ground it stands on, and how a finding becomes
 * certain.
 *
 * G1  Nothing is written, no lock is held but R shared, and that for moments only: a writer may
 *     come, go or die at any time.  What the check stands on is its "ground":
 *       STILL     nobody writes, the log is empty: the file is the committed state.
 *       LIVE      somebody writes: the file is the committed state whenever no apply is under way.
 *       REPLAYED  nobody writes, the log is not empty: the file may hold part of the last commits
 *                 (or, after a power cut, of any since the checkpoint).  What counts is the state
 *                 that recovery will make: the log is replayed into a private copy of the map.
 * G2  A suspicion becomes a finding only if it holds during a moment (struct moment): no apply
 *     began or ended while the check looked, and the ground was the same.  The apply counters of
 *     LIVE in the shared file tell; every opener that recovers and every writer moves them.
 * G3  When the ground changes it is opened anew and the walk goes on where it was: all checks are
 *     of the state now, none of a former one.
 * G4  Ids and cells read from the file are used below v->slots and v->cells only; the arrays here
 *     have that many entries.
 */
#ifndef NAVMAP_STORAGE_VERIFY_H
#define NAVMAP_STORAGE_VERIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "storage/finding.h"
#include "storage/lock.h"
#include "storage/store.h"
#include "storage/view.h"
#include "storage/wal.h"

enum ground { GROUND_STILL, GROUND_LIVE, GROUND_REPLAYED };

struct verify {
    const char *path;
    struct store_verify_how how;
    bool strict;          /* damage of the ground fails the call (store_inspect) */
    uint64_t done, total; /* of the walks, for the caller's progress function */
    struct store_verify_counts counts;
    bool stop; /* damage beyond which nothing can be checked was reported */

    struct lock lock;
    enum ground ground;
    struct view *file; /* the data file, shared: LIVE words and growth are read here */
    struct view *view; /* what is checked: `file`, or a private copy with the log replayed */
    uint64_t begin;    /* file's apply_begin when the ground was opened (STILL, REPLAYED) */
    struct wal_id id;
    struct wal_state state; /* when the ground was opened */
    bool have_state;        /* LMDB could be read */
    char unread[400];       /* why not, yet to be reported; "" = nothing to report */
    bool writer_stuck;      /* an apply never ended: what it may explain is not reported */

    struct wal *wal;    /* LIVE: the shared environment; else a peek, while R is held */
    struct wal_txn txn; /* open iff txn_open */
    bool txn_open;
    struct timespec txn_since;

    bool root_sound;
    uint32_t slots, cells; /* entries in the arrays below */
    uint32_t nslots;       /* where the walk over slots ends: those known when it began */
    uint32_t *owner;       /* [cells] the slot that was seen to own an upper cell */
    uint32_t *stamp;       /* [slots] last row that named the slot, for duplicates */
    uint32_t mark;
    uint64_t zeros_end; /* of the range that is to be zero */
    uint64_t *bad;      /* bitmap [slots]: its payload is damaged; tag.up is not to be trusted */
    uint64_t *labelled; /* bitmap [slots]: a label leads to it */
};

/* verify_ground.c */
navmap_status verify_ground_open(struct verify *v) NAVMAP_MUST_USE;
void verify_ground_close(struct verify *v);
/* Arrays of the view's size; views and arrays only grow. */
navmap_status verify_room(struct verify *v) NAVMAP_MUST_USE;
/* A read transaction on the log and the labels.  Beside a writer a new one at each call; with no
 * writer one that is kept for some milliseconds, with R held.  *ret_changed: somebody became
 * the writer; nothing was opened, the ground must be opened anew. */
navmap_status verify_txn(struct verify *v, bool *ret_changed) NAVMAP_MUST_USE;
void verify_txn_end(struct verify *v);

struct moment {
    uint64_t begin;
    bool held; /* an apply is under way: nothing is certain now */
};
/* G2, G3: the ground as it is now (opened anew if it changed), growth followed. */
navmap_status verify_moment_begin(struct verify *v, struct moment *ret_moment) NAVMAP_MUST_USE;
bool verify_moment_held(const struct verify *v, const struct moment *moment);

/* verify_replay.c: a private copy of `file` with the records (ckpt_lsn, last_lsn] replayed.  Uses
 * the open transaction.  NAVMAP_ECORRUPT: the log, or what it relies on, is damaged. */
navmap_status verify_replay(struct verify *v, struct view *file,
                            struct view **ret_view) NAVMAP_MUST_USE;

/* verify.c */
/* Is the thing sound?  On false *f is filled; slot and offset may be left as they come. */
typedef bool verify_check(struct verify *v, uint64_t what, struct finding *f);
/* Run a check; report its finding if it is certain. */
navmap_status verify_settle(struct verify *v, verify_check *check, uint64_t what) NAVMAP_MUST_USE;
void verify_emit(struct verify *v, bool warning, const struct finding *f);
/* One slot or label further.  NAVMAP_EINTERRUPTED. */
navmap_status verify_step(struct verify *v) NAVMAP_MUST_USE;
/* A failed call that tells of damage becomes a finding, with the call's sentence, and sets
 * v->stop; any other failure is passed on. */
navmap_status verify_damage(struct verify *v, navmap_status status, const char *section,
                            uint64_t offset) NAVMAP_MUST_USE;

/* verify_cells.c: the file */
navmap_status verify_root(struct verify *v) NAVMAP_MUST_USE; /* and LIVE, and the zeros around */
navmap_status verify_cells(struct verify *v) NAVMAP_MUST_USE;
/* verify_labels.c: LMDB */
navmap_status verify_log(struct verify *v) NAVMAP_MUST_USE;
navmap_status verify_labels(struct verify *v) NAVMAP_MUST_USE;

static inline bool bit_test(const uint64_t *bits, uint32_t i)
{
    return bits[i >> 6] >> (i & 63) & 1;
}
static inline void bit_set(uint64_t *bits, uint32_t i, bool value)
{
    uint64_t one = UINT64_C(1) << (i & 63);
    bits[i >> 6] = value ? bits[i >> 6] | one : bits[i >> 6] & ~one;
}

/* Slots that may be named now: below ROOT's extent, and below what is mapped and has room (G4). */
static inline uint32_t verify_extent_slots(const struct verify *v)
{
    uint32_t n = extent_slots(view_load64(&view_root(v->view)->extent, memory_order_acquire));
    return n < v->slots ? n : v->slots;
}

#endif
