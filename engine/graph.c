/* graph.c -- rows, distances and greedy descent; see graph.h for G1..G5. */
#include "engine/graph.h"

#include "engine/graph_inline.h"

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

void graph_of_edit(const struct stage *edit, const struct distance *distance, struct scratch *s,
                   struct graph *ret_graph)
{
    graph_of_view(edit->view, distance, ret_graph);
    ret_graph->edit = edit;
    ret_graph->pair = s->pair;
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

uint32_t graph_level(const struct graph *g, uint32_t slot)
{
    const uint32_t most = layout_level_most(&g->view->layout);
    uint32_t level = TAG_LEVEL(edit_up(g->edit, slot));
    level = level < most ? level : most;
    while (level > 0 && !graph_edit_row(g, slot, level))
        level--;
    return level;
}

bool graph_linkable(const struct graph *g, uint32_t slot, uint32_t level)
{
    enum slot_status status = edit_status(g->edit, slot);
    if ((status != SLOT_LIVE && (status != SLOT_DELETED || g->live_only)) || slot == g->dying ||
        slot == g->self)
        return false;
    return level == 0 || graph_edit_row(g, slot, level) != NULL;
}

uint32_t graph_copy_row(const struct graph *g, uint32_t slot, uint32_t level, uint32_t *ids)
{
    return graph_read_row(g, true, slot, level, ids);
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

/* Distances -----------------------------------------------------------------------------------*/

struct target graph_target(const struct graph *g, struct scratch *s, const float *vector)
{
    const struct layout *l = &g->view->layout;
    if (l->code_stride == 0)
        return (struct target){vector, NULL};
    codes_encode(vector, l->dim, l->code_stride, s->code);
    codes_prepare(l->space, s->code, l->dim, l->code_stride, s->query);
    return (struct target){vector, s->query};
}

struct target graph_target_node(const struct graph *g, uint32_t slot, struct codes_query *room)
{
    const struct layout *l = &g->view->layout;
    if (l->code_stride == 0 && l->scalar == LAYOUT_F32)
        return (struct target){edit_vec(g->edit, slot), NULL};
    if (l->code_stride == 0) {
        float *vector = (float *)(void *)room->c;
        distance_widen(edit_vec(g->edit, slot), l->dim, vector);
        return (struct target){vector, NULL};
    }
    codes_prepare(l->space, edit_code(g->edit, slot), l->dim, l->code_stride, room);
    return (struct target){NULL, room};
}

float graph_distance(const struct graph *g, const struct target *to, uint32_t slot)
{
    float d;
    if (to->code) {
        const uint8_t *row = edit_code(g->edit, slot);
        g->distance->codes(to->code, &row, 1, &d);
    } else {
        d = g->distance->fn(to->vector, edit_vec(g->edit, slot), g->distance->dim);
    }
    return d < FLT_MAX ? d : FLT_MAX;
}

void graph_distances(const struct graph *g, struct scratch *s, const struct target *to,
                     const uint32_t *slots, uint32_t n, float *ret)
{
    struct hop *hop = &s->hops[0];
    graph_locate(g, true, to->code != NULL, slots, n, hop);
    graph_measure(g, to, hop, n, ret);
    for (uint32_t i = 0; i < n; i++)
        ret[i] = ret[i] < FLT_MAX ? ret[i] : FLT_MAX;
}

/* Descent -------------------------------------------------------------------------------------*/

GRAPH_INLINE uint32_t descend(const struct graph *g, bool edit, struct scratch *s,
                              const struct target *to_what, uint32_t slot, uint32_t from,
                              uint32_t to)
{
    const bool coded = to_what->code != NULL;
    struct hop *hop = &s->hops[0];
    hop->ids[0] = slot;
    graph_locate(g, edit, coded, hop->ids, 1, hop);
    graph_measure(g, to_what, hop, 1, s->dists);
    s->tally.measured++;
    float best = s->dists[0];
    for (uint32_t level = from; level > to; level--) {
        for (bool moved = true; moved;) {
            moved = false;
            uint32_t n = graph_read_row(g, edit, slot, level, hop->ids);
            graph_locate(g, edit, coded, hop->ids, n, hop);
            graph_measure(g, to_what, hop, n, s->dists);
            s->tally.measured += n;
            for (uint32_t i = 0; i < n; i++) {
                if (s->dists[i] < best) { /* G2 */
                    best = s->dists[i];
                    slot = hop->ids[i];
                    moved = true;
                }
            }
        }
    }
    return slot;
}

uint32_t graph_descend(const struct graph *g, struct scratch *s, const struct target *to_what,
                       uint32_t slot, uint32_t from, uint32_t to)
{
    if (from <= to)
        return slot;
    return g->edit ? descend(g, true, s, to_what, slot, from, to)
                   : descend(g, false, s, to_what, slot, from, to);
}
