/* items.c -- what a writer does to an index, without vectors: the items of one commit.
 *
 * The graph is random; what matters is the life of a slot,
 *
 *      FREE --publish--> LIVE <--mark/unmark--> DELETED
 *      LIVE --update of its label--> DEAD       DELETED --label given away--> DEAD
 *      DEAD --sweep--> FREE, generation + 1
 *
 * and its two rules: a slot is handed out only if it was FREE at the last commit (which is
 * applied by now), and DEAD becomes FREE only when no row and no entry names it any more.
 */
#include "tests/model/model.h"

#include <string.h>

static slot_set slots_with(const struct image *image, enum status status)
{
    slot_set set = 0;
    for (unsigned s = 1; s < image->nslots; s++)
        if (state_status(image->state[s]) == status)
            set = (slot_set)(set | 1u << s);
    return set;
}

static slot_set linkable(const struct image *image)
{
    return slots_with(image, LIVE) | slots_with(image, DELETED);
}

static void set_state(struct stage *stage, unsigned slot, enum status status, uint32_t gen)
{
    stage->next->state[slot] = state_word(status, gen);
    stage->state = (slot_set)(stage->state | 1u << slot);
}

static void set_status(struct stage *stage, unsigned slot, enum status status)
{
    set_state(stage, slot, status, state_gen(stage->next->state[slot]));
}

static void set_link(struct stage *stage, unsigned slot, unsigned word, unsigned to)
{
    stage->next->row[slot][word] = to;
    stage->row = (slot_set)(stage->row | 1u << slot);
}

/* --- publication -------------------------------------------------------------------------- */

/* A slot to publish, or 0.  FREE at the last commit, and still so in this one. */
static unsigned take_slot(struct room *room, const struct stage *stage)
{
    const struct image *next = stage->next;
    slot_set set = slots_with(stage->base, FREE) & slots_with(next, FREE);
    if (room->variant == REUSE_SAME_COMMIT)
        set = slots_with(next, FREE);
    if (room->variant == REUSE_DEAD)
        set |= slots_with(stage->base, DEAD) & slots_with(next, DEAD);
    if (next->nslots <= SLOTS)
        set = (slot_set)(set | 1u << next->nslots);
    return room_pick(room, set);
}

static void write_payload(struct room *room, struct stage *stage, unsigned slot, unsigned label)
{
    uint32_t version = room->n_versions++;
    room->version_label[version] = (uint8_t)label;
    uint32_t *words = stage->next->payload[slot];
    words[0] = label;
    words[1] = version * 2;
    words[2] = version * 2 + 1;
    stage->payload = (slot_set)(stage->payload | 1u << slot);
}

/* Up to two neighbours, some of which link back; sometimes the new node becomes the entry. */
static void link_node(struct room *room, struct stage *stage, unsigned slot)
{
    struct image *next = stage->next;
    slot_set others = (slot_set)(linkable(next) & ~(1u << slot));
    for (unsigned w = 0; w < ROW_WORDS; w++) {
        unsigned to = room_chance(room, 200) ? room_pick(room, others) : 0;
        set_link(stage, slot, w, to);
        if (to != 0 && room_chance(room, 200))
            set_link(stage, to, room_roll(room, ROW_WORDS), slot);
    }
    if (next->entry == 0 || room_chance(room, 64))
        next->entry = (uint8_t)slot;
}

static void publish(struct room *room, struct stage *stage, unsigned slot, unsigned label)
{
    struct image *next = stage->next;
    if (slot == next->nslots)
        next->nslots++;
    if (state_status(next->state[slot]) == DEAD || state_gen(next->state[slot]) > 0)
        room->counts->reuses++;
    set_status(stage, slot, LIVE);
    write_payload(room, stage, slot, label);
    link_node(room, stage, slot);
    next->home[label] = (uint8_t)slot;
}

/* --- items: each returns false if the index has nothing to do it to ------------------------ */

/* A label of those whose slot has a status in the set (bit = status); FREE stands for absent. */
static unsigned pick_label(struct room *room, const struct image *image, unsigned statuses)
{
    slot_set set = 0;
    for (unsigned l = 1; l <= LABELS; l++) {
        unsigned slot = image->home[l];
        unsigned status = slot == 0 ? FREE : (unsigned)state_status(image->state[slot]);
        if (statuses >> status & 1)
            set = (slot_set)(set | 1u << l);
    }
    return room_pick(room, set);
}

static bool add_item(struct room *room, struct stage *stage)
{
    unsigned label = pick_label(room, stage->next, 1u << FREE);
    unsigned slot = take_slot(room, stage);
    if (label == 0 || slot == 0)
        return false;
    publish(room, stage, slot, label);
    return true;
}

static bool update_item(struct room *room, struct stage *stage)
{
    unsigned label = pick_label(room, stage->next, 1u << LIVE | 1u << DELETED);
    unsigned slot = take_slot(room, stage);
    if (label == 0 || slot == 0)
        return false;
    unsigned old = stage->next->home[label];
    publish(room, stage, slot, label);
    set_status(stage, old, DEAD);
    return true;
}

static bool mark_item(struct room *room, struct stage *stage)
{
    unsigned label = pick_label(room, stage->next, 1u << LIVE | 1u << DELETED);
    if (label == 0)
        return false;
    unsigned slot = stage->next->home[label];
    bool live = state_status(stage->next->state[slot]) == LIVE;
    set_status(stage, slot, live ? DELETED : LIVE);
    return true;
}

/* A new label on a fresh slot; some deleted label loses its own, which dies. */
static bool replace_item(struct room *room, struct stage *stage)
{
    unsigned old_label = pick_label(room, stage->next, 1u << DELETED);
    unsigned label = pick_label(room, stage->next, 1u << FREE);
    unsigned slot = take_slot(room, stage);
    if (old_label == 0 || label == 0 || slot == 0)
        return false;
    unsigned old = stage->next->home[old_label];
    stage->next->home[old_label] = 0;
    publish(room, stage, slot, label);
    set_status(stage, old, DEAD);
    return true;
}

/* --- sweep -------------------------------------------------------------------------------- */

/* The doomed are the DEAD of a commit boundary: no row can gain a link to them from here on.  The
 * entry leaves them first. */
static void sweep_begin(struct room *room, struct stage *stage)
{
    room->sweep.doomed = slots_with(stage->base, DEAD) & slots_with(stage->next, DEAD);
    room->sweep.cursor = 1;
}

static void sweep_row(struct room *room, struct stage *stage, unsigned slot)
{
    slot_set others = (slot_set)(linkable(stage->next) & ~(1u << slot));
    for (unsigned w = 0; w < ROW_WORDS; w++)
        if (has_slot(room->sweep.doomed, stage->next->row[slot][w]))
            set_link(stage, slot, w, room_pick(room, others));
}

/* Frees what the cursor has cleared of links, in the commit that cleaned the last row at the
 * earliest. */
static void sweep_free(struct room *room, struct stage *stage)
{
    for (unsigned s = 1; s <= SLOTS; s++) {
        uint32_t word = stage->next->state[s];
        if (has_slot(room->sweep.doomed, s) && state_status(word) == DEAD)
            set_state(stage, s, FREE, state_gen(word) + (room->variant != FREE_SAME_GEN));
    }
    room->sweep.doomed = 0;
}

static bool sweep_item(struct room *room, struct stage *stage)
{
    struct image *next = stage->next;
    if (room->sweep.doomed == 0)
        sweep_begin(room, stage);
    if (room->sweep.doomed == 0)
        return false;
    if (has_slot(room->sweep.doomed, next->entry))
        next->entry = (uint8_t)room_pick(room, linkable(next));

    /* rows of slots first used while the sweep goes on were born clean, yet are cleaned too */
    unsigned portion = 1 + room_roll(room, SLOTS);
    while (room->sweep.cursor < next->nslots && portion-- > 0)
        sweep_row(room, stage, room->sweep.cursor++);
    if (room->sweep.cursor >= next->nslots && room_chance(room, 160))
        sweep_free(room, stage);
    return true;
}

/* --- a commit ----------------------------------------------------------------------------- */

static bool one_item(struct room *room, struct stage *stage)
{
    /* a writer out of slots sweeps */
    bool starved = take_slot(room, stage) == 0 || room->sweep.doomed != 0;
    if (starved && room_chance(room, 128) && sweep_item(room, stage))
        return true;
    switch (room_roll(room, 8)) {
    case 0:
    case 1:
        return add_item(room, stage);
    case 2:
    case 3:
        return update_item(room, stage);
    case 4:
        return mark_item(room, stage);
    case 5:
        return replace_item(room, stage);
    default:
        return sweep_item(room, stage);
    }
}

void stage_items(struct room *room, struct stage *stage)
{
    unsigned n = 1 + room_roll(room, ITEMS_MAX);
    while (n > 0)
        n -= one_item(room, stage);
}
