/* rewrite.c -- which items go into a file, in which order, and with which rows.
 *
 * Items that are live or deleted, in the order of their slots.  A row that names nobody else is
 * taken as it is; one that names a dead or free slot is consolidated as the sweep does it
 * (repair.c, R1), but into the file: the index itself is not changed.  So a file is what the index
 * would be after a sweep, without its gaps.
 */
#include "engine/index.h"

#include <stdlib.h>

#include "storage/fail.h"
#include "storage/seal.h"

struct rewriting {
    navmap_index *ix;
    struct scratch *s;
    struct graph g;
    struct sealing what;
    uint32_t *slots;
};

static bool goes_in(const struct graph *g, uint32_t slot)
{
    enum slot_status status = edit_status(g->edit, slot);
    return status == SLOT_LIVE || status == SLOT_DELETED;
}

static navmap_status row_of(void *ctx, uint32_t slot, uint32_t level, uint32_t *ret_ids)
{
    struct rewriting *r = ctx;
    const struct graph *g = &r->g;
    const uint32_t width = level == 0 ? g->M0 : g->M;
    uint32_t n = graph_copy_row(g, slot, level, ret_ids), i = 0;
    while (i < n && graph_linkable(g, ret_ids[i], level))
        i++;
    if (i < n) {
        r->g.self = slot;
        n = repair_refill(r->ix, r->s, g, level);
        for (i = 0; i < n; i++)
            ret_ids[i] = r->s->row[i].id;
    }
    for (; n < width; n++)
        ret_ids[n] = 0;
    return NAVMAP_OK;
}

static uint32_t entry_of(const struct rewriting *r)
{
    uint32_t slot, top;
    if (!graph_entry(&r->g, store_root(r->ix->store).entry, &slot, &top))
        return 0;
    return goes_in(&r->g, slot) ? slot : repair_heir(r->s, &r->g, slot, top);
}

static navmap_status prepare(struct rewriting *r)
{
    navmap_index *ix = r->ix;
    const bool flat = (ix->layout->flags & HEADER_FLAT) != 0;
    uint32_t n = 0;
    graph_of_edit(store_edit(ix->store), &ix->distance, r->s, &r->g);
    TRY(repair_reserve(ix, r->s, &r->g));
    r->slots = malloc((size_t)r->g.nslots * sizeof *r->slots);
    if (!r->slots)
        return fail(NAVMAP_ENOMEM, "%s: no memory for saving it", store_path(ix->store));
    for (uint32_t slot = 1; slot < r->g.nslots; slot++)
        if (goes_in(&r->g, slot))
            r->slots[n++] = slot;
    r->what = (struct sealing){.n = n,
                               .slots = r->slots,
                               .entry = flat ? 0 : entry_of(r),
                               .row = flat ? NULL : row_of,
                               .ctx = r};
    return NAVMAP_OK;
}

/* Write lock held exclusively. */
static navmap_status rewrite(struct rewriting *r, const struct rewrite *to)
{
    struct store *store = r->ix->store;
    TRY(prepare(r));
    if (to->ret_bytes)
        return seal_bytes(store, &r->what, to->ret_bytes);
    return to->path ? seal_save(store, &r->what, to->path)
                    : seal_write(store, &r->what, to->fd, "(open file)");
}

navmap_status index_rewrite(navmap_index *ix, const struct rewrite *to)
{
    struct rewriting r = {.ix = ix};
    TRY(scratch_take(&ix->shelf, ix->layout, &r.s));
    navmap_status status = store_write_begin(ix->store, 0);
    if (status == NAVMAP_OK) {
        status = rewrite(&r, to);
        store_write_end(ix->store);
    }
    free(r.slots);
    scratch_give(&ix->shelf, r.s);
    return status;
}
