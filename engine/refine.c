/* refine.c -- a second pass over the graph: every item chooses its neighbours once more, now that
 * all of them are there.
 *
 * An item that was added early chose among few.  Here each one is searched for in the finished
 * graph (with ef_construction), chooses among what was found and what its row has, and its
 * neighbours get a link back; a row takes its choice, those that chose it and what it had, thinned.
 * (After Vamana's second pass: S. Jayaram Subramanya et al., NeurIPS 2019; there a row forgets what
 * it had, which in clustered data loses the links between clusters.)  Searches read the graph as it
 * was, so the result does not depend on the number of threads.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/regraph.h"
#include "engine/select.h"
#include "engine/walk.h"
#include "storage/fail.h"

#define BLOCK 64u
#define BACK_MOST 256u /* links back that a row chooses among; nearest known first */

struct refining {
    struct regraph *r;
    uint32_t *chosen; /* [n * M] items + 1 that each one chose, 0 = none */
    uint64_t *start;  /* [n + 2] */
    uint32_t *from;   /* who chose an item: [start[item], start[item + 1]) */
    _Atomic uint32_t next;
    void (*block)(struct refining *f, struct scratch *s, uint32_t item);
};

static uint32_t beam(const struct regraph *r)
{
    uint32_t ef = r->ix->layout->ef_construction, least = 2 * r->g.M0;
    return ef > least ? ef : least;
}

static struct near near_to(const struct graph *g, const struct target *to, uint32_t id)
{
    return (struct near){graph_distance(g, to, id), id};
}

/* What the search finds, and what the row has: into s->near, sorted, each once. */
static uint32_t candidates(const struct regraph *r, const struct graph *g, struct scratch *s,
                           uint32_t item)
{
    const struct target to = graph_target_node(g, g->self, s->query);
    const uint32_t *row = regraph_row0(r, item);
    uint32_t slot, top, n_found, n = 0;
    if (graph_entry(g, store_root(r->ix->store).entry, &slot, &top)) {
        slot = graph_descend(g, s, &to, slot, top, 0);
        walk_search(g, s, &to, slot, 0, beam(r));
        const struct pool_entry *found = pool_finish(&s->pool, &n_found);
        for (uint32_t i = 0; i < n_found && n < beam(r); i++)
            if (regraph_keeps(r, found[i].id) && found[i].id != g->self)
                s->near[n++] = (struct near){found[i].dist, found[i].id};
    }
    visited_clear(&s->visited);
    for (uint32_t i = 0; i < n; i++)
        (void)visited_test_set(&s->visited, s->near[i].id);
    for (uint32_t i = 0; i < r->g.M0 && row[i] != 0; i++)
        if (!visited_test_set(&s->visited, row[i]))
            s->near[n++] = near_to(g, &to, row[i]);
    select_sort(s->near, n);
    return n;
}

static void choose(struct refining *f, struct scratch *s, uint32_t item)
{
    const struct regraph *r = f->r;
    struct graph g = r->g;
    g.self = r->slots[item];
    g.pair = s->pair;
    uint32_t n = candidates(r, &g, s, item);
    uint32_t *chosen = f->chosen + (uint64_t)item * g.M;
    n = select_diverse(&g, g.self, s->near, n, g.M - g.M / 4, g.M, s->aside, s->near);
    for (uint32_t i = 0; i < g.M; i++)
        chosen[i] = i < n ? r->item[s->near[i].id] : 0;
}

/* Its choice, those that chose it, and what the row had, thinned to M0. */
static void join(struct refining *f, struct scratch *s, uint32_t item)
{
    const struct regraph *r = f->r;
    struct graph g = r->g;
    g.self = r->slots[item];
    g.pair = s->pair;
    const struct target to = graph_target_node(&g, g.self, s->query);
    const uint32_t *chosen = f->chosen + (uint64_t)item * g.M;
    uint32_t *row = r->rows + (uint64_t)item * g.M0, n = 0;
    visited_clear(&s->visited);
    for (uint32_t i = 0; i < g.M && chosen[i] != 0; i++)
        if (!visited_test_set(&s->visited, r->slots[chosen[i] - 1]))
            s->near[n++] = near_to(&g, &to, r->slots[chosen[i] - 1]);
    for (uint64_t i = f->start[item]; i < f->start[item + 1] && n < BACK_MOST; i++)
        if (!visited_test_set(&s->visited, r->slots[f->from[i]]))
            s->near[n++] = near_to(&g, &to, r->slots[f->from[i]]);
    for (uint32_t i = 0; i < g.M0 && row[i] != 0; i++)
        if (!visited_test_set(&s->visited, row[i]))
            s->near[n++] = near_to(&g, &to, row[i]);
    select_sort(s->near, n);
    if (n > g.M0)
        n = select_diverse(&g, g.self, s->near, n, g.M0 / 2, g.M0, s->aside, s->near);
    for (uint32_t i = 0; i < g.M0; i++)
        row[i] = i < n ? s->near[i].id : 0;
}

static void items_block(void *ctx, struct scratch *s, uint32_t from, uint32_t to)
{
    struct refining *f = ctx;
    for (uint32_t item = from; item < to; item++)
        f->block(f, s, item);
}

static void work(void *ctx, uint32_t worker)
{
    struct refining *f = ctx;
    struct regraph *r = f->r;
    struct scratch *s = NULL;
    navmap_status status = scratch_take(&r->ix->shelf, r->ix->layout, &s);
    if (status == NAVMAP_OK)
        status = scratch_reserve(s, beam(r), r->g.nslots);
    if (status == NAVMAP_OK)
        status = scratch_reserve_build(s, r->ix->layout, beam(r) + r->g.M0 + BACK_MOST);
    const struct regraph_share share = {&f->next, r->n, BLOCK, items_block, f};
    regraph_work(r, &share, worker, s, status);
}

static navmap_status pass(struct refining *f, uint32_t threads,
                          void (*block)(struct refining *f, struct scratch *s, uint32_t item))
{
    f->block = block;
    f->next = 0;
    crew_run(f->r->ix->crew, threads, work, f);
    return toil_status(f->r->toil);
}

static navmap_status who_chose(struct refining *f)
{
    const struct regraph *r = f->r;
    const uint64_t words = (uint64_t)r->n * r->g.M;
    uint64_t links = 0;
    f->start = calloc((size_t)r->n + 2, sizeof *f->start);
    if (!f->start)
        return fail(NAVMAP_ENOMEM, "no memory to refine %u items", r->n);
    for (uint64_t i = 0; i < words; i++)
        if (f->chosen[i] != 0) {
            f->start[f->chosen[i] + 1]++;
            links++;
        }
    f->from = malloc((links + 1) * sizeof *f->from);
    if (!f->from)
        return fail(NAVMAP_ENOMEM, "no memory to refine %u items", r->n);
    for (uint32_t i = 1; i <= r->n + 1; i++)
        f->start[i] += f->start[i - 1];
    for (uint64_t i = 0; i < words; i++)
        if (f->chosen[i] != 0)
            f->from[f->start[f->chosen[i]]++] = (uint32_t)(i / r->g.M);
    return NAVMAP_OK; /* start[item] is now where its list begins */
}

static navmap_status refine(struct refining *f, uint32_t threads)
{
    const struct regraph *r = f->r;
    f->chosen = malloc(((uint64_t)r->n * r->g.M + 1) * sizeof *f->chosen);
    if (!f->chosen)
        return fail(NAVMAP_ENOMEM, "no memory to refine %u items", r->n);
    TRY(pass(f, threads, choose));
    TRY(who_chose(f));
    return pass(f, threads, join);
}

navmap_status regraph_refine(struct regraph *r, uint32_t threads)
{
    struct refining f = {.r = r};
    r->toil->total += 2 * (uint64_t)r->n;
    navmap_status status = refine(&f, threads);
    free(f.chosen);
    free(f.start);
    free(f.from);
    return status == NAVMAP_OK ? regraph_reach(r) : status;
}
