/* damaged.h -- a small index that tests damage while it is closed, and put back as it was.
 *
 * Vectors are a function of the label, so that a wrong one is seen.
 */
#ifndef NAVMAP_TESTS_TORTURE_DAMAGED_H
#define NAVMAP_TESTS_TORTURE_DAMAGED_H

#include "engine/navmap.h"
#include "tests/support/ward.h"

#define DAMAGED_DIM 7u /* a vector row has padding */
#define DAMAGED_ITEMS 150u

struct damaged_file {
    char path[330];
    int fd;
    uint8_t *bytes; /* as it was */
    size_t n;
    uint8_t *map; /* shared, n bytes: for a flip */
};

struct damaged {
    char path[300]; /* of the directory */
    struct damaged_file data, wal, sealed;
    struct ward *ward;
};

/* Live, deleted and dead items; closed, or `crashed`: with the last of its changes in the log.
 * `sealed` is the same index saved.  Made by a process of its own. */
bool damaged_make(struct damaged *d, struct ward *ward, const char *dir, bool crashed);
void damaged_free(struct damaged *d);
/* Every byte as it was. */
void damaged_restore(struct damaged_file *f);
void damaged_restore_all(struct damaged *d);

/* What a full verify says; NAVMAP_OK, and what it found. */
struct damaged_verdict {
    navmap_status status;
    uint64_t damaged;
    uint32_t slot;       /* some finding is of this slot, or of a counter: */
    bool slot_was_named; /* set `slot` before */
    char first[200];     /* section and message of the first */
};
void damaged_verify(const char *path, struct damaged_verdict *verdict);

/* Open the index, or load the sealed file, and use it in every way: whatever it answers, no signal,
 * and no vector that is not its label's.  A refusal has to name a file of the index.  *ret_opened:
 * it was not refused. */
enum damaged_way { AS_READER, AS_WRITER, AS_MAPPED, AS_COPY };
bool damaged_use(struct damaged *d, enum damaged_way way, bool *ret_opened);

#endif
