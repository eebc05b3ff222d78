/* walk.c -- the two steps of a beam search; see walk.h for K1..K4, graph.h for G1..G5.
 *
 * Each step is written once and compiled for the writer's staged graph and for what is mapped, with
 * codes and without.
 */
#include "engine/walk.h"

#include "engine/distance/codes_levels.h"
#include "engine/filter.h"
#include "engine/graph_inline.h"
#include "engine/walk_levels.h"

/* Payloads, rows and states are where the map has them: for queries, and for the writer of an index
 * that is written through. */
static bool is_mapped(const struct graph *g)
{
    return !g->edit || !g->edit->ov;
}

/* Into the beam: what the node is worth is asked only now, when it is near enough to matter. */
GRAPH_INLINE void offer(const struct graph *g, struct pool *pool, float d, uint32_t id,
                        uint32_t level)
{
    uint32_t word = STATE_WORD(0, SLOT_LIVE);
    if (!g->all_live) {
        if (g->edit) {
            if (edit_status(g->edit, id) == SLOT_FREE)
                return; /* G4 */
            word = graph_linkable(g, id, level) ? word : 0;
        } else {
            word = atomic_load_explicit(view_state(g->view, id), memory_order_acquire); /* q4 */
            if (STATE_STATUS(word) != SLOT_LIVE || (g->sieve && !sieve_admits(g->sieve, id, word)))
                word = 0;
        }
    }
    pool_offer(pool, d, id, word);
}

GRAPH_INLINE void prefetch_status(const struct graph *g, uint32_t id)
{
    if (g->all_live)
        return;
    if (g->edit && g->edit->ov)
        __builtin_prefetch((const void *)&g->edit->ov[id]);
    __builtin_prefetch((const void *)view_state(g->view, id));
}

/* Where the row of a node is, should it be expanded. */
GRAPH_INLINE void prefetch_row(const struct graph *g, uint32_t id, uint32_t level)
{
    if (level != 0)
        return;
    graph_prefetch((const void *)(g->edit ? edit_row(g->edit, id) : view_row(g->view, id)),
                   g->M0 * 4);
}

/* The ids of a row that were not met before; G1. */
GRAPH_INLINE uint32_t unmet(const struct graph *g, struct visited *v, const _Atomic uint32_t *row,
                            uint32_t width, uint32_t *ids)
{
    uint32_t n = 0;
    visited_room(v, width);
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        id = id < g->nslots ? id : 0;
        ids[n] = id;
        n += !visited_set(v, id);
    }
    fence_acquire(); /* pairing "row", with P2: what the ids name is whole */
    return n;
}

/* The next node's neighbours into the hop; false when there is no such node. */
GRAPH_INLINE bool gather(struct walk *w, struct hop *hop, bool edit, bool coded)
{
    const struct graph *g = w->g;
    uint32_t node;
    if ((g->sieve && g->sieve->halt) || !pool_next(&w->s->pool, &node))
        return false;
    const _Atomic uint32_t *row = graph_row(g, edit || g->edit, node, w->level);
    hop->n = row ? unmet(g, &w->s->visited, row, w->level == 0 ? g->M0 : g->M, hop->ids) : 0;
    graph_locate(g, edit, coded, hop->ids, hop->n, hop);
    w->s->tally.measured += hop->n;
    w->s->tally.expanded++;
    return true;
}

static bool gather_any(struct walk *w, struct hop *hop)
{
    if (w->to.code)
        return is_mapped(w->g) ? gather(w, hop, false, true) : gather(w, hop, true, true);
    return is_mapped(w->g) ? gather(w, hop, false, false) : gather(w, hop, true, false);
}

/* Measure them and offer them; then ask for the row of the node that is next. */
static void score(struct walk *w, struct hop *hop)
{
    const struct graph *g = w->g;
    struct pool *pool = &w->s->pool;
    float *dists = w->s->dists;
    uint32_t near = 0, next;
    graph_measure(g, &w->to, hop, hop->n, dists);
    /* Those that are near enough: what is to be known of them is asked for together. */
    for (uint32_t i = 0; i < hop->n; i++) {
        float d = dists[i];
        uint32_t id = hop->ids[i];
        dists[near] = d;
        hop->ids[near] = id;
        near += d < pool->bound; /* NaN, a hint gone wrong, is as good as far away */
    }
    for (uint32_t i = 0; i < near; i++)
        prefetch_status(g, hop->ids[i]);
    for (uint32_t i = 0; i < near; i++) {
        float d = dists[i];
        if (d < pool->bound)
            offer(g, pool, d < FLT_MAX ? d : FLT_MAX, hop->ids[i], w->level);
    }
    if (pool_peek(pool, 0, &next))
        prefetch_row(g, next, w->level);
}

static bool general_step(struct walk *w)
{
    struct hop *hop = &w->s->hops[w->turn], *other = &w->s->hops[w->turn ^ 1];
    if (!w->more)
        return false;
    if (!w->to.code) { /* K4 */
        score(w, hop);
        w->more = gather_any(w, hop);
        return w->more;
    }
    w->more = gather_any(w, other); /* K1 */
    score(w, hop);
    w->more = w->more || gather_any(w, other);
    w->turn ^= 1;
    return w->more;
}

/* The level was settled once (distance.h); its kernel tells which one it is. */
static walk_step_fn *fast_step(const struct distance *d, bool staged)
{
#if defined(__x86_64__)
    if (d->codes == codes_many_avx2)
        return staged ? walk_staged_avx2 : walk_step_avx2;
    if (d->codes == codes_many_avx512)
        return staged ? walk_staged_avx512 : walk_step_avx512;
    if (d->codes == codes_many_vnni)
        return staged ? walk_staged_vnni : walk_step_vnni;
#endif
    (void)d;
    (void)staged;
    return NULL;
}

void walk_share(struct walk *w, struct asks *asks)
{
    w->asks = asks;
    w->s->hops[0].asked = w->s->hops[1].asked = asks->head;
}

static void make_fast(struct walk *w, walk_step_fn *fast)
{
    const struct view *v = w->g->view;
    const struct layout *l = &v->layout;
    const uint8_t *chunk = v->base + layout_chunk_off(l, 0);
    const uint64_t codes = (uint64_t)l->slots_per_chunk * l->code_stride;
    w->step = fast;
    walk_share(w, w->asks);
    w->place = (struct walk_place){.rows = chunk + l->off_row,
                                   .codes = chunk + l->off_code,
                                   .chunk_bytes = l->chunk_bytes,
                                   .shift = l->slot_shift,
                                   .mask = l->slots_per_chunk - 1,
                                   .row_stride = l->row_stride,
                                   .code_stride = l->code_stride,
                                   .gap = (uint32_t)((l->chunk_bytes - codes) >> WALK_GAP_SHIFT)};
}

void walk_begin(struct walk *w, const struct graph *g, struct scratch *s, const struct target *to,
                uint32_t slot, uint32_t level, uint32_t ef)
{
    struct hop *hop = &s->hops[0];
    *w = (struct walk){
        .g = g, .s = s, .to = *to, .level = level, .asks = &s->asks, .step = general_step};
    walk_step_fn *fast = fast_step(g->distance, !is_mapped(g));
    if (fast && level == 0 && to->code && !g->sieve)
        make_fast(w, fast);
    visited_clear(&s->visited);
    pool_reset(&s->pool, ef, g->all_live);
    visited_test_set(&s->visited, slot);
    if (g->self != 0)
        visited_test_set(&s->visited, g->self);
    hop->ids[0] = slot;
    hop->n = 1;
    graph_locate(g, g->edit != NULL, to->code != NULL, hop->ids, 1, hop);
    score(w, hop);
    w->more = gather_any(w, hop);
    hop_pad(hop);
}

void walk_offer(struct walk *w, float d, uint32_t id)
{
    offer(w->g, &w->s->pool, d < FLT_MAX ? d : FLT_MAX, id, w->level);
}

void walk_search(const struct graph *g, struct scratch *s, const struct target *to, uint32_t slot,
                 uint32_t level, uint32_t ef)
{
    struct walk w;
    walk_begin(&w, g, s, to, slot, level, ef);
    while (walk_step(&w))
        ;
}
