/* memory.h -- how much memory this process may still take, as the kernel and its cgroup say. */
#ifndef NAVMAP_STORAGE_MEMORY_H
#define NAVMAP_STORAGE_MEMORY_H

#include <stdint.h>

/* Bytes that can be had without swapping; page cache counts as free.  What is not known does not
 * limit: UINT64_MAX if nothing is.  Reads a few small files of /proc and /sys. */
uint64_t memory_available(void);

#endif
