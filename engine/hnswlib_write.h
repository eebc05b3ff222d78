/* hnswlib_write.h -- an index in hnswlib's format: the way out for who wants it. */
#ifndef NAVMAP_ENGINE_HNSWLIB_WRITE_H
#define NAVMAP_ENGINE_HNSWLIB_WRITE_H

#include "engine/navmap.h"
#include "storage/seal.h"

/* The items and rows that would be sealed, as one of hnswlib's files at `path` (hnswlib_parse.h has
 * the format; of a flat index, that without a graph).  Write lock held exclusively. */
navmap_status hnswlib_write(navmap_index *ix, const struct sealing *what,
                            const char *path) NAVMAP_MUST_USE;

#endif
