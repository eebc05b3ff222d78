/* code_scan.c -- the scan over codes: a block is asked for while the one before is measured. */
#include "engine/code_scan.h"

#include "engine/graph_inline.h"

#define BLOCK 32u

struct block {
    uint32_t n;
    uint32_t ids[BLOCK];
    const uint8_t *rows[BLOCK];
};

struct scan {
    const struct graph *g;
    const struct code_scan *queries;
    uint32_t n;
    struct block blocks[2]; /* one that is filled, one to be measured */
    uint32_t turn;
};

static void measure_for(const struct scan *c, const struct code_scan *q, const struct block *b)
{
    struct pool *pool = &q->s->pool;
    float dists[BLOCK];
    c->g->distance->codes(q->to->code, b->rows, b->n, dists);
    for (uint32_t i = 0; i < b->n; i++)
        if (dists[i] < pool->bound)
            pool_offer(pool, dists[i] < FLT_MAX ? dists[i] : FLT_MAX, b->ids[i], POOL_WORD);
    q->s->tally.scanned += b->n;
}

static void measure(struct scan *c, struct block *b)
{
    for (uint32_t i = 0; i < c->n; i++)
        measure_for(c, &c->queries[i], b);
    b->n = 0;
}

static inline void take(struct scan *c, uint32_t slot)
{
    struct block *b = &c->blocks[c->turn];
    b->ids[b->n] = slot;
    b->rows[b->n] = view_code(c->g->view, slot);
    graph_prefetch(b->rows[b->n], c->g->view->layout.code_stride);
    if (++b->n < BLOCK)
        return;
    c->turn ^= 1;
    measure(c, &c->blocks[c->turn]);
}

static void take_marked(struct scan *c, const struct marks *m)
{
    for (uint64_t i = 0; i <= (c->g->nslots - 1) / 64; i++)
        for (uint64_t bits = marks_word(m, i); bits != 0; bits &= bits - 1) {
            uint32_t slot = (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(bits);
            if (slot < c->g->nslots)
                take(c, slot);
        }
}

static void take_live(struct scan *c)
{
    const struct view *v = c->g->view;
    uint32_t mask = v->layout.slots_per_chunk - 1;
    for (uint32_t slot = 1, end; slot < c->g->nslots; slot = end) {
        const _Atomic uint32_t *state = view_state(v, slot);
        end = (slot | mask) + 1 < c->g->nslots ? (slot | mask) + 1 : c->g->nslots;
        for (; slot < end; slot++, state++)
            if (STATE_STATUS(atomic_load_explicit(state, memory_order_acquire)) == SLOT_LIVE)
                take(c, slot);
    }
}

void code_scan(const struct graph *g, const struct marks *marks, const struct code_scan *queries,
               uint32_t n)
{
    struct scan c = {.g = g, .queries = queries, .n = n};
    for (uint32_t i = 0; i < n; i++) {
        pool_reset(&queries[i].s->pool, queries[i].m, true);
        queries[i].s->tally.scans++;
    }
    if (marks)
        take_marked(&c, marks);
    else
        take_live(&c);
    c.turn ^= 1;
    measure(&c, &c.blocks[c.turn]);
    measure(&c, &c.blocks[c.turn ^ 1]);
}
