/* vacuum.c -- navmap_vacuum(): a sweep on request, which takes out deleted items as well.
 *
 *   much is gone?  -> all links anew (V1)
 *   -> a sweep (repair.c, R5), in portions
 *   -> a walk over everything: who cannot be reached gets a way in (V2)
 *
 * V1  When more than a third of what has links is gone, filling rows up from what is left of their
 *     neighbourhoods makes a poor graph.  Then a private index is built of what is LIVE, each item
 *     with the level that its slot has, and its rows are copied.  Until then nothing has changed.
 *     While they are copied old and new rows stand side by side: old ones name what is LIVE or not,
 *     new ones what is LIVE only, so a walk comes to something from either.
 * V2  The walk is made over the committed graph, beside searches and adders; whom it misses without
 *     reason gets a link too many, which does no harm.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/navmap_vacuum.h"
#include "engine/reach.h"
#include "engine/regraph.h"
#include "engine/repair.h"
#include "engine/ways.h"
#include "storage/fail.h"
#include "storage/rewriting.h"

#define PORTION 256u  /* slots of a sweep between two looks at the clock and the caller */
#define ANEW_SHARE 3u /* of what has links */
#define WALKS_MAX 4

struct vacuum {
    navmap_index *ix;
    struct navmap_vacuum_options o;
    struct navmap_vacuum_result result;
    struct toil toil;
};

/* All links anew (V1) ---------------------------------------------------------------------------*/

static bool live(const struct stage *e, uint32_t slot)
{
    return edit_status(e, slot) == SLOT_LIVE;
}

static bool mostly_gone(const navmap_index *ix)
{
    const struct disk_root *root = &store_edit(ix->store)->root;
    const uint64_t gone = root->n_deleted - root->n_apart + root->n_dead;
    return gone > (root->n_live + gone) / ANEW_SHARE;
}

static navmap_status live_slots(const navmap_index *ix, struct sealing *ret_what)
{
    const struct stage *e = store_edit(ix->store);
    const uint32_t nslots = extent_slots(e->root.extent);
    uint32_t *slots = malloc(nslots * sizeof *slots), n = 0;
    if (!slots)
        return fail(NAVMAP_ENOMEM, "no memory to link %u slots anew", nslots);
    for (uint32_t slot = 1; slot < nslots; slot++)
        if (live(e, slot))
            slots[n++] = slot;
    *ret_what = (struct sealing){.n = n, .slots = slots};
    return NAVMAP_OK;
}

/* The rows of one item: as they are in `made`, by the slots that its labels are. */
static navmap_status copy_rows(navmap_index *ix, const struct graph *g, const struct stage *made,
                               uint32_t from)
{
    const uint32_t slot = (uint32_t)edit_tag(made, from)->label, levels = graph_level(g, slot);
    TRY(store_sweep_room(ix->store, levels + 1));
    for (uint32_t level = 0; level <= levels; level++) {
        const _Atomic uint32_t *row =
            level == 0 ? edit_row(made, from) : edit_upper(made, from, level);
        _Atomic uint32_t *to = store_row_edit(ix->store, slot, level);
        for (uint32_t i = 0; i < (level == 0 ? ix->layout->M0 : ix->layout->M); i++) {
            uint32_t id = row ? row_get(row, i) : 0;
            row_put(to, i, id != 0 ? (uint32_t)edit_tag(made, id)->label : 0);
        }
    }
    return NAVMAP_OK;
}

static navmap_status copy_links(struct vacuum *v, struct scratch *s, navmap_index *made)
{
    struct graph g;
    const struct stage *e = store_edit(made->store);
    const uint32_t nslots = extent_slots(e->root.extent);
    graph_of_edit(store_edit(v->ix->store), &v->ix->distance, s, &g);
    for (uint32_t from = 1; from < nslots; from++)
        TRY(copy_rows(v->ix, &g, e, from));
    const uint64_t entry = e->root.entry;
    const uint32_t slot = (uint32_t)edit_tag(e, (uint32_t)entry)->label;
    store_entry_set(v->ix->store, slot, (uint32_t)(entry >> 32));
    v->result.rows_repaired += nslots - 1;
    v->result.linked_anew = 1;
    return NAVMAP_OK;
}

static navmap_status link_anew_locked(struct vacuum *v, struct scratch *s)
{
    navmap_index *ix = v->ix, *made;
    struct sealing what;
    if (store_edit(ix->store)->root.n_live == 0 || !mostly_gone(ix))
        return NAVMAP_OK;
    TRY(live_slots(ix, &what));
    const struct build_anew how = {
        .M = ix->layout->M, .threads = v->o.num_threads, .by_slot = true};
    navmap_status status = index_build_anew(ix, &what, &how, &v->toil, &made);
    free((void *)(uintptr_t)what.slots);
    TRY(status);
    status = copy_links(v, s, made);
    return status != NAVMAP_OK ? index_close_after(made, status) : navmap_close(made);
}

static navmap_status link_anew(struct vacuum *v, struct scratch *s)
{
    TRY(store_rebuild_begin(v->ix->store));
    navmap_status status = link_anew_locked(v, s);
    store_rebuild_end(v->ix->store);
    return status;
}

/* The sweep -------------------------------------------------------------------------------------*/

static navmap_status stopped(struct vacuum *v, uint64_t done, uint64_t total)
{
    v->toil.total = total;
    atomic_store(&v->toil.done, done);
    return toil_tell(&v->toil);
}

/* Until the sweep that it began has come to its end, by whoever. */
static navmap_status sweep(struct vacuum *v, struct scratch *s)
{
    navmap_index *ix = v->ix;
    TRY(store_write_begin(ix->store, 0));
    navmap_status status = repair_begin(ix, true);
    const uint64_t sweeps = ix->sweeps, rows = ix->rows_repaired, members = ix->sweep_members;
    store_write_end(ix->store);
    for (bool more = true; more && status == NAVMAP_OK;) {
        TRY(store_write_begin(ix->store, 0));
        more = store_sweep_running(ix->store) && ix->sweeps == sweeps;
        if (more)
            status = repair_portion(ix, s, PORTION);
        uint64_t done = store_sweep_cursor(ix->store);
        uint64_t total = extent_slots(store_edit(ix->store)->root.extent);
        more = more && ix->sweeps == sweeps;
        if (!more) {
            v->result.rows_repaired += ix->rows_repaired - rows;
            v->result.slots_freed += ix->sweeps != sweeps ? members : 0;
        }
        store_write_end(ix->store);
        if (status == NAVMAP_OK && more)
            status = stopped(v, done, total);
    }
    return status;
}

/* Ways in (V2) ----------------------------------------------------------------------------------*/

static bool missed(const struct reach *r, uint32_t slot)
{
    return STATE_STATUS(r->before[slot]) == SLOT_LIVE && !(r->marks[slot] & REACH_FOUND);
}

static navmap_status take_in(struct vacuum *v, struct scratch *s, const struct reach *r)
{
    navmap_index *ix = v->ix;
    struct graph g;
    for (uint32_t slot = 1; slot < r->nslots; slot++) {
        if (!missed(r, slot))
            continue;
        TRY(store_write_begin(ix->store, 0));
        navmap_status status = index_relink_room(ix, s, slot);
        graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
        g.live_only = true;
        if (status == NAVMAP_OK && live(g.edit, slot))
            v->result.ways_given += ways_reach(ix, s, &g, slot);
        store_write_end(ix->store);
        TRY(status);
    }
    return NAVMAP_OK;
}

/* One that is taken in may push another out, hence some rounds. */
static navmap_status reach_all(struct vacuum *v, struct scratch *s)
{
    struct store *store = v->ix->store;
    uint64_t missing = 1;
    for (int walk = 0; walk < WALKS_MAX && missing > 0; walk++) {
        struct reach r;
        struct reach_counts c = {.missing = 0};
        struct view *view;
        TRY(store_flush(store)); /* the walk is over what is committed */
        TRY(store_view_begin(store, &view));
        navmap_status status = reach_begin(&r, view);
        if (status == NAVMAP_OK) {
            reach_walk(&r);
            reach_count(&r, &c);
            if (c.missing > 0)
                status = take_in(v, s, &r);
        }
        missing = c.missing;
        reach_end(&r);
        store_view_end(store, view);
        TRY(status);
    }
    return NAVMAP_OK;
}

/* The call --------------------------------------------------------------------------------------*/

static navmap_status vacuum(struct vacuum *v)
{
    struct scratch *s;
    TRY(scratch_take(&v->ix->shelf, v->ix->layout, &s));
    navmap_status status = link_anew(v, s);
    if (status == NAVMAP_OK)
        status = sweep(v, s);
    if (status == NAVMAP_OK)
        status = reach_all(v, s);
    scratch_give(&v->ix->shelf, s);
    return status;
}

navmap_status navmap_vacuum(navmap_index *index, const struct navmap_vacuum_options *options,
                            struct navmap_vacuum_result *ret_result)
{
    struct vacuum v = {.ix = index};
    TRY(index_check_writer(index, "navmap_vacuum"));
    TRY(index_copy_options(options, sizeof v.o, "navmap_vacuum_options", &v.o));
    if (ret_result && ret_result->struct_size < sizeof *ret_result)
        return fail(NAVMAP_EINVAL, "navmap_vacuum: struct_size is %u, expected %zu",
                    ret_result->struct_size, sizeof *ret_result);
    v.o.num_threads = v.o.num_threads ? v.o.num_threads : 1;
    v.toil =
        (struct toil){.store = index->store, .progress = v.o.progress, .ctx = v.o.progress_ctx};
    navmap_status status = index_flat(index) ? NAVMAP_OK : vacuum(&v);
    if (status == NAVMAP_EINTERRUPTED)
        return fail(NAVMAP_EINTERRUPTED, "navmap_vacuum: stopped; what was repaired so far stays");
    TRY(status);
    if (ret_result) {
        v.result.struct_size = ret_result->struct_size;
        memcpy(ret_result, &v.result, sizeof v.result);
    }
    return NAVMAP_OK;
}
