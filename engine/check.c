/* check.c -- navmap_verify: storage's check, then what only the graph can tell: who can be found.
 *
 * A slot is reachable if a search could come to it: from the entry point along the links of its
 * level, then from all slots so reached along those of the next level, down to level 0.  A live
 * slot that is not reachable is no damage (nothing is lost, and heuristic pruning may cut a node
 * off), but a search cannot return it: a warning.
 *
 * Beside a writer links move during the walk, so a slot is reported only if several walks missed it
 * and it was live, in one generation, from before the first to after the last.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/navmap.h"
#include "storage/fail.h"
#include "storage/store.h"

#define WALKS_MAX 4

struct check {
    navmap_report *report; /* may be NULL */
    void *ctx;
    navmap_status status; /* of the walk */
    uint64_t live, reachable, missing;
    uint32_t first; /* the lowest missing slot */
    uint64_t entry;
};

struct walk {
    const struct view *view;
    uint32_t nslots, ncells;
    uint32_t *queue; /* slots reached, in order */
    uint32_t n;
    uint8_t *reached; /* [nslots] */
    uint32_t *before; /* [nslots] state words before the first walk; 0 once a slot is out */
};

static uint32_t state_of(const struct view *v, uint32_t slot)
{
    return atomic_load_explicit(view_state(v, slot), memory_order_acquire);
}

static void reach(struct walk *w, uint32_t slot)
{
    if (slot == 0 || slot >= w->nslots || w->reached[slot])
        return;
    w->reached[slot] = 1;
    w->queue[w->n++] = slot;
}

/* The ids of a slot's row at a level, and how many; none where it does not reach that level. */
static uint32_t row_of(const struct walk *w, uint32_t slot, uint32_t level,
                       const _Atomic uint32_t **ret_ids)
{
    const struct layout *l = &w->view->layout;
    if (level == 0) {
        *ret_ids = view_row(w->view, slot);
        return l->M0;
    }
    uint32_t up = view_tag_up(w->view, slot);
    uint64_t cell = (uint64_t)TAG_CELL(up) + level - 1;
    if (level > TAG_LEVEL(up) || cell >= w->ncells)
        return 0;
    *ret_ids = view_upper(w->view, (uint32_t)cell);
    return l->M;
}

/* Everything that can be reached on this level from what is reached already. */
static void spread(struct walk *w, uint32_t level)
{
    for (uint32_t i = 0; i < w->n; i++) {
        const _Atomic uint32_t *ids = NULL;
        uint32_t n = row_of(w, w->queue[i], level, &ids);
        for (uint32_t j = 0; j < n; j++)
            reach(w, atomic_load_explicit(&ids[j], memory_order_relaxed));
    }
}

static void walk_once(struct walk *w, uint64_t entry)
{
    for (uint32_t i = 0; i < w->n; i++)
        w->reached[w->queue[i]] = 0;
    w->n = 0;
    reach(w, (uint32_t)entry);
    uint32_t level = (uint32_t)(entry >> 32);
    for (level = level < LAYOUT_LEVEL_MAX ? level : LAYOUT_LEVEL_MAX; level > 0; level--)
        spread(w, level);
    spread(w, 0);
    for (uint32_t slot = 1; slot < w->nslots; slot++)
        if (w->reached[slot] || state_of(w->view, slot) != w->before[slot])
            w->before[slot] = 0; /* found, or no longer what it was */
}

static void count(const struct walk *w, struct check *c)
{
    c->live = c->reachable = c->missing = 0;
    for (uint32_t slot = 1; slot < w->nslots; slot++) {
        bool live = STATE_STATUS(state_of(w->view, slot)) == SLOT_LIVE;
        c->live += live;
        c->reachable += live && w->reached[slot];
        if (STATE_STATUS(w->before[slot]) == SLOT_LIVE && c->missing++ == 0)
            c->first = slot;
    }
}

static void walks(struct walk *w, struct check *c)
{
    const struct view *v = w->view;
    for (uint32_t slot = 1; slot < w->nslots; slot++)
        w->before[slot] = state_of(v, slot);
    for (int i = 0; i < WALKS_MAX; i++) {
        uint64_t end = view_load64(&view_live(v)->apply_end, memory_order_acquire);
        c->entry = view_load64(&view_root(v)->entry, memory_order_acquire);
        walk_once(w, c->entry);
        if (view_load64(&view_live(v)->apply_begin, memory_order_acquire) == end)
            break; /* nothing moved meanwhile */
    }
    count(w, c);
}

static void look(void *ctx, const struct view *view)
{
    struct check *c = ctx;
    uint32_t extent = extent_slots(view_load64(&view_root(view)->extent, memory_order_acquire));
    uint32_t mapped = view_slots(view);
    struct walk w = {
        .view = view, .nslots = extent < mapped ? extent : mapped, .ncells = view_cells(view)};
    w.queue = malloc(((size_t)w.nslots + 1) * sizeof(*w.queue));
    w.reached = calloc((size_t)w.nslots + 1, 1);
    w.before = calloc((size_t)w.nslots + 1, sizeof(*w.before));
    if (w.queue && w.reached && w.before) {
        c->status = NAVMAP_OK;
        walks(&w, c);
    } else {
        c->status = fail(NAVMAP_ENOMEM, "no memory to walk a graph of %" PRIu32 " slots", w.nslots);
    }
    free(w.queue);
    free(w.reached);
    free(w.before);
}

static void pass_on(void *ctx, const struct store_finding *f)
{
    const struct check *c = ctx;
    const struct navmap_finding out = {f->warning, f->section, f->slot, f->offset, f->message};
    if (c->report)
        c->report(c->ctx, &out);
}

static void report_missing(const struct check *c)
{
    char message[256];
    if (c->missing == 0 || c->report == NULL)
        return;
    (void)snprintf(message, sizeof(message),
                   "%" PRIu64 " of %" PRIu64
                   " live items cannot be reached from the entry point (slot %" PRIu32
                   ", level %" PRIu32 "), this slot first: a search may not find them",
                   c->missing, c->live, (uint32_t)c->entry, (uint32_t)(c->entry >> 32));
    const struct navmap_finding out = {true, "graph", c->first, UINT64_MAX, message};
    c->report(c->ctx, &out);
}

navmap_status navmap_verify(const char *path, bool quick, navmap_report *report, void *ctx,
                            struct navmap_verify_result *ret_result)
{
    if (path == NULL || ret_result == NULL)
        return fail(NAVMAP_EINVAL, "navmap_verify: path and ret_result must not be NULL");
    struct check c = {.report = report, .ctx = ctx};
    struct store_verify_counts counts;
    TRY(store_verify_look(path, quick, pass_on, look, &c, &counts));
    TRY(c.status);
    report_missing(&c);
    *ret_result = (struct navmap_verify_result){
        .slots = counts.slots,
        .rows = counts.rows,
        .uppers = counts.uppers,
        .payloads = counts.payloads,
        .labels = counts.labels,
        .log_records = counts.log_records,
        .reachable = c.reachable,
        .damaged = counts.damaged,
        .warnings = counts.warnings + (c.missing > 0),
    };
    return NAVMAP_OK;
}
