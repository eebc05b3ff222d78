/* repair.c -- the sweep: links to dead slots are taken out of the rows, then the slots are free.
 *
 *   idle --repair_some(), n_dead > max(1024, n_live/16)--> store_sweep_begin(): D is fixed
 *        --a portion of slots a time--------------------> rows that name D lose it
 *        --cursor past the last slot--------------------> store_sweep_end(): D becomes FREE
 *
 * It runs inside mutating calls, a few slots for each item, so that no call pays for a whole sweep
 * and a sweep ends before half as many slots again have died; or at once, in portions as well, when
 * navmap_vacuum() asks for it.
 *
 * A flat index has no rows: nothing is due there, its slots are free at once.
 *
 * R1  A row that names D keeps what it has of linkable ids and loses all others, members of D or
 *     not.  If it is less than half full then, or in a vacuum, the nearest of what those lost
 *     linked to are the candidates for it (as FreshDiskANN does it): first those that are diverse,
 *     then the nearest, up to as many as there were, half of the row at least.  A new neighbour
 *     with room for it links back, as in insertion: else the rows keep their number of links, but
 *     those whom few name are named by fewer with every sweep, and are found less and less.
 * R2  The entry is moved off D before the first row is looked at.
 * R3  Rows of FREE slots and of D itself are left alone: nobody reaches them once D is free, and
 *     publication writes them anew.
 * R4  Nobody loses the last way in here: it was secured when the slot died (ways.h, W2).
 * R5  A vacuum takes out DELETED slots as well, from all rows, so that the graph is one of LIVE
 *     slots; a row of a DELETED slot is not filled up, since it is linked anew if ever (W3).
 *     Adders choose none meanwhile, and ROOT's n_apart says in the end how many are out of the
 *     graph: all but those that were marked in the meantime.
 */
#include "engine/repair.h"

#include "engine/graph_inline.h"
#include "engine/select.h"
#include "engine/walk.h"
#include "storage/fail.h"

#define DEAD_MIN 1024u
#define DEAD_SHARE 16u
#define ENOUGH(width) ((width) / 2) /* links; see R1 */
#define CANDIDATES_MAX 4096u        /* of one row; M = 512 could name a million */

static uint32_t repair_beam(const navmap_index *ix)
{
    uint32_t ef = ix->layout->ef_construction;
    return ef < CANDIDATES_MAX ? ef : CANDIDATES_MAX;
}

static navmap_status repair_reserve(navmap_index *ix, struct scratch *s, const struct graph *g)
{
    uint32_t near = g->M0 * (g->M0 + 1u);
    near = near < CANDIDATES_MAX ? near : CANDIDATES_MAX;
    TRY(scratch_reserve(s, repair_beam(ix), g->nslots));
    return scratch_reserve_build(s, ix->layout, near < repair_beam(ix) ? repair_beam(ix) : near);
}

static struct graph graph_around(const navmap_index *ix, struct scratch *s, uint32_t slot)
{
    struct graph g;
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    g.self = slot;
    g.live_only = ix->vacuum;
    return g;
}

/* R1, R5: does the row have to change? */
static bool names_gone(const navmap_index *ix, const struct graph *g, const _Atomic uint32_t *row,
                       uint32_t width)
{
    uint32_t slots;
    const uint64_t *members = store_sweep_members(ix->store, &slots);
    uint64_t gone = 0;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        id = id < slots ? id : 0;
        gone |= members[id >> 6] >> (id & 63);
    }
    for (uint32_t i = 0; g->live_only && !(gone & 1) && i < width; i++) {
        uint32_t id = row_get(row, i);
        gone = id != 0 && id < g->nslots && edit_status(g->edit, id) != SLOT_LIVE;
    }
    return gone & 1;
}

static void measure(const struct graph *g, struct scratch *s, const struct target *to,
                    const uint32_t *ids, uint32_t n, struct near *ret)
{
    graph_distances(g, s, to, ids, n, s->dists);
    for (uint32_t i = 0; i < n; i++)
        ret[i] = (struct near){s->dists[i], ids[i]};
}

/* Into the `n` nearest so far, at most `most`, ascending; how many there are then. */
static uint32_t keep_near(struct near *near, uint32_t n, uint32_t most, struct near c)
{
    if (n == most && !(c.dist < near[n - 1].dist))
        return n;
    uint32_t i = n < most ? n++ : n - 1;
    for (; i > 0 && near[i - 1].dist > c.dist; i--)
        near[i] = near[i - 1];
    near[i] = c;
    return n;
}

/* Candidates behind a lost neighbour: the nearest of what it linked to.  s->visited keeps each id
 * single. */
static uint32_t collect_behind(const struct graph *g, struct scratch *s, const struct target *to,
                               uint32_t lost, uint32_t level, uint32_t n, uint32_t most)
{
    const _Atomic uint32_t *row = graph_edit_row(g, lost, level);
    uint32_t width = level == 0 ? g->M0 : g->M, found = 0, *ids = s->hops[1].ids;
    for (uint32_t i = 0; row && i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id != 0 && id < g->nslots && !visited_test_set(&s->visited, id) &&
            graph_linkable(g, id, level) && edit_status(g->edit, id) == SLOT_LIVE)
            ids[found++] = id;
    }
    graph_distances(g, s, to, ids, found, s->dists);
    for (uint32_t i = 0; i < found; i++)
        n = keep_near(s->near, n, most, (struct near){s->dists[i], ids[i]});
    return n;
}

/* When a whole neighbourhood has gone: look for a new one from the entry. */
static uint32_t collect_by_search(const navmap_index *ix, const struct graph *g, struct scratch *s,
                                  const struct target *to, uint32_t level, uint32_t kept)
{
    uint32_t slot, top, found_n, n = 0;
    if (!graph_entry(g, store_root(ix->store).entry, &slot, &top) || top < level)
        return 0;
    slot = graph_descend(g, s, to, slot, top, level);
    walk_search(g, s, to, slot, level, repair_beam(ix));
    const struct pool_entry *found = pool_finish(&s->pool, &found_n);
    for (uint32_t i = 0; i < found_n; i++) {
        bool have = false;
        for (uint32_t j = 0; j < kept; j++)
            have |= s->row[j].id == found[i].id;
        if (!have)
            s->near[n++] = (struct near){found[i].dist, found[i].id};
    }
    return n;
}

/* The row of g->self, `n_ids` ids with what is linkable, `kept` of them, in front: filled up again,
 * into s->row; how many. */
static uint32_t fill_up(const navmap_index *ix, const struct graph *g, struct scratch *s,
                        uint32_t level, const uint32_t *ids, uint32_t n_ids, uint32_t kept)
{
    const uint32_t width = level == 0 ? g->M0 : g->M;
    const uint32_t most = width < s->cap_near ? width : s->cap_near;
    const struct target to = graph_target_node(g, g->self, s->query);
    uint32_t n = 0;
    visited_clear(&s->visited);
    (void)visited_test_set(&s->visited, g->self);
    for (uint32_t i = 0; i < n_ids; i++)
        (void)visited_test_set(&s->visited, ids[i]);
    for (uint32_t i = kept; i < n_ids; i++)
        graph_prefetch(graph_edit_row(g, ids[i], level), width * 4);
    measure(g, s, &to, ids, kept, s->row);
    for (uint32_t i = kept; i < n_ids; i++)
        n = collect_behind(g, s, &to, ids[i], level, n, most);
    if (kept + n < width / 4)
        n = collect_by_search(ix, g, s, &to, level, kept);
    kept = select_fill(g, s, n, kept, width);
    const uint32_t least = n_ids > ENOUGH(width) ? n_ids : ENOUGH(width);
    for (uint32_t i = 0; i < n && kept < least; i++)
        if (s->near[i].id != 0)
            s->row[kept++] = s->near[i];
    return kept;
}

/* A new neighbour links back, if its row has room. */
static void link_back(navmap_index *ix, const struct graph *g, uint32_t of, uint32_t level,
                      uint32_t width)
{
    _Atomic uint32_t *row = store_row_edit(ix->store, of, level);
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id == 0)
            row_put(row, i, g->self);
        if (id == 0 || id == g->self)
            return;
    }
}

/* R1.  Room for the edits was made. */
static void repair_row(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t level)
{
    _Atomic uint32_t *row = store_row_edit(ix->store, g->self, level);
    uint32_t width = level == 0 ? g->M0 : g->M, *ids = s->ids, kept = 0;
    uint32_t n = graph_copy_row(g, g->self, level, ids);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t id = ids[i];
        if (!graph_linkable(g, id, level))
            continue;
        ids[i] = ids[kept];
        ids[kept++] = id;
    }
    const uint32_t had = kept;
    const bool fill =
        (g->live_only || kept < ENOUGH(width)) && edit_status(g->edit, g->self) == SLOT_LIVE;
    if (fill)
        kept = fill_up(ix, g, s, level, ids, n, kept);
    for (uint32_t i = 0; i < width; i++)
        row_put(row, i, i >= kept ? 0 : fill ? s->row[i].id : ids[i]);
    for (uint32_t i = had; i < kept; i++)
        link_back(ix, g, s->row[i].id, level, width);
}

/* All rows of one slot. */
static navmap_status repair_slot(navmap_index *ix, struct scratch *s, struct graph *g,
                                 uint32_t slot)
{
    g->self = slot;
    if (edit_status(g->edit, slot) == SLOT_FREE || store_sweep_member(ix->store, slot))
        return NAVMAP_OK; /* R3 */
    const uint32_t levels = graph_level(g, slot);
    bool room = false;
    for (uint32_t level = 0; level <= levels; level++) {
        const _Atomic uint32_t *row = graph_edit_row(g, slot, level);
        if (!row || !names_gone(ix, g, row, level == 0 ? g->M0 : g->M))
            continue;
        if (!room) {
            TRY(store_sweep_room(ix->store, (levels + 1) * (g->M0 + 1u)));
            *g = graph_around(ix, s, slot);
            room = true;
        }
        repair_row(ix, s, g, level);
        ix->rows_repaired++;
    }
    return NAVMAP_OK;
}

/* The linkable slot of the highest level, by looking at all; 0 when there is none. */
static uint32_t highest_linkable(const struct graph *g)
{
    uint32_t best = 0, best_level = 0;
    for (uint32_t slot = 1; slot < g->nslots; slot++) {
        if (!graph_linkable(g, slot, 0))
            continue;
        uint32_t level = TAG_LEVEL(edit_up(g->edit, slot));
        if (best == 0 || level > best_level) {
            best = slot;
            best_level = level;
        }
    }
    return best;
}

/* Who follows the entry point: the nearest linkable node of the highest level on which the walk
 * from it meets any; 0 = there is none. */
static uint32_t heir_of(struct scratch *s, const struct graph *g, uint32_t slot, uint32_t top)
{
    uint32_t heir = 0;
    for (uint32_t level = top + 1; level-- > 0 && heir == 0;) {
        uint32_t n;
        const struct target to = graph_target_node(g, slot, s->query);
        walk_search(g, s, &to, slot, level, g->M);
        const struct pool_entry *found = pool_finish(&s->pool, &n);
        if (n > 0)
            heir = found[0].id;
    }
    return heir != 0 ? heir : highest_linkable(g);
}

/* R2. */
static void move_entry(navmap_index *ix, struct scratch *s)
{
    struct graph g = graph_around(ix, s, 0);
    uint32_t slot, top;
    if (!graph_entry(&g, store_root(ix->store).entry, &slot, &top) ||
        (!store_sweep_member(ix->store, slot) &&
         (!ix->vacuum || edit_status(g.edit, slot) == SLOT_LIVE)))
        return;
    uint32_t heir = heir_of(s, &g, slot, top);
    store_entry_set(ix->store, heir, heir ? TAG_LEVEL(edit_up(g.edit, heir)) : 0);
}

static bool too_many_dead(const struct disk_root *root)
{
    uint64_t share = root->n_live / DEAD_SHARE;
    return root->n_dead > (share > DEAD_MIN ? share : DEAD_MIN);
}

bool repair_due(const navmap_index *ix)
{
    if (index_flat(ix))
        return false;
    const struct disk_root root = store_root_between(ix->store);
    return store_sweep_running(ix->store) || too_many_dead(&root);
}

navmap_status repair_begin(navmap_index *ix, bool vacuum)
{
    uint64_t dead;
    TRY(store_sweep_begin(ix->store, vacuum, &dead));
    ix->vacuum = vacuum;
    ix->marked_meanwhile = 0;
    ix->sweep_members = dead;
    return NAVMAP_OK;
}

navmap_status repair_portion(navmap_index *ix, struct scratch *s, uint64_t slots)
{
    struct graph g = graph_around(ix, s, 0);
    TRY(repair_reserve(ix, s, &g));
    move_entry(ix, s);
    uint32_t cursor = store_sweep_cursor(ix->store);
    uint32_t end = extent_slots(store_edit(ix->store)->root.extent);
    if (end > g.nslots)
        end = g.nslots;
    for (; cursor < end && slots > 0; slots--) {
        TRY(repair_slot(ix, s, &g, cursor));
        store_sweep_advance(ix->store, ++cursor);
    }
    if (cursor < end)
        return NAVMAP_OK;
    TRY(store_sweep_end(ix->store));
    const uint64_t deleted = store_edit(ix->store)->root.n_deleted;
    if (ix->vacuum && deleted >= ix->marked_meanwhile)
        store_apart_set(ix->store, deleted - ix->marked_meanwhile);
    ix->vacuum = false;
    ix->sweeps++;
    return NAVMAP_OK;
}

static navmap_status sweep_some(navmap_index *ix, struct scratch *s, uint64_t slots)
{
    if (!store_sweep_running(ix->store)) {
        if (!too_many_dead(&store_edit(ix->store)->root))
            return NAVMAP_OK;
        TRY(repair_begin(ix, false));
    }
    return store_sweep_running(ix->store) ? repair_portion(ix, s, slots) : NAVMAP_OK;
}

void repair_some(navmap_index *ix, struct scratch *s, uint64_t slots)
{
    /* The call that pays for this has done its own work.  A store that cannot commit says so when
     * that call settles; anything else is tried again by the next one. */
    if (index_flat(ix) || sweep_some(ix, s, slots) != NAVMAP_OK)
        return;
}
