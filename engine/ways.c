/* ways.c -- who names whom, and what is done about those whom nobody does; see ways.h. */
#include "engine/ways.h"

#include <string.h>

#include "engine/graph_inline.h"
#include "engine/select.h"
#include "engine/walk.h"

#define BRIDGES_TRIED 6u /* neighbours of the slot that each of them is offered */
#define LINKS_ASKED 8u   /* of a row's links, that bridges are compared with, beforehand */
#define HOOD_MOST 32u    /* the bits of a word */
#define HOOD_CELLS 64u

/* Neighbours of a slot that dies, or as many of them as are looked at together. */
struct hood {
    uint32_t n;
    uint32_t ids[HOOD_MOST];
    float dist[HOOD_MOST][HOOD_MOST]; /* from each other; of itself it is undefined */
    uint8_t at[HOOD_CELLS];           /* by hash of the slot: its number plus one, or 0 */
};

/* The number of a slot in the hood; HOOD_MOST = it is none of them, and `cell` is where it would
 * be. */
static uint32_t hood_find(const struct hood *h, uint32_t id, uint32_t *ret_cell)
{
    uint32_t cell = id % HOOD_CELLS;
    while (h->at[cell] != 0 && h->ids[h->at[cell] - 1] != id)
        cell = (cell + 1) % HOOD_CELLS;
    *ret_cell = cell;
    return h->at[cell] != 0 ? h->at[cell] - 1u : HOOD_MOST;
}

/* A neighbour whose links count. */
static bool counts(const struct graph *g, uint32_t slot)
{
    enum slot_status status = edit_status(g->edit, slot);
    return slot != g->dying && (status == SLOT_LIVE || (status == SLOT_DELETED && !g->live_only));
}

/* Ids are packed in front. */
static bool row_names(const _Atomic uint32_t *row, uint32_t width, uint32_t id)
{
    for (uint32_t i = 0, have = id + 1; i < width && have != 0; i++)
        if ((have = row_get(row, i)) == id)
            return true;
    return false;
}

bool ways_named(const struct graph *g, struct scratch *s, uint32_t id, uint32_t but, uint32_t level)
{
    const uint32_t width = level == 0 ? g->M0 : g->M;
    uint32_t *ids = s->hops[1].ids, n = graph_copy_row(g, id, level, ids);
    for (uint32_t i = 0; i < n; i++) {
        const _Atomic uint32_t *row = ids[i] != but ? graph_edit_row(g, ids[i], level) : NULL;
        if (row && row_names(row, width, id) && counts(g, ids[i]))
            return true;
    }
    return false;
}

static bool in_row(const struct near *row, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (row[i].id == id)
            return true;
    return false;
}

uint32_t ways_keep(const struct graph *g, struct scratch *s, uint32_t slot,
                   const _Atomic uint32_t *row, uint32_t width, uint32_t level, uint32_t n)
{
    uint32_t kept = n;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id == 0 || id >= g->nslots || id == slot || in_row(s->row, kept, id) ||
            !graph_linkable(g, id, level) || ways_named(g, s, id, slot, level))
            continue;
        const struct near way = {FLT_MAX, id};
        uint32_t last = n;
        if (kept < width) {
            s->row[kept++] = way;
            continue;
        }
        while (last > 0 && (s->row[last - 1].id == g->self ||
                            !ways_named(g, s, s->row[last - 1].id, slot, level)))
            last--;
        if (last > 0)
            s->row[last - 1] = way;
    }
    return kept;
}

/* The place in the row of `to` for one id more: an empty one, or, when they may be taken, that of
 * an id that is dead or that others name too; `width` = there is none. */
static uint32_t place_in(const struct graph *g, struct scratch *s, uint32_t to, bool take)
{
    const _Atomic uint32_t *row = graph_edit_row(g, to, 0);
    for (uint32_t i = 0; i < g->M0; i++)
        if (row_get(row, i) == 0)
            return i;
    for (uint32_t i = g->M0; take && i-- > 0;) {
        uint32_t id = row_get(row, i);
        if (id >= g->nslots || !counts(g, id) || (id != g->self && ways_named(g, s, id, to, 0)))
            return i;
    }
    return g->M0;
}

static bool put_in(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t to,
                   uint32_t id, bool take)
{
    store_node_lock(ix->store, to);
    uint32_t place = g->M0;
    bool done = row_names(graph_edit_row(g, to, 0), g->M0, id);
    if (!done)
        place = place_in(g, s, to, take);
    if (place < g->M0)
        row_put(store_row_edit(ix->store, to, 0), place, id);
    store_node_unlock(ix->store, to);
    return done || place < g->M0;
}

bool ways_reach(navmap_index *ix, struct scratch *s, const struct graph *around, uint32_t id)
{
    struct graph g = *around;
    uint32_t slot, top, n;
    g.self = id;
    g.all_live = g.unsure = false;
    if (!graph_entry(&g, store_root(ix->store).entry, &slot, &top))
        return false;
    const struct target to = graph_target_node(&g, id, s->query);
    slot = graph_descend(&g, s, &to, slot, top, 0);
    walk_search(&g, s, &to, slot, 0, g.M);
    const struct pool_entry *found = pool_finish(&s->pool, &n);
    g.self = around->self;
    for (uint32_t i = 0; i < n; i++)
        if (put_in(ix, s, &g, found[i].id, id, true))
            return true;
    return false;
}

bool ways_give(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t id)
{
    const uint32_t n = graph_copy_row(g, id, 0, s->ids);
    for (uint32_t take = 0; take < 2; take++)
        for (uint32_t i = 0; i < n; i++)
            if (s->ids[i] != id && counts(g, s->ids[i]) &&
                put_in(ix, s, g, s->ids[i], id, take != 0))
                return true;
    return ways_reach(ix, s, g, id);
}

/* `of` names `id` from now on: where it named the slot that dies, else in an empty place.  False
 * when it has neither and does not name it already. */
static bool name_instead(navmap_index *ix, const struct graph *g, uint32_t of, uint32_t id)
{
    uint32_t place = g->M0;
    bool done = false;
    store_node_lock(ix->store, of);
    _Atomic uint32_t *row = store_row_edit(ix->store, of, 0);
    for (uint32_t i = 0; i < g->M0 && !done; i++) {
        uint32_t have = row_get(row, i);
        done = have == id;
        if (have == g->dying || (have == 0 && place == g->M0))
            place = i;
        if (have == 0)
            break;
    }
    if (!done && place < g->M0)
        row_put(row, place, id);
    store_node_unlock(ix->store, of);
    return done || place < g->M0;
}

/* `of` names the slot that dies no longer, and nobody instead.  Ids stay packed. */
static void forget(navmap_index *ix, const struct graph *g, uint32_t of)
{
    uint32_t place = g->M0, n = 0;
    store_node_lock(ix->store, of);
    _Atomic uint32_t *row = store_row_edit(ix->store, of, 0);
    for (uint32_t id; n < g->M0 && (id = row_get(row, n)) != 0; n++)
        if (id == g->dying)
            place = n;
    if (place < n) {
        row_put(row, place, row_get(row, n - 1));
        row_put(row, n - 1, 0);
    }
    store_node_unlock(ix->store, of);
}

/* The n slots of `from` into h, and how far they are from each other. */
static void gather(const struct graph *g, struct scratch *s, const struct near *from, uint32_t n,
                   struct hood *h)
{
    memset(h->at, 0, sizeof h->at);
    h->n = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t cell;
        if (hood_find(h, from[i].id, &cell) < HOOD_MOST) /* in a damaged row */
            continue;
        h->ids[h->n++] = from[i].id;
        h->at[cell] = (uint8_t)h->n;
    }
    for (uint32_t i = 0; i + 1 < h->n; i++) {
        const struct target to = graph_target_node(g, h->ids[i], g->pair);
        graph_distances(g, s, &to, h->ids + i + 1, h->n - i - 1, s->dists);
        for (uint32_t j = i + 1; j < h->n; j++)
            h->dist[i][j] = h->dist[j][i] = s->dists[j - i - 1];
    }
}

/* Of the members, in `among` as bits, the one that is nearest to member `of`. */
static uint32_t nearest_in(const struct hood *h, uint32_t of, uint32_t among)
{
    uint32_t best = (uint32_t)__builtin_ctz(among);
    for (uint32_t left = among & (among - 1); left != 0; left &= left - 1) {
        const uint32_t i = (uint32_t)__builtin_ctz(left);
        best = h->dist[of][i] < h->dist[of][best] ? i : best;
    }
    return best;
}

/* Is member i no nearer to any of those in `named` than to member `of`? */
static bool diverse_in(const struct hood *h, uint32_t of, uint32_t i, uint32_t named)
{
    for (; named != 0; named &= named - 1)
        if (h->dist[__builtin_ctz(named)][i] < h->dist[of][i])
            return false;
    return true;
}

/* What is measured of a slot will be needed. */
static void ask(const struct graph *g, uint32_t id)
{
    const uint8_t *code;
    const void *vector;
    struct hop hop = {.codes = &code, .vectors = &vector};
    graph_locate(g, true, g->view->layout.code_stride > 0, &id, 1, &hop);
}

/* The row of member `of` into s->row, without the slot that dies, members apart: as bits. */
static uint32_t read_links(const struct graph *g, struct scratch *s, const struct hood *h,
                           uint32_t of, uint32_t *ret_named)
{
    const _Atomic uint32_t *row = graph_edit_row(g, h->ids[of], 0);
    uint32_t n = 0, named = 0, cell;
    for (uint32_t i = 0; i < g->M0; i++) {
        const uint32_t id = row_get(row, i);
        if (id == 0)
            break;
        const uint32_t member = hood_find(h, id, &cell);
        if (member < HOOD_MOST)
            named |= 1u << member;
        else if (id < g->nslots && id != g->dying) {
            if (n < LINKS_ASKED)
                ask(g, id);
            s->row[n++].id = id;
        }
    }
    *ret_named = named;
    return n;
}

/* Whom member `of` is to name in the place of the slot that dies: the nearest of the others that it
 * does not name and that is no nearer to one that it does.  If none of a few is, its row does
 * without (0), unless that leaves it less than half full: then the nearest is good enough.  (Links
 * to the dead count as links: to look at each was a seventh of what a bridge costs.) */
static uint32_t bridge_from(const struct graph *g, struct scratch *s, const struct hood *h,
                            uint32_t of)
{
    uint32_t named, n = read_links(g, s, h, of, &named), nearest = 0;
    const uint32_t links = n + (uint32_t)__builtin_popcount(named);
    uint32_t left = (h->n < 32 ? (1u << h->n) - 1 : UINT32_MAX) & ~(named | 1u << of);
    for (uint32_t t = 0; t < BRIDGES_TRIED && left != 0; t++) {
        const uint32_t i = nearest_in(h, of, left);
        const struct near c = {h->dist[of][i], h->ids[i]};
        nearest = t == 0 ? c.id : nearest;
        if (diverse_in(h, of, i, named) && select_is_diverse(g, c, s->row, n))
            return c.id;
        left &= ~(1u << i);
    }
    return links < g->M0 / 2 ? nearest : 0;
}

/* The LIVE slots that the one that goes names, into s->ids; how many.  `namers`: of these only
 * those that name it. */
static uint32_t left_behind(const struct graph *g, struct scratch *s, bool namers)
{
    uint32_t *ids = s->ids, n = graph_copy_row(g, g->dying, 0, ids), kept = 0;
    for (uint32_t i = 0; i < n; i++) {
        graph_prefetch(graph_edit_row(g, ids[i], 0), g->M0 * 4);
        __builtin_prefetch((const void *)view_state(g->view, ids[i]));
    }
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] != g->self && ids[i] != g->dying && edit_status(g->edit, ids[i]) == SLOT_LIVE &&
            (!namers || row_names(graph_edit_row(g, ids[i], 0), g->M0, g->dying)))
            ids[kept++] = ids[i];
    return kept;
}

/* W2, of one part of those left behind. */
static uint32_t bridge_part(navmap_index *ix, struct scratch *s, const struct graph *g,
                            const struct hood *h, uint32_t may_give)
{
    uint32_t given = 0;
    for (uint32_t i = 0; i < h->n; i++) {
        const uint32_t id = h->ids[i], to = bridge_from(g, s, h, i);
        bool named = false;
        if (to == 0) {
            forget(ix, g, id);
        } else {
            (void)name_instead(ix, g, id, to);
            named = name_instead(ix, g, to, id);
        }
        if (!named && given < may_give && !ways_named(g, s, id, g->dying, 0))
            given += ways_give(ix, s, g, id);
    }
    return given;
}

void ways_bridge(navmap_index *ix, struct scratch *s, const struct graph *g, bool again)
{
    struct hood h;
    const uint32_t n = left_behind(g, s, again), parts = (n + HOOD_MOST - 1) / HOOD_MOST;
    uint32_t given = 0;
    for (uint32_t i = 0; i < n; i++)
        s->near[i].id = s->ids[i];
    for (uint32_t part = 0; part < parts; part++) {
        const uint32_t first = n * part / parts, end = n * (part + 1) / parts;
        gather(g, s, s->near + first, end - first, &h);
        given += bridge_part(ix, s, g, &h, g->M - given);
    }
    if (n == 0 || again)
        return;
    store_node_lock(ix->store, g->dying);
    _Atomic uint32_t *row = store_row_edit(ix->store, g->dying, 0);
    for (uint32_t i = 0; i < g->M0; i++)
        row_put(row, i, i < n ? s->near[i].id : 0);
    store_node_unlock(ix->store, g->dying);
}
