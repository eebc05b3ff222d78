/* prepared.c -- filters that outlive a call; see navmap_filter.h, and marks.h for how they keep up
 * with the index. */
#include "engine/navmap_filter.h"

#include <stdlib.h>

#include "engine/index.h"
#include "storage/fail.h"

static navmap_status update(navmap_index *ix, navmap_filter_set *filter)
{
    struct view *v;
    TRY(store_view_begin(ix->store, &v));
    navmap_status status = marks_update(&filter->marks, ix->store, v, NULL, 0);
    store_view_end(ix->store, v);
    return status;
}

static navmap_status fill(navmap_index *ix, uint64_t n, const uint64_t *labels,
                          navmap_filter_set *filter)
{
    const struct layout *l = ix->layout;
    TRY(label_set_fill(&filter->marks.labels, labels, n));
    /* Room for every slot that there ever can be: pointers, of which most are never touched. */
    TRY(marks_reserve(&filter->marks, (uint64_t)layout_chunks_max(l) << l->slot_shift));
    return update(ix, filter);
}

navmap_status navmap_filter_create(navmap_index *index, uint64_t n, const uint64_t *labels,
                                   const struct navmap_filter_options *options,
                                   navmap_filter_set **ret_filter)
{
    struct navmap_filter_options o;
    TRY(index_check(index, "navmap_filter_create"));
    TRY(index_copy_options(options, sizeof o, "navmap_filter_options", &o));
    if (!labels && n != 0)
        return fail(NAVMAP_EINVAL, "navmap_filter_create: labels is NULL, n is %llu",
                    (unsigned long long)n);
    navmap_filter_set *filter = calloc(1, sizeof *filter);
    if (!filter)
        return fail(NAVMAP_ENOMEM, "navmap_filter_create: no memory");
    filter->serial = index->serial;
    filter->marks.deny = o.deny != 0;
    navmap_status status = fill(index, n, labels, filter);
    if (status != NAVMAP_OK) {
        navmap_filter_free(filter);
        return status;
    }
    *ret_filter = filter;
    return NAVMAP_OK;
}

void navmap_filter_free(navmap_filter_set *filter)
{
    if (!filter)
        return;
    marks_free(&filter->marks);
    free(filter);
}

navmap_status navmap_filter_look(navmap_index *index, navmap_filter_set *filter,
                                 struct navmap_filter_facts *ret_facts)
{
    TRY(index_check(index, "navmap_filter_look"));
    if (filter->serial != index->serial)
        return fail(NAVMAP_EINVAL, "navmap_filter_look: the filter was prepared for another index");
    if (ret_facts->struct_size != sizeof *ret_facts)
        return fail(NAVMAP_EINVAL, "navmap_filter_facts: struct_size is %u, expected %zu",
                    ret_facts->struct_size, sizeof *ret_facts);
    TRY(update(index, filter));
    const struct marks *m = &filter->marks;
    ret_facts->deny = m->deny;
    ret_facts->labels = m->labels.n;
    ret_facts->pass = atomic_load_explicit(&m->n_pass, memory_order_relaxed);
    ret_facts->bytes = sizeof *filter + marks_bytes(m);
    return NAVMAP_OK;
}
