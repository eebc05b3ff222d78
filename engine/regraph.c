/* regraph.c -- items that stay and the rows they get; see regraph.h for B1 and B2. */
#include "engine/regraph.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/select.h"
#include "engine/walk.h"
#include "storage/fail.h"
#include "storage/rewriting.h"

#define BLOCK 64u            /* items that a thread takes at a time */
#define CANDIDATES_MAX 4096u /* of one row */
#define TELL_SECONDS 0.020
#define ROUNDS 4

/* Toil ------------------------------------------------------------------------------------------*/

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

navmap_status toil_tell(struct toil *t)
{
    if (!t->progress || now() - t->told < TELL_SECONDS)
        return NAVMAP_OK;
    uint64_t done = atomic_load(&t->done);
    store_aside_begin(t->store);
    int stop = t->progress(t->ctx, done < t->total ? done : t->total, t->total);
    store_aside_end();
    t->told = now();
    if (stop != 0)
        return fail(NAVMAP_EINTERRUPTED, "stopped after %llu of %llu steps; nothing was changed",
                    (unsigned long long)done, (unsigned long long)t->total);
    return NAVMAP_OK;
}

void toil_fail(struct toil *t, navmap_status status)
{
    if (atomic_exchange(&t->stop, true))
        return;
    t->status = status; /* pairing "crew": read after crew_run() */
    (void)snprintf(t->detail, sizeof t->detail, "%s", navmap_error_detail());
}

navmap_status toil_status(const struct toil *t)
{
    return atomic_load(&t->stop) ? fail(t->status, "%s", t->detail) : NAVMAP_OK;
}

/* Rows ------------------------------------------------------------------------------------------*/

static struct near near_to(const struct graph *g, const struct target *to, uint32_t id)
{
    return (struct near){graph_distance(g, to, id), id};
}

static bool usable(const struct regraph *r, const struct graph *g, uint32_t id, uint32_t level)
{
    return regraph_keeps(r, id) && id != g->self &&
           (level == 0 || graph_edit_row(g, id, level) != NULL);
}

/* What somebody who is left out linked to.  s->visited keeps each id single. */
static uint32_t collect_behind(const struct regraph *r, const struct graph *g, struct scratch *s,
                               const struct target *to, uint32_t gone, uint32_t level, uint32_t n)
{
    const _Atomic uint32_t *row = graph_edit_row(g, gone, level);
    uint32_t width = level == 0 ? g->M0 : g->M;
    for (uint32_t i = 0; row && i < width && n < s->cap_near; i++) {
        uint32_t id = row_get(row, i);
        if (id != 0 && id < g->nslots && !visited_test_set(&s->visited, id) &&
            usable(r, g, id, level))
            s->near[n++] = near_to(g, to, id);
    }
    return n;
}

static uint32_t beam(const struct regraph *r)
{
    uint32_t ef = r->ix->layout->ef_construction;
    return ef < CANDIDATES_MAX ? ef : CANDIDATES_MAX;
}

/* When a whole neighbourhood goes: a new one from the entry. */
static uint32_t collect_by_search(const struct regraph *r, const struct graph *g, struct scratch *s,
                                  const struct target *to, uint32_t level, uint32_t kept)
{
    uint32_t slot, top, found_n, n = 0;
    if (!graph_entry(g, store_root(r->ix->store).entry, &slot, &top) || top < level)
        return 0;
    slot = graph_descend(g, s, to, slot, top, level);
    walk_search(g, s, to, slot, level, beam(r));
    const struct pool_entry *found = pool_finish(&s->pool, &found_n);
    for (uint32_t i = 0; i < found_n; i++) {
        bool have = !usable(r, g, found[i].id, level);
        for (uint32_t j = 0; j < kept && !have; j++)
            have = s->row[j].id == found[i].id;
        if (!have)
            s->near[n++] = (struct near){found[i].dist, found[i].id};
    }
    return n;
}

/* Where the heuristic leaves a row much emptier than it was: the nearest that it passed over
 * (select.h, S3). */
static uint32_t fill_up(struct scratch *s, uint32_t n, uint32_t kept, uint32_t least)
{
    for (uint32_t i = 0; i < n && kept < least; i++)
        if (s->near[i].id != 0)
            s->row[kept++] = s->near[i];
    return kept;
}

/* Each link that goes is followed up by the nearest behind it, diverse or not, but no copy: by the
 * heuristic alone much of what leads from one cluster to another would be lost, and of what leads
 * to those whom few know. */
static uint32_t follow_up(const struct graph *g, struct scratch *s, uint32_t n_behind,
                          uint32_t kept, uint32_t width)
{
    const struct target to = graph_target_node(g, g->self, s->pair);
    float zero = graph_distance(g, &to, g->self);
    select_sort(s->aside, n_behind);
    for (uint32_t i = 0; i < n_behind && kept < width; i++) {
        struct near c = s->aside[i];
        bool have = c.dist == zero;
        for (uint32_t j = 0; j < kept && !have; j++)
            have = s->row[j].id == c.id;
        if (!have)
            s->row[kept++] = c;
    }
    return kept;
}

static struct near nearest_of(const struct near *near, uint32_t n)
{
    struct near best = near[0];
    for (uint32_t i = 1; i < n; i++)
        best = near[i].dist < best.dist ? near[i] : best;
    return best;
}

static uint32_t mend(const struct regraph *r, const struct graph *g, struct scratch *s,
                     uint32_t level, uint32_t *ids, uint32_t n_ids)
{
    const uint32_t width = level == 0 ? g->M0 : g->M;
    const struct target to = graph_target_node(g, g->self, s->query);
    uint32_t kept = 0, n = 0, n_behind = 0;
    visited_clear(&s->visited);
    for (uint32_t i = 0; i < n_ids; i++)
        if (!visited_test_set(&s->visited, ids[i]) && usable(r, g, ids[i], level))
            s->row[kept++] = near_to(g, &to, ids[i]);
    for (uint32_t i = 0; i < n_ids; i++) {
        uint32_t before = n;
        if (!regraph_keeps(r, ids[i]))
            n = collect_behind(r, g, s, &to, ids[i], level, n);
        if (n > before)
            s->aside[n_behind++] = nearest_of(s->near + before, n - before);
    }
    if (kept + n < width / 4)
        n = collect_by_search(r, g, s, &to, level, kept);
    select_sort(s->near, n);
    kept = select_fill(g, s, n, kept, width);
    kept = fill_up(s, n, kept, n_ids - n_ids / 4);
    kept = follow_up(g, s, n_behind, kept, width);
    for (uint32_t i = 0; i < kept; i++)
        ids[i] = s->row[i].id;
    return kept;
}

uint32_t regraph_row(const struct regraph *r, struct scratch *s, uint32_t slot, uint32_t level,
                     uint32_t *ids)
{
    struct graph g = r->g;
    g.self = slot;
    g.pair = s->pair;
    uint32_t n = graph_copy_row(&g, slot, level, ids), i = 0;
    while (i < n && usable(r, &g, ids[i], level))
        i++;
    return i == n ? n : mend(r, &g, s, level, ids, n); /* B1 */
}

navmap_status regraph_padded_row(void *ctx, uint32_t slot, uint32_t level, uint32_t *ret_ids)
{
    const struct regraph *r = ctx;
    const uint32_t width = level == 0 ? r->g.M0 : r->g.M;
    for (uint32_t n = regraph_row(r, r->scratch, slot, level, ret_ids); n < width; n++)
        ret_ids[n] = 0;
    return NAVMAP_OK;
}

static navmap_status reserve(const struct regraph *r, struct scratch *s)
{
    uint32_t near = r->g.M0 * (r->g.M0 + 1u);
    near = near < CANDIDATES_MAX ? near : CANDIDATES_MAX;
    TRY(scratch_reserve(s, beam(r), r->g.nslots));
    return scratch_reserve_build(s, r->ix->layout, near < beam(r) ? beam(r) : near);
}

static void fill_block(void *ctx, struct scratch *s, uint32_t from, uint32_t to)
{
    const struct regraph *r = ctx;
    for (uint32_t item = from; item < to; item++) {
        uint32_t *row = r->rows + (uint64_t)item * r->g.M0;
        uint32_t n = regraph_row(r, s, r->slots[item], 0, row);
        memset(row + n, 0, (r->g.M0 - n) * sizeof *row);
    }
}

void regraph_work(const struct regraph *r, const struct regraph_share *share, uint32_t worker,
                  struct scratch *s, navmap_status status)
{
    while (status == NAVMAP_OK && !atomic_load(&r->toil->stop)) {
        uint32_t from = atomic_fetch_add(share->next, share->block);
        if (from >= share->n)
            break;
        uint32_t to = share->n - from < share->block ? share->n : from + share->block;
        share->fn(share->ctx, s, from, to);
        atomic_fetch_add(&r->toil->done, to - from);
        if (worker == 0)
            status = toil_tell(r->toil);
    }
    if (status != NAVMAP_OK)
        toil_fail(r->toil, status);
    scratch_give(&r->ix->shelf, s);
}

static void fill_rows(void *ctx, uint32_t worker)
{
    struct regraph *r = ctx;
    struct scratch *s = NULL;
    navmap_status status = scratch_take(&r->ix->shelf, r->ix->layout, &s);
    if (status == NAVMAP_OK)
        status = reserve(r, s);
    const struct regraph_share share = {&r->next, r->n, BLOCK, fill_block, r};
    regraph_work(r, &share, worker, s, status);
}

/* In-links (B2) ---------------------------------------------------------------------------------*/

/* Put `slot` into the row of `to`: behind the last, or in the place of one that is named often.  It
 * may be there: `to` was taken in a moment ago, and what it leads to is not seen yet. */
static bool take_in(const struct regraph *r, uint32_t to, uint32_t slot, uint32_t *named)
{
    uint32_t *row = r->rows + (uint64_t)(r->item[to] - 1) * r->g.M0, best = 0, at = r->g.M0;
    for (uint32_t i = 0; i < r->g.M0; i++) {
        if (row[i] == slot)
            return true;
        uint32_t n = row[i] ? named[r->item[row[i]] - 1] : UINT32_MAX;
        if (n > 1 && n > best) {
            best = n;
            at = i;
        }
        if (row[i] == 0)
            break;
    }
    if (at == r->g.M0)
        return false;
    if (row[at] != 0)
        named[r->item[row[at]] - 1]--;
    row[at] = slot;
    named[r->item[slot] - 1]++;
    return true;
}

struct reaching {
    uint32_t *named; /* [n] rows that name an item */
    uint32_t *queue; /* [n] items reached, in order */
    uint8_t *seen;   /* [n] */
    uint32_t found;
};

static void come_to(struct reaching *w, uint32_t item)
{
    if (w->seen[item])
        return;
    w->seen[item] = 1;
    w->queue[w->found++] = item;
}

static void walk(const struct regraph *r, struct reaching *w)
{
    memset(w->seen, 0, r->n);
    w->found = 0;
    if (r->entry)
        come_to(w, r->item[r->entry] - 1);
    for (uint32_t i = 0; i < w->found; i++) {
        const uint32_t *row = regraph_row0(r, w->queue[i]);
        for (uint32_t j = 0; j < r->g.M0 && row[j] != 0; j++)
            come_to(w, r->item[row[j]] - 1);
    }
}

/* The nearest that was reached: in its own row, else by a search. */
static uint32_t nearest_reached(const struct regraph *r, const struct reaching *w, uint32_t item)
{
    const uint32_t *row = regraph_row0(r, item), slot = r->slots[item];
    struct graph g = r->g;
    g.self = slot;
    const struct target to = graph_target_node(&g, slot, r->scratch->query);
    struct near best = {0, 0};
    for (uint32_t i = 0; i < g.M0 && row[i] != 0; i++) {
        struct near c = near_to(&g, &to, row[i]);
        if (w->seen[r->item[c.id] - 1] && (best.id == 0 || c.dist < best.dist))
            best = c;
    }
    uint32_t n = best.id == 0 ? collect_by_search(r, &g, r->scratch, &to, 0, 0) : 0;
    for (uint32_t i = 0; i < n && best.id == 0; i++)
        if (w->seen[r->item[r->scratch->near[i].id] - 1])
            best = r->scratch->near[i];
    return best.id;
}

/* DELETED items need no way in (ways.h, W3), and shall not push others out. */
static bool is_to_be_reached(const struct regraph *r, const struct reaching *w, uint32_t item)
{
    return !w->seen[item] && edit_status(r->g.edit, r->slots[item]) == SLOT_LIVE;
}

/* Taking one in may cost another its only way in, hence some rounds. */
static void take_all_in(const struct regraph *r, struct reaching *w)
{
    for (int round = 0; round < ROUNDS; round++) {
        walk(r, w);
        if (w->found == r->n)
            break;
        for (uint32_t item = 0; item < r->n; item++) {
            uint32_t to = is_to_be_reached(r, w, item) ? nearest_reached(r, w, item) : 0;
            if (to != 0 && take_in(r, to, r->slots[item], w->named))
                w->seen[item] = 1; /* and what it leads to, by the next walk */
        }
    }
}

navmap_status regraph_reach(const struct regraph *r)
{
    const uint64_t words = (uint64_t)r->n * r->g.M0;
    const size_t n = (size_t)r->n + 1;
    struct reaching w = {.named = calloc(n, sizeof *w.named),
                         .queue = malloc(n * sizeof *w.queue),
                         .seen = malloc(n)};
    navmap_status status = NAVMAP_OK;
    if (w.named && w.queue && w.seen) {
        for (uint64_t i = 0; i < words; i++)
            if (r->rows[i] != 0)
                w.named[r->item[r->rows[i]] - 1]++;
        take_all_in(r, &w);
    } else {
        status = fail(NAVMAP_ENOMEM, "no memory to walk a graph of %u items", r->n);
    }
    free(w.named);
    free(w.queue);
    free(w.seen);
    return status;
}

/* ---------------------------------------------------------------------------------------------- */

static bool stays(const struct graph *g, uint32_t slot, bool deleted)
{
    enum slot_status status = edit_status(g->edit, slot);
    return status == SLOT_LIVE || (deleted && status == SLOT_DELETED);
}

/* The entry stays if it can; else one of the highest level. */
static uint32_t choose_entry(const struct regraph *r)
{
    uint32_t slot = (uint32_t)store_root(r->ix->store).entry, best = 0, level = 0;
    if (regraph_keeps(r, slot))
        return slot;
    for (uint32_t i = 0; i < r->n; i++) {
        uint32_t l = TAG_LEVEL(edit_up(r->g.edit, r->slots[i]));
        if (best == 0 || l > level) {
            best = r->slots[i];
            level = l;
        }
    }
    return best;
}

static navmap_status choose_items(struct regraph *r, bool deleted)
{
    r->slots = malloc((size_t)r->g.nslots * sizeof *r->slots);
    r->item = calloc(r->g.nslots, sizeof *r->item);
    if (!r->slots || !r->item)
        return fail(NAVMAP_ENOMEM, "no memory to rewrite %u slots", r->g.nslots);
    for (uint32_t slot = 1; slot < r->g.nslots; slot++)
        if (stays(&r->g, slot, deleted)) {
            r->slots[r->n++] = slot;
            r->item[slot] = r->n;
        }
    return NAVMAP_OK;
}

navmap_status regraph_begin(struct regraph *r, navmap_index *ix, bool deleted)
{
    *r = (struct regraph){.ix = ix};
    TRY(scratch_take(&ix->shelf, ix->layout, &r->scratch));
    graph_of_edit(store_edit(ix->store), &ix->distance, r->scratch, &r->g);
    TRY(choose_items(r, deleted));
    if (index_flat(ix))
        return NAVMAP_OK;
    r->entry = choose_entry(r);
    return reserve(r, r->scratch);
}

navmap_status regraph_fill(struct regraph *r, uint32_t threads, struct toil *toil)
{
    r->rows = malloc(((uint64_t)r->n * r->g.M0 + 1) * sizeof *r->rows);
    if (!r->rows)
        return fail(NAVMAP_ENOMEM, "no memory for the rows of %u items", r->n);
    r->toil = toil;
    toil->total += r->n;
    crew_run(r->ix->crew, threads, fill_rows, r);
    TRY(toil_status(toil));
    return regraph_reach(r);
}

void regraph_end(struct regraph *r)
{
    if (r->scratch)
        scratch_give(&r->ix->shelf, r->scratch);
    free(r->slots);
    free(r->item);
    free(r->rows);
    *r = (struct regraph){.n = 0};
}
