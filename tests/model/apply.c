/* apply.c -- P0..P5: after-images to stores, in the order that keeps readers right.
 *
 *      P0  apply_begin rises above both counters
 *      P1  for each slot with a new payload: its bytes if logged, then its state word
 *      P2  rows of those slots, then all other rows
 *      P3  ROOT
 *      P4  all other state words
 *      P5  apply_end = apply_begin
 *
 * A commit and a recovery apply by the same list; recovery's images may just be older.
 */
#include "tests/model/model.h"

static void push_state(const struct room *room, struct script *script, const struct cells *cells,
                       unsigned slot)
{
    script_push(script, STEP_STORE, room_state_at(room, slot), cells->state_words[slot]);
}

/* The words of one payload in any order, and only then the state that publishes them. */
static void push_births(struct room *room, struct script *script, const struct cells *cells)
{
    uint8_t order[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++)
        order[i] = (uint8_t)(i + 1);
    room_shuffle(room, order, SLOTS);
    for (unsigned i = 0; i < SLOTS; i++) {
        unsigned slot = order[i];
        unsigned from = script->n;
        if (has_slot(cells->payload, slot))
            for (unsigned w = 0; w < PAYLOAD_WORDS; w++)
                script_push(script, STEP_STORE, room_payload_at(room, slot, w),
                            cells->payload_words[slot][w]);
        script_shuffle(room, script, from);
        if (has_slot(cells->payload | cells->direct, slot))
            push_state(room, script, cells, slot);
    }
}

static void push_rows(struct room *room, struct script *script, const struct cells *cells,
                      slot_set slots)
{
    unsigned from = script->n;
    for (unsigned slot = 1; slot <= SLOTS; slot++)
        if (has_slot(slots, slot))
            for (unsigned w = 0; w < ROW_WORDS; w++)
                script_push(script, STEP_STORE, room_row_at(room, slot, w),
                            cells->row_words[slot][w]);
    script_shuffle(room, script, from);
}

static void push_root(struct room *room, struct script *script, const struct cells *cells)
{
    unsigned from = script->n;
    for (unsigned w = 0; cells->root && w < ROOT_WORDS; w++)
        script_push(script, STEP_STORE, room_root_at(room, w), cells->root_words[w]);
    script_shuffle(room, script, from);
}

void apply_compile(struct room *room, struct script *script, const struct cells *cells)
{
    slot_set born = cells->payload | cells->direct;

    script_push(script, STEP_APPLY_BEGIN, 0, 0);
    if (room->variant != ROWS_FIRST)
        push_births(room, script, cells);
    push_rows(room, script, cells, cells->row & born);
    push_rows(room, script, cells, (slot_set)(cells->row & ~born));
    if (room->variant == ROWS_FIRST)
        push_births(room, script, cells);
    push_root(room, script, cells);

    unsigned from = script->n;
    for (unsigned slot = 1; slot <= SLOTS; slot++)
        if (has_slot((slot_set)(cells->state & ~born), slot))
            push_state(room, script, cells, slot);
    script_shuffle(room, script, from);
    script_push(script, STEP_APPLY_END, 0, 0);
}
