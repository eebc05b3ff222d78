/* check_file.c -- navmap_verify of a sealed file: load it, check every sum, then the graph.
 *
 * A file that cannot be loaded for damage is a finding, as with a directory; what is no such file
 * at all is an error.
 */
#include "engine/index.h"
#include "storage/fail.h"
#include "storage/source.h"

struct passing {
    navmap_report *report; /* may be NULL */
    void *ctx;
};

static void pass_on(void *ctx, const struct store_finding *f)
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
    const struct store_verify_how how = {.report = pass_on,
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
    };
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

navmap_status index_verify_file(const char *path, const struct navmap_verify_options *options,
                                navmap_report *report, void *ctx,
                                struct navmap_verify_result *ret_result)
{
    navmap_index *ix;
    struct source from;
    bool ours;
    struct navmap_verify_result result = {0};
    TRY(source_open(path, &from));
    navmap_status looked = source_is_ours(&from, &ours);
    source_close(&from);
    TRY(looked);
    if (!ours)
        return fail(NAVMAP_ENOINDEX, "%s: neither a directory nor a file of navmap's", path);
    navmap_status status = index_load_any(path, &ix);
    if (status == NAVMAP_ECORRUPT) {
        const struct navmap_finding f = {false, "header", 0, 0, navmap_error_detail()};
        if (report)
            report(ctx, &f);
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
