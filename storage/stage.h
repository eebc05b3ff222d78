/* stage.h -- the writer's private after-images: what has been added but not yet committed.
 *
 * Nothing uncommitted ever reaches a published byte of the data file, so there is nothing to
 * undo.  A staged slot is a record {state, row, payload}; `ov[slot]` finds it.  Upper cells have
 * the same.  Arenas are reserved address space, touched as used, so pointers are stable.
 *
 * A private index has no stage: `ov` is NULL, the accessors fall through to the map, and edits are
 * written through to it at once.
 *
 * S1  A stage holds whole items only when somebody holds the write lock exclusively.
 * S2  Room for the worst case of an item is checked before its first record (stage_room), so
 *     nothing after that can fail.
 * S3  ov and ov_upper are zero wherever no record stands; clearing touches used entries only.
 * S4  Several adders stage at once.  A record of a slot or of its cells is made, and its row, flags
 *     and state are changed, under the lock of that slot's node (or the write lock held
 *     exclusively).  Others read without a lock: ov and flags acquire what they announce, row
 *     words are each valid by themselves.
 */
#ifndef NAVMAP_STORAGE_STAGE_H
#define NAVMAP_STORAGE_STAGE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "storage/layout.h"
#include "storage/view.h"

#define STAGE_CELL_BYTES_MAX (64u << 20)    /* of one commit record */
#define STAGE_LABELS_MAX 32768u             /* label changes of one commit */
#define STAGE_LOGGED_BYTES_MAX (256u << 10) /* payloads beyond this go direct (FORMAT.md, log) */

/* A word of ov: a record number + 1, and what most askers want to know without the cache line of
 * the record. */
#define OV_LOGGED 0x80000000u /* STAGE_LOGGED */
#define OV_STATE 0x40000000u  /* STAGE_STATE, and then the status: */
#define OV_STATUS(word) ((enum slot_status)((word) >> 28 & 3u))
#define OV_ROW 0x08000000u /* STAGE_ROW */
#define OV_NUMBER(word) ((word)&0x07ffffffu)

enum stage_flag {
    STAGE_STATE = 1,  /* state is an image */
    STAGE_ROW = 2,    /* row is an image */
    STAGE_LOGGED = 4, /* payload is an image in the arena */
    STAGE_DIRECT = 8, /* payload is in the data file already, unsynced until C2 */
};

struct stage_slot {
    uint32_t slot;
    _Atomic uint32_t flags; /* enum stage_flag */
    _Atomic uint32_t state; /* word */
    uint32_t gen;           /* of a staged payload */
    uint64_t vsum;          /* of a staged payload */
    uint8_t *payload;       /* STAGE_LOGGED: tag, code row, vector row */
    _Atomic uint32_t row[]; /* row_stride bytes */
};

struct stage_upper {
    uint32_t cell;
    uint32_t reserved[3];
    _Atomic uint32_t ids[]; /* upper_stride bytes */
};

/* One label's change within the stage: from what LMDB has to what it shall have. */
struct stage_label {
    uint64_t label;
    uint32_t old_slot, old_gen; /* old_slot 0 = the label is absent in LMDB */
    uint32_t new_slot, new_gen; /* new_slot 0 = to be absent */
};

struct stage {
    const struct view *view;
    _Atomic uint32_t *ov;       /* [ov_slots]: 0, or a word as above; NULL = write-through */
    _Atomic uint32_t *ov_upper; /* [ov_cells] */
    uint64_t ov_slots, ov_cells;
    uint8_t *slots;    /* arena of struct stage_slot, slot_stride apart (stage_slot_at) */
    uint8_t *uppers;   /* arena of struct stage_upper, upper_stride apart */
    uint8_t *payloads; /* arena of STAGE_LOGGED_BYTES_MAX */
    uint64_t slots_cap, uppers_cap, payloads_bytes;
    _Atomic uint32_t n_slots, n_uppers;
    _Atomic uint32_t n_logged;   /* raised before the payload's slot is announced */
    uint32_t n_labels, n_direct; /* these and all below: items.c, J1 */
    uint32_t slot_stride, upper_stride;
    uint64_t logged_bytes;
    uint64_t items;             /* staged items and marks, for stats()['pending'] */
    struct stage_label *labels; /* in order of first change */
    uint32_t *label_hash;       /* open addressing: 0, or index + 1 */
    struct disk_root root;      /* the next ROOT image; lsn and sum are set at C1 */
    bool root_changed;
};

/* Allocate for this view; the root is copied from it. */
navmap_status stage_open(struct stage *stage, const struct view *view) NAVMAP_MUST_USE;
/* The same for a private index: nothing is staged, so nothing is allocated. */
void stage_open_through(struct stage *stage, const struct view *view);
void stage_close(struct stage *stage);
/* The view grew or was replaced: enlarge ov and ov_upper. */
navmap_status stage_follow(struct stage *stage, const struct view *view) NAVMAP_MUST_USE;
void stage_clear(struct stage *stage);
bool stage_empty(const struct stage *stage);
/* May `items` items with `levels` upper levels be staged, each linking in the worst case
 * 2*M0 + levels*M other rows and changing two labels?  False: commit first. */
bool stage_room(const struct stage *stage, uint32_t items, uint32_t levels);
/* How many items to make room for at a time: some, but no more than a commit can carry. */
uint32_t stage_items(const struct stage *stage);
/* May `n` further rows and uppers be edited (sweep)? */
bool stage_room_rows(const struct stage *stage, uint32_t n);
/* Upper bound of the commit record's bytes so far. */
uint64_t stage_bytes(const struct stage *stage);

/* Records; creating one cannot fail after stage_room.  A new slot record has no flag and no
 * content; a new upper record is a copy of `ids`, or empty when NULL. */
struct stage_slot *stage_slot_get(struct stage *stage, uint32_t slot);
/* Flags, in the record and in ov, once what they announce is there (S4). */
void stage_slot_flag(struct stage *stage, struct stage_slot *record, uint32_t flags);
void stage_slot_state(struct stage *stage, struct stage_slot *record, uint32_t state);
struct stage_upper *stage_upper_get(struct stage *stage, uint32_t cell,
                                    const _Atomic uint32_t *ids);
struct stage_label *stage_label_find(const struct stage *stage, uint64_t label);
struct stage_label *stage_label_add(struct stage *stage, uint64_t label, uint32_t old_slot,
                                    uint32_t old_gen);
/* Take back the newest record (an item given up before it linked). */
void stage_slot_pop(struct stage *stage);
void stage_upper_pop(struct stage *stage);
void stage_label_pop(struct stage *stage);

/* Its row begins on a cache line; what stands before it is on another, which walks have no need
 * of: they know from ov that there is a row. */
#define STAGE_SLOT_AT (64u - sizeof(struct stage_slot))
static_assert(sizeof(struct stage_slot) <= 64, "in the line before the row");

static inline struct stage_slot *stage_slot_at(const struct stage *e, uint32_t number)
{
    uint64_t at = STAGE_SLOT_AT + (uint64_t)number * e->slot_stride;
    return (struct stage_slot *)(void *)(e->slots + at);
}
static inline struct stage_upper *stage_upper_at(const struct stage *e, uint32_t number)
{
    return (struct stage_upper *)(void *)(e->uppers + (uint64_t)number * e->upper_stride);
}

/* The writer's view of the graph: staged if changed, else committed.  For adders inside an item,
 * and with the write lock held. ----------------------------------------------------------------*/

static inline uint32_t edit_word(const struct stage *e, uint32_t slot)
{
    return e->ov ? atomic_load_explicit(&e->ov[slot], memory_order_acquire) : 0; /* S4 */
}
static inline const struct stage_slot *edit_record_of(const struct stage *e, uint32_t word)
{
    return OV_NUMBER(word) != 0 ? stage_slot_at(e, OV_NUMBER(word) - 1) : NULL;
}
/* The record of a slot, with all that was staged before it was announced; NULL when it has none. */
static inline const struct stage_slot *edit_record(const struct stage *e, uint32_t slot)
{
    return edit_record_of(e, edit_word(e, slot));
}
static inline bool edit_has(const struct stage_slot *r, enum stage_flag flag)
{
    return r && (atomic_load_explicit(&r->flags, memory_order_acquire) & flag) != 0; /* S4 */
}
static inline uint32_t edit_state(const struct stage *e, uint32_t slot)
{
    uint32_t word = edit_word(e, slot);
    return atomic_load_explicit(word & OV_STATE ? &edit_record_of(e, word)->state
                                                : view_state(e->view, slot),
                                memory_order_acquire);
}
/* Its status alone, without a look at the record. */
static inline enum slot_status edit_status(const struct stage *e, uint32_t slot)
{
    uint32_t word = edit_word(e, slot);
    return word & OV_STATE ? OV_STATUS(word)
                           : STATE_STATUS(atomic_load_explicit(view_state(e->view, slot),
                                                               memory_order_acquire));
}
static inline const _Atomic uint32_t *edit_row(const struct stage *e, uint32_t slot)
{
    uint32_t word = edit_word(e, slot);
    return word & OV_ROW ? edit_record_of(e, word)->row : view_row(e->view, slot);
}
/* A staged payload: tag, code row, vector row, one after the other; NULL = what the map has. */
static inline const uint8_t *edit_payload(const struct stage *e, uint32_t slot)
{
    uint32_t word = edit_word(e, slot);
    return word & OV_LOGGED ? edit_record_of(e, word)->payload : NULL;
}
static inline const struct disk_tag *edit_tag(const struct stage *e, uint32_t slot)
{
    const uint8_t *p = edit_payload(e, slot);
    return p ? (const struct disk_tag *)(const void *)p : view_tag(e->view, slot);
}
static inline const uint8_t *edit_code(const struct stage *e, uint32_t slot)
{
    const uint8_t *p = edit_payload(e, slot);
    return p ? p + e->view->layout.tag_stride : view_code(e->view, slot);
}
static inline const void *edit_vec(const struct stage *e, uint32_t slot)
{
    const uint8_t *p = edit_payload(e, slot);
    return p ? p + e->view->layout.tag_stride + e->view->layout.code_stride
             : view_vec(e->view, slot);
}
/* Is every payload where the map has it?  Asked after the ids in question were read and an acquire
 * fence, it holds for all of them: then view_vec() does, which spares a look at ov for each. */
static inline bool edit_payloads_mapped(const struct stage *e)
{
    return atomic_load_explicit(&e->n_logged, memory_order_relaxed) == 0;
}
/* tag.up of a slot, which another adder may be giving its first payload. */
static inline uint32_t edit_up(const struct stage *e, uint32_t slot)
{
    const uint8_t *p = edit_payload(e, slot);
    return p ? ((const struct disk_tag *)(const void *)p)->up : view_tag_up(e->view, slot);
}
/* Upper row of `slot` at `level` >= 1, or NULL when the slot does not reach that level. */
static inline const _Atomic uint32_t *edit_upper(const struct stage *e, uint32_t slot,
                                                 uint32_t level)
{
    uint32_t up = edit_up(e, slot);
    uint32_t cell = TAG_CELL(up) + level - 1;
    if (level > TAG_LEVEL(up) || cell >= view_cells(e->view))
        return NULL;
    if (e->ov_upper) {
        uint32_t n = atomic_load_explicit(&e->ov_upper[cell], memory_order_acquire); /* S4 */
        if (n != 0)
            return stage_upper_at(e, n - 1)->ids;
    }
    return view_upper(e->view, cell);
}

#endif
