/* filter.h -- which labels a search may return: a list, a function, or both.
 *
 * The list is prepared once for a call: a set of its labels, and a bit for each slot in which one
 * of them lives.  The bits answer without touching the slot, and their number tells the planner
 * what a walk through the graph would cost.  They grow old with the first commit that is applied
 * after them; the set does not.
 *
 * F1  No label leaves that is not of the set: the label that was read under the generation check is
 *     looked up once more at the end (query.c, exact.c).  A bit is a hint.
 * F2  A slot without a bit is passed over only while no commit was applied since the bits were made
 *     ("apply", `by_slot`); after one, labels are asked for.  So an item that moved is not lost.
 *     (In a private index new and undeleted items do not count as commits: the call may miss them.)
 * F3  The function is asked about a label that was read between two looks at the slot's state that
 *     show one generation and LIVE at first: it is never shown half a label.  No lock is held.
 * F4  A prepared filter is read only, so the threads of a call share it; what one query knows is in
 *     its sieve.
 */
#ifndef NAVMAP_ENGINE_FILTER_H
#define NAVMAP_ENGINE_FILTER_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/navmap.h"
#include "storage/store.h"

/* Labels: a bit each from `base` on when they lie close together, else an open hash table. */
struct labels {
    uint64_t *words;
    uint64_t base, span; /* bits; span 0 = a hash table */
    uint64_t mask;       /* entries of the table - 1; an empty one holds 0 */
    uint64_t n;          /* different labels */
    bool zero;           /* the label 0, which the table cannot show */
};

struct filter {
    navmap_filter *ask; /* NULL = no function */
    void *ctx;
    bool listed; /* the rest is set; else every label is in */
    struct labels labels;
    uint64_t *bits; /* by slot */
    uint64_t n_slots;
    uint64_t n_live; /* items in all */
    uint64_t n_pass; /* bits set: live items that are listed; without a list n_live */
    uint64_t epoch;  /* apply_end when they were set */
    bool sure;       /* no apply ran meanwhile, so n_pass and the bits are exact */
};

/* From options whose struct_size was checked; `n_live` items were live just now.  Looks labels up
 * as navmap_get() does.  On failure there is nothing to release.
 * NAVMAP_EINVAL, NAVMAP_ENOMEM.  Cost: 0.25 us a label, or up to 10 ns a slot (30 if
 * labels are far apart). */
navmap_status filter_prepare(struct store *store, const struct navmap_search_options *options,
                             uint64_t n_live, struct filter *ret_filter) NAVMAP_MUST_USE;
void filter_release(struct filter *f);

/* Is the label of the list, or is there none? */
bool filter_lists(const struct filter *f, uint64_t label);

/* Will looking at all listed items cost less than a walk with a beam of `ef`? */
bool filter_prefers_scan(const struct filter *f, uint64_t k, uint32_t ef);
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

/* `epoch` is apply_end as the query began.  A walk with a beam of `ef` is given up when it asked
 * about a quarter of what a scan would look at: from there it will hardly be the cheaper way, and
 * giving up costs a part of the scan that follows at most. */
void sieve_begin(struct sieve *s, const struct filter *f, const struct view *v, uint64_t epoch,
                 uint32_t ef);
/* A walk's question: may the slot, LIVE under `word`, be a result? */
bool sieve_admits(struct sieve *s, uint32_t slot, uint32_t word);
/* The function's word on a label; true without one. */
bool sieve_asks(struct sieve *s, uint64_t label);
/* May the slot hold a listed label?  By its bit while that is sure, else by its label. */
bool sieve_lists(const struct sieve *s, uint32_t slot);

#endif
