/* wal.h -- the LMDB environment of an index: commit log, meta records, and its life in a process.
 *
 * LMDB is the one place where a commit becomes durable, so its rules are this room's rules:
 *  A1  One environment per wal.mdb and process, in a refcounted registry keyed by (dev, ino).
 *      LMDB loses its locks when a second one is opened and closed.  (wal_peek is the exception:
 *      MDB_NOLOCK touches no lock file.)
 *  A2  Write transactions only by the holder of W.  The env lock covers a write transaction AND
 *      the update of memory's copy of meta.state after it.
 *  A3  Nothing is decided on a read transaction alone: a writer re-reads meta.state, and each
 *      label's old entry, inside its write transaction.
 *  A4  Read transactions live for one look-up (or some hundreds in turn, or one verify), never
 *      across user code.
 *  A5  LMDB's values are 2-byte aligned: always memcpy.
 *  A6  LMDB's assertions jump out to the guard of the call.  Its process-shared mutex may then
 *      stay owned by a living thread, so the environment is refused until the process exits.
 *  A7  Default sync mode only; never MDB_WRITEMAP, NOSYNC, NOMETASYNC, MAPASYNC.
 */
#ifndef NAVMAP_STORAGE_WAL_H
#define NAVMAP_STORAGE_WAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/status.h"

#define WAL_FILE "wal.mdb"
#define WAL_COPY_TAIL ".new" /* of a copy that is to take its place */
#define WAL_CREATE_BYTES (256u << 10)
#define WAL_SLICE_FRAMES 8192u /* deleted by one transaction at most */
#define WAL_SLACK_PAGES 48u    /* for LMDB's own lists, in every write transaction */

struct MDB_txn;
struct wal;

/* meta "id" */
struct wal_id {
    uint8_t uuid[16];
    uint64_t instance;
    uint32_t format_major, format_minor;
    uint32_t frame_bytes; /* of every frame but a record's last */
};

/* meta "state" */
struct wal_state {
    uint64_t generation, ckpt_lsn, last_lsn;
    uint64_t wal_bytes; /* of the records in (ckpt_lsn, last_lsn] */
};

/* Make DIR/wal.mdb with empty tables, preallocated and synced. */
navmap_status wal_create(const char *dir, struct wal_id *id /* frame_bytes is set */,
                         const struct wal_state *state) NAVMAP_MUST_USE;
/* Read id and state without the lock table.  Only while R is held and W is free. */
navmap_status wal_peek(const char *dir, struct wal_id *ret_id,
                       struct wal_state *ret_state) NAVMAP_MUST_USE;

/* The same environment for reading more: not in the registry, without lock table.  As above, from
 * open to close; wal_txn_read and the wal_get_ and labels_ readers work on it. */
navmap_status wal_peek_open(const char *dir, struct wal **ret_wal) NAVMAP_MUST_USE;
void wal_peek_close(struct wal *w); /* NULL allowed */

/* The environment of DIR, opened or shared.  `writer`: it must be writable.  While R is held.
 * NAVMAP_EREADONLY where the lock table cannot be written: then look labels up by scan. */
navmap_status wal_acquire(const char *dir, bool writer, struct wal **ret_wal) NAVMAP_MUST_USE;
void wal_release(struct wal *w); /* NULL allowed */
/* After a failed sync: the next wal_acquire(writer) reopens the environment. */
void wal_retire(struct wal *w);
/* Make what a killed writer left in the page cache durable: mdb_env_sync(force). */
navmap_status wal_sync(struct wal *w) NAVMAP_MUST_USE;
/* Clear dead readers' slots. */
navmap_status wal_reader_check(struct wal *w) NAVMAP_MUST_USE;
/* Have blocks behind the first `bytes` of wal.mdb, so that a checkpoint finds room. */
navmap_status wal_reserve(struct wal *w, uint64_t bytes) NAVMAP_MUST_USE;
/* Have blocks for the next write transaction to make `pages` pages dirty, beyond what LMDB can
 * reuse.  LMDB reports a short write on a full disk as EIO, whose outcome would have to be taken
 * for unknown; so the room is taken first.  No transaction of this thread is open.
 * NAVMAP_ENOSPC: nothing happened. */
navmap_status wal_make_room(struct wal *w, uint64_t pages) NAVMAP_MUST_USE;
uint64_t wal_allocated(const struct wal *w);
/* Has wal.mdb been removed under us? */
bool wal_removed(const struct wal *w);
uint32_t wal_frame_bytes(const struct wal *w);

/* Put a copy without free pages in the place of wal.mdb, if no other handle of this process and no
 * other process has it open.  The env lock, R and W are held, and no transaction of this thread.
 * NAVMAP_EPOISONED: the environment is closed.  Else it is as it was, whatever failed. */
navmap_status wal_shrink(struct wal *w, const char *dir, bool *ret_shrunk) NAVMAP_MUST_USE;

void wal_lock(struct wal *w); /* the env lock, A2 */
void wal_unlock(struct wal *w);

struct wal_txn {
    struct wal *wal;
    struct MDB_txn *txn;
    bool write;
    bool full; /* a call failed for lack of map: abort, wal_enlarge, begin again */
};

/* A write transaction; the env lock is held by the caller. */
navmap_status wal_txn_write(struct wal *w, struct wal_txn *ret_txn) NAVMAP_MUST_USE;
/* A read transaction from the pool.  Short (A4). */
navmap_status wal_txn_read(struct wal *w, struct wal_txn *ret_txn) NAVMAP_MUST_USE;
/* Commit a write transaction: THE commit point.  NAVMAP_ENOSPC: nothing happened (or t->full).
 * Any other failure: the outcome is unknown. */
navmap_status wal_txn_commit(struct wal_txn *t) NAVMAP_MUST_USE;
void wal_txn_abort(struct wal_txn *t); /* also ends a read; idempotent */
/* Double the map; no transaction of this process may be open. */
navmap_status wal_enlarge(struct wal *w) NAVMAP_MUST_USE;

navmap_status wal_get_id(struct wal_txn *t, struct wal_id *ret_id) NAVMAP_MUST_USE;
navmap_status wal_get_state(struct wal_txn *t, struct wal_state *ret_state) NAVMAP_MUST_USE;
navmap_status wal_put_state(struct wal_txn *t, const struct wal_state *state) NAVMAP_MUST_USE;
/* Append one commit record, cut into frames. */
navmap_status wal_put_record(struct wal_txn *t, uint64_t lsn, const uint8_t *bytes,
                             size_t nbytes) NAVMAP_MUST_USE;
/* Gather the record of `lsn` into a malloc'd buffer (its own sum is checked by record.c).
 * NAVMAP_ECORRUPT when frames are missing, out of order or larger than `max_bytes` in all. */
navmap_status wal_get_record(struct wal_txn *t, uint64_t lsn, size_t max_bytes, uint8_t **ret_bytes,
                             size_t *ret_nbytes) NAVMAP_MUST_USE;
/* Walk all frames, those left over by a checkpoint too: key, order, length, no lsn above `last`.
 * NAVMAP_ECORRUPT names the first that is wrong. */
navmap_status wal_check_frames(struct wal_txn *t, uint64_t last) NAVMAP_MUST_USE;
/* Delete at most `max_frames` frames with lsn <= `lsn`; *ret_more: some are left. */
navmap_status wal_delete_upto(struct wal_txn *t, uint64_t lsn, uint32_t max_frames,
                              bool *ret_more) NAVMAP_MUST_USE;

#endif
