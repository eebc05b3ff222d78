/* workload.h -- a seeded, random life of an index over store.h, without any graph: adds, updates,
 * marks, unmarks, sweeps, checkpoints, growth, entry changes, closing and reopening.
 *
 * Rows hold random ids of published slots (I4); nobody searches them, but apply, recovery, sweep
 * and verify treat them as real.  Everything is told to an oracle.
 */
#ifndef NAVMAP_TESTS_SUPPORT_WORKLOAD_H
#define NAVMAP_TESTS_SUPPORT_WORKLOAD_H

#include "tests/support/harness.h"
#include "tests/support/oracle.h"

struct workload_options {
    uint32_t dim, M, slot_shift, code_header; /* code_header 0 = no codes */
    enum store_durability durability;
    uint64_t ckpt_bytes;
    uint32_t labels;  /* numbers 0..labels-1 are used */
    uint32_t batch;   /* items of a large call; 0 = 12 */
    bool never_flush; /* no flushing, nor closing and reopening, on the way */
};
/* A geometry and habits drawn from a seed: small chunks, few labels, a tiny log. */
struct workload_options workload_draw(uint64_t seed, enum store_durability durability);

struct workload {
    struct workload_options options;
    const char *path;
    struct rng rng;
    struct oracle *oracle;
    struct store *store;
    struct oracle_label label[ORACLE_LABELS_MAX]; /* as staged */
    uint32_t next_version;
    void (*on_event)(void *ctx); /* after each note and each acknowledgement; may be NULL */
    void *on_event_ctx;
};

void workload_init(struct workload *w, const char *path, const struct workload_options *options,
                   uint64_t seed, struct oracle *oracle);
/* store_create, and the note of lsn 0. */
navmap_status workload_create(struct workload *w);
/* store_open as the writer, and the model as the oracle has it at the recovered lsn: the caller
 * has checked and rewound the oracle before, or lets this do it (`rewind`). */
navmap_status workload_open(struct workload *w, bool rewind);
/* One call of a random kind.  A failure leaves whole items staged, and the oracle knowing them. */
navmap_status workload_step(struct workload *w);
/* store_settle (mode full) or store_flush (manual), and the acknowledgement. */
navmap_status workload_settle(struct workload *w);
navmap_status workload_flush(struct workload *w);
/* Some items and their commit, from inside a checkpoint; mode full. */
navmap_status workload_beside(struct workload *w);
/* A failed close has lost what was not acknowledged. */
navmap_status workload_close(struct workload *w);
/* Close after a failure: whatever comes of it is not acknowledged. */
void workload_drop(struct workload *w);

#endif
