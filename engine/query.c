/* query.c -- one query: the reader protocol around the walk, and the answers' last check.
 *
 * Nothing here allocates once a thread's working memory is large enough, takes a lock but the one
 * for the view (for a pointer and a counter), or makes a system call.  The steps q1..q6 are those
 * of storage/store.h; the same code runs in the writer's process and in readers'.
 *
 * Q1  A (label, distance) pair that leaves was read between two looks at the state word that show
 *     the same generation and a slot that was not FREE: it was committed at some instant.
 * Q2  Fewer than k are returned only after an exact scan found no more.
 * Q4  Codes choose, vectors decide: of a walk by codes the best k and half as many again, ten at
 *     least, are measured exactly before the best k are taken.
 */
#include "engine/query.h"

#include <math.h>

#include "engine/graph_inline.h"
#include "storage/fail.h"

#define ATTEMPTS 4        /* q6: one, and three more when re-used slots were dropped */
#define MORE_AT_LEAST 10u /* Q4 */

bool index_read_hit(const navmap_index *ix, const struct view *v, const float *query, uint32_t slot,
                    uint32_t word, struct hit *ret_hit)
{
    uint64_t label = view_tag_label(v, slot);
    float d = ix->distance.fn(query, view_vec(v, slot), ix->distance.dim);
    fence_acquire(); /* pairing "payload": a byte of the next life shows the next generation too */
    uint32_t after = atomic_load_explicit(view_state(v, slot), memory_order_relaxed);
    if (STATE_GEN(after) != STATE_GEN(word) || STATE_STATUS(after) == SLOT_FREE)
        return false;
    *ret_hit = (struct hit){label, d == d ? d : INFINITY, slot, word};
    return true;
}

/* The hit of a candidate, if it is one still. */
static bool read_candidate(const struct query *q, const struct pool_entry *c, struct hit *ret_hit)
{
    uint32_t word = c->word;
    if (q->g.all_live) { /* K3: nobody has looked yet */
        word = atomic_load_explicit(view_state(q->view, c->id), memory_order_acquire);
        if (STATE_STATUS(word) != SLOT_LIVE)
            return false;
    }
    return index_read_hit(q->ix, q->view, q->vector, c->id, word, ret_hit) &&
           (!q->filter || filter_lists(q->filter, ret_hit->label)); /* F1 */
}

static void ask_for(const struct query *q, const struct pool_entry *found, uint64_t n)
{
    if (view_asks(q->view)) {
        for (uint64_t i = 0; i < n; i++)
            view_ask_payload(q->view, found[i].id);
        return;
    }
    for (uint64_t i = 0; i < n; i++) {
        __builtin_prefetch((const void *)view_state(q->view, found[i].id));
        __builtin_prefetch(view_tag(q->view, found[i].id));
        graph_prefetch(view_vec(q->view, found[i].id), q->ix->distance.dim * 4);
    }
}

/* How many of the walk's results are measured exactly.  Without codes the hints were computed by
 * the same kernel: as long as they prove right (no slot was rewritten meanwhile) what is beyond
 * the k-th cannot change the answer. */
static uint64_t candidates(const struct query *q, uint64_t n)
{
    uint64_t more = q->k / 2 > MORE_AT_LEAST ? q->k / 2 : MORE_AT_LEAST;
    uint64_t m = q->k + (q->walk.to.code ? more : 0);
    return m < n ? m : n;
}

/* q5 and q6: exact distances of the walk's results, the best k first in s->rank. */
static void rerank(struct query *q)
{
    struct rank *rank = &q->s->rank;
    const bool coded = q->walk.to.code != NULL;
    uint32_t n;
    const struct pool_entry *found = pool_finish(&q->s->pool, &n);
    uint64_t want = candidates(q, n);
    bool all = false, checked = false, unique = true;
    rank_reset(rank, n ? n : 1);
    ask_for(q, found, want);
    for (uint32_t i = 0;; i++) {
        bool end = i == n;
        if (!end && !all && rank->n >= q->k)
            end = coded ? i >= want : found[i].dist > found[i - 1].dist;
        if (end && !checked) {
            fence_acquire(); /* pairing "apply" */
            unique = view_load64(&view_live(q->view)->apply_begin, memory_order_relaxed) == q->e0;
            checked = true;
            all |= !unique;
            end = i == n || !all;
        }
        if (end)
            break;
        struct hit hit;
        q->s->tally.exact++;
        if (!read_candidate(q, &found[i], &hit)) {
            all = true;
            continue;
        }
        all |= !coded && hit.dist != found[i].dist && hit.dist < FLT_MAX;
        rank_offer(rank, &hit);
    }
    if (unique)
        rank_sort(rank);
    else
        rank_unique(rank);
    if (rank->n > q->k)
        rank->n = q->k;
}

/* K3. */
static bool nothing_dead(const struct view *v)
{
    const struct disk_root *root = view_root(v);
    return view_load64(&root->n_deleted, memory_order_relaxed) == 0 &&
           view_load64(&root->n_dead, memory_order_relaxed) == 0;
}

/* By their codes the last of the k nearest change places with those behind them, and in a beam of
 * no more than k they are lost before they are measured: 100 of 100 found 0.977 of what is there
 * where the vectors find 0.985, and so do 104. */
static uint32_t beam_of(const struct query *q)
{
    uint64_t beam = q->ef, least = q->k + q->k / 16 + 1;
    if (q->ix->layout->code_stride > 0 && beam < least)
        beam = least;
    return beam < q->g.nslots ? (uint32_t)beam : q->g.nslots;
}

navmap_status query_begin(struct query *q)
{
    struct scratch *s = q->s;
    uint32_t slot, level;
    TRY(store_view_begin(q->ix->store, &q->view)); /* q1 */
    const struct view *v = q->view;
    graph_of_view(v, &q->ix->distance, &q->g);
    q->g.self = q->self;
    q->e0 = view_load64(&view_live(v)->apply_end, memory_order_acquire); /* q2 */
    uint64_t entry = view_load64(&view_root(v)->entry, memory_order_acquire);
    uint32_t beam = beam_of(q);
    navmap_status status = scratch_reserve(s, beam, q->g.nslots);
    if (status == NAVMAP_OK)
        status = rank_reserve(&s->rank, beam);
    if (status != NAVMAP_OK) {
        store_view_end(q->ix->store, q->view);
        return status;
    }
    rank_reset(&s->rank, 1);
    q->sieve = (struct sieve){0};
    q->g.all_live = !q->filter && nothing_dead(v);
    if (q->filter) {
        sieve_begin(&q->sieve, q->filter, v, q->e0, beam);
        q->g.sieve = &q->sieve;
    }
    q->walking = graph_entry(&q->g, entry, &slot, &level);
    if (q->walking) {
        const struct target to = graph_target(&q->g, s, q->vector);
        slot = graph_descend(&q->g, s, &to, slot, level, 0);
        walk_begin(&q->walk, &q->g, s, &to, slot, 0, beam);
        if (s->stop > 0)
            pool_stop(&s->pool, (uint32_t)q->k, s->stop);
    }
    return NAVMAP_OK;
}

navmap_status query_end(struct query *q, bool *ret_retry)
{
    uint64_t found = 0;
    if (q->walking && !q->sieve.halt) {
        rerank(q);
        found = q->s->pool.n;
    }
    store_view_end(q->ix->store, q->view);
    *ret_retry = q->s->rank.n < q->k && found >= q->k;
    return q->sieve.stopped ? filter_stopped() : NAVMAP_OK;
}

navmap_status index_walk(navmap_index *ix, struct scratch *s, const struct filter *filter,
                         const float *query, uint64_t k, uint32_t ef)
{
    if (index_flat(ix) || (filter && filter_prefers_scan(filter, k, ef)))
        return index_scan(ix, s, filter, query, k);
    bool retry = true;
    for (int attempt = 0; retry && attempt < ATTEMPTS; attempt++) {
        struct query q = {.ix = ix, .s = s, .filter = filter, .vector = query, .k = k, .ef = ef};
        TRY(query_begin(&q));
        while (q.walking && walk_step(&q.walk))
            ;
        TRY(query_end(&q, &retry));
    }
    return s->rank.n >= k ? NAVMAP_OK : index_scan(ix, s, filter, query, k); /* Q2 */
}
