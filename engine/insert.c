/* insert.c -- one vector into the graph: HNSW insertion over the writer's view.
 *
 * Malkov and Yashunin 2018, algorithm 1: draw a level, descend greedily to it, from there down
 * search each level with a wide beam, choose neighbours by the heuristic, link both ways.
 *
 * A1  All that can fail happens before the first store_row_edit(): the item is whole or absent.
 * A2  All searches come before all links: a new node's links do not depend on its own.
 * A3  No row gains a link to a DEAD slot, to the slot that this item supersedes, or to itself.
 * A4  A node that reaches nobody through the entry is linked by a scan of all slots, and where it
 *     is nobody's neighbour even then, it is the only one: it becomes the entry.
 * A5  At least one neighbour links back.  When all have rows of nearer ones, the nearest gives up
 *     its last link, and the new node takes that one over, so that nobody loses a way in.
 * A6  A copy (select.h, S1) that a copy's row gives up for the new node, itself a copy, is taken
 *     over the same way: however many equal vectors there are, they stay one connected heap.
 */
#include "engine/index.h"

#include <math.h>

#include "engine/select.h"
#include "storage/fail.h"

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* floor(-ln(U) / ln(M)); U in (0, 1] comes from the seed and the number of the insertion, so the
 * graph depends on nothing else and no generator state has to be stored. */
static uint32_t draw_level(const navmap_index *ix)
{
    uint64_t bits = mix(mix(ix->layout->seed) ^ store_inserted(ix->store));
    double u = (double)((bits >> 11) + 1) * 0x1p-53;
    double level = -log(u) * ix->level_scale;
    return level < LAYOUT_LEVEL_MAX ? (uint32_t)level : LAYOUT_LEVEL_MAX;
}

/* A beam no wider than the graph, so that a huge ef_construction costs nothing in a small one. */
static uint32_t beam(const navmap_index *ix, const struct graph *g)
{
    uint32_t ef = ix->layout->ef_construction;
    if (ef > g->nslots)
        ef = g->nslots;
    return ef > ix->layout->M ? ef : ix->layout->M;
}

static navmap_status reserve(navmap_index *ix, struct scratch *s, const struct graph *g)
{
    uint32_t ef = beam(ix, g), near = ef > g->M0 + 1 ? ef : g->M0 + 1;
    TRY(scratch_reserve(s, ef, g->nslots));
    return scratch_reserve_build(s, ix->layout, near);
}

/* The results of the beam as candidates, nearest first, thinned to M. */
static uint32_t choose(const struct graph *g, struct scratch *s, struct near *ret_chosen)
{
    uint32_t n;
    const struct pool_entry *found = pool_finish(&s->pool, &n);
    for (uint32_t i = 0; i < n; i++)
        s->near[i] = (struct near){found[i].dist, found[i].id};
    n = select_diverse(g, g->self, s->near, n, g->M, s->aside, s->near);
    for (uint32_t i = 0; i < n; i++)
        ret_chosen[i] = s->near[i];
    return n;
}

/* A4: everything linkable, by brute force. */
static void scan(const struct graph *g, struct scratch *s, const float *v, uint32_t ef)
{
    pool_reset(&s->pool, ef);
    for (uint32_t slot = 1; slot < g->nslots; slot++)
        if (graph_linkable(g, slot, 0))
            pool_offer(&s->pool, distance_hint(g->distance, v, edit_vec(g->edit, slot)), slot,
                       STATE_WORD(0, SLOT_LIVE));
}

/* Neighbours for every level up to `level` into s->chosen, M0 apart; their numbers into ret_n.
 * Returns whether the entry led to any of those at level 0. */
static bool find_neighbours(navmap_index *ix, struct scratch *s, const struct graph *g,
                            const float *v, uint32_t level, uint32_t *ret_n)
{
    uint32_t slot = 0, top = 0, ef = beam(ix, g);
    for (uint32_t l = 0; l <= level; l++)
        ret_n[l] = 0;
    if (graph_entry(g, store_entry(ix->store), &slot, &top)) {
        uint32_t from = level < top ? level : top;
        slot = graph_descend(g, v, slot, top, from);
        for (uint32_t l = from + 1; l-- > 0;) {
            graph_search(g, s, v, slot, l, ef);
            if (s->pool.nearest.id != 0)
                slot = s->pool.nearest.id;
            ret_n[l] = choose(g, s, s->chosen + (size_t)l * g->M0);
        }
    }
    if (ret_n[0] != 0)
        return true;
    const struct disk_root *root = &g->edit->root;
    if (root->n_live + root->n_deleted > (g->dying != 0)) {
        scan(g, s, v, ef);
        ret_n[0] = choose(g, s, s->chosen);
    }
    return false;
}

/* The row of the new node at one level. */
struct own_row {
    uint32_t *ids;
    uint32_t n, width, level;
};

static void take_over(struct own_row *own, uint32_t id)
{
    for (uint32_t i = 0; i < own->n; i++)
        if (own->ids[i] == id)
            return;
    if (id != 0 && own->n < own->width)
        own->ids[own->n++] = id;
}

/* A6: what the row of a copy gives up for the new node, and has the same vector. */
static void take_over_copies(const struct graph *g, struct own_row *own, const uint32_t *row,
                             const struct near *kept, uint32_t n_kept, float zero)
{
    const float *v = edit_vec(g->edit, g->self);
    for (uint32_t i = 0; i < own->width; i++) {
        uint32_t id = row[i];
        bool stays = id == 0 || id >= g->nslots || !graph_linkable(g, id, own->level);
        for (uint32_t j = 0; j < n_kept && !stays; j++)
            stays = kept[j].id == id;
        if (!stays && distance_hint(g->distance, v, edit_vec(g->edit, id)) == zero)
            take_over(own, id);
    }
}

/* Did the neighbour take the link? */
static bool link_back(navmap_index *ix, struct scratch *s, const struct graph *g, struct near to,
                      struct own_row *own, float zero)
{
    uint32_t *row = store_row_edit(ix->store, to.id, own->level);
    for (uint32_t i = 0; i < own->width; i++)
        if (row[i] == 0) {
            row[i] = g->self;
            return true;
        }
    uint32_t n =
        select_shrink(g, s, to.id, row, own->width, own->level, (struct near){to.dist, g->self});
    bool taken = false;
    for (uint32_t i = 0; i < n; i++)
        taken |= s->row[i].id == g->self;
    if (taken && to.dist == zero)
        take_over_copies(g, own, row, s->row, n, zero);
    for (uint32_t i = 0; i < own->width; i++)
        row[i] = i < n ? s->row[i].id : 0;
    return taken;
}

/* A5: into the row of `to` after all, in the place of its last id, which the node takes over. */
static void force_back(navmap_index *ix, const struct graph *g, struct near to, struct own_row *own)
{
    uint32_t *row = store_row_edit(ix->store, to.id, own->level), last = own->width - 1;
    while (last > 0 && row[last] == 0)
        last--;
    take_over(own, row[last]);
    row[last] = g->self;
}

static void link_level(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t level,
                       uint32_t n)
{
    const float *v = edit_vec(g->edit, g->self);
    const struct near *chosen = s->chosen + (size_t)level * g->M0;
    struct own_row own = {store_row_edit(ix->store, g->self, level), n, level == 0 ? g->M0 : g->M,
                          level};
    float zero = distance_hint(g->distance, v, v);
    bool taken = n == 0;
    for (uint32_t i = 0; i < n; i++)
        own.ids[i] = chosen[i].id;
    for (uint32_t i = 0; i < n; i++)
        taken |= link_back(ix, s, g, chosen[i], &own, zero);
    if (!taken)
        force_back(ix, g, chosen[0], &own);
}

navmap_status index_add_one(navmap_index *ix, struct scratch *s, uint64_t label,
                            const float *vector, bool *ret_new)
{
    struct store_item item;
    struct graph g;
    uint32_t n[LAYOUT_LEVEL_MAX + 1];
    TRY(store_item_begin(ix->store, label, draw_level(ix), &item));
    graph_of_edit(store_edit(ix->store), &ix->distance, &g); /* after it: the file may have grown */
    navmap_status status = reserve(ix, s, &g);
    if (status != NAVMAP_OK) {
        store_item_abandon(ix->store, &item);
        return status;
    }
    const float *v = vector;
    if (ix->distance.normalise) {
        distance_normalise(vector, ix->layout->dim, s->vector);
        v = s->vector;
    }
    store_item_payload(ix->store, &item, NULL, v);
    g.self = item.slot;
    g.dying = item.old_slot;

    bool reached = find_neighbours(ix, s, &g, v, item.level, n); /* A2 */
    uint64_t entry = store_entry(ix->store);
    for (uint32_t l = 0; l <= item.level; l++)
        link_level(ix, s, &g, l, n[l]);
    if (!reached || item.level > (uint32_t)(entry >> 32))
        store_entry_set(ix->store, item.slot, item.level);
    store_item_end(ix->store, &item);
    *ret_new = item.old_slot == 0;
    return NAVMAP_OK;
}
