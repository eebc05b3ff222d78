/* files.h -- the names inside an index directory, and which data file is the current one. */
#ifndef NAVMAP_STORAGE_FILES_H
#define NAVMAP_STORAGE_FILES_H

#include <stdint.h>

#include "storage/layout.h"
#include "storage/status.h"

/* malloc'd "DIR/data-00000001.navmap"; NULL when out of memory. */
char *files_data_path(const char *dir, uint64_t generation);
/* Generations that have a data file, ascending, malloc'd. */
navmap_status files_generations(const char *dir, uint64_t **ret_generations,
                                uint32_t *ret_n) NAVMAP_MUST_USE;
/* The lowest-numbered data file that is not superseded: what a reader beside a writer maps. */
navmap_status files_current(const char *dir, uint64_t *ret_generation) NAVMAP_MUST_USE;
/* Process that last opened the current data file for writing; 0 = unknown. */
uint32_t files_writer_pid(const char *dir);

/* Open DIR's data file of a generation and check its header against the file.  flags as open(2).
 * NAVMAP_ECORRUPT also when its generation is another. */
navmap_status files_open_data(const char *dir, uint64_t generation, int flags, int *ret_fd,
                              char **ret_path, struct layout *ret_layout,
                              int *ret_read_only) NAVMAP_MUST_USE;

#endif
