/* wal_records.h -- what wal.c and wal_records.c share and nobody else needs. */
#ifndef NAVMAP_STORAGE_WAL_RECORDS_H
#define NAVMAP_STORAGE_WAL_RECORDS_H

#include <lmdb.h>

#include "storage/wal.h"

navmap_status wal_put_id(struct wal_txn *t, const struct wal_id *id) NAVMAP_MUST_USE;
MDB_dbi wal_meta_dbi(const struct wal *w);
MDB_dbi wal_log_dbi(const struct wal *w);

#endif
