/* kill_engine.h -- what the child of test_kill_engine.c tells its parent, in memory that no kill
 * takes away.
 */
#ifndef NAVMAP_TESTS_TORTURE_KILL_ENGINE_H
#define NAVMAP_TESTS_TORTURE_KILL_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "tests/support/oracle.h"

#define WRITERS 6u
#define SEARCHERS 2u
#define OWN 400u /* labels of each writer: numbers n with n % WRITERS == writer */
#define LABELS (WRITERS * OWN)
#define BATCH 24u
#define DIM_MAX 4096u /* where a batch of 16 rows stores its payloads directly */
#define DIM_SMALL 16u
extern uint32_t kill_engine_dim; /* of the index at hand; set before the child is made */
#define DIM kill_engine_dim
#define OPS_MAX 200000u
#define NOTES_MAX 200000u

enum doing { IDLE, ADDING, UPDATING, MARKING, FLUSHING, DOINGS };

struct op {
    uint32_t number, version, status; /* after the change */
};

/* One writer's changes, in order. */
struct script {
    _Atomic uint32_t begun, returned, acked; /* how many */
    _Atomic uint32_t doing;
    struct op ops[OPS_MAX];
};

struct shared {
    _Atomic uint64_t acked_lsn, noted_lsn;
    _Atomic uint32_t acks, version, phase;
    char error[600];
    struct oracle_label base[LABELS]; /* before the round */
    struct note {
        uint64_t hash;
        bool noted;
    } notes[NOTES_MAX];
    struct script scripts[WRITERS];
};

struct kill_engine {
    struct shared *shared;
    char path[320];
    uint32_t durability; /* enum navmap_durability */
    uint64_t checkpoint_bytes;
};

/* The child's life: opens the index, works from all threads until it is killed.  A failure of any
 * call ends it, with the sentence in shared->error. */
void kill_engine_child(struct kill_engine *k, uint64_t seed) __attribute__((noreturn));

#endif
