/* filter.c -- the questions a search asks of a filter; see filter.h. */
#include "engine/filter.h"

#include "storage/fail.h"

/* The marks of a list, over the slots that there are now. */
static navmap_status mark_list(struct filter *f, struct store *store,
                               const struct navmap_search_options *o)
{
    struct view *v;
    TRY(store_view_begin(store, &v));
    navmap_status status = marks_reserve(&f->own, view_slots(v));
    if (status == NAVMAP_OK)
        status = marks_update(&f->own, store, v, o->allowed, o->n_allowed);
    f->sure = status == NAVMAP_OK && marks_fresh(&f->own, marks_moment(v));
    store_view_end(store, v);
    return status;
}

navmap_status filter_prepare(struct store *store, const struct navmap_search_options *options,
                             uint64_t n_live, struct filter *ret_filter)
{
    struct filter *f = ret_filter;
    *f = (struct filter){.ask = options->filter, .ctx = options->filter_ctx, .n_live = n_live};
    if (!options->allowed && options->n_allowed != 0)
        return fail(NAVMAP_EINVAL, "navmap_search_options: allowed is NULL, n_allowed is %llu",
                    (unsigned long long)options->n_allowed);
    if (options->set)
        f->marks = &options->set->marks;
    if (!options->allowed)
        return NAVMAP_OK;
    TRY(label_set_fill(&f->own.labels, options->allowed, options->n_allowed));
    f->marks = &f->own;
    navmap_status status = mark_list(f, store, options);
    if (status != NAVMAP_OK)
        filter_release(f);
    return status;
}

void filter_release(struct filter *f)
{
    if (f->marks == &f->own) /* not even free(NULL) else: test_engine_quiet.c counts */
        marks_free(&f->own);
    f->marks = NULL;
}

navmap_status filter_stopped(void)
{
    return fail(NAVMAP_EINTERRUPTED, "the filter function asked to stop");
}

void sieve_begin(struct sieve *s, const struct filter *f, const struct view *v, uint32_t ef)
{
    *s = (struct sieve){.filter = f,
                        .view = v,
                        .by_slot = f->marks && marks_fresh(f->marks, marks_moment(v)),
                        .budget = filter_pass(f) / 4 + 4ull * ef};
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

bool sieve_passes(struct sieve *s, uint32_t slot, uint32_t word)
{
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

bool sieve_admits(struct sieve *s, uint32_t slot, uint32_t word)
{
    if (s->halt)
        return false;
    if (s->budget-- == 0) {
        s->spent = s->halt = true;
        return false;
    }
    return sieve_passes(s, slot, word);
}
