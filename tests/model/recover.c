/* recover.c -- a writer opens after a crash.
 *
 *      O2  LMDB's newest meta page is made durable
 *      O3  a write transaction begins, which makes it visible; all that follows is inside it
 *      O5  the file is not older than its log
 *      O6  the newest image of each logged cell is gathered, the payloads written directly are
 *          checked, and all of it is applied (P0..P5); or, with an empty log, the counters are
 *          made even
 *      O7  ROOT agrees
 *      O8  K2, then K3's first slice as this transaction's commit
 *
 * It may be killed or lose power at each step, and start again.
 */
#include "tests/model/model.h"

#include <string.h>

static void push_even(struct script *script)
{
    script_push(script, STEP_EVEN_BEGIN, 0, 0);
    script_push(script, STEP_EVEN_END, 0, 0);
}

void recover_start(struct room *room)
{
    struct script *script = &room->main;
    script_clear(script);
    room->gathered = (struct cells){.root = false};
    if (room->variant != NO_ENV_SYNC)
        script_push(script, STEP_DUR, 0, 0);
    script_push(script, STEP_RECOVER_TXN, 0, 0);
}

static void check_age(struct room *room, const struct snapshot *txn)
{
    uint32_t lsn = room->mem[room_root_at(room, 0)];
    uint32_t word = room->mem[room_root_at(room, 1)];
    if (word == root_pack(lsn, word & 15, word >> 4 & 15) && lsn < txn->ckpt)
        room_violation(room, FILE_OLDER_THAN_LOG);
}

/* O3, O5, and the rest of the script as far as the log's length decides it. */
void recover_txn(struct room *room, struct script *script)
{
    if (room->variant == READ_TXN_RECOVERY) {
        script->txn = room->mti;
    } else {
        room->mti = room->pc;
        script->txn = room->pc;
    }
    const struct snapshot *txn = &script->txn;
    script->cut = txn->last;
    check_age(room, txn);
    if (txn->first > txn->ckpt + 1)
        room_violation(room, LOG_HOLE);

    bool empty = txn->ckpt == txn->last;
    if (empty || room->variant == EARLY_COUNTERS)
        push_even(script);
    if (empty) {
        script_push(script, STEP_ROOT_CHECK, 0, 0);
        script_push(script, STEP_OPENED, 0, 0);
        return;
    }
    for (unsigned lsn = txn->last; lsn > txn->ckpt; lsn--)
        script_push(script, STEP_GATHER, lsn, 0);
    script_push(script, STEP_REPLAY, 0, 0);
}

/* Newest first: a cell already remembered has a newer image. */
void recover_gather(struct room *room, struct script *script, unsigned lsn)
{
    const struct cells *record = &room->record[script->txn.rec[lsn]];
    struct cells *all = &room->gathered;

    slot_set settled = all->payload | all->direct;
    if (room->variant == DIRECT_NO_IMAGE)
        settled = all->payload;
    slot_set payload = (slot_set)(record->payload & ~settled);
    slot_set direct = (slot_set)(record->direct & ~(all->payload | all->direct));
    slot_set state = (slot_set)(record->state & ~all->state);
    slot_set row = (slot_set)(record->row & ~all->row);

    if (record->root && !all->root) {
        memcpy(all->root_words, record->root_words, sizeof all->root_words);
        all->root = true;
    }
    for (unsigned s = 1; s <= SLOTS; s++) {
        if (has_slot(payload, s))
            memcpy(all->payload_words[s], record->payload_words[s], sizeof all->payload_words[s]);
        if (has_slot(direct, s))
            all->vsum[s] = record->vsum[s];
        if (has_slot(state, s))
            all->state_words[s] = record->state_words[s];
        if (has_slot(row, s))
            memcpy(all->row_words[s], record->row_words[s], sizeof all->row_words[s]);
    }
    all->payload |= payload;
    all->direct |= direct;
    all->state |= state;
    all->row |= row;
}

/* Each direct payload that is some slot's newest must be in the file, unless the slot is FREE
 * again: then its bytes may be those of a later direct store that never committed. */
static void check_vsums(struct room *room)
{
    const struct cells *all = &room->gathered;
    for (unsigned s = 1; s <= SLOTS; s++) {
        if (!has_slot(all->direct, s))
            continue;
        bool free_again = state_status(all->state_words[s]) == FREE;
        if (free_again && room->variant != VSUM_OF_FREE)
            continue;
        /* a sweep raises the generation, which is part of the sum: take the one it had */
        uint32_t gen = state_gen(all->state_words[s]) - free_again;
        const uint32_t *words = &room->mem[room_payload_at(room, s, 0)];
        if (payload_vsum(s, gen, words) != all->vsum[s])
            room_violation(room, free_again ? SOUND_REFUSED : DIRECT_LOST);
    }
}

static void push_checkpoint(struct room *room, struct script *script)
{
    if (room->variant == CUT_BEFORE_SYNC)
        checkpoint_push_slice(script, STEP_RECOVER_CUT);
    script_push_sync_all(room, script);
    if (room->variant != CUT_BEFORE_SYNC)
        checkpoint_push_slice(script, STEP_RECOVER_CUT);
}

void recover_replay(struct room *room, struct script *script)
{
    check_vsums(room);
    if (room->variant == OLDEST_FIRST) {
        for (unsigned lsn = script->txn.ckpt + 1u; lsn <= script->txn.last; lsn++)
            apply_compile(room, script, &room->record[script->txn.rec[lsn]]);
    } else {
        apply_compile(room, script, &room->gathered);
    }
    script_push(script, STEP_ROOT_CHECK, 0, 0);
    push_checkpoint(room, script);
    script_push(script, STEP_OPENED, 0, 0);
}

void recover_root_check(struct room *room, const struct script *script)
{
    uint32_t lsn = room->mem[room_root_at(room, 0)];
    uint32_t word = room->mem[room_root_at(room, 1)];
    unsigned entry = word & 15, nslots = word >> 4 & 15;
    if (word != root_pack(lsn, entry, nslots) || lsn != script->cut || nslots < 1 ||
        nslots > SLOTS + 1 || entry >= nslots)
        room_violation(room, ROOT_WRONG);
}

/* The commit of recovery's own transaction.  One that only read needs another to write. */
void recover_cut(struct room *room, struct script *script)
{
    if (room->variant == READ_TXN_RECOVERY)
        script->txn = room->mti = room->pc;
    checkpoint_cut(script);
}
