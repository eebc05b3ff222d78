/* graph_inline.h -- the small steps of a walk, which descent, beam and selection share.
 *
 * All are inlined with `edit` and `coded` as constants where it matters, so that a query carries no
 * branch of the writer's.
 */
#ifndef NAVMAP_ENGINE_GRAPH_INLINE_H
#define NAVMAP_ENGINE_GRAPH_INLINE_H

#include "engine/graph.h"

#define GRAPH_INLINE static inline __attribute__((always_inline))
#define GRAPH_LINE 64u
#define GRAPH_LINES 64u /* asked for of one row: what a page holds */
#define GRAPH_NEAR 2    /* of the levels of __builtin_prefetch: up to the second-level cache */

/* Ask for the cache lines of a range that begins on one.  The second level is near enough, and it
 * keeps twice as many lines on the way as the first, for which a core would wait (ALGORITHM.md,
 * Codes).  gcc 12 merges prefetches of a loop into the first one unless something that it may not
 * reorder stands between them. */
GRAPH_INLINE void graph_prefetch(const void *p, uint32_t bytes)
{
    uint32_t n = bytes < GRAPH_LINES * GRAPH_LINE ? bytes : GRAPH_LINES * GRAPH_LINE;
    for (uint32_t i = 0; i < n; i += GRAPH_LINE) {
        __builtin_prefetch((const char *)p + i, 0, GRAPH_NEAR);
        atomic_signal_fence(memory_order_seq_cst);
    }
}

/* A row that may be changing: relaxed words, then the fence of q3 by the caller. */
GRAPH_INLINE const _Atomic uint32_t *graph_row(const struct graph *g, bool edit, uint32_t slot,
                                               uint32_t level)
{
    if (edit)
        return graph_edit_row(g, slot, level);
    if (level == 0)
        return view_row(g->view, slot);
    uint32_t up = view_tag_up(g->view, slot);
    uint32_t cell = TAG_CELL(up) + level - 1;
    if (level > TAG_LEVEL(up) || cell >= g->ncells)
        return NULL;
    return view_upper(g->view, cell);
}

/* Copy the ids of a row that G1 admits; 0 of them when the slot does not reach the level. */
GRAPH_INLINE uint32_t graph_read_row(const struct graph *g, bool edit, uint32_t slot,
                                     uint32_t level, uint32_t *ids)
{
    uint32_t width = level == 0 ? g->M0 : g->M, n = 0;
    const _Atomic uint32_t *row = graph_row(g, edit, slot, level);
    for (uint32_t i = 0; row && i < width; i++) {
        uint32_t id = row_get(row, i);
        ids[n] = id;
        n += id != 0 && id < g->nslots;
    }
    fence_acquire(); /* pairing "row", with P2: what the ids name is whole */
    return n;
}

/* Where what is measured of `n` slots lies, asked for on the way. */
GRAPH_INLINE void graph_locate(const struct graph *g, bool edit, bool coded, const uint32_t *slots,
                               uint32_t n, struct hop *hop)
{
    /* Some payloads of those just read may be in the stage. */
    const bool staged = edit && !edit_payloads_mapped(g->edit);
    for (uint32_t i = 0; i < n; i++) {
        if (coded) {
            hop->codes[i] = staged ? edit_code(g->edit, slots[i]) : view_code(g->view, slots[i]);
            graph_prefetch(hop->codes[i], g->view->layout.code_stride);
        } else {
            hop->vectors[i] = staged ? edit_vec(g->edit, slots[i]) : view_vec(g->view, slots[i]);
            if (i < 4) /* the kernel asks for those behind */
                graph_prefetch(hop->vectors[i], g->distance->bytes);
        }
    }
}

GRAPH_INLINE void graph_measure(const struct graph *g, const struct target *to,
                                const struct hop *hop, uint32_t n, float *ret)
{
    if (to->code)
        g->distance->codes(to->code, hop->codes, n, ret);
    else
        g->distance->many(to->vector, hop->vectors, n, g->distance->dim, ret);
}

#endif
