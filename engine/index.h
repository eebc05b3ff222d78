/* index.h -- the handle, for the rooms of the engine only.
 *
 * N1  Everything in struct navmap_index but the shelf is set at open and never changes, except the
 *     fields under "write lock", which are touched between store_write_begin() and
 *     store_write_end() only, and what navmap_compact() changes with M, alone in the handle.
 */
#ifndef NAVMAP_ENGINE_INDEX_H
#define NAVMAP_ENGINE_INDEX_H

#include "engine/crew.h"
#include "engine/distance/distance.h"
#include "engine/filter.h"
#include "engine/graph.h"
#include "engine/navmap.h"
#include "engine/scratch.h"
#include "storage/store.h"

struct navmap_index {
    struct store *store;
    const struct layout *layout; /* the store's */
    struct distance distance;
    struct shelf shelf;
    double level_scale; /* 1 / ln M */
    uint32_t durability;
    struct crew *crew;
    uint64_t serial;                  /* no other handle of this process ever had it */
    _Atomic uint64_t reserved_labels; /* new labels that calls under way were promised room for */
    /* write lock held exclusively: */
    uint32_t implicit_calls;   /* navmap_add() calls without labels that are under way */
    uint64_t implicit_next;    /* the number after the last one handed to them */
    bool vacuum;               /* the sweep under way is one (repair.c, R5) */
    uint64_t marked_meanwhile; /* DELETED since it began */
    uint64_t sweep_members;    /* slots that it frees */
    uint64_t sweeps;           /* that came to their end so far */
    uint64_t rows_repaired;    /* by all of them */
};

/* No graph: rows and entry mean nothing, every search is a scan, nothing is swept. */
static inline bool index_flat(const navmap_index *ix)
{
    return (ix->layout->flags & HEADER_FLAT) != 0;
}

/* Bytes of a node in what walks read most: codes, or vectors where there are none. */
static inline uint32_t index_walk_stride(const navmap_index *ix)
{
    return ix->layout->code_stride ? ix->layout->code_stride : ix->layout->vec_stride;
}

/* enum navmap_codes */
static inline uint32_t index_codes(const navmap_index *ix)
{
    return ix->layout->code_scheme ? NAVMAP_CODES_I8 : NAVMAP_CODES_NONE;
}

/* NULL and fork, for every call.  `what` names the call. */
navmap_status index_check(const navmap_index *ix, const char *what) NAVMAP_MUST_USE;
/* The same and NAVMAP_EREADONLY. */
navmap_status index_check_writer(const navmap_index *ix, const char *what) NAVMAP_MUST_USE;
/* Every float of n rows is finite, else NAVMAP_EINVAL with row and column. */
navmap_status index_check_finite(const navmap_index *ix, const char *what, const float *vectors,
                                 uint64_t n) NAVMAP_MUST_USE;
/* n finite rows can be stored as this index stores them, else NAVMAP_EINVAL with row and column. */
navmap_status index_check_range(const navmap_index *ix, const char *what, const float *vectors,
                                uint64_t n) NAVMAP_MUST_USE;
/* A caller's options structure (its first field is its size) into one of ours: a shorter one is
 * refused, of a longer one the unknown rest must be zero.  NULL gives zeros. */
navmap_status index_copy_options(const void *options, size_t size, const char *name,
                                 void *ret_options) NAVMAP_MUST_USE;

/* insert.c: one item, beside others. */
struct insert {
    uint64_t label;
    const float *vector;  /* dim floats, as the caller gave them */
    uint64_t batch_items; /* of the call */
    bool replace;         /* a deleted item */
    bool has_level;       /* not to be drawn: */
    uint32_t level;
    _Atomic uint64_t *promised; /* what the call still has of ix->reserved_labels */
};
navmap_status index_insert(navmap_index *ix, struct scratch *s,
                           const struct insert *in) NAVMAP_MUST_USE;
/* A slot that has just become DELETED is bridged (ways.h, W2); and before it the room for that, in
 * stage and scratch.  Write lock held exclusively, in all four. */
navmap_status index_bridge_room(navmap_index *ix, struct scratch *s) NAVMAP_MUST_USE;
void index_bridge(navmap_index *ix, struct scratch *s, uint32_t slot);
/* Links for a slot that was DELETED and is LIVE again, as a new item gets them (ways.h, W3). */
navmap_status index_relink_room(navmap_index *ix, struct scratch *s, uint32_t slot) NAVMAP_MUST_USE;
void index_relink(navmap_index *ix, struct scratch *s, uint32_t slot);

/* exact.c: the best k of the committed index into s->rank, ascending, at most k of them.  `query`
 * is prepared (normalised); `filter` may be NULL. */
navmap_status index_scan(navmap_index *ix, struct scratch *s, const struct filter *filter,
                         const float *query, uint64_t k) NAVMAP_MUST_USE;
/* query.c: the same by a walk with a beam of `ef` >= k, or by a scan where that is cheaper or
 * where there is no graph. */
navmap_status index_walk(navmap_index *ix, struct scratch *s, const struct filter *filter,
                         const float *query, uint64_t k, uint32_t ef) NAVMAP_MUST_USE;
/* search.c: what both searches check, and do for each query of a batch. */
typedef navmap_status index_searcher(navmap_index *ix, struct scratch *s,
                                     const struct filter *filter, const float *query, uint64_t k,
                                     uint32_t ef);
navmap_status index_search(navmap_index *ix, const char *what, index_searcher *searcher,
                           uint64_t nq, const float *queries, uint64_t k,
                           const struct navmap_search_options *options, uint64_t *ret_labels,
                           float *ret_distances, uint64_t *ret_found) NAVMAP_MUST_USE;

/* calibrate.c: o->ef from o->target_recall, if there is one. */
navmap_status index_aim(navmap_index *ix, uint64_t k,
                        struct navmap_search_options *o) NAVMAP_MUST_USE;

/* The measurement of a calibrated index once more, over a graph that is another now.  What fails
 * leaves the curve that there is, if any, unless the handle is poisoned. */
navmap_status index_calibrate_again(navmap_index *ix, uint32_t threads) NAVMAP_MUST_USE;

/* query.c: label and exact distance of a slot, if it still is what `word` said (q5). */
bool index_read_hit(const navmap_index *ix, const struct view *v, const float *query, uint32_t slot,
                    uint32_t word, struct hit *ret_hit);

/* repair.c: is a sweep under way, or has one to begin? */
bool repair_due(const navmap_index *ix);
/* Start or continue the sweep by looking at `slots` slots.  Write lock held
 * exclusively.  What fails
 * leaves the sweep where it was, to be continued by a later call. */
void repair_some(navmap_index *ix, struct scratch *s, uint64_t slots);
#define REPAIR_SLOTS_PER_ITEM 32u

/* rewrite.c: save it as one file, at a path, or (path NULL) into an open one; or only tell how many
 * bytes (ret_bytes not NULL). */
struct rewrite {
    const char *path;
    int fd;
    uint64_t *ret_bytes;
    bool hnswlib;              /* in hnswlib's format; at a path */
    bool directory;            /* a new one; at a path */
    uint32_t codes;            /* enum navmap_codes; 0 = as they are */
    navmap_progress *progress; /* NULL = none */
    void *progress_ctx;
};
navmap_status index_rewrite(navmap_index *ix, const struct rewrite *to) NAVMAP_MUST_USE;
/* check_file.c: storage's findings for the caller's function, which may be NULL: a store_report
 * with a struct passing as its context. */
struct passing {
    navmap_report *report;
    void *ctx;
};
void index_pass_on(void *ctx, const struct store_finding *f);
/* compact_output.c: the index, items in a given order, as a new directory.  Its write lock is held
 * exclusively. */
struct sealing;
navmap_status index_output_directory(navmap_index *ix, const struct sealing *what,
                                     const char *path) NAVMAP_MUST_USE;
/* What the writing is told of codes; NULL = they stay. */
struct recoding;
const struct recoding *index_recode(const navmap_index *ix, uint32_t codes,
                                    struct recoding *ret_recode);
/* A private index of the items of `what`, linked anew in its order. */
struct toil;
struct build_anew {
    uint32_t M, ef_construction; /* the latter 0 = as it is */
    uint32_t codes;              /* enum navmap_codes; 0 = as they are */
    uint32_t threads;
    bool by_slot; /* labels are the slots they have in `ix`, levels those that they have there */
};
navmap_status index_build_anew(navmap_index *ix, const struct sealing *what,
                               const struct build_anew *how, struct toil *toil,
                               navmap_index **ret_index) NAVMAP_MUST_USE;
/* index.c: the store has got another M or other codes; nobody else is in the handle. */
void index_follow(navmap_index *ix);
/* check_file.c: the whole check of a sealed file. */
navmap_status index_verify_file(const char *path, const struct navmap_verify_options *options,
                                navmap_report *report, void *ctx,
                                struct navmap_verify_result *ret_result) NAVMAP_MUST_USE;
/* Load a file of navmap's, with a graph or without. */
navmap_status index_load_any(const char *path, navmap_index **ret_index) NAVMAP_MUST_USE;
/* The same of an index that has just been loaded from one, mapped and not yet changed. */
navmap_status index_verify_loaded(navmap_index *ix, const struct navmap_verify_options *options,
                                  navmap_report *report, void *ctx,
                                  struct navmap_verify_result *ret_result) NAVMAP_MUST_USE;
/* index.c: closes it, and gives back the failure that led to it, with its sentence. */
navmap_status index_close_after(navmap_index *ix, navmap_status status);
/* index.c: a handle for a store that was opened elsewhere (load.c); takes the store over. */
navmap_status index_of_store(struct store *store, navmap_index **ret_index) NAVMAP_MUST_USE;

#endif
