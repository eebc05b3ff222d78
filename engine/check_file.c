/* check_file.c -- navmap_verify of a sealed file: load it, check every sum, then the graph.
 *
 * A file that cannot be loaded for damage is a finding, as with a directory; what is no such file
 * at all is an error.
 */
#include <stdio.h>
#include <string.h>

#include "engine/index.h"
#include "storage/fail.h"
#include "storage/salvage.h"
#include "storage/source.h"

void index_pass_on(void *ctx, const struct store_finding *f)
{
    const struct passing *p = ctx;
    const struct navmap_finding out = {f->warning, f->section, f->slot, f->offset, f->message};
    if (p->report)
        p->report(p->ctx, &out);
}

navmap_status index_verify_loaded(navmap_index *ix, const struct navmap_verify_options *options,
                                  navmap_report *report, void *ctx,
                                  struct navmap_verify_result *ret_result)
{
    struct passing p = {report, ctx};
    struct store_verify_counts counts = {0};
    struct navmap_check_result graph = {.struct_size = sizeof graph};
    const struct store_verify_how how = {.report = index_pass_on,
                                         .ctx = &p,
                                         .progress = options->progress,
                                         .progress_ctx = options->progress_ctx};
    TRY(store_verify_sealed(ix->store, &how, &counts));
    TRY(navmap_check(ix, report, ctx, &graph));
    *ret_result = (struct navmap_verify_result){
        .slots = counts.slots,
        .rows = graph.slots,
        .uppers = store_root(ix->store).nuppers,
        .payloads = counts.payloads,
        .labels = graph.labels,
        .reachable = graph.reachable,
        .damaged = counts.damaged + graph.damaged,
        .warnings = graph.warnings,
        .live = graph.live,
        .no_in_links = graph.no_in_links,
        .dead_links = graph.dead_links,
    };
    memcpy(ret_result->in_degrees, graph.in_degrees, sizeof ret_result->in_degrees);
    return NAVMAP_OK;
}

navmap_status index_load_any(const char *path, navmap_index **ret_index)
{
    struct navmap_load_options o = {.struct_size = sizeof o};
    navmap_status status = navmap_load(path, &o, ret_index);
    if (status != NAVMAP_EINVAL)
        return status;
    o.flat = 1;
    return navmap_load(path, &o, ret_index);
}

/* What a file that should be an index and cannot be loaded is told as. */
static void report_unloadable(const char *path, bool ours, navmap_report *report, void *ctx)
{
    char said[400];
    (void)snprintf(said, sizeof said, "%s", navmap_error_detail());
    const bool root = ours && (strstr(said, ": root at offset ") || strstr(said, ": root: "));
    if (!ours)
        (void)snprintf(said, sizeof said,
                       "%s: header: its checksum holds when one bit of it is turned over", path);
    const struct navmap_finding f = {false, root ? "root" : "header", 0,
                                     root ? LAYOUT_ROOT_OFFSET : LAYOUT_HEADER_OFFSET, said};
    if (report)
        report(ctx, &f);
}

/* Is it one of ours, damaged or not?  A bit of the magic may be wrong, or of the version. */
static navmap_status look_at_head(const char *path, bool *ret_ours, bool *ret_nearly)
{
    struct source from;
    TRY(source_open(path, &from));
    navmap_status status = source_is_ours(&from, ret_ours);
    *ret_nearly = status == NAVMAP_OK && salvage_one_bit_off(&from);
    source_close(&from);
    return status;
}

navmap_status index_verify_file(const char *path, const struct navmap_verify_options *options,
                                navmap_report *report, void *ctx,
                                struct navmap_verify_result *ret_result)
{
    navmap_index *ix;
    bool ours, nearly;
    struct navmap_verify_result result = {0};
    TRY(look_at_head(path, &ours, &nearly));
    if (!ours && !nearly)
        return fail(NAVMAP_ENOINDEX, "%s: neither a directory nor a file of navmap's", path);
    navmap_status status = nearly ? NAVMAP_ECORRUPT : index_load_any(path, &ix);
    if (status == NAVMAP_ECORRUPT) {
        report_unloadable(path, !nearly, report, ctx);
        *ret_result = (struct navmap_verify_result){.damaged = 1};
        return NAVMAP_OK;
    }
    TRY(status);
    if (options->quick == 0)
        status = index_verify_loaded(ix, options, report, ctx, &result);
    navmap_status closed = navmap_close(ix);
    TRY(status);
    *ret_result = result;
    return closed;
}
