/* compact.c -- navmap_compact(): what is not needed left out, and the rest in a better order.
 *
 *   choose what stays, mend the rows around what does not (regraph.c)
 *   -> an order of the items (order.c) -> written: the next generation of a directory, fresh memory
 *   for a private index, or an output, which may first be built anew with another M
 *
 * Until the writing is done nothing of the index has changed, so stopping is always sound.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/index.h"
#include "engine/order.h"
#include "engine/regraph.h"
#include "storage/fail.h"
#include "storage/rewriting.h"
#include "storage/seal.h"

struct compaction {
    navmap_index *ix;
    struct navmap_compact_options o;
    struct toil toil;
    struct regraph r;
    uint32_t *slots; /* in the order in which they are written */
    uint64_t written;
    struct sealing what;
};

/* Order -----------------------------------------------------------------------------------------*/

static navmap_status order_items(struct compaction *c)
{
    const struct regraph *r = &c->r;
    const uint64_t words = (uint64_t)r->n * r->g.M0;
    uint32_t *rows = malloc((words + 1) * sizeof *rows);
    uint32_t *nodes = malloc(((size_t)r->n + 1) * sizeof *nodes);
    navmap_status status = NAVMAP_OK;
    if (!rows || !nodes) {
        status = fail(NAVMAP_ENOMEM, "no memory to order %u items", r->n);
    } else {
        for (uint64_t i = 0; i < words; i++)
            rows[i] = r->item[r->rows[i]]; /* item 0 of slot 0: none */
        const struct order_graph g = {r->n, r->g.M0, rows, r->item[r->entry] - 1};
        status = order_nodes(&g, nodes);
    }
    for (uint32_t i = 0; i < r->n && status == NAVMAP_OK; i++)
        c->slots[i] = r->slots[nodes[i]];
    free(rows);
    free(nodes);
    return status;
}

/* Writing ---------------------------------------------------------------------------------------*/

static navmap_status row_of(void *ctx, uint32_t slot, uint32_t level, uint32_t *ret_ids)
{
    struct compaction *c = ctx;
    const struct regraph *r = &c->r;
    if (level == 0) {
        memcpy(ret_ids, regraph_row0(r, r->item[slot] - 1), r->g.M0 * sizeof *ret_ids);
        return NAVMAP_OK;
    }
    return regraph_padded_row(&c->r, slot, level, ret_ids);
}

static navmap_status tick(void *ctx, uint64_t done, uint64_t total)
{
    struct compaction *c = ctx;
    (void)total;
    atomic_fetch_add(&c->toil.done, done - c->written);
    c->written = done;
    return toil_tell(&c->toil);
}

static navmap_status choose(struct compaction *c)
{
    TRY(regraph_begin(&c->r, c->ix, c->o.keep_deleted != 0));
    if (!index_flat(c->ix))
        TRY(regraph_fill(&c->r, c->o.num_threads, &c->toil));
    if (c->o.refine && !index_flat(c->ix) && c->r.n > 0)
        TRY(regraph_refine(&c->r, c->o.num_threads));
    c->slots = malloc(((size_t)c->r.n + 1) * sizeof *c->slots);
    if (!c->slots)
        return fail(NAVMAP_ENOMEM, "no memory to order %u items", c->r.n);
    memcpy(c->slots, c->r.slots, (size_t)c->r.n * sizeof *c->slots);
    if (!index_flat(c->ix) && !c->o.keep_order && c->r.n > 0)
        TRY(order_items(c));
    c->what = (struct sealing){.n = c->r.n,
                               .slots = c->slots,
                               .entry = c->r.entry,
                               .row = index_flat(c->ix) ? NULL : row_of,
                               .tick = tick,
                               .ctx = c};
    return NAVMAP_OK;
}

static navmap_status write_private(struct compaction *c)
{
    struct store *made;
    TRY(store_remake(c->ix->store, &c->what, &made));
    store_adopt(c->ix->store, made);
    return NAVMAP_OK;
}

/* The same items in the same order, linked anew. */
static navmap_status write_anew(struct compaction *c)
{
    navmap_index *made;
    TRY(index_build_anew(c->ix, &c->what, c->o.M, c->o.ef_construction, c->o.num_threads, &c->toil,
                         &made));
    struct compaction again = {
        .ix = made, .o = {.num_threads = c->o.num_threads, .keep_deleted = 1, .keep_order = 1}};
    again.o.output = c->o.output;
    again.o.output_directory = c->o.output_directory;
    again.toil = (struct toil){.store = c->ix->store};
    navmap_status status = choose(&again);
    if (status == NAVMAP_OK)
        status = c->o.output_directory ? index_output_directory(made, &again.what, c->o.output)
                                       : seal_save(made->store, &again.what, c->o.output);
    regraph_end(&again.r);
    free(again.slots);
    return status != NAVMAP_OK ? index_close_after(made, status) : navmap_close(made);
}

static navmap_status write(struct compaction *c)
{
    struct store *store = c->ix->store;
    if (c->o.M != 0)
        return write_anew(c);
    if (c->o.output)
        return c->o.output_directory ? index_output_directory(c->ix, &c->what, c->o.output)
                                     : seal_save(store, &c->what, c->o.output);
    return store_in_memory(store) ? write_private(c) : store_generation_put(store, store, &c->what);
}

/* The call --------------------------------------------------------------------------------------*/

static uint64_t allocated(const struct store_stats *s)
{
    return s->in_memory ? 0 : s->data_allocated_bytes + s->lmdb_allocated_bytes;
}

static navmap_status compact_locked(struct compaction *c, struct navmap_compact_result *ret)
{
    struct store_stats before;
    TRY(store_stats_read(c->ix->store, &before));
    TRY(choose(c));
    c->toil.total += c->r.n;
    TRY(write(c));
    ret->items = c->r.n;
    ret->forgotten = before.n_live + before.n_deleted - c->r.n;
    ret->dropped = before.n_dead + before.n_free;
    ret->bytes_before = allocated(&before);
    return NAVMAP_OK;
}

static navmap_status compact(struct compaction *c, struct navmap_compact_result *ret)
{
    struct store *store = c->ix->store;
    TRY(store_rebuild_begin(store));
    navmap_status status = compact_locked(c, ret);
    store_rebuild_end(store);
    regraph_end(&c->r);
    free(c->slots);
    TRY(status);
    if (c->o.output || store_in_memory(store))
        return NAVMAP_OK;
    bool erased = false;
    status = store_generation_clear(store, true, &erased);
    ret->log_erased = erased;
    /* The new generation stands; what could not be cleared now is by a later call. */
    return status == NAVMAP_EPOISONED ? status : NAVMAP_OK;
}

static navmap_status check_options(const navmap_index *ix, const struct navmap_compact_options *o)
{
    if (o->keep_deleted > 1 || o->keep_order > 1 || o->output_directory > 1 || o->refine > 1)
        return fail(NAVMAP_EINVAL,
                    "navmap_compact: keep_deleted, keep_order, output_directory and refine are "
                    "0 or 1");
    if (o->output_directory && (!o->output || o->output[0] == 0))
        return fail(NAVMAP_EINVAL, "navmap_compact: output_directory needs the path of an output");
    if (o->output_directory && index_flat(ix))
        return fail(NAVMAP_EINVAL, "navmap_compact: a directory index has a graph, this has none");
    if (o->M == 0 && o->ef_construction != 0)
        return fail(NAVMAP_EINVAL, "navmap_compact: ef_construction goes with M");
    if (o->M == 0)
        return NAVMAP_OK;
    if (o->M < LAYOUT_M_MIN || o->M > LAYOUT_M_MAX)
        return fail(NAVMAP_EINVAL, "navmap_compact: M is %u, must be %u to %u", o->M, LAYOUT_M_MIN,
                    LAYOUT_M_MAX);
    if (!o->output)
        return fail(NAVMAP_EINVAL,
                    "navmap_compact: M can be changed for an output only: handles that are open "
                    "know the index with the one that it has");
    if (index_flat(ix))
        return fail(NAVMAP_EINVAL, "navmap_compact: M is for a graph, this index has none");
    return NAVMAP_OK;
}

navmap_status navmap_compact(navmap_index *index, const struct navmap_compact_options *options,
                             struct navmap_compact_result *ret_result)
{
    struct compaction c = {.ix = index};
    struct navmap_compact_result result = {.struct_size = sizeof result};
    TRY(index_check_writer(index, "navmap_compact"));
    TRY(index_copy_options(options, sizeof c.o, "navmap_compact_options", &c.o));
    TRY(check_options(index, &c.o));
    if (ret_result && ret_result->struct_size < sizeof result)
        return fail(NAVMAP_EINVAL, "navmap_compact: struct_size is %u, expected %zu",
                    ret_result->struct_size, sizeof result);
    c.o.num_threads = c.o.num_threads ? c.o.num_threads : 1;
    c.toil =
        (struct toil){.store = index->store, .progress = c.o.progress, .ctx = c.o.progress_ctx};
    TRY(compact(&c, &result));
    if (!c.o.output)
        TRY(index_calibrate_again(index, c.o.num_threads));
    struct store_stats after;
    TRY(store_stats_read(index->store, &after));
    result.bytes_after = c.o.output ? result.bytes_before : allocated(&after);
    if (ret_result) {
        result.struct_size = ret_result->struct_size;
        memcpy(ret_result, &result, sizeof result);
    }
    return NAVMAP_OK;
}
