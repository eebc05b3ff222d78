/* life.h -- one recorded life of an index: a workload, the trace of its effects, and what had been
 * acknowledged and begun at each position of that trace.
 *
 * A test cuts the trace and asks the image that is left (life_recover).
 */
#ifndef NAVMAP_TESTS_SUPPORT_LIFE_H
#define NAVMAP_TESTS_SUPPORT_LIFE_H

#include "tests/support/harness.h"
#include "tests/support/images.h"
#include "tests/support/oracle.h"
#include "tests/support/recorder.h"
#include "tests/support/workload.h"

/* What was true when effect `position` came. */
struct life_mark {
    size_t position;
    uint64_t acked, begun; /* lsns */
    bool created;
};

struct life {
    struct oracle *oracle;
    struct workload workload;
    struct recorder *recorder;
    struct trace trace; /* after life_end */
    struct life_mark *marks;
    size_t n, cap;
    bool created;
    /* Mode full, and a log that never gets long by itself: commits are made in the middle of
     * checkpoints, as another thread would. */
    bool commits_beside;
    bool inside;
    uint64_t beside; /* how many */
    char root[300], path[320];
};

/* Once; the oracle is the life's own. */
void life_init(struct life *l, const char *root);
void life_free(struct life *l);
/* Start recording an empty directory; nothing is created yet. */
void life_begin(struct life *l, const struct workload_options *options, uint64_t seed,
                const struct injector *injector);
navmap_status life_create(struct life *l);
/* Stop recording.  The workload may still be open. */
void life_end(struct life *l);
struct life_mark life_mark_at(const struct life *l, size_t position);

/* Recover the image at `root`/idx and compare it with `oracle` (E1..E5) for what held at the cut.
 * `verify` in full, and let `go_on` steps of another life follow.  *ret_lsn: recovered to. */
struct life_check {
    const struct oracle *oracle;
    const struct workload_options *options;
    struct life_mark mark;
    uint64_t seed;
    bool verify;
    uint32_t go_on;
    struct oracle *second; /* for go_on */
};
bool life_recover(const struct life_check *check, const char *root, uint64_t *ret_lsn,
                  char *ret_why, size_t why_bytes);

#endif
