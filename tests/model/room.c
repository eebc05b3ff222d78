/* room.c -- the ground the model stands on: chance, the layout of its words, and the hardware.
 *
 * Everything a crash does to the world is here, because what survives it is the whole question:
 *
 *                      mem    disk    LMDB pc    LMDB dur    LMDB mti      writer    readers
 *      kill            kept   kept    kept       kept        kept or pc    gone      kept
 *      power cut       disk   kept    pc or dur  the same    the same      gone      gone
 *
 * mti, the number in LMDB's lock file by which read transactions choose their snapshot, outlives a
 * killed writer only while some other process keeps the lock file in use; otherwise the next
 * opener sets it from the newest meta page.
 */
#include "tests/model/model.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A counter stepped by the golden ratio, its bits mixed by two multiplications: 64 good bits for a
 * few cycles, any seed as good as any other, and the same on every machine. */
static uint64_t mix64(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t room_random(struct room *room)
{
    room->rng += UINT64_C(0x9e3779b97f4a7c15);
    return mix64(room->rng);
}

unsigned room_roll(struct room *room, unsigned n)
{
    return (unsigned)((room_random(room) >> 32) * n >> 32);
}

bool room_chance(struct room *room, unsigned in_256)
{
    return room_roll(room, 256) < in_256;
}

unsigned room_pick(struct room *room, slot_set set)
{
    if (set == 0)
        return 0;
    unsigned skip = room_roll(room, (unsigned)__builtin_popcount(set));
    while (skip-- > 0)
        set = (slot_set)(set & (set - 1));
    return (unsigned)__builtin_ctz(set);
}

void room_shuffle(struct room *room, uint8_t *list, unsigned n)
{
    for (unsigned i = n; i > 1; i--) {
        unsigned j = room_roll(room, i);
        uint8_t other = list[j];
        list[j] = list[i - 1];
        list[i - 1] = other;
    }
}

unsigned room_root_at(const struct room *room, unsigned word)
{
    return room->root_base + word;
}

unsigned room_state_at(const struct room *room, unsigned slot)
{
    return room->state_base + (slot - 1) * room->state_stride;
}

unsigned room_row_at(const struct room *room, unsigned slot, unsigned word)
{
    return room->row_base + (slot - 1) * room->row_stride + word;
}

unsigned room_payload_at(const struct room *room, unsigned slot, unsigned word)
{
    return room->payload_base + (slot - 1) * room->payload_stride + word;
}

/* Half of the schedules lay the cells out as the file does, an array for each kind; half put the
 * cells of a slot side by side, so that one sector holds payload, state and row together and a
 * payload's sync drags the others along.  The protocol must not care. */
static void lay_out(struct room *room)
{
    unsigned at = room_roll(room, SHIFT_MAX + 1);
    room->root_base = (uint8_t)at;
    at += ROOT_WORDS;
    if (room_chance(room, 128)) {
        room->state_stride = 1;
        room->row_stride = ROW_WORDS;
        room->payload_stride = PAYLOAD_WORDS;
        room->state_base = (uint8_t)at;
        room->row_base = (uint8_t)(at + SLOTS);
        room->payload_base = (uint8_t)(at + SLOTS + SLOTS * ROW_WORDS);
    } else {
        uint8_t stride = 1 + ROW_WORDS + PAYLOAD_WORDS;
        room->state_stride = room->row_stride = room->payload_stride = stride;
        room->state_base = (uint8_t)at;
        room->row_base = (uint8_t)(at + 1);
        room->payload_base = (uint8_t)(at + 1 + ROW_WORDS);
    }
}

/* ROOT's second word.  Its sum lets a reader of a half-stored ROOT know that it is one. */
uint32_t root_pack(uint32_t lsn, unsigned entry, unsigned nslots)
{
    uint32_t low = entry | nslots << 4;
    return low | (uint32_t)(mix64((uint64_t)lsn << 32 | low) << 8);
}

uint64_t payload_vsum(unsigned slot, uint32_t gen, const uint32_t words[PAYLOAD_WORDS])
{
    uint64_t sum = mix64((uint64_t)slot << 32 | gen);
    for (unsigned w = 0; w < PAYLOAD_WORDS; w++)
        sum = mix64(sum ^ words[w]);
    return sum;
}

/* An empty index, synced: slot 0 is taken by "no neighbour", so the first free one is 1. */
void room_reset(struct room *room, uint64_t seed, enum variant variant, struct counts *counts)
{
    room->rng = mix64(seed + 1);
    room->variant = variant;
    room->counts = counts;
    lay_out(room);

    memset(&room->model[0], 0, sizeof room->model[0]);
    room->model[0].nslots = 1;
    memset(room->mem, 0, sizeof room->mem);
    room->mem[room_root_at(room, 1)] = root_pack(0, 0, 1);
    memcpy(room->disk, room->mem, sizeof room->disk);
    memset(&room->pc, 0, sizeof room->pc);
    room->pc.first = 1;
    room->dur = room->mti = room->pc;
    room->apply_begin = room->apply_end = 0;

    room->life = RUNNING;
    room->last = room->ckpt = room->applied = room->acked = 0;
    room->env_owner = NULL;
    room->sweep = (struct sweep){0, 0};
    script_clear(&room->main);
    script_clear(&room->checkpoint);
    memset(room->reader, 0, sizeof room->reader);

    room->n_records = 0;
    room->n_versions = 0;
    room->stores = room->ticks = 0;
    room->symptom = NO_SYMPTOM;
}

/* The kernel may do this to any sector at any time: nobody may depend on its not happening. */
void room_write_back(struct room *room, unsigned sector)
{
    unsigned at = sector * SECTOR_WORDS;
    memcpy(room->disk + at, room->mem + at, SECTOR_WORDS * sizeof room->mem[0]);
}

static void writer_dies(struct room *room)
{
    if (room->life == RUNNING)
        script_clear(&room->checkpoint);
    script_clear(&room->main);
    room->env_owner = NULL;
    room->sweep.doomed = 0;
    room->life = RECOVERING;
}

void room_kill(struct room *room)
{
    bool others = room_chance(room, 128);
    for (unsigned r = 0; r < READERS; r++)
        others |= room->reader[r].attached;
    room_trace(room, "KILL -9%s", others ? ", a reader process lives" : "");
    *(room->life == RUNNING ? &room->counts->kills : &room->counts->recovery_kills) += 1;
    if (!others)
        room->mti = room->pc;
    writer_dies(room);
}

void room_power_cut(struct room *room)
{
    *(room->life == RUNNING ? &room->counts->power_cuts : &room->counts->recovery_power_cuts) += 1;
    for (unsigned s = 0; s < SECTORS; s++)
        if (room_chance(room, room->weather.keep_in_256))
            room_write_back(room, s);
    memcpy(room->mem, room->disk, sizeof room->mem);
    bool meta = room_chance(room, 128);
    if (!meta)
        room->pc = room->dur;
    room->dur = room->mti = room->pc;
    room_trace(room, "POWER CUT, LMDB's last meta page %s: last %u, ckpt %u",
               meta ? "made it" : "had to be durable", room->dur.last, room->dur.ckpt);

    /* LIVE is trusted by nobody after this: any values will do. */
    room->apply_begin = room_roll(room, 64);
    room->apply_end = room_roll(room, 64);
    memset(room->reader, 0, sizeof room->reader);
    writer_dies(room);
}

void room_violation(struct room *room, enum symptom symptom)
{
    if (room->symptom != NO_SYMPTOM)
        return;
    room->symptom = symptom;
    room_trace(room, "VIOLATION: %s", symptom_text[symptom]);
}

void room_trace(const struct room *room, const char *format, ...)
{
    if (!room->trace)
        return;
    va_list args;
    va_start(args, format);
    printf("%7llu  ", (unsigned long long)room->ticks);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

void room_cell_name(const struct room *room, unsigned at, char *ret_name, size_t size)
{
    snprintf(ret_name, size, "root");
    for (unsigned s = 1; s <= SLOTS; s++) {
        if (at == room_state_at(room, s))
            snprintf(ret_name, size, "state[%u]", s);
        for (unsigned w = 0; w < ROW_WORDS; w++)
            if (at == room_row_at(room, s, w))
                snprintf(ret_name, size, "row[%u].%u", s, w);
        for (unsigned w = 0; w < PAYLOAD_WORDS; w++)
            if (at == room_payload_at(room, s, w))
                snprintf(ret_name, size, "payload[%u].%u", s, w);
    }
}
