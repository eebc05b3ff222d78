/* repair.c -- the sweep: links to dead slots are replaced, then the slots are free again.
 *
 *   idle --repair_some(), n_dead > max(1024, n_live/8)--> store_sweep_begin(): D is fixed
 *        --repair_some(), a portion of slots a time-----> rows that name D are refilled
 *        --cursor past the last slot--------------------> store_sweep_end(): D becomes FREE
 *
 * It runs inside mutating calls, a few slots for each item, so that no call pays for a whole sweep
 * and a sweep ends before half as many slots again have died.
 *
 * A flat index has no rows: nothing is due there, its slots are free at once.
 *
 * R1  A row that is refilled keeps what it has of linkable ids and loses all others, members of D
 *     or not; what those linked to are the candidates for the room (as FreshDiskANN does it).
 * R2  The entry is moved off D before the first row is looked at.
 * R3  Rows of FREE slots and of D itself are left alone: nobody reaches them once D is free, and
 *     publication writes them anew.
 */
#include "engine/index.h"

#include "engine/select.h"
#include "engine/walk.h"
#include "storage/fail.h"

#define DEAD_MIN 1024u
#define DEAD_SHARE 8u
#define CANDIDATES_MAX 4096u /* of one row; M = 512 could name a million */

static uint32_t repair_beam(const navmap_index *ix)
{
    uint32_t ef = ix->layout->ef_construction;
    return ef < CANDIDATES_MAX ? ef : CANDIDATES_MAX;
}

navmap_status repair_reserve(navmap_index *ix, struct scratch *s, const struct graph *g)
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
    return g;
}

static bool names_member(const navmap_index *ix, const struct graph *g, uint32_t slot,
                         uint32_t level)
{
    const _Atomic uint32_t *row = graph_edit_row(g, slot, level);
    uint32_t width = level == 0 ? g->M0 : g->M;
    for (uint32_t i = 0; row && i < width; i++)
        if (row_get(row, i) != 0 && store_sweep_member(ix->store, row_get(row, i)))
            return true;
    return false;
}

static struct near near_to(const struct graph *g, const struct target *to, uint32_t id)
{
    return (struct near){graph_distance(g, to, id), id};
}

/* Candidates behind a dead neighbour: what it linked to.  s->visited keeps each id single. */
static uint32_t collect_behind(const struct graph *g, struct scratch *s, const struct target *to,
                               uint32_t dead, uint32_t level, uint32_t n)
{
    const _Atomic uint32_t *row = graph_edit_row(g, dead, level);
    uint32_t width = level == 0 ? g->M0 : g->M;
    for (uint32_t i = 0; row && i < width && n < s->cap_near; i++) {
        uint32_t id = row_get(row, i);
        if (id == 0 || id >= g->nslots || visited_test_set(&s->visited, id))
            continue;
        if (graph_linkable(g, id, level))
            s->near[n++] = near_to(g, to, id);
    }
    return n;
}

/* When a whole neighbourhood has died: look for a new one from the entry. */
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

/* Take candidates of one status, nearest first, that are no nearer to one in the row so far than to
 * the slot.  Of its copies one is enough (select.h, S1), unless nothing else fills the row. */
static uint32_t refill(const struct graph *g, struct scratch *s, uint32_t n, uint32_t kept,
                       uint32_t width, enum slot_status status, bool copies)
{
    const struct target to = graph_target_node(g, g->self, s->pair);
    float zero = graph_distance(g, &to, g->self);
    bool has_copy = false;
    for (uint32_t i = 0; i < kept; i++)
        has_copy |= s->row[i].dist == zero;
    for (uint32_t i = 0; i < n && kept < width; i++) {
        struct near c = s->near[i];
        bool copy = c.dist == zero;
        if (c.id == 0 || STATE_STATUS(edit_state(g->edit, c.id)) != status ||
            (copy && has_copy) != copies || !select_is_diverse(g, c, s->row, kept))
            continue;
        s->row[kept++] = c;
        s->near[i].id = 0; /* taken */
        has_copy |= copy;
    }
    return kept;
}

uint32_t repair_refill(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t level)
{
    uint32_t width = level == 0 ? g->M0 : g->M, kept = 0, n = 0;
    uint32_t *ids = s->ids, n_ids = graph_copy_row(g, g->self, level, ids);
    const struct target to = graph_target_node(g, g->self, s->query);
    visited_clear(&s->visited);
    for (uint32_t i = 0; i < n_ids; i++)
        if (!visited_test_set(&s->visited, ids[i]) && graph_linkable(g, ids[i], level))
            s->row[kept++] = near_to(g, &to, ids[i]);
    for (uint32_t i = 0; i < n_ids; i++)
        if (!graph_linkable(g, ids[i], level))
            n = collect_behind(g, s, &to, ids[i], level, n);
    if (kept + n < width / 4)
        n = collect_by_search(ix, g, s, &to, level, kept);
    select_sort(s->near, n);
    kept = refill(g, s, n, kept, width, SLOT_LIVE, false);
    kept = refill(g, s, n, kept, width, SLOT_DELETED, false);
    return refill(g, s, n, kept, width, SLOT_LIVE, true);
}

/* R1.  Room for the edit was made. */
static void repair_row(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t level)
{
    _Atomic uint32_t *row = store_row_edit(ix->store, g->self, level);
    uint32_t width = level == 0 ? g->M0 : g->M, kept = repair_refill(ix, s, g, level);
    for (uint32_t i = 0; i < width; i++)
        row_put(row, i, i < kept ? s->row[i].id : 0);
}

/* All rows of one slot. */
static navmap_status repair_slot(navmap_index *ix, struct scratch *s, uint32_t slot)
{
    struct graph g = graph_around(ix, s, slot);
    if (STATE_STATUS(edit_state(g.edit, slot)) == SLOT_FREE || store_sweep_member(ix->store, slot))
        return NAVMAP_OK; /* R3 */
    uint32_t levels = TAG_LEVEL(edit_tag(g.edit, slot)->up);
    bool room = false;
    for (uint32_t level = 0; level <= levels; level++) {
        if (!names_member(ix, &g, slot, level))
            continue;
        if (!room) {
            TRY(store_sweep_room(ix->store, levels + 1));
            g = graph_around(ix, s, slot);
            room = true;
        }
        repair_row(ix, s, &g, level);
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
        uint32_t level = TAG_LEVEL(edit_tag(g->edit, slot)->up);
        if (best == 0 || level > best_level) {
            best = slot;
            best_level = level;
        }
    }
    return best;
}

uint32_t repair_heir(struct scratch *s, const struct graph *g, uint32_t slot, uint32_t top)
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
        !store_sweep_member(ix->store, slot))
        return;
    uint32_t heir = repair_heir(s, &g, slot, top);
    store_entry_set(ix->store, heir, heir ? TAG_LEVEL(edit_tag(g.edit, heir)->up) : 0);
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

static navmap_status sweep_portion(navmap_index *ix, struct scratch *s, uint64_t slots)
{
    const struct disk_root *root = &store_edit(ix->store)->root;
    if (!store_sweep_running(ix->store)) {
        uint64_t dead;
        if (!too_many_dead(root))
            return NAVMAP_OK;
        TRY(store_sweep_begin(ix->store, &dead));
        if (dead == 0)
            return NAVMAP_OK;
    }
    struct graph g = graph_around(ix, s, 0);
    TRY(repair_reserve(ix, s, &g));
    move_entry(ix, s);
    uint32_t cursor = store_sweep_cursor(ix->store);
    uint32_t end = extent_slots(root->extent);
    if (end > g.nslots)
        end = g.nslots;
    for (; cursor < end && slots > 0; slots--) {
        TRY(repair_slot(ix, s, cursor));
        store_sweep_advance(ix->store, ++cursor);
    }
    return cursor < end ? NAVMAP_OK : store_sweep_end(ix->store);
}

void repair_some(navmap_index *ix, struct scratch *s, uint64_t slots)
{
    /* The call that pays for this has done its own work.  A store that cannot commit says so when
     * that call settles; anything else is tried again by the next one. */
    if (index_flat(ix) || sweep_portion(ix, s, slots) != NAVMAP_OK)
        return;
}
