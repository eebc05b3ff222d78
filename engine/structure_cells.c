/* structure_cells.c -- slots and rows: what a link may name, and how many there are of what.
 *
 * All slots come before all rows: a link is judged by its target, and a target whose tag is damaged
 * must not be blamed on those who link to it.  What is counted is counted by the state words of the
 * beginning, so that the numbers add up beside adders too.
 */
#include <inttypes.h>
#include <string.h>

#include "engine/structure.h"
#include "storage/fail.h"

#define DEGREE_LAST 64u

/* Slots ----------------------------------------------------------------------------------------*/

#define TAG_AT(t, slot, field)                                                                     \
    (layout_tag_off(&(t)->view->layout, slot) + offsetof(struct disk_tag, field))

/* tag.up: a slot of level L owns L cells in a row within one chunk. */
static bool check_up(struct structure *t, uint32_t slot, uint32_t up, struct finding *f)
{
    uint32_t level = TAG_LEVEL(up), cell = TAG_CELL(up);
    uint32_t per = t->view->layout.uppers_per_chunk;
    uint64_t nuppers = view_load64(&view_root(t->view)->nuppers, memory_order_relaxed);
    if (level == 0 && cell != 0)
        return finding_bad(f, "upper", slot, TAG_AT(t, slot, up),
                           "upper cell of a slot of level 0: expected 0, found %" PRIu32, cell);
    if (level == 0)
        return true;
    uint64_t end = (uint64_t)cell + level;
    if (end > nuppers || end > view_cells(t->view))
        return finding_bad(f, "upper", slot, TAG_AT(t, slot, up),
                           "upper cells %" PRIu32 "..%" PRIu64 ": expected below %" PRIu64, cell,
                           end - 1, nuppers);
    if (cell / per != (end - 1) / per)
        return finding_bad(f, "upper", slot, TAG_AT(t, slot, up),
                           "upper cells %" PRIu32 "..%" PRIu64 ": expected in one chunk of %" PRIu32
                           " cells",
                           cell, end - 1, per);
    return true;
}

/* Claims are never taken back: a slot that was published keeps its cells for ever. */
static bool check_owner(struct structure *t, uint32_t slot, uint32_t up, struct finding *f)
{
    for (uint32_t i = 0; i < TAG_LEVEL(up); i++) {
        uint32_t cell = TAG_CELL(up) + i;
        if (cell >= t->ncells)
            return true; /* came later (K2) */
        if (t->owner[cell] == 0)
            t->owner[cell] = slot;
        if (t->owner[cell] != slot)
            return finding_bad(f, "upper", slot, TAG_AT(t, slot, up),
                               "upper cell %" PRIu32 " belongs to slot %" PRIu32 " already", cell,
                               t->owner[cell]);
    }
    return true;
}

static bool check_slot(struct structure *t, uint64_t what, struct finding *f)
{
    uint32_t slot = (uint32_t)what, word = reach_state(t->view, slot);
    if (word == STATE_WORD(0, SLOT_FREE))
        return true; /* never published: its tag may be anything */
    uint32_t up = view_tag_up(t->view, slot);
    uint32_t gen = view_load32(&view_tag(t->view, slot)->gen, memory_order_relaxed);
    if (structure_in_use(word) && gen != STATE_GEN(word))
        return finding_bad(f, "state", slot, layout_state_off(&t->view->layout, slot),
                           "generation: expected %" PRIu32 " as in the tag, found %" PRIu32, gen,
                           STATE_GEN(word));
    return check_up(t, slot, up, f) && check_owner(t, slot, up, f);
}

/* Slot 0 means "none": it is never handed out. */
static bool check_slot_zero(struct structure *t, uint64_t what, struct finding *f)
{
    (void)what;
    uint32_t word = reach_state(t->view, 0);
    if (word != 0)
        return finding_bad(f, "state", 0, layout_state_off(&t->view->layout, 0),
                           "slot 0 is never used: expected 0, found %08" PRIx32, word);
    return true;
}

static void count_slot(struct structure *t, uint32_t slot)
{
    struct navmap_check_result *r = &t->result;
    enum slot_status status = STATE_STATUS(t->reach.before[slot]);
    r->slots++;
    r->live += status == SLOT_LIVE;
    r->deleted += status == SLOT_DELETED;
    r->dead += status == SLOT_DEAD;
    if (status == SLOT_FREE)
        return;
    uint32_t level = TAG_LEVEL(view_tag_up(t->view, slot));
    r->levels[level]++;
    if (level > r->max_level)
        r->max_level = level;
}

navmap_status structure_slots(struct structure *t)
{
    TRY(structure_settle(t, check_slot_zero, 0));
    for (uint32_t slot = 1; slot < t->reach.nslots; slot++) {
        TRY(structure_settle(t, check_slot, slot));
        if (t->bad)
            t->reach.marks[slot] |= STRUCTURE_BAD;
        count_slot(t, slot);
    }
    return NAVMAP_OK;
}

/* Rows -----------------------------------------------------------------------------------------*/

static uint64_t id_at(const struct structure *t, uint32_t slot, uint32_t level, uint32_t i)
{
    const struct layout *l = &t->view->layout;
    uint64_t row = layout_row_off(l, slot);
    if (level > 0)
        row = layout_upper_off(l, TAG_CELL(view_tag_up(t->view, slot)) + level - 1);
    return row + 4 * (uint64_t)i;
}

static void copy_row(struct structure *t, uint32_t slot, uint32_t level)
{
    const _Atomic uint32_t *ids = NULL;
    t->n_ids = reach_row(t->view, slot, level, &ids);
    for (uint32_t i = 0; i < t->n_ids; i++)
        t->ids[i] = atomic_load_explicit(&ids[i], memory_order_relaxed);
}

/* The word of the beginning is nearer than that in the map: who was in use is not asked again. */
static bool is_free(const struct structure *t, uint32_t id)
{
    return !structure_in_use(t->reach.before[id]) && !structure_in_use(reach_state(t->view, id));
}

static bool too_low(const struct structure *t, uint32_t id, uint32_t level)
{
    return level > 0 && !(t->reach.marks[id] & STRUCTURE_BAD) &&
           TAG_LEVEL(view_tag_up(t->view, id)) < level;
}

static uint32_t extent_now(const struct structure *t)
{
    return extent_slots(view_load64(&view_root(t->view)->extent, memory_order_acquire));
}

static void next_mark(struct structure *t)
{
    if (++t->mark != 0)
        return;
    memset(t->stamp, 0, ((size_t)t->reach.nslots + 1) * sizeof(*t->stamp));
    t->mark = 1;
}

/* One id of a row against everything but the rest of the row. */
static bool check_link(struct structure *t, uint32_t slot, uint32_t level, uint32_t i, bool dead,
                       struct finding *f)
{
    const char *section = level == 0 ? "row" : "upper";
    uint32_t id = t->ids[i];
    if (id >= t->reach.nslots) {
        if (id < extent_now(t))
            return true; /* came later (K2) */
        return finding_bad(f, section, slot, id_at(t, slot, level, i),
                           "level %" PRIu32 ", place %" PRIu32 ": expected a slot below %" PRIu32
                           ", found %" PRIu32,
                           level, i, extent_now(t), id);
    }
    if (id == slot)
        return finding_bad(f, section, slot, id_at(t, slot, level, i),
                           "level %" PRIu32 ", place %" PRIu32 ": names its own slot", level, i);
    if (!dead && is_free(t, id)) /* K3 */
        return finding_bad(f, section, slot, id_at(t, slot, level, i),
                           "level %" PRIu32 " names slot %" PRIu32 ", which is FREE", level, id);
    if (too_low(t, id, level))
        return finding_bad(f, section, slot, id_at(t, slot, level, i),
                           "level %" PRIu32 " names slot %" PRIu32 ", which reaches level %" PRIu32
                           " only",
                           level, id, TAG_LEVEL(view_tag_up(t->view, id)));
    return true;
}

/* what = slot << 5 | level.  Leaves the row in t->ids. */
static bool check_row(struct structure *t, uint64_t what, struct finding *f)
{
    uint32_t slot = (uint32_t)(what >> 5), level = (uint32_t)(what & 31), word;
    const char *section = level == 0 ? "row" : "upper";
    t->n_ids = 0;
    word = reach_state(t->view, slot);
    if (!structure_in_use(word))
        return true;
    copy_row(t, slot, level);
    next_mark(t);
    bool ended = false, dead = STATE_STATUS(word) == SLOT_DEAD;
    for (uint32_t i = 0; i < t->n_ids; i++) {
        uint32_t id = t->ids[i];
        if (id == 0) {
            ended = true;
            continue;
        }
        if (ended)
            return finding_bad(f, section, slot, id_at(t, slot, level, i),
                               "level %" PRIu32 ", place %" PRIu32
                               ": expected 0 behind the last link, found %" PRIu32,
                               level, i, id);
        if (!check_link(t, slot, level, i, dead, f))
            return false;
        if (id >= t->reach.nslots)
            continue;
        if (t->stamp[id] == t->mark)
            return finding_bad(f, section, slot, id_at(t, slot, level, i),
                               "level %" PRIu32 ", place %" PRIu32 ": slot %" PRIu32
                               " is named twice",
                               level, i, id);
        t->stamp[id] = t->mark;
    }
    return true;
}

static void count_row(struct structure *t, uint32_t slot, uint32_t level)
{
    struct navmap_check_result *r = &t->result;
    bool dead = STATE_STATUS(t->reach.before[slot]) == SLOT_DEAD;
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->n_ids; i++) {
        uint32_t id = t->ids[i];
        n += id != 0;
        if (id == 0 || id >= t->reach.nslots)
            continue;
        r->dead_links += STATE_STATUS(t->reach.before[id]) == SLOT_DEAD;
        if (t->bad) /* else there are none */
            r->dangling += (!dead && is_free(t, id)) || too_low(t, id, level);
    }
    if (level > 0) {
        r->upper_links += n;
        return;
    }
    r->links += n;
    r->degrees[n < DEGREE_LAST ? n : DEGREE_LAST]++;
}

navmap_status structure_rows(struct structure *t)
{
    if (t->view->layout.flags & HEADER_FLAT) { /* there are none */
        t->result.degrees[0] = t->result.live + t->result.deleted + t->result.dead;
        return NAVMAP_OK;
    }
    for (uint32_t slot = 1; slot < t->reach.nslots; slot++) {
        if (!structure_in_use(t->reach.before[slot]))
            continue;
        uint32_t levels = TAG_LEVEL(view_tag_up(t->view, slot));
        if (t->reach.marks[slot] & STRUCTURE_BAD)
            levels = 0; /* its cells are not known */
        for (uint32_t level = 0; level <= levels; level++) {
            TRY(structure_settle(t, check_row, (uint64_t)slot << 5 | level));
            count_row(t, slot, level);
        }
    }
    return NAVMAP_OK;
}
