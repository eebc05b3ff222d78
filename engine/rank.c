/* rank.c -- a bounded heap of hits. */
#include "engine/rank.h"

#include <stdlib.h>

#include "storage/fail.h"

navmap_status rank_reserve(struct rank *r, uint64_t max)
{
    if (max <= r->cap)
        return NAVMAP_OK;
    struct hit *hits = max <= SIZE_MAX / sizeof *hits ? malloc((size_t)max * sizeof *hits) : NULL;
    if (!hits)
        return fail(NAVMAP_ENOMEM, "results: no memory for %llu", (unsigned long long)max);
    free(r->hits);
    r->hits = hits;
    r->cap = max;
    return NAVMAP_OK;
}

void rank_free(struct rank *r)
{
    free(r->hits);
    *r = (struct rank){0};
}

void rank_reset(struct rank *r, uint64_t max)
{
    r->max = max;
    r->n = 0;
}

typedef bool hit_order(const struct hit *, const struct hit *);

static bool farther(const struct hit *a, const struct hit *b)
{
    return a->dist != b->dist ? a->dist > b->dist : a->label > b->label;
}
static bool later_label(const struct hit *a, const struct hit *b)
{
    return a->label != b->label ? a->label > b->label : a->dist > b->dist;
}

static void sift_down(struct hit *h, uint64_t n, uint64_t i, hit_order *above)
{
    struct hit e = h[i];
    for (uint64_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && above(&h[child + 1], &h[child]))
            child++;
        if (!above(&h[child], &e))
            break;
        h[i] = h[child];
    }
    h[i] = e;
}

void rank_offer(struct rank *r, const struct hit *hit)
{
    if (r->n == r->max) {
        if (!farther(&r->hits[0], hit))
            return;
        r->hits[0] = *hit;
        sift_down(r->hits, r->n, 0, farther);
        return;
    }
    uint64_t i = r->n++;
    for (uint64_t parent; i > 0; i = parent) {
        parent = (i - 1) / 2;
        if (!farther(hit, &r->hits[parent]))
            break;
        r->hits[i] = r->hits[parent];
    }
    r->hits[i] = *hit;
}

/* Ascending in `above`'s order, whatever the array's order was. */
static void sort(struct hit *h, uint64_t n, hit_order *above)
{
    for (uint64_t i = n / 2; i-- > 0;)
        sift_down(h, n, i, above);
    while (n > 1) {
        struct hit e = h[--n];
        h[n] = h[0];
        h[0] = e;
        sift_down(h, n, 0, above);
    }
}

void rank_sort(struct rank *r)
{
    sort(r->hits, r->n, farther);
}

void rank_unique(struct rank *r)
{
    sort(r->hits, r->n, later_label);
    uint64_t n = 0;
    for (uint64_t i = 0; i < r->n; i++)
        if (n == 0 || r->hits[i].label != r->hits[n - 1].label)
            r->hits[n++] = r->hits[i];
    r->n = n;
    rank_sort(r);
}
