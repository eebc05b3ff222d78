/* checkpoint.c -- the fuzzy checkpoint, a thread beside the writer.
 *
 *      K1  L = applied_lsn
 *      K2  every sector reaches the disk, in any order, while commits go on
 *      K3  under the env lock, one LMDB transaction: ckpt = L, one slice of the log deleted;
 *          then a transaction for each further slice
 *
 * What is left of the log when the process dies between slices is at or below ckpt: ignored by
 * recovery, deleted by later checkpoints.
 */
#include "tests/model/model.h"

void checkpoint_push_slice(struct script *script, enum step_kind txn)
{
    script_push(script, txn, 0, 0);
    script_push(script, STEP_PC, 0, 0);
    script_push(script, STEP_DUR, 0, 0);
    script_push(script, STEP_MTI, 0, 0);
}

static void push_cut(struct script *script)
{
    script->slice = script->n;
    script_push(script, STEP_ENV_LOCK, 0, 0);
    checkpoint_push_slice(script, STEP_CUT_TXN);
    script_push(script, STEP_MEMORY, 0, 0);
    script_push(script, STEP_ENV_UNLOCK, 0, 0);
    script_push(script, STEP_CUT_MORE, 0, 0);
}

bool checkpoint_start(struct room *room)
{
    if (room->applied == room->ckpt && room->pc.first > room->ckpt)
        return false;

    struct script *script = &room->checkpoint;
    script_clear(script);
    script->sampled = room->pc.last;
    if (room->variant != LATE_SAMPLE)
        script_push(script, STEP_SAMPLE, 0, 0);
    if (room->variant == CUT_BEFORE_SYNC)
        push_cut(script);
    script_push_sync_all(room, script);
    if (room->variant == LATE_SAMPLE)
        script_push(script, STEP_SAMPLE, 0, 0);
    if (room->variant != CUT_BEFORE_SYNC)
        push_cut(script);
    script_push(script, STEP_CKPT_DONE, 0, 0);
    return true;
}

void checkpoint_cut(struct script *script)
{
    struct snapshot *txn = &script->txn;
    if (script->cut > txn->ckpt)
        txn->ckpt = script->cut;
    for (unsigned i = 0; i < SLICE && txn->first <= script->cut; i++)
        txn->first++;
}
