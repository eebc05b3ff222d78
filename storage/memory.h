/* memory.h -- how much memory this process may still take, as the kernel and its cgroup say. */
#ifndef NAVMAP_STORAGE_MEMORY_H
#define NAVMAP_STORAGE_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that can be had without swapping; page cache counts as free.  What is not known does not
 * limit: UINT64_MAX if nothing is.  Reads a few small files of /proc and /sys. */
uint64_t memory_available(void);

/* The same from whatever stands in for the file system (tests).  A reader fills `room` bytes, the
 * last one 0, or returns false. */
typedef bool memory_reader(const char *path, char *ret_text, uint64_t room);
uint64_t memory_told(memory_reader *read);

#endif
