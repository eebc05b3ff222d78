/* ways.c -- who names whom, and what is done about those whom nobody does; see ways.h. */
#include "engine/ways.h"

#include "engine/graph_inline.h"
#include "engine/walk.h"

#define BRIDGES_TRIED 32u /* neighbours behind it that each one of a dying slot's is offered */

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

/* The n slots in s->ids, neighbours of one that dies: into s->near for each the nearest other one
 * that it does not name, or id 0. */
static void find_bridges(const struct graph *g, struct scratch *s, uint32_t n)
{
    const uint32_t *ids = s->ids;
    for (uint32_t i = 0; i < n; i++)
        s->near[i] = (struct near){FLT_MAX, 0};
    for (uint32_t i = 0; i + 1 < n; i++) {
        const uint32_t others = n - i - 1 < BRIDGES_TRIED ? n - i - 1 : BRIDGES_TRIED;
        const struct target to = graph_target_node(g, ids[i], g->pair);
        graph_distances(g, s, &to, ids + i + 1, others, s->dists);
        for (uint32_t j = i + 1; j <= i + others; j++) {
            const float d = s->dists[j - i - 1];
            if (ids[i] == ids[j]) /* in a damaged row */
                continue;
            if (d < s->near[i].dist && !row_names(graph_edit_row(g, ids[i], 0), g->M0, ids[j]))
                s->near[i] = (struct near){d, ids[j]};
            if (d < s->near[j].dist && !row_names(graph_edit_row(g, ids[j], 0), g->M0, ids[i]))
                s->near[j] = (struct near){d, ids[i]};
        }
    }
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

void ways_bridge(navmap_index *ix, struct scratch *s, const struct graph *g, bool again)
{
    const uint32_t n = left_behind(g, s, again);
    uint32_t given = 0;
    find_bridges(g, s, n);
    for (uint32_t i = 0; i < n; i++)
        s->row[i].id = s->ids[i]; /* ways_give() needs the other */
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t id = s->row[i].id, to = s->near[i].id;
        bool named = false;
        if (to != 0) {
            (void)name_instead(ix, g, id, to);
            named = name_instead(ix, g, to, id);
        }
        if (!named && given < g->M && !ways_named(g, s, id, g->dying, 0))
            given += ways_give(ix, s, g, id);
    }
    if (n == 0 || again)
        return;
    store_node_lock(ix->store, g->dying);
    _Atomic uint32_t *row = store_row_edit(ix->store, g->dying, 0);
    for (uint32_t i = 0; i < g->M0; i++)
        row_put(row, i, i < n ? s->row[i].id : 0);
    store_node_unlock(ix->store, g->dying);
}
