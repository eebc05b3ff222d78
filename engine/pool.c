/* pool.c -- the two shapes of the beam; see pool.h for P1..P4. */
#include "engine/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define POOL_INLINE static inline

/* Halved without a branch on the comparison, which nobody could predict. */
static inline uint32_t pool_count(const float *dists, uint32_t n, float d)
{
    uint32_t lo = 0;
    for (; n > 0;) {
        uint32_t half = (n + 1) / 2;
        lo += dists[lo + half - 1] <= d ? half : 0;
        n -= half;
    }
    return lo;
}

static inline void pool_open(void *words, uint32_t lo, uint32_t n)
{
    uint32_t *w = words;
    memmove(w + lo + 1, w + lo, (n - lo) * sizeof *w);
}

#include "engine/pool_line.inc"

static navmap_status grow(struct pool_entry **entries, uint32_t *cap, uint64_t need)
{
    if (need <= *cap)
        return NAVMAP_OK;
    struct pool_entry *e = malloc(need * sizeof *e);
    if (!e)
        return fail(NAVMAP_ENOMEM, "beam: no memory for %llu entries", (unsigned long long)need);
    free(*entries);
    *entries = e;
    *cap = (uint32_t)need;
    return NAVMAP_OK;
}

navmap_status pool_reserve(struct pool *p, uint32_t ef, uint64_t nslots)
{
    /* A beam as wide as the index waits for every node at most; pages are touched as needed. */
    uint64_t frontier = nslots < POOL_FRONTIER_MAX ? nslots : POOL_FRONTIER_MAX;
    if (frontier < POOL_LINE_MAX)
        frontier = POOL_LINE_MAX;
    if (frontier > p->cap_frontier && frontier < p->cap_frontier + (uint64_t)p->cap_frontier / 2)
        frontier = p->cap_frontier + (uint64_t)p->cap_frontier / 2;
    p->wide = nslots > POOL_EXPANDED;
    if (!p->dists)
        p->dists = malloc(POOL_ROOM * sizeof *p->dists);
    if (!p->ids)
        p->ids = malloc(POOL_ROOM * sizeof *p->ids);
    if (!p->words)
        p->words = malloc(POOL_ROOM * sizeof *p->words);
    if (!p->dists || !p->ids || !p->words)
        return fail(NAVMAP_ENOMEM, "beam: no memory for %u entries", POOL_ROOM);
    TRY(grow(&p->entries, &p->cap_entries, (ef > POOL_LINE_MAX ? ef : POOL_LINE_MAX) + 1ull));
    return grow(&p->frontier, &p->cap_frontier, frontier);
}

void pool_free(struct pool *p)
{
    free(p->dists);
    free(p->ids);
    free(p->words);
    free(p->entries);
    free(p->frontier);
    *p = (struct pool){0};
}

void pool_reset(struct pool *p, uint32_t ef, bool plain)
{
    p->bound = INFINITY;
    p->ef = ef;
    p->n = p->next = p->n_results = p->n_frontier = p->stop_at = 0;
    p->heaps = ef > POOL_LINE_MAX || p->wide;
    p->plain = plain;
    p->nearest = (struct pool_entry){INFINITY, 0, 0};
}

/* Heaps: sign +1 keeps the smallest on top, -1 the largest. ------------------------------------*/

static inline bool above(float a, float b, int sign)
{
    return sign > 0 ? a < b : a > b;
}

static void sift_down(struct pool_entry *h, uint32_t n, uint32_t i, int sign)
{
    struct pool_entry e = h[i];
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && above(h[child + 1].dist, h[child].dist, sign))
            child++;
        if (!above(h[child].dist, e.dist, sign))
            break;
        h[i] = h[child];
    }
    h[i] = e;
}

static void sift_up(struct pool_entry *h, uint32_t i, int sign)
{
    struct pool_entry e = h[i];
    for (uint32_t parent; i > 0; i = parent) {
        parent = (i - 1) / 2;
        if (!above(e.dist, h[parent].dist, sign))
            break;
        h[i] = h[parent];
    }
    h[i] = e;
}

/* Ascending for a max-heap, in place. */
static void sort_heap(struct pool_entry *h, uint32_t n)
{
    while (n > 1) {
        struct pool_entry e = h[--n];
        h[n] = h[0];
        h[0] = e;
        sift_down(h, n, 0, -1);
    }
}

/* P4: keep the nearer half of what waits, and of that only what the bound still allows.  An
 * ascending array is a min-heap. */
static void frontier_cut(struct pool *p)
{
    for (uint32_t i = p->n_frontier / 2; i-- > 0;)
        sift_down(p->frontier, p->n_frontier, i, -1);
    sort_heap(p->frontier, p->n_frontier);
    uint32_t n = p->n_frontier / 2;
    while (n > 0 && p->frontier[n - 1].dist > p->bound)
        n--;
    p->n_frontier = n;
}

static void heaps_offer(struct pool *p, struct pool_entry e)
{
    if (p->n_frontier == p->cap_frontier)
        frontier_cut(p);
    p->frontier[p->n_frontier] = e;
    sift_up(p->frontier, p->n_frontier++, +1);
    if (e.word == 0)
        return;
    if (p->n < p->ef) {
        p->entries[p->n] = e;
        sift_up(p->entries, p->n++, -1);
    } else {
        p->entries[0] = e;
        sift_down(p->entries, p->n, 0, -1);
    }
    if (p->n == p->ef)
        p->bound = p->entries[0].dist;
}

void pool_cut(struct pool *p)
{
    const uint32_t at = p->stop_at + (p->n - p->n_results);
    if (at > p->n)
        return;
    const float limit = pool_limit(p, p->dists[at - 1]);
    if (!(limit < p->bound))
        return;
    p->bound = pool_above(limit); /* what is as far as that is kept, as in P7 */
    while (p->dists[p->n - 1] > limit) {
        p->n--;
        p->n_results -= p->plain || p->words[p->n] != 0;
    }
}

static struct pool_entry line_at(const struct pool *p, uint32_t i)
{
    return (struct pool_entry){p->dists[i], p->ids[i] & ~POOL_EXPANDED,
                               p->plain ? POOL_WORD : p->words[i]};
}

/* The line is full of nodes that are no results: split it. */
static void to_heaps(struct pool *p)
{
    uint32_t results = 0;
    p->n_frontier = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        struct pool_entry e = line_at(p, i);
        if (!(p->ids[i] & POOL_EXPANDED))
            p->frontier[p->n_frontier++] = e; /* ascending: a min-heap */
        if (e.word != 0)
            p->entries[results++] = e;
    }
    for (uint32_t i = 0, j = results; i + 1 < j; i++) { /* descending: a max-heap */
        struct pool_entry e = p->entries[i];
        p->entries[i] = p->entries[--j];
        p->entries[j] = e;
    }
    p->n = p->n_results = results;
    p->heaps = true;
}

void pool_offer(struct pool *p, float dist, uint32_t id, uint32_t word)
{
    if (dist < p->nearest.dist)
        p->nearest = (struct pool_entry){dist, id, word};
    if (!(dist < p->bound))
        return;
    /* A result that pushes out the ef-th still fits; anything else would be one too many. */
    if (!p->heaps && p->n == POOL_LINE_MAX && (p->n_results < p->ef || word == 0))
        to_heaps(p);
    if (p->heaps)
        heaps_offer(p, (struct pool_entry){dist, id, word});
    else
        pool_line_put(p, dist, id, word);
}

bool pool_next(struct pool *p, uint32_t *ret_id)
{
    if (p->heaps) {
        if (p->n_frontier == 0 || p->frontier[0].dist > p->bound)
            return false;
        *ret_id = p->frontier[0].id;
        p->frontier[0] = p->frontier[--p->n_frontier];
        if (p->n_frontier > 1)
            sift_down(p->frontier, p->n_frontier, 0, +1);
        return true;
    }
    if (p->next >= p->n)
        return false;
    p->ids[p->next] |= POOL_EXPANDED;
    *ret_id = p->ids[p->next++] & ~POOL_EXPANDED;
    while (p->next < p->n && (p->ids[p->next] & POOL_EXPANDED))
        p->next++;
    return true;
}

struct pool_entry *pool_finish(struct pool *p, uint32_t *ret_n)
{
    if (p->heaps) {
        sort_heap(p->entries, p->n);
        *ret_n = p->n;
        return p->entries;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        struct pool_entry e = line_at(p, i);
        if (e.word != 0)
            p->entries[n++] = e;
    }
    p->n = n;
    *ret_n = n;
    return p->entries;
}
