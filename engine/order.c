/* order.c -- high levels first, and each part by bisection; see order.h. */
#include "engine/order.h"

#include <stdlib.h>

#include "storage/fail.h"

#define LEVELS 256u

/* Items level by level as far as levels are high, then all others; the parts that these are. */
static uint32_t put_levels_apart(const struct order_graph *g, uint32_t *items,
                                 uint32_t parts[LEVELS])
{
    uint32_t count[LEVELS] = {0}, at[LEVELS], reach = 0, n = 0;
    for (uint32_t i = 0; i < g->n; i++)
        count[g->levels ? g->levels[i] : 0]++;
    for (uint32_t level = LEVELS; level-- > 1 && reach + count[level] <= g->n / ORDER_FEW;) {
        at[level] = reach;
        reach += count[level];
        if (count[level] > 0)
            parts[n++] = count[level];
        count[level] = 0;
    }
    for (uint32_t level = 0; level < LEVELS; level++)
        if (count[level] > 0)
            at[level] = UINT32_MAX; /* among the others */
    parts[n++] = g->n - reach;
    for (uint32_t i = 0; i < g->n; i++) {
        uint32_t *next = &at[g->levels ? g->levels[i] : 0];
        items[*next == UINT32_MAX ? reach++ : (*next)++] = i;
    }
    return n;
}

navmap_status order_items(const struct order_graph *g, uint32_t *ret_items)
{
    uint32_t parts[LEVELS];
    if (g->n == 0)
        return NAVMAP_OK;
    const struct bisection b = {.n = g->n,
                                .sets = g->sets,
                                .n_sets = g->n_sets,
                                .parts = parts,
                                .n_parts = put_levels_apart(g, ret_items, parts),
                                .first = g->first,
                                .stride = g->stride,
                                .crew = g->crew,
                                .threads = g->threads,
                                .tick = g->tick,
                                .ctx = g->ctx};
    return bisect(&b, ret_items);
}
