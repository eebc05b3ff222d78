/* filter.c -- preparing a list of labels, and the questions a search asks of it; see filter.h.
 *
 * The set is a bitmap over the range of its labels when that is no larger than the list itself, or
 * small: labels that were numbered in turn, the usual case, then cost a pass and no hashing.  The
 * bits by slot come from look-ups in the label table when the list is short, and else from one pass
 * over the slots.
 */
#include "engine/filter.h"

#include <stdlib.h>
#include <string.h>

#include "storage/fail.h"

#define LOOKUPS 256u /* labels of one transaction of the label table */
/* Slots that are passed in the time of one look-up; measured with 336,479 items: 250 ns a look-up,
 * 2.5 ns a slot by bitmap, 3 to 30 ns by a table of 5,000 to 300,000 labels. */
#define SLOTS_A_LOOKUP 80u
#define SMALL_BITMAP 4096u /* words that are not worth a table */
#define SCAN_FACTOR 32.0   /* see filter_prefers_scan() */
#define ATTEMPTS 3         /* to mark slots without a commit being applied meanwhile */

/* Set of labels -------------------------------------------------------------------------------*/

static inline uint64_t mixed(uint64_t x)
{
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    x = (x ^ x >> 32) * UINT64_C(0xd6e8feb86659fd93);
    return x ^ x >> 32;
}

static inline bool labels_has(const struct labels *l, uint64_t label)
{
    if (l->span != 0) {
        uint64_t at = label - l->base;
        return at < l->span && (l->words[at >> 6] >> (at & 63) & 1) != 0;
    }
    if (label == 0)
        return l->zero;
    for (uint64_t i = mixed(label) & l->mask; l->words[i] != 0; i = (i + 1) & l->mask)
        if (l->words[i] == label)
            return true;
    return false;
}

static void put_bit(struct labels *l, uint64_t label)
{
    uint64_t at = label - l->base, bit = UINT64_C(1) << (at & 63);
    l->n += (l->words[at >> 6] & bit) == 0;
    l->words[at >> 6] |= bit;
}

static void put_entry(struct labels *l, uint64_t label)
{
    if (label == 0) {
        l->n += !l->zero;
        l->zero = true;
        return;
    }
    uint64_t i = mixed(label) & l->mask;
    while (l->words[i] != 0 && l->words[i] != label)
        i = (i + 1) & l->mask;
    l->n += l->words[i] == 0;
    l->words[i] = label;
}

static navmap_status labels_fill(struct labels *l, const uint64_t *labels, uint64_t n)
{
    uint64_t low = UINT64_MAX, high = 0, words = 64;
    for (uint64_t i = 0; i < n; i++) {
        low = labels[i] < low ? labels[i] : low;
        high = labels[i] > high ? labels[i] : high;
    }
    *l = (struct labels){.base = low};
    if (n != 0 && (high - low) / 64 < n + SMALL_BITMAP) {
        l->span = high - low + 1; /* no overflow: a list of 2^57 labels has no room */
        words = (high - low) / 64 + 1;
    } else {
        while (words < n + n / 2)
            words *= 2;
        l->mask = words - 1;
    }
    l->words = calloc(words, sizeof *l->words);
    if (!l->words)
        return fail(NAVMAP_ENOMEM, "filter: no memory for a list of %llu labels",
                    (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        if (l->span != 0)
            put_bit(l, labels[i]);
        else
            put_entry(l, labels[i]);
    }
    return NAVMAP_OK;
}

/* Bits by slot --------------------------------------------------------------------------------*/

static void put_slot(struct filter *f, uint32_t slot)
{
    uint64_t bit = UINT64_C(1) << (slot & 63);
    f->n_pass += (f->bits[slot >> 6] & bit) == 0;
    f->bits[slot >> 6] |= bit;
}

static navmap_status mark_by_look_up(struct filter *f, struct store *store, const struct view *v,
                                     const uint64_t *labels, uint64_t n, bool *ret_sure)
{
    uint32_t slots[LOOKUPS];
    *ret_sure = true;
    for (uint64_t i = 0; i < n && *ret_sure; i += LOOKUPS) {
        uint32_t part = n - i < LOOKUPS ? (uint32_t)(n - i) : LOOKUPS;
        TRY(store_slots(store, v, part, labels + i, slots, ret_sure));
        for (uint32_t j = 0; j < part && *ret_sure; j++)
            if (slots[j] != 0 && slots[j] < f->n_slots)
                put_slot(f, slots[j]);
    }
    return NAVMAP_OK;
}

static void mark_by_scan(struct filter *f, const struct view *v, uint32_t end)
{
    for (uint32_t slot = 1; slot < end; slot++) {
        uint32_t word = atomic_load_explicit(view_state(v, slot), memory_order_acquire);
        if (STATE_STATUS(word) == SLOT_LIVE && labels_has(&f->labels, view_tag_label(v, slot)))
            put_slot(f, slot);
    }
}

/* The bits of one look at the slots.  Births beyond the mapping make it an unsure one. */
static navmap_status mark(struct filter *f, struct store *store, const struct view *v,
                          const uint64_t *labels, uint64_t n)
{
    bool looked_up = false;
    f->epoch = view_load64(&view_live(v)->apply_end, memory_order_acquire); /* "apply" */
    f->n_slots = view_slots(v);
    f->n_pass = 0;
    uint32_t end = extent_slots(view_load64(&view_root(v)->extent, memory_order_acquire));
    free(f->bits);
    f->bits = calloc(f->n_slots / 64 + 1, sizeof *f->bits);
    if (!f->bits)
        return fail(NAVMAP_ENOMEM, "filter: no memory for %llu slots",
                    (unsigned long long)f->n_slots);
    if (n <= end / SLOTS_A_LOOKUP)
        TRY(mark_by_look_up(f, store, v, labels, n, &looked_up));
    if (!looked_up)
        mark_by_scan(f, v, end < f->n_slots ? end : (uint32_t)f->n_slots);
    atomic_thread_fence(memory_order_acquire); /* "apply" */
    f->sure = end <= f->n_slots &&
              view_load64(&view_live(v)->apply_begin, memory_order_relaxed) == f->epoch;
    return NAVMAP_OK;
}

navmap_status filter_prepare(struct store *store, const struct navmap_search_options *options,
                             uint64_t n_live, struct filter *ret_filter)
{
    *ret_filter = (struct filter){.ask = options->filter,
                                  .ctx = options->filter_ctx,
                                  .listed = options->allowed != NULL,
                                  .n_live = n_live,
                                  .n_pass = n_live};
    if (!options->allowed && options->n_allowed != 0)
        return fail(NAVMAP_EINVAL, "navmap_search_options: allowed is NULL, n_allowed is %llu",
                    (unsigned long long)options->n_allowed);
    if (!options->allowed)
        return NAVMAP_OK;
    navmap_status status = labels_fill(&ret_filter->labels, options->allowed, options->n_allowed);
    for (int i = 0; i < ATTEMPTS && status == NAVMAP_OK && !ret_filter->sure; i++) {
        struct view *v;
        status = store_view_begin(store, &v);
        if (status != NAVMAP_OK)
            break;
        status = mark(ret_filter, store, v, options->allowed, options->n_allowed);
        store_view_end(store, v);
    }
    if (status != NAVMAP_OK)
        filter_release(ret_filter);
    return status;
}

void filter_release(struct filter *f)
{
    if (!f->listed)
        return; /* not even free(NULL): test_engine_quiet.c counts */
    free(f->labels.words);
    free(f->bits);
    *f = (struct filter){0};
}

/* Questions -----------------------------------------------------------------------------------*/

bool filter_lists(const struct filter *f, uint64_t label)
{
    return !f->listed || labels_has(&f->labels, label);
}

/* With p of n items listed, a scan looks at p of them, a walk at some 2 ef n / p until ef listed
 * ones are in its beam, and one that a walk looks at costs as much as 15 to 20 of a scan, which
 * needs no rows and meets slots in order: equal at p^2 = 32 ef n or so.  Measured: ALGORITHM.md. */
bool filter_prefers_scan(const struct filter *f, uint64_t k, uint32_t ef)
{
    if (!f->listed)
        return false;
    double pass = (double)f->n_pass;
    return f->n_pass <= k || pass * pass <= SCAN_FACTOR * (double)ef * (double)f->n_live;
}

navmap_status filter_stopped(void)
{
    return fail(NAVMAP_EINTERRUPTED, "the filter function asked to stop");
}

void sieve_begin(struct sieve *s, const struct filter *f, const struct view *v, uint64_t epoch,
                 uint32_t ef)
{
    *s = (struct sieve){.filter = f,
                        .view = v,
                        .by_slot = f->listed && f->sure && f->epoch == epoch,
                        .budget = f->n_pass / 4 + 4ull * ef};
}

bool sieve_lists(const struct sieve *s, uint32_t slot)
{
    const struct filter *f = s->filter;
    if (!f->listed)
        return true;
    if (s->by_slot && slot < f->n_slots)
        return (f->bits[slot >> 6] >> (slot & 63) & 1) != 0;
    return labels_has(&f->labels, view_tag_label(s->view, slot));
}

bool sieve_asks(struct sieve *s, uint64_t label)
{
    if (!s->filter->ask)
        return true;
    if (s->stopped)
        return false;
    int answer = s->filter->ask(s->filter->ctx, label);
    if (answer < 0)
        s->stopped = s->halt = true;
    return answer > 0;
}

bool sieve_admits(struct sieve *s, uint32_t slot, uint32_t word)
{
    if (s->halt)
        return false;
    if (s->budget-- == 0) {
        s->spent = s->halt = true;
        return false;
    }
    if (!sieve_lists(s, slot))
        return false;
    if (!s->filter->ask)
        return true; /* F1: the label is looked at again */
    uint64_t label = view_tag_label(s->view, slot);
    atomic_thread_fence(memory_order_acquire); /* pairing "payload" */
    uint32_t after = atomic_load_explicit(view_state(s->view, slot), memory_order_relaxed);
    if (STATE_GEN(after) != STATE_GEN(word) || STATE_STATUS(after) == SLOT_FREE)
        return false;
    return filter_lists(s->filter, label) && sieve_asks(s, label);
}
