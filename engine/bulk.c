/* bulk.c -- large additions without a log; see bulk.h.
 *
 * Adding item by item to a directory writes each changed row to the log, and later to the file.
 * When most of the index is new, all of that is for nothing: a crash may as well lose the whole
 * addition.  So it is made in memory, where adding is fastest, then written in one go, synced, and
 * swapped in by one transaction (storage/generation.c): the price of durability is a sequential
 * write, two syncs and the labels.
 *
 * U1  The index's write lock is held for as long as it takes: what others changed meanwhile would
 *     be undone by the swap.  Searches go on, and see the old index until the swap.
 * U2  Whole items only are swapped in, also when the call is stopped or fails half way.
 */
#include "engine/bulk.h"

#include "engine/regraph.h"
#include "storage/fail.h"
#include "storage/memory.h"
#include "storage/rewriting.h"

#define TIMES_LARGER 4u           /* than what is there */
#define PAYLOAD_LEAST (32u << 20) /* bytes: below that the log costs little */

/* Of a private index with so many items, its labels included. */
static uint64_t bytes_of(const struct layout *l, uint64_t items)
{
    const uint64_t slot = 4ull + l->row_stride + l->upper_stride / 8 + layout_payload_bytes(l);
    return items * (slot + 64);
}

bool bulk_suits(navmap_index *ix, uint64_t n)
{
    const struct layout *l = ix->layout;
    if (store_in_memory(ix->store) || index_flat(ix) || n < PAYLOAD_LEAST / layout_payload_bytes(l))
        return false;
    const struct disk_root root = store_root_between(ix->store);
    uint64_t have = root.n_live + root.n_deleted;
    return n / TIMES_LARGER >= have && bytes_of(l, n + have) < memory_available() / 4 * 3;
}

/* Deleted items stay deleted. */
static navmap_status describe(struct regraph *r, navmap_index *ix, struct sealing *ret_what)
{
    TRY(regraph_begin(r, ix, true));
    *ret_what = (struct sealing){
        .n = r->n, .slots = r->slots, .entry = r->entry, .row = regraph_padded_row, .ctx = r};
    return NAVMAP_OK;
}

navmap_status bulk_begin(navmap_index *ix, uint64_t n, navmap_index **ret_to)
{
    struct regraph r;
    struct sealing what;
    struct store *made = NULL;
    navmap_status status = describe(&r, ix, &what);
    if (status == NAVMAP_OK) {
        what.expected = what.n + n;
        status = store_remake(ix->store, ix->store, &what, &made);
    }
    regraph_end(&r);
    TRY(status);
    return index_of_store(made, ret_to); /* takes the store over, also on failure */
}

navmap_status bulk_end(navmap_index *ix, navmap_index *to)
{
    struct regraph r;
    struct sealing what;
    navmap_status status = describe(&r, to, &what);
    if (status == NAVMAP_OK)
        status = store_generation_put(ix->store, to->store, &what);
    regraph_end(&r);
    if (status == NAVMAP_OK)
        return navmap_close(to);
    return index_close_after(to, status);
}
