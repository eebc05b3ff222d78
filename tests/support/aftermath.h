/* aftermath.h -- what every crash test does once the process is dead: recover, compare, go on; and
 * the reader process that lives through it all.
 */
#ifndef NAVMAP_TESTS_SUPPORT_AFTERMATH_H
#define NAVMAP_TESTS_SUPPORT_AFTERMATH_H

#include <sys/types.h>

#include "tests/support/oracle.h"
#include "tests/support/workload.h"

/* Recover the index (as a writer, or, by the seed, through a reader's open), check E1..E5 and
 * verify it; the oracle is rewound to the recovered lsn.  *ret_lsn tells it. */
bool aftermath_check(struct oracle *o, const char *path, uint64_t seed, uint64_t *ret_lsn,
                     char *ret_why, size_t why_bytes);
/* Some more random steps, a clean close, and E1..E5 once more. */
bool aftermath_go_on(struct workload *w, uint32_t steps, char *ret_why, size_t why_bytes);

/* A process that opened the index for reading beside the writer and scans it until told to stop.
 * It is registered in LMDB's reader table and keeps LMDB's lock file alive across the writer's
 * death, which a recovery by a read transaction would not survive. */
struct survivor {
    pid_t pid;
    struct survivor_shared *shared;
};
/* Forks; the child opens the index itself.  *ret: a survivor with pid 0 when it could not. */
bool survivor_start(struct survivor *ret, const char *path, uint64_t seed);
/* Stop it; false when it saw a violation.  Its queries are added to *queries. */
bool survivor_stop(struct survivor *s, uint64_t *queries, char *ret_why, size_t why_bytes);

#endif
