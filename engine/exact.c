/* exact.c -- every live vector compared: the answer that needs no graph.
 *
 * A product function, the yardstick for recall, and what a search does when a filter leaves few
 * items, or before it says that fewer than k exist.  The committed index is read under the
 * generation check without any lock (reader protocol q4..q6 of storage/store.h), a block of slots
 * at a time: their distances are hints that overlap each other's sums and cache misses, and only
 * what a hint finds near enough is read once more by itself and believed.
 *
 * E1  A label that is updated during the scan may be met twice, or, when its new slot was passed
 *     before its birth and its old one after its death, not at all.  While fewer than k were found
 *     and more are live, the scan is repeated, and then keeps a few more hits than k, so that the
 *     first costs no place.
 * E2  A filter function is asked last, about what would be kept otherwise.
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
    uint64_t scanned;
    float limit; /* what is farther would not be kept */
    /* The block: */
    uint32_t slots[BLOCK], words[BLOCK];
    const void *vectors[BLOCK];
};

static void weigh(struct scan *c, uint32_t slot, uint32_t word)
{
    struct hit hit;
    if (!index_read_hit(c->ix, c->view, c->query, slot, word, &hit) ||
        !rank_wants(c->rank, hit.dist))
        return;
    if (c->sieve && !(filter_lists(c->sieve->filter, hit.label) && sieve_asks(c->sieve, hit.label)))
        return;
    rank_offer(c->rank, &hit);
    if (c->rank->n == c->rank->max)
        c->limit = c->rank->hits[0].dist;
}

static void weigh_block(struct scan *c, uint32_t n)
{
    float hints[BLOCK];
    const struct distance *d = &c->ix->distance;
    d->many(c->query, c->vectors, n, d->dim, hints);
    c->scanned += n;
    for (uint32_t i = 0; i < n; i++)
        if (!(hints[i] > c->limit)) /* a NaN too */
            weigh(c, c->slots[i], c->words[i]);
}

/* Into the block if it is LIVE (q4): written in any case, so that nothing is to be predicted.
 * Returns how many are in the block, `n` before. */
static inline uint32_t look_at(struct scan *c, uint32_t n, uint32_t slot,
                               const _Atomic uint32_t *state, const void *vector)
{
    uint32_t word = atomic_load_explicit(state, memory_order_acquire);
    c->slots[n] = slot;
    c->words[n] = word;
    c->vectors[n] = vector;
    n += STATE_STATUS(word) == SLOT_LIVE;
    if (n < BLOCK)
        return n;
    weigh_block(c, BLOCK);
    return 0;
}

/* Slots of one chunk, where states and vectors lie in a row. */
static uint32_t scan_run(struct scan *c, uint32_t n, uint32_t slot, uint32_t end)
{
    const _Atomic uint32_t *state = view_state(c->view, slot);
    const uint8_t *vector = view_vec(c->view, slot);
    for (; slot < end; slot++, state++, vector += c->view->layout.vec_stride)
        n = look_at(c, n, slot, state, vector);
    return n;
}

static void scan_slots(struct scan *c)
{
    const struct sieve *s = c->sieve;
    const struct view *v = c->view;
    uint32_t nslots = extent_slots(view_load64(&view_root(v)->extent, memory_order_acquire)), n = 0;
    nslots = nslots < view_slots(v) ? nslots : view_slots(v);
    if (!s) {
        uint32_t mask = v->layout.slots_per_chunk - 1;
        for (uint32_t slot = 1, end; slot < nslots; slot = end) {
            end = (slot | mask) + 1 < nslots ? (slot | mask) + 1 : nslots;
            n = scan_run(c, n, slot, end);
        }
    } else if (s->by_slot) { /* F2 */
        for (uint64_t i = 0; i < nslots && !s->stopped; i += 64)
            for (uint64_t bits = marks_word(s->filter->marks, i / 64); bits != 0;
                 bits &= bits - 1) {
                uint64_t slot = i + (uint32_t)__builtin_ctzll(bits);
                if (slot < nslots)
                    n = look_at(c, n, (uint32_t)slot, view_state(v, (uint32_t)slot),
                                view_vec(v, (uint32_t)slot));
            }
    } else {
        for (uint32_t slot = 1; slot < nslots && !s->stopped; slot++)
            if (sieve_lists(s, slot))
                n = look_at(c, n, slot, view_state(v, slot), view_vec(v, slot));
    }
    weigh_block(c, n);
}

/* How many there must be if none was missed, as far as is known. */
static uint64_t expected(const struct filter *filter, uint64_t live, uint64_t k)
{
    if (filter && filter->marks && filter_pass(filter) < live)
        live = filter_pass(filter);
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
        uint64_t spare = attempt == 1 ? 0 : SPARE; /* E1, and E2 */
        uint64_t cap = (k < view_slots(v) ? k : view_slots(v)) + spare;
        navmap_status status = rank_reserve(&s->rank, cap);
        if (status == NAVMAP_OK && filter && filter->marks)
            status = marks_update(filter->marks, ix->store, v, NULL, 0);
        if (status != NAVMAP_OK) {
            store_view_end(ix->store, v);
            return status;
        }
        rank_reset(&s->rank, cap);
        if (filter)
            sieve_begin(&sieve, filter, v, 0);
        struct scan c = {.ix = ix,
                         .view = v,
                         .query = query,
                         .sieve = filter ? &sieve : NULL,
                         .rank = &s->rank,
                         .limit = INFINITY};
        scan_slots(&c);
        s->tally.scans++;
        s->tally.scanned += c.scanned;
        fence_acquire(); /* pairing "apply", q6 */
        bool moved = sieve.by_slot && !marks_stayed(filter->marks, v);
        bool stable = view_load64(&view_live(v)->apply_begin, memory_order_relaxed) == e0;
        uint64_t live = view_load64(&view_root(v)->n_live, memory_order_relaxed);
        store_view_end(ix->store, v);
        if (sieve.stopped)
            return filter_stopped();
        if (stable)
            rank_sort(&s->rank);
        else
            rank_unique(&s->rank);
        if (moved && attempt < ATTEMPTS)
            continue;
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
