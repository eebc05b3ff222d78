/* readers.h -- what the writer of test_readers.c tells the readers, in memory that they share.
 */
#ifndef NAVMAP_TESTS_RACE_READERS_H
#define NAVMAP_TESTS_RACE_READERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "storage/store.h"
#include "tests/support/harness.h"

#define LABELS 2600u
#define MAX_READERS 32u

/* One word a label, so that a reader never sees half of it: stamp 31, version 30, deleted, busy,
 * present.  `stamp` counts changes: equal words mean untouched. */
#define WORD(stamp, version, deleted, busy)                                                        \
    ((uint64_t)(stamp) << 33 | (uint64_t)(version) << 3 | (uint64_t)(deleted) << 2 |               \
     (uint64_t)(busy) << 1 | 1)
#define WORD_STAMP(w) ((uint32_t)((w) >> 33))
#define WORD_VERSION(w) ((uint32_t)((w) >> 3) & 0x3FFFFFFFu)
#define WORD_DELETED(w) (((w) >> 2) & 1)
#define WORD_BUSY(w) (((w) >> 1) & 1)

struct shared {
    _Atomic uint64_t now[LABELS];   /* 0 = never added */
    _Atomic uint32_t begun[LABELS]; /* the newest version begun */
    _Atomic int stop;
    _Atomic uint32_t ready;
    struct counts {
        uint64_t queries, gets, hits, dropped, duplicates, untouched;
        uint32_t chunks; /* the most seen */
        char why[600];
    } counts[MAX_READERS];
};

struct writer {
    struct store *store;
    struct shared *shared;
    struct rng rng;
    uint64_t last[LABELS]; /* the word of each label */
    uint32_t pending[64], n_pending;
    uint32_t used; /* labels introduced so far */
    uint64_t calls, sweeps;
};

/* Add, update, mark and sweep for `seconds`, the labels growing evenly over three quarters of
 * them.  Stops and continues one of the processes now and then.  Ends early when one of the
 * `readers` has found something. */
navmap_status writer_work(struct writer *w, double seconds, const pid_t *pids, uint32_t n_pids,
                          uint32_t readers) NAVMAP_MUST_USE;
/* Go on until the file has that many chunks. */
navmap_status writer_fill(struct writer *w, uint32_t chunks) NAVMAP_MUST_USE;

#endif
