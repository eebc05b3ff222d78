/* search.c -- queries: what a call checks, and the rows of a batch among threads and in one.
 *
 * A thread answers up to LANES rows at once, a step of one walk after a step of another: while one
 * waits for memory the others work.  Rows that one filter makes scans of share these.  Single
 * queries, and those that ask a function, are answered one after the other (query.c).
 *
 * Q3  A row does not depend on who answers it: a batch is the same for any number of threads, the
 *     error that it ends with included (the lowest row that came short), unless a row fails.
 */
#include "engine/code_scan.h"
#include "engine/query.h"

#include <math.h>
#include <stdio.h>

#include "storage/fail.h"

#define DEFAULT_EF 10u
#define STOP_MOST 1e6
#define LANES 2u
#define ROWS_ALONE 4u /* rows for each thread that are not worth waking one, as hnswlib has it */

/* Copy the answers out, the rest of the row padded. */
static void write_row(const struct rank *rank, uint64_t k, uint64_t *ret_labels,
                      float *ret_distances)
{
    for (uint64_t i = 0; i < k; i++) {
        ret_labels[i] = i < rank->n ? rank->hits[i].label : UINT64_MAX;
        ret_distances[i] = i < rank->n ? rank->hits[i].dist : INFINITY;
    }
}

static navmap_status live_count(navmap_index *ix, uint64_t *ret_live, uint64_t *ret_deleted)
{
    struct view *v;
    TRY(store_view_begin(ix->store, &v));
    uint64_t live = view_load64(&view_root(v)->n_live, memory_order_relaxed);
    *ret_live = live < view_slots(v) ? live : view_slots(v); /* the file's word is not trusted */
    *ret_deleted = view_load64(&view_root(v)->n_deleted, memory_order_relaxed);
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

static navmap_status check_stop(const navmap_index *ix, const struct navmap_search_options *o)
{
    if (!(o->stop >= 0 && o->stop <= STOP_MOST))
        return fail(NAVMAP_EINVAL, "stop is %g, must be from 0 (not used) to %g", o->stop,
                    STOP_MOST);
    if (o->stop > 0 && ix->distance.space == NAVMAP_IP)
        return fail(NAVMAP_EINVAL,
                    "stop is a share of a distance, and inner products are none: leave it 0");
    return NAVMAP_OK;
}

static navmap_status check_set(const navmap_index *ix, const char *what,
                               const navmap_filter_set *set)
{
    if (set && set->serial != ix->serial)
        return fail(NAVMAP_EINVAL, "%s: the filter was prepared for another index", what);
    return NAVMAP_OK;
}

static navmap_status check_sets(const navmap_index *ix, const char *what,
                                const struct navmap_search_options *o, uint64_t nq)
{
    if ((o->allowed != NULL) + (o->set != NULL) + (o->row_sets != NULL) > 1)
        return fail(NAVMAP_EINVAL, "%s: allowed, set and row_sets exclude each other", what);
    TRY(check_set(ix, what, o->set));
    for (uint64_t i = 0; o->row_sets && i < nq; i++)
        TRY(check_set(ix, what, o->row_sets[i]));
    return NAVMAP_OK;
}

/* A batch -------------------------------------------------------------------------------------*/

struct short_row {
    uint64_t row, found; /* row UINT64_MAX = none */
};

struct batch {
    navmap_index *ix;
    const char *what;
    index_searcher *searcher;
    const struct filter *filter; /* NULL = none, or: */
    navmap_filter_set *const *row_sets;
    const float *queries;
    uint64_t nq, k, want, live, deleted;
    uint32_t ef;
    float stop; /* scratch.h */
    uint64_t *ret_labels;
    float *ret_distances;
    uint64_t *ret_found;
    _Atomic uint64_t next; /* row that nobody has taken */
    _Atomic bool halt;     /* somebody failed; who set it fills in: */
    navmap_status status;
    char detail[512];
    struct short_row *shorts;            /* by worker: its lowest */
    struct navmap_search_counts *counts; /* by worker */
};

static void fail_batch(struct batch *b, navmap_status status)
{
    if (!atomic_exchange(&b->halt, true)) {
        b->status = status; /* pairing "crew": read after crew_run() */
        (void)snprintf(b->detail, sizeof b->detail, "%s", navmap_error_detail());
    }
}

/* The next row that nobody has taken; false when there is none, or no more to be answered. */
static bool take_row(struct batch *b, uint64_t *ret_row)
{
    if (atomic_load_explicit(&b->halt, memory_order_relaxed))
        return false;
    *ret_row = atomic_fetch_add_explicit(&b->next, 1, memory_order_relaxed);
    return *ret_row < b->nq;
}

static const float *row_query(const struct batch *b, struct scratch *s, uint64_t row)
{
    uint32_t dim = b->ix->layout->dim;
    const float *query = b->queries + row * dim;
    if (!b->ix->distance.normalise)
        return query;
    distance_normalise(query, dim, s->vector);
    return s->vector;
}

/* s->rank is the answer.  A worker's rows ascend, but for those that it has under way at once. */
static void give_row(struct batch *b, struct scratch *s, uint64_t row, struct short_row *lowest)
{
    const struct rank *rank = &s->rank;
    write_row(rank, b->k, b->ret_labels + row * b->k, b->ret_distances + row * b->k);
    if (b->ret_found)
        b->ret_found[row] = rank->n;
    if (rank->n < b->k && row < lowest->row)
        *lowest = (struct short_row){row, rank->n};
}

/* The filter of a row; `room` is for one of its own. */
static const struct filter *row_filter(const struct batch *b, uint64_t row, struct filter *room)
{
    if (!b->row_sets || !b->row_sets[row])
        return b->filter;
    *room = (struct filter){.n_live = b->live, .marks = &b->row_sets[row]->marks};
    if (b->filter) {
        room->ask = b->filter->ask;
        room->ctx = b->filter->ctx;
    }
    return room;
}

/* Rows one after the other, until there are no more. */
static void answer_singly(struct batch *b, struct scratch *s, struct short_row *lowest)
{
    navmap_status status = NAVMAP_OK;
    for (uint64_t row; status == NAVMAP_OK && take_row(b, &row);) {
        struct filter room;
        rank_reset(&s->rank, 1);
        if (b->want > 0)
            status = b->searcher(b->ix, s, row_filter(b, row, &room), row_query(b, s, row), b->want,
                                 b->ef);
        if (status == NAVMAP_OK)
            give_row(b, s, row, lowest);
    }
    if (status != NAVMAP_OK)
        fail_batch(b, status);
}

/* Rows side by side ---------------------------------------------------------------------------*/

struct lane {
    struct query q;       /* stays where it is: its parts point to each other */
    struct filter filter; /* room for the row's */
    uint64_t row;
    bool busy;
};

static void lane_set(const struct batch *b, struct lane *lane, struct scratch *s, uint64_t row)
{
    lane->row = row;
    lane->q = (struct query){
        .ix = b->ix, .s = s, .vector = row_query(b, s, row), .k = b->want, .ef = b->ef};
    lane->q.filter = row_filter(b, row, &lane->filter);
}

static navmap_status lane_begin(const struct batch *b, struct lane *lane, struct scratch *s,
                                struct asks *asks, uint64_t row)
{
    struct query *q = &lane->q;
    lane_set(b, lane, s, row);
    TRY(query_begin(q));
    query_scan(&q, 1);
    if (lane->q.walking)
        walk_share(&lane->q.walk, asks);
    lane->busy = true;
    return NAVMAP_OK;
}

/* A row that is to be begun again, or came short, goes on by itself. */
static navmap_status lane_end(struct batch *b, struct lane *lane, struct short_row *lowest)
{
    struct query *q = &lane->q;
    bool again;
    lane->busy = false;
    TRY(query_end(q, &again));
    TRY(query_finish(q, again));
    give_row(b, q->s, lane->row, lowest);
    return NAVMAP_OK;
}

static navmap_status lane_finish(struct batch *b, struct lane *lane, struct short_row *lowest)
{
    while (lane->q.walking && walk_step(&lane->q.walk))
        ;
    return lane_end(b, lane, lowest);
}

/* One step of a lane, or its end and the beginning of another row. */
static navmap_status lane_go_on(struct batch *b, struct lane *lane, struct asks *asks,
                                struct short_row *lowest)
{
    struct scratch *s = lane->q.s;
    uint64_t row;
    if (lane->q.walking && walk_step(&lane->q.walk))
        return NAVMAP_OK;
    TRY(lane_end(b, lane, lowest));
    return take_row(b, &row) ? lane_begin(b, lane, s, asks, row) : NAVMAP_OK;
}

static void answer_in_lanes(struct batch *b, struct scratch *const *s, struct short_row *lowest)
{
    struct lane lanes[LANES];
    navmap_status status = NAVMAP_OK;
    uint32_t busy = 0;
    for (uint32_t i = 0; i < LANES; i++)
        lanes[i].busy = false;
    for (uint64_t row; busy < LANES && status == NAVMAP_OK && take_row(b, &row); busy++)
        status = lane_begin(b, &lanes[busy], s[busy], &s[0]->asks, row);
    while (busy > 0 && status == NAVMAP_OK) {
        busy = 0;
        for (uint32_t i = 0; i < LANES && status == NAVMAP_OK; i++) {
            if (lanes[i].busy)
                status = lane_go_on(b, &lanes[i], &s[0]->asks, lowest);
            busy += lanes[i].busy;
        }
    }
    bool again;
    for (uint32_t i = 0; i < LANES; i++) /* the views must be given back */
        if (lanes[i].busy && query_end(&lanes[i].q, &again) != NAVMAP_OK)
            continue; /* the first failure is the one to tell of */
    if (status != NAVMAP_OK)
        fail_batch(b, status);
}

/* Rows that are scans, CODE_SCAN_MOST of them in one; one that turns out not to be is walked. */
static void answer_in_scans(struct batch *b, struct scratch *const *s, struct short_row *lowest)
{
    struct lane lanes[CODE_SCAN_MOST];
    navmap_status status = NAVMAP_OK;
    for (uint32_t n = CODE_SCAN_MOST; n == CODE_SCAN_MOST && status == NAVMAP_OK;) {
        struct query *queries[CODE_SCAN_MOST];
        uint32_t begun = 0;
        n = 0;
        for (uint64_t row; n < CODE_SCAN_MOST && status == NAVMAP_OK && take_row(b, &row); n++) {
            queries[n] = &lanes[n].q;
            lane_set(b, &lanes[n], s[n], row);
            status = query_begin(queries[n]);
            begun += status == NAVMAP_OK;
        }
        if (status == NAVMAP_OK)
            query_scan(queries, n);
        for (uint32_t i = 0; i < begun; i++) {
            navmap_status ended = lane_finish(b, &lanes[i], lowest);
            status = status == NAVMAP_OK ? ended : status;
        }
    }
    if (status != NAVMAP_OK)
        fail_batch(b, status);
}

/* Walks, of which there are several for each thread.  A function is asked about one row after the
 * other: it may stop the call. */
static bool side_by_side(const struct batch *b)
{
    return b->searcher == index_walk && !(b->filter && b->filter->ask) && !index_flat(b->ix) &&
           b->want > 0 && b->nq > 1;
}

static void count(struct navmap_search_counts *counts, struct scratch *s)
{
    const struct tally *t = &s->tally;
    counts->measured += t->measured;
    counts->expanded += t->expanded;
    counts->exact += t->exact;
    counts->scanned += t->scanned;
    counts->walks += t->walks;
    counts->hops += t->hops;
    counts->scans += t->scans;
    s->tally = (struct tally){0};
}

/* Will the rows be scans of one filter? */
static bool scanned_together(const struct batch *b)
{
    const struct query q = {.ix = b->ix, .filter = b->filter, .k = b->want, .ef = b->ef};
    const bool few = b->filter || b->live < b->deleted;
    return few && !b->row_sets && b->ix->layout->code_stride > 0 && query_scans(&q);
}

/* A worker's share. */
static void answer_rows(void *ctx, uint32_t worker)
{
    struct batch *b = ctx;
    struct scratch *s[CODE_SCAN_MOST] = {NULL};
    const bool scans = side_by_side(b) && scanned_together(b);
    const uint32_t n = scans ? CODE_SCAN_MOST : side_by_side(b) ? LANES : 1;
    navmap_status status = NAVMAP_OK;
    for (uint32_t i = 0; i < n && status == NAVMAP_OK; i++) {
        status = scratch_take(&b->ix->shelf, b->ix->layout, &s[i]);
        if (status == NAVMAP_OK) {
            s[i]->stop = b->stop;
            s[i]->tally = (struct tally){0}; /* of adding */
        }
    }
    if (status != NAVMAP_OK)
        fail_batch(b, status);
    else if (scans)
        answer_in_scans(b, s, &b->shorts[worker]);
    else if (n > 1)
        answer_in_lanes(b, s, &b->shorts[worker]);
    else
        answer_singly(b, s[0], &b->shorts[worker]);
    for (uint32_t i = 0; i < n; i++) {
        if (s[i]) {
            count(&b->counts[worker], s[i]);
            s[i]->stop = 0;
        }
        scratch_give(&b->ix->shelf, s[i]);
    }
}

/* "at once" (row UINT64_MAX), or after all rows were answered. */
static navmap_status too_few(const struct batch *b, uint64_t row, uint64_t found)
{
    char where[40] = "", why[80] = "";
    struct filter room;
    const struct filter *f = row == UINT64_MAX ? b->filter : row_filter(b, row, &room);
    const unsigned long long k = b->k, n = found, live = b->live, deleted = b->deleted;
    if (row != UINT64_MAX)
        (void)snprintf(where, sizeof where, "row %llu: ", (unsigned long long)row);
    if (!f)
        return fail(NAVMAP_EFEWER, "%s: %sk is %llu, but only %llu live items exist (%llu deleted)",
                    b->what, where, k, n, deleted);
    if (f->marks)
        (void)snprintf(why, sizeof why, ", %llu of them allowed",
                       (unsigned long long)filter_pass(f));
    return fail(NAVMAP_EFEWER,
                "%s: %sk is %llu, but only %llu items pass the filter (%llu are live%s, %llu "
                "deleted%s)",
                b->what, where, k, n, live, why, deleted,
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
    struct navmap_search_counts counts[CREW_MAX] = {{0}};
    TRY(index_check(ix, what));
    TRY(index_copy_options(options, sizeof o, "navmap_search_options", &o));
    TRY(check_request(ix, what, nq, queries, k, ret_labels, ret_distances));
    TRY(index_aim(ix, k, &o));
    TRY(check_stop(ix, &o));
    struct batch b = {.ix = ix,
                      .what = what,
                      .searcher = searcher,
                      .queries = queries,
                      .nq = nq,
                      .k = k,
                      .stop = (float)(o.stop > 0 ? (1 + o.stop) * (1 + o.stop) : 0),
                      .ret_labels = ret_labels,
                      .ret_distances = ret_distances,
                      .ret_found = ret_found,
                      .shorts = shorts,
                      .row_sets = o.row_sets,
                      .counts = counts};
    TRY(live_count(ix, &b.live, &b.deleted));
    bool may_fail = nq != 0 && !o.allow_fewer;
    if (may_fail && k > b.live)
        return too_few(&b, UINT64_MAX, b.live);
    TRY(check_sets(ix, what, &o, nq));
    TRY(filter_prepare(ix->store, &o, b.live, &filter));
    if (filter.ask || filter.marks)
        b.filter = &filter;
    uint64_t most = filter.sure ? filter_pass(&filter) : b.live;
    b.want = k < most ? k : most;
    b.ef = o.ef ? o.ef : DEFAULT_EF;
    if (b.ef < b.want)
        b.ef = (uint32_t)b.want; /* live < 2^32 */
    navmap_status status = may_fail && k > most ? too_few(&b, UINT64_MAX, most)
                                                : run_batch(&b, o.num_threads, !may_fail);
    filter_release(&filter);
    for (uint32_t i = 0; o.ret_counts && i < CREW_MAX; i++) {
        uint64_t *sum = (uint64_t *)o.ret_counts;
        const uint64_t *of = (const uint64_t *)&counts[i];
        for (size_t j = 0; j < sizeof counts[i] / sizeof *of; j++)
            sum[j] += of[j];
    }
    return status;
}

navmap_status navmap_search(navmap_index *index, uint64_t nq, const float *queries, uint64_t k,
                            const struct navmap_search_options *options, uint64_t *ret_labels,
                            float *ret_distances, uint64_t *ret_found)
{
    return index_search(index, "navmap_search", index_walk, nq, queries, k, options, ret_labels,
                        ret_distances, ret_found);
}
