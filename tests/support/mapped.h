/* mapped.h -- where in its file is what somebody else has mapped: LMDB's values, for tests. */
#ifndef NAVMAP_TESTS_SUPPORT_MAPPED_H
#define NAVMAP_TESTS_SUPPORT_MAPPED_H

#include <stdint.h>

/* The offset of an address within the mapped file `path`; 0 = it is not of that file. */
uint64_t mapped_offset(const char *path, const void *address);

#endif
