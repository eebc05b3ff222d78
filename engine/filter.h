/* filter.h -- which labels a search may return: those of a set, those a function says, or both.
 *
 * The set is one that was prepared (navmap_filter.h), or is made of a list for the length of a
 * call. Its marks (marks.h) answer for a slot without touching it, and their number tells the
 * planner (plan.h) what a walk would cost.
 *
 * F1  No label leaves that is not of the set: the label that was read under the generation check is
 *     looked up once more at the end (query.c, exact.c).  A mark is a hint.
 * F2  A slot without a mark is passed over only while the marks are fresh (marks.h, M2; `by_slot`);
 *     else labels are asked for.  So an item that moved is not lost.
 * F3  The function is asked about a label that was read between two looks at the slot's state that
 *     show one generation and LIVE at first: it is never shown half a label.  No lock is held.
 * F4  Nothing in a filter is changed by a search but marks (M3), so the threads of a call share it;
 *     what one query knows is in its sieve.
 */
#ifndef NAVMAP_ENGINE_FILTER_H
#define NAVMAP_ENGINE_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/marks.h"
#include "engine/navmap.h"
#include "storage/store.h"

struct navmap_filter_set {
    struct marks marks;
    uint64_t serial; /* of the handle that it is for */
};

struct filter {
    navmap_filter *ask; /* NULL = no function */
    void *ctx;
    struct marks *marks; /* NULL = every label is in */
    struct marks own;    /* of a list: `marks` points here */
    uint64_t n_live;     /* items in all */
    bool sure;           /* made of a list at a moment without a change: n_pass is exact */
};

/* From options whose struct_size was checked; `n_live` items were live just now.  Looks labels up
 * as navmap_get() does.  On failure there is nothing to release.  It must stay where it is.
 * NAVMAP_EINVAL, NAVMAP_ENOMEM.  Cost: 0.25 us a label, or up to 10 ns a slot (30 if
 * labels are far apart). */
navmap_status filter_prepare(struct store *store, const struct navmap_search_options *options,
                             uint64_t n_live, struct filter *ret_filter) NAVMAP_MUST_USE;
void filter_release(struct filter *f);

/* Is the label of the set, or is there none? */
static inline bool filter_lists(const struct filter *f, uint64_t label)
{
    return !f->marks || marks_lists(f->marks, label);
}
/* Live items that pass, as far as is known without asking the function. */
static inline uint64_t filter_pass(const struct filter *f)
{
    return f->marks ? atomic_load_explicit(&f->marks->n_pass, memory_order_relaxed) : f->n_live;
}
/* NAVMAP_EINTERRUPTED: what a search ends with whose sieve was stopped. */
navmap_status filter_stopped(void) NAVMAP_MUST_USE;

/* One query's use of a filter over one view. */
struct sieve {
    const struct filter *filter;
    const struct view *view;
    bool by_slot; /* F2 */
    bool halt;    /* the walk is to end, for one of two reasons: */
    bool stopped; /* the function said so, and is not asked again */
    bool spent;   /* too many were refused: an exact scan is the cheaper way now */
    uint64_t budget;
};

/* A walk with a beam of `ef` is given up when it asked about a quarter of what a scan would look
 * at: from there it will hardly be the cheaper way, and giving up costs a part of the scan that
 * follows at most. */
void sieve_begin(struct sieve *s, const struct filter *f, const struct view *v, uint32_t ef);
/* A walk's question: may the slot, LIVE under `word`, be a result? */
bool sieve_admits(struct sieve *s, uint32_t slot, uint32_t word);
/* The same without a budget. */
bool sieve_passes(struct sieve *s, uint32_t slot, uint32_t word);
/* The function's word on a label; true without one. */
bool sieve_asks(struct sieve *s, uint64_t label);
/* May the slot hold a label of the set?  By its mark while that is sure, else by its label. */
static inline bool sieve_lists(const struct sieve *s, uint32_t slot)
{
    const struct marks *m = s->filter->marks;
    if (!m)
        return true;
    return s->by_slot ? marks_has(m, slot) : marks_lists(m, view_tag_label(s->view, slot));
}

#endif
