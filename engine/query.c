/* query.c -- one query: the reader protocol around the walk, and the answers' last check.
 *
 * Nothing here allocates once a thread's working memory is large enough, takes a lock but the one
 * for the view (for a pointer and a counter), or makes a system call.  The steps q1..q6 are those
 * of storage/store.h; the same code runs in the writer's process and in readers'.
 *
 * Q1  A (label, distance) pair that leaves was read between two looks at the state word that show
 *     the same generation and a slot that was not FREE: it was committed at some instant.
 * Q2  Fewer than k are returned only after an exact scan found no more.
 * Q5  Where every node counts on the way (plan.h), what the beam holds is looked at when the walk
 *     has ended, nearest first: states, marks or labels.
 * Q6  `stop` measures by the k-th result.  Where the beam holds others as well that is the one at
 *     the place where the k-th should be by chance; if it proves to be farther behind, the walk is
 *     made once more, by the place where it was, and if that will not do, without a limit.
 * Q4  Codes choose, vectors decide: of a walk by codes the best k and half as many again, ten at
 *     least, are measured exactly before the best k are taken; those behind the k-th only as far as
 *     the rounding of codes leaves it open whether they are nearer.
 */
#include "engine/query.h"

#include <math.h>
#include <string.h>

#include "engine/code_scan.h"
#include "engine/graph_inline.h"
#include "engine/hops.h"
#include "storage/fail.h"

#define ATTEMPTS 6        /* q6: when re-used slots were dropped, or by another plan */
#define MORE_AT_LEAST 10u /* Q4 */
#define MORE_SCANNED 32u  /* the same of a scan, beside twice k: few are left behind then */
#define DOUBTS 4.0f       /* Q4: standard deviations, of either of two distances */
#define SPARE 8u          /* that are looked at beyond those, should some go meanwhile */

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
    if (!q->looked) { /* K3 */
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
        graph_prefetch(view_vec(q->view, found[i].id), q->ix->distance.bytes);
    }
}

/* How many results are measured exactly.  Without codes the hints were computed by the same kernel:
 * as long as they prove right (no slot was rewritten meanwhile) what is beyond the k-th cannot
 * change the answer. */
static uint64_t candidates(const struct query *q, uint64_t n)
{
    uint64_t more = q->k / 2 > MORE_AT_LEAST ? q->k / 2 : MORE_AT_LEAST;
    if (q->plan.way == PLAN_SCAN)
        more = q->k + MORE_SCANNED;
    uint64_t m = q->k + (q->facts.code_stride > 0 ? more : 0);
    return m < n ? m : n;
}

/* Of n candidates, `most` at most: up to the last that may be among the k best (Q4). */
static uint64_t in_doubt(const struct query *q, const struct pool_entry *found, uint64_t most)
{
    if (q->facts.code_stride == 0 || most <= q->k)
        return most;
    float reach = -INFINITY;
    uint64_t n = q->k;
    for (uint64_t i = 0; i < most; i++) {
        const float d = found[i].dist;
        const float doubt = DOUBTS * codes_doubt(q->to.code, view_code(q->view, found[i].id), d);
        if (i < q->k)
            reach = d + doubt > reach ? d + doubt : reach;
        else if (!(d - doubt > reach))
            n = i + 1;
    }
    return n;
}

/* q5 and q6: exact distances of the walk's results, the best k first in s->rank. */
static void rerank(struct query *q, const struct pool_entry *found, uint32_t n)
{
    struct rank *rank = &q->s->rank;
    const bool coded = q->facts.code_stride > 0;
    uint64_t want = in_doubt(q, found, candidates(q, n));
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

/* Q5: of n entries those that pass, up to as many as may be needed; how many.  The k-th of them was
 * the *ret_place-th of all; 0 = there is no k-th. */
static uint32_t sift(struct query *q, struct pool_entry *found, uint32_t n, uint64_t *ret_place)
{
    const bool by_label = q->filter && q->filter->marks && !q->sieve.by_slot;
    const uint64_t most = candidates(q, n) + SPARE;
    uint32_t kept = 0;
    *ret_place = 0;
    for (uint32_t i = 0; i < n; i++) {
        __builtin_prefetch((const void *)view_state(q->view, found[i].id));
        if (by_label)
            __builtin_prefetch(view_tag(q->view, found[i].id));
    }
    for (uint32_t i = 0; i < n && kept < most; i++) {
        struct pool_entry e = found[i];
        e.word = atomic_load_explicit(view_state(q->view, e.id), memory_order_acquire); /* q4 */
        if (STATE_STATUS(e.word) != SLOT_LIVE || e.id == q->self ||
            (q->filter && !sieve_passes(&q->sieve, e.id, e.word)))
            continue;
        found[kept++] = e;
        if (kept == q->k)
            *ret_place = i + 1;
    }
    return kept;
}

/* Begin -------------------------------------------------------------------------------------- */

/* By their codes the last of the k nearest change places with those behind them, and in a beam of
 * no more than k they are lost before they are measured: 100 of 100 found 0.977 of what is there
 * where the vectors find 0.985, and so do 104. */
static uint32_t least_beam(const struct query *q)
{
    uint64_t beam = q->ef, least = q->k + q->k / 16 + 1;
    if (q->ix->layout->code_stride > 0 && beam < least)
        beam = least;
    return beam < q->g.nslots ? (uint32_t)beam : q->g.nslots;
}

/* The file's words are not trusted: whatever they say, the planner has something to go by. */
static void gather_facts(struct query *q)
{
    const struct disk_root *root = view_root(q->view);
    uint64_t live = view_load64(&root->n_live, memory_order_relaxed);
    uint64_t deleted = view_load64(&root->n_deleted, memory_order_relaxed);
    uint64_t apart = view_load32(&root->n_apart, memory_order_relaxed);
    uint64_t gone =
        (deleted > apart ? deleted - apart : 0) + view_load64(&root->n_dead, memory_order_relaxed);
    gone -=
        gone /
        2; /* they were bridged (ways.h, W2), so a walk comes to few of them; see ALGORITHM.md */
    live = live < q->g.nslots ? live : q->g.nslots;
    gone = gone < q->g.nslots ? gone : q->g.nslots;
    uint64_t pass = q->filter ? filter_pass(q->filter) : live;
    q->facts = (struct plan_case){.k = q->k,
                                  .ef = least_beam(q),
                                  .nslots = q->g.nslots,
                                  .nodes = live + gone,
                                  .pass = pass < live ? pass : live,
                                  .code_stride = q->view->layout.code_stride,
                                  .filtered = q->filter != NULL,
                                  .marked = q->filter && q->filter->marks,
                                  .asks = q->filter && q->filter->ask};
}

/* The plan; and marks as fresh as can be had where it goes by them. */
static navmap_status make_plan(struct query *q)
{
    gather_facts(q);
    if (q->filter)
        sieve_begin(&q->sieve, q->filter, q->view, q->facts.ef);
    bool first = q->plan.way == PLAN_NONE;
    if (first)
        q->plan = plan_first(&q->facts);
    if (q->plan.way < PLAN_HOPS || !q->facts.marked || q->sieve.by_slot)
        return NAVMAP_OK;
    TRY(marks_update(q->filter->marks, q->ix->store, q->view, NULL, 0));
    gather_facts(q);
    sieve_begin(&q->sieve, q->filter, q->view, q->facts.ef);
    if (first)
        q->plan = plan_first(&q->facts);
    return NAVMAP_OK;
}

static void go_hops(struct query *q, const struct target *to, uint32_t slot)
{
    uint64_t enough = q->k + q->k / 2;
    struct hops h = {.g = &q->g,
                     .s = q->s,
                     .to = to,
                     .sieve = q->filter ? &q->sieve : NULL,
                     .plan = &q->plan,
                     .node_ns = plan_node_ns(&q->facts),
                     .enough = enough < q->plan.beam ? (uint32_t)enough : q->plan.beam};
    memcpy(h.seeds, q->seeds, sizeof h.seeds);
    h.n_seeds = q->n_seeds;
    if (h.n_seeds < HOPS_SEEDS)
        h.seeds[h.n_seeds++] = slot;
    hops_walk(&h);
    q->s->tally.hops++;
}

/* Is it the scan of exact.c that is to be made?  Where there are no codes, marks are not fresh, or
 * a function has to be asked, which is done last there. */
static bool scans_exactly(const struct query *q)
{
    return q->plan.way == PLAN_SCAN &&
           (q->facts.code_stride == 0 || q->facts.asks || (q->facts.marked && !q->sieve.by_slot));
}

/* Are results chosen when the beam is whole (Q5)? */
static bool sifts(const struct query *q)
{
    return q->plan.way != PLAN_PASSING && (q->filter || q->facts.pass < q->facts.nodes);
}

/* Q6; and a beam that is wider for what does not pass stays one that can be limited (pool.h,
 * P7). */
static void set_limit(struct query *q)
{
    q->limit = 0;
    if (!(q->s->stop > 0) || q->plan.way >= PLAN_HOPS || q->facts.ef > POOL_LINE_MAX)
        return;
    if (q->place == 0)
        q->place = sifts(q) ? plan_place(&q->facts) : (uint32_t)q->k;
    if (q->place > POOL_LINE_MAX)
        return;
    if (q->plan.beam > POOL_LINE_MAX)
        q->plan.beam = POOL_LINE_MAX;
    q->limit = q->place <= q->plan.beam ? q->place : 0;
}

static navmap_status reserve(struct query *q, uint32_t beam)
{
    TRY(scratch_reserve(q->s, beam, q->g.nslots));
    return rank_reserve(&q->s->rank, beam);
}

/* Room, and all but the steps of a walk. */
static navmap_status set_out(struct query *q, uint64_t entry)
{
    struct scratch *s = q->s;
    uint32_t slot, level;
    if (q->plan.way == PLAN_SCAN)
        q->plan.beam = (uint32_t)candidates(q, q->g.nslots) + SPARE;
    set_limit(q);
    TRY(reserve(q, q->plan.beam));
    rank_reset(&s->rank, 1);
    q->walking = q->pooled = q->scanning = false;
    if (!graph_entry(&q->g, entry, &slot, &level) || scans_exactly(q))
        return NAVMAP_OK;
    const struct target to = graph_target(&q->g, s, q->vector);
    q->to = to;
    q->pooled = true;
    if (q->plan.way == PLAN_SCAN) {
        q->scanning = true;
        return NAVMAP_OK;
    }
    slot = graph_descend(&q->g, s, &to, slot, level, 0);
    if (q->plan.way == PLAN_HOPS) {
        go_hops(q, &to, slot);
        return NAVMAP_OK;
    }
    q->g.all_live = q->plan.way == PLAN_EVERY;
    q->g.sieve = q->filter && !q->g.all_live ? &q->sieve : NULL;
    walk_begin(&q->walk, &q->g, s, &to, slot, 0, q->plan.beam);
    if (q->limit > 0)
        pool_stop(&s->pool, q->limit, s->stop);
    q->walking = true;
    s->tally.walks++;
    return NAVMAP_OK;
}

navmap_status query_begin(struct query *q)
{
    TRY(store_view_begin(q->ix->store, &q->view)); /* q1 */
    const struct view *v = q->view;
    graph_of_view(v, &q->ix->distance, &q->g);
    q->g.self = q->self;
    q->e0 = view_load64(&view_live(v)->apply_end, memory_order_acquire); /* q2 */
    uint64_t entry = view_load64(&view_root(v)->entry, memory_order_acquire);
    navmap_status status = make_plan(q);
    if (status == NAVMAP_OK)
        status = set_out(q, entry);
    if (status != NAVMAP_OK)
        store_view_end(q->ix->store, q->view);
    return status;
}

bool query_scans(const struct query *q)
{
    struct query probe = *q;
    bool scans = false;
    if (store_view_begin(q->ix->store, &probe.view) != NAVMAP_OK)
        return false;
    graph_of_view(probe.view, &q->ix->distance, &probe.g);
    gather_facts(&probe);
    scans = plan_first(&probe.facts).way == PLAN_SCAN;
    store_view_end(q->ix->store, probe.view);
    return scans;
}

void query_scan(struct query *const *queries, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        struct code_scan scans[CODE_SCAN_MOST];
        const struct query *first = queries[i];
        uint32_t together = 0;
        for (uint32_t j = i; j < n; j++) {
            struct query *q = queries[j];
            if (!q->scanning || q->view != first->view || q->filter != first->filter)
                continue;
            scans[together++] = (struct code_scan){q->s, &q->to, q->plan.beam};
            q->scanning = false;
        }
        if (together > 0)
            code_scan(&first->g, first->filter ? first->filter->marks : NULL, scans, together);
    }
}

/* End ---------------------------------------------------------------------------------------- */

static void note_seeds(struct query *q, const struct pool_entry *found, uint32_t n)
{
    q->n_seeds = n < QUERY_SEEDS ? n : QUERY_SEEDS;
    for (uint32_t i = 0; i < q->n_seeds; i++)
        q->seeds[i] = found[i].id;
}

/* Q6: n pass, the k-th of them at `place`. */
static bool misjudged(struct query *q, uint64_t n, uint64_t place)
{
    if (q->limit == 0 || (n >= q->k && place <= q->limit))
        return false;
    q->place = n >= q->k && q->attempts == 0 ? (uint32_t)place : UINT32_MAX;
    return true;
}

/* The outcome of an attempt into s->rank, unless another plan promises more: *ret_replan. */
static uint64_t look(struct query *q, bool *ret_replan)
{
    uint32_t n;
    struct pool_entry *found = pool_finish(&q->s->pool, &n);
    q->looked = q->plan.way == PLAN_PASSING;
    if (sifts(q)) {
        uint64_t place;
        n = sift(q, found, n, &place);
        q->looked = true;
        note_seeds(q, found, n);
        *ret_replan =
            !q->sieve.halt && (misjudged(q, n, place) || plan_again(&q->facts, &q->plan, n, place));
        if (*ret_replan)
            return 0;
    }
    rerank(q, found, n);
    return n;
}

navmap_status query_end(struct query *q, bool *ret_again)
{
    bool replan = false;
    uint64_t found = 0;
    if (q->pooled && !q->sieve.halt)
        found = look(q, &replan);
    if (q->pooled && q->facts.marked && q->sieve.by_slot)
        replan |= !marks_stayed(q->filter->marks, q->view);
    store_view_end(q->ix->store, q->view);
    q->attempts++;
    *ret_again = q->attempts < ATTEMPTS && (replan || (q->s->rank.n < q->k && found >= q->k));
    return q->sieve.stopped ? filter_stopped() : NAVMAP_OK;
}

navmap_status query_finish(struct query *q, bool again)
{
    while (again) {
        TRY(query_begin(q));
        query_scan(&q, 1);
        while (q->walking && walk_step(&q->walk))
            ;
        TRY(query_end(q, &again));
    }
    return q->s->rank.n >= q->k ? NAVMAP_OK
                                : index_scan(q->ix, q->s, q->filter, q->vector, q->k); /* Q2 */
}

navmap_status index_walk(navmap_index *ix, struct scratch *s, const struct filter *filter,
                         const float *query, uint64_t k, uint32_t ef)
{
    struct query q = {.ix = ix, .s = s, .filter = filter, .vector = query, .k = k, .ef = ef};
    rank_reset(&s->rank, 1);
    return query_finish(&q, !index_flat(ix));
}
