/* check.c -- navmap_verify: storage's check, then what only the graph can tell: who can be found.
 *
 * A slot that no walk comes to (reach.h) is a warning.  Beside a writer links move during the walk,
 * so it is repeated until nothing moved meanwhile, or often enough.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "engine/index.h"
#include "engine/reach.h"
#include "storage/fail.h"
#include "storage/source.h"

#define WALKS_MAX 4

struct check {
    navmap_report *report; /* may be NULL */
    void *ctx;
    navmap_status status; /* of the walk */
    struct reach_counts counts;
    struct reach_degrees degrees;
    uint64_t entry;
};

static void walks(struct reach *r)
{
    const struct disk_live *live = view_live(r->view);
    for (int i = 0; i < WALKS_MAX; i++) {
        uint64_t end = view_load64(&live->apply_end, memory_order_acquire);
        reach_walk(r);
        fence_acquire();
        if (view_load64(&live->apply_begin, memory_order_relaxed) == end)
            break; /* nothing moved meanwhile */
    }
}

static void look(void *ctx, const struct view *view)
{
    struct check *c = ctx;
    struct reach r;
    c->status = reach_begin(&r, view);
    if (c->status == NAVMAP_OK) {
        walks(&r);
        reach_count(&r, &c->counts);
        c->entry = r.entry;
        c->status = reach_degrees(&r, &c->degrees);
    }
    reach_end(&r);
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
    if (c->counts.missing == 0 || c->report == NULL)
        return;
    (void)snprintf(message, sizeof(message),
                   "%" PRIu64 " of %" PRIu64
                   " live items cannot be reached from the entry point (slot %" PRIu32
                   ", level %" PRIu32 "), this slot first: a search may not find them",
                   c->counts.missing, c->counts.live, (uint32_t)c->entry,
                   (uint32_t)(c->entry >> 32));
    const struct navmap_finding out = {true, "graph", c->counts.missing_at, UINT64_MAX, message};
    c->report(c->ctx, &out);
}

navmap_status navmap_verify_with(const char *path, const struct navmap_verify_options *options,
                                 navmap_report *report, void *ctx,
                                 struct navmap_verify_result *ret_result)
{
    struct navmap_verify_options o;
    if (path == NULL || ret_result == NULL)
        return fail(NAVMAP_EINVAL, "navmap_verify: path and ret_result must not be NULL");
    TRY(index_copy_options(options, sizeof o, "navmap_verify_options", &o));
    if (source_at(path))
        return index_verify_file(path, &o, report, ctx, ret_result);
    struct check c = {.report = report, .ctx = ctx};
    const struct store_verify_how how = {.quick = o.quick != 0,
                                         .report = pass_on,
                                         .look = look,
                                         .ctx = &c,
                                         .progress = o.progress,
                                         .progress_ctx = o.progress_ctx};
    struct store_verify_counts counts;
    TRY(store_verify_look(path, &how, &counts));
    TRY(c.status);
    report_missing(&c);
    *ret_result = (struct navmap_verify_result){
        .slots = counts.slots,
        .rows = counts.rows,
        .uppers = counts.uppers,
        .payloads = counts.payloads,
        .labels = counts.labels,
        .log_records = counts.log_records,
        .reachable = c.counts.reachable,
        .damaged = counts.damaged,
        .warnings = counts.warnings + (c.counts.missing > 0),
        .live = c.counts.live,
        .no_in_links = c.counts.unnamed,
        .dead_links = c.degrees.dead_links,
    };
    memcpy(ret_result->in_degrees, c.degrees.in, sizeof ret_result->in_degrees);
    return NAVMAP_OK;
}

navmap_status navmap_verify(const char *path, bool quick, navmap_report *report, void *ctx,
                            struct navmap_verify_result *ret_result)
{
    const struct navmap_verify_options o = {.struct_size = sizeof o, .quick = quick};
    return navmap_verify_with(path, &o, report, ctx, ret_result);
}
