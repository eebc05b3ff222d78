/* seal.h -- one index in one file: what the writer of sealed files is told, and how it is called.
 *
 * The engine decides which slots go in, in which order, and what their rows shall be; storage knows
 * the bytes.  FORMAT.md, section 9.
 */
#ifndef NAVMAP_STORAGE_SEAL_H
#define NAVMAP_STORAGE_SEAL_H

#include "storage/store.h"

/* What the row of `slot` at `level` shall be: ids of slots as they are now, 0 = none, M0 or M of
 * them into ret_ids.  Ids that are not in the file, or do not reach the level, are left out. */
typedef navmap_status seal_row(void *ctx, uint32_t slot, uint32_t level, uint32_t *ret_ids);

struct sealing {
    uint32_t n;            /* items */
    const uint32_t *slots; /* [n] LIVE or DELETED ones, in the order that they get in the file */
    uint32_t entry;        /* the entry point, one of them; 0 = none */
    seal_row *row;         /* NULL = no rows: a flat index */
    void *ctx;
};

/* The write lock is held exclusively in all of them.  What is staged is committed first.  `path` is
 * for messages.  Every payload is held against its checksum: NAVMAP_ECORRUPT. */
navmap_status seal_write(struct store *s, const struct sealing *what, int fd,
                         const char *path) NAVMAP_MUST_USE;
/* How many bytes that will be. */
navmap_status seal_bytes(struct store *s, const struct sealing *what,
                         uint64_t *ret_bytes) NAVMAP_MUST_USE;
/* What is staged, committed: no copy is ahead of its original.  For who writes one in a format of
 * his own; seal_write() does it itself. */
navmap_status seal_settle(struct store *s) NAVMAP_MUST_USE;
/* The payload of a LIVE or DELETED slot against its checksum: NAVMAP_ECORRUPT. */
navmap_status seal_check(struct store *s, uint32_t slot) NAVMAP_MUST_USE;
/* save.c: the same at a path, as a whole or not at all, synced. */
navmap_status seal_save(struct store *s, const struct sealing *what,
                        const char *path) NAVMAP_MUST_USE;

#endif
