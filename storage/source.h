/* source.h -- a file that an index is to be made from: opened, known by kind and length, read.
 *
 * What the engine may know of such a file without naming a system call.
 */
#ifndef NAVMAP_STORAGE_SOURCE_H
#define NAVMAP_STORAGE_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "storage/status.h"

struct source {
    int fd;
    const char *path; /* for messages; the caller's */
    uint64_t bytes;   /* its length when it was opened */
};

/* Is there a regular file at `path`?  False when nobody can tell. */
bool source_at(const char *path);
/* NAVMAP_ENOINDEX nothing is there; NAVMAP_EINVAL a directory, or no regular file. */
navmap_status source_open(const char *path, struct source *ret_source) NAVMAP_MUST_USE;
/* The same of a file that is open, and stays the caller's to close. */
navmap_status source_of_fd(int fd, const char *path, struct source *ret_source) NAVMAP_MUST_USE;
void source_close(struct source *source);
/* NAVMAP_ECORRUPT when the file ends before off + len. */
navmap_status source_read(const struct source *source, uint64_t off, void *ret_bytes,
                          uint64_t len) NAVMAP_MUST_USE;
/* Does it begin as our data files do? */
navmap_status source_is_ours(const struct source *source, bool *ret_ours) NAVMAP_MUST_USE;

#endif
