/* swap.c -- new generations of a workload's index; see swap.h. */
#include "tests/support/swap.h"

#include <stdlib.h>

#include "storage/fail.h"

static navmap_status row_as_it_is(void *ctx, uint32_t slot, uint32_t level, uint32_t *ret_ids)
{
    const struct swap_order *o = ctx;
    const struct stage *e = store_edit(o->store);
    const struct layout *l = store_layout(o->store);
    const _Atomic uint32_t *row = level == 0 ? edit_row(e, slot) : edit_upper(e, slot, level);
    for (uint32_t i = 0; i < (level == 0 ? l->M0 : l->M); i++)
        ret_ids[i] = row ? row[i] : 0;
    return NAVMAP_OK;
}

void swap_order_make(struct swap_order *o, struct store *s, struct rng *rng)
{
    const struct stage *e = store_edit(s);
    uint32_t nslots = extent_slots(e->root.extent), n = 0, entry = (uint32_t)e->root.entry;
    bool kept = false;
    *o = (struct swap_order){.store = s, .slots = malloc(nslots * sizeof *o->slots)};
    for (uint32_t slot = 1; slot < nslots; slot++) {
        enum slot_status status = STATE_STATUS(edit_state(e, slot));
        if (status != SLOT_LIVE && status != SLOT_DELETED)
            continue;
        o->slots[n++] = slot;
        kept |= slot == entry;
    }
    for (uint32_t i = n; rng && i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(rng, i), slot = o->slots[j];
        o->slots[j] = o->slots[i - 1];
        o->slots[i - 1] = slot;
    }
    o->what = (struct sealing){.n = n,
                               .slots = o->slots,
                               .entry = kept    ? entry
                                        : n > 0 ? o->slots[0]
                                                : 0,
                               .row = row_as_it_is,
                               .ctx = o};
}

void swap_order_free(struct swap_order *o)
{
    free(o->slots);
    o->slots = NULL;
}

navmap_status swap_step(struct workload *w, bool shrink, bool *ret_shrunk)
{
    struct swap_order order;
    *ret_shrunk = false;
    TRY(store_rebuild_begin(w->store));
    swap_order_make(&order, w->store, &w->rng);
    navmap_status status = store_generation_put(w->store, w->store, &order.what);
    store_rebuild_end(w->store);
    swap_order_free(&order);
    TRY(status);
    oracle_ack(w->oracle, store_last_lsn(w->store));
    if (w->on_event)
        w->on_event(w->on_event_ctx);
    return store_generation_clear(w->store, shrink, ret_shrunk);
}
