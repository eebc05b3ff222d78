/* model.h -- the storage protocol as a program small enough to try every order of its steps.
 *
 * Why it exists: a crash test of the real engine can only meet the crashes that happen to it.
 * Here the engine is reduced to 32 words, so that a hundred thousand schedules with crashes between
 * any two words take seconds, and so that each rule of the protocol can be broken on purpose to
 * see that the checks would notice (variants.c).
 *
 * The parts and who steps them:
 *
 *      writer     commit.c      compiles one commit into a script of single steps
 *      checkpoint checkpoint.c  the same for a fuzzy checkpoint; runs beside the writer
 *      recovery   recover.c     the same for a writer open after a crash
 *      readers    reader.c      a state machine, since its steps depend on what it reads
 *      hardware   room.c        writes sectors back, kills the process, cuts the power
 *
 *      schedule.c picks who makes the next step, by a seeded generator and nothing else.
 *
 * A script is an array of struct step; script.c executes one step at a time.  A step touches at
 * most one word of shared memory, one sector of the disk, or one of LMDB's three snapshots.
 *
 * Numbers such as C4, P1, K2, O6, q5, I3, V5 name steps, invariants and promises of the protocol;
 * README.md lists them.
 */
#ifndef NAVMAP_TESTS_MODEL_H
#define NAVMAP_TESTS_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/model/variants.h"

enum {
    SLOTS = 5,  /* slot ids 1..SLOTS; 0 means "no neighbour", as in the file */
    LABELS = 4, /* labels 1..LABELS; 0 means none */
    ROOT_WORDS = 2,
    ROW_WORDS = 2,
    PAYLOAD_WORDS = 3, /* the label, and two halves of the vector */
    SECTOR_WORDS = 4,  /* what a power cut keeps or loses as a whole */
    SHIFT_MAX = 3,     /* the first cell starts at word 0..3, so that any cell may straddle */
    WORDS = 36,        /* SHIFT_MAX + 2 + 5 * (1 + 2 + 3), rounded up to whole sectors */
    SECTORS = WORDS / SECTOR_WORDS,
    ITEMS_MAX = 3,      /* items of one commit */
    SLICE = 2,          /* commits that one transaction of K3 deletes */
    READERS = 3,        /* queries that may run at once */
    LSN_MAX = 40,       /* commits of one schedule */
    RECORDS_MAX = 160,  /* commits tried in one schedule, lost ones included */
    VERSIONS_MAX = 512, /* payloads ever written in one schedule */
    STEPS_MAX = 2400    /* longest script: every commit of the log replayed on its own */
};

/* --- words -------------------------------------------------------------------------------- */

enum status { FREE = 0, LIVE = 1, DELETED = 2, DEAD = 3 };

static inline uint32_t state_word(enum status status, uint32_t gen)
{
    return gen << 2 | (uint32_t)status;
}

static inline enum status state_status(uint32_t word)
{
    return (enum status)(word & 3);
}

static inline uint32_t state_gen(uint32_t word)
{
    return word >> 2;
}

/* A set of slots: bit s is slot s. */
typedef uint8_t slot_set;

static inline bool has_slot(slot_set set, unsigned slot)
{
    return set >> slot & 1;
}

/* What one commit makes true, whole: the oracle keeps one of these for each lsn. */
struct image {
    uint32_t lsn;
    uint8_t entry;            /* slot where a search starts; 0 = empty graph */
    uint8_t nslots;           /* first slot never used */
    uint8_t home[LABELS + 1]; /* slot of each label, 0 = label absent */
    uint32_t state[SLOTS + 1];
    uint32_t row[SLOTS + 1][ROW_WORDS];
    uint32_t payload[SLOTS + 1][PAYLOAD_WORDS];
};

/* After-images of cells: the content of a log record, and of what recovery remembers. */
struct cells {
    bool root;
    slot_set state, row, payload;
    slot_set direct; /* PAYLOAD_DIRECT: the image of PAYLOAD without its bytes */
    uint32_t root_words[ROOT_WORDS];
    uint32_t state_words[SLOTS + 1];
    uint32_t row_words[SLOTS + 1][ROW_WORDS];
    uint32_t payload_words[SLOTS + 1][PAYLOAD_WORDS];
    uint64_t vsum[SLOTS + 1]; /* of the direct ones */
};

struct label_entry {
    uint8_t slot;
    uint32_t gen;
};

/* LMDB at one moment.  Records first..last are present; those up to ckpt are leftovers that
 * nobody may need.  rec[] holds indexes into room.record, which never change once written. */
struct snapshot {
    uint8_t last, ckpt, first;
    uint8_t rec[LSN_MAX + 1];
    struct label_entry label[LABELS + 1];
};

/* --- scripts ------------------------------------------------------------------------------ */

enum step_kind {
    STEP_STORE,       /* mem[a] = value */
    STEP_SYNC,        /* sector a reaches the disk */
    STEP_ENV_LOCK,    /* wait for the env lock */
    STEP_ENV_UNLOCK,  /* let it go */
    STEP_COMMIT_TXN,  /* C3: begin for write, re-read meta.state, put the record and the labels */
    STEP_PC,          /* the transaction's meta page is in the page cache */
    STEP_DUR,         /* what the page cache holds of LMDB is durable: C4's commit point; O2 */
    STEP_MTI,         /* read transactions see it */
    STEP_MEMORY,      /* memory's copy of meta.state follows */
    STEP_APPLY_BEGIN, /* P0 */
    STEP_APPLY_END,   /* P5 */
    STEP_ACK,         /* C6, and the caller's call returns */
    STEP_SAMPLE,      /* K1: L = applied_lsn */
    STEP_CUT_TXN,     /* K3: begin for write, re-read meta.state, ckpt = L, delete one slice */
    STEP_CUT_MORE,    /* back to the first step of the slice while records <= L are left */
    STEP_CKPT_DONE,   /* counts */
    STEP_RECOVER_TXN, /* O3, O5 */
    STEP_EVEN_BEGIN,  /* O6, log empty: apply_begin = max + 1 ... */
    STEP_EVEN_END,    /* ... = apply_end */
    STEP_GATHER,      /* O6: remember record a's cells that no newer record had */
    STEP_REPLAY,      /* O6: all gathered; check vsums; append apply and checkpoint */
    STEP_ROOT_CHECK,  /* O7 */
    STEP_RECOVER_CUT, /* O8: K3's first slice inside recovery's own transaction */
    STEP_OPENED       /* the open returns; the oracle looks */
};

struct step {
    uint8_t kind; /* enum step_kind */
    uint8_t a;
    uint32_t value;
};

/* One thread of the writer process. */
struct script {
    uint16_t n, at;      /* at == n: idle */
    uint16_t slice;      /* index of the first step of a K3 slice */
    uint8_t cut;         /* L: the log may be cut up to here; in recovery, the lsn it opens at */
    uint8_t sampled;     /* last lsn known to LMDB when the checkpoint began */
    struct snapshot txn; /* the open write transaction's view */
    struct step step[STEPS_MAX];
};

static inline bool script_idle(const struct script *script)
{
    return script->at == script->n;
}

/* --- the writer's private memory ---------------------------------------------------------- */

/* A sweep in progress.  The writer forgets it when it dies. */
struct sweep {
    slot_set doomed; /* empty: none in progress */
    uint8_t cursor;  /* next row to clean; nslots or more: all are clean */
};

/* A commit being built: `next` is what it will make true. */
struct stage {
    const struct image *base; /* the last commit, which is also applied */
    struct image *next;
    slot_set state, row, payload; /* cells changed */
};

/* --- readers ------------------------------------------------------------------------------ */

enum reader_phase {
    READ_IDLE,
    READ_BEGIN,  /* q2 */
    READ_LINK,   /* q3: one word of a row */
    READ_TARGET, /* is what that link names published? */
    READ_STATE,  /* q4 */
    READ_LABEL,  /* q4, with a filter */
    READ_LABEL_CHECK,
    READ_RANK_BEGIN, /* q5 */
    READ_WORD,
    READ_RECHECK,
    READ_END /* q6 */
};

struct pair {
    uint32_t words[PAYLOAD_WORDS];
};

struct reader {
    bool attached;        /* the process lives and has the file mapped */
    bool links;           /* this query looks at rows too */
    bool filtered;        /* this query has a filter */
    uint8_t allowed;      /* labels the filter lets pass: bit l */
    uint8_t phase;        /* enum reader_phase */
    uint8_t order[SLOTS]; /* of slots to scan, then of candidates to re-rank */
    uint8_t word_order[PAYLOAD_WORDS];
    uint8_t i, w;   /* position in order[], word within the cell */
    uint8_t target; /* slot a link named */
    uint32_t label; /* what the filter saw */
    uint8_t n_kept, n_found;
    uint8_t kept[SLOTS];        /* candidates ... */
    uint32_t kept_state[SLOTS]; /* ... and the state word each was taken with */
    struct pair now;            /* payload being read */
    struct pair found[SLOTS];
    uint32_t e0;        /* apply_end when the query began */
    uint32_t lo;        /* last acknowledged lsn when it began */
    uint64_t stores_at; /* room.stores when it began */
};

/* --- everything --------------------------------------------------------------------------- */

struct counts {
    uint64_t schedules, commits, reuses, direct, queries, queries_beside, checkpoints,
        checkpoints_beside, kills, power_cuts, recovery_kills, recovery_power_cuts, recoveries;
};

/* How one schedule leans; drawn from its seed, so that a thousand schedules are a thousand
 * different kinds of weather and not the same average one. */
struct weather {
    uint32_t crash_running;  /* per 2^20 steps */
    uint32_t crash_recovery; /* likewise, while recovering */
    uint8_t power_in_256;    /* a crash is a power cut rather than a kill */
    uint8_t keep_in_256;     /* a sector not yet synced survives a power cut */
    uint8_t direct_in_256;
    uint8_t filter_in_256;
    uint8_t ckpt_in_256; /* an idle checkpointer starts when it gets a turn */
    uint8_t readers;     /* reader processes that may exist, 0..READERS */
    uint8_t goal;        /* commits to make */
    uint8_t actor[256];  /* who makes a step, by weight; schedule.c */
};

enum life { RUNNING, RECOVERING };

struct room {
    uint64_t rng;
    enum variant variant;
    bool trace;
    struct weather weather;
    struct counts *counts;

    /* where the cells lie in this schedule: word = base + slot * stride */
    uint8_t root_base, state_base, state_stride, row_base, row_stride, payload_base, payload_stride;

    /* shared between processes, kept by a kill */
    uint32_t mem[WORDS];             /* page cache of the data file */
    uint32_t apply_begin, apply_end; /* LIVE */
    struct snapshot pc, dur, mti;    /* LMDB: page cache, durable, seen by read transactions */
    uint32_t disk[WORDS];            /* kept by a power cut */

    /* the writer process */
    enum life life;
    uint8_t last, ckpt;    /* memory's copy of meta.state */
    uint8_t applied;       /* applied_lsn */
    const void *env_owner; /* the script that holds the env lock */
    struct sweep sweep;
    struct cells gathered; /* recovery only */
    struct script main, checkpoint;

    struct reader reader[READERS];

    /* the oracle, outside of all processes */
    uint8_t acked; /* last lsn whose call returned */
    struct image model[LSN_MAX + 1];
    struct cells record[RECORDS_MAX];
    uint16_t n_records;
    uint8_t version_label[VERSIONS_MAX]; /* label each payload was written for */
    uint16_t n_versions;
    uint64_t stores;      /* stores to mem so far */
    enum symptom symptom; /* first violation; the schedule ends with it */
    uint64_t ticks;
};

/* --- room.c: chance, words, hardware ------------------------------------------------------ */

uint64_t room_random(struct room *room);
unsigned room_roll(struct room *room, unsigned n); /* 0..n-1 */
bool room_chance(struct room *room, unsigned in_256);
unsigned room_pick(struct room *room, slot_set set); /* a slot of the set; 0 if empty */
void room_shuffle(struct room *room, uint8_t *list, unsigned n);

unsigned room_root_at(const struct room *room, unsigned word);
unsigned room_state_at(const struct room *room, unsigned slot);
unsigned room_row_at(const struct room *room, unsigned slot, unsigned word);
unsigned room_payload_at(const struct room *room, unsigned slot, unsigned word);

uint32_t root_pack(uint32_t lsn, unsigned entry, unsigned nslots);
uint64_t payload_vsum(unsigned slot, uint32_t gen, const uint32_t words[PAYLOAD_WORDS]);

void room_reset(struct room *room, uint64_t seed, enum variant variant, struct counts *counts);
void room_write_back(struct room *room, unsigned sector);
void room_kill(struct room *room);
void room_power_cut(struct room *room);
void room_violation(struct room *room, enum symptom symptom);
void room_trace(const struct room *room, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void room_cell_name(const struct room *room, unsigned at, char *ret_name, size_t size);

/* --- script.c ----------------------------------------------------------------------------- */

void script_clear(struct script *script);
void script_push(struct script *script, enum step_kind kind, unsigned a, uint32_t value);
void script_shuffle(struct room *room, struct script *script, unsigned from);
void script_push_sync_all(struct room *room, struct script *script); /* K2 */
bool script_step(struct room *room, struct script *script); /* false: blocked on the env lock */

/* --- the threads -------------------------------------------------------------------------- */

void stage_items(struct room *room, struct stage *stage); /* items.c */
bool commit_start(struct room *room);                     /* false: no room for another */
void commit_txn(struct room *room, struct script *script);
void apply_compile(struct room *room, struct script *script, const struct cells *cells);

bool checkpoint_start(struct room *room); /* false: nothing to cut */
void checkpoint_push_slice(struct script *script, enum step_kind txn);
void checkpoint_cut(struct script *script);

void recover_start(struct room *room);
void recover_txn(struct room *room, struct script *script);
void recover_gather(struct room *room, struct script *script, unsigned lsn);
void recover_replay(struct room *room, struct script *script);
void recover_root_check(struct room *room, const struct script *script);
void recover_cut(struct room *room, struct script *script);

void reader_step(struct room *room, struct reader *reader);

/* --- check.c ------------------------------------------------------------------------------ */

void check_recovered(struct room *room, unsigned last);
void check_query(struct room *room, const struct reader *reader);

/* --- schedule.c --------------------------------------------------------------------------- */

/* Runs the schedule of `seed` to its end or to the first violation, which it returns. */
enum symptom schedule_run(struct room *room, uint64_t seed, enum variant variant,
                          struct counts *counts, bool trace);

#endif
