/* seal.h -- one index in one file (FORMAT.md, section 9). */
#ifndef NAVMAP_STORAGE_SEAL_H
#define NAVMAP_STORAGE_SEAL_H

#include "storage/rewriting.h"

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
