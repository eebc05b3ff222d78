/* graph.c -- greedy descent and beam search; see graph.h for G1..G4.
 *
 * Each walk is written once and compiled twice, with `edit` a constant, so that the query path
 * carries no branch of the writer's; the beam search once more with `sieved`, so that a query
 * without a filter carries none of the filter's.
 */
#include "engine/graph.h"

#include "engine/filter.h"

#define INLINE static inline __attribute__((always_inline))
#define AHEAD 4u /* vectors asked for before they are needed */

/* Ask for the cache lines of a range.  gcc 12 merges prefetches of a loop into the first one
 * unless something that it may not reorder stands between them. */
INLINE void prefetch(const void *p, uint32_t bytes)
{
    uint32_t n = bytes < 512 ? bytes : 512; /* the hardware streams the rest */
    for (uint32_t i = 0; i < n; i += 64) {
        __builtin_prefetch((const char *)p + i);
        atomic_signal_fence(memory_order_seq_cst);
    }
}

void graph_of_view(const struct view *view, const struct distance *distance,
                   struct graph *ret_graph)
{
    const struct layout *l = &view->layout;
    *ret_graph = (struct graph){.view = view,
                                .distance = distance,
                                .nslots = view_slots(view),
                                .ncells = view_cells(view),
                                .M = l->M,
                                .M0 = l->M0};
}

void graph_of_edit(const struct stage *edit, const struct distance *distance,
                   struct graph *ret_graph)
{
    graph_of_view(edit->view, distance, ret_graph);
    ret_graph->edit = edit;
    if (!edit->ov)
        return; /* written through: the map is all there is */
    if (ret_graph->nslots > edit->ov_slots)
        ret_graph->nslots = (uint32_t)edit->ov_slots;
    if (ret_graph->ncells > edit->ov_cells)
        ret_graph->ncells = (uint32_t)edit->ov_cells;
}

const _Atomic uint32_t *graph_edit_row(const struct graph *g, uint32_t slot, uint32_t level)
{
    if (level == 0)
        return edit_row(g->edit, slot);
    uint32_t up = edit_up(g->edit, slot);
    if (level > TAG_LEVEL(up) || TAG_CELL(up) + level - 1 >= g->ncells)
        return NULL;
    return edit_upper(g->edit, slot, level);
}

INLINE bool linkable(const struct graph *g, enum slot_status status, uint32_t slot, uint32_t level)
{
    if ((status != SLOT_LIVE && status != SLOT_DELETED) || slot == g->dying || slot == g->self)
        return false;
    return level == 0 || graph_edit_row(g, slot, level) != NULL;
}

bool graph_linkable(const struct graph *g, uint32_t slot, uint32_t level)
{
    return linkable(g, edit_status(g->edit, slot), slot, level);
}

/* A row that may be changing: relaxed words, then the fence of q3 by the caller. */
INLINE const _Atomic uint32_t *view_row_at(const struct graph *g, uint32_t slot, uint32_t level)
{
    if (level == 0)
        return view_row(g->view, slot);
    uint32_t up = view_tag_up(g->view, slot);
    uint32_t cell = TAG_CELL(up) + level - 1;
    if (level > TAG_LEVEL(up) || cell >= g->ncells)
        return NULL;
    return view_upper(g->view, cell);
}

/* Copy the ids of a row that G1 admits; 0 of them when the slot does not reach the level. */
INLINE uint32_t read_row(const struct graph *g, bool edit, uint32_t slot, uint32_t level,
                         uint32_t *ids)
{
    uint32_t width = level == 0 ? g->M0 : g->M, n = 0;
    const _Atomic uint32_t *row =
        edit ? graph_edit_row(g, slot, level) : view_row_at(g, slot, level);
    for (uint32_t i = 0; row && i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id != 0 && id < g->nslots)
            ids[n++] = id;
    }
    fence_acquire(); /* pairing "row", with P2: what the ids name is whole */
    return n;
}

uint32_t graph_copy_row(const struct graph *g, uint32_t slot, uint32_t level, uint32_t *ids)
{
    return read_row(g, true, slot, level, ids);
}

/* Some vectors of the row just read may be in the stage. */
INLINE bool some_staged(const struct graph *g, bool edit)
{
    return edit && !edit_payloads_mapped(g->edit);
}

INLINE const float *vector_of(const struct graph *g, bool staged, uint32_t slot)
{
    return staged ? edit_vec(g->edit, slot) : view_vec(g->view, slot);
}

bool graph_entry(const struct graph *g, uint64_t entry, uint32_t *ret_slot, uint32_t *ret_level)
{
    uint32_t slot = (uint32_t)entry, level = (uint32_t)(entry >> 32);
    if (slot == 0 || slot >= g->nslots)
        return false;
    *ret_slot = slot;
    *ret_level = level < LAYOUT_LEVEL_MAX ? level : LAYOUT_LEVEL_MAX;
    return true;
}

INLINE uint32_t descend(const struct graph *g, bool edit, const float *query, uint32_t slot,
                        uint32_t from, uint32_t to)
{
    uint32_t ids[LAYOUT_M_MAX]; /* levels above 0 have M */
    const float *vectors[LAYOUT_M_MAX];
    float dists[LAYOUT_M_MAX];
    float best = from > to ? distance_hint(g->distance, query, vector_of(g, edit, slot)) : 0;
    for (uint32_t level = from; level > to; level--) {
        for (bool moved = true; moved;) {
            moved = false;
            uint32_t n = read_row(g, edit, slot, level, ids);
            bool staged = some_staged(g, edit);
            for (uint32_t i = 0; i < n; i++)
                vectors[i] = vector_of(g, staged, ids[i]);
            for (uint32_t i = 0; i < n && i < AHEAD; i++)
                prefetch(vectors[i], g->distance->dim * 4);
            g->distance->many(query, vectors, n, g->distance->dim, dists);
            for (uint32_t i = 0; i < n; i++) {
                if (dists[i] < best) { /* G2 */
                    best = dists[i];
                    slot = ids[i];
                    moved = true;
                }
            }
        }
    }
    return slot;
}

uint32_t graph_descend(const struct graph *g, const float *query, uint32_t slot, uint32_t from,
                       uint32_t to)
{
    return g->edit ? descend(g, true, query, slot, from, to)
                   : descend(g, false, query, slot, from, to);
}

INLINE void prefetch_status(const struct graph *g, bool edit, uint32_t id)
{
    if (edit && g->edit->ov)
        __builtin_prefetch((const void *)&g->edit->ov[id]);
    __builtin_prefetch((const void *)view_state(g->view, id));
}

/* Where the row of a node of level 0 is, should it be expanded. */
INLINE void prefetch_row(const struct graph *g, bool edit, uint32_t id)
{
    const struct stage_slot *r = edit ? edit_record(g->edit, id) : NULL;
    if (r)
        prefetch(r, (uint32_t)sizeof *r + g->M0 * 4);
    else
        prefetch(view_row(g->view, id), g->M0 * 4);
}

/* Into the beam: what the node is worth is asked only now, when it is near enough to matter. */
INLINE void offer(const struct graph *g, bool edit, bool sieved, struct pool *pool, float d,
                  uint32_t id, uint32_t level)
{
    uint32_t word = 0;
    if (edit) {
        enum slot_status status = edit_status(g->edit, id);
        if (status == SLOT_FREE)
            return; /* G4 */
        if (linkable(g, status, id, level))
            word = STATE_WORD(0, SLOT_LIVE);
    } else {
        word = atomic_load_explicit(view_state(g->view, id), memory_order_acquire); /* q4 */
        if (STATE_STATUS(word) != SLOT_LIVE || (sieved && !sieve_admits(g->sieve, id, word)))
            word = 0;
    }
    pool_offer(pool, d, id, word);
}

INLINE void search(const struct graph *g, bool edit, bool sieved, struct scratch *s,
                   const float *query, uint32_t slot, uint32_t level, uint32_t ef)
{
    struct pool *pool = &s->pool;
    uint32_t *fresh = s->fresh, dim_bytes = g->distance->dim * 4;
    visited_clear(&s->visited);
    pool_reset(pool, ef);
    visited_test_set(&s->visited, slot);
    if (edit && g->self != 0)
        visited_test_set(&s->visited, g->self);
    offer(g, edit, sieved, pool, distance_hint(g->distance, query, vector_of(g, edit, slot)), slot,
          level);

    for (uint32_t node; !(sieved && g->sieve->halt) && pool_next(pool, &node);) {
        /* First the ids not met before, so that their vectors can be on the way; then the sums. */
        uint32_t n = read_row(g, edit, node, level, fresh), m = 0;
        bool staged = some_staged(g, edit);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t id = fresh[i];
            if (visited_test_set(&s->visited, id))
                continue;
            fresh[m] = id;
            s->vectors[m] = vector_of(g, staged, id);
            if (m < AHEAD)
                prefetch(s->vectors[m], dim_bytes);
            m++;
        }
        g->distance->many(query, s->vectors, m, g->distance->dim, s->dists);
        /* Those that are near enough: what is to be known of them is asked for together. */
        uint32_t near = 0;
        for (uint32_t i = 0; i < m; i++) {
            if (!(s->dists[i] < pool->bound)) /* NaN, a hint gone wrong, is as good as far away */
                continue;
            prefetch_status(g, edit, fresh[i]);
            s->dists[near] = s->dists[i];
            fresh[near++] = fresh[i];
        }
        for (uint32_t i = 0; i < near; i++) {
            float d = s->dists[i];
            if (!(d < pool->bound))
                continue;
            prefetch_row(g, edit, fresh[i]);
            offer(g, edit, sieved, pool, d < FLT_MAX ? d : FLT_MAX, fresh[i], level);
        }
    }
}

void graph_search(const struct graph *g, struct scratch *s, const float *query, uint32_t slot,
                  uint32_t level, uint32_t ef)
{
    if (g->edit)
        search(g, true, false, s, query, slot, level, ef);
    else if (g->sieve)
        search(g, false, true, s, query, slot, level, ef);
    else
        search(g, false, false, s, query, slot, level, ef);
}
