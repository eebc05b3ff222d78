/* epoch.h -- which process is this?  Tells what was made before a fork() from what came after. */
#ifndef NAVMAP_STORAGE_EPOCH_H
#define NAVMAP_STORAGE_EPOCH_H

#include <stdint.h>

/* A number for this process: never 0, the same at every call, another one in each forked child.
 * A handle keeps it at open; if it differs later, the handle was inherited through fork().  Reads
 * one word of a page that the kernel wipes on fork (MADV_WIPEONFORK); a system call only the first
 * time in a process. */
uint64_t fork_epoch(void);

#endif
