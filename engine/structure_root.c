/* structure_root.c -- what the root says of the slots, and the label table of their labels.
 *
 * Both are at the commit of the slots in a quiet moment only (K1).  Each slot's label is looked up,
 * and the table has as many labels as there are such slots: so no label leads elsewhere, and no two
 * slots have the same one.
 */
#include <inttypes.h>

#include "engine/structure.h"
#include "storage/fail.h"

#define ROOT_AT(field) (LAYOUT_ROOT_OFFSET + offsetof(struct disk_root, field))

static const char *const status_name[] = {"FREE", "LIVE", "DELETED", "DEAD"};

static bool check_bounds(struct structure *t, uint64_t what, struct finding *f)
{
    (void)what;
    const struct layout *l = &t->view->layout;
    const struct disk_root *root = view_root(t->view);
    uint64_t extent = view_load64(&root->extent, memory_order_acquire);
    uint64_t most = (uint64_t)extent_chunks(extent) << l->slot_shift;
    if (extent_slots(extent) < 1 || extent_slots(extent) > most)
        return finding_bad(f, "root", 0, ROOT_AT(extent),
                           "slots: expected 1..%" PRIu64 ", found %" PRIu32, most,
                           extent_slots(extent));
    uint64_t cells = (uint64_t)extent_chunks(extent) * l->uppers_per_chunk;
    uint64_t nuppers = view_load64(&root->nuppers, memory_order_relaxed);
    if (nuppers > cells)
        return finding_bad(f, "root", 0, ROOT_AT(nuppers),
                           "upper cells: expected at most %" PRIu64 ", found %" PRIu64, cells,
                           nuppers);
    return true;
}

/* Every change of the entry names the slot's own level. */
static bool check_entry(struct structure *t, uint64_t what, struct finding *f)
{
    (void)what;
    const struct disk_root *root = view_root(t->view);
    uint64_t entry = view_load64(&root->entry, memory_order_acquire);
    uint64_t n_live = view_load64(&root->n_live, memory_order_relaxed), level = entry >> 32;
    uint32_t slot = (uint32_t)entry;
    if (t->view->layout.flags & HEADER_FLAT) {
        if (entry == 0)
            return true;
        return finding_bad(f, "root", 0, ROOT_AT(entry),
                           "entry point: expected 0 in a flat index, found %016" PRIx64, entry);
    }
    if (slot == 0 && (entry != 0 || n_live != 0))
        return finding_bad(f, "root", 0, ROOT_AT(entry),
                           "entry point: none (%016" PRIx64 ") with %" PRIu64 " live items", entry,
                           n_live);
    if (slot == 0)
        return true;
    uint32_t extent = extent_slots(view_load64(&root->extent, memory_order_acquire));
    if (slot >= extent)
        return finding_bad(f, "root", slot, ROOT_AT(entry),
                           "entry point: expected a slot below %" PRIu32 ", found %" PRIu32, extent,
                           slot);
    if (slot >= view_slots(t->view))
        return true; /* came later (K2) */
    if (!structure_in_use(reach_state(t->view, slot)))
        return finding_bad(f, "root", slot, ROOT_AT(entry), "entry point: slot %" PRIu32 " is FREE",
                           slot);
    uint32_t own = TAG_LEVEL(view_tag_up(t->view, slot));
    bool tag_bad = slot < t->reach.nslots && t->reach.marks[slot] & STRUCTURE_BAD;
    if (level != own && !tag_bad)
        return finding_bad(f, "root", slot, ROOT_AT(entry),
                           "entry point: level %" PRIu64 ", but slot %" PRIu32
                           " is of level %" PRIu32,
                           level, slot, own);
    return true;
}

/* All states anew: the extent may have grown since the slots were looked at. */
static bool check_counters(struct structure *t, uint64_t what, struct finding *f)
{
    (void)what;
    const struct disk_root *root = view_root(t->view);
    uint64_t n[4] = {0, 0, 0, 0};
    uint32_t nslots = extent_slots(view_load64(&root->extent, memory_order_acquire));
    if (nslots > view_slots(t->view))
        nslots = view_slots(t->view);
    for (uint32_t slot = 1; slot < nslots; slot++)
        n[STATE_STATUS(atomic_load_explicit(view_state(t->view, slot), memory_order_relaxed))]++;
    const struct {
        enum slot_status status;
        uint64_t expected, offset;
    } each[] = {
        {SLOT_LIVE, view_load64(&root->n_live, memory_order_relaxed), ROOT_AT(n_live)},
        {SLOT_DELETED, view_load64(&root->n_deleted, memory_order_relaxed), ROOT_AT(n_deleted)},
        {SLOT_DEAD, view_load64(&root->n_dead, memory_order_relaxed), ROOT_AT(n_dead)},
        {SLOT_FREE, view_load32(&root->n_free, memory_order_relaxed), ROOT_AT(n_free)}};
    for (size_t i = 0; i < sizeof(each) / sizeof(*each); i++) {
        if (n[each[i].status] != each[i].expected)
            return finding_bad(f, "root", 0, each[i].offset,
                               "%s slots: the root says %" PRIu64 ", found %" PRIu64,
                               status_name[each[i].status], each[i].expected, n[each[i].status]);
    }
    return true;
}

navmap_status structure_root(struct structure *t)
{
    TRY(structure_settle(t, check_bounds, 0));
    if (t->bad)
        return NAVMAP_OK; /* said once, not once for each of its fields */
    TRY(structure_settle(t, check_entry, 0));
    return structure_settle(t, check_counters, 0);
}

/* Labels ---------------------------------------------------------------------------------------*/

/* A failure that tells of damage is a finding, with its own sentence; another ends the check. */
static bool ask_failed(struct structure *t, navmap_status status, uint32_t slot, struct finding *f)
{
    t->labels_end = status != NAVMAP_ECORRUPT; /* of one entry */
    if (status == NAVMAP_ECORRUPT || status == NAVMAP_EPOISONED)
        return finding_bad(f, "labels", slot, UINT64_MAX, "%s", navmap_error_detail());
    t->status = status;
    return true;
}

/* what = slot */
static bool check_label(struct structure *t, uint64_t what, struct finding *f)
{
    uint32_t slot = (uint32_t)what, word = reach_state(t->view, slot);
    struct store_where at;
    if (STATE_STATUS(word) != SLOT_LIVE && STATE_STATUS(word) != SLOT_DELETED)
        return true;
    uint64_t label = view_tag_label(t->view, slot);
    navmap_status status = store_where(t->store, t->view, label, &at);
    if (status != NAVMAP_OK)
        return ask_failed(t, status, slot, f);
    t->unasked = t->labels_end = !at.asked;
    if (!at.asked || (at.slot == slot && at.gen == STATE_GEN(word)))
        return true;
    f->moving = !at.current;
    uint64_t offset = layout_tag_off(&t->view->layout, slot);
    if (at.slot == 0)
        return finding_bad(f, "labels", slot, offset,
                           "label %" PRIu64 ": expected to lead to slot %" PRIu32
                           ", but it is not known",
                           label, slot);
    return finding_bad(f, "labels", slot, offset,
                       "label %" PRIu64 ": expected to lead to slot %" PRIu32 " generation %" PRIu32
                       ", found slot %" PRIu32 " generation %" PRIu32,
                       label, slot, STATE_GEN(word), at.slot, at.gen);
}

static bool check_label_count(struct structure *t, uint64_t what, struct finding *f)
{
    (void)what;
    const struct disk_root *root = view_root(t->view);
    struct store_where at;
    uint64_t n = 0, expected = view_load64(&root->n_live, memory_order_relaxed) +
                               view_load64(&root->n_deleted, memory_order_relaxed);
    navmap_status status = store_where_all(t->store, t->view, &n, &at);
    if (status != NAVMAP_OK)
        return ask_failed(t, status, 0, f);
    t->unasked = t->labels_end = !at.asked;
    if (!at.asked || n == expected)
        return true;
    f->moving = !at.current;
    return finding_bad(f, "labels", 0, UINT64_MAX,
                       "labels: %" PRIu64 " live and deleted items, but %" PRIu64
                       " labels are known",
                       expected, n);
}

navmap_status structure_labels(struct structure *t)
{
    TRY(structure_settle(t, check_label_count, 0));
    for (uint32_t slot = 1; slot < t->reach.nslots && !t->labels_end; slot++) {
        uint32_t word = t->reach.before[slot];
        if (STATE_STATUS(word) != SLOT_LIVE && STATE_STATUS(word) != SLOT_DELETED)
            continue;
        TRY(structure_settle(t, check_label, slot));
        t->result.labels++;
    }
    return NAVMAP_OK;
}
