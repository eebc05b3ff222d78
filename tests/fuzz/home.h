/* home.h -- an index directory whose bytes are known, put back before each open. */
#ifndef NAVMAP_TESTS_FUZZ_HOME_H
#define NAVMAP_TESTS_FUZZ_HOME_H

#include "tests/fuzz/world.h"

struct fuzz_home {
    char dir[96], data_path[128], wal_path[128];
    uint8_t *data, *wal;
    size_t data_bytes, wal_bytes;
    bool wal_spoilt; /* somebody wrote to it since it was put back */
    struct layout layout;
    struct fuzz_truth truth;
};

/* An index made by the plan in fuzz_directory()/NAME.  `logged` more items, and as many updates and
 * deletions, stand in its log only, as after a crash; 0 = it was closed. */
void fuzz_home_make(struct fuzz_home *h, const char *name, const struct fuzz_plan *plan,
                    uint32_t logged);
/* Both files as they were made, but for the data file's bytes, which are `data`. */
void fuzz_home_restore(struct fuzz_home *h, const uint8_t *data, size_t n);
/* Verify, inspect, and use it, as a reader and as the writer. */
enum fuzz_visit {
    FUZZ_NO_READER = 1,
    FUZZ_NO_WRITER = 2,
    FUZZ_NO_VERIFY = 4,
    FUZZ_MANUAL = 8,
    FUZZ_LOOK = 16 /* the writer changes nothing */
};
void fuzz_home_visit(struct fuzz_home *h, const struct fuzz_truth *truth, uint32_t visit);

#endif
