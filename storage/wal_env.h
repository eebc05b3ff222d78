/* wal_env.h -- struct wal, for wal.c (its life) and wal_txn.c (its transactions) only. */
#ifndef NAVMAP_STORAGE_WAL_ENV_H
#define NAVMAP_STORAGE_WAL_ENV_H

#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

#define WAL_READ_POOL 8u

struct wal {
    struct wal *next; /* registry */
    uint64_t dev, ino;
    uint64_t epoch; /* fork_epoch() at open: an inherited environment is abandoned, not closed */
    uint32_t refs;
    char *path;
    MDB_env *env;
    MDB_dbi meta, log, labels[2];
    uint32_t frame_bytes;
    bool read_only;
    bool retired; /* a sync failed: reopen before the next writer */
    _Atomic bool broken;
    pthread_mutex_t env_lock; /* A2 */
    pthread_rwlock_t gate;    /* shared: a transaction is open; exclusive: remapping */
    pthread_mutex_t pool_lock;
    MDB_txn *pool[WAL_READ_POOL];
    uint32_t n_pool;
};

/* mdb_txn_begin for reading.  A full reader table is first cleared of processes that were killed:
 * nobody else does that while there is no writer. */
int wal_begin_read(MDB_env *env, MDB_txn **ret_txn);
/* wal.c, for wal_shrink.c, which closes and opens the environment under the gate, held exclusively.
 * No transaction is open; pooled ones are ended. */
void wal_env_shut(struct wal *w);
navmap_status wal_env_open(struct wal *w, bool writer) NAVMAP_MUST_USE;
void wal_registry_lock(void);
void wal_registry_unlock(void);
/* Bytes of the pages that LMDB's meta page counts, and of the file. */
navmap_status wal_length(const struct wal *w, uint64_t *ret_need,
                         uint64_t *ret_size) NAVMAP_MUST_USE;

#endif
