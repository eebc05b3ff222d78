/* overwrite.c -- an empty index in the place of one that is there.
 *
 * The directory stays, and so do its locks: nothing is removed that others have open.  What is
 * there gets a new generation, empty and with other parameters (generation.c).  Readers that are
 * open move to it if they can go on with it, and are told if not (open.c, admit).
 */
#include "storage/handle.h"
#include "storage/rewriting.h"

static navmap_status put_empty(struct store *s, struct store *empty)
{
    const struct sealing nothing = {.n = 0};
    bool shrunk;
    TRY(store_rebuild_begin(s));
    navmap_status status = store_generation_put(s, empty, &nothing);
    store_rebuild_end(s);
    TRY(status);
    status = store_generation_clear(s, true, &shrunk);
    return status == NAVMAP_EPOISONED ? status : NAVMAP_OK; /* else a later call clears it */
}

/* The handle that wrote it knows the old parameters: it is opened anew. */
navmap_status store_overwrite(const char *path, const struct layout_params *params,
                              uint64_t max_elements, const struct store_options *options,
                              struct store **ret_store)
{
    struct store *s, *empty;
    TRY(store_open(path, STORE_WRITE, options, &s));
    navmap_status status = store_new_private(params, max_elements, false, &empty);
    if (status == NAVMAP_OK) {
        status = put_empty(s, empty);
        store_destroy(empty);
    }
    navmap_status closed = store_close(s);
    TRY(status);
    TRY(closed);
    return store_open(path, STORE_WRITE, options, ret_store);
}
