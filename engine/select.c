/* select.c -- choosing neighbours; see select.h. */
#include "engine/select.h"

#include <stdlib.h>
#include <string.h>

#include "engine/graph_inline.h"

/* Insertion with binary search: rows are short and often nearly sorted, and it keeps equals in
 * order without recursion or room. */
void select_sort(struct near *near, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        struct near e = near[i];
        uint32_t lo = 0, hi = i;
        while (lo < hi) {
            uint32_t mid = (lo + hi) / 2;
            if (near[mid].dist <= e.dist)
                lo = mid + 1;
            else
                hi = mid;
        }
        memmove(near + lo + 1, near + lo, (i - lo) * sizeof e);
        near[lo] = e;
    }
}

/* S2.  Same for (a, b) on every run. */
static uint64_t copy_hash(uint32_t a, uint32_t b)
{
    uint64_t x = ((uint64_t)a << 32 | b) * UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 29;
}

/* Take the `room` copies of lowest hash. */
static uint32_t fill_with_copies(uint32_t slot, struct near *aside, uint32_t n, uint32_t room,
                                 struct near *ret)
{
    uint32_t taken = 0;
    for (; taken < room && taken < n; taken++) {
        uint32_t best = taken;
        for (uint32_t i = taken + 1; i < n; i++)
            if (copy_hash(slot, aside[i].id) < copy_hash(slot, aside[best].id))
                best = i;
        ret[taken] = aside[best];
        aside[best] = aside[taken];
    }
    return taken;
}

bool select_is_diverse(const struct graph *g, struct near c, const struct near *taken, uint32_t n)
{
    enum { GROUP = 4 }; /* most candidates fail against one of the first few */
    const uint8_t *codes[GROUP];
    const void *vectors[GROUP];
    struct hop hop = {.codes = codes, .vectors = vectors};
    uint32_t ids[GROUP];
    float d[GROUP];
    if (n == 0)
        return true;
    const struct target to = graph_target_node(g, c.id, g->pair);
    for (uint32_t i = 0; i < n; i += GROUP) {
        uint32_t m = n - i < GROUP ? n - i : GROUP;
        for (uint32_t j = 0; j < m; j++)
            ids[j] = taken[i + j].id;
        graph_locate(g, true, to.code != NULL, ids, m, &hop);
        graph_measure(g, &to, &hop, m, d);
        for (uint32_t j = 0; j < m; j++)
            if (d[j] < c.dist)
                return false;
    }
    return true;
}

uint32_t select_diverse(const struct graph *g, uint32_t slot, const struct near *near, uint32_t n,
                        uint32_t least, uint32_t max, struct near *aside, struct near *ret_chosen)
{
    if (n < max) {
        memmove(ret_chosen, near, n * sizeof *near);
        return n;
    }
    const struct target to = graph_target_node(g, slot, g->pair);
    float self = graph_distance(g, &to, slot);
    uint32_t copies = 0, n_aside = 0, n_passed = 0, taken = 0;
    for (uint32_t i = 0; i < n; i++)
        if (near[i].dist == self && copies++ > 0)
            aside[n_aside++] = near[i];
    uint32_t share = (max + 7) / 8;
    uint32_t limit = max - (n_aside < share ? n_aside : share); /* S1 */
    bool has_copy = false;
    struct near *passed = aside + n_aside; /* each candidate is put aside once at most */
    for (uint32_t i = 0; i < n && taken < limit; i++) {
        struct near c = near[i];
        if (c.dist == self && has_copy)
            continue;
        has_copy |= c.dist == self;
        if (select_is_diverse(g, c, ret_chosen, taken))
            ret_chosen[taken++] = c; /* taken <= i: no candidate still to come is overwritten */
        else
            passed[n_passed++] = c;
    }
    taken += fill_with_copies(slot, aside, n_aside, max - taken, ret_chosen + taken);
    for (uint32_t i = 0; i < n_passed && taken < least; i++) /* S3 */
        ret_chosen[taken++] = passed[i];
    return taken;
}

uint32_t select_shrink(const struct graph *g, struct scratch *s, uint32_t slot,
                       const _Atomic uint32_t *row, uint32_t width, uint32_t level,
                       struct near newcomer)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < width; i++) {
        uint32_t id = row_get(row, i);
        if (id == 0 || id >= g->nslots || id == slot || !graph_linkable(g, id, level))
            continue;
        s->ids[n] = id;
        s->row[n++].id = id;
    }
    const struct target to = graph_target_node(g, slot, g->pair);
    graph_distances(g, s, &to, s->ids, n, s->dists);
    for (uint32_t i = 0; i < n; i++)
        s->row[i].dist = s->dists[i];
    s->row[n++] = newcomer;
    if (n <= width)
        return n; /* the dead made room */
    select_sort(s->row, n);
    return select_diverse(g, slot, s->row, n, 0, width, s->aside, s->row);
}

static uint32_t fill_pass(const struct graph *g, struct scratch *s, uint32_t n, uint32_t kept,
                          uint32_t width, bool copies)
{
    const struct target to = graph_target_node(g, g->self, s->pair);
    float zero = graph_distance(g, &to, g->self);
    bool has_copy = false;
    for (uint32_t i = 0; i < kept; i++)
        has_copy |= s->row[i].dist == zero;
    for (uint32_t i = 0; i < n && kept < width; i++) {
        struct near c = s->near[i];
        bool copy = c.dist == zero;
        if (c.id == 0 || (copy && has_copy) != copies || !select_is_diverse(g, c, s->row, kept))
            continue;
        s->row[kept++] = c;
        s->near[i].id = 0; /* taken */
        has_copy |= copy;
    }
    return kept;
}

uint32_t select_fill(const struct graph *g, struct scratch *s, uint32_t n, uint32_t kept,
                     uint32_t width)
{
    kept = fill_pass(g, s, n, kept, width, false);
    return fill_pass(g, s, n, kept, width, true);
}
