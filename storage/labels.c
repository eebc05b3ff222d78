/* labels.c -- the label table inside a transaction.  Keys are native u64 (MDB_INTEGERKEY). */
#include "storage/labels.h"

#include <lmdb.h>
#include <string.h>

#include "storage/checksum.h"
#include "storage/io.h"
#include "storage/wal_guard.h"

/* A label's value, 12 bytes: 2-byte aligned in LMDB, so always copied. */
struct disk_label {
    uint32_t slot, gen; /* 0, 4 */
    uint32_t check;     /* 8: low half of xxh3_64(label, slot, gen; seed = low half of uuid) */
};
_Static_assert(sizeof(struct disk_label) == 12, "disk_label is frozen");

static uint32_t label_check(uint64_t label, uint32_t slot, uint32_t gen, uint64_t uuid_low)
{
    uint8_t bytes[16];
    memcpy(bytes, &label, 8);
    memcpy(bytes + 8, &slot, 4);
    memcpy(bytes + 12, &gen, 4);
    return (uint32_t)checksum64(bytes, sizeof bytes, uuid_low);
}

static bool label_read(const MDB_val *value, uint64_t label, uint64_t uuid_low,
                       struct label_entry *ret_entry)
{
    struct disk_label d = {0, 0, 0};
    if (value->mv_size == sizeof d)
        memcpy(&d, value->mv_data, sizeof d);
    *ret_entry = (struct label_entry){d.slot, d.gen};
    return value->mv_size == sizeof d && d.slot != 0 &&
           d.check == label_check(label, d.slot, d.gen, uuid_low);
}

static navmap_status get(struct wal_txn *t, uint64_t generation, uint64_t uuid_low, uint64_t label,
                         struct label_entry *ret_entry)
{
    MDB_val key = {sizeof label, &label}, value;
    int rc = mdb_get(t->txn, wal_labels_dbi(t->wal, generation), &key, &value);
    if (rc == MDB_NOTFOUND) {
        *ret_entry = (struct label_entry){0, 0};
        return NAVMAP_OK;
    }
    if (rc != 0)
        return wal_fail(t->wal, t, rc, "looking a label up in");
    if (!label_read(&value, label, uuid_low, ret_entry))
        return fail(NAVMAP_ECORRUPT, "%s: the entry of label %llu does not match its check sum",
                    wal_path(t->wal), (unsigned long long)label);
    return NAVMAP_OK;
}

navmap_status labels_get(struct wal_txn *t, uint64_t generation, uint64_t uuid_low, uint64_t label,
                         struct label_entry *ret_entry)
{
    return WAL_GUARDED(t->wal, get(t, generation, uuid_low, label, ret_entry));
}

static navmap_status last(struct wal_txn *t, uint64_t generation, bool *ret_any,
                          uint64_t *ret_label)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    TRY(wal_fail(t->wal, t, mdb_cursor_open(t->txn, wal_labels_dbi(t->wal, generation), &cursor),
                 "looking a label up in"));
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST);
    *ret_any = rc == 0 && key.mv_size == 8;
    if (*ret_any)
        memcpy(ret_label, key.mv_data, 8);
    mdb_cursor_close(cursor);
    return wal_fail(t->wal, t, rc == MDB_NOTFOUND ? 0 : rc, "looking a label up in");
}

navmap_status labels_last(struct wal_txn *t, uint64_t generation, bool *ret_any,
                          uint64_t *ret_label)
{
    return WAL_GUARDED(t->wal, last(t, generation, ret_any, ret_label));
}

static navmap_status change_one(struct wal_txn *t, uint64_t generation, uint64_t uuid_low,
                                const struct stage_label *c)
{
    struct label_entry now;
    TRY(get(t, generation, uuid_low, c->label, &now));
    if (now.slot != c->old_slot || (now.slot != 0 && now.gen != c->old_gen))
        return fail(NAVMAP_EPOISONED,
                    "%s: label %llu: expected slot %u generation %u, found slot %u generation %u: "
                    "somebody else wrote to this index",
                    wal_path(t->wal), (unsigned long long)c->label, c->old_slot, c->old_gen,
                    now.slot, now.gen);
    uint64_t label = c->label;
    MDB_val key = {sizeof label, &label};
    MDB_dbi dbi = wal_labels_dbi(t->wal, generation);
    if (c->new_slot == 0)
        return c->old_slot == 0
                   ? NAVMAP_OK
                   : wal_fail(t->wal, t, mdb_del(t->txn, dbi, &key, NULL), "removing a label from");
    struct disk_label d = {c->new_slot, c->new_gen,
                           label_check(label, c->new_slot, c->new_gen, uuid_low)};
    MDB_val value = {sizeof d, &d};
    return wal_fail(t->wal, t, mdb_put(t->txn, dbi, &key, &value, 0), "writing a label to");
}

static navmap_status change(struct wal_txn *t, uint64_t generation, uint64_t uuid_low,
                            const struct stage_label *changes, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        TRY(change_one(t, generation, uuid_low, &changes[i]));
        STORE_KILL_POINT(C3_LABEL);
    }
    return NAVMAP_OK;
}

navmap_status labels_change(struct wal_txn *t, uint64_t generation, uint64_t uuid_low,
                            const struct stage_label *changes, uint32_t n)
{
    return WAL_GUARDED(t->wal, change(t, generation, uuid_low, changes, n));
}

static navmap_status append(struct wal_txn *t, uint64_t generation, uint64_t uuid_low,
                            const struct sealed_label *labels, uint64_t n)
{
    MDB_dbi dbi = wal_labels_dbi(t->wal, generation);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t label = labels[i].label;
        struct disk_label d = {labels[i].slot, labels[i].gen,
                               label_check(label, labels[i].slot, labels[i].gen, uuid_low)};
        MDB_val key = {sizeof label, &label}, value = {sizeof d, &d};
        TRY(wal_fail(t->wal, t, mdb_put(t->txn, dbi, &key, &value, MDB_APPEND),
                     "writing a label to"));
    }
    return NAVMAP_OK;
}

navmap_status labels_append(struct wal_txn *t, uint64_t generation, uint64_t uuid_low,
                            const struct sealed_label *labels, uint64_t n)
{
    return WAL_GUARDED(t->wal, append(t, generation, uuid_low, labels, n));
}

static navmap_status clear(struct wal_txn *t, uint64_t generation, uint32_t max, bool *ret_more)
{
    MDB_cursor *cursor = NULL;
    MDB_val key, value;
    uint32_t deleted = 0;
    TRY(wal_fail(t->wal, t, mdb_cursor_open(t->txn, wal_labels_dbi(t->wal, generation), &cursor),
                 "emptying the labels of"));
    int rc = 0;
    *ret_more = false;
    while ((rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST)) == 0) {
        if (deleted++ == max) {
            *ret_more = true;
            break;
        }
        if ((rc = mdb_cursor_del(cursor, 0)) != 0)
            break;
    }
    mdb_cursor_close(cursor);
    return wal_fail(t->wal, t, rc == MDB_NOTFOUND ? 0 : rc, "emptying the labels of");
}

navmap_status labels_clear(struct wal_txn *t, uint64_t generation, uint32_t max, bool *ret_more)
{
    return WAL_GUARDED(t->wal, clear(t, generation, max, ret_more));
}

static navmap_status walk(struct wal_txn *t, uint64_t generation, uint64_t uuid_low, uint64_t from,
                          labels_visit *visit, void *ctx)
{
    MDB_cursor *cursor = NULL;
    MDB_val key = {sizeof from, &from}, value;
    TRY(wal_fail(t->wal, t, mdb_cursor_open(t->txn, wal_labels_dbi(t->wal, generation), &cursor),
                 "walking the labels of"));
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    for (; rc == 0; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        uint64_t label = 0;
        struct label_entry entry;
        bool sound = key.mv_size == sizeof label;
        if (sound)
            memcpy(&label, key.mv_data, sizeof label);
        if (!label_read(&value, label, uuid_low, &entry))
            sound = false;
        if (visit(ctx, label, entry, sound))
            break;
    }
    mdb_cursor_close(cursor);
    return wal_fail(t->wal, t, rc == MDB_NOTFOUND ? 0 : rc, "walking the labels of");
}

navmap_status labels_walk(struct wal_txn *t, uint64_t generation, uint64_t uuid_low, uint64_t from,
                          labels_visit *visit, void *ctx)
{
    return WAL_GUARDED(t->wal, walk(t, generation, uuid_low, from, visit, ctx));
}
