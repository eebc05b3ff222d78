/* salvage.c -- navmap_salvage: what storage could still read, added to a new index.
 *
 * The graph of the damaged index is not looked at.  Links carry no checksums, so nothing tells a
 * right one from a wrong one, and a graph that is built from the vectors is as good as any.
 */
#include <stdio.h>
#include <stdlib.h>

#include "engine/index.h"
#include "storage/fail.h"
#include "storage/salvage.h"

#define BATCH_BYTES (UINT64_C(512) << 20) /* of vectors; one large call builds best */

struct salvaging {
    struct salvage *from;
    navmap_index *to;
    struct navmap_salvage_options o;
    uint64_t done, total;
    uint64_t *labels;
    float *vectors;
    bool *deleted;
    uint32_t room;
};

static int on_progress(void *ctx, uint64_t done, uint64_t total)
{
    const struct salvaging *s = ctx;
    (void)total; /* of the batch */
    return s->o.progress(s->o.progress_ctx, s->done + done, s->total);
}

static navmap_status tell(const struct salvaging *s)
{
    if (!s->o.progress || s->o.progress(s->o.progress_ctx, s->done, s->total) == 0)
        return NAVMAP_OK;
    return fail(NAVMAP_EINTERRUPTED, "navmap_salvage: stopped after %llu of %llu items",
                (unsigned long long)s->done, (unsigned long long)s->total);
}

static navmap_status add_batch(struct salvaging *s, uint32_t n)
{
    const struct navmap_add_options o = {.struct_size = sizeof o,
                                         .num_threads = s->o.num_threads,
                                         .progress = s->o.progress ? on_progress : NULL,
                                         .progress_ctx = s};
    uint64_t added;
    TRY(tell(s));
    TRY(navmap_add(s->to, n, s->vectors, s->labels, &o, &added));
    for (uint32_t i = 0; i < n; i++)
        if (s->deleted[i])
            TRY(navmap_delete(s->to, s->labels[i]));
    s->done += n;
    return NAVMAP_OK;
}

static navmap_status add_all(struct salvaging *s)
{
    const uint64_t row = 4 * (uint64_t)salvage_layout(s->from)->dim, most = BATCH_BYTES / row + 1;
    s->room = (uint32_t)(most < s->total ? most : s->total);
    s->labels = malloc((size_t)s->room * sizeof *s->labels + 1);
    s->vectors = malloc((size_t)s->room * row + 1);
    s->deleted = malloc((size_t)s->room * sizeof *s->deleted + 1);
    if (!s->labels || !s->vectors || !s->deleted)
        return fail(NAVMAP_ENOMEM, "navmap_salvage: no memory for %u items", s->room);
    uint32_t n;
    while (s->room > 0 &&
           (n = salvage_next(s->from, s->room, s->labels, s->vectors, s->deleted)) > 0)
        TRY(add_batch(s, n));
    return NAVMAP_OK;
}

static navmap_status create(struct salvaging *s, const char *out, uint64_t max_elements)
{
    const struct layout *l = salvage_layout(s->from);
    const struct navmap_options o = {
        .struct_size = sizeof o,
        .dim = l->dim,
        .space = l->space,
        .vectors = l->scalar == LAYOUT_F16 ? NAVMAP_VECTORS_F16 : NAVMAP_VECTORS_F32,
        .M = l->M,
        .ef_construction = l->ef_construction,
        .durability = NAVMAP_MANUAL, /* closing it commits the rest */
        .random_seed = l->seed,
        .max_elements = max_elements >= s->total ? max_elements : 0,
        .allow_replace_deleted = (l->flags & HEADER_ALLOW_REPLACE_DELETED) != 0};
    return navmap_create(out, &o, &s->to);
}

static navmap_status rebuild(struct salvaging *s, const char *out, uint64_t max_elements)
{
    TRY(create(s, out, max_elements));
    navmap_status status = add_all(s);
    char why[512]; /* closing must not replace the reason */
    (void)snprintf(why, sizeof why, "%s", status != NAVMAP_OK ? navmap_error_detail() : "");
    navmap_status closed = navmap_close(s->to);
    return status != NAVMAP_OK ? fail(status, "%s", why) : closed;
}

static navmap_status check_arguments(const char *path, const struct navmap_salvage_options *options,
                                     const struct navmap_salvage_result *result,
                                     struct navmap_salvage_options *ret_options)
{
    if (!path || !result)
        return fail(NAVMAP_EINVAL, "navmap_salvage: path and ret_result must not be NULL");
    if (result->struct_size < sizeof *result)
        return fail(NAVMAP_EINVAL, "navmap_salvage: struct_size is %u, expected %zu",
                    result->struct_size, sizeof *result);
    return index_copy_options(options, sizeof *ret_options, "navmap_salvage_options", ret_options);
}

navmap_status navmap_salvage(const char *path, const char *out,
                             const struct navmap_salvage_options *options, navmap_report *report,
                             void *ctx, struct navmap_salvage_result *ret_result)
{
    struct salvaging s = {.from = NULL};
    struct passing p = {report, ctx};
    struct salvage_facts facts;
    TRY(check_arguments(path, options, ret_result, &s.o));
    const struct salvage_how how = {
        .without_log = s.o.without_log != 0, .report = index_pass_on, .ctx = &p};
    TRY(salvage_open(path, &how, &s.from));
    salvage_facts(s.from, &facts);
    s.total = facts.live + facts.deleted;
    navmap_status status = out ? rebuild(&s, out, facts.max_elements) : NAVMAP_OK;
    salvage_close(s.from);
    free(s.labels);
    free(s.vectors);
    free(s.deleted);
    TRY(status);
    *ret_result = (struct navmap_salvage_result){.struct_size = ret_result->struct_size,
                                                 .log_read = facts.log_read,
                                                 .labels_read = facts.table_read,
                                                 .slots = facts.slots,
                                                 .live = facts.live,
                                                 .deleted = facts.deleted,
                                                 .left_out = facts.left_out,
                                                 .warnings = facts.warnings};
    return NAVMAP_OK;
}
