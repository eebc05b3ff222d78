/* order_walks.c -- walks by chance over a graph that is about to be ordered.
 *
 * An item is the query.  Its walk comes down to level 0 as any does, by the rows of the upper
 * levels as they were: in one that begins at the item what is passed on the way would be missing.
 * The beam is narrow, so that it costs little; a wide one gains nothing (ALGORITHM.md).
 */
#include <stdlib.h>
#include <string.h>

#include "engine/order.h"
#include "storage/fail.h"

#define BEAM 32u
#define BLOCK 16u /* walks that a thread takes at a time */

struct walks {
    struct regraph *r;
    uint32_t *words;
    uint32_t n, width;
};

/* What is measured, as items + 1. */
static void walk_to(const struct walks *w, struct scratch *s, uint32_t item, uint32_t *ret)
{
    const struct regraph *r = w->r;
    struct graph g = r->g;
    g.self = r->slots[item];
    const struct target to = graph_target_node(&g, g.self, s->query);
    uint32_t node = g.self, n = 0, found, top;
    if (graph_entry(&g, store_root(r->ix->store).entry, &node, &top))
        node = graph_descend(&g, s, &to, node, top, 0);
    if (!regraph_keeps(r, node))
        node = g.self;
    visited_clear(&s->visited);
    pool_reset(&s->pool, BEAM, true);
    (void)visited_test_set(&s->visited, node);
    ret[n++] = r->item[node];
    do {
        const uint32_t *row = regraph_row0(r, r->item[node] - 1);
        found = 0;
        for (uint32_t i = 0; i < g.M0 && row[i] != 0; i++)
            if (!visited_test_set(&s->visited, row[i]))
                s->ids[found++] = row[i];
        graph_distances(&g, s, &to, s->ids, found, s->dists);
        for (uint32_t i = 0; i < found && n < w->width; i++) {
            pool_offer(&s->pool, s->dists[i], s->ids[i], 1);
            ret[n++] = r->item[s->ids[i]];
        }
    } while (n < w->width && pool_next(&s->pool, &node));
    memset(ret + n, 0, (w->width - n) * sizeof *ret);
}

static void walk_block(void *ctx, struct scratch *s, uint32_t from, uint32_t to)
{
    const struct walks *w = ctx;
    for (uint32_t i = from; i < to; i++)
        walk_to(w, s, i * ORDER_SHARE, w->words + (size_t)i * w->width);
}

static void work(void *ctx, uint32_t worker)
{
    struct walks *w = ctx;
    struct regraph *r = w->r;
    struct scratch *s = NULL;
    navmap_status status = scratch_take(&r->ix->shelf, r->ix->layout, &s);
    if (status == NAVMAP_OK)
        status = scratch_reserve(s, BEAM, r->g.nslots);
    const struct regraph_share share = {&r->next, w->n, BLOCK, walk_block, w};
    regraph_work(r, &share, worker, s, status);
}

navmap_status order_walks(struct regraph *r, uint32_t threads, struct bisect_sets *ret_sets)
{
    struct walks w = {
        .r = r, .n = (r->n + ORDER_SHARE - 1) / ORDER_SHARE, .width = ORDER_SHARE * r->g.M0};
    w.words = malloc(((size_t)w.n * w.width + 1) * sizeof *w.words);
    if (!w.words)
        return fail(NAVMAP_ENOMEM, "no memory for walks among %u items", r->n);
    *ret_sets = (struct bisect_sets){.words = w.words, .n = w.n, .width = w.width};
    r->toil->total += w.n;
    r->next = 0;
    crew_run(r->ix->crew, threads, work, &w);
    navmap_status status = toil_status(r->toil);
    if (status != NAVMAP_OK)
        free(w.words);
    return status;
}
