/* add.c -- navmap_add(): a batch is checked as a whole, then added by one or several threads.
 *
 * Nothing of a batch is staged before all of it has passed: finite, the rules of replacement,
 * implicit labels, room under max_elements.  Then each thread takes the next row that nobody has,
 * until none is left; between rows no lock is held, so that other calls get their turn.
 *
 * B1  Numbers handed to a call without labels are not handed to another one while it runs.
 * B2  Room under max_elements that a call was promised stays its own while it runs.
 * B3  Rows are taken in order and finished once taken, so when the call ends early all rows before
 *     the first one that failed, or was not taken, are in.
 * B4  With one thread what happens depends on nothing but the calls: the sweep is paid for by the
 *     number of items, never by time.
 */
#include "engine/index.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/bulk.h"
#include "engine/places.h"
#include "engine/together.h"
#include "storage/fail.h"
#include "storage/rewriting.h"

#define SLICE_ITEMS 16u    /* between two looks at the sweep and the log */
#define TELL_SECONDS 0.020 /* between two calls of the progress function */
#define ROWS_PER_THREAD 4u /* hnswlib's rule: no more than this, and the caller does it alone */

struct batch {
    uint64_t n;
    const float *vectors;
    const uint64_t *labels; /* NULL: first_label, first_label + 1, ... */
    uint64_t first_label;
    bool replace;
    bool numbered;             /* B1 */
    bool updates;              /* more than an eighth of the labels may be there already */
    _Atomic uint64_t promised; /* B2: new labels of this call that are still to come */
    uint32_t threads;
    navmap_index *ix;
    const struct store *aside; /* bulk: the store that waits for `ix` to take its place */
    const struct navmap_add_options *options;
    _Atomic uint64_t next; /* row to be taken */
    _Atomic uint64_t done; /* rows finished, in any order */
    _Atomic bool stop;
    /* The first failure, under `lock`: */
    pthread_mutex_t lock;
    navmap_status status;
    uint64_t failed; /* lowest row that failed; n = none */
    char detail[512];
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

/* What a batch brings, by its labels. */
struct survey {
    uint64_t n_new;     /* different ones that the index does not have */
    uint64_t n_deleted; /* different ones that are marked deleted, */
    uint64_t deleted;   /* this one, say */
    bool repeats;       /* some label is there twice */
};

static navmap_status look_up(navmap_index *ix, const uint64_t *sorted, uint64_t n,
                             struct survey *ret_survey)
{
    for (uint64_t i = 0; i < n; i++) {
        struct store_found found;
        if (i > 0 && sorted[i] == sorted[i - 1]) {
            ret_survey->repeats = true;
            continue;
        }
        TRY(store_find(ix->store, sorted[i], &found));
        ret_survey->n_new += found.slot == 0;
        if (found.slot != 0 && STATE_STATUS(found.state) == SLOT_DELETED) {
            ret_survey->n_deleted++;
            ret_survey->deleted = sorted[i];
        }
    }
    return NAVMAP_OK;
}

static navmap_status survey_labels(navmap_index *ix, const struct batch *b,
                                   struct survey *ret_survey)
{
    uint64_t one, *sorted = &one;
    if (b->n > 1 &&
        (b->n > SIZE_MAX / sizeof *sorted || !(sorted = malloc((size_t)b->n * sizeof *sorted))))
        return fail(NAVMAP_ENOMEM, "navmap_add: no memory to check %llu labels",
                    (unsigned long long)b->n);
    memcpy(sorted, b->labels, (size_t)b->n * sizeof *sorted);
    if (b->n > 1)
        qsort(sorted, (size_t)b->n, sizeof *sorted, compare_labels);
    navmap_status status = look_up(ix, sorted, b->n, ret_survey);
    if (sorted != &one)
        free(sorted);
    return status;
}

/* Numbers for a call without labels. */
static navmap_status number(navmap_index *ix, struct batch *b)
{
    bool any = false;
    uint64_t last = 0;
    TRY(store_label_max(ix->store, &any, &last));
    if (ix->implicit_calls > 0 && (!any || ix->implicit_next > last)) {
        any = ix->implicit_next > 0;
        last = ix->implicit_next - 1;
    }
    if (any && b->n >= UINT64_MAX - last) /* the last number stands for "none" */
        return fail(NAVMAP_EINVAL,
                    "navmap_add: the largest label is %llu, no numbers are left for %llu rows",
                    (unsigned long long)last, (unsigned long long)b->n);
    b->first_label = any ? last + 1 : 0;
    return NAVMAP_OK;
}

/* The rules of hnswlib's replace_deleted, in its words. */
static navmap_status check_replacing(const navmap_index *ix, const struct batch *b,
                                     const struct survey *survey)
{
    bool allowed = (ix->layout->flags & HEADER_ALLOW_REPLACE_DELETED) != 0;
    if (b->replace && !allowed)
        return fail(NAVMAP_EREPLACE, "Replacement of deleted elements is disabled in constructor");
    if (!b->replace && allowed && survey->n_deleted > 0)
        return fail(NAVMAP_EREPLACE,
                    "Can't use addPoint to update deleted elements if replacement of deleted "
                    "elements is enabled: label %llu is marked deleted; undelete it first, or add "
                    "it with replace_deleted",
                    (unsigned long long)survey->deleted);
    return NAVMAP_OK;
}

static navmap_status check_room(navmap_index *ix, const struct batch *b,
                                const struct survey *survey)
{
    const struct disk_root root = store_root(ix->store);
    uint64_t n_new = survey->n_new;
    uint64_t used = root.n_live + root.n_deleted + atomic_load(&ix->reserved_labels);
    uint64_t room = used < root.max_elements ? root.max_elements - used : 0;
    if (b->replace)
        /* Each gives its place, but for those that the batch brings back: a new label may take that
         * of one of them too, which then needs another. */
        room += root.n_deleted - survey->n_deleted;
    if (n_new <= room)
        return NAVMAP_OK;
    return fail(NAVMAP_EFULL,
                "The number of elements exceeds the specified limit: max_elements is "
                "%llu, room is left for %llu, the batch has %llu new labels",
                (unsigned long long)root.max_elements, (unsigned long long)room,
                (unsigned long long)n_new);
}

/* Write lock held exclusively, nothing staged yet. */
static navmap_status plan(navmap_index *ix, struct batch *b)
{
    struct survey survey = {.n_new = b->n}; /* beyond the largest label: all of them */
    bool bounded = store_bounded(ix->store);
    bool allowed = (ix->layout->flags & HEADER_ALLOW_REPLACE_DELETED) != 0;
    uint64_t old = 0; /* labels that are there already, at most */
    if (!b->labels) {
        TRY(number(ix, b));
    } else if (bounded || allowed || b->threads > 1) {
        survey.n_new = 0;
        TRY(survey_labels(ix, b, &survey));
        old = b->n - survey.n_new;
    } else {
        const struct disk_root root = store_root(ix->store);
        old = root.n_live + root.n_deleted;
    }
    b->updates = old > b->n / 8;
    TRY(check_replacing(ix, b, &survey));
    if (bounded) {
        TRY(check_room(ix, b, &survey));
        atomic_store(&b->promised, survey.n_new);
        atomic_fetch_add(&ix->reserved_labels, survey.n_new);
    }
    if (survey.repeats)
        b->threads = 1; /* the later row counts */
    if (!b->labels) {
        b->numbered = true;
        ix->implicit_calls++;
        ix->implicit_next = b->first_label + b->n;
    }
    return NAVMAP_OK;
}

/* Give back what plan() took.  Write lock held exclusively. */
static void unplan(navmap_index *ix, struct batch *b)
{
    atomic_fetch_sub(&ix->reserved_labels, atomic_exchange(&b->promised, 0));
    if (!b->numbered)
        return;
    b->numbered = false;
    ix->implicit_calls--;
    if (ix->implicit_next == b->first_label + b->n) { /* numbers not used are free again */
        uint64_t taken = atomic_load(&b->next);
        ix->implicit_next = b->first_label + (taken < b->n ? taken : b->n);
    }
}

static void note_failure(struct batch *b, navmap_status status, uint64_t row)
{
    (void)pthread_mutex_lock(&b->lock);
    if (row < b->failed)
        b->failed = row;
    if (b->status == NAVMAP_OK) {
        b->status = status;
        (void)snprintf(b->detail, sizeof b->detail, "%s", navmap_error_detail());
    }
    (void)pthread_mutex_unlock(&b->lock);
    atomic_store(&b->stop, true);
}

static navmap_status add_row(struct batch *b, struct scratch *s, uint64_t row)
{
    const struct insert in = {
        .label = b->labels ? b->labels[row] : b->first_label + row,
        .vector = b->vectors + row * b->ix->layout->dim,
        .batch_items = b->n,
        .replace = b->replace,
        .promised = b->aside ? NULL : &b->promised,
    };
    return index_insert(b->ix, s, &in);
}

/* Between rows: the sweep gets its share, the log is cut when it is long. */
static navmap_status pay(struct batch *b, struct scratch *s, uint64_t items)
{
    if (!repair_due(b->ix))
        return store_relieve(b->ix->store);
    TRY(store_write_begin(b->ix->store, b->n));
    repair_some(b->ix, s, items * REPAIR_SLOTS_PER_ITEM);
    store_write_end(b->ix->store);
    return NAVMAP_OK;
}

static navmap_status tell(struct batch *b, double *told)
{
    const struct navmap_add_options *o = b->options;
    if (!o->progress || now() - *told < TELL_SECONDS)
        return NAVMAP_OK;
    *told = now();
    uint64_t done = atomic_load(&b->done);
    store_aside_begin(b->aside);
    bool stop = done < b->n && o->progress(o->progress_ctx, done, b->n) != 0;
    store_aside_end();
    if (stop)
        return fail(NAVMAP_EINTERRUPTED, "navmap_add: stopped after %llu of %llu rows",
                    (unsigned long long)done, (unsigned long long)b->n);
    return NAVMAP_OK;
}

static void add_rows(void *ctx, uint32_t worker)
{
    struct batch *b = ctx;
    struct scratch *s;
    double told = now();
    uint64_t items = 0;
    navmap_status status = scratch_take(&b->ix->shelf, b->ix->layout, &s);
    if (status != NAVMAP_OK) {
        if (worker == 0) /* the others do not matter */
            note_failure(b, status, b->n);
        return;
    }
    while (!atomic_load(&b->stop)) {
        uint64_t row = atomic_fetch_add(&b->next, 1); /* B3 */
        if (row >= b->n)
            break;
        status = add_row(b, s, row);
        if (status != NAVMAP_OK) {
            note_failure(b, status, row);
            break;
        }
        atomic_fetch_add(&b->done, 1);
        if (++items % SLICE_ITEMS == 0)
            status = pay(b, s, SLICE_ITEMS);
        if (status == NAVMAP_OK && worker == 0)
            status = tell(b, &told);
        if (status != NAVMAP_OK)
            note_failure(b, status, b->n);
    }
    if (items % SLICE_ITEMS != 0 && repair_due(b->ix)) {
        status = pay(b, s, items % SLICE_ITEMS);
        if (status != NAVMAP_OK)
            note_failure(b, status, b->n);
    }
    scratch_give(&b->ix->shelf, s);
}

static void add_together(struct batch *b, struct crew *crew)
{
    struct scratch *s = NULL;
    double told = now();
    struct together t = {.ix = b->ix,
                         .crew = crew,
                         .threads = b->threads,
                         .n = b->n,
                         .vectors = b->vectors,
                         .labels = b->labels,
                         .first_label = b->first_label,
                         .promised = b->aside ? NULL : &b->promised};
    navmap_status status = together_begin(&t);
    if (status == NAVMAP_OK)
        status = scratch_take(&b->ix->shelf, b->ix->layout, &s);
    for (uint64_t row = 0, added = 1; status == NAVMAP_OK && row < b->n; row += added) {
        status = together_add(&t, row, &added);
        if (status == NAVMAP_OK && added == 0) { /* an update */
            status = add_row(b, s, row);
            added = status == NAVMAP_OK;
        }
        atomic_store(&b->next, row + added);
        atomic_store(&b->done, row + added);
        if (status != NAVMAP_OK)
            break;
        status = pay(b, s, added);
        if (status == NAVMAP_OK)
            status = tell(b, &told);
    }
    if (status != NAVMAP_OK)
        note_failure(b, status, b->n);
    scratch_give(&b->ix->shelf, s);
    together_end(&t);
}

struct placing {
    struct batch *b;
    double told;
};

static navmap_status tell_placing(void *ctx)
{
    struct placing *p = ctx;
    return tell(p->b, &p->told);
}

/* Rows that are near each other get slots that are.  Not where many are updates, which take the
 * slots that the sweep frees meanwhile. */
static navmap_status place_rows(struct batch *b, struct crew *crew)
{
    if (b->replace || b->updates)
        return NAVMAP_OK;
    struct placing placing = {b, now()};
    const struct places what = {.n = b->n,
                                .vectors = b->vectors,
                                .crew = crew,
                                .threads = b->threads,
                                .tick = tell_placing,
                                .ctx = &placing};
    return places_choose(b->ix, &what);
}

/* All rows, by the threads of `crew`. */
static void add_all(struct batch *b, struct crew *crew)
{
    navmap_status status = place_rows(b, crew);
    if (status != NAVMAP_OK)
        note_failure(b, status, 0);
    else if (!b->options->reproducible)
        crew_run(crew, b->threads, add_rows, b);
    else if (store_in_memory(b->ix->store) && !index_flat(b->ix) && !b->replace)
        add_together(b, crew);
    else
        add_rows(b, 0);
}

/* Rows that are in for certain, from the first on (B3). */
static uint64_t added(const struct batch *b)
{
    uint64_t taken = atomic_load(&b->next);
    taken = taken < b->n ? taken : b->n;
    return b->failed < taken ? b->failed : taken;
}

/* Into memory, then all at once.  Between store_rebuild_begin() and store_rebuild_end(). */
static navmap_status add_bulk_locked(navmap_index *ix, struct batch *b)
{
    navmap_index *to;
    TRY(plan(ix, b));
    navmap_status status = bulk_begin(ix, b->n, &to);
    if (status == NAVMAP_OK) {
        b->aside = ix->store;
        b->ix = to;
        add_all(b, ix->crew);
        b->ix = ix;
        status = bulk_end(ix, to);
    }
    if (status != NAVMAP_OK) /* none of them is in */
        b->failed = 0;
    unplan(ix, b);
    return status;
}

static navmap_status add_bulk(navmap_index *ix, struct batch *b)
{
    bool shrunk;
    TRY(store_rebuild_begin(ix->store));
    navmap_status status = add_bulk_locked(ix, b);
    store_rebuild_end(ix->store);
    TRY(status);
    /* What cannot be cleared now is by a later call: the rows are in. */
    status = store_generation_clear(ix->store, false, &shrunk);
    if (status == NAVMAP_EPOISONED && b->status == NAVMAP_OK)
        return status;
    return b->status == NAVMAP_OK ? NAVMAP_OK : fail(b->status, "%s", b->detail);
}

static navmap_status add_batch(navmap_index *ix, struct batch *b)
{
    if (bulk_suits(ix, b->n))
        return add_bulk(ix, b);
    TRY(store_write_begin(ix->store, b->n));
    navmap_status status = plan(ix, b);
    store_write_end(ix->store);
    TRY(status);
    add_all(b, ix->crew);
    if (store_write_begin(ix->store, 0) == NAVMAP_OK) { /* else nobody is promised anything more */
        unplan(ix, b);
        store_write_end(ix->store);
    }
    return b->status == NAVMAP_OK ? NAVMAP_OK : fail(b->status, "%s", b->detail);
}

/* What a poisoned handle keeps: the committed, which are the first ones but for those that threads
 * had in hand. */
static uint64_t kept(navmap_index *ix, const struct batch *b)
{
    struct store_stats stats;
    if (store_stats_read(ix->store, &stats) != NAVMAP_OK)
        return 0;
    uint64_t lost = stats.pending + b->threads - 1, rows = added(b);
    return lost < rows ? rows - lost : 0;
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
    if (o.reproducible > 1)
        return fail(NAVMAP_EINVAL, "navmap_add: reproducible is %u, must be 0 or 1",
                    o.reproducible);
    TRY(index_check_finite(index, "navmap_add", vectors, n));
    TRY(index_check_range(index, "navmap_add", vectors, n));
    if (n == 0)
        return NAVMAP_OK;
    struct batch b = {.n = n,
                      .vectors = vectors,
                      .labels = labels,
                      .replace = o.replace_deleted != 0,
                      .threads = o.num_threads ? o.num_threads : 1,
                      .ix = index,
                      .options = &o,
                      .failed = n,
                      .lock = PTHREAD_MUTEX_INITIALIZER};
    if (n <= (uint64_t)b.threads * ROWS_PER_THREAD)
        b.threads = 1;
    navmap_status status = add_batch(index, &b);

    /* Whole items are kept whatever stopped the batch.  A failure to settle is the graver one. */
    if (atomic_load(&b.done) > 0) {
        navmap_status settled = store_settle(index->store);
        if (settled != NAVMAP_OK)
            status = settled;
    }
    uint64_t n_added = added(&b);
    if (status == NAVMAP_EPOISONED) { /* what was staged is lost with the handle */
        n_added = kept(index, &b);
        status = fail(NAVMAP_EPOISONED,
                      "navmap_add: a write failed; %llu of %llu rows are kept; "
                      "close the index and open it again",
                      (unsigned long long)n_added, (unsigned long long)n);
    }
    if (ret_added)
        *ret_added = n_added;
    if (status == NAVMAP_OK && o.progress)
        o.progress(o.progress_ctx, n, n); /* too late to stop anything */
    return status;
}
