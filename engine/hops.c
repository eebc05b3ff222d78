/* hops.c -- the walk over what passes; see hops.h for B1 and B2. */
#include "engine/hops.h"

#include "engine/graph_inline.h"

#define DRAWN 32u  /* nodes in a draw, at most M0 */
#define DRAWS 8u   /* at most */
#define AHEAD 6u   /* rows that are asked for before they are looked through */
#define FAILING 10 /* per cent of a row from which on their rows are looked through */

static bool passes(const struct hops *h, uint32_t id)
{
    if (h->sieve)
        return sieve_lists(h->sieve, id);
    uint32_t word = atomic_load_explicit(view_state(h->g->view, id), memory_order_acquire);
    return STATE_STATUS(word) == SLOT_LIVE;
}

/* What was gathered, into the beam. */
static void measure(const struct hops *h, struct hop *hop)
{
    struct pool *pool = &h->s->pool;
    float *dists = h->s->dists;
    graph_locate(h->g, false, true, hop->ids, hop->n, hop);
    graph_measure(h->g, h->to, hop, hop->n, dists);
    for (uint32_t i = 0; i < hop->n; i++)
        if (dists[i] < pool->bound)
            pool_offer(pool, dists[i] < FLT_MAX ? dists[i] : FLT_MAX, hop->ids[i], POOL_WORD);
    h->s->tally.measured += hop->n;
}

/* Sort the ids of a row by whether they pass: those that do into `pass`, the others into `fail`.
 * Without a branch, since which it is nobody can predict. */
static uint32_t sort_row(const struct hops *h, uint32_t node, uint32_t *pass, uint32_t *fail,
                         uint32_t *ret_fail)
{
    const struct graph *g = h->g;
    const _Atomic uint32_t *row = view_row(g->view, node);
    uint32_t n = 0, m = 0;
    for (uint32_t i = 0; i < g->M0; i++) {
        uint32_t id = row_get(row, i);
        if (id == 0)
            break;
        id = id < g->nslots ? id : 0; /* G1; slot 0 never passes, and was always met */
        uint32_t good = passes(h, id);
        pass[n] = fail[m] = id;
        n += good;
        m += good ^ 1;
    }
    fence_acquire(); /* pairing "row" */
    *ret_fail = m;
    return n;
}

/* Those of n ids that were not met before into the hop, up to M0 in all. */
static void take(const struct hops *h, struct hop *hop, const uint32_t *ids, uint32_t n)
{
    struct visited *v = &h->s->visited;
    visited_room(v, n);
    for (uint32_t i = 0; i < n && hop->n < h->g->M0; i++) {
        hop->ids[hop->n] = ids[i];
        hop->n += !visited_set(v, ids[i]);
    }
}

/* Returns the rows that were read. */
static uint32_t expand(const struct hops *h, uint32_t node, struct hop *hop)
{
    uint32_t *pass = h->s->hops[1].ids, *fail = h->s->ids, *rest = fail + h->g->M0 + 1;
    uint32_t rows = 1, failing, ignored;
    hop->n = 0;
    uint32_t n = sort_row(h, node, pass, fail, &failing);
    take(h, hop, pass, n);
    h->s->tally.expanded++;
    if (failing * 100 <= (failing + n) * FAILING)
        return rows;
    for (uint32_t i = 0; i < failing && i < AHEAD; i++)
        graph_prefetch(view_row(h->g->view, fail[i]), h->g->M0 * 4);
    for (uint32_t i = 0; i < failing && hop->n < h->g->M0; i++) {
        if (i + AHEAD < failing)
            graph_prefetch(view_row(h->g->view, fail[i + AHEAD]), h->g->M0 * 4);
        if (visited_test_set(&h->s->visited, fail[i]))
            continue;
        n = sort_row(h, fail[i], pass, rest, &ignored);
        take(h, hop, pass, n);
        rows++;
    }
    return rows;
}

/* A number for each draw, the same for each query: the answer does not depend on who gives it. */
static uint32_t place_of(uint32_t i, uint32_t nslots)
{
    return (uint32_t)(label_mixed(i + 1) % nslots);
}

/* The first that passes from `slot` on, or 0. */
static uint32_t next_passing(const struct hops *h, uint32_t slot)
{
    const uint32_t nslots = h->g->nslots;
    if (h->sieve) {
        const struct marks *m = h->sieve->filter->marks;
        uint64_t bits = marks_word(m, slot / 64) & (UINT64_MAX << (slot & 63));
        for (uint64_t i = slot / 64; i <= (nslots - 1) / 64; bits = marks_word(m, ++i))
            if (bits != 0)
                return (uint32_t)(i * 64) + (uint32_t)__builtin_ctzll(bits);
        return 0;
    }
    for (uint32_t end = nslots - slot < 4096 ? nslots : slot + 4096; slot < end; slot++)
        if (passes(h, slot))
            return slot;
    return 0;
}

static void draw(const struct hops *h, uint32_t number, struct hop *hop)
{
    const uint32_t nslots = h->g->nslots, most = h->g->M0 < DRAWN ? h->g->M0 : DRAWN;
    hop->n = 0;
    for (uint32_t i = 0; i < most; i++) {
        uint32_t slot = next_passing(h, place_of(number * DRAWN + i, nslots));
        if (slot != 0 && slot < nslots && !visited_test_set(&h->s->visited, slot))
            hop->ids[hop->n++] = slot;
    }
}

static void begin(const struct hops *h, struct hop *hop)
{
    visited_clear(&h->s->visited);
    pool_reset(&h->s->pool, h->plan->beam, true);
    draw(h, 0, hop);
    measure(h, hop);
    hop->n = 0;
    for (uint32_t i = 0; i < h->n_seeds && hop->n < h->g->M0; i++)
        if (passes(h, h->seeds[i]) && !visited_test_set(&h->s->visited, h->seeds[i]))
            hop->ids[hop->n++] = h->seeds[i];
    measure(h, hop);
}

void hops_walk(struct hops *h)
{
    struct hop *hop = &h->s->hops[0];
    uint32_t node, draws = 1;
    double spent = 0;
    begin(h, hop);
    while (spent < h->plan->budget) {
        uint32_t rows = 0;
        if (pool_next(&h->s->pool, &node)) {
            rows = expand(h, node, hop);
        } else {
            if (h->s->pool.n >= h->enough || draws == DRAWS)
                return;
            draw(h, draws++, hop);
        }
        measure(h, hop);
        spent += rows * PLAN_ROW_NS + hop->n * h->node_ns;
    }
    h->s->pool.n = 0; /* B2 */
}
