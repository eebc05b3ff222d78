/* marks.c -- what is done to an item that is in: marked deleted, unmarked, and in a flat index
 * removed.
 *
 * The write lock is held exclusively, so no item is under way.  A marked slot stays where it is,
 * with its label and its links; only a removal ends its life (items.c draws it).
 */
#include "storage/handle.h"

navmap_status store_mark(struct store *s, uint64_t label, bool deleted)
{
    struct store_found found;
    TRY(store_check_writable(s));
    if (!s->in_memory && !stage_room_rows(&s->stage, 1))
        TRY(store_commit_locked(s));
    TRY(store_find(s, label, &found));
    if (found.slot == 0)
        return fail(NAVMAP_ENOTFOUND, "Label not found: %llu", (unsigned long long)label);
    bool is_deleted = STATE_STATUS(found.state) == SLOT_DELETED;
    if (is_deleted && deleted)
        return fail(NAVMAP_EDELETED,
                    "The requested to delete element is already deleted: label %llu",
                    (unsigned long long)label);
    if (!is_deleted && !deleted)
        return fail(NAVMAP_ENOTDELETED,
                    "The requested to undelete element is not deleted: label %llu",
                    (unsigned long long)label);
    struct disk_root *root = &s->stage.root;
    const bool counts = s->in_memory && !deleted; /* items.c: an item appears */
    if (counts)
        store_apply_begins(s);
    store_state_set(s, found.slot, STATE_GEN(found.state), deleted ? SLOT_DELETED : SLOT_LIVE);
    if (counts)
        store_apply_ends(s);
    root->n_live += deleted ? (uint64_t)-1 : 1;
    store_count_deleted(root, deleted ? 1 : -1);
    if (deleted)
        store_deleted_add(s, found.slot);
    s->stage.root_changed = true;
    s->stage.items++;
    store_root_show(s);
    return NAVMAP_OK;
}

/* Labels are looked up under item_lock alone. */
static navmap_status forget(struct store *s, uint64_t label, const struct store_found *found)
{
    struct disk_root *root = &s->stage.root;
    if (!table_room(&s->table, 1)) /* over a file a removal takes a place */
        TRY(table_reserve(&s->table, 1));
    store_apply_begins(s);
    table_remove(&s->table, label);
    root->n_live--;
    root->n_dead++;
    store_state_set(s, found->slot, STATE_GEN(found->state), SLOT_DEAD);
    store_apply_ends(s);
    store_free_dead(s, found->slot);
    return NAVMAP_OK;
}

navmap_status store_remove(struct store *s, uint64_t label)
{
    struct store_found found;
    TRY(store_check_writable(s));
    TRY(store_find(s, label, &found));
    if (found.slot == 0 || STATE_STATUS(found.state) != SLOT_LIVE)
        return fail(NAVMAP_ENOTFOUND, "Label not found: %llu", (unsigned long long)label);
    (void)pthread_mutex_lock(&s->item_lock);
    navmap_status status = forget(s, label, &found);
    (void)pthread_mutex_unlock(&s->item_lock);
    return status;
}
