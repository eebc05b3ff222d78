/* replay.h -- what the log adds to a data file: for recovery, and for verify, which only looks. */
#ifndef NAVMAP_STORAGE_REPLAY_H
#define NAVMAP_STORAGE_REPLAY_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/record.h"
#include "storage/view.h"
#include "storage/wal.h"

struct replay {
    const char *path;            /* of the index, for messages; set by the caller */
    const struct layout *layout; /* set by the caller */
    struct record_bounds bounds;
    struct disk_root root; /* of the newest record */
    bool has_root;
    struct cells cells;         /* newest image of each cell */
    uint64_t *seen[CELL_KINDS]; /* bitmaps; PAYLOAD_DIRECT shares PAYLOAD's */
    uint8_t **records;          /* the buffers that the cells point into */
    uint64_t n_records, cap_records;
};

/* Read and check the records (ckpt_lsn, last_lsn], at least one.  Whatever is returned, free it. */
navmap_status replay_read(struct replay *r, struct wal_txn *t,
                          const struct wal_state *state) NAVMAP_MUST_USE;
/* Does the log bear out the payloads that it names, those in the file too? */
navmap_status replay_check(const struct replay *r, const struct view *v) NAVMAP_MUST_USE;
void replay_free(struct replay *r);

#endif
