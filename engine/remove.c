/* remove.c -- marks and limits, and what is asked by label: get, contains, labels. */
#include <stdlib.h>
#include <string.h>

#include "engine/index.h"
#include "storage/fail.h"

/* ways.h, W2: what can fail comes before the mark. */
static navmap_status put_mark(navmap_index *ix, struct scratch *s, uint64_t label)
{
    struct store_found found;
    TRY(store_find(ix->store, label, &found));
    const bool links = found.slot != 0 && STATE_STATUS(found.state) == SLOT_LIVE && !index_flat(ix);
    if (links)
        TRY(index_bridge_room(ix, s));
    TRY(store_mark(ix->store, label, true));
    if (links)
        index_bridge(ix, s, found.slot);
    return NAVMAP_OK;
}

/* ways.h, W3: what can fail comes before the mark is taken away. */
static navmap_status take_mark_away(navmap_index *ix, struct scratch *s, uint64_t label)
{
    struct store_found found;
    TRY(store_find(ix->store, label, &found));
    const bool links = found.slot != 0 && !index_flat(ix);
    if (links)
        TRY(index_relink_room(ix, s, found.slot));
    TRY(store_mark(ix->store, label, false));
    if (links)
        index_relink(ix, s, found.slot);
    return NAVMAP_OK;
}

static navmap_status mark(navmap_index *ix, const char *what, uint64_t label, bool deleted)
{
    struct scratch *s;
    TRY(index_check_writer(ix, what));
    TRY(scratch_take(&ix->shelf, ix->layout, &s));
    navmap_status status = store_write_begin(ix->store, 0);
    if (status == NAVMAP_OK) {
        status = deleted ? put_mark(ix, s, label) : take_mark_away(ix, s, label);
        ix->marked_meanwhile += deleted && status == NAVMAP_OK;
        if (status == NAVMAP_OK)
            repair_some(ix, s, REPAIR_SLOTS_PER_ITEM);
        store_write_end(ix->store);
    }
    scratch_give(&ix->shelf, s);
    return status == NAVMAP_OK ? store_settle(ix->store) : status;
}

navmap_status navmap_resize(navmap_index *index, uint64_t max_elements)
{
    TRY(index_check_writer(index, "navmap_resize"));
    TRY(store_write_begin(index->store, 0));
    navmap_status status = store_resize(index->store, max_elements);
    store_write_end(index->store);
    return status == NAVMAP_OK ? store_settle(index->store) : status;
}

navmap_status navmap_delete(navmap_index *index, uint64_t label)
{
    return mark(index, "navmap_delete", label, true);
}

navmap_status navmap_undelete(navmap_index *index, uint64_t label)
{
    return mark(index, "navmap_undelete", label, false);
}

navmap_status navmap_remove(navmap_index *index, uint64_t label)
{
    TRY(index_check_writer(index, "navmap_remove"));
    if (!index_flat(index))
        return fail(NAVMAP_EINVAL,
                    "navmap_remove: the index has a graph; navmap_delete() marks, and "
                    "replace_deleted gives the place to another");
    TRY(store_write_begin(index->store, 0));
    navmap_status status = store_remove(index->store, label);
    store_write_end(index->store);
    return status == NAVMAP_OK ? store_settle(index->store) : status;
}

navmap_status navmap_get(navmap_index *index, uint64_t n, const uint64_t *labels,
                         float *ret_vectors)
{
    TRY(index_check(index, "navmap_get"));
    if (n == 0)
        return NAVMAP_OK;
    if (!labels || !ret_vectors)
        return fail(NAVMAP_EINVAL, "navmap_get: labels and ret_vectors are required");
    uint64_t dim = index->layout->dim;
    /* All or nothing, also when a label goes away half way: into a buffer first. */
    float *vectors =
        n <= SIZE_MAX / sizeof *vectors / dim ? malloc((size_t)(n * dim) * sizeof *vectors) : NULL;
    if (!vectors)
        return fail(NAVMAP_ENOMEM, "navmap_get: no memory for %llu vectors of %llu dimensions",
                    (unsigned long long)n, (unsigned long long)dim);
    navmap_status status = NAVMAP_OK;
    for (uint64_t i = 0; i < n && status == NAVMAP_OK; i++)
        status = store_get(index->store, labels[i], vectors + i * dim);
    if (status == NAVMAP_OK)
        memcpy(ret_vectors, vectors, (size_t)(n * dim) * sizeof *vectors);
    free(vectors);
    return status;
}

navmap_status navmap_contains(navmap_index *index, uint64_t label, bool *ret_contains)
{
    enum slot_status status;
    TRY(index_check(index, "navmap_contains"));
    if (!ret_contains)
        return fail(NAVMAP_EINVAL, "navmap_contains: ret_contains is required");
    TRY(store_contains(index->store, label, &status));
    *ret_contains = status == SLOT_LIVE;
    return NAVMAP_OK;
}

navmap_status navmap_labels(navmap_index *index, bool include_deleted, uint64_t capacity,
                            uint64_t *ret_labels, uint64_t *ret_n)
{
    TRY(index_check(index, "navmap_labels"));
    if (!ret_n || (capacity > 0 && !ret_labels))
        return fail(NAVMAP_EINVAL, "navmap_labels: ret_n, and ret_labels with a capacity, are "
                                   "required");
    return store_labels(index->store, include_deleted, capacity, ret_labels, ret_n);
}
