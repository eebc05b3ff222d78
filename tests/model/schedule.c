/* schedule.c -- who makes the next step, and when the next crash comes.
 *
 * One random number a step decides both.  The weights are drawn anew for each schedule: a world in
 * which readers are a hundred times faster than a recovery finds other things than one in which
 * they crawl, and an average of both would find neither.
 *
 *      RUNNING      writer, checkpointer, readers, write-back    kill or power cut -> RECOVERING
 *      RECOVERING   recovery, readers that were there before,    kill or power cut -> RECOVERING
 *                   write-back                                   open returns -> RUNNING
 *
 * At its end a schedule lets the readers finish, cuts the power once more and recovers in peace.
 */
#include "tests/model/model.h"

enum actor { WRITER, CHECKPOINTER, HARDWARE, FIRST_READER };

enum { CRASH_DICE = 1 << 20 }; /* one random number of 20 bits decides on a crash */

enum { TICKS_CALM = 60000, TICKS_MAX = 2000000 };

static unsigned one_of(struct room *room, const unsigned *list, unsigned n)
{
    return list[room_roll(room, n)];
}

#define ONE_OF(room, ...)                                                                          \
    one_of(room, (const unsigned[]){__VA_ARGS__},                                                  \
           sizeof((const unsigned[]){__VA_ARGS__}) / sizeof(unsigned))

static uint32_t per_anybody(uint32_t odds, unsigned share, unsigned sum)
{
    return odds * share / sum;
}

/* Fills the table by which eight random bits name an actor. */
static void share_out(struct room *room)
{
    unsigned weight[FIRST_READER + READERS];
    weight[WRITER] = ONE_OF(room, 2, 8, 8, 32);
    weight[CHECKPOINTER] = ONE_OF(room, 1, 4, 16);
    weight[HARDWARE] = ONE_OF(room, 0, 1, 4, 16);
    unsigned speed = ONE_OF(room, 1, 4, 32, 128);
    for (unsigned r = 0; r < READERS; r++)
        weight[FIRST_READER + r] =
            r < room->weather.readers ? (room_chance(room, 64) ? 1 : speed) : 0;

    unsigned sum = 0, upto = 0, filled = 0;
    for (unsigned a = 0; a < FIRST_READER + READERS; a++)
        sum += weight[a];
    for (unsigned a = 0; a < FIRST_READER + READERS; a++) {
        upto += weight[a];
        while (filled * sum < upto * 256)
            room->weather.actor[filled++] = (uint8_t)a;
    }

    /* crashes per step of the writer or the recovery, made ones per step of anybody: else a world
     * of busy readers would never see a recovery's end */
    struct weather *weather = &room->weather;
    weather->crash_running = per_anybody(weather->crash_running, weight[WRITER], sum);
    weather->crash_recovery = per_anybody(weather->crash_recovery, weight[WRITER], sum);
}

static void draw_weather(struct room *room)
{
    struct weather *weather = &room->weather;
    weather->crash_running = CRASH_DICE / ONE_OF(room, 60, 150, 400, 1000);
    weather->crash_recovery = CRASH_DICE / ONE_OF(room, 20, 40, 80, 200);
    weather->power_in_256 = (uint8_t)ONE_OF(room, 0, 64, 128, 192, 255);
    weather->keep_in_256 = (uint8_t)ONE_OF(room, 0, 64, 128, 192, 255);
    weather->direct_in_256 = (uint8_t)ONE_OF(room, 0, 96, 128, 160, 255);
    weather->filter_in_256 = (uint8_t)ONE_OF(room, 0, 128, 255);
    weather->ckpt_in_256 = (uint8_t)ONE_OF(room, 1, 8, 64);
    weather->readers = (uint8_t)ONE_OF(room, 0, 1, 2, READERS);
    weather->goal = (uint8_t)ONE_OF(room, 6, 12, 20, LSN_MAX);
    share_out(room);
}

/* A reader process may open while a writer runs, or while there is none and the log is empty;
 * recovery holds R exclusively.  One that was there before goes on asking through all of it. */
static bool may_attach(const struct room *room)
{
    return room->life == RUNNING || (script_idle(&room->main) && room->pc.ckpt == room->pc.last);
}

static void reader_turn(struct room *room, struct reader *reader)
{
    if (!reader->attached && !may_attach(room))
        return;
    reader->attached = true;
    reader_step(room, reader);
    if (reader->phase == READ_IDLE && room_chance(room, 16))
        reader->attached = false;
}

/* False: the goal is reached. */
static bool writer_turn(struct room *room)
{
    struct script *script = &room->main;
    if (script_idle(script)) {
        if (room->life == RECOVERING)
            recover_start(room);
        else if (room->last >= room->weather.goal || !commit_start(room))
            return false;
    }
    script_step(room, script);
    return true;
}

static void checkpointer_turn(struct room *room)
{
    struct script *script = &room->checkpoint;
    if (room->life == RECOVERING)
        return;
    if (script_idle(script) &&
        !(room_chance(room, room->weather.ckpt_in_256) && checkpoint_start(room)))
        return;
    script_step(room, script);
}

static bool crash_turn(struct room *room, uint32_t dice)
{
    const struct weather *weather = &room->weather;
    unsigned odds = room->life == RUNNING ? weather->crash_running : weather->crash_recovery;
    if (dice >= odds || room->ticks > TICKS_CALM)
        return false;
    if (room_chance(room, weather->power_in_256))
        room_power_cut(room);
    else
        room_kill(room);
    return true;
}

static void run(struct room *room)
{
    while (room->symptom == NO_SYMPTOM) {
        uint64_t dice = room_random(room);
        if (++room->ticks > TICKS_MAX) {
            room_violation(room, STUCK);
            return;
        }
        if (crash_turn(room, (uint32_t)(dice % CRASH_DICE)))
            continue;
        unsigned actor = room->weather.actor[dice >> 20 & 0xff];
        switch (actor) {
        case WRITER:
            if (!writer_turn(room))
                return;
            break;
        case CHECKPOINTER:
            checkpointer_turn(room);
            break;
        case HARDWARE:
            room_write_back(room, (unsigned)((dice >> 32) * SECTORS >> 32));
            break;
        default:
            reader_turn(room, &room->reader[actor - FIRST_READER]);
        }
    }
}

static void finish(struct room *room)
{
    for (unsigned r = 0; r < READERS; r++)
        while (room->reader[r].phase != READ_IDLE)
            reader_step(room, &room->reader[r]);
    room_power_cut(room);
    recover_start(room);
    while (room->symptom == NO_SYMPTOM && !script_idle(&room->main))
        script_step(room, &room->main);
}

enum symptom schedule_run(struct room *room, uint64_t seed, enum variant variant,
                          struct counts *counts, bool trace)
{
    room->trace = trace;
    room_reset(room, seed, variant, counts);
    draw_weather(room);
    counts->schedules++;
    run(room);
    if (room->symptom == NO_SYMPTOM)
        finish(room);
    return room->symptom;
}
