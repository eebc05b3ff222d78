/* stage.h -- the writer's private after-images: what has been added but not yet committed.
 *
 * Nothing uncommitted ever reaches a published byte of the data file, so there is nothing to
 * undo.  A staged slot is a record {state, row, payload}; `ov[slot]` finds it.  Upper cells have
 * the same.  Arenas are reserved address space, touched as used, so pointers are stable.
 *
 * S1  A stage holds whole items only when nobody holds the write lock.
 * S2  Room for the worst case of an item is checked before its first record (stage_room), so
 *     nothing after that can fail.
 * S3  ov and ov_upper are zero wherever no record stands; clearing touches used entries only.
 */
#ifndef NAVMAP_STORAGE_STAGE_H
#define NAVMAP_STORAGE_STAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/layout.h"
#include "storage/view.h"

#define STAGE_CELL_BYTES_MAX (64u << 20)    /* of one commit record */
#define STAGE_LABELS_MAX 32768u             /* label changes of one commit */
#define STAGE_LOGGED_BYTES_MAX (256u << 10) /* payloads beyond this go direct (FORMAT.md, log) */

enum stage_flag {
    STAGE_STATE = 1,  /* state is an image */
    STAGE_ROW = 2,    /* row is an image */
    STAGE_LOGGED = 4, /* payload is an image in the arena */
    STAGE_DIRECT = 8, /* payload is in the data file already, unsynced until C2 */
};

struct stage_slot {
    uint32_t slot;
    uint32_t flags;   /* enum stage_flag */
    uint32_t state;   /* word */
    uint32_t gen;     /* of a staged payload */
    uint64_t vsum;    /* of a staged payload, computed at C1 */
    uint8_t *payload; /* STAGE_LOGGED: tag, code row, vector row */
    uint32_t row[];   /* row_stride bytes */
};

struct stage_upper {
    uint32_t cell;
    uint32_t reserved[3];
    uint32_t ids[]; /* upper_stride bytes */
};

/* One label's change within the stage: from what LMDB has to what it shall have. */
struct stage_label {
    uint64_t label;
    uint32_t old_slot, old_gen; /* old_slot 0 = the label is absent in LMDB */
    uint32_t new_slot, new_gen; /* new_slot 0 = to be absent */
};

struct stage {
    const struct view *view;
    uint32_t *ov;       /* [ov_slots]: 0, or record number + 1 */
    uint32_t *ov_upper; /* [ov_cells] */
    uint64_t ov_slots, ov_cells;
    uint8_t *slots;    /* arena of struct stage_slot, slot_stride apart */
    uint8_t *uppers;   /* arena of struct stage_upper, upper_stride apart */
    uint8_t *payloads; /* arena: STAGE_LOGGED_BYTES_MAX, then room for one that goes direct */
    uint64_t slots_cap, uppers_cap, payloads_bytes;
    uint32_t n_slots, n_uppers, n_labels, n_direct, n_logged;
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
void stage_close(struct stage *stage);
/* The view grew or was replaced: enlarge ov and ov_upper. */
navmap_status stage_follow(struct stage *stage, const struct view *view) NAVMAP_MUST_USE;
void stage_clear(struct stage *stage);
bool stage_empty(const struct stage *stage);
/* May an item with `levels` upper levels be staged, linking in the worst case M0 + levels*M other
 * rows?  False: commit first. */
bool stage_room(const struct stage *stage, uint32_t levels);
/* May `n` further rows and uppers be edited (sweep)? */
bool stage_room_rows(const struct stage *stage, uint32_t n);
/* Upper bound of the commit record's bytes so far. */
uint64_t stage_bytes(const struct stage *stage);

/* Records; creating one cannot fail after stage_room.  A new record copies nothing. */
struct stage_slot *stage_slot_get(struct stage *stage, uint32_t slot);
struct stage_upper *stage_upper_get(struct stage *stage, uint32_t cell);
struct stage_label *stage_label_find(const struct stage *stage, uint64_t label);
struct stage_label *stage_label_add(struct stage *stage, uint64_t label, uint32_t old_slot,
                                    uint32_t old_gen);
/* Take back the newest record (an item given up before it linked). */
void stage_slot_pop(struct stage *stage);
void stage_upper_pop(struct stage *stage);
void stage_label_pop(struct stage *stage);

static inline struct stage_slot *stage_slot_at(const struct stage *e, uint32_t number)
{
    return (struct stage_slot *)(void *)(e->slots + (uint64_t)number * e->slot_stride);
}
static inline struct stage_upper *stage_upper_at(const struct stage *e, uint32_t number)
{
    return (struct stage_upper *)(void *)(e->uppers + (uint64_t)number * e->upper_stride);
}

/* The writer's view of the graph: staged if changed, else committed.  Write lock held. ----------*/

static inline uint32_t edit_state(const struct stage *e, uint32_t slot)
{
    uint32_t n = e->ov[slot];
    if (n != 0 && (stage_slot_at(e, n - 1)->flags & STAGE_STATE))
        return stage_slot_at(e, n - 1)->state;
    return atomic_load_explicit(view_state(e->view, slot), memory_order_relaxed);
}
static inline const uint32_t *edit_row(const struct stage *e, uint32_t slot)
{
    uint32_t n = e->ov[slot];
    if (n != 0 && (stage_slot_at(e, n - 1)->flags & STAGE_ROW))
        return stage_slot_at(e, n - 1)->row;
    return (const uint32_t *)(const void *)view_row(e->view, slot);
}
/* The tag, code row and vector row of a slot; staged logged payloads live in the arena. */
static inline const struct disk_tag *edit_tag(const struct stage *e, uint32_t slot)
{
    uint32_t n = e->ov[slot];
    if (n != 0 && (stage_slot_at(e, n - 1)->flags & STAGE_LOGGED))
        return (const struct disk_tag *)(const void *)stage_slot_at(e, n - 1)->payload;
    return view_tag(e->view, slot);
}
static inline const uint8_t *edit_code(const struct stage *e, uint32_t slot)
{
    uint32_t n = e->ov[slot];
    if (n != 0 && (stage_slot_at(e, n - 1)->flags & STAGE_LOGGED))
        return stage_slot_at(e, n - 1)->payload + e->view->layout.tag_stride;
    return view_code(e->view, slot);
}
static inline const float *edit_vec(const struct stage *e, uint32_t slot)
{
    uint32_t n = e->ov[slot];
    if (n != 0 && (stage_slot_at(e, n - 1)->flags & STAGE_LOGGED))
        return (const float *)(const void *)(stage_slot_at(e, n - 1)->payload +
                                             e->view->layout.tag_stride +
                                             e->view->layout.code_stride);
    return view_vec(e->view, slot);
}
/* Upper row of `slot` at `level` >= 1, or NULL when the slot does not reach that level. */
static inline const uint32_t *edit_upper(const struct stage *e, uint32_t slot, uint32_t level)
{
    uint32_t up = edit_tag(e, slot)->up;
    uint32_t cell = TAG_CELL(up) + level - 1;
    if (level > TAG_LEVEL(up) || cell >= view_cells(e->view))
        return NULL;
    uint32_t n = e->ov_upper[cell];
    if (n != 0)
        return stage_upper_at(e, n - 1)->ids;
    return (const uint32_t *)(const void *)view_upper(e->view, cell);
}

#endif
