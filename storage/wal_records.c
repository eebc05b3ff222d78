/* wal_records.c -- what stands in the log and meta tables: commit records cut into frames of one
 * LMDB overflow page each, the identity, and the one state record that moves commits forward.
 */
#include <lmdb.h>
#include <stdlib.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/io.h"
#include "storage/wal.h"
#include "storage/wal_guard.h"
#include "storage/wal_records.h"

/* meta "id", 48 bytes */
struct disk_id {
    uint8_t uuid[16];                    /*  0 */
    uint64_t instance;                   /* 16 */
    uint32_t format_major, format_minor; /* 24, 28 */
    uint32_t frame_bytes, reserved;      /* 32, 36 */
    uint64_t sum;                        /* 40: xxh3_64(bytes 0..39) */
};
_Static_assert(sizeof(struct disk_id) == 48, "disk_id is frozen");

/* meta "state", 40 bytes */
struct disk_state {
    uint64_t generation, ckpt_lsn, last_lsn, wal_bytes; /* 0, 8, 16, 24 */
    uint64_t sum;                                       /* 32: xxh3_64(bytes 0..31) */
};
_Static_assert(sizeof(struct disk_state) == 40, "disk_state is frozen");

static navmap_status meta_get(struct wal_txn *t, const char *name, void *ret_bytes, size_t nbytes)
{
    MDB_val key = {strlen(name), (void *)(uintptr_t)name}, value;
    int rc = mdb_get(t->txn, wal_meta_dbi(t->wal), &key, &value);
    if (rc != 0)
        return wal_fail(t->wal, t, rc, "reading meta of");
    if (value.mv_size != nbytes)
        return fail(NAVMAP_ECORRUPT, "%s: meta.%s: expected %zu bytes, found %zu", wal_path(t->wal),
                    name, nbytes, value.mv_size);
    memcpy(ret_bytes, value.mv_data, nbytes);
    return NAVMAP_OK;
}

static navmap_status check_sum(struct wal_txn *t, const char *name, uint64_t expected,
                               uint64_t found)
{
    if (expected == found)
        return NAVMAP_OK;
    return fail(NAVMAP_ECORRUPT, "%s: meta.%s: checksum expected %016llx, found %016llx",
                wal_path(t->wal), name, (unsigned long long)expected, (unsigned long long)found);
}

static navmap_status get_id(struct wal_txn *t, struct wal_id *ret_id)
{
    struct disk_id d;
    TRY(meta_get(t, "id", &d, sizeof d));
    TRY(check_sum(t, "id", checksum64(&d, 40, 0), d.sum));
    *ret_id = (struct wal_id){.instance = d.instance,
                              .format_major = d.format_major,
                              .format_minor = d.format_minor,
                              .frame_bytes = d.frame_bytes};
    memcpy(ret_id->uuid, d.uuid, 16);
    return NAVMAP_OK;
}

navmap_status wal_get_id(struct wal_txn *t, struct wal_id *ret_id)
{
    return WAL_GUARDED(t->wal, get_id(t, ret_id));
}

navmap_status wal_put_id(struct wal_txn *t, const struct wal_id *id)
{
    struct disk_id d = {.instance = id->instance,
                        .format_major = id->format_major,
                        .format_minor = id->format_minor,
                        .frame_bytes = id->frame_bytes};
    memcpy(d.uuid, id->uuid, 16);
    d.sum = checksum64(&d, 40, 0);
    MDB_val key = {2, (void *)(uintptr_t) "id"}, value = {sizeof d, &d};
    return wal_fail(t->wal, t, mdb_put(t->txn, wal_meta_dbi(t->wal), &key, &value, 0),
                    "writing meta of");
}

static navmap_status get_state(struct wal_txn *t, struct wal_state *ret_state)
{
    struct disk_state d;
    TRY(meta_get(t, "state", &d, sizeof d));
    TRY(check_sum(t, "state", checksum64(&d, 32, 0), d.sum));
    if (d.ckpt_lsn > d.last_lsn)
        return fail(NAVMAP_ECORRUPT, "%s: meta.state: checkpoint lsn %llu above last lsn %llu",
                    wal_path(t->wal), (unsigned long long)d.ckpt_lsn,
                    (unsigned long long)d.last_lsn);
    *ret_state = (struct wal_state){d.generation, d.ckpt_lsn, d.last_lsn, d.wal_bytes};
    return NAVMAP_OK;
}

navmap_status wal_get_state(struct wal_txn *t, struct wal_state *ret_state)
{
    return WAL_GUARDED(t->wal, get_state(t, ret_state));
}

static navmap_status put_state(struct wal_txn *t, const struct wal_state *state)
{
    struct disk_state d = {state->generation, state->ckpt_lsn, state->last_lsn, state->wal_bytes,
                           0};
    d.sum = checksum64(&d, 32, 0);
    MDB_val key = {5, (void *)(uintptr_t) "state"}, value = {sizeof d, &d};
    return wal_fail(t->wal, t, mdb_put(t->txn, wal_meta_dbi(t->wal), &key, &value, 0),
                    "writing meta of");
}

navmap_status wal_put_state(struct wal_txn *t, const struct wal_state *state)
{
    return WAL_GUARDED(t->wal, put_state(t, state));
}

/* Key of a frame: big-endian lsn and sequence number, so that LMDB's order is the log's. */
static void frame_key(uint8_t key[12], uint64_t lsn, uint32_t seq)
{
    for (int i = 0; i < 8; i++)
        key[i] = (uint8_t)(lsn >> (56 - 8 * i));
    for (int i = 0; i < 4; i++)
        key[8 + i] = (uint8_t)(seq >> (24 - 8 * i));
}

static uint64_t key_lsn(const uint8_t *key)
{
    uint64_t lsn = 0;
    for (int i = 0; i < 8; i++)
        lsn = lsn << 8 | key[i];
    return lsn;
}

static uint32_t key_seq(const uint8_t *key)
{
    return (uint32_t)key[8] << 24 | (uint32_t)key[9] << 16 | (uint32_t)key[10] << 8 | key[11];
}

static navmap_status put_record(struct wal_txn *t, uint64_t lsn, const uint8_t *bytes,
                                size_t nbytes)
{
    size_t frame = wal_frame_bytes(t->wal);
    uint32_t seq = 0;
    for (size_t done = 0; done < nbytes; seq++) {
        uint8_t name[12];
        frame_key(name, lsn, seq);
        size_t n = nbytes - done < frame ? nbytes - done : frame;
        MDB_val key = {sizeof name, name}, value = {n, NULL};
        int rc = mdb_put(t->txn, wal_log_dbi(t->wal), &key, &value, MDB_APPEND | MDB_RESERVE);
        if (rc != 0)
            return wal_fail(t->wal, t, rc, "appending to the log of");
        memcpy(value.mv_data, bytes + done, n);
        done += n;
        STORE_KILL_POINT(C3_FRAME);
    }
    return NAVMAP_OK;
}

navmap_status wal_put_record(struct wal_txn *t, uint64_t lsn, const uint8_t *bytes, size_t nbytes)
{
    return WAL_GUARDED(t->wal, put_record(t, lsn, bytes, nbytes));
}

/* Add up the frames of one lsn, or copy them when `into` is not NULL. */
static navmap_status walk_record(struct wal_txn *t, MDB_cursor *cursor, uint64_t lsn,
                                 size_t max_bytes, uint8_t *into, size_t *ret_nbytes)
{
    uint8_t name[12];
    frame_key(name, lsn, 0);
    MDB_val key = {sizeof name, name}, value;
    size_t total = 0, frame = wal_frame_bytes(t->wal);
    bool last_seen = false;
    uint32_t seq = 0;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT), seq++) {
        if (key.mv_size != 12)
            return fail(NAVMAP_ECORRUPT, "%s: log key of %zu bytes, expected 12", wal_path(t->wal),
                        key.mv_size);
        if (key_lsn(key.mv_data) != lsn)
            break;
        if (key_seq(key.mv_data) != seq || last_seen || value.mv_size > frame ||
            value.mv_size > max_bytes - total)
            return fail(NAVMAP_ECORRUPT,
                        "%s: log record %llu: frame %u is out of order or too long",
                        wal_path(t->wal), (unsigned long long)lsn, seq);
        last_seen = value.mv_size < frame;
        if (into)
            memcpy(into + total, value.mv_data, value.mv_size);
        total += value.mv_size;
    }
    if (rc != 0 && rc != MDB_NOTFOUND)
        return wal_fail(t->wal, t, rc, "reading the log of");
    if (total == 0)
        return fail(NAVMAP_ECORRUPT, "%s: log record %llu is missing", wal_path(t->wal),
                    (unsigned long long)lsn);
    *ret_nbytes = total;
    return NAVMAP_OK;
}

static navmap_status get_record(struct wal_txn *t, uint64_t lsn, size_t max_bytes,
                                uint8_t **ret_bytes, size_t *ret_nbytes)
{
    MDB_cursor *cursor = NULL;
    TRY(wal_fail(t->wal, t, mdb_cursor_open(t->txn, wal_log_dbi(t->wal), &cursor),
                 "reading the log of"));
    size_t n = 0;
    uint8_t *bytes = NULL;
    navmap_status status = walk_record(t, cursor, lsn, max_bytes, NULL, &n);
    if (status == NAVMAP_OK) {
        bytes = malloc(n);
        status = bytes ? walk_record(t, cursor, lsn, n, bytes, &n)
                       : fail(NAVMAP_ENOMEM, "%s: no memory for log record %llu of %zu bytes",
                              wal_path(t->wal), (unsigned long long)lsn, n);
    }
    mdb_cursor_close(cursor);
    if (status != NAVMAP_OK) {
        free(bytes);
        return status;
    }
    *ret_bytes = bytes;
    *ret_nbytes = n;
    return NAVMAP_OK;
}

navmap_status wal_get_record(struct wal_txn *t, uint64_t lsn, size_t max_bytes, uint8_t **ret_bytes,
                             size_t *ret_nbytes)
{
    return WAL_GUARDED(t->wal, get_record(t, lsn, max_bytes, ret_bytes, ret_nbytes));
}

static navmap_status check_frame(struct wal_txn *t, const MDB_val *key, const MDB_val *value,
                                 uint64_t last)
{
    if (key->mv_size != 12)
        return fail(NAVMAP_ECORRUPT, "%s: log key of %zu bytes, expected 12", wal_path(t->wal),
                    key->mv_size);
    uint64_t lsn = key_lsn(key->mv_data);
    if (lsn > last)
        return fail(NAVMAP_ECORRUPT, "%s: log frame of lsn %llu, expected at most %llu",
                    wal_path(t->wal), (unsigned long long)lsn, (unsigned long long)last);
    if (value->mv_size == 0 || value->mv_size > wal_frame_bytes(t->wal))
        return fail(NAVMAP_ECORRUPT,
                    "%s: log record %llu: frame %u: expected 1..%u bytes, found %zu",
                    wal_path(t->wal), (unsigned long long)lsn, key_seq(key->mv_data),
                    wal_frame_bytes(t->wal), value->mv_size);
    return NAVMAP_OK;
}

static navmap_status check_frames(struct wal_txn *t, uint64_t last)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    TRY(wal_fail(t->wal, t, mdb_cursor_open(t->txn, wal_log_dbi(t->wal), &cursor),
                 "reading the log of"));
    navmap_status status = NAVMAP_OK;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == 0 && status == NAVMAP_OK; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT))
        status = check_frame(t, &key, &value, last);
    mdb_cursor_close(cursor);
    if (status != NAVMAP_OK)
        return status;
    return wal_fail(t->wal, t, rc == MDB_NOTFOUND ? 0 : rc, "reading the log of");
}

navmap_status wal_check_frames(struct wal_txn *t, uint64_t last)
{
    return WAL_GUARDED(t->wal, check_frames(t, last));
}

static navmap_status delete_upto(struct wal_txn *t, uint64_t lsn, uint32_t max_frames,
                                 bool *ret_more)
{
    MDB_cursor *cursor = NULL;
    TRY(wal_fail(t->wal, t, mdb_cursor_open(t->txn, wal_log_dbi(t->wal), &cursor),
                 "cutting the log of"));
    MDB_val key, value;
    uint32_t deleted = 0;
    *ret_more = false;
    int rc;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)) == 0) {
        if (key.mv_size == 12 && key_lsn(key.mv_data) > lsn)
            break;
        if (deleted == max_frames) {
            *ret_more = true;
            break;
        }
        if ((rc = mdb_cursor_del(cursor, 0)) != 0)
            break;
        deleted++;
    }
    mdb_cursor_close(cursor);
    return wal_fail(t->wal, t, rc == MDB_NOTFOUND ? 0 : rc, "cutting the log of");
}

navmap_status wal_delete_upto(struct wal_txn *t, uint64_t lsn, uint32_t max_frames, bool *ret_more)
{
    return WAL_GUARDED(t->wal, delete_upto(t, lsn, max_frames, ret_more));
}
