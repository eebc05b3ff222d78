/* labels.h -- the label table: label -> (slot, generation), one LMDB tree per generation parity. */
#ifndef NAVMAP_STORAGE_LABELS_H
#define NAVMAP_STORAGE_LABELS_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/stage.h"
#include "storage/wal.h"

struct label_entry {
    uint32_t slot; /* 0 = the label is absent */
    uint32_t gen;
};

/* Look one label up.  NAVMAP_ECORRUPT when the entry's check sum does not hold. */
navmap_status labels_get(struct wal_txn *t, uint64_t generation, uint64_t uuid_low, uint64_t label,
                         struct label_entry *ret_entry) NAVMAP_MUST_USE;
/* The largest label; *ret_any = false in an empty table. */
navmap_status labels_last(struct wal_txn *t, uint64_t generation, bool *ret_any,
                          uint64_t *ret_label) NAVMAP_MUST_USE;
/* Make the changes, sorted by label.  Each old entry must be what the change says (A3), else
 * NAVMAP_EPOISONED. */
navmap_status labels_change(struct wal_txn *t, uint64_t generation, uint64_t uuid_low,
                            const struct stage_label *changes, uint32_t n) NAVMAP_MUST_USE;
/* Put n labels, rising and above all that are there. */
navmap_status labels_append(struct wal_txn *t, uint64_t generation, uint64_t uuid_low,
                            const struct sealed_label *labels, uint64_t n) NAVMAP_MUST_USE;
/* Remove at most `max` entries; *ret_more: some are left. */
navmap_status labels_clear(struct wal_txn *t, uint64_t generation, uint32_t max,
                           bool *ret_more) NAVMAP_MUST_USE;
/* Visit the entries from label `from` on, in label order; a nonzero return of `visit` ends the
 * walk.  `sound` tells whether the entry's own check sum holds. */
typedef int labels_visit(void *ctx, uint64_t label, struct label_entry entry, bool sound);
navmap_status labels_walk(struct wal_txn *t, uint64_t generation, uint64_t uuid_low, uint64_t from,
                          labels_visit *visit, void *ctx) NAVMAP_MUST_USE;

#endif
