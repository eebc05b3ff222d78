/* calibrate.c -- navmap_calibrate(): which ef reaches which recall, measured on the index itself.
 *
 *   some items are taken for queries -> how far the 1st, 10th and 100th nearest other one is, by a
 *   scan -> for each of these three a ladder of beams, until one finds nearly all
 *
 * H1  A sample is no query that the graph does not know: it is in the graph, and its own row names
 *     the answers.  So the walk takes no notice of it (query.self), as if it had not been added.
 *     Items of upper levels are no samples, since the descent might end in them.
 * H2  What counts as found is what is no farther than the k-th nearest: among equals any will do.
 */
#include "engine/curve.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/navmap_recall.h"
#include "engine/query.h"
#include "engine/regraph.h"
#include "storage/fail.h"

#define SAMPLES 500u
#define GROUP 32u      /* samples that share a pass over all vectors */
#define BLOCK 64u      /* vectors that are measured to each of them in a row */
#define EF_MOST 16384u /* the ladder ends here */
#define RUNG 1.41421356
#define STEPS (LAYOUT_CURVES * LAYOUT_CURVE_POINTS)

struct calibration {
    navmap_index *ix;
    uint32_t n;                     /* samples */
    uint32_t *slots;                /* [n] */
    float *vectors;                 /* [n * dim] */
    float (*limits)[LAYOUT_CURVES]; /* [n] distance of the k-th nearest other one */
    uint32_t items;                 /* live */
    struct toil toil;
    _Atomic uint32_t next;
    /* The rung of the ladder: */
    uint32_t k, curve, ef;
    _Atomic uint64_t right;
};

/* Samples -------------------------------------------------------------------------------------*/

static uint64_t common_divisor(uint64_t a, uint64_t b)
{
    while (b != 0) {
        uint64_t r = a % b;
        a = b;
        b = r;
    }
    return a;
}

/* A live item of level 0, its vector copied whole. */
static bool take_sample(struct calibration *c, const struct view *v, uint32_t slot)
{
    const uint32_t dim = c->ix->layout->dim;
    uint32_t word = atomic_load_explicit(view_state(v, slot), memory_order_acquire);
    if (STATE_STATUS(word) != SLOT_LIVE || TAG_LEVEL(view_tag_up(v, slot)) != 0)
        return false;
    float *vector = c->vectors + (size_t)c->n * dim;
    if (c->ix->layout->scalar == LAYOUT_F16)
        distance_widen(view_vec(v, slot), dim, vector);
    else
        memcpy(vector, view_vec(v, slot), dim * sizeof *vector);
    fence_acquire(); /* pairing "payload" */
    c->slots[c->n] = slot;
    return atomic_load_explicit(view_state(v, slot), memory_order_relaxed) == word;
}

/* Spread evenly over all slots: in steps that meet each once, the golden section of their number
 * long. */
static void take_samples(struct calibration *c, const struct view *v, uint32_t want)
{
    const uint64_t nslots = extent_slots(view_load64(&view_root(v)->extent, memory_order_acquire));
    const uint64_t n = (nslots < view_slots(v) ? nslots : view_slots(v)) - 1;
    uint64_t step = (uint64_t)((double)n * 0.6180339887) + 1;
    while (common_divisor(step, n) > 1)
        step++;
    for (uint64_t i = 0; i < n && c->n < want; i++)
        c->n += take_sample(c, v, (uint32_t)(1 + i * step % n));
}

static navmap_status begin(struct calibration *c, uint32_t want)
{
    struct view *v;
    const size_t dim = c->ix->layout->dim;
    c->slots = malloc(want * sizeof *c->slots);
    c->vectors = malloc(want * dim * sizeof *c->vectors);
    c->limits = malloc(want * sizeof *c->limits);
    if (!c->slots || !c->vectors || !c->limits)
        return fail(NAVMAP_ENOMEM, "navmap_calibrate: no memory for %u samples", want);
    TRY(store_view_begin(c->ix->store, &v));
    uint64_t live = view_load64(&view_root(v)->n_live, memory_order_relaxed);
    c->items = live < view_slots(v) ? (uint32_t)live : view_slots(v);
    if (c->items > 1)
        take_samples(c, v, want);
    store_view_end(c->ix->store, v);
    if (c->n > 0)
        return NAVMAP_OK;
    return fail(NAVMAP_EINVAL, "navmap_calibrate: %u live items are too few to learn from",
                c->items);
}

/* The truth -----------------------------------------------------------------------------------*/

struct group {
    uint32_t from, n; /* samples */
    struct rank ranks[GROUP];
};

static void measure_block(const struct calibration *c, struct group *g, const uint32_t *slots,
                          const void *const *vectors, uint32_t n)
{
    const struct distance *d = &c->ix->distance;
    float dists[BLOCK];
    for (uint32_t j = 0; j < g->n; j++) {
        struct rank *rank = &g->ranks[j];
        d->many(c->vectors + (size_t)(g->from + j) * d->dim, vectors, n, d->dim, dists);
        for (uint32_t i = 0; i < n; i++)
            if (rank_wants(rank, dists[i]) && dists[i] <= FLT_MAX &&
                slots[i] != c->slots[g->from + j])
                rank_offer(rank, &(struct hit){.label = slots[i], .dist = dists[i]});
    }
}

static void scan(const struct calibration *c, const struct view *v, struct group *g)
{
    uint32_t slots[BLOCK], n = 0;
    const void *vectors[BLOCK];
    uint32_t nslots = extent_slots(view_load64(&view_root(v)->extent, memory_order_acquire));
    nslots = nslots < view_slots(v) ? nslots : view_slots(v);
    for (uint32_t slot = 1; slot < nslots; slot++) {
        uint32_t word = atomic_load_explicit(view_state(v, slot), memory_order_acquire);
        if (STATE_STATUS(word) != SLOT_LIVE)
            continue;
        slots[n] = slot;
        vectors[n++] = view_vec(v, slot);
        if (n == BLOCK || slot + 1 == nslots) {
            measure_block(c, g, slots, vectors, n);
            n = 0;
        }
    }
    measure_block(c, g, slots, vectors, n);
}

static navmap_status find_limits(struct calibration *c, struct group *g)
{
    struct view *v;
    const uint32_t most = curve_ks[LAYOUT_CURVES - 1];
    for (uint32_t j = 0; j < g->n; j++) {
        TRY(rank_reserve(&g->ranks[j], most));
        rank_reset(&g->ranks[j], most);
    }
    TRY(store_view_begin(c->ix->store, &v));
    scan(c, v, g);
    store_view_end(c->ix->store, v);
    for (uint32_t j = 0; j < g->n; j++) {
        struct rank *rank = &g->ranks[j];
        rank_sort(rank);
        for (uint32_t i = 0; i < LAYOUT_CURVES; i++) {
            uint64_t k = curve_ks[i] < rank->n ? curve_ks[i] : rank->n;
            c->limits[g->from + j][i] = k > 0 ? rank->hits[k - 1].dist : 0;
        }
    }
    return NAVMAP_OK;
}

static void find_truth(void *ctx, uint32_t worker)
{
    struct calibration *c = ctx;
    struct group g = {.n = 0};
    navmap_status status = NAVMAP_OK;
    while (status == NAVMAP_OK && !atomic_load(&c->toil.stop)) {
        g.from = atomic_fetch_add(&c->next, GROUP);
        if (g.from >= c->n)
            break;
        g.n = c->n - g.from < GROUP ? c->n - g.from : GROUP;
        status = find_limits(c, &g);
        atomic_fetch_add(&c->toil.done, (uint64_t)g.n * STEPS);
        if (status == NAVMAP_OK && worker == 0)
            status = toil_tell(&c->toil);
    }
    if (status != NAVMAP_OK)
        toil_fail(&c->toil, status);
    for (uint32_t j = 0; j < GROUP; j++)
        rank_free(&g.ranks[j]);
}

/* The ladder ----------------------------------------------------------------------------------*/

static navmap_status search_sample(const struct calibration *c, struct scratch *s, uint32_t i,
                                   uint64_t *ret_right)
{
    bool again = true;
    struct query q = {.ix = c->ix,
                      .s = s,
                      .vector = c->vectors + (size_t)i * c->ix->layout->dim,
                      .k = c->k,
                      .ef = c->ef,
                      .self = c->slots[i]}; /* H1 */
    rank_reset(&s->rank, 1);
    while (again) {
        TRY(query_begin(&q));
        query_scan(&(struct query *){&q}, 1);
        while (q.walking && walk_step(&q.walk))
            ;
        TRY(query_end(&q, &again));
    }
    for (uint64_t j = 0; j < s->rank.n; j++)
        *ret_right += s->rank.hits[j].dist <= c->limits[i][c->curve]; /* H2 */
    return NAVMAP_OK;
}

static void search_samples(void *ctx, uint32_t worker)
{
    struct calibration *c = ctx;
    struct scratch *s = NULL;
    uint64_t right = 0;
    navmap_status status = scratch_take(&c->ix->shelf, c->ix->layout, &s);
    while (status == NAVMAP_OK && !atomic_load(&c->toil.stop)) {
        uint32_t i = atomic_fetch_add(&c->next, 1);
        if (i >= c->n)
            break;
        status = search_sample(c, s, i, &right);
        if (status == NAVMAP_OK && worker == 0)
            status = toil_tell(&c->toil);
    }
    if (status != NAVMAP_OK)
        toil_fail(&c->toil, status);
    atomic_fetch_add(&c->right, right);
    scratch_give(&c->ix->shelf, s);
}

static navmap_status climb(struct calibration *c, uint32_t threads, uint16_t *ret_ef)
{
    struct curve_climb climbed = {0};
    bool more = true;
    c->ef = c->k;
    for (bool last = false; more && !last; c->ef = (uint32_t)ceil(c->ef * RUNG)) {
        last = c->ef > EF_MOST || c->ef > c->items;
        atomic_store(&c->next, 0);
        atomic_store(&c->right, 0);
        crew_run(c->ix->crew, threads, search_samples, c);
        TRY(toil_status(&c->toil));
        const double all = (double)c->n * c->k;
        const double missed = fmax(all - (double)atomic_load(&c->right), 0.5) / all;
        const uint32_t before = climbed.reached;
        more = curve_climb(&climbed, c->ef, missed, ret_ef);
        atomic_fetch_add(&c->toil.done, (uint64_t)c->n * (climbed.reached - before));
    }
    return NAVMAP_OK;
}

static navmap_status measure(struct calibration *c, uint32_t threads, struct disk_root *ret_curve)
{
    c->toil.total = 2ull * c->n * STEPS;
    crew_run(c->ix->crew, threads, find_truth, c);
    TRY(toil_status(&c->toil));
    for (c->curve = 0; c->curve < LAYOUT_CURVES; c->curve++) {
        c->k = curve_ks[c->curve] < c->items ? curve_ks[c->curve] : c->items - 1;
        TRY(climb(c, threads, ret_curve->curve_ef[c->curve]));
    }
    ret_curve->curve_items = c->items;
    return NAVMAP_OK;
}

/* The calls -----------------------------------------------------------------------------------*/

static navmap_status keep(navmap_index *ix, const struct disk_root *curve)
{
    TRY(store_write_begin(ix->store, 0));
    navmap_status status = store_curve_set(ix->store, curve);
    store_write_end(ix->store);
    return status == NAVMAP_OK ? store_settle(ix->store) : status;
}

static navmap_status return_curve(const struct disk_root *curve, struct navmap_calibration *ret)
{
    struct navmap_calibration found = {.struct_size = ret->struct_size,
                                       .items = curve->curve_items};
    if (ret->struct_size < sizeof found)
        return fail(NAVMAP_EINVAL, "navmap_calibration: struct_size is %u, expected %zu",
                    ret->struct_size, sizeof found);
    for (uint32_t k = 0; k < LAYOUT_CURVES; k++)
        for (uint32_t i = 0; i < LAYOUT_CURVE_POINTS; i++)
            found.ef[k][i] = curve->curve_ef[k][i];
    *ret = found;
    return NAVMAP_OK;
}

navmap_status navmap_calibrate(navmap_index *index, const struct navmap_calibrate_options *options,
                               struct navmap_calibration *ret_calibration)
{
    struct navmap_calibrate_options o;
    struct navmap_calibration found = {.struct_size = sizeof found};
    struct disk_root curve = {0};
    TRY(index_check_writer(index, "navmap_calibrate"));
    TRY(index_copy_options(options, sizeof o, "navmap_calibrate_options", &o));
    TRY(return_curve(&curve, ret_calibration ? ret_calibration : &found));
    if (index_flat(index))
        return fail(NAVMAP_EINVAL, "navmap_calibrate: in a flat index every search is exact");
    struct calibration c = {.ix = index, .toil = {.progress = o.progress, .ctx = o.progress_ctx}};
    navmap_status status = begin(&c, o.samples ? o.samples : SAMPLES);
    if (status == NAVMAP_OK)
        status = measure(&c, o.num_threads ? o.num_threads : 1, &curve);
    free(c.slots);
    free(c.vectors);
    free(c.limits);
    TRY(status);
    TRY(keep(index, &curve));
    return ret_calibration ? return_curve(&curve, ret_calibration) : NAVMAP_OK;
}

/* Of the committed root, word by word: a writer may be changing it. */
static navmap_status read_curve(navmap_index *ix, struct disk_root *ret_curve)
{
    struct view *v;
    uint64_t words[sizeof *ret_curve / 8];
    TRY(store_view_begin(ix->store, &v));
    const uint64_t *from = (const uint64_t *)(const void *)view_root(v);
    for (size_t i = 0; i < sizeof words / 8; i++)
        words[i] = view_load64(from + i, memory_order_relaxed);
    store_view_end(ix->store, v);
    memcpy(ret_curve, words, sizeof words);
    return NAVMAP_OK;
}

navmap_status navmap_get_calibration(navmap_index *index,
                                     struct navmap_calibration *ret_calibration)
{
    struct disk_root curve;
    TRY(index_check(index, "navmap_get_calibration"));
    if (!ret_calibration)
        return fail(NAVMAP_EINVAL, "navmap_get_calibration: ret_calibration is required");
    TRY(read_curve(index, &curve));
    return return_curve(&curve, ret_calibration);
}

navmap_status navmap_ef_for_recall(navmap_index *index, uint64_t k, double recall, uint32_t *ret_ef)
{
    struct disk_root curve;
    TRY(index_check(index, "navmap_ef_for_recall"));
    if (!(recall > 0 && recall <= NAVMAP_RECALL_MAX))
        return fail(NAVMAP_EINVAL,
                    "a recall of %g cannot be aimed at, only above 0 and up to %g; an exact search "
                    "finds all",
                    recall, NAVMAP_RECALL_MAX);
    TRY(read_curve(index, &curve));
    if (index_flat(index) || k == 0) {
        *ret_ef = k < UINT32_MAX ? (uint32_t)k : UINT32_MAX;
        return NAVMAP_OK;
    }
    if (curve.curve_items == 0)
        return fail(NAVMAP_EINVAL,
                    "a recall of %g is aimed at, but nobody measured yet which ef it takes: "
                    "calibrate the index first",
                    recall);
    *ret_ef = curve_ef(&curve, k, recall);
    return *ret_ef > 0 ? NAVMAP_OK
                       : fail(NAVMAP_EINVAL,
                              "a recall of %g was not reached when the index was calibrated, with "
                              "any ef up to %u",
                              recall, EF_MOST);
}

navmap_status index_aim(navmap_index *ix, uint64_t k, struct navmap_search_options *o)
{
    if (o->target_recall == 0)
        return NAVMAP_OK;
    if (o->ef != 0)
        return fail(NAVMAP_EINVAL, "ef is %u and target_recall is %g: give one of them", o->ef,
                    o->target_recall);
    return navmap_ef_for_recall(ix, k, o->target_recall, &o->ef);
}

navmap_status index_calibrate_again(navmap_index *ix, uint32_t threads)
{
    const struct navmap_calibrate_options o = {.struct_size = sizeof o, .num_threads = threads};
    navmap_status status = navmap_calibrate(ix, &o, NULL);
    return status == NAVMAP_EPOISONED ? status : NAVMAP_OK;
}
