/* insert.c -- one vector into the graph: HNSW insertion over the writer's view, beside others.
 *
 * Malkov and Yashunin 2018, algorithm 1: draw a level, descend greedily to it, from there down
 * search each level with a wide beam, choose neighbours by the heuristic, link both ways.
 *
 * A1  All that can fail happens before store_item_payload(): the item is whole or absent.
 * A2  All searches come before all links: a new node's links do not depend on its own.
 * A3  No row gains a link to a DEAD slot, to the slot that this item supersedes, or to itself.
 * A4  A node that reaches nobody through the entry is linked by a scan of all slots, and where it
 *     is nobody's neighbour even then, it is the only one: it becomes the entry.  While there is no
 *     entry, or one that a higher node is about to replace, one thread at a time inserts such a
 *     node.
 * A5  At least one neighbour links back.  When all have rows of nearer ones, the nearest gives up
 *     its last link, and the new node takes that one over, so that nobody loses a way in.
 * A6  A copy (select.h, S1) that a copy's row gives up for the new node, itself a copy, is taken
 *     over the same way: however many equal vectors there are, they stay one connected heap.
 * A7  One node's lock at a time, and only while its row is changed.  Searches of other adders read
 *     rows without it: they see ids that are each valid.  The new node's own rows are written
 *     before it is published and thus before anybody else can reach it.
 * A8  An item of a flat index is its payload: no level, no search, no links.
 * A9  Nobody loses its only way in, neither by the links that are made here (ways.h, W1) nor by the
 *     death of the slot that the item supersedes (W2).
 * A10 While few slots are DEAD the searches take all that they meet for live (walk.h, K3), which
 *     spares them the question, and the dead are sorted out before the choice.  Where more than
 *     half of what was found is dead, the search is made again, asking.
 * A11 Where halves are stored, a vector is rounded before anything is computed from it: an item is
 *     linked, coded and compared by the numbers that are read from it later.
 */
#include "engine/insert.h"

#include <math.h>
#include <string.h>

#include "engine/select.h"
#include "engine/walk.h"
#include "engine/ways.h"
#include "storage/fail.h"
#include "storage/half.h"

#define DEAD_FEW 4u /* live slots for each that is dead */

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* floor(-ln(U) / ln(M)); U in (0, 1] comes from the seed and the number of the insertion, so the
 * graph depends on nothing else and no generator state has to be stored. */
static uint32_t draw_level(const navmap_index *ix, uint64_t number)
{
    uint64_t bits = mix(mix(ix->layout->seed) ^ number);
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

/* The results of the beam that can be linked to, nearest first, into s->near. */
static uint32_t found_near(const struct graph *g, struct scratch *s, uint32_t level,
                           uint32_t *ret_met)
{
    uint32_t n = 0;
    const struct pool_entry *found = pool_finish(&s->pool, ret_met);
    for (uint32_t i = 0; g->unsure && i < *ret_met; i++)
        __builtin_prefetch((const void *)view_state(g->view, found[i].id));
    for (uint32_t i = 0; i < *ret_met; i++)
        if (!g->unsure || graph_linkable(g, found[i].id, level))
            s->near[n++] = (struct near){found[i].dist, found[i].id};
    return n;
}

static uint32_t candidates(const struct graph *g, struct scratch *s, const struct target *to,
                           uint32_t slot, uint32_t level, uint32_t ef)
{
    uint32_t met;
    walk_search(g, s, to, slot, level, ef);
    uint32_t n = found_near(g, s, level, &met);
    if (n >= met / 2)
        return n;
    struct graph asking = *g; /* A10 */
    asking.all_live = asking.unsure = false;
    walk_search(&asking, s, to, slot, level, ef);
    return found_near(&asking, s, level, &met);
}

/* The n candidates in s->near, thinned to M. */
static uint32_t choose(const struct graph *g, struct scratch *s, uint32_t n, uint32_t level,
                       struct near *ret_chosen)
{
    n = select_diverse(g, g->self, s->near, n, g->M - g->M / 4, g->M, s->aside, s->near);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!g->all_live ||
            graph_linkable(g, s->near[i].id, level)) /* a damaged file's may not be */
            ret_chosen[kept++] = s->near[i];
    return kept;
}

/* A4: everything live, by brute force. */
static uint32_t scan(const struct graph *g, struct scratch *s, const struct target *to, uint32_t ef)
{
    uint32_t met;
    struct graph live = *g;
    live.live_only = true;
    pool_reset(&s->pool, ef, false);
    for (uint32_t slot = 1; slot < g->nslots; slot++)
        if (graph_linkable(&live, slot, 0))
            pool_offer(&s->pool, graph_distance(g, to, slot), slot, STATE_WORD(0, SLOT_LIVE));
    return found_near(&live, s, 0, &met);
}

/* Neighbours for every level up to `level` into s->chosen, M0 apart; their numbers into ret_n.
 * Returns whether the entry led to any of those at level 0. */
static bool find_neighbours(navmap_index *ix, struct scratch *s, const struct graph *g,
                            const struct target *to, uint32_t level, uint64_t entry,
                            uint32_t *ret_n)
{
    uint32_t slot = 0, top = 0, ef = beam(ix, g);
    for (uint32_t l = 0; l <= level; l++)
        ret_n[l] = 0;
    if (graph_entry(g, entry, &slot, &top)) {
        uint32_t from = level < top ? level : top;
        slot = graph_descend(g, s, to, slot, top, from);
        for (uint32_t l = from + 1; l-- > 0;) {
            uint32_t n = candidates(g, s, to, slot, l, ef);
            if (s->pool.nearest.id != 0)
                slot = s->pool.nearest.id;
            ret_n[l] = choose(g, s, n, l, s->chosen + (size_t)l * g->M0);
        }
    }
    if (ret_n[0] != 0)
        return true;
    bool one_dies = g->dying != 0 && edit_status(g->edit, g->dying) == SLOT_LIVE;
    if (store_root(ix->store).n_live > one_dies)
        ret_n[0] = choose(g, s, scan(g, s, to, ef), 0, s->chosen);
    return false;
}

/* A7: nobody reaches the node yet.  One that had links before keeps those that others need. */
static void write_own_row(navmap_index *ix, struct scratch *s, const struct graph *g,
                          uint32_t level, uint32_t n)
{
    _Atomic uint32_t *row = store_row_edit(ix->store, g->self, level);
    const uint32_t width = level == 0 ? g->M0 : g->M;
    memcpy(s->row, s->chosen + (size_t)level * g->M0, n * sizeof *s->row);
    n = ways_keep(g, s, g->self, row, width, level, n);
    for (uint32_t i = 0; i < width; i++)
        row_put(row, i, i < n ? s->row[i].id : 0);
}

/* The new node's row gets an id that another row gives up, if it has room. */
static void take_over(navmap_index *ix, const struct graph *g, uint32_t level, uint32_t id)
{
    uint32_t width = level == 0 ? g->M0 : g->M, i = 0;
    store_node_lock(ix->store, g->self);
    _Atomic uint32_t *row = store_row_edit(ix->store, g->self, level);
    while (i < width && row_get(row, i) != 0 && row_get(row, i) != id)
        i++;
    if (id != 0 && id != g->self && i < width)
        row_put(row, i, id);
    store_node_unlock(ix->store, g->self);
}

/* A6: what the row of a copy gives up for the new node, itself a copy, into s->ids. */
static uint32_t given_up_copies(const struct graph *g, struct scratch *s,
                                const _Atomic uint32_t *row, uint32_t width, uint32_t level,
                                uint32_t n_kept, float zero)
{
    const struct target to = graph_target_node(g, g->self, g->pair);
    uint32_t n = 0;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        bool stays = id == 0 || id >= g->nslots || !graph_linkable(g, id, level);
        for (uint32_t j = 0; j < n_kept && !stays; j++)
            stays = s->row[j].id == id;
        if (!stays && graph_distance(g, &to, id) == zero)
            s->ids[n++] = id;
    }
    return n;
}

/* Did the neighbour take the link?  Its node is locked. */
static bool link_locked(navmap_index *ix, struct scratch *s, const struct graph *g, struct near to,
                        uint32_t level, float zero, uint32_t *ret_given_up)
{
    _Atomic uint32_t *row = store_row_edit(ix->store, to.id, level);
    uint32_t width = level == 0 ? g->M0 : g->M;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id == 0)
            row_put(row, i, g->self);
        if (id == 0 || id == g->self) /* the latter: `to` is being added too, and took it over */
            return true;
    }
    uint32_t n = select_shrink(g, s, to.id, row, width, level, (struct near){to.dist, g->self});
    bool taken = false;
    for (uint32_t i = 0; i < n; i++)
        taken |= s->row[i].id == g->self;
    n = ways_keep(g, s, to.id, row, width, level, n);
    if (taken && to.dist == zero)
        *ret_given_up = given_up_copies(g, s, row, width, level, n, zero);
    for (uint32_t i = 0; i < width; i++)
        row_put(row, i, i < n ? s->row[i].id : 0);
    return taken;
}

static bool link_back(navmap_index *ix, struct scratch *s, const struct graph *g, struct near to,
                      uint32_t level, float zero)
{
    uint32_t given_up = 0;
    store_node_lock(ix->store, to.id);
    bool taken = link_locked(ix, s, g, to, level, zero, &given_up);
    store_node_unlock(ix->store, to.id);
    for (uint32_t i = 0; i < given_up; i++)
        take_over(ix, g, level, s->ids[i]);
    return taken;
}

/* A5: into the row of `to` after all, in the place of its last id, which the node takes over. */
static void force_back(navmap_index *ix, const struct graph *g, uint32_t level, struct near to)
{
    uint32_t last = (level == 0 ? g->M0 : g->M) - 1;
    store_node_lock(ix->store, to.id);
    _Atomic uint32_t *row = store_row_edit(ix->store, to.id, level);
    while (last > 0 && row_get(row, last) == 0)
        last--;
    uint32_t lost = row_get(row, last);
    row_put(row, last, g->self);
    store_node_unlock(ix->store, to.id);
    take_over(ix, g, level, lost);
}

static void link_level(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t level,
                       uint32_t n)
{
    const struct target to = graph_target_node(g, g->self, g->pair);
    const struct near *chosen = s->chosen + (size_t)level * g->M0;
    float zero = graph_distance(g, &to, g->self);
    bool taken = n == 0;
    for (uint32_t i = 0; i < n; i++)
        taken |= link_back(ix, s, g, chosen[i], level, zero);
    if (!taken)
        force_back(ix, g, level, chosen[0]);
}

/* Searches, own rows, links, entry, for a node of `level` whose payload is there; `item` is to be
 * published between rows and links, or NULL. */
static void place(navmap_index *ix, struct scratch *s, const struct graph *g,
                  const struct target *to, uint32_t level, struct store_item *item)
{
    uint32_t n[LAYOUT_LEVEL_MAX + 1];
    uint64_t entry = store_root(ix->store).entry;
    bool alone = false; /* A4 */
    if ((uint32_t)entry == 0 || level > (uint32_t)(entry >> 32)) {
        store_entry_lock(ix->store);
        entry = store_root(ix->store).entry;
        alone = (uint32_t)entry == 0 || level > (uint32_t)(entry >> 32);
        if (!alone)
            store_entry_unlock(ix->store);
    }
    bool reached = find_neighbours(ix, s, g, to, level, entry, n); /* A2 */
    for (uint32_t l = 0; l <= level; l++)
        write_own_row(ix, s, g, l, n[l]);
    if (item)
        store_item_publish(ix->store, item);
    for (uint32_t l = 0; l <= level; l++)
        link_level(ix, s, g, l, n[l]);
    if (!alone && !reached) {
        store_entry_lock(ix->store);
        alone = store_root(ix->store).entry == entry; /* else somebody else was faster */
        if (!alone)
            store_entry_unlock(ix->store);
    }
    if (alone) {
        store_entry_set(ix->store, g->self, level);
        store_entry_unlock(ix->store);
    }
}

/* What is stored, and into s->vector the same as floats: links and codes are of what will be
 * there (A11). */
static void prepare(const navmap_index *ix, struct scratch *s, const float *vector)
{
    const uint32_t dim = ix->layout->dim;
    if (ix->distance.normalise)
        distance_normalise(vector, dim, s->vector);
    else if (vector != s->vector)
        memcpy(s->vector, vector, 4 * (size_t)dim);
    if (s->halves) {
        half_narrow(s->vector, dim, s->halves);
        half_widen(s->halves, dim, s->vector);
    }
}

static const void *stored(const struct scratch *s)
{
    return s->halves ? (const void *)s->halves : s->vector;
}

/* The item is taken: nothing can fail any more (A1). */
static void link_item(navmap_index *ix, struct scratch *s, struct graph *g, struct store_item *item)
{
    const struct target to = graph_target(g, s, s->vector);
    store_item_payload(ix->store, item, s->code, stored(s));
    g->self = item->slot;
    g->dying = item->old_slot;
    g->unsure = g->all_live && (g->unsure || g->dying != 0);
    place(ix, s, g, &to, item->level, item);
    if (g->dying != 0)
        ways_bridge(ix, s, g, edit_status(g->edit, g->dying) == SLOT_DELETED);
}

navmap_status index_bridge_room(navmap_index *ix, struct scratch *s)
{
    struct graph g;
    TRY(store_sweep_room(ix->store, ix->layout->M0 + ix->layout->M + 1u));
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    return reserve(ix, s, &g);
}

void index_bridge(navmap_index *ix, struct scratch *s, uint32_t slot)
{
    struct graph g;
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    g.dying = slot;
    ways_bridge(ix, s, &g, false);
}

navmap_status index_relink_room(navmap_index *ix, struct scratch *s, uint32_t slot)
{
    struct graph g;
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    TRY(store_sweep_room(ix->store, (graph_level(&g, slot) + 1) * (g.M0 + 2u)));
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    return reserve(ix, s, &g);
}

void index_relink(navmap_index *ix, struct scratch *s, uint32_t slot)
{
    struct graph g;
    graph_of_edit(store_edit(ix->store), &ix->distance, s, &g);
    g.self = slot;
    g.live_only = true;
    const struct target to = graph_target_node(&g, slot, s->query);
    place(ix, s, &g, &to, graph_level(&g, slot), NULL);
}

/* The label is in, so the promise is kept: before the item ends, so that who holds the write lock
 * exclusively sees the one or the other. */
void insert_keep_promise(navmap_index *ix, _Atomic uint64_t *promised)
{
    uint64_t left = promised ? atomic_load(promised) : 0;
    while (left > 0 && !atomic_compare_exchange_weak(promised, &left, left - 1))
        ;
    if (left > 0)
        atomic_fetch_sub(&ix->reserved_labels, 1);
}

/* The graph as an item meets it.  Within the item: before it the file may have grown. */
static void meet_graph(navmap_index *ix, struct scratch *s, struct graph *g)
{
    graph_of_edit(store_edit(ix->store), &ix->distance, s, g);
    const struct disk_root root = store_root(ix->store);
    g->all_live = root.n_dead <= root.n_live / DEAD_FEW; /* A10 */
    g->unsure = root.n_dead > 0;
    if (ix->vacuum && store_sweep_running(ix->store)) { /* repair.c, R5 */
        g->live_only = true;
        g->unsure = true;
    }
}

static navmap_status take_place(navmap_index *ix, struct scratch *s, const struct insert *in,
                                struct graph *g, struct store_item *item)
{
    if (index_flat(ix))
        return store_item_take(ix->store, 0, item);
    meet_graph(ix, s, g);
    TRY(reserve(ix, s, g));
    return store_item_take(ix->store, in->has_level ? in->level : draw_level(ix, item->number),
                           item);
}

navmap_status index_insert(navmap_index *ix, struct scratch *s, const struct insert *in)
{
    struct store_item item = {
        .label = in->label, .batch_items = in->batch_items, .replace = in->replace};
    struct graph g;
    TRY(store_item_enter(ix->store, &item));
    navmap_status status = take_place(ix, s, in, &g, &item);
    if (status != NAVMAP_OK) {
        store_item_abandon(ix->store, &item);
        return status;
    }
    prepare(ix, s, in->vector);
    if (index_flat(ix))
        store_item_payload(ix->store, &item, NULL, stored(s)); /* A8 */
    else
        link_item(ix, s, &g, &item);
    if (item.is_new)
        insert_keep_promise(ix, in->promised);
    store_item_end(ix->store, &item);
    return NAVMAP_OK;
}

/* For together.c ------------------------------------------------------------------------------*/

uint32_t insert_level(const navmap_index *ix, uint64_t number)
{
    return draw_level(ix, number);
}

navmap_status insert_graph(navmap_index *ix, struct scratch *s, uint32_t candidates,
                           struct graph *ret_graph)
{
    meet_graph(ix, s, ret_graph);
    TRY(reserve(ix, s, ret_graph));
    return scratch_reserve_build(s, ix->layout, candidates);
}

void insert_payload(navmap_index *ix, struct scratch *s, const float *vector,
                    struct store_item *item)
{
    const struct layout *l = ix->layout;
    prepare(ix, s, vector);
    if (l->code_stride > 0)
        codes_encode(s->vector, l->dim, l->code_stride, s->code);
    store_item_payload(ix->store, item, s->code, stored(s));
}

bool insert_seek(navmap_index *ix, struct scratch *s, const struct graph *g, uint32_t level,
                 uint64_t entry, uint32_t *ret_n, float *ret_zero)
{
    const struct target to = graph_target_node(g, g->self, s->query);
    *ret_zero = graph_distance(g, &to, g->self);
    bool reached = find_neighbours(ix, s, g, &to, level, entry, ret_n);
    for (uint32_t l = 0; l <= level; l++)
        write_own_row(ix, s, g, l, ret_n[l]);
    return reached;
}

bool insert_link_back(navmap_index *ix, struct scratch *s, const struct graph *g, struct near to,
                      uint32_t level, float zero)
{
    return link_back(ix, s, g, to, level, zero);
}

void insert_force_back(navmap_index *ix, const struct graph *g, uint32_t level, struct near to)
{
    force_back(ix, g, level, to);
}
