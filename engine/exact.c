/* exact.c -- every live vector compared: the answer that needs no graph.
 *
 * A product function, the yardstick for recall, and what a search falls back on before it says
 * that fewer than k items exist.  The committed index is read under the generation check, slot by
 * slot, without any lock (reader protocol q4..q6 of storage/store.h).
 *
 * E1  A label that is updated during the scan may be met twice, or, when its new slot was passed
 *     before its birth and its old one after its death, not at all.  A few more hits than k are
 *     kept, so that the first costs no place; for the second the scan is repeated while fewer than
 *     k were found and more are live.
 */
#include "engine/index.h"

#include "storage/fail.h"

#define SPARE 32u
#define ATTEMPTS 4

static void scan(const navmap_index *ix, const struct view *v, const float *query,
                 struct rank *rank)
{
    uint32_t nslots = view_slots(v); /* beyond the extent all are FREE */
    for (uint32_t slot = 1; slot < nslots; slot++) {
        uint32_t word = atomic_load_explicit(view_state(v, slot), memory_order_acquire); /* q4 */
        if (STATE_STATUS(word) != SLOT_LIVE)
            continue;
        struct hit hit;
        if (index_read_hit(ix, v, query, slot, word, &hit) && rank_wants(rank, hit.dist))
            rank_offer(rank, &hit);
    }
}

navmap_status index_scan(navmap_index *ix, struct scratch *s, const float *query, uint64_t k)
{
    for (int attempt = 1;; attempt++) {
        struct view *v;
        TRY(store_view_begin(ix->store, &v));
        uint64_t e0 = view_load64(&view_live(v)->apply_end, memory_order_acquire);
        uint64_t cap = k < view_slots(v) ? k + SPARE : (uint64_t)view_slots(v) + SPARE;
        navmap_status status = rank_reserve(&s->rank, cap);
        if (status != NAVMAP_OK) {
            store_view_end(ix->store, v);
            return status;
        }
        rank_reset(&s->rank, cap);
        scan(ix, v, query, &s->rank);
        fence_acquire(); /* pairing "apply", q6 */
        bool stable = view_load64(&view_live(v)->apply_begin, memory_order_relaxed) == e0;
        uint64_t live = view_load64(&view_root(v)->n_live, memory_order_relaxed);
        store_view_end(ix->store, v);
        if (stable)
            rank_sort(&s->rank);
        else
            rank_unique(&s->rank);
        if (stable || s->rank.n >= (k < live ? k : live) || attempt == ATTEMPTS)
            break;
    }
    if (s->rank.n > k)
        s->rank.n = k;
    return NAVMAP_OK;
}

static navmap_status exact_one(navmap_index *ix, struct scratch *s, const float *query, uint64_t k,
                               uint32_t ef)
{
    (void)ef;
    return index_scan(ix, s, query, k);
}

navmap_status navmap_search_exact(navmap_index *index, uint64_t nq, const float *queries,
                                  uint64_t k, const struct navmap_search_options *options,
                                  uint64_t *ret_labels, float *ret_distances, uint64_t *ret_found)
{
    return index_search(index, "navmap_search_exact", exact_one, nq, queries, k, options,
                        ret_labels, ret_distances, ret_found);
}
