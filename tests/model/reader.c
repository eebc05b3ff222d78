/* reader.c -- one query, a single load at a time, in a process of its own.
 *
 * It looks at every slot in random order instead of walking the graph: what a walk would not have
 * reached today it may reach tomorrow, and every slot met must be handled right.
 *
 *      q2  keep apply_end
 *      q3  read links; what they name must have been published
 *      q4  a slot whose state is LIVE becomes a candidate, kept with that very word; a filter
 *          first reads its label and makes sure that it belongs to that word
 *      q5  read label and vector; drop them if the slot's generation is not the kept one, or FREE
 *      q6  if apply_begin is not what q2 kept, remove duplicate labels
 *
 * Nothing here writes to anything shared.
 */
#include "tests/model/model.h"

static uint32_t load_state(const struct room *room, unsigned slot)
{
    return room->mem[room_state_at(room, slot)];
}

static bool same_life(uint32_t now, uint32_t kept)
{
    return state_gen(now) == state_gen(kept) && state_status(now) != FREE;
}

static void begin(struct room *room, struct reader *reader)
{
    for (unsigned i = 0; i < SLOTS; i++)
        reader->order[i] = (uint8_t)(i + 1);
    room_shuffle(room, reader->order, SLOTS);
    for (unsigned w = 0; w < PAYLOAD_WORDS; w++)
        reader->word_order[w] = (uint8_t)w;
    room_shuffle(room, reader->word_order, PAYLOAD_WORDS);

    reader->links = room_chance(room, 128);
    reader->filtered = room_chance(room, room->weather.filter_in_256);
    reader->allowed = reader->filtered ? (uint8_t)room_roll(room, 1u << (LABELS + 1)) : 0xff;
    reader->i = reader->w = 0;
    reader->n_kept = reader->n_found = 0;
    reader->e0 = room->apply_end;
    reader->lo = room->acked;
    reader->stores_at = room->stores;
    reader->phase = reader->links ? READ_LINK : READ_STATE;
}

/* --- the scan: q3, q4 --------------------------------------------------------------------- */

static void next_slot(struct room *room, struct reader *reader)
{
    reader->w = 0;
    if (++reader->i < SLOTS) {
        reader->phase = reader->links ? READ_LINK : READ_STATE;
        return;
    }
    /* candidates come to the re-rank in order of distance, which is any order */
    for (unsigned k = 0; k < reader->n_kept; k++)
        reader->order[k] = (uint8_t)k;
    room_shuffle(room, reader->order, reader->n_kept);
    reader->i = 0;
    reader->phase = reader->n_kept > 0 ? READ_RANK_BEGIN : READ_END;
}

static void read_link(struct room *room, struct reader *reader)
{
    unsigned slot = reader->order[reader->i];
    uint32_t id = room->mem[room_row_at(room, slot, reader->w)];
    reader->w++;
    reader->target = (uint8_t)id;
    if (id > 0 && id <= SLOTS)
        reader->phase = READ_TARGET;
    else if (reader->w == ROW_WORDS)
        reader->phase = READ_STATE;
}

/* I4.  A slot once published never returns to generation 0, so a late look is as good; and what
 * an acknowledged commit published needs no look (there is a variant that frees to 0). */
static void read_target(struct room *room, struct reader *reader)
{
    if (load_state(room, reader->target) == state_word(FREE, 0) &&
        reader->target >= room->model[room->acked].nslots)
        room_violation(room, LINK_UNPUBLISHED);
    reader->phase = reader->w == ROW_WORDS ? READ_STATE : READ_LINK;
}

static void keep(struct room *room, struct reader *reader)
{
    reader->kept[reader->n_kept++] = reader->order[reader->i];
    next_slot(room, reader);
}

static void read_state(struct room *room, struct reader *reader)
{
    uint32_t word = load_state(room, reader->order[reader->i]);
    if (state_status(word) != LIVE) {
        next_slot(room, reader);
        return;
    }
    reader->kept_state[reader->n_kept] = word;
    if (reader->filtered)
        reader->phase = READ_LABEL;
    else
        keep(room, reader);
}

static void read_label_check(struct room *room, struct reader *reader)
{
    uint32_t now = load_state(room, reader->order[reader->i]);
    bool passes = reader->label <= LABELS && (reader->allowed >> reader->label & 1);
    if (same_life(now, reader->kept_state[reader->n_kept]) && passes)
        keep(room, reader);
    else
        next_slot(room, reader);
}

/* --- the re-rank: q5, q6 ------------------------------------------------------------------ */

static void next_candidate(struct reader *reader)
{
    reader->w = 0;
    reader->phase = ++reader->i < reader->n_kept ? READ_RANK_BEGIN : READ_END;
}

static void rank_begin(struct room *room, struct reader *reader)
{
    unsigned k = reader->order[reader->i];
    reader->phase = READ_WORD;
    if (room->variant != RERANK_RELOADS)
        return;
    reader->kept_state[k] = load_state(room, reader->kept[k]);
    if (state_status(reader->kept_state[k]) == FREE)
        next_candidate(reader);
}

static void read_word(struct room *room, struct reader *reader)
{
    unsigned slot = reader->kept[reader->order[reader->i]];
    unsigned w = reader->word_order[reader->w];
    reader->now.words[w] = room->mem[room_payload_at(room, slot, w)];
    if (++reader->w == PAYLOAD_WORDS)
        reader->phase = READ_RECHECK;
}

static void recheck(struct room *room, struct reader *reader)
{
    unsigned k = reader->order[reader->i];
    uint32_t now = load_state(room, reader->kept[k]);
    if (same_life(now, reader->kept_state[k]) || room->variant == RERANK_UNCHECKED)
        reader->found[reader->n_found++] = reader->now;
    next_candidate(reader);
}

/* The nearer of two pairs of one label stays; a version's distance is as random as its number. */
static void remove_duplicates(struct reader *reader)
{
    unsigned n = 0;
    for (unsigned i = 0; i < reader->n_found; i++) {
        unsigned k = 0;
        while (k < n && reader->found[k].words[0] != reader->found[i].words[0])
            k++;
        uint32_t mine = reader->found[i].words[1] * UINT32_C(2654435761);
        if (k == n)
            reader->found[n++] = reader->found[i];
        else if (mine < reader->found[k].words[1] * UINT32_C(2654435761))
            reader->found[k] = reader->found[i];
    }
    reader->n_found = (uint8_t)n;
}

static void end(struct room *room, struct reader *reader)
{
    if (room->apply_begin != reader->e0 && room->variant != NO_DUP_REMOVAL)
        remove_duplicates(reader);
    room->counts->queries++;
    room->counts->queries_beside += room->stores != reader->stores_at;
    check_query(room, reader);
    for (unsigned i = 0; room->trace && i < reader->n_found; i++)
        room_trace(room, "reader %u  found label %u, version %u", (unsigned)(reader - room->reader),
                   reader->found[i].words[0], reader->found[i].words[1] / 2);
    reader->phase = READ_IDLE;
}

static const char *const phase_name[] = {
    [READ_IDLE] = "starts",
    [READ_BEGIN] = "q2 apply_end",
    [READ_LINK] = "q3 row word",
    [READ_TARGET] = "q3 state of the link's target",
    [READ_STATE] = "q4 state",
    [READ_LABEL] = "q4 label",
    [READ_LABEL_CHECK] = "q4 state again",
    [READ_RANK_BEGIN] = "q5 begins",
    [READ_WORD] = "q5 payload word",
    [READ_RECHECK] = "q5 state",
    [READ_END] = "q6 apply_begin",
};

static void trace_step(const struct room *room, const struct reader *reader)
{
    unsigned slot = reader->i < SLOTS ? reader->order[reader->i] : 0;
    if (reader->phase >= READ_RANK_BEGIN && reader->i < reader->n_kept)
        slot = reader->kept[slot];
    room_trace(room, "reader %u  %s, slot %u", (unsigned)(reader - room->reader),
               phase_name[reader->phase], slot);
}

void reader_step(struct room *room, struct reader *reader)
{
    if (room->trace)
        trace_step(room, reader);
    switch ((enum reader_phase)reader->phase) {
    case READ_IDLE:
        reader->phase = READ_BEGIN;
        break;
    case READ_BEGIN:
        begin(room, reader);
        break;
    case READ_LINK:
        read_link(room, reader);
        break;
    case READ_TARGET:
        read_target(room, reader);
        break;
    case READ_STATE:
        read_state(room, reader);
        break;
    case READ_LABEL:
        reader->label = room->mem[room_payload_at(room, reader->order[reader->i], 0)];
        reader->phase = READ_LABEL_CHECK;
        break;
    case READ_LABEL_CHECK:
        read_label_check(room, reader);
        break;
    case READ_RANK_BEGIN:
        rank_begin(room, reader);
        break;
    case READ_WORD:
        read_word(room, reader);
        break;
    case READ_RECHECK:
        recheck(room, reader);
        break;
    case READ_END:
        end(room, reader);
        break;
    }
}
