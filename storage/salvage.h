/* salvage.h -- what can still be read of an index that is damaged, one item after the other.
 *
 * Nothing is written, and nothing of the damaged index is trusted: an item is what a payload's own
 * checksum says.  The graph is not looked at, rows carry no sums.
 *
 * S1  A vector is given out only if its vsum holds for its label, slot and generation.
 * S2  Each label is given out once.
 * S3  Where the label table can be read, it decides which slot a label means, also against state
 *     words; where it cannot, the state words do.
 * S4  Every number from the file is bounded before it is used, and the bounds come from the file's
 *     length, not from ROOT.
 */
#ifndef NAVMAP_STORAGE_SALVAGE_H
#define NAVMAP_STORAGE_SALVAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/layout.h"
#include "storage/store.h"

struct salvage;
struct source;

struct salvage_how {
    bool without_log;     /* do not touch LMDB's file, whose damage can crash who reads it */
    store_report *report; /* NULL allowed: what was found, mended (a warning) or left out */
    void *ctx;
};

struct salvage_facts {
    uint64_t slots; /* published ones, looked at */
    uint64_t live, deleted;
    uint64_t left_out; /* slots that should have been items */
    uint64_t warnings;
    uint64_t max_elements; /* 0 = none, or unknown */
    bool table_read;       /* the label table was there and whole */
    bool log_read;         /* and the log, replayed in memory */
};

/* Look at a directory, which nobody may be writing to, or at a sealed file, and decide what can be
 * had.  NAVMAP_ELOCKED, NAVMAP_ENOINDEX; NAVMAP_EVERSION; NAVMAP_ECORRUPT: the header is damaged in
 * more than one bit, without which no byte has a meaning; NAVMAP_EIO, NAVMAP_ENOMEM. */
navmap_status salvage_open(const char *path, const struct salvage_how *how,
                           struct salvage **ret_salvage) NAVMAP_MUST_USE;
void salvage_close(struct salvage *s); /* NULL allowed */
const struct layout *salvage_layout(const struct salvage *s);
void salvage_facts(const struct salvage *s, struct salvage_facts *ret_facts);
/* The next at most `max` items; 0 of them at the end.  `ret_vectors` has max x dim floats. */
uint32_t salvage_next(struct salvage *s, uint32_t max, uint64_t *ret_labels, float *ret_vectors,
                      bool *ret_deleted);

/* Does a file begin as one of ours, but for one bit of its header? */
bool salvage_one_bit_off(const struct source *from);

#endif
