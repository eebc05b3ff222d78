/* structure.h -- what the files of navmap_check share: what is looked at, and when a suspicion is a
 * finding.
 *
 * K1  The committed state is read as a search reads it, beside adders, deleters and the sweep.
 *     What looks wrong is a suspicion, and a finding only if it is seen in a quiet moment as well:
 *       on a writer's handle, a private index included, with the write lock held exclusively, so
 *       that items are whole and no commit is being applied;
 *       on a reader's, if no apply began or ended meanwhile (pairing "apply" in CONCURRENCY.md).
 *     Where a reader finds no quiet moment the suspicion is dropped, and one warning says so.
 * K2  The bounds are those of the beginning: slots that came later are not judged.
 * K3  The rows of DEAD slots may name FREE ones: a sweep leaves the rows of what it frees alone,
 *     and frees them in several commits if they are many.
 * K4  No lock is held while the caller's report runs.
 */
#ifndef NAVMAP_ENGINE_STRUCTURE_H
#define NAVMAP_ENGINE_STRUCTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/index.h"
#include "engine/navmap.h"
#include "engine/reach.h"
#include "storage/finding.h"
#include "storage/store.h"

struct structure {
    struct store *store;
    navmap_report *report; /* may be NULL */
    void *ctx;
    struct view *view;  /* the newest at the last quiet moment: a private index moves as it grows */
    struct reach reach; /* over the same view; nslots is the bound (K2) */
    uint32_t ncells;
    uint32_t *owner; /* [ncells] the slot that was seen to own an upper cell */
    uint32_t *stamp; /* [nslots] the last row that named the slot */
    uint32_t mark;
    uint32_t *ids; /* [M0] the row that was last looked at */
    uint32_t n_ids;
    bool bad;             /* the last suspicion became a finding */
    bool restless;        /* one was dropped for want of a quiet moment */
    bool unasked;         /* the label table cannot be asked from here */
    bool labels_end;      /* for that, or for its damage */
    navmap_status status; /* why the check cannot go on */
    struct navmap_check_result result;
};

/* A slot whose tag is damaged, which was said: others are not blamed for linking to it. */
#define STRUCTURE_BAD REACH_USER

/* Is the thing sound?  On false *f is filled. */
typedef bool structure_check(struct structure *t, uint64_t what, struct finding *f);
/* Run a check; report its finding if it is certain (K1). */
navmap_status structure_settle(struct structure *t, structure_check *check,
                               uint64_t what) NAVMAP_MUST_USE;

static inline bool structure_in_use(uint32_t word)
{
    return STATE_STATUS(word) != SLOT_FREE;
}

/* structure_cells.c: states and tags, then rows, counted into t->result. */
navmap_status structure_slots(struct structure *t) NAVMAP_MUST_USE;
navmap_status structure_rows(struct structure *t) NAVMAP_MUST_USE;
/* structure_root.c: the root before, and its counters and the labels after the slots. */
navmap_status structure_root(struct structure *t) NAVMAP_MUST_USE;
navmap_status structure_labels(struct structure *t) NAVMAP_MUST_USE;

#endif
