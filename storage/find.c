/* find.c -- what a label means to the writer: as staged, as committed, or in a private table.
 *
 * LMDB is asked without a lock of ours; what was staged meanwhile, or is in the table, wins and is
 * looked at under item_lock (J1).
 */
#include "storage/handle.h"

navmap_status store_label_committed(struct store *s, uint64_t label, struct label_entry *ret_entry)
{
    struct wal_txn t;
    if (s->in_memory) {
        *ret_entry = (struct label_entry){0, 0}; /* store_label_now() knows */
        return NAVMAP_OK;
    }
    TRY(wal_txn_read(s->wal, &t));
    navmap_status status = labels_get(&t, s->state.generation, s->uuid_low, label, ret_entry);
    wal_txn_abort(&t);
    return status;
}

struct label_entry store_label_now(const struct store *s, uint64_t label,
                                   struct label_entry committed)
{
    if (s->in_memory) {
        const struct table_entry *e = table_get(&s->table, label);
        return e ? (struct label_entry){e->slot, e->gen} : (struct label_entry){0, 0};
    }
    const struct stage_label *c = stage_label_find(&s->stage, label);
    return c ? (struct label_entry){c->new_slot, c->new_gen} : committed;
}

navmap_status store_label_check(const struct store *s, uint64_t label, struct label_entry entry,
                                struct store_found *ret_found)
{
    *ret_found = (struct store_found){0, 0};
    if (entry.slot == 0)
        return NAVMAP_OK;
    if (entry.slot >= extent_slots(s->stage.root.extent))
        return fail(NAVMAP_ECORRUPT, "%s: label %llu names slot %u of %u", s->path,
                    (unsigned long long)label, entry.slot, extent_slots(s->stage.root.extent));
    uint32_t state = edit_state(&s->stage, entry.slot);
    if (STATE_GEN(state) != entry.gen ||
        (STATE_STATUS(state) != SLOT_LIVE && STATE_STATUS(state) != SLOT_DELETED))
        return fail(NAVMAP_ECORRUPT,
                    "%s: label %llu names slot %u generation %u, whose state word is %08x", s->path,
                    (unsigned long long)label, entry.slot, entry.gen, state);
    *ret_found = (struct store_found){entry.slot, state};
    return NAVMAP_OK;
}

navmap_status store_find(struct store *s, uint64_t label, struct store_found *ret_found)
{
    struct label_entry entry;
    TRY(store_label_committed(s, label, &entry));
    (void)pthread_mutex_lock(&s->item_lock);
    navmap_status status = store_label_check(s, label, store_label_now(s, label, entry), ret_found);
    (void)pthread_mutex_unlock(&s->item_lock);
    return status;
}

navmap_status store_label_max(struct store *s, bool *ret_any, uint64_t *ret_label)
{
    bool any = false;
    uint64_t max = 0;
    if (s->in_memory) {
        (void)pthread_mutex_lock(&s->item_lock);
        *ret_any = table_last(&s->table, ret_label);
        (void)pthread_mutex_unlock(&s->item_lock);
        return NAVMAP_OK;
    }
    struct wal_txn t;
    TRY(wal_txn_read(s->wal, &t));
    navmap_status status = labels_last(&t, s->state.generation, &any, &max);
    wal_txn_abort(&t);
    TRY(status);
    for (uint32_t i = 0; i < s->stage.n_labels; i++) {
        const struct stage_label *c = &s->stage.labels[i];
        if (c->new_slot != 0 && (!any || c->label > max)) {
            any = true;
            max = c->label;
        }
    }
    *ret_any = any;
    *ret_label = max;
    return NAVMAP_OK;
}
