/* graph.h -- what the graph is to those who walk it: rows, distances, greedy descent.
 *
 * Two graphs are walked by one code: the committed one, which may change under the walk (a query,
 * reader protocol q1..q4 of storage/store.h), and the writer's own with its staged changes (an
 * insertion, of which several may be under way, or a repair).
 *
 * G1  An id read from a row is used only if 0 < id < nslots, a cell only if < ncells (W2, W3).
 * G2  Every walk ends on any content: the beam search meets each id at most once, the descent
 *     moves only to a strictly smaller distance, a level is at most LAYOUT_LEVEL_MAX.
 * G3  Committed graph: any id may be walked through; only LIVE slots that the filter admits are
 *     results, and the state word that said so stays with them.  A distance is a hint until
 *     query.c has re-checked it.
 * G4  Writer's graph: FREE slots are not walked, DEAD ones and the `dying` slot are walked but are
 *     no results, LIVE and DELETED ones that reach the level are.
 * G5  An index with codes is walked, and its links are chosen, by the distances of codes; one
 *     without by those of vectors.  Both are hints where a search is concerned.
 */
#ifndef NAVMAP_ENGINE_GRAPH_H
#define NAVMAP_ENGINE_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/distance/distance.h"
#include "engine/scratch.h"
#include "storage/stage.h"
#include "storage/view.h"

struct sieve; /* filter.h */

struct graph {
    const struct view *view;
    const struct stage *edit; /* NULL: the committed graph */
    const struct distance *distance;
    uint32_t nslots, ncells;
    uint32_t M, M0;
    uint32_t dying;           /* writer: the slot that the item in hand supersedes, or 0 */
    uint32_t self;            /* the slot in hand, which a beam search does not meet, or 0 */
    bool all_live;            /* nobody asks on the way what is LIVE; see walk.h, K3 */
    bool unsure;              /* writer: that is said although some are DEAD (insert.c, A10) */
    bool live_only;           /* writer: DELETED ones are no results either (repair.c, R5) */
    struct sieve *sieve;      /* committed graph: which labels are results; NULL = all */
    struct codes_query *pair; /* writer: room for a node in hand (scratch.h) */
};

/* What distances are measured to. */
struct target {
    const float *vector;
    const struct codes_query *code; /* NULL: the index has no codes (G5) */
};

/* An id of a row that others may be changing. */
static inline uint32_t row_get(const _Atomic uint32_t *row, uint32_t i)
{
    return atomic_load_explicit(&row[i], memory_order_relaxed);
}
static inline void row_put(_Atomic uint32_t *row, uint32_t i, uint32_t id)
{
    atomic_store_explicit(&row[i], id, memory_order_relaxed);
}

/* Loads that follow see what the words loaded so far were published with. */
static inline void fence_acquire(void)
{
#if defined(__SANITIZE_THREAD__) && defined(__GNUC__) && !defined(__clang__)
/* gcc warns that ThreadSanitizer does not model fences; no report depends on it, since every word
 * read around this fence is itself atomic. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
    atomic_thread_fence(memory_order_acquire);
#pragma GCC diagnostic pop
#else
    atomic_thread_fence(memory_order_acquire);
#endif
}

void graph_of_view(const struct view *view, const struct distance *distance,
                   struct graph *ret_graph);
/* The writer's; s lends it `pair`. */
void graph_of_edit(const struct stage *edit, const struct distance *distance, struct scratch *s,
                   struct graph *ret_graph);

/* Writer: may the slot be linked to at this level (G4)? */
bool graph_linkable(const struct graph *g, uint32_t slot, uint32_t level);
/* Writer: the ids of a row, or NULL when the slot does not reach the level. */
const _Atomic uint32_t *graph_edit_row(const struct graph *g, uint32_t slot, uint32_t level);
/* Writer: the slot's level, as far as it has rows in the file, whatever its tag says. */
uint32_t graph_level(const struct graph *g, uint32_t slot);

/* Writer: copy the ids of a row that are in range; how many.  `ids` has room for M0. */
uint32_t graph_copy_row(const struct graph *g, uint32_t slot, uint32_t level, uint32_t *ids);

/* Split an entry word; false for an empty graph or one that names no slot of the mapping. */
bool graph_entry(const struct graph *g, uint64_t entry, uint32_t *ret_slot, uint32_t *ret_level);

/* A vector as the target: coded into s->query where there are codes. */
struct target graph_target(const struct graph *g, struct scratch *s, const float *vector);
/* Writer: a node as the target, its code in `room` where there are codes, its vector where there
 * are halves and no codes. */
struct target graph_target_node(const struct graph *g, uint32_t slot, struct codes_query *room);
/* Writer: a number that orders candidates, at most FLT_MAX. */
float graph_distance(const struct graph *g, const struct target *to, uint32_t slot);
/* Writer: the same of n <= M0 + 1 slots; s->hops[0] is working memory. */
void graph_distances(const struct graph *g, struct scratch *s, const struct target *to,
                     const uint32_t *slots, uint32_t n, float *ret);

/* From `slot` at level `from` down to level `to` + 1: the nearest slot that a greedy walk finds.
 * With from <= to it is `slot` itself. */
uint32_t graph_descend(const struct graph *g, struct scratch *s, const struct target *to_what,
                       uint32_t slot, uint32_t from, uint32_t to);

#endif
