/* check.c -- the oracle: what a recovery and a query must show.
 *
 * It knows room.model[lsn], the whole truth after each commit, noted before that commit's first
 * step; and room.acked, the last commit whose caller was told.  It looks only at what a recovered
 * file, LMDB and a query's answer show, never at how they came about.
 */
#include "tests/model/model.h"

#include <string.h>

static bool root_equal(const struct room *room, const struct image *image)
{
    return room->mem[room_root_at(room, 0)] == image->lsn &&
           room->mem[room_root_at(room, 1)] == root_pack(image->lsn, image->entry, image->nslots);
}

static bool links_equal(const struct room *room, const struct image *image)
{
    for (unsigned s = 1; s <= SLOTS; s++) {
        if (room->mem[room_state_at(room, s)] != image->state[s])
            return false;
        for (unsigned w = 0; w < ROW_WORDS; w++)
            if (room->mem[room_row_at(room, s, w)] != image->row[s][w])
                return false;
    }
    return true;
}

/* Payloads of slots that are not FREE; of the others nothing is promised. */
static enum symptom payload_symptom(const struct room *room, const struct image *image)
{
    for (unsigned s = 1; s <= SLOTS; s++) {
        const uint32_t *now = &room->mem[room_payload_at(room, s, 0)];
        if (state_status(image->state[s]) == FREE ||
            memcmp(now, image->payload[s], sizeof image->payload[s]) == 0)
            continue;
        bool whole_older = now[0] != 0 && now[2] == now[1] + 1 && now[1] < image->payload[s][1];
        return whole_older ? OLDER_PAYLOAD : PAYLOAD_CHANGED;
    }
    return NO_SYMPTOM;
}

static bool labels_equal(const struct snapshot *snapshot, const struct image *image)
{
    for (unsigned l = 1; l <= LABELS; l++) {
        unsigned slot = image->home[l];
        if (snapshot->label[l].slot != slot)
            return false;
        if (slot != 0 && snapshot->label[l].gen != state_gen(image->state[slot]))
            return false;
    }
    return true;
}

/* `last` is what the opener believes; LMDB's page cache holds what was committed. */
void check_recovered(struct room *room, unsigned last)
{
    const struct image *image = &room->model[last];
    enum symptom payload = payload_symptom(room, image);
    if (last < room->acked)
        room_violation(room, ACK_LOST);
    else if (last != room->pc.last)
        room_violation(room, NEVER_APPLIED);
    else if (!root_equal(room, image) || !links_equal(room, image))
        room_violation(room, STATE_DIFFERS);
    else if (payload != NO_SYMPTOM)
        room_violation(room, payload);
    else if (!labels_equal(&room->pc, image))
        room_violation(room, LABELS_DIFFER);
}

/* --- queries ------------------------------------------------------------------------------ */

/* Was this pair label's current one, LIVE, after commit lsn? */
static bool pair_live_at(const struct room *room, const struct pair *pair, unsigned lsn)
{
    const struct image *image = &room->model[lsn];
    unsigned slot = image->home[pair->words[0]];
    return slot != 0 && state_status(image->state[slot]) == LIVE &&
           memcmp(image->payload[slot], pair->words, sizeof pair->words) == 0;
}

static bool pair_live_between(const struct room *room, const struct pair *pair, unsigned lo,
                              unsigned hi)
{
    for (unsigned lsn = lo; lsn <= hi; lsn++)
        if (pair_live_at(room, pair, lsn))
            return true;
    return false;
}

/* V1, V2, V3, V4: the pair is whole, allowed, and was committed at some instant of the query. */
static void check_pair(struct room *room, const struct reader *reader, const struct pair *pair,
                       unsigned hi)
{
    uint32_t label = pair->words[0], version = pair->words[1] / 2;
    bool whole = label >= 1 && label <= LABELS && pair->words[1] % 2 == 0 &&
                 pair->words[2] == pair->words[1] + 1 && version < room->n_versions &&
                 room->version_label[version] == label;
    if (!whole)
        room_violation(room, WRONG_PAIR);
    else if (!(reader->allowed >> label & 1))
        room_violation(room, FILTER_BYPASSED);
    else if (!pair_live_between(room, pair, reader->lo, hi))
        room_violation(room, pair_live_between(room, pair, 0, reader->lo) ? STALE_PAIR
                                                                          : UNCOMMITTED_SEEN);
}

/* V7: the label was LIVE with one pair in one life of one slot from lo to hi. */
static bool untouched(const struct room *room, unsigned label, unsigned lo, unsigned hi)
{
    const struct image *first = &room->model[lo];
    unsigned slot = first->home[label];
    if (slot == 0 || state_status(first->state[slot]) != LIVE)
        return false;
    for (unsigned lsn = lo + 1; lsn <= hi; lsn++) {
        const struct image *image = &room->model[lsn];
        if (image->home[label] != slot || image->state[slot] != first->state[slot] ||
            memcmp(image->payload[slot], first->payload[slot], sizeof image->payload[slot]) != 0)
            return false;
    }
    return true;
}

void check_query(struct room *room, const struct reader *reader)
{
    unsigned hi = room->dur.last;
    unsigned times[LABELS + 1] = {0};
    for (unsigned i = 0; i < reader->n_found; i++) {
        const struct pair *pair = &reader->found[i];
        check_pair(room, reader, pair, hi);
        if (room->symptom != NO_SYMPTOM)
            return;
        if (++times[pair->words[0]] > 1) /* V5 */
            room_violation(room, LABEL_TWICE);
    }
    for (unsigned l = 1; l <= LABELS; l++)
        if (times[l] == 0 && (reader->allowed >> l & 1) && untouched(room, l, reader->lo, hi))
            room_violation(room, LABEL_MISSED);
}
