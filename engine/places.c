/* places.c -- slots for the rows of a large addition; see places.h. */
#include "engine/places.h"

#include <stdlib.h>

#include "engine/insert.h"
#include "engine/order.h"
#include "engine/presort.h"
#include "storage/fail.h"

#define LEAST (1u << 20) /* bytes that walks read; fewer are in a cache wherever they lie */

static bool pays(const navmap_index *ix, uint64_t n)
{
    return store_in_memory(ix->store) && !index_flat(ix) && n <= UINT32_MAX &&
           n >= LEAST / index_walk_stride(ix);
}

static uint32_t lowest_high(const struct layout *l)
{
    uint32_t level = 1;
    for (uint64_t nodes = l->M; nodes < ORDER_FEW; nodes *= l->M)
        level++;
    return level;
}

/* Place by place in the order, those of the high levels first.  The number of an insertion, and by
 * it the level, is a guess while others add as well, which is good enough. */
static void number(const navmap_index *ix, const uint32_t *order, uint32_t n, uint32_t *ret_places)
{
    const uint64_t inserted = store_root(ix->store).inserted;
    const uint32_t high = lowest_high(ix->layout);
    uint32_t place = 0;
    for (uint32_t pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < n; i++)
            if ((insert_level(ix, inserted + order[i]) < high) == pass)
                ret_places[order[i]] = place++;
}

static navmap_status order_rows(navmap_index *ix, const struct places *what, uint32_t *ret_order)
{
    const struct layout *l = ix->layout;
    struct distance distance;
    /* Of inner products the lengths tell more than what is near; l2 has both. */
    const uint32_t space = l->space == NAVMAP_COSINE ? NAVMAP_COSINE : NAVMAP_L2;
    (void)distance_choose(space, LAYOUT_F32, l->dim, &distance);
    const struct presort sort = {.n = (uint32_t)what->n,
                                 .vectors = what->vectors,
                                 .distance = &distance,
                                 .stride = index_walk_stride(ix),
                                 .crew = what->crew,
                                 .threads = what->threads,
                                 .tick = what->tick,
                                 .ctx = what->ctx};
    return presort(&sort, ret_order);
}

static navmap_status choose(navmap_index *ix, const struct places *what, uint32_t *order,
                            uint32_t *places)
{
    TRY(order_rows(ix, what, order));
    TRY(store_write_begin(ix->store, what->n));
    number(ix, order, (uint32_t)what->n, places);
    navmap_status status = store_slots_order(ix->store, places, (uint32_t)what->n);
    store_write_end(ix->store);
    return status;
}

navmap_status places_choose(navmap_index *ix, const struct places *what)
{
    if (!pays(ix, what->n))
        return NAVMAP_OK;
    uint32_t *order = malloc((size_t)what->n * sizeof *order);
    uint32_t *places = malloc((size_t)what->n * sizeof *places);
    navmap_status status = order && places ? choose(ix, what, order, places) : NAVMAP_ENOMEM;
    free(order);
    free(places);
    /* Slots in the order of arrival do as well. */
    return status == NAVMAP_ENOMEM || status == NAVMAP_EFULL ? NAVMAP_OK : status;
}
