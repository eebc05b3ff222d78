/* items.c -- the life of a slot as the writer makes it: begun, filled, published, ended.
 *
 *   FREE --item--> LIVE --mark--> DELETED --replaced, label updated--> DEAD --sweep--> FREE(gen+1)
 *                  LIVE <-unmark- DELETED           LIVE --its label updated--> DEAD
 *
 * In a shared index all of this is staged, and becomes visible with a commit.  In a private one it
 * is written through, in the order that apply.c keeps for a commit: payload, own rows, LIVE, links,
 * the dead last; apply_begin and apply_end count the items that make a slot DEAD, since only those
 * can let a query meet one label twice.  (A removal too: the label may come again in another slot;
 * and a mark that is taken away: else another one that is set would hide it from who compares
 * counters.)
 *
 * In a flat index no row names a slot, so what became DEAD needs no sweep: it is FREE(gen+1) at
 * once.
 *
 * Several adders have an item each under way (handle.h, J1, J2).  An item that holds the write lock
 * exclusively is the only one, so giving it up is popping the newest records.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/handle.h"
#include "storage/io.h"

static const char text_full[] = "The number of elements exceeds the specified limit";

/* Locks ---------------------------------------------------------------------------------------*/

static pthread_mutex_t *label_lock(const struct store *s, uint64_t label)
{
    return &s->label_locks[(label * UINT64_C(0x9E3779B97F4A7C15)) >> 32 & (LABEL_LOCKS - 1)];
}

void store_node_lock(struct store *s, uint32_t slot)
{
    (void)pthread_mutex_lock(&s->node_locks[slot & (NODE_LOCKS - 1)]);
}

void store_node_unlock(struct store *s, uint32_t slot)
{
    (void)pthread_mutex_unlock(&s->node_locks[slot & (NODE_LOCKS - 1)]);
}

/* Beginning -----------------------------------------------------------------------------------*/

/* For this item beside those under way.  item_lock held. */
static bool has_room(const struct store *s)
{
    uint32_t items = s->n_in_flight + 1;
    bool room = s->in_memory ? table_room(&s->table, items)
                             : stage_room(&s->stage, items, layout_level_most(&s->layout));
    return room && (s->stage.root.n_free == 0 || s->free_scanned) && store_slot_room(s);
}

/* Room for `items` items and a slot (S2: a reused slot may have any level); write_lock held
 * exclusively. */
static navmap_status make_room(struct store *s, uint32_t items, uint64_t batch_items)
{
    if (s->in_memory) {
        (void)pthread_mutex_lock(&s->item_lock); /* look-ups hold nothing else */
        navmap_status status = table_reserve(&s->table, items);
        (void)pthread_mutex_unlock(&s->item_lock);
        TRY(status);
    } else if (!stage_room(&s->stage, items, layout_level_most(&s->layout)))
        TRY(store_commit_locked(s));
    if (s->stage.root.n_free > 0 && !s->free_scanned)
        TRY(store_free_scan(s));
    if (store_slot_room(s))
        return NAVMAP_OK;
    uint64_t batch = s->batch_items;
    s->batch_items = batch_items;
    uint32_t chunks = atomic_load_explicit(&s->view->nchunks, memory_order_relaxed);
    navmap_status status = store_grow(s, chunks + 1);
    s->batch_items = batch;
    return status;
}

navmap_status store_write_room(struct store *s, uint32_t items)
{
    const struct disk_root *root = &s->stage.root;
    TRY(store_check_writable(s));
    TRY(make_room(s, items, s->batch_items));
    const uint64_t free = s->free_scanned ? s->n_free_slots : 0;
    while (free + view_slots(s->view) - extent_slots(root->extent) < items)
        TRY(store_grow(s, atomic_load_explicit(&s->view->nchunks, memory_order_relaxed) + 1));
    return NAVMAP_OK;
}

/* The item joins those under way.  item_lock held. */
static void join(struct store *s, struct store_item *item)
{
    item->number = s->stage.root.inserted++;
    item->slot = item->old_slot = 0;
    item->next = s->in_flight;
    s->in_flight = item;
    s->n_in_flight++;
}

static void leave(struct store *s, struct store_item *item)
{
    struct store_item **at = &s->in_flight;
    while (*at != item)
        at = &(*at)->next;
    *at = item->next;
    s->n_in_flight--;
    s->n_new_in_flight -= item->is_new;
}

static void unlock_item(struct store *s, const struct store_item *item)
{
    if (!item->shared)
        return;
    (void)pthread_rwlock_unlock(&s->write_lock);
    (void)pthread_mutex_unlock(label_lock(s, item->label));
}

navmap_status store_item_enter(struct store *s, struct store_item *item)
{
    store_enter(s);
    TRY(store_check_writable(s));
    item->shared = true;
    item->published = item->is_new = false;
    (void)pthread_mutex_lock(label_lock(s, item->label)); /* J2 */
    for (;;) {
        (void)pthread_rwlock_rdlock(&s->write_lock); /* J1 */
        (void)pthread_mutex_lock(&s->item_lock);
        bool room = has_room(s);
        if (room)
            join(s, item);
        (void)pthread_mutex_unlock(&s->item_lock);
        if (room)
            return NAVMAP_OK;
        (void)pthread_rwlock_unlock(&s->write_lock);
        (void)pthread_rwlock_wrlock(&s->write_lock);
        navmap_status status = store_check_writable(s);
        if (status == NAVMAP_OK)
            status = make_room(s, s->room_items, item->batch_items);
        (void)pthread_rwlock_unlock(&s->write_lock);
        if (status != NAVMAP_OK) {
            (void)pthread_mutex_unlock(label_lock(s, item->label));
            return status;
        }
    }
}

static navmap_status check_capacity(const struct store *s)
{
    const struct disk_root *root = &s->stage.root;
    if (store_bounded(s) &&
        root->n_live + root->n_deleted + s->n_new_in_flight >= root->max_elements)
        return fail(NAVMAP_EFULL, "%s: max_elements is %llu", text_full,
                    (unsigned long long)root->max_elements);
    return NAVMAP_OK;
}

/* The change record of a label, made if it has none.  Room was checked. */
static struct stage_label *label_change(struct store *s, uint64_t label, struct label_entry now)
{
    struct stage_label *c = stage_label_find(&s->stage, label);
    return c ? c : stage_label_add(&s->stage, label, now.slot, now.gen);
}

/* A DELETED item gives its place: its label is gone from here on, its slot is DEAD at the end. */
static void take_over(struct store *s, uint32_t slot, struct store_item *item)
{
    uint32_t state = edit_state(&s->stage, slot);
    uint64_t label = edit_tag(&s->stage, slot)->label;
    item->old_slot = slot;
    item->old_state = state;
    if (s->in_memory) {
        table_remove(&s->table, label);
        return;
    }
    struct stage_label *c = label_change(s, label, (struct label_entry){slot, STATE_GEN(state)});
    c->new_slot = c->new_gen = 0;
}

/* item_lock held.  Nothing that counts is changed before all that can fail has not. */
static navmap_status take(struct store *s, uint32_t want_level, struct label_entry committed,
                          struct store_item *item)
{
    struct store_found found;
    uint32_t replaced = 0;
    struct label_entry now = store_label_now(s, item->label, committed);
    TRY(store_label_check(s, item->label, now, &found));
    if (item->replace && found.slot == 0)
        TRY(store_deleted_take(s, &replaced));
    if (found.slot == 0 && replaced == 0)
        TRY(check_capacity(s));
    navmap_status status = store_slot_take(s, want_level, item);
    if (status != NAVMAP_OK) {
        if (replaced != 0)
            store_deleted_add(s, replaced);
        return status;
    }
    item->old_slot = found.slot;
    item->old_state = found.state;
    if (!s->in_memory)
        (void)label_change(s, item->label, now);
    if (replaced != 0)
        take_over(s, replaced, item);
    item->is_new = item->old_slot == 0;
    s->n_new_in_flight += item->is_new;
    return NAVMAP_OK;
}

navmap_status store_item_take(struct store *s, uint32_t want_level, struct store_item *item)
{
    struct label_entry committed;
    TRY(store_label_committed(s, item->label, &committed));
    (void)pthread_mutex_lock(&s->item_lock);
    struct disk_root before = s->stage.root;
    navmap_status status = take(s, want_level, committed, item);
    if (status != NAVMAP_OK) {
        /* What grew stays; what was counted is taken back. */
        before.extent = EXTENT(extent_chunks(s->stage.root.extent), extent_slots(before.extent));
        s->stage.root = before;
        item->slot = 0;
    }
    (void)pthread_mutex_unlock(&s->item_lock);
    return status;
}

navmap_status store_item_begin(struct store *s, uint64_t label, uint32_t want_level,
                               struct store_item *ret_item)
{
    struct store_item *item = ret_item;
    TRY(store_check_writable(s));
    *item = (struct store_item){.label = label, .batch_items = s->batch_items};
    TRY(make_room(s, 1, s->batch_items));
    s->item_root = s->stage.root;
    join(s, item);
    navmap_status status = store_item_take(s, want_level, item);
    if (status != NAVMAP_OK) {
        leave(s, item);
        s->stage.root.inserted--;
        return status;
    }
    s->item_root.extent =
        EXTENT(extent_chunks(s->stage.root.extent), extent_slots(s->item_root.extent));
    return NAVMAP_OK;
}

void store_item_abandon(struct store *s, struct store_item *item)
{
    struct stage *e = &s->stage;
    (void)pthread_mutex_lock(&s->item_lock);
    leave(s, item);
    if (item->slot == 0) { /* begun only */
        if (e->root.inserted == item->number + 1)
            e->root.inserted--;
    } else { /* the write lock is held exclusively: all that is newest is this item's */
        if (edit_record(e, item->slot)) { /* its payload was staged */
            for (uint32_t level = 1; level <= item->level; level++)
                stage_upper_pop(e);
            stage_slot_pop(e);
            if (item->direct) {
                e->n_direct--;
            } else {
                e->n_logged--;
                e->logged_bytes -= layout_payload_bytes(&s->view->layout);
            }
        }
        struct stage_label *change = stage_label_find(e, item->label);
        if (change && change->new_slot == change->old_slot && change->new_gen == change->old_gen &&
            change == &e->labels[e->n_labels - 1])
            stage_label_pop(e);
        if (e->root.n_free != s->item_root.n_free)
            s->free_slots[s->n_free_slots++] = item->slot; /* its place in the list is there */
        e->root = s->item_root;
    }
    (void)pthread_mutex_unlock(&s->item_lock);
    unlock_item(s, item);
}

/* Filling -------------------------------------------------------------------------------------*/

/* Logged while the commit's payloads are few, direct beyond (FORMAT.md, "logged or direct"). */
static bool goes_direct(const struct store *s, const struct store_item *item)
{
    uint64_t bytes = layout_payload_bytes(&s->view->layout);
    return s->stage.logged_bytes + bytes > STAGE_LOGGED_BYTES_MAX ||
           item->batch_items > STAGE_LOGGED_BYTES_MAX / bytes;
}

/* The image's place in the arena; NULL = it goes into the file. */
static uint8_t *payload_place(struct store *s, struct store_item *item)
{
    struct stage *e = &s->stage;
    uint8_t *image = NULL;
    if (s->in_memory)
        return NULL;
    (void)pthread_mutex_lock(&s->item_lock);
    item->direct = goes_direct(s, item);
    if (item->direct) {
        e->n_direct++;
    } else {
        image = e->payloads + e->logged_bytes;
        e->logged_bytes += layout_payload_bytes(&s->view->layout);
        e->n_logged++;
    }
    (void)pthread_mutex_unlock(&s->item_lock);
    return image;
}

static void fill_image(const struct layout *l, const struct disk_tag *tag, const void *code,
                       const void *vec_row, uint8_t *image)
{
    memcpy(image, tag, sizeof *tag);
    if (l->code_stride > 0)
        memcpy(image + l->tag_stride, code, l->code_stride);
    memcpy(image + l->tag_stride + l->code_stride, vec_row, l->vec_stride);
}

/* An empty row for a slot that nobody names: in a private index what an earlier life left there is
 * cleared, which a search that still holds the id may see. */
static void clear_rows(struct store *s, const struct store_item *item)
{
    const struct layout *l = &s->view->layout;
    if (store_flat(s))
        return; /* nobody reads them; untouched, they take no memory */
    for (uint32_t level = 0; level <= item->level; level++) {
        _Atomic uint32_t *row = store_row_edit(s, item->slot, level);
        for (uint32_t i = 0; i < (level == 0 ? l->M0 : l->M); i++)
            atomic_store_explicit(&row[i], 0, memory_order_relaxed);
    }
}

void store_item_payload(struct store *s, struct store_item *item, const void *code,
                        const void *vec_row)
{
    const struct layout *l = &s->view->layout;
    struct stage *e = &s->stage;
    uint8_t *image = payload_place(s, item);
    struct disk_tag tag = {.label = item->label, .up = item->up, .gen = item->gen};
    tag.vsum = layout_vsum(l, tag.label, item->slot, tag.gen, tag.up, code, vec_row);
    if (image)
        fill_image(l, &tag, code, vec_row, image);
    else
        payload_store(s->view, item->slot, &tag, code, vec_row);
    if (s->in_memory) {
        clear_rows(s, item);
        return;
    }
    store_node_lock(s, item->slot); /* S4: a slot that shares its lock may be staged right now */
    struct stage_slot *r = stage_slot_get(e, item->slot);
    r->gen = item->gen;
    r->vsum = tag.vsum;
    r->payload = image;
    for (uint32_t i = 0; i < l->M0; i++)
        atomic_store_explicit(&r->row[i], 0, memory_order_relaxed);
    stage_slot_flag(e, r, STAGE_ROW | (image ? STAGE_LOGGED : STAGE_DIRECT));
    for (uint32_t level = 1; level <= item->level; level++)
        (void)stage_upper_get(e, TAG_CELL(item->up) + level - 1, NULL);
    store_node_unlock(s, item->slot);
}

static _Atomic uint32_t *in_map(struct store *s, uint64_t off)
{
    return (_Atomic uint32_t *)(void *)(s->view->wbase + off);
}

_Atomic uint32_t *store_row_edit(struct store *s, uint32_t slot, uint32_t level)
{
    struct stage *e = &s->stage;
    const struct layout *l = &s->view->layout;
    uint32_t cell = level > 0 ? TAG_CELL(edit_up(e, slot)) + level - 1 : 0;
    if (s->in_memory)
        return in_map(s, level > 0 ? layout_upper_off(l, cell) : layout_row_off(l, slot));
    if (level > 0)
        return stage_upper_get(e, cell, view_upper(s->view, cell))->ids;
    struct stage_slot *r = stage_slot_get(e, slot);
    if (!edit_has(r, STAGE_ROW)) {
        const _Atomic uint32_t *row = view_row(s->view, slot);
        for (uint32_t i = 0; i < l->M0; i++)
            atomic_store_explicit(&r->row[i], atomic_load_explicit(&row[i], memory_order_relaxed),
                                  memory_order_relaxed);
        stage_slot_flag(e, r, STAGE_ROW);
    }
    return r->row;
}

/* Publishing and ending -----------------------------------------------------------------------*/

void store_state_set(struct store *s, uint32_t slot, uint32_t gen, enum slot_status status)
{
    uint32_t word = STATE_WORD(gen, status);
    if (s->in_memory) {
        atomic_store_explicit(in_map(s, layout_state_off(&s->view->layout, slot)), word,
                              memory_order_release);
        return;
    }
    store_node_lock(s, slot);
    struct stage_slot *r = stage_slot_get(&s->stage, slot);
    stage_slot_state(&s->stage, r, word);
    store_node_unlock(s, slot);
}

static _Atomic uint64_t *live_word(struct store *s, size_t field)
{
    return (_Atomic uint64_t *)(void *)(s->view->wbase + LAYOUT_LIVE_OFFSET + field);
}

void store_apply_begins(struct store *s)
{
    (void)atomic_fetch_add_explicit(live_word(s, offsetof(struct disk_live, apply_begin)), 1,
                                    memory_order_relaxed); /* P0 */
    atomic_thread_fence(memory_order_release);
}

/* The last step of what began there: the slot is DEAD. */
void store_apply_ends(struct store *s)
{
    (void)atomic_fetch_add_explicit(live_word(s, offsetof(struct disk_live, apply_end)), 1,
                                    memory_order_release); /* P5 */
}

void store_item_publish(struct store *s, struct store_item *item)
{
    if (s->in_memory && item->old_slot != 0)
        store_apply_begins(s);
    store_state_set(s, item->slot, item->gen, SLOT_LIVE);
    item->published = true;
    atomic_thread_fence(memory_order_release); /* pairing "row": links to it come after */
}

/* What the root and the labels say once the item is in.  item_lock held. */
static void count(struct store *s, struct store_item *item)
{
    struct disk_root *root = &s->stage.root;
    if (s->in_memory) {
        table_put(&s->table, item->label, item->slot, item->gen);
    } else {
        struct stage_label *change = stage_label_find(&s->stage, item->label);
        change->new_slot = item->slot;
        change->new_gen = item->gen;
    }
    if (item->old_slot != 0) {
        root->n_dead++;
        if (STATE_STATUS(item->old_state) == SLOT_LIVE)
            root->n_live--;
        else
            store_count_deleted(root, -1);
    }
    root->n_live++;
    s->n_new_in_flight -= item->is_new;
    item->is_new = false;
    s->stage.root_changed = true;
    s->stage.items++;
}

void store_item_end(struct store *s, struct store_item *item)
{
    if (!item->published)
        store_item_publish(s, item);
    (void)pthread_mutex_lock(&s->item_lock);
    count(s, item);
    store_root_show(s);
    (void)pthread_mutex_unlock(&s->item_lock);
    if (item->old_slot != 0) {
        store_state_set(s, item->old_slot, STATE_GEN(item->old_state), SLOT_DEAD);
        if (s->in_memory)
            store_apply_ends(s);
    }
    (void)pthread_mutex_lock(&s->item_lock);
    leave(s, item);
    if (item->old_slot != 0 && store_flat(s))
        store_free_dead(s, item->old_slot);
    (void)pthread_mutex_unlock(&s->item_lock);
    unlock_item(s, item);
}
