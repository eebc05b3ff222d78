/* hash.c -- one number for the whole published state: what a crash test compares.
 *
 * Covers ROOT, every state word, and row, upper rows and payload of every slot that is not FREE;
 * so also the label map, which verify holds against LMDB.  A FREE slot's payload and all past the
 * extent are nobody's and not covered.  O(n); for tests.
 */
#include "storage/checksum.h"
#include "storage/handle.h"

static void hash_slot(struct checksum *sum, const struct stage *e, uint32_t slot)
{
    const struct layout *l = &e->view->layout;
    uint32_t state = edit_state(e, slot);
    checksum_add(sum, &state, sizeof state);
    if (STATE_STATUS(state) == SLOT_FREE)
        return;
    const struct disk_tag *tag = edit_tag(e, slot);
    checksum_add(sum, edit_row(e, slot), 4ull * l->M0);
    checksum_add(sum, tag, sizeof *tag);
    checksum_add(sum, edit_code(e, slot), l->code_stride);
    checksum_add(sum, edit_vec(e, slot), l->vec_stride);
    for (uint32_t level = 1; level <= TAG_LEVEL(tag->up); level++) {
        const _Atomic uint32_t *upper = edit_upper(e, slot, level);
        if (upper)
            checksum_add(sum, upper, 4ull * l->M);
    }
}

static uint64_t hash_through(const struct stage *e, const struct disk_root *root, uint64_t uuid_low)
{
    struct checksum sum;
    uint32_t nslots = extent_slots(root->extent);
    checksum_begin(&sum, uuid_low);
    checksum_add(&sum, root, sizeof *root);
    for (uint32_t slot = 1; slot < nslots; slot++)
        hash_slot(&sum, e, slot);
    return checksum_end(&sum);
}

/* An empty stage over a view: every accessor falls through to the map. */
static uint64_t hash_view(const struct view *v, uint64_t uuid_low)
{
    struct stage none = {.view = NULL};
    if (stage_open(&none, v) != NAVMAP_OK)
        return 0;
    uint64_t hash = hash_through(&none, view_root(v), uuid_low);
    stage_close(&none);
    return hash;
}

uint64_t store_state_hash(struct store *s, bool staged)
{
    if (staged)
        return s->coming ? hash_view(s->coming, s->uuid_low)
                         : hash_through(&s->stage, &s->stage.root, s->uuid_low);
    struct view *v;
    if (store_view_begin(s, &v) != NAVMAP_OK)
        return 0;
    uint64_t hash = hash_view(v, s->uuid_low);
    store_view_end(s, v);
    return hash;
}
