/* commit.c -- one commit, from its first direct payload word to the return of the call.
 *
 *      payload_store   words of the direct payloads, straight into the file
 *      C2              sync of the sectors they touch
 *      C3, C4          one LMDB transaction; durable = committed
 *      C5              apply
 *      C6              acknowledge
 *
 * The checkpointer may take the env lock wherever this does not hold it.
 */
#include "tests/model/model.h"

#include <string.h>

/* Each new payload goes its own way, by a coin. */
static slot_set choose_direct(struct room *room, slot_set payload)
{
    slot_set direct = 0;
    for (unsigned s = 1; s <= SLOTS; s++)
        if (has_slot(payload, s) && room_chance(room, room->weather.direct_in_256))
            direct = (slot_set)(direct | 1u << s);
    return direct;
}

/* A payload cell always travels with STATE and ROW of its slot; ROOT always changes (its lsn). */
static void build_record(struct room *room, const struct stage *stage, struct cells *record)
{
    const struct image *next = stage->next;
    record->root = true;
    record->root_words[0] = next->lsn;
    record->root_words[1] = root_pack(next->lsn, next->entry, next->nslots);
    record->direct = choose_direct(room, stage->payload);
    record->payload = (slot_set)(stage->payload & ~record->direct);
    record->state = stage->state | stage->payload;
    record->row = stage->row | stage->payload;
    memcpy(record->state_words, next->state, sizeof record->state_words);
    memcpy(record->row_words, next->row, sizeof record->row_words);
    memcpy(record->payload_words, next->payload, sizeof record->payload_words);
    for (unsigned s = 1; s <= SLOTS; s++)
        if (has_slot(record->direct, s))
            record->vsum[s] = payload_vsum(s, state_gen(next->state[s]), next->payload[s]);
    room->counts->direct += (unsigned)__builtin_popcount(record->direct);
}

static void push_direct(struct room *room, struct script *script, const struct cells *record)
{
    bool touched[SECTORS] = {false};
    for (unsigned s = 1; s <= SLOTS; s++) {
        for (unsigned w = 0; has_slot(record->direct, s) && w < PAYLOAD_WORDS; w++) {
            unsigned at = room_payload_at(room, s, w);
            script_push(script, STEP_STORE, at, record->payload_words[s][w]);
            touched[at / SECTOR_WORDS] = true;
        }
    }
    script_shuffle(room, script, 0);

    if (room->variant == DIRECT_UNSYNCED)
        return;
    unsigned from = script->n;
    for (unsigned i = 0; i < SECTORS; i++)
        if (touched[i])
            script_push(script, STEP_SYNC, i, 0);
    script_shuffle(room, script, from);
}

static void push_transaction(const struct room *room, struct script *script)
{
    script_push(script, STEP_ENV_LOCK, 0, 0);
    script_push(script, STEP_COMMIT_TXN, 0, 0);
    script_push(script, STEP_PC, 0, 0);
    if (room->variant != APPLY_NOT_DURABLE)
        script_push(script, STEP_DUR, 0, 0);
    script_push(script, STEP_MTI, 0, 0);
    if (room->variant != COPY_OUTSIDE_LOCK)
        script_push(script, STEP_MEMORY, 0, 0);
    script_push(script, STEP_ENV_UNLOCK, 0, 0);
}

bool commit_start(struct room *room)
{
    if (room->last == LSN_MAX || room->n_records == RECORDS_MAX ||
        room->n_versions + ITEMS_MAX > VERSIONS_MAX)
        return false;

    struct image *next = &room->model[room->last + 1];
    *next = room->model[room->last];
    next->lsn++;
    struct stage stage = {.base = &room->model[room->last], .next = next};
    stage_items(room, &stage);

    struct cells *record = &room->record[room->n_records++];
    build_record(room, &stage, record);

    struct script *script = &room->main;
    script_clear(script);
    push_direct(room, script, record);
    push_transaction(room, script);
    apply_compile(room, script, record);
    if (room->variant == APPLY_NOT_DURABLE)
        script_push(script, STEP_DUR, 0, 0);
    if (room->variant == COPY_OUTSIDE_LOCK)
        script_push(script, STEP_MEMORY, 0, 0);
    script_push(script, STEP_ACK, 0, 0);
    room_trace(room, "commit %u of %u cells", next->lsn,
               (unsigned)__builtin_popcount(record->state) +
                   (unsigned)__builtin_popcount(record->row));
    return true;
}

/* C3: the record under its lsn, the label map, meta.state. */
void commit_txn(struct room *room, struct script *script)
{
    struct snapshot *txn = &script->txn;
    const struct image *next = &room->model[room->last + 1];
    txn->last = (uint8_t)next->lsn;
    txn->rec[next->lsn] = (uint8_t)(room->n_records - 1);
    for (unsigned l = 1; l <= LABELS; l++) {
        unsigned slot = next->home[l];
        txn->label[l].slot = (uint8_t)slot;
        txn->label[l].gen = slot != 0 ? state_gen(next->state[slot]) : 0;
    }
}
