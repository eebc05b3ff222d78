/* exact.c -- every live vector compared: the answer that needs no graph.
 *
 * A product function, the yardstick for recall, and what a search does when a filter leaves few
 * items, or before it says that fewer than k exist.  The committed index is read under the
 * generation check without any lock (reader protocol q4..q6 of storage/store.h), a block of slots
 * at a time: their distances are hints that overlap each other's sums and cache misses, and only
 * what a hint finds near enough is read once more by itself and believed.
 *
 * E1  A label that is updated during the scan may be met twice, or, when its new slot was passed
 *     before its birth and its old one after its death, not at all.  A few more hits than k are
 *     kept, so that the first costs no place; for the second the scan is repeated while fewer than
 *     k were found and more are live.
 * E2  A filter function is asked last, about what would be kept otherwise.  So that it is asked
 *     seldom, the first scan keeps k and no more.
 */
#include "engine/index.h"

#include <math.h>

#include "storage/fail.h"

#define SPARE 32u
#define ATTEMPTS 4
#define BLOCK 64u

struct scan {
    const navmap_index *ix;
    const struct view *view;
    const float *query;
    struct sieve *sieve; /* NULL = no filter */
    struct rank *rank;
    uint32_t n; /* slots in the block */
    uint32_t slots[BLOCK], words[BLOCK];
    const float *vectors[BLOCK];
};

static void weigh_block(struct scan *c)
{
    float hints[BLOCK];
    const struct distance *d = &c->ix->distance;
    d->many(c->query, c->vectors, c->n, d->dim, hints);
    for (uint32_t i = 0; i < c->n; i++) {
        struct hit hit;
        if (!rank_wants(c->rank, hints[i] == hints[i] ? hints[i] : INFINITY) ||
            !index_read_hit(c->ix, c->view, c->query, c->slots[i], c->words[i], &hit) ||
            !rank_wants(c->rank, hit.dist))
            continue;
        if (c->sieve &&
            !(filter_lists(c->sieve->filter, hit.label) && sieve_asks(c->sieve, hit.label)))
            continue;
        rank_offer(c->rank, &hit);
    }
    c->n = 0;
}

static inline void look_at(struct scan *c, uint32_t slot)
{
    uint32_t word = atomic_load_explicit(view_state(c->view, slot), memory_order_acquire); /* q4 */
    if (STATE_STATUS(word) != SLOT_LIVE)
        return;
    c->slots[c->n] = slot;
    c->words[c->n] = word;
    c->vectors[c->n++] = view_vec(c->view, slot);
    if (c->n == BLOCK)
        weigh_block(c);
}

static void scan_slots(struct scan *c)
{
    const struct sieve *s = c->sieve;
    uint32_t nslots = view_slots(c->view); /* beyond the extent all are FREE */
    c->n = 0;
    if (s && s->by_slot) { /* F2 */
        for (uint64_t i = 0; i < s->filter->n_slots && !s->stopped; i += 64)
            for (uint64_t bits = s->filter->bits[i / 64]; bits != 0; bits &= bits - 1) {
                uint64_t slot = i + (uint32_t)__builtin_ctzll(bits);
                if (slot < nslots)
                    look_at(c, (uint32_t)slot);
            }
    } else {
        for (uint32_t slot = 1; slot < nslots && !(s && s->stopped); slot++)
            if (!s || sieve_lists(s, slot))
                look_at(c, slot);
    }
    weigh_block(c);
}

/* How many there must be if none was missed, as far as is known. */
static uint64_t expected(const struct filter *filter, uint64_t live, uint64_t k)
{
    if (filter && filter->listed && filter->n_pass < live)
        live = filter->n_pass;
    return k < live ? k : live;
}

navmap_status index_scan(navmap_index *ix, struct scratch *s, const struct filter *filter,
                         const float *query, uint64_t k)
{
    for (int attempt = 1;; attempt++) {
        struct view *v;
        struct sieve sieve = {0};
        TRY(store_view_begin(ix->store, &v));
        uint64_t e0 = view_load64(&view_live(v)->apply_end, memory_order_acquire);
        uint64_t spare = filter && filter->ask && attempt == 1 ? 0 : SPARE; /* E2 */
        uint64_t cap = (k < view_slots(v) ? k : view_slots(v)) + spare;
        navmap_status status = rank_reserve(&s->rank, cap);
        if (status != NAVMAP_OK) {
            store_view_end(ix->store, v);
            return status;
        }
        rank_reset(&s->rank, cap);
        if (filter)
            sieve_begin(&sieve, filter, v, e0, 0);
        struct scan c = {
            .ix = ix, .view = v, .query = query, .sieve = filter ? &sieve : NULL, .rank = &s->rank};
        scan_slots(&c);
        fence_acquire(); /* pairing "apply", q6 */
        bool stable = view_load64(&view_live(v)->apply_begin, memory_order_relaxed) == e0;
        uint64_t live = view_load64(&view_root(v)->n_live, memory_order_relaxed);
        store_view_end(ix->store, v);
        if (sieve.stopped)
            return filter_stopped();
        if (stable)
            rank_sort(&s->rank);
        else
            rank_unique(&s->rank);
        if (stable || s->rank.n >= expected(filter, live, k) || attempt == ATTEMPTS)
            break;
    }
    if (s->rank.n > k)
        s->rank.n = k;
    return NAVMAP_OK;
}

static navmap_status exact_one(navmap_index *ix, struct scratch *s, const struct filter *filter,
                               const float *query, uint64_t k, uint32_t ef)
{
    (void)ef;
    return index_scan(ix, s, filter, query, k);
}

navmap_status navmap_search_exact(navmap_index *index, uint64_t nq, const float *queries,
                                  uint64_t k, const struct navmap_search_options *options,
                                  uint64_t *ret_labels, float *ret_distances, uint64_t *ret_found)
{
    return index_search(index, "navmap_search_exact", exact_one, nq, queries, k, options,
                        ret_labels, ret_distances, ret_found);
}
