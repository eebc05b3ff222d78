/* npy.h -- NumPy's .npy files: the header read, and a file written that appears as a whole.
 *
 * Format: numpy.org, "lib.format": magic, version, length of the header, a dictionary as Python
 * writes it, padded; then the numbers.
 */
#ifndef NAVMAP_TOOLS_NPY_H
#define NAVMAP_TOOLS_NPY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tools/rows.h"

struct npy {
    enum number type;
    uint64_t rows, columns; /* of one dimension: columns is 1 */
    uint32_t dimensions;    /* 1 or 2 */
    size_t offset;          /* of the first number */
};

/* Parse the header of a whole file in memory and hold it against the file's length.  Refused: other
 * dimensions, big-endian and Fortran order (unless it makes no difference), other types. */
int npy_parse(const char *path, const uint8_t *bytes, size_t n, struct npy *ret_npy);

/* A file at `path` that is written under a temporary name
 * beside it, synced and renamed by npy_finish(). */
struct npy_writer {
    FILE *out;
    const char *path;
    char *temporary;
    enum number type;
    uint64_t columns; /* 0 = a file of one dimension */
};
int npy_create(struct npy_writer *w, const char *path, enum number type, uint64_t columns);
int npy_write(struct npy_writer *w, const void *numbers, uint64_t n);
/* `rows` is how many were written. */
int npy_finish(struct npy_writer *w, uint64_t rows);
/* Leave nothing; allowed after any of them, and on a zeroed one. */
void npy_abandon(struct npy_writer *w);

#endif
