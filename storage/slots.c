/* slots.c -- the life of a slot as the writer stages it: place, payload, publication, mark.
 *
 *   FREE --item--> LIVE --mark--> DELETED --label given away--> DEAD --sweep--> FREE(gen+1)
 *                  LIVE <-unmark- DELETED     LIVE --its label updated--> DEAD
 *
 * A slot is handed out only if its FREE is committed and applied, or if it was never used (I3).
 * One item is under way at a time, so giving it back is popping the newest records.
 */
#include <stdlib.h>
#include <string.h>

#include "storage/handle.h"
#include "storage/io.h"
#include "storage/labels.h"

static const char text_full[] = "The number of elements exceeds the specified limit";

/* Labels --------------------------------------------------------------------------------------*/

/* The label as LMDB has it. */
static navmap_status committed_label(struct store *s, uint64_t label, struct label_entry *ret_entry)
{
    struct wal_txn t;
    TRY(wal_txn_read(s->wal, &t));
    navmap_status status = labels_get(&t, s->state.generation, s->uuid_low, label, ret_entry);
    wal_txn_abort(&t);
    return status;
}

/* The change record of a label, made if it has none.  Room was checked. */
static navmap_status label_change(struct store *s, uint64_t label, struct stage_label **ret_change)
{
    struct stage_label *c = stage_label_find(&s->stage, label);
    if (!c) {
        struct label_entry entry;
        TRY(committed_label(s, label, &entry));
        c = stage_label_add(&s->stage, label, entry.slot, entry.gen);
    }
    *ret_change = c;
    return NAVMAP_OK;
}

static navmap_status find_label(struct store *s, uint64_t label, struct label_entry *ret_entry)
{
    const struct stage_label *c = stage_label_find(&s->stage, label);
    if (c) {
        *ret_entry = (struct label_entry){c->new_slot, c->new_gen};
        return NAVMAP_OK;
    }
    return committed_label(s, label, ret_entry);
}

navmap_status store_find(struct store *s, uint64_t label, struct store_found *ret_found)
{
    struct label_entry entry;
    TRY(find_label(s, label, &entry));
    if (entry.slot == 0) {
        *ret_found = (struct store_found){0, 0};
        return NAVMAP_OK;
    }
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

navmap_status store_label_max(struct store *s, bool *ret_any, uint64_t *ret_label)
{
    struct wal_txn t;
    bool any = false;
    uint64_t max = 0;
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

/* FREE slots ----------------------------------------------------------------------------------*/

navmap_status store_free_add(struct store *s, uint32_t slot)
{
    if (s->n_free_slots == s->cap_free_slots) {
        uint32_t cap = s->cap_free_slots ? s->cap_free_slots * 2 : 64;
        uint32_t *list = realloc(s->free_slots, cap * sizeof *list);
        if (!list)
            return fail(NAVMAP_ENOMEM, "%s: no memory for a list of %u free slots", s->path, cap);
        s->free_slots = list;
        s->cap_free_slots = cap;
    }
    s->free_slots[s->n_free_slots++] = slot;
    return NAVMAP_OK;
}

/* The list is not stored: derived from the state words the first time one is needed. */
static navmap_status scan_free(struct store *s)
{
    uint32_t nslots = extent_slots(view_root(s->view)->extent);
    s->n_free_slots = 0;
    for (uint32_t slot = nslots; slot-- > 1;) {
        uint32_t state = atomic_load_explicit(view_state(s->view, slot), memory_order_relaxed);
        if (STATE_STATUS(state) == SLOT_FREE && s->stage.ov[slot] == 0)
            TRY(store_free_add(s, slot));
    }
    s->free_scanned = true;
    return NAVMAP_OK;
}

/* Upper cells for a slot that never had any: in one chunk, or fewer levels (FORMAT.md, upper). */
static uint32_t draw_cells(struct store *s, uint32_t want_level)
{
    const struct layout *l = &s->view->layout;
    uint32_t level = want_level < LAYOUT_LEVEL_MAX ? want_level : LAYOUT_LEVEL_MAX;
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

static navmap_status take_slot(struct store *s, uint32_t want_level, struct store_item *item)
{
    struct disk_root *root = &s->stage.root;
    if (root->n_free > 0 && !s->free_scanned)
        TRY(scan_free(s));
    uint32_t nslots = extent_slots(root->extent);
    bool reused = s->n_free_slots > 0;
    if (!reused)
        TRY(store_grow(s, (nslots >> s->view->layout.slot_shift) + 1));
    item->slot = reused ? s->free_slots[s->n_free_slots - 1] : nslots;
    item->gen =
        STATE_GEN(atomic_load_explicit(view_state(s->view, item->slot), memory_order_relaxed));
    item->fresh = !reused || item->gen == 0;
    /* A slot that was published before keeps its level and cells. */
    item->up = item->fresh ? draw_cells(s, want_level) : view_tag(s->view, item->slot)->up;
    item->level = TAG_LEVEL(item->up);
    if (TAG_CELL(item->up) + item->level > view_cells(s->view))
        return fail(NAVMAP_ECORRUPT, "%s: slot %u: tag.up is %08x, but there are %u upper cells",
                    s->path, item->slot, item->up, view_cells(s->view));
    if (reused) {
        s->n_free_slots--;
        root->n_free--;
    } else {
        root->extent = EXTENT(extent_chunks(root->extent), nslots + 1);
    }
    return NAVMAP_OK;
}

/* Items ---------------------------------------------------------------------------------------*/

static navmap_status check_capacity(const struct store *s)
{
    const struct disk_root *root = &s->stage.root;
    if (root->max_elements > 0 && root->n_live + root->n_deleted >= root->max_elements)
        return fail(NAVMAP_EFULL, "%s: max_elements is %llu", text_full,
                    (unsigned long long)root->max_elements);
    return NAVMAP_OK;
}

navmap_status store_item_begin(struct store *s, uint64_t label, uint32_t want_level,
                               struct store_item *ret_item)
{
    struct store_item item = {.label = label};
    struct store_found found;
    TRY(store_check_writable(s));
    if (!stage_room(&s->stage, LAYOUT_LEVEL_MAX)) /* S2; a reused slot may have any level */
        TRY(store_commit_locked(s));
    TRY(store_find(s, label, &found));
    if (found.slot == 0)
        TRY(check_capacity(s));
    item.old_slot = found.slot;
    item.old_state = found.state;
    s->item_root = s->stage.root;
    struct stage_label *change;
    bool known = stage_label_find(&s->stage, label) != NULL;
    TRY(label_change(s, label, &change));
    navmap_status status = take_slot(s, want_level, &item);
    if (status != NAVMAP_OK) {
        /* What grew stays; what was counted is taken back. */
        s->item_root.extent =
            EXTENT(extent_chunks(s->stage.root.extent), extent_slots(s->item_root.extent));
        s->stage.root = s->item_root;
        if (!known)
            stage_label_pop(&s->stage);
        return status;
    }
    *ret_item = item;
    return NAVMAP_OK;
}

/* Logged while the commit's payloads are few, direct beyond (FORMAT.md, "logged or direct"). */
static bool goes_direct(const struct store *s)
{
    uint64_t bytes = layout_payload_bytes(&s->view->layout);
    return s->stage.logged_bytes + bytes > STAGE_LOGGED_BYTES_MAX ||
           s->batch_items > STAGE_LOGGED_BYTES_MAX / bytes;
}

static void fill_payload(const struct layout *l, struct store_item *item, const void *code,
                         const float *vector, uint8_t *image)
{
    uint8_t *code_row = image + l->tag_stride, *vec_row = code_row + l->code_stride;
    struct disk_tag tag = {.label = item->label, .up = item->up, .gen = item->gen};
    if (l->code_stride > 0)
        memcpy(code_row, code, l->code_stride);
    memcpy(vec_row, vector, 4ull * l->dim);
    memset(vec_row + 4ull * l->dim, 0, l->vec_stride - 4ull * l->dim);
    tag.vsum = layout_vsum(l, tag.label, item->slot, tag.gen, tag.up, code_row, vec_row);
    memcpy(image, &tag, sizeof tag);
}

void store_item_payload(struct store *s, struct store_item *item, const void *code,
                        const float *vector)
{
    const struct layout *l = &s->view->layout;
    struct stage *e = &s->stage;
    item->direct = goes_direct(s);
    uint8_t *image = e->payloads + (item->direct ? STAGE_LOGGED_BYTES_MAX : e->logged_bytes);
    fill_payload(l, item, code, vector, image);
    struct disk_tag tag;
    memcpy(&tag, image, sizeof tag);
    struct stage_slot *r = stage_slot_get(e, item->slot);
    r->flags = STAGE_ROW | (item->direct ? STAGE_DIRECT : STAGE_LOGGED);
    r->gen = item->gen;
    r->vsum = tag.vsum;
    r->payload = item->direct ? NULL : image;
    memset(r->row, 0, 4ull * l->M0);
    if (item->direct) {
        payload_store(s->view, item->slot, &tag, image + l->tag_stride,
                      image + l->tag_stride + l->code_stride);
        e->n_direct++;
    } else {
        e->logged_bytes += layout_payload_bytes(l);
        e->n_logged++;
    }
    for (uint32_t level = 1; level <= item->level; level++)
        memset(stage_upper_get(e, TAG_CELL(item->up) + level - 1)->ids, 0, 4ull * l->M);
}

static uint32_t *upper_edit(struct store *s, uint32_t slot, uint32_t level)
{
    struct stage *e = &s->stage;
    uint32_t cell = TAG_CELL(edit_tag(e, slot)->up) + level - 1;
    bool staged = e->ov_upper[cell] != 0;
    struct stage_upper *r = stage_upper_get(e, cell);
    if (!staged)
        memcpy(r->ids, (const void *)view_upper(s->view, cell), 4ull * s->view->layout.M);
    return r->ids;
}

uint32_t *store_row_edit(struct store *s, uint32_t slot, uint32_t level)
{
    if (level > 0)
        return upper_edit(s, slot, level);
    struct stage_slot *r = stage_slot_get(&s->stage, slot);
    if (!(r->flags & STAGE_ROW)) {
        memcpy(r->row, (const void *)view_row(s->view, slot), 4ull * s->view->layout.M0);
        r->flags |= STAGE_ROW;
    }
    return r->row;
}

static void set_state(struct store *s, uint32_t slot, uint32_t gen, enum slot_status status)
{
    struct stage_slot *r = stage_slot_get(&s->stage, slot);
    r->state = STATE_WORD(gen, status);
    r->flags |= STAGE_STATE;
}

void store_item_end(struct store *s, struct store_item *item)
{
    struct disk_root *root = &s->stage.root;
    set_state(s, item->slot, item->gen, SLOT_LIVE);
    struct stage_label *change = stage_label_find(&s->stage, item->label);
    change->new_slot = item->slot;
    change->new_gen = item->gen;
    if (item->old_slot != 0) {
        set_state(s, item->old_slot, STATE_GEN(item->old_state), SLOT_DEAD);
        root->n_dead++;
        if (STATE_STATUS(item->old_state) == SLOT_LIVE)
            root->n_live--;
        else
            root->n_deleted--;
    }
    root->n_live++;
    root->inserted++;
    s->stage.root_changed = true;
    s->stage.items++;
}

void store_item_abandon(struct store *s, struct store_item *item)
{
    struct stage *e = &s->stage;
    if (e->ov[item->slot] != 0) { /* its payload was staged, and is the newest */
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
    if (change->new_slot == change->old_slot && change->new_gen == change->old_gen &&
        change == &e->labels[e->n_labels - 1])
        stage_label_pop(e);
    uint64_t chunks = extent_chunks(e->root.extent);
    if (e->root.n_free != s->item_root.n_free)
        s->free_slots[s->n_free_slots++] = item->slot; /* its place in the list is still there */
    e->root = s->item_root;
    e->root.extent = EXTENT(chunks, extent_slots(e->root.extent));
}

uint64_t store_entry(const struct store *s)
{
    return s->stage.root.entry;
}

void store_entry_set(struct store *s, uint32_t slot, uint32_t level)
{
    s->stage.root.entry = ENTRY(level, slot);
    s->stage.root_changed = true;
}

uint64_t store_inserted(const struct store *s)
{
    return s->stage.root.inserted;
}

/* Marks ---------------------------------------------------------------------------------------*/

navmap_status store_mark(struct store *s, uint64_t label, bool deleted)
{
    struct store_found found;
    TRY(store_check_writable(s));
    if (!stage_room_rows(&s->stage, 1))
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
    set_state(s, found.slot, STATE_GEN(found.state), deleted ? SLOT_DELETED : SLOT_LIVE);
    root->n_live += deleted ? (uint64_t)-1 : 1;
    root->n_deleted += deleted ? 1 : (uint64_t)-1;
    s->stage.root_changed = true;
    s->stage.items++;
    return NAVMAP_OK;
}
