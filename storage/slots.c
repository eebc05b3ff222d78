/* slots.c -- where an item can go: slots that are FREE, slots to be replaced, cells for levels.
 *
 * A slot is handed out only if its FREE is committed and applied, or if it was never used (I3).
 * Neither list is stored: each is derived from the state words when first needed.  All of this is
 * done under item_lock, or with the write lock held exclusively (J1).
 */
#include <stdlib.h>

#include "storage/handle.h"

static navmap_status push(struct store *s, uint32_t **list, uint32_t *n, uint32_t *cap,
                          uint32_t slot)
{
    if (*n == *cap) {
        uint32_t larger = *cap ? *cap * 2 : 64;
        uint32_t *p = realloc(*list, larger * sizeof *p);
        if (!p)
            return fail(NAVMAP_ENOMEM, "%s: no memory for a list of %u slots", s->path, larger);
        *list = p;
        *cap = larger;
    }
    (*list)[(*n)++] = slot;
    return NAVMAP_OK;
}

/* Taken by an item that is under way, to be filled or to be given up? */
static bool claimed(const struct store *s, uint32_t slot)
{
    for (const struct store_item *i = s->in_flight; i; i = i->next)
        if (i->slot == slot || i->old_slot == slot)
            return true;
    return false;
}

/* FREE slots ----------------------------------------------------------------------------------*/

navmap_status store_free_add(struct store *s, uint32_t slot)
{
    return push(s, &s->free_slots, &s->n_free_slots, &s->cap_free_slots, slot);
}

navmap_status store_free_scan(struct store *s)
{
    uint32_t nslots = extent_slots(view_root(s->view)->extent);
    s->n_free_slots = 0;
    for (uint32_t slot = nslots; slot-- > 1;) {
        uint32_t state = atomic_load_explicit(view_state(s->view, slot), memory_order_relaxed);
        if (STATE_STATUS(state) == SLOT_FREE && !edit_record(&s->stage, slot) && !claimed(s, slot))
            TRY(store_free_add(s, slot));
    }
    s->free_scanned = true;
    return NAVMAP_OK;
}

/* Pairing "payload": FREE of the next generation is stored before the slot can be handed out. */
void store_free_dead(struct store *s, uint32_t slot)
{
    struct disk_root *root = &s->stage.root;
    uint32_t gen = STATE_GEN(atomic_load_explicit(view_state(s->view, slot), memory_order_relaxed));
    if (gen < STATE_GEN_MAX) {
        store_state_set(s, slot, gen + 1, SLOT_FREE);
        root->n_dead--;
        root->n_free++;
        if (s->free_scanned && store_free_add(s, slot) != NAVMAP_OK)
            s->free_scanned = false; /* the list is derived again when next needed */
    }
    store_root_show(s);
}

bool store_slot_room(const struct store *s)
{
    uint64_t free = s->free_scanned ? s->n_free_slots : 0;
    uint64_t ahead = view_slots(s->view) - extent_slots(s->stage.root.extent);
    return free + ahead > s->n_in_flight;
}

/* `n` slots that were never used: FREE, at generation 0, and the last ones of the list, from whose
 * end slots are taken. */
static navmap_status lay_out(struct store *s, const uint32_t *places, uint32_t n)
{
    struct disk_root *root = &s->stage.root;
    const uint32_t first = extent_slots(root->extent), had = s->n_free_slots;
    navmap_status status = NAVMAP_OK;
    for (uint32_t i = n; i-- > 0 && status == NAVMAP_OK;)
        status = store_free_add(s, first + places[i]);
    if (status != NAVMAP_OK) {
        s->n_free_slots = had;
        return status;
    }
    s->free_scanned = true;
    root->extent = EXTENT(extent_chunks(root->extent), first + n);
    root->n_free += n;
    store_root_show(s);
    return NAVMAP_OK;
}

navmap_status store_slots_order(struct store *s, const uint32_t *places, uint32_t n)
{
    const struct layout *l = &s->view->layout;
    const uint64_t end = (uint64_t)extent_slots(s->stage.root.extent) + n;
    TRY(store_check_writable(s));
    if (s->stage.root.n_free > 0 && !s->free_scanned)
        TRY(store_free_scan(s));
    if (end > view_slots(s->view))
        TRY(store_grow(s, (uint32_t)(((end - 1) >> l->slot_shift) + 1)));
    (void)pthread_mutex_lock(&s->item_lock);
    navmap_status status = lay_out(s, places, n);
    (void)pthread_mutex_unlock(&s->item_lock);
    return status;
}

/* Upper cells for a slot that never had any: in one chunk, or fewer levels (FORMAT.md, upper). */
static uint32_t draw_cells(struct store *s, uint32_t want_level)
{
    const struct layout *l = &s->view->layout;
    uint32_t most = layout_level_most(l), level = want_level < most ? want_level : most;
    for (; level > 0; level--) {
        uint64_t cell = s->stage.root.nuppers;
        uint32_t into = (uint32_t)(cell % l->uppers_per_chunk);
        if (into + level > l->uppers_per_chunk)
            cell += l->uppers_per_chunk - into;
        if (cell % l->uppers_per_chunk + level <= l->uppers_per_chunk &&
            cell + level <= view_cells(s->view)) {
            s->stage.root.nuppers = cell + level;
            return TAG_UP(cell, level);
        }
    }
    return TAG_UP(0, 0);
}

navmap_status store_slot_take(struct store *s, uint32_t want_level, struct store_item *item)
{
    struct disk_root *root = &s->stage.root;
    if (root->n_free > 0 && !s->free_scanned)
        TRY(store_free_scan(s));
    uint32_t nslots = extent_slots(root->extent);
    bool reused = s->n_free_slots > 0;
    if (!reused && nslots >= view_slots(s->view))
        TRY(store_grow(s, (nslots >> s->view->layout.slot_shift) + 1));
    item->slot = reused ? s->free_slots[s->n_free_slots - 1] : nslots;
    item->gen =
        STATE_GEN(atomic_load_explicit(view_state(s->view, item->slot), memory_order_relaxed));
    item->fresh = !reused || item->gen == 0;
    /* A slot that was published before keeps its level and cells. */
    item->up = item->fresh ? draw_cells(s, want_level) : view_tag(s->view, item->slot)->up;
    item->level = TAG_LEVEL(item->up);
    if (TAG_CELL(item->up) + item->level > view_cells(s->view) ||
        item->level > layout_level_most(&s->layout))
        return fail(NAVMAP_ECORRUPT,
                    "%s: slot %u: tag.up is %08x, but there are %u upper cells and %u levels",
                    s->path, item->slot, item->up, view_cells(s->view),
                    layout_level_most(&s->layout));
    if (reused) {
        s->n_free_slots--;
        root->n_free--;
    } else {
        root->extent = EXTENT(extent_chunks(root->extent), nslots + 1);
    }
    return NAVMAP_OK;
}

/* DELETED slots -------------------------------------------------------------------------------*/

/* The newest mark last.  An entry may be out of date, or there twice: store_deleted_take() asks the
 * state word.  A list that is mostly out of date, or cannot grow, is dropped and derived anew. */
void store_deleted_add(struct store *s, uint32_t slot)
{
    if (!s->deleted_scanned)
        return;
    if (s->n_deleted_slots > 2 * s->stage.root.n_deleted + 64 ||
        push(s, &s->deleted_slots, &s->n_deleted_slots, &s->cap_deleted_slots, slot) != NAVMAP_OK)
        s->deleted_scanned = false;
}

static navmap_status scan_deleted(struct store *s)
{
    uint32_t nslots = extent_slots(s->stage.root.extent);
    s->n_deleted_slots = 0;
    for (uint32_t slot = nslots; slot-- > 1;)
        if (STATE_STATUS(edit_state(&s->stage, slot)) == SLOT_DELETED && !claimed(s, slot))
            TRY(push(s, &s->deleted_slots, &s->n_deleted_slots, &s->cap_deleted_slots, slot));
    s->deleted_scanned = true;
    return NAVMAP_OK;
}

navmap_status store_deleted_take(struct store *s, uint32_t *ret_slot)
{
    *ret_slot = 0;
    if (s->stage.root.n_deleted == 0)
        return NAVMAP_OK;
    if (!s->deleted_scanned)
        TRY(scan_deleted(s));
    while (*ret_slot == 0 && s->n_deleted_slots > 0) {
        uint32_t slot = s->deleted_slots[--s->n_deleted_slots];
        if (STATE_STATUS(edit_state(&s->stage, slot)) == SLOT_DELETED && !claimed(s, slot))
            *ret_slot = slot;
    }
    return NAVMAP_OK;
}
