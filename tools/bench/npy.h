/* npy.h -- read the arrays that the measurements in C share with those in Python. */
#ifndef NAVMAP_TOOLS_BENCH_NPY_H
#define NAVMAP_TOOLS_BENCH_NPY_H

#include <stdint.h>

/* The first `max_rows` rows of NAME in the folder `dir`: a two-dimensional .npy file, float32,
 * row-major, little-endian.  NULL, with a sentence on standard error, for any other file and when
 * memory or the file runs short.  free() it. */
float *npy_read_floats(const char *dir, const char *name, uint64_t max_rows, uint64_t *ret_rows,
                       uint64_t *ret_columns);

#endif
