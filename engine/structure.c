/* structure.c -- navmap_check: the graph and the labels behind an open handle, without leaving it.
 *
 * navmap_verify (check.c) opens the files anew and looks at every byte; here it is what searches
 * and adders rely on, and a private index has nothing but this.  In order: all slots, the root, all
 * rows, the labels, then who can be reached.
 */
#include "engine/structure.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/fail.h"

/* How often a reader waits for a quiet moment: some 0.7 s in all, hundreds of times what an apply
 * takes.  Where that failed once, a short wait has to do. */
#define SETTLE_TRIES 45
#define SETTLE_TRIES_RESTLESS 3
#define WALKS_MORE 3
#define PAUSE_FIRST_NS 20000
#define PAUSE_LAST_NS 20000000

/* Findings -------------------------------------------------------------------------------------*/

static void emit(struct structure *t, bool warning, const struct finding *f)
{
    if (warning)
        t->result.warnings++;
    else
        t->result.damaged++;
    bool in_file = t->view->fd >= 0;
    const struct navmap_finding out = {warning, f->section, f->slot,
                                       in_file ? f->offset : UINT64_MAX, f->message};
    if (t->report)
        t->report(t->ctx, &out);
}

/* Quiet moments (K1) ---------------------------------------------------------------------------*/

struct quiet {
    bool locked;
    uint64_t end; /* applies ended when it began */
};

static navmap_status quiet_begin(struct structure *t, struct quiet *ret_quiet)
{
    struct view *now = NULL;
    /* A poisoned writer does not get the lock, but nothing moves under it either. */
    ret_quiet->locked = store_is_writer(t->store) && store_write_begin(t->store, 0) == NAVMAP_OK;
    navmap_status status = store_view_begin(t->store, &now);
    if (status != NAVMAP_OK) {
        if (ret_quiet->locked)
            store_write_end(t->store);
        return status;
    }
    store_view_end(t->store, t->view);
    t->view = now;
    t->reach.view = now;
    ret_quiet->end = view_load64(&view_live(now)->apply_end, memory_order_acquire);
    return NAVMAP_OK;
}

/* Was it quiet from beginning to end? */
static bool quiet_end(const struct structure *t, const struct quiet *q)
{
    if (q->locked) {
        store_write_end(t->store);
        return true;
    }
    fence_acquire();
    return view_load64(&view_live(t->view)->apply_begin, memory_order_relaxed) == q->end;
}

navmap_status structure_settle(struct structure *t, structure_check *check, uint64_t what)
{
    struct finding f = {.moving = false};
    t->bad = false;
    if (check(t, what, &f))
        return t->status;
    struct timespec pause = {0, PAUSE_FIRST_NS};
    int tries = t->restless ? SETTLE_TRIES_RESTLESS : SETTLE_TRIES;
    for (int i = 0; i < tries; i++) {
        struct quiet q;
        TRY(quiet_begin(t, &q));
        f.moving = false;
        bool sound = check(t, what, &f);
        bool certain = quiet_end(t, &q) && !f.moving;
        if (sound)
            return t->status;
        if (certain) {
            t->bad = true;
            emit(t, false, &f);
            return NAVMAP_OK;
        }
        (void)nanosleep(&pause, NULL);
        pause.tv_nsec = pause.tv_nsec * 2 < PAUSE_LAST_NS ? pause.tv_nsec * 2 : PAUSE_LAST_NS;
    }
    t->restless = true;
    return NAVMAP_OK;
}

/* The graph ------------------------------------------------------------------------------------*/

/* A writer's second walk is the last: nothing moves under it. */
static navmap_status walk(struct structure *t, struct reach_counts *ret_counts)
{
    reach_walk(&t->reach);
    reach_count(&t->reach, ret_counts);
    for (int i = 0; i < WALKS_MORE; i++) {
        struct quiet q;
        if (ret_counts->missing == 0 && ret_counts->unnamed == 0)
            break;
        TRY(quiet_begin(t, &q));
        reach_walk(&t->reach);
        bool certain = quiet_end(t, &q);
        reach_count(&t->reach, ret_counts);
        if (certain)
            break;
    }
    return NAVMAP_OK;
}

static navmap_status look_at_graph(struct structure *t)
{
    struct reach_counts c;
    struct finding f;
    struct reach_degrees degrees;
    TRY(walk(t, &c));
    TRY(reach_degrees(&t->reach, &degrees));
    memcpy(t->result.in_degrees, degrees.in, sizeof t->result.in_degrees);
    t->result.reachable = c.reachable;
    t->result.no_in_links = c.unnamed;
    if (c.missing > 0) {
        uint64_t entry = t->reach.entry;
        (void)finding_bad(&f, "graph", c.missing_at, UINT64_MAX,
                          "%" PRIu64 " of %" PRIu64
                          " live items cannot be reached from the entry point (slot %" PRIu32
                          ", level %" PRIu32 "), this slot first: a search may not find them",
                          c.missing, c.live, (uint32_t)entry, (uint32_t)(entry >> 32));
        emit(t, true, &f);
    }
    if (c.unnamed > 0) {
        (void)finding_bad(&f, "graph", c.unnamed_at, UINT64_MAX,
                          "%" PRIu64 " of %" PRIu64
                          " live items are named by no row of level 0, this slot first",
                          c.unnamed, c.live);
        emit(t, true, &f);
    }
    return NAVMAP_OK;
}

/* The call -------------------------------------------------------------------------------------*/

static navmap_status take_memory(struct structure *t)
{
    TRY(reach_begin(&t->reach, t->view));
    uint64_t cells = view_load64(&view_root(t->view)->nuppers, memory_order_relaxed);
    uint32_t mapped = view_cells(t->view);
    t->ncells = cells < mapped ? (uint32_t)cells : mapped;
    t->owner = calloc((size_t)t->ncells + 1, sizeof(*t->owner));
    t->stamp = calloc((size_t)t->reach.nslots + 1, sizeof(*t->stamp));
    t->ids = malloc(t->view->layout.M0 * sizeof(*t->ids));
    if (t->owner == NULL || t->stamp == NULL || t->ids == NULL)
        return fail(NAVMAP_ENOMEM, "no memory to check %" PRIu32 " slots", t->reach.nslots);
    return NAVMAP_OK;
}

static navmap_status look(struct structure *t)
{
    TRY(take_memory(t));
    TRY(structure_slots(t));
    TRY(structure_root(t));
    TRY(structure_rows(t));
    TRY(structure_labels(t));
    TRY(look_at_graph(t));
    struct finding f;
    if (t->unasked) {
        (void)finding_bad(&f, "labels", 0, UINT64_MAX,
                          "this handle cannot ask the label table: labels were not checked");
        emit(t, true, &f);
    }
    if (t->restless) {
        (void)finding_bad(&f, "live", 0, LAYOUT_LIVE_OFFSET,
                          "the writer never paused, or was stopped within a commit: differences "
                          "that this may explain are not reported; run again later");
        emit(t, true, &f);
    }
    return NAVMAP_OK;
}

static navmap_status check_size(const struct navmap_check_result *result)
{
    if (result && result->struct_size >= sizeof *result)
        return NAVMAP_OK;
    return fail(NAVMAP_EINVAL, "navmap_check: struct_size is %u, expected %zu",
                result ? result->struct_size : 0, sizeof *result);
}

navmap_status navmap_check(navmap_index *index, navmap_report *report, void *ctx,
                           struct navmap_check_result *ret_result)
{
    TRY(index_check(index, "navmap_check"));
    TRY(check_size(ret_result));
    struct structure t = {.store = index->store, .report = report, .ctx = ctx};
    TRY(store_view_begin(t.store, &t.view));
    navmap_status status = look(&t);
    reach_end(&t.reach);
    free(t.owner);
    free(t.stamp);
    free(t.ids);
    store_view_end(t.store, t.view);
    TRY(status);
    t.result.struct_size = ret_result->struct_size;
    *ret_result = t.result;
    return NAVMAP_OK;
}
