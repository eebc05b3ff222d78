/* search.c -- queries: the reader protocol around the beam search, the answers' last check, and
 * the rows of a batch among threads.
 *
 * Nothing here allocates once a thread's working memory is large enough (a list of labels apart,
 * which is prepared once a call), takes a lock but the one for the view (for a pointer and a
 * counter), or makes a system call.  The steps q1..q6 are those of storage/store.h; the same code
 * runs in the writer's process and in readers'.
 *
 * Q1  A (label, distance) pair that leaves was read between two looks at the state word that show
 *     the same generation and a slot that was not FREE: it was committed at some instant.
 * Q2  Fewer than k are returned only after an exact scan found no more.
 * Q3  A row does not depend on who answers it: a batch is the same for any number of threads, the
 *     error that it ends with included (the lowest row that came short), unless a row fails.
 */
#include "engine/index.h"

#include <math.h>
#include <stdio.h>

#include "storage/fail.h"

#define ATTEMPTS 4 /* q6: one, and three more when re-used slots were dropped */
#define DEFAULT_EF 10u
#define ROWS_ALONE 4u /* rows for each thread that are not worth waking one, as hnswlib has it */

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
static void rerank(const navmap_index *ix, struct scratch *s, const struct filter *filter,
                   const struct view *v, const float *query, uint64_t k, uint64_t e0)
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
        if (!index_read_hit(ix, v, query, found[i].id, found[i].word, &hit) ||
            (filter && !filter_lists(filter, hit.label))) { /* F1 */
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

/* One walk over one view; *ret_retry when slots re-used under it left fewer than k.  A walk that
 * the sieve gave up leaves nothing. */
static navmap_status search_once(navmap_index *ix, struct scratch *s, const struct filter *filter,
                                 const float *query, uint64_t k, uint32_t ef, bool *ret_retry)
{
    struct view *v;
    struct graph g;
    struct sieve sieve = {0};
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
    if (filter) {
        sieve_begin(&sieve, filter, v, e0, beam);
        g.sieve = &sieve;
    }
    if (graph_entry(&g, entry, &slot, &level)) {
        slot = graph_descend(&g, query, slot, level, 0);
        graph_search(&g, s, query, slot, 0, beam);
        if (!sieve.halt) {
            rerank(ix, s, filter, v, query, k, e0);
            found = s->pool.n;
        }
    }
    store_view_end(ix->store, v);
    *ret_retry = s->rank.n < k && found >= k;
    return sieve.stopped ? filter_stopped() : NAVMAP_OK;
}

navmap_status index_walk(navmap_index *ix, struct scratch *s, const struct filter *filter,
                         const float *query, uint64_t k, uint32_t ef)
{
    if (index_flat(ix) || (filter && filter_prefers_scan(filter, k, ef)))
        return index_scan(ix, s, filter, query, k);
    bool retry = true;
    for (int attempt = 0; retry && attempt < ATTEMPTS; attempt++)
        TRY(search_once(ix, s, filter, query, k, ef, &retry));
    return s->rank.n >= k ? NAVMAP_OK : index_scan(ix, s, filter, query, k); /* Q2 */
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
                                   const float *queries, uint64_t k, const uint64_t *labels,
                                   const float *distances)
{
    if (k != 0 && nq > SIZE_MAX / sizeof(uint64_t) / k)
        return fail(NAVMAP_EINVAL, "%s: %llu x %llu results do not fit in memory", what,
                    (unsigned long long)nq, (unsigned long long)k);
    if (nq != 0 && k != 0 && (!labels || !distances))
        return fail(NAVMAP_EINVAL, "%s: ret_labels and ret_distances are required", what);
    return index_check_finite(ix, what, queries, nq);
}

/* A batch -------------------------------------------------------------------------------------*/

struct short_row {
    uint64_t row, found; /* row UINT64_MAX = none */
};

struct batch {
    navmap_index *ix;
    const char *what;
    index_searcher *searcher;
    const struct filter *filter; /* NULL = none */
    const float *queries;
    uint64_t nq, k, want, live;
    uint32_t ef;
    uint64_t *ret_labels;
    float *ret_distances;
    uint64_t *ret_found;
    _Atomic uint64_t next; /* row that nobody has taken */
    _Atomic bool halt;     /* somebody failed; who set it fills in: */
    navmap_status status;
    char detail[512];
    struct short_row *shorts; /* by worker: its lowest */
};

static navmap_status answer_row(const struct batch *b, struct scratch *s, uint64_t i)
{
    uint32_t dim = b->ix->layout->dim;
    const float *query = b->queries + i * dim;
    if (b->ix->distance.normalise) {
        distance_normalise(query, dim, s->vector);
        query = s->vector;
    }
    rank_reset(&s->rank, 1);
    if (b->want > 0)
        TRY(b->searcher(b->ix, s, b->filter, query, b->want, b->ef));
    write_row(&s->rank, b->k, b->ret_labels + i * b->k, b->ret_distances + i * b->k);
    if (b->ret_found)
        b->ret_found[i] = s->rank.n;
    return NAVMAP_OK;
}

/* A worker's share: rows until there are no more.  Its own rows ascend. */
static void answer_rows(void *ctx, uint32_t worker)
{
    struct batch *b = ctx;
    struct short_row *lowest = &b->shorts[worker];
    struct scratch *s = NULL;
    navmap_status status = scratch_take(&b->ix->shelf, b->ix->layout, &s);
    while (status == NAVMAP_OK && !atomic_load_explicit(&b->halt, memory_order_relaxed)) {
        uint64_t i = atomic_fetch_add_explicit(&b->next, 1, memory_order_relaxed);
        if (i >= b->nq)
            break;
        status = answer_row(b, s, i);
        if (status == NAVMAP_OK && s->rank.n < b->k && lowest->row == UINT64_MAX)
            *lowest = (struct short_row){i, s->rank.n};
    }
    scratch_give(&b->ix->shelf, s);
    if (status != NAVMAP_OK && !atomic_exchange(&b->halt, true)) {
        b->status = status; /* pairing "crew": read after crew_run() */
        (void)snprintf(b->detail, sizeof b->detail, "%s", navmap_error_detail());
    }
}

/* "at once" (row UINT64_MAX), or after all rows were answered. */
static navmap_status too_few(const struct batch *b, uint64_t row, uint64_t found)
{
    char where[40] = "", why[80] = "";
    const struct filter *f = b->filter;
    if (row != UINT64_MAX)
        (void)snprintf(where, sizeof where, "row %llu: ", (unsigned long long)row);
    if (!f)
        return fail(NAVMAP_EFEWER, "%s: %sk is %llu, but only %llu live items exist", b->what,
                    where, (unsigned long long)b->k, (unsigned long long)found);
    if (f->listed)
        (void)snprintf(why, sizeof why, ", %llu of them allowed", (unsigned long long)f->n_pass);
    return fail(NAVMAP_EFEWER,
                "%s: %sk is %llu, but only %llu items pass the filter (%llu are live%s%s)", b->what,
                where, (unsigned long long)b->k, (unsigned long long)found,
                (unsigned long long)b->live, why,
                f->ask && row != UINT64_MAX ? "; the function refused others" : "");
}

static navmap_status run_batch(struct batch *b, uint32_t num_threads, bool allow_fewer)
{
    uint32_t n = num_threads < CREW_MAX ? num_threads : CREW_MAX;
    if (n < 2 || b->nq <= (uint64_t)num_threads * ROWS_ALONE)
        n = 1;
    for (uint32_t i = 0; i < n; i++)
        b->shorts[i].row = UINT64_MAX;
    if (n == 1)
        answer_rows(b, 0);
    else
        crew_run(b->ix->crew, n, answer_rows, b);
    if (b->status != NAVMAP_OK)
        return fail(b->status, "%s", b->detail);
    struct short_row lowest = b->shorts[0];
    for (uint32_t i = 1; i < n; i++)
        if (b->shorts[i].row < lowest.row)
            lowest = b->shorts[i];
    return lowest.row == UINT64_MAX || allow_fewer ? NAVMAP_OK
                                                   : too_few(b, lowest.row, lowest.found);
}

navmap_status index_search(navmap_index *ix, const char *what, index_searcher *searcher,
                           uint64_t nq, const float *queries, uint64_t k,
                           const struct navmap_search_options *options, uint64_t *ret_labels,
                           float *ret_distances, uint64_t *ret_found)
{
    struct navmap_search_options o;
    struct filter filter = {0};
    struct short_row shorts[CREW_MAX];
    TRY(index_check(ix, what));
    TRY(index_copy_options(options, sizeof o, "navmap_search_options", &o));
    TRY(check_request(ix, what, nq, queries, k, ret_labels, ret_distances));
    struct batch b = {.ix = ix,
                      .what = what,
                      .searcher = searcher,
                      .queries = queries,
                      .nq = nq,
                      .k = k,
                      .ret_labels = ret_labels,
                      .ret_distances = ret_distances,
                      .ret_found = ret_found,
                      .shorts = shorts};
    TRY(live_count(ix, &b.live));
    bool may_fail = nq != 0 && !o.allow_fewer;
    if (may_fail && k > b.live)
        return too_few(&b, UINT64_MAX, b.live);
    TRY(filter_prepare(ix->store, &o, b.live, &filter));
    if (filter.ask || filter.listed)
        b.filter = &filter;
    uint64_t most = filter.listed && filter.sure ? filter.n_pass : b.live;
    b.want = k < most ? k : most;
    b.ef = o.ef ? o.ef : DEFAULT_EF;
    if (b.ef < b.want)
        b.ef = (uint32_t)b.want; /* live < 2^32 */
    navmap_status status = may_fail && k > most ? too_few(&b, UINT64_MAX, most)
                                                : run_batch(&b, o.num_threads, !may_fail);
    filter_release(&filter);
    return status;
}

navmap_status navmap_search(navmap_index *index, uint64_t nq, const float *queries, uint64_t k,
                            const struct navmap_search_options *options, uint64_t *ret_labels,
                            float *ret_distances, uint64_t *ret_found)
{
    return index_search(index, "navmap_search", index_walk, nq, queries, k, options, ret_labels,
                        ret_distances, ret_found);
}
