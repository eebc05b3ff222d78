/* disk.h -- the disk at a position of a trace: what is durable, and what is not yet.
 *
 * For images.c and disk.c only; tests see images.h.
 */
#ifndef NAVMAP_TESTS_SUPPORT_DISK_H
#define NAVMAP_TESTS_SUPPORT_DISK_H

#include "tests/support/images.h"

#define DISK_SECTOR 512u
#define DISK_PAGE 4096u

struct pending_write {
    uint64_t off, len;
    const uint8_t *bytes;
    size_t index; /* of the effect */
};
struct pending_size {
    uint64_t size;
    size_t index;
};

struct disk_file {
    uint8_t *durable;
    uint64_t cap, durable_size;
    struct pending_write *writes;
    uint32_t n_writes, cap_writes;
    struct pending_size *sizes;
    uint32_t n_sizes, cap_sizes;
};

struct disk {
    const struct trace *trace;
    size_t at;
    struct disk_file *files;
    struct trace_names names; /* durable */
    size_t *pending_names;    /* effects */
    uint32_t n_names, cap_names;
};

/* realloc, or the end of the program. */
void *disk_grow(void *memory, size_t bytes);

#endif
