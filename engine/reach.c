/* reach.c -- the walk over the committed graph and what it has not come to; see reach.h.
 *
 * In a flat index all live items are found, as a search there finds them.  Else:
 * breadth first with one byte of marks per slot: the graph is read as a search reads it, without
 * vectors and without the writer taking notice.
 */
#include "engine/reach.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "storage/fail.h"

navmap_status reach_begin(struct reach *r, const struct view *view)
{
    uint32_t extent = extent_slots(view_load64(&view_root(view)->extent, memory_order_acquire));
    uint32_t mapped = view_slots(view);
    *r = (struct reach){.view = view, .nslots = extent < mapped ? extent : mapped};
    size_t n = (size_t)r->nslots + 1;
    r->before = calloc(n, sizeof(*r->before));
    r->queue = malloc(n * sizeof(*r->queue));
    r->marks = calloc(n, 1);
    if (r->before == NULL || r->queue == NULL || r->marks == NULL)
        return fail(NAVMAP_ENOMEM, "no memory to walk a graph of %" PRIu32 " slots", r->nslots);
    for (uint32_t slot = 1; slot < r->nslots; slot++)
        r->before[slot] = reach_state(view, slot);
    return NAVMAP_OK;
}

void reach_end(struct reach *r)
{
    free(r->before);
    free(r->queue);
    free(r->marks);
    *r = (struct reach){.view = NULL};
}

uint32_t reach_row(const struct view *v, uint32_t slot, uint32_t level,
                   const _Atomic uint32_t **ret_ids)
{
    if (level == 0) {
        *ret_ids = view_row(v, slot);
        return v->layout.M0;
    }
    uint32_t up = view_tag_up(v, slot);
    uint64_t cell = (uint64_t)TAG_CELL(up) + level - 1;
    if (level > TAG_LEVEL(up) || cell >= view_cells(v))
        return 0;
    *ret_ids = view_upper(v, (uint32_t)cell);
    return v->layout.M;
}

static void come_to(struct reach *r, uint32_t slot)
{
    if (slot == 0 || slot >= r->nslots || r->marks[slot] & REACH_NOW)
        return;
    r->marks[slot] |= REACH_NOW | REACH_FOUND;
    r->queue[r->n++] = slot;
}

static void name_links(struct reach *r, uint32_t slot)
{
    const _Atomic uint32_t *ids = view_row(r->view, slot);
    for (uint32_t i = 0; i < r->view->layout.M0; i++) {
        uint32_t id = atomic_load_explicit(&ids[i], memory_order_relaxed);
        if (id < r->nslots && id != slot)
            r->marks[id] |= REACH_NAMED;
    }
}

/* Everything that can be reached on this level from what is reached already. */
static void spread(struct reach *r, uint32_t level)
{
    for (uint32_t i = 0; i < r->n; i++) {
        const _Atomic uint32_t *ids = NULL;
        uint32_t n = reach_row(r->view, r->queue[i], level, &ids);
        for (uint32_t j = 0; j < n; j++)
            come_to(r, atomic_load_explicit(&ids[j], memory_order_relaxed));
        if (level == 0)
            name_links(r, r->queue[i]);
    }
}

static bool flat(const struct reach *r)
{
    return (r->view->layout.flags & HEADER_FLAT) != 0;
}

void reach_walk(struct reach *r)
{
    if (flat(r))
        return;
    for (uint32_t i = 0; i < r->n; i++)
        r->marks[r->queue[i]] &= (uint8_t)~REACH_NOW;
    r->n = 0;
    r->entry = view_load64(&view_root(r->view)->entry, memory_order_acquire);
    come_to(r, (uint32_t)r->entry);
    uint64_t level = r->entry >> 32;
    for (level = level < LAYOUT_LEVEL_MAX ? level : LAYOUT_LEVEL_MAX; level > 0; level--)
        spread(r, (uint32_t)level);
    spread(r, 0);
    for (uint32_t slot = 1; slot < r->nslots; slot++) {
        uint32_t word = reach_state(r->view, slot);
        if (word != r->before[slot])
            r->marks[slot] |= REACH_FOUND | REACH_NAMED;
        if (!(r->marks[slot] & REACH_NOW) && STATE_STATUS(word) != SLOT_FREE)
            name_links(r, slot);
    }
}

void reach_count(const struct reach *r, struct reach_counts *ret_counts)
{
    struct reach_counts c = {.live = 0};
    for (uint32_t slot = 1; slot < r->nslots; slot++) {
        if (STATE_STATUS(r->before[slot]) != SLOT_LIVE)
            continue;
        uint8_t marks = r->marks[slot];
        c.live++;
        if (flat(r)) {
            c.reachable++;
            continue;
        }
        c.reachable += (marks & REACH_NOW) != 0;
        if (!(marks & REACH_FOUND) && c.missing++ == 0)
            c.missing_at = slot;
        if (!(marks & REACH_NAMED) && slot != (uint32_t)r->entry && c.unnamed++ == 0)
            c.unnamed_at = slot;
    }
    *ret_counts = c;
}

static void count_row(const struct reach *r, uint32_t slot, uint32_t *named,
                      struct reach_degrees *ret)
{
    const bool dead = STATE_STATUS(r->before[slot]) == SLOT_DEAD;
    const _Atomic uint32_t *ids = view_row(r->view, slot);
    for (uint32_t i = 0; i < r->view->layout.M0; i++) {
        uint32_t id = atomic_load_explicit(&ids[i], memory_order_relaxed);
        if (id == 0 || id >= r->nslots)
            continue;
        ret->dead_links += STATE_STATUS(r->before[id]) == SLOT_DEAD;
        named[id] += !dead;
    }
}

navmap_status reach_degrees(const struct reach *r, struct reach_degrees *ret)
{
    *ret = (struct reach_degrees){.dead_links = 0};
    if (flat(r))
        return NAVMAP_OK;
    uint32_t *named = calloc((size_t)r->nslots + 1, sizeof(*named));
    if (named == NULL)
        return fail(NAVMAP_ENOMEM, "no memory to count the links of %" PRIu32 " slots", r->nslots);
    for (uint32_t slot = 1; slot < r->nslots; slot++)
        if (STATE_STATUS(r->before[slot]) != SLOT_FREE)
            count_row(r, slot, named, ret);
    for (uint32_t slot = 1; slot < r->nslots; slot++)
        if (STATE_STATUS(r->before[slot]) == SLOT_LIVE)
            ret->in[named[slot] < REACH_DEGREES - 1 ? named[slot] : REACH_DEGREES - 1]++;
    free(named);
    return NAVMAP_OK;
}
