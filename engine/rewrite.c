/* rewrite.c -- the index as one file, or a new directory: which items go in, and with which rows.
 *
 * Items that are live or deleted, in the order of their slots.  Rows mend around slots that are
 * dead or free (regraph.h, B1), in the file: the index itself is not changed.  So a file is what
 * the index would be after a sweep, without its gaps.  Where there are none every row is what it
 * was, link for link: without codes, or with the same, searches give the same answers.
 */
#include "engine/hnswlib_write.h"
#include "engine/index.h"
#include "engine/regraph.h"
#include "storage/fail.h"
#include "storage/seal.h"

#define REPORT_ITEMS 256u /* between two calls of the caller's progress function */

struct rewriting {
    const struct rewrite *to;
    uint64_t done; /* items */
    struct regraph r;
};

/* Once for each item: by its row of level 0. */
static navmap_status step(struct rewriting *w)
{
    const struct rewrite *to = w->to;
    const uint64_t done = w->done++;
    if (!to->progress || done % REPORT_ITEMS != 0 ||
        to->progress(to->progress_ctx, done, w->r.n) == 0)
        return NAVMAP_OK;
    return fail(NAVMAP_EINTERRUPTED, "%s: stopped after %llu of %u items; nothing was saved",
                store_path(w->r.ix->store), (unsigned long long)done, w->r.n);
}

static navmap_status row_of(void *ctx, uint32_t slot, uint32_t level, uint32_t *ret_ids)
{
    struct rewriting *w = ctx;
    if (level == 0)
        TRY(step(w));
    return regraph_padded_row(&w->r, slot, level, ret_ids);
}

/* Write lock held exclusively. */
static navmap_status rewrite(navmap_index *ix, struct rewriting *w)
{
    const struct rewrite *to = w->to;
    struct recoding recode;
    if (index_flat(ix) && (to->directory || to->codes != 0))
        return fail(NAVMAP_EINVAL, "%s: a directory and codes are for an index with a graph",
                    store_path(ix->store));
    TRY(regraph_begin(&w->r, ix, true));
    const struct sealing what = {.n = w->r.n,
                                 .slots = w->r.slots,
                                 .entry = w->r.entry,
                                 .row = index_flat(ix) ? NULL : row_of,
                                 .ctx = w,
                                 .recode = index_recode(ix, to->codes, &recode)};
    if (to->ret_bytes)
        return seal_bytes(ix->store, &what, to->ret_bytes);
    if (to->directory) {
        TRY(seal_settle(ix->store));
        return index_output_directory(ix, &what, to->path);
    }
    if (to->hnswlib)
        return hnswlib_write(ix, &what, to->path);
    return to->path ? seal_save(ix->store, &what, to->path)
                    : seal_write(ix->store, &what, to->fd, "(open file)");
}

navmap_status index_rewrite(navmap_index *ix, const struct rewrite *to)
{
    struct rewriting w = {.to = to, .r = {.ix = ix}};
    TRY(store_write_begin(ix->store, 0));
    navmap_status status = rewrite(ix, &w);
    regraph_end(&w.r);
    store_write_end(ix->store);
    return status;
}
