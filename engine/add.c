/* add.c -- navmap_add(): a batch is checked as a whole, then added in slices.
 *
 * The write lock is held for a slice of items and given up between slices, so that other adders
 * and the caller's progress function get their turn.  Nothing of a batch is staged before all of
 * it has passed: finite, implicit labels, room under max_elements.
 *
 * B1  Numbers handed to a call without labels are not handed to another one while it runs.
 * B2  Room under max_elements that a call was promised stays its own while it runs.
 */
#include "engine/index.h"

#include <stdlib.h>
#include <time.h>

#include "storage/fail.h"

#define SLICE_ITEMS 64u
#define SLICE_SECONDS 0.020

struct batch {
    uint64_t n, done;
    const float *vectors;
    const uint64_t *labels; /* NULL: first_label, first_label + 1, ... */
    uint64_t first_label;
    uint64_t promised; /* B2: new labels of this call that are still to come */
    bool numbered;     /* B1 */
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare_labels(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* How many different labels of the batch the index does not have. */
static navmap_status count_new(navmap_index *ix, const struct batch *b, uint64_t *ret_new)
{
    uint64_t one, *sorted = &one, n_new = 0;
    if (!b->labels) {
        *ret_new = b->n; /* beyond the largest label: all of them */
        return NAVMAP_OK;
    }
    if (b->n > 1 &&
        (b->n > SIZE_MAX / sizeof *sorted || !(sorted = malloc((size_t)b->n * sizeof *sorted))))
        return fail(NAVMAP_ENOMEM, "navmap_add: no memory to check %llu labels",
                    (unsigned long long)b->n);
    for (uint64_t i = 0; i < b->n; i++)
        sorted[i] = b->labels[i];
    if (b->n > 1)
        qsort(sorted, (size_t)b->n, sizeof *sorted, compare_labels);
    navmap_status status = NAVMAP_OK;
    for (uint64_t i = 0; i < b->n && status == NAVMAP_OK; i++) {
        struct store_found found;
        if (i > 0 && sorted[i] == sorted[i - 1])
            continue;
        status = store_find(ix->store, sorted[i], &found);
        n_new += status == NAVMAP_OK && found.slot == 0;
    }
    if (sorted != &one)
        free(sorted);
    *ret_new = n_new;
    return status;
}

/* Write lock held, nothing staged yet. */
static navmap_status plan(navmap_index *ix, struct batch *b)
{
    uint64_t first = 0, n_new = 0;
    if (!b->labels) {
        bool any;
        uint64_t last;
        TRY(store_label_max(ix->store, &any, &last));
        if (ix->implicit_calls > 0 && (!any || ix->implicit_next > last)) {
            any = ix->implicit_next > 0;
            last = ix->implicit_next - 1;
        }
        if (any && b->n >= UINT64_MAX - last) /* the last number stands for "none" */
            return fail(NAVMAP_EINVAL,
                        "navmap_add: the largest label is %llu, no numbers are left for %llu rows",
                        (unsigned long long)last, (unsigned long long)b->n);
        first = any ? last + 1 : 0;
    }
    const struct disk_root *root = &store_edit(ix->store)->root;
    if (root->max_elements != 0) {
        TRY(count_new(ix, b, &n_new));
        uint64_t used = root->n_live + root->n_deleted + ix->reserved_labels;
        uint64_t room = used < root->max_elements ? root->max_elements - used : 0;
        if (n_new > room)
            return fail(NAVMAP_EFULL,
                        "The number of elements exceeds the specified limit: max_elements is "
                        "%llu, room is left for %llu, the batch has %llu new labels",
                        (unsigned long long)root->max_elements, (unsigned long long)room,
                        (unsigned long long)n_new);
    }
    b->promised = n_new;
    ix->reserved_labels += n_new;
    if (!b->labels) {
        b->numbered = true;
        b->first_label = first;
        ix->implicit_calls++;
        ix->implicit_next = first + b->n;
    }
    return NAVMAP_OK;
}

/* Give back what plan() took.  Write lock held. */
static void unplan(navmap_index *ix, struct batch *b)
{
    ix->reserved_labels -= b->promised;
    b->promised = 0;
    if (!b->numbered)
        return;
    b->numbered = false;
    ix->implicit_calls--;
    if (ix->implicit_next == b->first_label + b->n) /* numbers not used are free again */
        ix->implicit_next = b->first_label + b->done;
}

/* Items until the slice is spent.  Write lock held. */
static navmap_status add_slice(navmap_index *ix, struct scratch *s, struct batch *b)
{
    double stop = now() + SLICE_SECONDS;
    uint32_t items = 0;
    navmap_status status = NAVMAP_OK;
    while (b->done < b->n && items < SLICE_ITEMS && (items == 0 || now() < stop)) {
        uint64_t label = b->labels ? b->labels[b->done] : b->first_label + b->done;
        bool is_new = false;
        status = index_add_one(ix, s, label, b->vectors + b->done * ix->layout->dim, &is_new);
        if (status != NAVMAP_OK)
            break;
        b->done++;
        items++;
        if (is_new && b->promised > 0) {
            b->promised--;
            ix->reserved_labels--;
        }
    }
    repair_some(ix, s, (uint64_t)items * REPAIR_SLOTS_PER_ITEM);
    return status;
}

static navmap_status add_batch(navmap_index *ix, struct scratch *s, struct batch *b,
                               const struct navmap_add_options *o)
{
    double told = now();
    TRY(store_write_begin(ix->store, b->n));
    navmap_status status = plan(ix, b);
    while (status == NAVMAP_OK) {
        status = add_slice(ix, s, b);
        if (status != NAVMAP_OK || b->done == b->n)
            break;
        store_write_end(ix->store);
        if (o->progress && now() - told >= SLICE_SECONDS) {
            told = now();
            if (o->progress(o->progress_ctx, b->done, b->n) != 0)
                status = fail(NAVMAP_EINTERRUPTED, "navmap_add: stopped after %llu of %llu rows",
                              (unsigned long long)b->done, (unsigned long long)b->n);
        }
        navmap_status again = store_write_begin(ix->store, b->n);
        if (again != NAVMAP_OK) /* poisoned: nobody will be promised anything any more */
            return again;
    }
    unplan(ix, b);
    store_write_end(ix->store);
    return status;
}

navmap_status navmap_add(navmap_index *index, uint64_t n, const float *vectors,
                         const uint64_t *labels, const struct navmap_add_options *options,
                         uint64_t *ret_added)
{
    if (ret_added)
        *ret_added = 0;
    struct navmap_add_options o;
    TRY(index_check_writer(index, "navmap_add"));
    TRY(index_copy_options(options, sizeof o, "navmap_add_options", &o));
    TRY(index_check_finite(index, "navmap_add", vectors, n));
    if (n == 0)
        return NAVMAP_OK;
    struct scratch *s;
    struct batch b = {.n = n, .vectors = vectors, .labels = labels};
    TRY(scratch_take(&index->shelf, index->layout, &s));
    navmap_status status = add_batch(index, s, &b, &o);
    scratch_give(&index->shelf, s);

    /* Whole items are kept whatever stopped the batch.  A failure to settle is the graver one. */
    if (b.done > 0) {
        navmap_status settled = store_settle(index->store);
        if (settled != NAVMAP_OK)
            status = settled;
    }
    if (status == NAVMAP_EPOISONED) { /* what was staged is lost with the handle */
        struct store_stats stats;
        if (store_stats_read(index->store, &stats) == NAVMAP_OK)
            b.done -= stats.pending < b.done ? stats.pending : b.done;
        status = fail(NAVMAP_EPOISONED,
                      "navmap_add: a write failed; %llu of %llu rows are kept; "
                      "close the index and open it again",
                      (unsigned long long)b.done, (unsigned long long)n);
    }
    if (ret_added)
        *ret_added = b.done;
    if (status == NAVMAP_OK && o.progress)
        o.progress(o.progress_ctx, n, n); /* too late to stop anything */
    return status;
}
