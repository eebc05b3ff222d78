/* compact.c -- navmap_compact(): what is not needed left out, and the rest in a better order.
 *
 *   choose what stays, mend the rows around what does not (regraph.c), or build them anew with
 *   another M -> an order of the items (order.c)
 *   -> written: the next generation of a directory, fresh memory for a private index, or an output
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
    struct recoding recode;
};

/* Order -----------------------------------------------------------------------------------------*/

static navmap_status ordered_some(void *ctx, uint32_t done)
{
    struct compaction *c = ctx;
    atomic_fetch_add(&c->toil.done, done);
    return toil_tell(&c->toil);
}

static navmap_status choose_order(struct compaction *c)
{
    struct regraph *r = &c->r;
    struct bisect_sets sets[2] = {
        {.words = r->rows, .n = r->n, .width = r->g.M0, .number = r->item, .own = true}};
    TRY(order_walks(r, c->o.num_threads, &sets[1]));
    uint32_t *items = malloc(((size_t)r->n + 1) * sizeof *items);
    uint8_t *levels = malloc((size_t)r->n + 1);
    navmap_status status = NAVMAP_OK;
    c->toil.total += r->n;
    if (!items || !levels) {
        status = fail(NAVMAP_ENOMEM, "no memory to order %u items", r->n);
    } else {
        for (uint32_t i = 0; i < r->n; i++)
            levels[i] = (uint8_t)TAG_LEVEL(edit_up(r->g.edit, r->slots[i]));
        const struct order_graph g = {.n = r->n,
                                      .sets = sets,
                                      .n_sets = 2,
                                      .levels = levels,
                                      .first = 1,
                                      .stride = index_walk_stride(c->ix),
                                      .crew = c->ix->crew,
                                      .threads = c->o.num_threads,
                                      .tick = ordered_some,
                                      .ctx = c};
        status = order_items(&g, items);
    }
    for (uint32_t i = 0; i < r->n && status == NAVMAP_OK; i++)
        c->slots[i] = r->slots[items[i]];
    free((void *)(uintptr_t)sets[1].words);
    free(items);
    free(levels);
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

/* Which items, and with which rows. */
static navmap_status choose(struct compaction *c)
{
    TRY(regraph_begin(&c->r, c->ix, c->o.keep_deleted != 0));
    c->slots = malloc(((size_t)c->r.n + 1) * sizeof *c->slots);
    if (!c->slots)
        return fail(NAVMAP_ENOMEM, "no memory to order %u items", c->r.n);
    memcpy(c->slots, c->r.slots, (size_t)c->r.n * sizeof *c->slots);
    c->what = (struct sealing){.n = c->r.n,
                               .slots = c->slots,
                               .entry = c->r.entry,
                               .row = index_flat(c->ix) ? NULL : row_of,
                               .tick = tick,
                               .ctx = c,
                               .relinked = c->o.refine != 0,
                               .recode = index_recode(c->ix, c->o.codes, &c->recode)};
    return NAVMAP_OK;
}

/* The rows of level 0, and where each item is to lie. */
static navmap_status arrange(struct compaction *c)
{
    if (index_flat(c->ix))
        return NAVMAP_OK;
    TRY(regraph_fill(&c->r, c->o.num_threads, &c->toil));
    if (c->o.refine && c->r.n > 0)
        TRY(regraph_refine(&c->r, c->o.num_threads));
    return c->o.keep_order || c->r.n == 0 ? NAVMAP_OK : choose_order(c);
}

static navmap_status write_private(struct store *s, struct store *from, const struct sealing *what)
{
    struct store *made;
    TRY(store_remake(s, from, what, &made));
    store_adopt(s, made);
    return NAVMAP_OK;
}

/* What was chosen and arranged, to where index `ix` is or its output. */
static navmap_status write(navmap_index *ix, struct compaction *c)
{
    struct store *store = ix->store, *from = c->ix->store;
    c->toil.total += c->r.n;
    if (c->o.output)
        return c->o.output_directory ? index_output_directory(c->ix, &c->what, c->o.output)
                                     : seal_save(from, &c->what, c->o.output);
    return store_in_memory(store) ? write_private(store, from, &c->what)
                                  : store_generation_put(store, from, &c->what);
}

/* The same items, linked anew in the order in which they came: one made of neighbours would give a
 * worse graph. */
static navmap_status write_anew(struct compaction *c)
{
    struct compaction again = {.o = c->o};
    const struct build_anew how = {.M = c->o.M,
                                   .ef_construction = c->o.ef_construction,
                                   .codes = c->o.codes,
                                   .threads = c->o.num_threads};
    TRY(index_build_anew(c->ix, &c->what, &how, &c->toil, &again.ix));
    again.o.keep_deleted = 1;
    again.o.codes = 0; /* it has them */
    again.toil = (struct toil){.store = c->ix->store,
                               .progress = c->toil.progress,
                               .ctx = c->toil.ctx,
                               .total = c->toil.total,
                               .done = c->toil.done};
    navmap_status status = choose(&again);
    if (status == NAVMAP_OK)
        status = arrange(&again);
    if (status == NAVMAP_OK)
        status = write(c->ix, &again);
    regraph_end(&again.r);
    free(again.slots);
    return status != NAVMAP_OK ? index_close_after(again.ix, status) : navmap_close(again.ix);
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
    if (c->o.M != 0) {
        TRY(write_anew(c));
    } else {
        TRY(arrange(c));
        TRY(write(c->ix, c));
    }
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
    if (c->o.output)
        return NAVMAP_OK;
    if (c->o.M != 0 || c->o.codes != 0)
        index_follow(c->ix);
    if (store_in_memory(store))
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
    if (o->codes > NAVMAP_CODES_NONE)
        return fail(NAVMAP_EINVAL,
                    "navmap_compact: codes is %u, must be 0 (as they are), 1 (i8) or "
                    "2 (none)",
                    o->codes);
    if (o->codes != 0 && index_flat(ix))
        return fail(NAVMAP_EINVAL, "navmap_compact: codes are for a graph, this index has none");
    if (o->M == 0 && o->ef_construction != 0)
        return fail(NAVMAP_EINVAL, "navmap_compact: ef_construction goes with M");
    if (o->M == 0)
        return NAVMAP_OK;
    if (o->M < LAYOUT_M_MIN || o->M > LAYOUT_M_MAX)
        return fail(NAVMAP_EINVAL, "navmap_compact: M is %u, must be %u to %u", o->M, LAYOUT_M_MIN,
                    LAYOUT_M_MAX);
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
    if (c.o.codes == index_codes(index))
        c.o.codes = 0;
    c.toil =
        (struct toil){.store = index->store, .progress = c.o.progress, .ctx = c.o.progress_ctx};
    const bool calibrated = store_root_between(index->store).curve_items != 0;
    TRY(compact(&c, &result));
    if (!c.o.output && calibrated)
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
