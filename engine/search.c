/* search.c -- queries: the reader protocol around the beam search, and the answers' last check.
 *
 * Nothing here allocates once a thread's working memory is large enough, takes a lock but the one
 * for the view (for a pointer and a counter), or makes a system call.  The steps q1..q6 are those
 * of storage/store.h; the same code runs in the writer's process and in readers'.
 *
 * Q1  A (label, distance) pair that leaves was read between two looks at the state word that show
 *     the same generation and a slot that was not FREE: it was committed at some instant.
 * Q2  Fewer than k are returned only after an exact scan found no more.
 */
#include "engine/index.h"

#include <math.h>
#include <string.h>

#include "storage/fail.h"

#define ATTEMPTS 4 /* q6: one, and three more when re-used slots were dropped */
#define DEFAULT_EF 10u

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

/* q5 and q6: exact distances of the beam's results, the best k first in s->rank.  The hints were
 * computed by the same kernel, so as long as they prove right (no slot was rewritten meanwhile)
 * the hits beyond the k-th cannot change the answer and are not read again. */
static void rerank(const navmap_index *ix, struct scratch *s, const struct view *v,
                   const float *query, uint64_t k, uint64_t e0)
{
    uint32_t n;
    const struct pool_entry *found = pool_finish(&s->pool, &n);
    bool all = false, checked = false, unique = true;
    rank_reset(&s->rank, n ? n : 1);
    for (uint32_t i = 0;; i++) {
        bool enough = s->rank.n >= k && (i == n || found[i].dist > found[i - 1].dist);
        if (!checked && (i == n || (enough && !all))) {
            fence_acquire(); /* pairing "apply" */
            unique = view_load64(&view_live(v)->apply_begin, memory_order_relaxed) == e0;
            checked = true;
            all |= !unique;
        }
        if (i == n || (enough && !all))
            break;
        struct hit hit;
        if (!index_read_hit(ix, v, query, found[i].id, found[i].word, &hit)) {
            all = true;
            continue;
        }
        all |= hit.dist != found[i].dist && hit.dist < FLT_MAX;
        rank_offer(&s->rank, &hit);
    }
    if (unique)
        rank_sort(&s->rank);
    else
        rank_unique(&s->rank);
    if (s->rank.n > k)
        s->rank.n = k;
}

/* One walk over one view; *ret_retry when slots re-used under it left fewer than k. */
static navmap_status search_once(navmap_index *ix, struct scratch *s, const float *query,
                                 uint64_t k, uint32_t ef, bool *ret_retry)
{
    struct view *v;
    struct graph g;
    uint32_t slot, level;
    TRY(store_view_begin(ix->store, &v)); /* q1 */
    graph_of_view(v, &ix->distance, &g);
    uint64_t e0 = view_load64(&view_live(v)->apply_end, memory_order_acquire); /* q2 */
    uint64_t entry = view_load64(&view_root(v)->entry, memory_order_acquire);
    uint32_t beam = ef < g.nslots ? ef : g.nslots;
    navmap_status status = scratch_reserve(s, beam, g.nslots);
    if (status == NAVMAP_OK)
        status = rank_reserve(&s->rank, beam);
    if (status != NAVMAP_OK) {
        store_view_end(ix->store, v);
        return status;
    }
    rank_reset(&s->rank, 1);
    uint64_t found = 0;
    if (graph_entry(&g, entry, &slot, &level)) {
        slot = graph_descend(&g, query, slot, level, 0);
        graph_search(&g, s, query, slot, 0, beam);
        rerank(ix, s, v, query, k, e0);
        found = s->pool.n;
    }
    store_view_end(ix->store, v);
    *ret_retry = s->rank.n < k && found >= k;
    return NAVMAP_OK;
}

static navmap_status graph_one(navmap_index *ix, struct scratch *s, const float *query, uint64_t k,
                               uint32_t ef)
{
    bool retry = true;
    for (int attempt = 0; retry && attempt < ATTEMPTS; attempt++)
        TRY(search_once(ix, s, query, k, ef, &retry));
    return s->rank.n >= k ? NAVMAP_OK : index_scan(ix, s, query, k); /* Q2 */
}

/* Copy the answers out, the rest of the row padded. */
static void write_row(const struct rank *rank, uint64_t k, uint64_t *ret_labels,
                      float *ret_distances)
{
    for (uint64_t i = 0; i < k; i++) {
        ret_labels[i] = i < rank->n ? rank->hits[i].label : UINT64_MAX;
        ret_distances[i] = i < rank->n ? rank->hits[i].dist : INFINITY;
    }
}

static navmap_status live_count(navmap_index *ix, uint64_t *ret_live)
{
    struct view *v;
    TRY(store_view_begin(ix->store, &v));
    uint64_t live = view_load64(&view_root(v)->n_live, memory_order_relaxed);
    *ret_live = live < view_slots(v) ? live : view_slots(v); /* the file's word is not trusted */
    store_view_end(ix->store, v);
    return NAVMAP_OK;
}

/* Arguments that do not fit, before anything is written. */
static navmap_status check_request(navmap_index *ix, const char *what, uint64_t nq,
                                   const float *queries, uint64_t k, bool allow_fewer,
                                   const uint64_t *labels, const float *distances,
                                   uint64_t *ret_live)
{
    if (k != 0 && nq > SIZE_MAX / sizeof(uint64_t) / k)
        return fail(NAVMAP_EINVAL, "%s: %llu x %llu results do not fit in memory", what,
                    (unsigned long long)nq, (unsigned long long)k);
    if (nq != 0 && k != 0 && (!labels || !distances))
        return fail(NAVMAP_EINVAL, "%s: ret_labels and ret_distances are required", what);
    TRY(index_check_finite(ix, what, queries, nq));
    TRY(live_count(ix, ret_live));
    if (k > *ret_live && nq != 0 && !allow_fewer)
        return fail(NAVMAP_EFEWER, "%s: k is %llu, but only %llu live items exist", what,
                    (unsigned long long)k, (unsigned long long)*ret_live);
    return NAVMAP_OK;
}

navmap_status index_search(navmap_index *ix, const char *what, index_searcher *searcher,
                           uint64_t nq, const float *queries, uint64_t k,
                           const struct navmap_search_options *options, uint64_t *ret_labels,
                           float *ret_distances, uint64_t *ret_found)
{
    struct navmap_search_options o;
    uint64_t live = 0, short_row = UINT64_MAX, short_found = 0;
    TRY(index_check(ix, what));
    TRY(index_copy_options(options, sizeof o, "navmap_search_options", &o));
    TRY(check_request(ix, what, nq, queries, k, o.allow_fewer != 0, ret_labels, ret_distances,
                      &live));
    uint64_t want = k < live ? k : live;
    uint32_t ef = o.ef ? o.ef : DEFAULT_EF;
    if (ef < want)
        ef = (uint32_t)want; /* live < 2^32 */
    struct scratch *s;
    TRY(scratch_take(&ix->shelf, ix->layout, &s));
    navmap_status status = NAVMAP_OK;
    for (uint64_t i = 0; i < nq && status == NAVMAP_OK; i++) {
        const float *query = queries + i * ix->layout->dim;
        if (ix->distance.normalise) {
            distance_normalise(query, ix->layout->dim, s->vector);
            query = s->vector;
        }
        rank_reset(&s->rank, 1);
        if (want > 0)
            status = searcher(ix, s, query, want, ef);
        if (status != NAVMAP_OK)
            break;
        write_row(&s->rank, k, ret_labels + i * k, ret_distances + i * k);
        if (ret_found)
            ret_found[i] = s->rank.n;
        if (s->rank.n < k && short_row == UINT64_MAX) {
            short_row = i;
            short_found = s->rank.n;
        }
    }
    scratch_give(&ix->shelf, s);
    if (status == NAVMAP_OK && short_row != UINT64_MAX && !o.allow_fewer)
        return fail(NAVMAP_EFEWER, "%s: row %llu: k is %llu, but only %llu live items exist", what,
                    (unsigned long long)short_row, (unsigned long long)k,
                    (unsigned long long)short_found);
    return status;
}

navmap_status navmap_search(navmap_index *index, uint64_t nq, const float *queries, uint64_t k,
                            const struct navmap_search_options *options, uint64_t *ret_labels,
                            float *ret_distances, uint64_t *ret_found)
{
    return index_search(index, "navmap_search", graph_one, nq, queries, k, options, ret_labels,
                        ret_distances, ret_found);
}
