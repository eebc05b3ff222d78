/* scratch.c -- taking, growing and giving back the working memory of a call. */
#include "engine/scratch.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

static void scratch_free(struct scratch *s)
{
    if (!s)
        return;
    visited_free(&s->visited);
    pool_free(&s->pool);
    rank_free(&s->rank);
    free(s->vector);
    free(s->halves);
    free(s->code);
    free(s->query);
    free(s->pair);
    for (uint32_t i = 0; i < 2; i++) {
        free(s->hops[i].ids);
        free(s->hops[i].codes);
        free(s->hops[i].vectors);
    }
    free(s->asks.rows);
    free(s->dists);
    free(s->ids);
    free(s->near);
    free(s->aside);
    free(s->row);
    free(s->chosen);
    free(s);
}

static void *lines(uint64_t bytes)
{
    void *p = aligned_alloc(CODES_LINE, (bytes + CODES_LINE - 1) / CODES_LINE * CODES_LINE);
    if (p)
        memset(p, 0, bytes);
    return p;
}

static bool reserve_row(struct scratch *s, const struct layout *layout)
{
    const uint32_t n = layout->M0 + 1;
    const bool half = layout->scalar == LAYOUT_F16;
    s->vector = half ? calloc(layout->dim, sizeof *s->vector) : calloc(1, layout->vec_stride);
    s->halves = half ? calloc(1, layout->vec_stride) : NULL;
    s->dists = calloc(n, sizeof *s->dists);
    s->ids = calloc(2 * n, sizeof *s->ids);
    uint32_t ring = 16;
    while (ring < ASKS_HOPS * (n + HOP_SPARE) / 4)
        ring *= 2;
    s->asks.mask = ring - 1;
    s->asks.rows = lines(ring * sizeof *s->asks.rows);
    bool ok = s->vector && (s->halves || !half) && s->dists && s->ids && s->asks.rows;
    for (uint32_t i = 0; i < 2; i++) {
        struct hop *hop = &s->hops[i];
        hop->ids = lines((n + HOP_SPARE) * sizeof *hop->ids);
        hop->codes = lines((n + HOP_SPARE) * sizeof *hop->codes);
        hop->vectors = calloc(n, sizeof *hop->vectors);
        ok = ok && hop->ids && hop->codes && hop->vectors;
    }
    return ok;
}

static bool reserve_codes(struct scratch *s, const struct layout *layout)
{
    const bool coded = layout->code_stride != 0;
    const uint32_t bytes = coded ? layout->code_stride : 4 * layout->dim;
    if (!coded && layout->scalar == LAYOUT_F32)
        return true; /* what the map has is measured as it is */
    s->code = coded ? lines(bytes) : NULL;
    s->query = lines(codes_query_bytes(bytes));
    s->pair = lines(codes_query_bytes(bytes));
    return (s->code || !coded) && s->query && s->pair;
}

navmap_status scratch_take(struct shelf *shelf, const struct layout *layout,
                           struct scratch **ret_scratch)
{
    for (uint32_t i = 0; i < SCRATCH_SHELF; i++) {
        if (!atomic_load_explicit(&shelf->slots[i], memory_order_relaxed))
            continue;
        struct scratch *s =
            atomic_exchange_explicit(&shelf->slots[i], NULL, memory_order_acquire); /* "scratch" */
        if (s) {
            *ret_scratch = s;
            return NAVMAP_OK;
        }
    }
    struct scratch *s = calloc(1, sizeof *s);
    if (!s || !reserve_row(s, layout) || !reserve_codes(s, layout)) {
        scratch_free(s);
        return fail(NAVMAP_ENOMEM, "no working memory for a call on %u dimensions", layout->dim);
    }
    *ret_scratch = s;
    return NAVMAP_OK;
}

void scratch_give(struct shelf *shelf, struct scratch *scratch)
{
    if (!scratch)
        return;
    for (uint32_t i = 0; i < SCRATCH_SHELF; i++) {
        struct scratch *empty = NULL;
        if (atomic_compare_exchange_strong_explicit(&shelf->slots[i], &empty, scratch,
                                                    memory_order_release, /* "scratch" */
                                                    memory_order_relaxed))
            return;
    }
    scratch_free(scratch);
}

void scratch_clear(struct shelf *shelf)
{
    for (uint32_t i = 0; i < SCRATCH_SHELF; i++)
        scratch_free(atomic_exchange_explicit(&shelf->slots[i], NULL, memory_order_acquire));
}

navmap_status scratch_reserve(struct scratch *s, uint32_t ef, uint64_t nslots)
{
    TRY(visited_reserve(&s->visited, nslots));
    return pool_reserve(&s->pool, ef, nslots);
}

navmap_status scratch_reserve_build(struct scratch *s, const struct layout *layout,
                                    uint32_t candidates)
{
    if (!s->row)
        s->row = calloc(layout->M0 + 1, sizeof *s->row);
    if (!s->chosen)
        s->chosen = calloc((size_t)(LAYOUT_LEVEL_MAX + 1) * layout->M0, sizeof *s->chosen);
    if (!s->row || !s->chosen)
        return fail(NAVMAP_ENOMEM, "no working memory for adding with M = %u", layout->M);
    if (candidates <= s->cap_near)
        return NAVMAP_OK;
    struct near *near = calloc(candidates, sizeof *near);
    struct near *aside = calloc(candidates, sizeof *aside);
    if (!near || !aside) {
        free(near);
        free(aside);
        return fail(NAVMAP_ENOMEM, "no working memory for %u candidates", candidates);
    }
    free(s->near);
    free(s->aside);
    s->near = near;
    s->aside = aside;
    s->cap_near = candidates;
    return NAVMAP_OK;
}
