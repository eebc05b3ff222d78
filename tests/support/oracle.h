/* oracle.h -- what the index must be, kept in memory that no kill takes away.
 *
 * The writer tells it each intended change before it begins, each change that is staged, each
 * commit's (lsn, state hash, changes included) before the commit point, each acknowledgement.
 *
 * After any crash (E1..E5):
 *   E1  recovered lsn >= the last acknowledged one (mode manual: acknowledged = flushed)
 *   E2  recovered lsn <= the last one noted: no commit that was not told
 *   E3  the state hash is the one noted for that lsn
 *   E4  each label is exactly what the noted changes make it: vector bit for bit, deletion, absence
 *   E5  no label beside them
 * E4 and E5 do not believe the hash: they ask the interface.
 *
 * A payload is a function of (label, version), so that any mixture of two is seen.
 */
#ifndef NAVMAP_TESTS_SUPPORT_ORACLE_H
#define NAVMAP_TESTS_SUPPORT_ORACLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "storage/io.h"
#include "storage/store.h"

/* Labels are numbered 0.. in the oracle; the index sees scattered 64-bit numbers. */
uint64_t truth_label(uint32_t number);
/* Which number is that?  UINT32_MAX when it is none. */
uint32_t truth_number(uint64_t label);
/* Small integers, exact in a float; [0] tells the number, [1] the version (if dim >= 2). */
void truth_vector(uint32_t number, uint32_t version, uint32_t dim, float *ret_vector);
/* `n` bytes; the rest of a code row is zero. */
void truth_code(uint32_t number, uint32_t version, uint32_t n, uint8_t *ret_code);

struct oracle_op {
    uint32_t number;
    uint32_t version; /* the label's after the change */
    uint32_t status;  /* SLOT_LIVE or SLOT_DELETED after the change */
};
struct oracle_note {
    uint64_t hash;
    uint32_t n_ops;
    uint32_t noted;
};
struct oracle_label {
    uint32_t version, status; /* status SLOT_FREE = absent */
};

#define ORACLE_OPS_MAX 400000u
#define ORACLE_NOTES_MAX 200000u
#define ORACLE_LABELS_MAX 8192u

struct oracle {
    _Atomic uint32_t n_begun, n_staged, acked_ops;
    _Atomic uint64_t acked_lsn, noted_lsn;
    _Atomic uint32_t acks;  /* acknowledgements, of this process's life */
    _Atomic uint32_t phase; /* the last kill point passed */
    _Atomic uint32_t hits[KP_COUNT];
    char error[512]; /* why a child gave up */
    struct oracle_note notes[ORACLE_NOTES_MAX];
    struct oracle_op ops[ORACLE_OPS_MAX];
};

struct oracle *oracle_new(void); /* shared with children */
void oracle_free(struct oracle *o);
void oracle_reset(struct oracle *o);

/* The writer's side. */
void oracle_intend(struct oracle *o, uint32_t number, uint32_t version, uint32_t status);
void oracle_staged(struct oracle *o);
void oracle_withdraw(struct oracle *o); /* the intended change failed before it was staged */
void oracle_observe(void *ctx, struct store *s, uint64_t lsn); /* a store_commit_observer */
void oracle_ack(struct oracle *o, uint64_t lsn);

/* Each label after the first `n_ops` changes. */
void oracle_replay(const struct oracle *o, uint32_t n_ops, struct oracle_label *ret_labels);
/* E1..E5 against an open store; the sentence goes to `ret_why`.  For a cut in the past, give what
 * was acknowledged then. */
bool oracle_check(const struct oracle *o, struct store *s, uint64_t lsn, uint64_t acked_lsn,
                  char *ret_why, size_t why_bytes);
/* The index was recovered to `lsn`: what came later never happened. */
void oracle_rewind(struct oracle *o, uint64_t lsn);
/* store_verify in full: no damage.  Says the first finding. */
bool oracle_verify(const char *path, char *ret_why, size_t why_bytes);

#endif
