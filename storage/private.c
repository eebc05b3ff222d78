/* private.c -- an index in this process's memory: the layout of a data file, over no file.
 *
 * There is nothing to stage for: no reader in another process, no crash to survive.  Items are
 * written through to the view (items.c), labels are in a table (table.h), commits and checkpoints
 * have nothing to do.  Searches are the same code as over a file, and follow the same protocol.
 */
#include <stdlib.h>

#include "storage/handle.h"

/* The fewest chunks for what is expected: memory is taken by the page, and one is simplest. */
static uint32_t chunk_shift(uint64_t slots)
{
    uint32_t shift = LAYOUT_SHIFT_MIN + 2;
    while (shift < LAYOUT_SHIFT_MAX && UINT64_C(1) << shift <= slots)
        shift++;
    return shift;
}

static navmap_status make_layout(const struct layout_params *params, uint64_t max_elements,
                                 struct layout *ret_layout)
{
    struct layout_params p = *params;
    if (p.slot_shift != 0)
        return layout_compute(&p, ret_layout);
    p.slot_shift = chunk_shift(max_elements ? max_elements : UINT64_C(1) << LAYOUT_SHIFT_MAX);
    navmap_status status = layout_compute(&p, ret_layout);
    while (status != NAVMAP_OK && p.slot_shift > LAYOUT_SHIFT_MIN) { /* vectors of 65,536 floats */
        p.slot_shift--;
        status = layout_compute(&p, ret_layout);
    }
    return status;
}

navmap_status store_new_private(const struct layout_params *params, uint64_t max_elements,
                                bool bounded, struct store **ret_store)
{
    static const struct store_options none = {.durability = STORE_FULL};
    struct layout l;
    TRY(make_layout(params, max_elements, &l));
    TRY(store_name_layout(&l));
    struct store *s = store_new("(in memory)", STORE_WRITE, &none);
    if (!s)
        return fail(NAVMAP_ENOMEM, "no memory for an index");
    s->in_memory = true;
    s->bounded = bounded;
    s->layout = l;
    s->uuid_low = l.uuid_low;
    s->room_items = 16;
    uint64_t chunks = max_elements / l.slots_per_chunk + 1, most = layout_chunks_max(&l);
    navmap_status status = store_locks_make(s);
    if (status == NAVMAP_OK)
        status = view_anonymous(&l, 1, (uint32_t)(chunks < most ? chunks : most), &s->view);
    if (status != NAVMAP_OK) {
        store_destroy(s);
        return status;
    }
    stage_open_through(&s->stage, s->view);
    s->stage.root.extent = EXTENT(1, 1);
    s->stage.root.max_elements = max_elements;
    store_root_show(s);
    *ret_store = s;
    return NAVMAP_OK;
}
