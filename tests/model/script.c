/* script.c -- executes scripts, one step at a time.
 *
 * A thread of the writer process is a list of steps compiled in advance (commit.c, checkpoint.c,
 * recover.c) and this interpreter.  So the order of a thread's effects can be read off the place
 * that compiles it, a broken variant is a list in another order, and the schedule may put anything
 * between any two steps.
 *
 * LMDB here is three copies of a snapshot.  A write transaction starts from pc, which is what
 * taking LMDB's mutex makes of mti too, works on script.txn, and ends by the steps PC, DUR, MTI.
 */
#include "tests/model/model.h"

void script_clear(struct script *script)
{
    script->n = script->at = 0;
}

void script_push(struct script *script, enum step_kind kind, unsigned a, uint32_t value)
{
    if (script->n == STEPS_MAX)
        __builtin_trap(); /* the limits of model.h do not fit each other */
    script->step[script->n++] = (struct step){(uint8_t)kind, (uint8_t)a, value};
}

/* Steps from..n happen in any order. */
void script_shuffle(struct room *room, struct script *script, unsigned from)
{
    for (unsigned i = script->n; i > from + 1; i--) {
        unsigned j = from + room_roll(room, i - from);
        struct step other = script->step[j];
        script->step[j] = script->step[i - 1];
        script->step[i - 1] = other;
    }
}

void script_push_sync_all(struct room *room, struct script *script)
{
    unsigned from = script->n;
    for (unsigned s = 0; s < SECTORS; s++)
        script_push(script, STEP_SYNC, s, 0);
    script_shuffle(room, script, from);
}

/* "Re-read meta.state inside the write transaction": with every sync succeeding and LOCK in its
 * place, a difference is a sound handle refused. */
static void begin_txn(struct room *room, struct script *script)
{
    room->mti = room->pc;
    script->txn = room->pc;
    if (room->pc.last != room->last || room->pc.ckpt != room->ckpt)
        room_violation(room, POISONED);
}

static void acknowledge(struct room *room)
{
    room->applied = room->last;
    room->acked = room->last;
    room->counts->commits++;
    room_trace(room, "ack %u", room->last);
}

static void opened(struct room *room, const struct script *script)
{
    unsigned last = script->cut;
    check_recovered(room, last);
    room->last = room->pc.last;
    room->ckpt = room->pc.ckpt;
    room->applied = room->acked = (uint8_t)last;
    room->life = RUNNING;
    room->counts->recoveries++;
    room_trace(room, "opened at %u", last);
}

static void checkpoint_done(struct room *room, const struct script *script)
{
    room->counts->checkpoints++;
    if (room->pc.last != script->sampled || !script_idle(&room->main))
        room->counts->checkpoints_beside++;
    room_trace(room, "checkpoint done, log from %u", room->pc.first);
}

static uint32_t next_apply(const struct room *room)
{
    return (room->apply_begin > room->apply_end ? room->apply_begin : room->apply_end) + 1;
}

static const char *const step_name[] = {
    [STEP_STORE] = "store",
    [STEP_SYNC] = "sync",
    [STEP_ENV_LOCK] = "env lock",
    [STEP_ENV_UNLOCK] = "env unlock",
    [STEP_COMMIT_TXN] = "C3 txn",
    [STEP_PC] = "meta in page cache",
    [STEP_DUR] = "meta durable",
    [STEP_MTI] = "meta seen by read txns",
    [STEP_MEMORY] = "memory's copy",
    [STEP_APPLY_BEGIN] = "P0",
    [STEP_APPLY_END] = "P5",
    [STEP_ACK] = "C6",
    [STEP_SAMPLE] = "K1",
    [STEP_CUT_TXN] = "K3 txn",
    [STEP_CUT_MORE] = "K3 more?",
    [STEP_CKPT_DONE] = "K3 done",
    [STEP_RECOVER_TXN] = "O3 txn",
    [STEP_EVEN_BEGIN] = "O6 begin = max + 1",
    [STEP_EVEN_END] = "O6 end = begin",
    [STEP_GATHER] = "O6 gather",
    [STEP_REPLAY] = "O6 replay",
    [STEP_ROOT_CHECK] = "O7",
    [STEP_RECOVER_CUT] = "O8 cut",
    [STEP_OPENED] = "open returns",
};

static void trace_step(const struct room *room, const struct script *script,
                       const struct step *step)
{
    const char *who = room->life == RECOVERING ? "recovery" : "writer";
    if (script == &room->checkpoint)
        who = "ckpt";
    char cell[32] = "";
    if (step->kind == STEP_STORE)
        room_cell_name(room, step->a, cell, sizeof cell);
    room_trace(room, "%-9s %-22s %s %u = 0x%x", who, step_name[step->kind], cell, step->a,
               step->value);
}

bool script_step(struct room *room, struct script *script)
{
    const struct step step = script->step[script->at];
    if (step.kind == STEP_ENV_LOCK && room->env_owner != NULL)
        return false;
    if (room->trace)
        trace_step(room, script, &step);
    script->at++;
    switch ((enum step_kind)step.kind) {
    case STEP_STORE:
        room->mem[step.a] = step.value;
        room->stores++;
        break;
    case STEP_SYNC:
        room_write_back(room, step.a);
        break;
    case STEP_ENV_LOCK:
        room->env_owner = script;
        break;
    case STEP_ENV_UNLOCK:
        room->env_owner = NULL;
        break;
    case STEP_COMMIT_TXN:
        begin_txn(room, script);
        commit_txn(room, script);
        break;
    case STEP_PC:
        room->pc = script->txn;
        break;
    case STEP_DUR:
        room->dur = room->pc;
        break;
    case STEP_MTI:
        room->mti = room->pc;
        break;
    case STEP_MEMORY:
        room->last = script->txn.last;
        room->ckpt = script->txn.ckpt;
        break;
    case STEP_APPLY_BEGIN:
        room->apply_begin = next_apply(room);
        break;
    case STEP_APPLY_END:
        room->apply_end = room->apply_begin;
        break;
    case STEP_ACK:
        acknowledge(room);
        break;
    case STEP_SAMPLE:
        script->cut = room->applied;
        break;
    case STEP_CUT_TXN:
        begin_txn(room, script);
        checkpoint_cut(script);
        break;
    case STEP_CUT_MORE:
        if (script->txn.first <= script->cut)
            script->at = script->slice;
        break;
    case STEP_CKPT_DONE:
        checkpoint_done(room, script);
        break;
    case STEP_RECOVER_TXN:
        recover_txn(room, script);
        break;
    case STEP_EVEN_BEGIN:
        room->apply_begin = next_apply(room);
        break;
    case STEP_EVEN_END:
        room->apply_end = room->apply_begin;
        break;
    case STEP_GATHER:
        recover_gather(room, script, step.a);
        break;
    case STEP_REPLAY:
        recover_replay(room, script);
        break;
    case STEP_ROOT_CHECK:
        recover_root_check(room, script);
        break;
    case STEP_RECOVER_CUT:
        recover_cut(room, script);
        break;
    case STEP_OPENED:
        opened(room, script);
        break;
    }
    return true;
}
