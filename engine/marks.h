/* marks.h -- which slots hold a live item of a set of labels: one bit a slot, kept up to date.
 *
 * A search that looks at what passes only, by a scan or by hops, asks a bit and not the slot.  The
 * bits are made by one pass over the slots, or by looking labels up where they are few, and grow
 * old with the next change of the index.  Bringing them up to date reads the state words, of which
 * a sum is kept for each part of 512 slots, and looks at the labels of those parts only whose sum
 * is another one.
 *
 * M1  A bit is a hint.  Whoever lets a label out has looked at its slot's state and label
 *     (filter.h, F1); whoever passes a slot over for want of a bit has seen that the marks are
 *     fresh.
 * M2  Fresh is what is told by marks_fresh(): no commit was applied, no item became live, deleted
 *     or undeleted in the view since the pass began that made them.  A part's sum is taken before
 *     its labels are read, so what changes in between is found by the next pass.
 * M3  One thread at a time brings them up to date, the others go by labels meanwhile; nobody waits,
 *     so a child of fork() finds nothing locked for ever: at worst it goes by labels.  Words are
 *     changed while others read them, each to what a later moment knows.
 * M4  Slots mean something in one view only, whose serial is `ground`.  It is changed before the
 *     marks of another view are made; who went by marks looks at it once more, and if it is not its
 *     view's any longer begins again.
 * M5  They may change beside a search that found them fresh.  It then misses an item only if that
 *     moved to another slot during the search, as any search may (exact.c, E1).
 */
#ifndef NAVMAP_ENGINE_MARKS_H
#define NAVMAP_ENGINE_MARKS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/label_set.h"
#include "storage/store.h"

#define MARKS_SHIFT 16u /* slots of a block, as a power of two */
#define MARKS_SLOTS (1u << MARKS_SHIFT)
#define MARKS_PART 512u

struct marks_block {
    _Atomic uint64_t bits[MARKS_SLOTS / 64];
    uint64_t sums[MARKS_SLOTS / MARKS_PART]; /* of state words; 0 = none yet.  M3 */
};

struct marks {
    struct label_set labels;
    bool deny;                           /* the set is of those that do not pass */
    struct marks_block *_Atomic *blocks; /* by slot >> MARKS_SHIFT; NULL = no bit is set there */
    uint32_t n_blocks;                   /* room; slots beyond are asked by label */
    uint32_t end;                        /* of the slots that were looked at; M3 */
    _Atomic uint64_t ground;             /* M4; 0 = none yet */
    _Atomic uint64_t moment;             /* M2: a digest of what it depends on; 0 = never made */
    _Atomic uint64_t n_pass;             /* bits that are set */
    _Atomic bool busy;                   /* M3 */
};

/* Fill in `labels` and `deny` before.  Room for `n_slots` slots. */
navmap_status marks_reserve(struct marks *m, uint64_t n_slots) NAVMAP_MUST_USE;
void marks_free(struct marks *m);
uint64_t marks_bytes(const struct marks *m);

static inline bool marks_lists(const struct marks *m, uint64_t label)
{
    return label_set_has(&m->labels, label) != m->deny;
}

/* The bits of slots [64 i, 64 i + 64). */
static inline uint64_t marks_word(const struct marks *m, uint64_t i)
{
    uint64_t at = i >> (MARKS_SHIFT - 6);
    struct marks_block *b =
        at < m->n_blocks ? atomic_load_explicit(&m->blocks[at], memory_order_acquire) : NULL;
    return b ? atomic_load_explicit(&b->bits[i & (MARKS_SLOTS / 64 - 1)], memory_order_relaxed) : 0;
}
static inline bool marks_has(const struct marks *m, uint32_t slot)
{
    return (marks_word(m, slot >> 6) >> (slot & 63) & 1) != 0;
}

/* What M2 depends on, as it is now.  Never 0. */
uint64_t marks_moment(const struct view *v);
static inline bool marks_fresh(const struct marks *m, uint64_t moment)
{
    return atomic_load_explicit(&m->moment, memory_order_acquire) == moment;
}

/* M4: are they of the view still, after what was read of them? */
static inline bool marks_stayed(const struct marks *m, const struct view *v)
{
    atomic_thread_fence(memory_order_acquire); /* pairing "marks ground" */
    return atomic_load_explicit(&m->ground, memory_order_relaxed) == v->serial;
}

/* Bring them up to date.  NAVMAP_OK also when another thread is at it, or changes come faster than
 * they can be followed: ask marks_fresh().  With `labels`, which are the set's and no others, they
 * may be looked up one by one instead, if that is the cheaper way.  NAVMAP_ENOMEM, and what the
 * label table says. */
navmap_status marks_update(struct marks *m, struct store *store, const struct view *v,
                           const uint64_t *labels, uint64_t n) NAVMAP_MUST_USE;

#endif
