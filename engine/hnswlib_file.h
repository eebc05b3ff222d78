/* hnswlib_file.h -- hnswlib's own files as private indexes: the importer behind navmap_load().
 *
 * hnswlib 0.8 writes two formats, both in the byte order of its machine and without magic, version
 * or checksum: that of Index, with a graph (hnswlib_parse.h), and that of BFIndex, without one.
 */
#ifndef NAVMAP_ENGINE_HNSWLIB_FILE_H
#define NAVMAP_ENGINE_HNSWLIB_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/navmap.h"

#define HNSWLIB_HEAD_BYTES 96u /* of a file with a graph; all of it when it is empty */
#define HNSWLIB_FLAT_BYTES 24u /* of one without */

/* Is it plausibly hnswlib's?  `head` is the beginning of a file of file_bytes bytes.  With a graph:
 * most of the figures that depend on each other agree, so that a file that is cut short or damaged
 * in one place is still recognised, and hnswlib_load() can say what is wrong with it. */
bool hnswlib_looks_like(const void *head, uint64_t n_head, uint64_t file_bytes);
/* Without: three numbers, which all have to agree with the file's length. */
bool hnswlib_looks_like_flat(const void *head, uint64_t n_head, uint64_t file_bytes);

/* A private index out of hnswlib's file.  `fd` stays the caller's; `o` was checked to be of this
 * size.  o->flat says which of the two formats it must be.  Of each file that is refused it is said
 * where, what was expected and what found, after hnswlib's words "Index seems to be corrupted or
 * unsupported".
 *   NAVMAP_EINVAL   another dim than asked for; no space given; the other format than asked for;
 *                   no regular file
 *   NAVMAP_EVERSION M, dim or ef_construction beyond what navmap has
 *   NAVMAP_ECORRUPT neither format, or damaged
 *   NAVMAP_EIO, NAVMAP_ENOMEM
 * Cost: the file is read once, in pieces, but for the lists above level 0, which are read twice;
 * memory for the index, 512 KiB, and a byte an item. */
navmap_status hnswlib_load(int fd, const char *path, const struct navmap_load_options *o,
                           navmap_index **ret_index) NAVMAP_MUST_USE;

#endif
