/* presort.c -- k-means all the way down; see presort.h. */
#include "engine/presort.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define CENTRES_MOST 16u
#define SAMPLES 16u    /* vectors that settle on a centre, for each */
#define ROUNDS 3u      /* in which they do */
#define DEPTH_MOST 16u /* splits of a vector's group, and its parts */
#define WHOLE 16384u   /* a group of so many is one thread's, down to its pages */
#define TICK 8192u     /* vectors between two ticks */

/* A stretch of the order. */
struct group {
    uint32_t lo, n, depth;
};

struct sorting {
    const struct presort *p;
    uint32_t dim;
    uint32_t page;         /* vectors on one */
    uint32_t *order;       /* [n] the vector at each place */
    uint32_t *aside;       /* [n] */
    uint8_t *nearest;      /* [n] which centre's, place by place */
    struct group *groups;  /* of this depth */
    struct group *smaller; /* [n_groups * CENTRES_MOST] of the one below */
    uint32_t n_groups;
    _Atomic uint32_t taken;
    _Atomic bool stop;
    navmap_status status; /* of the tick: worker 0's */
    _Atomic bool no_memory;
};

/* What it takes to split a group, a thread's own. */
struct split {
    struct sorting *w;
    uint32_t worker;
    uint32_t since; /* vectors since the last tick */
    uint32_t k;     /* centres, which are: */
    const void *centres[CENTRES_MOST];
    float *means;   /* [CENTRES_MOST * dim] */
    float *sums;    /* likewise */
    float *samples; /* [CENTRES_MOST * SAMPLES * dim] */
    float dists[CENTRES_MOST];
};

static bool split_make(struct split *s, struct sorting *w, uint32_t worker)
{
    const size_t dim = w->dim;
    *s = (struct split){.w = w, .worker = worker};
    s->means = malloc(CENTRES_MOST * dim * sizeof *s->means);
    s->sums = malloc(CENTRES_MOST * dim * sizeof *s->sums);
    s->samples = malloc(CENTRES_MOST * SAMPLES * dim * sizeof *s->samples);
    return s->means && s->sums && s->samples;
}

static void split_free(struct split *s)
{
    free(s->means);
    free(s->sums);
    free(s->samples);
}

static const float *vector_at(const struct sorting *w, uint32_t place)
{
    return w->p->vectors + (size_t)w->order[place] * w->dim;
}

static void tick(struct split *s, uint32_t n)
{
    struct sorting *w = s->w;
    s->since += n;
    if (s->worker != 0 || s->since < TICK)
        return;
    s->since = 0;
    w->status = w->p->tick ? w->p->tick(w->p->ctx) : NAVMAP_OK;
    if (w->status != NAVMAP_OK)
        atomic_store(&w->stop, true);
}

/* Centres -------------------------------------------------------------------------------------*/

/* The first of the nearest.  How long `v` is does not matter among centres of length one, unless it
 * is so short that all distances are 1. */
static uint32_t nearest_of(struct split *s, const float *v)
{
    const struct distance *d = s->w->p->distance;
    uint32_t best = 0;
    d->many(v, s->centres, s->k, d->dim, s->dists);
    for (uint32_t c = 1; c < s->k; c++)
        best = s->dists[c] < s->dists[best] ? c : best;
    return best;
}

static void take(const struct sorting *w, const float *v, float *ret)
{
    if (w->p->distance->normalise)
        distance_normalise(v, w->dim, ret);
    else
        memcpy(ret, v, w->dim * sizeof *v);
}

/* One round: each sample to the nearest centre, each centre to the middle of its samples. */
static void settle(struct split *s, uint32_t n)
{
    const uint32_t dim = s->w->dim;
    uint32_t count[CENTRES_MOST] = {0};
    memset(s->sums, 0, (size_t)s->k * dim * sizeof *s->sums);
    for (uint32_t i = 0; i < n; i++) {
        const float *v = s->samples + (size_t)i * dim;
        const uint32_t c = nearest_of(s, v);
        float *sum = s->sums + (size_t)c * dim;
        for (uint32_t j = 0; j < dim; j++)
            sum[j] += v[j];
        count[c]++;
    }
    for (uint32_t c = 0; c < s->k; c++) {
        float *sum = s->sums + (size_t)c * dim;
        for (uint32_t j = 0; j < dim && count[c] > 0; j++)
            sum[j] /= (float)count[c];
        if (count[c] > 0)
            take(s->w, sum, s->means + (size_t)c * dim);
    }
}

/* Neighbours in the order are near each other: the next one is the nearest of those left. */
static void chain(struct split *s)
{
    for (uint32_t c = 0; c + 2 < s->k; c++) {
        const void **left = s->centres + c + 1;
        const struct distance *d = s->w->p->distance;
        uint32_t best = 0, n = s->k - c - 1;
        d->many(s->centres[c], left, n, d->dim, s->dists);
        for (uint32_t i = 1; i < n; i++)
            best = s->dists[i] < s->dists[best] ? i : best;
        const void *next = left[best];
        left[best] = left[0];
        left[0] = next;
    }
}

static void find_centres(struct split *s, const struct group *g)
{
    const uint32_t dim = s->w->dim, most = g->n / s->w->page;
    s->k = most < 2 ? 2 : most < CENTRES_MOST ? most : CENTRES_MOST;
    const uint32_t n = g->n < s->k * SAMPLES ? g->n : s->k * SAMPLES;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t at = g->lo + (uint32_t)((uint64_t)i * g->n / n);
        take(s->w, vector_at(s->w, at), s->samples + (size_t)i * dim);
    }
    for (uint32_t c = 0; c < s->k; c++) {
        float *mean = s->means + (size_t)c * dim;
        memcpy(mean, s->samples + (size_t)(c * n / s->k) * dim, dim * sizeof *mean);
        s->centres[c] = mean;
    }
    for (uint32_t round = 0; round < ROUNDS; round++)
        settle(s, n);
    chain(s);
}

/* Groups --------------------------------------------------------------------------------------*/

static bool is_small(const struct sorting *w, const struct group *g)
{
    return g->n <= 2 * w->page || g->depth == DEPTH_MOST || atomic_load(&w->stop);
}

/* The parts of a group; how many, 0 when it does not split. */
static uint32_t split_group(struct split *s, const struct group *g, struct group ret[CENTRES_MOST])
{
    struct sorting *w = s->w;
    uint32_t count[CENTRES_MOST] = {0}, at[CENTRES_MOST], n = 0, end = g->lo;
    find_centres(s, g);
    for (uint32_t i = g->lo; i < g->lo + g->n; i++) {
        w->nearest[i] = (uint8_t)nearest_of(s, vector_at(w, i));
        count[w->nearest[i]]++;
        tick(s, 1);
        if (atomic_load_explicit(&w->stop, memory_order_relaxed))
            return 0;
    }
    for (uint32_t c = 0; c < s->k; c++) {
        at[c] = end;
        if (count[c] > 0)
            ret[n++] = (struct group){end, count[c], g->depth + 1};
        end += count[c];
    }
    if (n < 2)
        return 0;
    for (uint32_t i = g->lo; i < g->lo + g->n; i++)
        w->aside[at[w->nearest[i]]++] = w->order[i];
    memcpy(w->order + g->lo, w->aside + g->lo, g->n * sizeof *w->order);
    return n;
}

/* Down to its pages. */
static void split_all(struct split *s, const struct group *g)
{
    struct group parts[CENTRES_MOST];
    const uint32_t n = is_small(s->w, g) ? 0 : split_group(s, g, parts);
    for (uint32_t i = 0; i < n; i++)
        split_all(s, &parts[i]);
}

static void work(void *ctx, uint32_t worker)
{
    struct sorting *w = ctx;
    struct split s;
    if (!split_make(&s, w, worker)) {
        atomic_store(&w->no_memory, true);
        atomic_store(&w->stop, true);
    }
    for (;;) {
        const uint32_t at = atomic_fetch_add(&w->taken, 1);
        if (at >= w->n_groups || atomic_load(&w->stop))
            break;
        const struct group *g = &w->groups[at];
        if (g->n <= WHOLE)
            split_all(&s, g);
        else if (!is_small(w, g))
            (void)split_group(&s, g, &w->smaller[(size_t)at * CENTRES_MOST]);
    }
    split_free(&s);
}

/* All groups of one depth; those of the next take their place. */
static bool go_deeper(struct sorting *w)
{
    uint32_t n = 0;
    w->smaller = calloc((size_t)w->n_groups * CENTRES_MOST, sizeof *w->smaller);
    if (!w->smaller) {
        atomic_store(&w->no_memory, true);
        return false;
    }
    w->taken = 0;
    if (w->p->crew)
        crew_run(w->p->crew, w->p->threads, work, w);
    else
        work(w, 0);
    for (uint32_t i = 0; i < w->n_groups * CENTRES_MOST; i++)
        if (w->smaller[i].n > 0)
            w->smaller[n++] = w->smaller[i];
    free(w->groups);
    w->groups = w->smaller;
    w->n_groups = n;
    return n > 0 && !atomic_load(&w->stop);
}

navmap_status presort(const struct presort *p, uint32_t *ret_order)
{
    struct sorting w = {
        .p = p, .dim = p->distance->dim, .page = PRESORT_PAGE / p->stride, .order = ret_order};
    w.page = w.page > 0 ? w.page : 1;
    w.aside = malloc((size_t)p->n * sizeof *w.aside);
    w.nearest = malloc(p->n);
    w.groups = calloc(1, sizeof *w.groups);
    w.no_memory = !w.aside || !w.nearest || !w.groups;
    for (uint32_t i = 0; i < p->n; i++)
        ret_order[i] = i;
    if (!w.no_memory) {
        w.groups[w.n_groups++] = (struct group){0, p->n, 0};
        while (go_deeper(&w))
            ;
    }
    free(w.aside);
    free(w.nearest);
    free(w.groups);
    if (w.no_memory)
        return fail(NAVMAP_ENOMEM, "no memory to order %u vectors", p->n);
    return w.status;
}
