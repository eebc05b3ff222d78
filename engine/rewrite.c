/* rewrite.c -- the index as one file: which items go into it, and with which rows.
 *
 * Items that are live or deleted, in the order of their slots.  Rows mend around slots that are
 * dead or free (regraph.h, B1), in the file: the index itself is not changed.  So a file is what
 * the index would be after a sweep, without its gaps.
 */
#include "engine/index.h"

#include "engine/regraph.h"
#include "storage/fail.h"
#include "storage/seal.h"

/* Write lock held exclusively. */
static navmap_status rewrite(navmap_index *ix, struct regraph *r, const struct rewrite *to)
{
    TRY(regraph_begin(r, ix, true));
    const struct sealing what = {.n = r->n,
                                 .slots = r->slots,
                                 .entry = r->entry,
                                 .row = index_flat(ix) ? NULL : regraph_padded_row,
                                 .ctx = r};
    if (to->ret_bytes)
        return seal_bytes(ix->store, &what, to->ret_bytes);
    return to->path ? seal_save(ix->store, &what, to->path)
                    : seal_write(ix->store, &what, to->fd, "(open file)");
}

navmap_status index_rewrite(navmap_index *ix, const struct rewrite *to)
{
    struct regraph r = {.ix = ix};
    TRY(store_write_begin(ix->store, 0));
    navmap_status status = rewrite(ix, &r, to);
    regraph_end(&r);
    store_write_end(ix->store);
    return status;
}
